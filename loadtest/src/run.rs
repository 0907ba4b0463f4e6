//! The scenarios: which sessions, which phases, and what is read when.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::args::{ChatArgs, IdleArgs, LoginArgs, RegisterArgs};
use crate::bench::{Bench, Ending, LOGIN, REGISTER, Span, Sum, Wait};
use crate::chat::BODY_OCTETS_MIN;
use crate::plan::{Board, Chat, Phase, Task};
use crate::process::{Kernel, Memory};
use crate::report::Figures;

pub fn idle(args: &IdleArgs) -> Result<Ending, String> {
    let options = json!({ "sessions": args.sessions, "hold_seconds": args.hold });
    let mut bench = Bench::new("idle", &args.connect, &args.report, args.sessions, options)?;
    // Once, before the first session: what an allocator keeps from an earlier run is not
    // subtracted.
    let before = bench.server.and_then(Memory::of);
    let own_before = Memory::of(std::process::id()).unwrap_or_default();
    bench.repeat(&args.report, |bench| {
        idle_once(bench, args, before, own_before)
    });
    Ok(bench.finish(&args.report))
}

fn idle_once(
    bench: &mut Bench,
    args: &IdleArgs,
    before: Option<Memory>,
    own_before: Memory,
) -> Figures {
    let mut figures = Figures::default();
    let kernel_before = Kernel::now();
    let sum = bench.with_sessions(Task::Hold, args.sessions, |bench, board| {
        let start = bench.read();
        let waited = bench.log_in(board, args.sessions);
        let logged_in = bench.read();
        let sessions = board.total(|row| &row.ready) as f64;
        let login = bench.span(&start, &logged_in);
        figures.add("logins per second", sessions / login.seconds, "");
        if let Some(server) = login.server {
            figures.per(
                "server CPU per login",
                server.cpu_seconds * 1e6,
                sessions,
                "µs",
            );
        }
        figures.per(
            "generator CPU per login",
            login.own_cpu_seconds * 1e6,
            sessions,
            "µs",
        );
        if waited == Wait::Cut || sessions == 0.0 {
            return;
        }
        let _ = bench.pause(board, "holding", Duration::from_secs(args.hold));
        let held = bench.read();
        let online = board.total(|row| &row.online) as f64;
        bench.something |= online > 0.0;
        figures.add("sessions held", online, "");
        let hold = bench.span(&logged_in, &held);
        if let Some(server) = hold.server {
            figures.add(
                "server CPU while idle",
                server.cpu_seconds / hold.seconds * 100.0,
                "%",
            );
        }
        memory(
            bench,
            &mut figures,
            online,
            before,
            own_before,
            kernel_before,
        );
        if online < sessions {
            board.error("sessions lost while idle", || {
                format!("{online} of {sessions} left")
            });
        }
    });
    latencies(&mut figures, &sum.logins, &LOGIN_TIMES, 1e6, "ms");
    note_derivations(bench, &sum);
    figures
}

/// KB and MB are decimal, as in LIMITS.md.
fn memory(
    bench: &Bench,
    figures: &mut Figures,
    online: f64,
    before: Option<Memory>,
    own_before: Memory,
    kernel_before: Kernel,
) {
    if let Some((before, after)) = before.zip(bench.server.and_then(Memory::of)) {
        figures.per(
            "server PSS per session",
            (after.pss - before.pss) / 1e3,
            online,
            "KB",
        );
        let anonymous = after.anonymous - before.anonymous;
        figures.per(
            "server anonymous per session",
            anonymous / 1e3,
            online,
            "KB",
        );
        figures.add("server PSS before", before.pss / 1e6, "MB");
        figures.add("server PSS after", after.pss / 1e6, "MB");
    }
    let own = Memory::of(std::process::id()).unwrap_or_default();
    let own = own.anonymous - own_before.anonymous;
    figures.per("generator anonymous per session", own / 1e3, online, "KB");
    let kernel = Kernel::now();
    let slab = kernel.slab - kernel_before.slab;
    figures.per(
        "kernel slab per session, both ends",
        slab / 1e3,
        online,
        "KB",
    );
    let buffers = kernel.buffers - kernel_before.buffers;
    figures.per(
        "socket buffers per session, both ends",
        buffers / 1e3,
        online,
        "KB",
    );
}

