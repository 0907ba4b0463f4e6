//! `c1m`: a million sessions on one machine, as one command.
//!
//! Looks at the machine, starts a server with accounts of its own, logs everybody in, holds them,
//! lets some talk in an open loop, kills the server, starts it again, and sees everybody return.

mod preflight;
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Parser};
use serde_json::json;

use crate::accounts;
use crate::args::{AccountFormat, AccountsArgs, Auth, ConnectArgs, ReportArgs, Security};
use crate::args::{TlsVersion, Transport};
use crate::bench::{Bench, Ending};
use crate::kinds::{self, Before, chat, idle, reconnect};
use crate::plan::{Board, Phase};
use crate::report::Figures;
use crate::task::{Address, Answer, Chat, Cut, Pace, Task};
use preflight::PerSession;
use server::Server;

#[derive(Args)]
pub struct C1mArgs {
    /// How many sessions; by default a million, or as many as this machine has room for.
    #[arg(long, short = 'n')]
    pub sessions: Option<usize>,
    /// Without TLS: how far the memory of the machine goes then.
    #[arg(long)]
    pub plain: bool,
    /// What carries the sessions; over HTTP one takes a little more.
    #[arg(long, value_enum, default_value = "tcp")]
    pub transport: Transport,
    /// The server's program; by default `encke` beside this one.
    #[arg(long, value_name = "PROGRAM")]
    pub server: Option<PathBuf>,
    /// Seconds to hold everybody silent.
    #[arg(long, default_value_t = 30)]
    pub hold: u64,
    /// Sessions that talk, in percent.
    #[arg(long, default_value_t = 1.0)]
    pub talking: f64,
    /// Messages a second over all who talk, whatever the server does.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Seconds of talking.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Seconds between two keep-alives of every session while some talk; 0: none.
    #[arg(long, default_value_t = 60.0)]
    pub keepalive: f64,
    /// Use stream management (XEP-0198) in every session: then it is shown that nothing
    /// acknowledged is lost when the server is killed.
    #[arg(long)]
    pub sm: bool,
    /// Logins under way at the same time: many, so that each of the many threads finds work for a
    /// while when it is woken.
    #[arg(long, default_value_t = 2_048)]
    pub parallel: usize,
    /// Do not kill the server.
    #[arg(long)]
    pub no_kill: bool,
    /// Leave the server running, and its data where they are.
    #[arg(long)]
    pub keep_server: bool,
    /// Only say what would stop so many sessions.
    #[arg(long)]
    pub check: bool,
    /// Begin even if something would stop it.
    #[arg(long)]
    pub force: bool,
    /// A directory for accounts and data; by default a new one for temporary files.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Write the report to this file.
    #[arg(long, default_value = "c1m.json")]
    pub json: PathBuf,
    /// Write the report as one page for a browser.
    #[arg(long, default_value = "c1m.html")]
    pub html: PathBuf,
    /// The server's commit, for the report.
    #[arg(long)]
    pub commit: Option<String>,
    /// End after so many seconds whatever happens.
    #[arg(long, default_value_t = 3_600)]
    pub max_seconds: u64,
}

/// The headline, and what is asked for where there is room.
const MILLION: usize = 1_000_000;
/// Fewer are not worth the name.
const SESSIONS_MIN: usize = 100;

pub fn run(args: &C1mArgs) -> Result<Ending, String> {
    let home = home(args)?;
    let ending = run_in(args, &home);
    if args.dir.is_none() && !args.keep_server {
        let _ = std::fs::remove_dir_all(&home);
    }
    ending
}

fn run_in(args: &C1mArgs, home: &Path) -> Result<Ending, String> {
    let each = if args.plain {
        PerSession::PLAIN
    } else {
        PerSession::TLS
    };
    let each = match args.transport {
        Transport::Tcp => each,
        _ => each.on_websocket(),
    };
    let Some(sessions) = room_for(args, each, home)? else {
        return Ok(crate::FINE);
    };
    let program = program(args)?;
    let task = task(args, sessions)?;
    say!("starting {}", program.display());
    let links = sessions + sessions / 20 + 100;
    let mut server = Server::start(&program, home, links, args.transport)?;
    let accounts = home.join("accounts");
    write_accounts(&accounts, sessions)?;
    server.import(&accounts)?;
    let connect = connect(args, &server);
    let report = report(args, &server);
    let mut bench = Bench::new("c1m", &connect, &report, &task, options(args, sessions))?;
    let before = Before::of(&bench);
    let figures = conduct(&mut bench, args, &task, &before, &mut server);
    bench.report.runs.push(figures);
    bench.keep_latencies();
    if args.keep_server {
        server.keep();
        say!(
            "the server goes on: process {}, configuration {}",
            server.pid(),
            server.configuration().display()
        );
    }
    Ok(bench.finish(&report))
}

