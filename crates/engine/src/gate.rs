//! Who may come in: connections in total and by address, handshakes in flight, sessions; and the line of
//! those who wait for one.
//!
//! One gate for all reactors of an engine. Invariants:
//! 1. What a [`Guest`] or a session holds is counted exactly once, and given back when the guest is
//!    dropped or the session has ended, on whichever thread, whatever happened in between.
//! 2. No limit is exceeded, not even while several reactors let in at once.
//! 3. Of an address nothing is kept when it has no connection and its bucket is full again (up to a
//!    sweep, which comes each time that the table has doubled). To be refused leaves nothing behind.

use crate::limits::{Limits, ACCEPT_BURST_S, RESERVED_FILES};
use crate::line::Line;
use crate::lock::lock;
use crate::rate::Flow;
use crate::system;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

pub struct Gate {
    connections: Count,
    handshakes: Count,
    sessions: Count,
    /// Those who wait for a session.
    pub line: Line,
    /// Connections of each reactor, by which new ones are shared out.
    load: Vec<AtomicUsize>,
    addresses: Mutex<Addresses>,
    per_address: usize,
    limit_loopback: bool,
}

/// A connection's place. To drop it gives everything back that it counts for.
pub struct Guest {
    gate: Arc<Gate>,
    reactor: usize,
    address: Option<Key>,
    handshaking: bool,
}

/// Why a connection is closed as soon as it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many as there may be.
    Connections,
    /// There are as many from its address.
    Address,
    /// Its address connects too often.
    Rate,
    /// Too many have not done their handshake.
    Handshakes,
}

impl Gate {
    pub fn new(reactors: usize, limits: &Limits) -> Gate {
        let connections = match limits.connections {
            0 => system::open_files().saturating_sub(RESERVED_FILES) as usize,
            limit => limit,
        };
        Gate {
            connections: Count::below(connections.max(1)),
            handshakes: Count::below(limits.handshakes),
            sessions: Count::below(limits.sessions),
            line: Line::default(),
            load: (0..reactors).map(|_| AtomicUsize::new(0)).collect(),
            addresses: Mutex::new(Addresses {
                known: HashMap::new(),
                flow: Flow::new(limits.accepts_per_address, ACCEPT_BURST_S),
                sweep_at: SWEEP_AT,
            }),
            per_address: limits.connections_per_address,
            limit_loopback: limits.limit_loopback != 0,
        }
    }

    /// A connection was accepted. `None` for its address: it has none, and is not limited by it.
    pub fn enter(
        self: &Arc<Gate>,
        reactor: usize,
        address: Option<IpAddr>,
        handshaking: bool,
        now: u64,
    ) -> Result<Guest, Refusal> {
        if !self.connections.take() {
            return Err(Refusal::Connections);
        }
        self.load[reactor].fetch_add(1, Relaxed);
        let mut guest = Guest {
            gate: self.clone(),
            reactor,
            address: None,
            handshaking: false,
        };
        if handshaking && !guest.begins_handshake() {
            return Err(Refusal::Handshakes);
        }
        guest.comes_from(address, now)?;
        Ok(guest)
    }

    /// The reactor with the fewest connections, of so many.
    pub fn least_loaded(&self, reactors: std::ops::Range<usize>) -> Option<usize> {
        reactors.min_by_key(|&at| self.load[at].load(Relaxed))
    }

    /// Takes one of the places for sessions; whoever got it calls `session_ended` once.
    #[must_use]
    pub fn session_begins(&self) -> bool {
        self.sessions.take()
    }

    pub fn session_ended(&self) {
        self.sessions.give_back();
    }

    pub fn is_full(&self) -> bool {
        self.sessions.now.load(Relaxed) >= self.sessions.limit
    }

    /// Connections, handshakes and sessions now, and addresses that something is kept of.
    pub fn counts(&self) -> [usize; 4] {
        let [connections, handshakes, sessions] =
            [&self.connections, &self.handshakes, &self.sessions].map(|of| of.now.load(Relaxed));
        let addresses = lock(&self.addresses).known.len();
        [connections, handshakes, sessions, addresses]
    }
}

impl Guest {
    /// Its peer's address is known, or known better (from a PROXY header): it counts for that one alone.
    pub fn comes_from(&mut self, address: Option<IpAddr>, now: u64) -> Result<(), Refusal> {
        let limited = |of: &IpAddr| self.gate.limit_loopback || !of.to_canonical().is_loopback();
        let key = address.filter(limited).map(Key::of);
        let most = self.gate.per_address;
        let mut addresses = lock(&self.gate.addresses);
        if let Some(before) = self.address.take() {
            addresses.leave(before, now);
        }
        if let Some(key) = key {
            addresses.enter(key, most, now)?;
            self.address = Some(key);
        }
        Ok(())
    }

