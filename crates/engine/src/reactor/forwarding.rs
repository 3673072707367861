//! Packets of our clients on their way to owners at other nodes. Nothing of this waits for Python, or wakes it.

use super::Reactor;
use crate::acquaintance::Named;
use crate::back::Back;
use crate::bindings::Place;
use crate::handle::Handle;
use crate::inbox::{Event, Item};
use crate::neighbour::Neighbour;
use crate::remote::HOME;
use photinus_proto::bluenet::control::Tag;
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::bluenet::message::{PacketHead, PacketRoute};
use photinus_proto::codec::{self, Packet, Route};

/// What became of a packet of a session that others own, too.
pub(super) enum Forwarded {
    /// It is on its way, or was dropped and counted.
    Gone,
    /// It is for this node: for its application, or for what is attached here.
    Here(Option<Attached>),
    /// It must wait; it has not been taken.
    Held,
}

/// What of this node a packet is for, and its route.
pub(super) struct Attached {
    pub target: u32,
    pub route: u32,
}

impl Attached {
    pub fn item(&self, handle: Handle, from: usize, packet: &Packet) -> Item {
        Item {
            handle,
            event: Event::Packet(packet.kind),
            id: packet.id,
            route: self.route,
            number: self.target,
            start: (from + packet.body.start) as u32,
            len: packet.body.len() as u32,
        }
    }
}

/// Where a packet goes: whose it is, and its route in the numbering there.
struct Bound {
    slot: u8,
    place: Place,
    route: PacketRoute,
}

impl<B: Back> Reactor<B> {
    /// Where a packet of a session that others own goes, and sends it there.
    #[inline]
    pub(super) fn forward(
        &mut self,
        at: u32,
        session: Handle,
        from: usize,
        packet: &Packet,
    ) -> Forwarded {
        let owned = self.sessions.bindings(session);
        let Some(bindings) = owned else {
            return Forwarded::Here(None);
        };
        if bindings.is_held() {
            return Forwarded::Held;
        }
        let name = match packet.route {
            Route::Name(ref name) => &self.batch.arena[from + name.start..from + name.end],
            Route::Named(number) => self.named(at, number),
            Route::Number(_) | Route::None => b"",
        };
        let number = match packet.route {
            Route::Number(number) => number,
            _ => 0,
        };
        let numbered = matches!(packet.route, Route::Number(_));
        let find = |place: Place| {
            let routes = match place.is_here() {
                true => self.routes.class(place.class),
                false => self.neighbours.of(place.link)?.class(place.class),
            }?;
            match numbered {
                false => routes.by_name(name),
                true => routes.by_number(number),
            }
        };
        // Attachments are asked first: what a place understands is meant for it.
        let attached = bindings.slots().skip(1).find_map(|(slot, of)| {
            let place = of.machine.at()?;
            let route = PacketRoute::Index(find(place)?);
            Some(Bound { slot, place, route })
        });
        let bound = attached.or_else(|| {
            let place = bindings.at(0)?.machine.at()?;
            let route = match find(place) {
                Some(index) => PacketRoute::Index(index),
                None if name.is_empty() => PacketRoute::Default,
                None => PacketRoute::Unknown,
            };
            let slot = 0;
            Some(Bound { slot, place, route })
        });
        let Some(Bound { slot, place, route }) = bound else {
            // It has no home any more, and ends as soon as its client has read why.
            self.statistics.counts.dropped_gone.add(1);
            return Forwarded::Gone;
        };
        if place.is_here() {
            // An arrival here can be refused, too: then what has followed it is lost.
            let bindings = self.bindings(session);
            let taken = bindings.and_then(|of| of.at_mut(slot)?.machine.forward());
            if taken.is_none() {
                return Forwarded::Held;
            }
            return Forwarded::Here(match route {
                PacketRoute::Index(route) if slot > 0 => {
                    let target = place.target;
                    Some(Attached { target, route })
                }
                _ => None,
            });
        }
        if route == PacketRoute::Unknown && packet.kind != codec::Kind::Request {
            // Nobody can be told.
            self.statistics.counts.unknown_routes.add(1);
            return Forwarded::Gone;
        }
        let unknown = (route == PacketRoute::Unknown).then(|| name.to_vec());
        let link = place.link.local();
        if self.link_is_crowded(link) {
            self.wait_for_link(at, link);
            return Forwarded::Held;
        }
        let mut payload = from + packet.body.start..from + packet.body.end;
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        let (kind, id) = (packet.kind, packet.id);
        PacketHead {
            route,
            kind,
            id,
            number,
        }
        .encode(&mut head);
        if let Some(name) = unknown {
            head.extend_from_slice(&name);
            payload = 0..0;
        }
        let bindings = self.bindings(session);
        let forwarded = bindings.and_then(|of| of.at_mut(slot)?.machine.forward());
        let Some((_, epoch)) = forwarded else {
            self.head = head;
            self.statistics.counts.dropped_gone.add(1);
            return Forwarded::Gone;
        };
        let (kind, destination) = match place.target {
            HOME => (Kind::Node, Tag::new(slot, epoch).0),
            target => (Kind::Space, target),
        };
        let mut header = Header::new(kind, Priority::Usual, destination, session.0);
        if packet.flags.droppable {
            header.flags = header.flags.with(Flags::DROPPABLE);
        }
        let sent = self.push_from_arena(link, header, &head, payload);
        self.head = head;
        let counts = &self.statistics.counts;
        match sent {
            true => counts.forwarded.add(1),
            false => counts.dropped_link.add(1),
        }
        Forwarded::Gone
    }

