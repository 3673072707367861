//! In a file of their own: connection.rs is long enough without them.

use super::super::{code, Content, Form, Options, Peer, Shared, Status, Step};
use crate::error::WireError;

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\
    \r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame of the client's; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(0xfe);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

struct Connection {
    options: Options,
    peer: Peer,
    shared: Shared,
    out: Vec<u8>,
    reply: Vec<u8>,
}

impl Connection {
    fn new(options: Options) -> Connection {
        Connection {
            peer: options.peer(),
            options,
            shared: Shared::new(),
            out: Vec::new(),
            reply: Vec::new(),
        }
    }

    fn open(content: Content, max_message: usize, deflate: bool) -> Connection {
        let mut options = Options::new(content, 0);
        options.max_message = max_message;
        options.deflate = deflate;
        let mut connection = Connection::new(options);
        assert_eq!(connection.take(REQUEST), OPEN);
        assert!(connection.reply.starts_with(b"HTTP/1.1 101 "));
        connection.reply.clear();
        connection
    }

    fn stream() -> Connection {
        Connection::open(Content::Stream, 1000, false)
    }

    fn messages() -> Connection {
        Connection::open(Content::Messages, 1000, false)
    }

    fn take(&mut self, input: &[u8]) -> Result<Step, WireError> {
        let Connection {
            options,
            peer,
            shared,
            out,
            reply,
        } = self;
        options.decode(peer, shared, input, out, reply)
    }

    /// The error, and the code of the close that was the last of the reply.
    fn refused(&mut self, input: &[u8]) -> (WireError, u16) {
        let error = self.take(input).unwrap_err();
        let before = self.reply.clone();
        assert_eq!(self.take(input), Err(error), "an error is kept");
        assert_eq!((&self.reply, self.peer.held_bytes()), (&before, 0));
        let close = [
            &[0x88, 2 + error.reason().len() as u8][..],
            &[0, 0],
            error.reason().as_bytes(),
        ];
        let close = close.concat();
        let tail = &before[before.len() - close.len()..];
        assert_eq!((&tail[..2], &tail[4..]), (&close[..2], &close[4..]));
        (error, u16::from_be_bytes([tail[2], tail[3]]))
    }
}

const OPEN: Result<Step, WireError> = Ok(Step {
    status: Status::Open,
    more: false,
});
const CLOSED: Result<Step, WireError> = Ok(Step {
    status: Status::Closed,
    more: false,
});

#[test]
fn a_peer_is_small_and_owns_nothing_between_messages() {
    assert!(
        std::mem::size_of::<Peer>() <= 64,
        "{}",
        std::mem::size_of::<Peer>()
    );
    let mut connection = Connection::open(Content::Messages, 1000, true);
    let whole = [frame(0x02, b"ab"), frame(0x80, b"c"), frame(0x89, b"?")].concat();
    for cut in 0..whole.len() {
        assert_eq!(connection.take(&whole[..cut]), OPEN);
        assert_eq!(connection.peer.is_amid(), cut > 0 && cut != whole.len() - 7);
        assert_eq!(connection.take(&whole[cut..]), OPEN);
        assert_eq!(
            (connection.peer.held_bytes(), connection.peer.is_amid()),
            (0, false)
        );
    }
}

#[test]
fn a_stream_is_handed_on_as_it_comes() {
    let mut connection = Connection::stream();
    let whole = [
        frame(0x82, b"hello "),
        frame(0x02, b"wor"),
        frame(0x80, b"ld"),
    ]
    .concat();
    for byte in &whole {
        connection.take(&[*byte]).unwrap();
        assert!(connection.peer.held_bytes() < 32);
    }
    assert_eq!(connection.out, b"hello world");
    assert_eq!(connection.reply, b"");
}

#[test]
fn of_messages_the_codec_is_told_kind_and_length() {
    let mut connection = Connection::messages();
    connection.take(&frame(0x81, "hé".as_bytes())).unwrap();
    connection.take(&frame(0x82, b"")).unwrap();
    connection.take(&frame(0x01, b"")).unwrap();
    connection.take(&frame(0x00, b"ab")).unwrap();
    connection.take(&frame(0x80, b"")).unwrap();
    assert_eq!(
        connection.out,
        b"\x01\0\0\0\x03h\xc3\xa9\x02\0\0\0\0\x01\0\0\0\x02ab"
    );
}

