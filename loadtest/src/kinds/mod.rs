//! The kinds of scenarios: which sessions, which phases, and what is read when. The options of a
//! kind are the keys of its scenario files.

pub mod broadcast;
pub mod chat;
pub mod churn;
pub mod idle;
pub mod login;
pub mod mixed;
pub mod offline;
pub mod presence;
pub mod reconnect;

use std::time::{Duration, Instant};

use clap::Subcommand;
use hdrhistogram::Histogram;

use crate::args::ReportArgs;
use crate::bench::{Bench, Ending, Span, Wait};
use crate::plan::{Board, Phase};
use crate::process::{Kernel, Memory};
use crate::report::Figures;
use crate::worker::Outcome;

#[derive(Subcommand)]
pub enum Kind {
    /// Log in many sessions, hold them, and say what memory one takes.
    Idle(idle::IdleArgs),
    /// Log in and out again, as fast as possible or at a rate, and say what a login costs.
    Login(login::LoginArgs),
    /// Let pairs talk, in a closed or an open loop: what a message costs and how long it takes.
    Chat(chat::ChatArgs),
    /// Change presence in front of many contacts: what a delivery costs and how long it takes.
    Presence(presence::PresenceArgs),
    /// Publish events to many who listen to a topic: what a delivery costs and how long it takes.
    Broadcast(broadcast::BroadcastArgs),
    /// Store messages for absent accounts, then let those log in and get everything once.
    Offline(offline::OfflineArgs),
    /// Cut all connections, and see all sessions return and nothing lost that was acknowledged.
    Reconnect(reconnect::ReconnectArgs),
    /// Let sessions come and go for a while, and say how the server's memory grows.
    Churn(churn::ChurnArgs),
    /// Several of these at once: shares that are idle, talk, watch presence, or come and go.
    Mixed(mixed::MixedArgs),
}

impl Kind {
    pub fn run(&self) -> Result<Ending, String> {
        match self {
            Self::Idle(args) => idle::run(args),
            Self::Login(args) => login::run(args),
            Self::Chat(args) => chat::run(args),
            Self::Presence(args) => presence::run(args),
            Self::Broadcast(args) => broadcast::run(args),
            Self::Offline(args) => offline::run(args),
            Self::Reconnect(args) => reconnect::run(args),
            Self::Churn(args) => churn::run(args),
            Self::Mixed(args) => mixed::run(args),
        }
    }

    pub fn report_mut(&mut self) -> &mut ReportArgs {
        match self {
            Self::Idle(args) => &mut args.report,
            Self::Login(args) => &mut args.report,
            Self::Chat(args) => &mut args.report,
            Self::Presence(args) => &mut args.report,
            Self::Broadcast(args) => &mut args.report,
            Self::Offline(args) => &mut args.report,
            Self::Reconnect(args) => &mut args.report,
            Self::Churn(args) => &mut args.report,
            Self::Mixed(args) => &mut args.report,
        }
    }
}

/// A closed loop in which nothing comes for so long has stopped.
const SILENCE: Duration = Duration::from_secs(1);
/// The last messages may take so long, and no longer than a login.
const DRAIN: Duration = Duration::from_secs(5);
pub const LOGIN_TIMES: [(&str, f64); 2] = [("login p50", 0.5), ("login p99", 0.99)];
pub const MESSAGE_TIMES: [(&str, f64); 4] = [
    ("latency p50", 0.5),
    ("latency p99", 0.99),
    ("latency p99.9", 0.999),
    ("latency max", 1.0),
];
const PRESENCE_TIMES: [(&str, f64); 4] = [
    ("presence latency p50", 0.5),
    ("presence latency p99", 0.99),
    ("presence latency p99.9", 0.999),
    ("presence latency max", 1.0),
];
pub const LAG_TIMES: [(&str, f64); 2] = [
    ("generator late by, p99", 0.99),
    ("generator late by, max", 1.0),
];
pub const IN_MICROSECONDS: (f64, &str) = (1e3, "µs");
pub const IN_MILLISECONDS: (f64, &str) = (1e6, "ms");

