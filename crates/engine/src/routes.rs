//! The tables by which a packet's route becomes a number that Python's handlers are found by.

use crate::inbox::DEFAULT_ROUTE;
use photinus_proto::bluenet::control::{Route, RouteKey};
use std::collections::HashMap;

/// All that a node serves: the routes of its application, and of each class of spaces and services. It is
/// replaced whole, and a route that stays keeps its index.
pub struct Routes {
    /// The first is the application's.
    classes: Vec<Class>,
    /// By index.
    names: HashMap<u32, Box<str>>,
    /// As other nodes are told of them.
    entries: Vec<u8>,
    /// Of packets that have none.
    default: u32,
}

/// The routes of one class.
#[derive(Default)]
pub struct Class {
    names: HashMap<Box<str>, u32>,
    numbers: HashMap<u32, u32>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            classes: vec![Class::default()],
            names: HashMap::new(),
            entries: Vec::new(),
            default: DEFAULT_ROUTE,
        }
    }
}

impl Routes {
    pub fn add_name(&mut self, class: u32, name: &str, index: u32) {
        self.class_mut(class).add_name(name, index);
        self.names.insert(index, name.into());
        let key = RouteKey::Name(name);
        Route { class, index, key }.encode(&mut self.entries);
    }

    pub fn add_number(&mut self, class: u32, number: u32, index: u32) {
        self.class_mut(class).add_number(number, index);
        let key = RouteKey::Number(number);
        Route { class, index, key }.encode(&mut self.entries);
    }

    fn class_mut(&mut self, class: u32) -> &mut Class {
        let class = class as usize;
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, Class::default);
        }
        &mut self.classes[class]
    }

    pub fn class(&self, class: u32) -> Option<&Class> {
        self.classes.get(class as usize)
    }

    /// Of the application's.
    #[inline]
    pub fn by_name(&self, name: &[u8]) -> Option<u32> {
        self.classes[0].by_name(name)
    }

    /// Of the application's.
    #[inline]
    pub fn by_number(&self, number: u32) -> Option<u32> {
        self.classes[0].by_number(number)
    }

    /// Of the route with this index; empty: it has none.
    pub fn name(&self, index: u32) -> &str {
        self.names.get(&index).map_or("", |name| name)
    }

    /// What packets without a route go to: the default handler, unless an application takes them.
    #[inline]
    pub fn default_route(&self) -> u32 {
        self.default
    }

    pub fn set_default(&mut self, index: u32) {
        self.default = index;
    }

    /// As `Control::Routes` says them.
    pub fn entries(&self) -> &[u8] {
        &self.entries
    }
}

impl Class {
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
