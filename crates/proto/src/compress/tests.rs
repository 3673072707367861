//! In a file of their own: what holds of all algorithms alike.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;

const ALL: [Algorithm; 3] = [Algorithm::Zlib, Algorithm::Snappy, Algorithm::Zstd];
/// Trained on messages like [`message`].
const TRAINED: &[u8] = include_bytes!("../../../../tests/wire/game.dictionary");
const LIMIT: usize = 100_000;

fn scheme(algorithm: Algorithm) -> Scheme<'static> {
    Scheme {
        algorithm,
        dictionary: None,
        threshold: 0,
        limit: LIMIT,
    }
}

fn message(number: usize) -> Vec<u8> {
    format!(
        r#"{{"route":"moved","player":{{"id":{number},"name":"cleo","x":{number}.25,"y":713.8,"alive":true}},"items":[{{"kind":"sword","count":3}}]}}"#
    )
    .into_bytes()
}

fn inflate(
    contexts: &mut Contexts,
    scheme: &Scheme<'_>,
    payload: &[u8],
) -> Result<Vec<u8>, WireError> {
    let mut out = b"before".to_vec();
    let inflated = contexts.inflate(scheme, payload, &mut out);
    assert_eq!(&out[..6], b"before");
    assert!(inflated.is_ok() || out.len() == 6);
    inflated.map(|()| out.split_off(6))
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes.take(length).collect()
}

/// What others have made, and what is in it.
fn of_others(algorithm: Algorithm) -> Vec<u8> {
    match algorithm {
        // Python's zlib.compress(b"hello hello hello hello").
        Algorithm::Zlib => b"x\x9c\xcbH\xcd\xc9\xc9W\xc8@'\x01h\x03\x08\xb1".to_vec(),
        // A literal of six bytes, and a copy of 17 from six before.
        Algorithm::Snappy => b"\x17\x14hello \x42\x06\x00".to_vec(),
        // One raw block, no size told.
        Algorithm::Zstd => [
            b"\x28\xb5\x2f\xfd\x00\x58\xb9\x00\x00",
            &b"hello hello hello hello"[..],
        ]
        .concat(),
    }
}

#[test]
fn what_others_have_compressed_is_inflated() {
    let mut contexts = Contexts::default();
    for algorithm in ALL {
        let given = of_others(algorithm);
        let inflated = inflate(&mut contexts, &scheme(algorithm), &given);
        assert_eq!(
            inflated.as_deref(),
            Ok(&b"hello hello hello hello"[..]),
            "{algorithm:?}"
        );
    }
}

#[test]
fn the_limit_is_of_what_it_becomes() {
    let mut contexts = Contexts::default();
    let payload = b"abcdefgh".repeat(1000);
    for algorithm in ALL {
        let exact = Scheme {
            limit: payload.len(),
            ..scheme(algorithm)
        };
        let compressed = contexts.compress(&exact, &payload).unwrap().to_vec();
        let inflated = inflate(&mut contexts, &exact, &compressed);
        assert_eq!(inflated.as_ref(), Ok(&payload), "{algorithm:?}");
        let less = Scheme {
            limit: payload.len() - 1,
            ..exact
        };
        let refused = inflate(&mut contexts, &less, &compressed);
        assert_eq!(refused, Err(WireError::TooLong), "{algorithm:?}");
    }
}

#[test]
fn a_bomb_takes_no_more_than_the_limit() {
    for algorithm in ALL {
        let mut contexts = Contexts::default();
        let bomb = contexts.compress(&scheme(algorithm), &vec![0; 10_000_000]);
        let bomb = bomb.unwrap().to_vec();
        let mut out = Vec::new();
        let inflated = contexts.inflate(&scheme(algorithm), &bomb, &mut out);
        assert_eq!(inflated, Err(WireError::TooLong), "{algorithm:?}");
        assert!(out.capacity() <= LIMIT + 1, "{algorithm:?}");
    }
}

#[test]
fn a_bomb_that_does_not_tell_its_size_neither() {
    let mut contexts = Contexts::default();
    // Blocks of 128 KiB of one byte each, four bytes a block, and no size in the frame's head.
    let mut bomb = b"\x28\xb5\x2f\xfd\x00\x58".to_vec();
    for _ in 0..100 {
        bomb.extend(b"\x02\x00\x10\x00");
    }
    bomb.extend(b"\x03\x00\x10\x00");
    let mut out = Vec::new();
    let inflated = contexts.inflate(&scheme(Algorithm::Zstd), &bomb, &mut out);
    assert_eq!(inflated, Err(WireError::TooLong));
    assert!(out.capacity() <= 2 * LIMIT, "{}", out.capacity());
    let wide = Scheme {
        limit: 101 * (128 << 10),
        ..scheme(Algorithm::Zstd)
    };
    let inflated = inflate(&mut contexts, &wide, &bomb).unwrap();
    assert!(inflated.len() == wide.limit && inflated.iter().all(|byte| *byte == 0));
}

