//! What would stop so many sessions on this machine, said before anything is started.

use std::fs;
use std::path::Path;

use encke_tuning::State;

use crate::format::number;
use crate::sys;

/// What one session takes on a machine that holds both ends, in octets.
///
/// The kernel's part is LIMITS' floor and what `idle` shows at a million; the others are bars that
/// the figures hold, rounded up.
#[derive(Clone, Copy)]
pub struct PerSession {
    pub kernel: f64,
    pub server: f64,
    pub generator: f64,
}

impl PerSession {
    pub const PLAIN: Self = Self {
        kernel: 8_100.0,
        server: 700.0,
        generator: 400.0,
    };
    pub const TLS: Self = Self {
        kernel: 8_100.0,
        server: 4_600.0,
        generator: 5_000.0,
    };

    /// A link that carries frames.
    pub fn on_websocket(self) -> Self {
        Self {
            server: self.server + 200.0,
            generator: self.generator + 100.0,
            ..self
        }
    }

    fn sum(self) -> f64 {
        self.kernel + self.server + self.generator
    }
}

/// Octets for both programs without a session, and for whatever else runs.
const BASE: f64 = 1.0e9;
/// Descriptors of a table that are no sessions.
const SPARE_DESCRIPTORS: usize = 500;

/// How a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// It works, and worse than it could.
    Slow,
    /// It would stop the run.
    Stops,
}

/// One thing that was looked at.
pub struct Row {
    pub what: String,
    pub have: String,
    pub need: String,
    pub verdict: Verdict,
    /// What helps.
    pub help: String,
}

/// All that was looked at, and how many sessions the machine has room for.
pub struct Preflight {
    pub rows: Vec<Row>,
    pub fits: usize,
}

/// What the machine says of itself.
struct Machine {
    memory: f64,
    descriptors: usize,
    files: f64,
    threads: f64,
    processes: Option<f64>,
    /// How many connections may be tracked, if any are: a module that is loaded without a rule
    /// tracks nothing.
    conntrack: Option<f64>,
    disk: Option<f64>,
}

impl Machine {
    fn read(home: &Path) -> Self {
        Self {
            memory: available_memory(),
            descriptors: sys::raise_descriptor_limit(),
            files: value("/proc/sys/fs/file-max").unwrap_or(f64::INFINITY),
            threads: value("/proc/sys/kernel/threads-max").unwrap_or(f64::INFINITY),
            processes: value("/sys/fs/cgroup/pids.max"),
            conntrack: value("/proc/sys/net/netfilter/nf_conntrack_count")
                .filter(|tracked| *tracked > 0.0)
                .and_then(|_| value("/proc/sys/net/netfilter/nf_conntrack_max")),
            disk: free_disk(home),
        }
    }
}

/// Looks at this machine for `sessions` sessions, with the server's data under `home`.
pub fn look(sessions: usize, each: PerSession, home: &Path) -> Preflight {
    let mut preflight = judge(&Machine::read(home), sessions, each);
    preflight.rows.extend(settings(Path::new("/"), sessions));
    preflight
}

fn judge(machine: &Machine, sessions: usize, each: PerSession) -> Preflight {
    let rows = vec![
        memory(machine, sessions, each),
        descriptors(machine, sessions),
        threads(machine, sessions),
        files(machine, sessions),
        conntrack(machine, sessions),
        disk(machine, sessions),
    ];
    Preflight {
        fits: room(machine, each),
        rows,
    }
}

/// The most sessions for which nothing stops the run, to two digits.
fn room(machine: &Machine, each: PerSession) -> usize {
    let by_memory = (machine.memory - BASE) / each.sum();
    let by_files = machine.files / 2.2;
    let by_conntrack = machine.conntrack.unwrap_or(f64::INFINITY) / 2.0;
    let by_disk = machine.disk.map_or(f64::INFINITY, |disk| disk / DISK_EACH);
    let most = by_memory.min(by_files).min(by_conntrack).min(by_disk);
    two_digits(most.max(0.0) as usize)
}

fn two_digits(number: usize) -> usize {
    let scale = 10_usize.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(1));
    number / scale * scale
}

