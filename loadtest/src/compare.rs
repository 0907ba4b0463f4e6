//! Runs side by side: a table, and which is better.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use serde_json::Value;

use crate::args::CompareArgs;
use crate::bench::Ending;
use crate::document::Document;
use crate::format::grouped;
use crate::html;
use crate::metrics::{self, Difference, Verdict};

/// Reports of the same load, beside the first of them.
pub struct Comparison<'a> {
    /// The load in a few words.
    pub title: String,
    /// What each is called; no two are the same.
    pub names: Vec<String>,
    pub documents: Vec<&'a Document>,
    /// Of each report: the same label has the same one in all comparisons of a page.
    pub colors: Vec<usize>,
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
    let (mut documents, mut paths) = (documents, args.reports.clone());
    if let Some(base) = &args.base {
        base_first(&mut documents, &mut paths, base)?;
    }
    let comparisons = comparisons(&documents, &paths);
    let mut text: String = comparisons.iter().map(Comparison::text).collect();
    let _ = writeln!(text, "A is the base. ~ is {NOISE_IN_WORDS}.");
    if let Some(path) = &args.html {
        html::write_comparisons(&comparisons, path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let _ = writeln!(text, "report: {}", path.display());
    }
    // Whoever reads only the beginning has closed the pipe by now, which is no fault.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(Ending {
        errors: false,
        nothing: false,
    })
}

pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, String> {
    paths.iter().map(|path| Document::read(path)).collect()
}

/// Compares what can be compared: reports of one scenario; and where a label comes with several
/// loads, those of one load, as when several servers were measured with several loads each.
pub fn comparisons<'a>(documents: &'a [Document], paths: &[PathBuf]) -> Vec<Comparison<'a>> {
    let by_load = documents.iter().enumerate().any(|(at, document)| {
        let mut before = documents[..at].iter();
        before.any(|other| {
            other.label.is_some() && other.label == document.label && load(other) != load(document)
        })
    });
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    let mut labels: Vec<&str> = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        let key = if by_load {
            load(document)
        } else {
            document.scenario.clone()
        };
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(at),
            None => groups.push((key, vec![at])),
        }
        if !labels.contains(&document.name()) {
            labels.push(document.name());
        }
    }
    let color = |place: usize, document: &Document| {
        let label = labels.iter().position(|label| *label == document.name());
        // Where labels say nothing, the place does.
        label
            .filter(|_| labels.len() > 1 && by_load)
            .unwrap_or(place)
    };
    let group = |members: Vec<usize>| {
        let paths: Vec<_> = members.iter().map(|&at| &paths[at]).collect();
        let members: Vec<_> = members.iter().map(|&at| &documents[at]).collect();
        let places = members.iter().enumerate();
        let colors = places
            .map(|(place, document)| color(place, document))
            .collect();
        Comparison::new(members, &paths, colors)
    };
    groups
        .into_iter()
        .map(|(_, members)| group(members))
        .collect()
}

/// Scenario and options; where the server listened is no property of the load.
fn load(document: &Document) -> String {
    let options = document.options.iter();
    let options = options.filter(|(name, _)| *name != "server");
    let options: Vec<_> = options
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{} {}", document.scenario, options.join(" "))
}

impl<'a> Comparison<'a> {
    fn new(documents: Vec<&'a Document>, paths: &[&PathBuf], colors: Vec<usize>) -> Self {
        let mut title = vec![documents[0].scenario.clone()];
        title.extend(html::load(documents[0]));
        Self {
            title: title.join(" · "),
            names: names(&documents, paths),
            colors,
            rows: rows(&documents),
            differences: differences(&documents),
            documents,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.title);
        for (at, (name, document)) in self.names.iter().zip(&self.documents).enumerate() {
            let machine = document.machine.line();
            let errors = match document.error_count() {
                0 => "no errors".to_owned(),
                count => format!("{} ERRORS", grouped(count as f64)),
            };
            let _ = writeln!(text, "{}: {name} · {machine} · {errors}", letter(at));
        }
        for (what, values) in &self.differences {
            let _ = writeln!(text, "differs: {what}: {}", values.join(" | "));
        }
        text.push('\n');
        self.append_table(&mut text);
        text.push('\n');
        text
    }

