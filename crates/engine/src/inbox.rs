//! What goes from the reactors to Python: batches of packets, each with the arena its payloads lie in.
//!
//! Python drains whole batches, calls a handler for each item, and gives the batch back with its
//! *runs*: how much of which session's budget it held. A reactor stops reading a session whose
//! budget is used up, and whatever it reads when that of all together is, which events count
//! against as well: what waits here is bounded by the limits whatever Python does.

use crate::handle::Handle;
use photinus_proto::bluenet::header::{Flags, Header};
use photinus_proto::codec::Kind;
use std::ops::Range;

/// Packets of one reactor's turn, in the order in which they came.
pub struct Batch {
    pub reactor: usize,
    pub items: Vec<Item>,
    pub runs: Vec<Run>,
    /// What its events hold of the budget of all sessions together.
    pub told: usize,
    /// Initialised all through, used up to `used`: reused without being cleared.
    pub arena: Vec<u8>,
    pub used: usize,
    /// When it was pushed, in nanoseconds of the engine's clock.
    pub pushed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub handle: Handle,
    pub event: Event,
    /// The request's id, to be answered with.
    pub id: u32,
    /// A route's index, or one of the constants below.
    pub route: u32,
    /// The number it came under, in protocols that number their routes.
    pub number: u32,
    /// Where the payload lies in the arena. Of an unknown route: where its name lies.
    pub start: u32,
    pub len: u32,
}

/// The protocol has no routes, or nobody registered this number: the default handler's.
pub const DEFAULT_ROUTE: u32 = u32::MAX;
/// A route by name that nobody registered.
pub const UNKNOWN_ROUTE: u32 = u32::MAX - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Packet(Kind),
    /// A session is there; its listener's number is in `number`, its address's text in the arena. Of another
    /// node's client: the link's handle is in `route`, the session's there in `id`.
    Opened,
    /// A session has ended; by whom is in `number` (`By as u32`), the reason's text in the arena.
    Closed,
    /// A session has lost its connection, and waits for another one.
    Cut,
    /// It has another one, from the address in the text; `number` is 1 if some of what was sent to it is lost.
    Resumed,
    /// The reactor was told to drain, and no connection of a client's is left.
    Drained,
    /// A session has come to the target in `number` (0: to the application, as its home), and is to be answered
    /// under the tag in `id`. `route`: bit 0 with a gap, bit 1 if it is new there and not moved, bit 2 if there
    /// is a state, and above that what a listener's number would be. In the text ([`arrival`]): where it is from,
    /// its address, and the state.
    Arrived,
    /// Nothing more comes to the target in `number` under the tag in `id`, and its state is wanted.
    Fence,
    /// The session is not bound to the target in `number` under the tag in `id` any more, and no state is
    /// wanted.
    Detached,
    /// All of a session's bindings here have ended, though it goes on elsewhere.
    Gone,
    /// What was asked for as `number` was done in the place `id`; or it was not, and the text says why.
    Done,
    /// A native application tells this of a session.
    FromApp,
    /// Another node is linked: its roles are in `number`; its name, a blank and its generation in the arena.
    LinkUp,
    /// It is lost, and all that was not acknowledged with it; why stands in the arena.
    LinkLost,
    /// A frame from another node: the link's handle, destination in `id`, source in `number`, and in `route` what
    /// [`frame_route`] makes of its header.
    Frame,
}

impl Event {
    /// A run tells what it holds of a budget; of others the batch does.
    #[inline]
    pub fn is_counted(self) -> bool {
        matches!(self, Event::Packet(_) | Event::Frame)
    }
}

/// What stands in the text of [`Event::Arrived`].
pub struct Arrival<'a> {
    /// The link over which its client is reached, and the session's handle there; 0 both: it is ours.
    pub origin: (u32, u32),
    pub address: &'a str,
    pub state: &'a [u8],
}

/// `None`: it is none.
pub fn arrival(text: &[u8]) -> Option<Arrival<'_>> {
    let number = |at: usize| Some(u32::from_be_bytes(*text.get(at..)?.first_chunk()?));
    let (address, state) = text.get(12..)?.split_at_checked(number(8)? as usize)?;
    Some(Arrival {
        origin: (number(0)?, number(4)?),
        address: std::str::from_utf8(address).ok()?,
        state,
    })
}

