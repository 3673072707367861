#![no_main]
//! Headers between nodes: what is read is what plain arithmetic finds, and is written again into the same bytes.

use libfuzzer_sys::fuzz_target;
use photinus_proto::bluenet::header::{Header, HEADER_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let read = Header::decode(bytes);
    let known = bytes.len() >= HEADER_BYTES && bytes[1] < 32;
    assert_eq!(read.is_ok(), known);
    let Ok(header) = read else {
        return;
    };
    assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
    let number = |at: usize| {
        let bytes = bytes[at..at + 4].iter();
        bytes.fold(0, |number: u64, byte| number * 256 + u64::from(*byte))
    };
    assert_eq!(header.kind as u8, bytes[0] / 32);
    assert_eq!(header.hops, bytes[0] / 8 % 4);
    assert_eq!(header.priority as u8, bytes[0] / 2 % 4);
    assert_eq!(header.ext, bytes[0] % 2 == 1);
    assert_eq!(header.flags.bits(), bytes[1]);
    assert_eq!(u64::from(header.destination), number(2));
    assert_eq!(u64::from(header.source), number(6));
    assert_eq!(
        header.is_link(),
        bytes[0] >= 0xe0 && number(2) == 0 && number(6) == 0
    );
});
