//! How two nodes come to trust a connection (docs/bluenet.md, 3): [`Dialling`] is the side that connects,
//! [`Accepting`] the other.
//!
//! Rules:
//! 1. Dialler: HELLO. Acceptor: ANSWER, with its proof. Dialler: PROOF. Acceptor: WELCOME; frames follow it from
//!    either side. Instead of what is due, either may say REFUSED and is done.
//! 2. A proof is HMAC-SHA256 with the cluster's secret over the side's label and all that was said on the connection
//!    before it. Either side gave a nonce, so no proof is good twice; the labels differ, so none can be given back.
//! 3. Before the dialler has proved the secret it learns, of the version, the cluster and the secret, that they are
//!    wrong, and nothing about the nodes.
//! 4. Whether the other node is wanted is the engine's decision, on either side: it knows which nodes there are, and
//!    which links. The machine stops at its step `Proved` until it is told.
//! 5. Malformed input is an error, is kept, and every later call returns it; nothing is answered.
//!
//! Order of calls: `new`, then `handle_bytes` over what has come, whenever it has come, until there is an outcome; at
//! `Proved`, before more bytes are handled, [`Dialling::prove`] or [`Accepting::welcome`], or `refuse`. What is to be
//! sent is appended to `out`.

mod accepting;
mod dialling;
mod message;

pub use accepting::{Accepted, Accepting};
pub use dialling::{Dialled, Dialling};
pub use message::MOST_MESSAGE_BYTES;

use crate::error::WireError;
use std::fmt;

/// The one version that there is.
pub const VERSION: u16 = 1;

pub const MAGIC: [u8; 4] = *b"PHLK";

pub const NONCE_BYTES: usize = 16;
pub type Nonce = [u8; NONCE_BYTES];

/// In bytes, of a cluster's name and of a node's: they stand in each log line.
pub const MOST_NAME_BYTES: usize = 64;

/// Who a node is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub cluster: String,
    pub node: String,
    /// Greater each time that the node starts.
    pub generation: u64,
    pub roles: Roles,
    /// A hash of routes and schemas, for the application's eyes: it decides nothing here.
    pub schema: u64,
    /// The cluster's. Whether it may be empty is for the caller to decide.
    pub secret: Vec<u8>,
}

impl Identity {
    /// Whether others will take it: names of 1 to [`MOST_NAME_BYTES`] bytes without control characters, and a role.
    pub fn is_valid(&self) -> bool {
        message::is_name(&self.cluster)
            && message::is_name(&self.node)
            && self.roles != Roles::default()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("generation", &self.generation)
            .field("roles", &self.roles)
            .field("schema", &self.schema)
            .finish_non_exhaustive() // the secret
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// It holds clients.
    pub const PROXY: Roles = Roles(1);
    /// It runs the game.
    pub const WORLD: Roles = Roles(2);

    /// `None`: none at all, or a bit that means nothing.
    pub const fn from_bits(bits: u8) -> Option<Roles> {
        match bits {
            1..=3 => Some(Roles(bits)),
            _ => None,
        }
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    pub const fn has(self, others: Roles) -> bool {
        self.0 & others.0 == others.0
    }

    #[must_use]
    pub const fn with(self, others: Roles) -> Roles {
        Roles(self.0 | others.0)
    }
}

/// What the other node has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    pub node: String,
    pub generation: u64,
    pub roles: Roles,
    pub schema: u64,
    /// The dialler's number of the link, the same on both sides.
    pub link: u64,
}

/// Why there is to be no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    Version = 1,
    Cluster = 2,
    Secret = 3,
    /// The node has been started again since.
    Generation = 4,
    /// It has the name of the node that refuses it, or of another that is linked.
    SameNode = 5,
    /// What is to be resumed is not known: it is lost.
    UnknownLink = 6,
    /// Two nodes of these roles have no link.
    Role = 7,
    /// Another node was dialled than answers there.
    OtherNode = 8,
    /// As many links as may be.
    Full = 9,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::Version,
        Reason::Cluster,
        Reason::Secret,
        Reason::Generation,
        Reason::SameNode,
        Reason::UnknownLink,
        Reason::Role,
        Reason::OtherNode,
        Reason::Full,
    ];

    /// The word under which the metrics count it and the logs name it.
    pub fn word(&self) -> &'static str {
        match self {
            Reason::Version => "version",
            Reason::Cluster => "cluster",
            Reason::Secret => "secret",
            Reason::Generation => "generation",
            Reason::SameNode => "same-node",
            Reason::UnknownLink => "unknown-link",
            Reason::Role => "role",
            Reason::OtherNode => "other-node",
            Reason::Full => "full",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which side has refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// This one: what was appended is still to be sent, then the connection is to be closed.
    Us,
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Of the dialler: an ANSWER is due. Of the acceptor: a HELLO.
    Greeting,
    /// Of the acceptor: a PROOF is due.
    Proof,
    /// The engine has to decide.
    Deciding,
    /// Of the dialler: a WELCOME is due.
    Welcome,
    Done,
    Failed(WireError),
}

#[cfg(test)]
mod tests;
