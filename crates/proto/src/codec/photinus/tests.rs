use super::super::Protocol;
use super::*;

fn listener(options: &[(&str, &str)]) -> Protocol {
    Protocol::from_options("photinus", options, 65536).unwrap()
}

/// A peer that has been welcomed, and the listener's options.
fn opened(protocol: &Protocol, hello: &[u8]) -> (Peer, Options) {
    let Protocol::Photinus(options) = protocol else {
        unreachable!()
    };
    let mut peer = protocol.peer();
    let decoded = protocol.decode(&mut peer, hello, &mut Vec::new());
    assert!(matches!(decoded, Ok(Decoded::Hello { .. })), "{decoded:?}");
    let welcome = Welcome {
        status: Status::New,
        clock: 1,
        rate: USUAL_RATE,
        resume: None,
    };
    options.welcome(&mut peer, &welcome, &mut Vec::new());
    (peer, options.clone())
}

const PLAIN_HELLO: &[u8] = &[1, 3, 1, 1, 1];

fn decode(peer: &mut Peer, frame: &[u8]) -> Result<Decoded, WireError> {
    listener(&[]).decode(peer, frame, &mut Vec::new())
}

#[test]
fn a_hello_says_what_the_client_can() {
    let mut frame = vec![1, 0, 1, 1, 1, 3, 2, 2, 1, 5, 21];
    frame.extend_from_slice(&[7; TOKEN_BYTES]);
    frame.push(9);
    frame[1] = frame.len() as u8 - 2;
    let protocol = listener(&[("compress", "zlib,snappy")]);
    let decoded = protocol.decode(&mut protocol.peer(), &frame, &mut Vec::new());
    let hello = Hello {
        compression: Some(Algorithm::Zlib),
        has_dictionary: false,
        resume: Some(Resume {
            token: [7; TOKEN_BYTES],
            received: 9,
        }),
    };
    let consumed = frame.len();
    assert_eq!(decoded, Ok(Decoded::Hello { consumed, hello }));
}

#[test]
fn a_dictionary_is_used_with_whoever_has_it() {
    let options = [("compress", "zlib,zstd"), ("dictionary", "game.dictionary")];
    let mut protocol = listener(&options);
    assert_eq!(protocol.dictionary_file(), Some("game.dictionary"));
    let file = include_bytes!("../../../../../tests/wire/game.dictionary");
    protocol.set_dictionary(file).unwrap();
    let id = 0x5048_0001_u32.to_be_bytes();
    for (algorithms, ids, expected) in [
        (&[3][..], &id[..], Some((Algorithm::Zstd, true))),
        (&[3], &[0, 0, 0, 1], Some((Algorithm::Zstd, false))),
        (&[3], &[], Some((Algorithm::Zstd, false))),
        (&[1, 3], &id, Some((Algorithm::Zlib, false))),
        (&[], &id, None),
    ] {
        let mut hello = vec![1, 0, 1, 1, 1, 3, algorithms.len() as u8];
        hello.extend(algorithms);
        hello.extend([4, ids.len() as u8]);
        hello.extend(ids);
        hello[1] = hello.len() as u8 - 2;
        let (peer, _) = opened(&protocol, &hello);
        let agreed = peer.compression();
        assert_eq!(agreed.map(|of| (of.algorithm, of.dictionary)), expected);
        let scheme = agreed.and_then(|of| protocol.scheme(of));
        let with = scheme.is_some_and(|of| of.dictionary.is_some());
        assert_eq!(with, expected.is_some_and(|of| of.1));
    }
    let error = protocol
        .set_dictionary(b"no dictionary")
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"dictionary\"") && error.contains("zstd --train"));
}

#[test]
fn with_a_dictionary_shorter_payloads_are_tried() {
    let threshold = |options: &[(&str, &str)]| {
        let protocol = listener(options);
        let agreement = Agreement {
            algorithm: Algorithm::Zstd,
            dictionary: false,
        };
        protocol.scheme(agreement).unwrap().threshold
    };
    assert_eq!(threshold(&[("compress", "zstd")]), 256);
    let with = [("compress", "zstd"), ("dictionary", "a")];
    assert_eq!(threshold(&with), 64);
    let given = [with[0], with[1], ("threshold", "7")];
    assert_eq!(threshold(&given), 7);
}

#[test]
fn unknown_fields_are_skipped_and_known_ones_stand_once() {
    for (frame, expected) in [
        (&[1, 6, 1, 1, 1, 99, 1, 0][..], None),
        (&[1, 6, 1, 1, 1, 1, 1, 1], Some(WireError::BadHandshake)),
        (&[1, 0], Some(WireError::BadHandshake)),
        (&[1, 3, 1, 1, 2], Some(WireError::BadVersion)),
        (&[1, 2, 1, 1], Some(WireError::BadHandshake)),
        (&[1, 6, 1, 1, 1, 4, 1, 0], Some(WireError::BadHandshake)),
        (&[6, 2, 0, 0], Some(WireError::BadHandshake)),
        (&[1, 0x81, 8], Some(WireError::TooLong)),
    ] {
        let protocol = listener(&[]);
        let mut reply = Vec::new();
        let decoded = protocol.decode(&mut protocol.peer(), frame, &mut reply);
        assert_eq!(decoded.err(), expected, "{frame:?}");
        let refused = reply.first() == Some(&REFUSAL);
        assert_eq!(refused, expected.is_some(), "{frame:?}");
    }
}

