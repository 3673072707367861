#![no_main]
//! pomelo: packages as they come, or framed for the fuzzer so that it can look at what is in them.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::{encode, packets, read, Said, Stream};
use photinus_proto::codec::{Flags, Kind, Message, Outgoing, Protocol, Route};

const OPENING: &[u8] = b"\x01\0\0\x02{}\x02\0\0\0";

#[derive(Debug, Arbitrary)]
struct Input {
    max_payload: u16,
    opened: bool,
    compress: bool,
    packages: Vec<(u8, Vec<u8>)>,
    stream: Stream,
    said: Said,
}

fuzz_target!(|input: Input| {
    let limit = usize::from(input.max_payload);
    let pairs: &[(&str, &str)] = match input.compress {
        true => &[("compress", "zlib")],
        false => &[],
    };
    let protocol = Protocol::from_options("pomelo", pairs, limit).unwrap();
    let mut bytes = if input.opened {
        OPENING.to_vec()
    } else {
        Vec::new()
    };
    for (kind, body) in &input.packages {
        bytes.push(kind % 7);
        bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
        bytes.extend(body);
    }
    bytes.extend(&input.stream.bytes);
    let stream = Stream {
        bytes,
        pieces: input.stream.pieces,
    };
    let found = read(&protocol, &stream);
    assert!(found.reply.len() <= 128, "one answer to one handshake");
    for (packet, frame) in packets(&found, &stream.bytes) {
        assert!(packet.body.len() <= limit);
        let Route::Name(name) = packet.route.clone() else {
            panic!("{packet:?}")
        };
        let kind = if packet.kind == Kind::Request { 0 } else { 2 };
        let compressed = if packet.flags.compressed { 0x10 } else { 0 };
        assert!(input.compress || compressed == 0);
        let mut again = vec![4, 0, 0, 0, kind | compressed];
        if packet.kind == Kind::Request {
            // The answer carries the bytes of the id, whatever they are.
            let digits = &frame[5..name.start - 1];
            let answer = Message {
                kind: Outgoing::Response { id: packet.id },
                name: "",
                number: 0,
                index: 0,
                body: b"",
                flags: Flags::default(),
            };
            assert_eq!(&encode(&protocol, &answer).unwrap()[5..], digits);
            again.extend(digits);
        }
        again.push(name.len() as u8);
        again.extend(&frame[name]);
        again.extend(&frame[packet.body.clone()]);
        let [_, high, middle, low] = (again.len() as u32 - 4).to_be_bytes();
        again[1..4].copy_from_slice(&[high, middle, low]);
        assert_eq!(again, frame);
    }
    let message = input.said.message();
    if let Some(frame) = encode(&protocol, &message) {
        assert!(frame[0] == 4 || frame[0] == 5);
        let length = u32::from_be_bytes([0, frame[1], frame[2], frame[3]]) as usize;
        assert_eq!(frame.len(), 4 + length);
        assert!(frame[0] == 5 || frame.ends_with(message.body));
    }
});
