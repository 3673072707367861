//! The codecs against tests/wire/reference.py, an independent one in Python: what either writes the
//! other reads, and of what is malformed both say the same.

mod harness;

use harness::reference::{agree, bodies, check, ids as numbers, routes, Reference};
use harness::{decode, encode, hex, listener, unhex, Calls};
use proptest::prelude::*;
use serde_json::{json, Value};

fn listeners() -> impl Strategy<Value = Value> {
    let limit = prop_oneof![Just(65536usize), 0..300usize];
    let length = (
        prop::sample::select(vec!["1", "2", "4"]),
        prop::sample::select(vec!["big", "little"]),
        prop::sample::select(vec!["0", "1"]),
    )
        .prop_map(|(size, order, counts)| {
            (
                "length",
                json!({"size": size, "order": order, "counts_itself": counts}),
            )
        });
    let preset = prop::sample::select(vec!["length2", "length4", "length", "firefly", "pomelo"])
        .prop_map(|name| (name, json!({})));
    let firefly = (any::<[u8; 5]>(), any::<u32>()).prop_map(|(magic, version)| {
        let options = json!({"magic": hex(&magic), "version": version.to_string()});
        ("firefly", options)
    });
    let format = prop::sample::select(vec!["json", "msgpack"]);
    let pomelo = (0..100u32, format, any::<bool>()).prop_map(|(heartbeat, format, compress)| {
        let mut options = json!({"heartbeat": heartbeat.to_string(), "format": format});
        if compress {
            options["compress"] = json!("zlib");
        }
        ("pomelo", options)
    });
    (prop_oneof![length, preset, firefly, pomelo.clone(), pomelo], limit).prop_map(
        |((protocol, options), limit)| {
            json!({"protocol": protocol, "options": options, "max_payload": limit})
        },
    )
}

/// Pomelo's, of at most 28 bits.
fn ids() -> impl Strategy<Value = u32> {
    numbers().prop_map(|number| number >> 4)
}

/// What a client of this listener may say, after the handshake if there is one.
fn said_by_client(listener: &Value) -> BoxedStrategy<Value> {
    if listener["protocol"] != "pomelo" {
        return (bodies(), numbers())
            .prop_map(|(body, number)| json!({"kind": "message", "number": number, "body": body}))
            .boxed();
    }
    let compresses = !listener["options"]["compress"].is_null();
    let marked = any::<bool>().prop_map(move |compressed| compresses && compressed);
    prop_oneof![
        1 => Just(json!({"kind": "heartbeat"})),
        4 => (ids(), routes(), bodies(), marked.clone()).prop_map(|(id, name, body, compressed)| {
            json!({"kind": "request", "id": id, "name": name, "body": body, "compressed": compressed})
        }),
        4 => (routes(), bodies(), marked).prop_map(|(name, body, compressed)| {
            json!({"kind": "notify", "name": name, "body": body, "compressed": compressed})
        }),
    ]
    .boxed()
}

fn conversations() -> impl Strategy<Value = (Value, Vec<Value>)> {
    listeners().prop_flat_map(|listener| {
        let said = prop::collection::vec(said_by_client(&listener), 0..6);
        (Just(listener), said)
    })
}

/// The bytes of these, as the reference writes them. What the length field cannot count is left out.
fn stream(reference: &mut Reference, listener: &Value, said: &[Value]) -> Vec<u8> {
    let mut opening = Vec::new();
    if listener["protocol"] == "pomelo" {
        let hello = hex(br#"{"sys":{"type":"test","version":"1"},"user":{}}"#);
        opening.push(json!({"kind": "handshake", "body": hello}));
        opening.push(json!({"kind": "ack"}));
    }
    let mut bytes = Vec::new();
    for message in opening.iter().chain(said) {
        if let Some(frame) = reference.encode(listener, message)["hex"].as_str() {
            bytes.extend(unhex(frame));
        }
    }
    bytes
}

#[test]
fn what_clients_write_is_read() {
    check(192, &conversations(), |reference, (told, said)| {
        let input = stream(reference, &told, &said);
        let outcome = agree(reference, &told, &input);
        match outcome.error {
            None => assert_eq!(outcome.left, 0),
            Some(error) => assert_eq!(error, "too-long"),
        }
    });
}

#[test]
fn of_what_is_malformed_both_say_the_same() {
    let harm = prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..4);
    check(
        384,
        &(conversations(), harm),
        |reference, ((told, said), harm)| {
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
        },
    );
}

#[test]
fn of_garbage_both_say_the_same() {
    // Heads that are nearly right, so that more than the first byte is looked at.
    let head = prop_oneof![
        Just(vec![]),
        (0..8u8, 0..70u8).prop_map(|(kind, length)| vec![kind, 0, 0, length]),
        (0..40u8).prop_map(|length| [&[0; 9][..], &[0, 0, 0, length, 0, 0, 0, 1]].concat()),
    ];
    let garbage = (head, prop::collection::vec(any::<u8>(), 0..64));
    let opened = any::<bool>();
    check(
        384,
        &(listeners(), garbage, opened),
        |reference, (told, (head, tail), opened)| {
            let mut input = if opened {
                stream(reference, &told, &[])
            } else {
                vec![]
            };
            input.extend([head, tail].concat());
            agree(reference, &told, &input);
        },
    );
}

