//! Who owns the sessions of our clients: what owners say of them comes here, and what they are told goes out
//! from here, whether they are this node or another. `moving.rs` has the steps of the state machines.

use super::owning::{Arrival, ANY_NODE};
use super::Reactor;
use crate::back::Back;
use crate::bindings::{Bindings, Bound, Place};
use crate::connection::By;
use crate::handle::Handle;
use crate::homes;
use crate::inbox::Event;
use crate::neighbour::Neighbour;
use crate::remote::{Spoken, HOME};
use photinus_proto::binding::{Action, MAX_STATE};
use photinus_proto::bluenet::control::{Control, Tag};
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::error::WireError;
use photinus_proto::link::hello::Roles;
use photinus_proto::planted::{is_planted, Planted};

impl<B: Back> Reactor<B> {
    /// Where a session that begins now has its home. `None`: there is no node for it.
    pub(super) fn home_for(&self, session: Handle) -> Option<Place> {
        let homes = &self.homes;
        let bindings = self.sessions.bindings(session);
        let declined = |of: Handle| bindings.is_some_and(|its| its.declined.contains(&of));
        if homes.here {
            return (!declined(Handle::NONE)).then_some(Place::HERE);
        }
        let is_world = |of: &Neighbour| {
            let link = self.links.get(of.link.local());
            link.is_some_and(|of| of.roles.has(Roles::WORLD))
        };
        let serving = self.neighbours.all();
        let serving = serving.filter(|of| of.routes.is_some() && !of.leaving);
        let serving = serving.filter(|of| is_world(of) && !declined(of.link));
        let nodes = serving.map(|of| (Candidate(of.link, &of.node), homes::seed(&of.node)));
        let chosen = homes.choose(session, nodes)?;
        Some(Place {
            link: chosen.0,
            target: HOME,
            class: 0,
        })
    }

    /// Whether there is a node for new sessions.
    pub(super) fn has_homes(&self) -> bool {
        self.homes.here || self.home_for(Handle::NONE).is_some()
    }

    /// A session of a client of ours begins: its home hears of it.
    pub(super) fn open_at_home(
        &mut self,
        handle: Handle,
        listener: u16,
        home: Place,
        address: &str,
    ) {
        if home.is_here() {
            self.keep_address(handle, address);
            return self.tell(handle, Event::Opened, u32::from(listener), address);
        }
        if let Some(session) = self.sessions.live(handle) {
            session.bindings = Some(Box::new(Bindings::new(home, address)));
        }
        self.send_arrive(handle, 0, (home, 1), (true, false), None);
    }

    /// Of a client whose session is nobody's but this node's. A node that is alone needs it no more.
    fn keep_address(&mut self, session: Handle, address: &str) {
        if self.shared.identity().is_some() {
            self.addresses_at_home.insert(session.0, address.into());
        }
    }

    /// A session that had this node as its home, and nothing else, is to have more.
    pub(super) fn bind_at_home(&mut self, session: Handle) {
        let address = self.addresses_at_home.remove(&session.0);
        if let Some(of) = self.sessions.live(session) {
            let address = address.unwrap_or_default();
            of.bindings = Some(Box::new(Bindings::new(Place::HERE, &address)));
        }
    }

    /// What happened to a session's connection, to all who own it.
    pub(super) fn tell_owners(&mut self, handle: Handle, event: Event, number: u32, text: &str) {
        let Some(bindings) = self.bindings(handle) else {
            if event == Event::Resumed {
                self.keep_address(handle, text);
            }
            return self.tell(handle, event, number, text);
        };
        if event == Event::Resumed {
            bindings.address = text.into();
        }
        let here = bindings.known_here;
        let owners: Vec<_> = bindings.owners().collect();
        if here {
            self.tell(handle, event, number, text);
        }
        let control = match event {
            Event::Cut => Control::Cut,
            _ => Control::Resumed {
                gap: number != 0,
                address: text,
            },
        };
        let mut told = Vec::new();
        for (tag, place) in owners.into_iter().filter(|(_, of)| !of.is_here()) {
            // Once to each node, however much of the session is there.
            if !told.contains(&place.link) {
                told.push(place.link);
                self.say_to_owner(handle, place, tag, control);
            }
        }
    }

