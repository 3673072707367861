//! Who leads a reactor that two threads share: the loop's own thread while it has nothing else to
//! do, and a native stand-by whenever that is busy. The hand-over, and nothing but the hand-over.
//!
//! One word says who leads, and only its holder may touch the reactor:
//!
//! | word | leader | who changes it |
//! |---|---|---|
//! | `STAND_BY` | the stand-by | the loop's thread asks: `WANTED` |
//! | `WANTED` | the stand-by, which is asked to give back | the stand-by: a lease |
//! | `LOOP` | the loop's thread, without the GIL | the loop's thread: a lease |
//! | a lease | nobody; the loop's thread may come back | the loop's thread: `LOOP`; from that time on the stand-by: `STAND_BY` |
//!
//! Invariants, modelled with loom in `tests/loom.rs`:
//! 1. Never two leaders.
//! 2. A lease that nobody comes back to is taken by the stand-by, also by one that sleeps: whoever
//!    begins a lease looks whether the stand-by sleeps deeply, and the stand-by looks for a lease
//!    after it has said that it will.
//! 3. Who asks is answered: the stand-by looks for it after each of its turns, and gives a lease.
//!
//! The loop's thread begins its lease before it asks for the GIL, so a thread that keeps the GIL
//! cannot keep the sockets.

#[cfg(feature = "loom")]
use loom::{
    sync::atomic::{fence, AtomicBool, AtomicU64, Ordering},
    sync::Mutex,
    thread::{self, Thread},
};
#[cfg(not(feature = "loom"))]
use std::{
    sync::atomic::{fence, AtomicBool, AtomicU64, Ordering},
    sync::Mutex,
    thread::{self, Thread},
};

use crate::limits::{LEASE_NS, LOOK_NS, PARK_NS};

const STAND_BY: u64 = 0;
const WANTED: u64 = 1;
const LOOP: u64 = 2;
/// Leases are the time at which they end, in nanoseconds of the monotonic clock. This one has ended.
const ENDED: u64 = 3;

/// Begins with the stand-by in the lead: on a loop that never asks it stays there.
#[derive(Default)]
pub struct Lead {
    word: AtomicU64,
    /// When the last lease began.
    leased_at: AtomicU64,
    /// The stand-by sleeps until it is woken, and not only for a while.
    parked: AtomicBool,
    stand_by: Mutex<Option<Thread>>,
}

/// What the stand-by does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandBy {
    /// Leads. If it took a lease, that had begun at this time.
    Lead { leased_at: Option<u64> },
    /// Looks again after so many nanoseconds.
    Wait(u64),
    /// Nothing has happened for a while: [`Lead::park`].
    Park,
}

/// For the loop's thread.
impl Lead {
    /// `true`: this thread leads, until it calls [`leave`](Self::leave).
    pub fn try_lead(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word > LOOP && self.replace(word, LOOP)
    }

    /// The leader goes, to come back soon; if it does not, the stand-by takes over.
    pub fn leave(&self, now: u64) {
        self.lease(now);
        // The other half of `park`: of the two stores at least one is seen by the other side.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Does not come back soon: the stand-by takes over now.
    pub fn pass(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if word > ENDED && self.replace(word, ENDED) {
            self.wake();
        }
    }

    /// Wants to lead again. `true`: the stand-by leads, may sleep in its poll, and must be woken there.
    #[must_use]
    pub fn ask(&self) -> bool {
        self.replace(STAND_BY, WANTED)
    }
}

/// For the stand-by.
impl Lead {
    /// Called by the stand-by's thread before all else.
    pub fn stand_by(&self) {
        *self.thread() = Some(thread::current());
    }