/// How many sessions it will be; none if only that was asked.
fn room_for(args: &C1mArgs, each: PerSession, home: &Path) -> Result<Option<usize>, String> {
    let fits = preflight::look(MILLION, each, home).fits;
    let sessions = args.sessions.unwrap_or_else(|| fits.min(MILLION));
    let look = preflight::look(sessions, each, home);
    say!("{}", look.screen(sessions));
    if args.sessions.is_none() && sessions < MILLION {
        say!("This machine has room for about {sessions} sessions: that many it will be.\n");
    }
    if args.check {
        return Ok(None);
    }
    if sessions < SESSIONS_MIN {
        return Err(format!(
            "there is room for {sessions} sessions only; --force does not help"
        ));
    }
    if look.stops() && !args.force {
        return Err(format!(
            "this machine has no room for {sessions} sessions, but for about {fits}: \
             --sessions {fits}, or --force"
        ));
    }
    Ok(Some(sessions))
}

fn home(args: &C1mArgs) -> Result<PathBuf, String> {
    let home = args
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("encke-c1m-{}", std::process::id())));
    std::fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
    Ok(home)
}

fn program(args: &C1mArgs) -> Result<PathBuf, String> {
    if let Some(program) = &args.server {
        return Ok(program.clone());
    }
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let beside = own.with_file_name("encke");
    if beside.exists() {
        return Ok(beside);
    }
    let place = beside.display();
    Err(format!(
        "{place} is not there: build it, or name it with --server PROGRAM"
    ))
}

fn task(args: &C1mArgs, sessions: usize) -> Result<Task, String> {
    if !(0.0..=100.0).contains(&args.talking) {
        return Err(format!(
            "--talking {}: a share is 0 to 100 percent",
            args.talking
        ));
    }
    if !(args.rate > 0.0 && args.rate.is_finite()) {
        return Err(format!("--rate {}: no rate", args.rate));
    }
    let pairs = ((sessions as f64 * args.talking / 200.0) as usize).max(1);
    // Who waits for an answer has nothing to send.
    let sends = !matches!(
        args.transport,
        Transport::Bosh | Transport::Events | Transport::Poll
    );
    let keepalive = (args.keepalive != 0.0 && sends).then_some(args.keepalive);
    Ok(Task {
        pairs,
        chat: Some(Chat {
            pace: Pace::Rate(args.rate),
            body_octets: 100,
            answer: Answer::Echo,
            address: Address::Bare,
        }),
        idle: sessions - pairs * 2,
        keepalive: idle::keepalive(keepalive)?,
        cut: (!args.no_kill).then_some(Cut::Server),
        ..Task::default()
    })
}

fn write_accounts(out: &Path, count: usize) -> Result<(), String> {
    say!("adding {count} accounts");
    let accounts = AccountsArgs {
        count,
        format: AccountFormat::Encke,
        out: Some(out.to_owned()),
        domain: "localhost".to_owned(),
        user_prefix: "load".to_owned(),
        password: "loadtest".to_owned(),
        iterations: 4096,
    };
    accounts::write(&accounts).map_err(|e| format!("{}: {e}", out.display()))
}

/// The options that the command line of the other kinds gives by default, with ours.
fn connect(args: &C1mArgs, server: &Server) -> ConnectArgs {
    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        connect: ConnectArgs,
    }
    let Defaults { mut connect } = Defaults::parse_from(["c1m"]);
    let addresses = server.addresses;
    let [plain, direct] = addresses
        .http
        .unwrap_or([addresses.plain, addresses.direct]);
    let (address, tls) = if args.plain {
        (plain, Security::None)
    } else {
        (direct, Security::Direct)
    };
    connect.transport = args.transport;
    connect.server = vec![address.to_string()];
    connect.tls = tls;
    connect.tls_version = TlsVersion::V13;
    connect.auth = Auth::ScramSha256;
    connect.parallel = args.parallel;
    connect.timeout = 120;
    connect.sm = args.sm;
    connect.resume = args.sm;
    connect
}

fn report(args: &C1mArgs, server: &Server) -> ReportArgs {
    ReportArgs {
        scenario: Some("c1m".to_owned()),
        pid: Some(server.pid()),
        json: Some(args.json.clone()),
        html: Some(args.html.clone()),
        repeat: 1,
        syscalls: false,
        label: Some("encke".to_owned()),
        commit: args.commit.clone(),
        max_seconds: args.max_seconds,
    }
}

fn options(args: &C1mArgs, sessions: usize) -> serde_json::Value {
    json!({
        "sessions": sessions,
        "hold_seconds": args.hold,
        "talking_percent": args.talking,
        "open_rate": args.rate,
        "seconds": args.seconds,
        "keepalive_seconds": args.keepalive,
        "killed": !args.no_kill,
    })
}

