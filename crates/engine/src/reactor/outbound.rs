//! From the mailbox to the sockets: all that goes to one connection in one turn is one write.
//!
//! First pass: carry out the commands in order and hang each message into its session's chain (a
//! group's message into the chain of every member). Second pass: each session with a chain has it
//! encoded into one scratch buffer and written. Members of a group whose chains are equal share one
//! encoding. Only what a socket does not take is copied: encoded bytes to its connection, later
//! messages to its session.

use super::compressing::Packing;
use super::writing::encode;
use super::Reactor;
use crate::back::Back;
use crate::connection::Connection;
use crate::handle::Handle;
use crate::limits::{SPARE_BATCHES, WRITE_BYTES};
use crate::names::Names;
use crate::outbox::{Action, FormatSet, Handover, OutBatch, OutItem, OutRoute, What};
use crate::session::{Waits, NONE};
use photinus_proto::bluenet::header::{Flags, Header};
use photinus_proto::codec::Protocol;
use photinus_proto::compress::Agreement;
use photinus_proto::websocket::Form;

#[derive(Default)]
pub struct Outbound {
    pub(super) batches: Vec<OutBatch>,
    nodes: Vec<Node>,
    /// Sessions with a chain, by slot.
    dirty: Vec<u32>,
    /// Of a broadcast that is alone in its turn.
    receivers: Vec<Handle>,
    pub scratch: Vec<u8>,
    pub(super) chain: Vec<(u32, u32)>,
    /// The chain that `scratch` holds whole, and for which listener and agreement, if all of it was to groups.
    shared_chain: Vec<(u32, u32)>,
    shared_listener: u16,
    shared_agreement: Option<Agreement>,
    /// The highest index of a push's name in it, and 1; 0: there is none.
    shared_names: u32,
    shared_messages: u64,
    /// The same as messages of a WebSocket, and of what form.
    pub framed: Vec<u8>,
    pub framed_as: Option<Form>,
    pub(super) names: Names,
    spare: Vec<OutBatch>,
    /// Bytes that wait for all connections and sessions of this reactor.
    pub total: usize,
}

/// One message in a session's chain: which item of which batch.
struct Node {
    batch: u32,
    item: u32,
    next: u32,
}

impl Outbound {
    /// After a burst.
    pub fn shrink(&mut self) {
        self.scratch = Vec::new();
        self.nodes = Vec::new();
        self.framed = Vec::new();
        self.framed_as = None;
        self.dirty = Vec::new();
        self.receivers = Vec::new();
        self.spare.clear();
    }

    /// The message to a group that is the only message of this turn, and its last item (commands
    /// behind it might change the group).
    fn lone_broadcast(&self) -> Option<(u32, u32)> {
        let batch = self.batches.len().checked_sub(1)?;
        let item = self.batches[batch].items.len().checked_sub(1)?;
        let messages = self.batches.iter().flat_map(|of| &of.items);
        let mut messages = messages.filter(|item| waits(item).is_some());
        let is_group = matches!(messages.next()?.action, Action::GroupSend { .. });
        let last = waits(&self.batches[batch].items[item]).is_some();
        let alone = is_group && last && messages.next().is_none();
        alone.then_some((batch as u32, item as u32))
    }

    /// The messages of the chain, with their places in it.
    pub(super) fn each_of_chain(&self) -> impl Iterator<Item = (usize, Waits, &[u8])> {
        let chain = self.chain.iter().enumerate();
        chain.filter_map(|(at, &(batch, item))| {
            let content = &self.batches[batch as usize];
            let entry = &content.items[item as usize];
            Some((at, waits(entry)?, content.payload(entry)))
        })
    }

    pub(super) fn spare(&mut self) -> OutBatch {
        self.spare.pop().unwrap_or_default()
    }

    fn keep(&mut self, mut batch: OutBatch) {
        let usual = batch.arena.capacity() <= 1 << 20 && batch.items.capacity() <= 16 << 10;
        if usual && self.spare.len() < SPARE_BATCHES {
            batch.clear();
            self.spare.push(batch);
        }
    }
}

