//! photinus (5): our own protocol. Frames of a head, a length and a body; routes that are named once
//! and numbered after; counted frames, which a resume sends again.
//!
//! Order of calls: [`Options::decode`] gives [`Decoded::Hello`](super::Decoded::Hello) at first, and takes
//! nothing more before [`Options::welcome`] has answered it ([`wait`] may come before that; after
//! [`refuse`] the connection is closed).

mod handshake;

use super::options::{number as digits, Pairs, COMPRESS_THRESHOLD};
use super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Peer, Route, Stage};
use crate::compress::{Agreement, Algorithm, Dictionary, Scheme};
use crate::error::{EncodeError, OptionError, WireError};
use crate::number;
use handshake::{write_field, write_number_field, Refused, Terms};
pub use handshake::{Hello, Resume, Status, Welcome};
use std::sync::Arc;

pub const TOKEN_BYTES: usize = 20;
/// How fast the world goes as a rule, in millionths.
pub const USUAL_RATE: u32 = 1_000_000;

// Types of frames (5.2), and flags beside them in the head.
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
const REDIRECT: u8 = 12;
const LEAVE: u8 = 13;
const COMPRESSED: u8 = 0x10;
const DROPPABLE: u8 = 0x20;

/// Length fields have at most four bytes: 28 bits.
const LENGTH_BITS: u32 = 28;
const BODY_LIMIT: usize = (1 << LENGTH_BITS) - 1;
/// The most that stands before a payload: an id and a route's number.
const MESSAGE_HEAD_LIMIT: usize = 5 + 5;
/// A client introduces itself in some fifty bytes, and shows a token.
const HELLO_LIMIT: usize = 1024;
/// Two counts of five bytes, four clocks of ten.
const HEARTBEAT_LIMIT: usize = 50;
const ROUTE_LIMIT: usize = 255;
/// Routes that one client may name: far more than an application has.
const ROUTES_LIMIT: u16 = 1024;
const REASON_LIMIT: usize = 256;

/// Clients that fall silent are missed after two of them.
const HEARTBEAT_SECONDS: u32 = 10;
const LONGEST_HEARTBEAT_SECONDS: u32 = 86_400;
/// A phone that changes its network, or goes through a tunnel, is back by then.
const RESUME_SECONDS: u32 = 30;
/// What waits longer than an hour is no player's connection any more.
const LONGEST_RESUME_SECONDS: u32 = 3600;
/// With a dictionary messages of 100 bytes become a third. It costs a microsecond to try.
const DICTIONARY_THRESHOLD: u32 = 64;

/// A refusal of whoever has not said what it should: code `bad-handshake`.
pub(super) const REFUSAL_FRAME: &[u8] = b"\x03\x0f\x01\x0dbad-handshake";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Seconds; 0: none.
    heartbeat: u32,
    /// Seconds for which a cut session is kept; 0: not at all.
    resume: u32,
    limit: usize,
    pub(super) format: Format,
    /// In the order of the listener's preference.
    compress: Box<[Algorithm]>,
    threshold: usize,
    dictionary_file: Option<Box<str>>,
    dictionary: Option<Arc<Dictionary>>,
}

