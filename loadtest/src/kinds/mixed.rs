//! A day in the life: most sessions are idle, some talk, some watch presence, some come and go.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{
    Before, IN_MICROSECONDS, IN_MILLISECONDS, LAG_TIMES, LOGIN_TIMES, MESSAGE_TIMES, PRESENCE_TIMES,
};
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending, Wait};
use crate::plan::Phase;
use crate::report::Figures;
use crate::task::{Address, Answer, Chat, Pace, Presence, Subscriptions, Task};

#[derive(Args)]
pub struct MixedArgs {
    /// How many sessions in all.
    #[arg(long, short = 'n', default_value_t = 2_000)]
    pub sessions: usize,
    /// The share that talks, in percent.
    #[arg(long, default_value_t = 20)]
    pub talking: usize,
    /// The share that watches presence, in percent.
    #[arg(long, default_value_t = 10)]
    pub watching: usize,
    /// The share that comes and goes, in percent. All others are idle.
    #[arg(long, default_value_t = 5)]
    pub churning: usize,
    /// Messages per second over all that talk, in an open loop.
    #[arg(long, default_value_t = 500.0)]
    pub open_rate: f64,
    /// Octets of a body, at least 40.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Contacts in the roster of each that watches.
    #[arg(long, default_value_t = 20)]
    pub contacts: usize,
    /// Presence changes per second over all that watch, in an open loop.
    #[arg(long, default_value_t = 20.0)]
    pub changes: f64,
    /// How the subscriptions come to be, before the measured time.
    #[arg(long, value_enum, default_value = "ask")]
    pub subscriptions: Subscriptions,
    /// Seconds that each that comes and goes stays.
    #[arg(long, default_value_t = 5.0)]
    pub stay: f64,
    /// The share of departures, in percent, that are a reset connection instead of a good-bye.
    #[arg(long, default_value_t = 10)]
    pub abrupt: u32,
    /// Seconds between two keep-alives of a session (white space; pings on a WebSocket); without it
    /// none are sent.
    #[arg(long)]
    pub keepalive: Option<f64>,
    /// Seconds before the measured time.
    #[arg(long, default_value_t = 5)]
    pub warmup: u64,
    /// Measured seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &MixedArgs) -> Result<Ending, String> {
    let task = task(args)?;
    let options = json!({
        "sessions": task.sessions(),
        "talking": task.pairs * 2,
        "watching": task.groups * task.group_size(),
        "churning": task.churning,
        "idle": task.idle,
        "open_rate": args.open_rate,
        "body_octets": args.size,
        "contacts": args.contacts,
        "changes_per_second": args.changes,
        "stay_seconds": args.stay,
        "abrupt_percent": args.abrupt,
        "keepalive_seconds": args.keepalive,
        "warmup_seconds": args.warmup,
        "seconds": args.seconds,
    });
    let mut bench = Bench::new("mixed", &args.connect, &args.report, &task, options)?;
    if let Some(chat) = &task.chat {
        super::chat::check(chat, &task, &bench)?;
    }
    let before = Before::of(&bench);
    bench.repeat(&args.report, |bench| once(bench, args, &task, &before));
    Ok(bench.finish(&args.report))
}

/// The shares as counts; what no whole pair or group is left of is idle.
fn task(args: &MixedArgs) -> Result<Task, String> {
    let shares = args.talking + args.watching + args.churning;
    if shares > 100 || args.sessions == 0 {
        return Err(format!(
            "shares of {shares} % of {} sessions",
            args.sessions
        ));
    }
    let count = |share: usize| args.sessions * share / 100;
    let presence = Presence {
        group_size: args.contacts + 1,
        changes_per_second: args.changes,
        subscriptions: args.subscriptions,
    };
    let chat = Chat {
        pace: Pace::Rate(args.open_rate),
        body_octets: args.size,
        answer: Answer::Echo,
        address: Address::Bare,
    };
    let mut task = Task {
        pairs: count(args.talking) / 2,
        churning: count(args.churning),
        keepalive: super::idle::keepalive(args.keepalive)?,
        ..Task::default()
    };
    if args.watching > 0 {
        task.groups = super::presence::groups(count(args.watching), &presence)?;
        task.presence = Some(presence);
    }
    if task.pairs > 0 {
        task.chat = Some(chat);
    }
    if task.churning > 0 {
        task.churn = Some(super::churn::churn(args.stay, args.abrupt)?);
    }
    task.idle = args.sessions - task.sessions();
    Ok(task)
}

fn once(bench: &mut Bench, args: &MixedArgs, task: &Task, before: &Before) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        if !super::log_in_all(bench, board, &mut figures, task.sessions()) {
            return;
        }
        if super::presence::prepare(bench, board, task) == Wait::Cut {
            return;
        }
        board.set_phase(Phase::Warm);
        let _ = bench.pause(board, "warming up", Duration::from_secs(args.warmup));
        board.set_phase(Phase::Measure);
        let (start, logins) = (bench.read(), board.total(|row| &row.ready));
        let messages = board.total(|row| &row.received);
        let counts = super::presence::Counts::of(board);
        let time = Duration::from_secs(args.seconds);
        let samples = super::churn::measure(bench, board, time);
        let end = bench.read();
        let span = bench.span(&start, &end);
        let after = super::presence::Counts::of(board);
        let messages = board.total(|row| &row.received) - messages;
        let logins = board.total(|row| &row.ready) - logins;
        let online = board.total(|row| &row.online) as f64;
        super::drain(bench, board);
        bench.something |= online > 0.0;
        figures.add("sessions online", online, "");
        figures.add("messages per second", messages as f64 / span.seconds, "");
        figures.add("visits per second", logins as f64 / span.seconds, "");
        if task.presence.is_some() {
            super::presence::add(&mut figures, &span, &counts, &after);
        }
        if let Some(server) = span.server {
            figures.add("server cores", server.cpu_seconds / span.seconds, "");
        }
        let own = span.own_cpu_seconds / span.seconds;
        figures.add("generator cores", own, "");
        super::others(&mut figures, &span);
        super::memory(bench, &mut figures, online, before);
        super::churn::memory_slope(&mut figures, &samples, logins as f64 / span.seconds);
        super::chat::note_unsent(bench, board);
    });
    super::latencies(
        &mut figures,
        &outcome.messages,
        &MESSAGE_TIMES,
        IN_MICROSECONDS,
    );
    super::latencies(
        &mut figures,
        &outcome.presence,
        &PRESENCE_TIMES,
        IN_MICROSECONDS,
    );
    super::latencies(&mut figures, &outcome.lags, &LAG_TIMES, IN_MICROSECONDS);
    super::latencies(&mut figures, &outcome.logins, &LOGIN_TIMES, IN_MILLISECONDS);
    super::note_strangers(bench, &outcome);
    super::note_derivations(bench, &outcome);
    figures
}
