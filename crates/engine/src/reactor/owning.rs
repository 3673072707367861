//! Sessions that are owned here and whose clients are at another node's proxy: what comes from there goes
//! to Python as that of a client of ours would, and what is sent to them goes there.

use super::Reactor;
use crate::back::Back;
use crate::connection::By;
use crate::handle::Handle;
use crate::inbox::{Event, Item, UNKNOWN_ROUTE};
use crate::limits::LINK_NAMES;
use crate::outbox::{OutItem, OutRoute, Owner, What};
use crate::remote::{Remote, Spoken, HOME};
use crate::session::{Waits, NONE};
use photinus_proto::binding::MAX_STATE;
use photinus_proto::bluenet::control::{Control, Tag};
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::bluenet::message::{MessageHead, MessageKind, PacketHead, PacketRoute};
use photinus_proto::codec;
use photinus_proto::error::WireError;
use std::ops::Range;

/// The number of a request of the engine's own: Python's begin with 1.
const HAND_ON: u32 = 0;
/// Where a home is moved to that its proxy is to choose.
pub(super) const ANY_NODE: &str = "";

impl<B: Back> Reactor<B> {
    /// A packet from a client of a proxy, for its session's owner here.
    #[inline]
    pub(super) fn hear_packet(
        &mut self,
        link: u32,
        header: Header,
        payload: Range<usize>,
    ) -> Result<(), WireError> {
        let (head, body) = PacketHead::decode(&self.batch.arena[payload.clone()])?;
        let theirs = Handle(header.source);
        let ours = self.neighbours.session(link, theirs);
        let remote = self.sessions.remote(ours);
        let remote = remote.filter(|of| of.theirs == theirs);
        let target = remote.and_then(|of| match header.kind {
            Kind::Node => of.target(Tag(header.destination)),
            _ => of
                .is_bound_to(header.destination)
                .then_some(header.destination),
        });
        let Some(target) = target else {
            match header.kind {
                Kind::Node => self.return_to_sender(link, header),
                // Its destination is no tag, and would be taken for one.
                _ => self.statistics.counts.dropped_stale_handle.add(1),
            }
            return Ok(());
        };
        if header.flags.has(Flags::DROPPABLE) && self.busy.is_one() {
            self.statistics.counts.dropped_overload.add(1);
            return Ok(());
        }
        let route = match head.route {
            PacketRoute::Unknown if head.kind != codec::Kind::Request => {
                self.statistics.counts.unknown_routes.add(1);
                return Ok(());
            }
            PacketRoute::Default => self.routes.default_route(),
            PacketRoute::Unknown => UNKNOWN_ROUTE,
            PacketRoute::Index(index) => index,
        };
        let place = payload.start + body..payload.end;
        let item = Item {
            handle: ours,
            event: Event::Packet(head.kind),
            id: head.id,
            route,
            number: if target == HOME { head.number } else { target },
            start: place.start as u32,
            len: place.len() as u32,
        };
        if self.offer_to_app(&item) {
            self.tell_for_apps();
            return Ok(());
        }
        self.take_remote(item, payload.len() as u32);
        Ok(())
    }

    /// Puts a packet of a remote session into the batch, at the cost of its budget there.
    #[inline]
    fn take_remote(&mut self, item: Item, bytes: u32) {
        let handle = item.handle;
        self.batch.items.push(item);
        self.batch.count(handle, bytes);
        let cost = super::inbound::cost(1, bytes);
        self.unhandled += cost;
        let limit = self.limits.inbound_session_bytes;
        let Some(session) = self.sessions.live(handle) else {
            return;
        };
        session.unhandled += cost;
        if session.unhandled >= limit && !session.paused {
            session.paused = true;
            self.paused_sessions += 1;
            self.statistics.counts.paused_session.add(1);
            self.say_to_proxy(handle, Priority::Control, Control::Xoff);
        }
    }