#[test]
fn a_long_message_needs_no_buffer() {
    let mut connection = Connection::open(Content::Messages, 1 << 20, false);
    let payload: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
    for piece in frame(0x82, &payload).chunks(1009) {
        assert_eq!(connection.take(piece), OPEN);
        assert!(connection.peer.held_bytes() < 32);
    }
    assert_eq!(connection.out[..5], [2, 0, 0x10, 0, 0]);
    assert!(connection.out[5..] == payload);
}

#[test]
fn pings_are_answered_also_amid_a_message() {
    let mut connection = Connection::stream();
    let input = [
        frame(0x02, b"a"),
        frame(0x89, b"hi"),
        frame(0x8a, b"unasked"),
        frame(0x80, b"b"),
    ];
    assert_eq!(connection.take(&input.concat()), OPEN);
    assert_eq!(
        (&connection.out[..], &connection.reply[..]),
        (&b"ab"[..], &b"\x8a\x02hi"[..])
    );
}

#[test]
fn a_close_is_answered_and_nothing_is_read_behind_it() {
    for close in [&b""[..], b"\x03\xe8", b"\x0f\xa0bye"] {
        let mut connection = Connection::stream();
        let input = [
            frame(0x82, b"a"),
            frame(0x88, close),
            frame(0x82, b"b"),
            vec![0xff; 9],
        ];
        assert_eq!(connection.take(&input.concat()), CLOSED);
        assert_eq!(connection.take(b"more"), CLOSED);
        let answer = [&[0x88, close.len() as u8], close].concat();
        assert_eq!(
            (&connection.out[..], &connection.reply),
            (&b"a"[..], &answer)
        );
        let mut late = Vec::new();
        connection.peer.close(code::NORMAL, "", &mut late);
        connection.peer.ping(&mut late);
        assert_eq!(late, b"");
    }
}

#[test]
fn after_the_servers_close_only_the_clients_is_read() {
    let mut connection = Connection::messages();
    let mut said = Vec::new();
    connection.peer.ping(&mut said);
    connection.peer.close(code::POLICY, "too-fast", &mut said);
    connection.peer.close(code::POLICY, "again", &mut said);
    assert_eq!(said, b"\x89\x00\x88\x0a\x03\xf0too-fast");
    let late = [
        frame(0x82, b"a"),
        frame(0x01, b"b"),
        frame(0x80, b"c"),
        frame(0x89, b""),
    ];
    assert_eq!(connection.take(&late.concat()), OPEN);
    assert_eq!(connection.take(&frame(0x88, b"\x03\xf0")), CLOSED);
    assert_eq!(
        (&connection.out[..], &connection.reply[..]),
        (&b""[..], &b""[..])
    );
    assert_eq!(connection.peer.held_bytes(), 0);
}

#[test]
fn what_is_malformed_ends_it() {
    let long_ping = [&[0x89, 0xfe, 0, 126][..], &MASK, &[0; 126]].concat();
    let cases = [
        vec![0x82, 0x01, b'a'], // not masked
        frame(0xc2, b"a"),      // RSV1 without deflate
        vec![0xa2],             // RSV2
        vec![0x92],             // RSV3
        vec![0x83],             // an unknown opcode
        vec![0x8b],             // an unknown control opcode
        vec![0x09],             // a control frame in fragments
        long_ping,
        frame(0x80, b"a"),                               // nothing to go on with
        [frame(0x02, b"a"), frame(0x82, b"b")].concat(), // a new message in the old one
        vec![0x82, 0xfe, 0, 125],                        // could be written shorter
        vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],  // could be written shorter
        vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],     // 64 bits
        frame(0x88, b"\x03"),                            // half a code
        frame(0x88, b"\x03\xed"),                        // 1005 is never sent
        frame(0x88, b"\x13\x88"),                        // 5000
    ];
    for input in cases {
        let mut connection = Connection::stream();
        let found = connection.refused(&input);
        assert_eq!(
            found,
            (WireError::BadFrame, code::PROTOCOL_ERROR),
            "{input:?}"
        );
    }
    let found = Connection::stream().refused(&frame(0x88, b"\x03\xe8\xff"));
    assert_eq!(found, (WireError::BadText, code::BAD_DATA));
}

#[test]
fn text_on_a_stream_ends_it_at_its_first_byte() {
    let mut connection = Connection::stream();
    let input = [frame(0x82, b"a"), vec![0x81, 0x85, 0, 0, 0, 0]].concat();
    assert_eq!(
        connection.refused(&input),
        (WireError::TextFrame, code::UNSUPPORTED)
    );
    assert_eq!(connection.out, b"a");
}

