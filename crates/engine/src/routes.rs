//! The table by which a packet's route becomes a number that Python's handlers are found by.

use std::collections::HashMap;

#[derive(Default)]
pub struct Routes {
    names: HashMap<Box<str>, u32>,
    numbers: HashMap<u32, u32>,
}

impl Routes {
    pub fn add_name(&mut self, name: &str, index: u32) {
        self.names.insert(name.into(), index);
    }

    pub fn add_number(&mut self, number: u32, index: u32) {
        self.numbers.insert(number, index);
    }

    /// Keys are ours alone, so a client can't make the table's look-ups slow.
    pub fn by_name(&self, name: &[u8]) -> Option<u32> {
        self.names.get(std::str::from_utf8(name).ok()?).copied()
    }

    pub fn by_number(&self, number: u32) -> Option<u32> {
        self.numbers.get(&number).copied()
    }
}
