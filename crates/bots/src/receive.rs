//! Broadcasts, timed to the arrival at their last member.
//!
//! The server's side of the bargain: a frame whose payload begins with byte 0 is sent back to its
//! sender (so the load knows that a session is open); one that begins with K > 0 is sent K times, in
//! one turn, to every other connection. One connection more than the members gives the word. The next
//! burst starts when the last frame of the one before has come. Slow readers (`--slow`) are sent all of it,
//! too, and read a byte a second; nobody waits for them.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;
use mio::Events;
use serde_json::{json, Map, Value};
use socket2::{Domain, Protocol, Socket, Type};

use crate::connect;
use crate::frame::Template;
use crate::lane::{length4, Clock, Lanes};
use crate::latency::{rounded, Latencies};
use crate::usage;

/// No burst takes this long; something was lost.
const PATIENCE: Duration = Duration::from_secs(10);

const A_SECOND: u64 = 1_000_000_000;

/// What the kernel keeps for a slow reader: about the least that it allows.
const SLOW_BUFFER: usize = 4096;

#[derive(Args)]
pub struct Options {
    /// Server, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT
    #[arg(long)]
    to: String,
    /// Further servers: the connections are spread over all of them
    #[arg(long)]
    also_to: Vec<String>,
    /// Members that receive (one connection more triggers)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Broadcasts in one turn of the server
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    broadcasts: u8,
    /// Connections beside the members that read one byte a second
    #[arg(long, default_value_t = 0)]
    slow: u32,
    /// Bytes of a whole frame, its 4-byte big-endian length included
    #[arg(long, default_value_t = 200)]
    size: usize,
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
    /// Further processes of which the same is reported
    #[arg(long)]
    beside: Vec<u32>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    let mut load = Load::open(options)?;
    load.greet()?;
    load.repeat(options.warmup, &mut Latencies::new())?;

    let mut latencies = Latencies::new();
    let before = options.watch.map(usage::snapshot).transpose()?;
    let beside = snapshots(&options.beside)?;
    let start = load.clock.now();
    let bursts = load.repeat(options.seconds, &mut latencies)?;
    let seconds = (load.clock.now() - start) as f64 / 1e9;

    let deliveries = bursts * u64::from(options.broadcasts) * u64::from(options.connections);
    let mut report = Map::new();
    report.insert("bursts".into(), json!(bursts));
    report.insert("deliveries".into(), json!(deliveries));
    report.insert("seconds".into(), json!(rounded(seconds)));
    report.insert(
        "deliveries_per_s".into(),
        json!((deliveries as f64 / seconds).round()),
    );
    latencies.report(&mut report);
    if let (Some(process), Some(before)) = (options.watch, before) {
        let watched = usage::report(process, &before, &usage::snapshot(process)?);
        report.insert("watched".into(), watched);
    }
    let after = snapshots(&options.beside)?;
    let edges = options.beside.iter().zip(beside.iter().zip(&after));
    let beside = edges.map(|(process, (before, after))| usage::report(*process, before, after));
    report.insert("beside".into(), beside.collect());
    println!("{}", Value::Object(report));
    Ok(())
}

fn snapshots(processes: &[u32]) -> io::Result<Vec<usage::Snapshot>> {
    processes
        .iter()
        .map(|each| usage::snapshot(*each))
        .collect()
}

struct Load {
    slow: Vec<SlowReader>,
    clock: Clock,
    lanes: Lanes,
    events: Events,
    /// Frames that each member has had of the current burst.
    had: Vec<u32>,
    broadcasts: u32,
    greeting: Template,
    trigger: Template,
    burst: u32,
}

impl Load {
    fn open(options: &Options) -> io::Result<Load> {
        let count = options.connections as usize + 1;
        let target = connect::resolve(&options.to)?;
        let also = options.also_to.iter().map(|to| connect::resolve(to));
        let mut targets = also.collect::<io::Result<Vec<_>>>()?;
        targets.insert(0, target.clone());
        let lanes = Lanes::open_on(&targets, count, length4)?;
        let slow = (0..options.slow)
            .map(|_| SlowReader::open(target.address))
            .collect::<io::Result<_>>()?;
        Ok(Load {
            slow,
            clock: Clock::start(),
            lanes,
            events: Events::with_capacity(1024),
            had: vec![0; count],
            broadcasts: u32::from(options.broadcasts),
            greeting: Template::broadcast(options.size, 0)?,
            trigger: Template::broadcast(options.size, options.broadcasts)?,
            burst: 0,
        })
    }

