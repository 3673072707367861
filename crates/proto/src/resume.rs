//! What lets a session outlive its connection (docs/protocol.md, 5.11): of one session, what was sent
//! and is not known to have arrived ([`Sent`]), and the [`Tokens`] that show whose it is.
//!
//! Rules:
//! 1. Counted messages have numbers in the order in which they are sent, over the whole session. A number is
//!    never written: both sides count. Numbers are modulo 2^32, and two that are compared lie less than half
//!    of that apart, which the bound on what is kept sees to.
//! 2. What is kept is always the newest: all messages from some number on. Whoever lacks an older one has a
//!    gap, and then nothing that was kept is sent.
//! 3. The receiver's count says what is sent again, so nothing has to be recognised as coming twice: a frame
//!    counts when it is whole, and half of one was never received.
//! 4. Whether a message was sent before the cut or after it makes no difference here: it is kept, and the
//!    next connection gets what its peer lacks.
//!
//! Order of calls for `Sent`: [`keep`](Sent::keep) and [`acknowledge`](Sent::acknowledge), whether there is a
//! connection or not; [`resume`](Sent::resume) with the peer's count when there is a new one, then
//! [`kept`](Sent::kept) is sent before anything else.

use crate::error::WireError;
use std::collections::VecDeque;

/// The sender's half. `M` is what stands beside a body: its kind, its route, its id.
///
/// Bodies lie one behind the other, so keeping one allocates nothing once there is room; when all has been
/// acknowledged there is no memory left at all.
#[derive(Debug)]
pub struct Sent<M> {
    /// How many were sent; modulo 2^32, it is the number of the next.
    count: u64,
    /// The last ones sent, without a hole.
    heads: VecDeque<Head<M>>,
    bodies: VecDeque<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Head<M> {
    meta: M,
    length: u32,
}

/// What a new connection's peer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// All that it lacks.
    Whole,
    /// Nothing of what it lacks; the next counted message has this number.
    Gap { next: u32 },
}

impl<M> Default for Sent<M> {
    fn default() -> Self {
        Sent {
            count: 0,
            heads: VecDeque::new(),
            bodies: VecDeque::new(),
        }
    }
}

impl<M: Copy> Sent<M> {
    /// Counts a message, and keeps it. The oldest are dropped until all that is kept costs at most `limit`
    /// bytes.
    pub fn keep(&mut self, meta: M, body: &[u8], limit: usize) {
        self.count += 1;
        let cost = body.len() + size_of::<Head<M>>();
        if cost > limit {
            return self.forget();
        }
        while self.bytes() + cost > limit {
            self.drop_oldest();
        }
        self.heads.push_back(Head {
            meta,
            length: body.len() as u32,
        });
        self.bodies.extend(body);
    }

    /// The peer has received so many. An error if that is more than were sent.
    pub fn acknowledge(&mut self, received: u32) -> Result<(), WireError> {
        let lacks = self.lacks(received)?;
        while self.heads.len() > lacks {
            self.drop_oldest();
        }
        if self.heads.is_empty() {
            self.forget(); // the memory, too
        }
        Ok(())
    }

    /// There is a new connection, whose peer has received so many.
    pub fn resume(&mut self, received: u32) -> Result<Continuation, WireError> {
        if self.lacks(received)? <= self.heads.len() {
            self.acknowledge(received)?;
            return Ok(Continuation::Whole);
        }
        self.forget();
        Ok(Continuation::Gap {
            next: self.count as u32,
        })
    }

    /// All that is kept, oldest first.
    pub fn kept(&mut self) -> impl Iterator<Item = (M, &[u8])> {
        let mut rest: &[u8] = self.bodies.make_contiguous();
        self.heads.iter().map(move |head| {
            let (body, behind) = rest.split_at(head.length as usize);
            rest = behind;
            (head.meta, body)
        })
    }

    /// Drops all that is kept, for want of room elsewhere: whoever lacks some of it has a gap.
    pub fn forget(&mut self) {
        self.heads = VecDeque::new();
        self.bodies = VecDeque::new();
    }

    /// What all that is kept counts against its limits.
    pub fn bytes(&self) -> usize {
        self.bodies.len() + self.heads.len() * size_of::<Head<M>>()
    }

    /// How many a peer lacks that has received so many.
    fn lacks(&self, received: u32) -> Result<usize, WireError> {
        match (self.count as u32).wrapping_sub(received) {
            lacks if lacks <= u32::MAX / 2 && u64::from(lacks) <= self.count => Ok(lacks as usize),
            _ => Err(WireError::BadFrame),
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(head) = self.heads.pop_front() {
            self.bodies.drain(..head.length as usize);
        }
    }
}

/// Bytes of a secret: as many bits as nobody tries.
pub const SECRET_BYTES: usize = 16;
pub type Secret = [u8; SECRET_BYTES];

/// The secrets of one session's tokens. Each welcome gives the next; the one before is worthless as soon as
/// the client is known to have that.
#[derive(Debug)]
pub struct Tokens {
    current: Secret,
    /// Given, and not known to have arrived.
    next: Option<Secret>,
    previous: Option<Secret>,
}

/// What a secret is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    Good,
    /// It was good once.
    Replayed,
    Forged,
}

