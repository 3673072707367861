//! What a world comes to, however little or much of what is on the way still arrives.

use crate::model::{require, Checked, Down, Event, How, World};
use photinus_proto::binding::Action;

impl World {
    /// However it goes on from here.
    pub fn comes_to_rest(&self) -> Checked {
        self.clone().stand_still()?;
        self.clone().settle()?;
        self.clone().end()
    }

    /// Nobody answers, and time passes: the client is read again.
    fn stand_still(mut self) -> Checked {
        for _ in 0..3 {
            self.step(Event::Wait)?;
        }
        require!(self.binding.next_ms().is_none(), "waits without an end");
        require!(!self.held, "the client is held without an end");
        Ok(())
    }

    /// All that is on the way arrives, and no time passes: there is one owner, which gets what is sent now; or
    /// none, if that is lost.
    fn settle(mut self) -> Checked {
        for i in 0..self.nodes.len() {
            if self.nodes[i].cut && !self.nodes[i].lost {
                self.step(Event::Notice(i))?;
            }
        }
        self.deliver_all()?;
        require!(!self.binding.is_moving(), "does not come to rest");
        require!(self.moving.is_none(), "a move has no end");
        let Some((at, epoch)) = self.binding.forward() else {
            return Ok(());
        };
        self.step(Event::Send)?;
        self.deliver_all()?;
        require!(
            self.delivered.last() == Some(&(self.sent.len() as u32 - 1)),
            "what is sent to {at} at rest is not answered"
        );
        for (i, node) in self.nodes.iter().enumerate() {
            let has = node.owner.as_ref().is_some_and(|owner| !owner.is_gone());
            require!(!has || node.cut || i == at, "{i} was not told to forget");
        }
        let excused = |i: usize, epoch| self.nodes[i].lost || self.given_up.contains(&(i, epoch));
        for (number, (i, epoch)) in self.sent.iter().enumerate() {
            let handled = self.handled.iter().any(|of| of.0 == number as u32);
            require!(handled || excused(*i, *epoch), "packet {number} is lost");
        }
        for (number, i, of) in &self.handled {
            let delivered = self.delivered.contains(number);
            require!(delivered || excused(*i, *of), "output {number} is lost");
        }
        require!(
            self.nodes[at].app.next == self.sent.len() as u32,
            "at {epoch}"
        );
        Ok(())
    }

    /// The session ends: whoever is reached has nothing of it any more, and the client is not held.
    fn end(mut self) -> Checked {
        let mut actions = Vec::new();
        self.binding.clone().close(&mut actions);
        for action in actions {
            match action {
                Action::SendDetach { to, epoch } => self.push(to, Down::Detach(epoch)),
                Action::Release if self.held => self.held = false,
                action => return Err(format!("{action:?} at the end")),
            }
        }
        require!(!self.held, "held behind the end");
        for i in 0..self.nodes.len() {
            while !self.nodes[i].down.is_empty() {
                self.finish(i, How::Done)?;
                self.hear(i)?;
            }
            let node = &self.nodes[i];
            let has = node.owner.as_ref().is_some_and(|owner| !owner.is_gone());
            require!(!has || node.cut, "{i} was not told of the end");
        }
        Ok(())
    }

    fn deliver_all(&mut self) -> Checked {
        loop {
            let next = self.possible().into_iter().find(|event| {
                matches!(
                    event,
                    Event::Hear(_) | Event::Read(_) | Event::Finish(_, How::Done)
                )
            });
            match next {
                Some(event) => self.step(event)?,
                None => return Ok(()),
            }
        }
    }
}
