//! A client of the photinus protocol that keeps what the server may lack, comes back when it was cut, and begins
//! anew when it cannot.

use crate::oracle::Oracle;
use crate::trace::{note, Trace};
use crate::wire::{self, field, fixed, number, read_number, Numbered, Token};
use photinus_engine::memory::MemoryConnection;
use std::collections::VecDeque;

/// Names of routes, by their numbers: the home's, and of each class that a client can be attached to.
pub const ROUTES: [&str; 3] = ["say", "wave", "trade"];
/// Names of pushes.
pub const TOLD: &str = "told";
pub const GROUP: &str = "group";

/// After so long without a word a client takes its connection for cut: two heartbeats, and some.
pub const SILENCE_MS: u64 = 21_000;
/// Counted frames or bytes after which a client says that it has them.
const FRAMES_A_HEARTBEAT: u32 = 64;
const BYTES_A_HEARTBEAT: usize = 16 << 10;

pub struct Client {
    pub name: usize,
    trace: Trace,
    connection: Option<MemoryConnection>,
    got: Vec<u8>,
    unwritten: VecDeque<u8>,
    pub life: u32,
    token: Option<Token>,
    welcome: bool,
    /// Counted frames of the server that have come.
    received: u32,
    since_heartbeat: (u32, usize),
    /// What it has said and the server may lack; the first one's number.
    kept: VecDeque<Vec<u8>>,
    acknowledged: u32,
    names: Vec<String>,
    clock: u32,
    /// When something came last.
    heard_ms: u64,
}