impl Options {
    pub(super) fn from_pairs(pairs: &mut Pairs<'_>, limit: usize) -> Result<Options, OptionError> {
        let up_to = |most: u32| move |value: &str| digits(value).filter(|given| *given <= most);
        let compress = pairs.take(
            "compress",
            Box::default(),
            "zlib, snappy and zstd, separated by commas, the preferred one first",
            Algorithm::list,
        )?;
        let with_zstd = compress.contains(&Algorithm::Zstd);
        let dictionary_file = pairs.take(
            "dictionary",
            None,
            "the path of a file made by zstd --train, together with compress=zstd",
            |path| (with_zstd && !path.is_empty()).then(|| Some(path.into())),
        )?;
        let threshold = match dictionary_file {
            Some(_) => DICTIONARY_THRESHOLD,
            None => COMPRESS_THRESHOLD,
        };
        Ok(Options {
            heartbeat: pairs.take(
                "heartbeat",
                HEARTBEAT_SECONDS,
                "seconds from 0 (none) to 86400",
                up_to(LONGEST_HEARTBEAT_SECONDS),
            )?,
            resume: pairs.take(
                "resume",
                RESUME_SECONDS,
                "seconds from 0 (sessions end with their connection) to 3600",
                up_to(LONGEST_RESUME_SECONDS),
            )?,
            compress,
            threshold: pairs.threshold(threshold)?,
            dictionary_file,
            dictionary: None,
            format: pairs.format(Format::Msgpack)?,
            limit,
        })
    }

    pub(super) fn heartbeat(&self) -> Option<u32> {
        (self.heartbeat > 0).then(|| self.heartbeat * 1000)
    }

    /// Milliseconds for which a session is kept whose connection was cut; `None`: it ends with it.
    pub fn resume(&self) -> Option<u32> {
        (self.resume > 0).then(|| self.resume * 1000)
    }

    pub fn compress(&self) -> &[Algorithm] {
        &self.compress
    }

    pub(super) fn dictionary_file(&self) -> Option<&str> {
        self.dictionary_file.as_deref()
    }

    pub(super) fn set_dictionary(&mut self, bytes: &[u8]) -> Result<(), OptionError> {
        let dictionary = Dictionary::read(bytes).ok_or_else(|| {
            OptionError(format!(
                "option \"dictionary\" of protocol photinus is {:?}: expected a file made by zstd --train, of at \
                 most {} bytes",
                self.dictionary_file.as_deref().unwrap_or_default(),
                Dictionary::LIMIT
            ))
        })?;
        self.dictionary = Some(Arc::new(dictionary));
        Ok(())
    }

