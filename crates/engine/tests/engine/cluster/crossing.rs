//! What crosses nodes, and in which order.

use crate::cluster::{Cluster, SPACES, WAVE};
use crate::world::SAY;
use photinus_engine::app::Echo;
use photinus_engine::inbox::{arrival, Event};
use photinus_engine::limits::Limits;
use photinus_engine::outbox::{Action, Marks, OutRoute, Owner, What};
use photinus_engine::routes::Routes;
use photinus_proto::bluenet::control::Tag;

#[test]
fn packets_reach_the_home_and_answers_the_client() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    for number in 0..100u8 {
        client.say(&[number]);
    }
    cluster.settle();
    let packets = cluster.members[home].packets();
    assert_eq!(packets, (0..100).map(|of| vec![of]).collect::<Vec<_>>());
    for number in 0..100u8 {
        cluster.members[home].send(session, &[number, 1]);
    }
    cluster.settle();
    let frames = client.frames();
    assert_eq!(frames.len(), 100);
    assert!(frames
        .iter()
        .enumerate()
        .all(|(at, of)| of[..] == [at as u8, 1]));
    // The proxy's Python knows nothing of it.
    let proxy = &cluster.members[0];
    assert!(proxy.seen.iter().all(|of| of.event == Event::LinkUp));
    assert_eq!(proxy.count("forwarded"), 100);
    assert_eq!(proxy.count("relayed_in"), 100);
    client.link.close();
    cluster.settle();
    assert_eq!(cluster.members[home].event(Event::Closed).handle, session);
    assert_eq!(cluster.members[0].count("sessions"), 0);
    assert_eq!(cluster.members[home].count("sessions"), 0);
}

#[test]
fn a_kick_comes_behind_what_was_sent_and_ends_it_everywhere() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let (mut client, home, session) = cluster.join(0);
    cluster.members[home].send(session, b"last");
    cluster.members[home].post(Action::Kick { to: session }, b"enough");
    cluster.settle();
    assert_eq!(client.frames(), [b"last"]);
    assert!(client.ended);
    client.link.close();
    cluster.settle();
    let closed = cluster.members[home].event(Event::Closed);
    assert_eq!(closed.body, b"enough");
}

#[test]
fn requests_by_name_are_answered_and_unknown_ones_are_the_homes_to_refuse() {
    let mut cluster = Cluster::new(1, 1, &Limits::default());
    let mut client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    client.packages();
    client.write(&crate::world::pomelo(Some(3), "say", b"{}"));
    client.write(&crate::world::pomelo(Some(4), "nonsense", b"{}"));
    cluster.settle();
    let seen = std::mem::take(&mut cluster.members[home].seen);
    let packets: Vec<_> = seen.iter().filter(|of| of.is_packet()).collect();
    assert_eq!((packets[0].route, packets[0].id), (SAY.1, 3));
    let unknown = photinus_engine::inbox::UNKNOWN_ROUTE;
    assert_eq!((packets[1].route, packets[1].id), (unknown, 4));
    assert_eq!(packets[1].body, b"nonsense");
    let member = &mut cluster.members[home];
    member.post(
        Action::NameRoute {
            index: 0,
            number: photinus_engine::outbox::NO_NUMBER,
        },
        b"said",
    );
    let marks = Marks::NONE;
    for what in [
        What::Push(OutRoute::Named(0)),
        What::Response { id: 3 },
        What::Error { id: 4 },
    ] {
        let to = session;
        member.post(Action::Send { to, what, marks }, b"{}");
    }
    cluster.settle();
    let packages = client.packages();
    assert_eq!(packages.len(), 3);
    assert_eq!(packages[0][4..], *b"\x06\x04said{}");
    assert_eq!(packages[1][4..], *b"\x04\x03{}");
}

