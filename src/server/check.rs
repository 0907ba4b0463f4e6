//! `encke check`: what would go wrong, before it does.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use super::certificate::{self, Facts, Origin};
use super::cli::Form;
use super::config::{Config, Fault, Loaded, Mode};
use super::exit::Exit;
use super::kernel;
use super::plan::{Machine, Plan};
use super::status::{Listeners, Status};

/// What was found, in the order looked at.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    grade: Grade,
    subject: &'static str,
    text: String,
}

/// How bad a finding is. Its number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Good,
    /// It works, and could cost less.
    Note,
    Warning,
    Error,
}

/// Days before the end of a certificate from which on it is worth a word.
pub const EXPIRY_WARNING_DAYS: i64 = 30;
/// Kernel and user memory of one idle link under TLS.
const LINK_OCTETS: u64 = 8_700;
/// Less than this on the disk of the data directory is a warning.
const SPACE_OCTETS_MIN: u64 = 1 << 30;

/// Looks at everything. `running` is what our own server says, if it runs.
pub fn check(loaded: &Loaded, running: Option<&Status>) -> Findings {
    let mut findings = Findings::default();
    let found = match (&loaded.file, loaded.mode) {
        (Some(path), _) => path.display().to_string(),
        (None, Mode::Configured) => "from the environment".into(),
        (None, Mode::Standalone) => "none: standalone mode".into(),
    };
    findings.good("configuration", found);
    check_certificate(loaded, &mut findings);
    check_machine(&loaded.config, &mut findings);
    check_ports(&loaded.config, running, &mut findings);
    check_data_dir(&loaded.config.data_dir, &mut findings);
    findings
}

/// The findings about a configuration that cannot be read.
pub fn refused(faults: &[Fault]) -> Findings {
    let mut findings = Findings::default();
    for fault in faults {
        findings.error("configuration", fault.to_string());
    }
    findings
}

impl Findings {
    /// 0 for nothing, 1 for warnings, 2 for errors.
    pub fn exit(&self) -> Exit {
        match self.0.iter().map(|finding| finding.grade).max() {
            None | Some(Grade::Good | Grade::Note) => Exit::Done,
            Some(Grade::Warning) => Exit::Failed,
            Some(Grade::Error) => Exit::Usage,
        }
    }

    /// One line for each finding, or a JSON list.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::People => self.for_people(),
            Form::Json => {
                let list = self.0.iter().map(|finding| {
                    serde_json::json!({
                        "grade": finding.grade.word(),
                        "subject": finding.subject,
                        "text": finding.text,
                    })
                });
                format!("{:#}\n", serde_json::Value::Array(list.collect()))
            }
        }
    }

    fn for_people(&self) -> String {
        let mut out = String::new();
        for Finding {
            grade,
            subject,
            text,
        } in &self.0
        {
            let _ = writeln!(out, "{:<8} {subject:<14} {text}", grade.word());
        }
        let count = |grade| {
            self.0
                .iter()
                .filter(|finding| finding.grade == grade)
                .count()
        };
        let plural = |n: usize, noun| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let errors = plural(count(Grade::Error), "error");
        let _ = writeln!(
            out,
            "{errors}, {}",
            plural(count(Grade::Warning), "warning")
        );
        out
    }

    pub fn good(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Grade::Good, subject, text);
    }

    pub fn note(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Grade::Note, subject, text);
    }

    pub fn warning(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Grade::Warning, subject, text);
    }

    pub fn error(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Grade::Error, subject, text);
    }

    fn add(&mut self, grade: Grade, subject: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.0.push(Finding {
            grade,
            subject,
            text,
        });
    }
}

