//! Echoes over length-prefixed frames, timed.
//!
//! Closed loop: every connection has `depth` frames under way and sends the next when an answer has
//! come. Open loop (`--rate`): packets are due by a schedule, round-robin over the connections, and
//! a latency counts from the moment its packet was due. Every answer is compared with what was sent.
//! Beside an open loop there may be a storm of TLS handshakes (`--storm`), in the same thread, so that
//! what is late is late by the server and not by a neighbour of the load's.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mio::Events;
use serde_json::{json, Map, Value};

use crate::connect;
use crate::frame::Template;
use crate::lane::{length4, Clock, Lanes, LONGEST_FRAME};
use crate::latency::{rounded, Latencies};
use crate::schedule::Schedule;
use crate::storm::Storm;
use crate::usage;

/// After the window: how long answers that are still due are waited for.
const DRAIN: Duration = Duration::from_secs(3);

/// Unanswered packets of an open loop; past this the server is hopelessly behind, and the load's own
/// memory would be the next thing to give way.
const MOST_OUTSTANDING: u64 = 4_000_000;

/// Events and packets served before it is looked again which packets are due (open loop).
const SHARE: usize = 64;

/// Below this the open loop polls without sleeping: a sleep comes back too late.
const SPIN_NS: u64 = 2_000_000;

#[derive(Args)]
pub struct Options {
    /// Server, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT
    #[arg(long)]
    to: String,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Frames under way on each connection (closed loop)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    /// Bytes of a whole frame, its 4-byte big-endian length included
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Payload to send instead of a made one of --size
    #[arg(long)]
    payload_file: Option<PathBuf>,
    /// Where in that payload eight bytes may be replaced by a big-endian sequence number over 2^32,
    /// so that order is verified too
    #[arg(long, requires = "payload_file")]
    sequence_at: Option<usize>,
    /// Measured time
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds under load before it
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Open loop: packets a second in all, sent when due whatever the server does
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Beside an open loop: so many full TLS handshakes under way on further connections, each of which
    /// ends when it is done and is followed by the next
    #[arg(long, default_value_t = 0, requires = "rate")]
    storm: u32,
    /// Over WebSocket: the frames that are sent at once go into one message, not each into its own
    #[arg(long)]
    one_message: bool,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
    /// Process whose CPU time in the window is reported, by thread
    #[arg(long)]
    watch: Option<u32>,
}

impl Options {
    fn template(&self) -> io::Result<Template> {
        let template = match &self.payload_file {
            None => Template::filled(self.size)?,
            Some(path) => {
                let payload = fs::read(path).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("--payload-file {}: {error}", path.display()),
                    )
                })?;
                Template::of_payload(&payload, self.sequence_at)?
            }
        };
        if template.len() > LONGEST_FRAME {
            return Err(io::Error::other(format!(
                "frames of over {LONGEST_FRAME} bytes are not offered"
            )));
        }
        Ok(template)
    }
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    let mut load = Load::open(options)?;
    let watched = match options.rate {
        None => load.closed(options)?,
        Some(rate) => load.open_loop(options, rate)?,
    };
    let mut report = load.report();
    if let Some(value) = watched {
        report.insert("watched".to_owned(), value);
    }
    println!("{}", Value::Object(report));
    Ok(())
}

/// What is under way on one connection.
#[derive(Default)]
struct Flight {
    /// Numbers of the next frame to send and of the next answer to come.
    next: u32,
    awaited: u32,
    /// When each frame under way was sent, or was due.
    since: VecDeque<u64>,
    echoes_in_window: u64,
}

struct Load {
    clock: Clock,
    lanes: Lanes,
    storm: Option<Storm>,
    flights: Vec<Flight>,
    template: Template,
    out: Vec<u8>,
    /// The measured window, in the clock's nanoseconds; empty before it has begun.
    from: u64,
    until: u64,
    open_loop: bool,
    refill: bool,
    outstanding: u64,
    echoes: u64,
    unanswered: u64,
    latencies: Latencies,
    own_cpu: u64,
}

