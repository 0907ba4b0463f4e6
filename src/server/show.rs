//! `encke config show`: what is in force, and where it came from.

use std::fmt::Write as _;

use super::cli::Form;
use super::config::{Loaded, Mode, Source};
use super::options::{ROWS, Row, Secrecy};
use super::plan::{Machine, Plan};
use super::value::Value;

/// The effective configuration, as TOML with the sources as comments, or as JSON.
pub fn render(loaded: &Loaded, form: Form) -> String {
    let plan = Plan::new(&loaded.config, Machine::here());
    match form {
        Form::People => for_people(loaded, plan.as_ref().ok()),
        Form::Json => for_programs(loaded, plan.as_ref().ok()),
    }
}

fn for_people(loaded: &Loaded, plan: Option<&Plan>) -> String {
    let mut out = match (&loaded.file, loaded.mode) {
        (Some(path), _) => format!("# {}, environment, command line\n", path.display()),
        (None, Mode::Configured) => "# no file; environment, command line\n".into(),
        (None, Mode::Standalone) => "# no file: standalone mode\n".into(),
    };
    let mut table = "";
    for row in ROWS.iter().filter(|row| shown(row)) {
        let (of, key) = row.place();
        if of != table {
            table = of;
            let _ = write!(out, "\n[{table}]\n");
        }
        let value = value(row, loaded, plan);
        let line = match value {
            Value::Absent => format!("# {key} is not set"),
            value => format!("{key} = {value}"),
        };
        let source = source(row, loaded);
        let _ = match source.as_str() {
            "default" => writeln!(out, "{line}"),
            source => writeln!(out, "{line:<44} # {source}"),
        };
    }
    out
}

fn for_programs(loaded: &Loaded, plan: Option<&Plan>) -> String {
    let entries = ROWS.iter().filter(|row| shown(row)).map(|row| {
        let entry = serde_json::json!({
            "value": value(row, loaded, plan).to_json(),
            "source": source(row, loaded),
        });
        (row.name.to_owned(), entry)
    });
    let all: serde_json::Map<_, _> = entries.collect();
    format!("{:#}\n", serde_json::Value::Object(all))
}

/// `domain` is a spelling of `domains`.
fn shown(row: &Row) -> bool {
    row.name != "domain"
}

/// The value in force: what the server decides by itself is worked out.
fn value(row: &Row, loaded: &Loaded, plan: Option<&Plan>) -> Value {
    let value = row.read(&loaded.config);
    match (row.secrecy, &value, plan, row.name) {
        (Secrecy::Masked, Value::Text(_), ..) => Value::Text("********".into()),
        (_, Value::Auto, Some(plan), "limits.links") => Value::Number(plan.links_max as u64),
        (_, Value::Auto, Some(plan), "shards.count") => Value::Number(plan.shards.into()),
        (_, Value::Auto, Some(plan), "private_descriptors") => {
            Value::Flag(plan.private_descriptors)
        }
        _ => value,
    }
}

fn source(row: &Row, loaded: &Loaded) -> String {
    match (loaded.source(row), row.read(&loaded.config)) {
        (Source::Default, Value::Auto) => "auto".into(),
        (source, Value::Auto) => format!("{source}, auto"),
        (source, _) => source.to_string(),
    }
}