impl Client {
    pub fn new(name: usize, trace: Trace, life: u32) -> Client {
        Client {
            name,
            trace,
            connection: None,
            got: Vec::new(),
            unwritten: VecDeque::new(),
            life,
            token: None,
            welcome: false,
            received: 0,
            since_heartbeat: (0, 0),
            kept: VecDeque::new(),
            acknowledged: 0,
            names: Vec::new(),
            clock: 0,
            heard_ms: 0,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub fn is_welcome(&self) -> bool {
        self.welcome && self.is_connected()
    }

    /// Has it anything that the server may lack?
    pub fn waits(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Comes over this connection: as who it was, if it can.
    pub fn connect(&mut self, connection: MemoryConnection, now_ms: u64, oracle: &mut Oracle) {
        self.cut();
        if self.token.is_none() || oracle.is_over(self.life) {
            // Who loses its first welcome has no token, and comes as somebody else.
            oracle.end(self.life, "never welcomed, or its end was heard");
            self.life = oracle.be_born(self.name);
            self.token = None;
            (self.received, self.acknowledged) = (0, 0);
            self.kept.clear();
        }
        note!(
            self.trace,
            if self.token.is_some() {
                "client resumes"
            } else {
                "client connects"
            },
            "client {} as life {} over {}",
            self.name,
            self.life,
            connection.number()
        );
        self.connection = Some(connection);
        self.heard_ms = now_ms;
        let token = self.token.map(|token| (token, self.received));
        self.unwritten.extend(wire::hello(token));
        self.write();
    }

    /// The network is gone: what was not read is lost, and what was not written.
    pub fn cut(&mut self) {
        if self.connection.take().is_some() {
            note!(self.trace, "client is cut", "client {}", self.name);
        }
        self.got.clear();
        self.unwritten.clear();
        self.names.clear();
        self.since_heartbeat = (0, 0);
        self.welcome = false;
    }

    /// Its session ends.
    pub fn leave(&mut self, oracle: &mut Oracle) {
        self.push(wire::LEAVE, &[]);
        if !self.waits() {
            oracle.end(self.life, "left");
            self.token = None;
        }
        self.cut();
    }

    /// Says the next to its home (0), or to what it is attached to of this class, if it is: a request, or a message
    /// that nobody answers.
    pub fn say(&mut self, class: u8, is_request: bool, padding: usize, oracle: &mut Oracle) {
        let chain = match class {
            0 => Some(0),
            class => oracle.chain_of(self.life, class),
        };
        let Some(chain) = chain else { return };
        let said = oracle.say(self.life, chain, is_request);
        let mut body = Vec::new();
        if is_request {
            body.extend(number(said.number << 4 | u32::from(chain)));
        }
        body.extend(number(u32::from(class)));
        body.extend(said.encode());
        body.resize(body.len() + padding, 0);
        let head = if is_request {
            wire::REQUEST
        } else {
            wire::MESSAGE
        };
        let frame = wire::frame(head, &body);
        if self.is_welcome() {
            self.unwritten.extend(&frame);
        }
        self.kept.push_back(frame);
        self.write();
    }

    fn push(&mut self, head: u8, body: &[u8]) {
        self.unwritten.extend(wire::frame(head, body));
        self.write();
    }

    /// As much as the connection takes.
    pub fn write(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        while !self.unwritten.is_empty() {
            let (front, _) = self.unwritten.as_slices();
            match connection.write(front) {
                Ok(0) => return,
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(_) => return, // what there is to read says why
            }
        }
    }

    /// Reads what has come, at most so many bytes, and answers it as a client should. How many there were.
    pub fn read(&mut self, limit: usize, now_ms: u64, oracle: &mut Oracle) -> usize {
        let Some(connection) = &self.connection else {
            return 0;
        };
        let bytes = connection.read(limit);
        let ended = bytes.is_none();
        let bytes = bytes.unwrap_or_default();
        self.got.extend(&bytes);
        while let Some((head, body)) = wire::take_frame(&mut self.got) {
            self.hear(head, &body, oracle);
        }
        if !bytes.is_empty() {
            self.heard_ms = now_ms;
        }
        if ended || now_ms > self.heard_ms + SILENCE_MS {
            self.cut();
        } else {
            self.write();
        }
        bytes.len()
    }

    fn hear(&mut self, head: u8, body: &[u8], oracle: &mut Oracle) {
        match head & 0x0f {
            2 => self.hear_welcome(body, oracle),
            3 => self.hear_refusal(text(field(body, 1).expect("a code")), oracle),
            4 => self.trace.count("client waits in line"),
            5 => self.names.push(text(body)),
            6 => self.hear_push(head, body, oracle),
            8 | 9 => self.hear_answer(head, body, oracle),
            10 => {
                self.acknowledge(read_number(body).0);
                self.heartbeat();
            }
            11 => {
                let reason = text(body);
                note!(
                    self.trace,
                    "client is kicked",
                    "client {}: {reason}",
                    self.name
                );
                oracle.end(self.life, &reason);
            }
            other => panic!("a frame of type {other}"),
        }
    }

    fn hear_welcome(&mut self, body: &[u8], oracle: &mut Oracle) {
        assert!(!self.welcome, "a second welcome");
        self.welcome = true;
        self.token = field(body, 10).map(|value| value.try_into().expect("a token"));
        let received = field(body, 12).map_or(0, |value| read_number(value).0);
        match field(body, 2).expect("a status") {
            [0] => assert_eq!((self.received, received), (0, 0), "a new session"),
            [1] => self.trace.count("client is back"),
            [2] => {
                let next = read_number(field(body, 13).expect("the next number")).0;
                note!(
                    self.trace,
                    "client is back with a gap",
                    "client {}",
                    self.name
                );
                assert!(next > self.received, "a gap is a gap");
                self.received = next;
                oracle.miss(self.life);
            }
            other => panic!("status {other:?}"),
        }
        self.acknowledge(received);
        self.heartbeat();
        for name in ROUTES {
            self.push(wire::ROUTE, name.as_bytes());
        }
        for frame in &self.kept {
            self.unwritten.extend(frame);
        }
        self.write();
    }

    fn hear_refusal(&mut self, code: String, oracle: &mut Oracle) {
        note!(
            self.trace,
            "client is refused",
            "client {}: {code}",
            self.name
        );
        if code.starts_with("resume") {
            oracle.end(self.life, &code);
        }
    }

    fn hear_answer(&mut self, head: u8, body: &[u8], oracle: &mut Oracle) {
        self.count_frame(body.len());
        let (id, at) = read_number(body);
        if head & 0x0f == 9 {
            self.trace.count("errors heard");
            return oracle.hear_error(self.life, (id & 15) as u8, id >> 4);
        }
        let answered = Numbered::decode(&body[at..]);
        oracle.hear_answer(self.life, answered, id >> 4);
        self.trace.count("answers heard");
    }

    fn hear_push(&mut self, head: u8, body: &[u8], oracle: &mut Oracle) {
        if head & wire::DROPPABLE != 0 {
            return self.trace.count("droppable pushes heard");
        }
        self.count_frame(body.len());
        let (name, at) = read_number(body);
        match self.names[name as usize].as_str() {
            TOLD => {
                oracle.hear_told(self.life, Numbered::decode(&body[at..]));
                self.trace.count("pushes heard");
            }
            GROUP => {
                let [group, message] = [at, at + 4].map(|at| fixed(&body[at..]));
                oracle.hear_group(self.life, group, message);
                self.trace.count("group messages heard");
            }
            other => panic!("a push {other:?}"),
        }
    }

    fn count_frame(&mut self, bytes: usize) {
        self.received += 1;
        self.since_heartbeat.0 += 1;
        self.since_heartbeat.1 += bytes;
        let (frames, bytes) = self.since_heartbeat;
        if frames >= FRAMES_A_HEARTBEAT || bytes >= BYTES_A_HEARTBEAT {
            self.heartbeat();
        }
    }

    /// The server has so many of what was said.
    fn acknowledge(&mut self, received: u32) {
        let said = self.acknowledged + self.kept.len() as u32;
        assert!(
            (self.acknowledged..=said).contains(&received),
            "the server has {received} of {said}, after {}",
            self.acknowledged
        );
        self.kept.drain(..(received - self.acknowledged) as usize);
        self.acknowledged = received;
    }

    fn heartbeat(&mut self) {
        self.clock += 1;
        self.since_heartbeat = (0, 0);
        let mut body = number(self.received);
        body.extend(number(self.clock));
        body.extend([0, 0]);
        self.push(wire::HEARTBEAT, &body);
    }
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}
