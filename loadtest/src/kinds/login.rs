//! Logins, one after another or all at once, at their own pace or at a rate; and registrations.

use clap::Args;
use serde_json::json;

use super::{IN_MILLISECONDS, LOGIN_TIMES};
use crate::args::{ConnectArgs, RegisterArgs, ReportArgs};
use crate::bench::{Bench, Ending, REGISTER};
use crate::report::Figures;
use crate::task::Task;

#[derive(Args)]
pub struct LoginArgs {
    /// How many logins are measured.
    #[arg(long, short = 'n', default_value_t = 20_000)]
    pub logins: usize,
    /// How many logins come before that, unmeasured.
    #[arg(long, default_value_t = 500)]
    pub warmup: usize,
    /// All logins at the same time: how long until everybody has been in.
    #[arg(long)]
    pub storm: bool,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &LoginArgs) -> Result<Ending, String> {
    let options = json!({
        "logins": args.logins, "warmup": args.warmup, "storm": args.storm,
    });
    let mut connect = args.connect.clone();
    if args.storm {
        connect.parallel = args.logins;
    }
    let task = passing(args.logins);
    let mut bench = Bench::new("login", &connect, &args.report, &task, options)?;
    bench.repeat(&args.report, |bench| {
        if args.warmup > 0 {
            log_in_and_out(bench, args.warmup);
        }
        log_in_and_out(bench, args.logins)
    });
    Ok(bench.finish(&args.report))
}

pub fn register(args: &RegisterArgs) -> Result<Ending, String> {
    let options = json!({ "accounts": args.count });
    let task = passing(args.count);
    let mut bench = Bench::new(REGISTER, &args.connect, &args.report, &task, options)?;
    bench.repeat(&args.report, |bench| log_in_and_out(bench, args.count));
    Ok(bench.finish(&args.report))
}

fn passing(logins: usize) -> Task {
    Task {
        passing: logins,
        ..Task::default()
    }
}

fn log_in_and_out(bench: &mut Bench, logins: usize) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(&passing(logins), |bench, board| {
        let start = bench.read();
        let _ = bench.wait(board, "logging in and out", |board| {
            board.total(|row| &row.ended) + board.total(|row| &row.failed) >= logins as u64
        });
        let end = bench.read();
        let span = bench.span(&start, &end);
        let done = board.total(|row| &row.ready) as f64;
        bench.something |= done > 0.0;
        figures.add("logins", done, "");
        figures.add("logins per second", done / span.seconds, "");
        figures.add("time until all were in and out", span.seconds, "s");
        super::server_per(&mut figures, &span, "server CPU per login", done);
        super::server_cpu(&mut figures, &span);
        if let Some(server) = span.server {
            let name = "server context switches per login";
            figures.per(name, server.switches, done, "");
        }
        super::others(&mut figures, &span);
        super::own_per(&mut figures, &span, "generator CPU per login", done);
    });
    super::latencies(&mut figures, &outcome.logins, &LOGIN_TIMES, IN_MILLISECONDS);
    super::note_derivations(bench, &outcome);
    figures
}
