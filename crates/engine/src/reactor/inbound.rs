//! From a socket to the batch: read into the arena, decode in place, keep what is half a frame.

use super::forwarding::Forwarded;
use super::photinus::Greeted;
use super::Reactor;
use crate::acquaintance::Named;
use crate::back::{Back, Stream};
use crate::connection::{By, Connection, Stage};
use crate::handle::Handle;
use crate::inbox::{Batch, Event, Item, Run, UNKNOWN_ROUTE};
use crate::limits::{ARENA_BYTES, PACKET_OVERHEAD, READ_BYTES};
use crate::link::Tie;
use photinus_proto::codec::{Decoded, Kind, Packet, Protocol, Route};
use photinus_proto::error::WireError;
use std::io::ErrorKind;

/// A read into less room than this is not worth its system call: a new arena is taken first.
const LEAST_ROOM: usize = READ_BYTES / 4;

/// What packets count against the budgets until they are handled.
#[inline]
pub fn cost(packets: u32, bytes: u32) -> usize {
    bytes as usize + packets as usize * PACKET_OVERHEAD
}

impl<B: Back> Reactor<B> {
    /// Reads a connection once, if its budget allows, and decodes what has come.
    pub(super) fn read(&mut self, at: u32) {
        if !self.may_read(at) {
            return;
        }
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.holds_frames() {
            return self.read_held(at);
        }
        if connection.layers.is_some() {
            return self.read_through(at);
        }
        let carried = connection.partial.len();
        if connection.need > carried + READ_BYTES {
            return self.read_long_frame(at);
        }
        // What is inflated lies behind what was read.
        let least = match connection.peer.compression() {
            None => LEAST_ROOM,
            Some(_) => LEAST_ROOM + READ_BYTES,
        };
        if self.batch.room() < carried + least {
            self.hand_in();
            if self.batch.room() < carried + least {
                *self.batch = Batch::new(self.number, (carried + 2 * READ_BYTES).max(ARENA_BYTES));
            }
        }
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let base = self.batch.used;
        let limit = self.batch.arena.len().min(base + carried + READ_BYTES);
        let (carried_place, place) = self.batch.arena[base..limit].split_at_mut(carried);
        carried_place.copy_from_slice(&connection.partial);
        let offered = place.len();
        self.statistics.counts.reads.add(1);
        match connection.stream.read(place) {
            Ok(0) => self.close(at, By::Client, "left"),
            Ok(count) => {
                self.has_read(at, count, offered);
                self.decode(at, base, base + carried + count);
                self.bound_partial(at);
            }
            Err(error) => self.read_failed(at, &error),
        }
    }

    /// Goes on with whole frames for which there was no room, before anything more is read.
    fn read_held(&mut self, at: u32) {
        self.take_plain(at, b"");
        self.bound_partial(at);
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.leaves && !connection.holds_frames() {
            return self.close(at, By::Client, "left");
        }
        self.queue(at);
    }