/// The kind of a frame's destination, its priority in bits 3 and 4, and whether an answer is due in bit 5.
#[inline]
pub fn frame_route(header: &Header) -> u32 {
    let request = u32::from(header.flags.has(Flags::REQUEST));
    header.kind as u32 | (header.priority as u32) << 3 | request << 5
}

/// How much of one session's budget the packets next to each other in a batch hold: `bytes` is what
/// they take of the arena, with all that stands before and between their payloads. Frames of links hold only what
/// all sessions of the reactor have together: theirs has no handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub handle: Handle,
    pub packets: u32,
    pub bytes: u32,
}

impl Batch {
    pub fn new(reactor: usize, arena_bytes: usize) -> Batch {
        Batch {
            reactor,
            items: Vec::new(),
            runs: Vec::new(),
            told: 0,
            arena: vec![0; arena_bytes],
            used: 0,
            pushed: 0,
        }
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.runs.clear();
        self.told = 0;
        self.used = 0;
    }

    pub fn body(&self, item: &Item) -> &[u8] {
        &self.arena[item.start as usize..][..item.len as usize]
    }

    /// Appends to the arena; the caller has made sure that it fits (`room`).
    pub fn append(&mut self, bytes: &[u8]) -> u32 {
        let start = self.used;
        self.arena[start..start + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        start as u32
    }

    /// Puts bytes at `tail` and moves it behind them, and tells where they lie. The arena grows if it must.
    pub fn append_at(&mut self, tail: &mut usize, bytes: &[u8]) -> Range<usize> {
        let place = *tail..*tail + bytes.len();
        if self.arena.len() < place.end {
            self.arena.resize(place.end, 0);
        }
        self.arena[place.clone()].copy_from_slice(bytes);
        *tail = place.end;
        place
    }

    /// Takes over a later batch of the same reactor, if it fits: while Python is behind, many small
    /// turns become one batch, so that each does not hold an arena of its own.
    /// `Err`: it was taken in, and is given back to be reused; `Ok`: it was not.
    #[allow(clippy::boxed_local, reason = "batches are only ever moved by pointer")]
    pub fn absorb(last: &mut Box<Batch>, later: Box<Batch>) -> Result<Box<Batch>, Box<Batch>> {
        const WORTH_COPYING: usize = 64 << 10;
        let fits = last.reactor == later.reactor
            && later.used <= last.room().min(WORTH_COPYING)
            && last.items.len() + later.items.len() <= last.arena.len() / 16;
        if !fits {
            return Ok(later);
        }
        let shift = last.append(&later.arena[..later.used]);
        let moved = later.items.iter().map(|item| Item {
            start: item.start + shift,
            ..*item
        });
        last.items.extend(moved);
        last.runs.extend_from_slice(&later.runs);
        last.told += later.told;
        Err(later)
    }

    /// Counts a packet whose frame takes so many bytes of the arena, in the run of the one before if it is alike.
    #[inline]
    pub fn count(&mut self, handle: Handle, bytes: u32) {
        match self.runs.last_mut() {
            Some(run) if run.handle == handle => {
                run.packets += 1;
                run.bytes += bytes;
            }
            _ => self.runs.push(Run {
                handle,
                packets: 1,
                bytes,
            }),
        }
    }

    pub fn room(&self) -> usize {
        self.arena.len() - self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(reactor: usize, arena: usize, bodies: &[&[u8]]) -> Box<Batch> {
        let mut batch = Box::new(Batch::new(reactor, arena));
        for body in bodies {
            let start = batch.append(body);
            batch.items.push(Item {
                handle: Handle(1),
                event: Event::Packet(Kind::Message),
                id: 0,
                route: DEFAULT_ROUTE,
                number: 0,
                start,
                len: body.len() as u32,
            });
        }
        batch
    }

    #[test]
    fn an_absorbed_batch_keeps_its_payloads() {
        let mut last = batch(0, 256, &[b"one", b"two"]);
        assert!(Batch::absorb(&mut last, batch(0, 256, &[b"three", b""])).is_err());
        let bodies: Vec<_> = last.items.iter().map(|item| last.body(item)).collect();
        assert_eq!(bodies, [&b"one"[..], b"two", b"three", b""]);
    }

    #[test]
    fn what_does_not_fit_or_is_another_reactors_stays_itself() {
        let mut last = batch(0, 8, &[b"12345"]);
        assert!(Batch::absorb(&mut last, batch(0, 256, &[b"6789"])).is_ok());
        assert!(Batch::absorb(&mut last, batch(1, 256, &[b"6"])).is_ok());
    }
}