    pub fn look(&self, now: u64) -> StandBy {
        let word = self.word.load(Ordering::Relaxed);
        let leased_at = self.leased_at.load(Ordering::Relaxed);
        match word {
            STAND_BY | WANTED => StandBy::Lead { leased_at: None },
            LOOP if now.saturating_sub(leased_at) > PARK_NS => StandBy::Park,
            LOOP => StandBy::Wait(LOOK_NS),
            lease if now < lease => StandBy::Wait(lease - now),
            lease if self.replace(lease, STAND_BY) => StandBy::Lead {
                leased_at: Some(leased_at),
            },
            _ => StandBy::Wait(LOOK_NS),
        }
    }

    /// Sleeps until a lease begins.
    pub fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) == LOOP {
            thread::park();
        }
        self.parked.store(false, Ordering::Relaxed);
    }

    /// For the stand-by in the lead, after each turn: is it asked to [give back](Self::give_back)?
    pub fn is_wanted(&self) -> bool {
        self.word.load(Ordering::Relaxed) == WANTED
    }

    /// The loop's thread may lead again, and has to be told.
    pub fn give_back(&self, now: u64) {
        self.lease(now);
    }
}

impl Lead {
    fn lease(&self, now: u64) {
        self.leased_at.store(now, Ordering::Relaxed);
        self.word.store(now + LEASE_NS, Ordering::Release);
    }

    fn replace(&self, from: u64, to: u64) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    fn wake(&self) {
        if let Some(thread) = &*self.thread() {
            thread.unpark();
        }
    }

    #[cfg(not(feature = "loom"))]
    fn thread(&self) -> std::sync::MutexGuard<'_, Option<Thread>> {
        crate::lock::lock(&self.stand_by)
    }

    #[cfg(feature = "loom")]
    fn thread(&self) -> loom::sync::MutexGuard<'_, Option<Thread>> {
        self.stand_by.lock().unwrap()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    /// As it stands when the loop's thread has asked for the lead and was given it.
    fn leased(now: u64) -> Lead {
        let lead = Lead::default();
        assert!(!lead.try_lead(), "the stand-by leads at first");
        assert!(lead.ask());
        assert!(!lead.ask(), "once is enough");
        assert!(lead.is_wanted());
        lead.give_back(now);
        lead
    }

    #[test]
    fn the_loop_leads_while_it_comes_back_in_time() {
        let lead = leased(0);
        for now in 1..100 {
            assert!(lead.try_lead());
            assert!(!lead.try_lead());
            assert_eq!(lead.look(now * LEASE_NS), StandBy::Wait(LOOK_NS));
            lead.leave(now * LEASE_NS);
            let to_its_end = StandBy::Wait(LEASE_NS - 1);
            assert_eq!(lead.look(now * LEASE_NS + 1), to_its_end);
        }
    }

    #[test]
    fn a_lease_that_has_ended_is_taken() {
        let lead = leased(0);
        assert!(lead.try_lead());
        lead.leave(5);
        let leased_at = Some(5);
        assert_eq!(lead.look(5 + LEASE_NS), StandBy::Lead { leased_at });
        assert!(!lead.try_lead());
        assert!(!lead.is_wanted(), "nobody has asked");
        assert!(lead.ask());
        lead.give_back(8);
        assert!(lead.try_lead());
    }

    #[test]
    fn what_is_passed_is_taken_at_once() {
        let lead = leased(0);
        lead.pass();
        let leased_at = Some(0);
        assert_eq!(lead.look(ENDED), StandBy::Lead { leased_at });
        lead.pass();
        assert!(lead.ask(), "passing again changes nothing");
    }

    #[test]
    fn an_idle_stand_by_parks_until_a_lease() {
        let lead = leased(0);
        assert!(lead.try_lead());
        assert_eq!(lead.look(PARK_NS), StandBy::Wait(LOOK_NS));
        assert_eq!(lead.look(PARK_NS + 1), StandBy::Park);
        std::thread::scope(|scope| {
            let stand_by = scope.spawn(|| {
                lead.stand_by();
                lead.park();
            });
            while !lead.parked.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            lead.leave(PARK_NS + 2);
            stand_by.join().unwrap();
        });
    }
}