#[test]
fn a_size_that_is_only_claimed_is_refused() {
    let mut contexts = Contexts::default();
    for (algorithm, claim, expected) in [
        // 2^32 - 1 bytes, and then 99,999 of them.
        (
            Algorithm::Snappy,
            &b"\xff\xff\xff\xff\x0f"[..],
            WireError::TooLong,
        ),
        (
            Algorithm::Snappy,
            b"\x9f\x8d\x06\x00a",
            WireError::BadCompression,
        ),
        // 2^63 bytes, and then 99,999 of them where there is one.
        (
            Algorithm::Zstd,
            b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x80\x09\0\0a",
            WireError::TooLong,
        ),
        (
            Algorithm::Zstd,
            b"\x28\xb5\x2f\xfd\xa0\x9f\x86\x01\0\x09\0\0a",
            WireError::BadCompression,
        ),
        // A window of 128 MiB for one byte is not taken.
        (
            Algorithm::Zstd,
            b"\x28\xb5\x2f\xfd\x00\x88\x09\0\0",
            WireError::BadCompression,
        ),
    ] {
        let refused = inflate(&mut contexts, &scheme(algorithm), claim);
        assert_eq!(refused, Err(expected), "{algorithm:?} {claim:?}");
    }
}

#[test]
fn what_is_cut_off_or_has_something_behind_it_is_refused() {
    let mut contexts = Contexts::default();
    let payload = message(7).repeat(3);
    for algorithm in ALL {
        let scheme = scheme(algorithm);
        let compressed = contexts.compress(&scheme, &payload).unwrap().to_vec();
        for cut in 0..compressed.len() {
            let inflated = inflate(&mut contexts, &scheme, &compressed[..cut]);
            assert_eq!(
                inflated,
                Err(WireError::BadCompression),
                "{algorithm:?} {cut}"
            );
        }
        for behind in [&b"\0"[..], &compressed, b"\x50\x2a\x4d\x18\0\0\0\0"] {
            let more = [&compressed[..], behind].concat();
            let inflated = inflate(&mut contexts, &scheme, &more);
            assert_eq!(inflated, Err(WireError::BadCompression), "{algorithm:?}");
        }
        let again = inflate(&mut contexts, &scheme, &compressed);
        assert_eq!(again.as_ref(), Ok(&payload), "nothing is left of those");
    }
}

#[test]
fn frames_that_hold_nothing_are_refused() {
    let mut contexts = Contexts::default();
    let skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd";
    let inflated = inflate(&mut contexts, &scheme(Algorithm::Zstd), skipped);
    assert_eq!(inflated, Err(WireError::BadCompression));
    // A stream that wants a dictionary which nobody agreed on.
    let preset = b"x\xbb\x02\x15\x01\xd2\x03\x00";
    let inflated = inflate(&mut contexts, &scheme(Algorithm::Zlib), preset);
    assert_eq!(inflated, Err(WireError::BadCompression));
}

#[test]
fn only_what_is_worth_it_is_compressed() {
    let mut contexts = Contexts::default();
    for algorithm in ALL {
        let scheme = Scheme {
            threshold: 100,
            ..scheme(algorithm)
        };
        assert!(
            contexts.compress(&scheme, &[7; 99]).is_none(),
            "{algorithm:?}"
        );
        assert!(
            contexts.compress(&scheme, &[7; 100]).is_some(),
            "{algorithm:?}"
        );
        assert!(
            contexts.compress(&scheme, &noise(5000)).is_none(),
            "{algorithm:?}"
        );
        let after = contexts.compress(&scheme, &[7; 100]).unwrap().to_vec();
        assert_eq!(
            inflate(&mut contexts, &scheme, &after),
            Ok(vec![7; 100]),
            "{algorithm:?}"
        );
        let longest = vec![7; LONGEST + 1];
        assert!(contexts.compress(&scheme, &longest).is_none());
    }
    let any = scheme(Algorithm::Zlib);
    assert!(contexts.compress(&any, b"").is_none());
}