fn conduct(
    bench: &mut Bench,
    args: &C1mArgs,
    task: &Task,
    before: &Before,
    server: &mut Server,
) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        let begun = Instant::now();
        let complete = kinds::log_in_all(bench, board, &mut figures, task.sessions());
        figures.add(
            "time until all are logged in",
            begun.elapsed().as_secs_f64(),
            "s",
        );
        if !complete {
            return;
        }
        hold(bench, board, args, before, &mut figures);
        talk(bench, board, args, &mut figures);
        if !args.no_kill {
            kill(bench, board, server, &mut figures);
        }
        kinds::drain(bench, board);
    });
    kinds::latencies(
        &mut figures,
        &outcome.messages,
        &kinds::MESSAGE_TIMES,
        kinds::IN_MICROSECONDS,
    );
    kinds::latencies(
        &mut figures,
        &outcome.lags,
        &kinds::LAG_TIMES,
        kinds::IN_MICROSECONDS,
    );
    kinds::latencies(
        &mut figures,
        &outcome.returns,
        &reconnect::RETURN_TIMES,
        kinds::IN_MILLISECONDS,
    );
    kinds::note_derivations(bench, &outcome);
    figures
}

/// Everybody is silent: what a session takes.
fn hold(bench: &mut Bench, board: &Board, args: &C1mArgs, before: &Before, figures: &mut Figures) {
    let ready = board.total(|row| &row.ready) as f64;
    let start = bench.read();
    let _ = bench.pause(board, "holding", Duration::from_secs(args.hold));
    let end = bench.read();
    let online = board.total(|row| &row.online) as f64;
    bench.something |= online > 0.0;
    figures.add("sessions held", online, "");
    let span = bench.span(&start, &end);
    if let Some(server) = span.server {
        let cores = server.cpu_seconds / span.seconds;
        figures.add("server cores while all are silent", cores, "");
    }
    kinds::memory(bench, figures, online, before);
    if online < ready {
        board.error("sessions lost while idle", || {
            format!("{online} of {ready} left")
        });
    }
}

/// Some talk in an open loop, all send keep-alives.
fn talk(bench: &mut Bench, board: &Board, args: &C1mArgs, figures: &mut Figures) {
    // Pages that nobody has touched since the login are cold.
    const WARM: Duration = Duration::from_secs(10);
    board.set_phase(Phase::Warm);
    let _ = bench.pause(board, "warming up", WARM);
    board.set_phase(Phase::Measure);
    let received = |board: &Board| board.total(|row| &row.received);
    let kept_alive = |board: &Board| board.total(|row| &row.keepalives);
    let (start, messages, keepalives) = (bench.read(), received(board), kept_alive(board));
    let _ = bench.pause(board, "talking", Duration::from_secs(args.seconds));
    let (end, messages) = (bench.read(), received(board) - messages);
    let keepalives = kept_alive(board) - keepalives;
    let span = bench.span(&start, &end);
    figures.add("messages per second", messages as f64 / span.seconds, "");
    if args.keepalive > 0.0 {
        let rate = keepalives as f64 / span.seconds;
        figures.add("keep-alives per second", rate, "");
    }
    if let Some(server) = span.server {
        let cores = server.cpu_seconds / span.seconds;
        figures.add("server cores while some talk", cores, "");
    }
    chat::note_unsent(bench, board);
}

/// The server is killed and started again, and everybody returns.
fn kill(bench: &mut Bench, board: &Board, server: &mut Server, figures: &mut Figures) {
    let failed_before = board.total(|row| &row.failed);
    board.set_phase(Phase::Return);
    if let Err(error) = server.kill() {
        return board.error("the server could not be killed", || error);
    }
    if !reconnect::server_goes(bench, board, bench.plan.timeout.as_secs()) {
        return;
    }
    let begun = Instant::now();
    let listens = match server.restart() {
        Ok(listens) => listens,
        Err(error) => return board.error("the server did not start again", || error),
    };
    bench.server = Some(server.pid());
    let start = bench.read();
    let waited = reconnect::all_return(bench, board);
    let (seconds, end) = (begun.elapsed().as_secs_f64(), bench.read());
    let span = bench.span(&start, &end);
    let (cut, back) = (board.total(|row| &row.cut), board.total(|row| &row.back));
    figures.add("sessions cut by kill -9", cut as f64, "");
    figures.add("sessions back", back as f64, "");
    figures.add("server listens again after", listens.as_secs_f64(), "s");
    figures.add("time until all are back", seconds, "s");
    kinds::server_per(figures, &span, "server CPU per return", back as f64);
    reconnect::note_missing(bench, board, waited, failed_before);
}