#[test]
fn text_is_checked_as_it_comes() {
    for (first, second) in [
        (&b"\xe2\x82"[..], &b"\xffmore"[..]),
        (b"\xe2", b"\x82"),
        (b"a", b"\xc3"),
    ] {
        let input = [frame(0x01, first), frame(0x80, second)].concat();
        let mut connection = Connection::messages();
        assert_eq!(
            connection.refused(&input),
            (WireError::BadText, code::BAD_DATA)
        );
        assert!(connection.out.len() < 5 + first.len() + second.len());
    }
    let mut connection = Connection::messages();
    // Before the message has come whole.
    let input = [&[0x01, 0x8f][..], &[0; 4], b"ok\xc0"].concat();
    assert_eq!(
        connection.refused(&input),
        (WireError::BadText, code::BAD_DATA)
    );
    let mut connection = Connection::messages();
    let input = [frame(0x01, b"\xe2"), frame(0x80, b"")].concat();
    assert_eq!(
        connection.refused(&input),
        (WireError::BadText, code::BAD_DATA)
    );
    assert_eq!(connection.out, b"");
}

#[test]
fn a_message_is_as_long_as_the_listener_allows_and_no_longer() {
    for (fits, too_long) in [(vec![1000], vec![1001]), (vec![600, 400], vec![600, 401])] {
        let fragments = |lengths: &[usize]| -> Vec<u8> {
            let last = lengths.len() - 1;
            let frame = |(at, length): (usize, &usize)| {
                let first = if at == 0 { 2 } else { 0 } | if at == last { 0x80 } else { 0 };
                frame(first, &vec![7; *length])
            };
            lengths.iter().enumerate().flat_map(frame).collect()
        };
        let mut connection = Connection::stream();
        assert_eq!(connection.take(&fragments(&fits)), OPEN);
        assert_eq!(connection.out.len(), 1000);
        let mut connection = Connection::stream();
        let found = connection.refused(&fragments(&too_long));
        assert_eq!(found, (WireError::TooLong, code::TOO_LONG));
    }
    // By its head alone.
    let head = [
        0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
    ];
    assert_eq!(
        Connection::stream().refused(&head),
        (WireError::TooLong, code::TOO_LONG)
    );
}

#[test]
fn what_the_server_says_is_a_message() {
    let connection = Connection::stream();
    let Connection {
        options,
        peer,
        mut shared,
        ..
    } = connection;
    let mut out = Vec::new();
    for length in [0, 1, 125, 126, 65535, 65536] {
        options.encode(peer.form(), &mut shared, &vec![7; length], &mut out);
    }
    let heads = [
        &[0x82, 1][..],
        &[0x82, 125],
        &[0x82, 126, 0, 126],
        &[0x82, 126, 0xff, 0xff],
        &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0],
    ];
    let due: Vec<u8> = heads
        .iter()
        .zip([1, 125, 126, 65535, 65536])
        .flat_map(|(head, length)| [head, &vec![7; length][..]].concat())
        .collect();
    assert!(out == due);
}

#[test]
fn each_of_pomelos_packages_is_a_message() {
    let mut connection = Connection::open(Content::Packages, 1000, false);
    connection.take(&frame(0x82, b"\x03\0\0\0\x04\0")).unwrap();
    connection.take(&frame(0x82, b"\0\x01!")).unwrap();
    assert_eq!(connection.out, b"\x03\0\0\0\x04\0\0\x01!");
    let Connection {
        options,
        peer,
        mut shared,
        ..
    } = connection;
    let mut out = Vec::new();
    let said = b"\x03\0\0\0\x04\0\0\x02hi\x05\0\0\0";
    options.encode(peer.form(), &mut shared, said, &mut out);
    assert_eq!(
        out,
        b"\x82\x04\x03\0\0\0\x82\x06\x04\0\0\x02hi\x82\x04\x05\0\0\0"
    );
}

