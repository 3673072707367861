//! Those of this reactor who stand in line for a session (`line.rs`): while the node is full, or Python does not
//! keep up. They are told their place, and admitted one after the other when there is room again.

use super::photinus::Greeted;
use super::Reactor;
use crate::back::Back;
use crate::connection::{By, Stage};
use crate::handle::Handle;
use photinus_proto::codec::{photinus, Protocol};

/// How often the line is looked at while somebody of ours stands in it: four admissions.
const LOOK_MS: u64 = 20;
/// How often those in it are told where they stand: as often as a person looks.
const TELL_MS: u64 = 1_000;
/// Who has not moved is told so at least this often: a connection that says nothing is taken for cut.
const AGAIN_MS: u64 = 5_000;

#[derive(Default)]
pub struct WaitingLine {
    /// In the order of their tickets.
    waiting: Vec<InLine>,
    look_ms: u64,
    tell_ms: u64,
}

struct InLine {
    at: u32,
    serial: u32,
    ticket: u64,
    /// The place it was told last, and when.
    told: (u32, u64),
}

impl WaitingLine {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When it is to be looked at.
    pub fn next_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.look_ms)
    }
}

impl<B: Back> Reactor<B> {
    /// Whether somebody who comes now has to stand in line.
    pub(super) fn must_wait(&self) -> bool {
        let gate = &self.shared.gate;
        self.too_busy.is_one() || gate.is_full() || !gate.line.is_empty() || !self.has_homes()
    }

    /// Why nobody is let in: a code of docs/protocol.md, 5.4.
    pub(super) fn why_not(&self) -> &'static str {
        match self.too_busy.is_one() || !self.has_homes() {
            true => "overloaded",
            false => "full",
        }
    }

    /// It has said its hello, and stands in line from now on; or there are too many in it.
    pub(super) fn stand_in_line(&mut self, greeted: &Greeted<'_>) {
        let at = greeted.at;
        let gate = &self.shared.gate;
        let Some(ticket) = gate.line.enter(self.limits.login_queue) else {
            return self.turn_away(at, self.why_not());
        };
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return gate.line.leave(ticket);
        };
        connection.stage = Stage::Waiting;
        connection.peer = greeted.peer;
        connection.guest.ends_handshake();
        let serial = connection.serial;
        self.statistics.counts.stood_in_line.add(1);
        if self.line.waiting.is_empty() {
            self.line.look_ms = self.now_ms + LOOK_MS;
        }
        self.line.waiting.push(InLine {
            at,
            serial,
            ticket,
            told: (0, 0),
        });
        self.tell_places();
    }

    /// Admits whose turn has come, and tells the others where they stand.
    pub(super) fn look_at_line(&mut self) {
        if self.line.waiting.is_empty() || self.now_ms < self.line.look_ms {
            return;
        }
        self.line.look_ms = self.now_ms + LOOK_MS;
        let mut waiting = std::mem::take(&mut self.line.waiting);
        waiting.retain(|of| {
            let same = self.same(of.at, of.serial);
            let here = same.is_some_and(|of| of.stage == Stage::Waiting);
            if !here {
                self.shared.gate.line.leave(of.ticket);
            }
            here
        });
        let mut admitted = 0;
        for of in &waiting {
            let gate = &self.shared.gate;
            let room = !self.too_busy.is_one() && !gate.is_full() && self.has_homes();
            if !room || !gate.line.admit(of.ticket, self.told) {
                break;
            }
            admitted += 1;
            self.admit(of.at);
        }
        waiting.drain(..admitted);
        self.line.waiting = waiting;
        if self.now_ms >= self.line.tell_ms {
            self.tell_places();
        }
    }

    fn admit(&mut self, at: u32) {
        let Some(Some(connection)) = self.connections.get_mut(at as usize) else {
            return;
        };
        let peer = connection.peer;
        connection.heard = self.now_ms;
        let Some(Some(serving)) = self.listeners.get(usize::from(connection.listener)) else {
            return;
        };
        let protocol = serving.protocol.clone();
        if let Protocol::Photinus(options) = &*protocol {
            self.welcome_new(&Greeted { at, peer, options }, Vec::new());
        }
    }

    fn tell_places(&mut self) {
        self.line.tell_ms = self.now_ms + TELL_MS;
        let mut waiting = std::mem::take(&mut self.line.waiting);
        let tickets = waiting.iter().map(|of| of.ticket);
        let (places, estimate) = self.shared.gate.line.places(tickets);
        for (of, place) in waiting.iter_mut().zip(places) {
            let (before, when) = of.told;
            let long_ago = self.now_ms >= when + AGAIN_MS;
            if before != place || long_ago {
                of.told = (place, self.now_ms);
                let estimate = estimate.map(|ms| ms.saturating_mul(u64::from(place)));
                let estimate = estimate.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
                let mut frame = Vec::new();
                photinus::wait(place, estimate, &mut frame);
                if self.same(of.at, of.serial).is_some() {
                    self.write_now(of.at, &frame);
                }
            }
        }
        self.line.waiting = waiting;
    }

    /// The node stops: nobody will be admitted.
    pub(super) fn dissolve_line(&mut self) {
        for of in std::mem::take(&mut self.line.waiting) {
            self.shared.gate.line.leave(of.ticket);
            if self.same(of.at, of.serial).is_some() {
                let mut refusal = Vec::new();
                photinus::refuse("shutdown", None, &mut refusal);
                self.write_now(of.at, &refusal);
                self.finish(Handle::NONE, of.at, By::Server, "shutdown");
            }
        }
    }
}
