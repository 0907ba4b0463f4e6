//! `/metrics`: the counters of the running server as OpenMetrics text.
//!
//! A scrape is an errand: the shard that took the request goes on, a thread of its own asks all
//! shards as `encke status` does, and the answer comes back as a command.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, OnceLock};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::live::Live;
use super::status::{ShardStatus, Status};
use crate::engine::Errand;
use crate::io::ErrandSink;
use crate::store::ShardId;
use crate::store::worker::Storage;

/// Scrapes that may wait; more are told to come back.
const WAITING_MAX: usize = 64;

/// The counter where shards leave their errands.
pub struct Errands {
    sender: Sender<(ShardId, Errand)>,
    receiver: Receiver<(ShardId, Errand)>,
    live: Arc<OnceLock<Live>>,
}

impl Errands {
    /// A counter that nobody serves yet.
    pub fn new() -> Self {
        let (sender, receiver) = bounded(WAITING_MAX);
        Self {
            sender,
            receiver,
            live: Arc::default(),
        }
    }

    /// Takes the errands of a turn; never waits.
    pub fn sink(&self) -> ErrandSink {
        let (sender, live) = (self.sender.clone(), self.live.clone());
        Arc::new(move |shard, errands| {
            for errand in errands.drain(..) {
                // Too many wait, or nobody serves any more: either way the client is told.
                if let (Err(refused), Some(live)) = (sender.try_send((shard, errand)), live.get()) {
                    let (shard, errand) = refused.into_inner();
                    live.command(shard, errand.done(None));
                }
            }
        })
    }

    /// Serves them on a thread of its own until the shards are gone.
    ///
    /// # Errors
    /// When the thread cannot be had.
    pub fn serve(self, live: Live, storage: Storage) -> io::Result<()> {
        let Self {
            sender,
            receiver,
            live: known,
        } = self;
        // The shards hold the other ends: when they are gone, so is the thread.
        drop(sender);
        let _ = known.set(live.clone());
        let work = move || {
            for (shard, errand) in receiver {
                let text = write(&live.status(&storage));
                live.command(shard, errand.done(Some(text.into_bytes())));
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into());
        thread.spawn(work).map(drop)
    }
}

/// One family of samples.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&ShardStatus) -> u64,
}

const fn family(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&ShardStatus) -> u64,
) -> Family {
    Family {
        name,
        kind,
        help,
        read,
    }
}

/// What each shard tells.
const FAMILIES: &[Family] = &[
    family("encke_links", "gauge", "Connected sockets.", |s| {
        s.links as u64
    }),
    family(
        "encke_sessions_detached",
        "gauge",
        "Sessions that wait for their client.",
        |s| s.sessions_detached as u64,
    ),
    family("encke_accounts", "gauge", "Accounts in memory.", |s| {
        s.accounts as u64
    }),
    family(
        "encke_mail_batches",
        "gauge",
        "Batches in the mailbox.",
        |s| s.mail as u64,
    ),
    family("encke_mail_bytes", "gauge", "Octets in the mailbox.", |s| {
        s.mail_octets as u64
    }),
    family(
        "encke_storage_waiting",
        "gauge",
        "Requests to storage without an answer.",
        |s| s.waiting_for_storage as u64,
    ),
    family("encke_turns", "counter", "Turns of the event loop.", |s| {
        s.turns
    }),
    family(
        "encke_messages_received",
        "counter",
        "Messages taken from clients.",
        |s| s.messages_received,
    ),
    family(
        "encke_messages_delivered",
        "counter",
        "Messages given to sessions.",
        |s| s.messages_delivered,
    ),
    family(
        "encke_messages_stored",
        "counter",
        "Messages put into the offline store.",
        |s| s.messages_stored,
    ),
    family(
        "encke_links_accepted",
        "counter",
        "Connections accepted.",
        |s| s.links_accepted,
    ),
    family(
        "encke_links_refused",
        "counter",
        "Connections refused for a limit.",
        |s| s.links_refused,
    ),
    family(
        "encke_received_bytes",
        "counter",
        "Octets read from sockets.",
        |s| s.octets_read,
    ),
    family(
        "encke_sent_bytes",
        "counter",
        "Octets written to sockets.",
        |s| s.octets_written,
    ),
    family(
        "encke_panics",
        "counter",
        "Inputs dropped because of a bug.",
        |s| s.panics,
    ),
];

/// The whole exposition (OpenMetrics 1.0).
fn write(status: &Status) -> String {
    let mut out = String::with_capacity(4_096);
    for Family {
        name,
        kind,
        help,
        read,
    } in FAMILIES
    {
        let _ = writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {help}");
        let suffix = if *kind == "counter" { "_total" } else { "" };
        for shard in &status.shards {
            let (number, value) = (shard.shard, read(shard));
            let _ = writeln!(out, "{name}{suffix}{{shard=\"{number}\"}} {value}");
        }
    }
    write_sessions(status, &mut out);
    let version = &status.version;
    let single = [
        (
            "encke_memory_bytes",
            "Resident memory of the process.",
            status.memory_octets,
        ),
        (
            "encke_storage_queue_requests",
            "Requests that storage has not begun.",
            status.storage.requests as u64,
        ),
        (
            "encke_storage_queue_bytes",
            "Octets of those requests.",
            status.storage.octets as u64,
        ),
        (
            "encke_password_queue",
            "Passwords that wait to be hashed.",
            status.storage.passwords as u64,
        ),
        (
            "encke_links_max",
            "The most connections at a time.",
            status.links_max as u64,
        ),
        (
            "encke_uptime_seconds",
            "Since the start.",
            status.uptime_seconds,
        ),
    ];
    for (name, help, value) in single {
        let _ = writeln!(
            out,
            "# TYPE {name} gauge\n# HELP {name} {help}\n{name} {value}"
        );
    }
    let _ = writeln!(
        out,
        "# TYPE encke info\n# HELP encke This server.\nencke_info{{version=\"{version}\"}} 1\n# EOF"
    );
    out
}

fn write_sessions(status: &Status, out: &mut String) {
    const NAME: &str = "encke_sessions";
    let _ = writeln!(
        out,
        "# TYPE {NAME} gauge\n# HELP {NAME} Bound resources by transport; none: detached."
    );
    for shard in &status.shards {
        let number = shard.shard;
        let elsewhere = shard.sessions_websocket + shard.sessions_detached;
        let kinds = [
            ("tcp", shard.sessions.saturating_sub(elsewhere)),
            ("websocket", shard.sessions_websocket),
            ("none", shard.sessions_detached),
        ];
        for (transport, value) in kinds {
            let _ = writeln!(
                out,
                "{NAME}{{shard=\"{number}\",transport=\"{transport}\"}} {value}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_announced_once_and_the_text_ends_as_it_must() {
        let status = Status {
            shards: vec![ShardStatus::default(), ShardStatus::default()],
            ..Status::default()
        };
        let text = write(&status);
        let mut names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("encke_turns_total{shard=\"0\"} 0\n"));
        assert!(text.contains("encke_sessions{shard=\"0\",transport=\"websocket\"} 0\n"));
    }
}
