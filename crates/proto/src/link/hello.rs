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

use super::LANES;
use crate::error::WireError;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// The one version that there is.
pub const VERSION: u16 = 1;

pub const MAGIC: [u8; 4] = *b"PHLK";

pub const NONCE_BYTES: usize = 16;
pub type Nonce = [u8; NONCE_BYTES];

const PROOF_BYTES: usize = 32;

/// In bytes, of a cluster's name and of a node's: they stand in each log line.
pub const MOST_NAME_BYTES: usize = 64;

/// Of one message after its length: more than twice the longest of this version, so that a later one's hello is still
/// understood to be one, and refused for its version.
pub const MOST_MESSAGE_BYTES: usize = 512;

const LENGTH_BYTES: usize = 2;

const HELLO: u8 = 1;
const ANSWER: u8 = 2;
const PROOF: u8 = 3;
const WELCOME: u8 = 4;
const REFUSED: u8 = 5;

const DIAL_LABEL: &[u8] = b"photinus-link-dial";
const ACCEPT_LABEL: &[u8] = b"photinus-link-accept";

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
        is_name(&self.cluster) && is_name(&self.node) && self.roles != Roles::default()
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

/// What the dialler has come to. `consumed` are the bytes of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialled {
    /// No whole message. With `need` bytes, counted from the first, one gets further.
    Incomplete { need: usize },
    /// The acceptor has proved the secret. [`Dialling::prove`] is due, or [`Dialling::refuse`].
    Proved { consumed: usize, peer: PeerHello },
    /// What follows are frames. The acceptor has received so many of each lane; `resumed`: it knew the link.
    Welcome {
        consumed: usize,
        received: [u32; LANES],
        resumed: bool,
    },
    Refused {
        consumed: usize,
        reason: Reason,
        by: By,
    },
}

/// The dialler's side of one connection.
#[derive(Debug)]
pub struct Dialling {
    identity: Arc<Identity>,
    link: u64,
    resumes: bool,
    stage: Stage,
    /// All that both have said so far.
    said: Vec<u8>,
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

impl Dialling {
    /// `link` was drawn at random when the link was made, `nonce` for this connection. Appends the HELLO.
    ///
    /// # Panics
    ///
    /// If the identity is not valid ([`Identity::is_valid`]).
    pub fn new(identity: Arc<Identity>, link: u64, nonce: Nonce, out: &mut Vec<u8>) -> Dialling {
        let mut said = Vec::new();
        say(&mut said, HELLO, |out| {
            write_greeting(&identity, link, &nonce, out)
        });
        out.extend(&said);
        Dialling {
            identity,
            link,
            resumes: false,
            stage: Stage::Greeting,
            said,
        }
    }

    /// Reads the first message of what has come and was not consumed yet.
    pub fn handle_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Dialled, WireError> {
        let outcome = self.read(bytes, out);
        if let Err(error) = outcome {
            self.stage = Stage::Failed(error);
        }
        outcome
    }

    /// The acceptor is who it should be. `received`: how many of each lane have come over earlier connections of the
    /// link; `resumes`: there was one that got as far as its welcome.
    ///
    /// # Panics
    ///
    /// If the step was not `Proved`.
    pub fn prove(&mut self, received: [u32; LANES], resumes: bool, out: &mut Vec<u8>) {
        assert_eq!(self.stage, Stage::Deciding);
        self.stage = Stage::Welcome;
        self.resumes = resumes;
        let start = self.said.len();
        let identity = &self.identity;
        // The length counts the proof, and both are proved: it is written first.
        let said = &mut self.said;
        let length = 1 + 1 + 4 * LANES + PROOF_BYTES;
        said.extend((length as u16).to_be_bytes());
        said.push(PROOF);
        said.push(u8::from(resumes));
        write_counts(received, said);
        let proof = proof(identity, DIAL_LABEL, said).finalize().into_bytes();
        said.extend(proof);
        out.extend(&said[start..]);
    }

