//! Each load against a small blocking server, through the command line.

mod ask;
mod echo;
mod game;
mod idle;
mod receive;
mod resume;
mod server;
mod users;
