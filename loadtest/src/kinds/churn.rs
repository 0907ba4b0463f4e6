//! Sessions come and go for a while: what that costs, and whether the server's memory grows.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{IN_MILLISECONDS, LOGIN_TIMES};
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending};
use crate::plan::Phase;
use crate::process::Memory;
use crate::report::Figures;
use crate::task::{Churn, Task};

#[derive(Args)]
pub struct ChurnArgs {
    /// How many sessions are there at a time.
    #[arg(long, short = 'n', default_value_t = 1_000)]
    pub sessions: usize,
    /// Seconds that each of them stays.
    #[arg(long, default_value_t = 5.0)]
    pub stay: f64,
    /// The share of departures, in percent, that are a reset connection instead of a good-bye.
    #[arg(long, default_value_t = 10)]
    pub abrupt: u32,
    /// Seconds before the measured time: caches and pools fill.
    #[arg(long, default_value_t = 10)]
    pub warmup: u64,
    /// Measured seconds; hours show what minutes hide.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &ChurnArgs) -> Result<Ending, String> {
    let task = Task {
        churning: args.sessions,
        churn: Some(churn(args.stay, args.abrupt)?),
        ..Task::default()
    };
    if args.sessions == 0 {
        return Err("--sessions is at least 1".to_owned());
    }
    let options = json!({
        "sessions": args.sessions,
        "stay_seconds": args.stay,
        "abrupt_percent": args.abrupt,
        "warmup_seconds": args.warmup,
        "seconds": args.seconds,
    });
    let mut bench = Bench::new("churn", &args.connect, &args.report, &task, options)?;
    bench.repeat(&args.report, |bench| once(bench, args, &task));
    Ok(bench.finish(&args.report))
}

pub fn churn(stay: f64, abrupt: u32) -> Result<Churn, String> {
    let stay = Duration::try_from_secs_f64(stay).map_err(|e| format!("--stay {stay}: {e}"))?;
    if abrupt > 100 {
        return Err(format!("--abrupt {abrupt}: it is a share in percent"));
    }
    Ok(Churn { stay, abrupt })
}

fn once(bench: &mut Bench, args: &ChurnArgs, task: &Task) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        board.set_phase(Phase::Warm);
        let _ = bench.pause(board, "warming up", Duration::from_secs(args.warmup));
        board.set_phase(Phase::Measure);
        let (start, before) = (bench.read(), board.total(|row| &row.ready));
        let samples = measure(bench, board, Duration::from_secs(args.seconds));
        let (end, after) = (bench.read(), board.total(|row| &row.ready));
        let span = bench.span(&start, &end);
        let done = (after - before) as f64;
        bench.something |= done > 0.0;
        figures.add("logins", done, "");
        figures.add("logins per second", done / span.seconds, "");
        let reset = board.total(|row| &row.cut) as f64;
        figures.add("connections reset", reset, "");
        figures.add("sessions online", board.total(|row| &row.online) as f64, "");
        super::server_per(&mut figures, &span, "server CPU per visit", done);
        super::server_cpu(&mut figures, &span);
        super::others(&mut figures, &span);
        super::own_per(&mut figures, &span, "generator CPU per visit", done);
        memory_slope(&mut figures, &samples, done / span.seconds);
    });
    super::latencies(&mut figures, &outcome.logins, &LOGIN_TIMES, IN_MILLISECONDS);
    super::note_derivations(bench, &outcome);
    figures
}

/// Seconds since the first sample, and anonymous memory in bytes.
type Sample = (f64, f64);

const SAMPLES: u32 = 200;
const SAMPLE_EVERY_MIN: Duration = Duration::from_millis(500);

/// Lets the churn go on and samples the server's memory meanwhile.
pub fn measure(bench: &mut Bench, board: &crate::plan::Board, time: Duration) -> Vec<Sample> {
    let (start, server) = (Instant::now(), bench.server);
    let every = (time / SAMPLES).max(SAMPLE_EVERY_MIN);
    let samples: RefCell<Vec<Sample>> = RefCell::default();
    let _ = bench.wait(board, "coming and going", |_| {
        let now = start.elapsed();
        let mut samples = samples.borrow_mut();
        let due = every.as_secs_f64() * samples.len() as f64;
        if now.as_secs_f64() >= due
            && let Some(memory) = server.and_then(Memory::of)
        {
            samples.push((now.as_secs_f64(), memory.anonymous));
        }
        now >= time
    });
    samples.into_inner()
}

/// How the server's memory grows: per minute, and per thousand visits.
pub fn memory_slope(figures: &mut Figures, samples: &[Sample], visits_per_second: f64) {
    let Some((_, last)) = samples.last() else {
        return;
    };
    figures.add("server anonymous at the end", last / 1e6, "MB");
    if let Some(slope) = slope(samples) {
        figures.add("server memory growth per minute", slope * 60.0 / 1e3, "KB");
        let visits = visits_per_second / 1e3;
        let name = "server memory growth per 1000 visits";
        figures.per(name, slope / 1e3, visits, "KB");
    }
}

/// The slope of the straight line that fits best; none through less than three points.
fn slope(samples: &[Sample]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|s| s.0), mean(|s| s.1));
    let above: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    let below: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
    (samples.len() >= 3 && below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        let line: Vec<Sample> = (0..10)
            .map(|n| (f64::from(n), 7.0 - 2.0 * f64::from(n)))
            .collect();
        assert!((slope(&line).unwrap() + 2.0).abs() < 1e-9);
        assert_eq!(slope(&line[..2]), None);
        assert_eq!(slope(&[(1.0, 1.0); 5]), None);
    }

    #[test]
    fn a_churn_has_a_stay_and_a_share() {
        assert!(churn(1.5, 100).is_ok());
        assert!(churn(-1.0, 0).is_err());
        assert!(churn(1.0, 101).is_err());
    }
}
