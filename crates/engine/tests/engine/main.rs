//! The engine as its user sees it, on the memory back: time is passed in, nothing runs by itself.
//! `sockets` alone has threads and the system's clock.

mod cluster;
mod compression;
mod deadlines;
mod ends;
mod groups;
mod inbound;
mod links;
mod network;
mod nodes;
mod outbound;
mod overload;
mod peer;
mod player;
mod rates;
mod relay;
mod resume;
mod scripted;
mod sequences;
mod sessions;
mod simulation;
mod sockets;
mod world;