    /// The session has ended: all who own it hear of it, and those who only keep what they left with forget it.
    /// `bindings` were its.
    pub(super) fn close_bindings(
        &mut self,
        handle: Handle,
        bindings: Bindings,
        by: By,
        reason: &str,
    ) {
        let closed = Control::Closed {
            by: by as u8,
            reason,
        };
        let known_here = bindings.known_here;
        let mut told = Vec::new();
        for (tag, place) in bindings.owners().filter(|(_, of)| !of.is_here()) {
            if !told.contains(&place.link) {
                told.push(place.link);
                self.say_to_owner(handle, place, tag, closed);
            }
        }
        for (slot, machine) in bindings.into_machines() {
            let mut actions = Vec::new();
            machine.close(&mut actions);
            for action in actions {
                let Action::SendDetach { to, epoch } = action else {
                    continue; // nobody reads its client any more
                };
                if !to.is_here() && !told.contains(&to.link) {
                    self.say_to_owner(handle, to, Tag::new(slot, epoch), Control::Detach);
                }
            }
        }
        match known_here {
            true => self.tell(handle, Event::Closed, by as u32, reason),
            // Nobody here holds it.
            false => self.sessions.free(handle, self.now_ms),
        }
    }

    /// What an owner says of a session of a client of ours, under this tag.
    pub(super) fn hear_owner(
        &mut self,
        link: Handle,
        session: Handle,
        tag: Tag,
        control: Control<'_>,
    ) -> Result<(), WireError> {
        if let Control::Xoff | Control::Xon = control {
            let full = control == Control::Xoff;
            if !full || !is_planted(Planted::IgnoredXoff) {
                self.hear_flow(link, session, tag, full);
            }
            return Ok(());
        }
        let epoch = tag.epoch();
        let bindings = self.sessions.bindings(session);
        let owner = match bindings {
            Some(bindings) => bindings.owner(link, tag),
            // Nobody has asked for anything yet but to be its home.
            None if link == Handle::NONE => self
                .sessions
                .live(session)
                .is_some()
                .then_some((0, Place::HERE)),
            None => None,
        };
        let Some((slot, place)) = owner else {
            self.statistics.counts.dropped_stale_handle.add(1);
            return Ok(());
        };
        match control {
            Control::Fenced { state } => self.step(session, slot, |of, now, actions| {
                of.handle_fenced(place, epoch, state, now, actions);
            }),
            Control::Arrived => {
                let bound = self.bound(session, slot);
                if bound.is_some_and(|of| !of.machine.is_moving()) {
                    self.answer(session, slot, ""); // it was attached
                }
                if let (0, Some(bindings)) = (slot, self.bindings(session)) {
                    bindings.declined.clear();
                }
                self.step(session, slot, |of, _, actions| {
                    of.handle_arrived(place, epoch, actions);
                });
            }
            Control::Refused { reason } => {
                let steady = self
                    .bound(session, slot)
                    .is_some_and(|of| !of.machine.is_moving());
                if let (0, Some(bindings)) = (slot, self.bindings(session)) {
                    bindings.declined.push(place.link);
                }
                match (steady, slot) {
                    (false, _) => self.step(session, slot, |of, now, actions| {
                        of.handle_refused(place, epoch, now, actions);
                    }),
                    (true, 0) => self.kick(session, reason),
                    (true, _) => {
                        self.answer(session, slot, reason);
                        self.unbind(session, slot);
                    }
                }
                self.leave_groups_of(place.link, session);
            }
            Control::Data { state } if state.len() <= MAX_STATE => {
                if let Some(bindings) = self.bindings(session) {
                    bindings.data = state.into();
                }
            }
            Control::Attach {
                request,
                node,
                target,
                class,
            } => {
                let asked = (slot, request);
                match self.place_at(node, target, class) {
                    Some(to) => self.attach(session, to, asked),
                    None => self.answer_to(session, asked, 0, "unreachable"),
                }
            }
            Control::Move {
                request,
                slot: which,
                node,
                target,
                class,
            } => {
                let asked = (slot, request);
                let to = match (which, node) {
                    (0, ANY_NODE) => self.home_for(session),
                    _ => self.place_at(node, target, class),
                };
                match to {
                    Some(to) => self.begin_move(session, which, to, asked),
                    None => self.answer_to(session, asked, which, "unreachable"),
                }
            }
            Control::Leave {
                request,
                slot: which,
            } => {
                let there = which > 0 && self.bound(session, which).is_some();
                let reason = if there { "" } else { "not-attached" };
                if there {
                    self.close_binding(session, which);
                }
                self.answer_to(session, (slot, request), which, reason);
            }
            Control::GroupAdd { group } if link != Handle::NONE => {
                return self.join_group(link, group, session);
            }
            Control::GroupRemove { group } => self.leave_group(link, group, session),
            _ => return Err(WireError::BadFrame),
        }
        Ok(())
    }

