//! Many connections that say nothing: what does a session cost the server?
//!
//! Prints `ready N` when all are open and answered, then obeys lines on stdin: `burst` sends frames on
//! every connection, all before any answer is read, waits for all echoes and prints `burst done`. The
//! end of stdin, SIGTERM or `--hold` ends it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;
use mio::Events;

use crate::connect;
use crate::control::{self, Control, SAID};
use crate::frame::Template;
use crate::lane::{length4, Lanes, LONGEST_FRAME};
use crate::usage;

/// Answers to a burst that take longer will not come.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct Options {
    /// Server, as HOST:PORT or {tcp,tls,ws,wss}://HOST:PORT (length4, echoing)
    #[arg(long)]
    to: String,
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Seconds after which it ends by itself
    #[arg(long, default_value_t = 600.0)]
    hold: f64,
    /// Bytes of a burst's frame, its length field included
    #[arg(long, default_value_t = 512)]
    burst_size: usize,
    /// Frames of a burst on each connection
    #[arg(long, default_value_t = 16)]
    burst_count: u32,
    /// Run on this CPU only
    #[arg(long)]
    cpu: Option<usize>,
}

pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        usage::pin(cpu)?;
    }
    if options.burst_size > LONGEST_FRAME {
        return Err(io::Error::other(format!(
            "frames of over {LONGEST_FRAME} bytes are not offered"
        )));
    }
    let count = options.connections as usize;
    let mut lanes = Lanes::open(&connect::resolve(&options.to)?, count, length4)?;
    let control = control::listen(lanes.registry())?;
    let template = Template::filled(options.burst_size)?;
    // One frame each first: accepted is not yet served.
    burst(&mut lanes, &template, 1, 0)?;
    say(&format!("ready {count}"))?;

    let mut sent = 1;
    let mut events = Events::with_capacity(1024);
    let end = Instant::now() + Duration::from_secs_f64(options.hold);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        lanes.wait(&mut events, Some(left))?;
        for event in events.iter().filter(|event| event.token() != SAID) {
            lanes.read(event, |_| {
                Err(io::Error::other("an idle session was sent something"))
            });
        }
        if let Some(error) = &lanes.first_error {
            return Err(io::Error::other(format!(
                "{} sessions are lost; first {error}",
                lanes.lost
            )));
        }
        for said in control.try_iter() {
            match said {
                Control::Stop => return Ok(()),
                Control::Line(line) if line.trim() == "burst" => {
                    burst(&mut lanes, &template, options.burst_count, sent)?;
                    sent += options.burst_count;
                    say("burst done")?;
                }
                Control::Line(line) => {
                    return Err(io::Error::other(format!(
                        "unknown command {line:?} (expected: burst)"
                    )));
                }
            }
        }
    }
}

/// Sends `count` frames, numbered from `first`, on every connection, then waits for all answers.
fn burst(lanes: &mut Lanes, template: &Template, count: u32, first: u32) -> io::Result<()> {
    let mut out = Vec::new();
    for index in 0..lanes.len() {
        out.clear();
        (first..first + count).for_each(|number| template.append(index as u32, number, &mut out));
        lanes.write(index, &out);
    }
    let mut awaited = vec![first; lanes.len()];
    let mut missing = lanes.len() * count as usize;
    let mut events = Events::with_capacity(1024);
    let end = Instant::now() + PATIENCE;
    while missing > 0 {
        lanes.wait(&mut events, Some(PATIENCE))?;
        // What is said meanwhile stays in the channel; the waker's event is spent, so the caller
        // looks into the channel after every burst.
        for event in events.iter().filter(|event| event.token() != SAID) {
            let index = event.token().0;
            let number = &mut awaited[index];
            lanes.read(event, |frame| {
                if !template.matches(frame, index as u32, *number) {
                    return Err(io::Error::other("an answer differs from what was sent"));
                }
                *number += 1;
                missing -= 1;
                Ok(())
            });
        }
        if let Some(error) = &lanes.first_error {
            return Err(io::Error::other(error.clone()));
        }
        if missing > 0 && Instant::now() > end {
            return Err(io::Error::other(format!("{missing} answers did not come")));
        }
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
