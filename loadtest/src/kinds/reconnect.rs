//! All connections are lost at once and all sessions return: how long it takes, and whether
//! anything is lost that was acknowledged.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{IN_MILLISECONDS, LOGIN_TIMES};
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending, Wait};
use crate::plan::{Board, Phase};
use crate::report::Figures;
use crate::task::{Address, Answer, Chat, Cut, Ends, Pace, Task};

#[derive(Args)]
pub struct ReconnectArgs {
    /// How many sessions; in pairs.
    #[arg(long, short = 'n', default_value_t = 5_000)]
    pub sessions: usize,
    /// How the connections are lost.
    #[arg(long, value_enum, default_value = "reset")]
    pub cut: Cut,
    /// Whose connections are lost: with one end only, all that the other end sends must arrive.
    #[arg(long, value_enum, default_value = "both")]
    pub ends: Ends,
    /// Messages that each session has under way to its peer when its connection is cut.
    #[arg(long, default_value_t = 2)]
    pub under_way: u32,
    /// With --cut server: seconds to wait until the server goes away.
    #[arg(long, default_value_t = 60)]
    pub wait: u64,
    /// Octets of a body, at least 40.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub const RETURN_TIMES: [(&str, f64); 4] = [
    ("time until back p50", 0.5),
    ("time until back p90", 0.9),
    ("time until back p99", 0.99),
    ("time until back max", 1.0),
];

pub fn run(args: &ReconnectArgs) -> Result<Ending, String> {
    if args.sessions < 2 {
        return Err("--sessions is at least 2".to_owned());
    }
    let chat = Chat {
        pace: Pace::Cut(args.under_way),
        body_octets: args.size,
        answer: Answer::Echo,
        address: Address::Bare,
    };
    let task = Task {
        pairs: args.sessions / 2,
        chat: Some(chat),
        cut: Some(args.cut),
        ends: args.ends,
        ..Task::default()
    };
    let options = json!({
        "sessions": task.sessions(),
        "cut": format!("{:?}", args.cut).to_lowercase(),
        "ends": format!("{:?}", args.ends).to_lowercase(),
        "messages_under_way": args.under_way,
        "body_octets": args.size,
    });
    let mut bench = Bench::new("reconnect", &args.connect, &args.report, &task, options)?;
    super::chat::check(&chat, &task, &bench)?;
    bench.repeat(&args.report, |bench| once(bench, args, &task));
    Ok(bench.finish(&args.report))
}

fn once(bench: &mut Bench, args: &ReconnectArgs, task: &Task) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        if !super::log_in_all(bench, board, &mut figures, task.sessions()) {
            return;
        }
        let start = bench.read();
        board.set_phase(Phase::Return);
        if args.cut == Cut::Server && !server_goes(bench, board, args.wait) {
            return;
        }
        let failed_before = board.total(|row| &row.failed);
        let (began, waited) = (Instant::now(), all_return(bench, board));
        let seconds = began.elapsed().as_secs_f64();
        let end = bench.read();
        let span = bench.span(&start, &end);
        let cut = board.total(|row| &row.cut);
        let back = board.total(|row| &row.back);
        bench.something |= back > 0;
        figures.add("sessions cut", cut as f64, "");
        figures.add("sessions back", back as f64, "");
        figures.add(
            "sessions resumed",
            board.total(|row| &row.resumed) as f64,
            "",
        );
        figures.add("time until all are back", seconds, "s");
        let failed = board.total(|row| &row.attempts_failed);
        figures.add("attempts made again", failed as f64, "");
        // Another process is no part of what the former one used.
        if args.cut != Cut::Server {
            super::server_per(&mut figures, &span, "server CPU per return", back as f64);
        }
        super::own_per(&mut figures, &span, "generator CPU per return", back as f64);
        note_missing(bench, board, waited, failed_before);
        super::drain(bench, board);
        let sent = board.total(|row| &row.sent) as f64;
        figures.add("messages under way at the cut", sent, "");
        let received = board.total(|row| &row.received) as f64;
        figures.add("messages that arrived", received, "");
    });
    figures.add("messages that came twice", outcome.repeated as f64, "");
    let lost = outcome.unpromised as f64;
    figures.add("messages lost unacknowledged", lost, "");
    super::latencies(
        &mut figures,
        &outcome.returns,
        &RETURN_TIMES,
        IN_MILLISECONDS,
    );
    super::latencies(&mut figures, &outcome.logins, &LOGIN_TIMES, IN_MILLISECONDS);
    super::note_derivations(bench, &outcome);
    figures
}

/// Waits until the server has closed every session; whether it went away at all.
pub fn server_goes(bench: &mut Bench, board: &Board, seconds: u64) -> bool {
    let (online, until) = (
        board.total(|row| &row.online),
        Instant::now() + Duration::from_secs(seconds),
    );
    let waited = bench.wait(board, "waiting for the server to go away", |board| {
        board.total(|row| &row.cut) >= online || Instant::now() > until
    });
    let gone = board.total(|row| &row.cut) > 0;
    if !gone {
        bench.note(format!("the server did not go away within {seconds} s"));
    }
    gone && waited == Wait::Done
}

/// Waits until every session that was cut is back, or has failed for good.
pub fn all_return(bench: &mut Bench, board: &Board) -> Wait {
    let failed_before = board.total(|row| &row.failed);
    let progress = super::Progress::new(bench.plan.timeout * 2);
    let progress = std::cell::RefCell::new(progress);
    bench.wait(board, "returning", |board| {
        // Every thread has cut what it cuts; back first, so that nothing seems to be back early.
        let seen = board.is_done(Phase::Return);
        let back = board.total(|row| &row.back);
        let failed = board.total(|row| &row.failed) - failed_before;
        let tried = back + failed + board.total(|row| &row.attempts_failed);
        let stalled = progress.borrow_mut().has_stalled(tried);
        seen && (back + failed >= board.total(|row| &row.cut) || stalled)
    })
}

/// Counts who did not come back; those that failed since are errors already.
pub fn note_missing(bench: &Bench, board: &Board, waited: Wait, failed_before: u64) {
    if waited == Wait::Cut {
        return;
    }
    let failed = board.total(|row| &row.failed) - failed_before;
    let settled = board.total(|row| &row.back) + failed;
    let missing = board.total(|row| &row.cut).saturating_sub(settled);
    let seconds = bench.plan.timeout.as_secs();
    board.errors_of_kind("session did not come back", missing, || {
        format!("{missing} sessions; a login may take {seconds} s")
    });
}
