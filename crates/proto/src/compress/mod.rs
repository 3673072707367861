//! Compression of payloads, one at a time (5.7, 4.10): no payload depends on one before it, so one set of
//! [`Contexts`] serves all connections of a reactor, and a broadcast is compressed once.
//!
//! What comes from a peer is inflated up to a limit and not a byte further, whatever it says of itself.

mod dictionary;
mod snappy;
mod zlib;
mod zstd;

pub use dictionary::Dictionary;

use crate::error::WireError;
use snappy::Snappy;
use zlib::Zlib;
use zstd::Zstd;

/// Longer ones are sent as they are: no receiver inflates more (5.7).
pub const LONGEST: usize = 0xff_ffff;

/// How a payload is compressed; the numbers are those of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    Zlib = 1,
    Snappy = 2,
    Zstd = 3,
}

/// What a connection has agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Agreement {
    pub algorithm: Algorithm,
    /// With the listener's dictionary; only zstd has them.
    pub dictionary: bool,
}

/// How payloads of a connection are compressed and inflated: its agreement, and what its listener says.
#[derive(Debug, Clone, Copy)]
pub struct Scheme<'a> {
    pub algorithm: Algorithm,
    pub dictionary: Option<&'a Dictionary>,
    /// Shorter payloads are sent as they are.
    pub threshold: usize,
    /// Bytes that a payload may inflate to.
    pub limit: usize,
}

/// What connections of one reactor use in turn. Each is made when it is first needed, and then used again
/// for every payload: it is their making that is dear, not the bytes.
#[derive(Default)]
pub struct Contexts {
    zlib: Zlib,
    snappy: Snappy,
    zstd: Zstd,
    /// What was compressed last.
    compressed: Vec<u8>,
}

impl Contexts {
    /// What is to be sent in place of `payload`; `None`: that is not worth it, or not shorter.
    pub fn compress(&mut self, scheme: &Scheme<'_>, payload: &[u8]) -> Option<&[u8]> {
        if !scheme.is_worth(payload.len()) {
            return None;
        }
        let out = &mut self.compressed;
        let length = match scheme.algorithm {
            Algorithm::Zlib => self.zlib.compress(payload, out),
            Algorithm::Snappy => self.snappy.compress(payload, out),
            Algorithm::Zstd => self.zstd.compress(payload, scheme.dictionary, out),
        }?;
        (length < payload.len()).then(|| &self.compressed[..length])
    }

    /// Appends what `payload` inflates to; or nothing, if that is more than the limit or cannot be inflated.
    pub fn inflate(
        &mut self,
        scheme: &Scheme<'_>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let start = out.len();
        let inflated = match scheme.algorithm {
            Algorithm::Zlib => self.zlib.inflate(payload, scheme.limit, out),
            Algorithm::Snappy => self.snappy.inflate(payload, scheme.limit, out),
            Algorithm::Zstd => self
                .zstd
                .inflate(payload, scheme.dictionary, scheme.limit, out),
        };
        if inflated.is_err() {
            out.truncate(start);
        }
        inflated
    }

    /// After a burst: the contexts stay, what they wrote goes.
    pub fn shrink(&mut self) {
        self.compressed = Vec::new();
    }
}

impl Scheme<'_> {
    /// Whether a payload of this length should be tried.
    #[inline]
    pub fn is_worth(&self, length: usize) -> bool {
        length >= self.threshold && length <= LONGEST && length > 0
    }
}

impl Algorithm {
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_name(name: &str) -> Option<Algorithm> {
        match name {
            "zlib" => Some(Algorithm::Zlib),
            "snappy" => Some(Algorithm::Snappy),
            "zstd" => Some(Algorithm::Zstd),
            _ => None,
        }
    }

    /// Names separated by commas, each at most once. `None`: something else.
    pub fn list(names: &str) -> Option<Box<[Algorithm]>> {
        let mut list = Vec::new();
        for name in names.split(',') {
            let algorithm = Algorithm::from_name(name)?;
            if list.contains(&algorithm) {
                return None;
            }
            list.push(algorithm);
        }
        Some(list.into())
    }
}

/// At least this many bytes to be written to, without touching those that are there already.
fn make_room(out: &mut Vec<u8>, bytes: usize) {
    if out.len() < bytes {
        out.resize(bytes, 0);
    }
}

#[cfg(test)]
mod tests;