    /// Nothing that its client sends is decoded now.
    pub(super) fn is_held(&self, session: Handle) -> bool {
        let bindings = self.sessions.bindings(session);
        bindings.is_some_and(|of| of.is_held())
    }

    /// What its client has named as its so-many-th route.
    fn named(&self, at: u32, number: u32) -> &[u8] {
        let connection = self.connections.get(at as usize).and_then(Option::as_ref);
        let of = connection.and_then(|of| of.acquaintance.as_ref()?.route(number));
        match of {
            Some(Named::Unknown(name)) => name.as_bytes(),
            Some(Named::Known(index)) => self.routes.name(*index).as_bytes(),
            None => b"",
        }
    }

    /// Whether anybody whom a session's packets may go to serves this.
    pub(super) fn is_served_elsewhere(&self, session: Handle, name: &[u8]) -> bool {
        let bindings = self.sessions.bindings(session);
        let classes = |link: Handle| self.neighbours.of(link)?.routes.as_ref();
        bindings.is_some_and(|of| {
            let places = of.places().filter(|(_, place)| !place.is_here());
            let mut routes = places
                .filter_map(|(_, place)| classes(place.link))
                .flat_map(|of| of.values());
            routes.any(|of| of.by_name(name).is_some())
        })
    }

    /// Its client is read again when there is room in this link.
    fn wait_for_link(&mut self, at: u32, link: u32) {
        let (Some(Some(connection)), Some(neighbour)) = (
            self.connections.get_mut(at as usize),
            self.neighbours.at_mut(link),
        ) else {
            return;
        };
        if !std::mem::replace(&mut connection.waits_for_link, true) {
            self.statistics.counts.paused_link.add(1);
            neighbour.waiting.push((at, connection.serial));
        }
    }

    /// Those who wait for room in a link that has some again.
    pub(super) fn read_for_links(&mut self) {
        let mut ready = Vec::new();
        let waited_for = |of: &&mut Neighbour| !of.waiting.is_empty();
        for neighbour in self.neighbours.all_mut().filter(waited_for) {
            let link = self.links.get(neighbour.link.local());
            let crowded = link.is_some_and(|of| of.link.is_crowded());
            if !crowded {
                ready.append(&mut neighbour.waiting);
            }
        }
        self.end_waits(ready);
    }

    pub(super) fn end_waits(&mut self, waiting: Vec<(u32, u32)>) {
        for (at, serial) in waiting {
            if let Some(connection) = self.same(at, serial) {
                connection.waits_for_link = false;
                self.read_held_again(at);
            }
        }
    }

    /// Goes on with what a connection has sent that was held.
    pub(super) fn read_held_again(&mut self, at: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(at as usize) {
            // It may have been told of while it was not read.
            connection.readable = true;
        }
        self.read_soon(at);
    }
}
