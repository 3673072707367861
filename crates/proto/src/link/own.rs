//! What a link says for itself (docs/bluenet.md, 2.2): how many frames of each lane have come, and with that, now
//! and then, a stamp that the other end gives back.
//!
//! Of each kind only the newest is ever due, so that a peer that asks without reading the answers costs no memory.

use super::{head, LANES, LENGTH_BYTES};
use crate::bluenet::header::{Header, HEADER_BYTES};
use crate::error::WireError;

const ACK: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;

const COUNTS_BYTES: usize = 1 + 4 * LANES;
const STAMPED_BYTES: usize = COUNTS_BYTES + 8;

/// Header and payload of the longest.
pub const OWN_MOST_BYTES: usize = HEADER_BYTES + STAMPED_BYTES;

/// What is due, and what of it waits to be written.
#[derive(Debug, Default)]
pub struct Own {
    pub ack_due: bool,
    pub ping_due: bool,
    /// The stamp of the other end's last ping.
    pub pong_due: Option<u64>,
    unwritten: Vec<u8>,
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub received: [u32; LANES],
    pub stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    None,
    Ping(u64),
    Pong(u64),
}

impl Own {
    #[inline]
    pub fn is_due(&self) -> bool {
        self.ack_due || self.ping_due || self.pong_due.is_some() || self.at < self.unwritten.len()
    }

    #[inline]
    pub fn unwritten(&self) -> &[u8] {
        &self.unwritten[self.at..]
    }

    #[inline]
    pub fn handle_written(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.unwritten.len());
    }

    /// Turns what is due into bytes, unless there are some. Says whether something was due.
    #[inline]
    pub fn encode(&mut self, received: [u32; LANES], now_us: u64) -> bool {
        if self.at < self.unwritten.len() || !self.is_due() {
            return false;
        }
        self.unwritten.clear();
        self.at = 0;
        let pong = self.pong_due.take();
        if let Some(stamp) = pong {
            write(received, Stamp::Pong(stamp), &mut self.unwritten);
        }
        let ping = std::mem::take(&mut self.ping_due);
        if ping {
            write(received, Stamp::Ping(now_us), &mut self.unwritten);
        }
        if std::mem::take(&mut self.ack_due) && pong.is_none() && !ping {
            write(received, Stamp::None, &mut self.unwritten);
        }
        true
    }
}

fn write(received: [u32; LANES], stamp: Stamp, out: &mut Vec<u8>) {
    let (tag, stamp) = match stamp {
        Stamp::None => (ACK, None),
        Stamp::Ping(stamp) => (PING, Some(stamp)),
        Stamp::Pong(stamp) => (PONG, Some(stamp)),
    };
    let payload = stamp.map_or(COUNTS_BYTES, |_| STAMPED_BYTES);
    out.reserve(LENGTH_BYTES + HEADER_BYTES + payload);
    out.extend(head(HEADER_BYTES + payload, Header::LINK));
    out.push(tag);
    out.extend(received.iter().flat_map(|count| count.to_be_bytes()));
    out.extend(stamp.into_iter().flat_map(u64::to_be_bytes));
}

/// Of a frame whose header [`Header::is_link`].
pub fn read(header: Header, payload: &[u8]) -> Result<Said, WireError> {
    let (Some(&tag), true) = (payload.first(), header == Header::LINK) else {
        return Err(WireError::BadFrame);
    };
    let stamped = match (tag, payload.len()) {
        (ACK, COUNTS_BYTES) => false,
        (PING | PONG, STAMPED_BYTES) => true,
        _ => return Err(WireError::BadFrame),
    };
    let mut received = [0; LANES];
    for (count, bytes) in received.iter_mut().zip(payload[1..].chunks_exact(4)) {
        *count = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let stamp = match payload.last_chunk::<8>() {
        Some(bytes) if stamped => {
            let stamp = u64::from_be_bytes(*bytes);
            match tag {
                PING => Stamp::Ping(stamp),
                _ => Stamp::Pong(stamp),
            }
        }
        _ => Stamp::None,
    };
    Ok(Said { received, stamp })
}
