//! What goes to one client: merged, in order, bounded.

use crate::world::{World, FIREFLY, LENGTH, POMELO, SHORT};
use photinus_engine::connection::By;
use photinus_engine::limits::{Limits, WRITE_BYTES};
use photinus_engine::memory::PIPE_BYTES;
use photinus_engine::outbox::{Action, Marks, OutRoute, What};

/// So many payloads of this size, each beginning with its number.
fn numbered(count: usize, size: usize) -> Vec<Vec<u8>> {
    let payload = |number: usize| {
        let mut payload = format!("{number:08}").into_bytes();
        payload.resize(size, b'.');
        payload
    };
    (0..count).map(payload).collect()
}

#[test]
fn a_turns_messages_are_one_write() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(LENGTH);
    let before = world.count("writes");
    let payloads = numbered(100, 20);
    for part in payloads.chunks(30) {
        for payload in part {
            world.send(handle, payload);
        }
        world.hand_over(); // several batches, still one turn
    }
    world.turn();
    assert_eq!(world.count("writes"), before + 1);
    assert_eq!(client.frames(), payloads);
    assert_eq!(world.count("packets_out"), 100);
}

#[test]
fn a_slow_reader_gets_everything_in_order_once_it_reads() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(LENGTH);
    let payloads = numbered(400, 2_000);
    for part in payloads.chunks(50) {
        for payload in part {
            world.send(handle, payload);
        }
        world.flush();
    }
    let waiting = world.count("waiting_out_bytes") as usize;
    assert!(waiting > 400 * 2_000 - PIPE_BYTES, "{waiting}");
    let mut got = Vec::new();
    while got.len() < payloads.len() {
        // In pieces of an odd size, with turns between, and new messages behind the old ones.
        let piece = client.link.read(7_777).unwrap();
        assert!(!piece.is_empty(), "after {} messages", got.len());
        client.got.extend(piece);
        got.extend(client.frames_got());
        world.turn();
    }
    assert_eq!(got, payloads);
    assert_eq!(world.count("waiting_out_bytes"), 0);
    world.send(handle, b"and on");
    world.flush();
    assert_eq!(client.frames(), [b"and on"]);
    assert_eq!(world.count("packets_out"), 401);
}

#[test]
fn what_is_sent_while_others_wait_comes_behind_them() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(LENGTH);
    let payloads = numbered(600, 1_000);
    let mut got = Vec::new();
    for part in payloads.chunks(20) {
        for payload in part {
            world.send(handle, payload);
        }
        world.flush();
        client.got.extend(client.link.read(11_000).unwrap());
        got.extend(client.frames_got());
        world.turn();
    }
    while got.len() < payloads.len() {
        got.extend(client.frames());
        assert!(world.turn());
    }
    assert_eq!(got, payloads);
    assert_eq!(world.count("waiting_out_bytes"), 0);
}

#[test]
fn past_its_bound_a_slow_reader_is_closed() {
    let limits = Limits {
        outbound_session_bytes: 200_000,
        ..Limits::default()
    };
    let bound = limits.outbound_session_bytes;
    let mut world = World::new(limits);
    let (mut slow, handle) = world.join(LENGTH);
    let (mut other, its) = world.join(LENGTH);
    let mut sent = 0;
    let mut seen = Vec::new();
    while seen.is_empty() {
        world.send(handle, &[7; 1_000]);
        world.send(its, b"tick");
        world.flush();
        sent += 1_000;
        assert!(world.count("waiting_out_bytes") as usize <= bound + WRITE_BYTES);
        assert!(sent < 2 * bound);
        seen = world.drain();
        assert_eq!(other.frames(), [b"tick"]);
    }
    assert!(sent > bound, "{sent}");
    assert_eq!(seen[0].end(), Some((By::Server, "slow")));
    assert_eq!(
        (world.count("closed_slow"), world.count("sessions")),
        (1, 1)
    );
    assert_eq!(world.count("waiting_out_bytes"), 0);
    assert!(world.count("dropped_gone") > 0);
    slow.read();
    assert!(slow.ended);
}

#[test]
fn all_slow_readers_together_are_bounded() {
    let limits = Limits {
        outbound_total_bytes: 1_000_000,
        ..Limits::default()
    };
    let bound = limits.outbound_total_bytes;
    let mut world = World::new(limits);
    let clients: Vec<_> = (0..100).map(|_| world.join(LENGTH)).collect();
    for _ in 0..6 {
        // The first two fill the pipes: one write of each client's is in one turn.
        for (_, handle) in &clients {
            world.send(*handle, &[7; 30_000]);
        }
        world.flush();
        let waiting = world.count("waiting_out_bytes") as usize;
        assert!(waiting <= bound + WRITE_BYTES, "{waiting}");
    }
    assert!(world.count("closed_slow") > 50);
    drop(clients);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_message_longer_than_a_write_and_than_the_bound() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(LENGTH);
    let long = vec![5; 700_000];
    for payload in [&b"before"[..], &long, b"after"] {
        world.send(handle, payload);
    }
    world.flush();
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(client.frames());
        world.turn();
    }
    assert_eq!(got, [&b"before"[..], &long, b"after"]);
    world.send(handle, &vec![5; 2 << 20]);
    world.flush();
    assert_eq!(world.drain()[0].end(), Some((By::Server, "slow")));
    drop(client);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_kick_comes_last() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(POMELO);
    world.send(handle, b"{}");
    world.kick(handle, "replaced");
    world.send(handle, b"too late");
    world.flush();
    let seen = world.drain();
    assert_eq!(seen[0].end(), Some((By::Server, "replaced")));
    let got = client.packages();
    assert_eq!(got.len(), 2);
    assert!(got[0].ends_with(b"{}"));
    assert_eq!(got[1], b"\x05\0\0\x15{\"reason\":\"replaced\"}");
    assert!(client.ended);
    assert_eq!(world.count("dropped_gone"), 1, "what came behind the kick");
    world.kick(handle, "again");
    world.flush();
    assert!(world.drain().is_empty());
    drop(client);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_kick_waits_behind_what_waits() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(POMELO);
    for payload in numbered(100, 2_000) {
        world.send(handle, &payload);
    }
    world.flush();
    world.kick(handle, "enough");
    world.send(handle, b"too late");
    world.flush();
    assert!(world.drain().is_empty(), "it has still to read");
    let mut got = Vec::new();
    while !client.ended {
        got.extend(client.packages());
        world.turn();
    }
    assert_eq!(got.len(), 101);
    assert!(got[100].ends_with(b"{\"reason\":\"enough\"}"));
    assert_eq!(world.drain()[0].end(), Some((By::Server, "enough")));
    assert_eq!(world.count("dropped_gone"), 1);
    drop(client);
    world.turn();
    world.assert_at_rest();
}

