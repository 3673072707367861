//! The golden vectors of tests/wire/bluenet.json, which the reference in Python reads as well.

mod harness;

use harness::bluenet::vectors;
use harness::{hex, unhex};
use photinus_proto::bluenet::header::{Flags, Header, Kind, Priority};
use photinus_proto::error::WireError;
use photinus_proto::link::hello::{
    Accepted, Accepting, By, Dialled, Dialling, Identity, Nonce, Reason, Roles,
};
use photinus_proto::link::{Link, LinkLimits, Step, Verdict, LANES};
use serde_json::{json, Value};
use std::sync::Arc;

const KINDS: [&str; 8] = [
    "session", "sessions", "group", "space", "service", "app", "node", "control",
];
const PRIORITIES: [&str; 4] = ["bulk", "usual", "high", "control"];
const FLAGS: [(&str, Flags); 5] = [
    ("compressed", Flags::COMPRESSED),
    ("droppable", Flags::DROPPABLE),
    ("traced", Flags::TRACED),
    ("request", Flags::REQUEST),
    ("secret", Flags::SECRET),
];

fn shown(header: &Header) -> Value {
    json!({
        "kind": KINDS[header.kind as usize],
        "hops": header.hops,
        "priority": PRIORITIES[header.priority as usize],
        "ext": header.ext,
        "flags": FLAGS.iter().filter(|(_, flag)| header.flags.has(*flag)).map(|(name, _)| name).collect::<Vec<_>>(),
        "destination": header.destination,
        "source": header.source,
    })
}

fn header(value: &Value) -> Header {
    let place = |names: &[&str], value: &Value| names.iter().position(|name| value == name);
    let named = |name: &Value| FLAGS.iter().find(|(flag, _)| name == flag).unwrap().1;
    let handle = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let flags = value["flags"].as_array().unwrap();
    Header {
        kind: Kind::ALL[place(&KINDS, &value["kind"]).unwrap()],
        hops: value["hops"].as_u64().unwrap() as u8,
        priority: Priority::ALL[place(&PRIORITIES, &value["priority"]).unwrap()],
        ext: value["ext"].as_bool().unwrap(),
        flags: flags.iter().map(named).fold(Flags::NONE, Flags::with),
        destination: handle(&value["destination"]),
        source: handle(&value["source"]),
    }
}

fn counts(value: &Value) -> [u32; LANES] {
    let counts: Vec<u32> = serde_json::from_value(value.clone()).unwrap();
    counts.try_into().unwrap()
}

fn reason(error: Option<WireError>) -> Value {
    error.map_or(Value::Null, |error| json!(error.reason()))
}

#[test]
fn headers() {
    for vector in vectors("headers", 20) {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        let decoded = Header::decode(&bytes);
        assert_eq!(reason(decoded.err()), vector["error"], "{vector}");
        if let Ok(decoded) = decoded {
            assert_eq!(shown(&decoded), vector["header"], "{vector}");
            assert_eq!(
                hex(&header(&vector["header"]).encode()),
                vector["hex"],
                "{vector}"
            );
        }
    }
}

/// An end that is connected, and has written so many frames of 13 bytes to each lane.
fn end(max_frame: usize, sent: [u32; LANES]) -> Link {
    let limits = LinkLimits {
        max_frame,
        ..LinkLimits::default()
    };
    let mut link = Link::new(limits, 0);
    link.handle_connected([0; LANES], 0).unwrap();
    for (priority, count) in Priority::ALL.into_iter().zip(sent) {
        for _ in 0..count {
            let header = Header::new(Kind::Session, priority, 1, 2);
            link.push(header, &[]).unwrap();
        }
    }
    written(&mut link);
    link
}

fn written(link: &mut Link) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let bytes = link.poll_write(0);
        let count = bytes.len();
        out.extend(bytes);
        link.handle_written(count);
        if count == 0 {
            return out;
        }
    }
}

