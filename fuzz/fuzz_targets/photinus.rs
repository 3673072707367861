#![no_main]
//! photinus: hellos and frames as they come, or framed for the fuzzer so that it can look at what is in them. What was
//! read is read again by the simplest reader there is.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::{encode, read, Said, Stream};
use photinus_proto::codec::{Decoded, Kind, Protocol, Route};

const HELLO: &[u8] = b"\x01\x03\x01\x01\x01";
/// With compression, so that compressed payloads may come.
const HELLO_ZLIB: &[u8] = b"\x01\x06\x01\x01\x01\x03\x01\x01";

#[derive(Debug, Arbitrary)]
struct Input {
    max_payload: u16,
    opened: Option<bool>,
    /// Head, and what is in a hello or a frame.
    frames: Vec<(u8, Vec<u8>)>,
    stream: Stream,
    said: Said,
}

fuzz_target!(|input: Input| {
    let limit = usize::from(input.max_payload);
    let pairs = [("compress", "zlib")];
    let protocol = Protocol::from_options("photinus", &pairs, limit).unwrap();
    let mut bytes = match input.opened {
        None => Vec::new(),
        Some(false) => HELLO.to_vec(),
        Some(true) => HELLO_ZLIB.to_vec(),
    };
    for (head, body) in &input.frames {
        bytes.push(*head);
        write(body.len(), &mut bytes);
        bytes.extend(body);
    }
    bytes.extend(&input.stream.bytes);
    let stream = Stream {
        bytes,
        pieces: input.stream.pieces,
    };
    let found = read(&protocol, &stream);
    let (mut start, mut named) = (0, 0);
    for (end, decoded) in &found.frames {
        let frame = &stream.bytes[start..*end];
        let (head, body) = simple(frame);
        match decoded {
            Decoded::Hello { .. } => assert_eq!((start, head), (0, 1)),
            Decoded::Named { name, .. } => {
                assert_eq!((head, &frame[name.clone()]), (5, body));
                assert!(body.len() <= 255);
                named += 1;
            }
            Decoded::Heartbeat { .. } => assert_eq!(head, 10),
            Decoded::Leave { .. } => assert_eq!((head, body), (13, &b""[..])),
            Decoded::Packet { packet, .. } => {
                let payload = &frame[packet.body.clone()];
                assert!(payload.len() <= limit && body.ends_with(payload));
                assert!(matches!(packet.route, Route::Named(route) if route < named));
                let kind = if packet.kind == Kind::Request { 7 } else { 6 };
                assert_eq!(head & 0x0f, kind);
                assert_eq!(packet.flags.compressed, head & 0x10 != 0);
                assert_eq!(packet.flags.droppable, head & 0x20 != 0);
            }
            other => panic!("{other:?}"),
        }
        start = *end;
    }
    let message = input.said.message();
    if let Some(frame) = encode(&protocol, &message) {
        let (head, body) = simple(&frame);
        assert!(matches!(head, 6 | 8 | 9 | 11));
        assert!(head == 11 || body.ends_with(message.body));
    }
});

/// Head and body of one whole frame.
fn simple(frame: &[u8]) -> (u8, &[u8]) {
    let digits = frame[1..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let length = frame[1..=digits]
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    let body = &frame[1 + digits..];
    assert_eq!(body.len(), length);
    (frame[0], body)
}

fn write(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
