//! The report as a file: what is written at the end of a run, and read again to draw it or to
//! compare it. Everything that people see of a run comes from here.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use serde_json::{Map, Value};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Name and version of this program.
    pub tool: String,
    pub scenario: String,
    pub unix_time: u64,
    /// How long it all took.
    #[serde(default)]
    pub seconds: f64,
    pub label: Option<String>,
    pub commit: Option<String>,
    /// The command that made it.
    #[serde(default)]
    pub command: String,
    /// Of each run: it marks the messages.
    #[serde(default)]
    pub seeds: Vec<String>,
    #[serde(default)]
    pub machine: Machine,
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub options: Map<String, Value>,
    /// By the name of the figure.
    #[serde(default)]
    pub units: Map<String, Value>,
    pub median: Map<String, Value>,
    pub runs: Vec<Map<String, Value>>,
    #[serde(default)]
    pub distributions: Vec<Distribution>,
    #[serde(default)]
    pub errors: Vec<ErrorKind>,
    #[serde(default)]
    pub notes: Vec<String>,
    #[serde(default)]
    pub interrupted: bool,
    #[serde(default)]
    pub timeline: Series,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    #[serde(default)]
    pub cores: u64,
    #[serde(default)]
    pub cpu: String,
    #[serde(default)]
    pub memory_bytes: u64,
    #[serde(default)]
    pub kernel: String,
    #[serde(default)]
    pub system: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Server {
    #[serde(default)]
    pub pid: Option<u32>,
    #[serde(default)]
    pub command: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorKind {
    pub kind: String,
    pub count: u64,
    #[serde(default)]
    pub example: String,
}

/// Latency by percentile, over all runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Distribution {
    pub name: String,
    pub count: u64,
    /// Nanoseconds.
    pub min: u64,
    pub mean: f64,
    pub max: u64,
    /// Share and nanoseconds.
    pub quantiles: Vec<(f64, u64)>,
}

/// The course of a run: columns of equal length.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    pub interval_seconds: f64,
    pub phases: Vec<Stretch>,
    pub units: BTreeMap<String, String>,
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

/// A named stretch of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    pub name: String,
    /// The run of the command, from 1.
    pub run: usize,
    /// Seconds since the command began.
    pub from: f64,
    pub to: f64,
}

impl Document {
    /// Reads a report.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let fault = |what: String| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let document: Self = serde_json::from_str(text)
            .map_err(|error| format!("not a report of encke-loadtest: {error}"))?;
        let mut columns = document.timeline.columns.iter();
        if let Some((first, column)) = columns.next() {
            for (name, other) in columns {
                if other.len() != column.len() {
                    return Err(format!(
                        "timeline: {name} has {} values, {first} {}",
                        other.len(),
                        column.len()
                    ));
                }
            }
        }
        Ok(document)
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut octets = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut octets, Layout::default());
        self.serialize(&mut serializer)?;
        octets.push(b'\n');
        std::fs::write(path, octets)
    }

    /// What the report is called where there are others: its label, else the scenario.
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.scenario)
    }

    pub fn unit(&self, figure: &str) -> &str {
        self.units.get(figure).and_then(Value::as_str).unwrap_or("")
    }

    /// The values of a figure in the runs that have it.
    pub fn values(&self, figure: &str) -> Vec<f64> {
        let values = self.runs.iter().filter_map(|run| run.get(figure));
        values.filter_map(Value::as_f64).collect()
    }

    pub fn error_count(&self) -> u64 {
        self.errors.iter().map(|error| error.count).sum()
    }
}

/// JSON for people too: objects over several lines, lists of numbers in one.
#[derive(Default)]
struct Layout {
    pretty: PrettyFormatter<'static>,
    lists: usize,
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.lists += 1;
        out.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.lists -= 1;
        out.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.lists == 0 {
            return self.pretty.begin_object(out);
        }
        out.write_all(b"\n    {")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.lists == 0 {
            return self.pretty.end_object(out);
        }
        out.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if self.lists == 0 {
            return self.pretty.begin_object_key(out, first);
        }
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.lists == 0 {
            return self.pretty.begin_object_value(out);
        }
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.lists == 0 {
            return self.pretty.end_object_value(out);
        }
        CompactFormatter.end_object_value(out)
    }

    /// Whole numbers without a point: columns are long.
    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() < 1e15 {
            return write!(out, "{value:.0}");
        }
        CompactFormatter.write_f64(out, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"{"tool": "encke-loadtest 0.1.0", "scenario": "chat", "unix_time": 1,
        "median": {"messages": 5.0}, "runs": [{"messages": 5.0}]}"#;

    #[test]
    fn a_report_without_a_course_can_still_be_read() {
        let document = Document::parse(LEAST).unwrap();
        assert_eq!(document.values("messages"), [5.0]);
        assert_eq!(document.name(), "chat");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut document = Document::parse(LEAST).unwrap();
        let columns = [
            ("at", vec![Some(0.5), None]),
            ("online", vec![Some(7.0), Some(8.0)]),
        ];
        document.timeline.columns = columns
            .into_iter()
            .map(|(name, column)| (name.to_owned(), column))
            .collect();
        document.errors.push(ErrorKind {
            kind: "a <kind>".to_owned(),
            count: 2,
            example: "\"quoted\"".to_owned(),
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        document.write(&path).unwrap();
        let again = Document::read(&path).unwrap();
        assert_eq!(again.timeline.columns, document.timeline.columns);
        assert_eq!(again.errors[0].example, "\"quoted\"");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"online\": [7, 8]"), "{text}");
    }

    #[test]
    fn what_is_no_report_is_one_line() {
        for text in ["", "{", "[]", "{\"tool\": 5}", "not JSON"] {
            let fault = Document::parse(text).unwrap_err();
            assert!(
                fault.starts_with("not a report") && fault.lines().count() == 1,
                "{fault}"
            );
        }
        let uneven = LEAST.replacen(
            '{',
            r#"{"timeline": {"interval_seconds": 1, "phases": [], "units": {},
                "columns": {"at": [1], "online": []}}, "#,
            1,
        );
        let fault = Document::parse(&uneven).unwrap_err();
        assert_eq!(fault, "timeline: online has 0 values, at 1");
    }
}
