//! A client of the photinus protocol as the specification has it (docs/protocol.md, 5), which knows what it has
//! been sent and what has arrived.
//!
//! The bodies that it sends and is sent begin with the numbers of the counted frames, so that whatever is
//! lost, doubled or out of order shows at once.

use crate::world::{Client, World, PHOTINUS};
use std::collections::VecDeque;

pub type Token = [u8; 20];

/// Routes are named in this order on each connection.
const ROUTE: &[u8] = b"\x05\x03say";

#[derive(Default)]
pub struct Player {
    /// `None`: it was cut.
    pub client: Option<Client>,
    pub token: Option<Token>,
    /// Tokens that it had before.
    pub old_tokens: Vec<Token>,
    /// The next counted frame from the server has this number.
    pub received: u32,
    /// The next one that it sends has this number; those from `acknowledged` on are kept.
    pub sent: u32,
    pub acknowledged: u32,
    /// It has been welcomed on this connection.
    pub welcome: bool,
    named: bool,
    /// Numbers of the names of pushes that it has been told on this connection.
    pub names: Vec<String>,
    /// What has come: droppable ones, by their text.
    pub droppable: Vec<Vec<u8>>,
    pub gaps: u32,
    pub resumes: u32,
    /// The code of a refusal or the reason of a kick, which is the end.
    pub end: Option<String>,
    pub redirected: Option<String>,
    /// Its place in line and the estimate, as it was told last.
    pub place: Option<(u32, Option<u32>)>,
    clock: u64,
}

impl Player {
    pub fn connect(&mut self, world: &World) {
        self.connect_with(world, self.token);
    }

    pub fn connect_with(&mut self, world: &World, token: Option<Token>) {
        self.connect_through(world.connect(PHOTINUS), token);
    }

    pub fn connect_through(&mut self, client: Client, token: Option<Token>) {
        client.write(&hello(token.map(|token| (token, self.received))));
        self.client = Some(client);
        (self.welcome, self.named) = (false, false);
        self.names.clear();
    }

    /// The network is gone: what was not read is lost.
    pub fn cut(&mut self) {
        if let Some(client) = self.client.take() {
            client.link.close();
        }
    }

    /// Says the next so many numbers.
    pub fn say(&mut self, count: u32) {
        for _ in 0..count {
            self.sent += 1;
            let number = self.sent - 1;
            if self.welcome {
                self.write(&message(number));
            }
        }
    }

    pub fn leave(&mut self) {
        self.write(&[13, 0]);
        self.cut();
    }

    pub fn heartbeat(&mut self) {
        self.clock += 1;
        let mut body = number(self.received);
        body.extend(number(self.clock as u32));
        body.extend([0, 0]);
        self.write(&frame(10, &body));
    }

    /// Not all of it need be taken: the rest is lost with the connection, which is cut for it.
    fn write(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if !self.named {
            self.named = true;
            bytes = [ROUTE, &bytes].concat();
        }
        let taken = self.client.as_ref().map(|client| client.link.write(&bytes));
        if !matches!(taken, Some(Ok(count)) if count == bytes.len()) {
            self.cut();
        }
    }

    /// Reads what has come, and answers it as a client should.
    pub fn read(&mut self) {
        let Some(mut client) = self.client.take() else {
            return;
        };
        client.read();
        let frames: Vec<_> = std::iter::from_fn(|| take_frame(&mut client.got)).collect();
        let ended = client.ended;
        self.client = Some(client);
        for (head, body) in frames {
            self.hear(head, &body);
        }
        if ended {
            self.cut();
        }
    }

    fn hear(&mut self, head: u8, body: &[u8]) {
        match head & 0x0f {
            2 => self.hear_welcome(body),
            3 => self.end = Some(field(body, 1).map(text).unwrap()),
            4 => {
                let number = |tag| field(body, tag).map(|value| read_number(value).0);
                self.place = Some((number(1).unwrap(), number(2)));
            }
            5 => self.names.push(text(body)),
            6 if head & 0x20 != 0 => self.droppable.push(body[1..].to_vec()),
            6 => {
                let (name, at) = read_number(body);
                assert!(
                    (name as usize) < self.names.len(),
                    "its name was told before"
                );
                let said = u32::from_be_bytes(*body[at..].first_chunk().unwrap());
                assert_eq!(said, self.received, "counted frames come once and in order");
                self.received += 1;
            }
            10 => {
                let (received, _) = read_number(body);
                assert!(received >= self.acknowledged && received <= self.sent);
                self.acknowledged = received;
                self.heartbeat();
            }
            11 => self.end = Some(text(body)),
            12 => self.redirected = Some(text(body)),
            other => panic!("frame of type {other}"),
        }
    }

    fn hear_welcome(&mut self, body: &[u8]) {
        assert!(!self.welcome);
        self.welcome = true;
        let token: Option<Token> = field(body, 10).map(|value| value.try_into().unwrap());
        self.old_tokens
            .extend(std::mem::replace(&mut self.token, token));
        let received = field(body, 12).map_or(0, |value| read_number(value).0);
        match field(body, 2).unwrap() {
            [0] => assert_eq!((self.sent, self.received), (0, 0)),
            [1] => self.resumes += 1,
            [2] => {
                self.gaps += 1;
                let next = read_number(field(body, 13).unwrap()).0;
                assert!(next > self.received, "a gap is a gap");
                self.received = next;
            }
            other => panic!("status {other:?}"),
        }
        assert!(received >= self.acknowledged && received <= self.sent);
        self.acknowledged = received;
        self.heartbeat();
        let missing: VecDeque<_> = (self.acknowledged..self.sent).collect();
        for number in missing {
            self.write(&message(number));
        }
    }
}

/// A hello with what is needed to resume: the token, and what was received.
pub fn hello(resume: Option<(Token, u32)>) -> Vec<u8> {
    let mut body = vec![1, 1, 1];
    if let Some((token, received)) = resume {
        let received = number(received);
        body.extend([5, (token.len() + received.len()) as u8]);
        body.extend(token);
        body.extend(received);
    }
    frame(1, &body)
}

/// A counted message to the first route.
pub fn message(of: u32) -> Vec<u8> {
    frame(6, &[&[0][..], &of.to_be_bytes()].concat())
}

pub fn frame(head: u8, body: &[u8]) -> Vec<u8> {
    [&[head][..], &number(body.len() as u32), body].concat()
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

fn read_number(bytes: &[u8]) -> (u32, usize) {
    let length = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
    let parts = bytes[..length].iter().enumerate();
    let value = parts.fold(0, |value, (at, byte)| {
        value | u64::from(byte & 0x7f) << (7 * at)
    });
    (value as u32, length)
}

fn take_frame(got: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let head = *got.first()?;
    let whole = got[1..].iter().position(|byte| *byte < 0x80)?;
    let (length, taken) = read_number(&got[1..whole + 2]);
    let begin = 1 + taken;
    let end = begin + length as usize;
    if got.len() < end {
        return None;
    }
    let body = got[begin..end].to_vec();
    got.drain(..end);
    Some((head, body))
}

/// The value of a field (5.3); all values here are shorter than 128 bytes.
fn field(mut body: &[u8], tag: u8) -> Option<&[u8]> {
    while let [found, length, rest @ ..] = body {
        let (value, behind) = rest.split_at(usize::from(*length));
        if *found == tag {
            return Some(value);
        }
        body = behind;
    }
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
