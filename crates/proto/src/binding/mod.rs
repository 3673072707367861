//! How one binding of a session (its home, or an attachment) goes from one owner to another, in order
//! (docs/bluenet.md, 10): [`Binding`] is the half of the proxy, which leads.
//!
//! Rules for both:
//! 1. A link keeps the order of what it carries, and a lost link takes all of it along. So everything here
//!    travels in one lane: FENCE, ARRIVE, DETACH and their answers in that of the session's packets, or FENCE
//!    would not be behind the last of them.
//! 2. What follows a FENCE on a link is ARRIVE or DETACH, never a packet. So an owner that was fenced needs no
//!    place for packets that are not its own.
//! 3. Each time that a binding is given to an owner it gets the next epoch, also if it is given back to the
//!    owner that it came from. Epochs have 12 bits and wrap; they are compared as equal or not, never as older.
//!    That suffices: of what an owner still says about an earlier time, all but the answers to a step that
//!    timed out has been heard when the next begins (rule 1), and those are told apart unless the binding
//!    moves 4,096 times, each at least two round trips, before they come.
//! 4. An owner that was fenced keeps what it left with until it is told to forget it, or gets it back.

mod proxy;
#[cfg(test)]
mod tests;

use crate::planted::{is_planted, Planted};
pub use proxy::{Action, Binding, Reason};

/// How long the proxy waits for each of FENCED and ARRIVED, in ms. An owner that has not reached a frame by then
/// is stuck: game code is told when it holds its loop for 100 ms, and links are lost after 3 s of silence, so
/// this is never what finds a dead one.
pub const STEP_MS: u64 = 5000;

/// What an owner may hand to the next one, in bytes. As much as the largest packet of a client; a frame of this
/// size holds up what is behind it on a link of 1 Gbit/s for half a millisecond; and a node that is drained of
/// 1,000 sessions at once has the proxies keep at most 64 MiB.
pub const MAX_STATE: usize = 64 * 1024;

const EPOCHS: u16 = 1 << 12;

fn after(epoch: u16) -> u16 {
    if is_planted(Planted::MissedEpoch) {
        return epoch;
    }
    (epoch + 1) % EPOCHS
}

fn before(epoch: u16) -> u16 {
    (epoch + EPOCHS - 1) % EPOCHS
}
