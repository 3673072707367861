//! The messages of a hello as bytes: a length of two, a tag, its fields; numbers are big-endian.

use super::{
    Identity, Nonce, PeerHello, Reason, Roles, MAGIC, MOST_NAME_BYTES, NONCE_BYTES, VERSION,
};
use crate::error::WireError;
use crate::link::LANES;
use hmac::{Hmac, Mac};
use sha2::Sha256;

pub(super) const PROOF_BYTES: usize = 32;

/// Of one message after its length: more than twice the longest of this version, so that a later one's hello is still
/// understood to be one, and refused for its version.
pub const MOST_MESSAGE_BYTES: usize = 512;

const LENGTH_BYTES: usize = 2;

pub(super) const HELLO: u8 = 1;
pub(super) const ANSWER: u8 = 2;
pub(super) const PROOF: u8 = 3;
pub(super) const WELCOME: u8 = 4;
pub(super) const REFUSED: u8 = 5;

pub(super) const DIAL_LABEL: &[u8] = b"photinus-link-dial";
pub(super) const ACCEPT_LABEL: &[u8] = b"photinus-link-accept";

/// Appends a message: its length, its tag and its fields.
pub(super) fn say(out: &mut Vec<u8>, tag: u8, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0, tag]);
    fields(out);
    let length = (out.len() - start - LENGTH_BYTES) as u16;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// The same with a proof behind its fields, of all that `said` holds then. The length counts the proof, and is proved.
pub(super) fn say_proved(
    said: &mut Vec<u8>,
    tag: u8,
    identity: &Identity,
    label: &[u8],
    fields: impl FnOnce(&mut Vec<u8>),
) {
    say(said, tag, |out| {
        fields(out);
        out.extend([0; PROOF_BYTES]);
    });
    said.truncate(said.len() - PROOF_BYTES);
    let proof = proof(identity, label, said).finalize().into_bytes();
    said.extend(proof);
}

pub(super) fn refusal(reason: Reason, out: &mut Vec<u8>) {
    say(out, REFUSED, |out| out.push(reason as u8));
}

pub(super) fn write_greeting(identity: &Identity, link: u64, nonce: &Nonce, out: &mut Vec<u8>) {
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

pub(super) fn write_counts(received: [u32; LANES], out: &mut Vec<u8>) {
    out.extend(received.iter().flat_map(|count| count.to_be_bytes()));
}

pub(super) fn proof(identity: &Identity, label: &[u8], said: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(&identity.secret)
        .expect("a key of any length")
        .chain_update(label)
        .chain_update(said)
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=MOST_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

/// A whole message.
pub(super) struct Message<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    pub tag: u8,
}

impl<'a> Message<'a> {
    /// The one that `due` says, or REFUSED. `Err` in `Ok`: so many bytes are needed. What is no link's first message is
    /// known by its first bytes.
    pub fn read(bytes: &'a [u8], due: u8) -> Result<Result<Message<'a>, usize>, WireError> {
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

    pub fn fields(&self) -> Fields<'a> {
        Fields {
            rest: &self.bytes[LENGTH_BYTES + 1..],
        }
    }

    pub fn reason(&self) -> Result<Reason, WireError> {
        let mut fields = self.fields();
        let code = fields.byte()?;
        fields.end()?;
        Reason::ALL
            .into_iter()
            .find(|reason| *reason as u8 == code)
            .ok_or(WireError::BadHandshake)
    }
}

pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// All but what stands `behind` it, in bytes. `Err` in `Ok`: the reason why it is to be refused.
    pub fn greeting(
        &mut self,
        own: &Identity,
        behind: usize,
    ) -> Result<Result<PeerHello, Reason>, WireError> {
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
        let roles = Roles::from_bits(self.byte()?).ok_or(WireError::BadHandshake)?;
        let schema = u64::from_be_bytes(self.array()?);
        let link = u64::from_be_bytes(self.array()?);
        self.take(NONCE_BYTES)?;
        if self.rest.len() != behind {
            return Err(WireError::BadHandshake);
        }
        if cluster != own.cluster {
            return Ok(Err(Reason::Cluster));
        }
        Ok(Ok(PeerHello {
            node,
            generation,
            roles,
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

    pub fn counts(&mut self) -> Result<[u32; LANES], WireError> {
        let mut counts = [0; LANES];
        for count in &mut counts {
            *count = u32::from_be_bytes(self.array()?);
        }
        Ok(counts)
    }

    pub fn truth(&mut self) -> Result<bool, WireError> {
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

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(WireError::BadHandshake)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn end(&self) -> Result<(), WireError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(WireError::BadHandshake),
        }
    }
}
