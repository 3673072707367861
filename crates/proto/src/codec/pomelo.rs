//! pomelo (4): the protocol of NetEase Pomelo, also spoken by Pitaya and nano. Packages (handshake,
//! acknowledgement, heartbeat, data, kick), and in the data packages requests, notifications,
//! answers and pushes.

use super::options::{number, Pairs, COMPRESS_THRESHOLD};
use super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Route, Stage};
use crate::compress::{Agreement, Algorithm, Scheme};
use crate::error::{EncodeError, OptionError, WireError};
use crate::json;

/// Package head: type, and a big-endian u24 that counts the body.
const HEAD: usize = 4;
const BODY_LIMIT: usize = 0xff_ffff;

const HANDSHAKE: u8 = 1;
const HANDSHAKE_ACK: u8 = 2;
const HEARTBEAT_TYPE: u8 = 3;
const DATA: u8 = 4;
const KICK: u8 = 5;

/// A client introduces itself in some hundred bytes; `user` may hold a token of the application's,
/// and such tokens stay below what HTTP servers allow for a header (8 KiB).
const HANDSHAKE_LIMIT: usize = 8192;
/// Acknowledgements and heartbeats are empty in every client seen. Pomelo's server ignores what is
/// in them, so a little is tolerated; it is never worth a buffer.
const CONTROL_LIMIT: usize = 64;

// The flag byte of a message (4.5).
const FLAG_COMPRESSED: u8 = 1 << 4;
const FLAG_ERROR: u8 = 1 << 5;
const REQUEST: u8 = 0 << 1;
const NOTIFY: u8 = 1 << 1;
const RESPONSE: u8 = 2 << 1;
const PUSH: u8 = 3 << 1;

const ROUTE_LIMIT: usize = 255;
/// The most that stands before a payload in a data package: flag, id, route's length, route.
const MESSAGE_HEAD_LIMIT: usize = 1 + ID_BYTES + 1 + ROUTE_LIMIT;
/// Of an id: two hundred million requests.
const ID_BYTES: usize = 4;
/// Where the number of an id's bytes stands, if there are zeros to spare.
const ID_BITS: u32 = 7 * ID_BYTES as u32;

pub(super) const HEARTBEAT: [u8; HEAD] = [HEARTBEAT_TYPE, 0, 0, 0];

/// Pomelo's own number for a handshake that failed; every client takes all but 200 for a refusal.
pub(super) const REFUSAL: &[u8] = b"\x01\0\0\x15{\"code\":500,\"sys\":{}}";

/// Clients read the interval into 32 bits of milliseconds, and a day without a sign of life is
/// longer than any session is worth keeping.
const HEARTBEAT_LIMIT: u32 = 86_400;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Seconds, as the handshake says it; 0: none.
    heartbeat: u32,
    limit: usize,
    /// Both sides compress with zlib, as Pitaya does.
    compress: bool,
    threshold: usize,
    pub(super) format: Format,
    /// The whole package that answers a handshake.
    welcome: Box<[u8]>,
}

impl Options {
    pub(super) fn from_pairs(pairs: &mut Pairs<'_>, limit: usize) -> Result<Options, OptionError> {
        let heartbeat = pairs.take("heartbeat", 30, "seconds from 0 (none) to 86400", |value| {
            number(value).filter(|seconds| *seconds <= HEARTBEAT_LIMIT)
        })?;
        let compress = pairs.take("compress", false, "zlib", |value| {
            (value == "zlib").then_some(true)
        })?;
        let threshold = pairs.threshold(COMPRESS_THRESHOLD)?;
        let format = pairs.format(Format::Json)?;
        Ok(Options {
            heartbeat,
            limit,
            compress,
            threshold,
            format,
            welcome: welcome(heartbeat, format),
        })
    }

    pub(super) fn heartbeat(&self) -> Option<u32> {
        (self.heartbeat > 0).then(|| self.heartbeat * 1000)
    }

    pub(super) fn compresses(&self) -> bool {
        self.compress
    }

