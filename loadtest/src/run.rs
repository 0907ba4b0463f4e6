//! The scenarios: which sessions, which phases, and what is read when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::args::{ChatArgs, ConnectArgs, IdleArgs, LoginArgs, RegisterArgs, ReportArgs};
use crate::chat::{BODY_OCTETS_MIN, latency_histogram};
use crate::plan::{Board, Chat, Phase, Plan, Task};
use crate::process::{self, Kernel, Memory, Usage, Used};
use crate::report::{Figures, Live, Report};
use crate::worker::{Outcome, Share, Worker};

/// How a command ended.
pub struct Ending {
    pub errors: bool,
    pub nothing: bool,
}

/// What stays the same over the runs of a command.
struct Bench {
    plan: Arc<Plan>,
    accounts: usize,
    server: Option<u32>,
    stop: Arc<AtomicBool>,
    end: Instant,
    live: Live,
    report: Report,
    /// Something was measured.
    something: bool,
}

/// What all threads brought home.
struct Sum {
    logins: Histogram<u64>,
    messages: Histogram<u64>,
    derivations: u64,
}

/// CPU of both ends at one instant.
struct Reading {
    at: Instant,
    server: Option<Usage>,
    own_cpu_seconds: f64,
}

/// CPU of both ends over a time.
struct Span {
    seconds: f64,
    server: Option<Used>,
    own_cpu_seconds: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Done,
    Cut,
}

const REGISTER: &str = "register";
const TICK: Duration = Duration::from_millis(20);
/// So many failures without a single success end a run.
const HOPELESS: u64 = 200;

