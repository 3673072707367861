//! A turn of the loop: on which thread it runs, and how much of its time went to packets.

use crate::engine::Engine;
use pyo3::Python;
use std::sync::atomic::Ordering::Relaxed;

impl Engine {
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
