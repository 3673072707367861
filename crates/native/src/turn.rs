//! A turn of the loop: on which thread it runs, and how much of its time went to packets.

use crate::dispatch::Work;
use crate::engine::Engine;
use photinus_engine::leaders::Rest;
use photinus_engine::system::Sleeper;
use pyo3::Python;
use std::sync::atomic::Ordering::Relaxed;

impl Engine {
    /// The end of one turn of our loop and the beginning of the next: hands over what was sent, and
    /// rests until something comes. `true`: the loop's own poller has something.
    pub fn next_turn(&self, py: Python<'_>, sleeper: &Sleeper, until: Rest) -> bool {
        // The reactors are woken at the very last: they may take over this core at that moment, and
        // then the GIL should be free, and nothing be left to do here but to sleep.
        let owed = self.cork.hand_over(py, &self.inner);
        owed.count(&self.counts);
        let idle = self
            .work
            .with(py, |work| work.as_ref().is_some_and(Work::is_empty));
        let rest = if idle { until } else { Rest::None };
        // A loop that is behind has no time for its sockets, either.
        let much = owed.much || !idle;
        self.end_turn(py);
        self.counts.gil_acquisitions.add(1);
        let other = py.detach(|| {
            owed.pay(&self.inner);
            self.inner.rest(sleeper, rest, much, &self.counts.waits)
        });
        self.begin_turn(py);
        other
    }

    pub fn begin_turn(&self, py: Python<'_>) {
        self.loop_thread.store(me(), Relaxed);
        self.counts.turns.add(1);
        let now = self.clock.raw();
        self.turn_began.with(py, |began| *began = now);
    }

    /// The time of a turn counts as spent for packets if it had any.
    pub fn end_turn(&self, py: Python<'_>) {
        let began = self.turn_began.with(py, std::mem::take);
        let had_packets = self.work.with(py, |work| {
            work.as_mut()
                .is_some_and(|work| std::mem::take(&mut work.had_packets))
        });
        if had_packets && began != 0 {
            self.counts.turns_with_packets.add(1);
            self.counts
                .gil_ns
                .add(self.clock.delta_as_nanos(began, self.clock.raw()));
        }
    }
}

/// A number of the calling thread, never 0.
#[inline]
pub fn me() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}
