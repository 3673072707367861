#![no_main]
//! length: both directions are alike, so what was read is written again, byte for byte.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::{encode, packets, read, Said, Stream};
use photinus_proto::codec::{Flags, Message, Outgoing, Protocol};

#[derive(Debug, Arbitrary)]
struct Input {
    size: u8,
    little: bool,
    counts_itself: bool,
    max_payload: u16,
    stream: Stream,
    said: Said,
}

fuzz_target!(|input: Input| {
    let pairs = [
        ("size", ["1", "2", "4"][usize::from(input.size) % 3]),
        ("order", if input.little { "little" } else { "big" }),
        ("counts_itself", if input.counts_itself { "1" } else { "0" }),
    ];
    let protocol = Protocol::from_options("length", &pairs, input.max_payload.into()).unwrap();
    let bytes = &input.stream.bytes;
    let found = read(&protocol, &input.stream);
    for (packet, frame) in packets(&found, bytes) {
        let body = &frame[packet.body.clone()];
        assert!(body.len() <= usize::from(input.max_payload));
        let message = Message {
            kind: Outgoing::Push,
            name: "",
            number: 0,
            index: 0,
            body,
            flags: Flags::default(),
        };
        assert_eq!(encode(&protocol, &message).unwrap(), frame);
    }
    let message = input.said.message();
    if let Some(bytes) = encode(&protocol, &message).filter(|frame| !frame.is_empty()) {
        let wide = Protocol::from_options("length", &pairs, usize::MAX).unwrap();
        let found = read(
            &wide,
            &Stream {
                bytes: bytes.clone(),
                pieces: vec![1; 3],
            },
        );
        let (packet, frame) = packets(&found, &bytes).next().unwrap();
        assert_eq!(
            (frame, &frame[packet.body.clone()]),
            (&bytes[..], message.body)
        );
    }
});
