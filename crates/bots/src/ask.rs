//! Requests with payloads of a game's size, over a protocol that has requests and can compress: so many under
//! way on each connection, or so many a second (`--rate`), which a latency then counts from when it was due.
//!
//! The server's side of the bargain: a route `echo` that answers with the payload it got. With `--compress`
//! every request is compressed with zlib, once, before the load begins: so the load costs little. Every
//! answer must be compressed, too, and inflate to what was sent.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use mio::Events;
use serde_json::{json, Map, Value};

use crate::connect;
use crate::lane::{Clock, Lanes, Measure, LONGEST_FRAME};
use crate::latency::{rounded, Latencies};
use crate::photinus::{self, Counts, ZLIB};
use crate::pomelo;
use crate::schedule::Schedule;
use crate::usage;

/// Handshakes, and answers, that take longer will not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Below this an open loop polls without sleeping.
const SPIN_NS: u64 = 2_000_000;

/// Ids of requests go round: more are not under way on a connection.
const IDS: u32 = 64;

const ROUTE: &str = "echo";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Pomelo,
    Photinus,
}

#[derive(Args)]
pub struct Options {
    /// Server, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT
    #[arg(long)]
    to: String,
    #[arg(long)]
    protocol: Protocol,
    /// Both sides compress, with zlib
    #[arg(long)]
    compress: bool,
    /// The payloads, each a line of this file, in turn
    #[arg(long)]
    payloads: PathBuf,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Requests under way on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(IDS)))]
    depth: u32,
    /// Open loop: requests a second in all, sent when due, round-robin over the connections
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "depth")]
    rate: Option<u64>,
    /// Measured time
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds under load before it
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
    /// Process whose CPU time in the window is reported, by thread
    #[arg(long)]
    watch: Option<u32>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    let mut load = Load::open(options)?;
    load.greet()?;
    match options.rate {
        Some(rate) => load.due = Some(Due::from(load.clock.now(), rate)),
        None => {
            let (now, depth) = (load.clock.now(), options.depth as usize);
            (0..load.lanes.len()).for_each(|index| load.ask(index, depth, now));
        }
    }
    load.turn_for(options.warmup)?;

    let own = usage::snapshot(std::process::id())?;
    let before = options.watch.map(usage::snapshot).transpose()?;
    load.latencies.clear();
    load.answers = 0;
    let start = load.clock.now();
    load.turn_for(options.seconds)?;
    let seconds = (load.clock.now() - start) as f64 / 1e9;
    let answers = load.answers;

    let mut report = Map::new();
    if let (Some(process), Some(before)) = (options.watch, before) {
        let watched = usage::report(process, &before, &usage::snapshot(process)?);
        report.insert("watched".into(), watched);
    }
    let used = usage::snapshot(std::process::id())?.values().sum::<u64>();
    let used = used - own.values().sum::<u64>();
    load.latencies.report(&mut report);
    for (name, value) in [
        ("echoes", json!(answers)),
        ("seconds", json!(rounded(seconds))),
        ("echoes_per_s", json!((answers as f64 / seconds).round())),
        ("load_cpu_us", json!(rounded(used as f64 / 1e3))),
        ("sent_bytes", json!(load.payloads[0].packed.len())),
    ] {
        report.insert(name.to_owned(), value);
    }
    println!("{}", Value::Object(report));
    Ok(())
}

struct Payload {
    plain: Vec<u8>,
    /// As it is sent.
    packed: Vec<u8>,
}

#[derive(Default)]
struct Asker {
    open: bool,
    counts: Counts,
    asked: u32,
    answered: u32,
    since: VecDeque<u64>,
}

/// An open loop's schedule, and how much of it has been sent.
struct Due {
    schedule: Schedule,
    sent: u64,
}

impl Due {
    fn from(now: u64, rate: u64) -> Due {
        Due {
            schedule: Schedule::new(now, rate),
            sent: 0,
        }
    }
}

struct Load {
    /// `None`: a closed loop.
    due: Option<Due>,
    clock: Clock,
    protocol: Protocol,
    compress: bool,
    payloads: Vec<Payload>,
    lanes: Lanes,
    askers: Vec<Asker>,
    inflater: Inflater,
    out: Vec<u8>,
    frame: Vec<u8>,
    answers: u64,
    latencies: Latencies,
}

/// What a frame means to an asker.
enum Came<'a> {
    /// The handshake is done; what is to be said now is in `out`.
    Open,
    Answer {
        id: u32,
        error: bool,
        compressed: bool,
        body: &'a [u8],
    },
    Nothing,
}

