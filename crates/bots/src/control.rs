//! The world outside the load: lines on stdin, its end, and the signals that ask to stop.

use std::io::{self, BufRead};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;

use mio::{Registry, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub enum Control {
    Line(String),
    /// Stdin has ended, or SIGTERM or SIGINT has come.
    Stop,
}

/// The poller's token for "something has been said"; no connection has it.
pub const SAID: Token = Token(usize::MAX);

/// Starts listening; what is said wakes the poller of `registry` with [`SAID`].
pub fn listen(registry: &Registry) -> io::Result<Receiver<Control>> {
    let waker = Arc::new(Waker::new(registry, SAID)?);
    let (sender, receiver) = channel();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (said, wake) = (sender.clone(), Arc::clone(&waker));
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                say(&said, &wake, Control::Stop);
            }
        })?;
    thread::Builder::new().name("stdin".into()).spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            say(&sender, &waker, Control::Line(line));
        }
        say(&sender, &waker, Control::Stop);
    })?;
    Ok(receiver)
}

fn say(sender: &Sender<Control>, waker: &Waker, what: Control) {
    // Nobody listens any more: the load is ending, and so will this thread.
    if sender.send(what).is_ok() {
        let _ = waker.wake();
    }
}
