//! Who is there: openings and ends in order, handles, refusals.

use crate::world::{frame, packets, pomelo, Seen, World, ACK, HELLO, LENGTH, POMELO, SAY};
use photinus_engine::connection::By;
use photinus_engine::engine::Engine;
use photinus_engine::handle::Handle;
use photinus_engine::inbox::{Event, UNKNOWN_ROUTE};
use photinus_engine::limits::{Limits, QUARANTINE_MS};
use photinus_engine::routes::Routes;
use photinus_proto::codec::Kind;

#[test]
fn a_session_is_opened_then_heard_then_closed() {
    let mut world = World::new(Limits::default());
    let client = world.connect(LENGTH);
    let sent = [frame(b"one"), frame(b""), frame(b"three")].concat();
    for piece in sent.chunks(2) {
        client.write(piece);
        world.turn();
    }
    client.link.close();
    let seen = world.drain();
    assert_eq!(seen[0].event, Event::Opened);
    assert_eq!(seen[0].body, b"memory:1");
    assert_eq!(packets(&seen), [&b"one"[..], b"", b"three"]);
    assert_eq!(seen[4].end(), Some((By::Client, "left")));
    assert!(seen.len() == 5 && seen.iter().all(|of| of.handle == seen[0].handle));
    world.assert_at_rest();
}

#[test]
fn one_who_speaks_and_leaves_at_once_is_heard_and_gone() {
    // Data and the end come with one and the same edge of the poller.
    let mut world = World::new(Limits::default());
    let client = world.connect(LENGTH);
    world.turn();
    client.say(b"bye");
    client.link.close();
    let seen = world.drain();
    assert_eq!(packets(&seen), [b"bye"]);
    assert_eq!(seen[2].end(), Some((By::Client, "left")));
    let client = world.connect(LENGTH);
    client.say(b"bye");
    client.link.close();
    assert_eq!(world.drain().len(), 3);
    world.assert_at_rest();
}

#[test]
fn who_connects_as_soon_as_it_is_listened_is_served() {
    let engine = Engine::memory(Limits::default()).unwrap();
    engine.listen(LENGTH).unwrap();
    let client = engine.connect(LENGTH).unwrap();
    engine.turn(0).unwrap();
    assert_eq!(client.read(1), Some(vec![]), "not closed");
    let mut batches = Default::default();
    engine.take_inbox(&mut batches).unwrap();
    assert_eq!(batches.len(), 1);
}

