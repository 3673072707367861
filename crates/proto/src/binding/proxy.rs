//! The proxy's half of a move: who owns a binding, whether the client is read, whose output reaches it.
//!
//! Rules:
//! 1. From FENCE to ARRIVE the client is not read ([`Action::Hold`], [`Action::Release`]). From ARRIVE on, its
//!    packets follow on the new owner's link.
//! 2. The state that FENCED brought is kept until ARRIVED. Until then the way back is open: ARRIVE at the old
//!    owner, with the next epoch and the same state.
//! 3. A FENCE cannot be recalled. So a move that is given up after it, for whatever reason, gives the binding
//!    back to its old owner: ARRIVE without a state, right behind the FENCE. The owner then leaves and takes back
//!    what it left with, whenever it comes to that; its late FENCED is recognised by the epoch before. Hence:
//!    **for each FENCE an owner gets exactly one ARRIVE or DETACH behind it, and only one owner's last such frame
//!    is an ARRIVE**, whatever was lost, and whoever is slow.
//! 4. A step times out only if there is somebody else to turn to. An owner that has its own back is waited for,
//!    as is any owner that is stuck: the link or the membership tells when it is lost.
//! 5. A gap is told to an owner if something that the client sent, or saw, may not be in what this owner begins
//!    with.
//! 6. One move at a time.
//!
//! Order of calls: [`new`](Binding::new); for each packet of the client that is to be forwarded,
//! [`forward`](Binding::forward); for each output of an owner, [`delivers`](Binding::delivers); `handle_*` as
//! things happen, [`handle_timeout`](Binding::handle_timeout) at [`next_ms`](Binding::next_ms). What they append
//! is carried out in its order, at once. At the end [`close`](Binding::close).

use super::{after, before, MAX_STATE, STEP_MS};
use crate::planted::{is_planted, Planted};
use std::sync::Arc;

/// `T` names an owner: a link, and whom of that node. What comes after a lost link has another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding<T> {
    /// Of the owner that packets go to; in `Leaving`, of the one that they went to.
    epoch: u16,
    stage: Stage<T>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage<T> {
    Steady {
        at: T,
    },
    /// FENCE was sent to `from`. Nothing is forwarded.
    Leaving {
        from: T,
        to: T,
        since: u64,
    },
    /// ARRIVE was sent to `at`.
    Arriving {
        at: T,
        origin: Origin<T>,
        state: Option<Arc<[u8]>>,
        /// Whether a packet went there.
        forwarded: bool,
        since: u64,
    },
    Lost {
        state: Option<Arc<[u8]>>,
    },
}

/// Whose it was before it was sent to where it is arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin<T> {
    /// That owner's, which lives, and takes it back.
    Alive(T),
    /// That of one which was lost.
    Gone,
    /// The same one's: the move has failed. Until it is known to be fenced, its output from before is due.
    Same { fenced: bool },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<T> {
    /// Behind the last packet.
    SendFence { to: T, epoch: u16 },
    /// Without a state and without a gap: it begins with what it left with itself.
    SendArrive {
        to: T,
        epoch: u16,
        state: Option<Arc<[u8]>>,
        gap: bool,
    },
    /// It is to forget what it has of this epoch.
    SendDetach { to: T, epoch: u16 },
    /// The client is not to be read.
    Hold,
    /// The client may be read again.
    Release,
    /// The end of a move. Also of one to where it is.
    Moved { at: T, epoch: u16 },
    /// The end of a move to `to`. `back_at` has the binding, or soon has it back; nobody has if it is none, and
    /// [`Action::TellLost`] follows if that is news.
    MoveFailed {
        to: T,
        back_at: Option<T>,
        reason: Reason,
    },
    /// Nobody has it. Whoever leads this binding gives it to another owner ([`Binding::replace`]), or drops it.
    TellLost { reason: Reason },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is a move under way.
    Busy,
    /// The old owner does not let it go, or the new one does not take it.
    Refused,
    /// The owner's link was lost.
    Lost,
    /// The owner did not answer within [`STEP_MS`].
    TimedOut,
    /// The state has more than [`MAX_STATE`] bytes.
    TooLarge,
}

impl Reason {
    /// The word under which the metrics count it and the logs name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Reason::Busy => "busy",
            Reason::Refused => "refused",
            Reason::Lost => "lost",
            Reason::TimedOut => "timed-out",
            Reason::TooLarge => "too-large",
        }
    }
}