    pub(super) fn scheme(&self, agreement: Agreement) -> Scheme<'_> {
        Scheme {
            algorithm: agreement.algorithm,
            dictionary: match agreement.dictionary {
                true => self.dictionary.as_deref(),
                false => None,
            },
            threshold: self.threshold,
            limit: self.limit,
        }
    }

    /// The id of the dictionary that there is.
    fn dictionary_id(&self) -> Option<u32> {
        self.dictionary.as_ref().map(|of| of.id())
    }

    /// Who fails at the handshake is told so; later the server has its kick for that.
    #[inline]
    pub(super) fn decode(
        &self,
        peer: &mut Peer,
        input: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Decoded, WireError> {
        let stage = peer.stage;
        let decoded = self.decode_frame(peer, input, reply);
        if let (Err(error), Stage::Handshake) = (&decoded, stage) {
            if *error != WireError::BadVersion {
                reply.extend_from_slice(REFUSAL_FRAME);
            }
        }
        decoded
    }

    #[inline]
    fn decode_frame(
        &self,
        peer: &mut Peer,
        input: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Decoded, WireError> {
        let Some(&head) = input.first() else {
            return Ok(Decoded::Incomplete { need: 2 });
        };
        let limit = self.body_limit(peer, head)?;
        let mut start = 1;
        let Some(length) = number::read(input, &mut start, LENGTH_BITS)? else {
            return Ok(Decoded::Incomplete {
                need: input.len() + 1,
            });
        };
        if length as usize > limit {
            return Err(WireError::TooLong);
        }
        let end = start + length as usize;
        if input.len() < end {
            return Ok(Decoded::Incomplete { need: end });
        }
        let (consumed, frame) = (end, &input[..end]);
        match head & 0x0f {
            MESSAGE | REQUEST => self.decode_packet(peer, head, start, frame),
            HEARTBEAT => decode_heartbeat(start, frame),
            ROUTE => decode_route(peer, start, frame),
            LEAVE => Ok(Decoded::Leave { consumed }),
            _ => match self.read_hello(&frame[start..]) {
                Ok(hello) => {
                    peer.stage = Stage::Acknowledge;
                    peer.compression = hello.compression.map(|algorithm| Agreement {
                        algorithm,
                        dictionary: algorithm == Algorithm::Zstd && hello.has_dictionary,
                    });
                    Ok(Decoded::Hello { consumed, hello })
                }
                Err(refused) => {
                    if refused.error() == WireError::BadVersion {
                        refuse(refused.code(), None, reply);
                    }
                    Err(refused.error())
                }
            },
        }
    }

    fn read_hello(&self, body: &[u8]) -> Result<Hello, Refused> {
        handshake::read_hello(body, &self.compress, self.dictionary_id())
    }

    /// How long a frame with this head may be, if it may come at all now (5.2, 5.4).
    #[inline]
    fn body_limit(&self, peer: &Peer, head: u8) -> Result<usize, WireError> {
        let flags = match head & 0x0f {
            MESSAGE => COMPRESSED | DROPPABLE,
            REQUEST => COMPRESSED,
            _ => 0,
        };
        if head & 0xf0 & !flags != 0 {
            return Err(WireError::BadFrame);
        }
        if head & COMPRESSED != 0 && peer.compression.is_none() {
            return Err(WireError::CompressionUnsupported);
        }
        match (peer.stage, head & 0x0f) {
            (Stage::Open, MESSAGE | REQUEST) => Ok(self.limit + MESSAGE_HEAD_LIMIT),
            (Stage::Open, HEARTBEAT) => Ok(HEARTBEAT_LIMIT),
            (Stage::Open, ROUTE) => Ok(ROUTE_LIMIT),
            (Stage::Open, LEAVE) => Ok(0),
            (Stage::Handshake, HELLO) => Ok(HELLO_LIMIT),
            (Stage::Open, _) => Err(WireError::BadFrame),
            _ => Err(WireError::BadHandshake),
        }
    }

    /// A message or a request (5.6).
    #[inline]
    fn decode_packet(
        &self,
        peer: &Peer,
        head: u8,
        mut at: usize,
        frame: &[u8],
    ) -> Result<Decoded, WireError> {
        let (kind, id) = match head & 0x0f {
            REQUEST => (Kind::Request, number::read_u32(frame, &mut at)?),
            _ => (Kind::Notify, 0),
        };
        let route = number::read_u32(frame, &mut at)?;
        if route >= u32::from(peer.named) {
            return Err(WireError::BadFrame);
        }
        if frame.len() - at > self.limit {
            return Err(WireError::TooLong);
        }
        Ok(Decoded::Packet {
            consumed: frame.len(),
            packet: Packet {
                kind,
                id,
                route: Route::Named(route),
                body: at..frame.len(),
                flags: Flags {
                    compressed: head & COMPRESSED != 0,
                    droppable: head & DROPPABLE != 0,
                },
            },
        })
    }

    /// Answers a hello: the session is open, or goes on.
    pub fn welcome(&self, peer: &mut Peer, welcome: &Welcome, out: &mut Vec<u8>) {
        peer.stage = Stage::Open;
        let terms = Terms {
            format: self.format,
            heartbeat: self.heartbeat * 1000,
            max_payload: self.limit,
            compression: peer.compression.map(|of| of.algorithm),
            threshold: self.threshold,
            dictionary: match peer.compression {
                Some(of) if of.dictionary => self.dictionary_id(),
                _ => None,
            },
        };
        let mut body = Vec::with_capacity(96);
        handshake::write_welcome(&terms, welcome, &mut body);
        frame(WELCOME, &body, out);
    }
}

fn decode_heartbeat(mut at: usize, frame: &[u8]) -> Result<Decoded, WireError> {
    let heartbeat = Heartbeat {
        received: number::read_u32(frame, &mut at)?,
        clock: number::read_u64(frame, &mut at)?,
        echo: number::read_u64(frame, &mut at)?,
        held: number::read_u64(frame, &mut at)?,
    };
    if at != frame.len() {
        return Err(WireError::BadFrame);
    }
    Ok(Decoded::Heartbeat {
        consumed: frame.len(),
        heartbeat,
    })
}

fn decode_route(peer: &mut Peer, at: usize, frame: &[u8]) -> Result<Decoded, WireError> {
    let is_name = at < frame.len() && std::str::from_utf8(&frame[at..]).is_ok();
    if !is_name || peer.named == ROUTES_LIMIT {
        return Err(WireError::BadFrame);
    }
    peer.named += 1;
    Ok(Decoded::Named {
        consumed: frame.len(),
        name: at..frame.len(),
    })
}

/// What a heartbeat says (5.8); the clocks in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counted frames that its sender has received.
    pub received: u32,
    pub clock: u64,
    /// The clock that came last from the other side; 0: none.
    pub echo: u64,
    /// Since when that is.
    pub held: u64,
}

