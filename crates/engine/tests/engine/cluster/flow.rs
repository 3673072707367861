//! Clients that are not read: since a link is crowded, or an owner has no room.

use crate::cluster::{Cluster, SPACES};
use crate::world::frame;
use photinus_engine::inbox::Event;
use photinus_engine::limits::{Limits, PACKET_OVERHEAD};
use photinus_engine::outbox::Owner;
use photinus_proto::bluenet::control::Tag;

#[test]
fn a_crowded_link_stops_clients_without_a_turn_that_never_ends() {
    let limits = Limits {
        link_kept_bytes: 64 << 10,
        link_silence_ms: 60_000,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 1, &limits);
    let (client, home, _) = cluster.join(0);
    let names = [0, home].map(|of| cluster.members[of].name.clone());
    cluster.network.freeze(&names[0], &names[1], true);
    let mut sent: Vec<u8> = Vec::new();
    let mut number = 0u32;
    for _ in 0..2_000 {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(1_000, 0);
        sent.extend(frame(&body));
        let taken = client.link.write(&sent).unwrap();
        sent.drain(..taken);
        cluster.settle();
        if !sent.is_empty() {
            break;
        }
        number += 1;
    }
    assert!(!sent.is_empty(), "it is never stopped");
    let proxy = &cluster.members[0];
    assert!(proxy.count("paused_link") > 0 && proxy.count("link_full") == 0);
    assert!(proxy.count("partial_bytes") <= 128 << 10);
    // Longer than a frame that was begun may take: it is not the client's fault.
    cluster.pass(12_000);
    assert_eq!(cluster.members[0].count("sessions"), 1);
    cluster.network.freeze(&names[0], &names[1], false);
    cluster.pass(1_500); // acknowledged with the next ping
    while !sent.is_empty() {
        let taken = client.link.write(&sent).unwrap();
        assert!(taken > 0, "it is not read again");
        sent.drain(..taken);
        cluster.pass(600);
    }
    let packets = cluster.members[home].packets();
    let numbers = packets
        .iter()
        .map(|of| u32::from_be_bytes(*of.first_chunk().unwrap()));
    assert!(numbers.eq(0..=number), "in order, and all of them");
    assert_eq!(cluster.members[0].count("partial_bytes"), 0);
    assert_eq!(cluster.members[home].count("unhandled_bytes"), 0);
}

#[test]
fn a_new_owner_that_had_no_room_and_declines_stops_nobody() {
    let limits = Limits {
        inbound_session_bytes: 4 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 2, &limits);
    let (client, home, session) = cluster.join(0);
    let there = cluster.leave_home(home, session, b"state");
    cluster.members[there].stuck = true;
    cluster.settle();
    for _ in 0..60 {
        client.say(&[b'x'; 100]);
        cluster.settle();
    }
    assert_eq!(cluster.members[there].count("paused_session"), 1);
    cluster.members[there].stuck = false;
    // Its own word that there is room again comes behind that it does not take it.
    let member = &mut cluster.members[there];
    let mut batches = std::collections::VecDeque::new();
    member.engine.take_inbox(&mut batches).unwrap();
    let arrived = crate::world::read(&batches);
    let arrived = arrived
        .iter()
        .find(|of| of.event == Event::Arrived)
        .unwrap();
    let tag = Tag(arrived.id);
    member.own(arrived.handle, Owner::Refused { tag }, b"");
    cluster.settle();
    for batch in batches {
        cluster.members[there].engine.give_back(batch);
    }
    cluster.settle();
    let back = cluster.members[home].event(Event::Arrived);
    let tag = Tag(back.id);
    cluster.members[home].own(session, Owner::Arrived { tag }, b"");
    cluster.settle();
    client.say(b"back");
    cluster.settle();
    let packets = cluster.members[home].packets();
    assert_eq!(packets.last().map(Vec::as_slice), Some(&b"back"[..]));
}

