//! This turn's batch: events go into it, it goes to Python, and what it held comes back with it. Packets are put in where
//! they are decoded (`inbound.rs`, `owning.rs`).

use super::{inbound, Reactor};
use crate::back::Back;
use crate::handle::Handle;
use crate::inbox::{Batch, Event, Item, Run};
use crate::limits::{ARENA_BYTES, SPARE_BATCHES, TEXT_BYTES};
use crate::session::NONE;

impl<B: Back> Reactor<B> {
    /// Gives this turn's batch to Python: one lock, and one wake if Python sleeps.
    pub(super) fn hand_in(&mut self) {
        if self.amid_frames {
            return;
        }
        if self.batch.items.is_empty() {
            self.batch.used = 0; // nobody was told of what lies there
            return;
        }
        let now = self.back.now();
        self.batch.pushed = now;
        self.shared.delay.waits(now);
        let packets: u32 = self.batch.runs.iter().map(|run| run.packets).sum();
        if packets > 0 {
            let waited = now.saturating_sub(self.told);
            self.statistics
                .socket_to_inbox
                .record(waited, u64::from(packets));
            self.statistics.counts.packets_in.add(u64::from(packets));
        }
        let fresh = self
            .spare
            .pop()
            .unwrap_or_else(|| Box::new(Batch::new(self.number, ARENA_BYTES)));
        let full = std::mem::replace(&mut self.batch, fresh);
        let weight = full.used + full.items.len() * std::mem::size_of::<Item>() + 1;
        let inbox = &self.shared.inbox;
        // The order of one reactor's batches counts, that among reactors does not.
        let number = self.number;
        let (wake, left) =
            inbox.push_merging(full, weight, |of| of.reactor == number, Batch::absorb);
        if let Some(mut emptied) = left {
            emptied.clear();
            self.spare.push(emptied);
        }
        self.statistics.counts.batches.add(1);
        if wake {
            self.statistics.counts.wakes.add(1);
            self.shared.python.notify();
        }
    }

    /// A batch has come back: what it held may be read again.
    pub(super) fn take_back(&mut self, mut batch: Box<Batch>) {
        for at in 0..batch.runs.len() {
            let Run {
                handle,
                packets,
                bytes,
            } = batch.runs[at];
            self.release(handle, packets, bytes);
        }
        self.unhandled = self.unhandled.saturating_sub(batch.told);
        self.read_held_back();
        batch.clear();
        let usual = batch.arena.len() == ARENA_BYTES && batch.items.capacity() <= 16 << 10;
        if usual && self.spare.len() < SPARE_BATCHES {
            self.spare.push(batch);
        } else {
            self.trim_due = true;
        }
    }

    pub(super) fn release(&mut self, handle: Handle, packets: u32, bytes: u32) {
        let cost = inbound::cost(packets, bytes);
        self.unhandled = self.unhandled.saturating_sub(cost);
        if let Some(at) = self
            .sessions
            .release(handle, cost, self.limits.inbound_session_bytes)
        {
            self.paused_sessions -= 1;
            match at {
                NONE => self.read_remote_again(handle),
                at => self.read_soon(at),
            }
        }
        self.read_held_back();
    }

    /// Half of the whole inbox's budget is free again, if it is.
    fn read_held_back(&mut self) {
        if !self.held_back.is_empty() && self.unhandled <= self.limits.inbound_total_bytes / 2 {
            for (at, serial) in std::mem::take(&mut self.held_back) {
                if let Some(connection) = self.same(at, serial) {
                    connection.held_back = false;
                    self.read_soon(at);
                }
            }
        }
    }

    pub(super) fn read_soon(&mut self, at: u32) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        // It could not be heard while it was not read, nor finish the frame that it had begun.
        connection.heard = self.now_ms;
        if connection.frame_since != 0 {
            connection.frame_since = self.now_ms.max(1);
        }
        self.queue(at);
    }

    /// An event with a short text, into this turn's batch.
    pub(super) fn tell(&mut self, handle: Handle, event: Event, number: u32, text: &str) {
        let mut end = text.len().min(TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.tell_bytes(handle, event, 0, 0, number, &text.as_bytes()[..end]);
    }

    /// An event with all that it can say.
    pub(super) fn tell_bytes(
        &mut self,
        handle: Handle,
        event: Event,
        id: u32,
        route: u32,
        number: u32,
        text: &[u8],
    ) {
        if self.batch.room() < text.len() {
            self.hand_in();
        }
        // Amid a link's frames the arena grows instead.
        let mut used = self.batch.used;
        let place = self.batch.append_at(&mut used, text);
        self.batch.used = used;
        self.push_event(Item {
            handle,
            event,
            id,
            route,
            number,
            start: place.start as u32,
            len: text.len() as u32,
        });
        self.tell_apps(handle, event, number);
    }

    /// Puts an event into the batch, at the cost of its place and its text.
    pub(super) fn push_event(&mut self, event: Item) {
        let cost = inbound::cost(1, event.len);
        self.unhandled += cost;
        self.batch.told += cost;
        self.batch.items.push(event);
    }
}