    /// The acceptor is not wanted; the connection is to be closed when this was sent.
    pub fn refuse(&mut self, reason: Reason, out: &mut Vec<u8>) {
        self.stage = Stage::Done;
        say(out, REFUSED, |out| out.push(reason as u8));
    }

    fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Dialled, WireError> {
        let due = match self.stage {
            Stage::Greeting => ANSWER,
            Stage::Welcome => WELCOME,
            Stage::Failed(error) => return Err(error),
            Stage::Proof | Stage::Deciding | Stage::Done => return Err(WireError::BadHandshake),
        };
        let message = match Message::read(bytes, due)? {
            Ok(message) => message,
            Err(need) => return Ok(Dialled::Incomplete { need }),
        };
        let consumed = message.bytes.len();
        let refused = |reason, by| {
            Ok(Dialled::Refused {
                consumed,
                reason,
                by,
            })
        };
        if message.tag == REFUSED {
            self.stage = Stage::Done;
            return refused(message.reason()?, By::Peer);
        }
        let mut fields = message.fields();
        if due == WELCOME {
            let received = fields.counts()?;
            let resumed = fields.truth()?;
            fields.end()?;
            if self.resumes && !resumed {
                return Err(WireError::BadHandshake); // it should have been refused
            }
            self.stage = Stage::Done;
            return Ok(Dialled::Welcome {
                consumed,
                received,
                resumed,
            });
        }
        let greeting = match fields.greeting(&self.identity)? {
            Ok(greeting) => greeting,
            Err(reason) => {
                self.refuse(reason, out);
                return refused(reason, By::Us);
            }
        };
        let claim = fields.take(PROOF_BYTES)?;
        fields.end()?;
        self.said.extend(&message.bytes[..consumed - PROOF_BYTES]);
        let proved = proof(&self.identity, ACCEPT_LABEL, &self.said).verify_slice(claim);
        self.said.extend(claim);
        if proved.is_err() {
            self.refuse(Reason::Secret, out);
            return refused(Reason::Secret, By::Us);
        }
        if greeting.link != self.link {
            return Err(WireError::BadHandshake);
        }
        self.stage = Stage::Deciding;
        Ok(Dialled::Proved {
            consumed,
            peer: greeting,
        })
    }
}

/// What the acceptor has come to. `consumed` are the bytes of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// No whole message. With `need` bytes, counted from the first, one gets further.
    Incomplete { need: usize },
    /// The HELLO was answered.
    Answered { consumed: usize },
    /// The dialler has proved the secret. [`Accepting::welcome`] is due, or [`Accepting::refuse`]. It has received so
    /// many of each lane; `resumes`: it was welcomed before with this link, and if that is not known, what was on it
    /// is lost ([`Reason::UnknownLink`]). If it is known, it is resumed though `resumes` is false: a welcome did not
    /// arrive.
    Proved {
        consumed: usize,
        peer: PeerHello,
        received: [u32; LANES],
        resumes: bool,
    },
    Refused {
        consumed: usize,
        reason: Reason,
        by: By,
    },
}

/// The acceptor's side of one connection.
#[derive(Debug)]
pub struct Accepting {
    identity: Arc<Identity>,
    nonce: Nonce,
    stage: Stage,
    peer: Option<PeerHello>,
    /// All that both have said so far.
    said: Vec<u8>,
}

impl Accepting {
    /// `nonce` was drawn at random for this connection.
    ///
    /// # Panics
    ///
    /// If the identity is not valid ([`Identity::is_valid`]).
    pub fn new(identity: Arc<Identity>, nonce: Nonce) -> Accepting {
        assert!(identity.is_valid(), "{identity:?}");
        Accepting {
            identity,
            nonce,
            stage: Stage::Greeting,
            peer: None,
            said: Vec::new(),
        }
    }

