//! What the scenarios have in common: threads are started, led through phases, waited for and
//! asked.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::args::{ConnectArgs, ReportArgs, Transport};
use crate::calls::{Calls, Counts};
use crate::html;
use crate::live::{Frame, Live, Progress};
use crate::machine;
use crate::plan::{Board, Phase, Plan};
use crate::process::{self, Usage, Used};
use crate::report::{Course, Figures, Report};
use crate::sampler::Sampler;
use crate::task::{Chat, Deal, Pace, Task};
use crate::worker::{Outcome, Share, Worker};

/// How a command ended.
pub struct Ending {
    pub errors: bool,
    pub nothing: bool,
}

/// What stays the same over the runs of a command.
pub struct Bench {
    pub plan: Arc<Plan>,
    pub accounts: usize,
    pub server: Option<u32>,
    calls: RefCell<Option<Calls>>,
    pub stop: Arc<AtomicBool>,
    pub end: Instant,
    pub live: Live,
    pub sampler: Sampler,
    progress: Progress,
    /// The latencies of the sessions that ended last; a run keeps them.
    latencies: Vec<(&'static str, Histogram<u64>)>,
    pub report: Report,
    /// The longest time of the last wait in which no message came.
    pub silence: Duration,
    /// Something was measured.
    pub something: bool,
}

/// CPU of both ends at one instant.
pub struct Reading {
    pub at: Instant,
    pub server: Option<Usage>,
    pub own_cpu_seconds: f64,
    pub machine_cpu_seconds: f64,
    pub calls: Option<Counts>,
}

/// CPU of both ends over a time.
pub struct Span {
    pub seconds: f64,
    pub server: Option<Used>,
    pub own_cpu_seconds: f64,
    /// What other programs used, while they should have been silent; none if it cannot be told.
    pub other_cpu_seconds: Option<f64>,
    pub calls: Option<Counts>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Done,
    Cut,
}

/// This scenario makes accounts instead of logging in.
pub const REGISTER: &str = "register";
const TICK: Duration = Duration::from_millis(20);
/// Cores that others may use before the report says so.
const OTHERS_NOTED: f64 = 0.2;
/// So many failures without a single success end a run.
const HOPELESS: u64 = 200;

impl Bench {
    pub fn new(
        scenario: &'static str,
        connect: &ConnectArgs,
        report: &ReportArgs,
        task: &Task,
        options: serde_json::Value,
    ) -> Result<Self, String> {
        let sessions = task.sessions();
        // Logins that go out again at once are never all online.
        let at_once = sessions - task.passing + task.passing.min(connect.parallel);
        let at_once = at_once + second_connections(connect.transport, task, at_once);
        check(scenario, connect.transport, task)?;
        let mut plan = Plan::new(connect, sessions, at_once)?;
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
        let calls = match server.filter(|_| report.syscalls).map(Calls::of) {
            Some(Ok(calls)) => {
                notes.push("system calls were counted: CPU figures are a little too high".into());
                Some(calls)
            }
            Some(Err(why)) => {
                notes.push(format!("system calls are not counted: {why}"));
                None
            }
            None => None,
        };
        if server.is_none() {
            notes.push("the server's process is not known: its CPU and memory are missing".into());
        }
        let shown = Report {
            scenario,
            label: report.label.clone(),
            commit: report.commit.clone(),
            options: merge(options, connect, &plan, report),
            runs: Vec::new(),
            errors: std::collections::BTreeMap::new(),
            notes,
            interrupted: false,
            course: Course {
                began: Some(Instant::now()),
                server: machine::server(server),
                ..Course::default()
            },
        };
        Ok(Self {
            accounts: connect.accounts.unwrap_or(sessions).max(1),
            plan: Arc::new(plan),
            server,
            calls: RefCell::new(calls),
            stop,
            end: Instant::now() + Duration::from_secs(report.max_seconds),
            live: Live::new(),
            sampler: Sampler::new(),
            progress: Progress::Sessions(sessions),
            latencies: Vec::new(),
            report: shown,
            silence: Duration::ZERO,
            something: false,
        })
    }