fn row(what: &str, have: String, need: String, verdict: Verdict, help: &str) -> Row {
    let help = match verdict {
        Verdict::Fine => String::new(),
        _ => help.to_owned(),
    };
    Row {
        what: what.to_owned(),
        have,
        need,
        verdict,
        help,
    }
}

fn stops_if(bad: bool) -> Verdict {
    if bad { Verdict::Stops } else { Verdict::Fine }
}

fn slow_if(bad: bool) -> Verdict {
    if bad { Verdict::Slow } else { Verdict::Fine }
}

fn memory(machine: &Machine, sessions: usize, each: PerSession) -> Row {
    let need = sessions as f64 * each.sum() + BASE;
    row(
        "memory that is free",
        giga(machine.memory),
        format!(
            "{} ({} + {} + {} KB a session: kernel, server, generator)",
            giga(need),
            number(each.kernel / 1e3),
            number(each.server / 1e3),
            number(each.generator / 1e3)
        ),
        stops_if(machine.memory < need),
        "fewer --sessions, or --plain",
    )
}

/// Threads with a table each get round the limit; only a table that holds nearly nothing stops.
fn descriptors(machine: &Machine, sessions: usize) -> Row {
    let each = machine.descriptors.saturating_sub(SPARE_DESCRIPTORS);
    let tables = tables(machine, sessions);
    row(
        "descriptors per process",
        machine.descriptors.to_string(),
        format!("any: {tables} tables of its own for each end"),
        if each < 500 {
            Verdict::Stops
        } else {
            slow_if(tables > 4 * sys::cores())
        },
        "tuning/table/systemd.conf: a larger limit needs fewer threads",
    )
}

fn tables(machine: &Machine, sessions: usize) -> usize {
    let each = machine.descriptors.saturating_sub(SPARE_DESCRIPTORS).max(1);
    (sessions * 11).div_ceil(each * 10).max(sys::cores())
}

fn threads(machine: &Machine, sessions: usize) -> Row {
    let need = 2.0 * tables(machine, sessions) as f64 + 50.0;
    let have = machine
        .threads
        .min(machine.processes.unwrap_or(f64::INFINITY));
    row(
        "threads",
        number(have),
        number(need),
        stops_if(have < need),
        "kernel.threads-max, or the limit of the control group (pids.max)",
    )
}

fn files(machine: &Machine, sessions: usize) -> Row {
    let need = 2.2 * sessions as f64;
    row(
        "open files of the machine",
        number(machine.files),
        number(need),
        stops_if(machine.files < need),
        "tuning/table/descriptors.conf: fs.file-max",
    )
}

fn conntrack(machine: &Machine, sessions: usize) -> Row {
    let need = 2.0 * sessions as f64;
    row(
        "tracked connections",
        machine.conntrack.map_or("none are".to_owned(), number),
        machine.conntrack.map_or("-".to_owned(), |_| number(need)),
        stops_if(machine.conntrack.is_some_and(|most| most < need)),
        "tuning/table/conntrack.conf: do not track loopback, or a larger nf_conntrack_max",
    )
}

/// Accounts as they are imported, and as the server keeps them.
const DISK_EACH: f64 = 1_200.0;

fn disk(machine: &Machine, sessions: usize) -> Row {
    let need = sessions as f64 * DISK_EACH;
    row(
        "disk for accounts",
        machine.disk.map_or("unknown".to_owned(), giga),
        giga(need),
        stops_if(machine.disk.is_some_and(|free| free < need)),
        "--dir on a larger file system",
    )
}

