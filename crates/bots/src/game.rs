//! Players of the demo world, over the pomelo protocol: each logs in, walks several times a second
//! (notify) and says something now and then (a request, so that there is a latency to report), and
//! hears what the others do.
//!
//! One JSON line a second on stdout, one with `"total": true` at the end. Ends with `--seconds`, at
//! the end of stdin, on SIGTERM and on Ctrl-C.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use clap::Args;
use mio::Events;
use serde_json::{json, Map, Value};

use crate::connect;
use crate::control::{self, Control, SAID};
use crate::lane::{Clock, Lanes};
use crate::latency::{rounded, Latencies};
use crate::pomelo::{self, Arrived};
use crate::usage;

const SECOND: u64 = 1_000_000_000;

/// Steps a second is what a walking player's client sends in games of this kind.
const WALK_EVERY: u64 = SECOND / 4;
const SAY_EVERY: u64 = 8 * SECOND;

/// A request without an answer for so long counts as an error.
const PATIENCE: u64 = 10 * SECOND;

/// With more than this waiting for its socket, a bot keeps still: it would only say what is old.
const MOST_WAITING: usize = 64 * 1024;

/// The world the bots walk in reaches from minus this to this.
const EDGE: f64 = 100.0;

const PHRASES: [&str; 4] = [
    "anyone seen the fireflies?",
    "over here!",
    "brb",
    "nice night for a walk",
];

#[derive(Args)]
pub struct Options {
    /// Server, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT
    #[arg(long)]
    to: String,
    /// Players
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Time to play; without it until the end of stdin or a signal
    #[arg(long)]
    seconds: Option<f64>,
    /// Where the players go and what they say follows from this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    let mut lanes = Lanes::open(
        &connect::resolve(&options.to)?,
        options.count as usize,
        pomelo::measure,
    )?;
    let control = control::listen(lanes.registry())?;
    let clock = Clock::start();
    let mut players = Players::new(options, clock);
    players.shake_hands(&mut lanes);
    let end = options
        .seconds
        .map_or(u64::MAX, |seconds| (seconds.max(0.0) * 1e9) as u64);
    play(&mut players, &mut lanes, &control, end)?;
    players.finish(&lanes)
}