    /// Runs the sessions of a task while `conduct` leads them through the phases.
    pub fn with_sessions(
        &mut self,
        task: &Task,
        conduct: impl FnOnce(&mut Self, &Board),
    ) -> Outcome {
        let board = Board::new(self.plan.threads);
        let plan = Arc::clone(&self.plan);
        let run = run_number();
        self.sampler.begin(self.report.runs.len() + 1, self.server);
        self.progress = Progress::Sessions(task.sessions());
        self.report.course.seeds.push(run);
        let sum = Mutex::new(Outcome::new());
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(plan.threads);
            for thread in 0..plan.threads {
                let share = Share {
                    thread,
                    task,
                    accounts: self.accounts,
                    run,
                };
                let (plan, board, sum) = (&*plan, &board, &sum);
                threads.push(scope.spawn(move || work(plan, board, share, sum)));
            }
            conduct(self, &board);
            if board.phase() < Phase::Close {
                board.set_phase(Phase::Close);
            }
            while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                self.look(&board, "logging out");
                thread::sleep(TICK);
            }
        });
        self.sampler.end(&board, self.server);
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
        let left_over = board.left_over.load(Ordering::Relaxed);
        if left_over > 0 {
            self.note(format!(
                "{left_over} messages of an earlier run came in this one"
            ));
        }
        let sum = sum.into_inner().expect("no thread panics with it");
        self.latencies = vec![
            ("message", sum.messages.clone()),
            ("presence", sum.presence.clone()),
            ("return", sum.returns.clone()),
            ("login", sum.logins.clone()),
        ];
        sum
    }

    /// Lets the sampler look, and shows what it saw.
    fn look(&mut self, board: &Board, phase: &str) {
        if let Some(point) = self.sampler.look(board, self.server, phase) {
            self.live.show(&Frame {
                scenario: self.report.scenario,
                label: self.report.label.as_deref(),
                phase,
                progress: self.progress,
                point,
                board,
            });
        }
    }

    pub fn note(&mut self, note: String) {
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until `done`, a signal, the end of the time, or until it is hopeless.
    pub fn wait(&mut self, board: &Board, what: &str, done: impl Fn(&Board) -> bool) -> Wait {
        let mut last = (0, Instant::now());
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
            if received != last.0 {
                last = (received, Instant::now());
            }
            self.silence = self.silence.max(last.1.elapsed());
            self.look(board, what);
            thread::sleep(TICK);
        }
    }

    pub fn pause(&mut self, board: &Board, what: &str, time: Duration) -> Wait {
        let (from, until) = (Instant::now(), Instant::now() + time);
        let before = std::mem::replace(&mut self.progress, Progress::Time { from, until });
        let waited = self.wait(board, what, |_| Instant::now() >= until);
        self.progress = before;
        waited
    }

    /// Waits until all sessions have logged in or failed.
    pub fn log_in(&mut self, board: &Board, sessions: usize) -> Wait {
        self.wait(board, "logging in", |board| {
            board.total(|row| &row.ready) + board.total(|row| &row.failed) >= sessions as u64
        })
    }

    pub fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            server: self.server.and_then(Usage::of),
            own_cpu_seconds: process::own_cpu_seconds(),
            machine_cpu_seconds: process::machine_cpu_seconds(),
            calls: self.calls.borrow_mut().as_mut().map(Calls::read),
        }
    }

    /// What was used between two readings. Notes it if others used the machine too: they make
    /// caches cold, and everything dearer.
    pub fn span(&mut self, from: &Reading, to: &Reading) -> Span {
        let server = from
            .server
            .as_ref()
            .zip(to.server.as_ref())
            .map(|(a, b)| b.since(a));
        let seconds = (to.at - from.at).as_secs_f64();
        let own_cpu_seconds = to.own_cpu_seconds - from.own_cpu_seconds;
        let machine = to.machine_cpu_seconds - from.machine_cpu_seconds;
        let other_cpu_seconds =
            server.map(|server| (machine - own_cpu_seconds - server.cpu_seconds).max(0.0));
        if other_cpu_seconds.is_some_and(|other| other > seconds * OTHERS_NOTED) {
            let note = "other programs were busy on this machine: CPU figures are too high";
            self.note(note.to_owned());
        }
        Span {
            seconds,
            server,
            own_cpu_seconds,
            other_cpu_seconds,
            calls: from.calls.zip(to.calls).map(|(from, to)| to.since(from)),
        }
    }

    pub fn finish(mut self, report: &ReportArgs) -> Ending {
        if !self.something {
            self.note("NOTHING WAS MEASURED".to_owned());
        }
        self.report.course.timeline = self.sampler.timeline.series();
        // The files first: whatever becomes of the terminal, the report is written.
        let document = self.report.document();
        let written = [
            report
                .json
                .as_ref()
                .map(|path| (path, document.write(path))),
            report
                .html
                .as_ref()
                .map(|path| (path, html::write(&[&document], path))),
        ];
        self.report.print();
        for (path, result) in written.into_iter().flatten() {
            match result {
                Ok(()) => say!("report: {}", path.display()),
                Err(error) => eprintln!("{}: {error}", path.display()),
            }
        }
        Ending {
            errors: !self.report.errors.is_empty(),
            nothing: !self.something,
        }
    }

    pub fn repeat(&mut self, report: &ReportArgs, mut once: impl FnMut(&mut Self) -> Figures) {
        for _ in 0..report.repeat.max(1) {
            if self.stopped() || Instant::now() > self.end {
                break;
            }
            let figures = once(self);
            self.report.runs.push(figures);
            self.keep_latencies();
        }
    }

    /// Keeps the latencies of the run that ended, for the report.
    pub fn keep_latencies(&mut self) {
        for (name, latencies) in std::mem::take(&mut self.latencies) {
            self.report.course.add(name, &latencies);
        }
    }
}

