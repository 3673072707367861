//! firefly (3): the protocol of 9miao's G-Firefly (gfirefly/netconnect: a struct of five bytes and
//! three big-endian u32). A command number stands where others have a route.

use super::options::{number, Pairs};
use super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Route};
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
                flags: Flags::default(),
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
        if matches!(
            message.kind,
            Outgoing::Kick | Outgoing::Redirect | Outgoing::Error { .. }
        ) {
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

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Protocol, Route};
    use super::magic;
    use crate::error::WireError;

    const FRAME: &[u8; 19] = b"NWOK\x01\0\0\0\x07\0\0\0\x06\0\0\0\x65hi";

    fn protocol(limit: usize) -> Protocol {
        let pairs = [("magic", "4e574F4b01"), ("version", "7")];
        Protocol::from_options("firefly", &pairs, limit).unwrap()
    }

    fn decode(input: &[u8]) -> Result<Decoded, WireError> {
        let protocol = protocol(2);
        protocol.decode(&mut protocol.peer(), input, &mut Vec::new())
    }

    #[test]
    fn a_frame_is_a_message_under_its_command() {
        assert_eq!(
            decode(FRAME),
            Ok(Decoded::Packet {
                consumed: 19,
                packet: Packet {
                    kind: Kind::Message,
                    id: 0,
                    route: Route::Number(101),
                    body: 17..19,
                    flags: Flags::default(),
                },
            })
        );
    }

    #[test]
    fn it_asks_for_what_is_missing() {
        for length in 0..19 {
            let need = if length < 17 { 17 } else { 19 };
            let decoded = decode(&FRAME[..length]);
            assert_eq!(decoded, Ok(Decoded::Incomplete { need }), "{length}");
        }
    }

    #[test]
    fn a_wrong_byte_is_refused_when_it_has_come() {
        for at in 0..9 {
            let error = match at {
                0..=4 => WireError::BadMagic,
                _ => WireError::BadVersion,
            };
            let mut frame = *FRAME;
            frame[at] ^= 0x80;
            for length in at + 1..=19 {
                assert_eq!(decode(&frame[..length]), Err(error), "{at} of {length}");
            }
        }
    }

    #[test]
    fn lengths() {
        let with_length = |length: u32| {
            let mut frame = *FRAME;
            frame[9..13].copy_from_slice(&length.to_be_bytes());
            decode(&frame)
        };
        assert_eq!(with_length(3), Err(WireError::BadFrame));
        assert!(matches!(
            with_length(4),
            Ok(Decoded::Packet { consumed: 17, .. })
        ));
        assert_eq!(with_length(7), Err(WireError::TooLong));
        assert_eq!(with_length(u32::MAX), Err(WireError::TooLong));
    }

    #[test]
    fn what_is_answered_has_the_same_head() {
        let message = Message {
            kind: Outgoing::Response { id: 0 },
            name: "ignored",
            number: 101,
            index: 0,
            body: b"hi",
            flags: Flags::default(),
        };
        let mut out = Vec::new();
        protocol(2).encode(&message, &mut out).unwrap();
        assert_eq!(out, FRAME);
    }

    #[test]
    fn magic_is_ten_hexadecimal_digits() {
        assert_eq!(magic("00fFa91201"), Some([0, 0xff, 0xa9, 0x12, 1]));
        for wrong in [
            "",
            "00",
            "00000000000",
            "0x00000000",
            "-000000000",
            "00000000é",
        ] {
            assert_eq!(magic(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_it_is() {
        let protocol = protocol(2);
        assert_eq!(protocol.name(), "firefly");
        assert_eq!(protocol.format(), Format::Msgpack);
        assert!(!protocol.has_handshake() && !protocol.has_errors());
        assert_eq!(protocol.heartbeat(), None);
        assert_eq!(protocol.heartbeat_frame(), b"");
    }
}
