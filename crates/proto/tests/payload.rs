//! The golden vectors of what stands in payloads between nodes (docs/bluenet.md, 7 to 9), which the reference in
//! Python reads as well.

mod harness;

use harness::bluenet::vectors;
use harness::{hex, unhex};
use photinus_proto::bluenet::control::{Control, Route, RouteKey, Tag};
use photinus_proto::bluenet::message::{
    read_list, write_list, MessageHead, MessageKind, PacketHead, PacketRoute,
};
use photinus_proto::codec::Kind;
use photinus_proto::error::WireError;
use serde_json::{json, Map, Value};

const KINDS: [(&str, Kind); 3] = [
    ("message", Kind::Message),
    ("request", Kind::Request),
    ("notify", Kind::Notify),
];
const FORMATS: [&str; 2] = ["json", "msgpack"];
const ENDERS: [&str; 4] = ["client", "server", "network", "protocol"];

/// Reads all vectors of a list, and writes what was read, or what `written` says, into the same bytes again.
fn check(
    list: &str,
    at_least: usize,
    key: &str,
    read: impl Fn(&[u8]) -> Result<Value, WireError>,
    write: impl Fn(&Value) -> Vec<u8>,
) {
    for vector in vectors(list, at_least) {
        let bytes = unhex(vector["hex"].as_str().unwrap());
        match read(&bytes) {
            Ok(value) => {
                assert_eq!(vector["error"], Value::Null, "{vector}");
                assert_eq!(value, vector[key], "{vector}");
                let written = vector.get("written").unwrap_or(&value);
                assert_eq!(hex(&write(written)), vector["hex"], "{vector}");
            }
            Err(error) => assert_eq!(vector["error"], error.reason(), "{vector}"),
        }
    }
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn byte(value: &Value) -> u8 {
    u8::try_from(number(value)).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn tags() {
    for vector in vectors("tags", 8) {
        let bytes = unhex(text(&vector["hex"]));
        let tag = Tag(u32::from_be_bytes(bytes.clone().try_into().unwrap()));
        assert_eq!(json!(tag.slot()), vector["place"], "{vector}");
        assert_eq!(json!(tag.epoch()), vector["epoch"], "{vector}");
        if let Some(slot) = tag.slot() {
            assert_eq!(Tag::new(slot, tag.epoch()), tag, "{vector}");
        }
    }
}

#[test]
fn packets() {
    let read = |bytes: &[u8]| {
        let (head, at) = PacketHead::decode(bytes)?;
        let route = match head.route {
            PacketRoute::Default => Value::Null,
            PacketRoute::Unknown => json!("unknown"),
            PacketRoute::Index(index) => json!(index),
        };
        let (kind, _) = KINDS.iter().find(|(_, of)| *of == head.kind).unwrap();
        let body = hex(&bytes[at..]);
        Ok(
            json!({"route": route, "kind": kind, "number": head.number, "id": head.id, "body": body}),
        )
    };
    let write = |packet: &Value| {
        let route = match &packet["route"] {
            Value::Null => PacketRoute::Default,
            Value::String(_) => PacketRoute::Unknown,
            index => PacketRoute::Index(number(index)),
        };
        let kind = KINDS.iter().find(|(name, _)| packet["kind"] == *name);
        let head = PacketHead {
            route,
            kind: kind.unwrap().1,
            id: number(&packet["id"]),
            number: number(&packet["number"]),
        };
        let mut out = Vec::new();
        head.encode(&mut out);
        out.extend(unhex(text(&packet["body"])));
        out
    };
    check("packets", 25, "packet", read, write);
}

fn read_message(bytes: &[u8]) -> Result<Map<String, Value>, WireError> {
    let (head, at) = MessageHead::decode(bytes)?;
    let (kind, value) = match head.kind {
        MessageKind::Response { id } => ("answer", json!(id)),
        MessageKind::Error { id } => ("error", json!(id)),
        MessageKind::Push { name } => ("push", json!(name)),
        MessageKind::PushNumber { number } => ("push-number", json!(number)),
        MessageKind::Kick => ("kick", Value::Null),
        MessageKind::Redirect => ("redirect", Value::Null),
    };
    let formats = (0..2).filter(|bit| head.formats & 1 << bit != 0);
    let formats: Vec<&str> = formats.map(|bit| FORMATS[bit]).collect();
    let body = hex(&bytes[at..]);
    let message = json!({"kind": kind, "value": value, "formats": formats, "body": body});
    Ok(message.as_object().unwrap().clone())
}

fn write_message(message: &Value, out: &mut Vec<u8>) {
    let value = &message["value"];
    let kind = match text(&message["kind"]) {
        "answer" => MessageKind::Response { id: number(value) },
        "error" => MessageKind::Error { id: number(value) },
        "push" => MessageKind::Push {
            name: number(value),
        },
        "push-number" => MessageKind::PushNumber {
            number: number(value),
        },
        "kick" => MessageKind::Kick,
        "redirect" => MessageKind::Redirect,
        other => panic!("{other}"),
    };
    let formats = message["formats"].as_array().unwrap().iter();
    let bits = formats.map(|format| 1 << FORMATS.iter().position(|of| format == of).unwrap());
    let head = MessageHead {
        kind,
        formats: bits.sum(),
    };
    head.encode(out);
    out.extend(unhex(text(&message["body"])));
}

#[test]
fn messages() {
    let write = |message: &Value| {
        let mut out = Vec::new();
        write_message(message, &mut out);
        out
    };
    let read = |bytes: &[u8]| read_message(bytes).map(Value::Object);
    check("messages", 20, "message", read, write);
}

#[test]
fn lists() {
    let read = |bytes: &[u8]| {
        let (sessions, at) = read_list(bytes)?;
        let sessions: Vec<u32> = sessions.collect();
        let mut message = read_message(&bytes[at..])?;
        message.insert("sessions".to_owned(), json!(sessions));
        Ok(Value::Object(message))
    };
    let write = |message: &Value| {
        let mut out = Vec::new();
        let sessions = message["sessions"].as_array().unwrap();
        write_list(sessions.iter().map(number), &mut out);
        write_message(message, &mut out);
        out
    };
    check("lists", 12, "message", read, write);
}

#[test]
fn controls() {
    check("controls", 100, "control", read_control, write_control);
}

fn read_control(bytes: &[u8]) -> Result<Value, WireError> {
    Ok(match Control::decode(bytes)? {
        Control::Arrive {
            target,
            protocol,
            fresh,
            gap,
            address,
            state,
        } => {
            let flags = [("fresh", fresh), ("gap", gap), ("state", state.is_some())];
            let flags = flags.iter().filter(|(_, set)| *set);
            let flags: Vec<&str> = flags.map(|(name, _)| *name).collect();
            json!({
                "control": "arrive", "target": target, "speaks": protocol, "flags": flags, "address": address,
                "state": hex(state.unwrap_or_default()),
            })
        }
        Control::Fence => json!({"control": "fence"}),
        Control::Detach => json!({"control": "detach"}),
        Control::Cut => json!({"control": "cut"}),
        Control::Resumed { gap, address } => {
            json!({"control": "resumed", "gap": gap, "address": address})
        }
        Control::Closed { by, reason } => {
            json!({"control": "closed", "by": ENDERS[usize::from(by)], "reason": reason})
        }
        Control::Done {
            request,
            slot,
            reason,
        } => json!({"control": "done", "request": request, "place": slot, "reason": reason}),
        Control::Fenced { state } => json!({"control": "fenced", "state": hex(state)}),
        Control::Arrived => json!({"control": "arrived"}),
        Control::Refused { reason } => json!({"control": "refused", "reason": reason}),
        Control::Data { state } => json!({"control": "data", "state": hex(state)}),
        Control::Attach {
            request,
            node,
            target,
            class,
        } => {
            json!({"control": "attach", "request": request, "target": target, "class": class, "node": node})
        }
        Control::Move {
            request,
            slot,
            node,
            target,
            class,
        } => json!({
            "control": "move", "request": request, "place": slot, "target": target, "class": class, "node": node,
        }),
        Control::Leave { request, slot } => {
            json!({"control": "leave", "request": request, "place": slot})
        }
        Control::GroupAdd { group } => json!({"control": "group-add", "group": group}),
        Control::GroupRemove { group } => json!({"control": "group-remove", "group": group}),
        Control::Xoff => json!({"control": "xoff"}),
        Control::Xon => json!({"control": "xon"}),
        Control::Name {
            index,
            number,
            name,
        } => json!({"control": "name", "index": index, "number": number, "name": name}),
        Control::Routes { entries } => {
            let entries: Result<Vec<Value>, WireError> = Route::each(entries)
                .map(|route| {
                    let Route { class, index, key } = route?;
                    Ok(match key {
                        RouteKey::Name(name) => {
                            json!({"class": class, "index": index, "name": name})
                        }
                        RouteKey::Number(number) => {
                            json!({"class": class, "index": index, "number": number})
                        }
                    })
                })
                .collect();
            json!({"control": "routes", "entries": entries?})
        }
        Control::Leaving => json!({"control": "leaving"}),
        Control::Gone => json!({"control": "gone"}),
    })
}

fn write_control(of: &Value) -> Vec<u8> {
    let state = of["state"].as_str().map(unhex).unwrap_or_default();
    let mut entries = Vec::new();
    for entry in of["entries"].as_array().into_iter().flatten() {
        let key = match entry.get("name") {
            Some(name) => RouteKey::Name(text(name)),
            None => RouteKey::Number(number(&entry["number"])),
        };
        let route = Route {
            class: number(&entry["class"]),
            index: number(&entry["index"]),
            key,
        };
        route.encode(&mut entries);
    }
    let control = match text(&of["control"]) {
        "arrive" => {
            let flags = of["flags"].as_array().unwrap();
            let has = |flag: &str| flags.iter().any(|of| of == flag);
            Control::Arrive {
                target: number(&of["target"]),
                protocol: byte(&of["speaks"]),
                fresh: has("fresh"),
                gap: has("gap"),
                address: text(&of["address"]),
                state: has("state").then_some(&state[..]),
            }
        }
        "fence" => Control::Fence,
        "detach" => Control::Detach,
        "cut" => Control::Cut,
        "resumed" => Control::Resumed {
            gap: of["gap"].as_bool().unwrap(),
            address: text(&of["address"]),
        },
        "closed" => Control::Closed {
            by: ENDERS.iter().position(|by| of["by"] == *by).unwrap() as u8,
            reason: text(&of["reason"]),
        },
        "done" => Control::Done {
            request: number(&of["request"]),
            slot: byte(&of["place"]),
            reason: text(&of["reason"]),
        },
        "fenced" => Control::Fenced { state: &state },
        "arrived" => Control::Arrived,
        "refused" => Control::Refused {
            reason: text(&of["reason"]),
        },
        "data" => Control::Data { state: &state },
        "attach" => Control::Attach {
            request: number(&of["request"]),
            node: text(&of["node"]),
            target: number(&of["target"]),
            class: number(&of["class"]),
        },
        "move" => Control::Move {
            request: number(&of["request"]),
            slot: byte(&of["place"]),
            node: text(&of["node"]),
            target: number(&of["target"]),
            class: number(&of["class"]),
        },
        "leave" => Control::Leave {
            request: number(&of["request"]),
            slot: byte(&of["place"]),
        },
        "group-add" => Control::GroupAdd {
            group: number(&of["group"]),
        },
        "group-remove" => Control::GroupRemove {
            group: number(&of["group"]),
        },
        "xoff" => Control::Xoff,
        "xon" => Control::Xon,
        "name" => Control::Name {
            index: number(&of["index"]),
            number: number(&of["number"]),
            name: text(&of["name"]),
        },
        "routes" => Control::Routes { entries: &entries },
        "leaving" => Control::Leaving,
        "gone" => Control::Gone,
        other => panic!("{other}"),
    };
    let mut out = Vec::new();
    control.encode(&mut out);
    out
}