fn work(plan: &Plan, board: &Board, share: Share<'_>, sum: &Mutex<Outcome>) {
    let (thread, task) = (share.thread, share.task);
    let outcome: std::io::Result<Outcome> = Worker::new(plan, board, share).and_then(Worker::run);
    match outcome {
        Ok(outcome) => {
            let mut sum = sum.lock().expect("no thread panics with it");
            sum.add(&outcome);
        }
        Err(error) => {
            let sessions = Deal::new(task, plan.threads, thread).sessions();
            board.rows[thread]
                .failed
                .fetch_add(sessions as u64, Ordering::Relaxed);
            board.error("a thread of the generator ended", || error.to_string());
        }
    }
}

/// Connections beside the first of each session: for what is sent while the server holds that.
fn second_connections(transport: Transport, task: &Task, at_once: usize) -> usize {
    match transport {
        Transport::Bosh => at_once,
        Transport::Events | Transport::Poll => task.pairs * 2,
        _ => 0,
    }
}

/// Some of what can be done in XML is not there in JSON, and the other way round.
fn check(scenario: &str, transport: Transport, task: &Task) -> Result<(), String> {
    let stores = |chat: &Chat| matches!(chat.pace, Pace::Store { .. });
    let in_xml =
        scenario == REGISTER || task.presence.is_some() || task.chat.as_ref().is_some_and(stores);
    let name = transport.name();
    match task.broadcast {
        None if in_xml && transport.is_json() => Err(format!(
            "--transport {name}: this is done over tcp, websocket and bosh only"
        )),
        Some(_) if !transport.is_json() => Err(format!(
            "--transport {name}: topics are listened to over events, json and poll only"
        )),
        _ => Ok(()),
    }
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
    report: &ReportArgs,
) -> serde_json::Value {
    options["server"] = json!(
        plan.targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    );
    options["domain"] = json!(connect.domain);
    // A report without it is one of TCP, as all that were made before there was another transport.
    if plan.transport != Transport::Tcp {
        options["transport"] = json!(plan.transport.name());
        options["path"] = json!(plan.path);
    }
    options["tls"] = json!(format!("{:?}", connect.tls).to_lowercase());
    options["auth"] = json!(format!("{:?}", connect.auth).to_lowercase());
    options["stream_management"] = json!(plan.ack_every);
    options["threads"] = json!(plan.threads);
    options["private_descriptors"] = json!(plan.private_descriptors);
    options["source_addresses"] = json!(plan.sources);
    options["parallel_logins"] = json!(plan.parallel * plan.threads);
    options["rate"] = json!(connect.rate);
    options["repeat"] = json!(report.repeat);
    options["scenario"] = json!(report.scenario);
    options["resume"] = json!(connect.resume);
    options
}
