//! An engine on its memory back with one listener a protocol, and clients that speak to it.

use photinus_engine::connection::By;
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event};
use photinus_engine::limits::Limits;
use photinus_engine::memory::MemoryConnection;
use photinus_engine::outbox::{Action, FormatSet, Marks, OutBatch, OutRoute, What, NO_NUMBER};
use photinus_engine::routes::Routes;
use std::collections::VecDeque;

pub const LENGTH: &str = "tcp://memory:1?protocol=length4";
pub const POMELO: &str = "tcp://memory:2?protocol=pomelo&heartbeat=10";
pub const FIREFLY: &str = "tcp://memory:3?protocol=firefly";
/// Two-byte lengths: what is sent here can be too long.
pub const SHORT: &str = "tcp://memory:4?protocol=length2";
pub const PHOTINUS: &str = "tcp://memory:5?protocol=photinus&heartbeat=10&resume=30";
pub const WINDOW_MS: u64 = 30_000;
pub const HEARTBEAT_MS: u64 = 10_000;

pub const HELLO: &[u8] = b"\x01\0\0\x02{}";
pub const ACK: &[u8] = b"\x02\0\0\0";
pub const HEARTBEAT: &[u8] = b"\x03\0\0\0";

/// The route that every world knows, and its index.
pub const SAY: (&str, u32) = ("say", 5);

pub struct World {
    pub engine: Engine,
    now_ms: u64,
    out: OutBatch,
}

/// One item of the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub handle: Handle,
    pub event: Event,
    pub id: u32,
    pub route: u32,
    pub number: u32,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn is_packet(&self) -> bool {
        matches!(self.event, Event::Packet(_))
    }

    /// Of a session's end: by whom, and why.
    pub fn end(&self) -> Option<(By, &str)> {
        let reason = std::str::from_utf8(&self.body).unwrap();
        (self.event == Event::Closed).then(|| (By::from_number(self.number), reason))
    }
}

impl World {
    pub fn new(limits: Limits) -> World {
        let engine = Engine::memory(limits).unwrap();
        let mut routes = Routes::default();
        routes.add_name(0, SAY.0, SAY.1);
        engine.set_routes(routes);
        for url in [LENGTH, POMELO, FIREFLY, SHORT, PHOTINUS] {
            assert_eq!(engine.listen(url).unwrap(), url);
        }
        World {
            engine,
            now_ms: 1_000,
            out: OutBatch::default(),
        }
    }

    pub fn turn(&mut self) -> bool {
        self.engine.turn(self.now_ms * 1_000_000).unwrap()
    }

