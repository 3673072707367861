//! What goes from Python to a reactor: batches of messages and commands, with their payloads' arena.
//!
//! Items of one batch are carried out in order, batches of one reactor in the order of their push.

use crate::gate::Guest;
use crate::handle::Handle;
use crate::inbox::Batch;
use crate::layers::Layers;
use crate::listener::DialUrl;
use photinus_proto::bluenet::control::Tag;
use photinus_proto::bluenet::header::{Kind, Priority};
use photinus_proto::codec::photinus::Resume;
use photinus_proto::codec::Peer;
use std::sync::Arc;

#[derive(Default)]
pub struct OutBatch {
    pub items: Vec<OutItem>,
    pub arena: Vec<u8>,
    /// When it was handed over, in nanoseconds of the engine's clock.
    pub pushed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutItem {
    pub action: Action,
    /// The payload in the batch's arena.
    pub start: u32,
    pub len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Send {
        to: Handle,
        what: What,
        marks: Marks,
    },
    /// To every member but one, of those whose payloads are written in this format.
    GroupSend {
        group: u32,
        but: Handle,
        format: FormatSet,
        route: OutRoute,
        marks: Marks,
    },
    GroupAdd {
        group: u32,
        member: Handle,
    },
    GroupRemove {
        group: u32,
        member: Handle,
    },
    /// A group of another node's ends, as far as its members are here.
    GroupDissolve {
        group: u32,
    },
    /// A client of ours leaves all groups of the node behind this link.
    GroupsLeave {
        link: Handle,
        member: Handle,
    },
    /// A name for pushes; the payload is the name. Comes before the first use of its index.
    NameRoute {
        index: u32,
        number: u32,
    },
    /// The session's end, after what was sent to it before; the payload is the reason's text.
    Kick {
        to: Handle,
    },
    /// The same, with another address for the client; the payload is the URL of a listener.
    Redirect {
        to: Handle,
    },
    /// A packet that waited in the session's mailbox past its batch has been handled now.
    Release {
        to: Handle,
        packets: u32,
        bytes: u32,
    },
    /// To the other end of a link, under this header; the payload is the frame's.
    Frame {
        link: Handle,
        kind: Kind,
        priority: Priority,
        request: bool,
        destination: u32,
        source: u32,
    },
    /// Python has let go of a session that ended: its slot may rest and be used again.
    Free {
        to: Handle,
    },
    /// To every session of a list, which stands in front of the payload: four bytes each, as many as this.
    SendList {
        sessions: u32,
        format: FormatSet,
        route: OutRoute,
        marks: Marks,
    },
    /// To a session of another node's client, whoever owns it.
    SendTo {
        link: Handle,
        session: Handle,
        route: OutRoute,
        marks: Marks,
    },
    /// An owner's word about a session of its.
    Own {
        to: Handle,
        what: Owner,
    },
}

/// What an owner says of a session to whoever holds its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// `session.data`, which is the payload: the next home gets it if this one is lost.
    Data,
    /// It has arrived here, under this tag.
    Arrived { tag: Tag },
    /// It may not; the payload is why.
    Refused { tag: Tag },
    /// All before the fence is handled; the payload is the state.
    Fenced { tag: Tag },
    /// Attach it to a target, whose routes are of this class, at the node that the payload names.
    Attach {
        request: u32,
        target: u32,
        class: u32,
    },
    /// Move what is bound in this place there.
    Move {
        request: u32,
        slot: u8,
        target: u32,
        class: u32,
    },
    /// End what is bound in this place.
    Leave { request: u32, slot: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Response { id: u32 },
    Error { id: u32 },
    Push(OutRoute),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutRoute {
    /// Index of a name made known with `NameRoute`.
    Named(u32),
    /// A bare number, as Firefly's commands.
    Number(u32),
}

/// What its sender says of a message, beside what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(u8);

impl Marks {
    pub const NONE: Marks = Marks(0);
    /// It is about the present: a reader who does not keep up gets the newest of its route alone.
    pub const DROPPABLE: Marks = Marks(1);
    /// It is never compressed.
    pub const SECRET: Marks = Marks(2);

    pub fn new(droppable: bool, secret: bool) -> Marks {
        let mark = |set: bool, mark: Marks| if set { mark.0 } else { 0 };
        Marks(mark(droppable, Marks::DROPPABLE) | mark(secret, Marks::SECRET))
    }

    #[inline]
    pub fn droppable(self) -> bool {
        self.0 & Marks::DROPPABLE.0 != 0
    }

    #[inline]
    pub fn secret(self) -> bool {
        self.0 & Marks::SECRET.0 != 0
    }
}

/// In `NameRoute`: the name has no number, so it cannot be said in a protocol that only numbers.
pub const NO_NUMBER: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatSet(pub u8);

impl FormatSet {
    pub const JSON: FormatSet = FormatSet(1);
    pub const MSGPACK: FormatSet = FormatSet(2);
    pub const ANY: FormatSet = FormatSet(3);

    #[inline]
    pub fn has(self, other: FormatSet) -> bool {
        self.0 & other.0 != 0
    }
}

/// What stands in a reactor's mailbox.
pub enum Handover {
    Out(OutBatch),
    /// A drained batch comes back, with what of its runs is handled.
    Returned(Box<Batch>),
    /// A connection accepted by another reactor.
    Adopt {
        stream: mio::net::TcpStream,
        address: String,
        listener: usize,
        guest: Guest,
    },
    /// A connection whose client resumes a session of this reactor.
    Move(Box<Moving>),
    /// Serve this listener's connections; one reactor also gets its socket.
    Listen {
        listener: usize,
        socket: Option<mio::net::TcpListener>,
    },
    /// Keep a link to this node.
    Dial(Box<Dialled>),
    /// A name was looked up: where this dial goes from now on.
    Found {
        dial: u32,
        serial: u32,
        addresses: Vec<String>,
    },
    /// Keep no link to this node any more.
    HangUp {
        node: Arc<str>,
    },
    /// Accept no more; end every session with this reason; say `Drained` when none is left.
    Drain {
        reason: String,
    },
    /// Close everything at once and end.
    Shutdown,
}

/// A node that a link is kept to.
#[derive(Clone)]
pub struct Dialled {
    pub node: Arc<str>,
    pub url: DialUrl,
    /// What its name was found to be; none if the name has to be looked up again.
    pub addresses: Vec<String>,
}

/// A connection on its way to another reactor, between its hello and the answer to it.
pub struct Moving {
    pub stream: mio::net::TcpStream,
    pub address: Box<str>,
    pub listener: u16,
    pub guest: Guest,
    pub layers: Option<Box<Layers>>,
    pub peer: Peer,
    pub resume: Resume,
    /// Came behind the hello.
    pub rest: Vec<u8>,
    /// Written, and not taken by the socket yet.
    pub unsent: Vec<u8>,
}

impl OutBatch {
    pub fn push(&mut self, action: Action, payload: &[u8]) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(payload);
        self.items.push(OutItem {
            action,
            start,
            len: payload.len() as u32,
        });
    }

    /// The payload is all that the arena holds from `start` on.
    pub fn share(&mut self, action: Action, start: usize) {
        self.items.push(OutItem {
            action,
            start: start as u32,
            len: (self.arena.len() - start) as u32,
        });
    }

    pub fn payload(&self, item: &OutItem) -> &[u8] {
        &self.arena[item.start as usize..][..item.len as usize]
    }

    /// What it weighs against `Limits::outbox_bytes`; at least 1.
    pub fn weight(&self) -> usize {
        self.arena.len() + self.items.len() * std::mem::size_of::<OutItem>() + 1
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.arena.clear();
    }
}
