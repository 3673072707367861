//! How connections and sessions begin: listeners, the sharing out of connections, opening.

use super::deadlines::Deadlines;
use super::{Reactor, Serving};
use crate::back::{Address, Back, Stream};
use crate::connection::{By, Connection, Stage};
use crate::gate::{Guest, Refusal};
use crate::handle::Handle;
use crate::layers::{Door, Layers};
use crate::limits::{ACCEPTS_A_TURN, RETRY_AFTER_MS};
use crate::link::Tie;
use crate::outbox::Handover;
use crate::resumable::secret;
use photinus_proto::codec::{photinus, Protocol};
use photinus_proto::link::hello::Accepting;
use std::io;

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
        let window_ms = listener.protocol.resume().map(u64::from);
        self.listeners[number] = Some(Serving {
            format: crate::shared::format_of(&listener.protocol),
            protocol: listener.protocol,
            door: listener.door,
            reactors: listener.reactors,
            heartbeats: heartbeat_ms.map(Deadlines::new),
            heartbeat_ms: heartbeat_ms.unwrap_or(0),
            windows: window_ms.map(Deadlines::new),
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

    /// Gives a new connection to the reactor that has the fewest, unless it is refused.
    pub(super) fn place(&mut self, stream: B::Stream, address: Address, listener: usize) {
        self.statistics.counts.accepted.add(1);
        if self.draining.is_some() {
            self.statistics.counts.refused_full.add(1);
            return; // dropping the stream closes it
        }
        let Some(Some(serving)) = self.listeners.get(listener) else {
            return;
        };
        let gate = &self.shared.gate;
        // A balancer speaks for many; who each is stands in its header.
        let trusted = &serving.door.trusted;
        let ip = address.ip().filter(|of| !trusted.has(*of));
        let least = gate
            .least_loaded(serving.reactors.clone())
            .unwrap_or(self.number);
        let handshaking = serving.protocol.has_handshake() || !serving.door.is_plain();
        let guest = match gate.enter(least, ip, handshaking, self.told) {
            Ok(guest) => guest,
            Err(refusal) => {
                self.count_refusal(refusal);
                // A flood costs no more than this: no session is looked at, and no port is left waiting.
                return stream.reset();
            }
        };
        let address = address.to_string();
        if least == self.number {
            return self.adopt(stream, address, listener, guest);
        }
        match self.back.part_with(stream) {
            Ok(stream) => {
                self.statistics.counts.wakes.add(1);
                self.mailboxes[least].post(
                    Handover::Adopt {
                        stream,
                        address,
                        listener,
                        guest,
                    },
                    1,
                );
            }
            Err(stream) => self.adopt(stream, address, listener, guest),
        }
    }

    pub(super) fn adopt(
        &mut self,
        mut stream: B::Stream,
        address: String,
        listener: usize,
        guest: Guest,
    ) {
        let Some(Some(serving)) = self.listeners.get(listener) else {
            return;
        };
        if self.draining.is_some() {
            // Another reactor accepted it before it heard of the end.
            self.statistics.counts.refused_full.add(1);
            return;
        }
        let protocol = serving.protocol.clone();
        let door = serving.door.clone();
        let is_link = matches!(*protocol, Protocol::Link);
        let layers = match self.layers(&door, is_link, &address) {
            Ok(layers) => layers,
            Err(reason) => {
                self.count_wire_error(reason);
                return;
            }
        };
        let tie = match is_link {
            false => None,
            true => match self.shared.identity().zip(secret()) {
                Some((identity, nonce)) => {
                    stream.keep_little();
                    let accepting = Accepting::new(identity, nonce);
                    Some(Box::new(Tie::Accepting(Box::new(accepting))))
                }
                None => return self.count_wire_error("no-randomness"),
            },
        };
        let at = self.place_for_connection();
        if self.back.watch(&mut stream, at).is_err() {
            self.statistics.counts.accept_failures.add(1);
            self.vacant.push(at);
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        let stage = if protocol.has_handshake() || layers.is_some() {
            Stage::Handshake
        } else {
            Stage::Open
        };
        let mut connection = Connection::new(
            stream,
            guest,
            self.serial,
            listener as u16,
            stage,
            protocol.peer(),
            self.now_ms,
        );
        connection.layers = layers;
        connection.tie = tie;
        connection.for_link = is_link;
        self.links.open += usize::from(is_link);
        connection.readable = true; // it may have spoken before it was watched
        connection.queued = true;
        if stage == Stage::Handshake {
            self.handshakes.set(self.now_ms, at, self.serial);
        }
        self.connections[at as usize] = Some(connection);
        self.addresses.insert(at, address.into_boxed_str());
        self.again.push(at);
        if stage == Stage::Open {
            self.open_at_once(at);
        } else if self.must_wait() && !matches!(*protocol, Protocol::Photinus(_) | Protocol::Link) {
            self.turn_away(at, self.why_not()); // photinus hears of it as an answer to its hello
        }
    }

    /// A free place in the table of connections.
    pub(super) fn place_for_connection(&mut self) -> u32 {
        self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        })
    }

    pub(super) fn count_refusal(&self, refusal: Refusal) {
        let counts = &self.statistics.counts;
        match refusal {
            Refusal::Connections => counts.refused_connections.add(1),
            Refusal::Address => counts.refused_address.add(1),
            Refusal::Rate => counts.refused_rate.add(1),
            Refusal::Handshakes => counts.refused_handshakes.add(1),
        }
    }

    /// What lies between this connection and its protocol.
    fn layers(
        &self,
        door: &Door,
        is_link: bool,
        address: &str,
    ) -> Result<Option<Box<Layers>>, &'static str> {
        if door.is_plain() {
            return Ok(None);
        }
        let prepared = self.shared.certificates();
        let prepared = prepared.as_ref();
        let certificates = match is_link {
            false => prepared.map(|of| &of.clients),
            true => prepared.and_then(|of| of.links.as_ref().map(|of| &of.accepting)),
        };
        door.layers(address.parse().ok(), certificates)
    }

    /// No session is begun for this connection now. It is told so where its protocol can.
    pub(super) fn turn_away(&mut self, at: u32, reason: &'static str) {
        let counts = &self.statistics.counts;
        match reason {
            "overloaded" => counts.refused_overloaded.add(1),
            _ => counts.refused_full.add(1),
        }
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let Some(Some(serving)) = self.listeners.get(connection.listener as usize) else {
            return;
        };
        let mut refusal = Vec::new();
        match &*serving.protocol {
            Protocol::Photinus(_) => photinus::refuse(reason, Some(RETRY_AFTER_MS), &mut refusal),
            other => refusal.extend(other.refusal(connection.peer)),
        }
        if !refusal.is_empty() {
            self.write_now(at, &refusal);
        } else if serving.protocol.has_errors() {
            connection.stage = Stage::Open; // past its handshake, the word for it is a kick
        } else {
            return self.close(at, By::Server, reason);
        }
        self.finish(Handle::NONE, at, By::Server, reason);
    }

    /// The session of a protocol without a handshake begins, unless somebody has to wait. `false`: it ends.
    pub(super) fn open_at_once(&mut self, at: u32) -> bool {
        if self.must_wait() {
            self.turn_away(at, self.why_not());
            return false;
        }
        self.open_session(at)
    }

    /// The session begins, and Python is told. `false`: there is no room, and the connection ends.
    pub(super) fn open_session(&mut self, at: u32) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return false;
        };
        let listener = connection.listener;
        if !self.shared.gate.session_begins() {
            self.turn_away(at, "full");
            return false;
        }
        let Some(handle) = self.sessions.open(at, listener, self.now_ms) else {
            self.shared.gate.session_ended();
            self.turn_away(at, "full");
            return false;
        };
        let Some(home) = self.home_for(handle) else {
            self.sessions.end(handle);
            self.shared.gate.session_ended();
            self.sessions.free(handle, self.now_ms);
            self.turn_away(at, "overloaded");
            return false;
        };
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return false;
        };
        connection.guest.ends_handshake();
        connection.session = handle;
        connection.stage = Stage::Open;
        let serial = connection.serial;
        let address = self.addresses.remove(&at).unwrap_or_default();
        self.statistics.counts.sessions_opened.add(1);
        self.open_at_home(handle, listener, home, &address);
        self.beat_at(usize::from(listener), at, serial);
        true
    }

    /// From now on it is sent heartbeats, if its listener has any.
    pub(super) fn beat_at(&mut self, listener: usize, at: u32, serial: u32) {
        if let Some(Some(Serving {
            heartbeats: Some(heartbeats),
            ..
        })) = self.listeners.get_mut(listener)
        {
            heartbeats.set(self.now_ms, at, serial);
        }
    }
}
