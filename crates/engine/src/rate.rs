//! How often a session or an address may do a thing: token buckets, each kept as one time.
//!
//! A bucket that gets a token back every `interval` is known by the time at which it will be full
//! again (the generic cell rate algorithm, ITU-T I.371). A full one need not be kept, so what a
//! session holds is bounded by the kinds of things that it has done a moment ago.

use crate::limits::{Limits, SESSION_BURST_S};

const SECOND: u64 = 1_000_000_000;

/// So many of something a second, counted in amounts, and at most some seconds' worth of it at once.
///
/// A bucket of it is the time at which it will be full again, which its owner keeps; 0: it is full.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    per_s: u64,
    /// Nanoseconds in which an empty bucket becomes full.
    depth: u64,
}

impl Flow {
    /// `None`: any amount (`per_s` is 0).
    pub fn new(per_s: u64, burst_s: u64) -> Option<Flow> {
        let depth = burst_s * SECOND;
        (per_s > 0).then_some(Flow { per_s, depth })
    }

    /// Takes this amount at this time. `false`: so much is not there, and nothing was taken.
    #[inline]
    pub fn take(&self, bucket: &mut u64, amount: u64, now: u64) -> bool {
        let cost = amount.saturating_mul(SECOND) / self.per_s;
        let full_at = (*bucket).max(now).saturating_add(cost);
        let there = full_at - now <= self.depth;
        if there {
            *bucket = full_at;
        }
        there
    }
}

/// What each session may send.
pub struct SessionRates {
    packets: Option<Flow>,
    bytes: Option<Flow>,
}

/// One session's buckets of these.
#[derive(Debug, Default)]
pub struct Spent {
    packets: u64,
    bytes: u64,
}

impl SessionRates {
    pub fn new(limits: &Limits) -> SessionRates {
        SessionRates {
            packets: Flow::new(limits.session_packets_per_s, SESSION_BURST_S),
            bytes: Flow::new(limits.session_bytes_per_s, SESSION_BURST_S),
        }
    }

    /// So much has come from the session. `false`: it is more than it may send.
    #[inline]
    pub fn allow(&self, spent: &mut Spent, packets: u64, bytes: u64, now: u64) -> bool {
        let within = |flow: &Option<Flow>, bucket: &mut u64, amount| match flow {
            Some(flow) => flow.take(bucket, amount, now),
            None => true,
        };
        within(&self.packets, &mut spent.packets, packets)
            && within(&self.bytes, &mut spent.bytes, bytes)
    }
}

/// One token every `interval` nanoseconds, at most `burst` of them.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Which of a session's buckets it is about.
    key: u32,
    interval: u64,
    /// How far from full a bucket with one token left is.
    slack: u64,
}

/// One session's buckets, those that are not full.
#[derive(Debug, Default)]
pub struct Buckets(Vec<Bucket>);

#[derive(Debug)]
struct Bucket {
    key: u32,
    full_at: u64,
}

impl Rate {
    pub fn new(key: u32, interval: u64, burst: u32) -> Rate {
        let interval = interval.max(1);
        let slack = interval.saturating_mul(u64::from(burst.saturating_sub(1)));
        Rate {
            key,
            interval,
            slack,
        }
    }
}

impl Buckets {
    /// Takes a token at this time. `Err`: there is none, and the next one comes in so many nanoseconds.
    pub fn take(&mut self, rate: &Rate, now: u64) -> Result<(), u64> {
        let found = self.0.iter_mut().find(|bucket| bucket.key == rate.key);
        let full_at = found.as_ref().map_or(now, |bucket| bucket.full_at.max(now));
        let wait = (full_at - now).saturating_sub(rate.slack);
        if wait > 0 {
            return Err(wait);
        }
        let full_at = full_at.saturating_add(rate.interval);
        match found {
            Some(bucket) => bucket.full_at = full_at,
            None => {
                self.0.retain(|bucket| bucket.full_at > now);
                self.0.push(Bucket {
                    key: rate.key,
                    full_at,
                });
            }
        }
        Ok(())
    }

    pub fn kept(&self) -> usize {
        self.0.len()
    }
}
