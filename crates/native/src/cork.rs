//! What Python sends, gathered until the end of a turn: one hand-over a reactor, and at most one wake.
//!
//! Invariant: items leave in the order in which they were corked, whichever thread corked them; a
//! thread other than the loop's hands over at once, since nobody knows when the loop comes round.

use crate::gil::GilCell;
use crate::statistics::Loop;
use photinus_engine::engine::Engine;
use photinus_engine::outbox::{Action, OutBatch};
use pyo3::prelude::*;

/// A turn that sends more than this hands over before it ends: the reactors can begin to write.
const CORK_BYTES: usize = 1 << 20;

pub struct Cork {
    batches: GilCell<Vec<OutBatch>>,
}

impl Cork {
    pub fn new(reactors: usize) -> Cork {
        Cork {
            batches: GilCell::new((0..reactors).map(|_| OutBatch::default()).collect()),
        }
    }

    /// Appends. `true`: so much is gathered that it should be handed over now.
    #[inline]
    #[must_use]
    pub fn push(&self, py: Python<'_>, reactor: usize, action: Action, payload: &[u8]) -> bool {
        self.batches
            .with(py, |batches| match batches.get_mut(reactor) {
                None => false,
                Some(batch) => {
                    batch.push(action, payload);
                    batch.arena.len() >= CORK_BYTES || batch.items.len() >= CORK_BYTES / 32
                }
            })
    }

    /// Hands over what is gathered. Waits, without the GIL, for a reactor that is far behind.
    pub fn flush(&self, py: Python<'_>, engine: &Engine, counts: &Loop) {
        for reactor in 0..engine.reactors() {
            let batch = self.batches.with(py, |batches| {
                let batch = &mut batches[reactor];
                let full = !batch.items.is_empty();
                full.then(|| std::mem::replace(batch, engine.spare(reactor)))
            });
            let Some(batch) = batch else { continue };
            counts
                .wakes
                .add(u64::from(engine.hand_over(reactor, batch)));
            if engine.is_full(reactor) {
                counts.waited_for_room.add(1);
                py.detach(|| engine.wait_for_room(reactor));
            }
        }
    }
}