impl Bench {
    fn new(
        scenario: &'static str,
        connect: &ConnectArgs,
        report: &ReportArgs,
        sessions: usize,
        options: serde_json::Value,
    ) -> Result<Self, String> {
        let mut plan = Plan::new(connect, sessions)?;
        plan.register = scenario == REGISTER;
        let server = report.pid.or_else(|| process::listener(plan.targets[0]));
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second signal ends the program at once.
            let _ =
                signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
            let _ = signal_hook::flag::register(signal, Arc::clone(&stop));
        }
        let mut notes = Vec::new();
        if server.is_none() {
            notes.push("the server's process is not known: its CPU and memory are missing".into());
        }
        let shown = Report {
            scenario,
            label: report.label.clone(),
            commit: report.commit.clone(),
            server: json!({ "pid": server, "command": server.map(process::command_line) }),
            options: merge(options, connect, &plan, report.repeat),
            runs: Vec::new(),
            errors: std::collections::BTreeMap::new(),
            notes,
            interrupted: false,
        };
        Ok(Self {
            accounts: connect.accounts.unwrap_or(sessions).max(1),
            plan: Arc::new(plan),
            server,
            stop,
            end: Instant::now() + Duration::from_secs(report.max_seconds),
            live: Live::new(),
            report: shown,
            something: false,
        })
    }

    /// Runs `sessions` sessions while `conduct` leads them through the phases.
    fn with_sessions(
        &mut self,
        task: Task,
        sessions: usize,
        conduct: impl FnOnce(&mut Self, &Board),
    ) -> Sum {
        let board = Board::new(self.plan.threads);
        let plan = Arc::clone(&self.plan);
        let run = run_number();
        let sum = Mutex::new(Sum {
            logins: latency_histogram(),
            messages: latency_histogram(),
            derivations: 0,
        });
        thread::scope(|scope| {
            for thread in 0..plan.threads {
                let share = Share {
                    thread,
                    sessions: share_of(task, sessions, plan.threads, thread),
                    accounts: self.accounts,
                    task,
                    run,
                };
                let (plan, board, sum) = (&*plan, &board, &sum);
                scope.spawn(move || work(plan, board, share, sum));
            }
            conduct(self, &board);
            if board.phase() < Phase::Close {
                board.set_phase(Phase::Close);
            }
        });
        self.live.clear();
        for (kind, (count, example)) in board.errors() {
            let entry = self.report.errors.entry(kind).or_insert((0, example));
            entry.0 += count;
        }
        if let Some(agreed) = board
            .agreed
            .lock()
            .expect("no thread panics with it")
            .take()
        {
            self.note(format!(
                "TLS: {agreed}, full handshakes, certificate not verified"
            ));
        }
        sum.into_inner().expect("no thread panics with it")
    }

    fn note(&mut self, note: String) {
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until `done`, a signal, the end of the time, or until it is hopeless.
    fn wait(&mut self, board: &Board, what: &str, done: impl Fn(&Board) -> bool) -> Wait {
        let mut messages = (0, Instant::now());
        loop {
            if done(board) {
                return Wait::Done;
            }
            if self.stopped() {
                self.report.interrupted = true;
                return Wait::Cut;
            }
            if Instant::now() > self.end {
                self.note("ended by --max-seconds".to_owned());
                return Wait::Cut;
            }
            let ready = board.total(|row| &row.ready);
            let failed = board.total(|row| &row.failed);
            if ready == 0 && failed >= HOPELESS {
                self.note(format!(
                    "given up after {failed} failures without a single login"
                ));
                return Wait::Cut;
            }
            let received = board.total(|row| &row.received);
            let elapsed = messages.1.elapsed().as_secs_f64();
            if elapsed >= 0.5 {
                let rate = (ready + received - messages.0) as f64 / elapsed;
                messages = (ready + received, Instant::now());
                let online = board.total(|row| &row.online);
                let errors = board.error_count();
                self.live.show(&format!(
                    "{what}: {ready} logged in, {online} online, {received} messages, {rate:.0}/s, \
                     {errors} errors"
                ));
            }
            thread::sleep(TICK);
        }
    }

    fn pause(&mut self, board: &Board, what: &str, time: Duration) -> Wait {
        let until = Instant::now() + time;
        self.wait(board, what, |_| Instant::now() >= until)
    }

    /// Waits until all sessions have logged in or failed.
    fn log_in(&mut self, board: &Board, sessions: usize) -> Wait {
        self.wait(board, "logging in", |board| {
            board.total(|row| &row.ready) + board.total(|row| &row.failed) >= sessions as u64
        })
    }

    fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            server: self.server.and_then(Usage::of),
            own_cpu_seconds: process::own_cpu_seconds(),
        }
    }

    fn span(&self, from: &Reading, to: &Reading) -> Span {
        let server = from
            .server
            .as_ref()
            .zip(to.server.as_ref())
            .map(|(a, b)| b.since(a));
        Span {
            seconds: (to.at - from.at).as_secs_f64(),
            server,
            own_cpu_seconds: to.own_cpu_seconds - from.own_cpu_seconds,
        }
    }

    fn finish(mut self, report: &ReportArgs) -> Ending {
        if !self.something {
            self.note("NOTHING WAS MEASURED".to_owned());
        }
        self.report.print();
        if let Some(path) = &report.json {
            match self.report.write(path) {
                Ok(()) => println!("report: {}", path.display()),
                Err(error) => eprintln!("{}: {error}", path.display()),
            }
        }
        Ending {
            errors: !self.report.errors.is_empty(),
            nothing: !self.something,
        }
    }

    fn repeat(&mut self, report: &ReportArgs, mut once: impl FnMut(&mut Self) -> Figures) {
        for _ in 0..report.repeat.max(1) {
            if self.stopped() || Instant::now() > self.end {
                break;
            }
            let figures = once(self);
            self.report.runs.push(figures);
        }
    }
}

fn work(plan: &Plan, board: &Board, share: Share, sum: &Mutex<Sum>) {
    let (thread, sessions) = (share.thread, share.sessions);
    let outcome: std::io::Result<Outcome> = Worker::new(plan, board, share).and_then(Worker::run);
    match outcome {
        Ok(outcome) => {
            let mut sum = sum.lock().expect("no thread panics with it");
            let _ = sum.logins.add(&outcome.logins);
            let _ = sum.messages.add(&outcome.messages);
            sum.derivations += outcome.derivations;
        }
        Err(error) => {
            board.rows[thread]
                .failed
                .fetch_add(sessions as u64, Ordering::Relaxed);
            board.error("a thread of the generator ended", || error.to_string());
        }
    }
}

