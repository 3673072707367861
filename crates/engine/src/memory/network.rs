//! Where the nodes of a cluster meet: one clock, addresses, and roads between the nodes that a test can make
//! long, close, or break. Everything happens when a call or the clock says so, and in the same order each time.

use super::pipe::{Direction, End, Flight, Pipe, Place, PIPE_BYTES};
use crate::lock::lock;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Net>>);

#[derive(Default)]
pub(super) struct Net {
    now: u64,
    hubs: Vec<HubState>,
    /// `HOST:PORT` to a hub and its listener.
    addresses: BTreeMap<String, (usize, usize)>,
    pipes: BTreeMap<u64, Pipe>,
    /// Those on which something is on its way.
    flying: BTreeSet<u64>,
    last_pipe: u64,
    roads: BTreeMap<(String, String), Road>,
    recording: bool,
}

#[derive(Default)]
struct HubState {
    name: String,
    /// Ends at which a connection waits to be accepted, and its number.
    listeners: Vec<Option<VecDeque<(Place, u64)>>>,
    /// Listeners and connections that something happened to since the last poll.
    touched_listeners: BTreeSet<usize>,
    touched: BTreeSet<u32>,
    /// Connections that have come to it.
    accepted: u64,
    death: Option<Death>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    /// The process is gone; its machine answers for it.
    Killed,
    /// The machine is gone, and nothing answers.
    Vanished,
}

/// From one node to another.
#[derive(Default, Clone, Copy)]
struct Road {
    delay: u64,
    frozen: bool,
    refused: bool,
    /// How much pipes hold; 0: as much as usual.
    narrow: usize,
}

/// What went one way between two nodes over one connection that was cut, if the network records it.
pub struct Way {
    pub from: String,
    pub to: String,
    /// All that was written from the beginning on.
    pub written: Vec<u8>,
    /// How much of it was read; the rest is lost.
    pub read: usize,
}

/// Names are those that the nodes were made with.
impl Network {
    pub fn now(&self) -> u64 {
        self.lock().now
    }

    /// What is due by then arrives. The clock never goes back.
    pub fn set_now(&self, nanoseconds: u64) {
        let mut net = self.lock();
        net.now = net.now.max(nanoseconds);
        net.deliver_all();
    }

    /// When the next of what is on its way arrives.
    pub fn next_arrival(&self) -> Option<u64> {
        let net = self.lock();
        let flying = net.flying.iter().filter_map(|of| net.pipes.get(of));
        let on_the_way = flying.flat_map(|pipe| {
            let open = [0, 1].into_iter().filter(|side| !net.is_held(pipe, *side));
            open.filter_map(|side| pipe.to[side].next_arrival())
        });
        on_the_way.min()
    }

    /// Will the next poll of any node tell something?
    pub fn has_events(&self) -> bool {
        let net = self.lock();
        let alive = |hub: &usize| net.hubs[*hub].death.is_none();
        (0..net.hubs.len())
            .filter(alive)
            .any(|hub| net.has_events(hub))
    }

    /// What is sent from now on takes so long; it does not overtake what is on its way.
    pub fn delay(&self, from: &str, to: &str, nanoseconds: u64) {
        self.lock().road_mut(from, to).delay = nanoseconds;
    }

    /// Nothing arrives until it is thawed: what was sent, ends of connections, new ones.
    pub fn freeze(&self, from: &str, to: &str, frozen: bool) {
        let mut net = self.lock();
        net.road_mut(from, to).frozen = frozen;
        net.deliver_all();
    }

    /// New connections from one to the other are refused. Those that are there stay.
    pub fn refuse(&self, from: &str, to: &str, refused: bool) {
        self.lock().road_mut(from, to).refused = refused;
    }

    /// Pipes hold so many bytes that way: what is longer arrives in pieces, one when the one before was read. 0: as
    /// many as usual.
    pub fn narrow(&self, from: &str, to: &str, bytes: usize) {
        self.lock().road_mut(from, to).narrow = bytes;
    }

    /// Every connection between the two breaks: both ends see a reset, and what was not read is lost.
    pub fn cut(&self, one: &str, other: &str) -> Vec<Way> {
        let mut net = self.lock();
        let joins = |pipe: &Pipe| {
            let names = pipe.ends.each_ref().map(|end| net.name(end));
            let joins = names == [Some(one), Some(other)] || names == [Some(other), Some(one)];
            joins && pipe.ends.iter().any(|end| end.broken.is_none())
        };
        let cut = net.pipes.iter().filter(|(_, pipe)| joins(pipe));
        let cut: Vec<u64> = cut.map(|(number, _)| *number).collect();
        let mut ways = Vec::new();
        for pipe in cut {
            for side in [0, 1] {
                ways.extend(net.way(Place { pipe, side }));
                net.break_end(Place { pipe, side }, io::ErrorKind::ConnectionReset);
            }
        }
        ways
    }

