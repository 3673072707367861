//! Links over TLS, which both ends show certificates for.

use crate::nodes::{place, Node};
use crate::relay::Relay;
use photinus_engine::layers::Certificates;
use photinus_proto::bluenet::header::Priority;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::io::Write;
use std::net::TcpStream;

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
            b.wait("a connection", |of| {
                let reports = of.engine.links();
                reports[0].connected && reports[0].cuts == cuts
            });
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
    b.wait("the count", |of| of.count("link_dial_failures") > 0);
}

#[test]
fn who_shows_no_certificate_is_refused() {
    let mut a = Node::named("a");
    show(&certificates("127.0.0.1"), &a);
    let mut stream = TcpStream::connect(listen_with_tls(&a)).unwrap();
    stream.write_all(b"\0\x20\x01PHLK\0\x01").unwrap();
    a.wait_for_error("bad-tls");
}
