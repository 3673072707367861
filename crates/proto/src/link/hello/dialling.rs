//! The side that connects.

use super::message::{
    proof, refusal, say, say_proved, write_counts, write_greeting, Message, ACCEPT_LABEL, ANSWER,
    DIAL_LABEL, HELLO, PROOF, PROOF_BYTES, REFUSED, WELCOME,
};
use super::{By, Identity, Nonce, PeerHello, Reason, Stage};
use crate::error::WireError;
use crate::link::LANES;
use hmac::Mac;
use std::sync::Arc;

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
        say_proved(&mut self.said, PROOF, &self.identity, DIAL_LABEL, |out| {
            out.push(u8::from(resumes));
            write_counts(received, out);
        });
        out.extend(&self.said[start..]);
    }

    /// The acceptor is not wanted; the connection is to be closed when this was sent.
    pub fn refuse(&mut self, reason: Reason, out: &mut Vec<u8>) {
        self.stage = Stage::Done;
        refusal(reason, out);
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
        let greeting = match fields.greeting(&self.identity, PROOF_BYTES)? {
            Ok(greeting) => greeting,
            Err(reason) => {
                self.refuse(reason, out);
                return refused(reason, By::Us);
            }
        };
        let claim = fields.take(PROOF_BYTES)?;
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
