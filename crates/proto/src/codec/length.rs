//! length (2): a length field, then the payload. No routes, no handshake, nothing else.

use super::options::Pairs;
use super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Route};
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
                flags: Flags::default(),
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
        if matches!(
            message.kind,
            Outgoing::Kick | Outgoing::Redirect | Outgoing::Error { .. }
        ) {
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

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Protocol, Route};
    use crate::error::{EncodeError, WireError};

    fn protocol(name: &str, pairs: &[(&str, &str)], limit: usize) -> Protocol {
        Protocol::from_options(name, pairs, limit).unwrap()
    }

    fn decode(protocol: &Protocol, input: &[u8]) -> Result<Decoded, WireError> {
        protocol.decode(&mut protocol.peer(), input, &mut Vec::new())
    }

    #[test]
    fn a_frame_is_a_message_without_a_route() {
        let protocol = protocol("length2", &[], 100);
        assert_eq!(
            decode(&protocol, b"\0\x02ab\0"),
            Ok(Decoded::Packet {
                consumed: 4,
                packet: Packet {
                    kind: Kind::Message,
                    id: 0,
                    route: Route::None,
                    body: 2..4,
                    flags: Flags::default(),
                },
            })
        );
    }

    #[test]
    fn it_asks_for_what_is_missing() {
        for (name, head) in [("length2", 2), ("length4", 4), ("length", 4)] {
            let protocol = protocol(name, &[], 100);
            for length in 0..head {
                let input = &[0; 4][..length];
                let need = Decoded::Incomplete { need: head };
                assert_eq!(decode(&protocol, input), Ok(need));
            }
        }
        let protocol = protocol("length2", &[], 100);
        assert_eq!(
            decode(&protocol, b"\0\x05hell"),
            Ok(Decoded::Incomplete { need: 7 })
        );
    }

    #[test]
    fn the_limit_is_of_the_payload_in_every_form() {
        for (size, counted) in [(1, 0), (1, 1), (2, 0), (2, 2), (4, 0), (4, 4)] {
            let pairs = [
                ("size", ["", "1", "2", "", "4"][size]),
                ("order", "little"),
                ("counts_itself", if counted > 0 { "1" } else { "0" }),
            ];
            let protocol = protocol("length", &pairs, 9);
            let mut input = [0; 32];
            input[0] = 9 + counted as u8;
            assert!(matches!(
                decode(&protocol, &input),
                Ok(Decoded::Packet { .. })
            ));
            input[0] += 1;
            assert_eq!(decode(&protocol, &input[..size]), Err(WireError::TooLong));
        }
    }

    #[test]
    fn an_endless_limit_overflows_nothing() {
        let protocol = protocol("length4", &[], usize::MAX);
        assert_eq!(decode(&protocol, &[0xff; 8]), Err(WireError::TooLong));
        assert_eq!(
            decode(&protocol, &[0x7f, 0xff, 0xff, 0xff]),
            Ok(Decoded::Incomplete { need: 0x8000_0003 })
        );
    }

    #[test]
    fn an_error_is_kept() {
        let protocol = protocol("length2", &[], 3);
        let mut peer = protocol.peer();
        let mut reply = Vec::new();
        for input in [&b"\0\x04"[..], b"\0\x01a", b""] {
            let decoded = protocol.decode(&mut peer, input, &mut reply);
            assert_eq!(decoded, Err(WireError::TooLong));
        }
        assert_eq!(reply, b"");
    }

    #[test]
    fn what_the_field_cannot_count_is_an_error_of_the_sender() {
        let pairs = [("size", "1"), ("counts_itself", "1")];
        let protocol = protocol("length", &pairs, 9);
        let body = [7; 255];
        let mut message = Message {
            kind: Outgoing::Push,
            name: "ignored",
            number: 1,
            index: 0,
            body: &body,
            flags: Flags::default(),
        };
        let mut out = b"before".to_vec();
        let error = EncodeError::TooLong {
            length: 255,
            limit: 254,
        };
        assert_eq!(protocol.encode(&message, &mut out), Err(error));
        assert_eq!(out, b"before");
        message.body = &body[..254];
        assert_eq!(protocol.encode(&message, &mut out), Ok(()));
        assert_eq!((&out[..8], out.len()), (&b"before\xff\x07"[..], 6 + 255));
    }

    #[test]
    fn what_it_is() {
        let protocol = protocol("length4", &[("format", "json")], 9);
        assert_eq!(protocol.name(), "length");
        assert_eq!(protocol.format(), Format::Json);
        assert!(!protocol.has_handshake() && !protocol.has_errors());
        assert_eq!(protocol.heartbeat(), None);
        assert_eq!(protocol.heartbeat_frame(), b"");
    }
}
