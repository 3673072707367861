//! How connections and sessions begin: listeners, the sharing out of connections, opening.

use super::deadlines::Deadlines;
use super::{Reactor, Serving};
use crate::back::Back;
use crate::connection::{By, Connection, Stage};
use crate::inbox::Event;
use crate::layers::{Door, Layers};
use crate::limits::ACCEPTS_A_TURN;
use crate::outbox::Handover;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

impl<B: Back> Reactor<B> {
    /// Serves a listener's connections from now on.
    pub(super) fn serve(&mut self, number: usize, socket: Option<mio::net::TcpListener>) {
        let Some(listener) = self.shared.listener(number) else {
            return;
        };
        if let Some(socket) = socket {
            // A listener that the poller does not take accepts nothing, and this count says so.
            if self.back.listen(number, socket).is_err() {
                self.statistics.counts.accept_failures.add(1);
            }
        }
        if self.listeners.len() <= number {
            self.listeners.resize_with(number + 1, || None);
        }
        let heartbeat_ms = listener.protocol.heartbeat().map(u64::from);
        self.listeners[number] = Some(Serving {
            format: crate::shared::format_of(&listener.protocol),
            protocol: listener.protocol,
            door: listener.door,
            reactors: listener.reactors,
            heartbeats: heartbeat_ms.map(Deadlines::new),
            heartbeat_ms: heartbeat_ms.unwrap_or(0),
        });
    }

    pub(super) fn accept(&mut self, listener: usize) {
        if self.listeners.get(listener).is_none_or(Option::is_none) {
            return self.accept_again.push(listener); // our mailbox holds it
        }
        for _ in 0..ACCEPTS_A_TURN {
            match self.back.accept(listener) {
                Ok((stream, address)) => self.place(stream, address, listener),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    // This one was gone before we took it; the next may be there.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {
                        self.statistics.counts.accept_failures.add(1);
                    }
                    // For want of descriptors, mostly: those in line stay there meanwhile.
                    _ => {
                        self.statistics.counts.accept_failures.add(1);
                        self.accept_retries.set(self.now_ms, listener as u32, 0);
                        return;
                    }
                },
            }
        }
        // More may wait, and an edge is told only once.
        self.accept_again.push(listener);
    }

    /// Gives a new connection to the reactor that has the fewest sessions.
    pub(super) fn place(&mut self, stream: B::Stream, address: String, listener: usize) {
        self.statistics.counts.accepted.add(1);
        if self.draining.is_some() || self.shared.live.load(Relaxed) >= self.limits.sessions {
            self.statistics.counts.refused_full.add(1);
            return; // dropping the stream closes it
        }
        self.shared.live.fetch_add(1, Relaxed);
        let load = |at: &usize| self.shared.load[*at].load(Relaxed);
        let serving = self.listeners.get(listener).and_then(Option::as_ref);
        let reactors = serving.map_or(0..0, |of| of.reactors.clone());
        let least = reactors.min_by_key(load).unwrap_or(self.number);
        self.shared.load[least].fetch_add(1, Relaxed);
        if least == self.number {
            return self.adopt(stream, address, listener);
        }
        match self.back.part_with(stream) {
            Ok(stream) => {
                self.statistics.counts.wakes.add(1);
                self.mailboxes[least].post(
                    Handover::Adopt {
                        stream,
                        address,
                        listener,
                    },
                    1,
                );
            }
            Err(stream) => self.adopt(stream, address, listener),
        }
    }

    pub(super) fn adopt(&mut self, mut stream: B::Stream, address: String, listener: usize) {
        let Some(Some(serving)) = self.listeners.get(listener) else {
            return self.uncount();
        };
        if self.draining.is_some() {
            // Another reactor accepted it before it heard of the end.
            self.statistics.counts.refused_full.add(1);
            return self.uncount();
        }
        let protocol = serving.protocol.clone();
        let door = serving.door.clone();
        let layers = match self.layers(&door, &address) {
            Ok(layers) => layers,
            Err(reason) => {
                let mut errors = crate::shared::lock(&self.statistics.wire_errors);
                *errors.entry(reason).or_default() += 1;
                drop(errors);
                return self.uncount();
            }
        };
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        });
        if self.back.watch(&mut stream, at).is_err() {
            self.statistics.counts.accept_failures.add(1);
            self.vacant.push(at);
            return self.uncount();
        }
        self.serial = self.serial.wrapping_add(1);
        let stage = if protocol.has_handshake() || layers.is_some() {
            Stage::Handshake
        } else {
            Stage::Open
        };
        let mut connection = Connection::new(
            stream,
            self.serial,
            listener as u16,
            stage,
            protocol.peer(),
            self.now_ms,
        );
        connection.layers = layers;
        connection.readable = true; // it may have spoken before it was watched
        connection.queued = true;
        if stage == Stage::Handshake {
            self.handshakes.set(self.now_ms, at, self.serial);
        }
        self.connections[at as usize] = Some(connection);
        self.addresses.insert(at, address.into_boxed_str());
        if stage == Stage::Open && !self.open_session(at) {
            return;
        }
        self.again.push(at);
    }

    /// What lies between this connection and its protocol.
    fn layers(&self, door: &Door, address: &str) -> Result<Option<Box<Layers>>, &'static str> {
        if door.is_plain() {
            return Ok(None);
        }
        let certificates = self.shared.certificates();
        door.layers(address.parse().ok(), certificates.as_ref())
    }

    pub(super) fn uncount(&mut self) {
        self.shared.live.fetch_sub(1, Relaxed);
        self.shared.load[self.number].fetch_sub(1, Relaxed);
    }

    /// The session begins, and Python is told. `false`: there was no slot, the connection is closed.
    pub(super) fn open_session(&mut self, at: u32) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return false;
        };
        let listener = connection.listener;
        let Some(handle) = self.sessions.open(at, listener, self.now_ms) else {
            self.statistics.counts.refused_full.add(1);
            self.close(at, By::Server, "full");
            return false;
        };
        connection.session = handle;
        connection.stage = Stage::Open;
        let serial = connection.serial;
        let address = self.addresses.remove(&at).unwrap_or_default();
        self.statistics.counts.sessions_opened.add(1);
        self.tell(handle, Event::Opened, u32::from(listener), &address);
        if let Some(Some(Serving {
            heartbeats: Some(heartbeats),
            ..
        })) = self.listeners.get_mut(listener as usize)
        {
            heartbeats.set(self.now_ms, at, serial);
        }
        true
    }
}
