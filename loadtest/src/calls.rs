//! The server's system calls, counted by the kernel's tracepoints where it lets us.
//!
//! A call that is counted costs a little more than one that is not, so this is for who asks.

use std::fs;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Where the kernel describes its tracepoints.
const EVENTS: &str = "/sys/kernel/tracing/events";
/// Of encke: the threads that must never wait for each other.
const SHARD: &str = "shard";

/// Counters on each thread that the process has now.
pub struct Calls {
    all: Vec<Counter>,
    /// `futex`, by the threads of shards alone.
    futex: Vec<Counter>,
}

/// System calls so far.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub all: u64,
    /// Of shards: what a lock or a condition would need.
    pub futex: u64,
}

impl Calls {
    /// Begins to count.
    ///
    /// # Errors
    /// Why the kernel does not, in one line.
    pub fn of(pid: u32) -> Result<Self, String> {
        let (entries, futexes) = (
            id("raw_syscalls/sys_enter")?,
            id("syscalls/sys_enter_futex")?,
        );
        let mut calls = Self {
            all: Vec::new(),
            futex: Vec::new(),
        };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| e.to_string())?;
        for task in tasks.flatten() {
            let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            calls.all.push(counter(entries, thread)?);
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.starts_with(SHARD) {
                calls.futex.push(counter(futexes, thread)?);
            }
        }
        Ok(calls)
    }

    pub fn read(&mut self) -> Counts {
        let sum = |counters: &mut Vec<Counter>| {
            let counts = counters
                .iter_mut()
                .map(|counter| counter.read().unwrap_or(0));
            counts.sum()
        };
        Counts {
            all: sum(&mut self.all),
            futex: sum(&mut self.futex),
        }
    }
}

impl Counts {
    pub fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            futex: self.futex.saturating_sub(before.futex),
        }
    }
}

fn id(name: &str) -> Result<Tracepoint, String> {
    let path = format!("{EVENTS}/{name}/id");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let id = text.trim().parse();
    id.map(Tracepoint::with_id)
        .map_err(|e| format!("{path}: {e}"))
}

fn counter(event: Tracepoint, thread: i32) -> Result<Counter, String> {
    let mut builder = Builder::new(event);
    builder
        .observe_pid(thread)
        .any_cpu()
        .include_kernel()
        .enabled(true);
    builder
        .build()
        .map_err(|e| format!("perf_event_open: {e}; root may"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the kernel does not let us count, it must say so in words.
    #[test]
    fn own_calls_are_counted_or_it_is_said_why_not() {
        match Calls::of(std::process::id()) {
            Err(why) => assert!(!why.is_empty()),
            Ok(mut calls) => {
                let before = calls.read();
                for _ in 0..100 {
                    let _ = fs::metadata("/");
                }
                let counts = calls.read().since(before);
                assert!(counts.all >= 100, "{}", counts.all);
            }
        }
    }
}
