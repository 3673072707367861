//! One codec a client protocol, chosen per listener.
//!
//! Order of calls, for each connection: [`Protocol::peer`] once; then, whenever bytes have come,
//! [`Protocol::decode`] again and again over the unconsumed input until it says
//! [`Decoded::Incomplete`]; [`Protocol::encode`] for what goes out. After an error from `decode` the
//! connection is to be closed: the error is kept in the `Peer`, and every later call returns it again.

use std::ops::Range;

use crate::compress::{Agreement, Scheme};
use crate::error::{EncodeError, OptionError, WireError};

pub mod firefly;
pub mod length;
mod options;
pub mod photinus;
pub mod plain;
pub mod pomelo;

/// No listener takes a longer payload than this, whatever it is told: sums of a length and a few
/// bytes of framing then fit into 32 bits.
pub(crate) const PAYLOAD_LIMIT: usize = i32::MAX as usize;

/// What a listener speaks, with the options of its URL. Shared by all of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    Length(length::Options),
    Firefly(firefly::Options),
    Pomelo(pomelo::Options),
    Photinus(photinus::Options),
    Plain(plain::Options),
    /// Between nodes (docs/bluenet.md): such connections carry no packets of clients, and [`crate::link`]
    /// reads them.
    Link,
}

impl Protocol {
    /// Of the URL's query (1.2): `name` is the value of `protocol`, `pairs` are the other parameters
    /// that are not the listener's own. `max_payload` bounds, in bytes, what a client may send as
    /// the payload of one packet; framing comes on top.
    pub fn from_options(
        name: &str,
        pairs: &[(&str, &str)],
        max_payload: usize,
    ) -> Result<Protocol, OptionError> {
        let limit = max_payload.min(PAYLOAD_LIMIT);
        let mut pairs = options::Pairs::new(name, pairs);
        let protocol = match name {
            "length" => Protocol::Length(length::Options::from_pairs(&mut pairs, limit)?),
            "length2" => Protocol::Length(length::Options::preset(2, &mut pairs, limit)?),
            "length4" => Protocol::Length(length::Options::preset(4, &mut pairs, limit)?),
            "firefly" => Protocol::Firefly(firefly::Options::from_pairs(&mut pairs, limit)?),
            "pomelo" => Protocol::Pomelo(pomelo::Options::from_pairs(&mut pairs, limit)?),
            "photinus" => Protocol::Photinus(photinus::Options::from_pairs(&mut pairs, limit)?),
            "plain" => Protocol::Plain(plain::Options::from_pairs(&mut pairs, limit)?),
            "link" => Protocol::Link,
            _ => {
                return Err(OptionError(format!(
                    "protocol {name:?}: expected photinus, pomelo, firefly, length, length2, length4, plain or link"
                )))
            }
        };
        pairs.finish()?;
        Ok(protocol)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Length(_) => "length",
            Protocol::Firefly(_) => "firefly",
            Protocol::Pomelo(_) => "pomelo",
            Protocol::Photinus(_) => "photinus",
            Protocol::Plain(_) => "plain",
            Protocol::Link => "link",
        }
    }

    /// How typed payloads are serialised.
    pub fn format(&self) -> Format {
        match self {
            Protocol::Length(options) => options.format,
            Protocol::Firefly(options) => options.format,
            Protocol::Pomelo(options) => options.format,
            Protocol::Photinus(options) => options.format,
            Protocol::Plain(options) => options.format,
            Protocol::Link => Format::Msgpack,
        }
    }

    /// It has no frames of its own: only messages of a WebSocket can carry it.
    pub fn needs_websocket(&self) -> bool {
        matches!(self, Protocol::Plain(_))
    }

    /// If so, the session opens at [`Decoded::Opened`] or [`Decoded::Hello`]; otherwise when the
    /// connection is accepted.
    pub fn has_handshake(&self) -> bool {
        matches!(
            self,
            Protocol::Pomelo(_) | Protocol::Photinus(_) | Protocol::Link
        )
    }

    /// Whether a request can be answered with an error.
    pub fn has_errors(&self) -> bool {
        matches!(self, Protocol::Pomelo(_) | Protocol::Photinus(_))
    }

    /// Payloads may be compressed.
    pub fn compresses(&self) -> bool {
        match self {
            Protocol::Photinus(options) => !options.compress().is_empty(),
            Protocol::Pomelo(options) => options.compresses(),
            _ => false,
        }
    }

    /// How the payloads of a connection with this agreement are compressed and inflated.
    pub fn scheme(&self, agreement: Agreement) -> Option<Scheme<'_>> {
        match self {
            Protocol::Photinus(options) => Some(options.scheme(agreement)),
            Protocol::Pomelo(options) => Some(options.scheme(agreement)),
            _ => None,
        }
    }

    /// The file of the dictionary that the listener is to have (1.2), which its opener reads.
    pub fn dictionary_file(&self) -> Option<&str> {
        match self {
            Protocol::Photinus(options) => options.dictionary_file(),
            _ => None,
        }
    }

    /// What is in that file; before the first connection.
    pub fn set_dictionary(&mut self, bytes: &[u8]) -> Result<(), OptionError> {
        match self {
            Protocol::Photinus(options) => options.set_dictionary(bytes),
            _ => Ok(()),
        }
    }

    /// Milliseconds between two heartbeats of the server's; `None` where there are none.
    pub fn heartbeat(&self) -> Option<u32> {
        match self {
            Protocol::Length(_) | Protocol::Firefly(_) | Protocol::Plain(_) | Protocol::Link => {
                None
            }
            Protocol::Pomelo(options) => options.heartbeat(),
            Protocol::Photinus(options) => options.heartbeat(),
        }
    }

    /// Milliseconds for which a session is kept whose connection was cut; `None`: it ends with it.
    pub fn resume(&self) -> Option<u32> {
        match self {
            Protocol::Photinus(options) => options.resume(),
            _ => None,
        }
    }

    /// After so many intervals without a word a client is gone. Pomelo's in JavaScript wait an interval
    /// before they answer a heartbeat, and do not see those that come meanwhile: they speak at every
    /// second one, a little late (4.6).
    pub fn patience(&self) -> u64 {
        match self {
            Protocol::Pomelo(_) => 3,
            _ => 2,
        }
    }

    /// The whole frame of one heartbeat; empty where the protocol has none, or where each is another
    /// ([`photinus::heartbeat`]).
    pub fn heartbeat_frame(&self) -> &'static [u8] {
        match self {
            Protocol::Length(_)
            | Protocol::Firefly(_)
            | Protocol::Plain(_)
            | Protocol::Photinus(_)
            | Protocol::Link => &[],
            Protocol::Pomelo(_) => &pomelo::HEARTBEAT,
        }
    }

    /// The whole frame that tells a peer that it is turned away before its handshake is done, for
    /// another reason than an error of `decode`, which has said so itself; empty where there is none.
    pub fn refusal(&self, peer: Peer) -> &'static [u8] {
        match (self, peer.stage) {
            (Protocol::Pomelo(_), Stage::Handshake) => pomelo::REFUSAL,
            (Protocol::Photinus(_), Stage::Handshake) => photinus::REFUSAL_FRAME,
            _ => &[],
        }
    }

    /// The state of a connection that has just been accepted.
    pub fn peer(&self) -> Peer {
        Peer {
            stage: match self {
                Protocol::Length(_) | Protocol::Firefly(_) | Protocol::Plain(_) => Stage::Open,
                Protocol::Pomelo(_) | Protocol::Photinus(_) | Protocol::Link => Stage::Handshake,
            },
            compression: match self {
                Protocol::Pomelo(options) => options.agreement(),
                _ => None,
            },
            named: 0,
        }
    }

    /// Reads one frame from the start of `input`. What the protocol itself has to say to it is
    /// appended to `reply`; that may be a refusal, together with an error.
    #[inline]
    pub fn decode(
        &self,
        peer: &mut Peer,
        input: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Decoded, WireError> {
        if let Stage::Failed(error) = peer.stage {
            return Err(error);
        }
        let decoded = match self {
            Protocol::Length(options) => options.decode(input),
            Protocol::Firefly(options) => options.decode(input),
            Protocol::Plain(options) => options.decode(input),
            Protocol::Pomelo(options) => options.decode(&mut peer.stage, input, reply),
            Protocol::Photinus(options) => options.decode(peer, input, reply),
            // A link's end reads them.
            Protocol::Link => Err(WireError::BadFrame),
        };
        if let Err(error) = decoded {
            peer.stage = Stage::Failed(error);
        }
        decoded
    }

    /// Appends one whole frame; or nothing, and an error. Kicks and error answers append nothing
    /// where the protocol has none.
    #[inline]
    pub fn encode(&self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Protocol::Length(options) => options.encode(message, out),
            Protocol::Firefly(options) => options.encode(message, out),
            Protocol::Plain(options) => options.encode(message, out),
            Protocol::Pomelo(_) => pomelo::encode(message, out),
            Protocol::Photinus(_) => photinus::encode(message, out),
            // No message of a session's goes there.
            Protocol::Link => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Msgpack,
}

/// What the protocol remembers about the other side of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    stage: Stage,
    /// What payloads may be compressed with.
    compression: Option<Agreement>,
    /// Routes that it has named, where routes are named once and numbered after.
    named: u16,
}

