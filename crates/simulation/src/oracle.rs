//! What must be true, whatever happens: everybody tells here what they send and what they get, and a panic says
//! what is wrong with it.
//!
//! A *life* is one session as its client sees it, from its first welcome to its end. A *chain* is all that
//! goes between it and one of its bindings (0 is the home), across all owners that this has had. Attached anew, it is
//! another chain.
//!
//! Held at each step:
//! 1. What a client says in one chain is handled in order and at most once. It is handled exactly once up to
//!    each gap that an owner was told of.
//! 2. What answers it, and what its owners tell it, comes to the client in order and once, and without a
//!    hole in a chain that had no gap.
//! 3. Nothing comes to a life that is not its, and no handle that was another's is taken for it.
//! 4. What one node's application sends another's over one link comes once and in order, a priority apart.
//! 5. A member of a group gets each of its messages at most once.

use crate::trace::Trace;
use crate::wire::Numbered;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub struct Oracle {
    trace: Trace,
    lives: Vec<Life>,
    messages: Vec<Message>,
    /// Lives by the connection that they came over: its proxy, that one's generation, its number there.
    connections: BTreeMap<(String, u64, u64), u32>,
    asked: BTreeMap<u32, Asked>,
    requests: u32,
    /// By link, as its sender counts them, and priority: how many frames it was given, and how many have come.
    mail: BTreeMap<(u32, u8), (u32, u32)>,
    links: u32,
}

#[derive(Default)]
struct Life {
    client: usize,
    chains: Vec<Chain>,
    /// It was told that some of what was sent to it is lost.
    gap: bool,
    /// Why it is over.
    over: Option<String>,
    groups: BTreeSet<u32>,
    /// By class.
    attached: BTreeMap<u8, Attached>,
}

#[derive(Debug, Clone, Copy)]
struct Attached {
    chain: u8,
    /// `None`: it was asked for, or is being left.
    slot: Option<u8>,
}

/// What an owner has asked a proxy for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    life: u32,
    what: Wish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Attach { class: u8 },
    Move,
    Leave { class: u8 },
}

#[derive(Default)]
struct Chain {
    said: u32,
    handled: BTreeSet<u32>,
    /// Requests that no answer has come to, in their order.
    open: VecDeque<u32>,
    told: u32,
    heard: u32,
    /// Owners that were lost, with whatever was on its way to and from them.
    gaps: u32,
    class: u8,
    /// It is left, or was refused or lost: what still goes there goes nowhere.
    closed: bool,
    /// Gaps of the home when it asked for this. With a home is lost what it was told: that this is not attached any
    /// more. The next one, which is told of the gap, attaches again what it needs.
    home_gaps: u32,
}

/// What was sent to a group once.
struct Message {
    /// Who has to get it, while nothing between them and its sender is lost.
    due: BTreeSet<u32>,
    got: BTreeSet<u32>,
}

/// A request's id holds its chain in four bits.
const MOST_CHAINS: usize = 15;

/// What an owner knows of a chain, and hands to the next owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// `None`: it has heard nothing yet, so it does not know whose session this is.
    pub life: Option<u32>,
    pub chain: u8,
    /// The number that comes next; `None`: behind a gap.
    pub next: Option<u32>,
    pub handled: u32,
    /// There is a gap before it, which the oracle does not know of, since it does not know whose.
    untold_gap: bool,
}

impl Owned {
    /// Nothing was said yet.
    pub fn new(life: Option<u32>, chain: u8) -> Owned {
        Owned {
            life,
            chain,
            next: Some(0),
            handled: 0,
            untold_gap: false,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let life = self.life.unwrap_or(u32::MAX);
        let next = self.next.unwrap_or(u32::MAX);
        let numbers = [life, u32::from(self.chain), next, self.handled];
        numbers.map(u32::to_be_bytes).concat()
    }

    /// `None`: it is none.
    pub fn decode(state: &[u8]) -> Option<Owned> {
        let number = |at: usize| Some(u32::from_be_bytes(*state.get(4 * at..)?.first_chunk()?));
        let known = |value: u32| (value != u32::MAX).then_some(value);
        Some(Owned {
            life: known(number(0)?),
            chain: number(1)? as u8,
            next: known(number(2)?),
            handled: number(3)?,
            untold_gap: false,
        })
    }
}

impl Life {
    /// Whether some of what this chain carried may be lost.
    fn is_lost(&self, chain: u8) -> bool {
        let of = &self.chains[usize::from(chain)];
        let home_lost = chain > 0 && self.chains[0].gaps > of.home_gaps;
        home_lost || of.gaps > 0 || of.closed
    }
}

/// What clients tell.
impl Oracle {
    pub fn new(trace: Trace) -> Oracle {
        Oracle {
            trace,
            lives: Vec::new(),
            messages: Vec::new(),
            connections: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            mail: BTreeMap::new(),
            links: 0,
        }
    }

