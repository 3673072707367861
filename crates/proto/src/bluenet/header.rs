//! The header of a frame between nodes (docs/bluenet.md, 1).
//!
//! Rules:
//! 1. It has ten bytes, always. What does not fit stands at the payload's head, and flags say that it does.
//! 2. What this version does not know is refused: a bit that means nothing yet must not be carried on by a node
//!    that cannot know what it does to it.
//! 3. One header has one form: decoding and encoding again gives the same bytes.

use crate::error::WireError;

pub const HEADER_BYTES: usize = 10;

/// Between how many links a frame may be handed on. A proxy and a world node need one, a world node that hands on
/// to where a space has moved needs two: who needs more goes in circles.
pub const MOST_HOPS: u8 = 3;

/// A handle is `slot:20 | generation:12`: where something stands in a table, and which of those that stood there.
pub const SLOT_BITS: u32 = 20;
pub const GENERATION_BITS: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// What `destination` is.
    pub kind: Kind,
    /// How many links it has crossed before this one; at most [`MOST_HOPS`].
    pub hops: u8,
    pub priority: Priority,
    /// Where it came from before this link stands at the payload's head.
    pub ext: bool,
    pub flags: Flags,
    pub destination: u32,
    pub source: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Session = 0,
    /// A list of them, at the payload's head.
    Sessions = 1,
    Group = 2,
    Space = 3,
    Service = 4,
    /// A native one.
    App = 5,
    Node = 6,
    Control = 7,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Session,
        Kind::Sessions,
        Kind::Group,
        Kind::Space,
        Kind::Service,
        Kind::App,
        Kind::Node,
        Kind::Control,
    ];
}

/// What overtakes what. It is also the number of the frame's lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Priority {
    Bulk = 0,
    #[default]
    Usual = 1,
    High = 2,
    Control = 3,
}

impl Priority {
    pub const ALL: [Priority; 4] = [
        Priority::Bulk,
        Priority::Usual,
        Priority::High,
        Priority::Control,
    ];
}

/// Bits that say more about the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// The body is compressed, as the session's client and its proxy have agreed.
    pub const COMPRESSED: Flags = Flags(1);
    /// May be dropped where there is no room for it.
    pub const DROPPABLE: Flags = Flags(2);
    /// The number of a trace stands at the payload's head.
    pub const TRACED: Flags = Flags(4);
    /// An answer is due: the request's id stands at the payload's head.
    pub const REQUEST: Flags = Flags(8);
    /// Neither logs nor traces may show the payload.
    pub const SECRET: Flags = Flags(16);

    const KNOWN: u8 = 31;

    /// `None`: there is a bit among them that means nothing.
    pub const fn from_bits(bits: u8) -> Option<Flags> {
        match bits & !Flags::KNOWN {
            0 => Some(Flags(bits)),
            _ => None,
        }
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `others` are set.
    pub const fn has(self, others: Flags) -> bool {
        self.0 & others.0 == others.0
    }

    #[must_use]
    pub const fn with(self, others: Flags) -> Flags {
        Flags(self.0 | others.0)
    }

    #[must_use]
    pub const fn without(self, others: Flags) -> Flags {
        Flags(self.0 & !others.0)
    }
}

impl Header {
    /// Of the link itself: what it says to its other end (2.2). It is never counted, and never kept.
    pub const LINK: Header = Header::new(Kind::Control, Priority::Control, 0, 0);

    /// Without flags, on its first link.
    pub const fn new(kind: Kind, priority: Priority, destination: u32, source: u32) -> Header {
        Header {
            kind,
            hops: 0,
            priority,
            ext: false,
            flags: Flags::NONE,
            destination,
            source,
        }
    }

    /// `hops` above [`MOST_HOPS`] cannot be said: whoever hands a frame on looks at it before.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        debug_assert!(self.hops <= MOST_HOPS);
        let [a, b, c, d] = self.destination.to_be_bytes();
        let [e, f, g, h] = self.source.to_be_bytes();
        let first = (self.kind as u8) << 5
            | (self.hops & 3) << 3
            | (self.priority as u8) << 1
            | u8::from(self.ext);
        [first, self.flags.0, a, b, c, d, e, f, g, h]
    }

    /// Of the first ten of `bytes`; what stands behind them is not looked at. Fewer are a bad frame, as is a flag
    /// that means nothing.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Header, WireError> {
        let Some(&[first, flags, a, b, c, d, e, f, g, h]) = bytes.first_chunk::<HEADER_BYTES>()
        else {
            return Err(WireError::BadFrame);
        };
        Ok(Header {
            kind: Kind::ALL[usize::from(first >> 5)],
            hops: first >> 3 & 3,
            priority: Priority::ALL[usize::from(first >> 1 & 3)],
            ext: first & 1 != 0,
            flags: Flags::from_bits(flags).ok_or(WireError::BadFrame)?,
            destination: u32::from_be_bytes([a, b, c, d]),
            source: u32::from_be_bytes([e, f, g, h]),
        })
    }

    /// Whether the link itself is meant, at the other end.
    #[inline]
    pub fn is_link(&self) -> bool {
        self.kind == Kind::Control && self.destination == 0 && self.source == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_bits() {
        let header = Header {
            kind: Kind::Space,
            hops: 2,
            priority: Priority::High,
            ext: true,
            flags: Flags::DROPPABLE.with(Flags::REQUEST),
            destination: 0x0123_4567,
            source: 0x89ab_cdef,
        };
        let bytes = [0x75, 0x0a, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(&bytes), Ok(header));
        assert_eq!(Header::LINK.encode(), [0xe6, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn whatever_is_read_is_written_again() {
        for first in 0..=u8::MAX {
            for flags in 0..=u8::MAX {
                let bytes = [first, flags, 1, 2, 3, 4, 5, 6, 7, 8];
                match Header::decode(&bytes) {
                    Ok(header) => assert_eq!(header.encode(), bytes),
                    Err(error) => {
                        assert_eq!((error, flags > 31), (WireError::BadFrame, true));
                    }
                }
            }
        }
    }

    #[test]
    fn one_cut_short_is_refused() {
        let bytes = Header::LINK.encode();
        for cut in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&bytes[..cut]), Err(WireError::BadFrame));
        }
        let behind = [&bytes[..], &[0xff; 3]].concat();
        assert_eq!(Header::decode(&behind), Ok(Header::LINK));
    }

    #[test]
    fn only_control_without_handles_is_the_links_own() {
        assert!(Header::LINK.is_link());
        for header in [
            Header::new(Kind::Node, Priority::Control, 0, 0),
            Header::new(Kind::Control, Priority::Control, 1, 0),
            Header::new(Kind::Control, Priority::Control, 0, 1),
        ] {
            assert!(!header.is_link());
        }
        assert!(Header::new(Kind::Control, Priority::Bulk, 0, 0).is_link());
    }

    #[test]
    fn flags_are_a_set() {
        let two = Flags::TRACED.with(Flags::SECRET);
        assert!(two.has(Flags::TRACED) && two.has(two) && two.has(Flags::NONE));
        assert!(!two.has(Flags::TRACED.with(Flags::COMPRESSED)));
        assert_eq!(two.without(Flags::TRACED), Flags::SECRET);
        assert_eq!(Flags::from_bits(two.bits()), Some(two));
        assert_eq!(Flags::from_bits(32), None);
    }
}