    /// `false`: too many are in theirs.
    #[must_use]
    pub fn begins_handshake(&mut self) -> bool {
        if !self.handshaking {
            self.handshaking = self.gate.handshakes.take();
        }
        self.handshaking
    }

    /// It is a session now, waits for its turn, or is about to end.
    pub fn ends_handshake(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.gate.handshakes.give_back();
        }
    }

    /// It is another reactor's from now on.
    pub fn moves_to(&mut self, reactor: usize) {
        self.gate.load[self.reactor].fetch_sub(1, Relaxed);
        self.gate.load[reactor].fetch_add(1, Relaxed);
        self.reactor = reactor;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.ends_handshake();
        self.gate.load[self.reactor].fetch_sub(1, Relaxed);
        self.gate.connections.give_back();
        if let Some(address) = self.address {
            // Without the time nothing is forgotten here: the next sweep does it.
            lock(&self.gate.addresses).leave(address, 0);
        }
    }
}

/// How many of something there are, and may be.
struct Count {
    now: AtomicUsize,
    limit: usize,
}

impl Count {
    fn below(limit: usize) -> Count {
        let now = AtomicUsize::new(0);
        Count { now, limit }
    }

    fn take(&self) -> bool {
        let one_more = |now: usize| (now < self.limit).then_some(now + 1);
        self.now.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
}

/// An address as it is counted: IPv4 whole, of IPv6 the /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64);

impl Key {
    fn of(address: IpAddr) -> Key {
        match address.to_canonical() {
            // No peer has such an IPv6 prefix: it is one of multicast.
            IpAddr::V4(address) => Key(0xffff << 48 | u64::from(u32::from(address))),
            IpAddr::V6(address) => Key((u128::from(address) >> 64) as u64),
        }
    }
}

struct Addresses {
    known: HashMap<Key, Known>,
    flow: Option<Flow>,
    /// When the table has so many entries, those that say nothing any more are thrown out.
    sweep_at: usize,
}

struct Known {
    connections: usize,
    bucket: u64,
}

/// A smaller table is not worth sweeping.
const SWEEP_AT: usize = 1024;

impl Addresses {
    fn enter(&mut self, key: Key, most: usize, now: u64) -> Result<(), Refusal> {
        if self.known.len() >= self.sweep_at {
            self.known
                .retain(|_, of| of.connections > 0 || of.bucket > now);
            self.sweep_at = SWEEP_AT.max(2 * self.known.len());
            self.known.shrink_to(self.sweep_at);
        }
        let known = self.known.entry(key).or_insert(Known {
            connections: 0,
            bucket: 0,
        });
        if most > 0 && known.connections >= most {
            return Err(Refusal::Address);
        }
        if let Some(flow) = self.flow {
            if !flow.take(&mut known.bucket, 1, now) {
                return Err(Refusal::Rate);
            }
        }
        known.connections += 1;
        Ok(())
    }

