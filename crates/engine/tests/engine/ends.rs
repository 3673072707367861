//! The end of an engine: drained, then shut down.

use crate::world::{World, LENGTH, POMELO};
use photinus_engine::connection::By;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;

#[test]
fn a_drain_ends_all_behind_what_they_were_sent() {
    let mut world = World::new(Limits::default());
    let (mut pomelo, first) = world.join(POMELO);
    let (mut length, second) = world.join(LENGTH);
    let mut shaking = world.connect(POMELO);
    let mut late = world.connect(LENGTH); // not accepted yet
    for handle in [first, second] {
        world.send(handle, b"the last");
    }
    world.hand_over();
    world.engine.drain("maintenance");
    let seen = world.drain();
    let ends: Vec<_> = seen.iter().filter_map(|of| of.end()).collect();
    assert!(ends.len() >= 2 && ends.iter().all(|of| *of == (By::Server, "maintenance")));
    let got = pomelo.packages();
    assert!(got[0].ends_with(b"the last"));
    assert_eq!(got[1..], [b"\x05\0\0\x18{\"reason\":\"maintenance\"}"]);
    assert_eq!(length.frames(), [b"the last"]);
    assert!(pomelo.ended && length.ended);
    // Those that linger are still connections.
    assert!(!seen.iter().any(|of| of.event == Event::Drained));
    for client in [&mut shaking, &mut late] {
        client.read();
        assert!(client.ended);
        client.link.close();
    }
    drop((pomelo, length));
    let seen = world.drain();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].event, Event::Drained);
    world.assert_at_rest();
    assert!(
        world.engine.connect(LENGTH).is_err(),
        "nothing listens any more"
    );
    world.engine.drain("again");
    assert!(world.drain().is_empty(), "told once");
}

#[test]
fn a_drain_waits_for_slow_readers_but_not_for_long() {
    let limits = Limits::default();
    let linger_ms = limits.linger_ms;
    let mut world = World::new(limits);
    let (mut reader, first) = world.join(LENGTH);
    let (_never, second) = world.join(LENGTH);
    for handle in [first, second] {
        for _ in 0..10 {
            world.send(handle, &[1; 20_000]);
        }
    }
    world.flush();
    world.engine.drain("shutdown");
    world.turn();
    let mut got = Vec::new();
    while got.len() < 10 {
        got.extend(reader.frames());
        world.turn();
    }
    drop(reader);
    world.pass(linger_ms - 100);
    assert_eq!(world.count("connections"), 1);
    world.pass(100);
    let seen = world.drain();
    let ends: Vec<_> = seen.iter().filter_map(|of| of.end()).collect();
    assert_eq!(ends, [(By::Server, "shutdown"); 2]);
    assert_eq!(
        seen.iter().filter(|of| of.event == Event::Drained).count(),
        1
    );
    assert_eq!(world.count("closed_shutdown"), 2);
    world.assert_at_rest();
}

#[test]
fn a_drain_of_nobody_is_told_at_once() {
    let mut world = World::new(Limits::default());
    world.turn();
    world.engine.drain("shutdown");
    let seen = world.drain();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].event, Event::Drained);
}

#[test]
fn shutting_down_closes_everything() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(LENGTH);
    let (mut slow, its) = world.join(POMELO);
    for _ in 0..10 {
        world.send(its, &[1; 20_000]);
    }
    world.flush();
    world.send(handle, b"just in time");
    world.hand_over();
    world.engine.shut_down();
    world.engine.shut_down();
    let batches = world.take();
    let ends = crate::world::read(&batches);
    assert_eq!(ends.len(), 2);
    for end in &ends {
        assert_eq!(end.end(), Some((By::Server, "shutdown")));
    }
    assert_eq!(client.frames(), [b"just in time"]);
    slow.read();
    assert!(client.ended && slow.ended);
    assert_eq!(world.count("waiting_out_bytes"), 0);
    assert_eq!(world.count("connections"), 0);
}
