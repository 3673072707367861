//! What a connection does not take at once: it waits as messages with its session, up to what the policy
//! for slow readers allows.

use super::compressing::Packing;
use super::outbound::waits;
use super::writing::encode;
use super::Reactor;
use crate::acquaintance::announce;
use crate::back::Back;
use crate::connection::By;
use crate::handle::Handle;
use crate::limits::WRITE_BYTES;
use crate::outbox::{OutRoute, What};
use crate::session::{Waiting, Waits};

impl<B: Back> Reactor<B> {
    /// Keeps the messages of this turn's chain, from the `from`th on, until the connection takes them.
    pub(super) fn make_wait(&mut self, handle: Handle, from: usize) {
        if self.sessions.live(handle).is_none() {
            let rest = self.out.chain.len() - from;
            self.statistics.counts.dropped_gone.add(rest as u64);
            return;
        }
        let (mut added, mut dropped) = (0, 0);
        for at in from..self.out.chain.len() {
            let (batch, item) = self.out.chain[at];
            let content = &self.out.batches[batch as usize];
            let entry = &content.items[item as usize];
            let Some(what) = waits(entry) else { continue };
            if what.is_goodbye() {
                self.limit_goodbye(handle);
            }
            let content = &self.out.batches[batch as usize];
            let body = content.payload(&content.items[item as usize]);
            let Some(session) = self.sessions.live(handle) else {
                return;
            };
            let waiting = session.waiting.get_or_insert_with(Box::<Waiting>::default);
            let (grown, replaced) = waiting.put(what, body);
            added += grown;
            dropped += u64::from(replaced);
        }
        self.out.total = self.out.total.wrapping_add_signed(added);
        self.statistics.counts.dropped_stale.add(dropped);
        self.apply_policy(handle);
    }

    /// A reader that is too slow is disconnected: it would only ever see the past.
    pub(super) fn apply_policy(&mut self, handle: Handle) {
        if self.out.total == 0 {
            return;
        }
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        let connection = session.connection;
        let waiting = session.waiting.as_ref().map_or(0, |of| of.bytes);
        let Some(Some(of)) = self.connections.get(connection as usize) else {
            return;
        };
        let its = waiting + of.unsent_bytes();
        let over = its > self.limits.outbound_session_bytes
            || its > 0 && self.out.total > self.limits.outbound_total_bytes;
        if over {
            self.trim_due = true;
            self.close(connection, By::Server, "slow");
        }
    }

    /// Moves messages that waited into the connection's buffer. `false`: there are none.
    pub(super) fn encode_waiting(&mut self, handle: Handle, at: u32) -> bool {
        let Some(session) = self.sessions.live(handle) else {
            return false;
        };
        let Some(mut waiting) = session.waiting.take() else {
            return false;
        };
        let listener = session.listener as usize;
        let Some(Some(serving)) = self.listeners.get(listener) else {
            return false;
        };
        let protocol = serving.protocol.clone();
        self.tools.secret = waiting.each().any(|message| message.what.is_secret());
        let packing = Packing::of(&protocol, listener as u16, self.agreement(at));
        let mut encoded = Vec::new();
        while let Some(message) = waiting.pop() {
            self.out.total -= message.cost();
            if message.what.is_goodbye() {
                self.out.total -= waiting.bytes;
                let behind = waiting.len() as u64;
                self.statistics.counts.dropped_gone.add(behind);
                self.put_unsent(at, encoded);
                let text = String::from_utf8_lossy(&message.body);
                self.say_goodbye(handle, at, message.what, &text);
                return true;
            }
            if let (Waits::Send(What::Push(OutRoute::Named(index)), _), Some(Some(connection))) =
                (message.what, self.connections.get_mut(at as usize))
            {
                if let Some(of) = &mut connection.acquaintance {
                    announce(of, self.out.names.as_slice(), index, &mut encoded);
                }
            }
            let payload = match &packing {
                None => (&*message.body, false),
                Some(packing) => {
                    let counts = &self.statistics.counts;
                    let (what, body) = (message.what, &message.body);
                    self.compression.pack(packing, what, None, body, counts)
                }
            };
            let names = self.out.names.as_slice();
            match encode(&protocol, message.what, payload, names, &mut encoded) {
                true => self.statistics.counts.packets_out.add(1),
                false => self.statistics.counts.dropped_unsendable.add(1),
            }
            if encoded.len() >= WRITE_BYTES {
                break;
            }
        }
        if !waiting.is_empty() {
            if let Some(session) = self.sessions.live(handle) {
                session.waiting = Some(waiting);
            }
        }
        self.put_unsent(at, encoded);
        true
    }
}
