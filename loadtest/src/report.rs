//! What comes out of a command: its figures, the table at its end, and the document of both.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::document::{Distribution, Document, ErrorKind, Series, Server};
use crate::format::number;
use crate::machine;

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
    pub options: Value,
    pub runs: Vec<Figures>,
    pub errors: BTreeMap<String, (u64, String)>,
    pub notes: Vec<String>,
    pub interrupted: bool,
    pub course: Course,
}

impl Report {
    pub fn print(&self) {
        let label = self.label.as_deref().unwrap_or("server");
        say!("");
        say!(
            "{} · {label} · {}",
            self.scenario,
            machine::machine().line()
        );
        if let Some(line) = &self.course.server.command {
            let version = self.course.server.version.as_deref();
            say!(
                "server: {line}{}",
                version.map_or(String::new(), |v| format!(" ({v})"))
            );
        }
        self.print_table();
        for note in &self.notes {
            say!("note: {note}");
        }
        if self.interrupted {
            say!("note: interrupted; the figures cover what ran");
        }
        if self.errors.is_empty() {
            say!("errors: none");
        }
        for (kind, (count, example)) in &self.errors {
            say!("error: {count} × {kind}");
            say!("       e.g. {example}");
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
            say!("{:width$}  {heads}{:>12}", "", "median");
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
            say!("{row} {}", metric.unit);
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

    /// The report as it is written: everything else that shows a run is drawn from it.
    pub fn document(&self) -> Document {
        let figures = |run: &Figures| {
            let pairs = run.0.iter().map(|m| (m.name.to_owned(), json!(m.value)));
            pairs.collect::<Map<_, _>>()
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
        let errors = self
            .errors
            .iter()
            .map(|(kind, (count, example))| ErrorKind {
                kind: kind.clone(),
                count: *count,
                example: example.clone(),
            });
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let Course { seeds, began, .. } = &self.course;
        Document {
            tool: concat!("encke-loadtest ", env!("CARGO_PKG_VERSION")).to_owned(),
            scenario: self.scenario.to_owned(),
            unix_time: at,
            seconds: began.map_or(0.0, |began| began.elapsed().as_secs_f64().round()),
            label: self.label.clone(),
            commit: self.commit.clone(),
            command: machine::own_command(),
            seeds: seeds.iter().map(|seed| format!("{seed:08x}")).collect(),
            machine: machine::machine(),
            server: self.course.server.clone(),
            options: self.options.as_object().cloned().unwrap_or_default(),
            units: units.collect(),
            median: medians.collect(),
            runs: self.runs.iter().map(figures).collect(),
            distributions: self.course.distributions(),
            errors: errors.collect(),
            notes: self.notes.clone(),
            interrupted: self.interrupted,
            timeline: self.course.timeline.clone(),
        }
    }

    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        self.document().write(path)
    }
}

/// What a command did beside its figures: its seeds, its course, all latencies.
#[derive(Default)]
pub struct Course {
    pub began: Option<Instant>,
    pub server: Server,
    /// Of each run.
    pub seeds: Vec<u32>,
    pub timeline: Series,
    /// Latencies that count, of all runs, by what they are of.
    pub latencies: Vec<(&'static str, Histogram<u64>)>,
}

impl Course {
    /// Adds the latencies of a run.
    pub fn add(&mut self, name: &'static str, run: &Histogram<u64>) {
        if run.is_empty() {
            return;
        }
        match self.latencies.iter_mut().find(|(known, _)| *known == name) {
            // All have the same bounds, so that adding cannot fail.
            Some((_, all)) => drop(all.add(run)),
            None => self.latencies.push((name, run.clone())),
        }
    }

    fn distributions(&self) -> Vec<Distribution> {
        let known = self.latencies.iter();
        known.map(|(name, all)| distribution(name, all)).collect()
    }
}

/// Steps of a percentile plot: so many on the way from one half of the rest to the next.
const TICKS_PER_HALF: u32 = 5;

fn distribution(name: &str, all: &Histogram<u64>) -> Distribution {
    let steps = all.iter_quantiles(TICKS_PER_HALF);
    let mut quantiles: Vec<(f64, u64)> = steps
        .map(|step| (step.quantile_iterated_to(), step.value_iterated_to()))
        .collect();
    // Among so many there is none rarer than this; all steps behind it are the greatest.
    let rarest = 1.0 - 1.0 / all.len() as f64;
    quantiles.retain(|(share, _)| *share < rarest);
    quantiles.push((rarest, all.max()));
    Distribution {
        name: name.to_owned(),
        count: all.len(),
        min: all.min(),
        mean: all.mean().round(),
        max: all.max(),
        quantiles,
    }
}

/// Reads rows `label|report|metric|bar|unit` and prints whether the bars are held; whether all are.
/// A row without a bar (`-`) is only shown.
pub fn verdict(rows: &str) -> bool {
    let mut held = true;
    say!(
        "{:58} {:>10} {:>10}  {:6}",
        "figure (median)",
        "measured",
        "bar",
        ""
    );
    for row in rows.lines().filter(|row| !row.trim().is_empty()) {
        let fields: Vec<_> = row.split('|').map(str::trim).collect();
        let [label, path, metric, bar, unit] = fields[..] else {
            say!("not a row: {row}");
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
        say!(
            "{label:58} {shown:>10} {:>10}  {word:6} {unit}",
            number(bar)
        );
    }
    held
}
