//! The golden vectors of tests/wire/bluenet.json.

use serde_json::Value;
use std::path::Path;

/// Those of a list, of which there are at least so many.
pub fn vectors(which: &str, at_least: usize) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/bluenet.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let all: Value = serde_json::from_str(&text).unwrap();
    let vectors = all[which].as_array().unwrap().clone();
    assert!(vectors.len() >= at_least, "{} {which}", vectors.len());
    vectors
}
