//! The handshake (5.4): what a client says of itself, and what it is answered, as fields (5.3).

use super::super::Format;
use super::TOKEN_BYTES;
use crate::compress::Algorithm;
use crate::error::WireError;
use crate::number;

/// The version of the protocol that is spoken here.
const VERSION: u8 = 1;
/// A name and a version of some software.
const CLIENT_LIMIT: usize = 64;

/// What a client has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hello {
    /// What both can, by the listener's preference.
    pub compression: Option<Algorithm>,
    /// Ids of dictionaries that it has: of those that the listener could use.
    pub has_dictionary: bool,
    pub resume: Option<Resume>,
}

/// It had a session, and wants it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    pub token: [u8; TOKEN_BYTES],
    /// Counted frames that it has received.
    pub received: u32,
}

/// How the session begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    pub status: Status,
    /// Microseconds of the server's clock.
    pub clock: u64,
    /// How fast the world goes, in millionths.
    pub rate: u32,
    /// The token and the window, in milliseconds, if the session can be resumed.
    pub resume: Option<([u8; TOKEN_BYTES], u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    New,
    Resumed {
        /// Counted frames that the server has received.
        received: u32,
    },
    /// Some of what the server has sent is lost.
    Gap {
        received: u32,
        /// Number of the next counted frame from the server.
        next: u32,
    },
}

/// Why a hello is not taken; the second is what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Malformed,
    Version,
}

impl Refused {
    pub fn code(self) -> &'static str {
        match self {
            Refused::Malformed => "bad-handshake",
            Refused::Version => "version",
        }
    }

    pub fn error(self) -> WireError {
        match self {
            Refused::Malformed => WireError::BadHandshake,
            Refused::Version => WireError::BadVersion,
        }
    }
}

/// `offered` and `dictionary` are the listener's.
pub fn read_hello(
    body: &[u8],
    offered: &[Algorithm],
    dictionary: Option<u32>,
) -> Result<Hello, Refused> {
    let mut hello = Hello::default();
    let mut seen = 0u32;
    let mut versions: &[u8] = &[];
    let mut at = 0;
    while at < body.len() {
        let (tag, value) = read_field(body, &mut at).ok_or(Refused::Malformed)?;
        // Tags that nobody knows yet may stand as often as they like.
        if (1..=5).contains(&tag) {
            if seen & 1 << tag != 0 {
                return Err(Refused::Malformed);
            }
            seen |= 1 << tag;
        }
        match tag {
            1 => versions = value,
            2 if value.len() > CLIENT_LIMIT || std::str::from_utf8(value).is_err() => {
                return Err(Refused::Malformed);
            }
            3 => {
                let can = |of: &&Algorithm| value.contains(&of.number());
                hello.compression = offered.iter().find(can).copied();
            }
            4 if !value.len().is_multiple_of(4) => return Err(Refused::Malformed),
            4 => {
                let ids = value.chunks_exact(4);
                let is_ours = |id: &[u8]| dictionary.is_some_and(|of| of.to_be_bytes() == id);
                hello.has_dictionary = ids.into_iter().any(is_ours);
            }
            5 => {
                let (token, mut at) = (value.first_chunk(), TOKEN_BYTES);
                let token = *token.ok_or(Refused::Malformed)?;
                let received = number::read_u32(value, &mut at).map_err(|_| Refused::Malformed)?;
                if at != value.len() {
                    return Err(Refused::Malformed);
                }
                hello.resume = Some(Resume { token, received });
            }
            _ => {}
        }
    }
    match versions {
        [] => Err(Refused::Malformed),
        _ if versions.contains(&VERSION) => Ok(hello),
        _ => Err(Refused::Version),
    }
}

fn read_field<'a>(body: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    let tag = *body.get(*at)?;
    *at += 1;
    let length = number::read(body, at, 14).ok()?? as usize;
    let value = body.get(*at..*at + length)?;
    *at += length;
    Some((tag, value))
}

/// What of a welcome is the listener's, and the same for all.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub format: Format,
    /// Milliseconds.
    pub heartbeat: u32,
    pub max_payload: usize,
    pub compression: Option<Algorithm>,
    /// Bytes of the least payload worth compressing.
    pub threshold: usize,
    pub dictionary: Option<u32>,
}

/// Appends the fields of a welcome.
pub fn write_welcome(terms: &Terms, welcome: &Welcome, out: &mut Vec<u8>) {
    let (status, received, next) = match welcome.status {
        Status::New => (0, None, None),
        Status::Resumed { received } => (1, Some(received), None),
        Status::Gap { received, next } => (2, Some(received), Some(next)),
    };
    write_field(1, &[VERSION], out);
    write_field(2, &[status], out);
    let format = match terms.format {
        Format::Json => 0,
        Format::Msgpack => 1,
    };
    write_field(3, &[format], out);
    write_number_field(4, u64::from(terms.heartbeat), out);
    write_number_field(5, welcome.clock, out);
    if welcome.rate != super::USUAL_RATE {
        write_number_field(6, u64::from(welcome.rate), out);
    }
    write_number_field(7, terms.max_payload as u64, out);
    if let Some(algorithm) = terms.compression {
        let mut value = vec![algorithm.number()];
        number::write(terms.threshold as u64, &mut value);
        write_field(8, &value, out);
    }
    if let Some(id) = terms.dictionary {
        write_field(9, &id.to_be_bytes(), out);
    }
    if let Some((token, window_ms)) = &welcome.resume {
        write_field(10, token, out);
        write_number_field(11, u64::from(*window_ms), out);
    }
    if let Some(received) = received {
        write_number_field(12, u64::from(received), out);
    }
    if let Some(next) = next {
        write_number_field(13, u64::from(next), out);
    }
}

/// `value` has fewer than 128 bytes: all that a server says in fields is short.
pub fn write_field(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag, value.len() as u8]);
    out.extend_from_slice(value);
}

pub fn write_number_field(tag: u8, value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag, number::size(value) as u8]);
    number::write(value, out);
}