#[test]
fn a_crowd_that_comes_at_once_is_let_in() {
    let mut world = World::new(Limits::default());
    let clients: Vec<_> = (0..1000).map(|_| world.connect(LENGTH)).collect();
    assert_eq!(world.drain().len(), clients.len());
    assert_eq!(world.count("sessions"), 1000);
    drop(clients);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_handle_is_not_used_again_before_it_was_let_go_and_has_rested() {
    let mut world = World::new(Limits {
        overload_wait_ms: 0,
        ..Limits::default()
    });
    let (client, first) = world.join(LENGTH);
    drop(client);
    world.turn();
    let kept = world.take(); // Python has not let go
    world.pass(10 * QUARANTINE_MS);
    let (_second, second) = world.join(LENGTH);
    assert_ne!(second.local(), first.local());
    world.give_back(kept);
    world.turn();
    let (_third, third) = world.join(LENGTH);
    assert_ne!(third.local(), first.local(), "it rests");
    world.pass(QUARANTINE_MS);
    let (mut fourth, again) = world.join(LENGTH);
    assert_eq!(again.local(), first.local());
    assert_ne!(again, first);
    // What is late for the first does not reach the fourth.
    world.send(first, b"late");
    world.kick(first, "late");
    world.add(1, first);
    world.send_to_group(1, first, photinus_engine::outbox::FormatSet::ANY, b"late");
    world.flush();
    assert_eq!(world.count("dropped_gone"), 2);
    assert!(fourth.frames().is_empty() && !fourth.ended);
}

#[test]
fn past_the_limit_nobody_is_let_in_until_somebody_leaves() {
    let mut world = World::new(Limits {
        sessions: 2,
        ..Limits::default()
    });
    let mut slow = world.connect(POMELO); // it is no session before its handshake is done
    slow.write(HELLO);
    world.turn();
    let (first, _) = world.join(LENGTH);
    let (_second, _) = world.join(POMELO);
    let mut third = world.connect(LENGTH);
    let mut fourth = world.connect(POMELO);
    let mut fifth = world.connect(POMELO);
    fifth.write(&[HELLO, ACK].concat());
    slow.write(ACK);
    world.turn();
    for client in [&mut third, &mut fourth, &mut fifth, &mut slow] {
        client.read();
        assert!(client.ended);
    }
    // Each is told as far as its protocol has a word for it at that time.
    let refusal = b"\x01\0\0\x15{\"code\":500,\"sys\":{}}";
    assert_eq!(third.got, b"");
    assert_eq!(fourth.got, refusal);
    assert_eq!(fifth.got, refusal);
    let kick = b"\x05\0\0\x11{\"reason\":\"full\"}";
    assert_eq!(slow.packages_got().last().unwrap(), kick);
    assert_eq!(world.count("refused_full"), 4);
    assert_eq!(world.count("closed_kicked"), 0);
    drop(first);
    assert_eq!(world.drain().len(), 1);
    world.join(LENGTH);
}

#[test]
fn handshakes_in_flight_are_bounded_and_those_that_are_done_are_not() {
    let mut world = World::new(Limits {
        handshakes: 2,
        connections: 4,
        ..Limits::default()
    });
    let (done, _) = world.join(POMELO);
    let pending: Vec<_> = (0..2).map(|_| world.connect(POMELO)).collect();
    world.turn();
    let mut refused = world.connect(POMELO);
    world.turn();
    refused.read();
    assert!(refused.ended && refused.got.is_empty(), "reset");
    assert_eq!(world.count("refused_handshakes"), 1);
    let (without, _) = world.join(LENGTH);
    let mut fifth = world.connect(LENGTH);
    world.turn();
    fifth.read();
    assert!(fifth.ended);
    assert_eq!(world.count("refused_connections"), 1);
    pending[0].write(&[HELLO, ACK].concat());
    drop(without);
    assert_eq!(world.drain().len(), 2);
    let mut next = world.connect(POMELO);
    world.turn();
    next.read();
    assert!(!next.ended);
    drop((done, pending, next));
    world.pass(10_000);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_session_that_sends_too_much_is_ended_and_no_other() {
    let (many, large) = (frame(b"x").repeat(21), frame(&[7; 1_000]));
    for (packets, bytes, flood) in [(2, 0, many), (0, 100, large)] {
        let mut world = World::new(Limits {
            session_packets_per_s: packets,
            session_bytes_per_s: bytes,
            ..Limits::default()
        });
        let (client, handle) = world.join(LENGTH);
        let (other, others) = world.join(LENGTH);
        // Ten seconds' worth at once, then what comes back.
        let fair = match packets {
            0 => vec![vec![7; 996]],
            _ => vec![vec![7]; 20],
        };
        for payload in &fair {
            client.say(payload);
        }
        assert_eq!(world.drain().len(), fair.len());
        world.pass(10_000);
        client.write(&flood);
        other.say(b"mine");
        let seen = world.drain();
        // Nothing of what was read together with the packet that was too much is handled.
        assert_eq!(packets_of(&seen, handle), 0);
        assert_eq!(packets_of(&seen, others), 1);
        let end = seen.iter().find_map(|of| of.end());
        assert_eq!(end, Some((By::Protocol, "flood")));
        assert_eq!(world.engine.wire_errors()["flood"], 1);
        assert_eq!(world.count("closed_protocol"), 1);
        assert_eq!(world.count("sessions"), 1);
    }
}

fn packets_of(seen: &[Seen], handle: Handle) -> usize {
    let its = seen.iter().filter(|of| of.handle == handle);
    its.filter(|of| of.is_packet()).count()
}

#[test]
fn who_breaks_the_protocol_gets_its_error_and_is_heard_no_more() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(POMELO);
    client.write(&[&pomelo(None, SAY.0, b"fine")[..], b"GET / HTTP/1.1"].concat());
    let seen = world.drain();
    assert_eq!(packets(&seen), [b"fine"]);
    assert_eq!(seen[1].end(), Some((By::Protocol, "bad-frame")));
    let kick = client.packages();
    assert_eq!(kick, [b"\x05\0\0\x16{\"reason\":\"bad-frame\"}"]);
    assert!(client.ended, "nothing more will come");
    // It lingers: what it still sends is thrown away, what is sent to it is dropped.
    client.write(&pomelo(None, SAY.0, b"more"));
    world.send(handle, b"too late");
    world.flush();
    assert!(world.drain().is_empty());
    assert_eq!(
        (world.count("sessions"), world.count("connections")),
        (0, 1)
    );
    assert_eq!(world.count("dropped_gone"), 1);
    client.link.close();
    world.turn();
    assert_eq!(world.engine.wire_errors()["bad-frame"], 1);
    assert_eq!(world.count("closed_protocol"), 1);
    world.assert_at_rest();
}

#[test]
fn one_that_lingers_is_cut_off_in_time() {
    let limits = Limits::default();
    let linger_ms = limits.linger_ms;
    let mut world = World::new(limits);
    let (mut client, _) = world.join(LENGTH);
    client.write(&[0xff; 8]);
    let seen = world.drain();
    assert_eq!(seen[0].end(), Some((By::Protocol, "too-long")));
    world.pass(linger_ms - 100);
    assert_eq!(world.count("connections"), 1);
    client.write(b"I do not stop");
    world.pass(100);
    client.read();
    assert!(client.ended && client.link.write(b"?").is_err());
    assert!(world.drain().is_empty());
    world.assert_at_rest();
}

#[test]
fn a_handshake_that_fails_is_refused_and_no_session() {
    let mut world = World::new(Limits::default());
    let mut client = world.connect(POMELO);
    client.write(b"\x01\0\0\x02[]");
    assert!(world.drain().is_empty());
    client.read();
    assert!(client.ended && client.got.starts_with(b"\x01\0\0\x15{\"code\":500"));
    drop(client);
    world.turn();
    world.assert_at_rest();
}

#[test]
fn a_handshake_in_pieces_and_one_with_all_behind_it() {
    let all = [HELLO, ACK, &pomelo(Some(9), SAY.0, b"{}")].concat();
    for size in [1, 3, 5, all.len()] {
        let mut world = World::new(Limits::default());
        let mut client = world.connect(POMELO);
        for piece in all.chunks(size) {
            client.write(piece);
            world.turn();
        }
        let seen = world.drain();
        assert_eq!(seen.len(), 2, "{size}: {seen:?}");
        assert_eq!(seen[0].event, Event::Opened);
        assert_eq!(seen[0].body, b"memory:1");
        assert_eq!(seen[1].event, Event::Packet(Kind::Request));
        assert_eq!((seen[1].id, seen[1].route), (9, SAY.1));
        let kinds: Vec<_> = client.packages().iter().map(|of| of[0]).collect();
        assert_eq!(kinds, [1, 3], "the answer, then the first heartbeat");
    }
}

#[test]
fn unknown_routes_are_told_to_requests_and_counted_for_notifies() {
    let mut world = World::new(Limits::default());
    let (client, _) = world.join(POMELO);
    client.write(&pomelo(None, "nowhere", b"x"));
    client.write(&pomelo(Some(3), "nowhere", b"x"));
    client.write(&pomelo(None, SAY.0, b"x"));
    let seen = world.drain();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].route, &seen[0].body[..]),
        (UNKNOWN_ROUTE, &b"nowhere"[..])
    );
    assert_eq!((seen[1].route, &seen[1].body[..]), (SAY.1, &b"x"[..]));
    assert_eq!(world.count("unknown_routes"), 1);
    drop(client);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_new_table_of_routes_counts_from_the_next_read_on() {
    let mut world = World::new(Limits::default());
    let (client, _) = world.join(POMELO);
    client.write(&pomelo(Some(1), SAY.0, b"read before"));
    world.turn();
    let mut routes = Routes::default();
    routes.add_name(0, "wave", SAY.1 + 1);
    world.engine.set_routes(routes);
    client.write(&pomelo(Some(2), SAY.0, b"removed"));
    client.write(&pomelo(Some(3), "wave", b"added"));
    let seen: Vec<_> = world
        .drain()
        .into_iter()
        .map(|seen| (seen.route, seen.body))
        .collect();
    assert_eq!(
        seen,
        [
            (SAY.1, b"read before".to_vec()),
            (UNKNOWN_ROUTE, SAY.0.as_bytes().to_vec()),
            (SAY.1 + 1, b"added".to_vec()),
        ]
    );
    drop(client);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_flood_of_unknown_notifies_breaks_nothing() {
    // They make no items, but they lie in the arena: nothing may run into its end.
    let notify = pomelo(None, "?", b"");
    assert_eq!(notify.len(), 7);
    let mut world = World::new(Limits {
        session_packets_per_s: 0,
        ..Limits::default()
    });
    let (client, _) = world.join(POMELO);
    let flood = notify.repeat(9_000);
    for round in 1..=20 {
        client.write(&flood);
        world.turn();
        let (other, _) = world.join(POMELO);
        drop(other);
        assert_eq!(world.drain().len(), 1);
        assert_eq!(world.count("unknown_routes"), round * 9_000);
    }
    drop(client);
    world.drain();
    world.assert_at_rest();
}
