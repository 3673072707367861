//! The session table: who is there, what each may still send us, and what waits for each.
//!
//! A session is not a connection. Messages to it wait here *as messages* until a connection takes
//! and encodes them, so that a connection can end and another one take its place.
//!
//! Life of a slot: free -> live ([`Sessions::open`]) -> ended ([`Sessions::end`]: messages to it are
//! dropped) -> free again once Python has let go ([`Sessions::free`]) and it has rested. Slots are
//! reused first-in-first-out, so a handle is never taken for another's.

use crate::bindings::Bindings;
use crate::handle::{Handle, SLOTS_A_REACTOR};
use crate::limits::QUARANTINE_MS;
use crate::outbox::{Marks, OutRoute, What};
use crate::rate::Spent;
use crate::remote::Remote;
use crate::resumable::Resumable;
use photinus_proto::planted::{is_planted, Planted};
use std::collections::VecDeque;
use std::sync::Arc;

/// No connection, no node of a chain.
pub const NONE: u32 = u32::MAX;

pub struct Session {
    pub handle: Handle,
    state: State,
    /// Number of the connection that takes its messages.
    pub connection: u32,
    pub listener: u16,
    /// Its socket is not read because the budget below is used up.
    pub paused: bool,
    /// What of its packets is not handled yet, by cost.
    pub unhandled: usize,
    /// What it has sent lately.
    pub spent: Spent,
    pub waiting: Option<Box<Waiting>>,
    /// `None`: it ends with its connection.
    pub resumable: Option<Box<Resumable>>,
    /// What this turn has for it: first and last node of a chain (`reactor/outbound.rs`).
    pub chain: (u32, u32),
    /// Groups it is in, and its place in each.
    pub groups: Vec<(u32, u32)>,
    /// Its client is at another node's proxy.
    pub remote: Option<Box<Remote>>,
    /// Who owns it; `None`: this node alone.
    pub bindings: Option<Box<Bindings>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Live,
    Ended,
}

/// Messages that no connection has taken yet.
///
/// Of the droppable ones of a route only the newest is here, in the place where it was put: it may be about
/// what came before it, and never comes before that. Those that it replaced leave a hole until they are
/// at the front, or there are as many holes as messages.
#[derive(Default)]
pub struct Waiting {
    messages: VecDeque<Option<Message>>,
    /// How many have been taken from the front, which is the first one's number.
    taken: u64,
    holes: usize,
    /// The newest droppable message of each route, by its number.
    newest: Vec<(OutRoute, u64)>,
    pub bytes: usize,
}

impl Waiting {
    /// By how many bytes it has grown, and whether an older message was dropped for this one.
    pub fn put(&mut self, what: Waits, body: &[u8]) -> (isize, bool) {
        let before = self.bytes;
        let number = self.taken + self.messages.len() as u64;
        let mut replaced = false;
        if let Waits::Send(What::Push(route), marks) = what {
            if marks.droppable() {
                replaced = self.replace(route, number);
            }
        }
        let body = body.into();
        let message = Message { what, body };
        self.bytes += message.cost();
        self.messages.push_back(Some(message));
        if self.holes > self.messages.len() / 2 {
            self.close_holes();
        }
        (self.bytes as isize - before as isize, replaced)
    }

    /// The oldest one.
    pub fn pop(&mut self) -> Option<Message> {
        while let Some(front) = self.messages.pop_front() {
            self.taken += 1;
            match front {
                Some(message) => {
                    self.bytes -= message.cost();
                    return Some(message);
                }
                None => self.holes -= 1,
            }
        }
        None
    }

    pub fn each(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().flatten()
    }

    pub fn len(&self) -> usize {
        self.messages.len() - self.holes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the newest droppable message of this route, if it still waits; the next will have this number.
    fn replace(&mut self, route: OutRoute, number: u64) -> bool {
        let Some(known) = self.newest.iter_mut().find(|(of, _)| *of == route) else {
            self.newest.push((route, number));
            return false;
        };
        let older = std::mem::replace(&mut known.1, number);
        let place = older.checked_sub(self.taken);
        let older = place.and_then(|place| self.messages.get_mut(place as usize)?.take());
        if let Some(message) = &older {
            self.bytes -= message.cost();
            self.holes += 1;
        }
        older.is_some()
    }

    fn close_holes(&mut self) {
        self.messages.retain(Option::is_some);
        self.holes = 0;
        self.newest.clear();
        for (place, message) in self.messages.iter().flatten().enumerate() {
            if let Waits::Send(What::Push(route), marks) = message.what {
                if marks.droppable() {
                    self.newest.push((route, self.taken + place as u64));
                }
            }
        }
    }
}

pub struct Message {
    pub what: Waits,
    pub body: Arc<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    Send(What, Marks),
    Kick,
    /// As a kick; the body is another address for the client.
    Redirect,
}

impl Waits {
    /// Nothing between here and its receiver may compress it.
    pub fn is_secret(self) -> bool {
        matches!(self, Waits::Send(_, marks) if marks.secret())
    }