fn play(
    players: &mut Players,
    lanes: &mut Lanes,
    control: &Receiver<Control>,
    end: u64,
) -> io::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut reports = 1;
    loop {
        let now = players.clock.now();
        if now >= end {
            return Ok(());
        }
        if now >= reports * SECOND {
            players.report(lanes, reports)?;
            reports = now / SECOND + 1;
        }
        players.act(lanes, now);
        let next = players.next_due().min(reports * SECOND).min(end);
        let now = players.clock.now();
        lanes.wait(
            &mut events,
            Some(Duration::from_nanos(next.saturating_sub(now))),
        )?;
        for event in events.iter().filter(|event| event.token() != SAID) {
            players.handle(lanes, event);
        }
        if control.try_iter().any(|said| matches!(said, Control::Stop)) {
            return Ok(());
        }
        if lanes.lost == lanes.len() {
            let why = lanes.first_error.as_deref().unwrap_or("");
            return Err(io::Error::other(format!(
                "all players are out; first {why}"
            )));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    ShakingHands,
    LoggingIn,
    Playing,
}

struct Player {
    stage: Stage,
    x: f64,
    y: f64,
    next_id: u32,
    /// The one request under way: its id and when it was sent.
    asked: Option<(u32, u64)>,
    heartbeat_every: u64,
    heartbeat_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urge {
    Walk,
    Say,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    sent: u64,
    received: u64,
    pushes: u64,
    answers: u64,
    skipped: u64,
    errors: u64,
}

struct Players {
    clock: Clock,
    players: Vec<Player>,
    urges: BinaryHeap<Reverse<(u64, usize, Urge)>>,
    dice: Dice,
    out: Vec<u8>,
    counts: Counts,
    reported: Counts,
    latencies: Latencies,
    all_latencies: Latencies,
    first_error: Option<String>,
}

impl Players {
    fn new(options: &Options, clock: Clock) -> Players {
        let mut dice = Dice(options.seed);
        let players = (0..options.count)
            .map(|_| Player {
                stage: Stage::ShakingHands,
                x: dice.between(-EDGE, EDGE),
                y: dice.between(-EDGE, EDGE),
                next_id: 1,
                asked: None,
                heartbeat_every: 0,
                heartbeat_at: 0,
            })
            .collect();
        Players {
            clock,
            players,
            urges: BinaryHeap::new(),
            dice,
            out: Vec::new(),
            counts: Counts::default(),
            reported: Counts::default(),
            latencies: Latencies::new(),
            all_latencies: Latencies::new(),
            first_error: None,
        }
    }

    fn shake_hands(&mut self, lanes: &mut Lanes) {
        for index in 0..self.players.len() {
            self.out.clear();
            pomelo::handshake(&mut self.out);
            self.counts.sent += 1;
            lanes.write(index, &self.out);
        }
    }

    fn next_due(&self) -> u64 {
        self.urges
            .peek()
            .map_or(u64::MAX, |Reverse((due, ..))| *due)
    }

    /// Lets every player do what is due.
    fn act(&mut self, lanes: &mut Lanes, now: u64) {
        while let Some(&Reverse((due, index, urge))) = self.urges.peek() {
            if due > now {
                return;
            }
            self.urges.pop();
            if !lanes.is_open(index) {
                continue;
            }
            let every = match urge {
                Urge::Walk => WALK_EVERY,
                Urge::Say => SAY_EVERY,
            };
            // From the due time, not from now, so that a slow server is not spared; but what was
            // missed altogether is not made up for.
            let next = (due + every).max(now.saturating_sub(every));
            self.urges.push(Reverse((next, index, urge)));
            if lanes.waiting(index) > MOST_WAITING {
                self.counts.skipped += 1;
                continue;
            }
            self.out.clear();
            match urge {
                Urge::Walk => self.walk(index),
                Urge::Say => self.speak(index, now),
            }
            if !self.out.is_empty() {
                self.counts.sent += 1;
                lanes.write(index, &self.out);
            }
        }
    }

    fn walk(&mut self, index: usize) {
        let player = &mut self.players[index];
        player.x = (player.x + self.dice.between(-1.0, 1.0)).clamp(-EDGE, EDGE);
        player.y = (player.y + self.dice.between(-1.0, 1.0)).clamp(-EDGE, EDGE);
        let body = format!(r#"{{"x":{:.2},"y":{:.2}}}"#, player.x, player.y);
        pomelo::notify("walk", body.as_bytes(), &mut self.out);
    }

    fn speak(&mut self, index: usize, now: u64) {
        if let Some((_, since)) = self.players[index].asked {
            if now - since < PATIENCE {
                return;
            }
            self.note(index, "a request was not answered");
        }
        let phrase = PHRASES[self.dice.below(PHRASES.len() as u64) as usize];
        self.ask(index, "say", &format!(r#"{{"text":"{phrase}"}}"#), now);
    }

    fn ask(&mut self, index: usize, route: &str, body: &str, now: u64) {
        let player = &mut self.players[index];
        let id = player.next_id;
        player.next_id = id.wrapping_add(1).max(1);
        player.asked = Some((id, now));
        pomelo::request(id, route, false, body.as_bytes(), &mut self.out);
    }

    /// Reads what has come for one player, and answers what the protocol wants answered.
    fn handle(&mut self, lanes: &mut Lanes, event: &mio::event::Event) {
        let index = event.token().0;
        let now = self.clock.now();
        let mut sent = 0;
        self.out.clear();
        lanes.read(event, |package| {
            self.counts.received += 1;
            sent += self.take(index, pomelo::parse(package)?, now)?;
            Ok(())
        });
        if sent > 0 {
            self.counts.sent += sent;
            lanes.write(index, &self.out);
        }
    }

    /// One package; how many were appended to `out` for it.
    fn take(&mut self, index: usize, arrived: Arrived<'_>, now: u64) -> io::Result<u64> {
        match arrived {
            Arrived::Push { .. } => {
                self.counts.pushes += 1;
                Ok(0)
            }
            Arrived::Handshake(body) => {
                self.players[index].heartbeat_every = heartbeat_interval(body)?;
                self.players[index].stage = Stage::LoggingIn;
                pomelo::handshake_ack(&mut self.out);
                self.ask(index, "login", &format!(r#"{{"name":"bot-{index}"}}"#), now);
                Ok(2)
            }
            Arrived::Heartbeat => {
                let player = &mut self.players[index];
                // A server that answers heartbeats too must not make a tennis match of them.
                if player.heartbeat_every == 0
                    || now < player.heartbeat_at + player.heartbeat_every / 2
                {
                    return Ok(0);
                }
                player.heartbeat_at = now;
                pomelo::heartbeat(&mut self.out);
                Ok(1)
            }
            Arrived::Response {
                compressed: true, ..
            } => Err(io::Error::other("a compressed answer came")),
            Arrived::Response {
                id, error, body, ..
            } => self.answered(index, id, error, body, now),
            Arrived::Kick(reason) => Err(io::Error::other(format!(
                "kicked by the server: {}",
                String::from_utf8_lossy(reason)
            ))),
        }
    }

    fn answered(
        &mut self,
        index: usize,
        id: u32,
        error: bool,
        body: &[u8],
        now: u64,
    ) -> io::Result<u64> {
        let player = &mut self.players[index];
        match player.asked {
            Some((asked, since)) if asked == id => {
                self.counts.answers += 1;
                self.latencies.record(now - since);
                self.all_latencies.record(now - since);
                player.asked = None;
            }
            _ => {
                return Err(io::Error::other(
                    "an answer came that nothing had asked for",
                ))
            }
        }
        let logging_in = player.stage == Stage::LoggingIn;
        if error {
            let text = String::from_utf8_lossy(body).into_owned();
            if logging_in {
                return Err(io::Error::other(format!("the login was refused: {text}")));
            }
            self.note(index, &format!("a request was refused: {text}"));
        } else if logging_in {
            player.stage = Stage::Playing;
            let (walk, say) = (self.dice.below(WALK_EVERY), self.dice.below(SAY_EVERY));
            self.urges.push(Reverse((now + walk, index, Urge::Walk)));
            self.urges.push(Reverse((now + say, index, Urge::Say)));
        }
        Ok(0)
    }

    fn note(&mut self, index: usize, what: &str) {
        self.counts.errors += 1;
        self.first_error
            .get_or_insert_with(|| format!("bot-{index}: {what}"));
    }

    /// The line of one second: what happened since the line before.
    fn report(&mut self, lanes: &Lanes, second: u64) -> io::Result<()> {
        let (now, before) = (self.counts, self.reported);
        let since = Counts {
            sent: now.sent - before.sent,
            received: now.received - before.received,
            pushes: now.pushes - before.pushes,
            answers: now.answers - before.answers,
            skipped: now.skipped - before.skipped,
            errors: now.errors - before.errors,
        };
        let mut line = self.line(lanes, since);
        line.insert("second".into(), json!(second));
        self.latencies.report(&mut line);
        self.reported = now;
        self.latencies.clear();
        print_line(line)
    }

    fn finish(&mut self, lanes: &Lanes) -> io::Result<()> {
        let mut line = self.line(lanes, self.counts);
        line.insert("total".into(), json!(true));
        line.insert(
            "seconds".into(),
            json!(rounded(self.clock.now() as f64 / 1e9)),
        );
        self.all_latencies.report(&mut line);
        print_line(line)
    }

    fn line(&self, lanes: &Lanes, counts: Counts) -> Map<String, Value> {
        let playing = |(index, player): (usize, &Player)| {
            player.stage == Stage::Playing && lanes.is_open(index)
        };
        let connected = self
            .players
            .iter()
            .enumerate()
            .filter(|each| playing(*each))
            .count();
        let first_error = self.first_error.as_ref().or(lanes.first_error.as_ref());
        let mut line = Map::new();
        for (name, value) in [
            ("connected", json!(connected)),
            ("lost", json!(lanes.lost)),
            ("sent", json!(counts.sent)),
            ("received", json!(counts.received)),
            ("pushes", json!(counts.pushes)),
            ("answers", json!(counts.answers)),
            ("skipped", json!(counts.skipped)),
            ("errors", json!(counts.errors)),
            ("first_error", json!(first_error)),
        ] {
            line.insert(name.to_owned(), value);
        }
        line
    }
}

/// Nanoseconds between heartbeats, of the server's handshake; 0 where it wants none.
fn heartbeat_interval(body: &[u8]) -> io::Result<u64> {
    let wrong = |what: String| io::Error::other(format!("the handshake's answer {what}"));
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    match answer["code"].as_u64() {
        Some(200) => {}
        _ => return Err(wrong(format!("is a refusal: {answer}"))),
    }
    let seconds = answer["sys"]["heartbeat"].as_f64().unwrap_or(0.0);
    Ok((seconds.max(0.0) * 1e9) as u64)
}

fn print_line(line: Map<String, Value>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", Value::Object(line))?;
    out.flush()
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_tells_the_heartbeat() {
        let answer = br#"{"code":200,"sys":{"heartbeat":30}}"#;
        assert_eq!(heartbeat_interval(answer).unwrap(), 30 * SECOND);
        assert_eq!(heartbeat_interval(br#"{"code":200}"#).unwrap(), 0);
        assert!(heartbeat_interval(br#"{"code":501}"#).is_err());
        assert!(heartbeat_interval(b"{").is_err());
    }

    #[test]
    fn dice_follow_from_the_seed_and_stay_in_bounds() {
        let rolls = |seed| {
            let mut dice = Dice(seed);
            (0..100)
                .map(|_| dice.between(-1.0, 1.0))
                .collect::<Vec<f64>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        assert!(rolls(7).iter().all(|value| (-1.0..1.0).contains(value)));
        assert_eq!(
            Dice(0).roll(),
            0xe220_a839_7b1d_cdaf,
            "the algorithm's published first value"
        );
    }
}
