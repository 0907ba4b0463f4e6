//! The counters of the running server as OpenMetrics text (OpenMetrics 1.0).
//!
//! All of it is worked out when somebody asks: what is counted meanwhile is one addition each.

use std::fmt::{Display, Write as _};

use super::status::{ShardStatus, SpreadStatus, Status, TransportStatus};
use crate::store::lateness::BOUNDS;

/// One family of samples: what it is called, what it says, and where it is read.
struct Family<S> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    read: fn(&S) -> f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
    Info,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

const fn gauge<S>(name: &'static str, help: &'static str, read: fn(&S) -> f64) -> Family<S> {
    let kind = Kind::Gauge;
    Family {
        name,
        kind,
        help,
        read,
    }
}

const fn counter<S>(name: &'static str, help: &'static str, read: fn(&S) -> f64) -> Family<S> {
    let kind = Kind::Counter;
    Family {
        name,
        kind,
        help,
        read,
    }
}

/// What each shard tells.
const OF_SHARDS: &[Family<ShardStatus>] = &[
    gauge("encke_links", "Connected sockets.", |s| s.links as f64),
    gauge(
        "encke_sessions_detached",
        "Sessions that wait for their client.",
        |s| s.sessions_detached as f64,
    ),
    gauge("encke_accounts", "Accounts in memory.", |s| {
        s.accounts as f64
    }),
    gauge("encke_mail_batches", "Batches in the mailbox.", |s| {
        s.mail as f64
    }),
    gauge("encke_mail_bytes", "Octets in the mailbox.", |s| {
        s.mail_octets as f64
    }),
    gauge(
        "encke_mail_age_seconds",
        "How long mail lay in the mailbox just now.",
        |s| seconds(s.mail_age_micros),
    ),
    gauge(
        "encke_unsent_bytes",
        "Octets that sockets have not taken from sessions.",
        |s| s.unsent_octets as f64,
    ),
    gauge(
        "encke_unsent_age_seconds",
        "Age of the oldest message among them; zero where none is.",
        |s| s.unsent_age_millis as f64 / 1e3,
    ),
    gauge(
        "encke_queues_bytes",
        "Octets that sessions hold until their clients have them.",
        |s| s.held_octets as f64,
    ),
    gauge(
        "encke_storage_waiting",
        "Requests to storage without an answer.",
        |s| s.waiting_for_storage as f64,
    ),
    counter("encke_turns", "Turns of the event loop.", |s| {
        s.turns as f64
    }),
    counter(
        "encke_cpu_seconds",
        "Time of a core that the shard's thread has used.",
        |s| seconds(s.cpu_micros),
    ),
    counter(
        "encke_messages_stored",
        "Messages put into the offline store.",
        |s| s.messages_stored as f64,
    ),
    counter("encke_links_accepted", "Connections accepted.", |s| {
        s.links_accepted as f64
    }),
    counter(
        "encke_links_refused",
        "Connections refused for a limit or a wrong PROXY header.",
        |s| s.links_refused as f64,
    ),
    counter("encke_received_bytes", "Octets read from sockets.", |s| {
        s.octets_read as f64
    }),
    counter("encke_sent_bytes", "Octets written to sockets.", |s| {
        s.octets_written as f64
    }),
    counter("encke_panics", "Inputs dropped because of a bug.", |s| {
        s.panics as f64
    }),
];

/// What each transport of each shard tells. None: the session waits for its client.
const OF_TRANSPORTS: &[Family<TransportStatus>] = &[
    gauge("encke_sessions", "Bound resources.", |t| t.sessions as f64),
    counter(
        "encke_messages_received",
        "Messages taken from clients.",
        |t| t.messages_received as f64,
    ),
    counter(
        "encke_messages_delivered",
        "Messages given to sessions.",
        |t| t.messages_delivered as f64,
    ),
];

/// What the process tells.
const OF_SERVER: &[Family<Status>] = &[
    gauge(
        "encke_shards_silent",
        "Shards that have not answered and are missing here.",
        |s| s.shards_silent as f64,
    ),
    gauge("encke_memory_bytes", "Resident memory.", |s| {
        s.memory_octets as f64
    }),
    gauge(
        "encke_memory_anonymous_bytes",
        "Resident memory that belongs to no file.",
        |s| s.memory_anonymous_octets as f64,
    ),
    gauge(
        "encke_memory_peak_bytes",
        "The most that was resident.",
        |s| s.memory_peak_octets as f64,
    ),
    counter(
        "encke_process_cpu_seconds",
        "Time of all cores that the process has used.",
        |s| seconds(s.cpu_micros),
    ),
    gauge(
        "encke_storage_queue_requests",
        "Requests that storage has not begun.",
        |s| s.storage.requests as f64,
    ),
    gauge(
        "encke_storage_queue_bytes",
        "Octets of those requests.",
        |s| s.storage.octets as f64,
    ),
    gauge(
        "encke_storage_queue_age_seconds",
        "How long a request lay there just now.",
        |s| seconds(s.storage.delay_micros),
    ),
    gauge(
        "encke_storage_undurable_age_seconds",
        "How long the oldest record waits that is not durable; zero where none is.",
        |s| seconds(s.storage.oldest_micros),
    ),
    gauge(
        "encke_storage_sync_last_seconds",
        "How long the device took the last time.",
        |s| seconds(s.storage.syncs.last_micros),
    ),
    gauge(
        "encke_storage_sync_max_seconds",
        "The longest that the device took.",
        |s| seconds(s.storage.syncs.max_micros),
    ),
    gauge(
        "encke_storage_durable_last_seconds",
        "How long the first record of the last group waited until it was durable.",
        |s| seconds(s.storage.waits.last_micros),
    ),
    gauge(
        "encke_storage_durable_max_seconds",
        "The longest that one waited.",
        |s| seconds(s.storage.waits.max_micros),
    ),
    gauge(
        "encke_password_queue",
        "Passwords that wait to be hashed.",
        |s| s.storage.passwords as f64,
    ),
    gauge("encke_links_max", "The most connections at a time.", |s| {
        s.links_max as f64
    }),
    gauge("encke_uptime_seconds", "Since the start.", |s| {
        s.uptime_seconds as f64
    }),
];

