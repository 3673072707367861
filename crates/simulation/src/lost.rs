//! What a link had on its way when its connection was cut.

use photinus_engine::memory::Way;
use photinus_proto::bluenet::control::Control;
use photinus_proto::bluenet::header::{Header, Kind, HEADER_BYTES};
use photinus_proto::link::LENGTH_BYTES;

/// Of each frame that was written and not read, what it is.
pub fn frames(way: &Way) -> Vec<&'static str> {
    let mut lost = Vec::new();
    let mut at = behind_hello(&way.written);
    while let Some(length) = at.and_then(|at| length(way.written.get(at..)?, LENGTH_BYTES)) {
        let begin = at.map_or(0, |at| at + LENGTH_BYTES);
        let end = begin + length;
        let Some(frame) = way.written.get(begin..end) else {
            break; // it was not wholly written
        };
        if end > way.read {
            lost.push(what(frame));
        }
        at = Some(end);
    }
    lost
}

/// Each side says two things before its first frame (docs/bluenet.md, 3).
fn behind_hello(written: &[u8]) -> Option<usize> {
    let first = 2 + length(written, 2)?;
    Some(first + 2 + length(written.get(first..)?, 2)?)
}

/// What the first bytes say, big-endian.
fn length(bytes: &[u8], of: usize) -> Option<usize> {
    let bytes = bytes.get(..of)?;
    Some(
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | usize::from(*byte)),
    )
}

fn what(frame: &[u8]) -> &'static str {
    let Ok(header) = Header::decode(frame) else {
        return "garbage";
    };
    match header.kind {
        Kind::Control if header.is_link() => "an acknowledgement",
        Kind::Control => match Control::decode(&frame[HEADER_BYTES..]) {
            Ok(Control::Arrive { .. }) => "ARRIVE",
            Ok(Control::Arrived) => "ARRIVED",
            Ok(Control::Fence) => "FENCE",
            Ok(Control::Fenced { .. }) => "FENCED",
            Ok(Control::Detach) => "DETACH",
            Ok(Control::Refused { .. }) => "REFUSED",
            Ok(Control::Xoff | Control::Xon) => "XOFF or XON",
            Ok(_) => "another control frame",
            Err(_) => "garbage",
        },
        Kind::Node | Kind::Space => "a packet",
        Kind::Session => "a message",
        Kind::Group | Kind::Sessions => "a message to many",
        Kind::Service | Kind::App => "a frame",
    }
}
