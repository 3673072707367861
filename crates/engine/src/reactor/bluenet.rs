//! What crosses links: whatever comes goes to Python, and whatever Python says to a link goes there.

use super::{inbound, Reactor};
use crate::back::Back;
use crate::handle::Handle;
use crate::inbox::{frame_route, Event, Item, Run};
use photinus_proto::bluenet::header::Header;
use std::ops::Range;

impl<B: Back> Reactor<B> {
    /// A new link, not a new connection of one.
    pub(super) fn link_up(&mut self, link: u32) {
        if let Some(linked) = self.links.get(link) {
            let (handle, roles) = (linked.handle, u32::from(linked.roles.bits()));
            let text = format!("{} {}", linked.node, linked.generation);
            self.tell(handle, Event::LinkUp, roles, &text);
        }
    }

    /// The peer is lost. The slot is another's after this.
    pub(super) fn link_lost(&mut self, link: u32) {
        if let Some(linked) = self.links.get(link) {
            let (handle, reason) = (linked.handle, linked.end.unwrap_or_default());
            self.tell(handle, Event::LinkLost, 0, reason);
        }
    }

    /// A frame whose payload lies in the arena, which stays as it is until this has returned.
    pub(super) fn hear_frame(&mut self, link: u32, header: Header, payload: Range<usize>) {
        let Some(handle) = self.links.get(link).map(|of| of.handle) else {
            return;
        };
        let bytes = payload.len() as u32;
        self.batch.items.push(Item {
            handle,
            event: Event::Frame,
            id: header.destination,
            route: frame_route(&header),
            number: header.source,
            start: payload.start as u32,
            len: bytes,
        });
        self.unhandled += inbound::cost(1, bytes);
        match self.batch.runs.last_mut() {
            Some(run) if run.handle == Handle::NONE => {
                run.packets += 1;
                run.bytes += bytes;
            }
            _ => self.batch.runs.push(Run {
                handle: Handle::NONE,
                packets: 1,
                bytes,
            }),
        }
    }
}