impl<B: Back> Reactor<B> {
    /// Carries out what the mailbox holds.
    pub(super) fn deliver(&mut self) {
        self.take_relayed();
        let mut mail = std::mem::take(&mut self.mail);
        self.mailboxes[self.number].queue.take(&mut mail);
        for handover in mail.drain(..) {
            match handover {
                Handover::Out(mut batch) => {
                    if self.out.names.are_shared() {
                        self.out.names.translate(&mut batch);
                    }
                    self.out.batches.push(batch);
                }
                Handover::Returned(batch) => self.take_back(batch),
                Handover::Adopt {
                    stream,
                    address,
                    listener,
                    guest,
                } => {
                    if let Some(stream) = self.back.adopt(stream) {
                        self.adopt(stream, address, listener, guest);
                    }
                }
                Handover::Move(moving) => self.take_in(*moving),
                Handover::Listen { listener, socket } => self.serve(listener, socket),
                Handover::Dial(to) => self.dial(*to),
                Handover::Found {
                    dial,
                    serial,
                    addresses,
                } => self.found(dial, serial, addresses),
                Handover::HangUp { node } => {
                    self.carry_out(); // what was said to it before
                    self.hang_up(&node);
                }
                Handover::Drain { reason } => {
                    self.carry_out(); // what was sent before it comes before the end
                    self.drain_all(&reason);
                }
                Handover::Shutdown => {
                    self.carry_out();
                    self.shut_down();
                }
            }
        }
        self.mail = mail;
        self.carry_out();
    }

    /// Carries out the batches that have been taken from the mailbox.
    fn carry_out(&mut self) {
        if self.out.batches.is_empty() {
            return;
        }
        let alone = self.out.lone_broadcast();
        self.link(alone);
        match alone {
            Some(at) => self.write_broadcast(at),
            None => self.write_dirty(),
        }
        self.compression.forget_groups();
        let written = self.back.now();
        for batch in std::mem::take(&mut self.out.batches) {
            let waited = written.saturating_sub(batch.pushed);
            self.statistics
                .outbox_to_write
                .record(waited, batch.items.len() as u64);
            if batch.arena.capacity() > 1 << 20 {
                self.trim_due = true;
            }
            self.out.keep(batch);
        }
        self.shared.give_spares(self.number, &mut self.out.spare);
    }

    fn link(&mut self, alone: Option<(u32, u32)>) {
        let batches = std::mem::take(&mut self.out.batches);
        self.out.nodes.clear();
        self.out.dirty.clear();
        for (batch, content) in batches.iter().enumerate() {
            for (item, entry) in content.items.iter().enumerate() {
                let at = (batch as u32, item as u32);
                match entry.action {
                    Action::Send { to, .. } | Action::Kick { to } | Action::Redirect { to } => {
                        if !self.send_to_remote(to, entry, content.payload(entry)) {
                            self.hang(to, at);
                        }
                    }
                    Action::GroupSend { .. } if alone == Some(at) => {
                        self.send_to_neighbours(entry, content.payload(entry));
                    }
                    Action::GroupSend {
                        group, but, format, ..
                    } => {
                        self.send_to_neighbours(entry, content.payload(entry));
                        for place in 0..self.groups.members(group).len() {
                            let member = self.groups.members(group)[place];
                            if member != but && self.reads(member, format) {
                                self.hang(member, at);
                            }
                        }
                    }
                    Action::SendList {
                        sessions, format, ..
                    } => self.send_to_list(at, entry, content, (sessions, format)),
                    Action::GroupAdd { group, member } => self.add_to_group(group, member),
                    Action::GroupRemove { group, member } => self.remove_from_group(group, member),
                    Action::GroupDissolve { group } => {
                        self.groups.dissolve(group, &mut self.sessions);
                    }
                    Action::GroupsLeave { link, member } => {
                        self.groups.leave_those_of(link, member, &mut self.sessions);
                    }
                    Action::NameRoute { index, number } => {
                        let name = String::from_utf8_lossy(content.payload(entry));
                        self.out.names.set_python(index, &name, number);
                    }
                    Action::Frame { link, .. } => {
                        let payload = content.payload(entry);
                        match (self.links.find(link), frame_header(entry)) {
                            (Some(slot), Some(header)) => {
                                self.push_frame(slot, header, &[payload]);
                            }
                            _ => self.statistics.counts.link_gone.add(1),
                        }
                    }
                    Action::Release { to, packets, bytes } => self.release(to, packets, bytes),
                    Action::Free { to } => self.sessions.free(to, self.now_ms),
                    Action::SendTo {
                        link,
                        session,
                        route,
                        marks,
                    } => {
                        let waits = Waits::Send(What::Push(route), marks);
                        self.send_to(link, session, waits, content.payload(entry));
                    }
                    Action::Own { to, what } => self.own(to, what, content.payload(entry)),
                }
            }
        }
        self.out.batches = batches;
    }

