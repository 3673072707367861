//! What a connection of the photinus protocol remembers beside the codec's few bytes: the routes that
//! its client has named, those that were named to it, and what heartbeats are made of.

use crate::routes::Routes;
use photinus_proto::codec::photinus::Heartbeat;
use std::sync::Arc;

/// Counted frames and bytes of them that came since our last heartbeat: from then on the next write brings
/// one (docs/protocol.md, 5.8).
const FRAMES_A_HEARTBEAT: u32 = 64;
const BYTES_A_HEARTBEAT: u32 = 16 << 10;
/// With so many times as much, and nothing written meanwhile, it is sent by itself.
const PATIENCE: u32 = 4;
/// Bytes of names that we have no handler for: a client has no use for more than a few of them.
const UNKNOWN_LIMIT: usize = 4 << 10;

#[derive(Default)]
pub struct Acquaintance {
    routes: Vec<Named>,
    unknown_bytes: usize,
    /// Names of pushes that it has been told: those with an index below this.
    pub announced: u32,
    /// Counted frames received of the session, on this connection and those before it.
    received: u32,
    /// The client has spoken after the welcome.
    spoke: bool,
    frames: u32,
    bytes: u32,
    /// The clock in its last heartbeat, and ours at that moment, both in microseconds.
    clock: (u64, u64),
    /// Microseconds; 0: not known yet.
    rtt: u32,
}

/// A route that the client has named.
pub enum Named {
    /// Its index.
    Known(u32),
    Unknown(Box<str>),
}

impl Acquaintance {
    /// The client names its next route, which may be `served` elsewhere. `false`: it has named too many that
    /// there are not.
    #[must_use]
    pub fn name(&mut self, name: &[u8], routes: &Routes, served: bool) -> bool {
        let named = match routes.by_name(name) {
            Some(index) => Named::Known(index),
            None => {
                self.unknown_bytes += if served { 0 } else { name.len() };
                Named::Unknown(String::from_utf8_lossy(name).into())
            }
        };
        self.routes.push(named);
        self.unknown_bytes <= UNKNOWN_LIMIT
    }

    /// Of a session that goes on: so many counted frames have been received before.
    pub fn going_on(received: u32) -> Acquaintance {
        Acquaintance {
            received,
            ..Acquaintance::default()
        }
    }

    /// Counted frames received of the session.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// It has spoken. `true`: for the first time after the welcome.
    #[inline]
    pub fn speaks(&mut self) -> bool {
        !std::mem::replace(&mut self.spoke, true)
    }

    /// What it has named as its so-many-th; the codec lets no other number through.
    #[inline]
    pub fn route(&self, number: u32) -> Option<&Named> {
        self.routes.get(number as usize)
    }

    /// Counted frames have come.
    #[inline]
    pub fn count(&mut self, frames: u32, bytes: u32) {
        self.received = self.received.wrapping_add(frames);
        self.frames += frames;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// So much has come that the next write should bring a heartbeat.
    #[inline]
    pub fn owes_heartbeat(&self) -> bool {
        self.frames >= FRAMES_A_HEARTBEAT || self.bytes >= BYTES_A_HEARTBEAT
    }

    /// So much that it should be sent now.
    #[inline]
    pub fn heartbeat_is_overdue(&self) -> bool {
        self.frames >= PATIENCE * FRAMES_A_HEARTBEAT || self.bytes >= PATIENCE * BYTES_A_HEARTBEAT
    }

    /// What ours says at this time, in microseconds.
    pub fn heartbeat(&mut self, now: u64) -> Heartbeat {
        (self.frames, self.bytes) = (0, 0);
        let (clock, since) = self.clock;
        Heartbeat {
            received: self.received,
            clock: now,
            echo: clock,
            held: if clock == 0 {
                0
            } else {
                now.saturating_sub(since)
            },
        }
    }

    /// The client's has come at this time, in microseconds.
    pub fn heard(&mut self, heartbeat: &Heartbeat, now: u64) {
        self.clock = (heartbeat.clock, now);
        let there = heartbeat.echo.saturating_add(heartbeat.held);
        // An echo of what was never said tells nothing.
        if heartbeat.echo > 0 && there <= now {
            self.rtt = u32::try_from(now - there).unwrap_or(u32::MAX).max(1);
        }
    }

    /// Round-trip time in microseconds, once it is known.
    pub fn rtt(&self) -> Option<u32> {
        (self.rtt > 0).then_some(self.rtt)
    }
}

/// Appends the names up to this index, as far as they are not announced yet.
pub fn announce(of: &mut Acquaintance, names: &[(Arc<str>, u32)], index: u32, out: &mut Vec<u8>) {
    while of.announced <= index {
        let name = names
            .get(of.announced as usize)
            .map_or("", |(name, _)| name);
        photinus_proto::codec::photinus::announce(name, out);
        of.announced += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_trip_is_ours_less_what_the_client_held() {
        let mut of = Acquaintance::default();
        assert_eq!(of.heartbeat(1000).echo, 0);
        let beat = Heartbeat {
            received: 0,
            clock: 77,
            echo: 1000,
            held: 250,
        };
        of.heard(&beat, 1400);
        assert_eq!(of.rtt(), Some(150));
        let ours = of.heartbeat(1500);
        assert_eq!((ours.echo, ours.held), (77, 100));
        // A client that says nonsense is not believed.
        for echo in [u64::MAX, 5000] {
            of.heard(&Heartbeat { echo, ..beat }, 1600);
            assert_eq!(of.rtt(), Some(150));
        }
    }

    #[test]
    fn a_heartbeat_is_owed_after_many_frames_or_bytes() {
        let mut of = Acquaintance::default();
        of.count(FRAMES_A_HEARTBEAT - 1, 10);
        assert!(!of.owes_heartbeat());
        of.count(1, 10);
        assert!(of.owes_heartbeat() && !of.heartbeat_is_overdue());
        assert_eq!(of.heartbeat(1).received, FRAMES_A_HEARTBEAT);
        assert!(!of.owes_heartbeat());
        of.count(1, PATIENCE * BYTES_A_HEARTBEAT);
        assert!(of.heartbeat_is_overdue());
    }

    #[test]
    fn names_are_told_once_and_in_order() {
        let names = [("a".into(), 0), ("b".into(), 0), ("c".into(), 0)];
        let (mut of, mut out) = (Acquaintance::default(), Vec::new());
        announce(&mut of, &names, 1, &mut out);
        assert_eq!(out, b"\x05\x01a\x05\x01b");
        announce(&mut of, &names, 1, &mut out);
        announce(&mut of, &names, 2, &mut out);
        assert_eq!(out, b"\x05\x01a\x05\x01b\x05\x01c");
    }

    #[test]
    fn unknown_names_are_bounded() {
        let mut of = Acquaintance::default();
        let routes = Routes::default();
        let named = (0..1000).take_while(|_| of.name(&[b'x'; 255], &routes, false));
        assert_eq!(named.count(), UNKNOWN_LIMIT / 255);
    }
}
