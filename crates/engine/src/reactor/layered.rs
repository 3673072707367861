//! Connections with layers between socket and protocol: what comes goes through them on its way to the
//! batch, what goes out on its way to the socket.
//!
//! Arithmetic of TLS handshakes is done last in a turn and within a budget, so that a storm of them
//! delays nobody who is in by more than that.

use super::dialling::DIALLED;
use super::Reactor;
use crate::back::{Back, Stream};
use crate::connection::{By, Stage};
use crate::inbox::Batch;
use crate::layers::{Door, Layers, Passed};
use crate::limits::{ARENA_BYTES, HANDSHAKE_NS_A_TURN, READ_BYTES};
use std::sync::Arc;

impl<B: Back> Reactor<B> {
    /// Reads a connection that has layers, or has it wait if that may cost a handshake.
    pub(super) fn read_through(&mut self, at: u32) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let costly = connection.layers.as_ref().is_some_and(|of| of.is_costly());
        if !costly {
            return self.read_layers(at);
        }
        if !connection.queued {
            connection.queued = true;
            self.costly.push_back((at, connection.serial));
        }
    }

    /// Goes on with handshakes, the oldest first, for a part of this turn.
    pub(super) fn shake_hands(&mut self) {
        if self.costly.is_empty() {
            return;
        }
        let until = self.back.now() + HANDSHAKE_NS_A_TURN;
        while let Some((at, serial)) = self.costly.pop_front() {
            if let Some(connection) = self.same(at, serial) {
                connection.queued = false;
                self.read_layers(at);
                if self.back.now() >= until {
                    return;
                }
            }
        }
    }

    fn read_layers(&mut self, at: u32) {
        let mut raw = std::mem::take(&mut self.raw);
        raw.resize(READ_BYTES, 0);
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        self.statistics.counts.reads.add(1);
        match connection.stream.read(&mut raw) {
            Ok(0) => self.close(at, By::Client, "left"),
            Ok(count) => {
                self.has_read(at, count, READ_BYTES);
                self.pass(at, &mut raw[..count]);
            }
            Err(error) => self.read_failed(at, &error),
        }
        self.raw = raw;
    }

    /// Through the layers, again and again while there is more to come out of them.
    pub(super) fn pass(&mut self, at: u32, input: &mut [u8]) {
        let mut input = input;
        loop {
            let Some(door) = self.door(at) else {
                return;
            };
            let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
                return;
            };
            let Some(layers) = &mut connection.layers else {
                return;
            };
            if connection.stage == Stage::Lingering {
                return; // thrown away
            }
            let (mut plain, mut wire) = (std::mem::take(&mut self.plain), Vec::new());
            plain.clear();
            let costly = layers.is_costly();
            let passed = layers.read(&door, &mut self.tools, input, &mut plain, &mut wire);
            let handshake_done = costly && !layers.is_costly();
            if handshake_done {
                self.statistics.counts.tls_handshakes.add(1);
            }
            if !wire.is_empty() {
                self.write_raw(at, &wire);
            }
            let more = self.passed(at, &plain, passed);
            self.plain = plain;
            if !more {
                return;
            }
            input = &mut [];
        }
    }

    /// What has come out of the layers goes where it would have been read to. `true`: there is more.
    fn passed(&mut self, at: u32, plain: &[u8], passed: Result<Passed, &'static str>) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return false;
        };
        let open = connection.layers.as_ref().is_some_and(|of| of.are_open());
        let begins = connection.stage == Stage::Handshake;
        if let Ok(Passed {
            source: Some(source),
            ..
        }) = passed
        {
            self.addresses.insert(at, source.to_string().into());
            if let Err(refusal) = connection.guest.comes_from(Some(source.ip()), self.told) {
                self.count_refusal(refusal);
                self.close(at, By::Server, "full");
                return false;
            }
        }
        if open && begins {
            if self.is_for_link(at) {
                self.say_hello(at);
            } else if !self.has_handshake(at) && !self.open_at_once(at) {
                return false;
            }
        }
        if !plain.is_empty() {
            self.take_plain(at, plain);
        } else {
            self.watch_frame(at, false);
        }
        self.bound_partial(at);
        match passed {
            Err(reason) => {
                self.break_off(at, reason);
                false
            }
            Ok(Passed { ended: true, .. }) => {
                match self.connections.get_mut(at as usize) {
                    Some(Some(connection)) if connection.holds_frames() => connection.leaves = true,
                    _ => self.close(at, By::Client, "left"),
                }
                false
            }
            Ok(Passed { more, .. }) => more,
        }
    }

    /// The protocol's bytes, behind what there is of a frame.
    pub(super) fn take_plain(&mut self, at: u32, plain: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let carried = connection.partial.len();
        if connection.need > carried + plain.len() {
            // Not copied with each piece.
            return connection.partial.extend_from_slice(plain);
        }
        let length = carried + plain.len();
        if self.batch.room() < length {
            self.hand_in();
            if self.batch.room() < length {
                *self.batch = Batch::new(self.number, length.max(ARENA_BYTES));
            }
        }
        let base = self.batch.used;
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        self.batch.arena[base..base + carried].copy_from_slice(&connection.partial);
        self.batch.arena[base + carried..base + length].copy_from_slice(plain);
        self.decode(at, base, base + length);
    }

    /// Writes what the protocol says, through the layers.
    pub(super) fn write_through(&mut self, at: u32, bytes: &[u8]) {
        let mut wire = std::mem::take(&mut self.wire);
        wire.clear();
        self.seal(at, bytes, &mut wire);
        if !wire.is_empty() {
            self.write_raw(at, &wire);
        }
        self.wire = wire;
    }

    /// Writes what several of a listener's connections are sent alike: the messages of a WebSocket are made
    /// once.
    pub(super) fn write_shared(&mut self, at: u32, bytes: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let Some(layers) = connection.layers.as_mut().filter(|of| of.are_open()) else {
            return self.write_now(at, bytes);
        };
        let Some(form) = layers.form() else {
            return self.write_now(at, bytes);
        };
        let listener = connection.listener as usize;
        if self.out.framed_as != Some(form) {
            let Some(Some(serving)) = self.listeners.get(listener) else {
                return;
            };
            self.out.framed.clear();
            let framed = &mut self.out.framed;
            Layers::frame(&serving.door, form, &mut self.tools, bytes, framed);
            self.out.framed_as = Some(form);
        }
        let mut wire = std::mem::take(&mut self.wire);
        wire.clear();
        layers.encrypt(&self.out.framed, &mut wire);
        self.write_raw(at, &wire);
        self.wire = wire;
    }

    /// Appends what the socket is to be given for what the protocol says.
    pub(super) fn seal(&mut self, at: u32, bytes: &[u8], wire: &mut Vec<u8>) {
        let Some(door) = self.door(at) else {
            return;
        };
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            match &mut connection.layers {
                // Before they are open nobody there would understand.
                Some(layers) if layers.are_open() => {
                    layers.write(&door, &mut self.tools, bytes, wire);
                }
                Some(_) => {}
                None => wire.extend_from_slice(bytes),
            }
        }
    }

    /// The last that the layers say.
    pub(super) fn close_layers(&mut self, at: u32, reason: &str) {
        let going_away = self.draining.is_some();
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if let Some(layers) = &mut connection.layers {
            let mut wire = Vec::new();
            layers.close(going_away, reason, &mut wire);
            if !wire.is_empty() {
                self.write_raw(at, &wire);
            }
        }
    }

    fn door(&self, at: u32) -> Option<Arc<Door>> {
        let connection = self.connections.get(at as usize)?.as_ref()?;
        if connection.listener == DIALLED {
            return Some(self.links.door.clone());
        }
        let serving = self.listeners.get(connection.listener as usize)?.as_ref()?;
        Some(serving.door.clone())
    }

    fn is_for_link(&self, at: u32) -> bool {
        let connection = self.connections.get(at as usize).and_then(Option::as_ref);
        connection.is_some_and(|of| of.for_link)
    }

    fn has_handshake(&self, at: u32) -> bool {
        let connection = self.connections.get(at as usize).and_then(Option::as_ref);
        let serving = connection.and_then(|of| self.listeners.get(of.listener as usize));
        serving.is_some_and(|of| of.as_ref().is_some_and(|of| of.protocol.has_handshake()))
    }
}
