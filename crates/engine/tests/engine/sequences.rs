//! Sessions that outlive their connection: random sequences of connect, send, cut and resume against a model. To
//! see one seed alone: `SEED=17 cargo test -p photinus-engine sequences`.

use crate::player::Player;
use crate::resume::{push, world, NEWS, POSITION};
use crate::simulation::Random;
use crate::world::{Seen, World, WINDOW_MS};
use photinus_engine::connection::By;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_engine::outbox::Marks;
use std::collections::HashMap;

#[test]
fn sequences_against_the_model() {
    if let Some(seed) = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Sequence::new(seed).run();
        return;
    }
    let mut reached = HashMap::<_, u64>::new();
    for seed in 1..=SEEDS {
        let run = std::panic::catch_unwind(|| Sequence::new(seed).run());
        let counts = run.unwrap_or_else(|_| panic!("with SEED={seed}"));
        for (name, count) in counts {
            *reached.entry(name).or_default() += count;
        }
    }
    for name in [
        "cut",
        "resumed",
        "resumed_with_gap",
        "resume_expired",
        "resume_dropped",
        "closed_kicked",
        "closed_left",
        "dropped_stale",
    ] {
        assert!(reached[name] > SEEDS / 10, "{name}: {}", reached[name]);
    }
}

const SEEDS: u64 = 300;
const STEPS: usize = 200;

/// Some players; each checks by itself that what it is sent is what it lacks (`player.rs`), and here it is checked
/// that the application gets what each player has said, once and in order.
struct Sequence {
    random: Random,
    world: World,
    players: Vec<Player>,
    sessions: HashMap<Handle, Hosted>,
}

/// What the application knows of a session.
struct Hosted {
    player: usize,
    told: u32,
    heard: u32,
    here: bool,
}

impl Sequence {
    fn new(seed: u64) -> Sequence {
        let mut random = Random::new(seed);
        let limits = Limits {
            resume_session_bytes: [1_024, 4_000, 128 << 10][random.below(3)],
            overload_wait_ms: 0, // who comes is let in at once
            resume_total_bytes: [2_500, 256 << 20][random.below(2)],
            ..Limits::default()
        };
        Sequence {
            random,
            world: world(limits),
            players: Vec::new(),
            sessions: HashMap::new(),
        }
    }

    fn run(mut self) -> Vec<(&'static str, u64)> {
        for _ in 0..STEPS {
            self.step();
        }
        // At the end each comes back who can, and then everybody has everything. Some learn only now that they
        // were cut.
        self.settle();
        for at in 0..self.players.len() {
            if self.players[at].client.is_none() && self.players[at].end.is_none() {
                self.players[at].connect(&self.world);
            }
        }
        self.settle();
        for hosted in self.sessions.values() {
            let player = &self.players[hosted.player];
            if player.end.is_some() {
                continue; // its farewell was lost: the window ends it
            }
            assert!(hosted.here && player.welcome);
            assert_eq!((player.received, hosted.heard), (hosted.told, player.sent));
        }
        for player in &mut self.players {
            if player.client.is_some() {
                player.leave();
            }
        }
        self.settle();
        self.world.pass(WINDOW_MS + 5_000);
        self.settle();
        assert!(self.sessions.is_empty());
        self.world.assert_at_rest();
        self.world.engine.counts()
    }

    fn step(&mut self) {
        if self.players.len() < 4 && self.random.chance(10) {
            self.arrive();
        }
        if self.players.is_empty() {
            return;
        }
        let at = self.random.below(self.players.len());
        let count = self.random.below(8) as u32;
        let player = &mut self.players[at];
        let over = player.end.is_some();
        match self.random.below(100) {
            0..20 if !over => player.say(count),
            20..45 => self.tell(at, count),
            45..60 => player.cut(),
            60..75 if !over && player.client.is_none() => player.connect(&self.world),
            // The network has changed, and the old connection does not know.
            75..78 if !over && player.welcome => {
                let old = player.client.take();
                player.connect(&self.world);
                self.world.turn();
                drop(old);
            }
            78..90 => player.read(),
            90..92 => self.kick(at),
            92..94 if player.welcome && player.client.is_some() => {
                player.leave();
                player.end = Some("left".to_owned());
            }
            94..96 => self.world.pass(200),
            96..97 => self.world.pass(WINDOW_MS + 1_000),
            _ => self.settle(),
        }
        if self.random.chance(60) {
            self.host();
        }
    }

    fn arrive(&mut self) {
        let mut player = Player::default();
        player.connect(&self.world);
        self.players.push(player);
        for seen in self.world.drain() {
            if seen.event == Event::Opened {
                let hosted = Hosted {
                    player: self.players.len() - 1,
                    told: 0,
                    heard: 0,
                    here: true,
                };
                self.sessions.insert(seen.handle, hosted);
            } else {
                self.learn(&seen);
            }
        }
        // Who loses its first welcome has no token, and comes as somebody else.
        self.players.last_mut().unwrap().read();
    }

    /// The application tells this player's session so many numbers, and where somebody stands.
    fn tell(&mut self, at: usize, count: u32) {
        let world = &mut self.world;
        let mut sessions = self.sessions.iter_mut();
        if let Some((&handle, hosted)) = sessions.find(|(_, of)| of.player == at) {
            for _ in 0..count {
                let padding = vec![0; self.random.below(200)];
                let body = [&hosted.told.to_be_bytes()[..], &padding].concat();
                push(world, handle, NEWS, Marks::NONE, &body);
                hosted.told += 1;
            }
            push(world, handle, POSITION, Marks::DROPPABLE, b"here");
            world.flush();
        }
    }

    fn kick(&mut self, at: usize) {
        let mut sessions = self.sessions.iter();
        if let Some((&handle, _)) = sessions.find(|(_, of)| of.player == at) {
            self.world.kick(handle, "enough");
            self.world.flush();
        }
    }

    /// The application takes what has come.
    fn host(&mut self) {
        for seen in self.world.drain() {
            self.learn(&seen);
        }
    }

    fn learn(&mut self, seen: &Seen) {
        let hosted = self.sessions.get_mut(&seen.handle);
        let hosted = hosted.expect("nothing comes of a session that is over");
        match seen.event {
            Event::Packet(_) => {
                let said = u32::from_be_bytes(seen.body[..].try_into().unwrap());
                assert_eq!(said, hosted.heard, "what is said comes once and in order");
                hosted.heard += 1;
            }
            Event::Cut => assert!(std::mem::replace(&mut hosted.here, false)),
            Event::Resumed => assert!(!std::mem::replace(&mut hosted.here, true)),
            Event::Closed => {
                let hosted = self.sessions.remove(&seen.handle).unwrap();
                let player = &mut self.players[hosted.player];
                let (by, reason) = seen.end().unwrap();
                assert!(
                    matches!(
                        (by, reason),
                        (By::Server, "enough")
                            | (By::Client, "left")
                            | (By::Network, "reset")
                            | (By::Network, "heartbeat")
                    ),
                    "{by:?} {reason}"
                );
                player.end.get_or_insert("over".to_owned());
            }
            _ => panic!("{seen:?}"),
        }
    }

    /// Until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.host();
            for player in &mut self.players {
                player.read();
            }
        }
        self.host();
    }
}
