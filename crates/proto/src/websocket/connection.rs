//! One connection: its handshake, then the frames that come.

use super::deflate::Shared;
use super::extension::Deflate;
use super::frame::{self, Head, Kind, Opcode, Read};
use super::handshake::{self, HEAD_LIMIT};
use super::utf8::Utf8;
use super::{close_code, Content, Form, Options, Status, Step, MESSAGE_HEAD};
use crate::error::WireError;

/// A frame's longest head, or a whole control frame.
const UNIT_LIMIT: usize = 2 + 4 + frame::CONTROL_LIMIT;

/// What a connection remembers. Between messages it owns no memory.
#[derive(Debug)]
pub struct Peer {
    stage: Stage,
    /// The client's last message was this.
    last: Option<Kind>,
    deflate: Option<Deflate>,
    /// The message that is coming, if one is.
    message: Option<Message>,
    /// `decode` stopped although there was more in `held`.
    stopped: bool,
    /// Of `held`, the bytes of the message; behind them lies a unit that has not come whole, or all
    /// that was not decoded.
    gathered: u32,
    held: Vec<u8>,
}

/// Opening -> Open -> Closing or Closed. Failed is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    /// The server has sent its close: only the client's is waited for.
    Closing,
    Closed,
    Failed(WireError),
}

#[derive(Debug, Clone, Copy)]
struct Message {
    kind: Kind,
    is_deflated: bool,
    /// The frame that is coming is the last.
    is_final: bool,
    /// Of the next byte of the frame.
    mask: [u8; 4],
    /// Bytes of the frame that have not come.
    left: u32,
    /// Bytes of all frames until now, that have come or not.
    length: u32,
    text: Utf8,
}

impl Peer {
    /// The connection speaks WebSocket, and nobody has said the last yet.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Bytes that it holds of what is not whole yet, for whoever bounds those of all connections.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// A request, a frame or a message has been begun and is not whole.
    pub fn is_amid(&self) -> bool {
        !self.held.is_empty() || self.message.is_some()
    }

    pub fn form(&self) -> Form {
        Form {
            window_bits: self.deflate.map_or(0, |deflate| deflate.window_bits),
            kind: self.last.map(|kind| kind as u8),
        }
    }

    /// Appends a ping, to hear whether the client is there. A pong is taken without a word, as
    /// everything that comes.
    pub fn ping(&self, out: &mut Vec<u8>) {
        if self.stage == Stage::Open {
            frame::write_ping(out);
        }
    }

    /// Appends the last that the server says: a close with one of [`super::code`] and a text for
    /// people, or, during the handshake, HTTP's refusal with that text. Nothing, if the last has been
    /// said. What comes then is read for the client's close alone.
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) {
        match self.stage {
            Stage::Opening => {
                handshake::turn_away(reason, out);
                self.end(Stage::Closed);
            }
            Stage::Open => {
                frame::write_close(code, reason, out);
                self.stage = Stage::Closing;
            }
            Stage::Closing | Stage::Closed | Stage::Failed(_) => {}
        }
    }

    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.message = None;
        self.stopped = false;
        self.gathered = 0;
        self.held = Vec::new();
    }

    fn step(&self) -> Step {
        let status = match self.stage {
            Stage::Opening => Status::Opening,
            Stage::Open | Stage::Closing => Status::Open,
            Stage::Closed | Stage::Failed(_) => Status::Closed,
        };
        Step {
            status,
            more: self.stopped,
        }
    }
}

impl Options {
    /// The state of a connection that has just been accepted.
    pub fn peer(&self) -> Peer {
        Peer {
            stage: Stage::Opening,
            last: None,
            deflate: None,
            message: None,
            stopped: false,
            gathered: 0,
            held: Vec::new(),
        }
    }

    /// Takes all of `input`. The protocol's bytes are appended to `out`, at most as many as have come
    /// plus twice `max_message` a call; what is to be written at once, to `reply`. What was appended
    /// before an error counts.
    #[inline]
    pub fn decode(
        &self,
        peer: &mut Peer,
        shared: &mut Shared,
        input: &[u8],
        out: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, WireError> {
        match peer.stage {
            Stage::Failed(error) => return Err(error),
            Stage::Closed => return Ok(peer.step()),
            Stage::Opening | Stage::Open | Stage::Closing => {}
        }
        let ceiling = out.len() + self.max_message;
        let mut decoding = Decoding {
            options: self,
            peer,
            shared,
            out,
            reply,
            ceiling,
        };
        match decoding.take(input) {
            Ok(()) => Ok(peer.step()),
            Err(error) => {
                // Before that, the handshake's answer has said it in HTTP.
                if peer.stage == Stage::Open {
                    frame::write_close(close_code(error), error.reason(), reply);
                }
                peer.end(Stage::Failed(error));
                Err(error)
            }
        }
    }
}

/// One call of `decode`.
struct Decoding<'a> {
    options: &'a Options,
    peer: &'a mut Peer,
    shared: &'a mut Shared,
    out: &'a mut Vec<u8>,
    reply: &'a mut Vec<u8>,
    /// Length of `out` at which nothing more is inflated.
    ceiling: usize,
}

