//! The photinus codec against tests/wire/reference.py, which was written apart from it (see reference.rs).

mod harness;

use harness::reference::{agree, bodies, check, ids, routes, Reference};
use harness::{encode, hex, listener, unhex};
use proptest::prelude::*;
use serde_json::{json, Value};

/// Routes that every client here has named.
const NAMED: u32 = 3;

fn listeners() -> impl Strategy<Value = Value> {
    let options = (
        0..100u32,
        prop::sample::select(vec!["json", "msgpack"]),
        prop::sample::select(vec!["", "zlib", "snappy", "snappy,zlib"]),
    );
    let limit = prop_oneof![Just(65536usize), 0..300usize];
    (options, limit).prop_map(|((heartbeat, format, compress), limit)| {
        let mut options = json!({"heartbeat": heartbeat.to_string(), "format": format});
        if !compress.is_empty() {
            options["compress"] = json!(compress);
        }
        json!({"protocol": "photinus", "options": options, "max_payload": limit})
    })
}

fn hellos() -> impl Strategy<Value = Value> {
    let offered = prop::collection::vec(0..5u8, 0..4);
    let token = prop::option::of((any::<[u8; 20]>(), any::<u32>()));
    ("[a-z]{0,64}", offered, token).prop_map(|(client, compression, token)| {
        let mut hello = json!({"kind": "hello", "client": client, "compression": compression});
        if let Some((token, received)) = token {
            hello["token"] = json!(hex(&token));
            hello["received"] = json!(received);
        }
        hello
    })
}

fn clocks() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(bits, shift)| bits >> shift)
}

fn heartbeats() -> impl Strategy<Value = Value> {
    (ids(), clocks(), clocks(), clocks()).prop_map(|(received, clock, echo, held)| {
        json!({"kind": "heartbeat", "received": received, "clock": clock, "echo": echo, "held": held})
    })
}

/// What a client says that is welcome; it compresses what it may.
fn said(compressed: bool) -> impl Strategy<Value = Value> {
    let compressed = (any::<bool>(), Just(compressed)).prop_map(|(does, may)| does && may);
    let message = (compressed, any::<bool>(), ids(), 0..NAMED, bodies());
    let message = message.prop_flat_map(|(compressed, droppable, id, index, body)| {
        let notify = json!({"kind": "notify", "index": index, "body": body,
            "compressed": compressed, "droppable": droppable});
        let request = json!({"kind": "request", "id": id, "index": index, "body": body,
            "compressed": compressed});
        prop::sample::select(vec![notify, request])
    });
    let route = routes().prop_filter("a name", |name| !name.is_empty());
    prop_oneof![
        6 => message,
        1 => route.prop_map(|name| json!({"kind": "route", "name": name})),
        1 => heartbeats(),
        1 => Just(json!({"kind": "leave"})),
    ]
}

fn conversations() -> impl Strategy<Value = (Value, Vec<Value>)> {
    (listeners(), hellos()).prop_flat_map(|(listener, hello)| {
        let has = |name, number| {
            let ours = listener["options"]["compress"].as_str().unwrap_or("");
            let offered = hello["compression"].as_array().unwrap();
            ours.contains(name) && offered.contains(&json!(number))
        };
        let compresses = has("zlib", 1) || has("snappy", 2);
        let mut opening = vec![hello.clone()];
        opening.extend((0..NAMED).map(|n| json!({"kind": "route", "name": format!("route {n}")})));
        let whole = prop::collection::vec(said(compresses), 0..6)
            .prop_map(move |said| [opening.clone(), said].concat());
        (Just(listener.clone()), whole)
    })
}

fn stream(reference: &mut Reference, listener: &Value, said: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in said {
        let frame = reference.encode(listener, message);
        bytes.extend(unhex(frame["hex"].as_str().unwrap()));
    }
    bytes
}

#[test]
fn what_clients_write_is_read() {
    check(192, &conversations(), |reference, (told, said)| {
        let input = stream(reference, &told, &said);
        let outcome = agree(reference, &told, &input);
        match outcome.error {
            None => assert_eq!((outcome.left, outcome.events.len()), (0, said.len())),
            Some(error) => assert_eq!(error, "too-long"),
        }
    });
}

#[test]
fn of_what_is_malformed_both_say_the_same() {
    let harm = prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..4);
    let cases = (conversations(), harm);
    check(768, &cases, |reference, ((told, said), harm)| {
        let mut input = stream(reference, &told, &said);
        for (at, how, byte) in harm {
            let at = at.index(input.len() + 1);
            match how {
                0 => input.truncate(at),
                1 => input.insert(at, byte),
                _ if at == input.len() => input.push(byte),
                2 => input[at] = byte,
                _ => input[at] ^= 1 << (byte % 8),
            }
        }
        agree(reference, &told, &input);
    });
}

