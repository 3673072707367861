//! What holds for every codec and any input: the promises of `Protocol::decode` and `encode`.

use arbitrary::Arbitrary;
use photinus_proto::codec::photinus::{Status, Welcome};
use photinus_proto::codec::{Decoded, Flags, Message, Outgoing, Packet, Peer, Protocol, Route};
use photinus_proto::error::WireError;

pub mod websocket;

/// What one connection sends, and in which pieces it comes.
#[derive(Debug, Arbitrary)]
pub struct Stream {
    pub bytes: Vec<u8>,
    /// Lengths of the pieces; the rest comes in one.
    pub pieces: Vec<u8>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Read {
    /// Where each frame ended, and what it was.
    pub frames: Vec<(usize, Decoded)>,
    pub reply: Vec<u8>,
    pub error: Option<WireError>,
}

/// Reads the stream whole and in its pieces: both say the same.
pub fn read(protocol: &Protocol, stream: &Stream) -> Read {
    let whole = drive(protocol, &stream.bytes, &[]);
    let pieces: Vec<usize> = stream
        .pieces
        .iter()
        .map(|piece| usize::from(*piece))
        .collect();
    assert_eq!(drive(protocol, &stream.bytes, &pieces), whole);
    whole
}

/// What hellos are answered with.
const WELCOME: Welcome = Welcome {
    status: Status::New,
    clock: 1,
    rate: 1_000_000,
    resume: None,
};

fn drive(protocol: &Protocol, bytes: &[u8], pieces: &[usize]) -> Read {
    let mut peer = protocol.peer();
    assert!(std::mem::size_of::<Peer>() <= 16);
    let mut read = Read::default();
    let (mut start, mut come) = (0, 0);
    for piece in pieces.iter().copied().chain([bytes.len()]) {
        come = bytes.len().min(come + piece);
        loop {
            let input = &bytes[start..come];
            let replied = read.reply.len();
            match protocol.decode(&mut peer, input, &mut read.reply) {
                Ok(Decoded::Incomplete { need }) => {
                    assert!(need > input.len());
                    assert_eq!(read.reply.len(), replied);
                    break;
                }
                Ok(frame) => {
                    let consumed = check(&frame, input);
                    if let (Decoded::Hello { .. }, Protocol::Photinus(options)) = (&frame, protocol)
                    {
                        options.welcome(&mut peer, &WELCOME, &mut read.reply);
                    }
                    start += consumed;
                    read.frames.push((start, frame));
                }
                Err(error) => {
                    read.error = Some(error);
                    let replied = read.reply.len();
                    let again = protocol.decode(&mut peer, &bytes[start..], &mut read.reply);
                    assert_eq!(again, Err(error));
                    assert_eq!(read.reply.len(), replied);
                    return read;
                }
            }
        }
    }
    read
}

fn check(frame: &Decoded, input: &[u8]) -> usize {
    let consumed = match frame {
        Decoded::Incomplete { .. } => unreachable!(),
        Decoded::Opened { consumed }
        | Decoded::Control { consumed }
        | Decoded::Hello { consumed, .. }
        | Decoded::Heartbeat { consumed, .. }
        | Decoded::Leave { consumed } => *consumed,
        Decoded::Named { consumed, name } => {
            assert!(!name.is_empty());
            assert_eq!(name.end, *consumed);
            std::str::from_utf8(&input[name.clone()]).unwrap();
            *consumed
        }
        Decoded::Packet { consumed, packet } => {
            assert!(packet.body.start <= packet.body.end);
            assert_eq!(packet.body.end, *consumed);
            if let Route::Name(name) = &packet.route {
                assert!(name.end <= packet.body.start);
                std::str::from_utf8(&input[name.clone()]).unwrap();
            }
            *consumed
        }
    };
    assert!(consumed > 0 && consumed <= input.len());
    consumed
}

/// The packets of a stream, with the bytes of the frame that each came in.
pub fn packets<'a>(
    read: &'a Read,
    bytes: &'a [u8],
) -> impl Iterator<Item = (&'a Packet, &'a [u8])> {
    let starts = [0]
        .into_iter()
        .chain(read.frames.iter().map(|(end, _)| *end));
    read.frames
        .iter()
        .zip(starts)
        .filter_map(move |((end, frame), start)| match frame {
            Decoded::Packet { packet, .. } => Some((packet, &bytes[start..*end])),
            _ => None,
        })
}

/// A message of the server's.
#[derive(Debug, Arbitrary)]
pub struct Said {
    kind: Kind,
    id: u32,
    name: String,
    number: u32,
    body: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Response,
    Error,
    Push,
    Kick,
}

impl Said {
    pub fn message(&self) -> Message<'_> {
        Message {
            kind: match self.kind {
                Kind::Response => Outgoing::Response { id: self.id },
                Kind::Error => Outgoing::Error { id: self.id },
                Kind::Push => Outgoing::Push,
                Kind::Kick => Outgoing::Kick,
            },
            name: &self.name,
            number: self.number,
            index: 0,
            body: &self.body,
            flags: Flags::default(),
        }
    }
}

/// The frame that `encode` appends; `None` if it says that it cannot, and then it appends nothing.
pub fn encode(protocol: &Protocol, message: &Message<'_>) -> Option<Vec<u8>> {
    let mut out = vec![0xa5];
    let encoded = protocol.encode(message, &mut out);
    assert_eq!(out.remove(0), 0xa5);
    if encoded.is_err() {
        assert!(out.is_empty());
    }
    encoded.ok().map(|()| out)
}