    /// Something of it comes or goes: XOFF may have been said under the tag of what is over, and is not heard then.
    fn say_again_that_it_is_full(&mut self, ours: Handle) {
        if self.sessions.live(ours).is_some_and(|of| of.paused) {
            self.say_to_proxy(ours, Priority::Control, Control::Xoff);
        }
    }

    /// Half of its budget is free again.
    pub(super) fn read_remote_again(&mut self, handle: Handle) {
        self.say_to_proxy(handle, Priority::Control, Control::Xon);
    }

    /// What a proxy says of one of its sessions to its owner here.
    pub(super) fn hear_proxy(
        &mut self,
        link: u32,
        header: Header,
        control: Control<'_>,
    ) -> Result<(), WireError> {
        let (theirs, tag) = (Handle(header.source), Tag(header.destination));
        if let Control::Arrive {
            target,
            protocol,
            fresh,
            gap,
            address,
            state,
        } = control
        {
            let spoken = Spoken::from_byte(protocol).ok_or(WireError::BadFrame)?;
            // Any epoch will do: they wrap.
            if tag.slot().is_none() || theirs == Handle::NONE {
                return Err(WireError::BadFrame);
            }
            match self.remote_session(link, theirs, spoken) {
                Some(ours) => {
                    let arrival = Arrival {
                        target,
                        fresh,
                        gap,
                        spoken: spoken.as_listener(),
                    };
                    return self.arrive(ours, tag, arrival, address, state);
                }
                None => {
                    let reason = match self.draining {
                        Some(_) => "shutdown",
                        None => "full",
                    };
                    let header = Header::new(Kind::Control, Priority::Usual, theirs.0, tag.0);
                    self.push_control(link, header, Control::Refused { reason });
                }
            }
            return Ok(());
        }
        let ours = self.neighbours.session(link, theirs);
        let remote = self.sessions.live(ours).and_then(|of| of.remote.as_mut());
        let Some(remote) = remote.filter(|of| of.theirs == theirs) else {
            // It ended here before the proxy knew.
            return Ok(());
        };
        match control {
            Control::Fence => match remote.target(tag) {
                Some(target) => self.tell_of_binding(ours, Event::Fence, tag, target, 0, b""),
                None => self.return_to_sender(link, header),
            },
            Control::Detach => {
                if let Some(target) = remote.unbind(tag) {
                    self.tell_of_binding(ours, Event::Detached, tag, target, 0, b"");
                    self.forget_if_free(ours);
                    self.say_again_that_it_is_full(ours);
                }
            }
            Control::Cut => self.tell(ours, Event::Cut, 0, ""),
            Control::Resumed { gap, address } => {
                self.tell(ours, Event::Resumed, u32::from(gap), address);
            }
            Control::Closed { by, reason } => {
                self.end_session(ours, By::from_number(by.into()), reason);
            }
            Control::Done {
                request,
                slot,
                reason,
            } => {
                let draining = self.draining.clone().filter(|_| request == HAND_ON);
                match draining.filter(|_| slot == 0 && !reason.is_empty()) {
                    // Nobody takes it.
                    Some(why) => self.kick(ours, &why),
                    None => self.tell_done(ours, request, slot, reason),
                }
            }
            _ => return Err(WireError::BadFrame),
        }
        Ok(())
    }

