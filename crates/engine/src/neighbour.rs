//! What a reactor knows of the node at the other end of one of its links: what it serves, which of its
//! sessions are here and which of its groups, and which names it has told us and been told.
//!
//! A neighbour is as old as its link: when the link is lost all of this is void.

use crate::handle::Handle;
use crate::routes::Class;
use photinus_proto::bluenet::control::{Route, RouteKey};
use photinus_proto::error::WireError;
use std::collections::HashMap;

pub struct Neighbour {
    /// Of the link.
    pub link: Handle,
    pub node: Box<str>,
    /// `None`: it has not told yet. By class; 0 is its application's.
    pub routes: Option<HashMap<u32, Class>>,
    /// It stops.
    pub leaving: bool,
    /// Its names of pushes, by its index: ours.
    pub names: Vec<u32>,
    /// Our names that it has been told: those with an index below this.
    pub announced: u32,
    /// Its clients' sessions that are owned here, by their place at the proxy.
    sessions: Vec<Handle>,
    /// Its groups, by its number: ours for its members here.
    pub groups: HashMap<u32, u32>,
    /// How many of a group of ours are there.
    pub members: HashMap<u32, u32>,
    /// Connections that are not read because the link is crowded.
    pub waiting: Vec<(u32, u32)>,
}

impl Neighbour {
    pub fn new(link: Handle, node: &str) -> Neighbour {
        Neighbour {
            link,
            node: node.into(),
            routes: None,
            leaving: false,
            names: Vec::new(),
            announced: 0,
            sessions: Vec::new(),
            groups: HashMap::new(),
            members: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// It has told its routes.
    pub fn learn(&mut self, entries: &[u8]) -> Result<(), WireError> {
        let mut classes: HashMap<u32, Class> = HashMap::new();
        classes.insert(0, Class::default());
        for route in Route::each(entries) {
            let Route { class, index, key } = route?;
            let class = classes.entry(class).or_default();
            match key {
                RouteKey::Name(name) => class.add_name(name, index),
                RouteKey::Number(number) => class.add_number(number, index),
            }
        }
        self.routes = Some(classes);
        Ok(())
    }

    pub fn class(&self, class: u32) -> Option<&Class> {
        self.routes.as_ref()?.get(&class)
    }

    /// Our session for this one of its proxy; whether it is still the same is the caller's to see.
    #[inline]
    pub fn session(&self, theirs: Handle) -> Handle {
        let place = self.sessions.get(theirs.local() as usize);
        place.copied().unwrap_or(Handle::NONE)
    }

    pub fn set_session(&mut self, theirs: Handle, ours: Handle) {
        let place = theirs.local() as usize;
        if self.sessions.len() <= place {
            self.sessions.resize(place + 1, Handle::NONE);
        }
        self.sessions[place] = ours;
    }

    /// All of them.
    pub fn sessions(&self) -> Vec<Handle> {
        let all = self.sessions.iter().copied();
        all.filter(|of| *of != Handle::NONE).collect()
    }
}

/// By the place of their link in the reactor's table.
#[derive(Default)]
pub struct Neighbours(Vec<Option<Neighbour>>);

impl Neighbours {
    #[inline]
    pub fn at(&self, link: u32) -> Option<&Neighbour> {
        self.0.get(link as usize)?.as_ref()
    }

    #[inline]
    pub fn at_mut(&mut self, link: u32) -> Option<&mut Neighbour> {
        self.0.get_mut(link as usize)?.as_mut()
    }

    /// The one at the other end of this very link.
    pub fn of(&self, link: Handle) -> Option<&Neighbour> {
        self.at(link.local()).filter(|of| of.link == link)
    }

    pub fn put(&mut self, link: u32, neighbour: Neighbour) {
        if self.0.len() <= link as usize {
            self.0.resize_with(link as usize + 1, || None);
        }
        self.0[link as usize] = Some(neighbour);
    }

    pub fn take(&mut self, link: u32) -> Option<Neighbour> {
        self.0.get_mut(link as usize)?.take()
    }

    pub fn all(&self) -> impl Iterator<Item = &Neighbour> {
        self.0.iter().flatten()
    }

    /// All places, for whoever changes something on the way.
    pub fn links(&self) -> Vec<u32> {
        self.all().map(|of| of.link.local()).collect()
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Neighbour> {
        self.0.iter_mut().flatten()
    }

    /// Our session for this one of a proxy's.
    #[inline]
    pub fn session(&self, link: u32, theirs: Handle) -> Handle {
        self.at(link).map_or(Handle::NONE, |of| of.session(theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_in_their_class() {
        let mut entries = Vec::new();
        for (class, index, key) in [
            (0, 7, RouteKey::Name("say")),
            (2, 9, RouteKey::Name("wave")),
            (0, 3, RouteKey::Number(100)),
        ] {
            Route { class, index, key }.encode(&mut entries);
        }
        let mut of = Neighbour::new(Handle(1), "world-1");
        assert!(of.class(0).is_none());
        of.learn(&entries).unwrap();
        let by_name = |class, name: &str| of.class(class)?.by_name(name.as_bytes());
        assert_eq!(by_name(0, "say"), Some(7));
        assert_eq!(by_name(2, "wave"), Some(9));
        assert_eq!((by_name(0, "wave"), by_name(1, "wave")), (None, None));
        assert_eq!(of.class(0).and_then(|of| of.by_number(100)), Some(3));
    }

    #[test]
    fn a_class_with_a_great_number_takes_no_more_room_than_its_routes() {
        let mut entries = Vec::new();
        let key = RouteKey::Number(1);
        let route = Route {
            class: u32::MAX,
            index: 0,
            key,
        };
        route.encode(&mut entries);
        let mut of = Neighbour::new(Handle(1), "world-1");
        of.learn(&entries).unwrap();
        assert_eq!(of.class(u32::MAX).and_then(|of| of.by_number(1)), Some(0));
        assert_eq!(of.routes.as_ref().map(HashMap::len), Some(2));
        assert!(of.learn(&entries[..entries.len() - 1]).is_err());
    }
}
