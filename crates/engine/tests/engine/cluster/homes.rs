//! Homes that are lost, stop, or are not there.

use crate::cluster::Cluster;
use photinus_engine::inbox::{arrival, Event};
use photinus_engine::limits::Limits;
use photinus_engine::outbox::Owner;
use photinus_proto::bluenet::control::Tag;

#[test]
fn a_lost_home_is_replaced_with_the_data_that_was_kept() {
    let limits = Limits::default();
    let mut cluster = Cluster::new(1, 2, &limits);
    let (client, home, session) = cluster.join(0);
    cluster.members[home].own(session, Owner::Data, b"gold 7");
    cluster.settle();
    let name = cluster.members[home].name.clone();
    cluster.network.kill(&name);
    let other = cluster.other(home);
    let dead = cluster.members.remove(home);
    drop(dead);
    let other = other - usize::from(other > home);
    cluster.pass(5_000);
    let rehomed = cluster.members[other].event(Event::Arrived);
    assert_eq!(rehomed.number, 0, "as its home");
    assert_eq!(arrival(&rehomed.body).unwrap().state, b"gold 7");
    assert_eq!(rehomed.route & 7, 5, "with a gap, and with a state");
    let tag = Tag(rehomed.id);
    cluster.members[other].own(rehomed.handle, Owner::Arrived { tag }, b"");
    client.say(b"still here");
    cluster.settle();
    assert_eq!(cluster.members[other].packets(), [b"still here"]);
}

#[test]
fn a_world_node_that_stops_hands_its_sessions_on() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    cluster.members[home].engine.drain("shutdown");
    cluster.settle();
    client.say(b"while it moves");
    cluster.settle();
    let fence = cluster.members[home].event(Event::Fence);
    assert_eq!((fence.handle, fence.number), (session, 0));
    let tag = Tag(fence.id);
    cluster.members[home].own(session, Owner::Fenced { tag }, b"gold 7");
    cluster.settle();
    let other = cluster.other(home);
    let arrived = cluster.members[other].event(Event::Arrived);
    assert_eq!(arrived.number, 0, "as its home");
    assert_eq!(arrived.route & 7, 4, "whole, and with a state");
    let tag = Tag(arrived.id);
    cluster.members[other].own(arrived.handle, Owner::Arrived { tag }, b"");
    cluster.settle();
    assert_eq!(cluster.members[other].packets(), [b"while it moves"]);
    cluster.members[home].event(Event::Gone);
    cluster.members[home].event(Event::Drained);
    client.read();
    assert!(!client.ended);
    // Nobody new is at home there, and who has nowhere to go is told so.
    let (mut late, new_home, _) = cluster.join(0);
    assert_eq!(new_home, other);
    cluster.members[other].engine.drain("shutdown");
    cluster.settle();
    late.read();
    assert!(late.ended);
}

#[test]
fn without_a_home_nobody_is_let_in() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let name = cluster.members[1].name.clone();
    let (mut client, _, _) = cluster.join(0);
    cluster.network.kill(&name);
    cluster.members.truncate(1);
    cluster.pass(5_000);
    client.read();
    assert!(client.ended, "its home is gone, and there is no other");
    let mut late = cluster.connect(0, 10, "length4");
    cluster.settle();
    late.read();
    assert!(late.ended);
    assert_eq!(cluster.members[0].count("refused_overloaded"), 1);
}
