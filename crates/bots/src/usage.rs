//! CPU time of a process, thread by thread, and on which CPU this one runs.
//!
//! Read by the load generator itself, at the very edges of its window, so that neither the server's
//! start nor its warming up is counted. From the kernel's scheduler (nanoseconds), because the
//! clock-tick counters of /proc/PID/stat are too coarse for windows of a second.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde_json::{json, Value};

use crate::latency::rounded;

/// Named in the report; a server with a thread a connection would fill pages otherwise.
const THREADS_LISTED: usize = 16;

/// Nanoseconds that each thread of a process has run, by thread id.
pub type Snapshot = BTreeMap<u32, u64>;

pub fn snapshot(process: u32) -> io::Result<Snapshot> {
    let mut threads = Snapshot::new();
    let place = format!("/proc/{process}/task");
    let entries = fs::read_dir(&place).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot watch process {process}: {place}: {error}"),
        )
    })?;
    for entry in entries {
        let entry = entry?;
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // A thread may end between the listing and the reading.
        let text = fs::read_to_string(entry.path().join("schedstat"));
        if let (Some(id), Ok(text)) = (id, text) {
            threads.insert(id, running_time(&text)?);
        }
    }
    Ok(threads)
}

/// The first of schedstat's three numbers.
fn running_time(schedstat: &str) -> io::Result<u64> {
    let first = schedstat.split_whitespace().next();
    first
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other(format!("schedstat without a running time: {schedstat:?}")))
}

/// What was used between two snapshots: `cpu_us` in all, `main_cpu_us` of the main thread, and the
/// threads that used most.
pub fn report(process: u32, before: &Snapshot, after: &Snapshot) -> Value {
    let mut used: Vec<(u32, u64)> = after
        .iter()
        .map(|(id, ns)| (*id, ns - before.get(id).copied().unwrap_or(0).min(*ns)))
        .collect();
    used.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let total: u64 = used.iter().map(|(_, ns)| ns).sum();
    let main = used
        .iter()
        .find(|(id, _)| *id == process)
        .map_or(0, |(_, ns)| *ns);
    let threads: Vec<Value> = used
        .iter()
        .take(THREADS_LISTED)
        .map(|(id, ns)| {
            let name = fs::read_to_string(format!("/proc/{process}/task/{id}/comm"));
            let name = name.unwrap_or_default();
            json!({"id": id, "name": name.trim_end(), "cpu_us": microseconds(*ns)})
        })
        .collect();
    json!({
        "process": process,
        "cpu_us": microseconds(total),
        "main_cpu_us": microseconds(main),
        "threads": threads,
    })
}

fn microseconds(ns: u64) -> f64 {
    rounded(ns as f64 / 1e3)
}

/// Keeps this thread on one CPU, away from the server's.
#[cfg(target_os = "linux")]
pub fn pin(cpu: usize) -> io::Result<()> {
    use rustix::thread::{sched_setaffinity, CpuSet};
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!(
            "--cpu {cpu}: there is no such CPU"
        )));
    }
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)
        .map_err(|error| io::Error::other(format!("cannot run on --cpu {cpu}: {error}")))
}

#[cfg(not(target_os = "linux"))]
pub fn pin(_cpu: usize) -> io::Result<()> {
    Err(io::Error::other("--cpu works on Linux only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_counts_new_threads_and_names_the_main_one() {
        let before = Snapshot::from([(10, 1_000), (11, 5_000)]);
        let after = Snapshot::from([(10, 3_000), (11, 5_000), (12, 7_000)]);
        let value = report(10, &before, &after);
        assert_eq!(value["cpu_us"], 9.0);
        assert_eq!(value["main_cpu_us"], 2.0);
        assert_eq!(value["threads"][0]["id"], 12);
    }

    #[test]
    fn schedstat_is_read() {
        assert_eq!(running_time("123456 78 9\n").unwrap(), 123_456);
        assert!(running_time("").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_watched() {
        assert!(!snapshot(std::process::id()).unwrap().is_empty());
        assert!(snapshot(u32::MAX).is_err());
    }
}
