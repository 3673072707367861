//! Links between engines, over sockets.

mod in_time;
mod over_tls;
mod refused;

use crate::nodes::{identity, Node, LISTEN};
use crate::peer::Peer;
use crate::relay::Relay;
use photinus_engine::engine::Engine;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::link::hello::{Dialled, Identity, Roles};
use photinus_proto::link::{Link, LinkLimits};
use std::io::Write;

#[test]
fn frames_cross_both_ways() {
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    b.dial("a", &a.listen());
    let (to_b, to_a) = (a.linked("b"), b.linked("a"));
    a.push(to_b, Priority::Usual, b"down");
    a.flush(to_b);
    b.push(to_a, Priority::High, b"up");
    b.flush(to_a);
    for (node, link, priority, body) in [
        (&mut a, to_b, Priority::High, &b"up"[..]),
        (&mut b, to_a, Priority::Usual, b"down"),
    ] {
        node.wait("a frame", |of| !of.frames.is_empty());
        let [frame] = &node.frames[..] else {
            panic!("{:?}", node.frames);
        };
        assert_eq!((frame.handle, &frame.body[..]), (link, body));
        assert_eq!((frame.id, frame.number), (7, 0));
        assert_eq!(frame.route, Kind::Service as u32 | (priority as u32) << 3);
        let [up] = &node.events[..] else {
            panic!("{:?}", node.events);
        };
        assert_eq!(up.number, 2, "a world node");
    }
}

#[test]
fn what_is_cut_again_and_again_loses_doubles_and_reorders_nothing() {
    const FRAMES: u32 = 4_000;
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    let relay = Relay::to(&a.listen());
    b.dial("a", &relay.place);
    let (to_b, to_a) = (a.linked("b"), b.linked("a"));
    let all: Vec<u32> = (0..FRAMES).collect();
    // Each connection gets a little further than the last: everywhere within a frame, and between frames.
    for (round, numbers) in all.chunks(FRAMES as usize / 20).enumerate() {
        relay.cut_after(20_000 + round * 1_237);
        for number in numbers {
            // Now and then one that is longer than a read.
            let length = if number % 250 == 249 {
                90_000
            } else {
                4 + number % 200
            };
            let mut body = number.to_be_bytes().to_vec();
            body.resize(length as usize, b'.');
            for priority in Priority::ALL {
                a.push(to_b, priority, &body);
                b.push(to_a, priority, &body);
            }
        }
        a.flush(to_b);
        b.flush(to_a);
        a.wait("a cut", |_| relay.cuts() > 2 * round);
        b.take();
    }
    relay.cut_after(0);
    relay.cut();
    for node in [&mut a, &mut b] {
        node.wait("all frames", |of| of.frames.len() >= 4 * FRAMES as usize);
        for priority in Priority::ALL {
            assert!(node.numbers(priority) == all, "{priority:?}");
        }
        assert_eq!(node.lost(), [""; 0]);
        assert!(node.count("link_cuts") >= 20);
    }
    // Statistics are a little behind.
    b.wait("the report", |of| {
        let reports = of.engine.links();
        reports[0].connected && reports[0].frames_in >= 4 * u64::from(FRAMES)
    });
    let [report] = &b.engine.links()[..] else {
        panic!("{:?}", b.engine.links());
    };
    assert!(report.resent > 0 && report.cuts >= 20, "{report:?}");
    assert_eq!(
        (&*report.node, report.generation, report.dialled),
        ("a", 1, true)
    );
}

#[test]
fn frames_that_come_in_halves_are_whole() {
    let mut a = Node::named("a");
    let mut peer = Peer::new(&a.listen());
    peer.prove([0; 4], false);
    let step = peer.step();
    assert!(matches!(step, Dialled::Welcome { .. }), "{step:?}");
    a.linked("b");
    let mut link = Link::new(LinkLimits::default(), 0);
    link.handle_connected([0; 4], 0).unwrap();
    let all: Vec<u32> = (0..10).collect();
    for number in &all {
        let body = [number.to_be_bytes(); 10].concat();
        let header = Header::new(Kind::Node, Priority::Usual, 1, 0);
        link.push(header, &[&body]).unwrap();
    }
    // Each piece ends in the middle of a frame, with as much of it as the one before.
    let bytes = link.poll_write(0).to_vec();
    let length = bytes.len() / all.len();
    let (first, rest) = bytes.split_at(length / 2);
    for piece in [first].into_iter().chain(rest.chunks(length)) {
        let before = a.count("bytes_in");
        peer.stream.write_all(piece).unwrap();
        let after = before + piece.len() as u64;
        a.wait("a piece", |of| of.count("bytes_in") == after);
    }
    a.wait("all frames", |of| of.frames.len() == all.len());
    assert_eq!(a.numbers(Priority::Usual), all);
    for frame in &a.frames {
        assert_eq!(frame.body, frame.body[..4].repeat(10));
    }
}

