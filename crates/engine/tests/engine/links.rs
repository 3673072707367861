//! Links between engines, over sockets.

use crate::nodes::{identity, place, Node, LISTEN};
use crate::relay::Relay;
use photinus_engine::engine::Engine;
use photinus_engine::inbox::Event;
use photinus_engine::layers::Certificates;
use photinus_engine::limits::Limits;
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::link::hello::{Dialled, Dialling, Identity, Roles};
use photinus_proto::link::{Link, LinkLimits, Step};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

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

/// PEM of an authority's certificate, and of one that it has signed for this host with its key.
fn certificates(host: &str) -> [String; 3] {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    let own = params.signed_by(&key, &issuer).unwrap();
    [authority.pem(), own.pem(), key.serialize_pem()]
}

fn show([authority, own, key]: &[String; 3], node: &Node) {
    node.engine
        .set_certificates(&Certificates {
            chain: own.as_bytes(),
            key: key.as_bytes(),
            clients: None,
            nodes: Some(authority.as_bytes()),
        })
        .unwrap();
}

fn listen_with_tls(node: &Node) -> String {
    place(
        &node
            .engine
            .listen("tls://127.0.0.1:0?protocol=link")
            .unwrap(),
    )
}

#[test]
fn over_tls_both_show_what_the_same_authority_has_signed() {
    let signed = certificates("127.0.0.1");
    let (mut a, mut b) = (Node::named("a"), Node::named("b"));
    for node in [&a, &b] {
        show(&signed, node);
    }
    let relay = Relay::to(&listen_with_tls(&a));
    b.engine
        .dial("a", &format!("tls://{}", relay.place))
        .unwrap();
    let (to_b, to_a) = (a.linked("b"), b.linked("a"));
    let all: Vec<u32> = (0..400).collect();
    for number in &all {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(10 * *number as usize + 4, b'.');
        a.push(to_b, Priority::Usual, &body);
        b.push(to_a, Priority::Bulk, &body);
        if number % 100 == 0 {
            a.flush(to_b);
            b.flush(to_a);
            let cuts = b.count("link_cuts");
            b.wait("a connection", |of| of.engine.links()[0].connected);
            relay.cut();
            b.wait("the cut", |of| of.count("link_cuts") > cuts);
        }
    }
    a.flush(to_b);
    b.flush(to_a);
    a.wait("all frames", |of| of.frames.len() >= 400);
    b.wait("all frames", |of| of.frames.len() >= 400);
    assert_eq!(a.numbers(Priority::Bulk), all);
    assert_eq!(b.numbers(Priority::Usual), all);
    assert!(a.lost().is_empty() && a.count("tls_handshakes") > 1);
}

#[test]
fn who_shows_another_authoritys_certificate_or_another_hosts_is_refused() {
    let ours = certificates("127.0.0.1");
    for (theirs, errors) in [
        (certificates("127.0.0.1"), ["bad-tls", "bad-tls"]),
        (certificates("b.example"), ["bad-tls", "bad-tls"]),
    ] {
        let (mut a, mut b) = (Node::named("a"), Node::named("b"));
        show(&ours, &a);
        show(&theirs, &b);
        let listens = listen_with_tls(&a);
        b.engine.dial("a", &format!("tls://{listens}")).unwrap();
        b.wait_for_error(errors[0]);
        a.wait_for_error(errors[1]);
        assert!(a.link("b").is_none() && b.link("a").is_none());
    }
    // The right authority, and a name that is not the one that was dialled.
    let (a, mut b) = (Node::named("a"), Node::named("b"));
    let elsewhere = certificates("a.example");
    show(&elsewhere, &a);
    show(&elsewhere, &b);
    let listens = listen_with_tls(&a);
    b.engine.dial("a", &format!("tls://{listens}")).unwrap();
    b.wait_for_error("bad-tls");
    assert!(b.count("link_dial_failures") > 0);
}

#[test]
fn who_shows_no_certificate_is_refused() {
    let mut a = Node::named("a");
    show(&certificates("127.0.0.1"), &a);
    let mut stream = TcpStream::connect(listen_with_tls(&a)).unwrap();
    stream.write_all(b"\0\x20\x01PHLK\0\x01").unwrap();
    a.wait_for_error("bad-tls");
}

#[test]
fn nodes_that_do_not_belong_together_say_why() {
    let of = |change: fn(&mut Identity)| {
        let mut identity = identity("b", 1);
        change(&mut identity);
        identity
    };
    for (theirs, dials, here, there) in [
        (
            of(|of| of.cluster = "another".to_owned()),
            "a",
            "link-cluster",
            "refused-cluster",
        ),
        // The dialler sees first that the other one's proof is wrong.
        (
            of(|of| of.secret = b"guessed".to_vec()),
            "a",
            "refused-secret",
            "link-secret",
        ),
        (
            of(|of| of.node = "a".to_owned()),
            "c",
            "refused-other-node",
            "link-other-node",
        ),
        (of(|_| {}), "c", "refused-other-node", "link-other-node"),
    ] {
        let mut a = Node::named("a");
        let mut b = Node::new(theirs, Limits::default());
        b.dial(dials, &a.listen());
        a.wait_for_error(here);
        b.wait_for_error(there);
        assert!(a.events.is_empty() && b.events.is_empty());
        assert!(b.count("link_dial_failures") > 0);
    }
}

