#![no_main]
//! Compression: what was compressed is inflated, whatever was inflated before with the same contexts; and
//! nothing becomes longer than the limit.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use photinus_proto::compress::{Algorithm, Contexts, Dictionary, Scheme};
use photinus_proto::error::WireError;
use std::sync::LazyLock;

static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(|| {
    let file = include_bytes!("../../tests/wire/game.dictionary");
    Dictionary::read(file).unwrap()
});

#[derive(Debug, Arbitrary)]
struct Input {
    limit: u16,
    turns: Vec<(Choice, Turn)>,
}

#[derive(Debug, Arbitrary)]
enum Choice {
    Zlib,
    Snappy,
    Zstd,
    Trained,
}

#[derive(Debug, Arbitrary)]
enum Turn {
    /// Of a peer's.
    Inflate(Vec<u8>),
    /// The same with the head that zstd looks for, which is hard to find by chance.
    InflateFrame(Vec<u8>),
    /// A byte so many times, and what comes behind.
    Compress(u8, u16, Vec<u8>),
}

fuzz_target!(|input: Input| {
    let mut contexts = Contexts::default();
    let limit = usize::from(input.limit);
    for (choice, turn) in &input.turns {
        let (algorithm, dictionary) = match choice {
            Choice::Zlib => (Algorithm::Zlib, None),
            Choice::Snappy => (Algorithm::Snappy, None),
            Choice::Zstd => (Algorithm::Zstd, None),
            Choice::Trained => (Algorithm::Zstd, Some(&*DICTIONARY)),
        };
        let scheme = Scheme {
            algorithm,
            dictionary,
            threshold: 0,
            limit,
        };
        match turn {
            Turn::Inflate(bytes) => inflate(&mut contexts, &scheme, bytes),
            Turn::InflateFrame(bytes) => {
                let frame = [&b"\x28\xb5\x2f\xfd"[..], bytes].concat();
                inflate(&mut contexts, &scheme, &frame);
            }
            Turn::Compress(byte, times, rest) => {
                let mut payload = vec![*byte; usize::from(*times)];
                payload.extend(rest);
                let Some(compressed) = contexts.compress(&scheme, &payload) else {
                    continue;
                };
                assert!(compressed.len() < payload.len());
                let compressed = compressed.to_vec();
                let mut out = b"before".to_vec();
                let inflated = contexts.inflate(&scheme, &compressed, &mut out);
                if payload.len() <= limit {
                    assert_eq!(inflated, Ok(()));
                    assert_eq!(out, [b"before", &payload[..]].concat());
                } else {
                    assert_eq!(inflated, Err(WireError::TooLong));
                    assert_eq!(out, b"before");
                }
            }
        }
    }
});

fn inflate(contexts: &mut Contexts, scheme: &Scheme<'_>, bytes: &[u8]) {
    let mut out = b"before".to_vec();
    match contexts.inflate(scheme, bytes, &mut out) {
        Ok(()) => assert!(out.len() - 6 <= scheme.limit),
        Err(WireError::TooLong | WireError::BadCompression) => assert_eq!(out.len(), 6),
        Err(other) => panic!("{other}"),
    }
    assert!(out.starts_with(b"before"));
    assert!(out.capacity() <= 2 * (scheme.limit + 4096), "{}", out.capacity());
}