impl Tokens {
    pub fn new(first: Secret) -> Tokens {
        Tokens {
            current: first,
            next: None,
            previous: None,
        }
    }

    /// Takes as long whatever is wrong with it.
    pub fn judge(&self, shown: &Secret) -> Worth {
        let current = same(&self.current, shown);
        let next = self.next.as_ref().is_some_and(|of| same(of, shown));
        let previous = self.previous.as_ref().is_some_and(|of| same(of, shown));
        match (current | next, previous) {
            (true, _) => Worth::Good,
            (false, true) => Worth::Replayed,
            (false, false) => Worth::Forged,
        }
    }

    /// Another welcome gives this one. `shown` was good, and the client came with it: it has no newer one.
    pub fn renew(&mut self, shown: &Secret, next: Secret) {
        if !same(&self.current, shown) {
            self.arrived();
        }
        self.next = Some(next);
    }

    /// The client has spoken after the last welcome, so it has the token that stood there.
    pub fn arrived(&mut self) {
        if let Some(next) = self.next.take() {
            self.previous = Some(std::mem::replace(&mut self.current, next));
        }
    }
}

fn same(one: &Secret, other: &Secret) -> bool {
    let mut differs = 0;
    for (a, b) in one.iter().zip(other) {
        differs |= a ^ b;
    }
    std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(sent: &mut Sent<u32>) -> Vec<u32> {
        sent.kept()
            .map(|(meta, body)| {
                assert_eq!(body, meta.to_le_bytes());
                meta
            })
            .collect()
    }

    fn sent(count: u32, limit: usize) -> Sent<u32> {
        let mut sent = Sent::default();
        for number in 0..count {
            sent.keep(number, &number.to_le_bytes(), limit);
        }
        sent
    }

    #[test]
    fn what_was_acknowledged_is_not_kept() {
        let mut of = sent(10, 1 << 20);
        of.acknowledge(7).unwrap();
        assert_eq!(kept(&mut of), [7, 8, 9]);
        assert_eq!(of.acknowledge(11), Err(WireError::BadFrame));
        // Late, and no news.
        of.acknowledge(3).unwrap();
        assert_eq!(kept(&mut of), [7, 8, 9]);
        of.acknowledge(10).unwrap();
        assert_eq!((of.bytes(), of.heads.capacity()), (0, 0));
    }

    #[test]
    fn whoever_lacks_what_was_dropped_has_a_gap() {
        let room = 3 * (4 + size_of::<Head<u32>>());
        let mut of = sent(10, room);
        assert_eq!(kept(&mut of), [7, 8, 9]);
        assert_eq!(of.resume(8), Ok(Continuation::Whole));
        assert_eq!(kept(&mut of), [8, 9]);
        assert_eq!(of.resume(6), Ok(Continuation::Gap { next: 10 }));
        assert_eq!(kept(&mut of), [] as [u32; 0]);
        of.keep(10, &10u32.to_le_bytes(), room);
        assert_eq!(of.resume(10), Ok(Continuation::Whole));
        assert_eq!(kept(&mut of), [10]);
        assert_eq!(of.resume(12), Err(WireError::BadFrame));
    }

    #[test]
    fn one_that_does_not_fit_leaves_a_gap() {
        let mut of = sent(2, 1000);
        of.keep(2, &[0; 2000], 1000);
        assert_eq!(of.bytes(), 0);
        assert_eq!(of.resume(2), Ok(Continuation::Gap { next: 3 }));
    }

    #[test]
    fn counts_wrap() {
        let mut of = sent(3, 1 << 20);
        assert_eq!(of.resume(u32::MAX), Err(WireError::BadFrame));
        of.count = (1 << 32) + 1;
        assert_eq!(of.resume(u32::MAX), Ok(Continuation::Whole));
        assert_eq!(kept(&mut of), [1, 2]);
    }

    #[test]
    fn a_token_is_good_until_the_next_has_arrived() {
        let [a, b, c] = [[1; SECRET_BYTES], [2; SECRET_BYTES], [3; SECRET_BYTES]];
        let mut tokens = Tokens::new(a);
        assert_eq!(tokens.judge(&a), Worth::Good);
        tokens.renew(&a, b);
        assert_eq!(
            (tokens.judge(&a), tokens.judge(&b)),
            (Worth::Good, Worth::Good)
        );
        // That welcome was lost: the client comes with the old one again.
        tokens.renew(&a, c);
        assert_eq!(
            (tokens.judge(&b), tokens.judge(&c)),
            (Worth::Forged, Worth::Good)
        );
        tokens.arrived();
        assert_eq!(
            (tokens.judge(&a), tokens.judge(&c)),
            (Worth::Replayed, Worth::Good)
        );
        tokens.arrived();
        assert_eq!(tokens.judge(&c), Worth::Good);
        // It comes with the one that it was not known to have.
        tokens.renew(&c, a);
        tokens.renew(&a, b);
        assert_eq!(
            (tokens.judge(&c), tokens.judge(&a)),
            (Worth::Replayed, Worth::Good)
        );
        assert_eq!(tokens.judge(&[9; SECRET_BYTES]), Worth::Forged);
    }
}
