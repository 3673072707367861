use super::*;
use crate::bluenet::header::{Kind, Priority};

fn header(priority: Priority) -> Header {
    Header::new(Kind::Session, priority, 1, 2)
}

/// All that it has to write.
fn written(link: &mut Link, now_ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let bytes = link.poll_write(now_ms).to_vec();
        if bytes.is_empty() {
            return out;
        }
        link.handle_written(bytes.len());
        out.extend(bytes);
    }
}

/// The payloads of the frames among the bytes, which are whole.
fn heard(link: &mut Link, mut bytes: &[u8], now_ms: u64) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while !bytes.is_empty() {
        match link.handle_bytes(bytes, now_ms).unwrap() {
            Step::Incomplete { need } => panic!("{need} needed"),
            Step::Own { consumed } => bytes = &bytes[consumed..],
            Step::Frame {
                consumed, payload, ..
            } => {
                payloads.push(bytes[payload].to_vec());
                bytes = &bytes[consumed..];
            }
        }
    }
    payloads
}

fn pair() -> (Link, Link) {
    let mut ends = (
        Link::new(LinkLimits::default(), 0),
        Link::new(LinkLimits::default(), 0),
    );
    ends.0.handle_connected([0; LANES], 0).unwrap();
    ends.1.handle_connected([0; LANES], 0).unwrap();
    ends
}

#[test]
fn what_is_pushed_arrives_and_is_kept_until_acknowledged() {
    let (mut one, mut other) = pair();
    one.push(header(Priority::Usual), &[b"to", b"", b"gether"])
        .unwrap();
    let bytes = written(&mut one, 0);
    assert_eq!(bytes[..LENGTH_BYTES], [0, 0, 18]);
    assert_eq!(heard(&mut other, &bytes, 0), [b"together"]);
    assert_eq!(other.received(), [0, 1, 0, 0]);
    assert_eq!(one.kept(), bytes.len());
    assert_eq!(one.handle_timeout(0), Verdict::Fine);
    let ping = written(&mut one, 0);
    assert_eq!(heard(&mut other, &ping, 4), [] as [Vec<u8>; 0]);
    let pong = written(&mut other, 4);
    assert_eq!(heard(&mut one, &pong, 9), [] as [Vec<u8>; 0]);
    assert_eq!((one.kept(), one.round_trip_us()), (0, Some(9000)));
}