/// Appends a heartbeat of the server's; `rate` in millionths.
pub fn heartbeat(beat: &Heartbeat, rate: u32, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(HEARTBEAT_LIMIT);
    number::write(u64::from(beat.received), &mut body);
    for clock in [beat.clock, beat.echo, beat.held, u64::from(rate)] {
        number::write(clock, &mut body);
    }
    frame(HEARTBEAT, &body, out);
}

/// Appends the name of the next route (5.5); the names of one connection are announced in order.
pub fn announce(name: &str, out: &mut Vec<u8>) {
    frame(ROUTE, name.as_bytes(), out);
}

/// Appends a refusal: a code of 5.4, and after how many milliseconds it is worth trying again.
pub fn refuse(code: &str, retry_after_ms: Option<u32>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    write_field(1, code.as_bytes(), &mut body);
    if let Some(after) = retry_after_ms {
        write_number_field(2, u64::from(after), &mut body);
    }
    frame(REFUSAL, &body, out);
}

/// Appends a wait: the place in the line (1 is the next), and the estimated milliseconds until its turn.
pub fn wait(place: u32, estimate_ms: Option<u32>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    write_number_field(1, u64::from(place), &mut body);
    if let Some(estimate) = estimate_ms {
        write_number_field(2, u64::from(estimate), &mut body);
    }
    frame(WAIT, &body, out);
}

#[inline]
pub(super) fn encode(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let compressed = flag(message.flags.compressed, COMPRESSED);
    let (head, first) = match message.kind {
        Outgoing::Response { id } => (REPLY | compressed, id),
        Outgoing::Error { id } => (ERROR | compressed, id),
        Outgoing::Push => {
            let droppable = flag(message.flags.droppable, DROPPABLE);
            (MESSAGE | compressed | droppable, message.index)
        }
        Outgoing::Kick => {
            let reason = String::from_utf8_lossy(message.body);
            let mut cut = reason.len().min(REASON_LIMIT);
            while !reason.is_char_boundary(cut) {
                cut -= 1;
            }
            frame(KICK, &reason.as_bytes()[..cut], out);
            return Ok(());
        }
        Outgoing::Redirect => {
            frame(REDIRECT, message.body, out);
            return Ok(());
        }
    };
    let fields = number::size(u64::from(first));
    if message.body.len() > BODY_LIMIT - fields {
        return Err(EncodeError::TooLong {
            length: message.body.len(),
            limit: BODY_LIMIT - fields,
        });
    }
    let length = fields + message.body.len();
    out.reserve(5 + length);
    out.push(head);
    number::write(length as u64, out);
    number::write(u64::from(first), out);
    out.extend_from_slice(message.body);
    Ok(())
}

fn frame(head: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(head);
    number::write(body.len() as u64, out);
    out.extend_from_slice(body);
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
