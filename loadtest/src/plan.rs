//! What a run does: the options that all scenarios share, checked, and what the threads share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::args::{ConnectArgs, Security, TlsVersion, Transport};
use crate::recorder::Intervals;
use crate::sasl::Mechanism;
use crate::{bosh, sys, tls, websocket};

/// Everything about the sessions that is the same for all of them.
pub struct Plan {
    pub targets: Vec<SocketAddr>,
    pub sources: usize,
    pub domain: String,
    pub prefix: String,
    pub password: String,
    pub resource: String,
    pub security: Security,
    pub transport: Transport,
    /// Where the server has the transport, if that is not TCP.
    pub path: String,
    pub mechanism: Option<Mechanism>,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Ask for an acknowledgement after so many stanzas; stream management is off where it is none.
    pub ack_every: Option<u32>,
    /// Over JSON, confirm so many events at once.
    pub confirm_every: u32,
    pub timeout: Duration,
    pub threads: usize,
    pub private_descriptors: bool,
    /// Logins at the same time, in one thread.
    pub parallel: usize,
    /// Logins a second, in one thread.
    pub rate: Option<f64>,
    /// The stream header, or `<open/>`.
    pub header: String,
    /// Make the accounts by in-band registration instead of logging in.
    pub register: bool,
    /// Ask for sessions that can be resumed (XEP-0198), and resume them.
    pub resume: bool,
    /// The moment from which all threads count time.
    pub epoch: Instant,
}

/// Descriptors that a thread needs beside those of its sessions.
const SPARE_DESCRIPTORS: usize = 200;

impl Plan {
    /// For so many connections in all, and so many of them at the same time.
    pub fn new(args: &ConnectArgs, sessions: usize, at_once: usize) -> Result<Self, String> {
        let targets = resolve(&args.server, args.i_own_the_target)?;
        let limit = sys::raise_descriptor_limit()
            .saturating_sub(SPARE_DESCRIPTORS)
            .max(1);
        let tables = at_once.div_ceil(limit).max(1);
        let wanted = args.threads.unwrap_or_else(sys::cores).max(1);
        let private_descriptors = tables > 1 || args.private_descriptors;
        let threads = wanted.max(tables).min(sessions.max(1));
        let per_source = sys::ephemeral_ports() / 3 * targets.len();
        let sources = args
            .sources
            .unwrap_or_else(|| sessions.div_ceil(per_source.max(1)));
        let parallel = args.parallel.div_ceil(threads).max(1);
        let domain = args.domain.clone();
        let tls = match args.tls {
            Security::None => None,
            _ => Some((tls_config(args)?, server_name(&domain)?)),
        };
        let path = path(args)?;
        Ok(Self {
            header: match args.transport {
                Transport::Websocket => websocket::open(&domain),
                Transport::Bosh => bosh::OPEN.to_owned(),
                _ => header(&domain),
            },
            targets,
            sources: sources.clamp(1, 60_000),
            domain,
            prefix: args.user_prefix.clone(),
            password: args.password.clone(),
            resource: args.resource.clone(),
            security: args.tls,
            transport: args.transport,
            path,
            mechanism: args.auth.mechanism(),
            tls,
            ack_every: args.sm.then_some(args.sm_request.max(1)),
            confirm_every: args.sm_request.max(1),
            timeout: Duration::from_secs(args.timeout.max(1)),
            threads,
            private_descriptors,
            parallel,
            rate: args.rate.map(|rate| rate / threads as f64),
            register: false,
            resume: args.resume,
            epoch: Instant::now(),
        })
    }

    #[cfg(test)]
    pub fn for_tests() -> Self {
        use clap::{Args, FromArgMatches};
        let command = ConnectArgs::augment_args(clap::Command::new("connect"));
        let given = command.get_matches_from(["connect"]);
        let connect = ConnectArgs::from_arg_matches(&given).expect("defaults");
        Self::new(&connect, 1, 1).expect("defaults make a plan")
    }

    pub fn bare(&self, user: u32) -> String {
        format!("{}{user}@{}", self.prefix, self.domain)
    }

    /// The local address of the n-th session; none lets the kernel choose.
    pub fn source(&self, index: usize, target: &SocketAddr) -> Option<SocketAddr> {
        if !target.is_ipv4() || !target.ip().is_loopback() || self.sources <= 1 {
            return None;
        }
        let source = index % self.sources;
        let address = Ipv4Addr::new(127, 0, (source / 250 + 1) as u8, (source % 250 + 1) as u8);
        Some(SocketAddr::new(IpAddr::V4(address), 0))
    }

    pub fn target(&self, index: usize) -> SocketAddr {
        self.targets[index % self.targets.len()]
    }
}

/// The addresses of the names, of which each must be on loopback or be the one that is `owned`.
fn resolve(names: &[String], owned: Option<IpAddr>) -> Result<Vec<SocketAddr>, String> {
    let mut targets = Vec::new();
    let allowed = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || owned.is_some_and(|owned| owned.to_canonical() == ip)
    };
    for name in names {
        let found = name.to_socket_addrs().map_err(|e| format!("{name}: {e}"))?;
        let found: Vec<_> = found.collect();
        if let Some(foreign) = found.iter().find(|address| !allowed(address)) {
            return Err(format!(
                "{name} is {foreign}, which is not a loopback address; whoever owns that machine \
                 says so with --i-own-the-target {}",
                foreign.ip()
            ));
        }
        targets.extend(found.into_iter().take(1));
    }
    if targets.is_empty() {
        Err("no server address is given".to_owned())
    } else {
        Ok(targets)
    }
}

