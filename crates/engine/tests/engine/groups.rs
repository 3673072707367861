//! Messages to groups.

use crate::world::{World, LENGTH, POMELO, SHORT};
use photinus_engine::handle::Handle;
use photinus_engine::limits::Limits;
use photinus_engine::outbox::FormatSet;

const ANY: FormatSet = FormatSet::ANY;

#[test]
fn all_members_get_it_but_one() {
    let mut world = World::new(Limits::default());
    let mut clients: Vec<_> = (0..10).map(|_| world.join(LENGTH)).collect();
    for (_, handle) in &clients[..8] {
        world.add(3, *handle);
        world.add(3, *handle); // again: no second copy
    }
    let but = clients[2].1;
    world.send_to_group(3, but, ANY, b"to you");
    world.send_to_group(4, but, ANY, b"to nobody");
    world.flush();
    for (at, (client, _)) in clients.iter_mut().enumerate() {
        let expected: &[&[u8]] = if at < 8 && at != 2 { &[b"to you"] } else { &[] };
        assert_eq!(client.frames(), expected, "{at}");
    }
    assert_eq!(world.count("packets_out"), 7);
}

#[test]
fn several_messages_are_one_write_and_one_order() {
    let mut world = World::new(Limits::default());
    let mut clients: Vec<_> = (0..4).map(|_| world.join(LENGTH)).collect();
    for (_, handle) in &clients {
        world.add(1, *handle);
    }
    world.flush();
    let before = world.count("writes");
    let (odd, last) = (clients[1].1, clients[3].1);
    world.send_to_group(1, Handle::NONE, ANY, b"1");
    world.send_to_group(1, Handle::NONE, ANY, b"2");
    world.send(odd, b"only you");
    world.send_to_group(1, Handle::NONE, ANY, b"3");
    world.send_to_group(1, last, ANY, b"4");
    world.flush();
    let common: &[&[u8]] = &[b"1", b"2", b"3", b"4"];
    let expected = [
        common,
        &[b"1", b"2", b"only you", b"3", b"4"],
        common,
        &common[..3],
    ];
    for ((client, _), expected) in clients.iter_mut().zip(expected) {
        assert_eq!(client.frames(), expected);
    }
    assert_eq!(world.count("writes"), before + 4);
    assert_eq!(world.count("packets_out"), 16);
}

#[test]
fn membership_changes_in_the_order_of_messages() {
    let mut world = World::new(Limits::default());
    let (mut first, one) = world.join(LENGTH);
    let (mut second, two) = world.join(LENGTH);
    world.add(1, one);
    world.send_to_group(1, Handle::NONE, ANY, b"one is in");
    world.add(1, two);
    world.send_to_group(1, Handle::NONE, ANY, b"both are in");
    world.remove(1, one);
    world.remove(1, one);
    world.send_to_group(1, Handle::NONE, ANY, b"two is in");
    world.flush();
    assert_eq!(first.frames(), [&b"one is in"[..], b"both are in"]);
    assert_eq!(second.frames(), [&b"both are in"[..], b"two is in"]);
}

#[test]
fn who_ends_is_in_no_group() {
    let mut world = World::new(Limits::default());
    let mut clients: Vec<_> = (0..5).map(|_| world.join(LENGTH)).collect();
    for (_, handle) in &clients {
        world.add(1, *handle);
        world.add(2, *handle);
    }
    let kicked = clients[1].1;
    world.kick(kicked, "out");
    clients.remove(3);
    world.flush();
    world.drain();
    world.send_to_group(1, Handle::NONE, ANY, b"a");
    world.send_to_group(2, Handle::NONE, ANY, b"b");
    world.add(1, kicked);
    world.send_to_group(1, Handle::NONE, ANY, b"c");
    world.flush();
    for (client, handle) in &mut clients {
        let expected: &[&[u8]] = if *handle == kicked {
            &[]
        } else {
            &[b"a", b"b", b"c"]
        };
        assert_eq!(client.frames(), expected);
    }
    assert_eq!(world.count("dropped_gone"), 0);
    drop(clients);
    world.drain();
    world.assert_at_rest();
}

#[test]
fn each_format_gets_its_own() {
    let mut world = World::new(Limits::default());
    let (mut json, one) = world.join(POMELO);
    let (mut msgpack, two) = world.join(LENGTH);
    let (mut short, three) = world.join(SHORT);
    for member in [one, two, three] {
        world.add(1, member);
    }
    world.send_to_group(1, Handle::NONE, FormatSet::JSON, b"{}");
    world.send_to_group(1, Handle::NONE, FormatSet::MSGPACK, b"\x80");
    world.send_to_group(1, Handle::NONE, ANY, b"raw");
    world.flush();
    let got = json.packages();
    assert!(got.len() == 2 && got[0].ends_with(b"{}") && got[1].ends_with(b"raw"));
    assert_eq!(msgpack.frames(), [&b"\x80"[..], b"raw"]);
    short.read();
    assert_eq!(
        short.got, b"\0\x01\x80\0\x03raw",
        "the same chain, another protocol"
    );
}

#[test]
fn a_slow_member_holds_nobody_up() {
    let mut world = World::new(Limits::default());
    let mut clients: Vec<_> = (0..5).map(|_| world.join(LENGTH)).collect();
    for (_, handle) in &clients {
        world.add(1, *handle);
    }
    let slow = clients[2].1;
    world.send(slow, &[0; 90_000]);
    let payloads: Vec<_> = (0..200u32)
        .map(|number| number.to_be_bytes().repeat(500))
        .collect();
    for payload in &payloads {
        world.send_to_group(1, Handle::NONE, ANY, payload);
        world.flush();
        for (at, (client, _)) in clients.iter_mut().enumerate() {
            if at != 2 {
                assert_eq!(client.frames(), [&payload[..]]);
            }
        }
    }
    let client = &mut clients[2].0;
    let mut got = Vec::new();
    while got.len() < 201 {
        got.extend(client.frames());
        world.turn();
    }
    assert_eq!(got[1..], payloads);
    assert_eq!(world.count("packets_out"), 1 + 5 * 200);
    assert_eq!(world.count("waiting_out_bytes"), 0);
}
