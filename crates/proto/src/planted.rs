//! Faults on purpose. The simulation plants one at a time, to show that it finds it; without the feature `planted`,
//! which nothing that is shipped has, there are none, and asking costs nothing.

#[cfg(feature = "planted")]
use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A binding goes to its new owner, and the old one is not told.
    SkippedFence,
    /// Its new owner has it under the old one's epoch.
    MissedEpoch,
    /// A frame is counted as received when its beginning has come.
    EarlyAcknowledgement,
    /// An owner's word that its budget is used up is not minded.
    IgnoredXoff,
    /// A slot does not rest before it is used again.
    EarlySlot,
}

impl Planted {
    pub const ALL: [Planted; 5] = [
        Planted::SkippedFence,
        Planted::MissedEpoch,
        Planted::EarlyAcknowledgement,
        Planted::IgnoredXoff,
        Planted::EarlySlot,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Everything that runs on this thread behaves so from now on.
#[cfg(feature = "planted")]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}

#[cfg(feature = "planted")]
#[inline]
pub fn is_planted(fault: Planted) -> bool {
    PLANTED.get() == Some(fault)
}

#[cfg(not(feature = "planted"))]
#[inline(always)]
pub fn is_planted(_fault: Planted) -> bool {
    false
}