#[test]
fn contexts_are_made_once() {
    let mut contexts = Contexts::default();
    let payload = message(1).repeat(2);
    for algorithm in ALL {
        let scheme = scheme(algorithm);
        let first = contexts.compress(&scheme, &payload).unwrap().to_vec();
        let place = contexts.compressed.as_ptr();
        for _ in 0..100 {
            assert_eq!(contexts.compress(&scheme, &payload), Some(&first[..]));
            assert_eq!(contexts.compressed.as_ptr(), place);
        }
    }
}

#[test]
fn a_dictionary_makes_short_messages_shorter() {
    let dictionary = Dictionary::read(TRAINED).unwrap();
    assert_eq!(dictionary.id(), 0x5048_0001);
    let without = scheme(Algorithm::Zstd);
    let with = Scheme {
        dictionary: Some(&dictionary),
        ..without
    };
    let mut contexts = Contexts::default();
    let payload = message(31_337);
    let plain = contexts.compress(&without, &payload).unwrap().len();
    let compressed = contexts.compress(&with, &payload).unwrap().to_vec();
    assert!(2 * compressed.len() < plain, "{} {plain}", compressed.len());
    assert_eq!(inflate(&mut contexts, &with, &compressed), Ok(payload));
    let refused = inflate(&mut contexts, &without, &compressed);
    assert_eq!(refused, Err(WireError::BadCompression));
}

#[test]
fn whoever_has_the_dictionary_may_do_without_it() {
    let dictionary = Dictionary::read(TRAINED).unwrap();
    let without = scheme(Algorithm::Zstd);
    let with = Scheme {
        dictionary: Some(&dictionary),
        ..without
    };
    let mut contexts = Contexts::default();
    let compressed = contexts.compress(&without, &message(1)).unwrap().to_vec();
    assert_eq!(inflate(&mut contexts, &with, &compressed), Ok(message(1)));
}

#[test]
fn what_is_no_dictionary_is_not_read() {
    assert_eq!(Dictionary::read(b""), None);
    assert_eq!(Dictionary::read(&message(1)), None);
    assert_eq!(Dictionary::read(&TRAINED[..40]), None);
    assert_eq!(Dictionary::read(&vec![0; Dictionary::LIMIT + 1]), None);
    let mut broken = TRAINED.to_vec();
    broken[8..200].fill(0xff);
    assert_eq!(Dictionary::read(&broken), None);
}

fn schemes(dictionary: &Dictionary) -> impl Strategy<Value = Scheme<'_>> {
    (0..4usize).prop_map(move |choice| Scheme {
        dictionary: (choice == 3).then_some(dictionary),
        ..scheme(ALL[choice.min(2)])
    })
}

/// Runs and noise, so that there is something to compress.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<u8>(), 1..200usize).prop_map(|(byte, times)| vec![byte; times]);
    let piece = prop_oneof![run, prop::collection::vec(any::<u8>(), 0..40)];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn what_was_compressed_is_inflated_whatever_came_before() {
    let dictionary = Dictionary::read(TRAINED).unwrap();
    let turns = prop::collection::vec((schemes(&dictionary), payloads()), 1..20);
    let contexts = RefCell::new(Contexts::default());
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) }, |(turns in turns)| {
        let contexts = &mut *contexts.borrow_mut();
        for (scheme, payload) in turns {
            let Some(compressed) = contexts.compress(&scheme, &payload) else {
                continue;
            };
            prop_assert!(compressed.len() < payload.len());
            let compressed = compressed.to_vec();
            prop_assert_eq!(inflate(contexts, &scheme, &compressed), Ok(payload));
        }
    });
}

#[test]
fn what_was_harmed_is_refused_or_bounded_and_harms_nothing_later() {
    let dictionary = Dictionary::read(TRAINED).unwrap();
    let harm = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let contexts = RefCell::new(Contexts::default());
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) }, |(scheme in schemes(&dictionary), payload in payloads(), harm in harm)| {
        let contexts = &mut *contexts.borrow_mut();
        let Some(compressed) = contexts.compress(&scheme, &payload) else {
            return Ok(());
        };
        let whole = compressed.to_vec();
        let mut harmed = whole.clone();
        for (at, byte) in harm {
            let at = at.index(harmed.len());
            harmed[at] ^= byte;
        }
        let inflated = inflate(contexts, &scheme, &harmed);
        prop_assert!(inflated.is_err() || inflated.unwrap().len() <= scheme.limit);
        prop_assert_eq!(inflate(contexts, &scheme, &whole), Ok(payload));
    });
}
