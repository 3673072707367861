#![no_main]
//! What stands in payloads between nodes: whatever of it is read is written again into the same bytes, for each thing that can
//! be said has one form. It is read within its bounds, and what is read ends where it says.

use libfuzzer_sys::fuzz_target;
use photinus_proto::bluenet::control::{Control, Route, Tag};
use photinus_proto::bluenet::message::{read_list, write_list, MessageHead, PacketHead};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if let Ok((head, at)) = PacketHead::decode(bytes) {
        head.encode(&mut out);
        assert_eq!(out, bytes[..at]);
    }
    out.clear();
    if let Ok((head, at)) = MessageHead::decode(bytes) {
        head.encode(&mut out);
        assert_eq!(out, bytes[..at]);
    }
    out.clear();
    if let Ok((sessions, at)) = read_list(bytes) {
        let sessions: Vec<u32> = sessions.collect();
        write_list(sessions.iter().copied(), &mut out);
        assert_eq!(out, bytes[..at]);
    }
    out.clear();
    if let Ok(control) = Control::decode(bytes) {
        control.encode(&mut out);
        assert_eq!(out, bytes);
        if let Control::Routes { entries } = control {
            routes(entries);
        }
    }
    // Without a tag in front, so that they are found sooner.
    routes(bytes);
    if let Some(four) = bytes.first_chunk() {
        let tag = Tag(u32::from_be_bytes(*four));
        if let Some(slot) = tag.slot() {
            assert_eq!(Tag::new(slot, tag.epoch()), tag);
        }
    }
});

/// Those before the first that is none are the bytes before it; that one is the last that is told.
fn routes(entries: &[u8]) {
    let mut out = Vec::new();
    let mut all = Route::each(entries);
    while let Some(Ok(route)) = all.next() {
        route.encode(&mut out);
    }
    assert!(all.next().is_none());
    assert!(entries.starts_with(&out));
    let whole = Route::each(entries).all(|route| route.is_ok());
    assert_eq!(whole, out.len() == entries.len());
}
