//! What stands at the head of a payload that crosses nodes (docs/bluenet.md, 8): of a client's packet on
//! its way to an owner, and of a message on its way to sessions. The rest of the payload is the body, as
//! the client wrote it or the application encoded it.
//!
//! A reader is handed the whole payload; it never allocates.

use crate::codec::Kind;
use crate::error::WireError;
use crate::number;

/// A packet's route, in the numbering of the node that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketRoute {
    /// The protocol has none, or nobody registered its number: the default handler's.
    Default,
    /// A name that the proxy did not find among its routes; the body is the name.
    Unknown,
    Index(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHead {
    pub route: PacketRoute,
    pub kind: Kind,
    /// What an answer names; 0 where the protocol has none.
    pub id: u32,
    /// The number that it came under, where the protocol numbers its routes; 0: none.
    pub number: u32,
}

const NUMBERED: u8 = 4;

impl PacketHead {
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let route = match self.route {
            PacketRoute::Default => 0,
            PacketRoute::Unknown => 1,
            PacketRoute::Index(index) => u64::from(index) + 2,
        };
        number::write(route, out);
        let kind = match self.kind {
            Kind::Message => 0,
            Kind::Request => 1,
            Kind::Notify => 2,
        };
        let numbered = self.number != 0;
        out.push(kind | if numbered { NUMBERED } else { 0 });
        if numbered {
            number::write(self.number.into(), out);
        }
        if self.kind == Kind::Request {
            number::write(self.id.into(), out);
        }
    }

    /// The head, and where the body begins.
    #[inline]
    pub fn decode(payload: &[u8]) -> Result<(PacketHead, usize), WireError> {
        let mut at = 0;
        let route = match number::read(payload, &mut at, 33)?.ok_or(WireError::BadFrame)? {
            0 => PacketRoute::Default,
            1 => PacketRoute::Unknown,
            index => PacketRoute::Index(u32::try_from(index - 2).map_err(|_| WireError::BadFrame)?),
        };
        let what = *payload.get(at).ok_or(WireError::BadFrame)?;
        at += 1;
        let kind = match what & !NUMBERED {
            0 => Kind::Message,
            1 => Kind::Request,
            2 => Kind::Notify,
            _ => return Err(WireError::BadFrame),
        };
        let number = match what & NUMBERED {
            0 => 0,
            // 0 is said without it, so that each head has one form.
            _ => match number::read_u32(payload, &mut at)? {
                0 => return Err(WireError::BadFrame),
                number => number,
            },
        };
        let id = match kind {
            Kind::Request => number::read_u32(payload, &mut at)?,
            _ => 0,
        };
        let head = PacketHead {
            route,
            kind,
            id,
            number,
        };
        Ok((head, at))
    }
}

/// What a message is to the client that gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    Response {
        id: u32,
    },
    Error {
        id: u32,
    },
    /// By the index under which the sender made the name known (`Control::Name`).
    Push {
        name: u32,
    },
    /// By a bare number.
    PushNumber {
        number: u32,
    },
    /// The session's end; the body is the reason.
    Kick,
    /// The same; the body is another address for the client.
    Redirect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHead {
    pub kind: MessageKind,
    /// Of a group: for those whose payloads are in one of these formats, a bit each; 3: for all.
    pub formats: u8,
}

const FORMATS_SHIFT: u32 = 4;

impl MessageHead {
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (what, value) = match self.kind {
            MessageKind::Response { id } => (0, Some(id)),
            MessageKind::Error { id } => (1, Some(id)),
            MessageKind::Push { name } => (2, Some(name)),
            MessageKind::PushNumber { number } => (3, Some(number)),
            MessageKind::Kick => (4, None),
            MessageKind::Redirect => (5, None),
        };
        out.push(what | (self.formats & 3) << FORMATS_SHIFT);
        if let Some(value) = value {
            number::write(value.into(), out);
        }
    }

    /// The head, and where the body begins.
    #[inline]
    pub fn decode(payload: &[u8]) -> Result<(MessageHead, usize), WireError> {
        let what = *payload.first().ok_or(WireError::BadFrame)?;
        let mut at = 1;
        let mut value = || number::read_u32(payload, &mut at);
        let kind = match what & 0x0f {
            0 => MessageKind::Response { id: value()? },
            1 => MessageKind::Error { id: value()? },
            2 => MessageKind::Push { name: value()? },
            3 => MessageKind::PushNumber { number: value()? },
            4 => MessageKind::Kick,
            5 => MessageKind::Redirect,
            _ => return Err(WireError::BadFrame),
        };
        let formats = what >> FORMATS_SHIFT;
        if formats == 0 || formats > 3 {
            return Err(WireError::BadFrame);
        }
        Ok((MessageHead { kind, formats }, at))
    }
}

