//! What nodes tell each other beside packets and messages (docs/bluenet.md, 9): the payload of frames whose
//! kind is control, a tag and its fields.
//!
//! All that must keep its order with a session's packets (its beginning, its moves, its end, its groups)
//! goes in their lane; what must not wait behind them (`Xoff`, `Xon`, `Gone`) goes in the lane of
//! control. A text is its length and its bytes; a state is the rest of the payload.

use crate::error::WireError;
use crate::number;

/// The longest text of a frame: a name, an address, a reason. A node's name and a route's are far below.
pub const TEXT_BYTES: usize = 1 << 10;

/// Which binding of a session a frame is about, as it stands in the header: its place (0 is the home) and 1, and
/// its epoch. So it is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u32);

impl Tag {
    pub fn new(slot: u8, epoch: u16) -> Tag {
        Tag((u32::from(slot) + 1) << 12 | u32::from(epoch & 0xfff))
    }

    /// `None`: there is no such place.
    #[inline]
    pub fn slot(self) -> Option<u8> {
        u8::try_from((self.0 >> 12).checked_sub(1)?).ok()
    }

    #[inline]
    pub fn epoch(self) -> u16 {
        (self.0 & 0xfff) as u16
    }
}

/// `target` is the handle of a space or service at its node; 0 is its application, as a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    // From the proxy to an owner: destination is the binding's tag, source the session's handle.
    /// The session is its owner's from here on. `fresh`: it begins, and is not moved; `gap`: some of
    /// what was sent, or the state itself, is lost. Moved without a state and without a gap: the owner goes
    /// on with what it left with itself.
    Arrive {
        target: u32,
        protocol: u8,
        fresh: bool,
        gap: bool,
        address: &'a str,
        state: Option<&'a [u8]>,
    },
    /// Nothing more comes under this tag: the owner answers `Fenced` behind its last output.
    Fence,
    /// The same without an answer: whatever it holds of the session is void.
    Detach,
    /// The client's connection was cut, and it may come back.
    Cut,
    Resumed {
        gap: bool,
        address: &'a str,
    },
    Closed {
        /// Below `ENDERS`.
        by: u8,
        reason: &'a str,
    },
    /// The answer to `Attach`, `Move` and `Leave`; without a reason it was done.
    Done {
        request: u32,
        slot: u8,
        reason: &'a str,
    },

    // From an owner to the proxy: destination is the session's handle, source the binding's tag.
    Fenced {
        state: &'a [u8],
    },
    Arrived,
    /// The owner does not take it.
    Refused {
        reason: &'a str,
    },
    /// `session.data`, for the next home if this one is lost.
    Data {
        state: &'a [u8],
    },
    Attach {
        request: u32,
        node: &'a str,
        target: u32,
        class: u32,
    },
    Move {
        request: u32,
        slot: u8,
        node: &'a str,
        target: u32,
        class: u32,
    },
    Leave {
        request: u32,
        slot: u8,
    },
    GroupAdd {
        group: u32,
    },
    GroupRemove {
        group: u32,
    },
    /// The session's budget at the owner is used up: its client is not read until `Xon`.
    Xoff,
    Xon,

    // About the link: destination 0, source `LINK`.
    /// A name for pushes, before its first use. `number` as in `Name` of the engine's outbox.
    Name {
        index: u32,
        number: u32,
        name: &'a str,
    },
    /// What the sender's routes are, one after the other (`Route`); they take the place of those before.
    Routes {
        entries: &'a [u8],
    },
    /// The sender stops: it is no home for new sessions.
    Leaving,

    // To the sender of something that could not be delivered: its header's destination and source, exchanged.
    Gone,
}

/// The source of frames that are about the link.
pub const LINK: u32 = u32::MAX;

/// A route that a node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// 0: the application's own; else that of a class of spaces or services.
    pub class: u32,
    pub index: u32,
    pub key: RouteKey<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKey<'a> {
    Name(&'a str),
    Number(u32),
}