#[test]
fn frames() {
    for vector in vectors("frames", 30) {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        for size in [1, 3, bytes.len()] {
            read(&vector, &bytes, size);
        }
        if !vector.as_object().unwrap().contains_key("written") {
            write(&vector);
        }
    }
}

fn read(vector: &Value, bytes: &[u8], size: usize) {
    let max_frame = vector["max_frame"].as_u64().unwrap() as usize;
    let sent = counts(&vector["sent"]);
    let mut link = end(max_frame, sent);
    let expected = vector["events"].as_array().unwrap();
    let mut received = [0; LANES];
    let mut error = None;
    let (mut start, mut come, mut events) = (0, 0, 0);
    'bytes: while come < bytes.len() {
        come = bytes.len().min(come + size);
        loop {
            let consumed = match link.handle_bytes(&bytes[start..come], 0) {
                Ok(Step::Incomplete { need }) => {
                    assert!(start + need > come);
                    break;
                }
                Ok(Step::Own { consumed }) => {
                    received = counts(&expected[events]["received"]);
                    consumed
                }
                Ok(Step::Frame {
                    consumed,
                    header,
                    payload,
                }) => {
                    let payload = hex(&bytes[start..come][payload]);
                    let event =
                        json!({"event": "frame", "header": shown(&header), "payload": payload});
                    assert_eq!(event, expected[events], "{vector}");
                    consumed
                }
                Err(of) => {
                    error = Some(of);
                    break 'bytes;
                }
            };
            (start, events) = (start + consumed, events + 1);
        }
    }
    assert_eq!(events, expected.len(), "{vector}");
    assert_eq!(reason(error), vector["error"], "{vector}");
    if error.is_none() {
        assert_eq!(
            bytes.len() - start,
            vector["left"].as_u64().unwrap() as usize
        );
        assert_eq!(hex(&written(&mut link)), vector["reply"], "{vector}");
        let kept: u32 = sent.iter().sum::<u32>() - received.iter().sum::<u32>();
        assert_eq!(link.kept(), 13 * kept as usize, "{vector}");
    }
}

fn write(vector: &Value) {
    let mut link = end(vector["max_frame"].as_u64().unwrap() as usize, [0; LANES]);
    for event in vector["events"].as_array().unwrap() {
        let payload = unhex(event["payload"].as_str().unwrap());
        link.push(header(&event["header"]), &[&payload]).unwrap();
    }
    assert_eq!(hex(&written(&mut link)), vector["hex"], "{vector}");
}

#[test]
fn said() {
    for vector in vectors("said", 3) {
        let event = &vector["event"];
        let ack = event["event"] == "ack";
        let limits = LinkLimits {
            ack_bytes: if ack { 1 } else { usize::MAX },
            ..LinkLimits::default()
        };
        let mut link = Link::new(limits, 0);
        link.handle_connected([0; LANES], 0).unwrap();
        for (priority, count) in Priority::ALL.into_iter().zip(counts(&event["received"])) {
            let header = Header::new(Kind::Session, priority, 1, 2).encode();
            for _ in 0..count {
                let frame = [&[0, 0, header.len() as u8][..], &header].concat();
                link.handle_bytes(&frame, 0).unwrap();
            }
        }
        if !ack {
            link.set_clock_us(event["stamp"].as_u64().unwrap());
            assert_eq!(link.handle_timeout(0), Verdict::Fine);
        }
        assert_eq!(hex(&written(&mut link)), vector["hex"], "{vector}");
    }
}

fn identity(node: &Value, secret: &Value) -> (Arc<Identity>, Nonce) {
    let roles = node["roles"].as_array().unwrap().iter();
    let bits = roles.map(|role| match role.as_str().unwrap() {
        "proxy" => Roles::PROXY.bits(),
        "world" => Roles::WORLD.bits(),
        other => panic!("{other}"),
    });
    let identity = Identity {
        cluster: node["cluster"].as_str().unwrap().to_owned(),
        node: node["node"].as_str().unwrap().to_owned(),
        generation: node["generation"].as_u64().unwrap(),
        roles: Roles::from_bits(bits.sum()).unwrap(),
        schema: node["schema"].as_u64().unwrap(),
        secret: unhex(secret.as_str().unwrap()),
    };
    let nonce = unhex(node["nonce"].as_str().unwrap());
    (Arc::new(identity), nonce.try_into().unwrap())
}

