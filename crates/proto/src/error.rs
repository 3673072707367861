//! What can go wrong, split by whose fault it is: the peer's ([`WireError`]), the application's
//! ([`EncodeError`]), or that of whoever configured the listener ([`OptionError`]).

use std::error::Error;
use std::fmt;

/// The peer broke its protocol: its connection is to be closed (docs/protocol.md, 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireError {
    /// A length is above the listener's limit, or above what the protocol allows there.
    TooLong,
    /// The first bytes of a frame are not those the listener was told to expect.
    BadMagic,
    /// The frame is for another version of the server.
    BadVersion,
    /// The handshake is malformed, or something came out of its order.
    BadHandshake,
    /// A frame that the protocol does not allow.
    BadFrame,
    /// The payload is compressed, and this listener never agreed to that.
    CompressionUnsupported,
    /// What is compressed cannot be inflated.
    BadCompression,
    /// No request for a WebSocket, or not one that can be served.
    BadUpgrade,
    /// The request is for a path that this listener does not serve.
    BadPath,
    /// The page's origin is not among those that the listener allows.
    BadOrigin,
    /// A text message where binary ones are due.
    TextFrame,
    /// Text that is no UTF-8.
    BadText,
    /// What stands before the first byte of the client's is no PROXY header.
    BadProxyHeader,
}

impl WireError {
    /// Every reason there is, for counters that hold one number a reason.
    pub const ALL: [WireError; 13] = [
        WireError::TooLong,
        WireError::BadMagic,
        WireError::BadVersion,
        WireError::BadHandshake,
        WireError::BadFrame,
        WireError::CompressionUnsupported,
        WireError::BadCompression,
        WireError::BadUpgrade,
        WireError::BadPath,
        WireError::BadOrigin,
        WireError::TextFrame,
        WireError::BadText,
        WireError::BadProxyHeader,
    ];

    /// The word under which the metrics count it and the logs name it.
    pub fn reason(&self) -> &'static str {
        match self {
            WireError::TooLong => "too-long",
            WireError::BadMagic => "bad-magic",
            WireError::BadVersion => "bad-version",
            WireError::BadHandshake => "bad-handshake",
            WireError::BadFrame => "bad-frame",
            WireError::CompressionUnsupported => "compression-unsupported",
            WireError::BadCompression => "bad-compression",
            WireError::BadUpgrade => "bad-upgrade",
            WireError::BadPath => "bad-path",
            WireError::BadOrigin => "bad-origin",
            WireError::TextFrame => "text-frame",
            WireError::BadText => "bad-text",
            WireError::BadProxyHeader => "bad-proxy-header",
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for WireError {}

/// The message cannot be said in this protocol. Nothing has been appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The frame's length field cannot count this many bytes.
    TooLong { length: usize, limit: usize },
    /// The field for the route's name cannot count this many bytes.
    RouteTooLong { length: usize, limit: usize },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, length, limit) = match self {
            EncodeError::TooLong { length, limit } => ("message", length, limit),
            EncodeError::RouteTooLong { length, limit } => ("route", length, limit),
        };
        write!(
            f,
            "the {what} takes {length} bytes, the protocol carries at most {limit}"
        )
    }
}

impl Error for EncodeError {}

/// A listener's URL asks for something that there is not. The text names the option, its value and
/// what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError(pub(crate) String);

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for OptionError {}