impl Load {
    fn open(options: &Options) -> io::Result<Load> {
        let measure: Measure = match options.protocol {
            Protocol::Pomelo => pomelo::measure,
            Protocol::Photinus => photinus::measure,
        };
        let count = options.connections as usize;
        Ok(Load {
            due: None,
            clock: Clock::start(),
            protocol: options.protocol,
            compress: options.compress,
            payloads: read_payloads(options)?,
            lanes: Lanes::open(&connect::resolve(&options.to)?, count, measure)?,
            askers: (0..count).map(|_| Asker::default()).collect(),
            inflater: Inflater::new(),
            out: Vec::new(),
            frame: Vec::new(),
            answers: 0,
            latencies: Latencies::new(),
        })
    }

    fn greet(&mut self) -> io::Result<()> {
        for index in 0..self.lanes.len() {
            self.out.clear();
            match self.protocol {
                Protocol::Pomelo => pomelo::handshake(&mut self.out),
                Protocol::Photinus => {
                    let offered: &[u8] = if self.compress { &[ZLIB] } else { &[] };
                    photinus::hello(offered, None, &mut self.out);
                }
            }
            self.lanes.write(index, &self.out);
        }
        let end = self.clock.now() + PATIENCE.as_nanos() as u64;
        while self.askers.iter().any(|asker| !asker.open) {
            if self.clock.now() > end {
                return Err(io::Error::other("the handshakes were not answered"));
            }
            self.turn(PATIENCE)?;
        }
        Ok(())
    }

    fn turn_for(&mut self, seconds: f64) -> io::Result<()> {
        let end = self.clock.now() + (seconds.max(0.0) * 1e9) as u64;
        loop {
            let now = self.clock.now();
            if now >= end {
                return Ok(());
            }
            let next = self.send_due(now)?.min(end);
            let idle = next.saturating_sub(self.clock.now());
            // A sleep comes back too late for what is due soon.
            let timeout = if idle < SPIN_NS {
                0
            } else {
                idle - SPIN_NS / 2
            };
            self.turn(Duration::from_nanos(timeout))?;
        }
    }

    /// Sends what is due; when the next will be.
    fn send_due(&mut self, now: u64) -> io::Result<u64> {
        let Some(mut due) = self.due.take() else {
            return Ok(u64::MAX);
        };
        while due.schedule.intended(due.sent) <= now {
            let index = (due.sent % self.lanes.len() as u64) as usize;
            if self.askers[index].since.len() >= IDS as usize {
                return Err(io::Error::other("the server is far behind this rate"));
            }
            self.ask(index, 1, due.schedule.intended(due.sent));
            due.sent += 1;
        }
        let next = due.schedule.intended(due.sent);
        self.due = Some(due);
        Ok(next)
    }

    /// Waits once, serves every connection that is ready, and asks again for every answer.
    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        self.lanes.wait(&mut events, Some(timeout))?;
        for event in &events {
            let index = event.token().0;
            let answered = self.serve(event, index);
            // Heartbeats and the next requests go out together.
            let next = if self.due.is_none() { answered } else { 0 };
            self.ask(index, next, self.clock.now());
        }
        match &self.lanes.first_error {
            Some(error) => Err(io::Error::other(error.clone())),
            None => Ok(()),
        }
    }

    /// Takes what has come on one connection; how many answers. What is to be said is in `out`.
    fn serve(&mut self, event: &mio::event::Event, index: usize) -> usize {
        let Load {
            clock,
            protocol,
            compress,
            payloads,
            lanes,
            askers,
            inflater,
            out,
            answers,
            latencies,
            ..
        } = self;
        let asker = &mut askers[index];
        let now = clock.now();
        let mut answered = 0;
        out.clear();
        lanes.read(event, |frame| {
            let came = match protocol {
                Protocol::Pomelo => asker.read_pomelo(frame, out)?,
                Protocol::Photinus => asker.read_photinus(frame, *compress, now / 1000, out)?,
            };
            let (id, error, compressed, body) = match came {
                Came::Nothing => return Ok(()),
                Came::Open => {
                    asker.open = true;
                    return Ok(());
                }
                Came::Answer {
                    id,
                    error,
                    compressed,
                    body,
                } => (id, error, compressed, body),
            };
            let number = asker.answered;
            let wrong = |what| {
                let text = body[..body.len().min(100)].escape_ascii();
                Err(io::Error::other(format!("answer {number} {what}: {text}")))
            };
            if error {
                return wrong("is an error");
            }
            if compressed != *compress {
                return wrong("is compressed or not as was not agreed on");
            }
            let Some(since) = asker.since.pop_front().filter(|_| id == number % IDS) else {
                return wrong("is to another request");
            };
            let body = if compressed {
                inflater.inflate(body)?
            } else {
                body
            };
            if body != payloads[payload_of(index, number, payloads.len())].plain {
                return wrong("differs from what was sent");
            }
            asker.answered = number.wrapping_add(1);
            answered += 1;
            *answers += 1;
            latencies.record(now - since);
            Ok(())
        });
        answered
    }

    /// Sends what is in `out`, and so many requests.
    fn ask(&mut self, index: usize, count: usize, since: u64) {
        let asker = &mut self.askers[index];
        for _ in 0..count {
            let payload = &self.payloads[payload_of(index, asker.asked, self.payloads.len())];
            let id = asker.asked % IDS;
            match self.protocol {
                Protocol::Pomelo => {
                    let body = &payload.packed;
                    pomelo::request(id, ROUTE, self.compress, body, &mut self.out);
                }
                Protocol::Photinus => {
                    self.frame.clear();
                    let (id, body) = (u64::from(id), &payload.packed);
                    photinus::request(id, 0, self.compress, body, &mut self.frame);
                    asker.counts.send(&self.frame, &mut self.out);
                }
            }
            asker.asked = asker.asked.wrapping_add(1);
            asker.since.push_back(since);
        }
        self.lanes.write(index, &self.out);
        self.out.clear();
    }
}

