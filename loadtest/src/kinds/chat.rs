//! Pairs that talk, in a closed loop or in an open one.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{IN_MICROSECONDS, LAG_TIMES, MESSAGE_TIMES};
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending, Span, Wait};
use crate::chat::BODY_OCTETS_MIN;
use crate::plan::{Board, Phase};
use crate::report::Figures;
use crate::task::{Address, Answer, Chat, Pace, Task};

#[derive(Args)]
pub struct ChatArgs {
    /// How many pairs talk; twice as many sessions.
    #[arg(long, default_value_t = 500)]
    pub pairs: usize,
    /// Closed loop: messages under way in each pair.
    #[arg(long, default_value_t = 1)]
    pub window: u32,
    /// Open loop instead: messages per second over all pairs, whatever the server does. Latency
    /// counts from when a message was due.
    #[arg(long)]
    pub open_rate: Option<f64>,
    /// Octets of a body, at least 40.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Seconds before the measured time.
    #[arg(long, default_value_t = 3)]
    pub warmup: u64,
    /// Measured seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Who sends the next message.
    #[arg(long, value_enum, default_value = "echo")]
    pub answer: Answer,
    /// Messages to bare or to full JIDs.
    #[arg(long, value_enum, default_value = "bare")]
    pub to: Address,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &ChatArgs) -> Result<Ending, String> {
    let pace = match args.open_rate {
        Some(rate) if rate > 0.0 && rate.is_finite() => Pace::Rate(rate),
        Some(rate) => return Err(format!("--open-rate {rate}: no rate")),
        None => Pace::Window(args.window),
    };
    let chat = Chat {
        pace,
        body_octets: args.size,
        answer: args.answer,
        address: args.to,
    };
    if args.window == 0 || args.pairs == 0 {
        return Err("--window and --pairs are at least 1".to_owned());
    }
    let task = Task {
        pairs: args.pairs,
        chat: Some(chat),
        ..Task::default()
    };
    let options = json!({
        "pairs": args.pairs,
        "window": args.open_rate.is_none().then_some(args.window),
        "open_rate": args.open_rate,
        "body_octets": args.size,
        "warmup_seconds": args.warmup,
        "seconds": args.seconds,
        "answer": format!("{:?}", args.answer).to_lowercase(),
        "to": format!("{:?}", args.to).to_lowercase(),
    });
    let mut bench = Bench::new("chat", &args.connect, &args.report, &task, options)?;
    check(&chat, &task, &bench)?;
    bench.repeat(&args.report, |bench| once(bench, args, &task));
    Ok(bench.finish(&args.report))
}

/// What every kind with pairs demands.
pub fn check(chat: &Chat, task: &Task, bench: &Bench) -> Result<(), String> {
    if chat.body_octets < BODY_OCTETS_MIN {
        return Err(format!("--size is at least {BODY_OCTETS_MIN}"));
    }
    let (accounts, sessions) = (bench.accounts, task.sessions());
    if accounts < sessions {
        return Err(format!(
            "{sessions} sessions talk to each other by account and need as many, not {accounts}"
        ));
    }
    Ok(())
}

fn once(bench: &mut Bench, args: &ChatArgs, task: &Task) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        let waited = bench.log_in(board, task.sessions());
        if waited == Wait::Cut || board.total(|row| &row.ready) < 2 {
            return;
        }
        board.set_phase(Phase::Warm);
        let _ = bench.pause(board, "warming up", Duration::from_secs(args.warmup));
        board.set_phase(Phase::Measure);
        let (start, before) = (bench.read(), board.total(|row| &row.received));
        bench.silence = Duration::ZERO;
        let _ = bench.pause(board, "measuring", Duration::from_secs(args.seconds));
        super::note_silence(bench);
        let (end, after) = (bench.read(), board.total(|row| &row.received));
        // The clock of the figures stops before the threads are told.
        let span = bench.span(&start, &end);
        super::drain(bench, board);
        message_figures(&mut figures, &span, (after - before) as f64);
        bench.something |= after > before;
        if args.open_rate.is_some() {
            note_unsent(bench, board);
        }
    });
    super::latencies(
        &mut figures,
        &outcome.messages,
        &MESSAGE_TIMES,
        IN_MICROSECONDS,
    );
    super::latencies(&mut figures, &outcome.lags, &LAG_TIMES, IN_MICROSECONDS);
    super::note_derivations(bench, &outcome);
    figures
}

/// An open loop that the generator itself could not keep up with is no open loop.
pub fn note_unsent(bench: &mut Bench, board: &Board) {
    let unsent = board.total(|row| &row.unsent);
    if unsent > 0 {
        bench.note(format!(
            "{unsent} messages of the schedule were not sent: their sessions were away, or the \
             generator was late"
        ));
    }
}

pub fn message_figures(figures: &mut Figures, span: &Span, messages: f64) {
    figures.add("messages", messages, "");
    figures.add("messages per second", messages / span.seconds, "");
    super::server_per(figures, span, "server CPU per message", messages);
    super::server_cpu(figures, span);
    if let Some(server) = span.server {
        let switches = server.switches * 1000.0;
        let name = "server context switches per 1000 messages";
        figures.per(name, switches, messages, "");
    }
    if let Some(calls) = span.calls {
        let (all, futex) = (calls.all as f64, calls.futex as f64 * 1e6);
        figures.per("server system calls per message", all, messages, "");
        figures.per(
            "futex calls by shards per million messages",
            futex,
            messages,
            "",
        );
    }
    super::others(figures, span);
    super::own_per(figures, span, "generator CPU per message", messages);
}