/// The whole exposition.
pub fn write(status: &Status) -> String {
    let mut out = String::with_capacity(8_192);
    for family in OF_SHARDS {
        family.announce(&mut out);
        for shard in &status.shards {
            family.sample(
                &mut out,
                format_args!("{{shard=\"{}\"}}", shard.shard),
                shard,
            );
        }
    }
    for family in OF_TRANSPORTS {
        family.announce(&mut out);
        for shard in &status.shards {
            for transport in &shard.transports {
                let (number, name) = (shard.shard, &transport.transport);
                let labels = format_args!("{{shard=\"{number}\",transport=\"{name}\"}}");
                family.sample(&mut out, labels, transport);
            }
        }
    }
    for family in OF_SERVER {
        family.announce(&mut out);
        family.sample(&mut out, "", status);
    }
    histogram(
        &mut out,
        "encke_storage_sync_seconds",
        "How long the device took to make a group durable.",
        &status.storage.syncs,
    );
    histogram(
        &mut out,
        "encke_storage_durable_seconds",
        "How long the first record of each group waited until it was durable.",
        &status.storage.waits,
    );
    announce(&mut out, "encke", Kind::Info, "This server.");
    let version = &status.version;
    let _ = writeln!(out, "encke_info{{version=\"{version}\"}} 1\n# EOF");
    out
}

impl<S> Family<S> {
    fn announce(&self, out: &mut String) {
        announce(out, self.name, self.kind, self.help);
    }

    fn sample(&self, out: &mut String, labels: impl Display, source: &S) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            _ => "",
        };
        let (name, value) = (self.name, (self.read)(source));
        let _ = writeln!(out, "{name}{suffix}{labels} {value}");
    }
}

fn announce(out: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = kind.name();
    let _ = writeln!(out, "# TYPE {name} {kind}\n# HELP {name} {help}");
}

/// Durations; a server that has told none has as many bounds.
fn histogram(out: &mut String, name: &str, help: &str, spread: &SpreadStatus) {
    announce(out, name, Kind::Histogram, help);
    let mut count = 0;
    let bounds = BOUNDS.iter().map(|bound| Some(seconds(*bound)));
    for (place, bound) in bounds.chain([None]).enumerate() {
        count += spread.counts.get(place).unwrap_or(&0);
        let _ = match bound {
            Some(bound) => writeln!(out, "{name}_bucket{{le=\"{bound:?}\"}} {count}"),
            None => writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}"),
        };
    }
    let sum = seconds(spread.sum_micros);
    let _ = writeln!(out, "{name}_count {count}\n{name}_sum {sum}");
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let shard = |shard| ShardStatus {
            shard,
            cpu_micros: 1_500_000,
            transports: vec![TransportStatus {
                transport: "websocket".into(),
                sessions: 3,
                ..TransportStatus::default()
            }],
            ..ShardStatus::default()
        };
        let mut status = Status {
            shards: vec![shard(0), shard(1)],
            ..Status::default()
        };
        let mut counts = vec![0; BOUNDS.len() + 1];
        (counts[0], counts[2], counts[BOUNDS.len()]) = (5, 2, 1);
        status.storage.syncs = SpreadStatus {
            counts,
            sum_micros: 7_000_250,
            ..SpreadStatus::default()
        };
        status
    }

    #[test]
    fn every_family_is_announced_once_and_the_text_ends_as_it_must() {
        let text = write(&status());
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
        assert!(text.contains("encke_cpu_seconds_total{shard=\"1\"} 1.5\n"));
        assert!(text.contains("encke_sessions{shard=\"0\",transport=\"websocket\"} 3\n"));
    }

    #[test]
    fn a_histogram_rises_up_to_its_count() {
        let text = write(&status());
        let name = "encke_storage_sync_seconds";
        for line in [
            "_bucket{le=\"0.0001\"} 5",
            "_bucket{le=\"0.00025\"} 5",
            "_bucket{le=\"0.0005\"} 7",
            "_bucket{le=\"5.0\"} 7",
            "_bucket{le=\"+Inf\"} 8",
            "_count 8",
            "_sum 7.00025",
        ] {
            assert!(text.contains(&format!("{name}{line}\n")), "{line}\n{text}");
        }
        assert!(text.contains("encke_storage_durable_seconds_count 0\n"));
    }
}