    fn leave(&mut self, key: Key, now: u64) {
        if let Some(known) = self.known.get_mut(&key) {
            known.connections -= 1;
            if known.connections == 0 && known.bucket <= now {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn gate(limits: Limits) -> Arc<Gate> {
        Arc::new(Gate::new(2, &limits))
    }

    fn come(gate: &Arc<Gate>, from: &str, now: u64) -> Result<Guest, Refusal> {
        gate.enter(0, Some(from.parse().unwrap()), true, now)
    }

    fn refused(result: Result<Guest, Refusal>) -> Option<Refusal> {
        result.err()
    }

    #[test]
    fn what_a_guest_holds_is_given_back() {
        let gate = gate(Limits::default());
        let mut guest = come(&gate, "203.0.113.7", 0).ok().unwrap();
        guest.moves_to(1);
        assert_eq!(gate.counts(), [1, 1, 0, 1]);
        assert_eq!(gate.least_loaded(0..2), Some(0));
        guest.ends_handshake();
        guest.ends_handshake();
        assert_eq!(gate.counts(), [1, 0, 0, 1]);
        assert!(guest.begins_handshake());
        drop(guest);
        assert_eq!(gate.counts(), [0, 0, 0, 1], "its bucket is not full yet");
    }

    #[test]
    fn each_limit_refuses_with_its_own_word_and_counts_nobody() {
        let limits = Limits {
            connections: 3,
            connections_per_address: 2,
            accepts_per_address: 1,
            handshakes: 2,
            ..Limits::default()
        };
        let gate = gate(limits);
        let mut first = come(&gate, "198.51.100.1", 0).ok().unwrap();
        let _second = come(&gate, "198.51.100.1", 0).ok().unwrap();
        let third = come(&gate, "198.51.100.2", 0);
        assert_eq!(refused(third), Some(Refusal::Handshakes));
        first.ends_handshake();
        let third = come(&gate, "198.51.100.1", 0);
        assert_eq!(refused(third), Some(Refusal::Address));
        assert_eq!(gate.counts(), [2, 1, 0, 1]);
        let third = come(&gate, "198.51.100.2", 0).ok().unwrap();
        let fourth = come(&gate, "198.51.100.3", 0);
        assert_eq!(refused(fourth), Some(Refusal::Connections));
        drop(third);
        for _ in 1..ACCEPT_BURST_S {
            drop(come(&gate, "198.51.100.2", 0).ok().unwrap());
        }
        let too_often = come(&gate, "198.51.100.2", 0);
        assert_eq!(refused(too_often), Some(Refusal::Rate));
        assert!(come(&gate, "198.51.100.2", SECOND).is_ok());
    }

    #[test]
    fn an_address_is_one_however_it_is_written_and_a_64_of_ipv6() {
        let limits = Limits {
            connections_per_address: 1,
            ..Limits::default()
        };
        let gate = gate(limits);
        let _v4 = come(&gate, "192.0.2.1", 0).ok().unwrap();
        assert!(come(&gate, "::ffff:192.0.2.1", 0).is_err());
        assert!(come(&gate, "192.0.2.2", 0).is_ok());
        let _v6 = come(&gate, "2001:db8:0:1::1", 0).ok().unwrap();
        assert!(come(&gate, "2001:db8:0:1:ffff::9", 0).is_err());
        assert!(come(&gate, "2001:db8:0:2::1", 0).is_ok());
    }

    #[test]
    fn loopback_is_limited_if_that_was_asked_for() {
        for (limit_loopback, refuses) in [(0, false), (1, true)] {
            let gate = gate(Limits {
                connections_per_address: 1,
                limit_loopback,
                ..Limits::default()
            });
            for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.9"] {
                let _first = come(&gate, address, 0).ok().unwrap();
                assert_eq!(come(&gate, address, 0).is_err(), refuses, "{address}");
            }
        }
    }

    #[test]
    fn a_better_known_address_takes_the_other_ones_place() {
        let gate = gate(Limits {
            connections_per_address: 1,
            ..Limits::default()
        });
        let proxy = "192.0.2.1".parse().ok();
        let mut behind = gate.enter(0, proxy, true, 0).ok().unwrap();
        let client = "203.0.113.5".parse().ok();
        assert_eq!(behind.comes_from(client, 0), Ok(()));
        let mut next = gate.enter(0, proxy, true, 0).ok().unwrap();
        assert_eq!(next.comes_from(client, 0), Err(Refusal::Address));
        drop((behind, next));
        assert!(gate.enter(0, client, true, 0).is_ok());
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let gate = gate(Limits::default());
        let _stays = come(&gate, "192.0.2.1", 0).ok().unwrap();
        for second in 0..20u64 {
            for number in 0..SWEEP_AT as u64 {
                let address =
                    std::net::Ipv6Addr::from(u128::from((second << 32) + number + 1) << 64);
                assert!(gate
                    .enter(0, Some(address.into()), true, second * SECOND)
                    .is_ok());
            }
        }
        let [connections, _, _, addresses] = gate.counts();
        assert_eq!(connections, 1);
        assert!(addresses <= 2 * SWEEP_AT + 2, "{addresses}");
        // Who is still there is still known.
        assert_eq!(
            lock(&gate.addresses).known[&Key::of("192.0.2.1".parse().unwrap())].connections,
            1
        );
    }

    #[test]
    fn threads_together_never_exceed_a_limit() {
        let gate = gate(Limits {
            connections: 10,
            ..Limits::default()
        });
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let gate = &gate;
                scope.spawn(move || {
                    for round in 0..2_000u64 {
                        let address = format!("192.0.2.{}", thread * 50 + round % 50);
                        let guests: Vec<_> =
                            (0..5).map(|_| come(gate, &address, round << 32)).collect();
                        let there = gate.connections.now.load(Relaxed);
                        assert!(there <= 10, "{there}");
                        drop(guests);
                    }
                });
            }
        });
        assert_eq!(gate.counts()[..3], [0, 0, 0]);
    }
}
