//! What only the photinus protocol has: a hello that is answered, and heartbeats that count. What it
//! keeps for a session whose connection was cut stands in `resume.rs`.

use super::Reactor;
use crate::acquaintance::{announce, Acquaintance};
use crate::back::Back;
use photinus_proto::codec::photinus as codec;
use photinus_proto::codec::photinus::{Heartbeat, Hello, Options, Status, Welcome, USUAL_RATE};
use photinus_proto::codec::Peer;
use photinus_proto::error::WireError;
use std::sync::Arc;

const NS_A_MICROSECOND: u64 = 1_000;

/// A connection whose client has said its hello.
pub struct Greeted<'a> {
    pub at: u32,
    pub peer: Peer,
    pub options: &'a Options,
}

impl<B: Back> Reactor<B> {
    /// A client has introduced itself: its session opens or goes on, and it is welcomed; or it is refused.
    /// `rest` came behind the hello.
    pub(super) fn greet(&mut self, greeted: Greeted<'_>, hello: Hello, rest: Vec<u8>) {
        match hello.resume {
            Some(resume) => {
                let Some(rest) = self.move_away(&greeted, resume, rest) else {
                    return;
                };
                self.resume(greeted, resume, rest);
            }
            None if !self.must_wait() => self.welcome_new(&greeted, rest),
            None if rest.is_empty() => self.stand_in_line(&greeted),
            // It speaks before it was answered.
            None => self.break_off(greeted.at, "bad-handshake"),
        }
    }

    /// A new session begins, and `rest` is the first that comes of it.
    pub(super) fn welcome_new(&mut self, greeted: &Greeted<'_>, rest: Vec<u8>) {
        if let Some(frame) = self.begin(greeted) {
            self.write_now(greeted.at, &frame);
            self.decode_rest(greeted.at, rest);
        }
    }

    /// A new session; its welcome. `None`: it was turned away.
    fn begin(&mut self, greeted: &Greeted<'_>) -> Option<Vec<u8>> {
        let (at, options) = (greeted.at, greeted.options);
        if !self.open_session(at) {
            return None;
        }
        let handle = self.connections.get(at as usize)?.as_ref()?.session;
        let token = options.resume().and_then(|_| self.make_resumable(handle));
        let welcome = Welcome {
            status: Status::New,
            clock: self.clock(),
            rate: USUAL_RATE,
            resume: token.zip(options.resume()),
        };
        let (mut peer, mut frame) = (greeted.peer, Vec::new());
        options.welcome(&mut peer, &welcome, &mut frame);
        let connection = self.connections.get_mut(at as usize)?.as_mut()?;
        connection.peer = peer;
        connection.acquaintance = Some(Box::<Acquaintance>::default());
        Some(frame)
    }

    /// A client has said how far it is.
    pub(super) fn hear(&mut self, at: u32, heartbeat: &Heartbeat) -> Result<(), WireError> {
        let now = self.clock();
        if let Some(of) = self.acquaintance(at) {
            of.heard(heartbeat, now);
        }
        self.acknowledge(at, heartbeat.received)
    }

    /// So many counted frames have come from this client; or others, if it is none.
    pub(super) fn count_frames(&mut self, at: u32, frames: u32, bytes: u32) {
        let Some(of) = self.acquaintance(at) else {
            return;
        };
        let first = of.speaks();
        if frames > 0 {
            of.count(frames, bytes);
        }
        let overdue = frames > 0 && of.heartbeat_is_overdue();
        if first {
            self.has_token(at);
        }
        if overdue {
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
            codec::heartbeat(&of.heartbeat(now), USUAL_RATE, out);
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
    pub(super) fn clock(&self) -> u64 {
        self.back.now() / NS_A_MICROSECOND + 1
    }
}