impl<'a> Route<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        number::write(self.class.into(), out);
        number::write(self.index.into(), out);
        match self.key {
            RouteKey::Name(name) => {
                out.push(0);
                write_text(name, out);
            }
            RouteKey::Number(number) => {
                out.push(1);
                number::write(number.into(), out);
            }
        }
    }

    /// Each route of `Control::Routes`, until the first that is none.
    pub fn each(entries: &'a [u8]) -> impl Iterator<Item = Result<Route<'a>, WireError>> {
        let mut fields = Fields(entries);
        std::iter::from_fn(move || {
            if fields.0.is_empty() {
                return None;
            }
            let route = Route::read(&mut fields);
            if route.is_err() {
                fields.0 = &[];
            }
            Some(route)
        })
    }

    fn read(fields: &mut Fields<'a>) -> Result<Route<'a>, WireError> {
        let (class, index) = (fields.number()?, fields.number()?);
        let key = match fields.byte()? {
            0 => RouteKey::Name(fields.text()?),
            1 => RouteKey::Number(fields.number()?),
            _ => return Err(WireError::BadFrame),
        };
        Ok(Route { class, index, key })
    }
}

/// By whom a session can be ended: client, server, network, protocol.
const ENDERS: u8 = 4;

const FRESH: u8 = 1;
const GAP: u8 = 2;
const STATE: u8 = 4;

impl<'a> Control<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let numbers = |tag: u8, numbers: &[u32], out: &mut Vec<u8>| {
            out.push(tag);
            numbers.iter().for_each(|&of| number::write(of.into(), out));
        };
        match *self {
            Control::Arrive {
                target,
                protocol,
                fresh,
                gap,
                address,
                state,
            } => {
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                let flags = flag(fresh, FRESH) | flag(gap, GAP) | flag(state.is_some(), STATE);
                numbers(1, &[target], out);
                out.extend_from_slice(&[protocol, flags]);
                write_text(address, out);
                out.extend_from_slice(state.unwrap_or_default());
            }
            Control::Fence => out.push(2),
            Control::Detach => out.push(3),
            Control::Cut => out.push(4),
            Control::Resumed { gap, address } => {
                out.extend_from_slice(&[5, u8::from(gap)]);
                write_text(address, out);
            }
            Control::Closed { by, reason } => {
                out.extend_from_slice(&[6, by]);
                write_text(reason, out);
            }
            Control::Done {
                request,
                slot,
                reason,
            } => {
                numbers(7, &[request, slot.into()], out);
                write_text(reason, out);
            }
            Control::Fenced { state } => {
                out.push(16);
                out.extend_from_slice(state);
            }
            Control::Arrived => out.push(17),
            Control::Refused { reason } => {
                out.push(18);
                write_text(reason, out);
            }
            Control::Data { state } => {
                out.push(19);
                out.extend_from_slice(state);
            }
            Control::Attach {
                request,
                node,
                target,
                class,
            } => {
                numbers(20, &[request, target, class], out);
                write_text(node, out);
            }
            Control::Move {
                request,
                slot,
                node,
                target,
                class,
            } => {
                numbers(21, &[request, slot.into(), target, class], out);
                write_text(node, out);
            }
            Control::Leave { request, slot } => numbers(22, &[request, slot.into()], out),
            Control::GroupAdd { group } => numbers(23, &[group], out),
            Control::GroupRemove { group } => numbers(24, &[group], out),
            Control::Xoff => out.push(25),
            Control::Xon => out.push(26),
            Control::Name {
                index,
                number,
                name,
            } => {
                numbers(32, &[index, number], out);
                write_text(name, out);
            }
            Control::Routes { entries } => {
                out.push(33);
                out.extend_from_slice(entries);
            }
            Control::Leaving => out.push(34),
            Control::Gone => out.push(40),
        }
    }

    pub fn decode(payload: &'a [u8]) -> Result<Control<'a>, WireError> {
        let mut fields = Fields(payload);
        let control = match fields.byte()? {
            1 => {
                let target = fields.number()?;
                let (protocol, flags) = (fields.byte()?, fields.byte()?);
                if flags & !(FRESH | GAP | STATE) != 0 {
                    return Err(WireError::BadFrame);
                }
                Control::Arrive {
                    target,
                    protocol,
                    fresh: flags & FRESH != 0,
                    gap: flags & GAP != 0,
                    address: fields.text()?,
                    state: (flags & STATE != 0).then(|| fields.rest()),
                }
            }
            2 => Control::Fence,
            3 => Control::Detach,
            4 => Control::Cut,
            5 => Control::Resumed {
                gap: fields.flag()?,
                address: fields.text()?,
            },
            6 => {
                let by = fields.byte()?;
                if by >= ENDERS {
                    return Err(WireError::BadFrame);
                }
                Control::Closed {
                    by,
                    reason: fields.text()?,
                }
            }
            7 => Control::Done {
                request: fields.number()?,
                slot: fields.slot()?,
                reason: fields.text()?,
            },
            16 => Control::Fenced {
                state: fields.rest(),
            },
            17 => Control::Arrived,
            18 => Control::Refused {
                reason: fields.text()?,
            },
            19 => Control::Data {
                state: fields.rest(),
            },
            20 => {
                let (request, target, class) =
                    (fields.number()?, fields.number()?, fields.number()?);
                Control::Attach {
                    request,
                    node: fields.text()?,
                    target,
                    class,
                }
            }
            21 => {
                let (request, slot) = (fields.number()?, fields.slot()?);
                let (target, class) = (fields.number()?, fields.number()?);
                Control::Move {
                    request,
                    slot,
                    node: fields.text()?,
                    target,
                    class,
                }
            }
            22 => Control::Leave {
                request: fields.number()?,
                slot: fields.slot()?,
            },
            23 => Control::GroupAdd {
                group: fields.number()?,
            },
            24 => Control::GroupRemove {
                group: fields.number()?,
            },
            25 => Control::Xoff,
            26 => Control::Xon,
            32 => Control::Name {
                index: fields.number()?,
                number: fields.number()?,
                name: fields.text()?,
            },
            33 => Control::Routes {
                entries: fields.rest(),
            },
            34 => Control::Leaving,
            40 => Control::Gone,
            _ => return Err(WireError::BadFrame),
        };
        fields
            .0
            .is_empty()
            .then_some(control)
            .ok_or(WireError::BadFrame)
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    number::write(end as u64, out);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// What is left of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Result<u8, WireError> {
        let (&first, rest) = self.0.split_first().ok_or(WireError::BadFrame)?;
        self.0 = rest;
        Ok(first)
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::BadFrame),
        }
    }

    fn number(&mut self) -> Result<u32, WireError> {
        let mut at = 0;
        let value = number::read_u32(self.0, &mut at)?;
        self.0 = &self.0[at..];
        Ok(value)
    }

    fn slot(&mut self) -> Result<u8, WireError> {
        u8::try_from(self.number()?).map_err(|_| WireError::BadFrame)
    }

    fn text(&mut self) -> Result<&'a str, WireError> {
        let length = self.number()? as usize;
        if length > TEXT_BYTES || length > self.0.len() {
            return Err(WireError::BadFrame);
        }
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| WireError::BadText)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One of each, from these values.
    fn all<'a>(numbers: [u32; 4], text: &'a str, state: &'a [u8], yes: bool) -> Vec<Control<'a>> {
        let [request, target, class, index] = numbers;
        let byte = index as u8;
        vec![
            Control::Arrive {
                target,
                protocol: byte,
                fresh: yes,
                gap: !yes,
                address: text,
                state: yes.then_some(state),
            },
            Control::Fence,
            Control::Detach,
            Control::Cut,
            Control::Resumed {
                gap: yes,
                address: text,
            },
            Control::Closed {
                by: byte % ENDERS,
                reason: text,
            },
            Control::Done {
                request,
                slot: byte,
                reason: text,
            },
            Control::Fenced { state },
            Control::Arrived,
            Control::Refused { reason: text },
            Control::Data { state },
            Control::Attach {
                request,
                node: text,
                target,
                class,
            },
            Control::Move {
                request,
                slot: byte,
                node: text,
                target,
                class,
            },
            Control::Leave {
                request,
                slot: byte,
            },
            Control::GroupAdd { group: index },
            Control::GroupRemove { group: index },
            Control::Xoff,
            Control::Xon,
            Control::Name {
                index,
                number: class,
                name: text,
            },
            Control::Routes { entries: state },
            Control::Leaving,
            Control::Gone,
        ]
    }

    proptest! {
        #[test]
        fn each_comes_back(
            numbers in any::<[u32; 4]>(),
            text in "[a-zä]{0,40}",
            state in proptest::collection::vec(any::<u8>(), 0..40),
            yes in any::<bool>(),
        ) {
            for control in all(numbers, &text, &state, yes) {
                let mut bytes = Vec::new();
                control.encode(&mut bytes);
                prop_assert_eq!(Control::decode(&bytes), Ok(control));
                bytes.push(0);
                // What has no rest ends where it ends.
                let longer = Control::decode(&bytes);
                prop_assert!(longer != Ok(control));
            }
        }

        #[test]
        fn routes_come_back(class in any::<u32>(), index in any::<u32>(), name in "[a-z.]{0,30}") {
            let keys = [RouteKey::Name(&name), RouteKey::Number(index)];
            let routes = keys.map(|key| Route { class, index, key });
            let mut entries = Vec::new();
            routes.iter().for_each(|route| route.encode(&mut entries));
            let read: Result<Vec<_>, _> = Route::each(&entries).collect();
            prop_assert_eq!(read.unwrap(), routes.to_vec());
            entries.pop();
            prop_assert!(Route::each(&entries).any(|of| of.is_err()));
        }

        #[test]
        fn garbage_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(control) = Control::decode(&bytes) {
                let mut again = Vec::new();
                control.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = "ä".repeat(TEXT_BYTES);
        let mut bytes = Vec::new();
        Control::Refused { reason: &text }.encode(&mut bytes);
        let Ok(Control::Refused { reason }) = Control::decode(&bytes) else {
            panic!("it is one");
        };
        assert_eq!(reason.len(), TEXT_BYTES);
        assert!(text.starts_with(reason));
    }

    #[test]
    fn tags_hold_a_place_and_an_epoch() {
        let tag = Tag::new(8, 0xfff);
        assert_eq!((tag.slot(), tag.epoch()), (Some(8), 0xfff));
        assert_ne!(Tag::new(0, 0).0, 0);
        assert_eq!(Tag(5).slot(), None);
        assert_eq!(Tag(u32::MAX).slot(), None);
    }
}
