//! Frames between a proxy and what is behind it, as `bench/forwarder.c` says: a u24 of length, a header of ten
//! bytes, a payload. And what clients of such a proxy speak: a u32 of length and a payload.

use std::io;

/// Of the length, and of the header, which the length counts.
pub const HEAD: usize = 13;
const LENGTH: usize = 3;

/// Kinds of a destination.
pub const TO_ONE: u8 = 0;
pub const TO_LIST: u8 = 1;
/// A client has come (`O`) or gone (`C`).
pub const NOTICE: u8 = 7;
pub const CAME: u8 = b'O';

/// Bytes of a client's length field.
pub const CLIENT_HEAD: usize = 4;

pub struct Frame<'a> {
    pub kind: u8,
    pub destination: u32,
    pub source: u32,
    pub payload: &'a [u8],
}

/// The whole length of the frame that `input` begins with.
pub fn measure(input: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = input.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = LENGTH + (number(head, 0) >> 8) as usize;
    if length < HEAD {
        return Err(io::Error::other("a frame without a header came"));
    }
    Ok(Some(length))
}

/// Reads one whole frame.
pub fn parse(frame: &[u8]) -> Frame<'_> {
    Frame {
        kind: frame[LENGTH] >> 5,
        destination: number(frame, 5),
        source: number(frame, 9),
        payload: &frame[HEAD..],
    }
}

/// The list at a payload's head, and what is behind it; `None` if it is cut short.
pub fn split_list(payload: &[u8]) -> Option<(impl Iterator<Item = u32> + '_, &[u8])> {
    let (count, rest) = payload.split_first_chunk::<2>()?;
    let (list, payload) = rest.split_at_checked(4 * usize::from(u16::from_be_bytes(*count)))?;
    Some((list.chunks_exact(4).map(|each| number(each, 0)), payload))
}

pub fn append(kind: u8, destination: u32, source: u32, payload: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let counted = (HEAD - LENGTH + length) as u32;
    out.extend_from_slice(&(counted << 8 | u32::from(kind) << 5).to_be_bytes());
    out.push(0);
    out.extend_from_slice(&destination.to_be_bytes());
    out.extend_from_slice(&source.to_be_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// One payload for these destinations.
pub fn append_list(destinations: &[u32], payload: &[u8], out: &mut Vec<u8>) {
    let mut list = (destinations.len() as u16).to_be_bytes().to_vec();
    destinations
        .iter()
        .for_each(|each| list.extend_from_slice(&each.to_be_bytes()));
    append(TO_LIST, 0, 0, &[&list, payload], out);
}

pub fn append_client(payload: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&(length as u32).to_be_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..at + 4].first_chunk::<4>();
    u32::from_be_bytes(*four.expect("a slice of four"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_bytes_that_the_c_program_reads() {
        let mut out = Vec::new();
        append(NOTICE, 1, 0x0203_0405, &[b"O"], &mut out);
        assert_eq!(out, [0, 0, 11, 0xe0, 0, 0, 0, 0, 1, 2, 3, 4, 5, b'O']);
        assert_eq!(measure(&out).unwrap(), Some(14));
        assert_eq!(measure(&out[..12]).unwrap(), None);
        assert!(measure(&[0; HEAD]).is_err());
        let frame = parse(&out);
        assert_eq!((frame.kind, frame.destination), (NOTICE, 1));
        assert_eq!((frame.source, frame.payload), (0x0203_0405, &b"O"[..]));
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let mut out = Vec::new();
        append_list(&[7, 70_000], b"hello", &mut out);
        let frame = parse(&out);
        assert_eq!(frame.kind, TO_LIST);
        let (list, payload) = split_list(frame.payload).unwrap();
        assert_eq!(list.collect::<Vec<_>>(), [7, 70_000]);
        assert_eq!(payload, b"hello");
        assert!(split_list(&[0, 9, 0, 0]).is_none());
    }
}