#[test]
fn a_space_elsewhere_gets_its_routes_and_its_state_moves_on() {
    let mut cluster = Cluster::new(1, 3, &Limits::default());
    let mut client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    let there = cluster.other(home);
    let name = cluster.members[there].name.clone();
    let attach = Owner::Attach {
        request: 5,
        target: 77,
        class: SPACES,
    };
    cluster.members[home].own(session, attach, name.as_bytes());
    cluster.settle();
    let attached = cluster.members[there].event(Event::Arrived);
    assert_eq!((attached.number, attached.route & 3), (77, 2));
    let (guest, tag) = (attached.handle, Tag(attached.id));
    cluster.members[there].own(guest, Owner::Arrived { tag }, b"");
    cluster.settle();
    let done = cluster.members[home].event(Event::Done);
    assert_eq!((done.number, done.id, &done.body[..]), (5, 1, &b""[..]));
    client.packages();
    client.write(&crate::world::pomelo(None, "wave", b"1"));
    client.write(&crate::world::pomelo(None, "say", b"2"));
    cluster.settle();
    let wave = cluster.members[there].seen.pop().unwrap();
    assert_eq!((wave.handle, wave.route, wave.number), (guest, WAVE.1, 77));
    assert_eq!(cluster.members[home].packets(), [b"2"]);

    // On to a third node, with what the second leaves.
    let third = (1..4).find(|of| *of != home && *of != there).unwrap();
    let name = cluster.members[third].name.clone();
    let move_on = Owner::Move {
        request: 6,
        slot: 1,
        target: 78,
        class: SPACES,
    };
    cluster.members[home].own(session, move_on, name.as_bytes());
    client.write(&crate::world::pomelo(None, "wave", b"3"));
    cluster.settle();
    client.write(&crate::world::pomelo(None, "wave", b"4"));
    cluster.settle();
    let fence = cluster.members[there].event(Event::Fence);
    assert_eq!(fence.number, 77);
    let before = cluster.members[there].packets();
    assert!(before.is_empty() || before == [b"3"], "{before:?}");
    let tag = Tag(fence.id);
    let push = What::Push(OutRoute::Number(1));
    let marks = Marks::NONE;
    let action = Action::Send {
        to: guest,
        what: push,
        marks,
    };
    cluster.members[there].post(action, b"last");
    cluster.members[there].own(guest, Owner::Fenced { tag }, b"hero");
    cluster.members[there].post(action, b"too late");
    cluster.settle();
    let arrived = cluster.members[third].event(Event::Arrived);
    let state = arrival(&arrived.body).unwrap().state;
    assert_eq!((arrived.number, state), (78, &b"hero"[..]));
    assert_eq!(arrived.route & 7, 4, "moved, whole, with a state");
    let tag = Tag(arrived.id);
    cluster.members[third].own(arrived.handle, Owner::Arrived { tag }, b"");
    cluster.settle();
    let mut after = before;
    after.extend(cluster.members[third].packets());
    assert_eq!(after, [b"3", b"4"]);
    assert_eq!(cluster.members[home].event(Event::Done).number, 6);
    cluster.members[there].event(Event::Gone);
    assert_eq!(cluster.members[there].count("sessions"), 0);
    let packages = client.packages();
    assert_eq!(packages.len(), 1, "{packages:?}");
    assert!(packages[0].ends_with(b"last"));
}

#[test]
fn a_native_application_answers_and_tells_wherever_the_client_is() {
    let mut cluster = Cluster::with(1, 1, &Limits::default(), Some(Echo::registration));
    let (mut client, home, session) = cluster.join(0);
    client.say(b"there and back");
    cluster.settle();
    assert_eq!(client.frames(), [b"there and back"]);
    assert!(cluster.members[home].packets().is_empty());
    assert_eq!(cluster.members[home].count("native_packets"), 1);
    let mut named = cluster.connect(0, 20, "pomelo");
    named.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    named.packages();
    let (_, other) = cluster.opened();
    assert_ne!(session, other);
    named.write(&crate::world::pomelo(Some(5), Echo::TELL, b"a word"));
    named.write(&crate::world::pomelo(Some(6), Echo::ROUTE, b"{}"));
    cluster.settle();
    let told = cluster.members[home].event(Event::FromApp);
    assert_eq!((told.handle, &told.body[..]), (other, &b"a word"[..]));
    let packages = named.packages();
    assert_eq!(packages[0][4..], *b"\x04\x05");
    assert_eq!(packages[1][4..], *b"\x04\x06{}");
}

#[test]
fn what_an_application_tells_comes_between_the_packets_of_a_client_here() {
    let mut world = crate::world::World::new(Limits::default());
    world.engine.add_app(Echo::registration()).unwrap();
    let mut routes = Routes::default();
    routes.add_name(0, SAY.0, SAY.1);
    world.engine.set_routes(routes);
    let (client, session) = world.join(crate::world::POMELO);
    let pomelo = |route: &str, body: &[u8]| crate::world::pomelo(None, route, body);
    let long = [b'x'; 300];
    client.write(
        &[
            pomelo("say", b"first"),
            pomelo(Echo::TELL, &long),
            pomelo("say", b"second"),
            pomelo(Echo::TELL, b"told"),
            pomelo("say", b"third"),
        ]
        .concat(),
    );
    let seen = world.drain();
    assert!(seen.iter().all(|of| of.handle == session));
    let bodies: Vec<&[u8]> = seen.iter().map(|of| &of.body[..]).collect();
    assert_eq!(bodies, [&b"first"[..], &long, b"second", b"told", b"third"]);
    assert_eq!(world.count("unhandled_bytes"), 0);
}

#[test]
fn routes_that_change_while_nodes_are_linked_are_known_at_once() {
    let mut cluster = Cluster::new(1, 2, &Limits::default());
    let client = cluster.connect(0, 20, "pomelo");
    client.write(&[crate::world::HELLO, crate::world::ACK].concat());
    cluster.settle();
    let (home, session) = cluster.opened();
    let there = cluster.other(home);
    cluster.attach(home, session, there);
    let say = |cluster: &mut Cluster, body: &[u8]| {
        client.write(&crate::world::pomelo(None, "jump", body));
        cluster.settle();
        [there, home].map(|at| cluster.members[at].packets())
    };
    // Nobody has it, and a notify is not answered.
    assert_eq!(say(&mut cluster, b"1"), [vec![], Vec::<Vec<u8>>::new()]);
    assert_eq!(cluster.members[0].count("unknown_routes"), 1);
    for at in [home, there] {
        let mut routes = Routes::default();
        routes.add_name(0, SAY.0, SAY.1);
        routes.add_name(SPACES, WAVE.0, WAVE.1);
        routes.add_name(SPACES, "jump", 10);
        cluster.members[at].engine.set_routes(routes);
    }
    cluster.settle();
    assert_eq!(say(&mut cluster, b"2"), [vec![b"2".to_vec()], vec![]]);
}