#[test]
fn an_answer_is_of_the_kind_that_came() {
    let mut connection = Connection::messages();
    let said = |connection: &mut Connection, bytes: &[u8]| {
        let mut out = Vec::new();
        let form = connection.peer.form();
        connection
            .options
            .encode(form, &mut connection.shared, bytes, &mut out);
        out
    };
    let two = b"\x01\0\0\0\x01a\x02\0\0\0\x01b";
    assert_eq!(said(&mut connection, two), b"\x81\x01a\x82\x01b");
    connection.take(&frame(0x82, b"")).unwrap();
    assert_eq!(said(&mut connection, two), b"\x82\x01a\x82\x01b");
    connection.take(&frame(0x81, b"")).unwrap();
    assert_eq!(said(&mut connection, two), b"\x81\x01a\x81\x01b");
    assert_eq!(
        said(&mut connection, b"\x01\0\0\0\x01\xff"),
        b"\x82\x01\xff"
    );
}

#[test]
fn what_is_deflated_comes_out_inflated() {
    let mut connection = Connection::open(Content::Messages, 1000, true);
    // RFC 7692, 7.2.3.1 and 7.2.3.2: "Hello", in one frame and in two.
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let input = [
        frame(0xc1, hello),
        frame(0x41, &hello[..3]),
        frame(0x80, &hello[3..]),
    ]
    .concat();
    for cut in 0..=input.len() {
        connection.out.clear();
        connection.take(&input[..cut]).unwrap();
        connection.take(&input[cut..]).unwrap();
        assert_eq!(connection.out, b"\x01\0\0\0\x05Hello\x01\0\0\0\x05Hello");
    }
    assert_eq!(connection.refused(&frame(0xc9, b"")).0, WireError::BadFrame);
}

#[test]
fn what_cannot_be_inflated_ends_it() {
    let deflated = |text: &[u8]| Shared::new().deflate(text).unwrap().to_vec();
    let mut connection = Connection::open(Content::Messages, 1000, true);
    connection
        .take(&frame(0xc2, &deflated(&[0; 1000])))
        .unwrap();
    assert_eq!(connection.out.len(), 1005);
    let bomb = frame(0xc2, &deflated(&[0; 1001]));
    assert_eq!(
        connection.refused(&bomb),
        (WireError::TooLong, code::TOO_LONG)
    );
    assert_eq!(connection.out.len(), 1005);
    let mut connection = Connection::open(Content::Stream, 1000, true);
    let found = connection.refused(&frame(0xc2, b"\xff\xff\xff"));
    assert_eq!(found, (WireError::BadCompression, code::BAD_DATA));
    let mut connection = Connection::open(Content::Messages, 1000, true);
    let found = connection.refused(&frame(0xc1, &deflated(&[0xff; 100])));
    assert_eq!(found, (WireError::BadText, code::BAD_DATA));
    assert_eq!(connection.out, b"");
}

#[test]
fn no_call_inflates_without_bound() {
    let bomb = frame(0xc2, Shared::new().deflate(&[0; 100_000]).unwrap());
    let bombs = bomb.repeat(100);
    let mut connection = Connection::open(Content::Stream, 100_000, true);
    let mut total = 0;
    let mut input = &bombs[..];
    loop {
        let step = connection.take(input).unwrap();
        assert!(connection.out.len() <= bombs.len() + 200_000);
        total += connection.out.len();
        connection.out.clear();
        input = &[];
        if !step.more {
            break;
        }
    }
    assert_eq!((total, connection.peer.held_bytes()), (10_000_000, 0));
}

#[test]
fn messages_are_deflated_if_agreed_and_worth_it() {
    let mut connection = Connection::open(Content::Stream, 1000, true);
    let Connection {
        options,
        peer,
        shared,
        ..
    } = &mut connection;
    let mut said = |form: Form, bytes: &[u8]| {
        let mut out = Vec::new();
        options.encode(form, shared, bytes, &mut out);
        out
    };
    let text = b"all work and no play ".repeat(20);
    let out = said(peer.form(), &text);
    assert!(out[0] == 0xc2 && out.len() < 60);
    assert_eq!(said(peer.form().without_deflate(), &text)[0], 0x82);
    assert_eq!(said(peer.form(), &text[..100])[0], 0x82, "not worth it");
    let noise = std::iter::successors(Some(1u32), |at| Some(at.wrapping_mul(1_664_525) + 1));
    let noise: Vec<u8> = noise.map(|at| (at >> 24) as u8).take(200).collect();
    assert_eq!(said(peer.form(), &noise)[0], 0x82, "does not get shorter");
    let narrow = Form {
        window_bits: 8,
        ..peer.form()
    };
    assert_eq!(said(narrow, &text[..256])[0], 0xc2);
    assert_eq!(
        said(narrow, &text[..257])[0],
        0x82,
        "may refer back too far"
    );
}
