//! A proxy with one binding, owners, and links between them that keep the order until they are lost. Each step
//! is one event; after each, what must hold is checked, and what does not is the error.
//!
//! The client's packets are numbered. An owner's state is the number of the last packet that it or its
//! predecessors handled, and whether a gap was told since; it answers each packet with its number.

use crate::owner::{Answer, Owner};
use photinus_proto::binding::{Action, Binding, Reason, MAX_STATE, STEP_MS};
use std::collections::VecDeque;
use std::sync::Arc;

/// Close to where epochs wrap.
const FIRST_EPOCH: u16 = 4094;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The client sends a packet, if it is read.
    Send,
    /// An owner takes the next frame.
    Hear(usize),
    /// An owner's application has left or arrived.
    Finish(usize, How),
    /// The proxy takes the next frame of an owner.
    Read(usize),
    /// A link breaks: what is on the way to the proxy is lost, and whatever is sent from now on.
    Cut(usize),
    /// The proxy finds that it is lost.
    Notice(usize),
    Move(usize),
    Replace(usize),
    /// The proxy waits for as long as its step may take.
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    Done,
    /// Does not leave; does not take it.
    Refused,
    /// Leaves with more than is allowed.
    TooLarge,
}

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    None,
    /// No FENCE: the proxy gives the new owner the copy that it has.
    NoFence,
    /// FENCE overtakes the packets before it.
    FenceOvertakes,
    /// Packets go to the old owner until ARRIVE.
    ReadsOn,
    /// An owner's output is delivered whatever its epoch.
    AnyOutput,
    /// An answer counts for whatever epoch is waited for.
    AnyAnswer,
    /// The state is dropped as soon as it was sent: back to the old owner without it.
    StateDropped,
    /// No gap is told.
    NoGap,
    /// The old owner is never told to forget.
    NoDetach,
    /// A stuck old owner gets no ARRIVE behind its FENCE.
    NoneBehindFence,
    /// The client stays held when the old owner is lost.
    NoRelease,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Down {
    Packet { number: u32, epoch: u16 },
    Fence(u16),
    Arrive(u16, Option<Arc<[u8]>>, bool),
    Detach(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Up {
    Output { number: u32, epoch: u16 },
    Fenced(u16, Arc<[u8]>),
    Arrived(u16),
    Refused(u16),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub down: VecDeque<Down>,
    pub up: VecDeque<Up>,
    pub cut: bool,
    /// The proxy knows.
    pub lost: bool,
    pub owner: Option<Owner>,
    pub app: App,
    /// It did not take what it had before.
    declined: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct App {
    /// The number of the next packet, unless there was a gap: at least this.
    pub next: u32,
    gap: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    fault: Fault,
    pub binding: Binding<usize>,
    now_ms: u64,
    pub held: bool,
    pub nodes: Vec<Node>,
    /// Who had the binding when it last was at rest.
    holder: (usize, u16),
    /// What the proxy took from the client, and where it went.
    pub sent: Vec<(usize, u16)>,
    pub handled: Vec<(u32, usize, u16)>,
    pub delivered: Vec<u32>,
    /// Owners that were given up while they lived, with what was sent to them.
    pub given_up: Vec<(usize, u16)>,
    /// Moves that have not ended; moves to the same owner end together.
    pub moving: Option<usize>,
    /// Nothing was lost, refused or waited for in vain.
    calm: bool,
    /// How often each happened: sends, moves, cuts, waits, refusals.
    pub spent: [u8; 5],
}

pub type Checked = Result<(), String>;

macro_rules! require {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use require;

impl World {
    pub fn new(owners: usize, fault: Fault) -> World {
        let mut nodes = vec![Node::default(); owners];
        nodes[0].owner = Some(Owner::new(FIRST_EPOCH));
        World {
            fault,
            binding: Binding::new(0, FIRST_EPOCH),
            now_ms: 0,
            held: false,
            nodes,
            holder: (0, FIRST_EPOCH),
            sent: Vec::new(),
            handled: Vec::new(),
            delivered: Vec::new(),
            given_up: Vec::new(),
            moving: None,
            calm: true,
            spent: [0; 5],
        }
    }

    /// All that can happen now.
    pub fn possible(&self) -> Vec<Event> {
        let mut events = vec![Event::Send];
        for (i, node) in self.nodes.iter().enumerate() {
            if node.owner.as_ref().is_some_and(Owner::is_busy) {
                let ways = [How::Done, How::Refused, How::TooLarge];
                events.extend(ways.map(|how| Event::Finish(i, how)));
            } else if !node.down.is_empty() {
                events.push(Event::Hear(i));
            }
            if !node.up.is_empty() {
                events.push(Event::Read(i));
            }
            if !node.cut {
                events.push(Event::Cut(i));
            }
            if node.cut && !node.lost {
                events.push(Event::Notice(i));
            }
            if !node.lost {
                events.push(if self.binding.is_lost() {
                    Event::Replace(i)
                } else {
                    Event::Move(i)
                });
            }
        }
        if self.binding.next_ms().is_some() {
            events.push(Event::Wait);
        }
        events
    }

    /// Events that are not possible change nothing.
    pub fn step(&mut self, event: Event) -> Checked {
        let mut actions = Vec::new();
        match event {
            Event::Send => {
                self.spent[0] += 1;
                self.send()?;
            }
            Event::Hear(i) => self.hear(i)?,
            Event::Finish(i, how) => self.finish(i, how)?,
            Event::Read(i) => self.read(i, &mut actions)?,
            Event::Cut(i) => {
                self.spent[2] += 1;
                self.calm = false;
                self.nodes[i].cut = true;
                self.nodes[i].up.clear();
            }
            Event::Notice(i) if self.nodes[i].cut => {
                self.nodes[i].lost = true;
                self.binding.handle_lost(i, self.now_ms, &mut actions);
                if self.fault == Fault::NoRelease {
                    actions.retain(|action| *action != Action::Release);
                }
            }
            Event::Notice(_) => {}
            Event::Move(i) => {
                self.spent[1] += 1;
                self.start(i, &mut actions);
            }
            Event::Replace(i) if self.binding.is_lost() => {
                self.moving = Some(i);
                self.binding.replace(i, None, self.now_ms, &mut actions);
            }
            Event::Replace(_) => {}
            Event::Wait => {
                self.spent[3] += 1;
                self.wait(&mut actions)?;
            }
        }
        self.carry_out(actions)?;
        self.check()
    }

    fn send(&mut self) -> Checked {
        let target = if self.held && self.fault == Fault::ReadsOn {
            Some(self.holder)
        } else if self.held {
            return Ok(());
        } else {
            self.binding.forward()
        };
        let Some((to, epoch)) = target else {
            require!(self.binding.is_lost(), "a client that is read gets nowhere");
            return Ok(());
        };
        let number = self.sent.len() as u32;
        self.sent.push((to, epoch));
        self.push(to, Down::Packet { number, epoch });
        Ok(())
    }

    pub fn push(&mut self, to: usize, frame: Down) {
        if !self.nodes[to].cut {
            self.nodes[to].down.push_back(frame);
        }
    }

    fn start(&mut self, to: usize, actions: &mut Vec<Action<usize>>) {
        let (resting, from) = (!self.binding.is_moving(), self.holder);
        if resting && !self.binding.is_lost() {
            self.moving = Some(to);
        }
        self.binding.handle_move(to, self.now_ms, actions);
        if self.fault == Fault::NoFence && self.binding.is_held() {
            actions.retain(|action| !matches!(action, Action::SendFence { .. }));
            let copy = self.nodes[from.0].app.encode();
            self.binding
                .handle_fenced(from.0, from.1, &copy, self.now_ms, actions);
        }
    }

    fn wait(&mut self, actions: &mut Vec<Action<usize>>) -> Checked {
        let Some(due) = self.binding.next_ms() else {
            return Ok(());
        };
        self.calm = false;
        require!(due <= self.now_ms + STEP_MS, "waits for longer than a step");
        self.binding.handle_timeout(due - 1, actions);
        require!(actions.is_empty(), "timed out too early");
        self.now_ms = due;
        self.binding.handle_timeout(due, actions);
        for action in &*actions {
            if let Action::SendDetach { to, epoch } = action {
                self.given_up.push((*to, *epoch));
            }
        }
        if self.fault == Fault::NoneBehindFence {
            actions.retain(|action| !matches!(action, Action::SendArrive { state: None, .. }));
        }
        Ok(())
    }

    pub fn hear(&mut self, i: usize) -> Checked {
        let node = &mut self.nodes[i];
        if node.owner.as_ref().is_some_and(Owner::is_busy) {
            return Ok(());
        }
        let Some(frame) = node.down.pop_front() else {
            return Ok(());
        };
        let owner = node.owner.take().filter(|owner| !owner.is_gone());
        let Some(mut owner) = owner else {
            if let Down::Arrive(epoch, state, gap) = frame {
                let (owner, answer) = Owner::arriving(epoch, state.as_deref(), gap);
                node.owner = Some(owner);
                return self.answer(i, answer);
            }
            return Ok(());
        };
        let answer = match frame {
            Down::Packet { number, epoch } => {
                require!(
                    owner.accepts(epoch),
                    "{i} gets packet {number} when it has left"
                );
                let app = &mut node.app;
                require!(
                    app.next == number || app.gap && app.next < number,
                    "{i} gets packet {number} in place of {}, and no gap was told",
                    app.next
                );
                let twice = self.handled.iter().any(|handled| handled.0 == number);
                require!(!twice, "packet {number} is handled twice");
                *app = App {
                    next: number + 1,
                    gap: false,
                };
                self.handled.push((number, i, epoch));
                if let (Some(epoch), false) = (owner.speaks(), node.cut) {
                    node.up.push_back(Up::Output { number, epoch });
                }
                None
            }
            Down::Fence(epoch) => owner.handle_fence(epoch),
            Down::Detach(epoch) => owner.handle_detach(epoch),
            Down::Arrive(epoch, state, gap) => {
                let answer = owner.handle_arrive(epoch, state.as_deref(), gap);
                require!(answer.is_some(), "{i} is to begin what it has not left");
                answer
            }
        };
        node.owner = Some(owner);
        answer.map_or(Ok(()), |answer| self.answer(i, answer))
    }

    pub fn finish(&mut self, i: usize, how: How) -> Checked {
        let node = &mut self.nodes[i];
        let Some(owner) = node.owner.as_mut().filter(|owner| owner.is_busy()) else {
            return Ok(());
        };
        if how != How::Done {
            self.spent[4] += 1;
        }
        let mut state = node.app.encode();
        // What an owner that leaves says is said under its epoch; while it arrives it is silent.
        let answer = match (owner.speaks(), how) {
            (Some(_), How::Refused) => owner.left(None),
            (Some(_), How::TooLarge) => {
                state.resize(MAX_STATE + 1, 0);
                owner.left(Some(&state))
            }
            (Some(_), How::Done) => owner.left(Some(&state)),
            (None, how) => {
                if how != How::Done {
                    self.calm = false;
                    self.nodes[i].declined = true;
                }
                let owner = self.nodes[i].owner.as_mut().unwrap();
                let answer = owner.arrived(how == How::Done);
                if let Some(Answer::SendRefused { epoch }) = answer {
                    self.given_up.push((i, epoch));
                }
                answer
            }
        };
        answer.map_or(Ok(()), |answer| self.answer(i, answer))
    }

    fn answer(&mut self, i: usize, answer: Answer) -> Checked {
        let calm = self.calm;
        let node = &mut self.nodes[i];
        let frame = match answer {
            Answer::Leave | Answer::Forget { .. } => return Ok(()),
            Answer::Arrive { state, gap } => {
                require!(!(calm && gap), "{i} is told of a gap, and nothing happened");
                node.app = App::decode(state.as_deref());
                node.app.gap |= gap;
                return Ok(());
            }
            Answer::SendFenced { epoch, state } => Up::Fenced(epoch, state),
            Answer::SendArrived { epoch } => Up::Arrived(epoch),
            Answer::SendRefused { epoch } => Up::Refused(epoch),
        };
        if !node.cut {
            node.up.push_back(frame);
        }
        Ok(())
    }

    fn read(&mut self, i: usize, actions: &mut Vec<Action<usize>>) -> Checked {
        let Some(frame) = self.nodes[i].up.pop_front() else {
            return Ok(());
        };
        // As if the epoch that is waited for stood there; it is at most two ahead.
        let taken = |epoch| match self.fault {
            Fault::AnyAnswer => (0..3).map(|more| (epoch + more) % 4096).collect(),
            _ => vec![epoch],
        };
        match frame {
            Up::Output { number, epoch } => {
                if self.delivers(i, epoch) {
                    let before = self.delivered.last();
                    require!(
                        before.is_none_or(|before| *before < number),
                        "output {number} is delivered behind {before:?}"
                    );
                    self.delivered.push(number);
                }
            }
            Up::Fenced(epoch, state) => {
                self.binding
                    .handle_fenced(i, epoch, &state, self.now_ms, actions);
            }
            Up::Arrived(epoch) => {
                for epoch in taken(epoch) {
                    self.binding.handle_arrived(i, epoch, actions);
                }
            }
            Up::Refused(epoch) => {
                for epoch in taken(epoch) {
                    self.binding.handle_refused(i, epoch, self.now_ms, actions);
                }
            }
        }
        Ok(())
    }

    fn delivers(&self, i: usize, epoch: u16) -> bool {
        match self.fault {
            Fault::AnyOutput => !self.nodes[i].lost,
            _ => self.binding.delivers(i, epoch),
        }
    }

    fn carry_out(&mut self, actions: Vec<Action<usize>>) -> Checked {
        for action in actions {
            match action {
                Action::Hold => {
                    require!(!self.held, "held twice");
                    self.held = true;
                }
                Action::Release => {
                    require!(self.held, "released twice");
                    self.held = false;
                }
                Action::SendFence { to, epoch } if self.fault == Fault::FenceOvertakes => {
                    self.nodes[to].down.push_front(Down::Fence(epoch));
                }
                Action::SendFence { to, epoch } => self.push(to, Down::Fence(epoch)),
                Action::SendDetach { .. } if self.fault == Fault::NoDetach => {}
                Action::SendDetach { to, epoch } => self.push(to, Down::Detach(epoch)),
                Action::SendArrive {
                    to,
                    epoch,
                    state,
                    gap,
                } => {
                    let back = to == self.holder.0;
                    let (state, gap) = match self.fault {
                        Fault::StateDropped if back => (None, gap),
                        Fault::NoGap if state.is_some() => (state, false),
                        _ => (state, gap),
                    };
                    match (&state, gap) {
                        (None, true) => require!(
                            self.holder_is_lost(),
                            "{to} begins without a state, and {} lives",
                            self.holder.0
                        ),
                        (None, false) => {
                            require!(back, "{to} is given back what it never had")
                        }
                        _ => {}
                    }
                    self.push(to, Down::Arrive(epoch, state, gap));
                }
                Action::Moved { at, epoch } => {
                    require!(
                        self.moving.is_none_or(|to| to == at),
                        "the move to {:?} has ended at {at}",
                        self.moving
                    );
                    require!(self.binding.delivers(at, epoch), "not moved to {at}");
                    self.moving = None;
                }
                Action::MoveFailed {
                    reason: Reason::Busy,
                    to,
                    ..
                } => require!(
                    self.moving != Some(to),
                    "the move to {to} is in its own way"
                ),
                Action::MoveFailed { to, .. } => {
                    require!(
                        self.moving == Some(to),
                        "a move to {to} fails that was none"
                    );
                    self.moving = None;
                }
                Action::TellLost { .. } => {
                    require!(self.binding.is_lost(), "told as lost, and is not");
                    require!(
                        self.binding.state().is_some() || self.holder_is_lost(),
                        "the state is lost, and {} lives",
                        self.holder.0
                    );
                }
            }
        }
        if !self.binding.is_moving() {
            if let Some(holder) = self.binding.forward() {
                self.holder = holder;
                self.nodes[holder.0].declined = false;
            }
        }
        Ok(())
    }

    fn holder_is_lost(&self) -> bool {
        self.nodes[self.holder.0].lost || self.nodes[self.holder.0].declined
    }

    fn check(&self) -> Checked {
        require!(
            self.held == self.binding.is_held() || self.fault == Fault::ReadsOn,
            "held is {}, and the stage says otherwise",
            self.held
        );
        let speaking = |(i, node): (usize, &Node)| {
            let epoch = node.owner.as_ref()?.speaks()?;
            (!node.cut).then_some((i, epoch))
        };
        let active: Vec<_> = self.nodes.iter().enumerate().filter_map(speaking).collect();
        let believing = active.iter().filter(|of| !self.given_up.contains(of));
        require!(believing.count() <= 1, "{active:?} are all active");
        let heard = active.iter().filter(|(i, epoch)| self.delivers(*i, *epoch));
        require!(heard.count() <= 1, "{active:?} are all heard");
        Ok(())
    }
}

impl App {
    fn encode(self) -> Vec<u8> {
        let mut state = self.next.to_le_bytes().to_vec();
        state.push(self.gap.into());
        state
    }

    fn decode(state: Option<&[u8]>) -> App {
        let Some(state) = state else {
            return App::default();
        };
        App {
            next: u32::from_le_bytes(state[..4].try_into().unwrap()),
            gap: state[4] == 1,
        }
    }
}
