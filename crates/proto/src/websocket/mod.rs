//! WebSocket, the server's side (6; RFC 6455 and, for permessage-deflate, RFC 7692): a layer between
//! a connection and the protocol's codec.
//!
//! Order of calls, for each connection: [`Options::peer`] once; [`Options::decode`] with all that
//! comes; after its status has become [`Status::Open`], [`Options::encode`] with what the codec has
//! written, [`Peer::ping`], and at last [`Peer::close`]. What `decode` has to say by itself (the
//! handshake's answer, pongs, closes) is appended to `reply`, ready for the wire: it does not go
//! through `encode`. After an error or [`Status::Closed`] the connection is to be closed once `reply`
//! is written; the error is kept, and every later call returns it again.

use crate::error::WireError;

mod connection;
mod deflate;
mod extension;
mod frame;
mod handshake;
mod options;
mod utf8;

pub use connection::Peer;
pub use deflate::Shared;
pub use frame::Kind;
pub use options::Options;

/// Between the messages of a listener of [`Content::Messages`] and the codec `plain` (6.6): what the
/// message is (1 text, 2 binary), then the length of its payload, a big-endian u32, and the payload.
pub const MESSAGE_HEAD: usize = 5;

/// What the messages of a listener hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A stream of bytes in binary messages, wherever they begin and end.
    Stream,
    /// From a client the same; to it each of pomelo's packages (4.2) is a message of its own, since its
    /// clients in JavaScript look at nothing behind the first one of a message.
    Packages,
    /// Each is a packet, text or binary; towards the codec it has a head ([`MESSAGE_HEAD`]).
    Messages,
}

impl Content {
    /// What comes is bytes of the protocol's, and messages mean nothing to it.
    fn is_stream(self) -> bool {
        matches!(self, Content::Stream | Content::Packages)
    }
}

/// What a connection is after a call of [`Options::decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub status: Status,
    /// Not everything that has come was decoded, since enough has been inflated for one call: call
    /// again, with no input, before there is any, and when there is room for what comes out.
    pub more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The handshake's request has not come whole.
    Opening,
    Open,
    /// The client has said its last, and has been answered.
    Closed,
}

/// All that a message's bytes on the wire depend on, beside its content: what was encoded for one
/// connection can be sent to all of the same listener whose form is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Messages up to 2 to this many bytes are deflated; 0: none.
    window_bits: u8,
    /// What the client's last message was; `None`: nothing has come, or it does not matter.
    kind: Option<u8>,
}

impl Form {
    /// The same without compression, for what holds a secret.
    pub fn without_deflate(self) -> Form {
        Form {
            window_bits: 0,
            ..self
        }
    }
}

/// Codes of a close (RFC 6455, 7.4.1) that a server has a use for.
pub mod code {
    /// The session is over as it should be.
    pub const NORMAL: u16 = 1000;
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text where binary is due.
    pub const UNSUPPORTED: u16 = 1003;
    /// Text that is no UTF-8, or what cannot be inflated.
    pub const BAD_DATA: u16 = 1007;
    /// Kicked, too fast, too slow.
    pub const POLICY: u16 = 1008;
    pub const TOO_LONG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// The code of a close for what the client has done, here or in the protocol inside.
pub fn close_code(error: WireError) -> u16 {
    match error {
        WireError::TooLong => code::TOO_LONG,
        WireError::TextFrame => code::UNSUPPORTED,
        WireError::BadText | WireError::BadCompression => code::BAD_DATA,
        _ => code::PROTOCOL_ERROR,
    }
}
