//! Many players are cut off at once and come back: how soon, and with what?
//!
//! The server's side of the bargain (protocol photinus): it pushes a number, one higher each time, to every
//! session, and answers a request to `say` with the same payload. Each player says a number, one higher each
//! time, and says one more just before it is cut; so at the cut something is under way in both directions.
//! The payloads begin with the number, a big-endian u32. Each number must come once, and in order.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use clap::Args;
use mio::Events;
use serde_json::{json, Map, Value};

use crate::connect::{self, allow_descriptors};
use crate::lane::{Clock, Lanes};
use crate::latency::{rounded, Latencies};
use crate::photinus::{self, Arrived, Counts};
use crate::usage;

/// Who is not in by then will not come.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Players that are coming in at one time: the rest waits in the load, not in the server's backlog.
const AT_ONCE: usize = 256;

/// The only route that players name, so its number is 0.
const SAY: &str = "say";

#[derive(Args)]
pub struct Options {
    /// Server, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT (photinus)
    #[arg(long)]
    to: String,
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Seconds from when all are in to the cut
    #[arg(long, default_value_t = 2.0)]
    before: f64,
    /// Seconds from when all are back to the end
    #[arg(long, default_value_t = 2.0)]
    after: f64,
    /// Requests a second, of each player
    #[arg(long, default_value_t = 1.0)]
    pace: f64,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    let mut load = Load::open(options)?;
    load.let_in()?;
    load.play(options.before, options.pace)?;
    load.cut();
    load.let_in()?;
    load.play(options.after, options.pace)?;
    load.hear_the_rest()?;
    println!("{}", Value::Object(load.report()));
    Ok(())
}

#[derive(Default)]
struct Player {
    counts: Counts,
    stage: Stage,
    /// The number of the next push; `None`: none has come.
    next_push: Option<u32>,
    /// Numbers of the next that is said, and of the next answer.
    next_said: u32,
    next_answer: u32,
    pushes_since_back: u32,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Out,
    In,
}

/// What came otherwise than it must.
#[derive(Default)]
struct Wrongs {
    gaps: u64,
    lost: u64,
    doubled: u64,
    failed: u64,
    first: Option<String>,
}

struct Load {
    clock: Clock,
    lanes: Lanes,
    events: Events,
    players: Vec<Player>,
    out: Vec<u8>,
    came_in: usize,
    cut_at: u64,
    back_at: u64,
    took: Latencies,
    retries: u64,
    pushes: u64,
    answers: u64,
    wrongs: Wrongs,
}

impl Load {
    fn open(options: &Options) -> io::Result<Load> {
        let count = options.connections as usize;
        let target = connect::resolve(&options.to)?;
        Ok(Load {
            clock: Clock::start(),
            lanes: Lanes::open(&target, 0, photinus::measure)?,
            events: Events::with_capacity(1024),
            players: (0..count).map(|_| Player::default()).collect(),
            out: Vec::new(),
            came_in: 0,
            cut_at: 0,
            back_at: 0,
            took: Latencies::new(),
            retries: 0,
            pushes: 0,
            answers: 0,
            wrongs: Wrongs::default(),
        })
    }

    /// Each player says something so often, none at the same time as another.
    fn play(&mut self, seconds: f64, pace: f64) -> io::Result<()> {
        let start = self.clock.now();
        let end = start + (seconds.max(0.0) * 1e9) as u64;
        let gap = (1e9 / pace.max(0.001) / self.players.len() as f64) as u64;
        let mut said = 0;
        while self.clock.now() < end {
            while start + said * gap <= self.clock.now() {
                self.say((said % self.players.len() as u64) as usize);
                said += 1;
            }
            self.turn(end.min(start + said * gap))?;
            self.check_alive()?;
        }
        Ok(())
    }

    fn cut(&mut self) {
        for index in 0..self.players.len() {
            self.say(index);
        }
        self.came_in = 0;
        self.cut_at = self.clock.now();
        for (index, player) in self.players.iter_mut().enumerate() {
            self.lanes.close(index);
            player.stage = Stage::Out;
            player.pushes_since_back = 0;
        }
    }

    /// Connects all players, for the first time or again.
    fn let_in(&mut self) -> io::Result<()> {
        let mut waiting: VecDeque<usize> = (0..self.players.len()).collect();
        let mut coming: Vec<usize> = Vec::new();
        let end = self.clock.now() + PATIENCE_NS;
        allow_descriptors(self.players.len())?;
        while self.came_in < self.players.len() {
            while coming.len() < AT_ONCE {
                let Some(index) = waiting.pop_front() else {
                    break;
                };
                self.lanes.reopen(index)?;
                self.greet(index);
                coming.push(index);
            }
            self.turn(end)?;
            let (lanes, players, retries) = (&self.lanes, &self.players, &mut self.retries);
            coming.retain(|&index| {
                let failed = !lanes.is_open(index);
                if failed {
                    *retries += 1;
                    waiting.push_back(index);
                }
                !failed && players[index].stage == Stage::Out
            });
            if self.clock.now() > end {
                let why = self.lanes.first_error.as_deref().unwrap_or("no answer");
                return Err(io::Error::other(format!(
                    "{} of {} players are not in; first {why}",
                    self.players.len() - self.came_in,
                    self.players.len()
                )));
            }
        }
        self.back_at = self.clock.now();
        Ok(())
    }

    /// Until each has had its answers, and a push on its new connection.
    fn hear_the_rest(&mut self) -> io::Result<()> {
        let end = self.clock.now() + PATIENCE_NS;
        let lacks = |player: &Player| {
            player.next_answer < player.next_said || player.pushes_since_back == 0
        };
        while self.players.iter().any(lacks) && self.clock.now() < end {
            self.turn(end)?;
            self.check_alive()?;
        }
        let lost: u32 = self
            .players
            .iter()
            .map(|player| player.next_said - player.next_answer)
            .sum();
        let silent = self
            .players
            .iter()
            .filter(|player| player.pushes_since_back == 0)
            .count();
        self.wrongs.lost += u64::from(lost) + silent as u64;
        Ok(())
    }

