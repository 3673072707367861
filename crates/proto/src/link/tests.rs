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

#[test]
fn a_new_connection_gets_what_its_peer_lacks() {
    let (mut one, mut other) = pair();
    for text in [&b"one"[..], b"two", b"three"] {
        one.push(header(Priority::Usual), &[text]).unwrap();
    }
    one.push(header(Priority::Bulk), &[b"heavy"]).unwrap();
    let bytes = written(&mut one, 0);
    // The second is cut in its middle.
    assert_eq!(heard(&mut other, &bytes[..16], 0), [b"one"]);
    assert_eq!(
        other.handle_bytes(&bytes[16..25], 0),
        Ok(Step::Incomplete { need: 16 })
    );
    one.handle_cut(1);
    other.handle_cut(1);
    assert_eq!(written(&mut one, 1), []);
    one.push(header(Priority::Usual), &[b"four"]).unwrap();
    one.handle_connected(other.received(), 2).unwrap();
    other.handle_connected(one.received(), 2).unwrap();
    let bytes = written(&mut one, 2);
    assert_eq!(
        heard(&mut other, &bytes, 2),
        [&b"two"[..], b"three", b"four", b"heavy"]
    );
    let statistics = one.statistics();
    assert_eq!(statistics.cuts, 1);
    assert_eq!(
        statistics.lanes.map(|lane| lane.resent_frames),
        [1, 2, 0, 0]
    );
    assert_eq!(
        statistics.lanes.map(|lane| lane.pushed_frames),
        [1, 4, 0, 0]
    );
}

/// An acknowledgement of so many frames of the usual lane.
fn acknowledgement(frames: u32) -> Vec<u8> {
    let mut other = Link::new(
        LinkLimits {
            ack_bytes: 1,
            ..LinkLimits::default()
        },
        0,
    );
    other.handle_connected([0; LANES], 0).unwrap();
    let mut one = Link::new(LinkLimits::default(), 0);
    one.handle_connected([0; LANES], 0).unwrap();
    for _ in 0..frames {
        one.push(header(Priority::Usual), &[]).unwrap();
    }
    heard(&mut other, &written(&mut one, 0), 0);
    written(&mut other, 0)
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let (mut one, _) = pair();
    one.push(header(Priority::Usual), &[b"one"]).unwrap();
    one.push(header(Priority::Usual), &[b"two"]).unwrap();
    // One is written, and all but the last byte of the other.
    let all = one.poll_write(0).len();
    one.handle_written(all - 1);
    heard(&mut one, &acknowledgement(1), 0);
    assert_eq!(one.kept(), all / 2);
    let lie = acknowledgement(2);
    for _ in 0..2 {
        assert_eq!(one.handle_bytes(&lie, 0), Err(WireError::BadFrame));
    }
    // And the link has ended with that.
    assert_eq!(
        one.handle_bytes(&acknowledgement(1), 0),
        Err(WireError::BadFrame)
    );
    assert_eq!(
        one.handle_connected([0; LANES], 0),
        Err(WireError::BadFrame)
    );
    assert_eq!(one.poll_write(0), []);
    assert_eq!(
        (one.handle_timeout(0), one.next_ms()),
        (Verdict::Lost, None)
    );
}

#[test]
fn what_was_acknowledged_is_not_lacked_again() {
    for (claim, fine) in [
        (0, false),
        (1, true),
        (2, true),
        (3, false),
        (u32::MAX, false),
    ] {
        let (mut one, _) = pair();
        one.push(header(Priority::Usual), &[b"one"]).unwrap();
        one.push(header(Priority::Usual), &[b"two"]).unwrap();
        written(&mut one, 0);
        heard(&mut one, &acknowledgement(1), 0);
        one.handle_cut(0);
        assert_eq!(
            one.handle_connected([0, claim, 0, 0], 0).is_ok(),
            fine,
            "{claim}"
        );
    }
}

#[test]
fn higher_lanes_overtake_and_a_frame_begun_is_finished() {
    let (mut one, mut other) = pair();
    let long = vec![b'x'; 3 * WRITE_BYTES];
    one.push(header(Priority::Bulk), &[&long]).unwrap();
    one.push(header(Priority::Bulk), &[b"behind it"]).unwrap();
    let mut bytes = one.poll_write(0).to_vec();
    assert_eq!(bytes.len(), WRITE_BYTES);
    one.handle_written(bytes.len());
    one.push(header(Priority::Usual), &[b"usual"]).unwrap();
    one.push(header(Priority::High), &[b"high"]).unwrap();
    one.push(header(Priority::Control), &[b"control"]).unwrap();
    one.handle_timeout(0);
    bytes.extend(written(&mut one, 0));
    assert_eq!(
        heard(&mut other, &bytes, 0),
        [&long[..], b"control", b"high", b"usual", b"behind it"]
    );
    // The ping stood before them all, behind the frame that was begun.
    let ping = LENGTH_BYTES + HEADER_BYTES + long.len() + LENGTH_BYTES;
    assert!(Header::decode(&bytes[ping..]).unwrap().is_link());
}