#[test]
fn of_data_packages_both_say_the_same() {
    let told = json!({"protocol": "pomelo", "options": {}, "max_payload": 20});
    let flag = prop_oneof![4 => Just(0u8), 4 => Just(2u8), 1 => any::<u8>()];
    let digits = prop::collection::vec(any::<u8>(), 0..7);
    let route = (0..12u8, prop::collection::vec(any::<u8>(), 0..40));
    check(
        768,
        &(flag, digits, route),
        move |reference, (flag, digits, (length, tail))| {
            let mut body = vec![flag];
            body.extend(digits.iter().map(|byte| byte | 0x80));
            if let Some(last) = body.last_mut().filter(|_| flag == 0 && !digits.is_empty()) {
                *last &= 0x7f;
            }
            if flag == 2 {
                body.truncate(1);
            }
            body.push(length);
            body.extend(tail);
            let mut input = stream(reference, &told, &[]);
            input.extend([4, 0, 0, body.len() as u8]);
            input.extend(body);
            agree(reference, &told, &input);
        },
    );
}

#[test]
fn of_handshakes_both_say_the_same() {
    let told = json!({"protocol": "pomelo", "options": {}, "max_payload": 20});
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"\"",
        "\"a\"",
        "\"a\":",
        "\"\\u00e9\"",
        "\"\\x\"",
        "0",
        "-1",
        "01",
        "1.5e3",
        "1.",
        "2E+",
        "true",
        "false",
        "null",
        "NaN",
        "Infinity",
        " ",
        "\n",
        "é",
        "\u{1}",
        "\u{a0}",
        "{}",
        "[]",
        "\"b\":[1,{}]",
        "\"c\":{\"d\":\"\\\\\\\"\"}",
    ]);
    let loose = prop::collection::vec(pieces.clone(), 0..10).prop_map(|parts| parts.concat());
    let nearly = prop::collection::vec(pieces, 0..3)
        .prop_map(|parts| format!("{{\"a\":[1,{{\"b\":[{}]}}]}}", parts.concat()));
    let whole = nested().prop_map(|value| value.to_string());
    let depth = (55..75usize).prop_map(|n| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n)));
    let text = prop_oneof![loose, nearly, whole, depth];
    let harm = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    check(1024, &(text, harm), move |reference, (text, harm)| {
        let mut body = text.into_bytes();
        if let Some((at, byte)) = harm.filter(|_| !body.is_empty()) {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let mut input = vec![1, 0, (body.len() >> 8) as u8, body.len() as u8];
        input.extend(body);
        let protocol = listener(&told);
        let theirs = reference.decode(&told, "server", &input);
        let ours = decode(&protocol, [&input[..]], Calls::Always);
        assert_eq!(json!(ours.error), theirs["error"]);
        assert_eq!(json!(hex(&ours.reply)), theirs["reply"]);
    });
}

fn nested() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        "\\PC{0,8}".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::vec(("\\PC{0,5}", inner), 0..4)
                .prop_map(|items| Value::Object(items.into_iter().collect())),
        ]
    })
}

#[test]
fn what_the_server_writes_is_read() {
    let kinds = prop::sample::select(vec!["response", "error", "push", "kick"]);
    let names = prop_oneof![routes(), "r{256,260}"];
    let reasons = prop_oneof!["[a-z-]{1,20}", any::<String>()];
    let messages = (kinds, ids(), names, numbers(), bodies(), reasons);
    check(
        768,
        &(listeners(), messages),
        |reference, (told, message)| {
            let (kind, id, name, number, body, reason) = message;
            let body = if kind == "kick" {
                hex(reason.as_bytes())
            } else {
                body
            };
            let message =
                json!({"kind": kind, "id": id, "name": name, "number": number, "body": body});
            let ours = encode(&listener(&told), &message);
            let theirs = reference.encode(&told, &message);
            let frame = match ours {
                Err(error) => return assert_eq!(theirs, json!({"error": error})),
                Ok(frame) => frame,
            };
            assert_eq!(theirs, json!({"hex": hex(&frame)}));
            let read = reference.decode(&told, "client", &frame);
            assert_eq!((&read["error"], &read["left"]), (&Value::Null, &json!(0)));
            let heard = match (told["protocol"].as_str().unwrap(), kind) {
                ("pomelo", "push") => json!([{"event": "push", "route": name, "body": body}]),
                ("pomelo", "kick") => json!([{"event": "kick", "value": {"reason": reason}}]),
                ("pomelo", _) => json!([{"event": kind, "id": id, "body": body}]),
                (_, "kick" | "error") => json!([]),
                (protocol, _) => {
                    let route = if protocol == "firefly" {
                        json!(number)
                    } else {
                        Value::Null
                    };
                    json!([{"event": "packet", "kind": "message", "id": 0, "route": route, "body": body}])
                }
            };
            assert_eq!(read["events"], heard);
        },
    );
}
