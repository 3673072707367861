//! Messages from owners at other nodes on their way to clients of ours, and ours to lists of sessions wherever their
//! clients are.

use super::Reactor;
use crate::back::Back;
use crate::handle::Handle;
use crate::outbox::{Action, FormatSet, Marks, OutBatch, OutItem, OutRoute, What};
use crate::remote::Spoken;
use photinus_proto::bluenet::control::Tag;
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::bluenet::message::{read_list, write_list, MessageHead, MessageKind};
use photinus_proto::error::WireError;
use std::ops::Range;

impl<B: Back> Reactor<B> {
    /// The messages that came over links in this turn, before what Python has sent.
    pub(super) fn take_relayed(&mut self) {
        if !self.relayed.items.is_empty() {
            let fresh = self.out.spare();
            let mut relayed = std::mem::replace(&mut self.relayed, fresh);
            relayed.pushed = self.told;
            let count = relayed.items.len() as u64;
            self.statistics.counts.relayed_in.add(count);
            self.out.batches.push(relayed);
        }
    }

    /// A message from an owner to a client of ours.
    #[inline]
    pub(super) fn relay(
        &mut self,
        link: u32,
        header: Header,
        payload: Range<usize>,
    ) -> Result<(), WireError> {
        let (head, body) = MessageHead::decode(&self.batch.arena[payload.clone()])?;
        let to = Handle(header.destination);
        let of = self.neighbours.at(link).map(|of| of.link);
        let session = self.sessions.live(to);
        // Without a tag it is any node's that knows the session (`SessionRef`).
        let session = session.filter(|of| of.remote.is_none()); // it is handed on by nobody twice
        let delivered = session.is_some_and(|session| {
            let bindings = session.bindings.as_ref();
            header.source == 0
                || bindings
                    .zip(of)
                    .is_some_and(|(bindings, of)| bindings.delivers(of, Tag(header.source)))
        });
        if !delivered {
            self.statistics.counts.dropped_stale_handle.add(1);
            return Ok(());
        }
        let action = self.action(link, to, head.kind, header.flags)?;
        let body = payload.start + body..payload.end;
        self.relayed.push(action, &self.batch.arena[body]);
        Ok(())
    }

    /// A message to sessions of a list.
    pub(super) fn relay_to_list(
        &mut self,
        link: u32,
        header: Header,
        payload: Range<usize>,
    ) -> Result<(), WireError> {
        let payload = &self.batch.arena[payload];
        let (list, at) = read_list(payload)?;
        let (head, body) = MessageHead::decode(&payload[at..])?;
        let action = self.action(link, Handle::NONE, head.kind, header.flags)?;
        let Action::Send { what, marks, .. } = action else {
            return Err(WireError::BadFrame);
        };
        let first = self.relayed.arena.len();
        self.relayed.arena.extend_from_slice(&payload[at + body..]);
        for to in list {
            let to = Handle(to);
            let session = self.sessions.peek(to);
            match session.is_some_and(|of| of.remote.is_none()) {
                true => self.relayed.share(Action::Send { to, what, marks }, first),
                false => self.statistics.counts.dropped_stale_handle.add(1),
            }
        }
        Ok(())
    }

    /// A message to those of a group of another node who are here.
    pub(super) fn relay_to_group(
        &mut self,
        link: u32,
        header: Header,
        payload: Range<usize>,
    ) -> Result<(), WireError> {
        let (head, body) = MessageHead::decode(&self.batch.arena[payload.clone()])?;
        let group = self
            .neighbours
            .at(link)
            .and_then(|of| of.groups.get(&header.destination));
        let Some(&group) = group else {
            return Ok(()); // all of them have left
        };
        let action = self.action(link, Handle::NONE, head.kind, header.flags)?;
        let Action::Send {
            what: What::Push(route),
            marks,
            ..
        } = action
        else {
            return Err(WireError::BadFrame);
        };
        let action = Action::GroupSend {
            group,
            but: Handle(header.source),
            format: FormatSet(head.formats),
            route,
            marks,
        };
        let body = payload.start + body..payload.end;
        self.relayed.push(action, &self.batch.arena[body]);
        Ok(())
    }

    /// What a message is for one of our sessions. An error: its name was never told.
    #[inline]
    fn action(
        &self,
        link: u32,
        to: Handle,
        kind: MessageKind,
        flags: Flags,
    ) -> Result<Action, WireError> {
        let what = match kind {
            MessageKind::Kick => return Ok(Action::Kick { to }),
            MessageKind::Redirect => return Ok(Action::Redirect { to }),
            MessageKind::Response { id } => What::Response { id },
            MessageKind::Error { id } => What::Error { id },
            MessageKind::PushNumber { number } => What::Push(OutRoute::Number(number)),
            MessageKind::Push { name } => {
                let neighbour = self.neighbours.at(link);
                let ours = neighbour.and_then(|of| of.names.get(name as usize));
                What::Push(OutRoute::Named(*ours.ok_or(WireError::BadFrame)?))
            }
        };
        let marks = Marks::new(flags.has(Flags::DROPPABLE), flags.has(Flags::SECRET));
        Ok(Action::Send { to, what, marks })
    }

    /// A message to the sessions of a list.
    pub(super) fn send_to_list(
        &mut self,
        at: (u32, u32),
        entry: &OutItem,
        content: &OutBatch,
        (count, format): (u32, FormatSet),
    ) {
        let Some(waits) = super::outbound::waits(entry) else {
            return;
        };
        let list =
            &content.arena[entry.start as usize - 4 * count as usize..][..4 * count as usize];
        let handles = list.chunks_exact(4);
        let handles = handles.map(|of| Handle(u32::from_be_bytes([of[0], of[1], of[2], of[3]])));
        let mut elsewhere: Vec<(u32, Vec<u32>)> = Vec::new();
        for to in handles {
            let session = self.sessions.peek(to);
            let remote = session.and_then(|of| Some((of.remote.as_ref()?, of.listener)));
            match remote {
                None => {
                    if self.sessions.peek(to).is_none() || self.reads(to, format) {
                        self.hang(to, at); // or counted as gone
                    }
                }
                Some((_, listener)) if !speaks(listener, format) => {}
                // It has left, or is not here yet.
                Some((remote, _)) if remote.tag().is_none() => {
                    self.statistics.counts.dropped_gone.add(1);
                }
                Some((remote, _)) => {
                    let (link, theirs) = (remote.link.local(), remote.theirs.0);
                    match elsewhere.iter_mut().find(|of| of.0 == link) {
                        Some((_, list)) => list.push(theirs),
                        None => elsewhere.push((link, vec![theirs])),
                    }
                }
            }
        }
        for (link, list) in elsewhere {
            let mut front = Vec::new();
            write_list(list.into_iter(), &mut front);
            let header = Header::new(Kind::Sessions, Priority::Usual, 0, 0);
            let body = content.payload(entry);
            self.push_message(link, header, waits, format.0, &front, body);
        }
    }
}

/// Whether another node's client, whose listener's number stands for what it speaks, reads this format.
fn speaks(listener: u16, format: FormatSet) -> bool {
    Spoken::from_listener(listener).is_some_and(|of| format.has(of.format()))
}
