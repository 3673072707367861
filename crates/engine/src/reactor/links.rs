//! The table of links: how they begin, are pushed to, fall silent and are lost.
//!
//! 1. Whoever names a link names its slot, which is its own until `link_lost` has returned. Beyond that turn it is
//!    named by a handle, and a slot rests before it is used again.
//! 2. A link whose end is decided while frames are heard, or somebody pushes to it, ends when what is read has been
//!    heard: nobody who walks over links sees one vanish.
//! 3. Nothing is pushed without being kept, unless it may be dropped, and that is counted. A peer for which there is
//!    no room is lost: what it would lack could never be told.
//! 4. Of a node the newest generation counts. One that is older is refused, and its links are lost.

use super::alarms::{Alarm, Alarms};
use super::Reactor;
use crate::back::Back;
use crate::connection::By;
use crate::handle::{Handle, SLOTS_A_REACTOR};
use crate::layers::Door;
use crate::limits::{
    Limits, LINK_ACK_BYTES, LINK_LOOK_MS, LINK_NODES, LINK_REPORT_MS, QUARANTINE_MS,
};
use crate::link::{Dial, LinkReport, Linked};
use crate::lock::lock;
use crate::session::NONE;
use photinus_proto::bluenet::header::{Flags, Header};
use photinus_proto::error::WireError;
use photinus_proto::link::hello::{PeerHello, Reason};
use photinus_proto::link::{Link, LinkLimits, Verdict, LANES};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

#[derive(Default)]
pub struct Links {
    slots: Vec<Slot>,
    /// Free slots, and since when they rest.
    resting: VecDeque<(u64, u32)>,
    pub(super) dials: Vec<Option<Dial>>,
    pub(super) alarms: Alarms,
    /// They may have something to write.
    pub(super) to_write: Vec<u32>,
    /// Their ends are decided.
    ending: Vec<u32>,
    /// What lies before a link that was dialled: TLS at most, and nothing that a door would have to know.
    pub(super) door: Arc<Door>,
    /// Connections made for links, whatever became of them.
    pub(super) open: usize,
    /// The newest generation that was seen of a node.
    generations: HashMap<Arc<str>, u64>,
    /// For waits that no two nodes have alike.
    pub(super) jitter: u64,
    /// Something of what statistics show has changed; when they were shown last.
    changed: bool,
    reported_ms: u64,
}

#[derive(Default)]
struct Slot {
    generation: u16,
    linked: Option<Box<Linked>>,
}

impl Links {
    pub fn get(&self, slot: u32) -> Option<&Linked> {
        self.slots.get(slot as usize)?.linked.as_deref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Linked> {
        self.slots.get_mut(slot as usize)?.linked.as_deref_mut()
    }

    /// `None`: it is gone.
    pub fn find(&self, handle: Handle) -> Option<u32> {
        let slot = handle.local();
        (self.get(slot)?.handle == handle).then_some(slot)
    }

    pub fn each(&self) -> impl Iterator<Item = (u32, &Linked)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, of)| Some((slot as u32, of.linked.as_deref()?)))
    }

    /// The link that a dialler has given this number.
    pub fn known(&self, peer: &PeerHello) -> Option<u32> {
        let is_it = |of: &Linked| {
            of.id == peer.link && *of.node == *peer.node && of.generation == peer.generation
        };
        let mut each = self.each();
        let found = each.find(|(_, of)| is_it(of) && of.dial.is_none() && of.end.is_none());
        found.map(|(slot, _)| slot)
    }

    pub fn dial_mut(&mut self, number: u32) -> Option<&mut Dial> {
        self.dials.get_mut(number as usize)?.as_mut()
    }

    /// A slot for one more; `None`: there are as many as there may be.
    fn place(&mut self, now_ms: u64) -> Option<u32> {
        if let Some(&(since, slot)) = self.resting.front() {
            if since + QUARANTINE_MS <= now_ms {
                self.resting.pop_front();
                return Some(slot);
            }
        }
        if self.slots.len() == SLOTS_A_REACTOR {
            return None;
        }
        self.slots.push(Slot::default());
        Some(self.slots.len() as u32 - 1)
    }

    /// It may have something to write.
    pub fn queue(&mut self, slot: u32) {
        if let Some(linked) = self.get_mut(slot) {
            if !std::mem::replace(&mut linked.queued, true) {
                self.to_write.push(slot);
            }
        }
    }

    /// It ends, for this reason, when whoever walks over links now is done.
    pub fn doom(&mut self, slot: u32, reason: &'static str) {
        if let Some(linked) = self.get_mut(slot) {
            if linked.end.is_none() {
                linked.end = Some(reason);
                self.ending.push(slot);
            }
        }
    }

    /// Has it looked at when its time comes, but not before `least`.
    pub fn watch(&mut self, slot: u32, least: u64) {
        let Some(linked) = self.get_mut(slot) else {
            return;
        };
        let Some(next) = linked.link.next_ms() else {
            return;
        };
        let next = next.max(least);
        if next < linked.alarm_ms {
            linked.alarm_ms = next;
            let alarm = Alarm::Link(linked.handle.0);
            self.alarms.set(next, alarm);
        }
    }

    pub fn has_work(&self) -> bool {
        !self.to_write.is_empty() || !self.ending.is_empty()
    }
}

