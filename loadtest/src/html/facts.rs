//! What a page says in words: how the run was made, on what, and what went wrong.

use std::fmt::Write as _;

use serde_json::Value;

use super::escape;
use crate::document::Document;
use crate::format::{date, duration, grouped};

/// The load in a few words.
pub fn load(document: &Document) -> Vec<String> {
    let options = &document.options;
    let count = |name: &str, what: &str| {
        let count = options.get(name)?.as_f64()?;
        Some(format!("{} {what}", grouped(count)))
    };
    let mut parts: Vec<String> = [
        count("sessions", "sessions"),
        count("logins", "logins"),
        count("pairs", "pairs"),
        count("open_rate", "messages/s in an open loop"),
        count("contacts", "contacts each"),
        count("changes_per_second", "presence changes/s"),
        count("churning", "come and go"),
        count("listeners", "listeners"),
        count("events_per_second", "events/s"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(window) = options.get("window").and_then(Value::as_u64) {
        parts.push(format!("{window} in flight each"));
    }
    let text = |name: &str| options.get(name).and_then(Value::as_str);
    let carrier = match text("transport") {
        Some("websocket") => "WebSocket",
        Some("bosh") => "BOSH",
        Some("json") => "JSON on WebSocket",
        Some("events") => "event streams",
        Some("poll") => "long polls",
        _ => "",
    };
    let carrier = match (carrier, text("tls")) {
        ("", Some("none")) => Some("plain TCP".to_owned()),
        ("", Some("direct")) => Some("Direct TLS".to_owned()),
        (http, Some("none")) => Some(format!("{http} without TLS")),
        (http, Some("direct")) => Some(format!("{http} over TLS")),
        (_, Some("starttls")) => Some("STARTTLS".to_owned()),
        _ => None,
    };
    parts.extend(carrier);
    if options
        .get("stream_management")
        .is_some_and(Value::is_number)
    {
        parts.push("stream management".to_owned());
    }
    parts
}

pub fn errors(document: &Document) -> String {
    if document.errors.is_empty() {
        return String::new();
    }
    let mut list = String::new();
    let mut errors: Vec<_> = document.errors.iter().collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    for error in errors {
        let _ = writeln!(
            list,
            "<div class=\"error\"><span class=\"count\">{} ×</span> {}<code>{}</code></div>",
            grouped(error.count as f64),
            escape(&error.kind),
            escape(&error.example),
        );
    }
    format!(
        "<section><h2>Errors, with an example of each</h2><div class=\"card\">{list}</div>\
         </section>\n"
    )
}

pub fn notes(document: &Document) -> String {
    let mut notes: Vec<String> = document.notes.iter().map(|note| escape(note)).collect();
    if document.interrupted {
        notes.push("Interrupted; the figures cover what ran.".to_owned());
    }
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes
        .iter()
        .map(|note| format!("<li>{note}</li>\n"))
        .collect();
    format!(
        "<section><h2>Notes</h2><div class=\"card\"><ul class=\"notes\">\n{items}</ul></div>\
         </section>\n"
    )
}

/// Machine, versions, seed, options, and the command to do it again.
pub fn facts(document: &Document) -> String {
    let machine = &document.machine;
    let memory = machine.memory_bytes as f64 / f64::from(1 << 30);
    let mut seeds = document.seeds.join(", ");
    if let Some(seed) = document.options.get("seed").filter(|seed| !seed.is_null()) {
        seeds = plain(seed);
    }
    let rows = [
        ("Processor", format!("{} × {}", machine.cores, machine.cpu)),
        ("Memory", format!("{memory:.1} GiB")),
        ("Kernel", machine.kernel.clone()),
        ("System", machine.system.clone()),
        ("Server", document.label.clone().unwrap_or_default()),
        (
            "Version",
            document.server.version.clone().unwrap_or_default(),
        ),
        ("Commit", document.commit.clone().unwrap_or_default()),
        ("Generator", document.tool.clone()),
        ("Seed", seeds),
        ("Date", date(document.unix_time)),
        ("Took", duration(document.seconds)),
    ];
    let mut stands: String = rows
        .iter()
        .filter(|(_, value)| !value.trim_matches([' ', '×', '0']).is_empty())
        .map(|(name, value)| fact(name, &escape(value)))
        .collect();
    if let Some(command) = document.server.command.as_deref().filter(|c| !c.is_empty()) {
        stands.push_str(&fact("Server started as", &code(command)));
    }
    if !document.command.is_empty() {
        stands.push_str(&fact("Load started as", &code(&document.command)));
    }
    let options: String = document
        .options
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| fact(&name.replace('_', " "), &escape(&plain(value))))
        .collect();
    format!(
        "<section><h2>How it was measured</h2><div class=\"facts\">\n\
         <div class=\"card\"><dl>{stands}</dl></div>\n\
         <div class=\"card\"><dl>{options}</dl></div></div></section>\n"
    )
}

fn fact(name: &str, value: &str) -> String {
    format!("<dt>{}</dt><dd>{value}</dd>\n", escape(name))
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// A value of an option, without the marks of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.as_f64().map_or_else(String::new, grouped),
        other => other.to_string(),
    }
}