    /// A client comes as somebody new.
    pub fn be_born(&mut self, client: usize) -> u32 {
        self.lives.push(Life {
            client,
            chains: vec![Chain::default()],
            ..Life::default()
        });
        self.lives.len() as u32 - 1
    }

    /// It says the next in this chain.
    pub fn say(&mut self, life: u32, chain: u8, is_request: bool) -> Numbered {
        let of = self.chain(life, chain);
        let number = of.said;
        of.said += 1;
        if is_request {
            of.open.push_back(number);
        }
        Numbered {
            life,
            chain,
            number,
        }
    }

    pub fn hear_answer(&mut self, by: u32, to: Numbered, request: u32) {
        assert_eq!(to.life, by, "an answer went astray: {to:?}");
        assert_eq!(to.number, request, "an answer to another request");
        let whole = self.is_whole(by, to.chain);
        let open = &mut self.chain(by, to.chain).open;
        while let Some(first) = open.pop_front() {
            if first == to.number {
                return;
            }
            assert!(!whole, "no answer to {first}, and one to {to:?}");
        }
        panic!("a second answer, or one out of order: {to:?}");
    }

    /// A request was refused: what it was for is not there.
    pub fn hear_error(&mut self, by: u32, chain: u8, number: u32) {
        let lost = self.lives[by as usize].is_lost(chain);
        let of = self.chain(by, chain);
        let before = of.open.len();
        of.open.retain(|open| *open != number);
        assert!(
            of.open.len() < before,
            "a second answer to {number} in chain {chain}"
        );
        assert!(
            lost,
            "request {number} in chain {chain} of {by} was refused"
        );
    }

    /// Where this life says things of a class to, if it is attached.
    pub fn chain_of(&self, life: u32, class: u8) -> Option<u8> {
        let attached = self.lives[life as usize].attached.get(&class)?;
        attached.slot.map(|_| attached.chain)
    }

    /// The chain of what it is attached to of a class, or is to be.
    pub fn attached(&self, life: u32, class: u8) -> Option<u8> {
        let attached = self.lives[life as usize].attached.get(&class);
        attached.map(|of| of.chain)
    }

    pub fn connect(&mut self, proxy: &str, generation: u64, number: u64, life: u32) {
        let key = (proxy.to_owned(), generation, number);
        self.connections.insert(key, life);
    }

    pub fn hear_told(&mut self, by: u32, told: Numbered) {
        assert_eq!(told.life, by, "a push went astray: {told:?}");
        let whole = self.is_whole(by, told.chain);
        let chain = self.chain(by, told.chain);
        let expected = chain.heard;
        assert!(told.number >= expected, "a push came twice: {told:?}");
        assert!(
            told.number == expected || !whole,
            "pushes {expected} to {told:?} are lost"
        );
        chain.heard = told.number + 1;
    }

    pub fn hear_group(&mut self, by: u32, group: u32, message: u32) {
        let life = &self.lives[by as usize];
        assert!(life.groups.contains(&group), "{by} never was in {group}");
        let first = self.messages[message as usize].got.insert(by);
        assert!(first, "message {message} of group {group} came twice");
    }

    /// Some of what was sent to it is lost.
    pub fn miss(&mut self, life: u32) {
        self.lives[life as usize].gap = true;
    }

    /// It is over. The first to know says why.
    pub fn end(&mut self, life: u32, why: &str) {
        let over = &mut self.lives[life as usize].over;
        over.get_or_insert_with(|| why.to_owned());
    }
}

/// What applications tell.
impl Oracle {
    /// Whose session came over this connection (`memory:NUMBER`).
    pub fn whose(&self, proxy: &str, generation: u64, address: &str) -> Option<u32> {
        let number = address.strip_prefix("memory:")?.parse().ok()?;
        let key = (proxy.to_owned(), generation, number);
        self.connections.get(&key).copied()
    }

    /// An owner gets a session with this of it, whole or behind a gap. `by`: whose and which chain that is, as far
    /// as its address says.
    pub fn arrive(&mut self, owned: Owned, gap: bool, by: Option<(u32, u8)>) -> Owned {
        let Some(life) = owned.life else {
            // Nothing of it was handled so far, and that may be all that ever comes.
            if let Some((life, chain)) = by.filter(|_| gap) {
                self.chain(life, chain).gaps += 1;
            }
            return Owned {
                next: owned.next.filter(|_| !gap),
                untold_gap: owned.untold_gap || gap,
                ..owned
            };
        };
        let chain = self.chain(life, owned.chain);
        if gap {
            chain.gaps += 1;
            let next = None;
            return Owned { next, ..owned };
        }
        if chain.gaps == 0 && owned.next.is_some() {
            let handled = chain.handled.len() as u32;
            assert_eq!(
                owned.handled, handled,
                "the state of {owned:?} is not the last"
            );
        }
        owned
    }

