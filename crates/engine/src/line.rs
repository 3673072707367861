//! The line of those who wait for a session: first come, first served, over all reactors of an engine.
//!
//! Invariants:
//! 1. Only the first in line is admitted; whoever has left it holds up nobody.
//! 2. A ticket is in the line until it is admitted or leaves, and its holder does one of both.

use crate::lock::lock;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

/// The least time between two admissions: 200 a second, so that what a login costs shows in the queue's delay
/// before many more have begun theirs.
const ADMIT_NS: u64 = 5_000_000;
/// How much one more interval between admissions changes what is expected of the next: an eighth, as in the
/// round-trip times of TCP (RFC 6298).
const WEIGHT: u64 = 8;

#[derive(Default)]
pub struct Line {
    state: Mutex<State>,
    /// The same as in `state`, to be read without the lock.
    length: AtomicUsize,
}

#[derive(Default)]
struct State {
    tickets: BTreeSet<u64>,
    next: u64,
    admitted: Option<u64>,
    /// Between admissions, in nanoseconds; 0: not known.
    interval: u64,
}

impl Line {
    /// A ticket, unless there are so many already.
    pub fn enter(&self, limit: usize) -> Option<u64> {
        let mut state = lock(&self.state);
        if state.tickets.len() >= limit {
            return None;
        }
        let ticket = state.next;
        state.next += 1;
        state.tickets.insert(ticket);
        self.length.store(state.tickets.len(), Relaxed);
        Some(ticket)
    }

    pub fn leave(&self, ticket: u64) {
        let mut state = lock(&self.state);
        state.tickets.remove(&ticket);
        self.length.store(state.tickets.len(), Relaxed);
    }

    pub fn is_empty(&self) -> bool {
        self.length.load(Relaxed) == 0
    }

    pub fn len(&self) -> usize {
        self.length.load(Relaxed)
    }

    /// Has this ticket's turn come, at this time? If so, the next one's comes `ADMIT_NS` later at the earliest.
    pub fn admit(&self, ticket: u64, now: u64) -> bool {
        let mut state = lock(&self.state);
        let is_first = state.tickets.first() == Some(&ticket);
        let since = state.admitted.map(|at| now.saturating_sub(at));
        if !is_first || since.is_some_and(|since| since < ADMIT_NS) {
            return false;
        }
        state.tickets.pop_first();
        self.length.store(state.tickets.len(), Relaxed);
        state.admitted = Some(now);
        if let Some(since) = since {
            state.interval = match state.interval {
                0 => since,
                before => (before * (WEIGHT - 1) + since) / WEIGHT,
            };
        }
        if state.tickets.is_empty() {
            // How long nobody waited says nothing of the next who do.
            (state.admitted, state.interval) = (None, 0);
        }
        true
    }

    /// The places of these tickets, which are in order: 1 is the next. And the estimated milliseconds a place,
    /// if anybody has been admitted lately.
    pub fn places(&self, tickets: impl Iterator<Item = u64>) -> (Vec<u32>, Option<u64>) {
        let state = lock(&self.state);
        let mut line = state.tickets.iter();
        let mut place = 0;
        let places = tickets.map(|ticket| {
            for other in line.by_ref() {
                place += 1;
                if *other >= ticket {
                    break;
                }
            }
            place
        });
        let places = places.collect();
        let estimate = (state.interval > 0).then_some(state.interval.div_ceil(1_000_000));
        (places, estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_and_not_all_at_once() {
        let line = Line::default();
        let [a, b, c] = [0; 3].map(|_| line.enter(3).unwrap());
        assert_eq!(line.enter(3), None);
        assert!(!line.admit(b, 100), "it is not the first");
        assert!(line.admit(a, 100));
        assert!(!line.admit(b, 100 + ADMIT_NS - 1));
        assert!(line.admit(b, 100 + ADMIT_NS));
        assert!(!line.is_empty());
        line.leave(c);
        assert!(line.is_empty());
        assert!(!line.admit(c, 1 << 40), "it has left");
    }

    #[test]
    fn places_move_up_when_somebody_leaves() {
        let line = Line::default();
        let tickets: Vec<_> = (0..5).map(|_| line.enter(10).unwrap()).collect();
        let places = |of: &[u64]| line.places(of.iter().copied()).0;
        assert_eq!(places(&tickets), [1, 2, 3, 4, 5]);
        assert_eq!(places(&[tickets[1], tickets[4]]), [2, 5]);
        line.leave(tickets[0]);
        line.leave(tickets[2]);
        assert_eq!(places(&[tickets[1], tickets[4]]), [1, 3]);
    }

    #[test]
    fn the_estimate_is_what_admissions_took() {
        let line = Line::default();
        let tickets: Vec<_> = (0..20).map(|_| line.enter(20).unwrap()).collect();
        let estimate = || line.places(std::iter::empty()).1;
        assert_eq!(estimate(), None);
        for (at, &ticket) in tickets.iter().enumerate().take(10) {
            assert!(line.admit(ticket, at as u64 * 40_000_000));
        }
        assert_eq!(estimate(), Some(40));
        for &ticket in &tickets[10..] {
            line.leave(ticket);
        }
    }
}
