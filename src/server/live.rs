//! The running reactors, as the administrator's counter sees them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};

use super::log::Log;
use super::plan::Plan;
use super::signals::Wish;
use super::status::{
    Listeners, Memory, ShardStatus, SpreadStatus, Status, StorageStatus, TransportStatus,
};
use crate::engine::Command;
use crate::io::{Handle, ShardReport, clock};
use crate::session::traffic::Transport;
use crate::store::ShardId;
use crate::store::lateness::Spread;
use crate::store::worker::Storage;

/// What `status` and `user` need of a running server. Clones see the same server.
#[derive(Clone)]
pub struct Live {
    /// Gone when the server stops.
    reactors: Arc<Mutex<Option<Handle>>>,
    log: Log,
    began: Instant,
    plan: Plan,
    listeners: Listeners,
    data_dir: PathBuf,
    wishes: Sender<Wish>,
}

/// How long a shard may take to say how it is.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

impl Live {
    /// A server that has just begun.
    pub fn new(
        reactors: Handle,
        log: Log,
        plan: Plan,
        listeners: Listeners,
        data_dir: &Path,
        wishes: Sender<Wish>,
    ) -> Self {
        Self {
            reactors: Arc::new(Mutex::new(Some(reactors))),
            log,
            began: Instant::now(),
            plan,
            listeners,
            data_dir: data_dir.into(),
            wishes,
        }
    }

    /// Where it listens.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Where its data are.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Ends this server, puts the staged store in its place and starts again; returns where the
    /// former store is kept.
    ///
    /// # Errors
    /// When the server cannot start again; it ends then.
    pub fn restart_on_staged(&self) -> Result<Option<PathBuf>, String> {
        let (reply, replies) = bounded(1);
        let asked = self.wishes.send(Wish::Restore(reply));
        let answered = asked.ok().and_then(|()| replies.recv().ok());
        answered
            .unwrap_or_else(|| Err("its log says why".into()))
            .map_err(|line| format!("the server could not start again: {line}"))
    }

    /// Gives every shard a command.
    pub fn broadcast(&self, command: impl Fn() -> Command) {
        self.with(|reactors| reactors.broadcast(command));
    }

    /// Gives one shard a command.
    pub fn command(&self, shard: ShardId, command: Command) {
        self.with(|reactors| reactors.command(shard, command));
    }

    /// Ends all sessions of an account. Its home shard knows them; the others do nothing.
    pub fn kick(&self, jid: &str, condition: &'static str) {
        self.broadcast(|| Command::Kick {
            account: jid.into(),
            condition,
        });
    }

    /// Takes the reactors away, to end them.
    pub fn take(&self) -> Option<Handle> {
        self.reactors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How everything is. Waits for every shard to answer, within bounds.
    pub fn status(&self, storage: &Storage) -> Status {
        let reports = self
            .with(|reactors| reactors.report(REPORT_TIMEOUT))
            .unwrap_or_default();
        let memory = Memory::now();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: self.began.elapsed().as_secs(),
            listeners: self.listeners.clone(),
            links_max: self.plan.links_max,
            private_descriptors: self.plan.private_descriptors,
            memory_octets: memory.resident,
            memory_anonymous_octets: memory.anonymous,
            memory_peak_octets: memory.peak,
            cpu_micros: micros(clock::process_cpu()),
            shards_silent: usize::from(self.plan.shards).saturating_sub(reports.len()),
            shards: reports.iter().map(shard_status).collect(),
            storage: storage_status(storage),
            log_lines_dropped: self.log.dropped(),
        }
    }

    /// Does something with the reactors while there are some. Whoever stops them waits meanwhile.
    fn with<T>(&self, act: impl FnOnce(&Handle) -> T) -> Option<T> {
        let reactors = self.reactors.lock().unwrap_or_else(PoisonError::into_inner);
        reactors.as_ref().map(act)
    }
}

fn storage_status(storage: &Storage) -> StorageStatus {
    let depth = storage.depth();
    let lateness = storage.lateness();
    let spread = |spread: &Spread| SpreadStatus {
        counts: spread.counts.to_vec(),
        sum_micros: micros(spread.sum),
        last_micros: micros(spread.last),
        max_micros: micros(spread.max),
    };
    StorageStatus {
        requests: depth.ops,
        octets: depth.octets,
        passwords: depth.hashes,
        delay_micros: micros(storage.delay(REPORT_TIMEOUT)),
        oldest_micros: micros(lateness.oldest),
        syncs: spread(&lateness.syncs),
        waits: spread(&lateness.waits),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn transport_status(report: &ShardReport, transport: Transport) -> TransportStatus {
    TransportStatus {
        transport: transport.name().into(),
        sessions: report.engine.sessions_by[transport],
        messages_received: report.engine.messages_received_by[transport],
        messages_delivered: report.engine.messages_delivered_by[transport],
    }
}

fn shard_status(report: &ShardReport) -> ShardStatus {
    let transports = Transport::ALL.map(|transport| transport_status(report, transport));
    ShardStatus {
        shard: report.shard,
        links: report.links,
        sessions: report.engine.sessions,
        sessions_detached: report.engine.sessions_by[Transport::None] as usize,
        transports: transports.into(),
        accounts: report.engine.accounts,
        mail: report.mail_posts,
        mail_octets: report.mail_octets,
        mail_age_micros: micros(report.mail_age),
        unsent_octets: report.engine.unsent_octets,
        unsent_age_millis: report.unsent_age.as_millis() as u64,
        held_octets: report.engine.held_octets,
        waiting_for_storage: report.engine.waiting_for_storage,
        messages_received: report.engine.messages_received,
        messages_delivered: report.engine.messages_delivered,
        messages_stored: report.engine.messages_stored,
        panics: report.engine.panics,
        turns: report.turns,
        cpu_micros: micros(report.cpu),
        links_accepted: report.io.accepted,
        links_refused: report.io.refused,
        octets_read: report.io.octets_read,
        octets_written: report.io.octets_written,
    }
}
