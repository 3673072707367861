//! Links that this node keeps: a connection is made, and made again when it has ended, until the node is hung up on.
//!
//! Nothing in here waits. Names are looked up beside the reactor (`resolver.rs`), by whoever dials first, and again each
//! time that all that was found has failed.

use super::alarms::Alarm;
use super::Reactor;
use crate::back::{Back, Stream};
use crate::connection::{By, Connection, Stage};
use crate::layers::Layers;
use crate::limits::{LINK_BACK_OFF_MOST_MS, LINK_BACK_OFF_MS, LINK_STEADY_MS};
use crate::link::{Attempt, Dial, Tie};
use crate::outbox::Dialled;
use crate::resolver::Question;
use crate::resumable::secret;
use crate::session::NONE;
use photinus_proto::codec::Protocol;
use photinus_proto::link::hello::Dialling;

/// The listener of a connection that no listener has taken.
pub const DIALLED: u16 = u16::MAX;

impl<B: Back> Reactor<B> {
    /// Keeps a link to this node from now on; instead of the one before, if that is elsewhere.
    pub(super) fn dial(&mut self, to: Dialled) {
        let mut dials = self.links.dials.iter_mut().flatten();
        if let Some(before) = dials.find(|of| of.to.node == to.node) {
            if before.to.url == to.url {
                if !to.addresses.is_empty() {
                    before.to.addresses = to.addresses;
                }
                return;
            }
            self.hang_up(&to.node);
        }
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let dial = Dial {
            to,
            serial,
            id: draw(),
            link: None,
            connection: NONE,
            next: 0,
            wait_ms: 0,
            tries: 0,
            asked: false,
        };
        let dials = &mut self.links.dials;
        let number = dials.iter().position(Option::is_none).unwrap_or_else(|| {
            dials.push(None);
            dials.len() - 1
        });
        dials[number] = Some(dial);
        self.links.alarms.set(
            self.now_ms,
            Alarm::Dial {
                number: number as u32,
                serial,
            },
        );
        self.links_changed();
    }

    /// Keeps none any more: what links there are to this node are lost.
    pub(super) fn hang_up(&mut self, node: &str) {
        for number in 0..self.links.dials.len() {
            let is_it = |of: &Dial| *of.to.node == *node;
            let Some(dial) = self.links.dials[number].take_if(|of| is_it(of)) else {
                continue;
            };
            if let Some(Some(connection)) = self.connections.get_mut(dial.connection as usize) {
                if let Some(Tie::Dialling(_)) = connection.tie.as_deref() {
                    connection.tie = None;
                    self.close(dial.connection, By::Server, "hung-up");
                }
            }
        }
        let links = self.links.each().filter(|(_, of)| *of.node == *node);
        let links: Vec<u32> = links.map(|(slot, _)| slot).collect();
        for slot in links {
            self.lose_link(slot, "hung-up");
        }
        self.links_changed();
    }

    pub(super) fn dial_due(&mut self, number: u32, serial: u32) {
        let Some(dial) = self.links.dial_mut(number) else {
            return;
        };
        if dial.serial != serial || dial.connection != NONE {
            return;
        }
        dial.tries += 1;
        self.statistics.counts.link_dials.add(1);
        if self.connect(number).is_none() {
            self.dial_failed(number);
        }
    }

    /// `None`: it failed at once.
    fn connect(&mut self, number: u32) -> Option<()> {
        let dial = self.links.dial_mut(number)?;
        let count = dial.to.addresses.len();
        if dial.next >= count {
            dial.next = 0;
            self.look_up(number);
        }
        let dial = self.links.dial_mut(number)?;
        let address = dial.to.addresses.get(dial.next)?.clone();
        let id = dial.id;
        let layers = match dial.to.url.tls {
            false => None,
            true => {
                let host = dial.to.url.host.clone();
                let certificates = self.shared.certificates();
                let layers = certificates.as_ref().and_then(|of| of.links.as_ref());
                let layers = layers.ok_or("no-certificate");
                match layers.and_then(|tls| Layers::dialling(tls, &host)) {
                    Ok(layers) => Some(layers),
                    Err(reason) => {
                        self.count_wire_error(reason);
                        return None;
                    }
                }
            }
        };
        let guest = match self.shared.gate.enter(self.number, None, true, self.told) {
            Ok(guest) => guest,
            Err(refusal) => {
                self.count_refusal(refusal);
                return None;
            }
        };
        let mut stream = self.back.dial(&address).ok()?;
        stream.keep_little();
        let at = self.place_for_connection();
        if self.back.watch(&mut stream, at).is_err() {
            self.vacant.push(at);
            return None;
        }
        self.serial = self.serial.wrapping_add(1);
        let mut connection = Connection::new(
            stream,
            guest,
            self.serial,
            DIALLED,
            Stage::Handshake,
            Protocol::Link.peer(),
            self.now_ms,
        );
        // Until the poller tells that it is there.
        connection.blocked = true;
        connection.for_link = true;
        connection.tie = Some(Box::new(Tie::Dialling(Box::new(Attempt {
            dial: number,
            id,
            hello: None,
            peer: None,
        }))));
        let speaks_first = layers.is_some();
        connection.layers = layers;
        self.handshakes.set(self.now_ms, at, self.serial);
        self.connections[at as usize] = Some(connection);
        self.links.open += 1;
        self.links.dial_mut(number)?.connection = at;
        match speaks_first {
            true => self.pass(at, &mut []),
            false => self.say_hello(at),
        }
        Some(())
    }