    /// After a read that took `count` of the `offered` bytes: a full one may have left something.
    #[inline]
    pub(super) fn has_read(&mut self, at: u32, count: usize, offered: usize) {
        self.statistics.counts.bytes_in.add(count as u64);
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            connection.readable = count == offered || connection.ended;
            connection.heard = self.now_ms;
            if let Some(Tie::Link(slot)) = connection.tie.as_deref() {
                if let Some(linked) = self.links.get_mut(*slot) {
                    linked.link.handle_heard(self.now_ms);
                }
            }
            self.queue(at);
        }
    }

    /// Has it read again in the next turn, if there is something to read.
    #[inline]
    pub(super) fn queue(&mut self, at: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            if connection.readable && !connection.queued {
                connection.queued = true;
                self.again.push(at);
            }
        }
    }

    pub(super) fn read_failed(&mut self, at: u32, error: &std::io::Error) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        match error.kind() {
            ErrorKind::WouldBlock => connection.readable = false,
            ErrorKind::Interrupted => self.read_soon(at),
            _ => self.close(at, By::Network, "reset"),
        }
    }

    /// The middle of a frame far longer than a read: gathered beside the arena until it is whole, so
    /// that its beginning is not copied with each read. Memory grows with what has really come.
    fn read_long_frame(&mut self, at: u32) {
        let mut place = std::mem::take(&mut self.out.scratch);
        place.clear();
        place.resize(READ_BYTES, 0);
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let wanted = (connection.need - connection.partial.len()).min(READ_BYTES);
        self.statistics.counts.reads.add(1);
        let result = connection.stream.read(&mut place[..wanted]);
        match result {
            Ok(0) => self.close(at, By::Client, "left"),
            Ok(count) => {
                connection.partial.extend_from_slice(&place[..count]);
                let handle = connection.session;
                self.has_read(at, count, wanted);
                self.bound_partial(at);
                if !self.allow(handle, 0, count) {
                    self.break_off(at, "flood");
                }
            }
            Err(error) => self.read_failed(at, &error),
        }
        self.out.scratch = place;
    }

    /// Beginnings of frames count against a budget of their own, as large as that of the packets
    /// that are not handled (and never less than two of the longest): whoever adds to them when it
    /// is used up has to go.
    pub(super) fn bound_partial(&mut self, at: u32) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.for_link {
            return; // hellos are short, and of a link's frames there is one
        }
        let held = connection.layers.as_ref().map_or(0, |of| of.held_bytes());
        let (before, now) = (connection.partial_counted, connection.partial.len() + held);
        connection.partial_counted = now;
        self.partial_bytes = self.partial_bytes - before + now;
        let budget = self
            .limits
            .inbound_total_bytes
            .max(2 * self.limits.max_payload);
        if now > before && self.partial_bytes > budget {
            self.break_off(at, "half-frames");
        }
    }

    /// Ends a connection for what its peer sent, and counts why.
    pub(super) fn break_off(&mut self, at: u32, reason: &'static str) {
        self.count_wire_error(reason);
        self.refuse(at, reason);
    }

    /// Is there something to read, and room for it? If there is no room, it will be read later.
    fn may_read(&mut self, at: u32) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return false;
        };
        if !connection.readable || connection.waits_for_link {
            return false;
        }
        if self.unhandled >= self.limits.inbound_total_bytes {
            // Once, however often the poller tells of more.
            if !std::mem::replace(&mut connection.held_back, true) {
                self.statistics.counts.paused_total.add(1);
                self.held_back.push((at, connection.serial));
            }
            return false;
        }
        let Some(session) = self.sessions.live(connection.session) else {
            return true;
        };
        if session.paused || session.bindings.as_ref().is_some_and(|of| of.is_held()) {
            return false;
        }
        if session.unhandled >= self.limits.inbound_session_bytes {
            session.paused = true;
            self.paused_sessions += 1;
            self.statistics.counts.paused_session.add(1);
            return false;
        }
        true
    }

    /// Takes the packets out of `arena[begin..end]`, which holds what this connection has sent.
    pub(super) fn decode(&mut self, at: u32, begin: usize, end: usize) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.stage == Stage::Lingering {
            connection.partial = Vec::new();
            return;
        }
        if connection.for_link {
            return self.decode_link(at, begin, end);
        }
        let Some(Some(serving)) = self.listeners.get(connection.listener as usize) else {
            return;
        };
        let protocol = serving.protocol.clone();
        let mut peer = connection.peer;
        let handle = connection.session;
        let fresh = end - begin - connection.partial.len();
        let (items, mut frames) = (self.batch.items.len(), 0);
        let (mut from, mut used) = (begin, begin);
        let mut run = Run {
            handle,
            packets: 0,
            bytes: 0,
        };
        self.reply.clear();
        // Behind what has been read lies what was made of it.
        let mut tail = end;
        let session = self.sessions.live(handle);
        let owned_elsewhere = session.is_some_and(|of| of.bindings.is_some());
        let (mut counted, mut inflated, mut left, mut again) = (0, 0, false, false);
        let ended = loop {
            let step = protocol.decode(&mut peer, &self.batch.arena[from..end], &mut self.reply);
            frames += u64::from(!matches!(step, Ok(Decoded::Incomplete { .. })));
            match step {
                Ok(Decoded::Packet {
                    consumed,
                    mut packet,
                }) => {
                    if packet.flags.droppable && self.busy.is_one() {
                        self.statistics.counts.dropped_overload.add(1);
                        from += consumed;
                        continue;
                    }
                    if packet.flags.compressed {
                        let so_far = (from - begin + tail - end) as u32;
                        if !self.may_inflate(handle, cost(run.packets, so_far)) {
                            frames -= 1; // it comes again
                            again = true;
                            break Ok(0);
                        }
                        let body = from + packet.body.start..from + packet.body.end;
                        let there = match self.inflate(&protocol, &peer, body, &mut tail) {
                            Ok(there) => there,
                            Err(error) => break Err(error),
                        };
                        inflated += there.len();
                        packet.body = there.start - from..there.end - from;
                    }
                    let attached = match owned_elsewhere {
                        false => None,
                        true => match self.forward(at, handle, from, &packet) {
                            Forwarded::Here(attached) => attached,
                            Forwarded::Gone => {
                                counted += u32::from(!packet.flags.droppable);
                                from += consumed;
                                continue;
                            }
                            Forwarded::Held => {
                                // It comes again when whatever holds it says so, and not before.
                                frames -= 1;
                                if packet.flags.compressed {
                                    inflated -= packet.body.len();
                                }
                                break Ok(0);
                            }
                        },
                    };
                    counted += u32::from(!packet.flags.droppable);
                    let item = match attached {
                        None => self.item(at, handle, from, packet, &mut tail),
                        Some(attached) => Some(attached.item(handle, from, &packet)),
                    };
                    from += consumed;
                    if let Some(item) = item {
                        if self.offer_to_app(&item) {
                            self.tell_for_apps_behind(&mut tail);
                        } else {
                            run.packets += 1;
                            used = from;
                            self.batch.items.push(item);
                        }
                    }
                }
                Ok(Decoded::Control { consumed }) => from += consumed,
                Ok(Decoded::Opened { consumed }) => {
                    from += consumed;
                    // The event's text goes behind what has been read.
                    self.batch.used = end;
                    let rest = self.batch.arena[from..end].to_vec();
                    if !self.open_session(at) {
                        return;
                    }
                    if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
                        connection.peer = peer;
                    }
                    return self.decode_rest(at, rest);
                }
                Ok(Decoded::Named { consumed, name }) => {
                    let place = from + name.start..from + name.end;
                    let served = owned_elsewhere
                        && self.is_served_elsewhere(handle, &self.batch.arena[place]);
                    let name = &self.batch.arena[from + name.start..from + name.end];
                    let named = match self.connections[at as usize].as_mut() {
                        Some(Connection {
                            acquaintance: Some(of),
                            ..
                        }) => of.name(name, &self.routes, served),
                        _ => true,
                    };
                    from += consumed;
                    if !named {
                        break Err(WireError::BadFrame);
                    }
                }
                Ok(Decoded::Heartbeat {
                    consumed,
                    heartbeat,
                }) => {
                    from += consumed;
                    if let Err(error) = self.hear(at, &heartbeat) {
                        break Err(error);
                    }
                }
                Ok(Decoded::Hello { consumed, hello }) => {
                    from += consumed;
                    // The event's text goes behind what has been read.
                    self.batch.used = end;
                    let rest = self.batch.arena[from..end].to_vec();
                    if let Protocol::Photinus(options) = &*protocol {
                        let greeted = Greeted { at, peer, options };
                        self.greet(greeted, hello, rest);
                    }
                    return;
                }
                Ok(Decoded::Leave { consumed }) => {
                    from += consumed;
                    left = true;
                    break Ok(0);
                }
                Ok(Decoded::Incomplete { need }) => break Ok(need),
                Err(error) => break Err(error),
            }
        };
        if !self.allow(handle, frames, fresh + inflated) {
            self.batch.items.truncate(items); // nobody was told of them
            return self.break_off(at, "flood");
        }
        let extra = tail - end;
        self.batch.used = if extra > 0 { tail } else { used };
        if run.packets > 0 {
            run.bytes = (used - begin + extra) as u32;
            let cost = cost(run.packets, run.bytes);
            self.unhandled += cost;
            if let Some(session) = self.sessions.live(handle) {
                session.unhandled += cost;
            }
            self.batch.runs.push(run);
        }
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        connection.peer = peer;
        if left {
            // Before anything is written to it: whoever has left may be gone, and then that would be a cut.
            self.make_final(handle);
            return self.close(at, By::Client, "left");
        }
        if connection.acquaintance.is_some() {
            self.count_frames(at, counted, (from - begin) as u32);
        }
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        match ended {
            Ok(need) => {
                connection.need = need;
                let left = &self.batch.arena[from..end];
                if left.len() != connection.partial.len() || !left.is_empty() {
                    if left.is_empty() {
                        connection.partial = Vec::new();
                    } else {
                        connection.partial.clear();
                        connection.partial.extend_from_slice(left);
                    }
                }
                if again && !self.is_held(handle) {
                    self.read_held_again(at);
                }
                self.watch_frame(at, from > begin);
                self.write_reply(at);
            }
            Err(error) => {
                // The protocol's own word for it, where the handshake has one.
                self.write_reply(at);
                self.break_off(at, error.reason());
            }
        }
    }

    /// Takes so much from what its session may send. `false`: that is more than there is.
    #[inline]
    fn allow(&mut self, handle: Handle, frames: u64, bytes: usize) -> bool {
        let Some(session) = self.sessions.live(handle) else {
            return true; // a handshake, which is bounded itself
        };
        let spent = &mut session.spent;
        self.rates.allow(spent, frames, bytes as u64, self.told)
    }

    fn write_reply(&mut self, at: u32) {
        if !self.reply.is_empty() {
            let reply = std::mem::take(&mut self.reply);
            self.write_now(at, &reply);
            self.reply = reply;
        }
    }

    /// What came in the same read behind the end of a handshake.
    pub(super) fn decode_rest(&mut self, at: u32, rest: Vec<u8>) {
        self.write_reply(at);
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        connection.partial = Vec::new();
        connection.need = 0;
        connection.frame_since = 0;
        // The protocol's first heartbeat is the server's.
        if let Some(Some(serving)) = self.listeners.get(connection.listener as usize) {
            if serving.heartbeats.is_some() {
                let protocol = serving.protocol.clone();
                self.send_heartbeat(at, &protocol);
            }
        }
        if rest.is_empty() {
            return;
        }
        if self.batch.room() < rest.len() {
            self.hand_in();
        }
        let base = self.batch.used;
        self.batch.arena[base..base + rest.len()].copy_from_slice(&rest);
        self.decode(at, base, base + rest.len());
    }

    /// Starts or stops the clock of a frame that has been begun.
    pub(super) fn watch_frame(&mut self, at: u32, whole_frames_came: bool) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        if connection.for_link {
            return; // what is silent too long is cut
        }
        let amid = connection.layers.as_ref().is_some_and(|of| of.are_amid());
        if connection.partial.is_empty() && !amid {
            connection.frame_since = 0;
            return;
        }
        if connection.frame_since == 0 || whole_frames_came {
            connection.frame_since = self.now_ms.max(1);
        }
        if !connection.frame_clock {
            connection.frame_clock = true;
            self.frames.set(self.now_ms, at, connection.serial);
        }
    }

    #[inline]
    fn item(
        &mut self,
        at: u32,
        handle: Handle,
        from: usize,
        packet: Packet,
        tail: &mut usize,
    ) -> Option<Item> {
        let Packet {
            kind,
            id,
            route,
            body,
            ..
        } = packet;
        let mut place = from + body.start..from + body.end;
        let (route, number) = match route {
            Route::None => (self.routes.default_route(), 0),
            Route::Number(number) => {
                let known = self.routes.by_number(number);
                (known.unwrap_or(self.routes.default_route()), number)
            }
            Route::Name(name) => {
                let bytes = &self.batch.arena[from + name.start..from + name.end];
                match self.routes.by_name(bytes) {
                    Some(known) => (known, 0),
                    None if kind == Kind::Request => {
                        place = from + name.start..from + name.end;
                        (UNKNOWN_ROUTE, 0)
                    }
                    None => {
                        self.statistics.counts.unknown_routes.add(1);
                        return None;
                    }
                }
            }
            Route::Named(number) => {
                let connection = self.connections[at as usize].as_ref()?;
                match connection.acquaintance.as_ref()?.route(number)? {
                    Named::Known(index) => (*index, 0),
                    // The application may have been reloaded since it was named.
                    Named::Unknown(name) => match self.routes.by_name(name.as_bytes()) {
                        Some(index) => (index, 0),
                        None if kind == Kind::Request => {
                            place = self.batch.append_at(tail, name.as_bytes());
                            (UNKNOWN_ROUTE, 0)
                        }
                        None => {
                            self.statistics.counts.unknown_routes.add(1);
                            return None;
                        }
                    },
                }
            }
        };
        let start = place.start as u32;
        let len = place.len() as u32;
        Some(Item {
            handle,
            event: Event::Packet(kind),
            id,
            route,
            number,
            start,
            len,
        })
    }
}
