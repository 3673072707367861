//! The photinus protocol as its clients write it (docs/protocol.md, 5), and what stands in the bodies here:
//! whose they are, and their numbers, so that whatever is lost, doubled, out of order or astray shows at once.

pub type Token = [u8; 20];

pub const HELLO: u8 = 1;
pub const ROUTE: u8 = 5;
pub const MESSAGE: u8 = 6;
pub const REQUEST: u8 = 7;
pub const HEARTBEAT: u8 = 10;
pub const LEAVE: u8 = 13;
/// Of a head: the message is droppable, and not counted.
pub const DROPPABLE: u8 = 0x20;

/// A packet of a client, or what answers it: the life (`oracle.rs`) it belongs to, the chain in that, and its
/// number in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    pub life: u32,
    pub chain: u8,
    pub number: u32,
}

impl Numbered {
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = self.life.to_be_bytes().to_vec();
        bytes.push(self.chain);
        bytes.extend(self.number.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Numbered {
        Numbered {
            life: fixed(&bytes[..4]),
            chain: bytes[4],
            number: fixed(&bytes[5..9]),
        }
    }
}

/// Four bytes, big-endian.
pub fn fixed(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(*bytes.first_chunk().expect("four bytes"))
}

pub fn frame(head: u8, body: &[u8]) -> Vec<u8> {
    [&[head][..], &number(body.len() as u32), body].concat()
}

/// With what is needed to resume: the token, and what was received.
pub fn hello(resume: Option<(Token, u32)>) -> Vec<u8> {
    let mut body = vec![1, 1, 1];
    if let Some((token, received)) = resume {
        let received = number(received);
        body.extend([5, (token.len() + received.len()) as u8]);
        body.extend(token);
        body.extend(received);
    }
    frame(HELLO, &body)
}

/// LEB128.
pub fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The value, and its length.
pub fn read_number(bytes: &[u8]) -> (u32, usize) {
    let length = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
    let parts = bytes[..length].iter().enumerate();
    let value = parts.fold(0, |value, (at, byte)| {
        value | u64::from(byte & 0x7f) << (7 * at)
    });
    (value as u32, length)
}

/// The first whole frame: its head and its body.
pub fn take_frame(got: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let head = *got.first()?;
    let last = got[1..].iter().position(|byte| *byte < 0x80)?;
    let (length, taken) = read_number(&got[1..last + 2]);
    let begin = 1 + taken;
    let end = begin + length as usize;
    let body = got.get(begin..end)?.to_vec();
    got.drain(..end);
    Some((head, body))
}

/// The value of a field (5.3); all values here are shorter than 128 bytes.
pub fn field(mut body: &[u8], tag: u8) -> Option<&[u8]> {
    while let [found, length, rest @ ..] = body {
        let (value, behind) = rest.split_at(usize::from(*length));
        if *found == tag {
            return Some(value);
        }
        body = behind;
    }
    None
}
