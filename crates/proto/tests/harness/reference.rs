//! tests/wire/reference.py beside the codecs: what either writes the other reads, and of what is malformed
//! both say the same.

use super::{decode, hex, listener, Calls, Outcome};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The reference as a process: one question a line, one answer a line.
pub struct Reference {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Reference {
    pub fn start() -> Reference {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/reference.py");
        let mut child = Command::new("python3")
            .arg("-I")
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reference codec needs python3 (3.11 or later) on the PATH");
        Reference {
            questions: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask(&mut self, question: Value) -> Value {
        let questions = self.questions.as_mut().unwrap();
        writeln!(questions, "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("no answer to {question}"))
    }

    pub fn decode(&mut self, listener: &Value, side: &str, input: &[u8]) -> Value {
        self.ask(json!({"do": "decode", "listener": listener, "side": side, "hex": hex(input)}))
    }

    pub fn encode(&mut self, listener: &Value, message: &Value) -> Value {
        self.ask(json!({"do": "encode", "listener": listener, "message": message}))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

pub fn check<S: Strategy>(cases: u32, strategy: &S, mut test: impl FnMut(&mut Reference, S::Value))
where
    S::Value: Clone,
{
    let reference = std::cell::RefCell::new(Reference::start());
    let test = std::cell::RefCell::new(&mut test);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(strategy, |value| {
            (test.borrow_mut())(&mut reference.borrow_mut(), value);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

pub fn ids() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0..32u32).prop_map(|(bits, shift)| bits >> shift)
}

pub fn bodies() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(|body| hex(&body))
}

pub fn routes() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.]{0,12}", "\\PC{0,80}", "r{250,255}"]
}

/// Both codecs over the same bytes, the Rust one with every split; what they agree on.
pub fn agree(reference: &mut Reference, told: &Value, input: &[u8]) -> Outcome {
    let protocol = listener(told);
    let theirs = reference.decode(told, "server", input);
    let ours = decode(&protocol, [input], Calls::Always);
    assert_eq!(json!(ours.events), theirs["events"]);
    assert_eq!(json!(ours.error), theirs["error"]);
    assert_eq!(json!(hex(&ours.reply)), theirs["reply"]);
    if ours.error.is_none() {
        assert_eq!(json!(ours.left), theirs["left"]);
    }
    for cut in 0..=input.len() {
        let split = decode(&protocol, [&input[..cut], &input[cut..]], Calls::Always);
        assert_eq!(
            (&split.events, split.error),
            (&ours.events, ours.error),
            "cut at {cut}"
        );
        assert_eq!(split.reply, ours.reply, "cut at {cut}");
    }
    let bytewise = decode(&protocol, input.chunks(1), Calls::Always);
    assert_eq!(
        (&bytewise.events, bytewise.error),
        (&ours.events, ours.error)
    );
    // Who calls only at `need` reads the same, but may see garbage that is shorter than a head later.
    let patient = decode(&protocol, input.chunks(1), Calls::AtNeed);
    assert_eq!(patient.events, ours.events);
    assert!(patient.error == ours.error || (patient.error.is_none() && patient.left < 17));
    ours
}
