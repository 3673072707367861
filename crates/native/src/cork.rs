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

/// A turn that sends to more receivers than this, beside its replies, leaves the writing to a native
/// thread: some half a millisecond of system calls, which the loop's own thread should not make.
const MUCH_TO_WRITE: usize = 128;

pub struct Cork {
    batches: GilCell<Vec<OutBatch>>,
    /// Receivers of what was sent in this turn, replies not counted.
    receivers: GilCell<usize>,
}

impl Cork {
    pub fn new(reactors: usize) -> Cork {
        Cork {
            batches: GilCell::new((0..reactors).map(|_| OutBatch::default()).collect()),
            receivers: GilCell::new(0),
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

    /// Something goes to so many receivers, and is no reply.
    pub fn count_receivers(&self, py: Python<'_>, more: usize) {
        self.receivers.with(py, |receivers| *receivers += more);
    }

    /// Hands over what is gathered; gives what the caller owes for it.
    pub fn hand_over(&self, py: Python<'_>, engine: &Engine) -> Owed {
        let mut owed = Owed {
            much: self.receivers.with(py, std::mem::take) > MUCH_TO_WRITE,
            ..Owed::default()
        };
        for reactor in 0..engine.reactors() {
            let batch = self.batches.with(py, |batches| {
                let batch = &mut batches[reactor];
                let full = !batch.items.is_empty();
                full.then(|| std::mem::replace(batch, engine.spare(reactor)))
            });
            if let Some(batch) = batch {
                owed.wakes |= u16::from(engine.hand_over(reactor, batch)) << reactor;
                owed.waits |= u16::from(engine.is_full(reactor)) << reactor;
            }
        }
        owed
    }

    /// Hands over and pays at once.
    pub fn flush(&self, py: Python<'_>, engine: &Engine, counts: &Loop) {
        let owed = self.hand_over(py, engine);
        if owed != Owed::default() {
            owed.count(counts);
            py.detach(|| owed.pay(engine));
        }
    }
}

/// After a hand-over: reactors that sleep have to be woken, those far behind waited for. A bit each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Owed {
    wakes: u16,
    waits: u16,
    /// There is much to write.
    pub much: bool,
}

impl Owed {
    pub fn count(self, counts: &Loop) {
        counts.wakes.add(u64::from(self.wakes.count_ones()));
        counts
            .waited_for_room
            .add(u64::from(self.waits.count_ones()));
    }

    /// Without the GIL: a woken reactor may take over this thread's core at that moment.
    pub fn pay(self, engine: &Engine) {
        let each = |bits: u16| (0..u16::BITS as usize).filter(move |at| bits >> at & 1 == 1);
        each(self.wakes).for_each(|reactor| engine.wake(reactor));
        each(self.waits).for_each(|reactor| engine.wait_for_room(reactor));
    }
}