    /// The node's process ends at once and says nothing: its peers see a reset, new connections are refused. Its
    /// engine does nothing that anybody sees from here on, and another one may be made under its name.
    pub fn kill(&self, name: &str) -> Vec<Way> {
        self.end(name, Death::Killed)
    }

    /// The node's machine is gone: its peers hear nothing any more, and new connections hang.
    pub fn vanish(&self, name: &str) -> Vec<Way> {
        self.end(name, Death::Vanished)
    }

    /// From now on all that connections carry is kept, to be given when they are cut.
    pub fn record(&self) {
        self.lock().recording = true;
    }

    fn end(&self, name: &str, death: Death) -> Vec<Way> {
        let mut net = self.lock();
        let living = |hub: &HubState| hub.name == name && hub.death.is_none();
        match net.hubs.iter().position(living) {
            Some(hub) => net.die(hub, death),
            None => Vec::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Net> {
        lock(&self.0)
    }
}

/// For the hubs.
impl Net {
    pub fn add_hub(&mut self, name: &str) -> usize {
        self.hubs.push(HubState {
            name: name.to_owned(),
            ..HubState::default()
        });
        self.hubs.len() - 1
    }

    pub fn listen(&mut self, hub: usize, listener: usize, address: &str) -> io::Result<()> {
        let taken = self.addresses.get(address);
        if taken.is_some_and(|(by, _)| *by != hub && self.hubs[*by].death.is_none()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if taken.is_none_or(|(by, _)| *by != hub) {
            self.addresses.insert(address.to_owned(), (hub, listener));
        }
        let listeners = &mut self.hubs[hub].listeners;
        if listeners.len() <= listener {
            listeners.resize_with(listener + 1, || None);
        }
        listeners[listener] = Some(VecDeque::new());
        Ok(())
    }

    pub fn stop_listening(&mut self, hub: usize) {
        self.addresses
            .retain(|_, (by, _)| *by != hub || self.hubs[hub].death.is_some());
        let listeners = std::mem::take(&mut self.hubs[hub].listeners);
        for (place, _) in listeners.into_iter().flatten().flatten() {
            self.let_go(place, Flight::Gone);
        }
    }

    /// A test's client comes to a listener. Its end and its number.
    pub fn connect(&mut self, hub: usize, listener: usize) -> Option<(Place, u64)> {
        let listening = self.hubs[hub].listeners.get(listener);
        listening.filter(|of| of.is_some())?;
        let place = self.add_pipe([End::new(Some(hub), true), End::new(None, true)]);
        let number = self.queue_up(hub, listener, place)?;
        Some((place.other(), number))
    }

    /// A connection to the node that listens at this address.
    pub fn dial(&mut self, hub: usize, address: &str) -> io::Result<Place> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let &(to, listener) = self.addresses.get(address).ok_or_else(refused)?;
        let ends = [End::new(Some(to), true), End::new(Some(hub), false)];
        let place = self.add_pipe(ends).other();
        self.send(place, Flight::Open(listener));
        let end = self.pipes.get(&place.pipe).map(|pipe| &pipe.ends[1]);
        if end.is_none_or(|end| end.broken.is_some()) {
            self.pipes.remove(&place.pipe);
            return Err(refused());
        }
        Ok(place)
    }

    pub fn accept(&mut self, hub: usize, listener: usize) -> Option<(Place, u64)> {
        let waiting = self.hubs[hub].listeners.get_mut(listener)?.as_mut()?;
        waiting.pop_front()
    }

    pub fn watch(&mut self, place: Place, connection: Option<u32>) {
        if let Some(pipe) = self.pipes.get_mut(&place.pipe) {
            pipe.ends[place.side].connection = connection;
        }
    }

    pub fn has_events(&self, hub: usize) -> bool {
        let hub = &self.hubs[hub];
        !hub.touched.is_empty() || !hub.touched_listeners.is_empty()
    }

    /// Listeners and connections that something happened to.
    pub fn take_touched(&mut self, hub: usize) -> (BTreeSet<usize>, BTreeSet<u32>) {
        let hub = &mut self.hubs[hub];
        (
            std::mem::take(&mut hub.touched_listeners),
            std::mem::take(&mut hub.touched),
        )
    }

    pub fn touch(&mut self, place: Place) {
        let Some(pipe) = self.pipes.get(&place.pipe) else {
            return;
        };
        let end = &pipe.ends[place.side];
        if let (Some(hub), Some(connection)) = (end.hub, end.connection) {
            self.hubs[hub].touched.insert(connection);
        }
    }
}

/// For who holds an end.
impl Net {
    /// How many bytes there are to be read.
    pub fn waiting(&self, place: Place) -> usize {
        let pipe = self.pipes.get(&place.pipe);
        pipe.map_or(0, |pipe| pipe.to[place.side].waiting())
    }

    pub fn read(&mut self, place: Place, into: &mut [u8]) -> io::Result<usize> {
        let pipe = self.pipes.get_mut(&place.pipe);
        let pipe = pipe.ok_or(io::ErrorKind::ConnectionReset)?;
        let end = &pipe.ends[place.side];
        if let Some(broken) = end.broken {
            return Err(broken.into());
        }
        match pipe.to[place.side].read(into) {
            // Looking and finding nothing is no event, or a test that polls would never see it quiet.
            Some(0) => Ok(0),
            Some(count) => {
                self.touch(place.other());
                Ok(count)
            }
            None if end.closed => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub fn write(&mut self, place: Place, bytes: &[u8]) -> io::Result<usize> {
        let recording = self.recording;
        let pipe = self.pipes.get(&place.pipe);
        let narrow = pipe.map_or(0, |pipe| self.road(pipe, 1 - place.side).narrow);
        let pipe = self.pipes.get_mut(&place.pipe);
        let pipe = pipe.ok_or(io::ErrorKind::ConnectionReset)?;
        let end = &pipe.ends[place.side];
        if let Some(broken) = end.broken {
            return Err(broken.into());
        }
        if end.alone || end.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let direction = &mut pipe.to[1 - place.side];
        let count = match end.open {
            true if narrow > 0 => bytes.len().min(direction.room_of(narrow)),
            true => bytes.len().min(direction.room_of(PIPE_BYTES)),
            false => 0,
        };
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if recording {
            direction.record.extend(&bytes[..count]);
        }
        self.send(place, Flight::Bytes(bytes[..count].to_vec()));
        Ok(count)
    }

    /// Something goes from this end to the other.
    pub fn send(&mut self, place: Place, flight: Flight) {
        let Some(pipe) = self.pipes.get(&place.pipe) else {
            return;
        };
        let delay = self.road(pipe, 1 - place.side).delay;
        let at = self.now + delay;
        if let Some(pipe) = self.pipes.get_mut(&place.pipe) {
            pipe.to[1 - place.side].send(at, flight);
        }
        self.flying.insert(place.pipe);
        self.deliver(place.other());
        self.settle(place.pipe);
    }

    /// It says this last, once.
    pub fn close(&mut self, place: Place, last: Flight) {
        let pipe = self.pipes.get_mut(&place.pipe);
        let end = pipe.map(|pipe| &mut pipe.ends[place.side]);
        if end.is_some_and(|end| !std::mem::replace(&mut end.closed, true)) {
            self.send(place, last);
        }
    }

    /// Nobody holds it any more.
    pub fn let_go(&mut self, place: Place, last: Flight) {
        self.close(place, last);
        if let Some(pipe) = self.pipes.get_mut(&place.pipe) {
            pipe.ends[place.side].dropped = true;
            if pipe.ends.iter().all(|end| end.dropped) {
                self.pipes.remove(&place.pipe);
            }
        }
    }
}

impl Net {
    fn add_pipe(&mut self, ends: [End; 2]) -> Place {
        self.last_pipe += 1;
        let to = [Direction::default(), Direction::default()];
        self.pipes.insert(self.last_pipe, Pipe { ends, to });
        Place {
            pipe: self.last_pipe,
            side: 0,
        }
    }

    /// The connection's number.
    fn queue_up(&mut self, hub: usize, listener: usize, place: Place) -> Option<u64> {
        let hub = &mut self.hubs[hub];
        let waiting = hub.listeners.get_mut(listener)?.as_mut()?;
        hub.accepted += 1;
        waiting.push_back((place, hub.accepted));
        hub.touched_listeners.insert(listener);
        Some(hub.accepted)
    }

    fn name(&self, end: &End) -> Option<&str> {
        end.hub.map(|hub| self.hubs[hub].name.as_str())
    }

    fn road_mut(&mut self, from: &str, to: &str) -> &mut Road {
        let names = (from.to_owned(), to.to_owned());
        self.roads.entry(names).or_default()
    }

    /// The one that leads to this side.
    fn road(&self, pipe: &Pipe, side: usize) -> Road {
        let names = [1 - side, side].map(|side| self.name(&pipe.ends[side]));
        let [Some(from), Some(to)] = names else {
            return Road::default(); // a test's client is near
        };
        let names = (from.to_owned(), to.to_owned());
        self.roads.get(&names).copied().unwrap_or_default()
    }

    fn is_held(&self, pipe: &Pipe, side: usize) -> bool {
        let vanished = |end: &End| {
            let hub = end.hub.map(|hub| &self.hubs[hub]);
            hub.is_some_and(|hub| hub.death == Some(Death::Vanished))
        };
        self.road(pipe, side).frozen || pipe.ends.iter().any(vanished)
    }

    fn deliver_all(&mut self) {
        for pipe in Vec::from_iter(self.flying.iter().copied()) {
            for side in [0, 1] {
                self.deliver(Place { pipe, side });
            }
            self.settle(pipe);
        }
    }

    /// Is nothing more on its way?
    fn settle(&mut self, pipe: u64) {
        let on_its_way = |pipe: &Pipe| pipe.to.iter().any(|to| to.next_arrival().is_some());
        if !self.pipes.get(&pipe).is_some_and(on_its_way) {
            self.flying.remove(&pipe);
        }
    }

    /// What is due at this end arrives.
    fn deliver(&mut self, place: Place) {
        loop {
            let held = |pipe: &Pipe| self.is_held(pipe, place.side);
            if self.pipes.get(&place.pipe).is_none_or(held) {
                return;
            }
            let now = self.now;
            let Some(pipe) = self.pipes.get_mut(&place.pipe) else {
                return;
            };
            let direction = &mut pipe.to[place.side];
            let end = &mut pipe.ends[place.side];
            let Some(flight) = direction.take_due(now) else {
                return;
            };
            match flight {
                Flight::Bytes(bytes) => direction.arrive(&bytes),
                Flight::End => direction.finish(),
                Flight::Gone => {
                    direction.finish();
                    end.alone = true;
                }
                Flight::Opened => end.open = true,
                Flight::Reset(kind) => {
                    direction.lose();
                    end.broken = Some(kind);
                }
                Flight::Open(listener) => {
                    self.open(place, listener);
                    continue;
                }
            }
            self.touch(place);
        }
    }

    /// A dialled connection has come to its listener, or to where that was.
    fn open(&mut self, place: Place, listener: usize) {
        let Some(pipe) = self.pipes.get(&place.pipe) else {
            return;
        };
        let refused = self.road(pipe, place.side).refused;
        let hub = pipe.ends[place.side].hub.filter(|_| !refused);
        let number = hub.and_then(|hub| self.queue_up(hub, listener, place));
        if number.is_some() {
            self.send(place, Flight::Opened);
        } else {
            self.let_go(place, Flight::Reset(io::ErrorKind::ConnectionRefused));
        }
    }

    fn break_end(&mut self, place: Place, kind: io::ErrorKind) {
        if let Some(pipe) = self.pipes.get_mut(&place.pipe) {
            pipe.to[place.side].lose();
            pipe.ends[place.side].broken.get_or_insert(kind);
        }
        self.touch(place);
    }

    fn die(&mut self, hub: usize, death: Death) -> Vec<Way> {
        self.hubs[hub].death = Some(death);
        self.hubs[hub].listeners.clear();
        let mut ways = Vec::new();
        let pipes: Vec<u64> = self.pipes.keys().copied().collect();
        for pipe in pipes {
            for side in [0, 1] {
                let place = Place { pipe, side };
                let ends = self.pipes.get(&pipe).map(|pipe| &pipe.ends);
                if ends.is_none_or(|ends| ends[side].hub != Some(hub)) {
                    continue;
                }
                ways.extend(
                    [place, place.other()]
                        .into_iter()
                        .filter_map(|of| self.way(of)),
                );
                // A vanished one's way is held for ever, this with it.
                self.close(place, Flight::Reset(io::ErrorKind::ConnectionReset));
                self.break_end(place, io::ErrorKind::ConnectionReset);
            }
        }
        ways
    }

    /// What went to this end, if that was recorded.
    fn way(&self, place: Place) -> Option<Way> {
        let pipe = self.pipes.get(&place.pipe)?;
        let direction = &pipe.to[place.side];
        Some(Way {
            from: self.name(&pipe.ends[1 - place.side])?.to_owned(),
            to: self.name(&pipe.ends[place.side])?.to_owned(),
            written: direction.record.clone(),
            read: direction.taken,
        })
    }
}