    /// A packet of a class that the session is not attached to.
    pub fn handle_unrouted(&mut self, owned: Owned, class: u8) {
        let Some(life) = owned.life else { return };
        let life = &self.lives[life as usize];
        let closed = life.chains.iter().any(|of| of.class == class && of.closed);
        assert!(
            closed || life.chains[0].gaps > 0,
            "a packet of class {class} came to the home, and nothing was left or lost"
        );
    }

    /// Something is asked for; its number.
    pub fn ask(&mut self, life: u32, what: Wish) -> u32 {
        self.requests += 1;
        let of = &mut self.lives[life as usize];
        match what {
            Wish::Attach { class } => {
                let home_gaps = of.chains[0].gaps;
                of.chains.push(Chain {
                    class,
                    home_gaps,
                    ..Chain::default()
                });
                let chain = of.chains.len() as u8 - 1;
                let slot = None;
                of.attached.insert(class, Attached { chain, slot });
            }
            Wish::Leave { class } => {
                if let Some(attached) = of.attached.get_mut(&class) {
                    attached.slot = None;
                    of.chains[usize::from(attached.chain)].closed = true;
                }
            }
            Wish::Move => {}
        }
        self.asked.insert(self.requests, Asked { life, what });
        self.requests
    }

    /// What was asked for was done, or was not; 0: an attachment was lost. What that was.
    pub fn done(
        &mut self,
        life: Option<u32>,
        request: u32,
        slot: u8,
        reason: &str,
    ) -> &'static str {
        if request == 0 {
            let Some(life) = life else { return "loss" };
            let of = &mut self.lives[life as usize];
            let lost = of.attached.iter().find(|(_, of)| of.slot == Some(slot));
            if let Some((&class, &Attached { chain, .. })) = lost {
                of.attached.remove(&class);
                let chain = &mut of.chains[usize::from(chain)];
                (chain.closed, chain.gaps) = (true, chain.gaps + 1);
            }
            return "loss";
        }
        let asked = self.asked.remove(&request);
        let Asked { life: of, what } =
            asked.unwrap_or_else(|| panic!("nobody asked for {request}"));
        assert!(
            life.is_none_or(|life| life == of),
            "an answer went astray: {request}"
        );
        let of = &mut self.lives[of as usize];
        match what {
            Wish::Attach { class } if reason.is_empty() => {
                if let Some(attached) = of.attached.get_mut(&class) {
                    attached.slot = Some(slot);
                }
                "attach"
            }
            Wish::Attach { class } => {
                if let Some(attached) = of.attached.remove(&class) {
                    of.chains[usize::from(attached.chain)].closed = true;
                }
                "attach"
            }
            Wish::Leave { class } => {
                of.attached.remove(&class);
                "leave"
            }
            Wish::Move => "move",
        }
    }

    /// Places that something is bound in, with its class: the home, and what it is attached to.
    pub fn slots(&self, life: u32) -> Vec<(u8, u8)> {
        let attached = self.lives[life as usize].attached.iter();
        let attached = attached.filter_map(|(class, of)| Some((of.slot?, *class)));
        std::iter::once((0, 0)).chain(attached).collect()
    }

    /// Whether it may be attached to something of this class.
    pub fn is_free(&self, life: u32, class: u8) -> bool {
        let life = &self.lives[life as usize];
        !life.attached.contains_key(&class) && life.chains.len() < MOST_CHAINS
    }

    /// A packet comes to its owner. What the owner knows from here on.
    pub fn handle(&mut self, owned: Owned, packet: Numbered) -> Owned {
        let Owned { life, next, .. } = owned;
        if self.is_left_over(owned, packet) {
            let first = self
                .chain(packet.life, packet.chain)
                .handled
                .insert(packet.number);
            assert!(first, "{packet:?} is handled twice");
            self.trace
                .count("packets for what was left, at what came after it");
            return owned;
        }
        assert!(
            life.is_none_or(|life| life == packet.life),
            "{packet:?} came to the session of {life:?}"
        );
        assert!(
            life.is_none() || owned.chain == packet.chain,
            "{packet:?} came to chain {}",
            owned.chain
        );
        let chain = self.chain(packet.life, packet.chain);
        chain.gaps += u32::from(owned.untold_gap);
        assert!(packet.number < chain.said, "nobody said {packet:?}");
        let first = chain.handled.insert(packet.number);
        assert!(first, "{packet:?} is handled twice");
        if let Some(next) = next {
            assert_eq!(packet.number, next, "lost or out of order: {packet:?}");
        }
        Owned {
            life: Some(packet.life),
            chain: packet.chain,
            next: Some(packet.number + 1),
            handled: owned.handled + 1,
            untold_gap: false,
        }
    }