    /// The connection that triggers; all before it are members.
    fn leader(&self) -> usize {
        self.lanes.len() - 1
    }

    /// Every session has answered once: the server knows all members.
    fn greet(&mut self) -> io::Result<()> {
        let mut frame = Vec::new();
        for index in 0..self.lanes.len() {
            frame.clear();
            self.greeting.append(0, 0, &mut frame);
            self.lanes.write(index, &frame);
        }
        self.collect(self.lanes.len(), 1, |load, frame| {
            load.0.matches(frame, 0, 0)
        })
    }

    /// Bursts until the time is over; how many.
    fn repeat(&mut self, seconds: f64, latencies: &mut Latencies) -> io::Result<u64> {
        let end = self.clock.now() + (seconds.max(0.0) * 1e9) as u64;
        let mut bursts = 0;
        let mut frame = Vec::new();
        while self.clock.now() < end {
            let now = self.clock.now();
            self.slow.iter_mut().for_each(|reader| reader.read(now));
            self.burst = self.burst.wrapping_add(1);
            frame.clear();
            self.trigger.append(0, self.burst, &mut frame);
            let start = self.clock.now();
            self.lanes.write(self.leader(), &frame);
            let burst = self.burst;
            self.collect(self.leader(), self.broadcasts, |load, frame| {
                load.1.matches(frame, 0, burst)
            })?;
            latencies.record(self.clock.now() - start);
            bursts += 1;
        }
        Ok(bursts)
    }

    /// Waits until the first `members` connections have had `each` frames that `right` approves of
    /// (given the greeting and the trigger).
    fn collect(
        &mut self,
        members: usize,
        each: u32,
        right: impl Fn((&Template, &Template), &[u8]) -> bool,
    ) -> io::Result<()> {
        self.had.fill(0);
        let templates = (&self.greeting, &self.trigger);
        let mut missing = members * each as usize;
        let deadline = self.clock.now() + PATIENCE.as_nanos() as u64;
        while missing > 0 {
            self.lanes.wait(&mut self.events, Some(PATIENCE))?;
            for event in self.events.iter() {
                let index = event.token().0;
                let had = &mut self.had[index];
                self.lanes.read(event, |frame| {
                    *had += 1;
                    if index >= members || *had > each || !right(templates, frame) {
                        return Err(io::Error::other("a frame came that is not of this burst"));
                    }
                    missing -= 1;
                    Ok(())
                });
            }
            if let Some(error) = &self.lanes.first_error {
                return Err(io::Error::other(error.clone()));
            }
            if missing > 0 && self.clock.now() > deadline {
                return Err(io::Error::other(format!(
                    "{missing} of {} frames of burst {} did not come",
                    members * each as usize,
                    self.burst
                )));
            }
        }
        Ok(())
    }
}

/// A member that takes a byte a second. It never says a word, so what it is sent is all that it has to do with.
struct SlowReader {
    stream: TcpStream,
    next_at: u64,
}

impl SlowReader {
    fn open(address: SocketAddr) -> io::Result<SlowReader> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // So that little is on its way before the server has to keep it.
        socket.set_recv_buffer_size(SLOW_BUFFER)?;
        socket.connect(&address.into())?;
        socket.set_nonblocking(true)?;
        Ok(SlowReader {
            stream: socket.into(),
            next_at: 0,
        })
    }

    /// A byte, if it is time.
    fn read(&mut self, now: u64) {
        if now >= self.next_at {
            self.next_at = now + A_SECOND;
            // Nothing there, or ended by the server, which is its right: the server counts them.
            let _ = self.stream.read(&mut [0]);
        }
    }
}
