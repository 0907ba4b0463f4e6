//! What the kernel knows about a process: CPU time, context switches, memory; and which process
//! listens at an address.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

/// CPU time and context switches so far.
#[derive(Clone, Default)]
pub struct Usage {
    /// Nanoseconds on a core, summed over the threads that live.
    on_core: u64,
    /// Clock ticks of the whole process, ended threads included.
    user_ticks: u64,
    system_ticks: u64,
    pub switches: u64,
    threads: BTreeSet<u32>,
}

/// What was used between two readings.
#[derive(Clone, Copy, Default)]
pub struct Used {
    pub cpu_seconds: f64,
    /// The part of it in the kernel.
    pub system_share: f64,
    pub switches: f64,
}

impl Usage {
    /// Of a process and its children: a server may have workers.
    pub fn of(pid: u32) -> Option<Self> {
        let mut usage = Self::of_one(pid)?;
        for child in children(pid).into_iter().filter_map(Self::of_one) {
            usage.on_core += child.on_core;
            usage.user_ticks += child.user_ticks;
            usage.system_ticks += child.system_ticks;
            usage.switches += child.switches;
            usage.threads.extend(child.threads);
        }
        Some(usage)
    }

    fn of_one(pid: u32) -> Option<Self> {
        let mut usage = Self::default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        usage.user_ticks = fields.next()?.parse().ok()?;
        usage.system_ticks = fields.next()?.parse().ok()?;
        for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let path = entry.path();
            let Some(thread) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            usage.threads.insert(thread);
            let schedstat = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let on_core = schedstat
                .split_whitespace()
                .next()
                .and_then(|n| n.parse::<u64>().ok());
            usage.on_core += on_core.unwrap_or(0);
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            usage.switches += status
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
                .sum::<u64>();
        }
        Some(usage)
    }

    /// What was used since `before`. Nanoseconds where all threads of then still live, else ticks.
    pub fn since(&self, before: &Self) -> Used {
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(before.system_ticks) as f64;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let exact = self.on_core > 0 && before.threads.is_subset(&self.threads);
        let cpu_seconds = if exact {
            self.on_core.saturating_sub(before.on_core) as f64 / 1e9
        } else {
            (user + system) / ticks
        };
        Used {
            cpu_seconds,
            system_share: system / (user + system).max(1.0),
            switches: self.switches.saturating_sub(before.switches) as f64,
        }
    }
}

/// The processes that a process has started and that live.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| {
        let numbers = list.split_whitespace().filter_map(|n| n.parse().ok());
        numbers.collect::<Vec<_>>()
    };
    lists.flat_map(numbers).collect()
}

/// CPU time of this process, ended threads included, in seconds.
pub fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU time that the whole machine has used, in seconds; to the tick.
pub fn machine_cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let times: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait,) irq, softirq; what a host takes away is no work.
    let busy = times
        .iter()
        .enumerate()
        .filter(|(place, _)| matches!(place, 0..=2 | 5 | 6));
    busy.map(|(_, ticks)| ticks).sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub pss: f64,
    pub anonymous: f64,
}

impl Memory {
    /// Of a process and its children.
    pub fn of(pid: u32) -> Option<Self> {
        let mut memory = Self::of_one(pid)?;
        for child in children(pid).into_iter().filter_map(Self::of_one) {
            memory.pss += child.pss;
            memory.anonymous += child.anonymous;
        }
        Some(memory)
    }

    fn of_one(pid: u32) -> Option<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Self {
            pss: kibibytes(&rollup, "Pss:")?,
            anonymous: kibibytes(&rollup, "Anonymous:")?,
        })
    }
}

/// Kernel memory of the whole machine that connections use, in bytes: slabs, and socket buffers.
#[derive(Clone, Copy, Default)]
pub struct Kernel {
    pub slab: f64,
    pub buffers: f64,
}

impl Kernel {
    pub fn now() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let tcp = sockstat
            .lines()
            .find(|line| line.starts_with("TCP:"))
            .unwrap_or_default();
        let mut words = tcp
            .split_whitespace()
            .skip_while(|word| *word != "mem")
            .skip(1);
        let pages: f64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        Self {
            slab: kibibytes(&meminfo, "Slab:").unwrap_or(0.0),
            buffers: pages * rustix::param::page_size() as f64,
        }
    }
}

fn kibibytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}

/// The name of the program and its arguments.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim().to_owned()
}

/// The process that listens at the address, if we may see it.
pub fn listener(address: SocketAddr) -> Option<u32> {
    let inodes = listening_inodes(address.port());
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        // A thread may have a descriptor table of its own.
        let tasks = fs::read_dir(process.path().join("task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let links = fs::read_dir(task.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            for link in links {
                let Ok(name) = fs::read_link(link.path()) else {
                    continue;
                };
                let name = name.to_string_lossy();
                let inode = name
                    .strip_prefix("socket:[")
                    .and_then(|n| n.strip_suffix(']'));
                if inode.is_some_and(|inode| inodes.contains(inode)) {
                    return Some(pid);
                }
            }
        }
    }
    None
}

/// The kernel lists sockets that listen before all others: what follows the last of them is not
/// read, as it may be millions of lines that each take longer than the one before.
fn listening_inodes(port: u16) -> BTreeSet<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = File::open(table) else {
            continue;
        };
        let lines = BufReader::new(table).lines().map_while(Result::ok);
        for line in lines.skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            if fields.len() < 10 || fields[3] != LISTEN {
                break;
            }
            if fields[1].ends_with(&suffix) {
                inodes.insert(fields[9].to_owned());
            }
        }
    }
    inodes
}
