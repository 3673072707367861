//! In a file of their own: deflate.rs is long enough without them.

use super::*;

fn inflate(message: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let mut out = b"before".to_vec();
    let inflated = Shared::new().inflate(message, limit, &mut out);
    assert_eq!(&out[..6], b"before");
    assert!(inflated.is_ok() || out.len() == 6);
    inflated.map(|()| out.split_off(6))
}

#[test]
fn the_examples_of_the_rfc() {
    // RFC 7692, 7.2.3: one block; one stored; a last block; two blocks; nothing.
    for message in [
        &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    ] {
        assert_eq!(inflate(message, 5).unwrap(), b"Hello");
        assert_eq!(inflate(message, 4), Err(WireError::TooLong));
    }
    assert_eq!(inflate(b"\x00", 0).unwrap(), b"");
    assert_eq!(inflate(b"", 0).unwrap(), b"");
}

#[test]
fn nothing_is_remembered_of_the_message_before() {
    let mut shared = Shared::new();
    let mut out = Vec::new();
    shared
        .inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 99, &mut out)
        .unwrap();
    // RFC 7692, 7.2.3.2: the second "Hello" of a sender that has kept its window.
    let refers_back = b"\xf2\x00\x11\x00\x00";
    assert_eq!(
        shared.inflate(refers_back, 99, &mut out),
        Err(WireError::BadCompression)
    );
    let text = b"nothing is remembered, nothing is remembered".repeat(9);
    let once = shared.deflate(&text).unwrap().to_vec();
    assert_eq!(shared.deflate(&text).unwrap(), once);
    assert_eq!(Shared::new().deflate(&text).unwrap(), once);
}

#[test]
fn what_is_deflated_is_inflated() {
    let mut shared = Shared::new();
    for length in [128, 4095, 4096, 4097, 65_536, 1_000_000] {
        let text: Vec<u8> = (0..length)
            .map(|at: u32| (at / 7 % 13 + at % 5) as u8)
            .collect();
        let deflated = shared.deflate(&text).unwrap().to_vec();
        assert!(deflated.len() < text.len());
        assert!(inflate(&deflated, text.len()).unwrap() == text);
        assert_eq!(inflate(&deflated, text.len() - 1), Err(WireError::TooLong));
    }
}

#[test]
fn what_does_not_get_shorter_harms_nothing_later() {
    let mut shared = Shared::new();
    let mut state = 1u32;
    for round in 0..3000 {
        let noise: Vec<u8> = (0..256 + round)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert_eq!(shared.deflate(&noise), None);
    }
    assert!(shared.deflater.is_some(), "each was let finish");
    assert!(shared.deflate(&[7; 256]).is_some());
}

#[test]
fn a_bomb_takes_no_more_than_the_limit() {
    let bomb = Shared::new()
        .deflate(&vec![0; 10_000_000])
        .unwrap()
        .to_vec();
    assert!(bomb.len() < 100_000);
    let mut out = Vec::new();
    let inflated = Shared::new().inflate(&bomb, 100_000, &mut out);
    assert_eq!(inflated, Err(WireError::TooLong));
    assert!(out.capacity() <= 100_001, "{}", out.capacity());
}

#[test]
fn garbage_is_refused() {
    for message in [
        &b"\xff"[..],
        b"\xff\xff\xff\xff",
        b"\x07",
        b"\x00\x01\x00\x00\x00",
    ] {
        assert_eq!(
            inflate(message, 99),
            Err(WireError::BadCompression),
            "{message:?}"
        );
    }
}