    /// Whether a member's messages are written in this format.
    #[inline]
    pub(super) fn reads(&mut self, member: Handle, format: FormatSet) -> bool {
        let listener = self.sessions.at(member.local()).listener;
        let serving = self.listeners[listener as usize].as_ref();
        serving.is_some_and(|of| format.has(of.format))
    }

    /// One message to a group and nothing else: each member is looked up once, linked and written.
    fn write_broadcast(&mut self, at: (u32, u32)) {
        let entry = self.out.batches[at.0 as usize].items[at.1 as usize];
        let Action::GroupSend {
            group, but, format, ..
        } = entry.action
        else {
            return;
        };
        let mut receivers = std::mem::take(&mut self.out.receivers);
        // Copied, since a write that fails ends a session, which leaves its groups.
        receivers.extend_from_slice(self.groups.members(group));
        self.out.shared_chain.clear();
        for &member in &receivers {
            if member != but && self.reads(member, format) {
                self.out.nodes.clear();
                self.hang(member, at);
                self.write_chain(member.local());
            }
        }
        self.out.shared_chain.clear();
        self.out.dirty.clear();
        receivers.clear();
        self.out.receivers = receivers;
    }

    #[inline]
    pub(super) fn hang(&mut self, to: Handle, (batch, item): (u32, u32)) {
        let Some(session) = self.sessions.live(to) else {
            self.statistics.counts.dropped_gone.add(1);
            return;
        };
        let node = self.out.nodes.len() as u32;
        self.out.nodes.push(Node {
            batch,
            item,
            next: NONE,
        });
        if session.chain.0 == NONE {
            session.chain = (node, node);
            self.out.dirty.push(to.local());
        } else {
            let last = std::mem::replace(&mut session.chain.1, node);
            self.out.nodes[last as usize].next = node;
        }
    }

    fn write_dirty(&mut self) {
        let dirty = std::mem::take(&mut self.out.dirty);
        self.out.shared_chain.clear();
        for &local in &dirty {
            self.write_chain(local);
        }
        self.out.dirty = dirty;
        self.out.shared_chain.clear();
    }

