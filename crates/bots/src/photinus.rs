//! The client's side of the photinus protocol, as far as players need it (docs/protocol.md, 5).
//!
//! A frame is a head (type, flags), a length and a body. Frames that are counted (messages, requests and
//! replies that are not droppable) have no number on the wire: each side numbers them as they come, keeps
//! its own until the other has said that it has them, and sends them again after a resume.

use std::collections::VecDeque;
use std::io;

use crate::lane::LONGEST_FRAME;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;
const WAIT: u8 = 4;
const ROUTE: u8 = 5;
const MESSAGE: u8 = 6;
const REQUEST: u8 = 7;
const REPLY: u8 = 8;
const ERROR: u8 = 9;
const HEARTBEAT: u8 = 10;
const KICK: u8 = 11;
const LEAVE: u8 = 13;

const COMPRESSED: u8 = 0x10;
const DROPPABLE: u8 = 0x20;

/// Whoever has received so much without saying so, says so (5.8).
const UNSAID_FRAMES: u32 = 64;
const UNSAID_BYTES: usize = 16_384;

/// Of the algorithms (5.7).
pub const ZLIB: u8 = 1;

pub type Token = [u8; 20];

/// What a server's frame means to a player.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived<'a> {
    Welcome(Welcome),
    Refusal(&'a [u8]),
    /// In line; a welcome will come.
    Wait,
    Route(&'a [u8]),
    Message {
        route: u64,
        body: &'a [u8],
    },
    Answer {
        id: u64,
        error: bool,
        compressed: bool,
        body: &'a [u8],
    },
    Heartbeat {
        received: u64,
        clock: u64,
    },
    Kick(&'a [u8]),
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// 0 a new session, 1 resumed, 2 resumed with a gap.
    pub status: u8,
    pub clock: u64,
    pub compression: Option<u8>,
    pub token: Option<Token>,
    pub received: u64,
}

/// The whole length of the frame that `input` begins with.
pub fn measure(input: &[u8]) -> io::Result<Option<usize>> {
    let Some((_, rest)) = input.split_first() else {
        return Ok(None);
    };
    if rest.iter().take(4).all(|byte| byte & 0x80 != 0) && rest.len() < 4 {
        return Ok(None);
    }
    let mut left = rest;
    let length = take_number(&mut left, 28)?;
    Ok(Some(input.len() - left.len() + length as usize))
}

/// Reads one whole frame.
pub fn parse(frame: &[u8]) -> io::Result<Arrived<'_>> {
    let (&head, mut body) = frame.split_first().ok_or_else(|| wrong("no frame"))?;
    take_number(&mut body, 28)?;
    let (kind, flags) = (head & 0x0f, head & 0xf0);
    let allowed = match kind {
        MESSAGE => DROPPABLE,
        REPLY | ERROR => COMPRESSED,
        _ => 0,
    };
    if flags & !allowed != 0 {
        return Err(wrong("a flag that was not agreed on"));
    }
    Ok(match kind {
        WELCOME => Arrived::Welcome(parse_welcome(body)?),
        REFUSAL => Arrived::Refusal(body),
        WAIT => Arrived::Wait,
        ROUTE => Arrived::Route(body),
        MESSAGE => Arrived::Message {
            route: take_number(&mut body, 32)?,
            body,
        },
        REPLY | ERROR => Arrived::Answer {
            id: take_number(&mut body, 32)?,
            error: kind == ERROR,
            compressed: flags & COMPRESSED != 0,
            body,
        },
        HEARTBEAT => Arrived::Heartbeat {
            received: take_number(&mut body, 32)?,
            clock: take_number(&mut body, 64)?,
        },
        KICK => Arrived::Kick(body),
        _ => return Err(wrong("a frame of unknown type")),
    })
}

fn parse_welcome(mut fields: &[u8]) -> io::Result<Welcome> {
    let mut welcome = Welcome::default();
    while let Some((&tag, rest)) = fields.split_first() {
        fields = rest;
        let length = take_number(&mut fields, 14)? as usize;
        let (mut value, rest) = fields
            .split_at_checked(length)
            .ok_or_else(|| wrong("half a field"))?;
        fields = rest;
        match tag {
            2 => welcome.status = value.first().copied().unwrap_or(u8::MAX),
            5 => welcome.clock = take_number(&mut value, 64)?,
            8 => welcome.compression = value.first().copied(),
            10 => {
                let token = value.try_into().map_err(|_| wrong("half a token"))?;
                welcome.token = Some(token);
            }
            12 => welcome.received = take_number(&mut value, 32)?,
            _ => {}
        }
    }
    Ok(welcome)
}

/// `resume`: the token, and how many counted frames have come.
pub fn hello(compression: &[u8], resume: Option<(&Token, u64)>, out: &mut Vec<u8>) {
    let mut fields = Vec::new();
    field(1, &[1], &mut fields);
    field(2, b"photinus-bots", &mut fields);
    if !compression.is_empty() {
        field(3, compression, &mut fields);
    }
    if let Some((token, received)) = resume {
        let mut value = token.to_vec();
        append_number(received, &mut value);
        field(5, &value, &mut fields);
    }
    frame(HELLO, &[&fields], out);
}

fn field(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    append_number(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Gives the next number to a route; the first of a connection is 0.
pub fn route(name: &str, out: &mut Vec<u8>) {
    frame(ROUTE, &[name.as_bytes()], out);
}

pub fn request(id: u64, route: u64, compressed: bool, body: &[u8], out: &mut Vec<u8>) {
    let mut head = Vec::new();
    append_number(id, &mut head);
    append_number(route, &mut head);
    let flag = if compressed { COMPRESSED } else { 0 };
    frame(REQUEST | flag, &[&head, body], out);
}

pub fn message(route: u64, droppable: bool, body: &[u8], out: &mut Vec<u8>) {
    let mut head = Vec::new();
    append_number(route, &mut head);
    let flag = if droppable { DROPPABLE } else { 0 };
    frame(MESSAGE | flag, &[&head, body], out);
}

/// The farewell, after which the session is over.
pub fn leave(out: &mut Vec<u8>) {
    frame(LEAVE, &[], out);
}

/// What is counted on one session, over all its connections.
#[derive(Default)]
pub struct Counts {
    pub token: Option<Token>,
    pub received: u64,
    /// Of these, since the last heartbeat.
    unsaid: u32,
    unsaid_bytes: usize,
    /// Counted frames that the server has not said it has, the first with the number `confirmed`.
    kept: VecDeque<Vec<u8>>,
    confirmed: u64,
    /// The clock that came last, and when.
    heard: (u64, u64),
}

impl Counts {
    /// Appends a counted frame, and keeps it.
    pub fn send(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        self.kept.push_back(frame.to_vec());
        out.extend_from_slice(frame);
    }

    /// A welcome of a session that is new, or goes on; `now` in microseconds.
    pub fn handle_welcome(
        &mut self,
        welcome: &Welcome,
        now: u64,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.token = welcome.token;
        self.heard = (welcome.clock, now);
        self.confirm(welcome.received)?;
        self.heartbeat(now, out);
        Ok(())
    }

    /// Appends all that the server lacks.
    pub fn send_again(&self, out: &mut Vec<u8>) {
        self.kept
            .iter()
            .for_each(|frame| out.extend_from_slice(frame));
    }

    pub fn handle_heartbeat(
        &mut self,
        (received, clock): (u64, u64),
        now: u64,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.heard = (clock, now);
        self.confirm(received)?;
        self.heartbeat(now, out);
        Ok(())
    }

    /// A counted frame of so many bytes has come.
    pub fn count(&mut self, bytes: usize, now: u64, out: &mut Vec<u8>) {
        self.received += 1;
        self.unsaid += 1;
        self.unsaid_bytes += bytes;
        if self.unsaid >= UNSAID_FRAMES || self.unsaid_bytes >= UNSAID_BYTES {
            self.heartbeat(now, out);
        }
    }

    fn confirm(&mut self, received: u64) -> io::Result<()> {
        let known = received
            .checked_sub(self.confirmed)
            .and_then(|count| usize::try_from(count).ok())
            .filter(|count| *count <= self.kept.len())
            .ok_or_else(|| wrong("a count of frames that does not fit what was sent"))?;
        self.kept.drain(..known);
        self.confirmed = received;
        Ok(())
    }

    fn heartbeat(&mut self, now: u64, out: &mut Vec<u8>) {
        (self.unsaid, self.unsaid_bytes) = (0, 0);
        let mut body = Vec::new();
        let (echo, since) = self.heard;
        for number in [self.received, now, echo, now - since] {
            append_number(number, &mut body);
        }
        frame(HEARTBEAT, &[&body], out);
    }
}

/// Whether a frame of the server's is counted.
pub fn counts(frame: &[u8]) -> bool {
    matches!(frame[0] & 0x0f, MESSAGE | REPLY | ERROR) && frame[0] & DROPPABLE == 0
}

fn frame(head: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(length <= LONGEST_FRAME, "the bots' messages are short");
    out.push(head);
    append_number(length as u64, out);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn append_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(input: &mut &[u8], bits: u32) -> io::Result<u64> {
    let mut number = 0;
    for (at, byte) in input.iter().enumerate().take(bits.div_ceil(7) as usize) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *input = &input[at + 1..];
            return Ok(number);
        }
    }
    Err(wrong("a number that does not end"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn what_is_sent_has_the_documented_bytes() {
        assert_eq!(bytes(|out| route("move", out)), b"\x05\x04move");
        assert_eq!(
            bytes(|out| request(5, 0, false, b"hi", out)),
            b"\x07\x04\x05\x00hi"
        );
        assert_eq!(bytes(|out| message(0, true, b"hi", out)), b"\x26\x03\x00hi");
        assert_eq!(bytes(leave), b"\x0d\x00");
        let hello = bytes(|out| hello(&[ZLIB], Some((&[7; 20], 300)), out));
        assert_eq!(hello[..5], [1, 45, 1, 1, 1]);
        assert_eq!(&hello[5..20], b"\x02\x0dphotinus-bots");
        assert_eq!(hello[20..25], [3, 1, 1, 5, 22]);
        assert_eq!(hello[45..], [0xac, 0x02]);
        assert_eq!(measure(&hello).unwrap(), Some(hello.len()));
        assert_eq!(measure(&[6, 0x80]).unwrap(), None);
        assert!(measure(&[6, 0x80, 0x80, 0x80, 0x80]).is_err());
    }

    #[test]
    fn what_comes_is_read() {
        let welcome = b"\x02\x17\x01\x01\x01\x02\x01\x00\x03\x01\x01\x04\x02\x90\x4e\x05\x03\xc0\x84\x3d\x07\x03\x80\x80\x04";
        let expected = Welcome {
            clock: 1_000_000,
            ..Welcome::default()
        };
        assert_eq!(parse(welcome).unwrap(), Arrived::Welcome(expected));
        assert_eq!(
            parse(b"\x08\x03\x05hi").unwrap(),
            Arrived::Answer {
                id: 5,
                error: false,
                compressed: false,
                body: b"hi"
            }
        );
        assert_eq!(
            parse(b"\x0a\x09\x03\xc0\x84\x3d\x00\x00\xc0\x84\x3d").unwrap(),
            Arrived::Heartbeat {
                received: 3,
                clock: 1_000_000
            }
        );
        for wrong in [&b"\x07\x00"[..], b"\x16\x02\x00\x01", b"\x02\x02\x0a\x05"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(counts(b"\x06\x01\x00") && counts(b"\x09\x01\x00"));
        assert!(!counts(b"\x26\x01\x00") && !counts(b"\x0a\x00"));
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again() {
        let (mut counts, mut out) = (Counts::default(), Vec::new());
        for frame in [b"a", b"b", b"c"] {
            counts.send(frame, &mut out);
        }
        assert_eq!(out, b"abc");
        out.clear();
        counts.handle_heartbeat((1, 9), 20, &mut out).unwrap();
        assert_eq!(out, b"\x0a\x04\x00\x14\x09\x00");
        let resumed = Welcome {
            status: 1,
            received: 2,
            token: Some([3; 20]),
            ..Welcome::default()
        };
        counts.handle_welcome(&resumed, 30, &mut out).unwrap();
        assert_eq!(counts.token, Some([3; 20]));
        out.clear();
        counts.send_again(&mut out);
        assert_eq!(out, b"c");
        assert!(counts.confirm(4).is_err());
        assert!(counts.confirm(1).is_err());
    }

    #[test]
    fn what_came_is_said_after_64_frames_or_16_kilobytes() {
        let (mut counts, mut out) = (Counts::default(), Vec::new());
        (0..63).for_each(|_| counts.count(10, 5, &mut out));
        assert!(out.is_empty());
        counts.count(10, 5, &mut out);
        assert_eq!(out, b"\x0a\x04\x40\x05\x00\x05");
        out.clear();
        counts.count(20_000, 5, &mut out);
        assert_eq!(out[2], 65);
    }
}