#[test]
fn each_reactor_of_a_proxy_has_a_link_and_a_world_node_accepts_on_one() {
    let a = Engine::sockets(3, Limits::default()).unwrap();
    a.join(identity("a", 1)).unwrap();
    a.start().unwrap();
    let mut a = Node::with(a);
    let b = Engine::sockets(3, Limits::default()).unwrap();
    let proxy = Identity {
        roles: Roles::PROXY,
        ..identity("b", 1)
    };
    b.join(proxy).unwrap();
    let mut b = Node::with(b);
    b.dial("a", &a.listen());
    b.engine.start().unwrap();
    let ups = |of: &Node| {
        let ups = of.events.iter().filter(|of| of.event == Event::LinkUp);
        ups.map(|of| of.handle.reactor()).collect::<Vec<_>>()
    };
    for (node, expected) in [(&mut a, [2, 2, 2]), (&mut b, [0, 1, 2])] {
        node.wait("three links", |of| ups(of).len() == 3);
        let mut reactors = ups(node);
        reactors.sort_unstable();
        assert_eq!(reactors, expected);
    }
}

#[test]
fn a_reactor_led_by_the_loop_leaves_links_to_the_one_beside() {
    let a = Engine::sockets(0, Limits::default()).unwrap();
    a.join(identity("a", 1)).unwrap();
    a.start().unwrap();
    let mut a = Node::with(a);
    let mut b = Node::named("b");
    // By its name.
    let listened = a.listen();
    let port = listened.rsplit_once(':').unwrap().1;
    b.dial("a", &format!("localhost:{port}"));
    assert_eq!(a.linked("b").reactor(), 1);
    b.linked("a");
}

#[test]
fn what_is_kept_is_bounded_and_who_would_lack_something_is_lost() {
    let limits = Limits {
        link_kept_bytes: 64 << 10,
        ..Limits::default()
    };
    let (mut a, mut b) = (Node::new(identity("a", 1), limits), Node::named("b"));
    b.dial("a", &a.listen());
    let link = a.linked("b");
    b.linked("a");
    for _ in 0..9 {
        a.push(link, Priority::Usual, &[0; 8 << 10]);
    }
    a.flush(link);
    a.wait("its end", |of| of.lost() == ["full"]);
    assert!(a.count("link_full") > 0);
    // It comes back with another link, and the other end hears that the first is over.
    a.wait("the next link", |of| {
        of.link("b").is_some_and(|of| of != link)
    });
    b.wait("the end of the first", |of| of.lost() == ["unknown-link"]);
    let old = link;
    a.push(old, Priority::Usual, b"nobody's");
    a.flush(old);
    a.wait("the count", |of| of.count("link_gone") > 0);
}

#[test]
fn while_nothing_is_handled_nothing_is_read_and_nobody_is_lost() {
    let limits = Limits {
        inbound_total_bytes: 1 << 20,
        link_silence_ms: 1_000,
        link_ping_ms: 100,
        ..Limits::default()
    };
    let (mut a, mut b) = (
        Node::new(identity("a", 1), limits.clone()),
        Node::new(identity("b", 1), limits),
    );
    b.dial("a", &a.listen());
    let link = b.linked("a");
    a.linked("b");
    for number in 0..4_000u32 {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(1_000, 0);
        b.push(link, Priority::Usual, &body);
    }
    b.flush(link);
    let stuck = |a: &Node| a.count("paused_total") > 0;
    let began = std::time::Instant::now();
    b.wait("the budget's end", |_| stuck(&a));
    b.wait("twice the silence", |_| began.elapsed().as_millis() > 2_000);
    assert!(a.count("unhandled_bytes") < 2 << 20, "not read");
    assert!(b.lost().is_empty());
    assert_eq!(a.count("link_silences") + b.count("link_silences"), 0);
}

