//! One connection, of a client or another node: its stream, what the protocol remembers of the peer, and what is half done.
//!
//! An idle one holds no buffers: reads go into the batch's arena, and only a frame that has not
//! come whole, or bytes that the socket did not take, are kept here.

use crate::acquaintance::Acquaintance;
use crate::gate::Guest;
use crate::handle::Handle;
use crate::layers::Layers;
use crate::link::Tie;
use photinus_proto::codec::Peer;

pub struct Connection<S> {
    pub stream: S,
    /// What it counts for against the limits.
    pub guest: Guest,
    /// Tells this connection from an earlier one with the same number.
    pub serial: u32,
    pub listener: u16,
    pub stage: Stage,
    pub peer: Peer,
    /// `Handle::NONE` before the handshake and after the session's end.
    pub session: Handle,
    /// The poller has told that there is something to read, and no read has found the end of it yet.
    pub readable: bool,
    /// The peer has said its last: reading goes on until it is found.
    pub ended: bool,
    /// The socket takes no more until the poller tells.
    pub blocked: bool,
    /// In the list of connections to be read again without the poller's word.
    pub queued: bool,
    /// In the list of connections that wait until there is room in the inbox.
    pub held_back: bool,
    /// Nor because the link that its next packet goes over is crowded.
    pub waits_for_link: bool,
    /// A frame's deadline is running.
    pub frame_clock: bool,
    /// When the frame of which we hold a part was begun, in milliseconds; 0: we hold none.
    pub frame_since: u64,
    /// When something last came from the peer.
    pub heard: u64,
    /// The beginning of a frame.
    pub partial: Vec<u8>,
    /// How much of it the reactor has counted.
    pub partial_counted: usize,
    /// How many bytes, from the beginning of the frame, the codec waits for.
    pub need: usize,
    /// Its layers have come to their end, and whole frames wait for room (`need` is not above `partial`).
    pub leaves: bool,
    /// Encoded, and not taken by the socket yet: `unsent[sent..]`.
    pub unsent: Vec<u8>,
    pub sent: usize,
    /// What lies between the socket and the protocol; `None`: nothing.
    pub layers: Option<Box<Layers>>,
    /// In the photinus protocol, once its client is welcome.
    pub acquaintance: Option<Box<Acquaintance>>,
    /// It is another node's; `None`: a client's, or its end has been said.
    pub tie: Option<Box<Tie>>,
    /// It was made for a link, whatever became of it.
    pub for_link: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Handshake,
    /// It stands in line for a session.
    Waiting,
    Open,
    /// It carries a link to another node.
    Link,
    /// The last has been said; it is read (and thrown away) until the peer closes or its time is up,
    /// since closing with unread input would make the system take back what was written.
    Lingering,
}

/// Whose doing an end was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum By {
    Client,
    Server,
    Network,
    Protocol,
}

impl By {
    pub fn from_number(number: u32) -> By {
        match number {
            0 => By::Client,
            1 => By::Server,
            2 => By::Network,
            _ => By::Protocol,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            By::Client => "client",
            By::Server => "server",
            By::Network => "network",
            By::Protocol => "protocol",
        }
    }
}

impl<S> Connection<S> {
    pub fn new(
        stream: S,
        guest: Guest,
        serial: u32,
        listener: u16,
        stage: Stage,
        peer: Peer,
        now: u64,
    ) -> Self {
        Connection {
            stream,
            guest,
            serial,
            listener,
            stage,
            peer,
            session: Handle::NONE,
            readable: false,
            ended: false,
            blocked: false,
            queued: false,
            held_back: false,
            waits_for_link: false,
            frame_clock: false,
            frame_since: 0,
            heard: now,
            partial: Vec::new(),
            partial_counted: 0,
            need: 0,
            leaves: false,
            unsent: Vec::new(),
            sent: 0,
            layers: None,
            acquaintance: None,
            tie: None,
            for_link: false,
        }
    }

    /// Whole frames have come for which there was no room.
    #[inline]
    pub fn holds_frames(&self) -> bool {
        !self.partial.is_empty() && self.need <= self.partial.len()
    }

    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len() - self.sent
    }
}