impl Load {
    fn open(options: &Options) -> io::Result<Load> {
        let template = options.template()?;
        let count = options.connections as usize;
        let mut target = connect::resolve(&options.to)?;
        if options.one_message {
            target.join_messages();
        }
        let lanes = Lanes::open(&target, count, length4)?;
        let storm = match options.storm {
            0 => None,
            many => Some(Storm::begin(target.address, many as usize)?),
        };
        Ok(Load {
            clock: Clock::start(),
            lanes,
            storm,
            flights: (0..count).map(|_| Flight::default()).collect(),
            template,
            out: Vec::new(),
            from: u64::MAX,
            until: u64::MAX,
            open_loop: options.rate.is_some(),
            refill: true,
            outstanding: 0,
            echoes: 0,
            unanswered: 0,
            latencies: Latencies::new(),
            own_cpu: 0,
        })
    }

    fn closed(&mut self, options: &Options) -> io::Result<Option<Value>> {
        let mut events = Events::with_capacity(1024);
        let now = self.clock.now();
        for index in 0..self.lanes.len() {
            self.send(index, options.depth as usize, now);
        }
        let warm = now + nanoseconds(options.warmup);
        self.turn_until(&mut events, warm)?;
        let window = Window::begin(self, options)?;
        self.turn_until(&mut events, self.until)?;
        let watched = window.end(self)?;
        self.refill = false;
        self.drain(&mut events)?;
        Ok(watched)
    }

    fn open_loop(&mut self, options: &Options, rate: u64) -> io::Result<Option<Value>> {
        let mut events = Events::with_capacity(SHARE);
        let start = self.clock.now();
        let schedule = Schedule::new(start, rate);
        let mut sent = 0;
        self.keep_schedule(
            &mut events,
            &schedule,
            &mut sent,
            start + nanoseconds(options.warmup),
        )?;
        let window = Window::begin(self, options)?;
        self.keep_schedule(&mut events, &schedule, &mut sent, self.until)?;
        let watched = window.end(self)?;
        self.drain(&mut events)?;
        // Those never answered are as late as the load has waited for them.
        let now = self.clock.now();
        for since in self.flights.iter().flat_map(|flight| &flight.since) {
            if (self.from..self.until).contains(since) {
                self.latencies.record(now - since);
                self.unanswered += 1;
            }
        }
        Ok(watched)
    }

    fn turn_until(&mut self, events: &mut Events, end: u64) -> io::Result<()> {
        loop {
            let now = self.clock.now();
            if now >= end {
                return Ok(());
            }
            self.turn(events, Duration::from_nanos(end - now))?;
        }
    }

    fn keep_schedule(
        &mut self,
        events: &mut Events,
        schedule: &Schedule,
        sent: &mut u64,
        end: u64,
    ) -> io::Result<()> {
        loop {
            let now = self.clock.now();
            if now >= end {
                return Ok(());
            }
            let due = schedule.due(now).min(*sent + SHARE as u64);
            while *sent < due {
                let index = (*sent % self.lanes.len() as u64) as usize;
                self.send(index, 1, schedule.intended(*sent));
                *sent += 1;
            }
            if self.outstanding > MOST_OUTSTANDING {
                return Err(io::Error::other(format!(
                    "the server is {MOST_OUTSTANDING} packets behind this rate"
                )));
            }
            if let Some(storm) = &mut self.storm {
                storm.turn(self.clock.now())?;
            }
            let idle = schedule.intended(*sent).saturating_sub(self.clock.now());
            let timeout = if idle < SPIN_NS || self.storm.is_some() {
                0
            } else {
                idle - SPIN_NS / 2
            };
            self.turn(events, Duration::from_nanos(timeout))?;
        }
    }