pub fn link_limits(limits: &Limits) -> LinkLimits {
    LinkLimits {
        kept_bytes: limits.link_kept_bytes,
        max_frame: limits.link_frame_bytes,
        silence_ms: limits.link_silence_ms,
        ping_ms: limits.link_ping_ms,
        ack_bytes: LINK_ACK_BYTES,
    }
}

impl<B: Back> Reactor<B> {
    /// Takes a frame for the other end, whose payload is `parts`, one behind the other. `false`: it is dropped, since
    /// there is no such link any more, or no room. That is counted, and costs the link if it must not be dropped.
    pub(super) fn push_frame(&mut self, link: u32, header: Header, parts: &[&[u8]]) -> bool {
        let counts = &self.statistics.counts;
        let Some(linked) = self.links.get_mut(link).filter(|of| of.end.is_none()) else {
            counts.link_gone.add(1);
            return false;
        };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > linked.link.max_payload() {
            // Its sender's fault, and not the other end's.
            counts.dropped_unsendable.add(1);
            return false;
        }
        if linked.link.push(header, parts).is_ok() {
            counts.link_frames_out.add(1);
            self.links.queue(link);
            return true;
        }
        counts.link_full.add(1);
        if header.flags.has(Flags::DROPPABLE) {
            linked.dropped += 1;
        } else {
            self.links.doom(link, "full");
        }
        false
    }

    /// The same with a payload that begins with `head` and goes on with what lies in this turn's arena.
    #[allow(dead_code, reason = "what is forwarded lies there")]
    pub(super) fn push_from_arena(
        &mut self,
        link: u32,
        header: Header,
        head: &[u8],
        payload: Range<usize>,
    ) -> bool {
        // Taken out, so that it can be read while links are written to.
        let arena = std::mem::take(&mut self.batch.arena);
        let pushed = self.push_frame(link, header, &[head, &arena[payload]]);
        self.batch.arena = arena;
        pushed
    }

    /// More than half of what it may keep waits there: what would be pushed to it should not be read.
    #[allow(dead_code, reason = "asked by whoever forwards")]
    #[inline]
    pub(super) fn link_is_crowded(&self, link: u32) -> bool {
        self.links.get(link).is_some_and(|of| of.link.is_crowded())
    }

    /// A new link to this node. It has no connection yet.
    pub(super) fn add_link(&mut self, peer: &PeerHello, dial: Option<u32>) -> Option<u32> {
        let slot = self.links.place(self.now_ms)?;
        let node = Arc::from(&*peer.node);
        let place = &mut self.links.slots[slot as usize];
        place.generation = Handle::next_generation(place.generation);
        place.linked = Some(Box::new(Linked {
            handle: Handle::new(self.number, slot, place.generation),
            link: Link::new(link_limits(&self.limits), self.now_ms),
            id: peer.link,
            node,
            generation: peer.generation,
            roles: peer.roles,
            schema: peer.schema,
            connection: NONE,
            connected_ms: 0,
            heard: false,
            dial,
            up: false,
            queued: false,
            alarm_ms: u64::MAX,
            dropped: 0,
            end: None,
        }));
        Some(slot)
    }

    /// Whether a node that has proved that it is of this cluster may have a link. One that was started again has its
    /// older links lost.
    pub(super) fn judge_node(&mut self, peer: &PeerHello) -> Result<(), Reason> {
        let own = self.shared.identity();
        if own.is_none_or(|own| own.node == peer.node) {
            return Err(Reason::SameNode);
        }
        let newest = self.links.generations.get(&*peer.node).copied();
        if newest.is_some_and(|newest| newest > peer.generation) {
            return Err(Reason::Generation);
        }
        let of_it = self.links.each().filter(|(_, of)| *of.node == *peer.node);
        let (same, older): (Vec<_>, Vec<_>) =
            of_it.partition(|(_, of)| of.generation == peer.generation);
        // A node's reactors each have links of their own; what it is they all say alike.
        if same
            .iter()
            .any(|(_, of)| (of.roles, of.schema) != (peer.roles, peer.schema))
        {
            return Err(Reason::SameNode);
        }
        let older: Vec<u32> = older.into_iter().map(|(slot, _)| slot).collect();
        for slot in older {
            self.lose_link(slot, "restarted");
        }
        if newest != Some(peer.generation) {
            self.remember(peer);
        }
        Ok(())
    }

    fn remember(&mut self, peer: &PeerHello) {
        if self.links.generations.len() >= LINK_NODES {
            let linked: Vec<Arc<str>> = self.links.each().map(|(_, of)| of.node.clone()).collect();
            self.links
                .generations
                .retain(|node, _| linked.contains(node));
        }
        let node = Arc::from(&*peer.node);
        self.links.generations.insert(node, peer.generation);
    }