#[test]
fn who_is_hung_up_on_is_dialled_no_more() {
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    b.dial("a", &a.listen());
    b.linked("a");
    a.linked("b");
    let dials = b.count("link_dials");
    b.engine.hang_up("a");
    b.wait("its end", |of| of.lost() == ["hung-up"]);
    a.wait("the silence", |of| of.lost() == ["silence"]);
    assert_eq!(b.count("link_dials"), dials);
    b.wait("the report", |of| of.engine.links().is_empty());
}

#[test]
fn who_is_dialled_again_is_linked_as_before_and_elsewhere_anew() {
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    let (here, there) = (a.listen(), a.listen());
    b.dial("a", &here);
    let link = b.linked("a");
    b.dial("a", &here);
    b.dial("a", &there);
    b.wait("another link", |of| {
        of.link("a").is_some_and(|of| of != link)
    });
    assert_eq!(b.lost(), ["hung-up"], "once");
    a.linked("b");
}

#[test]
fn who_is_not_there_yet_is_linked_soon_after_it_comes() {
    let mut b = Node::named("b");
    let place = Node::named("nobody").listen();
    b.dial("a", &place);
    b.wait("some attempts", |of| of.count("link_dial_failures") > 2);
    b.wait("a report", |of| {
        of.engine.links().iter().any(|of| of.dials > 2)
    });
    let [report] = &b.engine.links()[..] else {
        panic!("{:?}", b.engine.links());
    };
    assert!(!report.connected && report.generation == 0, "{report:?}");
    let a = Node::named("a");
    a.engine
        .listen(&format!("tcp://{place}?protocol=link"))
        .unwrap();
    b.linked("a");
}

#[test]
fn links_count_as_connections_and_not_as_sessions_and_keep_no_drain_waiting() {
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    b.dial("a", &a.listen());
    a.linked("b");
    b.linked("a");
    for node in [&a, &b] {
        let [connections, handshakes, sessions, _] = node.engine.shared.gate.counts();
        assert_eq!((connections, handshakes, sessions), (1, 0, 0));
    }
    a.engine.drain("shutdown");
    a.wait("the drain's end", |of| {
        of.events.iter().any(|of| of.event == Event::Drained)
    });
    assert!(a.lost().is_empty(), "what is under way may still be sent");
    a.engine.shut_down();
    assert_eq!(a.engine.shared.gate.counts()[0], 0);
}

#[test]
fn what_could_not_be_safe_is_refused() {
    let engine = Engine::sockets(1, Limits::default()).unwrap();
    let error = |result: Result<String, _>| -> String {
        match result {
            Ok(url) => panic!("{url} was taken"),
            Err(error) => photinus_engine::engine::EngineError::to_string(&error),
        }
    };
    let listen = |url: &str| error(engine.listen(url));
    let dial = |url: &str| error(engine.dial("b", url).map(|()| url.to_owned()));
    assert!(listen(LISTEN).contains("has not joined"));
    assert!(dial("tcp://127.0.0.1:1").contains("has not joined"));
    let bare = Identity {
        secret: Vec::new(),
        ..identity("a", 1)
    };
    let nameless = Identity {
        node: String::new(),
        ..bare.clone()
    };
    assert!(engine.join(nameless).is_err());
    engine.join(bare).unwrap();
    assert!(engine.join(identity("a", 2)).is_err(), "once");
    assert!(listen("tcp://0.0.0.0:0?protocol=link").contains("plain=1"));
    assert!(listen("tcp://0.0.0.0:0?protocol=link&plain=1").contains("secret"));
    assert!(listen("tls://127.0.0.1:0?protocol=link").contains("client_ca"));
    assert!(dial("tcp://192.0.2.1:7").contains("tls://"));
    assert!(dial("tcp://192.0.2.1:7?plain=1").contains("secret"));
    assert!(dial("tls://192.0.2.1:7").contains("client_ca"));
    assert!(error(
        engine
            .dial("a", "tcp://127.0.0.1:7")
            .map(|()| String::new())
    )
    .contains("this one"));
    engine.listen(LISTEN).unwrap();
}