#[test]
fn one_that_never_reads_is_gone_soon_after_its_kick() {
    let limits = Limits::default();
    let linger_ms = limits.linger_ms;
    for first_messages in [0, 3, 100] {
        let mut world = World::new(limits.clone());
        let (mut client, handle) = world.join(LENGTH);
        for payload in numbered(first_messages, 30_000).into_iter().take(30) {
            world.send(handle, &payload);
        }
        world.flush();
        world.kick(handle, "enough");
        world.flush();
        world.pass(linger_ms);
        assert_eq!(world.drain()[0].end(), Some((By::Server, "enough")));
        client.read();
        assert!(client.ended && client.link.write(b"?").is_err());
        assert_eq!(world.count("closed_kicked"), 1);
        world.assert_at_rest();
    }
}

#[test]
fn the_end_in_the_midst_of_a_turns_writes() {
    // The first write finds the peer gone; what the turn still holds for it is dropped and counted.
    let mut world = World::new(Limits::default());
    let (client, handle) = world.join(LENGTH);
    let (mut other, its) = world.join(LENGTH);
    for _ in 0..4 {
        world.send(handle, &[1; WRITE_BYTES]);
        world.send(its, b"on");
    }
    client.link.close();
    world.flush();
    assert_eq!(other.frames().len(), 4);
    assert_eq!(world.drain().len(), 1);
    world.send(handle, b"gone");
    world.flush();
    assert!(world.count("dropped_gone") > 0);
    drop(other);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn a_reason_may_be_of_any_length() {
    let mut world = World::new(Limits::default());
    let (mut client, handle) = world.join(LENGTH);
    world.kick(handle, &"é".repeat(200_000));
    world.flush();
    let seen = world.drain();
    let (by, reason) = seen[0].end().unwrap();
    assert!(by == By::Server && reason.starts_with("éé"));
    client.read();
    assert!(client.ended);
}

#[test]
fn what_a_protocol_cannot_carry_is_counted() {
    let mut world = World::new(Limits::default());
    let (mut short, handle) = world.join(SHORT);
    let (mut second, its) = world.join(SHORT);
    for to in [handle, its] {
        world.add(1, to);
    }
    world.send(handle, &[0; 70_000]);
    world.send(handle, b"ok");
    world.flush();
    assert_eq!(world.count("dropped_unsendable"), 1);
    let all = photinus_engine::outbox::FormatSet::ANY;
    world.send_to_group(1, photinus_engine::handle::Handle::NONE, all, &[0; 70_000]);
    world.flush();
    assert_eq!(world.count("dropped_unsendable"), 3, "one a receiver");
    short.read();
    second.read();
    assert_eq!(
        (&short.got[..], &second.got[..]),
        (&b"\0\x02ok"[..], &b""[..])
    );
    assert_eq!(world.count("packets_out"), 1);
}

#[test]
fn names_and_numbers_of_routes() {
    let mut world = World::new(Limits::default());
    let (mut numbers, first) = world.join(FIREFLY);
    let (mut names, second) = world.join(POMELO);
    world.name_route(0, "map", Some(300));
    world.name_route(1, "chat", None);
    for to in [first, second] {
        for index in [0, 1] {
            let what = What::Push(OutRoute::Named(index));
            world.post(
                Action::Send {
                    to,
                    what,
                    marks: Marks::NONE,
                },
                b"{}",
            );
        }
        let what = What::Push(OutRoute::Number(9));
        world.post(
            Action::Send {
                to,
                what,
                marks: Marks::NONE,
            },
            b"[]",
        );
    }
    let what = What::Response { id: 130 };
    world.post(
        Action::Send {
            to: second,
            what,
            marks: Marks::NONE,
        },
        b"{}",
    );
    let what = What::Error { id: 1 };
    world.post(
        Action::Send {
            to: second,
            what,
            marks: Marks::NONE,
        },
        b"{}",
    );
    world.flush();
    numbers.read();
    let frame = |command: u8, high: u8, body: &[u8]| {
        let head = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, high, command];
        [&head[..], body].concat()
    };
    assert_eq!(
        numbers.got,
        [frame(44, 1, b"{}"), frame(9, 0, b"[]")].concat()
    );
    assert_eq!(
        world.count("dropped_unsendable"),
        1,
        "a name without a number"
    );
    let got = names.packages();
    assert_eq!(got[0], b"\x04\0\0\x07\x06\x03map{}");
    assert_eq!(got[1], b"\x04\0\0\x08\x06\x04chat{}");
    assert_eq!(got[3], b"\x04\0\0\x05\x04\x82\x01{}");
    assert_eq!(got[4], b"\x04\0\0\x04\x24\x01{}");
}
