//! Packets of our clients on their way to owners at other nodes, and messages from there on their way to our
//! clients. Nothing of this waits for Python, or wakes it.

use super::Reactor;
use crate::acquaintance::Named;
use crate::back::Back;
use crate::bindings::Place;
use crate::handle::Handle;
use crate::inbox::{frame_route, Event, Item, Run};
use crate::limits::LINK_NAMES;
use crate::neighbour::Neighbour;
use crate::outbox::{Action, FormatSet, Marks, OutBatch, OutItem, OutRoute, What};
use crate::remote::{Spoken, HOME};
use photinus_proto::bluenet::control::{Control, Tag, LINK};
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::bluenet::message::{
    read_list, write_list, MessageHead, MessageKind, PacketHead, PacketRoute,
};
use photinus_proto::codec::{Packet, Route};
use photinus_proto::error::WireError;
use std::ops::Range;

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

    /// Where a packet of a session that others own goes, and sends it there.
    #[inline]
    pub(super) fn forward(
        &mut self,
        at: u32,
        session: Handle,
        from: usize,
        packet: &Packet,
    ) -> Forwarded {
        let owned = self
            .sessions
            .peek(session)
            .and_then(|of| of.bindings.as_ref());
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
        let bindings = self
            .sessions
            .peek(session)
            .and_then(|of| of.bindings.as_ref());
        bindings.is_some_and(|of| of.is_held())
    }

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
        let bindings = self
            .sessions
            .peek(session)
            .and_then(|of| of.bindings.as_ref());
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
        for neighbour in self.neighbours.all_mut() {
            let link = self.links.get(neighbour.link.local());
            let crowded = link.is_some_and(|of| of.link.is_crowded());
            if !crowded {
                ready.append(&mut neighbour.waiting);
            }
        }
        self.end_waits(ready);
    }

    fn end_waits(&mut self, waiting: Vec<(u32, u32)>) {
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

    /// A message from an owner to a client of ours.
    #[inline]
    fn relay(&mut self, link: u32, header: Header, payload: Range<usize>) -> Result<(), WireError> {
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
        let Some(action) = self.action(link, to, head.kind, header.flags)? else {
            return Ok(());
        };
        let body = payload.start + body..payload.end;
        self.relayed.push(action, &self.batch.arena[body]);
        Ok(())
    }

    /// A message to sessions of a list.
    fn relay_to_list(
        &mut self,
        link: u32,
        header: Header,
        payload: Range<usize>,
    ) -> Result<(), WireError> {
        let payload = &self.batch.arena[payload];
        let (list, at) = read_list(payload)?;
        let (head, body) = MessageHead::decode(&payload[at..])?;
        let marks = marks(header.flags);
        let neighbour = self.neighbours.at(link);
        let Some(what) = what(head.kind, |name| {
            Some(*neighbour?.names.get(name as usize)?)
        })?
        else {
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
    fn relay_to_group(
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
        let Some(Action::Send {
            what: What::Push(route),
            marks,
            ..
        }) = action
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

    /// What a message is for one of our sessions. `None`: its name was never told.
    #[inline]
    fn action(
        &self,
        link: u32,
        to: Handle,
        kind: MessageKind,
        flags: Flags,
    ) -> Result<Option<Action>, WireError> {
        match kind {
            MessageKind::Kick => return Ok(Some(Action::Kick { to })),
            MessageKind::Redirect => return Ok(Some(Action::Redirect { to })),
            _ => {}
        }
        let neighbour = self.neighbours.at(link);
        let marks = marks(flags);
        let what = what(kind, |name| Some(*neighbour?.names.get(name as usize)?))?;
        Ok(what.map(|what| Action::Send { to, what, marks }))
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

    /// Tells a neighbour what it can send here.
    fn tell_routes(&mut self, link: u32) {
        let routes = self.routes.clone();
        let header = Header::new(Kind::Control, Priority::Usual, 0, LINK);
        let entries = routes.entries();
        self.push_control(link, header, Control::Routes { entries });
    }

    pub(super) fn tell_routes_to_all(&mut self) {
        let links: Vec<u32> = self.neighbours.all().map(|of| of.link.local()).collect();
        for link in links {
            self.tell_routes(link);
        }
    }
}

/// Whether another node's client, whose listener's number stands for what it speaks, reads this format.
fn speaks(listener: u16, format: FormatSet) -> bool {
    Spoken::from_listener(listener).is_some_and(|of| format.has(of.format()))
}

fn marks(flags: Flags) -> Marks {
    Marks::new(flags.has(Flags::DROPPABLE), flags.has(Flags::SECRET))
}

/// What the client gets. `None`: the name of a push was never told.
#[inline]
fn what(
    kind: MessageKind,
    name: impl FnOnce(u32) -> Option<u32>,
) -> Result<Option<What>, WireError> {
    Ok(match kind {
        MessageKind::Response { id } => Some(What::Response { id }),
        MessageKind::Error { id } => Some(What::Error { id }),
        MessageKind::PushNumber { number } => Some(What::Push(OutRoute::Number(number))),
        MessageKind::Push { name: index } => {
            let name = name(index).ok_or(WireError::BadFrame)?;
            Some(What::Push(OutRoute::Named(name)))
        }
        MessageKind::Kick | MessageKind::Redirect => None,
    })
}
