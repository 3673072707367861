//! What links bring, by its kind; and what nodes tell each other when they are linked.

use super::Reactor;
use crate::back::Back;
use crate::handle::Handle;
use crate::inbox::{frame_route, Event, Item};
use crate::limits::LINK_NAMES;
use crate::neighbour::Neighbour;
use crate::outbox::Action;
use photinus_proto::bluenet::control::{Control, Tag, LINK};
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::error::WireError;
use std::ops::Range;

impl<B: Back> Reactor<B> {
    /// There is a new link, and not just a new connection of one.
    pub(super) fn link_up(&mut self, link: u32) {
        let Some(linked) = self.links.get(link) else {
            return;
        };
        let (handle, roles) = (linked.handle, u32::from(linked.roles.bits()));
        let node = linked.node.clone();
        let text = format!("{node} {}", linked.generation);
        self.neighbours.put(link, Neighbour::new(handle, &node));
        self.tell(handle, Event::LinkUp, roles, &text);
        self.tell_routes(link);
    }

    /// There is none any more: what was bound over it is lost.
    pub(super) fn link_lost(&mut self, link: u32) {
        self.lose_remotes(link);
        let Some(neighbour) = self.neighbours.take(link) else {
            return;
        };
        let reason = self
            .links
            .get(link)
            .and_then(|of| of.end)
            .unwrap_or_default();
        self.tell(neighbour.link, Event::LinkLost, 0, reason);
        for &group in neighbour.groups.values() {
            // Behind what was sent to it before.
            self.relayed.push(Action::GroupDissolve { group }, b"");
        }
        self.lose_owners(neighbour.link);
        self.end_waits(neighbour.waiting);
    }

    /// A frame whose payload lies in the arena, which stays as it is until this has returned.
    #[inline]
    pub(super) fn hear_frame(&mut self, link: u32, header: Header, payload: Range<usize>) {
        // Nothing comes from further away than the other end, and no message is marked in a way that changes how it
        // is read: whoever sends so speaks another version.
        if header.ext || header.hops > 0 || header.flags.has(Flags::TRACED) {
            return self.link_failed(link, WireError::BadFrame);
        }
        let heard = match header.kind {
            Kind::Session => self.relay(link, header, payload),
            Kind::Node | Kind::Space | Kind::Service | Kind::App if header.source != 0 => {
                self.hear_packet(link, header, payload)
            }
            Kind::Group => self.relay_to_group(link, header, payload),
            Kind::Sessions => self.relay_to_list(link, header, payload),
            Kind::Control => self.hear_control(link, header, payload),
            Kind::Node | Kind::Space | Kind::Service | Kind::App => {
                self.tell_of_frame(link, header, payload);
                Ok(())
            }
        };
        if let Err(error) = heard {
            self.link_failed(link, error);
        }
    }

    /// What nodes say beside packets and messages.
    fn hear_control(
        &mut self,
        link: u32,
        header: Header,
        payload: Range<usize>,
    ) -> Result<(), WireError> {
        // Events' texts go into the arena that it lies in.
        let payload = self.batch.arena[payload].to_vec();
        let control = Control::decode(&payload)?;
        match control {
            Control::Leaving if header.source == LINK => {
                if let Some(neighbour) = self.neighbours.at_mut(link) {
                    neighbour.leaving = true;
                }
                Ok(())
            }
            Control::Routes { entries } if header.source == LINK => {
                let neighbour = self.neighbours.at_mut(link);
                neighbour.map_or(Ok(()), |of| of.learn(entries))
            }
            Control::Name {
                index,
                number,
                name,
            } if header.source == LINK => {
                let Some(neighbour) = self.neighbours.at_mut(link) else {
                    return Ok(());
                };
                // They come in their order.
                if index as usize != neighbour.names.len() || index >= LINK_NAMES {
                    return Err(WireError::BadFrame);
                }
                neighbour.names.push(self.out.names.intern(name, number));
                Ok(())
            }
            Control::Gone => {
                let (session, tag) = (Handle(header.destination), Tag(header.source));
                if let Some(of) = self.neighbours.at(link).map(|of| of.link) {
                    self.hear_gone(of, session, tag);
                }
                Ok(())
            }
            Control::Arrive { .. }
            | Control::Fence
            | Control::Detach
            | Control::Cut
            | Control::Resumed { .. }
            | Control::Closed { .. }
            | Control::Done { .. } => self.hear_proxy(link, header, control),
            _ => {
                let Some(of) = self.neighbours.at(link).map(|of| of.link) else {
                    return Ok(());
                };
                let (session, tag) = (Handle(header.destination), Tag(header.source));
                self.hear_owner(of, session, tag, control)
            }
        }
    }

    /// A frame for Python.
    fn tell_of_frame(&mut self, link: u32, header: Header, payload: Range<usize>) {
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
        self.unhandled += super::inbound::cost(1, bytes);
        self.batch.count(Handle::NONE, bytes);
    }

    /// Tells a neighbour what it can send here.
    fn tell_routes(&mut self, link: u32) {
        let routes = self.routes.clone();
        let entries = routes.entries();
        self.tell_neighbour(link, Control::Routes { entries });
    }

    pub(super) fn tell_routes_to_all(&mut self) {
        for link in self.neighbours.links() {
            self.tell_routes(link);
        }
    }

    /// This node stops: neighbours have no new sessions at home here.
    pub(super) fn tell_of_leaving(&mut self) {
        for link in self.neighbours.links() {
            self.tell_neighbour(link, Control::Leaving);
        }
    }

    /// What concerns the link, and no session.
    pub(super) fn tell_neighbour(&mut self, link: u32, control: Control<'_>) {
        let header = Header::new(Kind::Control, Priority::Usual, 0, LINK);
        self.push_control(link, header, control);
    }
}
