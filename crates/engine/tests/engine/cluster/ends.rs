//! Sessions that end by what their homes say, and while something of them is on its way to another owner: nothing
//! stays behind, anywhere.

use crate::cluster::{Cluster, SPACES};
use crate::player::Player;
use photinus_engine::connection::By;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_engine::outbox::{Action, Marks, OutRoute, Owner, What, NO_NUMBER};
use photinus_proto::bluenet::control::Tag;

#[test]
fn an_old_home_forgets_what_it_left_with_when_the_session_ends() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (client, home, session) = cluster.join(0);
    let new = cluster.move_home(home, session, 1);
    let tag = Tag(cluster.members[home].event(Event::Fence).id);
    cluster.members[home].own(session, Owner::Fenced { tag }, b"hero");
    cluster.settle();
    // It is on its way, and the new home has not answered.
    let arrived = cluster.members[new].event(Event::Arrived);
    client.link.close();
    cluster.settle();
    let closed = cluster.members[new].event(Event::Closed);
    assert_eq!(closed.handle, arrived.handle);
    let detached = cluster.members[home].event(Event::Detached);
    assert_eq!((detached.handle, Tag(detached.id)), (session, tag));
    assert_eq!(cluster.members[home].event(Event::Gone).handle, session);
    for member in &cluster.members {
        assert_eq!(member.count("sessions"), 0, "{}", member.name);
    }
}

#[test]
fn what_an_attachment_came_back_to_is_forgotten_with_it() {
    let mut cluster = Cluster::new(1, 3, &Limits::default());
    let (_client, home, session) = cluster.join(0);
    let others: Vec<usize> = (1..4).filter(|of| *of != home).collect();
    let [old, new] = others[..] else {
        panic!("two others")
    };
    let names = [old, new].map(|at| cluster.members[at].name.clone());
    let attach = Owner::Attach {
        request: 1,
        target: 77,
        class: SPACES,
    };
    cluster.members[home].own(session, attach, names[0].as_bytes());
    cluster.settle();
    let attached = cluster.members[old].event(Event::Arrived);
    let (guest, tag) = (attached.handle, Tag(attached.id));
    cluster.members[old].own(guest, Owner::Arrived { tag }, b"");
    cluster.settle();
    let move_on = Owner::Move {
        request: 2,
        slot: 1,
        target: 77,
        class: SPACES,
    };
    cluster.members[home].own(session, move_on, names[1].as_bytes());
    cluster.settle();
    cluster.members[old].event(Event::Fence);
    cluster.members[old].own(guest, Owner::Fenced { tag }, b"hero");
    cluster.settle();
    let moved = cluster.members[new].event(Event::Arrived);
    let refused = Owner::Refused { tag: Tag(moved.id) };
    cluster.members[new].own(moved.handle, refused, b"not now");
    cluster.settle();
    // The old one has it back, and has not answered when it is left.
    let back = cluster.members[old].event(Event::Arrived);
    assert_ne!(back.id, attached.id);
    let leave = Owner::Leave {
        request: 3,
        slot: 1,
    };
    cluster.members[home].own(session, leave, b"");
    cluster.settle();
    assert_eq!(cluster.members[old].event(Event::Detached).id, back.id);
    assert_eq!(cluster.members[old].event(Event::Gone).handle, guest);
    assert_eq!(cluster.members[old].count("sessions"), 0);
    // And can be attached there again, under the next tag of that place.
    cluster.members[home].own(session, attach, names[0].as_bytes());
    cluster.settle();
    let again = cluster.members[old].event(Event::Arrived);
    let of = [again.id, back.id].map(Tag);
    assert_eq!(of[0].slot(), of[1].slot());
    assert_eq!(of[0].epoch(), of[1].epoch() + 1);
    assert_ne!(again.id, attached.id);
}

#[test]
fn a_redirect_by_its_home_is_the_last_that_a_client_hears() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let mut player = Player::default();
    player.connect_through(cluster.connect(0, 30, "photinus"), None);
    cluster.settle();
    player.read();
    cluster.settle();
    let (home, session) = cluster.opened();
    let (index, number) = (0, NO_NUMBER);
    cluster.members[home].post(Action::NameRoute { index, number }, b"news");
    let push = Action::Send {
        to: session,
        what: What::Push(OutRoute::Named(0)),
        marks: Marks::NONE,
    };
    cluster.members[home].post(push, &0u32.to_be_bytes());
    let elsewhere = "tcp://192.0.2.1:7000";
    cluster.members[home].post(Action::Redirect { to: session }, elsewhere.as_bytes());
    cluster.members[home].post(push, &1u32.to_be_bytes());
    cluster.settle();
    player.read();
    assert_eq!(player.redirected.as_deref(), Some(elsewhere));
    assert_eq!((player.received, player.end), (1, None));
    let closed = cluster.members[home].event(Event::Closed);
    assert_eq!(closed.end(), Some((By::Server, "redirected")));
    cluster.settle();
    for member in &cluster.members {
        assert_eq!(member.count("sessions"), 0, "{}", member.name);
    }
}

#[test]
fn who_does_not_read_what_its_home_says_is_closed_and_nobody_else() {
    let limits = Limits {
        outbound_session_bytes: 64 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::new(1, 1, &limits);
    let (mut slow, home, session) = cluster.join(0);
    let (mut other, _, theirs) = cluster.join(0);
    for number in 0..200u8 {
        cluster.members[home].send(session, &[number; 1_000]);
        cluster.members[home].send(theirs, &[number]);
        cluster.settle();
    }
    let closed = cluster.members[home].event(Event::Closed);
    assert_eq!(
        (closed.handle, closed.end()),
        (session, Some((By::Server, "slow")))
    );
    assert_eq!(cluster.members[0].count("closed_slow"), 1);
    assert!((0..200).map(|number| vec![number]).eq(other.frames()));
    for member in &cluster.members {
        assert_eq!(member.count("sessions"), 1, "{}", member.name);
    }
    slow.read();
    assert!(slow.ended);
}
