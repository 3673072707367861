//! Budgets of what comes in, and frames of every size.

use crate::world::{frame, packets, pomelo, read, Client, World, LENGTH, POMELO, SAY};
use photinus_engine::limits::{Limits, ARENA_BYTES, PACKET_OVERHEAD, READ_BYTES};
use photinus_engine::memory::PIPE_BYTES;

/// Numbered payloads of a hundred bytes.
fn numbered(count: usize) -> Vec<Vec<u8>> {
    let payload = |number: usize| format!("{number:0100}").into_bytes();
    (0..count).map(payload).collect()
}

/// Writes as much as the pipe takes; gives what is left.
fn pour<'a>(client: &Client, bytes: &'a [u8]) -> &'a [u8] {
    &bytes[client.link.write(bytes).unwrap()..]
}

#[test]
fn a_session_past_its_budget_is_not_read_until_half_is_handled() {
    let limits = Limits {
        inbound_session_bytes: 10_000,
        ..Limits::default()
    };
    let budget = limits.inbound_session_bytes;
    let mut world = World::new(limits);
    let (client, handle) = world.join(LENGTH);
    let (other, _) = world.join(LENGTH);
    let payloads = numbered(20_000);
    let bytes = payloads.iter().flat_map(|of| frame(of)).collect::<Vec<_>>();
    let mut left = &bytes[..];
    let mut seen = Vec::new();
    while seen.len() < payloads.len() {
        // The client writes until TCP stops it.
        for _ in 0..10 {
            left = pour(&client, left);
            world.turn();
        }
        let most = budget + (READ_BYTES / 104 + 1) * (104 + PACKET_OVERHEAD);
        assert!(world.count("unhandled_bytes") as usize <= most);
        if seen.len() + 2_000 < payloads.len() {
            assert_eq!(pour(&client, left).len(), left.len(), "its pipe is full");
            assert_eq!(world.count("paused_now"), 1);
        }
        // Others are heard meanwhile.
        other.say(b"me too");
        world.turn();
        let mut batches = world.take();
        let mine = read(&batches).into_iter().filter(|of| of.handle == handle);
        let before = seen.len();
        seen.extend(mine);
        assert_eq!(read(&batches).len(), seen.len() - before + 1);
        // Handled one batch at a time: it is read again only below half.
        while let Some(batch) = batches.pop_front() {
            world.give_back([batch].into());
            world.turn();
        }
    }
    assert!(packets(&seen).iter().eq(&payloads), "all of it, in order");
    assert!(world.count("paused_session") > 10);
    drop((client, other));
    world.drain();
    world.assert_at_rest();
}