    fn drain(&mut self, events: &mut Events) -> io::Result<()> {
        let end = self.clock.now() + DRAIN.as_nanos() as u64;
        while self.outstanding > 0 && self.clock.now() < end && self.lanes.lost < self.lanes.len() {
            self.turn(events, Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Waits once and serves every connection that is ready, each once.
    fn turn(&mut self, events: &mut Events, timeout: Duration) -> io::Result<()> {
        self.lanes.wait(events, Some(timeout))?;
        for event in events.iter() {
            let index = event.token().0;
            let answered = self.receive(event, index);
            if !self.open_loop && self.refill && answered > 0 {
                let now = self.clock.now();
                self.send(index, answered, now);
            }
        }
        if self.lanes.lost == self.lanes.len() {
            let why = self.lanes.first_error.as_deref().unwrap_or("");
            return Err(io::Error::other(format!(
                "all connections are lost; first {why}"
            )));
        }
        Ok(())
    }

    /// Takes the answers that have come on one connection; how many.
    fn receive(&mut self, event: &mio::event::Event, index: usize) -> usize {
        let Load {
            lanes,
            flights,
            template,
            latencies,
            ..
        } = self;
        let flight = &mut flights[index];
        let (from, until, open_loop) = (self.from, self.until, self.open_loop);
        let clock = self.clock;
        let mut now = 0;
        let mut answered = 0;
        let mut counted = 0;
        lanes.read(event, |frame| {
            if now == 0 {
                now = clock.now();
            }
            let Some(since) = flight.since.pop_front() else {
                return Err(io::Error::other(
                    "an answer came that nothing had asked for",
                ));
            };
            if !template.matches(frame, index as u32, flight.awaited) {
                return Err(io::Error::other(format!(
                    "answer {} differs from what was sent",
                    flight.awaited
                )));
            }
            flight.awaited = flight.awaited.wrapping_add(1);
            answered += 1;
            let in_window = (from..until).contains(&now);
            counted += u64::from(in_window);
            if (open_loop && (from..until).contains(&since)) || (!open_loop && in_window) {
                latencies.record(now - since);
            }
            Ok(())
        });
        flight.echoes_in_window += counted;
        self.echoes += counted;
        self.outstanding -= answered as u64;
        if !self.lanes.is_open(index) {
            let flight = &mut self.flights[index];
            self.outstanding -= flight.since.len() as u64;
            self.unanswered += flight.since.len() as u64;
            flight.since.clear();
        }
        answered
    }

    fn send(&mut self, index: usize, count: usize, since: u64) {
        if !self.lanes.is_open(index) {
            return;
        }
        let flight = &mut self.flights[index];
        self.out.clear();
        for _ in 0..count {
            self.template
                .append(index as u32, flight.next, &mut self.out);
            flight.next = flight.next.wrapping_add(1);
            flight.since.push_back(since);
        }
        self.outstanding += count as u64;
        self.lanes.write(index, &self.out);
    }

    fn report(&self) -> Map<String, Value> {
        let seconds = (self.until - self.from) as f64 / 1e9;
        let least = self
            .flights
            .iter()
            .map(|flight| flight.echoes_in_window)
            .min();
        let mut map = Map::new();
        map.insert("echoes".into(), json!(self.echoes));
        map.insert("seconds".into(), json!(rounded(seconds)));
        map.insert(
            "echoes_per_s".into(),
            json!((self.echoes as f64 / seconds).round()),
        );
        self.latencies.report(&mut map);
        map.insert(
            "errors".into(),
            json!(self.unanswered + self.lanes.lost as u64),
        );
        map.insert("first_error".into(), json!(self.lanes.first_error));
        map.insert("connections_lost".into(), json!(self.lanes.lost));
        map.insert("least_echoes".into(), json!(least));
        if let Some(storm) = &self.storm {
            storm.report(seconds, &mut map);
        }
        map.insert(
            "load_cpu_us".into(),
            json!(rounded(self.own_cpu as f64 / 1e3)),
        );
        map
    }
}

/// The measured time: CPU is read at its edges.
struct Window {
    watched: Option<(u32, usage::Snapshot)>,
    own: usage::Snapshot,
}

impl Window {
    fn begin(load: &mut Load, options: &Options) -> io::Result<Window> {
        let watched = match options.watch {
            Some(process) => Some((process, usage::snapshot(process)?)),
            None => None,
        };
        let own = usage::snapshot(std::process::id()).unwrap_or_default();
        load.from = load.clock.now();
        load.until = load.from + nanoseconds(options.seconds);
        if let Some(storm) = &mut load.storm {
            storm.count(load.from, load.until);
        }
        Ok(Window { watched, own })
    }

    fn end(self, load: &mut Load) -> io::Result<Option<Value>> {
        let watched = match self.watched {
            Some((process, before)) => {
                Some(usage::report(process, &before, &usage::snapshot(process)?))
            }
            None => None,
        };
        let own = usage::snapshot(std::process::id()).unwrap_or_default();
        load.own_cpu = own.values().sum::<u64>() - self.own.values().sum::<u64>();
        Ok(watched)
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}