    /// What lies between is open: the dialler speaks, once.
    pub(super) fn say_hello(&mut self, at: u32) {
        let Some(identity) = self.shared.identity() else {
            return;
        };
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let Some(Tie::Dialling(attempt)) = connection.tie.as_deref_mut() else {
            return;
        };
        if attempt.hello.is_some() {
            return;
        }
        let Some(nonce) = secret() else {
            return self.close(at, By::Server, "no-randomness");
        };
        let mut said = Vec::new();
        attempt.hello = Some(Dialling::new(identity, attempt.id, nonce, &mut said));
        self.write_now(at, &said);
    }

    /// A connection did not become a link's.
    pub(super) fn dial_failed(&mut self, number: u32) {
        self.statistics.counts.link_dial_failures.add(1);
        if let Some(dial) = self.links.dial_mut(number) {
            dial.next += 1;
            self.dial_later(number);
        }
    }

    /// A link's connection has ended: the next one, at once if that one has lasted, and soon if it was of any use.
    pub(super) fn dial_back(&mut self, number: u32, heard: bool, connected_ms: u64) {
        let steady = self.now_ms >= connected_ms + LINK_STEADY_MS;
        if let Some(dial) = self.links.dial_mut(number) {
            match (heard, steady) {
                (true, true) => dial.wait_ms = 0,
                (true, false) => dial.wait_ms = LINK_BACK_OFF_MS,
                (false, _) => {}
            }
            self.dial_later(number);
        }
    }

    /// The dial's link is lost: the next connection is for another one. `at`: the connection that went with it.
    pub(super) fn dial_anew(&mut self, number: u32, at: u32) {
        if let Some(dial) = self.links.dial_mut(number) {
            dial.link = None;
            dial.id = draw();
            if at != NONE {
                self.dial_later(number);
            }
        }
    }

    fn dial_later(&mut self, number: u32) {
        let jitter = self.jitter();
        let now = self.now_ms;
        let Some(dial) = self.links.dial_mut(number) else {
            return;
        };
        dial.connection = NONE;
        // A quarter less to a quarter more.
        let wait = dial.wait_ms * (768 + jitter % 513) / 1024;
        dial.wait_ms = (2 * dial.wait_ms).clamp(LINK_BACK_OFF_MS, LINK_BACK_OFF_MOST_MS);
        let alarm = Alarm::Dial {
            number,
            serial: dial.serial,
        };
        self.links.alarms.set(now + wait, alarm);
        self.links_changed();
    }

    /// Where its name leads now.
    pub(super) fn found(&mut self, number: u32, serial: u32, addresses: Vec<String>) {
        let Some(dial) = self.links.dial_mut(number).filter(|of| of.serial == serial) else {
            return;
        };
        dial.asked = false;
        if !addresses.is_empty() {
            dial.to.addresses = addresses;
            dial.next = 0;
        }
    }

    fn look_up(&mut self, number: u32) {
        let reactor = self.number;
        let Some(dial) = self.links.dial_mut(number) else {
            return;
        };
        if dial.to.url.is_figures() || std::mem::replace(&mut dial.asked, true) {
            return;
        }
        let question = Question {
            reactor,
            dial: number,
            serial: dial.serial,
            url: dial.to.url.clone(),
        };
        self.shared.resolver.ask(question);
    }

    /// The next of a row of numbers that differs from node to node, and is the same whenever a node does the same.
    fn jitter(&mut self) -> u64 {
        let links = &mut self.links;
        if links.jitter == 0 {
            // FNV-1a over who we are.
            let own = self.shared.identity();
            let name = own.as_ref().map_or("", |of| &of.node).bytes();
            let generation = own.as_ref().map_or(0, |of| of.generation).to_be_bytes();
            let reactor = (self.number as u64).to_be_bytes();
            let all = name.chain(generation).chain(reactor);
            let hashed = all.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            links.jitter = hashed | 1;
        }
        // xorshift64
        links.jitter ^= links.jitter << 13;
        links.jitter ^= links.jitter >> 7;
        links.jitter ^= links.jitter << 17;
        links.jitter
    }
}

/// A link's number: no two that are there at one time have the same.
fn draw() -> u64 {
    let drawn = secret().unwrap_or_default();
    u64::from_be_bytes(*drawn.first_chunk().unwrap_or(&[0; 8]))
}