#[test]
fn an_acknowledgement_is_due_after_so_many_bytes() {
    let (mut one, mut other) = pair();
    let ack_bytes = LinkLimits::default().ack_bytes;
    let payload = vec![0; ack_bytes / 2 - LENGTH_BYTES - HEADER_BYTES];
    for (kept, acknowledged) in [
        (ack_bytes / 2, false),
        (ack_bytes, true),
        (ack_bytes / 2, false),
    ] {
        one.push(header(Priority::Usual), &[&payload]).unwrap();
        assert_eq!(one.kept(), kept);
        let bytes = written(&mut one, 0);
        heard(&mut other, &bytes, 0);
        let said = written(&mut other, 0);
        assert_eq!(!said.is_empty(), acknowledged);
        heard(&mut one, &said, 0);
    }
}

#[test]
fn what_a_hello_has_acknowledged_is_not_acknowledged_again() {
    let (mut one, mut other) = pair();
    let payload = vec![0; LinkLimits::default().ack_bytes - LENGTH_BYTES - HEADER_BYTES - 1];
    for more in [false, true] {
        one.push(header(Priority::Usual), &[&payload]).unwrap();
        let bytes = written(&mut one, 0);
        heard(&mut other, &bytes, 0);
        assert_eq!(written(&mut other, 0), [], "a byte is missing");
        if !more {
            other.handle_connected(one.received(), 0).unwrap();
            one.handle_connected(other.received(), 0).unwrap();
            assert_eq!(one.kept(), 0);
        }
    }
}

#[test]
fn what_is_full_takes_nothing() {
    let limits = LinkLimits {
        kept_bytes: 800,
        max_frame: 110,
        ..LinkLimits::default()
    };
    let mut one = Link::new(limits, 0);
    assert_eq!(one.max_payload(), 100);
    assert_eq!(
        one.push(header(Priority::Usual), &[&[0; 60], &[0; 41]]),
        Err(Full)
    );
    assert_eq!(
        (one.kept(), one.statistics()),
        (0, LinkStatistics::default())
    );
    let mut pushed = 0;
    while one.push(header(Priority::Usual), &[&[0; 87]]).is_ok() {
        pushed += 1;
        assert_eq!(one.is_crowded(), pushed > 4);
    }
    assert_eq!((pushed, one.kept()), (7, 700));
    // The rest is the control lane's.
    assert_eq!(one.push(header(Priority::High), &[]), Err(Full));
    one.push(header(Priority::Control), &[&[0; 87]]).unwrap();
    assert_eq!(one.push(header(Priority::Control), &[]), Err(Full));
    // Nothing was lost by what was refused.
    let mut other = Link::new(limits, 0);
    one.handle_connected([0; LANES], 0).unwrap();
    other.handle_connected([0; LANES], 0).unwrap();
    assert_eq!(heard(&mut other, &written(&mut one, 0), 0).len(), 8);
}

#[test]
fn what_is_malformed_is_refused_as_soon_as_it_can_be_known() {
    let limits = LinkLimits {
        max_frame: 1000,
        ..LinkLimits::default()
    };
    let frame = |length: u32, header: &[u8]| [&length.to_be_bytes()[1..], header].concat();
    let flag = [0x20, 0x20, 0, 0, 0, 1, 0, 0, 0, 1];
    for (bytes, error) in [
        (frame(0, &[]), WireError::BadFrame),
        (frame(9, &[]), WireError::BadFrame),
        (frame(1001, &[]), WireError::TooLong),
        (frame(0xff_ffff, &[]), WireError::TooLong),
        (frame(1000, &flag), WireError::BadFrame),
    ] {
        let mut link = Link::new(limits, 0);
        link.handle_connected([0; LANES], 0).unwrap();
        for cut in 0..bytes.len() {
            assert!(matches!(
                link.handle_bytes(&bytes[..cut], 0),
                Ok(Step::Incomplete { need }) if need > cut
            ));
        }
        for _ in 0..2 {
            assert_eq!(link.handle_bytes(&bytes, 0), Err(error), "{bytes:?}");
        }
    }
}