    /// Reads the first message of what has come and was not consumed yet.
    pub fn handle_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Accepted, WireError> {
        let outcome = self.read(bytes, out);
        if let Err(error) = outcome {
            self.stage = Stage::Failed(error);
        }
        outcome
    }

    /// There is a link: `received` of each lane, all 0 unless it is `resumed`.
    ///
    /// # Panics
    ///
    /// If the step was not `Proved`.
    pub fn welcome(&mut self, received: [u32; LANES], resumed: bool, out: &mut Vec<u8>) {
        assert_eq!(self.stage, Stage::Deciding);
        self.stage = Stage::Done;
        say(out, WELCOME, |out| {
            write_counts(received, out);
            out.push(u8::from(resumed));
        });
    }

    /// There is none; the connection is to be closed when this was sent.
    pub fn refuse(&mut self, reason: Reason, out: &mut Vec<u8>) {
        self.stage = Stage::Done;
        say(out, REFUSED, |out| out.push(reason as u8));
    }

    fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Accepted, WireError> {
        let due = match self.stage {
            Stage::Greeting => HELLO,
            Stage::Proof => PROOF,
            Stage::Failed(error) => return Err(error),
            Stage::Welcome | Stage::Deciding | Stage::Done => return Err(WireError::BadHandshake),
        };
        let message = match Message::read(bytes, due)? {
            Ok(message) => message,
            Err(need) => return Ok(Accepted::Incomplete { need }),
        };
        let consumed = message.bytes.len();
        let refused = |reason, by| {
            Ok(Accepted::Refused {
                consumed,
                reason,
                by,
            })
        };
        if message.tag == REFUSED {
            self.stage = Stage::Done;
            return refused(message.reason()?, By::Peer);
        }
        let mut fields = message.fields();
        let Some(peer) = &self.peer else {
            let greeting = match fields.greeting(&self.identity)? {
                Ok(greeting) => greeting,
                Err(reason) => {
                    self.refuse(reason, out);
                    return refused(reason, By::Us);
                }
            };
            fields.end()?;
            self.said.extend(message.bytes);
            self.answer(greeting.link, out);
            self.peer = Some(greeting);
            self.stage = Stage::Proof;
            return Ok(Accepted::Answered { consumed });
        };
        let peer = peer.clone();
        let resumes = fields.truth()?;
        let received = fields.counts()?;
        let claim = fields.take(PROOF_BYTES)?;
        fields.end()?;
        self.said.extend(&message.bytes[..consumed - PROOF_BYTES]);
        if proof(&self.identity, DIAL_LABEL, &self.said)
            .verify_slice(claim)
            .is_err()
        {
            self.refuse(Reason::Secret, out);
            return refused(Reason::Secret, By::Us);
        }
        self.stage = Stage::Deciding;
        Ok(Accepted::Proved {
            consumed,
            peer,
            received,
            resumes,
        })
    }

    fn answer(&mut self, link: u64, out: &mut Vec<u8>) {
        let start = self.said.len();
        let said = &mut self.said;
        let mut greeting = Vec::new();
        write_greeting(&self.identity, link, &self.nonce, &mut greeting);
        said.extend(((1 + greeting.len() + PROOF_BYTES) as u16).to_be_bytes());
        said.push(ANSWER);
        said.extend(greeting);
        let proof = proof(&self.identity, ACCEPT_LABEL, said)
            .finalize()
            .into_bytes();
        said.extend(proof);
        out.extend(&said[start..]);
    }
}

/// Appends a message: its length, its tag and its fields.
fn say(out: &mut Vec<u8>, tag: u8, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0, tag]);
    fields(out);
    let length = (out.len() - start - LENGTH_BYTES) as u16;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn write_greeting(identity: &Identity, link: u64, nonce: &Nonce, out: &mut Vec<u8>) {
    assert!(identity.is_valid(), "{identity:?}");
    out.extend(MAGIC);
    out.extend(VERSION.to_be_bytes());
    for name in [&identity.cluster, &identity.node] {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
    }
    out.extend(identity.generation.to_be_bytes());
    out.push(identity.roles.bits());
    out.extend(identity.schema.to_be_bytes());
    out.extend(link.to_be_bytes());
    out.extend(nonce);
}

