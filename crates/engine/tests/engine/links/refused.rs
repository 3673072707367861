//! Nodes that get no link, or lose it for what they say; each is told why, and counted.

use crate::nodes::{identity, Node};
use crate::peer::Peer;
use photinus_engine::inbox::Event;
use photinus_engine::limits::Limits;
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::link::hello::{Dialled, Identity};
use photinus_proto::link::{Link, LinkLimits, Step};
use std::io::{Read, Write};
use std::net::TcpStream;

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
        b.wait("the count", |of| of.count("link_dial_failures") > 0);
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

#[test]
fn who_resumes_what_is_not_known_is_told() {
    let mut a = Node::named("a");
    let mut peer = Peer::new(&a.listen());
    peer.prove([0; 4], true);
    let step = peer.step();
    assert!(matches!(step, Dialled::Refused { .. }), "{step:?}");
    a.wait_for_error("link-unknown-link");
    assert!(a.events.is_empty());
}

#[test]
fn who_says_in_its_hello_that_it_has_what_was_never_sent_has_no_link() {
    let mut a = Node::named("a");
    Peer::new(&a.listen()).prove([0, 1, 0, 0], false);
    a.wait_for_error("bad-frame");
    assert!(a.events.is_empty());
}

#[test]
fn who_acknowledges_what_was_never_sent_is_lost() {
    let mut a = Node::named("a");
    let mut peer = Peer::new(&a.listen());
    peer.prove([0; 4], false);
    let step = peer.step();
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
    peer.stream.write_all(link.poll_write(1000)).unwrap();
    a.wait("its end", |of| of.lost() == ["bad-frame"]);
    assert_eq!(a.errors("bad-frame"), 1);
}
