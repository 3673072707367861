//! Hundreds of seeded worlds in which clients come, speak in pieces, read when they like and leave,
//! and the application echoes, broadcasts, kicks and drains its inbox late.
//!
//! Held at each step: a session is opened once, heard in order, closed once; nothing is lost or
//! doubled for who stays; budgets are kept to within one read or write. Held at the end: nothing
//! is left over. To see one seed alone: `SEED=17 cargo test -p photinus-engine simulation`.

use crate::world::{frame, pomelo, read, Client, Seen, World, ACK, HELLO, LENGTH, POMELO, SAY};
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Batch, Event};
use photinus_engine::limits::{Limits, PACKET_OVERHEAD, READ_BYTES, WRITE_BYTES};
use photinus_engine::outbox::{Action, FormatSet};
use std::collections::{HashMap, VecDeque};

const SEEDS: u64 = 400;
const STEPS: usize = 150;
const GROUP: u32 = 1;
/// The smallest frame, of either protocol, that these clients send.
const LEAST_FRAME: usize = 12;

#[test]
fn whatever_happens_in_whatever_order() {
    if let Some(seed) = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Simulation::new(seed).run();
        return;
    }
    let mut reached = HashMap::<_, u64>::new();
    for seed in 1..=SEEDS {
        let run = std::panic::catch_unwind(|| Simulation::new(seed).run());
        let counts = run.unwrap_or_else(|_| panic!("with SEED={seed}"));
        for (name, count) in counts {
            *reached.entry(name).or_default() += count;
        }
    }
    // It is worth something only as long as it comes to the difficult places.
    for name in [
        "paused_session",
        "paused_total",
        "closed_left",
        "closed_kicked",
        "closed_slow",
        "closed_shutdown",
        "closed_protocol",
        "refused_full",
        "refused_overloaded",
        "refused_connections",
        "refused_handshakes",
        "dropped_gone",
        "heartbeats_sent",
    ] {
        assert!(reached[name] > SEEDS / 10, "{name}: {}", reached[name]);
    }
}

/// xorshift64*: the same numbers from the same seed everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Mostly small, now and then longer than a read, an arena's rest, a pipe.
    fn size(&mut self) -> usize {
        match self.below(100) {
            0..80 => self.below(60),
            80..98 => self.below(2_000),
            _ => self.below(100_000),
        }
    }
}

struct Simulation {
    random: Random,
    limits: Limits,
    world: World,
    talkers: Vec<Talker>,
    sessions: HashMap<Handle, Told>,
    inbox: VecDeque<Box<Batch>>,
    /// Ended sessions that the application has not let go of.
    kept: Vec<Handle>,
    broadcasts: u32,
}

/// What the application knows of a session that is open.
struct Told {
    talker: usize,
    next: u32,
    kicked: bool,
}

