//! One codec a client protocol, chosen per listener.
//!
//! Order of calls, for each connection: [`Protocol::peer`] once; then, whenever bytes have come,
//! [`Protocol::decode`] again and again over the unconsumed input until it says
//! [`Decoded::Incomplete`]; [`Protocol::encode`] for what goes out. After an error from `decode` the
//! connection is to be closed: the error is kept in the `Peer`, and every later call returns it again.

use std::ops::Range;

pub mod firefly;
pub mod length;
pub mod pomelo;

/// What a listener speaks, with the options of its URL. Shared by all of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    Length(length::Options),
    Firefly(firefly::Options),
    Pomelo(pomelo::Options),
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
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub kind: Kind,
    /// Number that the answer to a [`Kind::Request`] must carry; 0 elsewhere.
    pub id: u32,
    pub route: Route,
    /// Where the payload lies in the input.
    pub body: Range<usize>,
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
    Number(u32),
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
    pub body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// The answer to the request with this id.
    Response { id: u32 },
    /// The error answer to the request with this id.
    Error { id: u32 },
    Push,
    /// The last message before the server closes; `body` is the reason, as UTF-8 text.
    Kick,
}
