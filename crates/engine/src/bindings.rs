//! Who owns a session of a client of ours: its home, and the spaces and services that it is attached to.
//!
//! Invariants: place 0 is the home. While a place is held, nothing that its client sends is decoded, so what
//! is held lies in the client's own socket. Each place is a state machine of photinus_proto's
//! (`binding`): what it says is carried out by `reactor/moving.rs` and nobody else.

use crate::handle::Handle;
use crate::remote::HOME;
use photinus_proto::binding::Binding;
use photinus_proto::bluenet::control::Tag;

/// A home and eight attachments: what a player is in at once (a place, its chat, a market) with room to spare.
pub const BINDINGS: usize = 9;

/// Somewhere that a session can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `Handle::NONE`: this node.
    pub link: Handle,
    pub target: u32,
    /// Whose routes are its, at its node.
    pub class: u32,
}

impl Place {
    /// This node itself, as a home.
    pub const HERE: Place = Place {
        link: Handle::NONE,
        target: HOME,
        class: 0,
    };

    #[inline]
    pub fn is_here(self) -> bool {
        self.link == Handle::NONE
    }
}

pub struct Bindings {
    bound: Vec<Option<Bound>>,
    /// Under which epoch each place is bound next. It goes on where it was: what is still said of the one before is not
    /// to be taken for the word of the next.
    next: [u16; BINDINGS],
    /// Places that are held, and those whose owner has said that its budget is used up: a bit each.
    held: u16,
    full: u16,
    /// Nodes that did not take it as its home since it last had one.
    pub declined: Vec<Handle>,
    /// The application of this node was told of it, and lets go of it at its end.
    pub known_here: bool,
    /// `session.data` as its home has told it last.
    pub data: Box<[u8]>,
    /// The client's, for its owners.
    pub address: Box<str>,
    /// Attachments that were lost while the home is on its way, each place once.
    pub losses: Vec<Loss>,
}

/// What a home is told, and its next one too if it has left by then.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    pub slot: u8,
    pub reason: &'static str,
    /// Who has heard of it.
    pub told: Handle,
}

pub struct Bound {
    pub machine: Binding<Place>,
    /// Who asked for what is under way: the place it spoke from, and its number for it.
    pub asked: Option<(u8, u32)>,
}

impl Bound {
    pub fn new(place: Place, epoch: u16, asked: Option<(u8, u32)>) -> Bound {
        Bound {
            machine: Binding::new(place, epoch),
            asked,
        }
    }
}

impl Bindings {
    pub fn new(home: Place, address: &str) -> Bindings {
        Bindings {
            bound: vec![Some(Bound::new(home, 1, None))],
            next: [1; BINDINGS],
            held: 0,
            full: 0,
            declined: Vec::new(),
            known_here: home.is_here(),
            data: Box::default(),
            address: address.into(),
            losses: Vec::new(),
        }
    }

    #[inline]
    pub fn at(&self, slot: u8) -> Option<&Bound> {
        self.bound.get(usize::from(slot))?.as_ref()
    }

    pub fn at_mut(&mut self, slot: u8) -> Option<&mut Bound> {
        self.bound.get_mut(usize::from(slot))?.as_mut()
    }

    /// Places that are taken.
    pub fn slots(&self) -> impl Iterator<Item = (u8, &Bound)> {
        let slots = self.bound.iter().enumerate();
        slots.filter_map(|(slot, bound)| Some((slot as u8, bound.as_ref()?)))
    }

    /// Takes a free place for an attachment, and says under which epoch. `None`: there is none.
    pub fn attach(&mut self, to: Place, asked: (u8, u32)) -> Option<(u8, u16)> {
        let free = (1..BINDINGS).find(|&slot| self.bound.get(slot).is_none_or(Option::is_none))?;
        if self.bound.len() <= free {
            self.bound.resize_with(free + 1, || None);
        }
        let epoch = self.next[free];
        self.bound[free] = Some(Bound::new(to, epoch, Some(asked)));
        Some((free as u8, epoch))
    }

    /// Frees a place.
    pub fn detach(&mut self, slot: u8) -> Option<Bound> {
        self.let_go(slot);
        let bound = self.bound.get_mut(usize::from(slot))?.take()?;
        self.next[usize::from(slot)] = bound.machine.next_epoch();
        Some(bound)
    }

    fn let_go(&mut self, slot: u8) {
        self.held &= !(1 << slot);
        self.full &= !(1 << slot);
    }

    pub fn hold(&mut self, slot: u8, held: bool) {
        self.held = self.held & !(1 << slot) | u16::from(held) << slot;
    }

    pub fn set_full(&mut self, slot: u8, full: bool) {
        self.full = self.full & !(1 << slot) | u16::from(full) << slot;
    }

    /// The node behind this link has said that this session's budget there is used up, or free again. `false`: it
    /// has nothing of it.
    pub fn set_full_at(&mut self, link: Handle, full: bool) -> bool {
        let slots = self.slots();
        let its = slots.filter(|(_, of)| of.machine.at().is_some_and(|at| at.link == link));
        let its: Vec<u8> = its.map(|(slot, _)| slot).collect();
        for &slot in &its {
            self.set_full(slot, full);
        }
        !its.is_empty()
    }

    /// Its client is not read now.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.held | self.full != 0
    }

    /// The place that is meant, and who of that node, by what an owner says under this tag. `None`: it is
    /// nobody's who is bound to it.
    #[inline]
    pub fn owner(&self, link: Handle, tag: Tag) -> Option<(u8, Place)> {
        let slot = tag.slot()?;
        let place = self.at(slot)?.machine.owner(tag.epoch())?;
        (place.link == link).then_some((slot, place))
    }

    /// Whether what an owner sends under this tag reaches the client.
    #[inline]
    pub fn delivers(&self, link: Handle, tag: Tag) -> bool {
        self.owner(link, tag).is_some_and(|(slot, place)| {
            let bound = self.at(slot);
            bound.is_some_and(|of| of.machine.delivers(place, tag.epoch()))
        })
    }

    /// All of the places that are bound, or to be, each with where that is.
    pub fn places(&self) -> impl Iterator<Item = (u8, Place)> + '_ {
        let slots = self.slots();
        slots.flat_map(|(slot, of)| of.machine.owners().map(move |place| (slot, place)))
    }

    /// At its end: what is left to be said of each place.
    pub fn into_machines(self) -> impl Iterator<Item = (u8, Binding<Place>)> {
        let slots = self.bound.into_iter().enumerate();
        slots.filter_map(|(slot, bound)| Some((slot as u8, bound?.machine)))
    }

    /// Who has what is bound now, with the tag under which they know it.
    pub fn owners(&self) -> impl Iterator<Item = (Tag, Place)> + '_ {
        let slots = self.slots();
        slots.filter_map(|(slot, of)| Some((Tag::new(slot, of.machine.epoch()), of.machine.at()?)))
    }
}
