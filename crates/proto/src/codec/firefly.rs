//! firefly (3): the protocol of 9miao's G-Firefly (gfirefly/netconnect: a struct of five bytes and
//! three big-endian u32). A command number stands where others have a route.

use super::options::{number, Pairs};
use super::{Decoded, Format, Kind, Message, Outgoing, Packet, Route};
use crate::error::{EncodeError, OptionError, WireError};

/// Magic and protocol version (5), server version (4), length (4), command (4).
const HEAD: usize = 17;
/// The length field counts the command as well.
const COMMAND: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Four magic bytes and the protocol's version byte, then the server's version: what every
    /// frame begins with, in both directions.
    prefix: [u8; 9],
    limit: usize,
    pub(super) format: Format,
}

impl Options {
    pub(super) fn from_pairs(pairs: &mut Pairs<'_>, limit: usize) -> Result<Options, OptionError> {
        let magic = pairs.take(
            "magic",
            [0; 5],
            "ten hexadecimal digits (four magic bytes, then the protocol's version byte)",
            magic,
        )?;
        let version = pairs.take("version", 0, "a number from 0 to 4294967295", number)?;
        let mut prefix = [0; 9];
        prefix[..5].copy_from_slice(&magic);
        prefix[5..].copy_from_slice(&version.to_be_bytes());
        Ok(Options {
            prefix,
            limit,
            format: pairs.format(Format::Msgpack)?,
        })
    }

    #[inline]
    pub(super) fn decode(&self, input: &[u8]) -> Result<Decoded, WireError> {
        let Some(head) = input.first_chunk::<HEAD>() else {
            return self.decode_partial(input);
        };
        if head[..9] != self.prefix {
            return Err(self.mismatch(input));
        }
        let field = u32::from_be_bytes([head[9], head[10], head[11], head[12]]) as usize;
        let Some(length) = field.checked_sub(COMMAND) else {
            return Err(WireError::BadFrame);
        };
        if length > self.limit {
            return Err(WireError::TooLong);
        }
        let end = HEAD + length;
        if input.len() < end {
            return Ok(Decoded::Incomplete { need: end });
        }
        let command = u32::from_be_bytes([head[13], head[14], head[15], head[16]]);
        Ok(Decoded::Packet {
            consumed: end,
            packet: Packet {
                kind: Kind::Message,
                id: 0,
                route: Route::Number(command),
                body: HEAD..end,
            },
        })
    }

    /// Garbage is refused at its first byte: it may never fill a head.
    #[cold]
    fn decode_partial(&self, input: &[u8]) -> Result<Decoded, WireError> {
        let seen = input.len().min(self.prefix.len());
        if input[..seen] != self.prefix[..seen] {
            return Err(self.mismatch(input));
        }
        Ok(Decoded::Incomplete { need: HEAD })
    }

    #[cold]
    fn mismatch(&self, input: &[u8]) -> WireError {
        let seen = input.len().min(5);
        if input[..seen] != self.prefix[..seen] {
            WireError::BadMagic
        } else {
            WireError::BadVersion
        }
    }

    #[inline]
    pub(super) fn encode(
        &self,
        message: &Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if matches!(message.kind, Outgoing::Kick | Outgoing::Error { .. }) {
            return Ok(());
        }
        let limit = u32::MAX as usize - COMMAND;
        if message.body.len() > limit {
            return Err(EncodeError::TooLong {
                length: message.body.len(),
                limit,
            });
        }
        let field = (message.body.len() + COMMAND) as u32;
        out.reserve(HEAD + message.body.len());
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&field.to_be_bytes());
        out.extend_from_slice(&message.number.to_be_bytes());
        out.extend_from_slice(message.body);
        Ok(())
    }
}

fn magic(value: &str) -> Option<[u8; 5]> {
    let digits: &[u8; 10] = value.as_bytes().try_into().ok()?;
    let mut bytes = [0; 5];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(bytes)
}