pub fn login(args: &LoginArgs) -> Result<Ending, String> {
    let options = json!({ "logins": args.logins, "warmup": args.warmup });
    let mut bench = Bench::new(LOGIN, &args.connect, &args.report, args.logins, options)?;
    bench.repeat(&args.report, |bench| {
        if args.warmup > 0 {
            log_in_and_out(bench, args.warmup);
        }
        log_in_and_out(bench, args.logins)
    });
    Ok(bench.finish(&args.report))
}

fn log_in_and_out(bench: &mut Bench, logins: usize) -> Figures {
    let mut figures = Figures::default();
    let sum = bench.with_sessions(Task::Pass, logins, |bench, board| {
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
        if let Some(server) = span.server {
            figures.per("server CPU per login", server.cpu_seconds * 1e6, done, "µs");
            figures.add("server CPU", server.cpu_seconds / span.seconds * 100.0, "%");
            figures.add("server CPU in the kernel", server.system_share * 100.0, "%");
            figures.per(
                "server context switches per login",
                server.switches,
                done,
                "",
            );
        }
        others(&mut figures, &span);
        figures.per(
            "generator CPU per login",
            span.own_cpu_seconds * 1e6,
            done,
            "µs",
        );
    });
    latencies(&mut figures, &sum.logins, &LOGIN_TIMES, 1e6, "ms");
    note_derivations(bench, &sum);
    figures
}

fn note_derivations(bench: &mut Bench, sum: &Sum) {
    if sum.derivations > bench.plan.threads as u64 {
        bench.note(format!(
            "the server salts each account by itself: PBKDF2 ran {} times in the generator",
            sum.derivations
        ));
    } else if sum.derivations > 0 {
        bench.note("accounts share a salt: the generator runs PBKDF2 once a thread".to_owned());
    }
}

pub fn register(args: &RegisterArgs) -> Result<Ending, String> {
    let options = json!({ "accounts": args.count });
    let mut bench = Bench::new(REGISTER, &args.connect, &args.report, args.count, options)?;
    bench.repeat(&args.report, |bench| log_in_and_out(bench, args.count));
    Ok(bench.finish(&args.report))
}

pub fn chat(args: &ChatArgs) -> Result<Ending, String> {
    if args.size < BODY_OCTETS_MIN || args.window == 0 || args.pairs == 0 {
        return Err(format!(
            "--size is at least {BODY_OCTETS_MIN}, --window and --pairs 1"
        ));
    }
    let chat = Chat {
        window: args.window,
        body_octets: args.size,
        answer: args.answer,
        address: args.to,
    };
    let options = json!({
        "pairs": args.pairs,
        "window": args.window,
        "body_octets": args.size,
        "warmup_seconds": args.warmup,
        "seconds": args.seconds,
        "answer": format!("{:?}", args.answer).to_lowercase(),
        "to": format!("{:?}", args.to).to_lowercase(),
    });
    let sessions = args.pairs * 2;
    let mut bench = Bench::new("chat", &args.connect, &args.report, sessions, options)?;
    if bench.accounts < sessions {
        return Err(format!("{} pairs need {sessions} accounts", args.pairs));
    }
    bench.repeat(&args.report, |bench| chat_once(bench, args, chat));
    Ok(bench.finish(&args.report))
}