    fn append_table(&self, text: &mut String) {
        let widths = self
            .rows
            .iter()
            .map(|row| row.figure.chars().count() + row.unit.chars().count());
        let width = widths.max().unwrap_or(0) + 3;
        let _ = write!(text, "{:width$} {:>12}", "", "A");
        for at in 1..self.documents.len() {
            let _ = write!(text, " {:>12} {:>18}", letter(at), "against A");
        }
        text.push('\n');
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row, width));
        }
    }
}

/// Puts the reports with this label before all others.
fn base_first(
    documents: &mut Vec<Document>,
    paths: &mut Vec<PathBuf>,
    base: &str,
) -> Result<(), String> {
    let pairs = documents.drain(..).zip(paths.drain(..));
    let (first, others): (Vec<_>, Vec<_>) = pairs.partition(|(d, _)| d.name() == base);
    if first.is_empty() {
        return Err(format!("no report has the label {base}"));
    }
    (*documents, *paths) = first.into_iter().chain(others).unzip();
    Ok(())
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
fn names(documents: &[&Document], paths: &[&PathBuf]) -> Vec<String> {
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
        let comparison = &comparisons(&documents, &paths)[0];
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
        let paths: [PathBuf; 2] = ["x/a.json".into(), "x/b.json".into()];
        let comparison = Comparison::new(
            documents.iter().collect(),
            &[&paths[0], &paths[1]],
            vec![0, 1],
        );
        assert_eq!(comparison.names, ["same (a)", "same (b)"]);
        let expected = [("threads".to_owned(), vec!["1".to_owned(), "2".to_owned()])];
        assert_eq!(comparison.differences, expected);
    }

    #[test]
    fn servers_that_were_measured_with_several_loads_are_compared_load_by_load() {
        let documents = [("x", 1), ("y", 1), ("x", 8), ("y", 8), ("z", 8)];
        let documents = documents.map(|(label, threads)| document(label, 1.0, threads));
        let paths: Vec<PathBuf> = (0..5).map(|n| format!("{n}.json").into()).collect();
        let all = comparisons(&documents, &paths);
        let names: Vec<_> = all.iter().map(|c| c.names.clone()).collect();
        assert_eq!(names, [vec!["x", "y"], vec!["x", "y", "z"]]);
        assert_eq!(all[1].colors, [0, 1, 2]);
        assert!(all.iter().all(|c| c.differences.is_empty()));
        // Two labels with two loads are what somebody wants to see side by side.
        let all = comparisons(&documents[1..3], &paths);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].differences[0].0, "threads");
    }

    #[test]
    fn the_base_can_be_chosen_by_its_label() {
        let mut documents: Vec<_> = ["x", "y", "z"].map(|label| document(label, 1.0, 1)).into();
        let mut paths: Vec<PathBuf> = vec!["x".into(), "y".into(), "z".into()];
        base_first(&mut documents, &mut paths, "y").unwrap();
        let names: Vec<_> = documents.iter().map(Document::name).collect();
        assert_eq!(names, ["y", "x", "z"]);
        assert_eq!(paths, ["y", "x", "z"].map(PathBuf::from));
        assert!(base_first(&mut documents, &mut paths, "none").is_err());
    }

    #[test]
    fn a_figure_that_one_report_lacks_is_a_dash() {
        let mut other = document("b", 1.0, 2);
        other.median.insert("new figure".to_owned(), 7.0.into());
        let documents = [document("a", 1.0, 2), other];
        let comparison = &comparisons(&documents, &["a".into(), "b".into()])[0];
        let row = comparison.rows.last().unwrap();
        assert_eq!(row.values, [None, Some(7.0)]);
        assert_eq!(row.differences[0].verdict, Verdict::None);
    }
}
