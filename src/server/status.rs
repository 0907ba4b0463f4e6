//! `encke status`: how the running server is doing.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a running server says about itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub listeners: Listeners,
    pub links_max: usize,
    pub private_descriptors: bool,
    /// Resident memory of the process.
    pub memory_octets: u64,
    /// What of it is no file's.
    #[serde(default)]
    pub memory_anonymous_octets: u64,
    /// The most that was resident.
    #[serde(default)]
    pub memory_peak_octets: u64,
    /// Time of all cores that the process has used.
    #[serde(default)]
    pub cpu_micros: u64,
    pub shards: Vec<ShardStatus>,
    /// Shards that have not answered.
    #[serde(default)]
    pub shards_silent: usize,
    pub storage: StorageStatus,
    pub log_lines_dropped: u64,
}

/// The addresses that are listened on, with the ports that the system gave.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Listeners {
    pub c2s: Vec<String>,
    pub c2s_tls: Vec<String>,
    pub http: Vec<String>,
    pub https: Vec<String>,
}

/// One shard.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ShardStatus {
    pub shard: u16,
    pub links: usize,
    pub sessions: usize,
    pub sessions_detached: usize,
    /// What each transport carries.
    pub transports: Vec<TransportStatus>,
    pub accounts: usize,
    /// What waits in its mailbox.
    pub mail: usize,
    pub mail_octets: usize,
    /// How long mail lay there just now.
    pub mail_age_micros: u64,
    /// What is due to sessions with a link.
    pub unsent_octets: usize,
    /// How old the oldest message of that is.
    pub unsent_age_millis: u64,
    /// What queues hold until their clients have it.
    pub held_octets: usize,
    pub waiting_for_storage: usize,
    pub messages_received: u64,
    pub messages_delivered: u64,
    pub messages_stored: u64,
    pub panics: u64,
    pub turns: u64,
    /// Time of a core that its thread has used.
    pub cpu_micros: u64,
    pub links_accepted: u64,
    pub links_refused: u64,
    pub octets_read: u64,
    pub octets_written: u64,
}

/// What a transport carries on one shard.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TransportStatus {
    pub transport: String,
    pub sessions: u64,
    pub messages_received: u64,
    pub messages_delivered: u64,
}

/// What waits in storage.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StorageStatus {
    pub requests: usize,
    pub octets: usize,
    pub passwords: usize,
    /// How long a request lay there just now.
    pub delay_micros: u64,
    /// How long the oldest record waits that is not durable.
    pub oldest_micros: u64,
    /// How long the device took.
    pub syncs: SpreadStatus,
    /// How long the first record of each group waited until it was durable.
    pub waits: SpreadStatus,
}

/// Durations since the start.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SpreadStatus {
    /// How many there were up to each of the bounds of [`crate::store::lateness::BOUNDS`] and above
    /// the one before; last those above all.
    pub counts: Vec<u64>,
    pub sum_micros: u64,
    pub last_micros: u64,
    pub max_micros: u64,
}

impl Status {
    /// A table for eyes.
    pub fn for_people(&self) -> String {
        let mut out = String::new();
        let sum = |count: fn(&ShardStatus) -> u64| self.shards.iter().map(count).sum::<u64>();
        let rows = [
            ("version", self.version.clone()),
            ("process", self.pid.to_string()),
            ("up for", span(self.uptime_seconds)),
            ("listening", listed(&self.listeners.c2s)),
            ("with TLS", listed(&self.listeners.c2s_tls)),
            ("HTTP", listed(&self.listeners.http)),
            ("HTTPS", listed(&self.listeners.https)),
            ("memory", format!("{} MB", self.memory_octets / 1_000_000)),
            (
                "links",
                format!("{} of {}", sum(|s| s.links as u64), self.links_max),
            ),
            (
                "sessions",
                format!(
                    "{}, {} of them wait for their client",
                    sum(|s| s.sessions as u64),
                    sum(|s| s.sessions_detached as u64)
                ),
            ),
            (
                "messages",
                format!(
                    "{} received, {} delivered, {} stored",
                    sum(|s| s.messages_received),
                    sum(|s| s.messages_delivered),
                    sum(|s| s.messages_stored)
                ),
            ),
            (
                "storage",
                format!(
                    "{} requests and {} passwords wait",
                    self.storage.requests, self.storage.passwords
                ),
            ),
        ];
        for (name, value) in rows {
            let _ = writeln!(out, "{name:<10} {value}");
        }
        if self.log_lines_dropped > 0 {
            let _ = writeln!(
                out,
                "{:<10} {} lines dropped",
                "log", self.log_lines_dropped
            );
        }
        out.push('\n');
        out.push_str(&self.table());
        out
    }

    fn table(&self) -> String {
        let mut out = format!(
            "{:>5} {:>8} {:>8} {:>8} {:>8} {:>6} {:>8} {:>10} {:>10} {:>8} {:>6}\n",
            "shard",
            "links",
            "sessions",
            "detached",
            "accounts",
            "mail",
            "storage",
            "received",
            "delivered",
            "stored",
            "panics"
        );
        for shard in &self.shards {
            let _ = writeln!(
                out,
                "{:>5} {:>8} {:>8} {:>8} {:>8} {:>6} {:>8} {:>10} {:>10} {:>8} {:>6}",
                shard.shard,
                shard.links,
                shard.sessions,
                shard.sessions_detached,
                shard.accounts,
                shard.mail,
                shard.waiting_for_storage,
                shard.messages_received,
                shard.messages_delivered,
                shard.messages_stored,
                shard.panics
            );
        }
        out
    }
}

/// Octets of memory of this process; zero where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub resident: u64,
    pub anonymous: u64,
    pub peak: u64,
}

impl Memory {
    /// How much it is now.
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        let octets = |name: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
            let kilobytes = value.and_then(|value| value.trim().parse::<u64>().ok());
            kilobytes.unwrap_or(0) * 1024
        };
        Self {
            resident: octets("VmRSS:"),
            anonymous: octets("RssAnon:"),
            peak: octets("VmHWM:"),
        }
    }
}

fn span(seconds: u64) -> String {
    let at = Duration::from_secs(seconds).as_secs();
    let (days, hours, minutes) = (at / 86_400, at / 3_600 % 24, at / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{at} s"),
        (0, 0, _) => format!("{minutes} min {} s", at % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn listed(addresses: &[String]) -> String {
    match addresses {
        [] => "nowhere".into(),
        addresses => addresses.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "Name:\tencke\nVmHWM:\t    9000 kB\nVmRSS:\t    8000 kB\n\
                    RssAnon:\t    7000 kB\nRssFile:\t    1000 kB\n";
        let memory = Memory::read(text);
        let kilobytes = [memory.resident, memory.anonymous, memory.peak].map(|all| all / 1024);
        assert_eq!(kilobytes, [8_000, 7_000, 9_000]);
        assert_eq!(Memory::read(""), Memory::default());
        let now = Memory::now();
        assert!(now.anonymous > 0 && now.anonymous <= now.resident && now.resident <= now.peak);
    }
}
