//! Runs side by side: a table, and which is better.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::args::CompareArgs;
use crate::bench::Ending;
use crate::document::Document;
use crate::format::grouped;
use crate::html;
use crate::metrics::{self, Difference, Verdict};

/// Reports beside the first of them.
pub struct Comparison<'a> {
    /// What each is called; no two are the same.
    pub names: Vec<String>,
    pub documents: Vec<&'a Document>,
    pub rows: Vec<Row>,
    /// What differs between the runs beside their figures.
    pub differences: Vec<(String, Vec<String>)>,
}

pub struct Row {
    pub figure: String,
    pub unit: String,
    /// The median of each report that has it.
    pub values: Vec<Option<f64>>,
    /// Against the first report; one less than values.
    pub differences: Vec<Difference>,
}

/// Compares reports.
///
/// # Errors
/// When a file is no report, in one line.
pub fn run(args: &CompareArgs) -> Result<Ending, String> {
    let documents = read_all(&args.reports)?;
    if documents.len() < 2 {
        return Err("compare needs two reports".to_owned());
    }
    let comparison = Comparison::new(&documents, &args.reports);
    comparison.print();
    if let Some(path) = &args.html {
        html::write_comparison(&comparison, path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        println!("report: {}", path.display());
    }
    Ok(Ending {
        errors: false,
        nothing: false,
    })
}

pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, String> {
    paths.iter().map(|path| Document::read(path)).collect()
}

impl<'a> Comparison<'a> {
    pub fn new(documents: &'a [Document], paths: &[PathBuf]) -> Self {
        let documents: Vec<_> = documents.iter().collect();
        Self {
            names: names(&documents, paths),
            rows: rows(&documents),
            differences: differences(&documents),
            documents,
        }
    }

    fn print(&self) {
        println!();
        for (at, (name, document)) in self.names.iter().zip(&self.documents).enumerate() {
            let machine = document.machine.line();
            let errors = match document.error_count() {
                0 => "no errors".to_owned(),
                count => format!("{} ERRORS", grouped(count as f64)),
            };
            let letter = letter(at);
            println!(
                "{letter}: {name} · {} · {machine} · {errors}",
                document.scenario
            );
        }
        for (what, values) in &self.differences {
            println!("differs: {what}: {}", values.join(" | "));
        }
        println!();
        self.print_table();
        println!();
        println!("A is the base. ~ is {NOISE_IN_WORDS}.");
    }

    fn print_table(&self) {
        let width = self
            .rows
            .iter()
            .map(|row| row.figure.chars().count() + row.unit.chars().count());
        let width = width.max().unwrap_or(0) + 3;
        let mut head = format!("{:width$} {:>12}", "", "A");
        for at in 1..self.documents.len() {
            head.push_str(&format!(" {:>12} {:>18}", letter(at), "against A"));
        }
        println!("{head}");
        for row in &self.rows {
            println!("{}", line(row, width));
        }
    }
}

fn line(row: &Row, width: usize) -> String {
    let name = if row.unit.is_empty() {
        row.figure.clone()
    } else {
        format!("{}, {}", row.figure, row.unit)
    };
    let shown = |value: &Option<f64>| value.map_or("-".to_owned(), grouped);
    let mut line = format!("{name:width$}");
    for (at, value) in row.values.iter().enumerate() {
        line.push_str(&format!(" {:>12}", shown(value)));
        if let Some(difference) = at.checked_sub(1).and_then(|at| row.differences.get(at)) {
            let share = difference.share.map_or(String::new(), metrics::percent);
            line.push_str(&format!(" {share:>11} {:<6}", word(difference.verdict)));
        }
    }
    line.trim_end().to_owned()
}

/// What is not called better or worse.
pub const NOISE_IN_WORDS: &str =
    "a difference within the spread of the runs, or below 2 % (5 % where there is one run only)";

pub const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Same => "~",
        Verdict::None => "",
    }
}

/// A, B, C ...
pub fn letter(at: usize) -> char {
    char::from(b'A' + (at % 26) as u8)
}

/// The labels; where two have the same one, or none, the name of the file says which is which.
fn names(documents: &[&Document], paths: &[PathBuf]) -> Vec<String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for document in documents {
        *count.entry(document.name()).or_default() += 1;
    }
    let pairs = documents.iter().zip(paths);
    pairs
        .map(|(document, path)| {
            let name = document.name();
            if count[name] == 1 {
                return name.to_owned();
            }
            let file = path.file_stem().unwrap_or_default().to_string_lossy();
            match &document.label {
                Some(label) => format!("{label} ({file})"),
                None => file.into_owned(),
            }
        })
        .collect()
}

