//! Every interleaving of the queue-and-wake protocol (`src/wakeup.rs`).
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p photinus-engine --release --test loom`
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
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
