//! The threads that lead reactors. Here, and nowhere else, a thread goes a reactor's round.
//!
//! A reactor is led by one thread at a time: a native one that never attaches to Python ([`spawn`]);
//! or, where the loop is ours, the loop's own thread and a native stand-by in turns ([`LoopLed`], by
//! the rules of `lead.rs`); or, on the memory back, whoever passes the time in (`engine.rs`).

use crate::back::Back;
use crate::inbox::Batch;
use crate::lead::{Lead, StandBy};
use crate::limits::STAND_BY_SLICE_NS;
use crate::lock::lock;
use crate::reactor::{Next, Reactor};
use crate::shared::Shared;
use crate::sockets::Sockets;
use crate::statistics::Count;
use crate::system::{self, monotonic_ns, Sleeper};
use crate::wakeup::Channel;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A native thread that leads this reactor until it is shut down.
pub fn spawn<B: Back>(
    mut reactor: Reactor<B>,
    number: usize,
    shared: Arc<Shared>,
) -> io::Result<JoinHandle<()>> {
    thread(number).spawn(move || {
        system::block_signals();
        if let Err(fault) = guarded(number, || lead(&mut reactor, || false)) {
            shared.fail(fault);
            reactor.abandon();
        }
    })
}

/// The name stands in `top -H`, `perf` and core dumps: 15 bytes are all that Linux keeps.
fn thread(number: usize) -> Builder {
    Builder::new().name(format!("photinus-io-{number}"))
}

/// A panic is a fault of ours: it must not look like a quiet server.
fn guarded<T>(number: usize, run: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("reactor {number}: {error}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("(no text)");
            Err(format!("reactor {number} panicked: {text}"))
        }
    }
}

