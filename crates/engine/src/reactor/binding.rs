//! Who owns the sessions of our clients: what their bindings' state machines say is carried out here, and
//! what owners say of them comes here, whether they are this node or another.

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
use photinus_proto::binding::{Action, Binding, MAX_STATE};
use photinus_proto::bluenet::control::{Control, Tag};
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::error::WireError;
use photinus_proto::link::hello::Roles;
use photinus_proto::planted::{is_planted, Planted};

/// What a home is told of an attachment that it did not ask about: nobody has it any more.
const UNASKED: u32 = 0;

impl<B: Back> Reactor<B> {
    /// Where a session that begins now has its home. `None`: there is no node for it.
    pub(super) fn home_for(&self, session: Handle) -> Option<Place> {
        let homes = &self.homes;
        let bindings = self.sessions.peek(session);
        let bindings = bindings.and_then(|of| of.bindings.as_ref());
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
    fn bind_at_home(&mut self, session: Handle) {
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
        let bindings = self
            .sessions
            .live(session)
            .and_then(|of| of.bindings.as_ref());
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
                    (true, 0) => self.end_by_server(session, reason),
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
        let bindings = self
            .sessions
            .live(session)
            .and_then(|of| of.bindings.as_ref());
        if let Some((slot, place)) = bindings.and_then(|of| of.owner(link, tag)) {
            self.step(session, slot, |of, now, actions| {
                of.handle_lost(place, now, actions);
            });
        }
    }

    /// A link is lost, and all owners behind it.
    pub(super) fn lose_owners(&mut self, link: Handle) {
        for session in self.sessions.handles() {
            let bindings = self
                .sessions
                .live(session)
                .and_then(|of| of.bindings.as_ref());
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

    /// Moves whose next step has not come in time.
    pub(super) fn time_out_moves(&mut self) {
        while let Some((handle, slot)) = self.moves.pop_due(self.now_ms) {
            self.step(Handle(handle), slot as u8, |of, now, actions| {
                of.handle_timeout(now, actions);
            });
        }
    }

    fn attach(&mut self, session: Handle, to: Place, asked: (u8, u32)) {
        if self.bindings(session).is_none() {
            self.bind_at_home(session);
        }
        let Some(bindings) = self.bindings(session) else {
            return;
        };
        let there = bindings
            .slots()
            .find(|(slot, of)| *slot > 0 && of.machine.at() == Some(to));
        if let Some((slot, _)) = there {
            return self.answer_to(session, asked, slot, "");
        }
        match bindings.attach(to, asked) {
            Some((slot, epoch)) => {
                bindings.known_here |= to.is_here();
                self.send_arrive(session, slot, (to, epoch), (true, false), None);
            }
            None => self.answer_to(session, asked, 0, "too-many"),
        }
    }

    fn begin_move(&mut self, session: Handle, slot: u8, to: Place, asked: (u8, u32)) {
        if self.bindings(session).is_none() && slot == 0 {
            self.bind_at_home(session);
        }
        match self.bindings(session).and_then(|of| of.at_mut(slot)) {
            None => self.answer_to(session, asked, slot, "not-attached"),
            Some(bound) if bound.asked.is_some() => {
                self.answer_to(session, asked, slot, "busy");
            }
            Some(bound) => {
                bound.asked = Some(asked);
                self.step(session, slot, |of, now, actions| {
                    of.handle_move(to, now, actions);
                });
            }
        }
    }

    /// One step of a place's state machine, and what follows from it.
    fn step(
        &mut self,
        session: Handle,
        slot: u8,
        step: impl FnOnce(&mut Binding<Place>, u64, &mut Vec<Action<Place>>),
    ) {
        let now = self.now_ms;
        let mut actions = Vec::new();
        let Some(bound) = self.bindings(session).and_then(|of| of.at_mut(slot)) else {
            return;
        };
        step(&mut bound.machine, now, &mut actions);
        if bound.machine.next_ms().is_some() {
            self.moves.set(now, session.0, slot.into());
        }
        for action in actions {
            self.carry_out_move(session, slot, action);
        }
    }

    fn carry_out_move(&mut self, session: Handle, slot: u8, action: Action<Place>) {
        match action {
            Action::SendFence { to, epoch } => {
                self.say_to_owner(session, to, Tag::new(slot, epoch), Control::Fence);
            }
            Action::SendArrive {
                to,
                epoch,
                state,
                gap,
            } => {
                if to.is_here() {
                    if let Some(bindings) = self.bindings(session) {
                        bindings.known_here = true;
                    }
                }
                self.send_arrive(session, slot, (to, epoch), (false, gap), state.as_deref());
                // Whoever has it now says so itself if it has no room.
                if let Some(bindings) = self.bindings(session) {
                    bindings.set_full(slot, false);
                }
                self.read_bound_again(session);
            }
            Action::SendDetach { to, epoch } => {
                self.say_to_owner(session, to, Tag::new(slot, epoch), Control::Detach);
                self.leave_groups_of(to.link, session);
            }
            Action::Hold => {
                if let Some(bindings) = self.bindings(session) {
                    bindings.hold(slot, true);
                }
            }
            Action::Release => {
                if let Some(bindings) = self.bindings(session) {
                    bindings.hold(slot, false);
                    bindings.set_full(slot, false);
                }
                self.read_bound_again(session);
            }
            Action::Moved { .. } => {
                self.statistics.counts.moved.add(1);
                if let Some(bindings) = self.bindings(session) {
                    bindings.set_full(slot, false);
                }
                self.read_bound_again(session);
                self.answer(session, slot, "");
            }
            Action::MoveFailed { reason, .. } => {
                self.statistics.counts.moves_failed.add(1);
                self.answer(session, slot, reason.reason());
            }
            Action::TellLost { reason } if slot > 0 => {
                let bound = self.bindings(session).and_then(|of| of.at_mut(slot));
                let asked = bound.and_then(|of| of.asked.take());
                self.unbind(session, slot);
                let asked = asked.unwrap_or((0, UNASKED));
                self.answer_to(session, asked, slot, reason.reason());
            }
            Action::TellLost { .. } => self.find_home(session),
        }
    }

    /// Its home is lost, and it gets another one, with the data that the proxy has.
    fn find_home(&mut self, session: Handle) {
        let Some(home) = self.home_for(session) else {
            return self.end_by_server(session, "no-home");
        };
        self.statistics.counts.rehomed.add(1);
        let bindings = self.bindings(session);
        let data = bindings.map(|of| std::mem::take(&mut of.data));
        let copy = data.as_deref().filter(|of| !of.is_empty());
        self.step(session, 0, |of, now, actions| {
            of.replace(home, copy, now, actions);
        });
        if let Some(bindings) = self.bindings(session) {
            bindings.set_full(0, false);
            bindings.data = data.unwrap_or_default();
        }
        self.read_bound_again(session);
    }

    fn end_by_server(&mut self, session: Handle, reason: &str) {
        self.kick(session, reason);
    }

    /// Ends what is bound in this place; its owner hears of it.
    fn close_binding(&mut self, session: Handle, slot: u8) {
        // Whoever waits for what is under way there waits for nothing.
        self.answer(session, slot, "not-attached");
        let Some(bound) = self.bindings(session).and_then(|of| of.detach(slot)) else {
            return;
        };
        let mut actions = Vec::new();
        bound.machine.close(&mut actions);
        for action in actions {
            self.carry_out_move(session, slot, action);
        }
        self.read_bound_again(session);
    }

    fn unbind(&mut self, session: Handle, slot: u8) {
        if let Some(bindings) = self.bindings(session) {
            bindings.detach(slot);
        }
        self.read_bound_again(session);
    }

    /// Tells whoever asked for what is under way in this place how that ended; without a reason it was done.
    fn answer(&mut self, session: Handle, slot: u8, reason: &str) {
        let bound = self.bindings(session).and_then(|of| of.at_mut(slot));
        if let Some(asked) = bound.and_then(|of| of.asked.take()) {
            self.answer_to(session, asked, slot, reason);
        }
    }

    fn answer_to(&mut self, session: Handle, (asker, request): (u8, u32), slot: u8, reason: &str) {
        if request == UNASKED && reason.is_empty() {
            return; // who asked for that has gone with it
        }
        let done = Control::Done {
            request,
            slot,
            reason,
        };
        let owner = match self.bindings(session) {
            None => Some((Tag::new(0, 1), Place::HERE)),
            // Whoever has the asker's place now: it may have moved itself.
            Some(bindings) => bindings.owners().find(|(tag, _)| tag.slot() == Some(asker)),
        };
        if let Some((tag, place)) = owner {
            self.say_to_owner(session, place, tag, done);
        }
    }

    fn send_arrive(
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
    fn say_to_owner(&mut self, session: Handle, place: Place, tag: Tag, control: Control<'_>) {
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

    fn bound(&mut self, session: Handle, slot: u8) -> Option<&Bound> {
        self.bindings(session)?.at(slot)
    }

    /// Its client may be read again, if nothing else holds it.
    fn read_bound_again(&mut self, session: Handle) {
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
