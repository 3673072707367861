//! Names of pushes: each has one index in a reactor, whoever uses it, Python or another node.
//!
//! Python numbers its names itself; as long as nobody else has any, its numbers are the indices.

use crate::outbox::{Action, OutBatch, OutRoute, What};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub struct Names {
    names: Vec<(Arc<str>, u32)>,
    indices: HashMap<(Arc<str>, u32), u32>,
    /// By Python's number, and whether one is not the index.
    python: Vec<u32>,
    shifted: bool,
}

impl Names {
    #[inline]
    pub fn as_slice(&self) -> &[(Arc<str>, u32)] {
        &self.names
    }

    /// The index of a name with its number.
    pub fn intern(&mut self, name: &str, number: u32) -> u32 {
        let key = (Arc::from(name), number);
        if let Some(&index) = self.indices.get(&key) {
            return index;
        }
        let index = self.names.len() as u32;
        self.names.push(key.clone());
        self.indices.insert(key, index);
        index
    }

    /// Python calls it so from now on.
    pub fn set_python(&mut self, python: u32, name: &str, number: u32) {
        let index = self.intern(name, number);
        let place = python as usize;
        if self.python.len() <= place {
            self.python.resize(place + 1, 0);
        }
        self.python[place] = index;
        self.shifted |= index != python;
    }

    /// Has a batch of Python's say our indices.
    pub fn translate(&mut self, batch: &mut OutBatch) {
        for item in &batch.items {
            if let Action::NameRoute { index, number } = item.action {
                let name = String::from_utf8_lossy(batch.payload(item)).into_owned();
                self.set_python(index, &name, number);
            }
        }
        if !self.shifted {
            return;
        }
        for item in &mut batch.items {
            match &mut item.action {
                Action::Send {
                    what: What::Push(OutRoute::Named(index)),
                    ..
                }
                | Action::GroupSend {
                    route: OutRoute::Named(index),
                    ..
                }
                | Action::SendList {
                    route: OutRoute::Named(index),
                    ..
                }
                | Action::SendTo {
                    route: OutRoute::Named(index),
                    ..
                } => {
                    *index = self
                        .python
                        .get(*index as usize)
                        .copied()
                        .unwrap_or(u32::MAX)
                }
                _ => {}
            }
        }
    }

    /// Whether a batch of Python's must be translated before it is looked at.
    #[inline]
    pub fn are_shared(&self) -> bool {
        self.shifted || self.python.len() < self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Handle;
    use crate::outbox::Marks;

    fn push(index: u32) -> Action {
        Action::Send {
            to: Handle(1),
            what: What::Push(OutRoute::Named(index)),
            marks: Marks::NONE,
        }
    }

    #[test]
    fn python_keeps_its_numbers_while_it_is_alone() {
        let mut names = Names::default();
        for (index, name) in ["said", "moved"].into_iter().enumerate() {
            names.set_python(index as u32, name, 7);
        }
        assert!(!names.are_shared());
        assert_eq!(names.as_slice()[1], (Arc::from("moved"), 7));
    }

    #[test]
    fn another_nodes_names_shift_its_numbers() {
        let mut names = Names::default();
        names.set_python(0, "said", 7);
        assert_eq!(names.intern("waved", 7), 1);
        assert_eq!(names.intern("said", 7), 0);
        assert!(names.are_shared());
        let mut batch = OutBatch::default();
        let number = 7;
        batch.push(Action::NameRoute { index: 1, number }, b"left");
        batch.push(push(1), b"");
        batch.push(push(0), b"");
        names.translate(&mut batch);
        assert_eq!(batch.items[1].action, push(2));
        assert_eq!(batch.items[2].action, push(0));
        assert_eq!(names.as_slice()[2].0.as_ref(), "left");
    }
    #[test]
    fn names_that_python_has_in_another_order_are_translated_for_good() {
        let mut names = Names::default();
        names.intern("said", 7);
        names.set_python(0, "moved", 7);
        names.set_python(1, "said", 7);
        assert!(names.are_shared(), "each has as many, and they differ");
        let mut batch = OutBatch::default();
        batch.push(push(0), b"");
        batch.push(push(1), b"");
        names.translate(&mut batch);
        let pushes: Vec<_> = batch.items.iter().map(|of| of.action).collect();
        assert_eq!(pushes, [push(1), push(0)]);
    }
}
