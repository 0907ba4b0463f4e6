//! Presence changes in front of many contacts: one stanza in, as many out as there are contacts.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{IN_MICROSECONDS, LAG_TIMES, PRESENCE_TIMES};
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending, Span, Wait};
use crate::plan::{Board, Phase};
use crate::report::Figures;
use crate::task::{Presence, Subscriptions, Task};

#[derive(Args)]
pub struct PresenceArgs {
    /// How many sessions; rounded down to whole groups of contacts.
    #[arg(long, short = 'n', default_value_t = 1_000)]
    pub sessions: usize,
    /// Contacts in each roster, all of them online: everybody in a group knows all the others.
    #[arg(long, default_value_t = 100)]
    pub contacts: usize,
    /// Presence changes per second over all sessions, in an open loop.
    #[arg(long, default_value_t = 100.0)]
    pub changes: f64,
    /// How the subscriptions come to be, before the measured time.
    #[arg(long, value_enum, default_value = "ask")]
    pub subscriptions: Subscriptions,
    /// Seconds before the measured time.
    #[arg(long, default_value_t = 3)]
    pub warmup: u64,
    /// Measured seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &PresenceArgs) -> Result<Ending, String> {
    let presence = Presence {
        group_size: args.contacts + 1,
        changes_per_second: args.changes,
        subscriptions: args.subscriptions,
    };
    let groups = groups(args.sessions, &presence)?;
    let task = Task {
        groups,
        presence: Some(presence),
        ..Task::default()
    };
    let options = json!({
        "sessions": task.sessions(),
        "contacts": args.contacts,
        "changes_per_second": args.changes,
        "subscriptions": format!("{:?}", args.subscriptions).to_lowercase(),
        "warmup_seconds": args.warmup,
        "seconds": args.seconds,
    });
    let mut bench = Bench::new("presence", &args.connect, &args.report, &task, options)?;
    if bench.accounts < task.sessions() {
        return Err(format!(
            "{} sessions need as many accounts",
            task.sessions()
        ));
    }
    bench.repeat(&args.report, |bench| once(bench, args, &task));
    Ok(bench.finish(&args.report))
}

/// How many groups so many sessions make.
pub fn groups(sessions: usize, presence: &Presence) -> Result<usize, String> {
    let size = presence.group_size;
    if size < 2 || !(presence.changes_per_second > 0.0 && presence.changes_per_second < 1e9) {
        return Err("presence needs contacts, and changes that come at a rate".to_owned());
    }
    match sessions / size {
        0 => Err(format!("{sessions} sessions are no group of {size}")),
        groups => Ok(groups),
    }
}

/// Makes the subscriptions that the task needs.
pub fn prepare(bench: &mut Bench, board: &Board, task: &Task) -> Wait {
    if task.groups == 0 {
        return Wait::Done;
    }
    board.set_phase(Phase::Prepare);
    let size = task.group_size() as u64;
    let all = task.groups as u64 * size * size.saturating_sub(1);
    let waited = super::wait_for(bench, board, "subscribing", all, |board| {
        // Whose contact is missing has nobody to wait for.
        let done = board.is_done(Phase::Prepare);
        if done {
            all
        } else {
            board.total(|row| &row.subscribed)
        }
    });
    // What was subscribed a moment ago still brings the first presence of the contact.
    if waited == Wait::Done {
        return bench.pause(board, "settling", SETTLE);
    }
    waited
}

const SETTLE: Duration = Duration::from_millis(500);

fn once(bench: &mut Bench, args: &PresenceArgs, task: &Task) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        if !super::log_in_all(bench, board, &mut figures, task.sessions()) {
            return;
        }
        if prepare(bench, board, task) == Wait::Cut {
            return;
        }
        board.set_phase(Phase::Warm);
        let _ = bench.pause(board, "warming up", Duration::from_secs(args.warmup));
        board.set_phase(Phase::Measure);
        let (start, before) = (bench.read(), Counts::of(board));
        let _ = bench.pause(board, "measuring", Duration::from_secs(args.seconds));
        let (end, after) = (bench.read(), Counts::of(board));
        let span = bench.span(&start, &end);
        super::drain(bench, board);
        bench.something |= after.deliveries > before.deliveries;
        add(&mut figures, &span, &before, &after);
        cost(&mut figures, &span, &before, &after);
        super::server_cpu(&mut figures, &span);
        super::others(&mut figures, &span);
    });
    super::latencies(
        &mut figures,
        &outcome.presence,
        &PRESENCE_TIMES,
        IN_MICROSECONDS,
    );
    super::latencies(&mut figures, &outcome.lags, &LAG_TIMES, IN_MICROSECONDS);
    super::note_strangers(bench, &outcome);
    super::note_derivations(bench, &outcome);
    figures
}

pub struct Counts {
    changes: u64,
    pub deliveries: u64,
}

impl Counts {
    pub fn of(board: &Board) -> Self {
        Self {
            changes: board.total(|row| &row.changes),
            deliveries: board.total(|row| &row.deliveries),
        }
    }
}

pub fn add(figures: &mut Figures, span: &Span, before: &Counts, after: &Counts) {
    let changes = (after.changes - before.changes) as f64;
    let deliveries = (after.deliveries - before.deliveries) as f64;
    figures.add("presence changes", changes, "");
    figures.add("presence deliveries", deliveries, "");
    let rate = deliveries / span.seconds;
    figures.add("presence deliveries per second", rate, "");
}

fn cost(figures: &mut Figures, span: &Span, before: &Counts, after: &Counts) {
    let changes = (after.changes - before.changes) as f64;
    let deliveries = (after.deliveries - before.deliveries) as f64;
    super::server_per(
        figures,
        span,
        "server CPU per presence delivery",
        deliveries,
    );
    super::server_per(figures, span, "server CPU per presence change", changes);
    super::own_per(
        figures,
        span,
        "generator CPU per presence delivery",
        deliveries,
    );
}
