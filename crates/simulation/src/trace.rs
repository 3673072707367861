//! What happened: the last lines of it, to be shown when something is wrong, and how often what happened.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Lines that are kept.
const LINES: usize = 80;

/// Shared by all parts of one simulation, and outlives their panic.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    verbose: bool,
    step: usize,
    now_ms: u64,
    lines: VecDeque<String>,
    /// Of all lines, so that two runs of a seed can be compared.
    digest: DefaultHasher,
    counts: BTreeMap<String, u64>,
}

impl Trace {
    /// Prints each line at once, if `verbose`.
    pub fn new(verbose: bool) -> Trace {
        let trace = Trace::default();
        trace.0.borrow_mut().verbose = verbose;
        trace
    }

    pub fn at(&self, step: usize, now_ms: u64) {
        let mut state = self.0.borrow_mut();
        (state.step, state.now_ms) = (step, now_ms);
    }

    pub fn tell(&self, what: fmt::Arguments<'_>) {
        let mut state = self.0.borrow_mut();
        let line = format!("{:4} {:7} ms  {what}", state.step, state.now_ms);
        line.hash(&mut state.digest);
        if state.verbose {
            println!("{line}");
        }
        if state.lines.len() == LINES {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &str, number: u64) {
        let mut state = self.0.borrow_mut();
        match state.counts.get_mut(what) {
            Some(count) => *count += number,
            None => drop(state.counts.insert(what.to_owned(), number)),
        }
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.borrow().counts.clone()
    }

    pub fn digest(&self) -> u64 {
        self.0.borrow().digest.finish()
    }

    pub fn tail(&self) -> String {
        Vec::from(self.0.borrow().lines.clone()).join("\n")
    }
}

/// A line, and the count of what it tells: `note!(trace, "cut", "p1 - w1")`.
macro_rules! note {
    ($trace:expr, $what:expr, $($text:tt)*) => {{
        $trace.count($what);
        $trace.tell(format_args!("{}: {}", $what, format_args!($($text)*)));
    }};
}

pub(crate) use note;
