#![no_main]
//! WebSocket behind its handshake: frames as they come, or built for the fuzzer, masked, in fragments, deflated. What
//! comes out depends on no cut, and is what a reader finds that knows the frames beforehand, unmasks a byte at a time
//! and inflates with another library. What the server says is read back by such a client.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use photinus_fuzz::websocket::{hear, Heard};
use photinus_fuzz::Stream;
use photinus_proto::websocket::{Content, Options, Shared, Status};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[derive(Debug, Arbitrary)]
struct Input {
    content: u8,
    deflate: bool,
    window_bits: Option<u8>,
    max_payload: u16,
    messages: Vec<Sent>,
    /// Behind the messages.
    stream: Stream,
    said: Vec<Vec<u8>>,
}

/// A message of an honest client.
#[derive(Debug, Arbitrary)]
struct Sent {
    text: bool,
    /// Each more than the last time said again, so that there is something to deflate.
    payload: Vec<(Vec<u8>, u8)>,
    deflated: bool,
    mask: [u8; 4],
    /// Lengths of its fragments but the last, and the payload of a ping behind each.
    fragments: Vec<(u8, Option<[u8; 3]>)>,
}

impl Sent {
    fn payload(&self) -> Vec<u8> {
        self.payload
            .iter()
            .flat_map(|(piece, times)| piece.repeat(usize::from(*times % 16)))
            .collect()
    }

    fn write(&self, deflate: bool, out: &mut Vec<u8>) {
        let payload = match self.deflated && deflate {
            true => {
                // Without the last block's bits a client would have to flush: an empty block more does as well.
                let mut deflated = compress_to_vec(&self.payload(), 6);
                deflated.push(0);
                deflated
            }
            false => self.payload(),
        };
        let mut rest = &payload[..];
        let rsv = if self.deflated && deflate { 0x40 } else { 0 };
        let mut first = rsv | if self.text { 1 } else { 2 };
        for (length, ping) in &self.fragments {
            let (fragment, more) = rest.split_at(rest.len().min(usize::from(*length)));
            frame(first, fragment, self.mask, out);
            if let Some(ping) = ping {
                frame(0x89, ping, self.mask, out);
            }
            (first, rest) = (0, more);
        }
        frame(first | 0x80, rest, self.mask, out);
    }
}

fn frame(first: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        length @ ..=125 => out.push(0x80 | length as u8),
        length @ ..=0xffff => {
            out.push(0xfe);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0xff);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4]),
    );
}

fuzz_target!(|input: Input| {
    let content =
        [Content::Stream, Content::Packages, Content::Messages][usize::from(input.content) % 3];
    let mut pairs = vec![("deflate", if input.deflate { "1" } else { "0" })];
    let most = usize::from(input.max_payload);
    let options = Options::from_url(content, most, "", &mut pairs).unwrap();
    let mut bytes = REQUEST.to_vec();
    if input.deflate {
        let bits = input.window_bits.map_or(15, |bits| 8 + bits % 8);
        bytes.extend(
            format!(
                "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n"
            )
            .into_bytes(),
        );
    }
    bytes.extend(b"\r\n");
    for sent in &input.messages {
        sent.write(input.deflate, &mut bytes);
    }
    let behind = bytes.len();
    bytes.extend(&input.stream.bytes);

    let mut shared = Shared::new();
    let (mut whole, _) = hear(&options, &mut shared, &bytes, &[]);
    let (mut pieces, _) = hear(&options, &mut shared, &bytes, &input.stream.pieces);
    if content == Content::Messages {
        // Of a message that was not whole before an error, more or less has been handed on.
        only_whole(&mut whole);
        only_whole(&mut pieces);
    }
    assert_eq!(pieces, whole);

    let (honest, peer) = hear(
        &options,
        &mut shared,
        &bytes[..behind],
        &input.stream.pieces,
    );
    if let Ok(status) = honest.status {
        assert_eq!(status, Status::Open);
        let due: Vec<u8> = input
            .messages
            .iter()
            .flat_map(|sent| handed_on(sent, content))
            .collect();
        assert!(honest.out == due);
    } else {
        assert!(input.messages.iter().any(|sent| {
            let payload = sent.payload();
            payload.len() > most
                || sent.text
                    && (content != Content::Messages || std::str::from_utf8(&payload).is_err())
        }));
    }

    let mut said = Vec::new();
    for payload in &input.said {
        match content {
            Content::Stream => said.extend(payload),
            Content::Packages => {
                said.push(4);
                said.extend(&(payload.len() as u32).to_be_bytes()[1..]);
                said.extend(payload);
            }
            Content::Messages => {
                said.push(2);
                said.extend((payload.len() as u32).to_be_bytes());
                said.extend(payload);
            }
        }
    }
    let mut wire = Vec::new();
    options.encode(peer.form(), &mut shared, &said, &mut wire);
    let heard = client(&wire);
    match content {
        Content::Messages => assert_eq!(heard, input.said),
        _ => assert!(heard.concat() == said),
    }
    assert!(content != Content::Packages || heard.len() == input.said.len());
});

/// What the protocol gets of one of an honest client's messages.
fn handed_on(sent: &Sent, content: Content) -> Vec<u8> {
    let payload = sent.payload();
    match content {
        Content::Messages => {
            let mut out = vec![if sent.text { 1 } else { 2 }];
            out.extend((payload.len() as u32).to_be_bytes());
            out.extend(payload);
            out
        }
        _ => payload,
    }
}

/// Cuts off a packet at the end that is not whole.
fn only_whole(heard: &mut Heard) {
    let mut end = 0;
    while let Some(&[_, a, b, c, d]) = heard.out[end..].first_chunk() {
        let next = end + 5 + u32::from_be_bytes([a, b, c, d]) as usize;
        if next > heard.out.len() {
            break;
        }
        end = next;
    }
    heard.out.truncate(end);
}

/// The messages that a server has sent, as a client reads them.
fn client(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let [first, second, rest @ ..] = wire {
        assert!(first & 0x80 != 0 && first & 0x30 == 0 && matches!(first & 0x0f, 1 | 2));
        let (length, rest) = match second {
            126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            127 => (
                u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize,
                &rest[8..],
            ),
            length => (usize::from(*length), rest),
        };
        let (payload, rest) = rest.split_at(length);
        messages.push(match first & 0x40 != 0 {
            false => payload.to_vec(),
            true => {
                let stream = [payload, b"\0\0\xff\xff\x01\0\0\xff\xff"].concat();
                decompress_to_vec_with_limit(&stream, 1 << 26).unwrap()
            }
        });
        wire = rest;
    }
    messages
}
