//! length (2): a length field, then the payload. No routes, no handshake, nothing else.

use super::options::Pairs;
use super::{Decoded, Format, Kind, Message, Outgoing, Packet, Route};
use crate::error::{EncodeError, OptionError, WireError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the length field: 1, 2 or 4.
    size: usize,
    little: bool,
    /// What the field says beyond the payload: its own size, or nothing.
    counted: usize,
    limit: usize,
    pub(super) format: Format,
}

impl Options {
    pub(super) fn from_pairs(pairs: &mut Pairs<'_>, limit: usize) -> Result<Options, OptionError> {
        let size = pairs.take("size", 4, "1, 2 or 4", |value| match value {
            "1" => Some(1),
            "2" => Some(2),
            "4" => Some(4),
            _ => None,
        })?;
        let little = pairs.take("order", false, "big or little", |value| match value {
            "big" => Some(false),
            "little" => Some(true),
            _ => None,
        })?;
        let counted = pairs.take("counts_itself", 0, "0 or 1", |value| match value {
            "0" => Some(0),
            "1" => Some(size),
            _ => None,
        })?;
        Ok(Options {
            size,
            little,
            counted,
            limit,
            format: pairs.format(Format::Msgpack)?,
        })
    }

    /// length2 and length4: big-endian, and not counting themselves.
    pub(super) fn preset(
        size: usize,
        pairs: &mut Pairs<'_>,
        limit: usize,
    ) -> Result<Options, OptionError> {
        Ok(Options {
            size,
            little: false,
            counted: 0,
            limit,
            format: pairs.format(Format::Msgpack)?,
        })
    }

    #[inline]
    pub(super) fn decode(&self, input: &[u8]) -> Result<Decoded, WireError> {
        let Some(field) = self.field(input) else {
            return Ok(Decoded::Incomplete { need: self.size });
        };
        let Some(length) = field.checked_sub(self.counted) else {
            return Err(WireError::BadFrame);
        };
        if length > self.limit {
            return Err(WireError::TooLong);
        }
        let end = self.size + length;
        if input.len() < end {
            return Ok(Decoded::Incomplete { need: end });
        }
        Ok(Decoded::Packet {
            consumed: end,
            packet: Packet {
                kind: Kind::Message,
                id: 0,
                route: Route::None,
                body: self.size..end,
            },
        })
    }

    #[inline]
    fn field(&self, input: &[u8]) -> Option<usize> {
        Some(match (self.size, self.little) {
            (2, false) => u16::from_be_bytes(*input.first_chunk()?) as usize,
            (4, false) => u32::from_be_bytes(*input.first_chunk()?) as usize,
            (2, true) => u16::from_le_bytes(*input.first_chunk()?) as usize,
            (4, true) => u32::from_le_bytes(*input.first_chunk()?) as usize,
            _ => *input.first()? as usize,
        })
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
        let limit = (u32::MAX >> (32 - 8 * self.size)) as usize - self.counted;
        if message.body.len() > limit {
            return Err(EncodeError::TooLong {
                length: message.body.len(),
                limit,
            });
        }
        let field = (message.body.len() + self.counted) as u32;
        out.reserve(self.size + message.body.len());
        if self.little {
            out.extend_from_slice(&field.to_le_bytes()[..self.size]);
        } else {
            out.extend_from_slice(&field.to_be_bytes()[4 - self.size..]);
        }
        out.extend_from_slice(message.body);
        Ok(())
    }
}