fn chat_once(bench: &mut Bench, args: &ChatArgs, chat: Chat) -> Figures {
    let mut figures = Figures::default();
    let sessions = args.pairs * 2;
    let sum = bench.with_sessions(Task::Chat(chat), sessions, |bench, board| {
        if bench.log_in(board, sessions) == Wait::Cut || board.total(|row| &row.ready) < 2 {
            return;
        }
        board.set_phase(Phase::Warm);
        let _ = bench.pause(board, "warming up", Duration::from_secs(args.warmup));
        board.set_phase(Phase::Measure);
        let (start, before) = (bench.read(), board.total(|row| &row.received));
        bench.silence = Duration::ZERO;
        let _ = bench.pause(board, "measuring", Duration::from_secs(args.seconds));
        if bench.silence > SILENCE {
            let seconds = bench.silence.as_secs_f64();
            bench.note(format!(
                "STALLED: for {seconds:.1} s no message was delivered at all"
            ));
        }
        let (end, after) = (bench.read(), board.total(|row| &row.received));
        board.set_phase(Phase::Drain);
        let span = bench.span(&start, &end);
        chat_figures(&mut figures, &span, (after - before) as f64);
        bench.something |= after > before;
        drain(bench, board);
    });
    latencies(&mut figures, &sum.messages, &MESSAGE_TIMES, 1e3, "µs");
    note_derivations(bench, &sum);
    figures
}

/// Waits for what is under way; what has not come or has not been acknowledged by then is lost.
fn drain(bench: &mut Bench, board: &Board) {
    let most = DRAIN.min(bench.plan.timeout);
    let until = Instant::now() + most;
    // A turn of each thread, so that all have seen the phase and have told what they wait for.
    let turn = Instant::now() + DRAIN_AT_LEAST;
    let unacknowledged = |board: &Board| board.total(|row| &row.unacknowledged);
    let _ = bench.wait(board, "draining", |board| {
        let now = Instant::now();
        // Received first: then nothing can seem to have come that was not sent.
        let received = board.total(|row| &row.received);
        let settled = received >= board.total(|row| &row.sent) && unacknowledged(board) == 0;
        now > until || (now > turn && settled)
    });
    let count = unacknowledged(board);
    board.errors_of_kind("stanza never acknowledged (XEP-0198)", count, || {
        format!(
            "{count} stanzas, {} s after the last was sent",
            DRAIN.as_secs()
        )
    });
}

const DRAIN_AT_LEAST: Duration = Duration::from_millis(200);
/// A closed loop in which nothing comes for so long has stopped.
const SILENCE: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(5);
const LOGIN_TIMES: [(&str, f64); 2] = [("login p50", 0.5), ("login p99", 0.99)];
const MESSAGE_TIMES: [(&str, f64); 4] = [
    ("latency p50", 0.5),
    ("latency p99", 0.99),
    ("latency p99.9", 0.999),
    ("latency max", 1.0),
];

/// Appends quantiles, where there is anything to take them from.
fn latencies(
    figures: &mut Figures,
    all: &Histogram<u64>,
    names: &[(&'static str, f64)],
    nanoseconds_per_unit: f64,
    unit: &'static str,
) {
    if all.is_empty() {
        return;
    }
    for &(name, quantile) in names {
        let value = all.value_at_quantile(quantile) as f64;
        figures.add(name, value / nanoseconds_per_unit, unit);
    }
}

fn others(figures: &mut Figures, span: &Span) {
    if let Some(other) = span.other_cpu_seconds {
        figures.add("CPU of other programs", other / span.seconds * 100.0, "%");
    }
}

fn chat_figures(figures: &mut Figures, span: &Span, messages: f64) {
    figures.add("messages", messages, "");
    figures.add("messages per second", messages / span.seconds, "");
    if let Some(server) = span.server {
        figures.per(
            "server CPU per message",
            server.cpu_seconds * 1e6,
            messages,
            "µs",
        );
        figures.add("server CPU", server.cpu_seconds / span.seconds * 100.0, "%");
        figures.add("server CPU in the kernel", server.system_share * 100.0, "%");
        let switches = server.switches * 1000.0;
        figures.per(
            "server context switches per 1000 messages",
            switches,
            messages,
            "",
        );
    }
    others(figures, span);
    figures.per(
        "generator CPU per message",
        span.own_cpu_seconds * 1e6,
        messages,
        "µs",
    );
}
