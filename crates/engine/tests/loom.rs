//! Every interleaving of the queue-and-wake protocol (`src/wakeup.rs`) and of the hand-over of the
//! lead (`src/lead.rs`).
//! Run: `make test-loom`

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use photinus_engine::lead::{Lead, StandBy};
use photinus_engine::limits::{LEASE_NS, PARK_NS};
use photinus_engine::wakeup::Channel;
use std::collections::VecDeque;

/// An eventfd in an edge-triggered poller: a word given while nobody sleeps is kept.
#[derive(Default)]
struct Token(Mutex<bool>, Condvar);

impl Token {
    fn give(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn wait(&self) {
        let mut given = self.0.lock().unwrap();
        while !*given {
            given = self.1.wait(given).unwrap();
        }
        *given = false;
    }
}

/// Takes until `count` items have come, sleeping in between as a reactor or the loop does.
fn consume(channel: &Channel<u32>, token: &Token, count: usize, starving: bool) -> Vec<u32> {
    let mut seen = Vec::new();
    let mut batch = VecDeque::new();
    loop {
        channel.take(&mut batch);
        seen.extend(batch.drain(..));
        if seen.len() == count {
            return seen;
        }
        if channel.prepare_sleep(starving) {
            token.wait(); // loom reports a deadlock here if a wake is lost
        }
    }
}

#[test]
fn no_wake_is_lost_with_two_producers() {
    loom::model(|| {
        let channel = Arc::new(Channel::default());
        let token = Arc::new(Token::default());
        let producers: Vec<_> = [10u32, 20]
            .into_iter()
            .map(|first| {
                let (channel, token) = (channel.clone(), token.clone());
                loom::thread::spawn(move || {
                    for item in [first, first + 1] {
                        if channel.push(item, 1) {
                            token.give();
                        }
                    }
                })
            })
            .collect();
        let seen = consume(&channel, &token, 4, false);
        for producer in producers {
            producer.join().unwrap();
        }
        let of = |first| seen.iter().copied().filter(move |item| item / 10 == first);
        assert!(
            of(1).eq([10, 11]) && of(2).eq([20, 21]),
            "a producer's order is kept: {seen:?}"
        );
    });
}

#[test]
fn what_is_quiet_reaches_a_starving_consumer() {
    loom::model(|| {
        let channel = Arc::new(Channel::default());
        let token = Arc::new(Token::default());
        let producer = loom::thread::spawn({
            let (channel, token) = (channel.clone(), token.clone());
            move || {
                if channel.push_quietly(1) {
                    token.give();
                }
                if channel.push_quietly(2) {
                    token.give();
                }
            }
        });
        assert_eq!(consume(&channel, &token, 2, true), [1, 2]);
        producer.join().unwrap();
    });
}

#[test]
fn a_budgeted_drain_that_stops_early_is_woken_again() {
    // The foreign-loop drain: it clears the token first, takes one item only, and gives the token
    // to itself when something is left (the prototype hung here).
    loom::model(|| {
        let channel = Arc::new(Channel::default());
        let token = Arc::new(Token::default());
        let producer = loom::thread::spawn({
            let (channel, token) = (channel.clone(), token.clone());
            move || {
                for item in [1u32, 2] {
                    if channel.push(item, 1) {
                        token.give();
                    }
                }
            }
        });
        let (mut backlog, mut seen) = (VecDeque::new(), Vec::new());
        if !channel.prepare_sleep(false) {
            token.give();
        }
        while seen.len() < 2 {
            token.wait();
            channel.take(&mut backlog);
            seen.extend(backlog.pop_front());
            if !backlog.is_empty() || !channel.prepare_sleep(false) {
                token.give();
            }
        }
        assert_eq!(seen, [1, 2]);
        producer.join().unwrap();
    });
}

#[test]
fn a_producer_waiting_for_room_is_released() {
    loom::model(|| {
        let channel = Arc::new(Channel::default());
        let _ = channel.push(0u32, 5);
        let producer = loom::thread::spawn({
            let channel = channel.clone();
            move || {
                channel.wait_for_room(5);
                let _ = channel.push(1, 5);
            }
        });
        let mut seen = VecDeque::new();
        channel.take(&mut seen);
        producer.join().unwrap();
        channel.take(&mut seen);
        assert_eq!(seen, [0, 1]);
    });
}

/// A reactor whose turns are counted. Loom fails the model if two threads are in it at once, or if
/// the second does not see what the first has done.
struct Reactor(UnsafeCell<u32>);

// SAFETY: the very claim that the models check.
unsafe impl Sync for Reactor {}

impl Reactor {
    fn turn(&self) -> u32 {
        self.0.with_mut(|turns| {
            // SAFETY: loom panics before this if another thread is in here.
            unsafe {
                *turns += 1;
                *turns
            }
        })
    }
}

struct Shared {
    lead: Lead,
    reactor: Reactor,
    /// The poller's waker, and the word to the loop's thread.
    poll: Token,
    python: Token,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            lead: Lead::default(),
            reactor: Reactor(UnsafeCell::new(0)),
            poll: Token::default(),
            python: Token::default(),
        })
    }

    /// As `LoopLed::rest`: leads for one turn, asking for the lead if the stand-by has it.
    fn rest(&self, now: u64) {
        while !self.lead.try_lead() {
            if self.lead.ask() {
                self.poll.give();
            }
            self.python.wait();
        }
        self.reactor.turn();
        self.lead.leave(now);
    }

    /// As the stand-by does when it has the lead: turns, each after a word to the poller, until it is
    /// asked to give the lead back.
    fn lead_until_wanted(&self, now: u64) {
        loop {
            self.reactor.turn();
            if self.lead.is_wanted() {
                self.lead.give_back(now);
                self.python.give();
                return;
            }
            self.poll.wait(); // loom reports a deadlock here if who asks is not heard
        }
    }
}

