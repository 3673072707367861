//! A connection as the engine drives it, with what it reads written as in the golden vectors, and
//! with the promises of `decode` checked at every call.

// Each test binary uses its part.
#![allow(dead_code)]

pub mod bluenet;
pub mod reference;

use photinus_proto::codec::photinus::{self, Status, Welcome, USUAL_RATE};
use photinus_proto::codec::{Decoded, Flags, Kind, Message, Outgoing, Peer, Protocol, Route};
use photinus_proto::compress::Algorithm;
use photinus_proto::error::EncodeError;
use serde_json::{json, Value};

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Outcome {
    pub events: Vec<Value>,
    pub reply: Vec<u8>,
    pub error: Option<&'static str>,
    /// Bytes of a frame that is not whole.
    pub left: usize,
    /// What the last `Incomplete` asked for.
    pub need: Option<usize>,
}

/// When the connection calls `decode`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Calls {
    /// Whenever anything has come.
    Always,
    /// When as much has come as the last call asked for.
    AtNeed,
}

pub fn decode<'a>(
    protocol: &Protocol,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    calls: Calls,
) -> Outcome {
    let mut peer = protocol.peer();
    let mut buffer = Vec::new();
    let mut outcome = Outcome::default();
    let mut need = 0;
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        if calls == Calls::AtNeed && buffer.len() < need {
            continue;
        }
        loop {
            let before = outcome.reply.len();
            let decoded = protocol.decode(&mut peer, &buffer, &mut outcome.reply);
            let consumed = match decoded {
                Ok(Decoded::Incomplete { need: more }) => {
                    assert!(
                        more > buffer.len(),
                        "asks for {more} with {} at hand",
                        buffer.len()
                    );
                    assert_eq!(before, outcome.reply.len(), "replied to half a frame");
                    need = more;
                    break;
                }
                Ok(Decoded::Opened { consumed }) => {
                    outcome.events.push(json!({"event": "opened"}));
                    consumed
                }
                Ok(Decoded::Control { consumed }) => {
                    outcome.events.push(json!({"event": "control"}));
                    consumed
                }
                Ok(Decoded::Packet { consumed, packet }) => {
                    assert_eq!(before, outcome.reply.len(), "replied to a packet");
                    assert_eq!(
                        packet.body.end, consumed,
                        "the payload is what a frame ends with"
                    );
                    outcome.events.push(json!({
                        "event": "packet",
                        "kind": match packet.kind {
                            Kind::Request => "request",
                            Kind::Notify => "notify",
                            Kind::Message => "message",
                        },
                        "id": packet.id,
                        "route": match packet.route {
                            Route::None => Value::Null,
                            Route::Number(number) | Route::Named(number) => json!(number),
                            Route::Name(at) => json!(std::str::from_utf8(&buffer[at]).unwrap()),
                        },
                        "body": hex(&buffer[packet.body]),
                    }));
                    let Flags {
                        compressed,
                        droppable,
                    } = packet.flags;
                    if compressed || droppable {
                        let event = outcome.events.last_mut().unwrap();
                        event["compressed"] = json!(compressed);
                        event["droppable"] = json!(droppable);
                    }
                    consumed
                }
                Ok(Decoded::Hello { consumed, hello }) => {
                    outcome.events.push(json!({
                        "event": "hello",
                        "compression": hello.compression.map(Algorithm::number),
                        "token": hello.resume.map(|of| hex(&of.token)),
                        "received": hello.resume.map(|of| of.received),
                    }));
                    greet(protocol, &mut peer, &mut outcome.reply);
                    consumed
                }
                Ok(Decoded::Named { consumed, name }) => {
                    let name = std::str::from_utf8(&buffer[name]).unwrap();
                    outcome.events.push(json!({"event": "route", "name": name}));
                    consumed
                }
                Ok(Decoded::Heartbeat {
                    consumed,
                    heartbeat,
                }) => {
                    outcome.events.push(json!({
                        "event": "heartbeat",
                        "received": heartbeat.received,
                        "clock": heartbeat.clock,
                        "echo": heartbeat.echo,
                        "held": heartbeat.held,
                    }));
                    consumed
                }
                Ok(Decoded::Leave { consumed }) => {
                    outcome.events.push(json!({"event": "leave"}));
                    consumed
                }
                Err(error) => {
                    let again = protocol.decode(&mut peer, b"", &mut outcome.reply);
                    assert_eq!(again, Err(error), "an error is kept");
                    outcome.error = Some(error.reason());
                    return outcome;
                }
            };
            assert!(0 < consumed && consumed <= buffer.len());
            buffer.drain(..consumed);
        }
        outcome.left = buffer.len();
        outcome.need = Some(need);
    }
    outcome.left = buffer.len();
    outcome
}

