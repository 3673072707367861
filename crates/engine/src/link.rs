//! One link as its reactor holds it, what ties a connection to it, and the nodes that are dialled.
//!
//! A link outlives its connections, and a dial outlives its links:
//! 1. A connection has a tie as long as it is of use to a link: first a hello on one of both sides, then the link.
//!    Whoever ends the connection takes the tie, and has the link and the dial told, once.
//! 2. A link has at most one connection. A dial has at most one connection and one link, and that link's connection
//!    is the dial's.
//! 3. The number of a link is drawn by the dialler. It stays the same until the link is lost: a welcome that did not
//!    arrive is asked for again under it.

use crate::handle::Handle;
use crate::outbox::Dialled;
use photinus_proto::link::hello::{Accepting, Dialling, PeerHello, Roles};
use photinus_proto::link::{Link, LinkStatistics};
use std::sync::Arc;

/// What a connection is to links.
pub enum Tie {
    /// This node dialled.
    Dialling(Box<Attempt>),
    Accepting(Box<Accepting>),
    Link(u32),
}

/// A dial's connection that is no link's yet.
pub struct Attempt {
    pub dial: u32,
    /// The number of the link that it is for.
    pub id: u64,
    /// Once whatever lies between is open.
    pub hello: Option<Dialling>,
    /// Once it has proved that it is of this cluster, and the one that was dialled.
    pub peer: Option<PeerHello>,
}

pub struct Linked {
    pub handle: Handle,
    pub link: Link,
    /// Drawn by whoever dialled.
    pub id: u64,
    pub node: Arc<str>,
    pub generation: u64,
    pub roles: Roles,
    /// A hash of what the application there can say.
    pub schema: u64,
    /// The number of its connection, or `NONE`.
    pub connection: u32,
    /// Since when it has that.
    pub connected_ms: u64,
    /// Something came over it since.
    pub heard: bool,
    /// The dial that keeps it; `None`: the other end dials.
    pub dial: Option<u32>,
    /// `link_up` was called: `link_lost` will be.
    pub up: bool,
    /// It is in the list of those that have something to write.
    pub queued: bool,
    /// When it is looked at next.
    pub alarm_ms: u64,
    /// Droppable frames for which there was no room.
    pub dropped: u64,
    /// Why it ends, once it does.
    pub end: Option<&'static str>,
}

/// A node that a link is kept to.
pub struct Dial {
    pub to: Dialled,
    /// Tells it from an earlier one with the same number.
    pub serial: u32,
    /// The number of its link, that is there or will be.
    pub id: u64,
    pub link: Option<u32>,
    /// The number of its connection, or `NONE`.
    pub connection: u32,
    /// Which of the addresses is next.
    pub next: usize,
    /// The next wait, if the connection fails.
    pub wait_ms: u64,
    /// How often it was tried.
    pub tries: u64,
    /// The name is being looked up.
    pub asked: bool,
}

/// A link as statistics show it. Sums over its life, unless they say "now".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkReport {
    pub node: Arc<str>,
    /// 0: there was no link yet.
    pub generation: u64,
    pub reactor: usize,
    /// This node dials.
    pub dialled: bool,
    /// Now.
    pub connected: bool,
    /// Of the last ping that was answered, in microseconds.
    pub round_trip_us: Option<u32>,
    /// Bytes that the other node is not known to have, now.
    pub kept_bytes: u64,
    pub frames_in: u64,
    pub frames_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Frames that were written to a second connection.
    pub resent: u64,
    pub dropped: u64,
    /// Connections that it has lost.
    pub cuts: u64,
    /// Attempts to connect, of all links to this node that this reactor has dialled.
    pub dials: u64,
}

impl LinkReport {
    /// `link` and `dial`: what there is of both.
    pub fn of(reactor: usize, link: Option<&Linked>, dial: Option<&Dial>) -> Option<LinkReport> {
        let node = link.map(|of| &of.node).or(dial.map(|of| &of.to.node))?;
        let seen = link.map_or(LinkStatistics::default(), |of| of.link.statistics());
        let lanes = || seen.lanes.iter();
        Some(LinkReport {
            node: node.clone(),
            generation: link.map_or(0, |of| of.generation),
            reactor,
            dialled: dial.is_some(),
            connected: link.is_some_and(|of| of.link.is_connected()),
            round_trip_us: link.and_then(|of| of.link.round_trip_us()),
            kept_bytes: seen.kept as u64,
            frames_in: lanes().map(|of| of.received_frames).sum(),
            frames_out: lanes().map(|of| of.pushed_frames).sum(),
            bytes_in: lanes().map(|of| of.received_bytes).sum(),
            bytes_out: lanes().map(|of| of.pushed_bytes).sum(),
            resent: lanes().map(|of| of.resent_frames).sum(),
            dropped: link.map_or(0, |of| of.dropped),
            cuts: seen.cuts,
            dials: dial.map_or(0, |of| of.tries),
        })
    }
}
