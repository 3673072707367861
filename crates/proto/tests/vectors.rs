//! The golden vectors of tests/wire, which the reference codec and the client SDKs read as well.

mod harness;

use std::path::Path;

use harness::{decode, encode, hex, listener, unhex, Calls};
use serde_json::Value;

#[test]
fn length() {
    check("length.json");
}

#[test]
fn firefly() {
    check("firefly.json");
}

#[test]
fn pomelo() {
    check("pomelo.json");
}

#[test]
fn photinus() {
    check("photinus.json");
}

fn check(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/wire")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 20, "{} vectors", vectors.len());
    for vector in vectors {
        let name = format!("{file}: {}", vector["name"].as_str().unwrap());
        match vector["direction"].as_str().unwrap() {
            "client" => read(vector, &name),
            "server" => write(vector, &name),
            other => panic!("{name}: direction {other:?}"),
        }
    }
}

/// Whole, in two pieces cut at every place, and byte by byte.
fn read(vector: &Value, name: &str) {
    let protocol = listener(&vector["listener"]);
    let before = unhex(vector.get("before").map_or("", |hex| hex.as_str().unwrap()));
    let prior = decode(&protocol, [&before[..]], Calls::Always);
    assert_eq!((prior.error, prior.left), (None, 0), "{name}");
    let input = [before, unhex(vector["hex"].as_str().unwrap())].concat();
    let compare = |chunks: Vec<&[u8]>, how: &str| {
        let outcome = decode(&protocol, chunks, Calls::Always);
        let events = &outcome.events[prior.events.len()..];
        assert_eq!(
            events,
            vector["events"].as_array().unwrap(),
            "{name}, {how}"
        );
        let reply = hex(&outcome.reply[prior.reply.len()..]);
        assert_eq!(reply, vector["reply"].as_str().unwrap(), "{name}, {how}");
        assert_eq!(outcome.error, vector["error"].as_str(), "{name}, {how}");
        if outcome.error.is_none() {
            assert_eq!(outcome.left as u64, vector["left"], "{name}, {how}");
        }
        outcome
    };
    let whole = compare(vec![&input], "whole");
    if let Some(need) = vector.get("need") {
        assert_eq!(whole.need, Some(need.as_u64().unwrap() as usize), "{name}");
    }
    // A long way to the state that is meant has been cut everywhere by other vectors.
    let from = input.len().saturating_sub(1024);
    for cut in from..=input.len() {
        compare(vec![&input[..cut], &input[cut..]], &format!("cut at {cut}"));
    }
    compare(input.chunks(1).collect(), "byte by byte");
}

/// What a server sends; what only a bad one would send has no message.
fn write(vector: &Value, name: &str) {
    let protocol = listener(&vector["listener"]);
    let one = vector.get("message").into_iter();
    let several = vector.get("messages").and_then(Value::as_array);
    let messages: Vec<&Value> = one.chain(several.into_iter().flatten()).collect();
    if messages.is_empty() {
        return;
    }
    let encoded: Result<Vec<String>, &str> = messages
        .into_iter()
        .map(|message| encode(&protocol, message).map(|frame| hex(&frame)))
        .collect();
    match vector["error"].as_str() {
        None => assert_eq!(
            encoded.map(|frames| frames.concat()).as_deref(),
            Ok(vector["hex"].as_str().unwrap()),
            "{name}"
        ),
        Some(error) => assert_eq!(encoded, Err(error), "{name}"),
    }
}
