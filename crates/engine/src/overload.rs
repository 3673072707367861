//! Whether Python keeps up, judged by how long packets wait for it, and not by how many there are: a queue that
//! is long and quick is fine, and a short one that stands is not.
//!
//! [`Delay`] is what the threads share: since when the oldest packet waits that is not handled. [`Overload`] is
//! each reactor's judgement of it: a delay above the target all through an interval is an overload, a burst
//! that is worked off within one is none (after CoDel, RFC 8289, which drops by the same rule).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long the delay stays above its target before something is done about it. As CoDel's: longer than a
/// burst's round trip, and shorter than a player takes to notice.
pub const INTERVAL_NS: u64 = 100_000_000;

/// Since when the oldest packet waits; 0: none does.
///
/// It is a hint, and nothing is lost by its being late: between Python's last look into the inbox and its
/// [`clear`](Delay::clear), a batch may come whose time is overwritten, and the next one brings another.
#[derive(Default)]
pub struct Delay(AtomicU64);

impl Delay {
    /// A reactor has handed in a batch at this time.
    #[inline]
    pub fn waits(&self, pushed: u64) {
        if self.0.load(Relaxed) == 0 {
            self.0.store(pushed, Relaxed);
        }
    }

    /// Python begins with a batch that was handed in at this time.
    #[inline]
    pub fn begin(&self, pushed: u64) {
        self.0.store(pushed, Relaxed);
    }

    /// Python has handled all that it has taken.
    #[inline]
    pub fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// Nanoseconds that the oldest packet has waited by now.
    #[inline]
    pub fn age(&self, now: u64) -> u64 {
        match self.0.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }
}

/// One reactor's judgement, for one target.
#[derive(Debug)]
pub struct Overload {
    /// 0: it is never one.
    target_ns: u64,
    /// Since when the delay is above it; 0: it is not.
    since: u64,
    now: bool,
}

impl Overload {
    pub fn new(target_ms: u64) -> Overload {
        Overload {
            target_ns: target_ms * 1_000_000,
            since: 0,
            now: false,
        }
    }

    /// The delay at this time.
    #[inline]
    pub fn look(&mut self, age: u64, now: u64) {
        if age < self.target_ns || self.target_ns == 0 {
            (self.since, self.now) = (0, false);
            return;
        }
        if self.since == 0 {
            // A reactor that has slept through it hears of all of it at once.
            self.since = now.saturating_sub(age - self.target_ns).max(1);
        }
        self.now = now - self.since >= INTERVAL_NS;
    }

    #[inline]
    pub fn is_one(&self) -> bool {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_is_no_overload() {
        let mut overload = Overload::new(50);
        for ms in 0..140 {
            overload.look(ms * MS, (1000 + ms) * MS);
            assert!(!overload.is_one(), "{ms}");
        }
        overload.look(0, 1140 * MS);
        overload.look(60 * MS, 1200 * MS);
        assert!(!overload.is_one());
    }

    #[test]
    fn a_standing_queue_is_one_until_the_delay_is_below_its_target() {
        let mut overload = Overload::new(50);
        for ms in 0..200 {
            overload.look(80 * MS, (1000 + ms) * MS);
            // Who hears of 80 ms for the first time knows that 30 of them were above the target.
            assert_eq!(overload.is_one(), ms >= 70, "{ms}");
        }
        overload.look(49 * MS, 1300 * MS);
        assert!(!overload.is_one());
    }

    #[test]
    fn a_stuck_loop_is_one_at_the_first_look() {
        let mut overload = Overload::new(50);
        overload.look(5_000 * MS, 9_000 * MS);
        assert!(overload.is_one());
    }

    #[test]
    fn a_target_of_0_is_none() {
        let mut overload = Overload::new(0);
        overload.look(5_000 * MS, 9_000 * MS);
        assert!(!overload.is_one());
    }

    #[test]
    fn the_oldest_counts() {
        let delay = Delay::default();
        assert_eq!(delay.age(5), 0);
        delay.waits(10);
        delay.waits(20);
        assert_eq!(delay.age(25), 15);
        delay.begin(20);
        assert_eq!(delay.age(25), 5);
        delay.clear();
        assert_eq!(delay.age(25), 0);
    }
}
