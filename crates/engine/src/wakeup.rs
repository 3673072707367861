//! A queue between two threads whose consumer may sleep, and the word that wakes it.
//!
//! Invariants, modelled with loom in `tests/loom.rs`:
//! 1. A consumer that [`Channel::prepare_sleep`] let sleep is woken by the next push: that push, and
//!    only that one, returns `true`, and whoever pushed must then call the consumer's wake (an
//!    eventfd or a poller's waker, whose token outlives a race with the consumer going to sleep).
//! 2. A consumer that is awake is never woken: it looks at the queue before it sleeps.
//! 3. What one thread pushes is taken in the order it was pushed.
//! 4. Quiet pushes ([`Channel::push_quietly`]) wake only a consumer that said it starves.
//!
//! A mutex around a deque of whole batches was measured quicker than a lock-free queue of packets:
//! it is taken once a batch.

#[cfg(feature = "loom")]
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
#[cfg(not(feature = "loom"))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// How far back [`Channel::push_merging`] looks: as many producers may take turns.
const LOOK_BACK: usize = crate::handle::REACTORS;

pub struct Channel<T> {
    inner: Mutex<Inner<T>>,
    room: Condvar,
}

struct Inner<T> {
    queue: VecDeque<T>,
    /// Sum of the weights pushed since the last take.
    weight: usize,
    sleeping: bool,
    starving: bool,
    waiting_for_room: usize,
    closed: bool,
}

impl<T> Default for Channel<T> {
    fn default() -> Self {
        Channel {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                weight: 0,
                sleeping: false,
                starving: false,
                waiting_for_room: 0,
                closed: false,
            }),
            room: Condvar::new(),
        }
    }
}

impl<T> Channel<T> {
    /// Appends; `true`: the consumer sleeps and has to be woken now, by the caller.
    #[must_use]
    pub fn push(&self, item: T, weight: usize) -> bool {
        let mut inner = self.lock();
        inner.queue.push_back(item);
        inner.weight += weight;
        std::mem::replace(&mut inner.sleeping, false)
    }

    /// As [`push`](Self::push), but first lets the last item that waits and goes with this one
    /// absorb it: a consumer that is behind then finds few large items instead of many small ones,
    /// also where several producers push in turn. `absorb` gives back what it did not take (to be
    /// appended), or what is left over, as `Err` (to be reused).
    pub fn push_merging(
        &self,
        item: T,
        weight: usize,
        goes_with: impl Fn(&T) -> bool,
        absorb: impl FnOnce(&mut T, T) -> Result<T, T>,
    ) -> (bool, Option<T>) {
        let mut inner = self.lock();
        let mut last = inner.queue.iter_mut().rev().take(LOOK_BACK);
        let left = match last.find(|last| goes_with(last)) {
            None => Ok(item),
            Some(last) => absorb(last, item),
        };
        inner.weight += weight;
        let left = match left {
            Ok(item) => {
                inner.queue.push_back(item);
                None
            }
            Err(emptied) => Some(emptied),
        };
        (std::mem::replace(&mut inner.sleeping, false), left)
    }

    /// Appends what can wait until the consumer wakes for another reason, unless it starves for it.
    #[must_use]
    pub fn push_quietly(&self, item: T) -> bool {
        let mut inner = self.lock();
        inner.queue.push_back(item);
        inner.starving && std::mem::replace(&mut inner.sleeping, false)
    }

    /// Takes all there is, appending to `into`. The consumer is awake from here on.
    pub fn take(&self, into: &mut VecDeque<T>) {
        let mut inner = self.lock();
        inner.sleeping = false;
        if into.is_empty() {
            std::mem::swap(&mut inner.queue, into);
        } else {
            into.append(&mut inner.queue);
        }
        inner.weight = 0;
        if inner.waiting_for_room > 0 {
            self.room.notify_all();
        }
    }

    /// The consumer means to sleep. `false`: something has come meanwhile, it must not.
    /// `starving`: quiet pushes shall wake it, too.
    #[must_use]
    pub fn prepare_sleep(&self, starving: bool) -> bool {
        let mut inner = self.lock();
        inner.starving = starving;
        inner.sleeping = inner.queue.is_empty() || (!starving && self.only_quiet(&inner));
        inner.sleeping
    }

    /// The consumer does not sleep, or no more: nobody has to wake it.
    pub fn stay_awake(&self) {
        self.lock().sleeping = false;
    }

    /// Blocks a producer until less than `limit` waits in the queue, or the channel is closed.
    pub fn wait_for_room(&self, limit: usize) {
        let mut inner = self.lock();
        inner.waiting_for_room += 1;
        while inner.weight >= limit && !inner.closed {
            inner = self
                .room
                .wait(inner)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        inner.waiting_for_room -= 1;
    }

    /// Sum of the weights that wait.
    pub fn weight(&self) -> usize {
        self.lock().weight
    }

    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// The consumer is gone: nobody waits for it any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
    }

    /// Quiet items weigh nothing, all others weigh something.
    fn only_quiet(&self, inner: &Inner<T>) -> bool {
        inner.weight == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing in here panics with the lock held, so a poisoned lock holds whole values.
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_once() {
        let channel = Channel::default();
        assert!(!channel.push(1, 1));
        assert!(!channel.prepare_sleep(false), "something waits");
        let mut taken = VecDeque::new();
        channel.take(&mut taken);
        assert_eq!(taken, [1]);
        assert!(channel.prepare_sleep(false));
        assert!(channel.push(2, 1));
        assert!(!channel.push(3, 1));
    }

    #[test]
    fn quiet_pushes_wake_only_the_starving() {
        let channel = Channel::default();
        assert!(channel.prepare_sleep(false));
        assert!(!channel.push_quietly(1));
        assert!(channel.prepare_sleep(false), "may sleep over what is quiet");
        assert!(!channel.prepare_sleep(true), "but not when it starves");
        channel.take(&mut VecDeque::new());
        assert!(channel.prepare_sleep(true));
        assert!(channel.push_quietly(2));
    }

    #[test]
    fn producers_that_take_turns_merge_each_with_its_own() {
        let channel = Channel::default();
        for number in 0..100 {
            for producer in ["a", "b", "c"] {
                let absorb = |last: &mut (_, Vec<_>), mut item: (_, Vec<_>)| {
                    if last.1.len() == 30 {
                        return Ok(item);
                    }
                    last.1.append(&mut item.1);
                    Err(item)
                };
                let item = (producer, vec![number]);
                let _ = channel.push_merging(item, 1, |of| of.0 == producer, absorb);
            }
        }
        let mut taken = VecDeque::new();
        channel.take(&mut taken);
        assert_eq!(taken.len(), 12);
        for producer in ["a", "b", "c"] {
            let its = taken.iter().filter(|of| of.0 == producer);
            assert!(its.flat_map(|of| &of.1).copied().eq(0..100));
        }
    }

    #[test]
    fn a_full_channel_holds_its_producer_until_it_is_taken() {
        let channel = std::sync::Arc::new(Channel::default());
        assert!(!channel.push((), 10));
        let producer = std::thread::spawn({
            let channel = channel.clone();
            move || channel.wait_for_room(10)
        });
        while channel.lock().waiting_for_room == 0 {
            std::thread::yield_now();
        }
        assert!(!producer.is_finished());
        channel.take(&mut VecDeque::new());
        producer.join().unwrap();
    }
}
