#![no_main]
//! firefly: both directions are alike, so what was read is written again, byte for byte.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_fuzz::{encode, packets, read, Said, Stream};
use photinus_proto::codec::{Flags, Message, Outgoing, Protocol, Route};

#[derive(Debug, Arbitrary)]
struct Input {
    prefix: Option<([u8; 5], u32)>,
    max_payload: u16,
    stream: Stream,
    said: Said,
}

fuzz_target!(|input: Input| {
    let (magic, version) = input.prefix.unwrap_or_default();
    let magic: String = magic.iter().map(|byte| format!("{byte:02x}")).collect();
    let version = version.to_string();
    let pairs = [("magic", magic.as_str()), ("version", version.as_str())];
    let protocol = Protocol::from_options("firefly", &pairs, input.max_payload.into()).unwrap();
    let bytes = &input.stream.bytes;
    let found = read(&protocol, &input.stream);
    for (packet, frame) in packets(&found, bytes) {
        let body = &frame[packet.body.clone()];
        assert!(body.len() <= usize::from(input.max_payload));
        let Route::Number(number) = packet.route else {
            panic!("{packet:?}")
        };
        let message = Message {
            kind: Outgoing::Push,
            name: "",
            number,
            index: 0,
            body,
            flags: Flags::default(),
        };
        assert_eq!(encode(&protocol, &message).unwrap(), frame);
    }
    let message = input.said.message();
    if let Some(bytes) = encode(&protocol, &message).filter(|frame| !frame.is_empty()) {
        let wide = Protocol::from_options("firefly", &pairs, usize::MAX).unwrap();
        let found = read(
            &wide,
            &Stream {
                bytes: bytes.clone(),
                pieces: vec![1; 17],
            },
        );
        let (packet, frame) = packets(&found, &bytes).next().unwrap();
        assert_eq!(packet.route, Route::Number(message.number));
        assert_eq!(
            (frame, &frame[packet.body.clone()]),
            (&bytes[..], message.body)
        );
    }
});