    /// Nothing is said of it in the handshake: whoever connects to such a listener knows.
    pub(super) fn agreement(&self) -> Option<Agreement> {
        self.compress.then_some(Agreement {
            algorithm: Algorithm::Zlib,
            dictionary: false,
        })
    }

    pub(super) fn scheme(&self, agreement: Agreement) -> Scheme<'_> {
        Scheme {
            algorithm: agreement.algorithm,
            dictionary: None,
            threshold: self.threshold,
            limit: self.limit,
        }
    }

    /// Who fails at the handshake is told so, in its answer; later the server has its kick for that.
    #[inline]
    pub(super) fn decode(
        &self,
        stage: &mut Stage,
        input: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Decoded, WireError> {
        let decoded = self.decode_package(stage, input, reply);
        if decoded.is_err() && *stage == Stage::Handshake {
            reply.extend_from_slice(REFUSAL);
        }
        decoded
    }

    #[inline]
    fn decode_package(
        &self,
        stage: &mut Stage,
        input: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Decoded, WireError> {
        let Some(&kind) = input.first() else {
            return Ok(Decoded::Incomplete { need: HEAD });
        };
        let limit = self.body_limit(*stage, kind)?;
        let Some(head) = input.first_chunk::<HEAD>() else {
            return Ok(Decoded::Incomplete { need: HEAD });
        };
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        if length > limit {
            return Err(WireError::TooLong);
        }
        let end = HEAD + length;
        if input.len() < end {
            return Ok(Decoded::Incomplete { need: end });
        }
        match kind {
            DATA => self.decode_message(&input[..end]),
            HANDSHAKE if !json::is_object(&input[HEAD..end]) => Err(WireError::BadHandshake),
            HANDSHAKE => {
                *stage = Stage::Acknowledge;
                reply.extend_from_slice(&self.welcome);
                Ok(Decoded::Control { consumed: end })
            }
            HANDSHAKE_ACK => {
                *stage = Stage::Open;
                Ok(Decoded::Opened { consumed: end })
            }
            _ => Ok(Decoded::Control { consumed: end }),
        }
    }

    /// How long a package of this type may be, if it may come at all now (4.3).
    #[inline]
    fn body_limit(&self, stage: Stage, kind: u8) -> Result<usize, WireError> {
        match (stage, kind) {
            (Stage::Open, DATA) => Ok(self.limit + MESSAGE_HEAD_LIMIT),
            (Stage::Open | Stage::Acknowledge, HEARTBEAT_TYPE) => Ok(CONTROL_LIMIT),
            (Stage::Acknowledge, HANDSHAKE_ACK) => Ok(CONTROL_LIMIT),
            (Stage::Handshake, HANDSHAKE) => Ok(HANDSHAKE_LIMIT),
            (_, HANDSHAKE..=DATA) => Err(WireError::BadHandshake),
            _ => Err(WireError::BadFrame),
        }
    }

    /// `frame` is one whole data package (4.5).
    #[inline]
    fn decode_message(&self, frame: &[u8]) -> Result<Decoded, WireError> {
        let flag = *frame.get(HEAD).ok_or(WireError::BadFrame)?;
        let mut at = HEAD + 1;
        let compressed = flag & FLAG_COMPRESSED != 0;
        if compressed && !self.compress {
            return Err(WireError::CompressionUnsupported);
        }
        let (kind, id) = match flag & !FLAG_COMPRESSED {
            REQUEST => (Kind::Request, read_id(frame, &mut at)?),
            NOTIFY => (Kind::Notify, 0),
            // A number of a dictionary that was never given, an answer, a push, or unknown bits.
            _ => return Err(WireError::BadFrame),
        };
        let start = at + 1;
        let length = *frame.get(at).ok_or(WireError::BadFrame)? as usize;
        let route = start..start + length;
        let name = frame.get(route.clone()).ok_or(WireError::BadFrame)?;
        if std::str::from_utf8(name).is_err() {
            return Err(WireError::BadFrame);
        }
        let body = route.end..frame.len();
        if body.len() > self.limit {
            return Err(WireError::TooLong);
        }
        Ok(Decoded::Packet {
            consumed: frame.len(),
            packet: Packet {
                kind,
                id,
                route: Route::Name(route),
                body,
                flags: Flags {
                    compressed,
                    droppable: false,
                },
            },
        })
    }
}

/// What real clients look for (4.4): `code`, `sys.heartbeat`, and Pitaya's also `sys.serializer`. No
/// `dict` and no `protos`: every client seen takes their absence for none.
fn welcome(heartbeat: u32, format: Format) -> Box<[u8]> {
    let heartbeat = match heartbeat {
        0 => String::new(),
        seconds => format!("\"heartbeat\":{seconds},"),
    };
    let serializer = match format {
        Format::Json => "json",
        Format::Msgpack => "msgpack",
    };
    let body = format!("{{\"code\":200,\"sys\":{{{heartbeat}\"serializer\":\"{serializer}\"}}}}");
    let [_, high, middle, low] = (body.len() as u32).to_be_bytes();
    [&[HANDSHAKE, high, middle, low], body.as_bytes()]
        .concat()
        .into()
}

/// LEB128: seven bits a byte, the least significant first. The answer has to carry the same bytes, since
/// there are clients that put the most significant first (4.9), so that what is a zero to spare to us is
/// none to them: how many bytes there were is then kept, too.
#[inline]
fn read_id(frame: &[u8], at: &mut usize) -> Result<u32, WireError> {
    let mut id = 0u32;
    for length in 1..=ID_BYTES as u32 {
        let byte = *frame.get(*at).ok_or(WireError::BadFrame)?;
        *at += 1;
        id |= u32::from(byte & 0x7f) << (7 * (length - 1));
        if byte == 0 && length > 1 {
            return Ok(id | length << ID_BITS);
        }
        if byte < 0x80 {
            return Ok(id);
        }
    }
    Err(WireError::BadFrame)
}

#[inline]
pub(super) fn encode(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let compressed = match message.flags.compressed {
        true => FLAG_COMPRESSED,
        false => 0,
    };
    match message.kind {
        Outgoing::Response { id } => encode_answer(RESPONSE | compressed, id, message.body, out),
        Outgoing::Error { id } => {
            encode_answer(RESPONSE | FLAG_ERROR | compressed, id, message.body, out)
        }
        Outgoing::Push => encode_push(PUSH | compressed, message.name, message.body, out),
        Outgoing::Kick => encode_kick(message.body, out),
        Outgoing::Redirect => encode_kick(b"redirected", out),
    }
}

fn encode_answer(flag: u8, id: u32, body: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut head = [flag, 0, 0, 0, 0];
    let (mut rest, length) = (id & ((1 << ID_BITS) - 1), (id >> ID_BITS) as usize);
    let mut at = 1;
    while at < ID_BYTES && (rest >= 0x80 || at < length) {
        head[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    head[at] = rest as u8;
    append(DATA, &[&head[..=at], body], out)
}

fn encode_push(flag: u8, name: &str, body: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if name.len() > ROUTE_LIMIT {
        return Err(EncodeError::RouteTooLong {
            length: name.len(),
            limit: ROUTE_LIMIT,
        });
    }
    let head = [flag, name.len() as u8];
    append(DATA, &[&head, name.as_bytes(), body], out)
}

/// The reason as JSON (4.8); clients that expect no body ignore it.
fn encode_kick(reason: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = br#"{"reason":"#.to_vec();
    json::write_string(&String::from_utf8_lossy(reason), &mut body);
    body.push(b'}');
    append(KICK, &[&body], out)
}

/// One package whose body is `parts`, one after the other; the last is the one that may be long.
#[inline]
fn append(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > BODY_LIMIT {
        let last = parts.last().map_or(0, |part| part.len());
        return Err(EncodeError::TooLong {
            length: last,
            limit: BODY_LIMIT - (length - last),
        });
    }
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    out.reserve(HEAD + length);
    out.extend_from_slice(&[kind, high, middle, low]);
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
#[path = "pomelo_tests.rs"]
mod tests;
