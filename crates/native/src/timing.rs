//! How long packets waited and their handlers took, as a drain goes along.
//!
//! The clock is read once a packet. What is made of a reading counts where a handler takes 50 ns, so
//! quick handlers are counted in the clock's own units and recorded at the end of the drain, and the
//! waits of their packets together, with the longest of them.

use crate::statistics::Loop;
use quanta::Clock;

/// Packets whose waits are recorded together.
const TOGETHER: u64 = 16;
/// After a handler that took longer, those before it are recorded for themselves.
const QUICK_NS: u64 = 2_000;
/// Steps of the clock in which quick handlers are counted: finer than a bucket of the histogram.
const STEPS: usize = 512;

/// How many quick handlers took how many steps.
pub struct Quick {
    counts: [u32; STEPS],
    /// Which of these are not 0.
    used: [u64; STEPS / 64],
}

impl Default for Quick {
    fn default() -> Quick {
        Quick {
            counts: [0; STEPS],
            used: [0; STEPS / 64],
        }
    }
}

pub struct Timing<'a> {
    clock: &'a Clock,
    counts: &'a Loop,
    quick: &'a mut Quick,
    /// In the clock's own units.
    began: u64,
    before: u64,
    end: u64,
    /// A step is so many units, as a power of two.
    step: u32,
    began_ns: u64,
    arrived_ns: u64,
    together: u64,
}

impl<'a> Timing<'a> {
    /// `now_ns`: on the clock by which batches are stamped.
    pub fn new(
        clock: &'a Clock,
        counts: &'a Loop,
        quick: &'a mut Quick,
        now_ns: u64,
        budget_ns: u64,
    ) -> Timing<'a> {
        let began = clock.raw();
        const MANY: u64 = 1 << 32;
        let many_ns = clock.delta_as_nanos(0, MANY).max(1);
        let units = |ns: u64| (u128::from(ns) * u128::from(MANY) / u128::from(many_ns)) as u64;
        let a_step = (units(QUICK_NS) / STEPS as u64).max(1);
        Timing {
            clock,
            counts,
            quick,
            began,
            before: began,
            end: began + units(budget_ns),
            step: a_step.next_power_of_two().trailing_zeros(),
            began_ns: now_ns,
            arrived_ns: now_ns,
            together: 0,
        }
    }

    /// The packets to come were handed in at this time.
    pub fn batch(&mut self, arrived_ns: u64) {
        self.record_waits();
        self.arrived_ns = arrived_ns;
    }

    /// An item is done. `packet`: it was given to a handler. `true`: the budget is used up.
    #[inline]
    pub fn done(&mut self, packet: bool) -> bool {
        let after = self.clock.raw();
        if packet {
            self.together += 1;
            let steps = (after.saturating_sub(self.before) >> self.step) as usize;
            if let Some(count) = self.quick.counts.get_mut(steps) {
                *count += 1;
                self.quick.used[steps / 64] |= 1 << (steps % 64);
                if self.together == TOGETHER {
                    self.record_waits();
                }
            } else {
                let took = self.clock.delta_as_nanos(self.before, after);
                self.counts.handler.record(took, 1);
                self.record_waits();
            }
        }
        self.before = after;
        after > self.end
    }

    /// The last of those together has waited the longest: until its handler was called.
    fn record_waits(&mut self) {
        if self.together > 0 {
            let now = self.began_ns + self.clock.delta_as_nanos(self.began, self.before);
            let waited = now.saturating_sub(self.arrived_ns);
            self.counts.inbox_to_handler.record(waited, self.together);
            self.counts.handled.add(self.together);
            self.together = 0;
        }
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.record_waits();
        for (word, used) in self.quick.used.iter_mut().enumerate() {
            while *used != 0 {
                let steps = word * 64 + used.trailing_zeros() as usize;
                *used &= *used - 1;
                // The middle of the step.
                let units = ((steps as u64) << self.step) + (1 << self.step) / 2;
                let took = self.clock.delta_as_nanos(0, units);
                let count = std::mem::take(&mut self.quick.counts[steps]);
                self.counts.handler.record(took, u64::from(count));
            }
        }
    }
}
