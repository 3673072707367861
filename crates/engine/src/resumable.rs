//! What a session of the photinus protocol keeps, so that it can go on after its connection was cut
//! (docs/protocol.md, 5.11).
//!
//! A session is *attached* while it has a connection, and *detached* from its cut until it is resumed, or
//! its window is over. Invariants:
//! 1. Every counted message is kept at the moment it is handed to the session, whether there is a connection
//!    or not; what waits for a blocked connection is kept as well, and is dropped at the cut.
//! 2. What was received is counted by the connection, and handed over at the cut: half a frame never counts.
//! 3. Deadlines and late closes carry the number of the cut or of the connection that they are about, so an old
//!    one touches nothing.

use crate::connection::By;
use crate::handle::Handle;
use crate::outbox::{Marks, What};
use photinus_proto::codec::photinus::TOKEN_BYTES;
use photinus_proto::resume::{Secret, Sent, Tokens, SECRET_BYTES};
use rustls::crypto::{aws_lc_rs, SecureRandom};
use std::sync::LazyLock;

pub struct Resumable {
    pub sent: Sent<Kept>,
    /// Counted frames received on the connections before this one.
    pub received: u32,
    pub tokens: Tokens,
    /// How often it was cut.
    pub cuts: u32,
    /// Whose doing the last cut was, and its reason: the session's end, if it is not resumed.
    pub cut: Option<(By, Box<str>)>,
}

/// What stands beside a body that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub what: What,
    pub marks: Marks,
}

impl Resumable {
    pub fn new(secret: Secret) -> Resumable {
        Resumable {
            sent: Sent::default(),
            received: 0,
            tokens: Tokens::new(secret),
            cuts: 0,
            cut: None,
        }
    }
}

static RANDOM: LazyLock<&dyn SecureRandom> =
    LazyLock::new(|| aws_lc_rs::default_provider().secure_random);

/// A new one; `None`: the system has no random numbers, and then nothing can be resumed.
pub fn secret() -> Option<Secret> {
    let mut secret = Secret::default();
    RANDOM.fill(&mut secret).is_ok().then_some(secret)
}

/// A token is the session's handle and a secret.
pub fn token(handle: Handle, secret: &Secret) -> [u8; TOKEN_BYTES] {
    let mut token = [0; TOKEN_BYTES];
    token[..4].copy_from_slice(&handle.0.to_be_bytes());
    token[4..].copy_from_slice(secret);
    token
}

pub fn read_token(token: &[u8; TOKEN_BYTES]) -> (Handle, Secret) {
    let (mut handle, mut secret) = ([0; 4], [0; SECRET_BYTES]);
    handle.copy_from_slice(&token[..4]);
    secret.copy_from_slice(&token[4..]);
    (Handle(u32::from_be_bytes(handle)), secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_handle_and_a_secret() {
        let handle = Handle::new(3, 77, 9);
        let secret = secret().unwrap();
        assert_eq!(read_token(&token(handle, &secret)), (handle, secret));
        assert_ne!(secret, super::secret().unwrap());
    }
}