impl Decoding<'_> {
    fn take(&mut self, input: &[u8]) -> Result<(), WireError> {
        if !self.peer.stopped {
            return self.take_frames(input);
        }
        self.peer.stopped = false;
        let mut rest = self.peer.held.split_off(self.peer.gathered as usize);
        rest.extend_from_slice(input);
        self.take_frames(&rest)
    }

    #[inline]
    fn take_frames(&mut self, mut input: &[u8]) -> Result<(), WireError> {
        while !input.is_empty() {
            let taken = match (self.peer.stage, &self.peer.message) {
                (Stage::Opening, _) => self.take_request(input)?,
                (Stage::Open | Stage::Closing, Some(message)) if message.left > 0 => {
                    self.take_payload(input)?
                }
                (Stage::Open | Stage::Closing, _) => self.take_unit(input)?,
                (Stage::Closed | Stage::Failed(_), _) => return Ok(()),
            };
            input = &input[taken..];
            if self.peer.stopped {
                self.peer.stopped = !input.is_empty();
                self.peer.held.extend_from_slice(input);
                return Ok(());
            }
        }
        Ok(())
    }

    fn take_request(&mut self, input: &[u8]) -> Result<usize, WireError> {
        let held = &mut self.peer.held;
        let seen = held.len();
        held.extend_from_slice(&input[..input.len().min(HEAD_LIMIT - seen)]);
        match handshake::find_head(held, seen, self.reply)? {
            handshake::Head::Incomplete => Ok(input.len()),
            handshake::Head::Whole(length) => {
                let deflate = handshake::answer(self.options, &held[..length], self.reply)?;
                self.peer.deflate = deflate;
                self.peer.end(Stage::Open);
                Ok(length - seen)
            }
        }
    }

    /// A frame's head, or a whole control frame.
    #[inline]
    fn take_unit(&mut self, input: &[u8]) -> Result<usize, WireError> {
        if self.peer.held.len() > self.peer.gathered as usize {
            return self.take_rest_of_unit(input);
        }
        match read_unit(input)? {
            Unit::Need(_) => {
                self.peer.held.extend_from_slice(input);
                Ok(input.len())
            }
            Unit::Whole(head, end) => {
                self.act(head, &input[head.size..end])?;
                Ok(end)
            }
        }
    }

    #[cold]
    fn take_rest_of_unit(&mut self, input: &[u8]) -> Result<usize, WireError> {
        let begin = self.peer.gathered as usize;
        let held = &mut self.peer.held;
        let mut taken = 0;
        loop {
            let begun = held.len() - begin;
            match read_unit(&held[begin..])? {
                Unit::Need(need) => {
                    let end = input.len().min(taken + need - begun);
                    if end == taken {
                        return Ok(taken);
                    }
                    held.extend_from_slice(&input[taken..end]);
                    taken = end;
                }
                Unit::Whole(head, end) => {
                    let mut payload = [0; UNIT_LIMIT];
                    let payload = &mut payload[..end - head.size];
                    payload.copy_from_slice(&held[begin + head.size..]);
                    held.truncate(begin);
                    if begin == 0 {
                        *held = Vec::new();
                    }
                    self.act(head, payload)?;
                    return Ok(taken);
                }
            }
        }
    }

    /// `payload` is that of a control frame, still masked.
    #[inline]
    fn act(&mut self, head: Head, payload: &[u8]) -> Result<(), WireError> {
        match head.opcode {
            Opcode::Data(kind) => self.begin_message(head, kind),
            Opcode::Continuation => self.go_on(head),
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.control(head, payload),
        }
    }

    #[inline]
    fn begin_message(&mut self, head: Head, kind: Kind) -> Result<(), WireError> {
        if self.peer.message.is_some() || (head.is_deflated && self.peer.deflate.is_none()) {
            return Err(WireError::BadFrame);
        }
        if kind == Kind::Text && self.options.content.is_stream() {
            return Err(WireError::TextFrame);
        }
        self.begin_frame(
            head,
            Message {
                kind,
                is_deflated: head.is_deflated,
                is_final: false,
                mask: [0; 4],
                left: 0,
                length: 0,
                text: Utf8::default(),
            },
        )
    }

    fn go_on(&mut self, head: Head) -> Result<(), WireError> {
        let message = self.peer.message.ok_or(WireError::BadFrame)?;
        self.begin_frame(head, message)
    }

    #[inline]
    fn begin_frame(&mut self, head: Head, mut message: Message) -> Result<(), WireError> {
        let limit = match message.is_deflated {
            // What cannot be made shorter gets a little longer: five bytes a block.
            true => self.options.max_message + self.options.max_message / 1024 + 64,
            false => self.options.max_message,
        };
        if head.length > (limit - message.length as usize) as u64 {
            return Err(WireError::TooLong);
        }
        message.is_final = head.is_final;
        message.mask = head.mask;
        message.left = head.length as u32;
        message.length += message.left;
        self.peer.message = Some(message);
        if message.left == 0 {
            return self.end_frame(message);
        }
        if self.is_passed_on(message) {
            self.pass_on_head(message);
        }
        Ok(())
    }

    /// Whether payload goes straight to the protocol. What is deflated is inflated as a whole, and
    /// where messages are packets their length is told first, so that the last frame must be known.
    #[inline]
    fn is_passed_on(&self, message: Message) -> bool {
        !message.is_deflated && (message.is_final || self.options.content.is_stream())
    }

    /// What the codec `plain` has to know first, and the payload of earlier fragments.
    #[inline]
    fn pass_on_head(&mut self, message: Message) {
        if self.options.content == Content::Messages && self.peer.stage == Stage::Open {
            self.out.push(message.kind as u8);
            self.out.extend_from_slice(&message.length.to_be_bytes());
            self.out.append(&mut self.peer.held);
            self.peer.held = Vec::new();
            self.peer.gathered = 0;
        }
    }

    #[inline]
    fn take_payload(&mut self, input: &[u8]) -> Result<usize, WireError> {
        let Some(mut message) = self.peer.message else {
            return Ok(0);
        };
        let taken = input.len().min(message.left as usize);
        let passed_on = self.is_passed_on(message);
        let place = match passed_on {
            true => &mut *self.out,
            false => &mut self.peer.held,
        };
        let begin = place.len();
        place.extend_from_slice(&input[..taken]);
        frame::unmask(&mut place[begin..], message.mask);
        message.mask.rotate_left(taken % 4);
        message.left -= taken as u32;
        if message.kind == Kind::Text && !message.is_deflated {
            let is_end = message.left == 0 && message.is_final;
            if !message.text.take(&place[begin..]) || (is_end && !message.text.is_whole()) {
                // Without its last bytes it is no packet to the codec.
                place.truncate(begin);
                return Err(WireError::BadText);
            }
        }
        if self.peer.stage == Stage::Closing {
            place.truncate(begin);
        } else if !passed_on {
            self.peer.gathered += taken as u32;
        }
        self.peer.message = Some(message);
        if message.left == 0 {
            self.end_frame(message)?;
        }
        Ok(taken)
    }

    #[inline]
    fn end_frame(&mut self, message: Message) -> Result<(), WireError> {
        if !message.is_final {
            return Ok(());
        }
        if message.is_deflated {
            self.inflate(message)?;
        } else if !message.text.is_whole() {
            return Err(WireError::BadText);
        } else if self.peer.gathered > 0 || message.length == 0 {
            // The last frame was empty, and so nothing has been passed on.
            self.pass_on_head(message);
        }
        self.peer.last = Some(message.kind);
        self.peer.message = None;
        Ok(())
    }

    fn inflate(&mut self, message: Message) -> Result<(), WireError> {
        let deflated = std::mem::take(&mut self.peer.held);
        self.peer.gathered = 0;
        if self.peer.stage == Stage::Closing {
            return Ok(());
        }
        let begin = self.out.len();
        if self.options.content == Content::Messages {
            self.out
                .extend_from_slice(&[message.kind as u8, 0, 0, 0, 0]);
        }
        let body = self.out.len();
        let inflated = self
            .shared
            .inflate(&deflated, self.options.max_message, self.out)
            .and_then(|()| match message.kind {
                Kind::Text if std::str::from_utf8(&self.out[body..]).is_err() => {
                    Err(WireError::BadText)
                }
                _ => Ok(()),
            });
        if inflated.is_err() {
            self.out.truncate(begin);
            return inflated;
        }
        if self.options.content == Content::Messages {
            let length = (self.out.len() - body) as u32;
            self.out[begin + 1..begin + MESSAGE_HEAD].copy_from_slice(&length.to_be_bytes());
        }
        self.peer.stopped = self.out.len() >= self.ceiling;
        Ok(())
    }

    fn control(&mut self, head: Head, payload: &[u8]) -> Result<(), WireError> {
        let mut unmasked = [0; frame::CONTROL_LIMIT];
        let unmasked = &mut unmasked[..payload.len()];
        unmasked.copy_from_slice(payload);
        frame::unmask(unmasked, head.mask);
        let has_closed = self.peer.stage == Stage::Closing;
        match head.opcode {
            Opcode::Ping if !has_closed => frame::write_pong(unmasked, self.reply),
            Opcode::Close => {
                frame::check_close(unmasked)?;
                if !has_closed {
                    frame::write_close_answer(unmasked, self.reply);
                }
                self.peer.end(Stage::Closed);
            }
            _ => {}
        }
        Ok(())
    }
}

enum Unit {
    Need(usize),
    /// The head, and where the unit ends: behind a control frame's payload too.
    Whole(Head, usize),
}

#[inline]
fn read_unit(input: &[u8]) -> Result<Unit, WireError> {
    let head = match frame::read_head(input)? {
        Read::Need(need) => return Ok(Unit::Need(need)),
        Read::Head(head) => head,
    };
    let end = match head.opcode.is_control() {
        true => head.size + head.length as usize,
        false => head.size,
    };
    Ok(match input.len() < end {
        true => Unit::Need(end),
        false => Unit::Whole(head, end),
    })
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
