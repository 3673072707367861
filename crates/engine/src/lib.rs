//! The native engine: sockets, threads, sessions and bounded queues. It drives `photinus-proto` and
//! knows nothing of Python, nor of what a message means.
//!
//! Bytes come in through a [`back`] (sockets, or memory for tests) to a [`reactor`], which decodes
//! them in place and hands a [batch](inbox) a turn to whoever calls [`engine::Engine::take_inbox`];
//! what is sent comes back through the [`outbox`]. [`wakeup`] is the queue between the two,
//! [`leaders`] the only place where a thread leads a reactor, and [`lead`] how two of them take turns.

mod acquaintance;
pub mod app;
pub mod back;
mod bindings;
pub mod connection;
pub mod engine;
pub mod gate;
mod group;
pub mod handle;
pub mod histogram;
pub mod homes;
pub mod inbox;
pub mod layers;
pub mod lead;
pub mod leaders;
pub mod limits;
mod line;
pub mod link;
mod listener;
pub mod lock;
pub mod memory;
mod names;
mod neighbour;
mod nodes;
pub mod outbox;
pub mod overload;
pub mod rate;
pub mod reactor;
pub mod remote;
mod resolver;
mod resumable;
pub mod routes;
mod session;
pub mod shared;
mod sockets;
pub mod statistics;
pub mod system;
pub mod wakeup;
