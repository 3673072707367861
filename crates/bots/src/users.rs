//! Users of a game behind a proxy, so many at a time: each moves five times a second, asks something each two
//! seconds, says a line each thirty, and is sent bundles by the world (what they say: [`crate::traffic`]).
//!
//! In steps (`--ramp 100,200,0`) users come or go until there are so many; then, after a warm-up, a window is
//! measured. Each is announced by a line `{"begins": USERS}` and reported in another one. *Added* latency is what lies
//! between the world's sending and the arrival of a bundle, and between a question and its answer without the
//! time that the answer says it was in the world: both processes read the same clock. The schedule goes on whatever comes
//! back, so nobody who stands still is spared what was due meanwhile. This thread sleeps between what is due: the world may
//! share its CPU. How late it was itself is reported, too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use mio::Events;
use serde_json::{json, Map, Value};

use crate::ask::Inflater;
use crate::clock::monotonic;
use crate::connect::{self, allow_descriptors};
use crate::lane::{length4, Lanes, Measure};
use crate::latency::{rounded, Latencies};
use crate::photinus::{self, Arrived, Counts, ZLIB};
use crate::traffic::{self, Kind, ASK_BYTES, BUNDLE_BYTES, MOVE_BYTES, SAY_BYTES};
use crate::usage;

/// Who is not in by then will not come.
const PATIENCE_NS: u64 = 60_000_000_000;

/// An answer that takes longer will not come: it is an error, and not a latency.
const ANSWER_NS: u64 = 5_000_000_000;

/// Users on their way in at one time: the rest waits here, not in the server's backlog.
const AT_ONCE: usize = 64;

/// Sends between two looks at what has come, and the other way round.
const SHARE: usize = 64;

/// What a zlib stream begins with at any level (RFC 1950, 2.2).
const ZLIB_BYTE: u8 = 0x78;

/// Names of routes, in the order of their numbers.
const ROUTES: [&str; 3] = ["move", "ask", "say"];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Photinus,
    /// A byte of kind, and the message
    Length4,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Zlib {
    None,
    /// As the protocol agrees on it (photinus)
    Protocol,
    /// A payload is a zlib stream by itself
    Payload,
}

#[derive(Args)]
pub struct Options {
    /// Proxy, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT
    #[arg(long)]
    to: String,
    #[arg(long)]
    protocol: Protocol,
    /// Where answers must be compressed
    #[arg(long, value_enum, default_value_t = Zlib::None)]
    zlib: Zlib,
    /// Users at a time, step by step
    #[arg(long, value_delimiter = ',', default_value = "100")]
    ramp: Vec<usize>,
    /// Measured time of each step
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds before it, with all users of the step
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
    /// Process whose CPU time in each window is reported, by thread
    #[arg(long)]
    watch: Option<u32>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    allow_descriptors(options.ramp.iter().copied().max().unwrap_or(0))?;
    let mut load = Load::open(options)?;
    for users in &options.ramp {
        load.become_(*users)?;
        load.play(options.warmup)?;
        say(&json!({"begins": users}))?;
        load.window = Window::new();
        let own = usage::snapshot(std::process::id())?;
        let before = options.watch.map(usage::snapshot).transpose()?;
        let began = monotonic();
        load.play(options.seconds)?;
        let seconds = (monotonic() - began) as f64 / 1e9;
        let mut report = load.report(*users, seconds);
        if let (Some(process), Some(before)) = (options.watch, before) {
            let watched = usage::report(process, &before, &usage::snapshot(process)?);
            report.insert("watched".into(), watched);
        }
        let used = usage::snapshot(std::process::id())?.values().sum::<u64>();
        let used = used - own.values().sum::<u64>();
        report.insert("load_cpu_us".into(), json!(rounded(used as f64 / 1e3)));
        say(&Value::Object(report))?;
    }
    Ok(())
}