    /// It is the last that the session is told.
    pub fn is_goodbye(self) -> bool {
        matches!(self, Waits::Kick | Waits::Redirect)
    }
}

impl Message {
    /// What it counts against the session's bound.
    pub fn cost(&self) -> usize {
        self.body.len() + std::mem::size_of::<Message>()
    }
}

pub struct Sessions {
    reactor: usize,
    table: Vec<Session>,
    /// Free slots with the time they were freed at, in milliseconds.
    resting: VecDeque<(u32, u64)>,
    live: usize,
}

impl Sessions {
    pub fn new(reactor: usize) -> Sessions {
        Sessions {
            reactor,
            table: Vec::new(),
            resting: VecDeque::new(),
            live: 0,
        }
    }

    /// A new session; `None` when all slots are taken or rest.
    pub fn open(&mut self, connection: u32, listener: u16, now_ms: u64) -> Option<Handle> {
        let rested = |&(_, since): &(u32, u64)| {
            now_ms.saturating_sub(since) >= QUARANTINE_MS || is_planted(Planted::EarlySlot)
        };
        let local = if self.resting.front().is_some_and(rested) {
            self.resting.pop_front()?.0
        } else if self.table.len() < SLOTS_A_REACTOR {
            let local = self.table.len() as u32;
            self.table
                .push(Session::free(Handle::new(self.reactor, local, 0)));
            local
        } else {
            return None;
        };
        let session = &mut self.table[local as usize];
        let generation = Handle::next_generation(session.handle.generation());
        *session = Session::free(Handle::new(self.reactor, local, generation));
        session.state = State::Live;
        session.connection = connection;
        session.listener = listener;
        self.live += 1;
        Some(session.handle)
    }

    /// The session of this handle, if it is still the same and lives.
    #[inline]
    pub fn live(&mut self, handle: Handle) -> Option<&mut Session> {
        let session = self.table.get_mut(handle.local() as usize)?;
        (session.handle == handle && session.state == State::Live).then_some(session)
    }

    /// The same, to look at.
    #[inline]
    pub fn peek(&self, handle: Handle) -> Option<&Session> {
        let session = self.table.get(handle.local() as usize)?;
        (session.handle == handle && session.state == State::Live).then_some(session)
    }

    /// Who owns the session of this handle beside this node, or instead of it.
    #[inline]
    pub fn bindings(&self, handle: Handle) -> Option<&Bindings> {
        self.peek(handle)?.bindings.as_deref()
    }

    /// Where its client is, if that is at another node's proxy.
    #[inline]
    pub fn remote(&self, handle: Handle) -> Option<&Remote> {
        self.peek(handle)?.remote.as_deref()
    }

    /// The session in this slot, whatever its state: for a slot number that was just taken from a live one.
    #[inline]
    pub fn at(&mut self, local: u32) -> &mut Session {
        &mut self.table[local as usize]
    }

    /// It has ended: messages to it are dropped from now on. Gives what still waited, and what was kept.
    pub fn end(&mut self, handle: Handle) -> (Option<Box<Waiting>>, Option<Box<Resumable>>) {
        let Some(session) = self.live(handle) else {
            return (None, None);
        };
        session.state = State::Ended;
        session.connection = NONE;
        session.paused = false;
        let left = (session.waiting.take(), session.resumable.take());
        self.live -= 1;
        left
    }

    /// Python has let go of an ended session.
    pub fn free(&mut self, handle: Handle, now_ms: u64) {
        let Some(session) = self.table.get_mut(handle.local() as usize) else {
            return;
        };
        if session.handle == handle && session.state == State::Ended {
            session.state = State::Free;
            session.groups = Vec::new();
            session.remote = None;
            self.resting.push_back((handle.local(), now_ms));
        }
    }

    /// Gives back budget, also of a session that ended meanwhile. `Some`: it was paused, and has now
    /// less than half of `limit` unhandled, so its connection is to be read again (`NONE`: another node's).
    pub fn release(&mut self, handle: Handle, cost: usize, limit: usize) -> Option<u32> {
        let session = self.live(handle)?;
        session.unhandled = session.unhandled.saturating_sub(cost);
        if session.paused && session.unhandled <= limit / 2 {
            session.paused = false;
            return Some(session.connection);
        }
        None
    }

    pub fn count(&self) -> usize {
        self.live
    }

    pub fn handles(&self) -> Vec<Handle> {
        let live = self
            .table
            .iter()
            .filter(|session| session.state == State::Live);
        live.map(|session| session.handle).collect()
    }
}

impl Session {
    /// It was cut, and waits for another connection.
    #[inline]
    pub fn is_detached(&self) -> bool {
        self.state == State::Live && self.connection == NONE && self.remote.is_none()
    }