/// All figures in the order of the first report, then those that only others have.
fn rows(documents: &[&Document]) -> Vec<Row> {
    let mut figures: Vec<&str> = Vec::new();
    for document in documents {
        for figure in document.median.keys() {
            if !figures.contains(&figure.as_str()) {
                figures.push(figure);
            }
        }
    }
    figures
        .into_iter()
        .map(|figure| row(documents, figure))
        .collect()
}

fn row(documents: &[&Document], figure: &str) -> Row {
    let median = |document: &&Document| document.median.get(figure).and_then(Value::as_f64);
    let values: Vec<_> = documents.iter().map(median).collect();
    let runs = |document: &Document, value: Option<f64>| {
        let runs = document.values(figure);
        if runs.is_empty() {
            value.into_iter().collect()
        } else {
            runs
        }
    };
    let first = runs(documents[0], values[0]);
    let others = documents.iter().zip(&values).skip(1);
    let differences = others
        .map(|(document, value)| metrics::difference(figure, &first, &runs(document, *value)))
        .collect();
    let unit = documents
        .iter()
        .map(|document| document.unit(figure))
        .find(|unit| !unit.is_empty());
    Row {
        figure: figure.to_owned(),
        unit: unit.unwrap_or_default().to_owned(),
        values,
        differences,
    }
}

/// What must be known before figures are compared: another scenario, machine or option.
fn differences(documents: &[&Document]) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut look = |what: &str, values: Vec<String>| {
        if values.iter().any(|value| *value != values[0]) {
            found.push((what.to_owned(), values));
        }
    };
    let each = |read: &dyn Fn(&Document) -> String| -> Vec<String> {
        documents.iter().map(|document| read(document)).collect()
    };
    look("scenario", each(&|d| d.scenario.clone()));
    look(
        "processor",
        each(&|d| format!("{} × {}", d.machine.cores, d.machine.cpu)),
    );
    look(
        "memory",
        each(&|d| {
            format!(
                "{:.1} GiB",
                d.machine.memory_bytes as f64 / f64::from(1 << 30)
            )
        }),
    );
    look("kernel", each(&|d| d.machine.kernel.clone()));
    look("tool", each(&|d| d.tool.clone()));
    let mut options: Vec<&String> = documents.iter().flat_map(|d| d.options.keys()).collect();
    options.sort();
    options.dedup();
    // Where the server listens is no property of the run.
    options.retain(|name| *name != "server");
    for name in options {
        let value = |document: &Document| {
            document
                .options
                .get(name)
                .map_or("-".to_owned(), |value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
        };
        look(&name.replace('_', " "), each(&value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(label: &str, rate: f64, threads: u32) -> Document {
        serde_json::from_value(serde_json::json!({
            "tool": "encke-loadtest 0.1.0", "scenario": "chat", "unix_time": 1, "label": label,
            "options": { "threads": threads, "server": [label] },
            "units": { "latency p99": "µs" },
            "median": { "messages per second": rate, "latency p99": 100.0 },
            "runs": [{ "messages per second": rate, "latency p99": 100.0 }],
        }))
        .unwrap()
    }

    #[test]
    fn the_first_report_is_the_base() {
        let documents = [document("old", 1000.0, 2), document("new", 1500.0, 2)];
        let paths = ["a.json".into(), "b.json".into()];
        let comparison = Comparison::new(&documents, &paths);
        let row = &comparison.rows[0];
        assert_eq!(row.values, [Some(1000.0), Some(1500.0)]);
        assert_eq!(row.differences[0].share, Some(0.5));
        assert_eq!(row.differences[0].verdict, Verdict::Better);
        let shown = line(row, 24);
        assert!(shown.ends_with("1,500       +50 % better"), "{shown}");
        assert_eq!(comparison.rows[1].differences[0].verdict, Verdict::Same);
        assert_eq!(comparison.rows[1].unit, "µs");
        assert!(comparison.differences.is_empty());
    }

    #[test]
    fn another_option_is_told_and_equal_labels_get_their_files_names() {
        let documents = [document("same", 1.0, 1), document("same", 1.0, 2)];
        let paths = ["x/a.json".into(), "x/b.json".into()];
        let comparison = Comparison::new(&documents, &paths);
        assert_eq!(comparison.names, ["same (a)", "same (b)"]);
        let expected = [("threads".to_owned(), vec!["1".to_owned(), "2".to_owned()])];
        assert_eq!(comparison.differences, expected);
    }

    #[test]
    fn a_figure_that_one_report_lacks_is_a_dash() {
        let mut other = document("b", 1.0, 2);
        other.median.insert("new figure".to_owned(), 7.0.into());
        let documents = [document("a", 1.0, 2), other];
        let comparison = Comparison::new(&documents, &["a".into(), "b".into()]);
        let row = comparison.rows.last().unwrap();
        assert_eq!(row.values, [None, Some(7.0)]);
        assert_eq!(row.differences[0].verdict, Verdict::None);
    }
}