/// A client.
struct Talker {
    client: Client,
    pomelo: bool,
    /// Reads nothing before the end.
    lazy: bool,
    unwritten: Vec<u8>,
    said: u32,
    echoed: u32,
    /// The number of the next broadcast that it has to get, once it was let into the group.
    broadcast: Option<u32>,
    left: bool,
    closed: bool,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = Random::new(seed);
        let sessions = 5 + random.below(30);
        let limits = Limits {
            max_payload: 100_100,
            sessions,
            connections: sessions + random.below(9),
            handshakes: [1024, 2][usize::from(random.chance(50))],
            session_packets_per_s: [0, 20][usize::from(random.chance(10))],
            session_bytes_per_s: 0,
            overload_wait_ms: [0, 500][usize::from(random.chance(5))],
            inbound_session_bytes: 1_024 << random.below(9),
            inbound_total_bytes: 4_096 << random.below(12),
            outbound_session_bytes: 4_096 << random.below(7),
            outbound_total_bytes: 65_536 << random.below(8),
            ..Limits::default()
        };
        Simulation {
            random,
            world: World::new(limits.clone()),
            limits,
            talkers: Vec::new(),
            sessions: HashMap::new(),
            inbox: VecDeque::new(),
            kept: Vec::new(),
            broadcasts: 0,
        }
    }

    fn run(mut self) -> Vec<(&'static str, u64)> {
        for _ in 0..STEPS {
            match self.random.below(10) {
                0 => self.connect(),
                1..4 => self.write(),
                4..6 => self.read(),
                6 => self.leave(),
                _ => self.application(),
            }
            self.turn();
        }
        self.settle();
        for talker in self.talkers.iter().filter(|of| !of.closed && !of.left) {
            assert_eq!(talker.echoed, talker.said, "all that was said was echoed");
            let got = talker.broadcast.unwrap_or(self.broadcasts);
            assert_eq!(got, self.broadcasts, "and all that was told was heard");
        }
        let drained = self.random.chance(50);
        if drained {
            self.world.engine.drain("shutdown");
            self.turn();
        }
        for talker in &mut self.talkers {
            talker.client.link.close();
            talker.left = true;
        }
        self.settle();
        assert!(self.sessions.is_empty(), "each session was closed");
        self.world.assert_at_rest();
        self.world.engine.counts()
    }

    fn turn(&mut self) {
        let milliseconds = self.random.below(40) as u64;
        if milliseconds < 20 {
            self.world.hand_over();
        }
        self.world.pass(milliseconds / 2);
        self.world.turn();
        let count = |name| self.world.count(name) as usize;
        let a_read = READ_BYTES / LEAST_FRAME * (LEAST_FRAME + PACKET_OVERHEAD) + 100_200;
        assert!(count("unhandled_bytes") <= self.limits.inbound_total_bytes + a_read);
        let a_write = WRITE_BYTES + 100_200;
        assert!(count("waiting_out_bytes") <= self.limits.outbound_total_bytes + a_write);
        assert!(count("connections") <= self.limits.connections);
        assert!(count("sessions") <= self.limits.sessions);
    }

    fn connect(&mut self) {
        let pomelo = self.random.chance(40);
        let mut unwritten = Vec::new();
        if pomelo {
            unwritten.extend([HELLO, ACK].concat());
        }
        self.talkers.push(Talker {
            client: self.world.connect(if pomelo { POMELO } else { LENGTH }),
            pomelo,
            lazy: self.random.chance(20),
            unwritten,
            said: 0,
            echoed: 0,
            broadcast: None,
            left: false,
            closed: false,
        });
    }

    /// Some clients say some more, and write a piece of what they have to say.
    fn write(&mut self) {
        let random = &mut self.random;
        for talker in self.talkers.iter_mut().filter(|of| !of.left && !of.closed) {
            for _ in 0..random.below(20) {
                let payload =
                    [&talker.said.to_be_bytes()[..], &vec![7; 4 + random.size()]].concat();
                talker.said += 1;
                talker.unwritten.extend(match talker.pomelo {
                    true => pomelo(None, SAY.0, &payload),
                    false => frame(&payload),
                });
            }
            if random.chance(1) {
                talker.unwritten.extend([0xff; 8]); // it is not heard from here on
            }
            if random.chance(50) {
                talker.write(1 + random.below(100_000));
            } else {
                talker.write(1 + random.below(50));
            }
        }
    }

    fn read(&mut self) {
        for talker in &mut self.talkers {
            if !talker.lazy && self.random.chance(60) {
                let limit = if self.random.chance(50) { 100 } else { 1 << 20 };
                talker.read(limit);
            }
        }
    }

    fn leave(&mut self) {
        if !self.talkers.is_empty() && self.random.chance(30) {
            let at = self.random.below(self.talkers.len());
            self.talkers[at].left = true;
            self.talkers[at].client.link.close();
        }
    }

    /// Drains (some of) the inbox, tells the group something, ends somebody.
    fn application(&mut self) {
        if self.random.chance(70) {
            self.world.engine.take_inbox(&mut self.inbox).unwrap();
        }
        let batches = self.random.below(5);
        self.handle(batches);
        for _ in 0..self.random.below(3) {
            let payload = [&b"B"[..], &self.broadcasts.to_be_bytes()].concat();
            let padding = vec![9; self.random.size() / 4];
            self.broadcasts += 1;
            let but = Handle::NONE;
            let payload = [payload, padding].concat();
            // Both formats in two messages, or all in one: every member gets exactly one.
            if self.random.chance(50) {
                for format in [FormatSet::JSON, FormatSet::MSGPACK] {
                    self.world.send_to_group(GROUP, but, format, &payload);
                }
            } else {
                self.world
                    .send_to_group(GROUP, but, FormatSet::ANY, &payload);
            }
        }
        if self.random.chance(10) {
            if let Some((&handle, told)) = self.sessions.iter_mut().min_by_key(|(of, _)| of.0) {
                told.kicked = true;
                self.world.kick(handle, "unlucky");
            }
        }
        while !self.kept.is_empty() && self.random.chance(60) {
            let to = self.kept.swap_remove(self.random.below(self.kept.len()));
            self.world.post(Action::Free { to }, b"");
        }
    }

    fn handle(&mut self, batches: usize) {
        for _ in 0..batches.min(self.inbox.len()) {
            let batch = self.inbox.pop_front();
            let batch: VecDeque<_> = batch.into_iter().collect();
            for seen in read(&batch) {
                self.see(seen);
            }
            for batch in batch {
                self.world.engine.give_back(batch);
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        let handle = seen.handle;
        match seen.event {
            Event::Opened => {
                let name = String::from_utf8(seen.body).unwrap();
                let number: usize = name.strip_prefix("memory:").unwrap().parse().unwrap();
                let told = Told {
                    talker: number - 1,
                    next: 0,
                    kicked: false,
                };
                assert!(self.sessions.insert(handle, told).is_none(), "{handle:?}");
                assert!(!self.kept.contains(&handle), "not let go of yet");
                self.talkers[number - 1].broadcast = Some(self.broadcasts);
                self.world.add(GROUP, handle);
            }
            Event::Packet(_) => {
                let told = self.sessions.get_mut(&handle).expect("it is open");
                assert_eq!(seen.body[..4], told.next.to_be_bytes(), "in order");
                told.next += 1;
                if !told.kicked {
                    let payload = [b"E", &seen.body[..seen.body.len().min(5_000)]].concat();
                    self.world.send(handle, &payload);
                }
            }
            Event::Closed => {
                let told = self.sessions.remove(&handle).expect("it was open");
                let talker = &mut self.talkers[told.talker];
                talker.closed = true;
                assert!(told.next <= talker.said);
                self.kept.push(handle);
            }
            Event::Drained => {}
            _ => panic!("none without resumes and links: {seen:?}"),
        }
    }

    /// Everybody writes and reads, and the application handles, until nothing moves any more.
    fn settle(&mut self) {
        loop {
            for talker in &mut self.talkers {
                talker.write(usize::MAX);
            }
            self.world.hand_over();
            let mut moved = self.world.turn();
            self.world.engine.take_inbox(&mut self.inbox).unwrap();
            self.handle(usize::MAX);
            for to in std::mem::take(&mut self.kept) {
                self.world.post(Action::Free { to }, b"");
            }
            self.world.hand_over();
            moved |= self.world.turn();
            for talker in &mut self.talkers {
                moved |= talker.read(1 << 20) > 0;
            }
            if !moved {
                return;
            }
        }
    }
}

impl Talker {
    fn write(&mut self, limit: usize) {
        if self.unwritten.is_empty() {
            return; // to write nothing would be an event, too
        }
        let piece = &self.unwritten[..limit.min(self.unwritten.len())];
        let taken = self.client.link.write(piece).unwrap_or(0);
        self.unwritten.drain(..taken);
    }

    /// Reads, and checks that what comes is what comes next. Gives the number of bytes.
    fn read(&mut self, limit: usize) -> usize {
        let bytes = self.client.link.read(limit);
        self.closed |= bytes.is_none();
        let bytes = bytes.unwrap_or_default();
        self.client.got.extend(&bytes);
        let payloads = match self.pomelo {
            true => {
                let packages = self.client.packages_got().into_iter();
                let data = packages.filter(|of| of[0] == 4);
                data.map(|of| of[6..].to_vec()).collect()
            }
            false => self.client.frames_got(),
        };
        for payload in payloads {
            let number = u32::from_be_bytes(payload[1..5].try_into().unwrap());
            match payload[0] {
                b'E' => {
                    assert_eq!(number, self.echoed, "echoes come in order");
                    self.echoed += 1;
                }
                _ => {
                    assert_eq!(Some(number), self.broadcast, "broadcasts come in order");
                    self.broadcast = Some(number + 1);
                }
            }
        }
        bytes.len()
    }
}