    /// Of the binding to its home.
    pub fn home_epoch(&self) -> u16 {
        let home = self.bindings.as_ref().and_then(|of| of.at(0));
        home.map_or(1, |of| of.machine.epoch())
    }

    fn free(handle: Handle) -> Session {
        Session {
            handle,
            state: State::Free,
            connection: NONE,
            listener: 0,
            paused: false,
            unhandled: 0,
            spent: Spent::default(),
            waiting: None,
            resumable: None,
            chain: (NONE, NONE),
            groups: Vec::new(),
            remote: None,
            bindings: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_handle_never_reaches_the_next_session() {
        let mut sessions = Sessions::new(2);
        let first = sessions.open(0, 0, 0).unwrap();
        assert!(sessions.live(first).is_some());
        sessions.end(first);
        assert!(sessions.live(first).is_none());
        sessions.free(first, 0);
        let second = sessions.open(1, 0, QUARANTINE_MS).unwrap();
        assert_eq!((second.local(), second.reactor()), (first.local(), 2));
        assert_ne!(second, first);
        assert!(sessions.live(first).is_none());
        sessions.end(first);
        sessions.free(first, 0);
        assert!(sessions.live(second).is_some());
    }

    #[test]
    fn a_slot_rests_and_slots_come_back_in_order() {
        let mut sessions = Sessions::new(0);
        let handles: Vec<_> = (0..3).map(|at| sessions.open(at, 0, 0).unwrap()).collect();
        for handle in [handles[1], handles[0]] {
            sessions.end(handle);
            sessions.free(handle, 10);
        }
        assert_eq!(sessions.open(9, 0, 10).unwrap().local(), 3, "both rest");
        let late = 10 + QUARANTINE_MS;
        assert_eq!(sessions.open(9, 0, late).unwrap().local(), 1);
        assert_eq!(sessions.open(9, 0, late).unwrap().local(), 0);
    }

    #[test]
    fn a_slot_is_not_reused_before_python_lets_go() {
        let mut sessions = Sessions::new(0);
        let first = sessions.open(0, 0, 0).unwrap();
        sessions.end(first);
        assert_ne!(sessions.open(1, 0, 1 << 30).unwrap().local(), first.local());
    }

    const POSITION: Waits = Waits::Send(What::Push(OutRoute::Named(0)), Marks::DROPPABLE);
    const OTHER: Waits = Waits::Send(What::Push(OutRoute::Named(1)), Marks::DROPPABLE);
    const EVENT: Waits = Waits::Send(What::Push(OutRoute::Named(2)), Marks::NONE);

    fn taken(waiting: &mut Waiting) -> Vec<u8> {
        let bodies: Vec<u8> = std::iter::from_fn(|| waiting.pop())
            .map(|message| message.body[0])
            .collect();
        assert_eq!((waiting.bytes, waiting.len()), (0, 0));
        bodies
    }

    #[test]
    fn of_what_is_droppable_the_newest_waits_and_in_its_place() {
        let mut waiting = Waiting::default();
        let mut put = |what, body: u8| waiting.put(what, &[body]).1;
        assert!(!put(POSITION, 1) && !put(EVENT, 2) && !put(OTHER, 3));
        assert!(put(POSITION, 4) && !put(EVENT, 5) && put(POSITION, 6));
        assert_eq!(waiting.len(), 4);
        assert_eq!(taken(&mut waiting), [2, 3, 5, 6]);
        assert!(!waiting.put(POSITION, &[7]).1, "the last was taken");
        assert_eq!(taken(&mut waiting), [7]);
    }

    #[test]
    fn holes_take_no_more_room_than_what_waits() {
        let mut waiting = Waiting::default();
        for round in 0..1000 {
            waiting.put(POSITION, &[1]);
            waiting.put(OTHER, &[2]);
            if round % 100 == 0 {
                waiting.put(EVENT, &[3]);
            }
            assert!(waiting.messages.len() <= 2 * waiting.len() + 1);
        }
        let message = size_of::<Message>() + 1;
        assert_eq!((waiting.len(), waiting.bytes), (12, 12 * message));
        assert_eq!(taken(&mut waiting), [vec![3; 10], vec![1, 2]].concat());
    }

    #[test]
    fn the_budget_pauses_until_half_is_given_back() {
        let mut sessions = Sessions::new(0);
        let handle = sessions.open(7, 0, 0).unwrap();
        let session = sessions.live(handle).unwrap();
        session.unhandled = 100;
        session.paused = true;
        assert_eq!(sessions.release(handle, 49, 100), None);
        assert_eq!(sessions.release(handle, 1, 100), Some(7));
        assert_eq!(sessions.release(handle, 50, 100), None);
    }
}