#[test]
fn of_hellos_both_say_the_same() {
    // Tags that there are, values that are nearly right.
    let value = prop_oneof![
        Just(vec![1]),
        Just(vec![0; 4]),
        Just(vec![7; 21]),
        prop::collection::vec(any::<u8>(), 0..24),
    ];
    let field =
        (0..8u8, value).prop_map(|(tag, value)| [vec![tag, value.len() as u8], value].concat());
    let version = prop_oneof![4 => Just(vec![1, 1, 1]), 1 => Just(vec![])];
    let tail = prop::collection::vec(any::<u8>(), 0..3);
    let body = (version, prop::collection::vec(field, 0..4), tail)
        .prop_map(|(version, fields, tail)| [version, fields.concat(), tail].concat());
    check(1024, &(listeners(), body), |reference, (told, body)| {
        let mut input = vec![1];
        let mut length = body.len();
        while length > 127 {
            input.push(length as u8 | 128);
            length >>= 7;
        }
        input.push(length as u8);
        input.extend(body);
        agree(reference, &told, &input);
    });
}

#[test]
fn of_garbage_both_say_the_same() {
    let head = (0..16u8, 0..4u8, 0..70u8);
    let head = head.prop_map(|(kind, flags, length)| vec![kind | flags << 4, length]);
    let frames = prop::collection::vec((head, prop::collection::vec(any::<u8>(), 0..8)), 0..8);
    let cases = (conversations(), frames, any::<bool>());
    check(768, &cases, |reference, ((told, said), frames, opened)| {
        let mut input = match opened {
            true => stream(reference, &told, &said[..1 + NAMED as usize]),
            false => vec![],
        };
        input.extend(
            frames
                .into_iter()
                .flat_map(|(head, tail)| [head, tail].concat()),
        );
        agree(reference, &told, &input);
    });
}

/// With what is heard of it.
fn said_by_server() -> impl Strategy<Value = (Value, Value)> {
    let flags = (any::<bool>(), any::<bool>());
    let message = (flags, ids(), bodies()).prop_flat_map(|((compressed, droppable), id, body)| {
        let mut push =
            json!({"kind": "push", "name": "said", "number": 0, "index": 0, "body": body});
        let mut heard = json!({"event": "push", "route": "said", "body": body});
        if compressed || droppable {
            for event in [&mut push, &mut heard] {
                event["compressed"] = json!(compressed);
                event["droppable"] = json!(droppable);
            }
        }
        let answer = |kind: &str| {
            let mut said = json!({"kind": kind, "id": id, "body": body});
            let mut heard = json!({"event": kind, "id": id, "body": body});
            if compressed {
                said["compressed"] = json!(true);
                heard["compressed"] = json!(true);
                heard["droppable"] = json!(false);
            }
            (said, heard)
        };
        prop::sample::select(vec![(push, heard), answer("response"), answer("error")])
    });
    let heartbeat = (heartbeats(), ids()).prop_map(|(mut said, rate)| {
        said["rate"] = json!(rate);
        let mut heard = said.clone();
        let fields = heard.as_object_mut().unwrap();
        fields.remove("kind");
        fields.insert("event".into(), json!("heartbeat"));
        (said, heard)
    });
    let kick = "[a-z é]{0,60}".prop_map(|reason| {
        let said = json!({"kind": "kick", "body": hex(reason.as_bytes())});
        (said, json!({"event": "kick", "reason": reason}))
    });
    let redirect = "[a-z:/]{0,60}".prop_map(|url| {
        let said = json!({"kind": "redirect", "body": hex(url.as_bytes())});
        (said, json!({"event": "redirect", "url": url}))
    });
    prop_oneof![4 => message, 1 => heartbeat, 1 => kick, 1 => redirect]
}

#[test]
fn what_the_server_writes_is_read() {
    let told =
        json!({"protocol": "photinus", "options": {"compress": "zlib"}, "max_payload": 65536});
    let welcome = json!({"kind": "welcome", "status": 0, "clock": 1, "hello": "0106010101030101"});
    let opening = [welcome, json!({"kind": "route", "name": "said"})];
    check(768, &said_by_server(), move |reference, (said, heard)| {
        let frame = encode(&listener(&told), &said).unwrap();
        assert_eq!(reference.encode(&told, &said), json!({"hex": hex(&frame)}));
        let mut input = stream(reference, &told, &opening);
        input.extend(&frame);
        let read = reference.decode(&told, "client", &input);
        assert_eq!((&read["error"], &read["left"]), (&Value::Null, &json!(0)));
        assert_eq!(read["events"][2], heard);
    });
}

#[test]
fn welcomes_are_read() {
    let resume = prop::option::of((any::<[u8; 20]>(), any::<u32>()));
    let cases = (
        listeners(),
        0..3u8,
        clocks(),
        any::<u32>(),
        resume,
        ids(),
        ids(),
    );
    check(
        512,
        &cases,
        |reference, (told, status, clock, rate, resume, received, next)| {
            let mut said = json!({"kind": "welcome", "status": status, "clock": clock, "rate": rate,
            "hello": "010801010103030301 02".replace(' ', "")});
            if let Some((token, window)) = resume {
                said["token"] = json!(hex(&token));
                said["window"] = json!(window);
            }
            if status > 0 {
                said["received"] = json!(received);
            }
            if status > 1 {
                said["next"] = json!(next);
            }
            let frame = encode(&listener(&told), &said).unwrap();
            assert_eq!(reference.encode(&told, &said), json!({"hex": hex(&frame)}));
            let read = reference.decode(&told, "client", &frame);
            assert_eq!(read["error"], Value::Null);
            for name in [
                "status", "clock", "rate", "token", "window", "received", "next",
            ] {
                assert_eq!(read["events"][0][name], said[name], "{name}");
            }
        },
    );
}