impl<T: Copy + Eq> Binding<T> {
    pub fn new(at: T, epoch: u16) -> Binding<T> {
        Binding {
            epoch,
            stage: Stage::Steady { at },
        }
    }

    /// Where the client's next packet goes, which the caller sends there: nowhere while the client is held, and
    /// if nobody has the binding.
    pub fn forward(&mut self) -> Option<(T, u16)> {
        match &mut self.stage {
            Stage::Steady { at } => Some((*at, self.epoch)),
            Stage::Arriving { at, forwarded, .. } => {
                *forwarded = true;
                Some((*at, self.epoch))
            }
            Stage::Leaving { .. } | Stage::Lost { .. } => None,
        }
    }

    /// Whether this owner's output goes to the client. If not, it is dropped and counted.
    pub fn delivers(&self, from: T, epoch: u16) -> bool {
        match self.stage {
            Stage::Steady { at } | Stage::Leaving { from: at, .. } => {
                from == at && epoch == self.epoch
            }
            Stage::Arriving { at, origin, .. } => {
                let unfenced = origin == Origin::Same { fenced: false };
                from == at && (epoch == self.epoch || unfenced && epoch == before(self.epoch))
            }
            Stage::Lost { .. } => false,
        }
    }

    /// Who has it, or is getting it; while it leaves, who had it.
    #[inline]
    pub fn at(&self) -> Option<T> {
        match self.stage {
            Stage::Steady { at } | Stage::Leaving { from: at, .. } | Stage::Arriving { at, .. } => {
                Some(at)
            }
            Stage::Lost { .. } => None,
        }
    }

    /// Under which [`at`](Binding::at) knows it.
    #[inline]
    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    /// What its place is bound under next, when this is over.
    pub fn next_epoch(&self) -> u16 {
        after(self.epoch)
    }

    /// Whose word it is that is said under this epoch, if it is anybody's who has something of it.
    #[inline]
    pub fn owner(&self, epoch: u16) -> Option<T> {
        if epoch == self.epoch {
            return self.at();
        }
        match self.stage {
            Stage::Arriving { at, origin, .. } if epoch == before(self.epoch) => match origin {
                Origin::Alive(old) => Some(old),
                Origin::Same { fenced: false } => Some(at),
                // Of one that was given up, if it is anybody's.
                Origin::Same { fenced: true } | Origin::Gone => None,
            },
            _ => None,
        }
    }

    /// Everybody who has something of it, or is to have it: at most two.
    pub fn owners(&self) -> impl Iterator<Item = T> {
        let other = match self.stage {
            Stage::Leaving { to, .. } => Some(to),
            Stage::Arriving {
                origin: Origin::Alive(old),
                ..
            } => Some(old),
            _ => None,
        };
        self.at().into_iter().chain(other)
    }