    /// Lets so much time pass in steps that no deadline of the engine's is shorter than.
    pub fn pass(&mut self, milliseconds: u64) {
        let until = self.now_ms + milliseconds;
        while self.now_ms < until {
            self.now_ms = until.min(self.now_ms + 100);
            self.turn();
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn connect(&self, url: &str) -> Client {
        Client {
            link: self.engine.connect(url).unwrap(),
            got: Vec::new(),
            ended: false,
        }
    }

    /// A client whose session is open, and what Python was told of it.
    pub fn join(&mut self, url: &str) -> (Client, Handle) {
        let mut client = self.connect(url);
        if url == POMELO {
            client.write(&[HELLO, ACK].concat());
        }
        self.turn();
        let seen = self.drain();
        let [opened] = &seen[..] else {
            panic!("expected one session's opening, not {seen:?}");
        };
        assert_eq!(opened.event, Event::Opened);
        client.read();
        client.got.clear();
        (client, opened.handle)
    }

    /// Takes the inbox and keeps it: nothing counts as handled yet.
    pub fn take(&self) -> VecDeque<Box<Batch>> {
        let mut batches = VecDeque::new();
        self.engine.take_inbox(&mut batches).unwrap();
        if let Some(first) = batches.front() {
            self.engine.shared.delay.begin(first.pushed);
        }
        batches
    }

    /// Says that all of these are handled, and lets go of the sessions that ended in them.
    pub fn give_back(&mut self, batches: VecDeque<Box<Batch>>) {
        for batch in batches {
            for item in batch.items.iter().filter(|of| of.event == Event::Closed) {
                self.post(Action::Free { to: item.handle }, b"");
            }
            self.engine.give_back(batch);
        }
        self.engine.shared.delay.clear();
        self.hand_over();
    }

    /// Handles all that has come, until nothing more comes.
    pub fn drain(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            self.turn();
            let batches = self.take();
            if batches.is_empty() {
                return all;
            }
            all.extend(read(&batches));
            self.give_back(batches);
        }
    }

    pub fn post(&mut self, action: Action, payload: &[u8]) {
        self.out.push(action, payload);
    }

    pub fn send(&mut self, to: Handle, payload: &[u8]) {
        let what = What::Push(OutRoute::Number(7));
        self.post(
            Action::Send {
                to,
                what,
                marks: Marks::NONE,
            },
            payload,
        );
    }

    pub fn kick(&mut self, to: Handle, reason: &str) {
        self.post(Action::Kick { to }, reason.as_bytes());
    }

    pub fn add(&mut self, group: u32, member: Handle) {
        self.post(Action::GroupAdd { group, member }, b"");
    }

    pub fn remove(&mut self, group: u32, member: Handle) {
        self.post(Action::GroupRemove { group, member }, b"");
    }

    pub fn send_to_group(&mut self, group: u32, but: Handle, format: FormatSet, payload: &[u8]) {
        let route = OutRoute::Number(7);
        let action = Action::GroupSend {
            group,
            but,
            format,
            route,
            marks: Marks::NONE,
        };
        self.post(action, payload);
    }

    pub fn name_route(&mut self, index: u32, name: &str, number: Option<u32>) {
        let number = number.unwrap_or(NO_NUMBER);
        self.post(Action::NameRoute { index, number }, name.as_bytes());
    }

    pub fn hand_over(&mut self) {
        if !self.out.items.is_empty() {
            // Whether it slept does not matter: it runs when it is turned.
            let _ = self.engine.hand_over(0, std::mem::take(&mut self.out));
        }
    }

    /// Hands over what was posted, and turns.
    pub fn flush(&mut self) {
        self.hand_over();
        self.turn();
    }

    pub fn count(&self, name: &str) -> u64 {
        let counts = self.engine.counts();
        let found = counts.iter().find(|(of, _)| *of == name);
        found.unwrap_or_else(|| panic!("no count {name}")).1
    }

    /// Everything that is held for somebody has been given back.
    pub fn assert_at_rest(&self) {
        for gauge in [
            "sessions",
            "connections",
            "unhandled_bytes",
            "waiting_out_bytes",
            "partial_bytes",
            "paused_now",
            "detached",
            "kept_bytes",
            "in_line",
        ] {
            assert_eq!(self.count(gauge), 0, "{gauge}");
        }
        assert_eq!(self.count("sessions_opened"), self.count("sessions_closed"));
        let counted = self.engine.shared.gate.counts();
        assert_eq!(counted, [0; 4], "against the limits");
    }
}

/// The items of these batches. Their runs must account for each packet.
pub fn read(batches: &VecDeque<Box<Batch>>) -> Vec<Seen> {
    let mut all = Vec::new();
    for batch in batches {
        let packets = |of: &&photinus_engine::inbox::Item| of.event.is_counted();
        let by_items: Vec<_> = batch
            .items
            .iter()
            .filter(packets)
            .map(|of| match of.event {
                Event::Frame => Handle::NONE,
                _ => of.handle,
            })
            .collect();
        let by_runs = batch.runs.iter();
        let by_runs = by_runs.flat_map(|run| std::iter::repeat_n(run.handle, run.packets as usize));
        assert!(by_items.iter().copied().eq(by_runs), "runs go with packets");
        all.extend(batch.items.iter().map(|item| Seen {
            handle: item.handle,
            event: item.event,
            id: item.id,
            route: item.route,
            number: item.number,
            body: batch.body(item).to_vec(),
        }));
    }
    all
}

pub fn packets(seen: &[Seen]) -> Vec<&[u8]> {
    let packets = seen.iter().filter(|seen| seen.is_packet());
    packets.map(|seen| &seen.body[..]).collect()
}

pub struct Client {
    pub link: MemoryConnection,
    /// Read, and not taken as frames yet.
    pub got: Vec<u8>,
    /// The server has closed.
    pub ended: bool,
}

impl Client {
    /// All of it has to be taken.
    pub fn write(&self, bytes: &[u8]) {
        assert_eq!(self.link.write(bytes).unwrap(), bytes.len());
    }

    pub fn say(&self, payload: &[u8]) {
        self.write(&frame(payload));
    }

    /// Reads all that is there.
    pub fn read(&mut self) {
        loop {
            match self.link.read(1 << 20) {
                None => self.ended = true,
                Some(bytes) if !bytes.is_empty() => {
                    self.got.extend(bytes);
                    continue;
                }
                Some(_) => {}
            }
            return;
        }
    }

    /// Whole length4 frames that have come; what is half there stays.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        self.read();
        self.frames_got()
    }

    /// The same of what has been read already.
    pub fn frames_got(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(head) = self.got.first_chunk::<4>() {
            let end = 4 + u32::from_be_bytes(*head) as usize;
            if self.got.len() < end {
                break;
            }
            all.push(self.got[4..end].to_vec());
            self.got.drain(..end);
        }
        all
    }

    /// Whole pomelo packages, with their heads.
    pub fn packages(&mut self) -> Vec<Vec<u8>> {
        self.read();
        self.packages_got()
    }

    /// The same of what has been read already.
    pub fn packages_got(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(&[kind, a, b, c]) = self.got.first_chunk::<4>() {
            let end = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if self.got.len() < end {
                break;
            }
            assert!((1..=5).contains(&kind));
            all.push(self.got.drain(..end).collect());
        }
        all
    }
}

/// A length4 frame.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

/// A pomelo data package: a notify, or a request with this id (below 128).
pub fn pomelo(id: Option<u8>, route: &str, payload: &[u8]) -> Vec<u8> {
    let head: &[u8] = match &id {
        Some(id) => &[0, *id],
        None => &[2],
    };
    let body = [head, &[route.len() as u8], route.as_bytes(), payload].concat();
    [&(body.len() as u32 | 4 << 24).to_be_bytes()[..], &body].concat()
}