#[test]
fn hellos() {
    for vector in vectors("hellos", 6) {
        let (dialler, nonce) = identity(&vector["dialler"], &vector["secret"]);
        let link = vector["link"].as_u64().unwrap();
        let mut hello = Vec::new();
        let mut dialling = Dialling::new(dialler.clone(), link, nonce, &mut hello);
        let (acceptor, nonce) = identity(&vector["acceptor"], &vector["secret"]);
        let mut accepting = Accepting::new(acceptor.clone(), nonce);
        let has = [
            &vector["received"]["dialler"],
            &vector["received"]["acceptor"],
        ]
        .map(counts);
        let resumes = vector["resumes"].as_bool().unwrap();
        let resumed = vector["resumed"].as_bool().unwrap();

        let [mut answer, mut proof, mut welcome, mut nothing] = [const { Vec::new() }; 4];
        let heard = accepting.handle_bytes(&hello, &mut answer);
        let consumed = hello.len();
        assert_eq!(heard, Ok(Accepted::Answered { consumed }), "{vector}");
        let Ok(Dialled::Proved { peer, .. }) = dialling.handle_bytes(&answer, &mut proof) else {
            panic!("{vector}");
        };
        assert_eq!(
            (&peer.node, peer.generation),
            (&acceptor.node, acceptor.generation)
        );
        assert_eq!((peer.roles, peer.schema), (acceptor.roles, acceptor.schema));
        dialling.prove(has[0], resumes, &mut proof);
        let Ok(Accepted::Proved {
            peer,
            received,
            resumes: said,
            ..
        }) = accepting.handle_bytes(&proof, &mut welcome)
        else {
            panic!("{vector}");
        };
        assert_eq!(
            (&peer.node, peer.generation),
            (&dialler.node, dialler.generation)
        );
        assert_eq!(
            (peer.roles, peer.schema, peer.link),
            (dialler.roles, dialler.schema, link)
        );
        assert_eq!((received, said), (has[0], resumes));
        accepting.welcome(has[1], resumed, &mut welcome);
        let heard = dialling.handle_bytes(&welcome, &mut nothing);
        let consumed = welcome.len();
        assert_eq!(
            heard,
            Ok(Dialled::Welcome {
                consumed,
                received: has[1],
                resumed
            })
        );
        let messages = [hello, answer, proof, welcome].map(|message| json!(hex(&message)));
        assert_eq!(
            &messages[..],
            vector["messages"].as_array().unwrap(),
            "{vector}"
        );
    }
}

#[test]
fn greetings() {
    for vector in vectors("greetings", 20) {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        for size in [1, bytes.len().max(1)] {
            let (acceptor, nonce) = identity(&vector["acceptor"], &vector["secret"]);
            let mut accepting = Accepting::new(acceptor, nonce);
            let mut reply = Vec::new();
            let mut refused: Option<Reason> = None;
            let mut error = None;
            let mut come = 0;
            while come < bytes.len() {
                come = bytes.len().min(come + size);
                match accepting.handle_bytes(&bytes[..come], &mut reply) {
                    Ok(Accepted::Incomplete { need }) => assert!(need > come),
                    Ok(Accepted::Refused { reason, by, .. }) => {
                        assert_eq!(by == By::Peer, reply.is_empty());
                        refused = Some(reason);
                    }
                    Ok(step) => assert!(matches!(step, Accepted::Answered { .. })),
                    Err(of) => {
                        error = Some(of);
                        break;
                    }
                }
            }
            assert_eq!(hex(&reply), vector["reply"], "{vector}");
            assert_eq!(
                json!(refused.map(|reason| reason.word())),
                vector["refused"],
                "{vector}"
            );
            assert_eq!(reason(error), vector["error"], "{vector}");
        }
    }
}