#[test]
fn what_a_link_says_for_itself_has_one_form() {
    let (mut one, _) = pair();
    let right = acknowledgement(0);
    assert!(right.is_empty(), "nothing to say");
    one.handle_timeout(0);
    let ping = written(&mut one, 0);
    let mut variants = vec![];
    for at in [3, 4, LENGTH_BYTES + HEADER_BYTES] {
        for byte in 0..=u8::MAX {
            let mut variant = ping.clone();
            variant[at] = byte;
            variants.push(variant);
        }
    }
    for length in 0..40 {
        let mut variant = ping[..LENGTH_BYTES + HEADER_BYTES].to_vec();
        variant.extend(
            ping[LENGTH_BYTES + HEADER_BYTES..]
                .iter()
                .copied()
                .chain([0; 40])
                .take(length),
        );
        variant[2] = (HEADER_BYTES + length) as u8;
        variants.push(variant);
    }
    let mut taken = 0;
    for variant in variants {
        let mut other = pair().1;
        match other.handle_bytes(&variant, 0) {
            // A pong that answers no ping is taken: it says how many came.
            Ok(Step::Own { consumed }) => {
                taken += 1;
                assert_eq!(consumed, variant.len());
                let tag = variant[LENGTH_BYTES + HEADER_BYTES];
                assert!(variant == ping || tag == 3, "{variant:?}");
            }
            // Of another kind than control: a frame like any other.
            Ok(Step::Frame { header, .. }) => assert!(!header.is_link()),
            Ok(Step::Incomplete { need }) => panic!("{need}"),
            Err(error) => assert_eq!(error, WireError::BadFrame),
        }
    }
    assert_eq!(
        taken, 5,
        "itself, once for each place and for its length, and the pong"
    );
}

#[test]
fn many_pings_get_one_answer() {
    let (mut one, mut other) = pair();
    let mut pings = Vec::new();
    for round in 0..1000 {
        one.handle_timeout(500 * round);
        pings.extend(written(&mut one, 500 * round));
    }
    heard(&mut other, &pings, 0);
    let pong = written(&mut other, 0);
    assert_eq!(pong.len(), pings.len() / 1000);
    // It is the last that is answered.
    heard(&mut one, &pong, 500 * 999 + 3);
    assert_eq!(one.round_trip_us(), Some(3000));
}

#[test]
fn round_trips_are_as_fine_as_the_clock() {
    let (mut one, mut other) = pair();
    one.set_clock_us(1_000_000);
    one.handle_timeout(0);
    let ping = written(&mut one, 0);
    heard(&mut other, &ping, 0);
    let pong = written(&mut other, 0);
    one.set_clock_us(1_000_045);
    heard(&mut one, &pong, 0);
    assert_eq!(one.round_trip_us(), Some(45));
    // One that was never asked for, from a time that has not come.
    one.set_clock_us(5);
    heard(&mut one, &pong, 0);
    assert_eq!(one.round_trip_us(), Some(45));
}

#[test]
fn a_silent_connection_is_cut_and_then_the_peer_is_lost() {
    let (mut one, _) = pair();
    assert_eq!(one.next_ms(), Some(0), "the first ping");
    assert_eq!(one.handle_timeout(0), Verdict::Fine);
    assert_eq!(one.next_ms(), Some(500));
    assert_eq!(
        one.handle_bytes(&[0], 400),
        Ok(Step::Incomplete { need: 3 })
    );
    let mut pings = 0;
    let cut_ms = loop {
        let now_ms = one.next_ms().unwrap();
        match one.handle_timeout(now_ms) {
            Verdict::Fine => pings += 1,
            Verdict::Silent => break now_ms,
            Verdict::Lost => panic!("there is a connection"),
        }
    };
    assert_eq!((cut_ms, pings), (1900, 3));
    one.handle_cut(cut_ms);
    assert_eq!(one.next_ms(), Some(3400));
    assert_eq!(one.handle_timeout(3399), Verdict::Fine);
    assert_eq!(one.handle_timeout(3400), Verdict::Lost);
    // It was noticed late, and yet there is time for another connection.
    let (mut other, _) = pair();
    assert_eq!(other.handle_timeout(60_000), Verdict::Silent);
    other.handle_cut(60_000);
    other.handle_cut(61_000);
    assert_eq!(other.next_ms(), Some(61_500));
    other.handle_connected([0; LANES], 61_499).unwrap();
    assert_eq!(other.handle_timeout(61_500), Verdict::Fine);
}

#[test]
fn who_never_connects_is_lost() {
    let mut one = Link::new(LinkLimits::default(), 100);
    assert_eq!(one.next_ms(), Some(3100));
    assert_eq!(one.handle_timeout(3099), Verdict::Fine);
    assert_eq!(one.handle_timeout(3100), Verdict::Lost);
    assert_eq!(one.statistics().cuts, 0);
}

#[test]
#[should_panic(expected = "the link's own")]
fn a_frame_like_the_links_own_cannot_be_pushed() {
    let _ = pair().0.push(Header::LINK, &[b"fence"]);
}
