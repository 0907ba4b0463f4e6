//! What is shown: the line while a run goes on, the table at its end, the JSON file.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::sys;

/// One measured figure.
pub struct Metric {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
}

/// The figures of one run, in the order in which they are shown.
#[derive(Default)]
pub struct Figures(pub Vec<Metric>);

impl Figures {
    pub fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.0.push(Metric { name, value, unit });
    }

    /// A quotient; absent where there is nothing to divide by.
    pub fn per(&mut self, name: &'static str, value: f64, count: f64, unit: &'static str) {
        if count > 0.0 {
            self.add(name, value / count, unit);
        }
    }
}

/// Everything about a command: what it ran on, how, and what came out.
pub struct Report {
    pub scenario: &'static str,
    pub label: Option<String>,
    pub commit: Option<String>,
    pub server: Value,
    pub options: Value,
    pub runs: Vec<Figures>,
    pub errors: BTreeMap<String, (u64, String)>,
    pub notes: Vec<String>,
    pub interrupted: bool,
}

impl Report {
    pub fn print(&self) {
        let label = self.label.as_deref().unwrap_or("server");
        println!();
        println!("{} · {label} · {}", self.scenario, machine_line());
        if let Some(line) = self.server.get("command").and_then(Value::as_str) {
            println!("server: {line}");
        }
        self.print_table();
        for note in &self.notes {
            println!("note: {note}");
        }
        if self.interrupted {
            println!("note: interrupted; the figures cover what ran");
        }
        if self.errors.is_empty() {
            println!("errors: none");
        }
        for (kind, (count, example)) in &self.errors {
            println!("error: {count} × {kind}");
            println!("       e.g. {example}");
        }
    }

    fn print_table(&self) {
        let Some(first) = self.runs.first() else {
            return;
        };
        let many = self.runs.len() > 1;
        let width = first.0.iter().map(|m| m.name.len()).max().unwrap_or(0);
        if many {
            let heads: String = (1..=self.runs.len()).map(|n| format!("{n:>12}")).collect();
            println!("{:width$}  {heads}{:>12}", "", "median");
        }
        for metric in &first.0 {
            let mut row = format!("{:width$}  ", metric.name);
            for run in &self.runs {
                let value = run
                    .0
                    .iter()
                    .find(|m| m.name == metric.name)
                    .map(|m| m.value);
                row.push_str(&format!("{:>12}", value.map_or("-".to_owned(), number)));
            }
            if many {
                row.push_str(&format!("{:>12}", number(self.median(metric.name))));
            }
            println!("{row} {}", metric.unit);
        }
    }

    fn median(&self, name: &str) -> f64 {
        let all = self
            .runs
            .iter()
            .flat_map(|run| &run.0)
            .filter(|m| m.name == name);
        let mut values: Vec<f64> = all.map(|m| m.value).collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => values[n / 2],
            n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        }
    }

    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let figures = |run: &Figures| {
            let pairs = run.0.iter().map(|m| (m.name.to_owned(), json!(m.value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let first = self
            .runs
            .first()
            .map(|run| run.0.as_slice())
            .unwrap_or_default();
        let medians = first
            .iter()
            .map(|m| (m.name.to_owned(), json!(self.median(m.name))));
        let units = first.iter().map(|m| (m.name.to_owned(), json!(m.unit)));
        let errors = self.errors.iter().map(
            |(kind, (count, example))| json!({ "kind": kind, "count": count, "example": example }),
        );
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let report = json!({
            "tool": concat!("encke-loadtest ", env!("CARGO_PKG_VERSION")),
            "scenario": self.scenario,
            "unix_time": at,
            "label": self.label,
            "commit": self.commit,
            "machine": machine(),
            "server": self.server,
            "options": self.options,
            "units": units.collect::<Map<_, _>>(),
            "median": medians.collect::<Map<_, _>>(),
            "runs": self.runs.iter().map(figures).collect::<Vec<_>>(),
            "errors": errors.collect::<Vec<_>>(),
            "notes": self.notes,
            "interrupted": self.interrupted,
        });
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
    }
}

fn machine() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("");
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok());
    json!({
        "cores": sys::cores(),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "memory_bytes": memory.unwrap_or(0) * 1024,
        "kernel": sys::kernel(),
    })
}

fn machine_line() -> String {
    let machine = machine();
    let memory = machine["memory_bytes"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 30);
    let (cores, kernel) = (sys::cores(), sys::kernel());
    format!("{cores} cores, {memory:.1} GiB, {kernel}, generator on the same machine")
}

/// Four digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".to_owned(),
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The line that shows a run while it goes on: redrawn on a terminal, now and then a line
/// elsewhere.
pub struct Live {
    terminal: bool,
    shown: Option<Instant>,
}

const PLAIN_EVERY: Duration = Duration::from_secs(5);

impl Live {
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    pub fn show(&mut self, line: &str) {
        let mut stderr = std::io::stderr().lock();
        if self.terminal {
            let _ = write!(stderr, "\r\x1b[2K{line}");
            let _ = stderr.flush();
        } else if self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PLAIN_EVERY)
        {
            self.shown = Some(Instant::now());
            let _ = writeln!(stderr, "{line}");
        }
    }

    pub fn clear(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
    }
}

/// Reads rows `label|report|metric|bar|unit` and prints whether the bars are held; whether all are.
/// A row without a bar (`-`) is only shown.
pub fn verdict(rows: &str) -> bool {
    let mut held = true;
    println!(
        "{:58} {:>10} {:>10}  {:6}",
        "figure (median)", "measured", "bar", ""
    );
    for row in rows.lines().filter(|row| !row.trim().is_empty()) {
        let fields: Vec<_> = row.split('|').map(str::trim).collect();
        let [label, path, metric, bar, unit] = fields[..] else {
            println!("not a row: {row}");
            held = false;
            continue;
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        let measured = report["median"][metric].as_f64();
        let errors = report["errors"].as_array().map_or(0, Vec::len);
        let only_shown = bar == "-";
        let bar: f64 = bar.parse().unwrap_or(f64::NAN);
        let word = match measured {
            Some(_) if only_shown => "",
            Some(value) if value <= bar && errors == 0 => "held",
            Some(_) if errors > 0 => "errors",
            Some(_) => "MISSED",
            None => "absent",
        };
        held &= only_shown || word == "held";
        let shown = measured.map_or("-".to_owned(), number);
        println!(
            "{label:58} {shown:>10} {:>10}  {word:6} {unit}",
            number(bar)
        );
    }
    held
}
