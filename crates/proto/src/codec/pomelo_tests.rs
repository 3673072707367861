//! In a file of their own: pomelo.rs is long enough without them.

use super::super::{
    Decoded, Flags, Format, Kind, Message, Outgoing, Packet, Peer, Protocol, Route,
};
use super::{encode_answer, HANDSHAKE_LIMIT, HEAD, HEARTBEAT, REFUSAL, RESPONSE};
use crate::compress::Algorithm;
use crate::error::{EncodeError, WireError};

const HELLO: &[u8] = b"\x01\0\0\x02{}";
const ACK: &[u8] = b"\x02\0\0\0";
const NOTIFY: &[u8] = b"\x04\0\0\x05\x02\x01ahi";

struct Connection {
    protocol: Protocol,
    peer: Peer,
    reply: Vec<u8>,
}

impl Connection {
    fn new(limit: usize) -> Connection {
        let protocol = Protocol::from_options("pomelo", &[], limit).unwrap();
        Connection {
            peer: protocol.peer(),
            protocol,
            reply: Vec::new(),
        }
    }

    fn open(limit: usize) -> Connection {
        let mut connection = Connection::new(limit);
        connection.decode(HELLO).unwrap();
        connection.decode(ACK).unwrap();
        connection.reply.clear();
        connection
    }

    fn decode(&mut self, input: &[u8]) -> Result<Decoded, WireError> {
        self.protocol.decode(&mut self.peer, input, &mut self.reply)
    }
}

/// A data package with this body, on an open connection.
fn data(body: &[u8]) -> Result<Decoded, WireError> {
    let frame = [&[4, 0, 0, body.len() as u8], body].concat();
    Connection::open(5).decode(&frame)
}

#[test]
fn handshake_acknowledgement_and_data() {
    let mut connection = Connection::new(100);
    let consumed = HELLO.len();
    assert_eq!(connection.decode(HELLO), Ok(Decoded::Control { consumed }));
    let welcome = br#"{"code":200,"sys":{"heartbeat":30,"serializer":"json"}}"#;
    assert_eq!(&connection.reply[..4], [1, 0, 0, welcome.len() as u8]);
    assert_eq!(&connection.reply[4..], welcome);
    assert_eq!(connection.decode(ACK), Ok(Decoded::Opened { consumed: 4 }));
    assert_eq!(
        connection.decode(NOTIFY),
        Ok(Decoded::Packet {
            consumed: 9,
            packet: Packet {
                kind: Kind::Notify,
                id: 0,
                route: Route::Name(6..7),
                body: 7..9,
                flags: Flags::default(),
            },
        })
    );
}

#[test]
fn what_comes_too_early_is_refused() {
    for early in [ACK, NOTIFY, &HEARTBEAT] {
        let mut connection = Connection::new(100);
        assert_eq!(connection.decode(early), Err(WireError::BadHandshake));
        assert_eq!(connection.reply, REFUSAL);
    }
    let mut connection = Connection::new(100);
    connection.decode(HELLO).unwrap();
    connection.reply.clear();
    assert_eq!(connection.decode(NOTIFY), Err(WireError::BadHandshake));
    assert_eq!(connection.reply, b"");
}

#[test]
fn a_refusal_is_one_package_and_is_said_once() {
    let mut connection = Connection::new(100);
    for input in [&b"\x01\0\0\x02[]"[..], HELLO, b""] {
        assert_eq!(connection.decode(input), Err(WireError::BadHandshake));
    }
    assert_eq!(connection.reply, REFUSAL);
    assert_eq!(REFUSAL[3] as usize, REFUSAL.len() - 4);
}

#[test]
fn a_long_handshake_is_refused_by_its_head() {
    let head = |length: usize| [&[1], &(length as u32).to_be_bytes()[1..]].concat();
    assert_eq!(
        Connection::new(100).decode(&head(HANDSHAKE_LIMIT)),
        Ok(Decoded::Incomplete {
            need: 4 + HANDSHAKE_LIMIT
        })
    );
    let mut connection = Connection::new(100);
    let decoded = connection.decode(&head(HANDSHAKE_LIMIT + 1));
    assert_eq!(decoded, Err(WireError::TooLong));
    assert_eq!(connection.reply, REFUSAL);
}