    /// Encodes and writes what this turn has for one session.
    fn write_chain(&mut self, local: u32) {
        let session = self.sessions.at(local);
        let (handle, listener, connection) = (session.handle, session.listener, session.connection);
        let (mut node, _) = std::mem::replace(&mut session.chain, (NONE, NONE));
        let backlog = session.waiting.is_some();
        let session_keeps = session.resumable.is_some();
        self.out.chain.clear();
        while let Some(&Node { batch, item, next }) = self.out.nodes.get(node as usize) {
            self.out.chain.push((batch, item));
            node = next;
        }
        // Ended between the passes, by another session's write.
        if self.sessions.live(handle).is_none() {
            self.statistics
                .counts
                .dropped_gone
                .add(self.out.chain.len() as u64);
            return;
        }
        if session_keeps && self.keep_chain(handle) {
            return;
        }
        let free = !backlog
            && self.connections.get(connection as usize).is_some_and(|of| {
                of.as_ref()
                    .is_some_and(|of| !of.blocked && of.unsent.is_empty())
            });
        if !free {
            return self.make_wait(handle, 0);
        }
        let layers = |of: &Connection<_>| of.layers.is_some();
        if self.connections[connection as usize]
            .as_ref()
            .is_some_and(layers)
        {
            let mut chain = self.out.each_of_chain();
            self.tools.secret = chain.any(|(_, waits, _)| waits.is_secret());
        }
        let agreement = self.agreement(connection);
        let alike = self.out.shared_listener == listener && self.out.shared_agreement == agreement;
        if alike && self.out.chain == self.out.shared_chain {
            let scratch = std::mem::take(&mut self.out.scratch);
            let counts = &self.statistics.counts;
            let unsendable = self.out.chain.len() as u64 - self.out.shared_messages;
            counts.packets_out.add(self.out.shared_messages);
            counts.dropped_unsendable.add(unsendable);
            self.name_chain(connection, self.out.shared_names);
            self.write_shared(connection, &scratch);
            self.out.scratch = scratch;
            return self.apply_policy(handle);
        }
        let Some(Some(serving)) = self.listeners.get(listener as usize) else {
            return;
        };
        let protocol = serving.protocol.clone();
        let packing = Packing::of(&protocol, listener, agreement);
        let mut scratch = std::mem::take(&mut self.out.scratch);
        scratch.clear();
        self.out.shared_chain.clear();
        let (mut messages, mut all_to_groups) = (0u64, true);
        let mut goodbye = None;
        let names = match *protocol {
            Protocol::Photinus(_) => self.highest_name(),
            _ => 0,
        };
        self.name_chain(connection, names);
        if self.owes_heartbeat(connection) {
            self.append_heartbeat(connection, &mut scratch);
            all_to_groups = false;
        }
        for at in 0..self.out.chain.len() {
            let (batch, item) = self.out.chain[at];
            let content = &self.out.batches[batch as usize];
            let entry = &content.items[item as usize];
            let to_group = matches!(entry.action, Action::GroupSend { .. });
            all_to_groups &= to_group;
            let body = content.payload(entry);
            let Some(waits) = waits(entry) else { continue };
            if waits.is_goodbye() {
                let behind = self.out.chain.len() - at - 1;
                self.statistics.counts.dropped_gone.add(behind as u64);
                goodbye = Some((waits, String::from_utf8_lossy(body).into_owned()));
                break;
            }
            let payload = match &packing {
                None => (body, false),
                Some(packing) => {
                    let message = to_group.then_some((batch, item));
                    let counts = &self.statistics.counts;
                    self.compression.pack(packing, waits, message, body, counts)
                }
            };
            match encode(
                &protocol,
                waits,
                payload,
                self.out.names.as_slice(),
                &mut scratch,
            ) {
                true => messages += 1,
                false => self.statistics.counts.dropped_unsendable.add(1),
            }
            if scratch.len() >= WRITE_BYTES {
                all_to_groups = false;
                self.write_now(connection, &scratch);
                scratch.clear();
                let open = self.connections[connection as usize].as_ref();
                if open.is_none_or(|of| of.blocked) {
                    self.statistics.counts.packets_out.add(messages);
                    self.out.scratch = scratch;
                    return self.make_wait(handle, at + 1);
                }
            }
        }
        self.statistics.counts.packets_out.add(messages);
        self.out.framed_as = None;
        match (scratch.is_empty(), all_to_groups) {
            (true, _) => {}
            (false, true) => self.write_shared(connection, &scratch),
            (false, false) => self.write_now(connection, &scratch),
        }
        if all_to_groups {
            std::mem::swap(&mut self.out.shared_chain, &mut self.out.chain);
            self.out.shared_listener = listener;
            self.out.shared_agreement = agreement;
            self.out.shared_messages = messages;
            self.out.shared_names = names;
        }
        self.out.scratch = scratch;
        match goodbye {
            Some((what, text)) => self.say_goodbye(handle, connection, what, &text),
            None => self.apply_policy(handle),
        }
    }

    /// The highest index of a push's name in this turn's chain, and 1; 0: there is none.
    fn highest_name(&self) -> u32 {
        let items = self.out.chain.iter().map(|&(batch, item)| {
            match waits(&self.out.batches[batch as usize].items[item as usize]) {
                Some(Waits::Send(What::Push(OutRoute::Named(index)), _)) => index + 1,
                _ => 0,
            }
        });
        items.max().unwrap_or(0)
    }

    /// Has the client know the names of pushes below this index.
    fn name_chain(&mut self, connection: u32, names: u32) {
        if let Some(highest) = names.checked_sub(1) {
            let table = std::mem::take(&mut self.out.names);
            self.name_pushes(connection, highest, table.as_slice());
            self.out.names = table;
        }
    }
}

/// The header of a frame that Python sends. `None`: it is for the link itself, which only the link speaks for.
fn frame_header(entry: &OutItem) -> Option<Header> {
    let Action::Frame {
        kind,
        priority,
        request,
        destination,
        source,
        ..
    } = entry.action
    else {
        return None;
    };
    let mut header = Header::new(kind, priority, destination, source);
    if request {
        header.flags = Flags::REQUEST;
    }
    (!header.is_link()).then_some(header)
}

pub(super) fn waits(entry: &OutItem) -> Option<Waits> {
    match entry.action {
        Action::Send { what, marks, .. } => Some(Waits::Send(what, marks)),
        Action::GroupSend { route, marks, .. } | Action::SendList { route, marks, .. } => {
            Some(Waits::Send(What::Push(route), marks))
        }
        Action::Kick { .. } => Some(Waits::Kick),
        Action::Redirect { .. } => Some(Waits::Redirect),
        _ => None,
    }
}