impl Peer {
    #[inline]
    pub fn compression(&self) -> Option<Agreement> {
        self.compression
    }
}

/// Handshake -> Acknowledge -> Open; protocols without a handshake begin at Open. Failed is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client has to introduce itself.
    Handshake,
    /// It has been answered, and has to say that it heard that.
    Acknowledge,
    Open,
    Failed(WireError),
}

/// One step of decoding. All positions are offsets into the input given to this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Not a whole frame yet. `need` is the least total number of bytes, from the start of this
    /// input, worth calling again with (`need > input.len()`).
    Incomplete { need: usize },
    /// The handshake is done: the session may be opened. Only protocols that have a handshake.
    Opened { consumed: usize },
    /// A frame for the protocol itself (handshake, heartbeat); an answer, if one is due, has been
    /// appended to `reply`.
    Control { consumed: usize },
    /// A packet for the application.
    Packet { consumed: usize, packet: Packet },
    /// photinus: the client has introduced itself, and is to be answered before more is decoded.
    Hello {
        consumed: usize,
        hello: photinus::Hello,
    },
    /// photinus: the next number stands for this route from now on.
    Named { consumed: usize, name: Range<usize> },
    /// photinus: a sign of life that says something.
    Heartbeat {
        consumed: usize,
        heartbeat: photinus::Heartbeat,
    },
    /// The client ends its session.
    Leave { consumed: usize },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub kind: Kind,
    /// Number that the answer to a [`Kind::Request`] must carry; 0 elsewhere.
    pub id: u32,
    pub route: Route,
    /// Where the payload lies in the input.
    pub body: Range<usize>,
    pub flags: Flags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Wants exactly one answer.
    Request,
    /// Wants none.
    Notify,
    /// The protocol does not tell; an answer, if the application gives one, is a packet of its own.
    Message,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The protocol has no routes.
    None,
    /// A number of the application's.
    Number(u32),
    /// The route that the client has named as its so-many-th ([`Decoded::Named`]), from 0.
    Named(u32),
    /// Where the route's name (valid UTF-8) lies in the input.
    Name(Range<usize>),
}

/// What the server sends to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: Outgoing,
    /// Of a push, its name; of an answer, the name of the route that asked. Empty where there is none.
    pub name: &'a str,
    /// The same as a number, for protocols that number their routes.
    pub number: u32,
    /// Of a push, the number under which its name was announced ([`photinus::announce`]).
    pub index: u32,
    pub body: &'a [u8],
    pub flags: Flags,
}

/// What is said beside a payload, where the protocol can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// It is compressed with what was agreed on.
    pub compressed: bool,
    /// It is about the present only: when there is too much, it may be dropped.
    pub droppable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// The answer to the request with this id.
    Response {
        id: u32,
    },
    /// The error answer to the request with this id.
    Error {
        id: u32,
    },
    Push,
    /// The last message before the server closes; `body` is the reason, as UTF-8 text.
    Kick,
    /// The same with another address for the client: `body` is a listener's URL, as UTF-8 text.
    Redirect,
}
