//! Sessions that do nothing, or next to nothing: what one takes.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Before, IN_MILLISECONDS, LAG_TIMES, LOGIN_TIMES};
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending};
use crate::plan::Phase;
use crate::report::Figures;
use crate::task::Task;

#[derive(Args)]
pub struct IdleArgs {
    /// How many sessions.
    #[arg(long, short = 'n', default_value_t = 10_000)]
    pub sessions: usize,
    /// Seconds to hold them before memory is read.
    #[arg(long, default_value_t = 15)]
    pub hold: u64,
    /// Seconds between two keep-alives of a session (white space; pings on a WebSocket); without it
    /// they are silent.
    #[arg(long)]
    pub keepalive: Option<f64>,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &IdleArgs) -> Result<Ending, String> {
    let options = json!({
        "sessions": args.sessions,
        "hold_seconds": args.hold,
        "keepalive_seconds": args.keepalive,
    });
    let task = Task {
        idle: args.sessions,
        keepalive: keepalive(args.keepalive)?,
        ..Task::default()
    };
    let mut bench = Bench::new("idle", &args.connect, &args.report, &task, options)?;
    // Once, before the first session.
    let before = Before::of(&bench);
    bench.repeat(&args.report, |bench| once(bench, args, &task, &before));
    Ok(bench.finish(&args.report))
}

/// The time between two keep-alives, if there are any.
pub fn keepalive(seconds: Option<f64>) -> Result<Option<Duration>, String> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(every) if !every.is_zero() => Ok(Some(every)),
        _ => Err(format!("--keepalive {seconds}: no time to wait")),
    }
}

fn once(bench: &mut Bench, args: &IdleArgs, task: &Task, before: &Before) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        if !super::log_in_all(bench, board, &mut figures, args.sessions) {
            return;
        }
        let sessions = board.total(|row| &row.ready) as f64;
        let start = bench.read();
        board.set_phase(Phase::Measure);
        let _ = bench.pause(board, "holding", Duration::from_secs(args.hold));
        let end = bench.read();
        let online = board.total(|row| &row.online) as f64;
        bench.something |= online > 0.0;
        figures.add("sessions held", online, "");
        let hold = bench.span(&start, &end);
        if let Some(server) = hold.server {
            let cores = server.cpu_seconds / hold.seconds;
            figures.add("server CPU while idle", cores * 100.0, "%");
            figures.add("server cores while idle", cores, "");
        }
        let own = hold.own_cpu_seconds / hold.seconds;
        figures.add("generator cores while idle", own, "");
        let keepalives = board.total(|row| &row.keepalives) as f64;
        if task.keepalive.is_some() {
            figures.add("keep-alives per second", keepalives / hold.seconds, "");
        }
        super::memory(bench, &mut figures, online, before);
        if online < sessions {
            board.error("sessions lost while idle", || {
                format!("{online} of {sessions} left")
            });
        }
    });
    super::latencies(&mut figures, &outcome.logins, &LOGIN_TIMES, IN_MILLISECONDS);
    super::latencies(&mut figures, &outcome.lags, &LAG_TIMES, IN_MILLISECONDS);
    super::note_derivations(bench, &outcome);
    figures
}
