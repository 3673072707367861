//! `photinus-bots`: the load that the benchmarks and the demo are driven with.
//!
//! Every subcommand is one thread over one poller, so that it costs less than any server it loads:
//! one read a ready connection, one write for all that goes to it. What it finds out is printed as
//! JSON lines on stdout; progress and errors go to stderr. Exit codes: 0 done, 1 the load failed,
//! 2 wrong use.

#![forbid(unsafe_code)]

mod ask;
mod bare;
mod clock;
mod connect;
mod control;
mod door;
mod echo;
mod forward;
mod frame;
mod game;
mod idle;
mod lane;
mod latency;
mod link;
mod photinus;
mod pomelo;
mod receive;
mod resume;
mod schedule;
mod storm;
mod traffic;
mod usage;
mod users;
mod websocket;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "photinus-bots", version, about = "Native load generator of the Photinus game server", long_about = None)]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Send frames to an echo server and time the answers (closed or open loop)
    Echo(echo::Options),
    /// Trigger broadcasts and time them to the last member's arrival
    Receive(receive::Options),
    /// Open many connections and hold them, for memory a session
    Idle(idle::Options),
    /// Send requests of a game's size and time the answers, compressed or not (pomelo or photinus)
    Ask(ask::Options),
    /// Cut many players off at once, and time their coming back (photinus protocol)
    Resume(resume::Options),
    /// Serve TLS from a bare loop that gives back what comes: the floor of handshakes
    Bare(bare::Options),
    /// Forward from many clients, over TLS and with zlib, to one connection: the floor of proxies
    BareForward(forward::Options),
    /// Be the world behind a proxy that is compared
    World(world::Options),
    /// Come, move, ask, talk and go as users of a game do, in steps (photinus or length4)
    Users(users::Options),
    /// Play in the demo world (pomelo protocol)
    Game(game::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().load {
        Load::Echo(options) => echo::run(&options),
        Load::Receive(options) => receive::run(&options),
        Load::Idle(options) => idle::run(&options),
        Load::Ask(options) => ask::run(&options),
        Load::Resume(options) => resume::run(&options),
        Load::Bare(options) => bare::run(&options),
        Load::BareForward(options) => forward::run(&options),
        Load::World(options) => world::run(&options),
        Load::Users(options) => users::run(&options),
        Load::Game(options) => game::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("photinus-bots: {error}");
            ExitCode::FAILURE
        }
    }
}
