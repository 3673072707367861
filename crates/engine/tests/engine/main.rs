//! The engine as its user sees it, on the memory back: time is passed in, nothing runs by itself.
//! `sockets` alone has threads and the system's clock.

mod cluster;
mod cluster_bad_input;
mod cluster_ends;
mod cluster_flow;
mod cluster_groups;
mod cluster_moves;
mod compression;
mod deadlines;
mod ends;
mod groups;
mod inbound;
mod links;
mod links_in_time;
mod links_over_tls;
mod links_refused;
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