    /// Our session for this one of a proxy's, which is opened if it is not there. `None`: there is no room.
    fn remote_session(&mut self, link: u32, theirs: Handle, spoken: Spoken) -> Option<Handle> {
        let known = self.neighbours.session(link, theirs);
        let remote = self.sessions.remote(known);
        if remote.is_some_and(|of| of.theirs == theirs) {
            return Some(known);
        }
        if self.neighbours.at(link).is_none() || self.draining.is_some() {
            return None;
        }
        if remote.is_some() {
            // Its place has another session, so it is over; whoever let go of it should have said so.
            self.end_session(known, By::Network, "replaced");
        }
        if !self.shared.gate.session_begins() {
            return None;
        }
        let opened = self.sessions.open(NONE, spoken.as_listener(), self.now_ms);
        let Some(ours) = opened else {
            self.shared.gate.session_ended();
            return None;
        };
        let neighbour = self.neighbours.at_mut(link)?;
        neighbour.set_session(theirs, ours);
        let link = neighbour.link;
        if let Some(session) = self.sessions.live(ours) {
            session.remote = Some(Box::new(Remote::new(link, theirs)));
        }
        self.shared.speaks(spoken.format());
        self.statistics.counts.sessions_opened.add(1);
        Some(ours)
    }

    /// A session is owned here from now on.
    fn arrive(
        &mut self,
        ours: Handle,
        tag: Tag,
        arrival: Arrival,
        address: &str,
        state: Option<&[u8]>,
    ) -> Result<(), WireError> {
        let Some(session) = self.sessions.live(ours) else {
            return Ok(());
        };
        if let Some(remote) = &mut session.remote {
            if !remote.arrive(tag, arrival.target) {
                self.forget_if_free(ours);
                return Err(WireError::BadFrame);
            }
            if arrival.fresh && arrival.target == HOME {
                remote.speak(tag); // nothing to be answered
            }
        }
        // The proxy has forgotten it with what was bound before.
        self.say_again_that_it_is_full(ours);
        self.tell_of_arrival(ours, tag, arrival, address, state);
        Ok(())
    }

    pub(super) fn tell_of_arrival(
        &mut self,
        ours: Handle,
        tag: Tag,
        arrival: Arrival,
        address: &str,
        state: Option<&[u8]>,
    ) {
        let Arrival {
            target,
            fresh,
            gap,
            spoken,
        } = arrival;
        let spoken = u32::from(spoken);
        let remote = self.sessions.remote(ours);
        let origin = remote.map_or((0, 0), |of| (of.link.0, of.theirs.0));
        if (target, fresh) == (HOME, true) {
            let text = address.as_bytes();
            return self.tell_bytes(ours, Event::Opened, origin.1, origin.0, spoken, text);
        }
        let flags = [gap, fresh, state.is_some()].map(u32::from);
        let flags = flags[0] | flags[1] << 1 | flags[2] << 2 | spoken << 3;
        let mut text = Vec::new();
        for number in [origin.0, origin.1, address.len() as u32] {
            text.extend_from_slice(&number.to_be_bytes());
        }
        text.extend_from_slice(address.as_bytes());
        text.extend_from_slice(state.unwrap_or_default());
        self.tell_of_binding(ours, Event::Arrived, tag, target, flags, &text);
    }

    pub(super) fn tell_of_binding(
        &mut self,
        ours: Handle,
        event: Event,
        tag: Tag,
        target: u32,
        flags: u32,
        text: &[u8],
    ) {
        self.tell_bytes(ours, event, tag.0, flags, target, text);
    }

    pub(super) fn tell_done(&mut self, ours: Handle, request: u32, slot: u8, reason: &str) {
        let text = reason.as_bytes();
        self.tell_bytes(ours, Event::Done, slot.into(), 0, request, text);
    }

    /// This node stops: a session that is at home here and whose client is elsewhere goes on to another home, in
    /// order; all others end.
    pub(super) fn hand_on_or_kick(&mut self, ours: Handle, reason: &str) {
        let remote = self.sessions.remote(ours);
        if !remote.is_some_and(|of| of.is_home()) {
            return self.kick(ours, reason);
        }
        let move_on = Control::Move {
            request: HAND_ON,
            slot: 0,
            node: ANY_NODE,
            target: HOME,
            class: 0,
        };
        self.say_to_proxy(ours, Priority::Usual, move_on);
    }