/// The welcome of every vector: a new session that cannot be resumed, at a clock of one second.
fn greet(protocol: &Protocol, peer: &mut Peer, reply: &mut Vec<u8>) {
    let Protocol::Photinus(options) = protocol else {
        panic!("a hello in {}", protocol.name());
    };
    let welcome = Welcome {
        status: Status::New,
        clock: 1_000_000,
        rate: USUAL_RATE,
        resume: None,
    };
    options.welcome(peer, &welcome, reply);
}

/// Of a vector's or a reference's `listener`.
pub fn listener(value: &Value) -> Protocol {
    let pairs: Vec<(&str, &str)> = value["options"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let limit = value["max_payload"].as_u64().unwrap() as usize;
    Protocol::from_options(value["protocol"].as_str().unwrap(), &pairs, limit).unwrap()
}

/// Of a `message`; what must have been in the buffer before stays there.
pub fn encode(protocol: &Protocol, message: &Value) -> Result<Vec<u8>, &'static str> {
    if let Protocol::Photinus(_) = protocol {
        if let Some(frame) = say(protocol, message) {
            return Ok(frame);
        }
    }
    if message["kind"] == "heartbeat" {
        return Ok(protocol.heartbeat_frame().to_vec());
    }
    let id = message["id"].as_u64().unwrap_or(0) as u32;
    let body = unhex(message["body"].as_str().unwrap());
    let message = Message {
        kind: match message["kind"].as_str().unwrap() {
            "response" => Outgoing::Response { id },
            "error" => Outgoing::Error { id },
            "push" => Outgoing::Push,
            "kick" => Outgoing::Kick,
            "redirect" => Outgoing::Redirect,
            other => panic!("no server sends {other:?}"),
        },
        name: message["name"].as_str().unwrap_or(""),
        number: message["number"].as_u64().unwrap_or(0) as u32,
        index: message["index"].as_u64().unwrap_or(0) as u32,
        body: &body,
        flags: Flags {
            compressed: message["compressed"] == true,
            droppable: message["droppable"] == true,
        },
    };
    let mut out = b"before".to_vec();
    let encoded = protocol.encode(&message, &mut out);
    let frame = out
        .strip_prefix(b"before")
        .expect("appended, not overwritten");
    match encoded {
        Ok(()) => Ok(frame.to_vec()),
        Err(error) => {
            assert!(frame.is_empty(), "an error leaves nothing behind");
            Err(match error {
                EncodeError::TooLong { .. } => "too-long",
                EncodeError::RouteTooLong { .. } => "route-too-long",
            })
        }
    }
}

/// What only the photinus protocol says; `None` for messages, which every protocol has.
fn say(protocol: &Protocol, message: &Value) -> Option<Vec<u8>> {
    let number = |name: &str| message[name].as_u64().map(|number| number as u32);
    let clock = |name: &str| message[name].as_u64().unwrap();
    let text = |name: &str| message[name].as_str().unwrap();
    let mut out = Vec::new();
    match text("kind") {
        "welcome" => {
            let hello = message["hello"].as_str().unwrap_or("0103010101");
            out = welcome(protocol, &unhex(hello), message);
        }
        "refusal" => photinus::refuse(text("code"), number("retry_after"), &mut out),
        "wait" => photinus::wait(number("place").unwrap(), number("estimate"), &mut out),
        "route" => photinus::announce(text("name"), &mut out),
        "heartbeat" => {
            let heartbeat = photinus::Heartbeat {
                received: number("received").unwrap(),
                clock: clock("clock"),
                echo: clock("echo"),
                held: clock("held"),
            };
            photinus::heartbeat(&heartbeat, number("rate").unwrap(), &mut out);
        }
        _ => return None,
    }
    Some(out)
}

/// As `message` says, to a client that has said this hello.
fn welcome(protocol: &Protocol, hello: &[u8], message: &Value) -> Vec<u8> {
    let Protocol::Photinus(options) = protocol else {
        panic!("a welcome in {}", protocol.name());
    };
    let number = |name: &str| message[name].as_u64().map(|number| number as u32);
    let mut peer = protocol.peer();
    let decoded = protocol.decode(&mut peer, hello, &mut Vec::new());
    assert!(matches!(decoded, Ok(Decoded::Hello { .. })), "{decoded:?}");
    let received = number("received");
    let status = match number("status").unwrap() {
        0 => Status::New,
        1 => Status::Resumed {
            received: received.unwrap(),
        },
        _ => Status::Gap {
            received: received.unwrap(),
            next: number("next").unwrap(),
        },
    };
    let token = message["token"].as_str().map(unhex);
    let welcome = Welcome {
        status,
        clock: message["clock"].as_u64().unwrap(),
        rate: number("rate").unwrap_or(USUAL_RATE),
        resume: token.map(|token| (token.try_into().unwrap(), number("window").unwrap())),
    };
    let mut out = Vec::new();
    options.welcome(&mut peer, &welcome, &mut out);
    out
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
