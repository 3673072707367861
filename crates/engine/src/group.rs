//! Groups of sessions, for messages that all of their members get. Each reactor knows its own members.
//!
//! A member's place is kept in its session, so that leaving (and ending) costs one swap a group.

use crate::handle::Handle;
use crate::session::Sessions;

/// Numbers from here on are those of other nodes' groups, as far as their members are here.
const OTHERS: u32 = 1 << 31;

#[derive(Default)]
pub struct Groups {
    members: Vec<Vec<Handle>>,
    others: Vec<Vec<Handle>>,
    /// Over which link each of those was told of.
    links: Vec<Handle>,
    /// Numbers among those that are free again.
    vacant: Vec<u32>,
}

impl Groups {
    #[inline]
    pub fn members(&self, group: u32) -> &[Handle] {
        let table = if group < OTHERS {
            &self.members
        } else {
            &self.others
        };
        let members = table.get((group & !OTHERS) as usize);
        members.map_or(&[], Vec::as_slice)
    }

    /// A number for a group of the node behind this link.
    pub fn found(&mut self, link: Handle) -> u32 {
        let group = self.vacant.pop().unwrap_or_else(|| {
            self.others.push(Vec::new());
            self.links.push(Handle::NONE);
            OTHERS | (self.others.len() - 1) as u32
        });
        self.links[(group & !OTHERS) as usize] = link;
        group
    }

    /// Out of all groups of the node behind this link.
    pub fn leave_those_of(&mut self, link: Handle, member: Handle, sessions: &mut Sessions) {
        let Some(session) = sessions.live(member) else {
            return;
        };
        let others = session.groups.iter().map(|&(of, _)| of);
        let others = others.filter(|of| *of >= OTHERS);
        let its = others.filter(|of| self.links[(of & !OTHERS) as usize] == link);
        for group in its.collect::<Vec<_>>() {
            self.remove(group, member, sessions);
        }
    }

    /// All of its members leave, and its number is free.
    pub fn dissolve(&mut self, group: u32, sessions: &mut Sessions) {
        for member in self.members(group).to_vec() {
            self.remove(group, member, sessions);
        }
        self.vacant.push(group);
    }

    fn members_mut(&mut self, group: u32) -> &mut Vec<Handle> {
        let table = if group < OTHERS {
            &mut self.members
        } else {
            &mut self.others
        };
        let place = (group & !OTHERS) as usize;
        if table.len() <= place {
            table.resize_with(place + 1, Vec::new);
        }
        &mut table[place]
    }

    /// Adding a member again, or a session that has ended, changes nothing.
    pub fn add(&mut self, group: u32, member: Handle, sessions: &mut Sessions) {
        let Some(session) = sessions.live(member) else {
            return;
        };
        if session.groups.iter().any(|&(of, _)| of == group) {
            return;
        }
        let members = self.members_mut(group);
        session.groups.push((group, members.len() as u32));
        members.push(member);
    }

    pub fn remove(&mut self, group: u32, member: Handle, sessions: &mut Sessions) {
        let Some(session) = sessions.live(member) else {
            return;
        };
        let Some(at) = session.groups.iter().position(|&(of, _)| of == group) else {
            return;
        };
        let (_, place) = session.groups.swap_remove(at);
        self.take_out(group, place, sessions);
    }

    /// Out of all groups; called before the session ends.
    pub fn leave_all(&mut self, member: Handle, sessions: &mut Sessions) {
        let Some(session) = sessions.live(member) else {
            return;
        };
        for (group, place) in std::mem::take(&mut session.groups) {
            self.take_out(group, place, sessions);
        }
    }

    fn take_out(&mut self, group: u32, place: u32, sessions: &mut Sessions) {
        let members = self.members_mut(group);
        members.swap_remove(place as usize);
        if members.capacity() > 64 && members.len() < members.capacity() / 4 {
            members.shrink_to(members.len() * 2);
        }
        let Some(&moved) = members.get(place as usize) else {
            return;
        };
        if let Some(session) = sessions.live(moved) {
            for entry in session.groups.iter_mut().filter(|(of, _)| *of == group) {
                entry.1 = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_right_as_members_come_and_go() {
        let (mut groups, mut sessions) = (Groups::default(), Sessions::new(0));
        let all: Vec<_> = (0..50).map(|at| sessions.open(at, 0, 0).unwrap()).collect();
        for &handle in &all {
            groups.add(1, handle, &mut sessions);
            groups.add(1, handle, &mut sessions);
            groups.add(3, handle, &mut sessions);
        }
        for (at, &handle) in all.iter().enumerate() {
            match at % 3 {
                0 => groups.remove(1, handle, &mut sessions),
                1 => {
                    groups.leave_all(handle, &mut sessions);
                    sessions.end(handle);
                }
                _ => {}
            }
        }
        let expected = |keep: fn(usize) -> bool| {
            let kept = all.iter().enumerate().filter(move |(at, _)| keep(*at));
            kept.map(|(_, handle)| handle.0)
                .collect::<std::collections::BTreeSet<_>>()
        };
        let found = |group| -> std::collections::BTreeSet<_> {
            groups
                .members(group)
                .iter()
                .map(|handle| handle.0)
                .collect()
        };
        assert_eq!(found(1), expected(|at| at % 3 == 2));
        assert_eq!(found(3), expected(|at| at % 3 != 1));
        assert_eq!(groups.members(1).len(), found(1).len());
        for group in [1, 3] {
            for (place, &handle) in groups.members(group).iter().enumerate() {
                let places = &sessions.live(handle).unwrap().groups;
                assert!(places.contains(&(group, place as u32)));
            }
        }
        assert!(groups.members(2).is_empty() && groups.members(99).is_empty());
    }
}