    /// The link has this connection from now on, and no other. The error: its peer asks for what there cannot be, and
    /// the link is lost.
    pub(super) fn connect_link(
        &mut self,
        slot: u32,
        at: u32,
        received: [u32; LANES],
    ) -> Result<(), WireError> {
        let now = self.now_ms;
        let Some(linked) = self.links.get_mut(slot) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut linked.connection, NONE);
        if let Some(Some(old)) = self.connections.get_mut(before as usize) {
            old.tie = None;
            self.close(before, By::Network, "replaced");
        }
        let Some(linked) = self.links.get_mut(slot) else {
            return Ok(());
        };
        if let Err(error) = linked.link.handle_connected(received, now) {
            self.links.doom(slot, error.reason());
            return Err(error);
        }
        (linked.connection, linked.connected_ms) = (at, now);
        linked.heard = false;
        self.links.changed = true;
        self.links.watch(slot, now);
        self.links.queue(slot);
        Ok(())
    }

    /// Its connection has ended, and its peer may come back.
    pub(super) fn cut_link(&mut self, slot: u32) {
        let now = self.now_ms;
        let Some(linked) = self.links.get_mut(slot) else {
            return;
        };
        linked.connection = NONE;
        linked.link.handle_cut(now);
        self.links.changed = true;
        self.links.watch(slot, now);
    }

    /// The peer is lost, and all that was not acknowledged with it.
    pub(super) fn lose_link(&mut self, slot: u32, reason: &'static str) {
        let Some(linked) = self.links.get_mut(slot) else {
            return;
        };
        linked.end = Some(reason);
        let (up, dial) = (linked.up, linked.dial);
        let at = std::mem::replace(&mut linked.connection, NONE);
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            connection.tie = None;
            self.close(at, By::Server, reason);
        }
        if up {
            self.statistics.counts.links_lost.add(1);
            self.link_lost(slot);
        }
        self.links.slots[slot as usize].linked = None;
        self.links.resting.push_back((self.now_ms, slot));
        self.links.changed = true;
        if let Some(number) = dial {
            self.dial_anew(number, at);
        }
    }

    /// Those whose end was decided in this turn.
    pub(super) fn end_links(&mut self) {
        while let Some(slot) = self.links.ending.pop() {
            if let Some(reason) = self.links.get(slot).and_then(|of| of.end) {
                self.lose_link(slot, reason);
            }
        }
    }

    /// What is due of links and dials.
    pub(super) fn meet_alarms(&mut self) {
        while let Some(alarm) = self.links.alarms.pop_due(self.now_ms) {
            match alarm {
                Alarm::Link(handle) => {
                    if let Some(slot) = self.links.find(Handle(handle)) {
                        self.look_at_link(slot);
                    }
                }
                Alarm::Dial { number, serial } => self.dial_due(number, serial),
            }
        }
    }

    fn look_at_link(&mut self, slot: u32) {
        let now = self.now_ms;
        let Some(linked) = self.links.get_mut(slot) else {
            return;
        };
        linked.alarm_ms = u64::MAX;
        let at = linked.connection;
        match linked.link.handle_timeout(now) {
            Verdict::Fine => {}
            Verdict::Silent => {
                // Not if it is us who do not read it.
                let unread =
                    matches!(self.connections.get(at as usize), Some(Some(of)) if of.readable);
                if unread {
                    self.links.queue(slot);
                    return self.links.watch(slot, now + LINK_LOOK_MS);
                }
                self.statistics.counts.link_silences.add(1);
                self.close(at, By::Network, "silence");
            }
            Verdict::Lost => return self.lose_link(slot, "silence"),
        }
        self.links.queue(slot);
        self.links.watch(slot, now + 1);
    }

    /// Shows statistics what there is, if it has changed or its time has come.
    pub(super) fn report_links(&mut self) {
        let links = &mut self.links;
        if links.slots.is_empty() && links.dials.is_empty() {
            return;
        }
        if !links.changed && self.now_ms < links.reported_ms + LINK_REPORT_MS {
            return;
        }
        (links.changed, links.reported_ms) = (false, self.now_ms);
        let links = &self.links;
        let number = self.number;
        let of_links = links.each().filter_map(|(_, linked)| {
            let dial = linked.dial.and_then(|of| links.dials[of as usize].as_ref());
            LinkReport::of(number, Some(linked), dial)
        });
        let unlinked = links.dials.iter().flatten().filter(|of| of.link.is_none());
        let unlinked = unlinked.filter_map(|dial| LinkReport::of(number, None, Some(dial)));
        let reports = of_links.chain(unlinked).collect();
        self.statistics
            .counts
            .links
            .set(links.each().count() as u64);
        *lock(&self.statistics.links) = reports;
    }

    /// Statistics are to show what has changed.
    pub(super) fn links_changed(&mut self) {
        self.links.changed = true;
    }
}