#[test]
fn a_new_owner_that_had_no_room_before_it_arrived_has_none_afterwards() {
    let limits = Limits {
        inbound_session_bytes: 4 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 2, &limits);
    let (client, home, session) = cluster.join(0);
    let there = cluster.leave_home(home, session, b"state");
    cluster.members[there].stuck = true;
    cluster.settle();
    let say = |cluster: &mut Cluster| {
        for _ in 0..60 {
            client.say(&[b'x'; 100]);
            cluster.settle();
        }
        cluster.members[there].count("unhandled_bytes")
    };
    let held = say(&mut cluster);
    // It has arrived, and has handled nothing of what came behind.
    let member = &mut cluster.members[there];
    let mut batches = std::collections::VecDeque::new();
    member.engine.take_inbox(&mut batches).unwrap();
    let seen = crate::world::read(&batches);
    let arrived = seen.iter().find(|of| of.event == Event::Arrived).unwrap();
    let tag = Tag(arrived.id);
    member.own(arrived.handle, Owner::Arrived { tag }, b"");
    cluster.settle();
    // That the move is done is an event, without a text.
    assert_eq!(say(&mut cluster), held + PACKET_OVERHEAD as u64);
}

#[test]
fn an_owner_without_room_that_gets_it_back_says_so_again() {
    let limits = Limits {
        inbound_session_bytes: 4 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 2, &limits);
    let (client, home, session) = cluster.join(0);
    let there = cluster.other(home);
    let name = cluster.members[there].name.clone();
    let attach = Owner::Attach {
        request: 1,
        target: 77,
        class: SPACES,
    };
    // Its home is moved while it is stuck: that is given up, and the client is read no more than before.
    cluster.members[home].own(session, attach, name.as_bytes());
    let move_on = Owner::Move {
        request: 2,
        slot: 0,
        target: 0,
        class: 0,
    };
    cluster.members[home].own(session, move_on, name.as_bytes());
    cluster.members[home].stuck = true;
    for _ in 0..60 {
        client.say(&[b'x'; 100]);
    }
    cluster.settle();
    cluster.pass(6_000);
    for _ in 0..300 {
        let whole = frame(&[b'y'; 100]);
        if client.link.write(&whole).unwrap() < whole.len() {
            break;
        }
        cluster.settle();
    }
    let held = cluster.members[home].count("unhandled_bytes");
    assert!(held < 32 << 10, "{held}");
}

#[test]
fn what_a_node_said_of_a_session_before_it_came_anew_stops_nobody() {
    let limits = Limits {
        inbound_session_bytes: 4 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 2, &limits);
    let (client, home, _) = cluster.join(0);
    let other = cluster.other(home);
    cluster.members[other].stuck = true;
    let name = cluster.members[home].name.clone();
    cluster.network.kill(&name);
    drop(cluster.members.remove(home));
    let other = other - usize::from(other > home);
    while cluster.members[0].count("rehomed") == 0 {
        cluster.pass(50);
    }
    // It does not answer, is given up after 5 s, and gets it again, since there is no other. What it says meanwhile comes
    // behind that.
    cluster.pass(4_500);
    let names = [other, 0].map(|of| cluster.members[of].name.clone());
    cluster.network.delay(&names[0], &names[1], 1_000_000_000);
    while cluster.members[other].count("paused_session") == 0 {
        client.say(&[b'x'; 100]);
        cluster.settle();
    }
    cluster.pass(2_000);
    cluster.network.delay(&names[0], &names[1], 0);
    cluster.members[other].stuck = false;
    cluster.settle();
    cluster.members[other].event(Event::Arrived);
    let anew = cluster.members[other].event(Event::Arrived);
    let tag = Tag(anew.id);
    cluster.members[other].own(anew.handle, Owner::Arrived { tag }, b"");
    client.say(b"still here");
    cluster.settle();
    let packets = cluster.members[other].packets();
    assert_eq!(packets.last().map(Vec::as_slice), Some(&b"still here"[..]));
}

#[test]
fn a_stuck_home_stops_its_clients_and_no_others() {
    let limits = Limits {
        inbound_session_bytes: 4 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 1, &limits);
    let (client, home, _) = cluster.join(0);
    let (other, _, _) = cluster.join(0);
    cluster.members[home].stuck = true;
    let mut sent = 0;
    for _ in 0..2000 {
        let whole = frame(&[b'x'; 100]);
        if client.link.write(&whole).unwrap() < whole.len() {
            break;
        }
        sent += 1;
        cluster.settle();
    }
    assert!(sent < 1500, "{sent}: it is never stopped");
    let held = cluster.members[home].count("unhandled_bytes");
    assert!(held < 16 << 10, "{held}");
    other.say(b"free");
    cluster.settle();
    cluster.members[home].stuck = false;
    cluster.pass(100);
    let packets = cluster.members[home].packets();
    assert!(packets.contains(&b"free".to_vec()));
    assert!(packets.len() >= sent, "{} of {sent}", packets.len());
    assert_eq!(cluster.members[home].count("unhandled_bytes"), 0);
}