    /// The first word on a connection.
    fn greet(&mut self, index: usize) {
        let counts = &self.players[index].counts;
        let resume = counts.token.as_ref().map(|token| (token, counts.received));
        self.out.clear();
        photinus::hello(&[], resume, &mut self.out);
        self.lanes.write(index, &self.out);
    }

    fn say(&mut self, index: usize) {
        let player = &mut self.players[index];
        let mut frame = Vec::new();
        let number = player.next_said.to_be_bytes();
        photinus::request(u64::from(player.next_said), 0, false, &number, &mut frame);
        player.next_said += 1;
        self.out.clear();
        player.counts.send(&frame, &mut self.out);
        self.lanes.write(index, &self.out);
    }

    /// Waits once, at most until then, and serves every connection that is ready.
    fn turn(&mut self, until: u64) -> io::Result<()> {
        let timeout = until.saturating_sub(self.clock.now());
        self.lanes
            .wait(&mut self.events, Some(Duration::from_nanos(timeout)))?;
        let Load {
            clock,
            lanes,
            events,
            players,
            out,
            came_in,
            cut_at,
            took,
            pushes,
            answers,
            wrongs,
            ..
        } = self;
        for event in events.iter() {
            let index = event.token().0;
            let player = &mut players[index];
            let now = clock.now();
            out.clear();
            lanes.read(event, |frame| {
                if photinus::counts(frame) {
                    player.counts.count(frame.len(), now / 1000, out);
                }
                match photinus::parse(frame)? {
                    Arrived::Message { body, .. } => {
                        *pushes += 1;
                        player.handle_push(number(body)?, wrongs);
                    }
                    Arrived::Answer {
                        id, error, body, ..
                    } => {
                        *answers += 1;
                        player.handle_answer((id, number(body)?, error), wrongs);
                    }
                    Arrived::Welcome(welcome) => {
                        wrongs.gaps += u64::from(welcome.status == 2);
                        if player.counts.token.is_some() && welcome.status == 0 {
                            return Err(io::Error::other("a new session came of a resume"));
                        }
                        if welcome.token.is_none() {
                            return Err(io::Error::other("the session cannot be resumed"));
                        }
                        let now = now / 1000;
                        player.counts.handle_welcome(&welcome, now, out)?;
                        photinus::route(SAY, out);
                        player.counts.send_again(out);
                        player.stage = Stage::In;
                        *came_in += 1;
                        if welcome.status != 0 {
                            took.record(clock.now() - *cut_at);
                        }
                    }
                    Arrived::Heartbeat { received, clock } => {
                        let heard = (received, clock);
                        player.counts.handle_heartbeat(heard, now / 1000, out)?;
                    }
                    Arrived::Refusal(why) | Arrived::Kick(why) => {
                        return Err(io::Error::other(format!(
                            "turned away: {}",
                            String::from_utf8_lossy(why)
                        )))
                    }
                    Arrived::Wait | Arrived::Route(_) => {}
                }
                Ok(())
            });
            lanes.write(index, out);
        }
        Ok(())
    }

    /// Nobody may be lost while nobody is being cut.
    fn check_alive(&self) -> io::Result<()> {
        match (0..self.players.len()).find(|&index| !self.lanes.is_open(index)) {
            None => Ok(()),
            Some(_) => Err(io::Error::other(format!(
                "players are lost; first {}",
                self.lanes.first_error.as_deref().unwrap_or_default()
            ))),
        }
    }

    fn report(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let back = (self.back_at - self.cut_at) as f64 / 1e9;
        for (name, value) in [
            ("connections", json!(self.players.len())),
            ("all_back_s", json!(rounded(back))),
            ("pushes", json!(self.pushes)),
            ("answers", json!(self.answers)),
            ("gaps", json!(self.wrongs.gaps)),
            ("lost", json!(self.wrongs.lost)),
            ("doubled", json!(self.wrongs.doubled)),
            ("failed", json!(self.wrongs.failed)),
            ("first_error", json!(self.wrongs.first)),
            ("retries", json!(self.retries)),
        ] {
            map.insert(name.to_owned(), value);
        }
        self.took.report(&mut map);
        map
    }
}

impl Player {
    fn handle_push(&mut self, came: u32, wrongs: &mut Wrongs) {
        self.pushes_since_back += 1;
        if let Some(due) = self.next_push {
            wrongs.compare("push", due, came);
        }
        self.next_push = Some(came + 1);
    }

    fn handle_answer(&mut self, (id, came, error): (u64, u32, bool), wrongs: &mut Wrongs) {
        if error || id != u64::from(came) {
            wrongs.failed += 1;
            wrongs
                .first
                .get_or_insert_with(|| format!("request {id} was answered with an error"));
        }
        wrongs.compare("answer", self.next_answer, came);
        self.next_answer = came + 1;
    }
}

impl Wrongs {
    fn compare(&mut self, what: &str, due: u32, came: u32) {
        if came == due {
            return;
        }
        self.lost += u64::from(came.saturating_sub(due));
        self.doubled += u64::from(came < due);
        self.first
            .get_or_insert_with(|| format!("{what} {came} came when {due} was due"));
    }
}

fn number(body: &[u8]) -> io::Result<u32> {
    let first = body.first_chunk().map(|number| u32::from_be_bytes(*number));
    first.ok_or_else(|| io::Error::other("a payload without a number came"))
}