    /// None of its bindings is here any more: it goes on without us.
    pub(super) fn forget_if_free(&mut self, ours: Handle) {
        let remote = self.sessions.remote(ours);
        if remote.is_some_and(|of| of.is_free()) {
            self.leave_groups(ours);
            self.end_quietly(ours);
            self.tell(ours, Event::Gone, 0, "");
        }
    }

    /// What an owner here says of a session, to whoever holds its client.
    pub(super) fn own(&mut self, ours: Handle, what: Owner, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let too_large = payload.len() > MAX_STATE;
        let (tag, control) = match what {
            Owner::Data if too_large => {
                return self.statistics.counts.dropped_unsendable.add(1);
            }
            Owner::Data => (None, Control::Data { state: payload }),
            Owner::Arrived { tag } => (Some(tag), Control::Arrived),
            Owner::Refused { tag } => (Some(tag), Control::Refused { reason: &text }),
            Owner::Fenced { tag } => (Some(tag), Control::Fenced { state: payload }),
            Owner::Attach {
                request,
                target,
                class,
            } => {
                let node = &*text;
                let attach = Control::Attach {
                    request,
                    node,
                    target,
                    class,
                };
                (None, attach)
            }
            Owner::Move {
                request,
                slot,
                target,
                class,
            } => {
                let node = &*text;
                let move_on = Control::Move {
                    request,
                    slot,
                    node,
                    target,
                    class,
                };
                (None, move_on)
            }
            Owner::Leave { request, slot } => (None, Control::Leave { request, slot }),
        };
        let Some(session) = self.sessions.live(ours) else {
            return;
        };
        let Some(remote) = &mut session.remote else {
            // Its client is ours, and so is what is decided.
            let tag = tag.unwrap_or(Tag::new(0, session.home_epoch()));
            let heard = self.hear_owner(Handle::NONE, ours, tag, control);
            debug_assert!(heard.is_ok(), "owners here say nothing else");
            return;
        };
        let Some(tag) = tag.or(remote.any_tag()) else {
            return;
        };
        if matches!(what, Owner::Arrived { .. }) && !remote.speak(tag) {
            return; // it was given to another meanwhile
        }
        let header = Header::new(Kind::Control, Priority::Usual, remote.theirs.0, tag.0);
        let link = remote.link.local();
        match what {
            Owner::Fenced { .. } => remote.leave(tag),
            Owner::Refused { .. } => remote.refuse(tag),
            _ => {}
        }
        self.push_control(link, header, control);
        self.forget_if_free(ours);
    }

    /// What is said of a remote session to the node that holds its client.
    pub(super) fn say_to_proxy(
        &mut self,
        ours: Handle,
        priority: Priority,
        control: Control<'_>,
    ) -> bool {
        let remote = self.sessions.remote(ours);
        let Some((link, theirs, tag)) =
            remote.and_then(|of| Some((of.link, of.theirs, of.any_tag()?)))
        else {
            return false;
        };
        let header = Header::new(Kind::Control, priority, theirs.0, tag.0);
        self.push_control(link.local(), header, control)
    }

    /// Sends a message of this turn to a remote session. `false`: the session is none.
    #[inline]
    pub(super) fn send_to_remote(&mut self, to: Handle, entry: &OutItem, body: &[u8]) -> bool {
        let Some(session) = self.sessions.live(to) else {
            return false;
        };
        let Some(remote) = &session.remote else {
            return false;
        };
        let (link, theirs) = (remote.link.local(), remote.theirs);
        let Some(waits) = super::outbound::waits(entry) else {
            return true;
        };
        // Its end may be said before it has been taken.
        let arriving = remote.arriving().filter(|_| waits.is_goodbye());
        let Some(tag) = remote.tag().or(arriving) else {
            self.statistics.counts.dropped_gone.add(1);
            return true;
        };
        let header = Header::new(Kind::Session, Priority::Usual, theirs.0, tag.0);
        self.push_message(link, header, waits, 3, &[], body);
        true
    }

