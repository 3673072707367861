//! The binding between the engine and Python. It converts, it never decides.
//!
//! `dispatch` turns inbox batches into calls of handlers (`life`: what begins and ends sessions), `cork` gathers what Python sends; `engine`,
//! `session`, `handler` and `memory` are the classes that `photinus.engine` imports.

mod access;
mod asyncio;
mod asyncio_tasks;
mod binding;
mod cork;
mod coroutine;
mod dispatch;
mod engine;
mod gil;
mod groups;
mod handler;
mod installed;
mod life;
mod linking;
mod mailbox;
mod memory;
mod pool;
mod seats;
mod sending;
mod session;
mod statistics;
mod task;
mod task_state;
mod timing;
mod turn;

use pyo3::prelude::*;

/// The one native module of Photinus. Only `photinus.engine` imports it.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::handler::Handler;
    #[pymodule_export]
    use crate::memory::{MemoryConnection, MemoryNetwork};
    #[pymodule_export]
    use crate::session::Session;
}
