//! A session whose client is at another node's proxy, as its owner knows it.

use crate::bindings::BINDINGS;
use crate::handle::Handle;
use crate::outbox::FormatSet;
use crate::shared::format_of;
use photinus_proto::bluenet::control::Tag;
use photinus_proto::codec::Protocol;

pub struct Remote {
    /// The link over which its client is reached.
    pub link: Handle,
    /// The session's handle there.
    pub theirs: Handle,
    bindings: Vec<Bound>,
}

/// What of this node a session is bound to.
struct Bound {
    /// Under which that is known at the proxy.
    tag: Tag,
    target: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was announced, and has not been answered: packets come, and nothing is said to the client.
    Arriving,
    Speaks,
    /// Its state was given away: neither is so. It may come back under another tag.
    Left,
}

/// The target that stands for the application of a node, as a home.
pub const HOME: u32 = 0;

impl Remote {
    pub fn new(link: Handle, theirs: Handle) -> Remote {
        Remote {
            link,
            theirs,
            bindings: Vec::new(),
        }
    }

    /// `false`: there is no such place, or the proxy does not keep to the order of moves: of one place it gives us the
    /// next time at most while it has not told us the end of the one before.
    #[must_use]
    pub fn arrive(&mut self, tag: Tag, target: u32) -> bool {
        let of_place = self.bindings.iter();
        let of_place = of_place.filter(|of| of.tag.slot() == tag.slot());
        let twice = of_place.clone().any(|of| of.tag == tag) || of_place.count() > 1;
        let right = !twice && tag.slot().is_some_and(|of| usize::from(of) < BINDINGS);
        if right {
            self.bindings.push(Bound {
                tag,
                target,
                stage: Stage::Arriving,
            });
        }
        right
    }

    /// What is sent to the session goes out under this tag from now on. `false`: there is no such.
    pub fn speak(&mut self, tag: Tag) -> bool {
        if self.target(tag).is_none() {
            return false;
        }
        // An earlier time of the same has been told to the end by now.
        self.bindings
            .retain(|of| of.tag.slot() != tag.slot() || of.tag == tag || of.stage != Stage::Left);
        self.set(tag, Stage::Speaks);
        true
    }

    pub fn leave(&mut self, tag: Tag) {
        self.set(tag, Stage::Left);
    }

    /// It was not taken, and is gone; or it was not let go, and comes back under another tag.
    pub fn refuse(&mut self, tag: Tag) {
        let arriving = |of: &Bound| of.tag == tag && of.stage == Stage::Arriving;
        if self.bindings.iter().any(arriving) {
            // With it goes what it had left with: that came back, and was not taken.
            self.bindings.retain(|of| of.tag.slot() != tag.slot());
        }
        self.leave(tag);
    }

    fn set(&mut self, tag: Tag, stage: Stage) {
        for of in self.bindings.iter_mut().filter(|of| of.tag == tag) {
            of.stage = stage;
        }
    }

    /// What was bound under this tag, and with it what it had left with: that has come back with it.
    pub fn unbind(&mut self, tag: Tag) -> Option<u32> {
        let at = self.bindings.iter().position(|of| of.tag == tag)?;
        let Bound { target, stage, .. } = self.bindings.remove(at);
        if stage != Stage::Left {
            self.bindings.retain(|of| of.tag.slot() != tag.slot());
        }
        Some(target)
    }

    /// What takes packets under this tag.
    #[inline]
    pub fn target(&self, tag: Tag) -> Option<u32> {
        let found = self.bindings.iter().find(|of| of.tag == tag);
        found
            .filter(|of| of.stage != Stage::Left)
            .map(|of| of.target)
    }

    /// Whether this takes packets.
    #[inline]
    pub fn is_bound_to(&self, target: u32) -> bool {
        let mut takes = self.bindings.iter().filter(|of| of.stage != Stage::Left);
        takes.any(|of| of.target == target)
    }

    /// The tag that what is sent to it bears: its home's, if it is here. An attachment can be ended without a FENCE, and
    /// what is on its way under its tag is not delivered then.
    #[inline]
    pub fn tag(&self) -> Option<Tag> {
        let speak = self.bindings.iter().filter(|of| of.stage == Stage::Speaks);
        speak.map(|of| of.tag).min_by_key(|of| of.slot())
    }

    /// The newest of those that have not been answered.
    pub fn arriving(&self) -> Option<Tag> {
        let mut arriving = self.bindings.iter().rev();
        arriving
            .find(|of| of.stage == Stage::Arriving)
            .map(|of| of.tag)
    }

    /// Any of its tags, for what is said of the session and not to it.
    pub fn any_tag(&self) -> Option<Tag> {
        let newest = |left: bool| {
            let mut found = self.bindings.iter().rev();
            found.find(|of| left || of.stage != Stage::Left)
        };
        let silent = newest(false).or_else(|| newest(true));
        self.tag().or(silent.map(|of| of.tag))
    }

    /// Whether this node is its home.
    pub fn is_home(&self) -> bool {
        let mut speak = self.bindings.iter().filter(|of| of.stage == Stage::Speaks);
        speak.any(|of| of.target == HOME)
    }