impl Asker {
    fn read_pomelo<'a>(&mut self, package: &'a [u8], out: &mut Vec<u8>) -> io::Result<Came<'a>> {
        Ok(match pomelo::parse(package)? {
            pomelo::Arrived::Handshake(_) => {
                pomelo::handshake_ack(out);
                Came::Open
            }
            pomelo::Arrived::Heartbeat => {
                pomelo::heartbeat(out);
                Came::Nothing
            }
            pomelo::Arrived::Response {
                id,
                error,
                compressed,
                body,
            } => Came::Answer {
                id,
                error,
                compressed,
                body,
            },
            pomelo::Arrived::Push { .. } => Came::Nothing,
            pomelo::Arrived::Kick(why) => return Err(turned_away(why)),
        })
    }

    fn read_photinus<'a>(
        &mut self,
        frame: &'a [u8],
        compress: bool,
        now: u64,
        out: &mut Vec<u8>,
    ) -> io::Result<Came<'a>> {
        if photinus::counts(frame) {
            self.counts.count(frame.len(), now, out);
        }
        Ok(match photinus::parse(frame)? {
            photinus::Arrived::Welcome(welcome) => {
                if welcome.compression != compress.then_some(ZLIB) {
                    return Err(io::Error::other("the server does not compress with zlib"));
                }
                self.counts.handle_welcome(&welcome, now, out)?;
                photinus::route(ROUTE, out);
                Came::Open
            }
            photinus::Arrived::Heartbeat { received, clock } => {
                self.counts.handle_heartbeat((received, clock), now, out)?;
                Came::Nothing
            }
            photinus::Arrived::Answer {
                id,
                error,
                compressed,
                body,
            } => Came::Answer {
                id: id as u32,
                error,
                compressed,
                body,
            },
            photinus::Arrived::Refusal(why) | photinus::Arrived::Kick(why) => {
                return Err(turned_away(why))
            }
            _ => Came::Nothing,
        })
    }
}

fn turned_away(why: &[u8]) -> io::Error {
    io::Error::other(format!("turned away: {}", String::from_utf8_lossy(why)))
}

/// Neighbours do not say the same at the same time.
fn payload_of(connection: usize, number: u32, payloads: usize) -> usize {
    (connection + number as usize) % payloads
}

fn read_payloads(options: &Options) -> io::Result<Vec<Payload>> {
    let place = options.payloads.display();
    let text = fs::read_to_string(&options.payloads)
        .map_err(|error| io::Error::new(error.kind(), format!("--payloads {place}: {error}")))?;
    let payloads = text.lines().map(|line| {
        let plain = line.as_bytes().to_vec();
        let packed = match options.compress {
            false => plain.clone(),
            true => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&plain)?;
                encoder.finish()?
            }
        };
        Ok(Payload { plain, packed })
    });
    let payloads = payloads.collect::<io::Result<Vec<_>>>()?;
    match payloads.is_empty() {
        true => Err(io::Error::other(format!("--payloads {place}: no line"))),
        false => Ok(payloads),
    }
}

pub struct Inflater {
    zlib: Decompress,
    output: Box<[u8]>,
}

impl Inflater {
    pub fn new() -> Inflater {
        Inflater {
            zlib: Decompress::new(true),
            output: vec![0; LONGEST_FRAME].into_boxed_slice(),
        }
    }

    pub fn inflate(&mut self, input: &[u8]) -> io::Result<&[u8]> {
        self.zlib.reset(true);
        let status = self
            .zlib
            .decompress(input, &mut self.output, FlushDecompress::Finish)?;
        let whole = status == Status::StreamEnd && self.zlib.total_in() == input.len() as u64;
        match whole {
            true => Ok(&self.output[..self.zlib.total_out() as usize]),
            false => Err(io::Error::other("an answer does not inflate")),
        }
    }
}