    /// Whether a move is under way, or what a failed one left to be done.
    pub fn is_moving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. } | Stage::Arriving { .. })
    }

    /// Whether the client must not be read for this binding.
    pub fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
    }

    pub fn is_lost(&self) -> bool {
        matches!(self.stage, Stage::Lost { .. })
    }

    /// What is kept for an owner that has not said that it has it.
    pub fn state(&self) -> Option<&Arc<[u8]>> {
        match &self.stage {
            Stage::Arriving { state, .. } | Stage::Lost { state } => state.as_ref(),
            Stage::Steady { .. } | Stage::Leaving { .. } => None,
        }
    }

    /// It is to go to another owner. Ends in one [`Action::Moved`] or [`Action::MoveFailed`]; asking again for
    /// what is under way changes nothing and shares that end.
    pub fn handle_move(&mut self, to: T, now_ms: u64, actions: &mut Vec<Action<T>>) {
        let epoch = self.epoch;
        let busy = |back_at| Action::MoveFailed {
            to,
            back_at,
            reason: Reason::Busy,
        };
        match self.stage {
            Stage::Steady { at }
            | Stage::Arriving {
                at,
                origin: Origin::Same { .. },
                ..
            } if at == to => actions.push(Action::Moved { at, epoch }),
            Stage::Steady { at: from } if is_planted(Planted::SkippedFence) => {
                let (origin, state) = (Origin::Alive(from), Some(Arc::default()));
                self.arrive(to, origin, state, false, now_ms, actions);
            }
            Stage::Steady { at: from } => {
                self.stage = Stage::Leaving {
                    from,
                    to,
                    since: now_ms,
                };
                actions.push(Action::Hold);
                actions.push(Action::SendFence { to: from, epoch });
            }
            Stage::Leaving { to: going, .. } | Stage::Arriving { at: going, .. } if going == to => {
            }
            Stage::Leaving { from: at, .. } | Stage::Arriving { at, .. } => {
                actions.push(busy(Some(at)))
            }
            Stage::Lost { .. } => actions.push(Action::MoveFailed {
                to,
                back_at: None,
                reason: Reason::Lost,
            }),
        }
    }

    /// It was lost, and this owner is to have it: with the state that was kept, else with `copy`, else with none,
    /// and in any case with a gap. Ends like a move.
    pub fn replace(
        &mut self,
        to: T,
        copy: Option<&[u8]>,
        now_ms: u64,
        actions: &mut Vec<Action<T>>,
    ) {
        let reason = match &mut self.stage {
            Stage::Lost { state } => {
                let kept = state.take();
                match copy {
                    Some(copy) if kept.is_none() && copy.len() > MAX_STATE => Reason::TooLarge,
                    _ => {
                        let state = kept.or_else(|| copy.map(Arc::from));
                        return self.arrive(to, Origin::Gone, state, true, now_ms, actions);
                    }
                }
            }
            _ => Reason::Busy,
        };
        actions.push(Action::MoveFailed {
            to,
            back_at: self.at(),
            reason,
        });
    }

    /// The old owner has handled all that was before FENCE, and this is behind its last output.
    pub fn handle_fenced(
        &mut self,
        from: T,
        epoch: u16,
        state: &[u8],
        now_ms: u64,
        actions: &mut Vec<Action<T>>,
    ) {
        match self.stage {
            Stage::Leaving { from: at, .. }
                if (at, self.epoch) == (from, epoch) && state.len() > MAX_STATE =>
            {
                self.take_back(Reason::TooLarge, true, now_ms, actions);
            }
            Stage::Leaving { from: at, to, .. } if (at, self.epoch) == (from, epoch) => {
                let origin = Origin::Alive(from);
                self.arrive(to, origin, Some(state.into()), false, now_ms, actions);
                actions.push(Action::Release);
            }
            _ if self.is_late(from, epoch) => self.know_fenced(Some(state)),
            _ => {}
        }
    }

    /// The new owner has it.
    pub fn handle_arrived(&mut self, at: T, epoch: u16, actions: &mut Vec<Action<T>>) {
        let origin = match self.stage {
            Stage::Arriving { at: to, origin, .. } if (to, self.epoch) == (at, epoch) => origin,
            _ => return,
        };
        self.stage = Stage::Steady { at };
        if let Origin::Alive(old) = origin {
            actions.push(Action::SendDetach {
                to: old,
                epoch: before(epoch),
            });
        }
        if !matches!(origin, Origin::Same { .. }) {
            actions.push(Action::Moved { at, epoch });
        }
    }

    /// The new owner does not take it, and has forgotten it; or the old one does not let it go, and is otherwise
    /// as if it had said FENCED.
    pub fn handle_refused(&mut self, by: T, epoch: u16, now_ms: u64, actions: &mut Vec<Action<T>>) {
        match self.stage {
            Stage::Leaving { from, .. } if (from, self.epoch) == (by, epoch) => {
                self.take_back(Reason::Refused, true, now_ms, actions);
            }
            Stage::Arriving { at, forwarded, .. } if (at, self.epoch) == (by, epoch) => {
                self.turn_back(Reason::Refused, forwarded, now_ms, actions);
            }
            _ if self.is_late(by, epoch) => self.know_fenced(None),
            _ => {}
        }
    }

    /// This owner was lost: nothing more comes from it.
    pub fn handle_lost(&mut self, target: T, now_ms: u64, actions: &mut Vec<Action<T>>) {
        match &mut self.stage {
            Stage::Steady { at } if *at == target => {
                self.stage = Stage::Lost { state: None };
                actions.push(Action::TellLost {
                    reason: Reason::Lost,
                });
            }
            Stage::Leaving { from, to, .. } if *from == target => {
                let to = *to;
                self.arrive(to, Origin::Gone, None, true, now_ms, actions);
                actions.push(Action::Release);
            }
            Stage::Leaving { to, .. } if *to == target => {
                self.take_back(Reason::Lost, false, now_ms, actions);
            }
            Stage::Arriving { at, .. } if *at == target => {
                self.turn_back(Reason::Lost, true, now_ms, actions);
            }
            Stage::Arriving { origin, .. } if *origin == Origin::Alive(target) => {
                *origin = Origin::Gone;
            }
            _ => {}
        }
    }

    /// When [`handle_timeout`](Binding::handle_timeout) is due.
    pub fn next_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Leaving { since, .. } => Some(since + STEP_MS),
            Stage::Arriving {
                origin: Origin::Same { .. },
                ..
            } => None,
            Stage::Arriving { since, .. } => Some(since + STEP_MS),
            Stage::Steady { .. } | Stage::Lost { .. } => None,
        }
    }

    /// Nothing happens if it is called too early.
    pub fn handle_timeout(&mut self, now_ms: u64, actions: &mut Vec<Action<T>>) {
        if self.next_ms().is_none_or(|due| now_ms < due) {
            return;
        }
        if let Stage::Arriving { at, .. } = self.stage {
            actions.push(Action::SendDetach {
                to: at,
                epoch: self.epoch,
            });
            self.turn_back(Reason::TimedOut, true, now_ms, actions);
        } else {
            self.take_back(Reason::TimedOut, false, now_ms, actions);
        }
    }

    /// The session has ended, or is detached: every owner that has something of it is told to forget it. A client
    /// that was held is not any more.
    pub fn close(self, actions: &mut Vec<Action<T>>) {
        let epoch = self.epoch;
        match self.stage {
            Stage::Steady { at: to } => actions.push(Action::SendDetach { to, epoch }),
            Stage::Leaving { from: to, .. } => {
                actions.push(Action::SendDetach { to, epoch });
                actions.push(Action::Release);
            }
            Stage::Arriving { at: to, origin, .. } => {
                actions.push(Action::SendDetach { to, epoch });
                if let Origin::Alive(to) = origin {
                    let epoch = before(epoch);
                    actions.push(Action::SendDetach { to, epoch });
                }
            }
            Stage::Lost { .. } => {}
        }
    }

    fn arrive(
        &mut self,
        to: T,
        origin: Origin<T>,
        state: Option<Arc<[u8]>>,
        gap: bool,
        now_ms: u64,
        actions: &mut Vec<Action<T>>,
    ) {
        self.epoch = after(self.epoch);
        actions.push(Action::SendArrive {
            to,
            epoch: self.epoch,
            state: state.clone(),
            gap,
        });
        self.stage = Stage::Arriving {
            at: to,
            origin,
            state,
            forwarded: false,
            since: now_ms,
        };
    }

    /// Gives up a move whose FENCE is out (rule 3).
    fn take_back(
        &mut self,
        reason: Reason,
        fenced: bool,
        now_ms: u64,
        actions: &mut Vec<Action<T>>,
    ) {
        let Stage::Leaving { from, to, .. } = self.stage else {
            return;
        };
        let origin = Origin::Same { fenced };
        self.arrive(from, origin, None, false, now_ms, actions);
        actions.push(Action::Release);
        actions.push(Action::MoveFailed {
            to,
            back_at: Some(from),
            reason,
        });
    }

    /// Gives up on the owner at which it was arriving (rule 2).
    fn turn_back(&mut self, reason: Reason, gap: bool, now_ms: u64, actions: &mut Vec<Action<T>>) {
        let Stage::Arriving {
            at, origin, state, ..
        } = &mut self.stage
        else {
            return;
        };
        let (to, origin, state) = (*at, *origin, state.take());
        let failed = |back_at| Action::MoveFailed {
            to,
            back_at,
            reason,
        };
        if let Origin::Alive(old) = origin {
            let origin = Origin::Same { fenced: true };
            self.arrive(old, origin, state, gap, now_ms, actions);
            actions.push(failed(Some(old)));
            return;
        }
        self.stage = Stage::Lost { state };
        if origin == Origin::Gone {
            actions.push(failed(None));
        }
        actions.push(Action::TellLost { reason });
    }

    /// Whether this answers a FENCE whose move was given up before.
    fn is_late(&self, from: T, epoch: u16) -> bool {
        match self.stage {
            Stage::Arriving { at, origin, .. } => {
                let due = (at, origin) == (from, Origin::Same { fenced: false });
                due && epoch == before(self.epoch)
            }
            _ => false,
        }
    }

    /// The owner that gets it back has left: should it be lost before it has arrived, here is what it left with.
    fn know_fenced(&mut self, left_with: Option<&[u8]>) {
        if let Stage::Arriving { origin, state, .. } = &mut self.stage {
            *origin = Origin::Same { fenced: true };
            *state = left_with
                .filter(|state| state.len() <= MAX_STATE)
                .map(Arc::from);
        }
    }
}
