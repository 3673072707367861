//! How often a session may do a thing: token buckets, each kept as one time.
//!
//! A bucket that gets a token back every `interval` is known by the time at which it will be full
//! again (the generic cell rate algorithm, ITU-T I.371). A full one need not be kept, so what a
//! session holds is bounded by the kinds of things that it has done a moment ago.

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