#[test]
fn nothing_comes_between_the_hello_and_its_answer() {
    let protocol = listener(&[]);
    let mut peer = protocol.peer();
    assert!(protocol
        .decode(&mut peer, PLAIN_HELLO, &mut Vec::new())
        .is_ok());
    let again = protocol.decode(&mut peer, PLAIN_HELLO, &mut Vec::new());
    assert_eq!(again, Err(WireError::BadHandshake));
}

#[test]
fn routes_are_named_before_they_are_used() {
    let (mut peer, _) = opened(&listener(&[]), PLAIN_HELLO);
    let mut other = peer;
    assert_eq!(decode(&mut other, &[6, 1, 0]), Err(WireError::BadFrame));
    let named = decode(&mut peer, b"\x05\x04move");
    assert_eq!(
        named,
        Ok(Decoded::Named {
            consumed: 6,
            name: 2..6
        })
    );
    let packet = Packet {
        kind: Kind::Request,
        id: 5,
        route: Route::Named(0),
        body: 4..6,
        flags: Flags::default(),
    };
    let decoded = decode(&mut peer, &[7, 4, 5, 0, 0x68, 0x69]);
    assert_eq!(
        decoded,
        Ok(Decoded::Packet {
            consumed: 6,
            packet
        })
    );
}

#[test]
fn a_client_names_so_many_routes_and_no_more() {
    let (mut peer, _) = opened(&listener(&[]), PLAIN_HELLO);
    for _ in 0..ROUTES_LIMIT {
        assert!(decode(&mut peer, b"\x05\x01a").is_ok());
    }
    assert_eq!(decode(&mut peer, b"\x05\x01a"), Err(WireError::BadFrame));
}

#[test]
fn flags_stand_where_they_may() {
    for (head, agreed, expected) in [
        (MESSAGE | DROPPABLE, false, None),
        (REQUEST | DROPPABLE, false, Some(WireError::BadFrame)),
        (MESSAGE | 0x40, false, Some(WireError::BadFrame)),
        (HEARTBEAT | DROPPABLE, false, Some(WireError::BadFrame)),
        (
            MESSAGE | COMPRESSED,
            false,
            Some(WireError::CompressionUnsupported),
        ),
        (MESSAGE | COMPRESSED | DROPPABLE, true, None),
        (WELCOME, false, Some(WireError::BadFrame)),
        (14, false, Some(WireError::BadFrame)),
    ] {
        let protocol = listener(&[("compress", "zlib")]);
        let hello: &[u8] = match agreed {
            true => &[1, 6, 1, 1, 1, 3, 1, 1],
            false => PLAIN_HELLO,
        };
        let (mut peer, _) = opened(&protocol, hello);
        protocol
            .decode(&mut peer, b"\x05\x01a", &mut Vec::new())
            .unwrap();
        let decoded = protocol.decode(&mut peer, &[head, 2, 0, 0], &mut Vec::new());
        assert_eq!(decoded.err(), expected, "{head:#x}");
    }
}

#[test]
fn a_payload_is_as_long_as_the_listener_allows() {
    let limit = 100;
    let protocol = Protocol::from_options("photinus", &[], limit).unwrap();
    let (mut peer, _) = opened(&protocol, PLAIN_HELLO);
    protocol
        .decode(&mut peer, b"\x05\x01a", &mut Vec::new())
        .unwrap();
    for (length, fits) in [(limit, true), (limit + 1, false)] {
        let mut frame = vec![MESSAGE];
        number::write(length as u64 + 1, &mut frame);
        frame.resize(frame.len() + length + 1, 0);
        let decoded = protocol.decode(&mut peer.clone(), &frame, &mut Vec::new());
        assert_eq!(decoded.is_ok(), fits, "{length}");
    }
    let declared = protocol.decode(&mut peer, &[MESSAGE, 0xff, 0xff, 3], &mut Vec::new());
    assert_eq!(declared, Err(WireError::TooLong), "without waiting for it");
}

#[test]
fn what_is_said_to_those_who_wait_or_are_refused() {
    let mut out = Vec::new();
    wait(3, None, &mut out);
    assert_eq!(out, [4, 3, 1, 1, 3]);
    out.clear();
    refuse("full", Some(2000), &mut out);
    assert_eq!(out, b"\x03\x0a\x01\x04full\x02\x02\xd0\x0f");
    out.clear();
    refuse("bad-handshake", None, &mut out);
    assert_eq!(out, REFUSAL_FRAME);
}

#[test]
fn a_gap_tells_where_it_ends() {
    let protocol = listener(&[("heartbeat", "0")]);
    let Protocol::Photinus(options) = &protocol else {
        unreachable!()
    };
    let welcome = Welcome {
        status: Status::Gap {
            received: 300,
            next: 7,
        },
        clock: 1,
        rate: 500_000,
        resume: Some(([1; TOKEN_BYTES], 30_000)),
    };
    let mut out = Vec::new();
    options.welcome(&mut protocol.peer(), &welcome, &mut out);
    let mut expected = vec![2, 0, 1, 1, 1, 2, 1, 2, 3, 1, 1, 4, 1, 0, 5, 1, 1];
    expected.extend([6, 3, 0xa0, 0xc2, 0x1e, 7, 3, 0x80, 0x80, 4, 10, 20]);
    expected.extend([1; TOKEN_BYTES]);
    expected.extend([11, 3, 0xb0, 0xea, 1, 12, 2, 0xac, 2, 13, 1, 7]);
    expected[1] = expected.len() as u8 - 2;
    assert_eq!(out, expected);
}