fn header(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xml:lang='en' \
         xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    )
}

/// Empty on TCP.
fn path(args: &ConnectArgs) -> Result<String, String> {
    let Some(usual) = args.transport.path() else {
        return Ok(String::new());
    };
    if args.tls == Security::Starttls {
        return Err(
            "there is no STARTTLS on HTTP (RFC 7395 section 3.9): --tls direct is https:// and \
             wss://, --tls none is http:// and ws://"
                .to_owned(),
        );
    }
    if args.sm && args.transport != Transport::Websocket {
        let name = args.transport.name();
        return Err(format!("--sm: there is no stream management over {name}"));
    }
    let path = args.path.as_deref().unwrap_or(usual);
    if !path.starts_with('/') || !path.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(format!(
            "--path {path}: a path begins with / and is written as in a URL"
        ));
    }
    Ok(path.to_owned())
}

fn tls_config(args: &ConnectArgs) -> Result<Arc<ClientConfig>, String> {
    let versions: &[_] = match args.tls_version {
        TlsVersion::Any => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
        TlsVersion::V12 => &[&rustls::version::TLS12],
    };
    let alpn = match (args.tls, args.transport) {
        (Security::Direct, Transport::Tcp) => Some(&b"xmpp-client"[..]),
        (Security::Direct, _) => Some(&b"http/1.1"[..]),
        _ => None,
    };
    tls::config(versions, alpn).map_err(|e| e.to_string())
}

fn server_name(domain: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(domain.to_owned()).map_err(|e| format!("domain {domain}: {e}"))
}

/// Where a run stands; set by the main thread, read by the others once a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Phase {
    Connect,
    /// What the task needs on the server is made: subscriptions.
    Prepare,
    Warm,
    Measure,
    /// Who was away comes: cut sessions, or those that messages were stored for.
    Return,
    /// Nothing new is sent; what is under way may arrive.
    Drain,
    Close,
    /// End at once.
    Abort,
}

/// What the threads tell while they run.
#[derive(Default)]
pub struct Board {
    phase: AtomicU8,
    /// One row per thread, so that no cache line is shared.
    pub rows: Vec<Row>,
    errors: Mutex<BTreeMap<String, (u64, String)>>,
    pub agreed: Mutex<Option<String>>,
    /// Messages of an earlier run that came in this one.
    pub left_over: AtomicU64,
    pub intervals: Intervals,
}

#[derive(Default)]
#[repr(align(128))]
pub struct Row {
    /// Sessions that have logged in, ever.
    pub ready: AtomicU64,
    pub failed: AtomicU64,
    /// Sessions whose stream has ended as it should.
    pub ended: AtomicU64,
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// Stanzas that await an acknowledgement; known while draining only.
    pub unacknowledged: AtomicU64,
    /// Sessions that are logged in now.
    pub online: AtomicU64,
    /// Messages of the schedule that could not be sent because a session was away.
    pub unsent: AtomicU64,
    /// White space, or pings of WebSocket, that were sent to keep sessions alive.
    pub keepalives: AtomicU64,
    /// Presence changes that were sent, and those that contacts got.
    pub changes: AtomicU64,
    pub deliveries: AtomicU64,
    /// What the changes so far must have been delivered as; known while draining only.
    pub owed: AtomicU64,
    /// Subscriptions that exist, of those that the task needs.
    pub subscribed: AtomicU64,
    /// Messages for absent accounts that the server has taken.
    pub stored: AtomicU64,
    /// Sessions whose connection was cut, by us or by the server.
    pub cut: AtomicU64,
    /// Sessions that came back after that, and those of them that resumed (XEP-0198).
    pub back: AtomicU64,
    pub resumed: AtomicU64,
    /// Attempts to come back that failed and were made again.
    pub attempts_failed: AtomicU64,
    /// The phase whose work this thread has done.
    pub done: AtomicU64,
}

impl Board {
    pub fn new(threads: usize) -> Self {
        Self {
            rows: (0..threads).map(|_| Row::default()).collect(),
            ..Self::default()
        }
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Connect,
            1 => Phase::Prepare,
            2 => Phase::Warm,
            3 => Phase::Measure,
            4 => Phase::Return,
            5 => Phase::Drain,
            6 => Phase::Close,
            _ => Phase::Abort,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Whether all threads have done what this phase asked of them.
    pub fn is_done(&self, phase: Phase) -> bool {
        let done = |row: &Row| row.done.load(Ordering::Acquire) == phase as u64;
        self.rows.iter().all(done)
    }

    pub fn total(&self, column: impl Fn(&Row) -> &AtomicU64) -> u64 {
        self.rows
            .iter()
            .map(|row| column(row).load(Ordering::Relaxed))
            .sum()
    }

    /// Counts an error and keeps the first of its kind as the example.
    pub fn error(&self, kind: &str, example: impl FnOnce() -> String) {
        self.errors_of_kind(kind, 1, example);
    }

    pub fn errors_of_kind(&self, kind: &str, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let mut errors = self.errors.lock().expect("no thread panics with the lock");
        match errors.get_mut(kind) {
            Some((total, _)) => *total += count,
            None => {
                errors.insert(kind.to_owned(), (count, example()));
            }
        }
    }

    pub fn error_count(&self) -> u64 {
        let errors = self.errors.lock().expect("no thread panics with the lock");
        errors.values().map(|(count, _)| count).sum()
    }

    pub fn errors(&self) -> BTreeMap<String, (u64, String)> {
        self.errors
            .lock()
            .expect("no thread panics with the lock")
            .clone()
    }
}
