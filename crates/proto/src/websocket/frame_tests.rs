//! In a file of their own: frame.rs is long enough without them.

use super::*;

#[test]
fn the_examples_of_the_rfc() {
    // RFC 6455, 5.7.
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let Ok(Read::Head(head)) = read_head(hello) else {
        panic!()
    };
    assert_eq!(
        (head.opcode, head.length, head.size),
        (Opcode::Data(Kind::Text), 5, 6)
    );
    assert!(head.is_final && !head.is_deflated);
    let mut payload = hello[head.size..].to_vec();
    unmask(&mut payload, head.mask);
    assert_eq!(payload, b"Hello");
    let mut out = Vec::new();
    write_head(Kind::Text, false, 5, &mut out);
    write_pong(b"Hello", &mut out);
    write_head(Kind::Binary, false, 256, &mut out);
    write_head(Kind::Binary, false, 65536, &mut out);
    assert_eq!(
        out,
        b"\x81\x05\x8a\x05Hello\x82\x7e\x01\x00\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"
    );
}

#[test]
fn a_head_asks_for_what_it_needs() {
    let head = [0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
    let needs = [2, 2, 10, 10, 10, 10, 10, 10, 10, 10, 14, 14, 14, 14];
    for (length, need) in needs.into_iter().enumerate() {
        assert_eq!(read_head(&head[..length]), Ok(Read::Need(need)));
    }
    let Ok(Read::Head(read)) = read_head(&head) else {
        panic!()
    };
    assert_eq!(
        (read.length, read.size, read.mask),
        (65536, 14, [1, 2, 3, 4])
    );
    assert!(!read.is_final);
}

#[test]
fn a_mask_goes_on_from_any_byte() {
    let mask = [1, 2, 4, 8];
    for length in 0..100 {
        let plain: Vec<u8> = (0..length).collect();
        let masked: Vec<u8> = plain
            .iter()
            .zip(mask.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect();
        for cut in 0..=plain.len() {
            let mut bytes = masked.clone();
            let mut rest = mask;
            rest.rotate_left(cut % 4);
            unmask(&mut bytes[..cut], mask);
            unmask(&mut bytes[cut..], rest);
            assert_eq!(bytes, plain);
        }
    }
}

#[test]
fn the_codes_that_may_be_sent() {
    let may = |code: u16| check_close(&code.to_be_bytes()).is_ok();
    let allowed: Vec<u16> = (0..=u16::MAX).filter(|code| may(*code)).collect();
    let due: Vec<u16> = [1000, 1001, 1002, 1003]
        .into_iter()
        .chain(1007..=1014)
        .chain(3000..=4999)
        .collect();
    assert_eq!(allowed, due);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut out = Vec::new();
    write_close(
        1008,
        &format!("{}é{}", "a".repeat(122), "b".repeat(9)),
        &mut out,
    );
    assert_eq!((out.len(), out[1], out[125]), (2 + 124, 124, b'a'));
    out.clear();
    write_close(1008, &"a".repeat(123), &mut out);
    assert_eq!(out.len(), 2 + CONTROL_LIMIT);
}
