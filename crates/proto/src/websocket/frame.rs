//! Frames of RFC 6455: their heads (6.3), the masks, and what a close may say (6.4).

use crate::error::WireError;

/// The most a control frame may carry (RFC 6455, 5.5).
pub(super) const CONTROL_LIMIT: usize = 125;
/// Of a close's reason: two bytes of the control frame are its code.
const REASON_LIMIT: usize = CONTROL_LIMIT - 2;

const FIN: u8 = 0x80;
/// Deflated (RFC 7692, 6).
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a message is: the number is that of the opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Text = TEXT,
    Binary = BINARY,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Data(Kind),
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub opcode: Opcode,
    pub is_final: bool,
    pub is_deflated: bool,
    pub mask: [u8; 4],
    /// Of the payload.
    pub length: u64,
    /// Of the head itself.
    pub size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// The least total number of bytes worth looking at again.
    Need(usize),
    Head(Head),
}

/// The head of a frame from a client. Whatever a byte alone decides is refused when it has come.
#[inline]
pub(super) fn read_head(input: &[u8]) -> Result<Read, WireError> {
    let Some(&first) = input.first() else {
        return Ok(Read::Need(2));
    };
    if first & RSV2_AND_3 != 0 {
        return Err(WireError::BadFrame);
    }
    let opcode = match first & 0x0f {
        CONTINUATION => Opcode::Continuation,
        TEXT => Opcode::Data(Kind::Text),
        BINARY => Opcode::Data(Kind::Binary),
        CLOSE => Opcode::Close,
        PING => Opcode::Ping,
        PONG => Opcode::Pong,
        _ => return Err(WireError::BadFrame),
    };
    let is_final = first & FIN != 0;
    let is_deflated = first & RSV1 != 0;
    if (opcode.is_control() && !is_final) || (is_deflated && !matches!(opcode, Opcode::Data(_))) {
        return Err(WireError::BadFrame);
    }
    let Some(&second) = input.get(1) else {
        return Ok(Read::Need(2));
    };
    let short = second & !MASKED;
    if second & MASKED == 0 || (opcode.is_control() && usize::from(short) > CONTROL_LIMIT) {
        return Err(WireError::BadFrame);
    }
    let extended = match short {
        LENGTH_16 => 2,
        LENGTH_64 => 8,
        _ => 0,
    };
    let Some(field) = input.get(2..2 + extended) else {
        return Ok(Read::Need(2 + extended));
    };
    let (length, least) = match short {
        LENGTH_16 => (big_endian(field), 126),
        LENGTH_64 => (big_endian(field), 1 << 16),
        short => (u64::from(short), 0),
    };
    // Written in the fewest bytes, and the highest bit never set (RFC 6455, 5.2).
    if length < least || length >> 63 != 0 {
        return Err(WireError::BadFrame);
    }
    let size = 2 + extended + 4;
    let Some(Ok(mask)) = input.get(size - 4..size).map(<[u8; 4]>::try_from) else {
        return Ok(Read::Need(size));
    };
    Ok(Read::Head(Head {
        opcode,
        is_final,
        is_deflated,
        mask,
        length,
        size,
    }))
}

fn big_endian(field: &[u8]) -> u64 {
    field
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The head of a whole message of the server's, which is never masked.
#[inline]
pub(super) fn write_head(kind: Kind, is_deflated: bool, length: usize, out: &mut Vec<u8>) {
    let first = FIN | kind as u8 | if is_deflated { RSV1 } else { 0 };
    if length < usize::from(LENGTH_16) {
        out.extend_from_slice(&[first, length as u8]);
    } else if let Ok(length) = u16::try_from(length) {
        let [high, low] = length.to_be_bytes();
        out.extend_from_slice(&[first, LENGTH_16, high, low]);
    } else {
        out.extend_from_slice(&[first, LENGTH_64]);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

pub(super) fn write_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FIN | PING, 0]);
}

/// `payload` is that of the ping.
pub(super) fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= CONTROL_LIMIT);
    out.extend_from_slice(&[FIN | PONG, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// The answer to a close says what that said (RFC 6455, 5.5.1).
pub(super) fn write_close_answer(payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= CONTROL_LIMIT);
    out.extend_from_slice(&[FIN | CLOSE, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// A reason that does not fit is cut, between two characters.
pub(super) fn write_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let length = (0..=reason.len().min(REASON_LIMIT))
        .rev()
        .find(|length| reason.is_char_boundary(*length))
        .unwrap_or(0);
    out.extend_from_slice(&[FIN | CLOSE, 2 + length as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..length]);
}

/// What a close of the client's says: nothing, or a code that may be sent, and text.
pub(super) fn check_close(payload: &[u8]) -> Result<(), WireError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(()),
            _ => Err(WireError::BadFrame),
        };
    };
    // 1004 is reserved, 1005 and 1006 are never sent, 1015 neither; 3000 to 4999 are applications'.
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WireError::BadFrame);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(()),
        Err(_) => Err(WireError::BadText),
    }
}

/// Takes the mask off, or puts it on. `mask` is that of the first byte: what is left of a payload,
/// of which `n` bytes have been unmasked before, has `rotate_left(n % 4)` of the frame's mask.
#[inline]
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    /// As long as the widest registers: compilers turn the inner loop into a few instructions.
    const BLOCK: usize = 32;
    let mut wide = [0; BLOCK];
    for (place, byte) in wide.iter_mut().zip(mask.iter().cycle()) {
        *place = *byte;
    }
    let mut blocks = bytes.chunks_exact_mut(BLOCK);
    for block in &mut blocks {
        for (byte, key) in block.iter_mut().zip(&wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in blocks.into_remainder().iter_mut().zip(&wide) {
        *byte ^= key;
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