/// How many of the sessions a thread has; pairs are not torn.
fn share_of(task: Task, sessions: usize, threads: usize, thread: usize) -> usize {
    let unit = if matches!(task, Task::Chat(_)) { 2 } else { 1 };
    let units = sessions / unit;
    (units / threads + usize::from(thread < units % threads)) * unit
}

fn run_number() -> u32 {
    let mut octets = [0; 4];
    getrandom::fill(&mut octets).expect("the system has randomness");
    u32::from_ne_bytes(octets)
}

fn merge(
    mut options: serde_json::Value,
    connect: &ConnectArgs,
    plan: &Plan,
    repeat: usize,
) -> serde_json::Value {
    options["server"] = json!(
        plan.targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    );
    options["domain"] = json!(connect.domain);
    options["tls"] = json!(format!("{:?}", connect.tls).to_lowercase());
    options["auth"] = json!(format!("{:?}", connect.auth).to_lowercase());
    options["stream_management"] = json!(plan.ack_every);
    options["threads"] = json!(plan.threads);
    options["private_descriptors"] = json!(plan.private_descriptors);
    options["source_addresses"] = json!(plan.sources);
    options["parallel_logins"] = json!(plan.parallel * plan.threads);
    options["rate"] = json!(connect.rate);
    options["repeat"] = json!(repeat);
    options
}

pub fn idle(args: &IdleArgs) -> Result<Ending, String> {
    let options = json!({ "sessions": args.sessions, "hold_seconds": args.hold });
    let mut bench = Bench::new("idle", &args.connect, &args.report, args.sessions, options)?;
    // Once, before the first session: what an allocator keeps from an earlier run is not subtracted.
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
    figures.add(
        "login p50",
        sum.logins.value_at_quantile(0.5) as f64 / 1e6,
        "ms",
    );
    figures.add(
        "login p99",
        sum.logins.value_at_quantile(0.99) as f64 / 1e6,
        "ms",
    );
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
    let mut bench = Bench::new("login", &args.connect, &args.report, args.logins, options)?;
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
        figures.per(
            "generator CPU per login",
            span.own_cpu_seconds * 1e6,
            done,
            "µs",
        );
    });
    figures.add(
        "login p50",
        sum.logins.value_at_quantile(0.5) as f64 / 1e6,
        "ms",
    );
    figures.add(
        "login p99",
        sum.logins.value_at_quantile(0.99) as f64 / 1e6,
        "ms",
    );
    note_derivations(bench, &sum);
    figures
}

fn note_derivations(bench: &mut Bench, sum: &Sum) {
    if sum.derivations > 100 {
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
        let _ = bench.pause(board, "measuring", Duration::from_secs(args.seconds));
        let (end, after) = (bench.read(), board.total(|row| &row.received));
        board.set_phase(Phase::Drain);
        let span = bench.span(&start, &end);
        chat_figures(&mut figures, &span, (after - before) as f64);
        bench.something |= after > before;
        drain(bench, board);
    });
    for (name, quantile) in QUANTILES {
        figures.add(
            name,
            sum.messages.value_at_quantile(quantile) as f64 / 1e3,
            "µs",
        );
    }
    figures.add("latency max", sum.messages.max() as f64 / 1e3, "µs");
    note_derivations(bench, &sum);
    figures
}

/// Waits for what is under way; what has not come or has not been acknowledged by then is lost.
fn drain(bench: &mut Bench, board: &Board) {
    let until = Instant::now() + DRAIN;
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
const DRAIN: Duration = Duration::from_secs(5);
const QUANTILES: [(&str, f64); 3] = [
    ("latency p50", 0.5),
    ("latency p99", 0.99),
    ("latency p99.9", 0.999),
];

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
    figures.per(
        "generator CPU per message",
        span.own_cpu_seconds * 1e6,
        messages,
        "µs",
    );
}
