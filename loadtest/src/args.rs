//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::c1m::C1mArgs;
use crate::kinds::Kind;
use crate::sasl::Mechanism;

/// Loads an XMPP server on this machine and says what a message, a login and a session cost it.
///
/// Exit codes: 0 everything as it should be; 1 there were errors (they are listed); 2 wrong usage;
/// 3 nothing was measured.
#[derive(Parser)]
#[command(name = "encke-loadtest", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Write accounts for a bulk import, all with one password and one salt.
    ///
    /// The accounts are PREFIX0@DOMAIN, PREFIX1@DOMAIN and so on. The shared salt lets the
    /// generator compute PBKDF2 once instead of once a login, so that it is not the generator that
    /// is measured.
    Accounts(AccountsArgs),
    /// Make accounts by in-band registration (XEP-0077), where the server offers it.
    ///
    /// Prosody: `modules_enabled = { "register_ibr" }; allow_registration = true`. ejabberd:
    /// mod_register with `ip_access: all` and `registration_timeout: infinity`. Such servers choose
    /// a salt for each account, and then PBKDF2 runs in the generator for every login: use
    /// `accounts --format prosody`, or `--auth plain`, where its CPU time matters.
    Register(RegisterArgs),
    /// Run a scenario: a TOML file, or one that is shipped.
    Run(RunArgs),
    /// List the scenarios that are shipped, show one, or show the keys of all kinds.
    Scenarios(ScenariosArgs),
    #[command(flatten)]
    Kind(Kind),
    /// Hold a million sessions on this machine, with a server that is started for it.
    C1m(C1mArgs),
    /// Say what the kernel alone takes for a message on this machine, now.
    ///
    /// A relay of bare TCP receives and sends between pairs as a server does, and does nothing
    /// else: the floor under every figure of `chat`.
    Floor(FloorArgs),
    /// The relay of `floor`.
    #[command(hide = true)]
    Relay(RelayArgs),
    /// Put reports side by side: the first is the base, the others are measured against it.
    ///
    /// A difference is judged where it is known whether less or more is better, and where it is
    /// larger than what the runs of one report differ among themselves.
    Compare(CompareArgs),
    /// Draw reports again from their JSON files, one or many on a page.
    Html(HtmlArgs),
    /// Read reports and say whether bars are held; rows on standard input.
    ///
    /// A row is `label|report.json|metric|bar|unit`; the metric's median must not exceed the bar.
    /// A row with `-` for the bar is only shown.
    Verdict,
}

#[derive(Args)]
pub struct AccountsArgs {
    /// How many accounts.
    pub count: usize,
    #[arg(long, value_enum, default_value = "encke")]
    pub format: AccountFormat,
    /// A file (encke) or the data directory (prosody); without it, standard output.
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[arg(long, default_value = "localhost")]
    pub domain: String,
    #[arg(long, default_value = "load")]
    pub user_prefix: String,
    #[arg(long, default_value = "loadtest")]
    pub password: String,
    #[arg(long, default_value_t = 4096)]
    pub iterations: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccountFormat {
    /// One JSON object a line, for `encke user import FILE`.
    Encke,
    /// Files of mod_auth_internal_hashed under the data directory, while Prosody is down.
    Prosody,
    /// Commands `register USER DOMAIN PASSWORD`, for `ejabberdctl` or `prosodyctl`, one a line.
    Ctl,
}

#[derive(Args)]
pub struct RegisterArgs {
    /// How many accounts.
    pub count: usize,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Args)]