/// Appends quantiles, where there is anything to take them from.
pub fn latencies(
    figures: &mut Figures,
    all: &Histogram<u64>,
    names: &[(&'static str, f64)],
    (nanoseconds_per_unit, unit): (f64, &'static str),
) {
    if all.is_empty() {
        return;
    }
    for &(name, quantile) in names {
        let value = all.value_at_quantile(quantile) as f64;
        figures.add(name, value / nanoseconds_per_unit, unit);
    }
}

/// The server's CPU over a span, in percent of a core, and what part of it the kernel took.
fn server_cpu(figures: &mut Figures, span: &Span) {
    if let Some(server) = span.server {
        figures.add("server CPU", server.cpu_seconds / span.seconds * 100.0, "%");
        figures.add("server CPU in the kernel", server.system_share * 100.0, "%");
    }
}

/// The server's CPU for each of `count`, in microseconds.
pub fn server_per(figures: &mut Figures, span: &Span, name: &'static str, count: f64) {
    if let Some(server) = span.server {
        figures.per(name, server.cpu_seconds * 1e6, count, "µs");
    }
}

/// The same of this program.
pub fn own_per(figures: &mut Figures, span: &Span, name: &'static str, count: f64) {
    figures.per(name, span.own_cpu_seconds * 1e6, count, "µs");
}

fn others(figures: &mut Figures, span: &Span) {
    if let Some(other) = span.other_cpu_seconds {
        figures.add("CPU of other programs", other / span.seconds * 100.0, "%");
    }
}

pub fn note_derivations(bench: &mut Bench, outcome: &Outcome) {
    if outcome.derivations > bench.plan.threads as u64 {
        bench.note(format!(
            "the server salts each account by itself: PBKDF2 ran {} times in the generator",
            outcome.derivations
        ));
    } else if outcome.derivations > 0 {
        bench.note("accounts share a salt: the generator runs PBKDF2 once a thread".to_owned());
    }
}

/// Rosters outlive a run: who watched in other groups before gets more than is counted.
fn note_strangers(bench: &mut Bench, outcome: &Outcome) {
    if outcome.strange > 0 {
        bench.note(format!(
            "{} more deliveries went to contacts that another run has left on the rosters",
            outcome.strange
        ));
    }
}

/// What stood before the first session: what an allocator keeps from an earlier run is not
/// subtracted.
#[derive(Clone, Copy)]
pub struct Before {
    server: Option<Memory>,
    own: Memory,
    kernel: Kernel,
}

impl Before {
    pub fn of(bench: &Bench) -> Self {
        Self {
            server: bench.server.and_then(Memory::of),
            own: Memory::of(std::process::id()).unwrap_or_default(),
            kernel: Kernel::now(),
        }
    }
}

/// What a session takes on both ends. KB and MB are decimal, as in LIMITS.md.
pub fn memory(bench: &Bench, figures: &mut Figures, online: f64, before: &Before) {
    let server = before.server.zip(bench.server.and_then(Memory::of));
    if let Some((before, after)) = server {
        let pss = (after.pss - before.pss) / 1e3;
        figures.per("server PSS per session", pss, online, "KB");
        let anonymous = (after.anonymous - before.anonymous) / 1e3;
        figures.per("server anonymous per session", anonymous, online, "KB");
        figures.add("server PSS before", before.pss / 1e6, "MB");
        figures.add("server PSS after", after.pss / 1e6, "MB");
    }
    let own = Memory::of(std::process::id()).unwrap_or_default();
    let own = (own.anonymous - before.own.anonymous) / 1e3;
    figures.per("generator anonymous per session", own, online, "KB");
    let kernel = Kernel::now();
    let slab = (kernel.slab - before.kernel.slab) / 1e3;
    figures.per("kernel slab per session, both ends", slab, online, "KB");
    let buffers = (kernel.buffers - before.kernel.buffers) / 1e3;
    let name = "socket buffers per session, both ends";
    figures.per(name, buffers, online, "KB");
}

/// Logs all sessions in, with what that cost. Whether a run can go on.
pub fn log_in_all(
    bench: &mut Bench,
    board: &Board,
    figures: &mut Figures,
    sessions: usize,
) -> bool {
    let start = bench.read();
    let waited = bench.log_in(board, sessions);
    let end = bench.read();
    let span = bench.span(&start, &end);
    let done = board.total(|row| &row.ready) as f64;
    figures.add("logins per second", done / span.seconds, "");
    server_per(figures, &span, "server CPU per login", done);
    own_per(figures, &span, "generator CPU per login", done);
    waited == Wait::Done && done > 0.0
}

/// Watches a count that should grow, and says when it has stood still for too long.
struct Progress {
    count: u64,
    since: Instant,
    patience: Duration,
}

impl Progress {
    fn new(patience: Duration) -> Self {
        Self {
            count: 0,
            since: Instant::now(),
            patience,
        }
    }

    fn has_stalled(&mut self, count: u64) -> bool {
        if count != self.count {
            self.count = count;
            self.since = Instant::now();
        }
        self.since.elapsed() > self.patience
    }
}

/// Waits until `count` reaches `all`; what it stands at when it has stalled is an error.
fn wait_for(
    bench: &mut Bench,
    board: &Board,
    what: &str,
    all: u64,
    count: impl Fn(&Board) -> u64,
) -> Wait {
    let progress = std::cell::RefCell::new(Progress::new(bench.plan.timeout));
    let waited = bench.wait(board, what, |board| {
        let now = count(board);
        now >= all || progress.borrow_mut().has_stalled(now)
    });
    let missing = all.saturating_sub(count(board));
    if waited == Wait::Done {
        board.errors_of_kind(&format!("stalled while {what}"), missing, || {
            let seconds = bench.plan.timeout.as_secs();
            format!("{missing} of {all} were missing when nothing had come for {seconds} s")
        });
    }
    waited
}

/// Waits for what is under way; what has not come or has not been acknowledged by then is lost.
pub fn drain(bench: &mut Bench, board: &Board) {
    board.set_phase(Phase::Drain);
    let most = DRAIN.min(bench.plan.timeout);
    let until = Instant::now() + most;
    let unacknowledged = |board: &Board| board.total(|row| &row.unacknowledged);
    let _ = bench.wait(board, "draining", |board| {
        // All threads have seen the phase and have told what they wait for. Received first: then
        // nothing can seem to have come that was not sent.
        let seen = board.is_done(Phase::Drain);
        let received = board.total(|row| &row.received);
        let delivered = board.total(|row| &row.deliveries);
        let settled = received >= board.total(|row| &row.sent)
            && delivered >= board.total(|row| &row.owed)
            && unacknowledged(board) == 0;
        Instant::now() > until || (seen && settled)
    });
    let count = unacknowledged(board);
    let kind = if bench.plan.transport.is_json() {
        "request never answered"
    } else {
        "stanza never acknowledged (XEP-0198)"
    };
    board.errors_of_kind(kind, count, || {
        let seconds = most.as_secs();
        format!("{count} of them, {seconds} s after the last was sent")
    });
}

/// Notes a silence of the last wait, which in a closed loop means that the loop has stopped.
fn note_silence(bench: &mut Bench) {
    if bench.silence > SILENCE {
        let seconds = bench.silence.as_secs_f64();
        bench.note(format!(
            "STALLED: for {seconds:.1} s no message was delivered at all"
        ));
    }
}