    /// Sends to a session of another node's client, whoever owns it.
    pub(super) fn send_to(&mut self, link: Handle, session: Handle, waits: Waits, body: &[u8]) {
        match self.links.find(link) {
            Some(slot) => {
                let header = Header::new(Kind::Session, Priority::Usual, session.0, 0);
                self.push_message(slot, header, waits, 3, &[], body);
            }
            None => self.statistics.counts.link_gone.add(1),
        }
    }

    /// A message's frame: what it is, then `list` in front of its head, then the body.
    pub(super) fn push_message(
        &mut self,
        link: u32,
        mut header: Header,
        waits: Waits,
        formats: u8,
        list: &[u8],
        body: &[u8],
    ) -> bool {
        let kind = match waits {
            Waits::Send(What::Response { id }, _) => MessageKind::Response { id },
            Waits::Send(What::Error { id }, _) => MessageKind::Error { id },
            Waits::Send(What::Push(OutRoute::Number(number)), _) => {
                MessageKind::PushNumber { number }
            }
            Waits::Send(What::Push(OutRoute::Named(name)), _) => {
                if name >= LINK_NAMES || name as usize >= self.out.names.as_slice().len() {
                    self.statistics.counts.dropped_unsendable.add(1);
                    return false;
                }
                self.name_to(link, name);
                MessageKind::Push { name }
            }
            Waits::Kick => MessageKind::Kick,
            Waits::Redirect => MessageKind::Redirect,
        };
        if let Waits::Send(_, marks) = waits {
            if marks.droppable() {
                header.flags = header.flags.with(Flags::DROPPABLE);
            }
            if marks.secret() {
                header.flags = header.flags.with(Flags::SECRET);
            }
        }
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        MessageHead { kind, formats }.encode(&mut head);
        let sent = self.push_frame(link, header, &[list, &head, body]);
        self.head = head;
        if sent {
            self.statistics.counts.relayed_out.add(1);
        }
        sent
    }

    /// Has the node at the other end know our names of pushes up to this one.
    fn name_to(&mut self, link: u32, name: u32) {
        loop {
            let neighbour = self.neighbours.at(link);
            let Some(announced) = neighbour.map(|of| of.announced).filter(|of| *of <= name) else {
                return;
            };
            let (text, number) = match self.out.names.as_slice().get(announced as usize) {
                Some((text, number)) => (text.clone(), *number),
                None => return,
            };
            let name = Control::Name {
                index: announced,
                number,
                name: &text,
            };
            self.tell_neighbour(link, name);
            if let Some(neighbour) = self.neighbours.at_mut(link) {
                neighbour.announced = announced + 1;
            }
        }
    }

    /// A frame whose receiver is none of ours: counted, and its sender is told.
    pub(super) fn return_to_sender(&mut self, link: u32, header: Header) {
        self.statistics.counts.dropped_stale_handle.add(1);
        let back = Header::new(
            Kind::Control,
            Priority::Control,
            header.source,
            header.destination,
        );
        self.push_control(link, back, Control::Gone);
    }

    pub(super) fn push_control(&mut self, link: u32, header: Header, control: Control<'_>) -> bool {
        let mut payload = std::mem::take(&mut self.head);
        payload.clear();
        control.encode(&mut payload);
        let sent = self.push_frame(link, header, &[&payload]);
        self.head = payload;
        sent
    }

    /// The proxy of these sessions is lost, and their clients with it.
    pub(super) fn lose_remotes(&mut self, link: u32) {
        let sessions = self.neighbours.at(link).map(|of| of.sessions());
        for ours in sessions.unwrap_or_default() {
            let remote = self.sessions.remote(ours);
            if remote.is_some_and(|of| of.link.local() == link) {
                self.end_session(ours, By::Network, "proxy-lost");
            }
        }
    }
}

/// How a session comes to its owner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub target: u32,
    pub fresh: bool,
    pub gap: bool,
    /// As a listener's number.
    pub spoken: u16,
}
