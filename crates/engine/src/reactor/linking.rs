//! Bytes of links: what has come goes to `hear_frame` where it lies, what is to be sent is written from where the link
//! keeps it.
//!
//! 1. While frames are heard the arena stays what it is: it is not handed in, and what is told meanwhile is put behind
//!    what has come.
//! 2. All that a turn has for a link goes out in as few writes as the link's lanes allow, at the turn's end, and not
//!    more than the socket takes: what the system does not hold can be overtaken.

use super::greeting::Met;
use super::Reactor;
use crate::back::{Back, Stream};
use crate::connection::By;
use crate::limits::LINK_BYTES_A_TURN;
use crate::link::Tie;
use photinus_proto::error::WireError;
use photinus_proto::link::Step;
use std::io::ErrorKind;

impl<B: Back> Reactor<B> {
    /// Takes hellos and frames out of `arena[begin..end]`, which holds what this connection has sent.
    pub(super) fn decode_link(&mut self, at: u32, begin: usize, end: usize) {
        let items = self.batch.items.len();
        self.batch.used = end;
        self.amid_frames = true;
        let mut from = begin;
        let mut need = None;
        loop {
            let connection = self.connections.get(at as usize).and_then(Option::as_ref);
            let Some(tie) = connection.and_then(|of| of.tie.as_deref()) else {
                break;
            };
            if let &Tie::Link(slot) = tie {
                need = self.hear_frames(at, slot, &mut from, end);
                break;
            }
            match self.meet_node(at, from, end) {
                Met::Said { consumed } | Met::Linked { consumed } => from += consumed,
                Met::Incomplete { need: least } => {
                    need = Some(least);
                    break;
                }
                Met::Ended => break,
            }
        }
        self.amid_frames = false;
        let connection = self.connections.get_mut(at as usize);
        if let (Some(need), Some(Some(connection))) = (need, connection) {
            connection.need = need;
            let left = &self.batch.arena[from..end];
            if left.is_empty() {
                connection.partial = Vec::new();
            } else {
                connection.partial.clear();
                connection.partial.extend_from_slice(left);
            }
        }
        if self.batch.items.len() == items {
            self.batch.used = begin; // nobody was told of what lies there
        } else if self.batch.used == end {
            self.batch.used = from;
        }
        self.end_links();
    }

    /// What the next frame needs, if the link goes on.
    fn hear_frames(&mut self, at: u32, slot: u32, from: &mut usize, end: usize) -> Option<usize> {
        let (now, told) = (self.now_ms, self.told);
        if let Some(linked) = self.links.get_mut(slot) {
            linked.link.set_clock_us(told / 1000);
        }
        let (begin, mut frames) = (*from, 0);
        let need = loop {
            let linked = self.links.get_mut(slot);
            let Some(linked) = linked.filter(|of| of.connection == at && of.end.is_none()) else {
                break None;
            };
            match linked.link.handle_bytes(&self.batch.arena[*from..end], now) {
                Ok(Step::Frame {
                    consumed,
                    header,
                    payload,
                }) => {
                    frames += 1;
                    let payload = *from + payload.start..*from + payload.end;
                    *from += consumed;
                    self.hear_frame(slot, header, payload);
                }
                Ok(Step::Own { consumed }) => *from += consumed,
                Ok(Step::Incomplete { need }) => break Some(need),
                Err(error) => {
                    self.link_failed(slot, error);
                    break None;
                }
            }
        };
        if let Some(linked) = self.links.get_mut(slot) {
            linked.heard |= *from > begin;
        }
        self.statistics.counts.link_frames_in.add(frames);
        // An acknowledgement or an answer to a ping may be due.
        self.links.queue(slot);
        need
    }

    /// The peer broke the protocol: its link is over, and not just the connection.
    pub(super) fn link_failed(&mut self, slot: u32, error: WireError) {
        self.count_wire_error(error.reason());
        self.links.doom(slot, error.reason());
    }

    /// Once a turn: what links have to send.
    pub(super) fn write_links(&mut self) {
        self.end_links();
        if self.links.to_write.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.links.to_write) {
            if let Some(linked) = self.links.get_mut(slot) {
                linked.queued = false;
                self.write_link(slot);
            }
        }
        self.end_links();
    }

    fn write_link(&mut self, slot: u32) {
        let clock_us = self.back.now() / 1000;
        let mut left = LINK_BYTES_A_TURN;
        while left > 0 {
            let Some(linked) = self.links.get_mut(slot) else {
                return;
            };
            let at = linked.connection;
            let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
                return;
            };
            // It is queued again when the socket takes more.
            if connection.blocked || !connection.unsent.is_empty() {
                return;
            }
            linked.link.set_clock_us(clock_us);
            let bytes = linked.link.poll_write(self.now_ms);
            if bytes.is_empty() {
                return self.links.watch(slot, self.now_ms + 1);
            }
            left = left.saturating_sub(bytes.len());
            if let Some(layers) = &mut connection.layers {
                let mut wire = std::mem::take(&mut self.wire);
                wire.clear();
                layers.encrypt(bytes, &mut wire);
                let count = bytes.len();
                linked.link.handle_written(count);
                self.write_raw(at, &wire);
                self.wire = wire;
                continue;
            }
            self.statistics.counts.writes.add(1);
            match connection.stream.write(bytes) {
                Ok(count) => {
                    connection.blocked = count < bytes.len();
                    self.statistics.counts.bytes_out.add(count as u64);
                    linked.link.handle_written(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => connection.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {} // no edge would follow
                Err(_) => return self.close(at, By::Network, "reset"),
            }
        }
        self.links.queue(slot);
    }

    /// A connection that was for a link has ended, or is about to.
    pub(super) fn untie(&mut self, at: u32, tie: Tie) {
        match tie {
            Tie::Accepting(_) => {}
            Tie::Dialling(attempt) => {
                let dial = self.links.dial_mut(attempt.dial);
                if dial.is_some_and(|of| of.connection == at) {
                    self.dial_failed(attempt.dial);
                }
            }
            Tie::Link(slot) => {
                let linked = self.links.get(slot).filter(|of| of.connection == at);
                let Some(linked) = linked else {
                    return;
                };
                let (dial, heard, since) = (linked.dial, linked.heard, linked.connected_ms);
                self.cut_link(slot);
                if let Some(number) = dial {
                    self.dial_back(number, heard, since);
                }
            }
        }
    }
}
