//! What is done because time has passed: timeouts and heartbeats.

use super::dialling::DIALLED;
use super::{Reactor, Serving};
use crate::back::Back;
use crate::connection::{By, Stage};
use photinus_proto::codec::Protocol;

impl<B: Back> Reactor<B> {
    pub(super) fn meet_deadlines(&mut self) {
        let now = self.now_ms;
        while let Some((listener, _)) = self.accept_retries.pop_due(now) {
            self.accept(listener as usize);
        }
        // After a pause of the whole process the poller has more to tell than one turn takes: nobody
        // is judged silent before all have been heard.
        if self.ready.len() >= self.back.events_a_turn() {
            return;
        }
        while let Some((at, serial)) = self.handshakes.pop_due(now) {
            let connection = self.same(at, serial);
            match connection.filter(|of| of.stage == Stage::Handshake) {
                None => {}
                // Nobody is there who could be told.
                Some(of) if of.listener == DIALLED => {
                    self.close(at, By::Network, "handshake-timeout");
                }
                Some(_) => self.refuse(at, "handshake-timeout"),
            }
        }
        while let Some((at, serial)) = self.lingering.pop_due(now) {
            if self.same(at, serial).is_some() {
                self.cut_off(at);
            }
        }
        while let Some((at, serial)) = self.frames.pop_due(now) {
            let frame_ms = self.limits.frame_ms;
            let Some(connection) = self.same(at, serial) else {
                continue;
            };
            connection.frame_clock = false;
            let since = connection.frame_since;
            if since == 0 || connection.stage == Stage::Lingering {
                continue;
            }
            // Whole frames that are held are not its fault.
            let waits = connection.readable || connection.holds_frames();
            if now >= since + frame_ms && !waits {
                let handle = connection.session;
                if self.outlives(handle, By::Network) {
                    // It is more likely the network that fell silent than its user.
                    self.close(at, By::Network, "frame-timeout");
                } else {
                    self.refuse(at, "frame-timeout");
                }
            } else {
                connection.frame_clock = true;
                self.frames.set(now, at, serial);
            }
        }
        self.meet_alarms();
        self.beat();
        self.end_detached();
        self.time_out_moves();
        self.tick_apps();
        self.look_at_line();
    }

    pub(super) fn send_heartbeat(&mut self, at: u32, protocol: &Protocol) {
        let frame = protocol.heartbeat_frame();
        if !frame.is_empty() {
            self.statistics.counts.heartbeats_sent.add(1);
            return self.write_now(at, frame);
        }
        let mut frame = Vec::new();
        self.append_heartbeat(at, &mut frame);
        self.write_now(at, &frame);
    }

    /// Heartbeats: ours are sent by the clock; a peer that was silent for too many intervals is gone,
    /// unless it is us who do not read it.
    pub(super) fn beat(&mut self) {
        for listener in 0..self.listeners.len() {
            while let Some(serving) = &mut self.listeners[listener] {
                let (interval, protocol) = (serving.heartbeat_ms, serving.protocol.clone());
                let Some(heartbeats) = &mut serving.heartbeats else {
                    break;
                };
                let Some((at, serial)) = heartbeats.pop_due(self.now_ms) else {
                    break;
                };
                let now = self.now_ms;
                let Some(connection) = self.same(at, serial) else {
                    continue;
                };
                if connection.stage != Stage::Open {
                    continue;
                }
                let silent = now.saturating_sub(connection.heard);
                if silent > protocol.patience() * interval && !connection.readable {
                    self.close(at, By::Network, "heartbeat");
                    continue;
                }
                // One that does not take what it has been sent gets no heartbeat on top of it.
                if connection.unsent_bytes() == 0 {
                    self.send_heartbeat(at, &protocol);
                }
                if let Some(Some(Serving {
                    heartbeats: Some(heartbeats),
                    ..
                })) = self.listeners.get_mut(listener)
                {
                    heartbeats.set(now, at, serial);
                }
            }
        }
    }
}
