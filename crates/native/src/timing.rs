//! How long packets waited and their handlers took, as a drain goes along.
//!
//! The clock is read once a packet. What is made of a reading counts in a handler of 50 ns, so the waits
//! of quick packets in a row are recorded together, with the longest of them.

use crate::statistics::Loop;
use quanta::Clock;

/// Packets whose waits are recorded together.
const TOGETHER: u64 = 16;
/// After a handler that took longer, those before it are recorded for themselves.
const QUICK_NS: u64 = 2_000;

pub struct Timing<'a> {
    clock: &'a Clock,
    counts: &'a Loop,
    /// In the clock's own units.
    began: u64,
    before: u64,
    end: u64,
    quick: u64,
    began_ns: u64,
    arrived_ns: u64,
    together: u64,
}

impl<'a> Timing<'a> {
    /// `now_ns`: on the clock by which batches are stamped.
    pub fn new(clock: &'a Clock, counts: &'a Loop, now_ns: u64, budget_ns: u64) -> Timing<'a> {
        let began = clock.raw();
        let units = |ns: u64| {
            const MANY: u64 = 1 << 32;
            (u128::from(ns) * u128::from(MANY) / u128::from(clock.delta_as_nanos(0, MANY).max(1)))
                as u64
        };
        Timing {
            clock,
            counts,
            began,
            before: began,
            end: began + units(budget_ns),
            quick: units(QUICK_NS),
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
            let took = self.clock.delta_as_nanos(self.before, after);
            self.counts.handler.record(took, 1);
            self.together += 1;
            if self.together == TOGETHER || after - self.before > self.quick {
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
    }
}