/// The receivers of a message to a list of sessions, which stand in front of its head: their number, then
/// four bytes each.
pub fn write_list(sessions: impl ExactSizeIterator<Item = u32>, out: &mut Vec<u8>) {
    number::write(sessions.len() as u64, out);
    sessions.for_each(|session| out.extend_from_slice(&session.to_be_bytes()));
}

/// The receivers, and where the message begins.
pub fn read_list(payload: &[u8]) -> Result<(impl Iterator<Item = u32> + '_, usize), WireError> {
    let mut at = 0;
    let count = number::read_u32(payload, &mut at)? as usize;
    let bytes = count.checked_mul(4).ok_or(WireError::BadFrame)?;
    let end = at.checked_add(bytes).ok_or(WireError::BadFrame)?;
    let list = payload.get(at..end).ok_or(WireError::BadFrame)?;
    let handles = list.chunks_exact(4);
    let handles = handles.map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
    Ok((handles, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets() -> impl Strategy<Value = PacketHead> {
        let routes = prop_oneof![
            Just(PacketRoute::Default),
            Just(PacketRoute::Unknown),
            any::<u32>().prop_map(PacketRoute::Index),
        ];
        let kinds = prop_oneof![Just(Kind::Message), Just(Kind::Notify), Just(Kind::Request)];
        (routes, kinds, any::<u32>(), any::<u32>()).prop_map(|(route, kind, id, number)| {
            let id = if kind == Kind::Request { id } else { 0 };
            PacketHead {
                route,
                kind,
                id,
                number,
            }
        })
    }

    fn messages() -> impl Strategy<Value = MessageHead> {
        let kinds = (0..6u8, any::<u32>()).prop_map(|(what, value)| match what {
            0 => MessageKind::Response { id: value },
            1 => MessageKind::Error { id: value },
            2 => MessageKind::Push { name: value },
            3 => MessageKind::PushNumber { number: value },
            4 => MessageKind::Kick,
            _ => MessageKind::Redirect,
        });
        (kinds, 1..=3u8).prop_map(|(kind, formats)| MessageHead { kind, formats })
    }

    proptest! {
        #[test]
        fn heads_come_back(packet in packets(), message in messages(), body in any::<[u8; 3]>()) {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            let length = bytes.len();
            bytes.extend_from_slice(&body);
            prop_assert_eq!(PacketHead::decode(&bytes), Ok((packet, length)));
            for cut in 0..length {
                prop_assert!(PacketHead::decode(&bytes[..cut]).is_err());
            }
            bytes.clear();
            message.encode(&mut bytes);
            prop_assert_eq!(MessageHead::decode(&bytes), Ok((message, bytes.len())));
            for cut in 0..bytes.len() {
                prop_assert!(MessageHead::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn lists_come_back(handles in proptest::collection::vec(any::<u32>(), 0..300)) {
            let mut bytes = Vec::new();
            write_list(handles.iter().copied(), &mut bytes);
            let length = bytes.len();
            bytes.push(7);
            let (read, at) = read_list(&bytes).unwrap();
            prop_assert_eq!(read.collect::<Vec<_>>(), handles);
            prop_assert_eq!(at, length);
            prop_assert!(read_list(&bytes[..length - 1]).is_err());
        }

        #[test]
        fn anything_else_is_refused_or_read_within_its_bounds(bytes in any::<[u8; 12]>()) {
            for decoded in [PacketHead::decode(&bytes).map(|of| of.1), MessageHead::decode(&bytes).map(|of| of.1)] {
                prop_assert!(decoded.is_err() || decoded.is_ok_and(|at| at <= bytes.len()));
            }
        }
    }
}
