//! Groups whose members are at several nodes: each member is counted where its client is, so that a message to
//! any number of them is one frame a link.

use super::Reactor;
use crate::back::Back;
use crate::handle::Handle;
use crate::limits::LINK_GROUPS;
use crate::outbox::{Action, OutItem};
use photinus_proto::bluenet::control::Control;
use photinus_proto::bluenet::header::{Header, Kind, Priority};
use photinus_proto::error::WireError;
use std::collections::hash_map::Entry;

/// The place of a member that is elsewhere.
const ELSEWHERE: u32 = u32::MAX;

impl<B: Back> Reactor<B> {
    /// A session of ours, wherever its client is, joins a group of ours.
    pub(super) fn add_to_group(&mut self, group: u32, member: Handle) {
        let Some(session) = self.sessions.live(member) else {
            return;
        };
        let Some(link) = session.remote.as_ref().map(|of| of.link.local()) else {
            return self.groups.add(group, member, &mut self.sessions);
        };
        if session.groups.iter().any(|&(of, _)| of == group) {
            return;
        }
        session.groups.push((group, ELSEWHERE));
        if let Some(neighbour) = self.neighbours.at_mut(link) {
            *neighbour.members.entry(group).or_default() += 1;
        }
        self.say_to_proxy(member, Priority::Usual, Control::GroupAdd { group });
    }

    pub(super) fn remove_from_group(&mut self, group: u32, member: Handle) {
        let Some(session) = self.sessions.live(member) else {
            return;
        };
        let Some(link) = session.remote.as_ref().map(|of| of.link.local()) else {
            return self.groups.remove(group, member, &mut self.sessions);
        };
        let before = session.groups.len();
        session.groups.retain(|&(of, _)| of != group);
        if session.groups.len() < before {
            self.one_less(link, group);
            self.say_to_proxy(member, Priority::Usual, Control::GroupRemove { group });
        }
    }

    /// It is about to end. Where its client is, that is known.
    pub(super) fn leave_groups(&mut self, member: Handle) {
        let Some(session) = self.sessions.live(member) else {
            return;
        };
        let Some(link) = session.remote.as_ref().map(|of| of.link.local()) else {
            return self.groups.leave_all(member, &mut self.sessions);
        };
        for (group, _) in std::mem::take(&mut session.groups) {
            self.one_less(link, group);
        }
    }

    fn one_less(&mut self, link: u32, group: u32) {
        let members = self.neighbours.at_mut(link).map(|of| &mut of.members);
        let Some(members) = members else { return };
        if let Some(count) = members.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                members.remove(&group);
            }
        }
    }

    /// A message to those members of a group whose clients are elsewhere.
    pub(super) fn send_to_neighbours(&mut self, entry: &OutItem, body: &[u8]) {
        let Action::GroupSend {
            group, but, format, ..
        } = entry.action
        else {
            return;
        };
        let Some(waits) = super::outbound::waits(entry) else {
            return;
        };
        let remote = self.sessions.remote(but);
        let but = remote.map(|of| (of.link, of.theirs));
        let mut links = std::mem::take(&mut self.link_list);
        let with = self
            .neighbours
            .all()
            .filter(|of| of.members.contains_key(&group));
        links.extend(with.map(|of| of.link));
        for &link in &links {
            let but = but.filter(|(of, _)| *of == link).map(|(_, theirs)| theirs);
            let source = but.unwrap_or(Handle::NONE).0;
            let header = Header::new(Kind::Group, Priority::Usual, group, source);
            self.push_message(link.local(), header, waits, format.0, &[], body);
        }
        links.clear();
        self.link_list = links;
    }

    /// Another node's group has this client of ours as a member.
    pub(super) fn join_group(
        &mut self,
        link: Handle,
        group: u32,
        member: Handle,
    ) -> Result<(), WireError> {
        let Some(neighbour) = self.neighbours.at_mut(link.local()) else {
            return Ok(());
        };
        let (groups, count) = (&mut self.groups, neighbour.groups.len());
        let group = match neighbour.groups.entry(group) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if count == LINK_GROUPS => return Err(WireError::BadFrame),
            Entry::Vacant(free) => *free.insert(groups.found(link)),
        };
        // Behind the messages that came before, which are not for it.
        self.relayed.push(Action::GroupAdd { group, member }, b"");
        Ok(())
    }

    pub(super) fn leave_group(&mut self, link: Handle, group: u32, member: Handle) {
        let neighbour = self.neighbours.at_mut(link.local());
        let ours = neighbour.and_then(|of| of.groups.get(&group).copied());
        if let Some(group) = ours {
            // Behind the messages that came before, which are.
            self.relayed
                .push(Action::GroupRemove { group, member }, b"");
        }
    }

    /// A client of ours is in no group of this node's any more, unless the node still has something of it.
    pub(super) fn leave_groups_of(&mut self, link: Handle, member: Handle) {
        let bindings = self.sessions.bindings(member);
        if bindings.is_some_and(|of| of.places().all(|(_, place)| place.link != link)) {
            let action = Action::GroupsLeave { link, member };
            self.relayed.push(action, b"");
        }
    }
}