    /// The session's budget at an owner is used up, or free again: for whatever is bound there. Whose budget that is
    /// the tag says: what was bound under one that is over may have been all, and what came there since begins anew. Such
    /// a node says no more that there is room.
    fn hear_flow(&mut self, link: Handle, session: Handle, tag: Tag, full: bool) {
        let bindings = self.bindings(session);
        let bindings = bindings.filter(|of| !full || of.owner(link, tag).is_some());
        if !bindings.is_some_and(|of| of.set_full_at(link, full)) {
            self.statistics.counts.dropped_stale_handle.add(1);
        } else if !full {
            self.read_bound_again(session);
        }
    }

    /// What an owner was sent it does not know: it has lost what it had.
    pub(super) fn hear_gone(&mut self, link: Handle, session: Handle, tag: Tag) {
        let bindings = self.sessions.bindings(session);
        if let Some((slot, place)) = bindings.and_then(|of| of.owner(link, tag)) {
            self.step(session, slot, |of, now, actions| {
                of.handle_lost(place, now, actions);
            });
        }
    }

    /// A link is lost, and all owners behind it.
    pub(super) fn lose_owners(&mut self, link: Handle) {
        for session in self.sessions.handles() {
            let bindings = self.sessions.bindings(session);
            let Some(bindings) = bindings else { continue };
            let lost: Vec<_> = bindings
                .places()
                .filter(|(_, place)| place.link == link)
                .collect();
            for (slot, place) in lost {
                self.step(session, slot, |of, now, actions| {
                    of.handle_lost(place, now, actions);
                });
            }
        }
    }

    pub(super) fn send_arrive(
        &mut self,
        session: Handle,
        slot: u8,
        (to, epoch): (Place, u16),
        (fresh, gap): (bool, bool),
        state: Option<&[u8]>,
    ) {
        let Some(of) = self.sessions.live(session) else {
            return;
        };
        let address = of.bindings.as_ref().map(|of| of.address.clone());
        let address = address.unwrap_or_default();
        let listener = of.listener;
        let serving = self.listeners.get(usize::from(listener));
        let protocol = serving.and_then(Option::as_ref).map(|of| &of.protocol);
        let Some(spoken) = protocol.map(|of| Spoken::of(of)) else {
            return;
        };
        let tag = Tag::new(slot, epoch);
        if to.is_here() {
            let arrival = Arrival {
                target: to.target,
                fresh,
                gap,
                spoken: listener,
            };
            return self.tell_of_arrival(session, tag, arrival, &address, state);
        }
        let arrive = Control::Arrive {
            target: to.target,
            protocol: spoken.byte(),
            fresh,
            gap,
            address: &address,
            state,
        };
        self.say_to_owner(session, to, tag, arrive);
    }

    /// To an owner, of whatever node. Arrivals at this one are told by [`send_arrive`](Self::send_arrive).
    pub(super) fn say_to_owner(
        &mut self,
        session: Handle,
        place: Place,
        tag: Tag,
        control: Control<'_>,
    ) {
        if !place.is_here() {
            let header = Header::new(Kind::Control, Priority::Usual, tag.0, session.0);
            self.push_control(place.link.local(), header, control);
            return;
        }
        match control {
            Control::Fence => {
                self.tell_of_binding(session, Event::Fence, tag, place.target, 0, b"");
            }
            Control::Detach => {
                self.tell_of_binding(session, Event::Detached, tag, place.target, 0, b"");
            }
            Control::Done {
                request,
                slot,
                reason,
            } => self.tell_done(session, request, slot, reason),
            _ => {}
        }
    }

    /// Somewhere at a node that this one has a link to, or at this one itself.
    fn place_at(&self, node: &str, target: u32, class: u32) -> Option<Place> {
        if self.shared.identity().is_none_or(|own| own.node == node) {
            return Some(Place {
                link: Handle::NONE,
                target,
                class,
            });
        }
        let neighbour = self.neighbours.all().find(|of| *of.node == *node)?;
        neighbour.routes.as_ref()?;
        Some(Place {
            link: neighbour.link,
            target,
            class,
        })
    }

    pub(super) fn bindings(&mut self, session: Handle) -> Option<&mut Bindings> {
        self.sessions.live(session)?.bindings.as_deref_mut()
    }

    pub(super) fn bound(&mut self, session: Handle, slot: u8) -> Option<&Bound> {
        self.bindings(session)?.at(slot)
    }

    /// Its client may be read again, if nothing else holds it.
    pub(super) fn read_bound_again(&mut self, session: Handle) {
        if self.bindings(session).is_some_and(|of| !of.is_held()) {
            if let Some(at) = self.connection_of(session) {
                self.read_held_again(at);
            }
        }
    }
}

/// A node that could be a home.
struct Candidate<'a>(Handle, &'a str);

impl AsRef<str> for Candidate<'_> {
    fn as_ref(&self) -> &str {
        self.1
    }
}