#[test]
fn all_sessions_together_have_a_budget() {
    let limits = Limits {
        inbound_total_bytes: 500_000,
        ..Limits::default()
    };
    let budget = limits.inbound_total_bytes;
    let mut world = World::new(limits);
    let mut clients: Vec<_> = (0..50).map(|_| world.connect(LENGTH)).collect();
    world.drain();
    let payloads = numbered(600);
    let bytes = payloads.iter().flat_map(|of| frame(of)).collect::<Vec<_>>();
    for client in &clients {
        client.write(&bytes[..bytes.len() - 1000]);
    }
    for _ in 0..5 {
        world.turn();
        // A little more from each: the same connection is not held back twice.
        for client in &clients {
            client.write(b"");
        }
    }
    let most = budget + (READ_BYTES / 104 + 1) * (104 + PACKET_OVERHEAD);
    assert!((budget..=most).contains(&(world.count("unhandled_bytes") as usize)));
    assert_eq!(world.count("paused_now"), 50);
    // One of those that are not read leaves.
    drop(clients.pop());
    let mut seen = world.drain();
    for client in &clients {
        client.write(&bytes[bytes.len() - 1000..]);
    }
    seen.extend(world.drain());
    let mut by_session = std::collections::HashMap::<_, Vec<_>>::new();
    for packet in seen.into_iter().filter(|of| of.is_packet()) {
        by_session
            .entry(packet.handle)
            .or_default()
            .push(packet.body);
    }
    assert_eq!(by_session.len(), 50);
    let whole = by_session.values().filter(|of| **of == payloads).count();
    assert_eq!(whole, 49);
    drop(clients);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn while_nobody_drains_small_turns_become_one_batch() {
    let mut world = World::new(Limits::default());
    let (client, _) = world.join(LENGTH);
    let payloads = numbered(1_500);
    for payload in &payloads {
        client.say(payload);
        world.turn();
    }
    let batches = world.take();
    assert_eq!(batches.len(), 1);
    assert!(packets(&read(&batches)).iter().eq(&payloads));
    world.give_back(batches);
    world.turn();
    assert_eq!(world.count("unhandled_bytes"), 0);
}

#[test]
fn frames_of_every_size_arrive_whole() {
    for max_payload in [70_000, ARENA_BYTES * 5] {
        let limits = Limits {
            max_payload,
            ..Limits::default()
        };
        let mut world = World::new(limits);
        let (client, _) = world.join(LENGTH);
        let sizes = [
            0,
            1,
            READ_BYTES - 4,
            READ_BYTES,
            READ_BYTES + 1,
            3,
            max_payload,
            5,
        ];
        let payload = |(at, &size): (usize, &usize)| vec![at as u8; size];
        let payloads: Vec<_> = sizes.iter().enumerate().map(payload).collect();
        for piece in [PIPE_BYTES, 1_000, 9_973] {
            let bytes = payloads.iter().flat_map(|of| frame(of)).collect::<Vec<_>>();
            let mut seen = Vec::new();
            for piece in bytes.chunks(piece) {
                client.write(piece);
                seen.extend(world.drain());
            }
            assert!(
                packets(&seen).iter().eq(&payloads),
                "{max_payload} by {piece}"
            );
        }
        client.write(&(max_payload as u32 + 1).to_be_bytes());
        assert_eq!(world.drain()[0].end().unwrap().1, "too-long");
        drop(client);
        world.turn();
        world.assert_at_rest();
    }
}

#[test]
fn a_long_frame_in_pieces_then_the_end() {
    let mut world = World::new(Limits {
        max_payload: 1 << 20,
        ..Limits::default()
    });
    let (client, _) = world.join(LENGTH);
    client.write(&(1u32 << 20).to_be_bytes());
    world.turn();
    for _ in 0..8 {
        client.write(&[7; PIPE_BYTES]);
        world.turn();
    }
    client.write(&[7; 100]);
    client.link.close();
    assert_eq!(world.drain()[0].end().unwrap().1, "left");
    world.assert_at_rest();
}

#[test]
fn what_lies_in_the_inbox_is_charged_whoever_it_is_for() {
    // Requests to routes that nobody handles hold their payloads, too, until they are answered.
    let limits = Limits {
        inbound_session_bytes: 100_000,
        ..Limits::default()
    };
    for route in ["nowhere", SAY.0] {
        let mut world = World::new(limits.clone());
        let (client, _) = world.join(POMELO);
        for _ in 0..100 {
            // A notify to nowhere is no item, but lies between two that are.
            client
                .link
                .write(&pomelo(Some(1), route, &[0; 1_000]))
                .unwrap();
            client
                .link
                .write(&pomelo(None, "nowhere", &[0; 30_000]))
                .unwrap();
            client.link.write(&pomelo(Some(1), route, b"")).unwrap();
            world.turn();
        }
        let held: usize = world.take().iter().map(|batch| batch.used).sum();
        assert!(held <= 100_000 + READ_BYTES, "{route}: {held}");
    }
}

#[test]
fn beginnings_of_frames_have_a_budget_of_their_own() {
    let limits = Limits {
        inbound_total_bytes: 10_000,
        max_payload: 4_000,
        ..Limits::default()
    };
    let mut world = World::new(limits);
    let clients: Vec<_> = (0..4).map(|_| world.join(LENGTH)).collect();
    let whole = frame(&[7; 3_000]);
    for (client, _) in &clients {
        client.write(&whole[..2_900]);
        world.turn();
    }
    assert_eq!(
        world.count("partial_bytes"),
        3 * 2_900,
        "the fourth was one too many"
    );
    let ends: Vec<_> = world
        .drain()
        .iter()
        .filter_map(|of| of.end().map(|(_, reason)| (of.handle, reason.to_owned())))
        .collect();
    assert_eq!(ends, [(clients[3].1, "half-frames".to_owned())]);
    for (client, _) in &clients[..3] {
        client.write(&whole[2_900..]);
    }
    world.turn();
    assert_eq!(packets(&world.drain()).len(), 3);
    assert_eq!(world.count("partial_bytes"), 0);
    drop(clients);
}