fn say(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// What came, and how, since the window began.
struct Window {
    added: Latencies,
    asked: Latencies,
    late: Latencies,
    sent: u64,
    answers: u64,
    bundles: u64,
    missed: u64,
    said: u64,
}

impl Window {
    fn new() -> Window {
        Window {
            added: Latencies::new(),
            asked: Latencies::new(),
            late: Latencies::new(),
            sent: 0,
            answers: 0,
            bundles: 0,
            missed: 0,
            said: 0,
        }
    }
}

#[derive(Default)]
struct User {
    /// Whether it has been let in, and has not gone.
    playing: bool,
    /// How often this place has been taken: what was due for an earlier one is not for this.
    life: u32,
    counts: Counts,
    /// The server's routes by their numbers.
    routes: Vec<Option<Kind>>,
    sent: [u32; 3],
    answered: u32,
    /// When the oldest question without an answer was asked.
    asked_at: std::collections::VecDeque<u64>,
    next_bundle: Option<u32>,
}

/// What a user does, by the number of its route: the last is to say something.
const MOVE: usize = 0;
const ASK: usize = 1;
const EVERY: [u64; 3] = [traffic::MOVE_EVERY, traffic::ASK_EVERY, traffic::SAY_EVERY];
const BYTES: [usize; 3] = [MOVE_BYTES, ASK_BYTES, SAY_BYTES];
const KINDS: [Kind; 3] = [Kind::Move, Kind::Ask, Kind::Say];

/// When, whose, in which life, what.
type Due = Reverse<(u64, usize, u32, usize)>;

struct Load {
    protocol: Protocol,
    zlib: Zlib,
    lanes: Lanes,
    events: Events,
    users: Vec<User>,
    due: BinaryHeap<Due>,
    inflater: Inflater,
    out: Vec<u8>,
    body: Vec<u8>,
    frame: Vec<u8>,
    window: Window,
}

impl Load {
    fn open(options: &Options) -> io::Result<Load> {
        let measure: Measure = match options.protocol {
            Protocol::Photinus => photinus::measure,
            Protocol::Length4 => length4,
        };
        if options.protocol == Protocol::Length4 && options.zlib == Zlib::Protocol {
            return Err(io::Error::other("length4 has no compression of its own"));
        }
        Ok(Load {
            protocol: options.protocol,
            zlib: options.zlib,
            lanes: Lanes::open(&connect::resolve(&options.to)?, 0, measure)?,
            events: Events::with_capacity(SHARE),
            users: Vec::new(),
            due: BinaryHeap::new(),
            inflater: Inflater::new(),
            out: Vec::new(),
            body: Vec::new(),
            frame: Vec::new(),
            window: Window::new(),
        })
    }

    /// Lets users in, or go, until there are so many; those who are in go on meanwhile.
    fn become_(&mut self, count: usize) -> io::Result<()> {
        for index in count..self.users.len() {
            if !self.lanes.is_open(index) {
                continue;
            }
            if self.protocol == Protocol::Photinus {
                self.out.clear();
                photinus::leave(&mut self.out);
                self.lanes.write(index, &self.out);
            }
            self.lanes.close(index);
            let life = self.users[index].life + 1;
            self.users[index] = User {
                life,
                ..User::default()
            };
        }
        let end = monotonic() + PATIENCE_NS;
        let outside = |index: &usize| self.users.get(*index).is_none_or(|user| !user.playing);
        let mut outside = (0..count).filter(outside).collect::<Vec<_>>().into_iter();
        let mut coming: Vec<usize> = Vec::new();
        loop {
            while coming.len() < AT_ONCE {
                let Some(index) = outside.next() else {
                    break;
                };
                self.greet(index)?;
                coming.push(index);
            }
            if coming.is_empty() {
                return Ok(());
            }
            self.turn(end)?;
            coming.retain(|&index| {
                let comes_in = self.protocol == Protocol::Length4 && self.lanes.is_through(index);
                if comes_in {
                    self.begin(index);
                }
                !self.users[index].playing
            });
            if monotonic() > end {
                let why = format!("{} users were not let in", coming.len());
                return Err(io::Error::other(why));
            }
        }
    }

    /// Connects, and says the first word.
    fn greet(&mut self, index: usize) -> io::Result<()> {
        if index == self.users.len() {
            self.users.push(User::default());
        }
        self.lanes.reopen(index)?;
        if self.protocol == Protocol::Photinus {
            let offered: &[u8] = match self.zlib {
                Zlib::Protocol => &[ZLIB],
                _ => &[],
            };
            self.out.clear();
            photinus::hello(offered, None, &mut self.out);
            self.lanes.write(index, &self.out);
        }
        Ok(())
    }

    /// From now on it is playing; nobody does something at the same time as all others.
    fn begin(&mut self, index: usize) {
        let user = &mut self.users[index];
        user.playing = true;
        let now = monotonic();
        // The golden ratio's multiples are spread evenly, however many there are.
        let phase = (index as f64 * 0.618_033_988_75).fract();
        for (what, every) in EVERY.iter().enumerate() {
            let first = now + (phase * *every as f64) as u64;
            self.due.push(Reverse((first, index, user.life, what)));
        }
    }

    fn play(&mut self, seconds: f64) -> io::Result<()> {
        let end = monotonic() + (seconds.max(0.0) * 1e9) as u64;
        while monotonic() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    /// Sends what is due, waits, at most until then, and takes what has come.
    fn turn(&mut self, until: u64) -> io::Result<()> {
        self.send_due();
        let next = self.due.peek().map_or(until, |Reverse((due, ..))| *due);
        let wait = next.min(until).saturating_sub(monotonic());
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.lanes
            .wait(&mut events, Some(Duration::from_nanos(wait)))?;
        for event in &events {
            self.serve(event);
        }
        self.events = events;
        match &self.lanes.first_error {
            Some(error) => Err(io::Error::other(error.clone())),
            None => Ok(()),
        }
    }

    fn send_due(&mut self) {
        for _ in 0..SHARE {
            let now = monotonic();
            match self.due.peek() {
                Some(Reverse((due, ..))) if *due <= now => {}
                _ => return,
            }
            let Some(Reverse((due, index, life, what))) = self.due.pop() else {
                return;
            };
            if self.users[index].life != life {
                continue;
            }
            self.window.late.record(now - due);
            self.window.sent += 1;
            self.send(index, what, now);
            let next = due + EVERY[what];
            self.due.push(Reverse((next, index, life, what)));
        }
    }

    fn send(&mut self, index: usize, what: usize, now: u64) {
        let user = &mut self.users[index];
        let sequence = user.sent[what];
        user.sent[what] = sequence.wrapping_add(1);
        if what == ASK {
            user.asked_at.push_back(now);
        }
        self.body.clear();
        self.out.clear();
        if self.protocol == Protocol::Length4 {
            self.body.push(KINDS[what] as u8);
        }
        traffic::append(now, sequence, BYTES[what], &mut self.body);
        match self.protocol {
            Protocol::Length4 => crate::link::append_client(&[&self.body], &mut self.out),
            Protocol::Photinus => {
                self.frame.clear();
                let (route, frame) = (what as u64, &mut self.frame);
                match what {
                    MOVE => photinus::message(route, true, &self.body, &mut self.out),
                    ASK => photinus::request(u64::from(sequence), route, false, &self.body, frame),
                    _ => photinus::message(route, false, &self.body, frame),
                }
                if what != MOVE {
                    user.counts.send(&self.frame, &mut self.out);
                }
            }
        }
        self.lanes.write(index, &self.out);
    }

    fn serve(&mut self, event: &mio::event::Event) {
        let Load {
            protocol,
            zlib,
            lanes,
            users,
            inflater,
            out,
            window,
            ..
        } = self;
        let index = event.token().0;
        let user = &mut users[index];
        let now = monotonic();
        let mut let_in = false;
        out.clear();
        lanes.read(event, |frame| {
            if *protocol == Protocol::Length4 {
                let (kind, body) = frame[4..]
                    .split_first()
                    .ok_or_else(|| io::Error::other("an empty message came"))?;
                return user.hear(Kind::of_byte(*kind)?, body, *zlib, now, inflater, window);
            }
            if photinus::counts(frame) {
                user.counts.count(frame.len(), now / 1000, out);
            }
            match photinus::parse(frame)? {
                Arrived::Welcome(welcome) => {
                    if welcome.compression != (*zlib == Zlib::Protocol).then_some(ZLIB) {
                        return Err(io::Error::other("compression is not as was asked for"));
                    }
                    user.counts.handle_welcome(&welcome, now / 1000, out)?;
                    ROUTES.iter().for_each(|name| photinus::route(name, out));
                    let_in = true;
                    Ok(())
                }
                Arrived::Route(name) => {
                    user.routes.push(Kind::of_route(name));
                    Ok(())
                }
                Arrived::Message { route, body } => {
                    let kind = user.routes.get(route as usize).copied().flatten();
                    let kind =
                        kind.ok_or_else(|| io::Error::other("a message of no route came"))?;
                    user.hear(kind, body, *zlib, now, inflater, window)
                }
                Arrived::Answer { error: true, .. } => {
                    Err(io::Error::other("a question was answered with an error"))
                }
                Arrived::Answer {
                    compressed, body, ..
                } => {
                    if compressed != (*zlib == Zlib::Protocol) {
                        return Err(io::Error::other(
                            "an answer is compressed or not as was not agreed on",
                        ));
                    }
                    match compressed {
                        true => user.hear_answer(inflater.inflate(body)?, now, window),
                        false => user.hear(Kind::Answer, body, *zlib, now, inflater, window),
                    }
                }
                Arrived::Heartbeat { received, clock } => {
                    let heard = (received, clock);
                    user.counts.handle_heartbeat(heard, now / 1000, out)
                }
                Arrived::Refusal(why) | Arrived::Kick(why) => Err(io::Error::other(format!(
                    "turned away: {}",
                    String::from_utf8_lossy(why)
                ))),
                Arrived::Wait => Ok(()),
            }
        });
        if !out.is_empty() {
            lanes.write(index, out);
        }
        if let_in {
            self.begin(index);
        }
    }

    fn report(&self, users: usize, seconds: f64) -> Map<String, Value> {
        let window = &self.window;
        let mut report = Map::new();
        window.added.report(&mut report);
        let mut others = Map::new();
        for (name, latencies) in [("ask", &window.asked), ("late", &window.late)] {
            let mut each = Map::new();
            latencies.report(&mut each);
            for (what, value) in each {
                others.insert(format!("{name}_{what}"), value);
            }
        }
        report.extend(others);
        let now = monotonic();
        let overdue = |user: &&User| {
            let first = user.asked_at.front();
            first.is_some_and(|asked| now - asked > ANSWER_NS)
        };
        for (name, value) in [
            ("users", json!(users)),
            ("seconds", json!(rounded(seconds))),
            ("sent", json!(window.sent)),
            ("answers", json!(window.answers)),
            ("bundles", json!(window.bundles)),
            ("missed", json!(window.missed)),
            ("said", json!(window.said)),
            (
                "unanswered",
                json!(self.users.iter().filter(overdue).count()),
            ),
        ] {
            report.insert(name.to_owned(), value);
        }
        report
    }
}

impl User {
    fn hear(
        &mut self,
        kind: Kind,
        body: &[u8],
        zlib: Zlib,
        now: u64,
        inflater: &mut Inflater,
        window: &mut Window,
    ) -> io::Result<()> {
        match kind {
            Kind::Answer => {
                let packed = body.first() == Some(&ZLIB_BYTE);
                if packed != (zlib == Zlib::Payload) {
                    return Err(io::Error::other(
                        "an answer is compressed or not as was not agreed on",
                    ));
                }
                let body = match packed {
                    true => inflater.inflate(body)?,
                    false => body,
                };
                self.hear_answer(body, now, window)
            }
            Kind::Said => {
                traffic::read(body, SAY_BYTES)?;
                window.said += 1;
                Ok(())
            }
            Kind::Bundle => {
                let (stamp, sequence) = traffic::read(body, BUNDLE_BYTES)?;
                window.added.record(now.saturating_sub(stamp));
                window.bundles += 1;
                if let Some(next) = self.next_bundle {
                    if sequence < next {
                        return Err(io::Error::other(format!(
                            "bundle {sequence} came when {next} was the next"
                        )));
                    }
                    window.missed += u64::from(sequence - next);
                }
                self.next_bundle = Some(sequence.wrapping_add(1));
                Ok(())
            }
            kind => Err(io::Error::other(format!("the world said {kind:?}"))),
        }
    }

    fn hear_answer(&mut self, body: &[u8], now: u64, window: &mut Window) -> io::Result<()> {
        let (sequence, in_world) = traffic::read_answer(body)?;
        let Some(asked) = self
            .asked_at
            .pop_front()
            .filter(|_| sequence == self.answered)
        else {
            return Err(io::Error::other(format!(
                "answer {sequence} came when {} was due",
                self.answered
            )));
        };
        self.answered = sequence.wrapping_add(1);
        let added = (now - asked).saturating_sub(in_world);
        window.added.record(added);
        window.asked.record(added);
        window.answers += 1;
        Ok(())
    }
}
