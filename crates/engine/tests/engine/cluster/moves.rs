//! How moves end that go wrong, and sessions that end in the midst of one.

use crate::cluster::{Cluster, SPACES, WAVE};
use photinus_engine::handle::Handle;
use photinus_engine::homes::Homes;
use photinus_engine::inbox::{arrival, Event};
use photinus_engine::limits::Limits;
use photinus_engine::outbox::Owner;
use photinus_engine::routes::Routes;
use photinus_proto::bluenet::control::Tag;

/// Sends this session's home on to the other node, and has the old one leave.
fn leave(cluster: &mut Cluster, home: usize, session: Handle) -> usize {
    let there = cluster.leave_home(home, session, b"state");
    cluster.settle();
    there
}

#[test]
fn a_session_that_ends_between_two_owners_ends_at_both() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (client, home, session) = cluster.join(0);
    let there = leave(&mut cluster, home, session);
    client.link.close();
    cluster.settle();
    // Who has left forgets it, and who has it hears of its end.
    cluster.members[home].event(Event::Gone);
    cluster.members[there].event(Event::Closed);
    for at in [home, there] {
        assert_eq!(cluster.members[at].count("sessions"), 0, "{at}");
        assert_eq!(cluster.members[at].engine.shared.gate.counts()[2], 0);
    }
}

#[test]
fn a_home_that_nobody_takes_is_offered_to_each_once() {
    let mut cluster = Cluster::new(1, 3, &Limits::default());
    let (mut client, home, _) = cluster.join(0);
    let name = cluster.members[home].name.clone();
    cluster.network.kill(&name);
    cluster.members.remove(home);
    cluster.pass(5_000);
    let mut offers = 0;
    for _ in 0..10 {
        for member in cluster.members.iter_mut().skip(1) {
            while let Some(at) = member.seen.iter().position(|of| of.event == Event::Arrived) {
                let arrived = member.seen.remove(at);
                let tag = Tag(arrived.id);
                member.own(arrived.handle, Owner::Refused { tag }, b"full");
                offers += 1;
            }
        }
        cluster.settle();
    }
    assert_eq!(offers, 2);
    client.read();
    assert!(client.ended);
    client.link.close();
    cluster.settle();
    for member in &cluster.members {
        assert_eq!(member.count("sessions"), 0, "{}", member.name);
    }
}

#[test]
fn an_attachment_that_is_lost_before_it_was_taken_is_answered() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (_client, home, session) = cluster.join(0);
    let there = cluster.other(home);
    let name = cluster.members[there].name.clone();
    let attach = Owner::Attach {
        request: 9,
        target: 77,
        class: SPACES,
    };
    cluster.members[home].own(session, attach, name.as_bytes());
    cluster.settle();
    cluster.network.kill(&name);
    cluster.members[there].stuck = true;
    cluster.pass(5_000);
    let done = cluster.members[home].event(Event::Done);
    assert_eq!((done.number, &done.body[..]), (9, &b"lost"[..]));
}

#[test]
fn what_no_frame_can_carry_costs_its_sender_and_not_the_link() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    cluster.members[home].send(session, &vec![1; 2 << 20]);
    cluster.members[home].own(session, Owner::Data, &vec![1; 65 << 10]);
    cluster.members[home].send(session, b"small");
    cluster.settle();
    assert_eq!(client.frames(), [b"small"]);
    assert_eq!(cluster.members[home].count("dropped_unsendable"), 2);
    assert_eq!(cluster.members[0].count("links_lost"), 0);
}

#[test]
fn a_node_that_drains_waits_for_its_sessions_and_takes_no_more() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    cluster.members[home].send(session, b"last");
    cluster.members[home].hand_over();
    let world = cluster.members[home].name.clone();
    let proxy = cluster.members[0].name.clone();
    cluster.network.freeze(&world, &proxy, true);
    cluster.members[home].engine.drain("bye");
    cluster.settle();
    let drained = |of: &crate::world::Seen| of.event == Event::Drained;
    assert!(!cluster.members[home].seen.iter().any(drained));
    cluster.network.freeze(&world, &proxy, false);
    cluster.pass(100);
    assert_eq!(client.frames(), [b"last"]);
    client.link.close();
    cluster.settle();
    cluster.members[home].event(Event::Closed);
    cluster.members[home].event(Event::Drained);
    cluster.members[home].seen.clear();
    // There is no other home: who comes is turned away.
    for _ in 0..20 {
        cluster.connect(0, 10, "length4");
    }
    cluster.settle();
    assert!(cluster.members[home].seen.is_empty());
    assert_eq!(cluster.members[home].count("sessions"), 0);
}

