//! plain (6.6): over WebSocket only, a message is a packet with nothing inside it. Between the codec
//! and the layer below a message has a head, which never is on the wire: its kind, and a big-endian
//! u32 that counts the payload.

use super::options::Pairs;
use super::{Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Route};
use crate::error::{EncodeError, OptionError, WireError};
use crate::websocket::{self, MESSAGE_HEAD};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    limit: usize,
    pub(super) format: Format,
}

impl Options {
    pub(super) fn from_pairs(pairs: &mut Pairs<'_>, limit: usize) -> Result<Options, OptionError> {
        Ok(Options {
            limit,
            format: pairs.format(Format::Msgpack)?,
        })
    }

    #[inline]
    pub(super) fn decode(&self, input: &[u8]) -> Result<Decoded, WireError> {
        let Some(&[_, length @ ..]) = input.first_chunk::<MESSAGE_HEAD>() else {
            return Ok(Decoded::Incomplete { need: MESSAGE_HEAD });
        };
        let length = u32::from_be_bytes(length) as usize;
        if length > self.limit {
            return Err(WireError::TooLong);
        }
        let end = MESSAGE_HEAD + length;
        if input.len() < end {
            return Ok(Decoded::Incomplete { need: end });
        }
        Ok(Decoded::Packet {
            consumed: end,
            packet: Packet {
                kind: Kind::Message,
                id: 0,
                route: Route::None,
                body: MESSAGE_HEAD..end,
                flags: Flags::default(),
            },
        })
    }

    /// The kind is what a client gets that has sent nothing yet; the layer below knows what came.
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
        let Ok(length) = u32::try_from(message.body.len()) else {
            return Err(EncodeError::TooLong {
                length: message.body.len(),
                limit: u32::MAX as usize,
            });
        };
        let kind = match self.format {
            Format::Json => websocket::Kind::Text,
            Format::Msgpack => websocket::Kind::Binary,
        };
        out.reserve(MESSAGE_HEAD + message.body.len());
        out.push(kind as u8);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(message.body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    fn protocol(format: &str) -> Protocol {
        Protocol::from_options("plain", &[("format", format)], 3).unwrap()
    }

    #[test]
    fn a_message_is_a_packet() {
        let protocol = protocol("json");
        let mut peer = protocol.peer();
        let mut decode = |input: &[u8]| protocol.decode(&mut peer, input, &mut Vec::new());
        let input = b"\x01\0\0\0\x02hi\x02\0\0\0\0";
        let packet = |body: std::ops::Range<usize>| Decoded::Packet {
            consumed: body.end,
            packet: Packet {
                kind: Kind::Message,
                id: 0,
                route: Route::None,
                body,
                flags: Flags::default(),
            },
        };
        assert_eq!(decode(&input[..4]), Ok(Decoded::Incomplete { need: 5 }));
        assert_eq!(decode(&input[..6]), Ok(Decoded::Incomplete { need: 7 }));
        assert_eq!(decode(input), Ok(packet(5..7)));
        assert_eq!(decode(&input[7..]), Ok(packet(5..5)));
        assert_eq!(decode(b"\x02\0\0\0\x04"), Err(WireError::TooLong));
    }

    #[test]
    fn the_format_says_what_comes_first() {
        for (format, kind) in [("json", 1), ("msgpack", 2)] {
            let protocol = protocol(format);
            let mut out = Vec::new();
            for kind in [
                Outgoing::Push,
                Outgoing::Response { id: 0 },
                Outgoing::Error { id: 0 },
                Outgoing::Kick,
            ] {
                let message = Message {
                    kind,
                    name: "ignored",
                    number: 1,
                    index: 0,
                    body: b"hi",
                    flags: Flags::default(),
                };
                assert_eq!(protocol.encode(&message, &mut out), Ok(()));
            }
            assert_eq!(out, [kind, 0, 0, 0, 2, b'h', b'i'].repeat(2));
        }
    }

    #[test]
    fn what_it_is() {
        let protocol = Protocol::from_options("plain", &[], 9).unwrap();
        assert_eq!(
            (protocol.name(), protocol.format()),
            ("plain", Format::Msgpack)
        );
        assert!(protocol.needs_websocket());
        assert!(!protocol.has_handshake() && !protocol.has_errors());
        assert_eq!(
            (protocol.heartbeat(), protocol.heartbeat_frame()),
            (None, &b""[..])
        );
    }
}