/// Goes round until the reactor has stopped, or `enough` says so after a turn.
fn lead<B: Back>(reactor: &mut Reactor<B>, enough: impl Fn() -> bool) -> io::Result<Led> {
    let mut timeout = Some(0);
    loop {
        match reactor.turn(timeout)? {
            Next::Sleep(wait) => timeout = wait,
            Next::Again => timeout = Some(0),
            Next::Stopped => return Ok(Led::Stopped),
        }
        if enough() {
            return Ok(Led::Enough);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Led {
    Enough,
    Stopped,
}

/// A reactor that the loop's thread leads while it would sleep, and a stand-by otherwise.
pub struct LoopLed {
    lead: Lead,
    /// Never waited for: `lead` says whose it is.
    reactor: Mutex<Reactor<Sockets>>,
    shared: Arc<Shared>,
    waker: Arc<mio::Waker>,
    /// The loop's thread has seen the reactor stop, and leads no more.
    stopped: AtomicBool,
}

/// How long the loop's thread may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Not at all: there is something to do. The sockets get one look.
    None,
    /// Until this time (nanoseconds of the monotonic clock), or for ever.
    Until(Option<u64>),
}

impl Rest {
    /// Rests in the sleeper while a native thread leads. `true`: the loop's own poller has something.
    pub fn sleep(self, sleeper: &Sleeper, inbox: &Channel<Box<Batch>>, waits: &Count) -> bool {
        waits.add(1);
        let timeout_ms = match self {
            Rest::Until(until) if inbox.prepare_sleep(false) => match until {
                None => -1,
                // Rounded up: a timer that is not due yet would only make the loop go round.
                Some(until) => {
                    let left = until.saturating_sub(monotonic_ns()).div_ceil(1_000_000);
                    left.min(i32::MAX as u64) as i32
                }
            },
            _ => 0,
        };
        sleeper.sleep(timeout_ms)
    }

    pub fn is_over(self) -> bool {
        match self {
            Rest::None => true,
            Rest::Until(until) => until.is_some_and(|until| monotonic_ns() >= until),
        }
    }
}

impl LoopLed {
    pub fn new(reactor: Reactor<Sockets>, shared: Arc<Shared>, waker: Arc<mio::Waker>) -> LoopLed {
        LoopLed {
            lead: Lead::default(),
            reactor: Mutex::new(reactor),
            shared,
            waker,
            stopped: AtomicBool::new(false),
        }
    }

    /// The loop's thread, without the GIL: leads until there is something for Python, the loop's own
    /// poller has something (`true`), or the rest is over.
    pub fn rest(&self, sleeper: &Sleeper, rest: Rest, waits: &Count) -> bool {
        loop {
            if !self.stopped.load(Relaxed) && self.lead.try_lead() {
                let led = guarded(0, || self.lead_while_resting(sleeper, rest));
                let other = led.unwrap_or_else(|fault| {
                    self.fail(fault);
                    false
                });
                self.lead.leave(monotonic_ns());
                return other;
            }
            // It is the stand-by's. Whoever has something to do anyway leaves it there.
            if rest != Rest::None && self.lead.ask() {
                // Fails only when the poller is gone, and then nobody sleeps there.
                let _ = self.waker.wake();
            }
            let other = rest.sleep(sleeper, &self.shared.inbox, waits);
            if other
                || rest.is_over()
                || !self.shared.inbox.is_empty()
                || self.shared.failure().is_some()
            {
                return other;
            }
        }
    }

    /// The loop's thread, without the GIL, when there is much to do: the stand-by leads.
    pub fn rest_without_leading(&self, sleeper: &Sleeper, rest: Rest, waits: &Count) -> bool {
        self.lead.pass();
        rest.sleep(sleeper, &self.shared.inbox, waits)
    }

    /// Whoever waits for the reactor must not be the one who keeps it.
    pub fn pass(&self) {
        self.lead.pass();
    }

    pub fn stand_by(self: Arc<Self>) -> io::Result<JoinHandle<()>> {
        thread(0).spawn(move || {
            system::block_signals();
            system::wish_slice(STAND_BY_SLICE_NS);
            self.lead.stand_by();
            if let Err(fault) = guarded(0, || self.stand_by_until_stopped()) {
                self.fail(fault);
            }
        })
    }

    /// Before the stand-by was started.
    pub fn close(&self) {
        self.reactor().abandon();
    }

    fn lead_while_resting(&self, sleeper: &Sleeper, rest: Rest) -> io::Result<bool> {
        let mut reactor = self.reactor();
        reactor.back.watch_loop(sleeper)?;
        loop {
            let own = match reactor.prepare() {
                Next::Stopped => {
                    // The stand-by finds it stopped, too, and ends.
                    self.stopped.store(true, Relaxed);
                    return Ok(false);
                }
                Next::Again => Some(0),
                Next::Sleep(own) => own,
            };
            let inbox = &self.shared.inbox;
            let timeout = match rest {
                Rest::Until(until) if own != Some(0) && inbox.prepare_sleep(false) => {
                    let left = until.map(|until| until.saturating_sub(monotonic_ns()));
                    own.into_iter().chain(left).min()
                }
                _ => Some(0),
            };
            reactor.poll(timeout)?;
            // From here on nobody has to wake this thread: it looks.
            inbox.stay_awake();
            reactor.work();
            let other = reactor.loop_is_wanted();
            if other || rest.is_over() || !inbox.is_empty() {
                return Ok(other);
            }
        }
    }

    fn stand_by_until_stopped(&self) -> io::Result<()> {
        loop {
            match self.lead.look(monotonic_ns()) {
                StandBy::Park => self.lead.park(),
                StandBy::Wait(nanoseconds) => {
                    std::thread::park_timeout(Duration::from_nanos(nanoseconds));
                }
                StandBy::Lead { leased_at } => {
                    if self.lead_until_wanted(leased_at)? == Led::Stopped {
                        return Ok(());
                    }
                    self.lead.give_back(monotonic_ns());
                    self.shared.python.notify();
                }
            }
        }
    }

    fn lead_until_wanted(&self, leased_at: Option<u64>) -> io::Result<Led> {
        if self.shared.failure().is_some() {
            return Ok(Led::Stopped); // what the loop's thread broke is not led any further
        }
        let mut reactor = self.reactor();
        if let Some(leased_at) = leased_at {
            reactor.taken_over(leased_at);
        }
        reactor.back.ignore_loop();
        lead(&mut reactor, || self.lead.is_wanted())
    }

    fn fail(&self, fault: String) {
        self.shared.fail(fault);
        self.reactor().abandon();
    }

    fn reactor(&self) -> MutexGuard<'_, Reactor<Sockets>> {
        match self.reactor.try_lock() {
            Ok(reactor) => reactor,
            // A panic has been told of (`guarded`), and nothing but `abandon` follows.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Cannot be, by invariant 1 of `lead.rs`; if it were, waiting would be right.
            Err(TryLockError::WouldBlock) => lock(&self.reactor),
        }
    }
}