#[test]
fn the_lead_is_asked_for_and_given() {
    loom::model(|| {
        let shared = Shared::new();
        let stand_by = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                shared.lead.stand_by();
                assert_eq!(shared.lead.look(0), StandBy::Lead { leased_at: None });
                shared.lead_until_wanted(0);
            }
        });
        shared.rest(0);
        stand_by.join().unwrap();
    });
}

#[test]
fn a_lease_that_nobody_comes_back_to_is_taken() {
    loom::model(|| {
        let shared = Shared::new();
        assert!(shared.lead.ask());
        shared.lead.give_back(0);
        let stand_by = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                shared.lead.stand_by();
                // Each look may find the lease ended, or the loop's thread back.
                loop {
                    match shared.lead.look(PARK_NS + 2 * LEASE_NS) {
                        StandBy::Lead { .. } => break,
                        StandBy::Park => shared.lead.park(), // a deadlock here: the lease was not seen
                        StandBy::Wait(_) => loom::thread::yield_now(),
                    }
                }
                shared.reactor.turn();
            }
        });
        // Two turns, unless the stand-by was quicker; then Python is busy for ever.
        for now in [0, 1] {
            if !shared.lead.try_lead() {
                break;
            }
            shared.reactor.turn();
            shared.lead.leave(now);
        }
        stand_by.join().unwrap();
    });
}

#[test]
fn what_is_passed_wakes_the_stand_by() {
    const NOW: u64 = LEASE_NS; // and it stands still
    loom::model(|| {
        let shared = Shared::new();
        assert!(shared.lead.ask());
        shared.lead.give_back(NOW);
        let stand_by = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                shared.lead.stand_by();
                loop {
                    match shared.lead.look(NOW) {
                        StandBy::Lead { .. } => break,
                        StandBy::Park => unreachable!("nothing has been idle for long"),
                        // For ever instead of for a while: only `pass` may end it.
                        StandBy::Wait(_) => loom::thread::park(),
                    }
                }
                shared.reactor.turn();
            }
        });
        assert!(shared.lead.try_lead());
        shared.reactor.turn();
        shared.lead.leave(NOW);
        shared.lead.pass();
        stand_by.join().unwrap();
    });
}
