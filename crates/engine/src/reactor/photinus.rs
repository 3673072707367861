//! What only the photinus protocol has: a hello that is answered, and heartbeats that count.

use super::Reactor;
use crate::acquaintance::{announce, Acquaintance};
use crate::back::Back;
use photinus_proto::codec::photinus::{self, Hello, Status, Welcome, USUAL_RATE};
use photinus_proto::codec::{Peer, Protocol};
use std::sync::Arc;

const NS_A_MICROSECOND: u64 = 1_000;

impl<B: Back> Reactor<B> {
    /// A client has introduced itself: its session opens, and it is welcomed.
    pub(super) fn greet(&mut self, at: u32, _hello: Hello, mut peer: Peer, protocol: &Protocol) {
        let Protocol::Photinus(options) = protocol else {
            return;
        };
        if !self.open_session(at) {
            return;
        }
        let welcome = Welcome {
            status: Status::New,
            clock: self.clock(),
            rate: USUAL_RATE,
            resume: None,
        };
        let mut frame = Vec::new();
        options.welcome(&mut peer, &welcome, &mut frame);
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            connection.peer = peer;
            connection.acquaintance = Some(Box::<Acquaintance>::default());
        }
        self.write_now(at, &frame);
    }

    /// A client has said how far it is.
    pub(super) fn hear(&mut self, at: u32, heartbeat: &photinus::Heartbeat) {
        let now = self.clock();
        if let Some(of) = self.acquaintance(at) {
            of.heard(heartbeat, now);
        }
    }

    /// Counted frames have come from this client.
    pub(super) fn count_frames(&mut self, at: u32, frames: u32, bytes: u32) {
        let Some(of) = self.acquaintance(at) else {
            return;
        };
        of.count(frames, bytes);
        if of.heartbeat_is_overdue() {
            let mut frame = Vec::new();
            self.append_heartbeat(at, &mut frame);
            self.write_now(at, &frame);
        }
    }

    /// Whether what is written next should bring a heartbeat.
    #[inline]
    pub(super) fn owes_heartbeat(&self, at: u32) -> bool {
        let connection = self.connections.get(at as usize).and_then(Option::as_ref);
        let of = connection.and_then(|of| of.acquaintance.as_ref());
        of.is_some_and(|of| of.owes_heartbeat())
    }

    /// Appends this connection's heartbeat.
    pub(super) fn append_heartbeat(&mut self, at: u32, out: &mut Vec<u8>) {
        let now = self.clock();
        if let Some(of) = self.acquaintance(at) {
            photinus::heartbeat(&of.heartbeat(now), USUAL_RATE, out);
            self.statistics.counts.heartbeats_sent.add(1);
        }
    }

    /// Writes the names of pushes up to this index to a connection, as far as it does not know them.
    pub(super) fn name_pushes(&mut self, at: u32, index: u32, names: &[(Arc<str>, u32)]) {
        let Some(of) = self.acquaintance(at) else {
            return;
        };
        if of.announced <= index {
            let mut frames = Vec::new();
            announce(of, names, index, &mut frames);
            self.write_now(at, &frames);
        }
    }

    pub(super) fn acquaintance(&mut self, at: u32) -> Option<&mut Acquaintance> {
        let connection = self.connections.get_mut(at as usize)?.as_mut()?;
        connection.acquaintance.as_deref_mut()
    }

    /// The clock that clients are told, in microseconds; never 0.
    fn clock(&self) -> u64 {
        self.back.now() / NS_A_MICROSECOND + 1
    }
}