#[test]
fn of_two_nodes_with_one_name_the_newer_one_counts() {
    let mut a = Node::named("a");
    let mut older = Node::new(identity("b", 5), Limits::default());
    let mut newer = Node::new(identity("b", 6), Limits::default());
    let place = a.listen();
    older.dial("a", &place);
    let first = a.linked("b");
    newer.dial("a", &place);
    newer.linked("a");
    a.wait("the newer one", |of| {
        of.link("b").is_some_and(|link| link != first)
    });
    assert_eq!(a.lost(), ["restarted"]);
    // It is thrown out, asks again, and is told.
    a.wait_for_error("link-generation");
    older.wait_for_error("refused-generation");
    let up = a
        .events
        .iter()
        .rfind(|of| of.event == Event::LinkUp)
        .unwrap();
    assert_eq!(up.body, b"b 6");
}

#[test]
fn of_two_nodes_with_one_name_and_generation_the_second_is_refused() {
    let mut a = Node::named("a");
    let first = Node::named("b");
    let twin = Identity {
        schema: 1,
        ..identity("b", 1)
    };
    let mut second = Node::new(twin, Limits::default());
    let place = a.listen();
    first.dial("a", &place);
    a.linked("b");
    second.dial("a", &place);
    a.wait_for_error("link-same-node");
    second.wait_for_error("refused-same-node");
    assert!(a.lost().is_empty());
}

#[test]
fn half_a_hello_is_waited_for_until_its_time_is_up() {
    let limits = Limits {
        handshake_ms: 100,
        ..Limits::default()
    };
    let mut a = Node::new(identity("a", 1), limits);
    let mut stream = TcpStream::connect(a.listen()).unwrap();
    stream.write_all(b"\0\x20\x01PHLK").unwrap();
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
    a.wait("its end", |of| of.count("closed_handshake_timeout") == 1);
}

#[test]
fn what_is_no_hello_ends_its_connection() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "too-long"),
        (b"\0\x20\x02PHLK", "bad-handshake"),
        (b"\0\x08\x01HTTPxxx", "bad-magic"),
        (b"\0\x0a\x01PHLK\0\x07???", "link-version"),
    ] {
        let mut a = Node::named("a");
        let mut stream = TcpStream::connect(a.listen()).unwrap();
        stream.write_all(bytes).unwrap();
        a.wait_for_error(reason);
    }
}

/// A node of the cluster that says what it likes.
struct Liar {
    stream: TcpStream,
    hello: Dialling,
    got: Vec<u8>,
}

impl Liar {
    fn new(place: &str) -> Liar {
        let mut stream = TcpStream::connect(place).unwrap();
        let mut out = Vec::new();
        let hello = Dialling::new(Arc::new(identity("b", 1)), 77, [7; 16], &mut out);
        stream.write_all(&out).unwrap();
        let mut liar = Liar {
            stream,
            hello,
            got: Vec::new(),
        };
        let answer = liar.step();
        assert!(matches!(answer, Dialled::Proved { .. }), "{answer:?}");
        liar
    }

    fn prove(&mut self, received: [u32; 4], resumes: bool) {
        let mut out = Vec::new();
        self.hello.prove(received, resumes, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    fn step(&mut self) -> Dialled {
        loop {
            let step = self.hello.handle_bytes(&self.got, &mut Vec::new()).unwrap();
            let Dialled::Incomplete { .. } = step else {
                self.got.clear();
                return step;
            };
            let mut bytes = [0; 1024];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "closed");
            self.got.extend(&bytes[..count]);
        }
    }
}

#[test]
fn who_resumes_what_is_not_known_is_told() {
    let mut a = Node::named("a");
    let mut liar = Liar::new(&a.listen());
    liar.prove([0; 4], true);
    let step = liar.step();
    assert!(matches!(step, Dialled::Refused { .. }), "{step:?}");
    a.wait_for_error("link-unknown-link");
    assert!(a.events.is_empty());
}

#[test]
fn who_says_in_its_hello_that_it_has_what_was_never_sent_has_no_link() {
    let mut a = Node::named("a");
    Liar::new(&a.listen()).prove([0, 1, 0, 0], false);
    a.wait_for_error("bad-frame");
    assert!(a.events.is_empty());
}

#[test]
fn who_acknowledges_what_was_never_sent_is_lost() {
    let mut a = Node::named("a");
    let mut liar = Liar::new(&a.listen());
    liar.prove([0; 4], false);
    let step = liar.step();
    assert!(matches!(step, Dialled::Welcome { .. }), "{step:?}");
    a.linked("b");
    // It has heard of a frame from somebody else, and says so with its first ping.
    let mut other = Link::new(LinkLimits::default(), 0);
    other.handle_connected([0; 4], 0).unwrap();
    other
        .push(Header::new(Kind::Node, Priority::Bulk, 1, 1), &[b"x"])
        .unwrap();
    let frame = other.poll_write(0).to_vec();
    let mut link = Link::new(LinkLimits::default(), 0);
    link.handle_connected([0; 4], 0).unwrap();
    let step = link.handle_bytes(&frame, 0);
    assert!(matches!(step, Ok(Step::Frame { .. })), "{step:?}");
    link.handle_timeout(1000);
    liar.stream.write_all(link.poll_write(1000)).unwrap();
    a.wait("its end", |of| of.lost() == ["bad-frame"]);
    assert_eq!(a.errors("bad-frame"), 1);
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
        link_silence_ms: 200,
        link_ping_ms: 30,
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
    // Only now and then the application over there takes something.
    a.engine.shared.inbox.take(&mut Default::default());
    let stuck = |a: &Node| a.count("paused_total") > 0;
    let began = std::time::Instant::now();
    b.wait("the budget's end", |_| stuck(&a));
    b.wait("five times the silence", |_| {
        began.elapsed().as_millis() > 1_000
    });
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
    assert!(b.engine.links().is_empty());
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
    let [report] = &b.engine.links()[..] else {
        panic!("{:?}", b.engine.links());
    };
    assert!(!report.connected && report.dials > 2 && report.generation == 0);
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
