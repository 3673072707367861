//! Who leads a reactor. Here, and nowhere else, a thread calls [`Reactor::turn`] in a circle.
//!
//! A reactor is led by one thread at a time: a native one that never attaches to Python
//! ([`spawn`]), or, on the memory back, whoever passes the time in (`engine.rs`).

use crate::back::Back;
use crate::reactor::{Next, Reactor};
use crate::shared::Shared;
use crate::system;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// A native thread that leads this reactor until it is shut down.
pub fn spawn<B: Back>(
    mut reactor: Reactor<B>,
    number: usize,
    shared: Arc<Shared>,
) -> std::io::Result<JoinHandle<()>> {
    // The name stands in `top -H`, `perf` and core dumps: 15 bytes are all that Linux keeps.
    Builder::new()
        .name(format!("photinus-io-{number}"))
        .spawn(move || {
            system::block_signals();
            // A panic is a fault of ours: it must not look like a quiet server.
            let fault = match catch_unwind(AssertUnwindSafe(|| lead(&mut reactor))) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("reactor {number}: {error}"),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                    format!("reactor {number} panicked: {}", text.unwrap_or("(no text)"))
                }
            };
            shared.fail(fault);
            reactor.abandon();
        })
}

fn lead<B: Back>(reactor: &mut Reactor<B>) -> std::io::Result<()> {
    let mut timeout = Some(0);
    loop {
        match reactor.turn(timeout)? {
            Next::Sleep(wait) => timeout = wait,
            Next::Again => timeout = Some(0),
            Next::Stopped => return Ok(()),
        }
    }
}
