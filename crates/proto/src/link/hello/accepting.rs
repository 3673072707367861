//! The side that is connected to.

use super::message::{
    proof, refusal, say, say_proved, write_counts, write_greeting, Message, ACCEPT_LABEL, ANSWER,
    DIAL_LABEL, HELLO, PROOF, PROOF_BYTES, REFUSED, WELCOME,
};
use super::{By, Identity, Nonce, PeerHello, Reason, Stage};
use crate::error::WireError;
use crate::link::LANES;
use hmac::Mac;
use std::sync::Arc;

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
        refusal(reason, out);
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
            let greeting = match fields.greeting(&self.identity, 0)? {
                Ok(greeting) => greeting,
                Err(reason) => {
                    self.refuse(reason, out);
                    return refused(reason, By::Us);
                }
            };
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
        let (identity, nonce) = (&self.identity, &self.nonce);
        say_proved(&mut self.said, ANSWER, identity, ACCEPT_LABEL, |out| {
            write_greeting(identity, link, nonce, out);
        });
        out.extend(&self.said[start..]);
    }
}