    /// A packet that its client said to what was attached before, and that was read when this was: they have the same routes.
    fn is_left_over(&self, owned: Owned, packet: Numbered) -> bool {
        let chains = &self.lives[packet.life as usize].chains;
        let said_to = &chains[usize::from(packet.chain)];
        let now = match owned.life {
            Some(life) => (life == packet.life).then_some(owned.chain),
            None => self.attached(packet.life, said_to.class),
        };
        said_to.closed
            && now.is_some_and(|now| {
                now > packet.chain && chains[usize::from(now)].class == said_to.class
            })
    }

    /// The owner tells the session the next.
    pub fn tell(&mut self, owned: Owned) -> Option<Numbered> {
        let life = owned.life?;
        let chain = self.chain(life, owned.chain);
        let number = chain.told;
        chain.told += 1;
        Some(Numbered {
            life,
            chain: owned.chain,
            number,
        })
    }

    pub fn join(&mut self, owned: Owned, group: u32) {
        if let Some(life) = owned.life {
            self.lives[life as usize].groups.insert(group);
        }
    }

    /// A message to a group, and who has to get it.
    pub fn tell_group(&mut self, due: BTreeSet<u32>) -> u32 {
        let got = BTreeSet::new();
        self.messages.push(Message { due, got });
        self.messages.len() as u32 - 1
    }
}

/// What applications send each other over links.
impl Oracle {
    /// A link, as this end of it counts.
    pub fn link(&mut self) -> u32 {
        self.links += 1;
        self.links
    }

    /// The number of the next frame.
    pub fn post(&mut self, link: u32, priority: u8) -> u32 {
        let (sent, _) = self.mail.entry((link, priority)).or_default();
        *sent += 1;
        *sent - 1
    }

    pub fn receive(&mut self, link: u32, priority: u8, number: u32) {
        let (sent, heard) = self.mail.entry((link, priority)).or_default();
        assert!(number < *sent, "nobody sent frame {number} of link {link}");
        assert_eq!(
            number, *heard,
            "frames of link {link}, priority {priority}: lost, doubled or out of order"
        );
        *heard += 1;
    }

    /// The link is there at its end: all that it was given has come.
    pub fn check_link(&mut self, link: u32) {
        for (of, (sent, heard)) in &self.mail {
            assert!(
                of.0 != link || sent == heard,
                "{of:?}: {heard} of {sent} frames have come"
            );
        }
    }
}

impl Oracle {
    pub fn is_over(&self, life: u32) -> bool {
        self.lives[life as usize].over.is_some()
    }

    /// Nothing of what this chain carried may be lost.
    fn is_whole(&self, life: u32, chain: u8) -> bool {
        let life = &self.lives[life as usize];
        !life.gap && !life.is_lost(chain)
    }

    /// How many packets have been handled by now.
    pub fn handled(&self) -> usize {
        let chains = self.lives.iter().flat_map(|of| &of.chains);
        chains.map(|of| of.handled.len()).sum()
    }

    /// All faults are healed, all time has passed: everything that was to come has come.
    pub fn check_rest(&mut self) {
        for at in 0..self.lives.len() as u32 {
            let life = &self.lives[at as usize];
            if life.over.is_some() {
                continue;
            }
            self.trace.count("lives to the end");
            for (number, chain) in life.chains.iter().enumerate() {
                if !self.is_whole(at, number as u8) {
                    self.trace.count("chains with a gap");
                    continue;
                }
                let Chain {
                    said, told, heard, ..
                } = *chain;
                let what = format!("life {at} of client {}, chain {number}", life.client);
                let handled = chain.handled.len() as u32;
                assert_eq!(handled, said, "{what}: all that was said is handled");
                assert_eq!(chain.open, [], "{what}: all requests are answered");
                assert_eq!(heard, told, "{what}: all that was told was heard");
                self.trace.count("chains without a gap");
            }
        }
        for (number, message) in self.messages.iter().enumerate() {
            for due in &message.due {
                let life = &self.lives[*due as usize];
                let lost = life.chains.iter().any(|of| of.gaps > 0 || of.closed);
                let lost = lost || life.over.is_some() || life.gap;
                assert!(
                    lost || message.got.contains(due),
                    "message {number} to a group never came to life {due}"
                );
            }
        }
    }

    fn chain(&mut self, life: u32, chain: u8) -> &mut Chain {
        let life = self.lives.get_mut(life as usize);
        let chain = life.and_then(|life| life.chains.get_mut(usize::from(chain)));
        chain.expect("a number that was never given")
    }
}