pub struct RunArgs {
    /// A TOML file, or the name of a shipped scenario.
    pub scenario: String,
    /// Set a key of the scenario: `--set sessions=500`, `--set connect.tls=direct`.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Options of the scenario's kind, which override the file: `--pid 1234 --json out.json`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

#[derive(Args)]
pub struct ScenariosArgs {
    /// Show this one: a file to begin with.
    pub name: Option<String>,
    /// Show the keys of all kinds, as Markdown.
    #[arg(long)]
    pub keys: bool,
}

#[derive(Args)]
pub struct FloorArgs {
    /// How many pairs talk; twice as many connections.
    #[arg(long, default_value_t = 500)]
    pub pairs: usize,
    /// Messages under way in each pair.
    #[arg(long, default_value_t = 1)]
    pub window: usize,
    /// Octets of a message: a body of 100 and what stands around it.
    #[arg(long, default_value_t = 200)]
    pub octets: usize,
    /// Measured seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Run so many times and give medians.
    #[arg(long, default_value_t = 1)]
    pub repeat: usize,
    /// Write the report to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct CompareArgs {
    /// Reports (JSON), two or more.
    #[arg(required = true, num_args = 2..)]
    pub reports: Vec<PathBuf>,
    /// The label of the base; by default the first report is the base.
    #[arg(long)]
    pub base: Option<String>,
    /// Write a page with plots of all of them.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

#[derive(Args)]
pub struct HtmlArgs {
    /// Reports (JSON).
    #[arg(required = true)]
    pub reports: Vec<PathBuf>,
    /// The page.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct RelayArgs {
    /// How many connections come, neighbours being pairs.
    pub connections: usize,
}

#[derive(Args, Clone)]
pub struct ConnectArgs {
    /// Address and port; several are dealt out. Loopback only, without --i-own-the-target.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:5222")]
    pub server: Vec<String>,
    #[arg(long, default_value = "localhost")]
    pub domain: String,
    /// What carries a session: XMPP over TCP, WebSocket (RFC 7395) or BOSH (XEP-0124), or encke's
    /// JSON over WebSocket, as an event stream or by long polls. On all but TCP, TLS is none or
    /// direct, and servers listen at a port of their own.
    #[arg(long, value_enum, default_value = "tcp")]
    pub transport: Transport,
    /// Where the server has it; by default /ws, /http-bind or /v1.
    #[arg(long)]
    pub path: Option<String>,
    #[arg(long, value_enum, default_value = "none")]
    pub tls: Security,
    #[arg(long, value_enum, default_value = "any")]
    pub tls_version: TlsVersion,
    #[arg(long, value_enum, default_value = "auto")]
    pub auth: Auth,
    #[arg(long, default_value = "load")]
    pub user_prefix: String,
    /// The password of all accounts.
    #[arg(long, default_value = "loadtest")]
    pub password: String,
    #[arg(long, default_value = "lt")]
    pub resource: String,
    /// How many accounts there are; by default as many as sessions.
    #[arg(long)]
    pub accounts: Option<usize>,
    /// Threads of the generator; by default one per core, more where descriptors demand it. With
    /// fewer, all its packets come from one core, and the server pays for that in the kernel.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Give each thread a descriptor table of its own even where one would do.
    #[arg(long)]
    pub private_descriptors: bool,
    /// Loopback source addresses (127.0.1.1 and up); by default as many as ports demand.
    #[arg(long)]
    pub sources: Option<usize>,
    /// Logins under way at the same time.
    #[arg(long, default_value_t = 64)]
    pub parallel: usize,
    /// Logins begun in a second; by default as fast as they go.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds that a login or a logout may take; the last messages have at most 5.
    #[arg(long, default_value_t = 30)]
    pub timeout: u64,
    /// Use stream management (XEP-0198) where it is offered.
    #[arg(long)]
    pub sm: bool,
    /// With --sm, ask for an acknowledgement after so many messages; over JSON on a WebSocket,
    /// confirm so many events at once.
    #[arg(long, default_value_t = 16)]
    pub sm_request: u32,
    /// With --sm, make sessions that can be resumed, and resume those whose connection was lost.
    #[arg(long, requires = "sm")]
    pub resume: bool,
    /// Load this address too, which is not on loopback: only a machine that is yours alone.
    #[arg(long, value_name = "ADDRESS")]
    pub i_own_the_target: Option<IpAddr>,
}

#[derive(Args, Clone)]
pub struct ReportArgs {
    /// The scenario that was run, for the report.
    #[arg(skip)]
    pub scenario: Option<String>,
    /// The server's process; by default the one that listens at the address.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Write the report to this file too.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the report as one page for a browser, with plots, which needs no network.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Run so many times and give medians.
    #[arg(long, default_value_t = 1)]
    pub repeat: usize,
    /// Count the server's system calls too, where the kernel lets us: each costs a little more
    /// then.
    #[arg(long)]
    pub syscalls: bool,
    /// What is measured, for the report: "Prosody 0.12.3".
    #[arg(long)]
    pub label: Option<String>,
    /// The server's commit, for the report.
    #[arg(long)]
    pub commit: Option<String>,
    /// End after so many seconds whatever happens.
    #[arg(long, default_value_t = 1800)]
    pub max_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Tcp,
    Websocket,
    Bosh,
    Json,
    Events,
    Poll,
}

impl Transport {
    /// Where servers have it, if it has a place at all.
    pub const fn path(self) -> Option<&'static str> {
        match self {
            Self::Tcp => None,
            Self::Websocket => Some("/ws"),
            Self::Bosh => Some("/http-bind"),
            Self::Json | Self::Events | Self::Poll => Some("/v1"),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Websocket => "websocket",
            Self::Bosh => "bosh",
            Self::Json => "json",
            Self::Events => "events",
            Self::Poll => "poll",
        }
    }

    pub const fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Events | Self::Poll)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Security {
    None,
    Starttls,
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    Any,
    #[value(name = "1.3")]
    V13,
    #[value(name = "1.2")]
    V12,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// The best that is offered.
    Auto,
    Plain,
    #[value(name = "scram-sha-1")]
    ScramSha1,
    #[value(name = "scram-sha-256")]
    ScramSha256,
}

impl Auth {
    pub const fn mechanism(self) -> Option<Mechanism> {
        match self {
            Self::Auto => None,
            Self::Plain => Some(Mechanism::Plain),
            Self::ScramSha1 => Some(Mechanism::ScramSha1),
            Self::ScramSha256 => Some(Mechanism::ScramSha256),
        }
    }
}