    pub fn is_free(&self) -> bool {
        self.bindings.is_empty()
    }
}

/// What a client speaks, in a byte: the place of its protocol's name, and its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken(u8);

const NAMES: [&str; 5] = ["length", "firefly", "pomelo", "photinus", "plain"];
/// Marks the number of what is spoken among those of listeners.
const REMOTE: u16 = 1 << 15;

impl Spoken {
    pub fn of(protocol: &Protocol) -> Spoken {
        let name = protocol.name();
        let place = NAMES.iter().position(|of| *of == name).unwrap_or(0) as u8;
        Spoken(place << 1 | u8::from(format_of(protocol) == FormatSet::JSON))
    }

    /// `None`: there is no such protocol.
    pub fn from_byte(byte: u8) -> Option<Spoken> {
        (usize::from(byte >> 1) < NAMES.len()).then_some(Spoken(byte))
    }

    pub fn byte(self) -> u8 {
        self.0
    }

    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0 >> 1)]
    }

    pub fn format(self) -> FormatSet {
        match self.0 & 1 {
            0 => FormatSet::MSGPACK,
            _ => FormatSet::JSON,
        }
    }

    /// Stands where a listener's number would, of a session that has none here.
    pub fn as_listener(self) -> u16 {
        REMOTE | u16::from(self.0)
    }

    /// `None`: it is a listener's number.
    pub fn from_listener(listener: u16) -> Option<Spoken> {
        let byte = u8::try_from(listener & !REMOTE).ok()?;
        (listener & REMOTE != 0)
            .then(|| Spoken::from_byte(byte))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_fits_a_byte() {
        for (name, format) in [
            ("pomelo", FormatSet::JSON),
            ("photinus", FormatSet::MSGPACK),
        ] {
            let protocol = Protocol::from_options(name, &[], 1024).unwrap();
            let spoken = Spoken::of(&protocol);
            assert_eq!((spoken.name(), spoken.format()), (name, format));
            assert_eq!(Spoken::from_byte(spoken.byte()), Some(spoken));
            assert_eq!(Spoken::from_listener(spoken.as_listener()), Some(spoken));
        }
        assert_eq!(Spoken::from_byte(255), None);
        assert_eq!(Spoken::from_listener(3), None);
    }

    #[test]
    fn it_speaks_between_its_arrival_and_its_leave() {
        let (first, second) = (Tag::new(0, 1), Tag::new(0, 3));
        let mut remote = Remote::new(Handle(1), Handle(2));
        assert!(remote.arrive(first, HOME) && !remote.arrive(first, HOME));
        assert_eq!((remote.target(first), remote.tag()), (Some(HOME), None));
        assert!(remote.speak(first));
        assert_eq!(remote.tag(), Some(first));
        remote.leave(first);
        assert_eq!((remote.target(first), remote.tag()), (None, None));
        assert!(!remote.is_bound_to(HOME) && !remote.is_free());
        assert!(remote.arrive(second, HOME));
        assert!(
            !remote.arrive(Tag::new(0, 5), HOME),
            "two are told of already"
        );
        assert!(
            !remote.arrive(Tag::new(9, 1), HOME),
            "there is no such place"
        );
        assert_eq!(remote.any_tag(), Some(second));
        assert!(!remote.speak(first) && remote.speak(second));
        assert_eq!(remote.unbind(first), None, "an earlier time of the same");
        assert_eq!(remote.unbind(second), Some(HOME));
        assert!(remote.is_free());
    }

    #[test]
    fn what_came_back_goes_with_what_it_had_left_with() {
        let mut remote = Remote::new(Handle(1), Handle(2));
        let [first, back, other] = [Tag::new(1, 1), Tag::new(1, 3), Tag::new(2, 1)];
        for tag in [first, other] {
            assert!(remote.arrive(tag, 7) && remote.speak(tag));
        }
        remote.leave(first);
        assert!(remote.arrive(back, 7));
        assert_eq!(remote.unbind(back), Some(7));
        assert_eq!(remote.unbind(first), None);
        assert!(remote.arrive(first, 7), "another time, from the beginning");
        assert_eq!(remote.target(other), Some(7), "another place");
    }

    #[test]
    fn what_it_left_with_is_forgotten_alone() {
        let mut remote = Remote::new(Handle(1), Handle(2));
        let (first, back) = (Tag::new(1, 1), Tag::new(1, 3));
        assert!(remote.arrive(first, 7) && remote.speak(first));
        remote.leave(first);
        assert!(remote.arrive(back, 7));
        assert_eq!(remote.unbind(first), Some(7));
        assert_eq!(remote.target(back), Some(7));
    }

    #[test]
    fn what_is_sent_bears_the_tag_of_the_home_if_that_is_here() {
        let mut remote = Remote::new(Handle(1), Handle(2));
        let (home, attached) = (Tag::new(0, 5), Tag::new(2, 1));
        for tag in [attached, home] {
            assert!(remote.arrive(tag, 7) && remote.speak(tag));
            assert_eq!(remote.tag(), Some(tag));
        }
        remote.leave(home);
        assert_eq!(remote.tag(), Some(attached));
    }
}