#[test]
fn a_packet_for_a_space_that_has_gone_does_not_cost_the_home() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    let name = cluster.members[home].name.clone();
    // A space whose number is the tag of the home.
    let target = Tag::new(0, 1).0;
    let attach = Owner::Attach {
        request: 1,
        target,
        class: SPACES,
    };
    cluster.members[home].own(session, attach, name.as_bytes());
    cluster.settle();
    let arrived = cluster.members[home].event(Event::Arrived);
    let names = [0, home].map(|of| cluster.members[of].name.clone());
    cluster.network.freeze(&names[0], &names[1], true);
    client.write(&crate::world::pomelo(None, "wave", b"1"));
    cluster.settle();
    let tag = Tag(arrived.id);
    cluster.members[home].own(session, Owner::Refused { tag }, b"no");
    cluster.settle();
    cluster.network.freeze(&names[0], &names[1], false);
    cluster.pass(100);
    let home = &cluster.members[home];
    assert_eq!(home.count("dropped_stale_handle"), 1);
    assert!(!home.seen.iter().any(|of| of.event == Event::Arrived));
    assert_eq!(cluster.members[0].count("rehomed"), 0);
}

/// Its first member is a home, too, and whoever comes there is at home there.
fn with_a_home_at_the_proxy() -> Cluster {
    let cluster = Cluster::new(1, 1, &Limits::default());
    let engine = &cluster.members[0].engine;
    let mut routes = Routes::default();
    routes.add_name(SPACES, WAVE.0, WAVE.1);
    engine.set_routes(routes);
    engine.set_homes(Homes::default());
    cluster
}

#[test]
fn where_a_client_is_from_goes_along_from_the_proxys_own_home() {
    let mut cluster = with_a_home_at_the_proxy();
    let _client = cluster.connect(0, 10, "length4");
    cluster.settle();
    let opened = cluster.members[0].event(Event::Opened);
    let there = leave(&mut cluster, 0, opened.handle);
    let arrived = cluster.members[there].event(Event::Arrived);
    let address = arrival(&arrived.body).unwrap().address;
    assert_eq!(address.as_bytes(), opened.body);
    assert!(address.starts_with("memory:"), "{address}");
}

#[test]
fn an_arrival_that_the_proxy_itself_refuses_costs_what_followed_it_and_that_is_told() {
    let mut cluster = with_a_home_at_the_proxy();
    let client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    assert_eq!(home, 0);
    let [here, there] = [0, 1].map(|of| cluster.members[of].name.clone());
    let (target, class) = (77, SPACES);
    let attach = Owner::Attach {
        request: 1,
        target,
        class,
    };
    cluster.members[0].own(session, attach, there.as_bytes());
    cluster.settle();
    let attached = cluster.members[1].event(Event::Arrived);
    let (guest, tag) = (attached.handle, Tag(attached.id));
    cluster.members[1].own(guest, Owner::Arrived { tag }, b"");
    cluster.settle();
    let move_on = Owner::Move {
        request: 2,
        slot: 1,
        target,
        class,
    };
    cluster.members[0].own(session, move_on, here.as_bytes());
    cluster.settle();
    let tag = Tag(cluster.members[1].event(Event::Fence).id);
    cluster.members[1].own(guest, Owner::Fenced { tag }, b"state");
    cluster.settle();
    client.write(&crate::world::pomelo(None, "wave", b"1"));
    cluster.settle();
    assert_eq!(cluster.members[0].packets(), [b"1"]);
    let tag = Tag(cluster.members[0].event(Event::Arrived).id);
    cluster.members[0].own(session, Owner::Refused { tag }, b"no");
    cluster.settle();
    let back = cluster.members[1].event(Event::Arrived);
    assert_eq!(back.route & 7, 5, "with a gap, and with its state");
}

#[test]
fn what_is_lost_while_its_home_moves_the_new_home_hears_of() {
    let mut cluster = Cluster::new(1, 3, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    let at = (1..4).rfind(|of| *of != home).unwrap();
    let name = cluster.members[at].name.clone();
    cluster.attach(home, session, at);
    let there = cluster.move_home(home, session, 2);
    assert!(there < at);
    cluster.network.kill(&name);
    drop(cluster.members.remove(at));
    while cluster.members[home]
        .seen
        .iter()
        .all(|of| of.event != Event::Done)
    {
        cluster.pass(50); // within the five seconds that a step may take
    }
    // It has left, for all that it knows, and what it leaves with may not say so.
    let tag = Tag(cluster.members[home].event(Event::Fence).id);
    cluster.members[home].own(session, Owner::Fenced { tag }, b"state");
    cluster.settle();
    for (heard, (member, arrives)) in [(home, false), (there, true)].into_iter().enumerate() {
        let member = &mut cluster.members[member];
        if arrives {
            let first = member.seen.iter().position(|of| of.event == Event::Arrived);
            let told = member.seen.iter().position(|of| of.event == Event::Done);
            assert!(first.unwrap() < told.unwrap());
        }
        let lost = member.event(Event::Done);
        assert_eq!(
            (lost.number, lost.id, &lost.body[..]),
            (0, 1, &b"lost"[..]),
            "{heard}"
        );
    }
    client.read();
    assert!(!client.ended);
}