fn write_counts(received: [u32; LANES], out: &mut Vec<u8>) {
    out.extend(received.iter().flat_map(|count| count.to_be_bytes()));
}

fn proof(identity: &Identity, label: &[u8], said: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(&identity.secret)
        .expect("a key of any length")
        .chain_update(label)
        .chain_update(said)
}

fn is_name(name: &str) -> bool {
    (1..=MOST_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

/// A whole message.
struct Message<'a> {
    /// All of it.
    bytes: &'a [u8],
    tag: u8,
}

impl<'a> Message<'a> {
    /// The one that `due` says, or REFUSED. `Err` in `Ok`: so many bytes are needed. What is no link's first message is
    /// known by its first bytes.
    fn read(bytes: &'a [u8], due: u8) -> Result<Result<Message<'a>, usize>, WireError> {
        let Some(&[high, low]) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(Err(LENGTH_BYTES));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        match length {
            0 => return Err(WireError::BadHandshake),
            1..=MOST_MESSAGE_BYTES => {}
            _ => return Err(WireError::TooLong),
        }
        let Some(&tag) = bytes.get(LENGTH_BYTES) else {
            return Ok(Err(LENGTH_BYTES + length));
        };
        if tag != due && tag != REFUSED {
            return Err(WireError::BadHandshake);
        }
        match bytes.get(..LENGTH_BYTES + length) {
            Some(bytes) => Ok(Ok(Message { bytes, tag })),
            None => Ok(Err(LENGTH_BYTES + length)),
        }
    }

    fn fields(&self) -> Fields<'a> {
        Fields {
            rest: &self.bytes[LENGTH_BYTES + 1..],
        }
    }

    fn reason(&self) -> Result<Reason, WireError> {
        let mut fields = self.fields();
        let code = fields.byte()?;
        fields.end()?;
        Reason::ALL
            .into_iter()
            .find(|reason| *reason as u8 == code)
            .ok_or(WireError::BadHandshake)
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Up to the proof. `Err` in `Ok`: the reason why it is to be refused.
    fn greeting(&mut self, own: &Identity) -> Result<Result<PeerHello, Reason>, WireError> {
        if self.take(MAGIC.len())? != MAGIC {
            return Err(WireError::BadMagic);
        }
        // What another version writes behind it may be anything.
        if self.array::<2>()? != VERSION.to_be_bytes() {
            return Ok(Err(Reason::Version));
        }
        let cluster = self.name()?;
        let node = self.name()?.to_owned();
        let generation = u64::from_be_bytes(self.array()?);
        let roles = self.byte()?;
        let schema = u64::from_be_bytes(self.array()?);
        let link = u64::from_be_bytes(self.array()?);
        self.take(NONCE_BYTES)?;
        if cluster != own.cluster {
            return Ok(Err(Reason::Cluster));
        }
        Ok(Ok(PeerHello {
            node,
            generation,
            roles: Roles::from_bits(roles).ok_or(WireError::BadHandshake)?,
            schema,
            link,
        }))
    }

    fn name(&mut self) -> Result<&'a str, WireError> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(name) if is_name(name) => Ok(name),
            _ => Err(WireError::BadHandshake),
        }
    }

    fn counts(&mut self) -> Result<[u32; LANES], WireError> {
        let mut counts = [0; LANES];
        for count in &mut counts {
            *count = u32::from_be_bytes(self.array()?);
        }
        Ok(counts)
    }

    fn truth(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::BadHandshake),
        }
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(WireError::BadHandshake)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(WireError::BadHandshake)?;
        self.rest = rest;
        Ok(taken)
    }

    fn end(&self) -> Result<(), WireError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(WireError::BadHandshake),
        }
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