impl Grade {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

fn check_certificate(loaded: &Loaded, findings: &mut Findings) {
    const SUBJECT: &str = "certificate";
    let config = &loaded.config;
    let pair = match certificate::read(config) {
        Ok(pair) => pair,
        Err(_) if config.certificate.is_none() => {
            let text = "none is set: a self-signed one is made on the first start";
            return match loaded.mode {
                Mode::Standalone => findings.good(SUBJECT, text),
                Mode::Configured => findings.warning(SUBJECT, text),
            };
        }
        Err(line) => return findings.error(SUBJECT, line),
    };
    if let Err(line) = pair.certificates() {
        return findings.error(SUBJECT, line);
    }
    let path = pair.chain_path.display();
    let facts = match Facts::of(&pair.chain) {
        Ok(facts) => facts,
        Err(reason) => return findings.error(SUBJECT, format!("{path}: {reason}")),
    };
    let ends = facts.ends.strftime("%Y-%m-%d");
    match facts.days_left() {
        ..=0 => findings.error(
            SUBJECT,
            format!("{path} has ended on {ends}; get a new one"),
        ),
        days if days <= EXPIRY_WARNING_DAYS => {
            findings.warning(SUBJECT, format!("{path} ends in {days} days, on {ends}"));
        }
        days => findings.good(
            SUBJECT,
            format!("{path} is valid until {ends}, {days} days"),
        ),
    }
    if facts.begins > jiff::Timestamp::now() {
        let begins = facts.begins.strftime("%Y-%m-%d");
        findings.error(SUBJECT, format!("{path} is not valid before {begins}"));
    }
    for domain in facts.misses(&config.domains) {
        findings.error(SUBJECT, format!("{path} does not name {domain}"));
    }
    if pair.origin == Origin::SelfSigned && loaded.mode == Mode::Configured {
        findings.warning(
            SUBJECT,
            "it is self-signed: clients will ask whether to trust it",
        );
    }
    if mode_of(&pair.key_path).is_some_and(|mode| mode & 0o007 != 0) {
        let key = pair.key_path.display();
        findings.warning(
            SUBJECT,
            format!("everybody may read {key}; chmod o-rwx {key}"),
        );
    }
}

fn check_machine(config: &Config, findings: &mut Findings) {
    let machine = Machine::here();
    let plan = match Plan::new(config, machine) {
        Ok(plan) => plan,
        Err(line) => return findings.error("descriptors", line),
    };
    let tables = match plan.private_descriptors {
        true => "a descriptor table each",
        false => "one descriptor table",
    };
    let Plan {
        shards, links_max, ..
    } = plan;
    let of = machine.descriptors_max;
    findings.good(
        "descriptors",
        format!("{links_max} links on {shards} shards with {tables} of {of}"),
    );
    let links = links_max as u64;
    kernel::check(plan, machine, findings);
    let memory = meminfo("MemTotal:");
    if memory.is_some_and(|memory| links.saturating_mul(LINK_OCTETS) > memory) {
        let needed = links.saturating_mul(LINK_OCTETS) / 1_000_000;
        let there = memory.unwrap_or(0) / 1_000_000;
        let text = format!("{links} links need about {needed} MB; this machine has {there} MB");
        findings.warning("memory", text);
    }
}

fn check_ports(config: &Config, running: Option<&Status>, findings: &mut Findings) {
    const SUBJECT: &str = "port";
    let ours: Vec<&String> = running.map_or(Vec::new(), |status| {
        let Listeners {
            c2s,
            c2s_tls,
            http,
            https,
        } = &status.listeners;
        [c2s, c2s_tls, http, https].into_iter().flatten().collect()
    });
    for text in config.addresses() {
        let Ok(address) = text.parse::<SocketAddr>() else {
            continue;
        };
        if ours.contains(&text) || (address.port() == 0 && running.is_some()) {
            findings.good(SUBJECT, format!("{address} is held by our running server"));
            continue;
        }
        match try_bind(address) {
            Ok(()) => findings.good(SUBJECT, format!("{address} is free")),
            Err(e) => findings.error(SUBJECT, format!("{address}: {}", bind_trouble(&e))),
        }
    }
}

fn try_bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As the server does: connections that were closed a moment ago are in nobody's way.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Why an address cannot be listened on, and how to mend it.
pub fn bind_trouble(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it or choose another port".into()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        io::ErrorKind::PermissionDenied => {
            "no right to listen there; ports below 1024 need CAP_NET_BIND_SERVICE".into()
        }
        _ => error.to_string(),
    }
}

fn check_data_dir(dir: &Path, findings: &mut Findings) {
    const SUBJECT: &str = "data directory";
    let shown = dir.display();
    if !dir.exists() {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        return match may_write(parent) {
            Ok(()) => findings.good(SUBJECT, format!("{shown} will be made on the first start")),
            Err(e) => {
                let text = format!("{shown} cannot be made: {}: {e}", parent.display());
                findings.error(SUBJECT, text);
            }
        };
    }
    if let Err(e) = may_write(dir) {
        return findings.error(SUBJECT, format!("{shown} cannot be written: {e}"));
    }
    if mode_of(dir).is_some_and(|mode| mode & 0o077 != 0) {
        let text = format!("others may look into {shown}; chmod 700 {shown}");
        findings.warning(SUBJECT, text);
    }
    let space = rustix::fs::statvfs(dir).map_or(u64::MAX, |found| {
        found.f_bavail.saturating_mul(found.f_frsize)
    });
    match space {
        ..SPACE_OCTETS_MIN => {
            let text = format!("{shown} has {} MB left", space / 1_000_000);
            findings.warning(SUBJECT, text);
        }
        _ => findings.good(SUBJECT, format!("{shown} is writable")),
    }
}

/// Asks the kernel, and so leaves no trace.
fn may_write(dir: &Path) -> io::Result<()> {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::access(dir, access)?)
}

fn mode_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path)
        .ok()
        .map(|found| found.permissions().mode())
}

/// A line of `/proc/meminfo`, in octets.
fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilo: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilo * 1_024)
}
