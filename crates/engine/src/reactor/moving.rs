//! Steps of the state machines that say who owns a session (photinus_proto's `binding`), and what follows from them.

use super::Reactor;
use crate::back::Back;
use crate::bindings::{Loss, Place};
use crate::handle::Handle;
use photinus_proto::binding::{Action, Binding};
use photinus_proto::bluenet::control::{Control, Tag};

/// What a home is told of an attachment that it did not ask about: nobody has it any more.
const UNASKED: u32 = 0;

impl<B: Back> Reactor<B> {
    /// Moves whose next step has not come in time.
    pub(super) fn time_out_moves(&mut self) {
        while let Some((handle, slot)) = self.moves.pop_due(self.now_ms) {
            self.step(Handle(handle), slot as u8, |of, now, actions| {
                of.handle_timeout(now, actions);
            });
        }
    }

    pub(super) fn attach(&mut self, session: Handle, to: Place, asked: (u8, u32)) {
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

    pub(super) fn begin_move(&mut self, session: Handle, slot: u8, to: Place, asked: (u8, u32)) {
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
    pub(super) fn step(
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
        if let (0, Some(bindings)) = (slot, self.bindings(session)) {
            if bindings.at(0).is_none_or(|of| !of.machine.is_moving()) {
                bindings.losses.clear();
            }
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
                if slot == 0 {
                    self.tell_losses(session, to);
                }
                // Whoever has it now says so itself if it has no room. That is heard from here on, whatever else
                // becomes of the move.
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
                }
                self.read_bound_again(session);
            }
            Action::Moved { .. } => {
                self.statistics.counts.moved.add(1);
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
                match asked {
                    Some(asked) => self.answer_to(session, asked, slot, reason.reason()),
                    None => self.tell_loss(session, slot, reason.reason()),
                }
            }
            Action::TellLost { .. } => self.find_home(session),
        }
    }

    /// The home hears that an attachment is lost which it did not ask about. One that has been told to leave may not
    /// heed it any more, and one that is coming may not stay: whoever has it next hears of it, too.
    fn tell_loss(&mut self, session: Handle, slot: u8, reason: &'static str) {
        if let Some(bindings) = self.bindings(session) {
            let home = bindings.at(0).filter(|of| of.machine.is_moving());
            if let Some(at) = home.and_then(|of| of.machine.at()) {
                let told = at.link;
                bindings.losses.retain(|of| of.slot != slot);
                bindings.losses.push(Loss { slot, reason, told });
            }
        }
        self.answer_to(session, (0, UNASKED), slot, reason);
    }

    /// What was lost before a home has got it, right behind its arrival there.
    fn tell_losses(&mut self, session: Handle, to: Place) {
        let Some(bindings) = self.bindings(session) else {
            return;
        };
        let untold = bindings.losses.iter_mut().filter(|of| of.told != to.link);
        let untold: Vec<_> = untold
            .map(|of| {
                of.told = to.link;
                *of
            })
            .collect();
        for Loss { slot, reason, .. } in untold {
            self.answer_to(session, (0, UNASKED), slot, reason);
        }
    }

    /// Its home is lost, and it gets another one, with the data that the proxy has.
    fn find_home(&mut self, session: Handle) {
        let Some(home) = self.home_for(session) else {
            return self.kick(session, "no-home");
        };
        self.statistics.counts.rehomed.add(1);
        let bindings = self.bindings(session);
        let data = bindings.map(|of| std::mem::take(&mut of.data));
        let copy = data.as_deref().filter(|of| !of.is_empty());
        self.step(session, 0, |of, now, actions| {
            of.replace(home, copy, now, actions);
        });
        if let Some(bindings) = self.bindings(session) {
            bindings.data = data.unwrap_or_default();
        }
    }

    /// Ends what is bound in this place; its owner hears of it.
    pub(super) fn close_binding(&mut self, session: Handle, slot: u8) {
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

    pub(super) fn unbind(&mut self, session: Handle, slot: u8) {
        if let Some(bindings) = self.bindings(session) {
            bindings.detach(slot);
        }
        self.read_bound_again(session);
    }

    /// Tells whoever asked for what is under way in this place how that ended; without a reason it was done.
    pub(super) fn answer(&mut self, session: Handle, slot: u8, reason: &str) {
        let bound = self.bindings(session).and_then(|of| of.at_mut(slot));
        if let Some(asked) = bound.and_then(|of| of.asked.take()) {
            self.answer_to(session, asked, slot, reason);
        }
    }

    pub(super) fn answer_to(
        &mut self,
        session: Handle,
        (asker, request): (u8, u32),
        slot: u8,
        reason: &str,
    ) {
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
}