/// The kernel's settings, by the table of `tuning/`: one row for all that suffice, one for each
/// that does not. They slow a run down; what would stop it has a row of its own.
fn settings(root: &Path, sessions: usize) -> Vec<Row> {
    let server = encke_tuning::Server {
        sessions: sessions as u64,
        clients_here: true,
    };
    let concerns = match encke_tuning::concerns() {
        Ok(concerns) => concerns,
        // A test reads the whole table, so this is never seen.
        Err(fault) => {
            let row = row(
                "kernel settings",
                "?".into(),
                fault.to_string(),
                Verdict::Slow,
                "",
            );
            return vec![row];
        }
    };
    let (mut enough, mut low) = (0, Vec::new());
    for concern in &concerns {
        for setting in &concern.settings {
            let look = encke_tuning::look(root, setting, server);
            match look.state {
                State::Enough => enough += 1,
                State::Low => low.push(Row {
                    what: setting.name.to_owned(),
                    have: look.found.unwrap_or_default(),
                    need: look.needed.unwrap_or_default(),
                    verdict: Verdict::Slow,
                    help: format!("{}: tuning/table/{}", setting.low, concern.file),
                }),
                State::Absent | State::ByHand | State::Idle => {}
            }
        }
    }
    if !low.is_empty() {
        let help = format!("tuning/apply --for {sessions} --with-clients sets what can be set");
        if let Some(last) = low.last_mut() {
            last.help = format!("{}\n        -> {help}", last.help);
        }
    }
    let have = format!("{enough} suffice");
    low.insert(
        0,
        row("kernel settings", have, "-".into(), Verdict::Fine, ""),
    );
    low
}

fn value(path: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn available_memory() -> f64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    let free = kibibytes.unwrap_or(0.0) * 1024.0;
    // A control group may allow less than there is.
    let cgroup = value("/sys/fs/cgroup/memory.max")
        .zip(value("/sys/fs/cgroup/memory.current"))
        .map(|(most, used)| most - used);
    cgroup.map_or(free, |left| left.min(free))
}

fn free_disk(home: &Path) -> Option<f64> {
    let stat = rustix::fs::statvfs(home).ok()?;
    Some(stat.f_bavail as f64 * stat.f_frsize as f64)
}

fn giga(octets: f64) -> String {
    format!("{:.1} GB", octets / 1e9)
}

impl Preflight {
    /// Whether something would stop the run.
    pub fn stops(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Stops)
    }

    /// One screen: a line for each thing, and what helps under what is not fine.
    pub fn screen(&self, sessions: usize) -> String {
        let mut out = format!("Before {sessions} sessions, both ends on this machine:\n\n");
        for row in &self.rows {
            let mark = match row.verdict {
                Verdict::Fine => "ok  ",
                Verdict::Slow => "slow",
                Verdict::Stops => "STOP",
            };
            let line = format!(
                "  {mark}  {:36} {:>12}   needs {}",
                row.what, row.have, row.need
            );
            out.push_str(line.trim_end());
            out.push('\n');
            if !row.help.is_empty() {
                out.push_str(&format!("        -> {}\n", row.help));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory: 23.0e9,
            descriptors: 20_000,
            files: 1e12,
            threads: 190_000.0,
            processes: None,
            conntrack: None,
            disk: Some(60e9),
        }
    }

    fn stopping(machine: &Machine, sessions: usize, each: PerSession) -> Vec<String> {
        let rows = judge(machine, sessions, each).rows.into_iter();
        rows.filter(|row| row.verdict == Verdict::Stops)
            .map(|row| row.what)
            .collect()
    }

    #[test]
    fn a_million_fits_where_there_is_room() {
        assert_eq!(stopping(&machine(), 1_000_000, PerSession::TLS), [""; 0]);
        assert_eq!(judge(&machine(), 1, PerSession::TLS).fits, 1_200_000);
        assert_eq!(judge(&machine(), 1, PerSession::PLAIN).fits, 2_300_000);
    }

    #[test]
    fn what_is_too_small_stops() {
        let small = Machine {
            memory: 8.0e9,
            files: 1e6,
            conntrack: Some(65_536.0),
            ..machine()
        };
        let stopping = stopping(&small, 1_000_000, PerSession::TLS);
        assert_eq!(
            stopping,
            [
                "memory that is free",
                "open files of the machine",
                "tracked connections"
            ]
        );
        let fits = judge(&small, 1_000_000, PerSession::TLS).fits;
        assert_eq!(fits, 32_000);
        assert!(!judge(&small, fits, PerSession::TLS).stops());
    }

    #[test]
    fn nothing_fits_on_nothing() {
        let none = Machine {
            memory: 0.5e9,
            ..machine()
        };
        assert_eq!(judge(&none, 10, PerSession::PLAIN).fits, 0);
    }
}
