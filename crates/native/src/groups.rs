//! The names of groups, and who is in them as Python sees it at once.
//!
//! The reactors keep their own member lists, changed by commands in order with the messages
//! (`photinus_engine::group`); this is what `len(group)` and `session in group` answer from.

use photinus_engine::handle::Handle;
use std::collections::{HashMap, HashSet};

#[derive(Default)]
pub struct Groups {
    numbers: HashMap<String, u32>,
    rows: Vec<Row>,
    /// Numbers of groups that have emptied. Commands are carried out in order, so a number can be
    /// given to the next name at once.
    vacant: Vec<u32>,
}

#[derive(Default)]
struct Row {
    name: String,
    members: HashSet<u32>,
}

impl Groups {
    /// The group's number, if it has members.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// `None`: it was a member.
    pub fn add(&mut self, name: &str, member: Handle) -> Option<u32> {
        let number = self.number(name).unwrap_or_else(|| {
            let number = self.vacant.pop().unwrap_or(self.rows.len() as u32);
            if number as usize == self.rows.len() {
                self.rows.push(Row::default());
            }
            self.rows[number as usize].name = name.to_owned();
            self.numbers.insert(name.to_owned(), number);
            number
        });
        self.rows[number as usize]
            .members
            .insert(member.0)
            .then_some(number)
    }

    /// `None`: it was no member.
    pub fn remove(&mut self, name: &str, member: Handle) -> Option<u32> {
        let number = self.number(name)?;
        self.take_out(number, member).then_some(number)
    }

    /// Out of the group of this number; an emptied group's name is forgotten.
    pub fn take_out(&mut self, number: u32, member: Handle) -> bool {
        let Some(row) = self.rows.get_mut(number as usize) else {
            return false;
        };
        let was = row.members.remove(&member.0);
        if was && row.members.is_empty() {
            row.members = HashSet::new();
            self.numbers.remove(&std::mem::take(&mut row.name));
            self.vacant.push(number);
        }
        was
    }

    pub fn len(&self, name: &str) -> usize {
        self.number(name)
            .map_or(0, |number| self.rows[number as usize].members.len())
    }

    pub fn has(&self, name: &str, member: Handle) -> bool {
        let has = |number: u32| self.rows[number as usize].members.contains(&member.0);
        self.number(name).is_some_and(has)
    }
}
