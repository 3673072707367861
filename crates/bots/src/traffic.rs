//! What users of the row `proxy` and their world say to each other (docs/bench.md).
//!
//! All numbers are big-endian, all stamps nanoseconds of the machine's clock ([`crate::clock`]). Where the protocol has
//! no routes a byte in front tells what it is.
//!
//! | | from | bytes | what is in it |
//! |---|---|---|---|
//! | move | user | 24 | stamp, sequence (u32), a place |
//! | ask | user | 64 | stamp, sequence (u32) |
//! | answer | world | some 600 | JSON: `{"seq":N,"in":STAMP,"out":STAMP,"of":…}`: when the question had come, when the answer was given |
//! | say | user | 80 | stamp, sequence (u32), text |
//! | said | world | 80 | the same, to everybody in the room |
//! | bundle | world | 200 | stamp, sequence (u32): who is where |

use std::io;

pub const MOVE_BYTES: usize = 24;
pub const ASK_BYTES: usize = 64;
pub const SAY_BYTES: usize = 80;
pub const BUNDLE_BYTES: usize = 200;

/// Nanoseconds from one to the next.
pub const MOVE_EVERY: u64 = 200_000_000;
pub const ASK_EVERY: u64 = 2_000_000_000;
pub const SAY_EVERY: u64 = 30_000_000_000;
pub const BUNDLE_EVERY: u64 = 100_000_000;

/// Who hears a line of chat.
pub const ROOM: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Move = 1,
    Ask = 2,
    Answer = 3,
    Say = 4,
    Said = 5,
    Bundle = 6,
}

impl Kind {
    pub fn of_byte(byte: u8) -> io::Result<Kind> {
        [
            Kind::Move,
            Kind::Ask,
            Kind::Answer,
            Kind::Say,
            Kind::Said,
            Kind::Bundle,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
        .ok_or_else(|| io::Error::other(format!("a message of kind {byte} came")))
    }

    /// Of a route that the world sends to.
    pub fn of_route(name: &[u8]) -> Option<Kind> {
        match name {
            b"said" => Some(Kind::Said),
            b"bundle" => Some(Kind::Bundle),
            _ => None,
        }
    }
}

/// Appends stamp, sequence, and bytes of every value up to `size`.
pub fn append(stamp: u64, sequence: u32, size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&stamp.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend((out.len() - start..size).map(|at| (at * 37) as u8 ^ sequence as u8));
}

/// The stamp and the sequence that it begins with, if it has this size.
pub fn read(body: &[u8], size: usize) -> io::Result<(u64, u32)> {
    match (
        body.first_chunk::<8>(),
        body[8.min(body.len())..].first_chunk::<4>(),
    ) {
        (Some(stamp), Some(sequence)) if body.len() == size => {
            Ok((u64::from_be_bytes(*stamp), u32::from_be_bytes(*sequence)))
        }
        _ => Err(io::Error::other(format!(
            "a message of {} bytes came instead of {size}",
            body.len()
        ))),
    }
}

/// Appends the answer to a question that has come at `came`; `of` is JSON.
pub fn append_answer(sequence: u32, came: u64, now: u64, of: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"seq":{sequence},"in":{came},"out":{now},"of":{of}}}"#);
    out.extend_from_slice(text.as_bytes());
}

/// The sequence of an answer, and how long it was in the world.
pub fn read_answer(body: &[u8]) -> io::Result<(u32, u64)> {
    let mut at = 0;
    let mut next = |name: &[u8]| {
        let rest = body[at..].strip_prefix(name)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits])
            .ok()?
            .parse::<u64>()
            .ok()?;
        at += name.len() + digits;
        Some(number)
    };
    let numbers = (next(br#"{"seq":"#), next(br#","in":"#), next(br#","out":"#));
    match numbers {
        (Some(sequence), Some(came), Some(gone)) if gone >= came && body.ends_with(b"}") => {
            Ok((sequence as u32, gone - came))
        }
        _ => {
            let text = body[..body.len().min(60)].escape_ascii();
            Err(io::Error::other(format!("an answer that is none: {text}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        append(7, 9, MOVE_BYTES, &mut out);
        assert_eq!(out.len(), MOVE_BYTES);
        assert_eq!(read(&out, MOVE_BYTES).unwrap(), (7, 9));
        assert!(read(&out, ASK_BYTES).is_err());
        assert!(read(&out[..10], 10).is_err());
    }

    #[test]
    fn an_answer_tells_how_long_it_was_in_the_world() {
        let mut out = Vec::new();
        append_answer(5, 1_000, 1_700, r#"{"tick":3}"#, &mut out);
        assert_eq!(read_answer(&out).unwrap(), (5, 700));
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
        for wrong in [&b"{}"[..], b"{\"seq\":5,\"in\":9,\"out\":8,\"of\":0}"] {
            assert!(read_answer(wrong).is_err());
        }
    }
}