#[test]
fn a_wrong_type_is_refused_at_its_first_byte() {
    for kind in [0, 5, 6, b'G', 255] {
        assert_eq!(Connection::new(9).decode(&[kind]), Err(WireError::BadFrame));
        assert_eq!(
            Connection::open(9).decode(&[kind]),
            Err(WireError::BadFrame)
        );
    }
}

#[test]
fn it_asks_for_what_is_missing() {
    let mut connection = Connection::open(100);
    for length in 0..NOTIFY.len() {
        let need = if length < 4 { 4 } else { NOTIFY.len() };
        let decoded = connection.decode(&NOTIFY[..length]);
        assert_eq!(decoded, Ok(Decoded::Incomplete { need }), "{length}");
    }
}

#[test]
fn every_flag_but_two_is_refused() {
    for flag in 0..=255u8 {
        let decoded = data(&[flag, 1, 1, b'a', b'b']);
        match flag {
            0 | 2 => assert!(matches!(decoded, Ok(Decoded::Packet { .. }))),
            _ if flag & 0x10 != 0 => {
                assert_eq!(decoded, Err(WireError::CompressionUnsupported))
            }
            _ => assert_eq!(decoded, Err(WireError::BadFrame), "{flag:#x}"),
        }
    }
}

#[test]
fn with_the_option_bit_4_is_pitayas() {
    let protocol = Protocol::from_options("pomelo", &[("compress", "zlib")], 100).unwrap();
    assert!(protocol.compresses());
    let mut peer = protocol.peer();
    assert_eq!(peer.compression().unwrap().algorithm, Algorithm::Zlib);
    for opening in [HELLO, ACK] {
        protocol
            .decode(&mut peer, opening, &mut Vec::new())
            .unwrap();
    }
    for (flag, expected) in [
        (0x10, Ok(Kind::Request)),
        (0x12, Ok(Kind::Notify)),
        (0x14, Err(WireError::BadFrame)),
        (0x11, Err(WireError::BadFrame)),
        (0x30, Err(WireError::BadFrame)),
    ] {
        let frame = [4, 0, 0, 5, flag, 1, 1, b'a', b'b'];
        let decoded = protocol.decode(&mut peer.clone(), &frame, &mut Vec::new());
        let kind = decoded.map(|decoded| match decoded {
            Decoded::Packet { packet, .. } => {
                assert!(packet.flags.compressed);
                packet.kind
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(kind, expected, "{flag:#x}");
    }
    let compressed = Flags {
        compressed: true,
        droppable: false,
    };
    for (kind, flag) in [
        (Outgoing::Response { id: 1 }, 0x14),
        (Outgoing::Error { id: 1 }, 0x34),
        (Outgoing::Push, 0x16),
    ] {
        let message = Message {
            kind,
            name: "a",
            number: 0,
            index: 0,
            body: b"b",
            flags: compressed,
        };
        let mut out = Vec::new();
        protocol.encode(&message, &mut out).unwrap();
        assert_eq!(out[4], flag);
    }
}

#[test]
fn an_answer_carries_the_bytes_of_the_id() {
    let id = |digits: &[u8]| match data(&[&[0], digits, &[0]].concat())? {
        Decoded::Packet { packet, .. } => Ok(packet.id),
        other => panic!("{other:?}"),
    };
    assert_eq!(id(&[0x80, 0x01]), Ok(128));
    for digits in [
        &[0][..],
        &[0x7f],
        &[0x80, 0x01],
        &[0x80, 0x00],
        &[0x81, 0x80, 0x00],
        &[0x81, 0x80, 0x80, 0x00],
        &[0xff, 0xff, 0xff, 0x7f],
    ] {
        let id = id(digits).unwrap();
        let mut answer = Vec::new();
        encode_answer(RESPONSE, id, b"", &mut answer).unwrap();
        assert_eq!(&answer[HEAD + 1..], digits);
    }
    assert_eq!(id(&[0x80, 0x80, 0x80, 0x80, 0]), Err(WireError::BadFrame));
    assert_eq!(id(&[0x80; 6]), Err(WireError::BadFrame));
}

#[test]
fn the_limit_is_of_the_payload_alone() {
    let route = [b'r'; 255];
    let framed = |payload: &[u8]| {
        let body = [&[0, 0xff, 0xff, 0xff, 0x7f, 255], &route[..], payload].concat();
        let head = [4, 0, (body.len() >> 8) as u8, body.len() as u8];
        Connection::open(5).decode(&[&head[..], &body].concat())
    };
    assert!(matches!(framed(b"12345"), Ok(Decoded::Packet { .. })));
    assert_eq!(framed(b"123456"), Err(WireError::TooLong));
    assert!(data(b"\x02\x01a12345").is_ok());
    assert_eq!(data(b"\x02\x01a123456"), Err(WireError::TooLong));
}

#[test]
fn a_route_is_utf8_and_ends_in_its_package() {
    assert!(data("\u{2}\u{2}é".as_bytes()).is_ok());
    for body in [&b""[..], b"\x02", b"\x02\x02a", b"\x02\x01\xff", b"\0\x01"] {
        assert_eq!(data(body), Err(WireError::BadFrame), "{body:?}");
    }
}

#[test]
fn answers_pushes_and_kicks() {
    let protocol = Protocol::from_options("pomelo", &[], 9).unwrap();
    let frame = |kind, name, body| {
        let mut out = b"before".to_vec();
        let message = Message {
            kind,
            name,
            number: 0,
            index: 0,
            body,
            flags: Flags::default(),
        };
        protocol
            .encode(&message, &mut out)
            .map(|()| out.split_off(6))
    };
    let body = &b"{}"[..];
    assert_eq!(
        frame(Outgoing::Response { id: 128 }, "asked", body).unwrap(),
        b"\x04\0\0\x05\x04\x80\x01{}"
    );
    assert_eq!(
        frame(Outgoing::Error { id: 1 }, "asked", body).unwrap(),
        b"\x04\0\0\x04\x24\x01{}"
    );
    assert_eq!(
        frame(Outgoing::Push, "said", body).unwrap(),
        b"\x04\0\0\x08\x06\x04said{}"
    );
    assert_eq!(
        frame(Outgoing::Kick, "", b"\"slow\"").unwrap(),
        b"\x05\0\0\x15{\"reason\":\"\\\"slow\\\"\"}"
    );
    let long = "r".repeat(256);
    assert_eq!(
        frame(Outgoing::Push, &long, body),
        Err(EncodeError::RouteTooLong {
            length: 256,
            limit: 255
        })
    );
}

#[test]
fn a_package_counts_24_bits() {
    let protocol = Protocol::from_options("pomelo", &[], 9).unwrap();
    let mut body = vec![0; 0xff_ffff - 2];
    let mut out = Vec::new();
    let mut encode = |body: &[u8]| {
        out.clear();
        let message = Message {
            kind: Outgoing::Response { id: 1 },
            name: "",
            number: 0,
            index: 0,
            body,
            flags: Flags::default(),
        };
        protocol.encode(&message, &mut out).map(|()| out.len())
    };
    assert_eq!(encode(&body), Ok(4 + 0xff_ffff));
    body.push(0);
    assert_eq!(
        encode(&body),
        Err(EncodeError::TooLong {
            length: 0xff_ffff - 1,
            limit: 0xff_ffff - 2
        })
    );
}

#[test]
fn what_it_is() {
    let protocol = Protocol::from_options("pomelo", &[], 9).unwrap();
    assert_eq!(protocol.name(), "pomelo");
    assert_eq!(protocol.format(), Format::Json);
    assert!(protocol.has_handshake() && protocol.has_errors());
    assert_eq!(protocol.heartbeat(), Some(30_000));
    assert_eq!(protocol.heartbeat_frame(), HEARTBEAT);
    let silent = Protocol::from_options("pomelo", &[("heartbeat", "0")], 9).unwrap();
    assert_eq!(silent.heartbeat(), None);
    assert!(std::mem::size_of::<Peer>() <= 16);
}
