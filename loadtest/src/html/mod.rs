//! Reports as a page for a browser: one file, which needs no network.
//!
//! Figures, tables and facts are written here; the plots are drawn by the page's own script from
//! the reports that are embedded in it, so that they fit any width and can be read point by point.
//! Whatever comes from a report is escaped: part of it was said by a server.

mod comparison;
mod facts;

pub use facts::load;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::args::HtmlArgs;
use crate::bench::Ending;
use crate::compare::{self, Comparison};
use crate::document::Document;
use crate::format::{date, duration, grouped, scaled, with_unit};
use crate::metrics;

/// Draws reports again from their files.
///
/// # Errors
/// When a file is no report or the page cannot be written, in one line.
pub fn run(args: &HtmlArgs) -> Result<Ending, String> {
    let documents = compare::read_all(&args.reports)?;
    let documents: Vec<_> = documents.iter().collect();
    write(&documents, &args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    say!("report: {}", args.out.display());
    Ok(Ending {
        errors: false,
        nothing: false,
    })
}

/// Writes a page of one report, or of many below each other.
pub fn write(documents: &[&Document], path: &Path) -> std::io::Result<()> {
    std::fs::write(path, reports(documents))
}

pub fn write_comparisons(comparisons: &[Comparison], path: &Path) -> std::io::Result<()> {
    std::fs::write(path, comparison::page(comparisons))
}

fn reports(documents: &[&Document]) -> String {
    let mut body = String::new();
    let many = documents.len() > 1;
    if many {
        body.push_str(&contents(documents));
    }
    for (index, document) in documents.iter().enumerate() {
        body.push_str(&article(document, index));
    }
    let title = match documents {
        [one] => format!("{} · {}", one.name(), one.scenario),
        _ => format!("{} load tests", documents.len()),
    };
    let shown: Vec<_> = documents.iter().map(|d| (d.name(), 0, *d)).collect();
    page(&title, &body, &shown)
}

/// The frame of every page, with the reports that its plots show: name, colour, report.
fn page(title: &str, body: &str, shown: &[(&str, usize, &Document)]) -> String {
    let data: Vec<_> = shown
        .iter()
        .map(|(name, color, document)| {
            json!({
                "name": name,
                "color": color,
                "timeline": document.timeline,
                "distributions": document.distributions,
            })
        })
        .collect();
    let script = include_str!("page.js").replace("//CHARTS//", include_str!("charts.js"));
    let data = embedded(&json!(data).to_string());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"{tool}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Made by {tool}. This file needs no network.</footer>\n</main>\n\
         <script type=\"application/json\" id=\"reports\">{data}</script>\n\
         <script>\n{script}</script>\n</body>\n</html>\n",
        tool = concat!("encke-loadtest ", env!("CARGO_PKG_VERSION")),
        title = escape(title),
        style = include_str!("page.css"),
    )
}

/// The list at the head of a page of many reports.
fn contents(documents: &[&Document]) -> String {
    let mut rows = String::new();
    for (index, document) in documents.iter().enumerate() {
        let names: Vec<_> = document.median.keys().map(String::as_str).collect();
        let figures: Vec<_> = metrics::headline(&names)
            .into_iter()
            .take(3)
            .filter_map(|name| {
                let value = document.median.get(name)?.as_f64()?;
                let value = with_unit(value, document.unit(name));
                Some(format!(
                    "{} <span class=\"soft\">{}</span>",
                    escape(&value),
                    escape(name)
                ))
            })
            .collect();
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\"><a href=\"#report-{index}\">{}</a></th><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            escape(document.name()),
            escape(&document.scenario),
            figures.join(" · "),
            errors_in_a_word(document),
        );
    }
    format!(
        "<nav class=\"bundle\"><p class=\"eyebrow\">encke-loadtest</p><h1>{} load tests</h1>\
         <h2>Contents</h2><div class=\"card scroll\"><table><tbody>{rows}</tbody></table></div>\
         </nav>\n",
        documents.len()
    )
}

fn errors_in_a_word(document: &Document) -> String {
    match document.error_count() {
        0 => "<span class=\"better\">no errors</span>".to_owned(),
        count => format!(
            "<span class=\"worse\">{} errors</span>",
            grouped(count as f64)
        ),
    }
}

fn article(document: &Document, index: usize) -> String {
    let mut text = format!("<article id=\"report-{index}\">\n");
    text.push_str(&header(document));
    text.push_str(&tiles(document));
    let points = document.timeline.columns.get("at").map_or(0, Vec::len);
    if points < POINTS_MIN {
        text.push_str("<p class=\"lead\">There is nothing to plot: the run was too short.</p>\n");
    } else {
        let _ = writeln!(
            text,
            "<section><h2>Plots</h2><div class=\"charts\" data-report=\"{index}\">\
             <noscript>The plots need JavaScript; the figures below do not.</noscript></div>\
             </section>"
        );
    }
    text.push_str(&facts::errors(document));
    text.push_str(&table(document));
    text.push_str(&facts::notes(document));
    text.push_str(&facts::facts(document));
    text.push_str("</article>\n");
    text
}

/// Fewer make no line.
const POINTS_MIN: usize = 3;

fn header(document: &Document) -> String {
    let mut parts = facts::load(document);
    if document.runs.len() > 1 {
        parts.push(format!("medians of {} runs", document.runs.len()));
    }
    parts.push(document.machine.kernel.clone());
    parts.push(date(document.unix_time));
    if document.seconds > 0.0 {
        parts.push(format!("took {}", duration(document.seconds)));
    }
    let parts: String = parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(|part| format!("<span>{}</span>", escape(part)))
        .collect();
    let title = document
        .label
        .as_deref()
        .or(document.server.version.as_deref());
    format!(
        "<header><p class=\"eyebrow\">encke-loadtest · {}</p><h1>{}</h1>\
         <p class=\"lead\">{parts}</p>{}</header>\n",
        escape(&document.scenario),
        escape(title.unwrap_or("Load test")),
        badges(document),
    )
}

fn badges(document: &Document) -> String {
    let mut badges = String::new();
    let mut badge = |class: &str, text: &str| {
        let _ = write!(
            badges,
            "<span class=\"badge {class}\">{}</span>",
            escape(text)
        );
    };
    match document.error_count() {
        0 => badge("", "✓ no errors"),
        1 => badge("bad", "✕ 1 error"),
        count => badge("bad", &format!("✕ {} errors", grouped(count as f64))),
    }
    if document.median.is_empty() {
        badge("bad", "nothing was measured");
    }
    if document.interrupted {
        badge("bad", "interrupted");
    }
    format!("<div class=\"badges\">{badges}</div>")
}

fn tiles(document: &Document) -> String {
    let names: Vec<_> = document.median.keys().map(String::as_str).collect();
    let mut tiles = String::new();
    for name in metrics::headline(&names) {
        let Some(value) = document.median[name].as_f64() else {
            continue;
        };
        let base = document.unit(name);
        let (number, unit) = scaled(value, base);
        let values = document.values(name);
        let range = if values.len() > 1 {
            let (low, high) = metrics::bounds(&values);
            let (low, high) = (with_unit(low, base), with_unit(high, base));
            format!("{low} – {high}")
        } else {
            String::new()
        };
        let _ = writeln!(
            tiles,
            "<div class=\"tile\"><span class=\"name\">{}</span><span class=\"value\">{} \
             <span class=\"unit\">{}</span></span><span class=\"range\">{}</span></div>",
            escape(name),
            escape(&number.replace('-', "−")),
            escape(unit),
            escape(&range),
        );
    }
    // Rows that are full, as far as the number allows.
    let columns = match tiles.matches("class=\"tile\"").count() {
        0 => return String::new(),
        few @ 1..=5 => few,
        6 => 3,
        _ => 4,
    };
    format!("<section class=\"tiles\" style=\"--columns: {columns}\">\n{tiles}</section>\n")
}

/// All figures, of all runs.
fn table(document: &Document) -> String {
    if document.median.is_empty() {
        return String::new();
    }
    let many = document.runs.len() > 1;
    let mut head = String::from("<th scope=\"col\">Figure</th>");
    if many {
        for run in 1..=document.runs.len() {
            let _ = write!(head, "<th scope=\"col\" class=\"number\">run {run}</th>");
        }
    }
    let value_head = if many { "median" } else { "value" };
    let _ = write!(
        head,
        "<th scope=\"col\" class=\"number\">{value_head}</th><th></th>"
    );
    let mut rows = String::new();
    let cell = |value: Option<f64>, class: &str| {
        let shown = value.map_or_else(|| "–".to_owned(), grouped);
        format!("<td class=\"number {class}\">{}</td>", escape(&shown))
    };
    for (name, median) in &document.median {
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", escape(name));
        if many {
            for run in &document.runs {
                rows.push_str(&cell(run.get(name).and_then(serde_json::Value::as_f64), ""));
            }
        }
        rows.push_str(&cell(median.as_f64(), "strong"));
        let _ = writeln!(
            rows,
            "<td class=\"soft\">{}</td></tr>",
            escape(document.unit(name))
        );
    }
    format!(
        "<section><h2>All figures</h2><div class=\"card scroll\"><table><thead><tr>{head}</tr>\
         </thead><tbody>\n{rows}</tbody></table></div></section>\n"
    )
}

/// Text for between tags and for attributes in quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Controls have no look of their own, and some are not allowed in a page.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON for inside of a script: nothing in it can end the script.
fn embedded(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</script><script>alert('1')</script>\u{1b}\"&";

    fn document() -> Document {
        serde_json::from_value(json!({
            "tool": "encke-loadtest 0.1.0", "scenario": HOSTILE, "unix_time": 1_700_000_000,
            "label": HOSTILE, "commit": HOSTILE, "command": HOSTILE,
            "server": { "pid": 1, "command": HOSTILE, "version": HOSTILE },
            "machine": { "cpu": HOSTILE, "kernel": HOSTILE, "system": HOSTILE },
            "options": { HOSTILE: HOSTILE, "tls": HOSTILE },
            "units": { HOSTILE: HOSTILE },
            "median": { HOSTILE: 5.0, "latency p99": 1250.0 },
            "runs": [{ HOSTILE: 5.0 }, { HOSTILE: 6.0 }],
            "errors": [{ "kind": HOSTILE, "count": 3, "example": HOSTILE }],
            "notes": [HOSTILE],
            "distributions": [{ "name": HOSTILE, "count": 1, "min": 1, "mean": 1.0, "max": 1,
                "quantiles": [[0.5, 1]] }],
            "timeline": { "interval_seconds": 1.0, "units": {}, "columns": { "at": [1.0] },
                "phases": [{ "name": HOSTILE, "run": 1, "from": 0.0, "to": 1.0 }] },
        }))
        .unwrap()
    }

    fn harmless(page: &str) {
        assert_eq!(page.matches("<script").count(), 2, "no script but our own");
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("alert('1')</"));
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn nothing_that_a_server_said_becomes_markup() {
        let document = document();
        harmless(&reports(&[&document]));
        harmless(&reports(&[&document, &document]));
        let documents = [document.clone(), document];
        let comparisons = compare::comparisons(&documents, &["a<b>".into(), HOSTILE.into()]);
        harmless(&comparison::page(&comparisons));
        let mut documents = documents;
        documents[1].scenario = "another".to_owned();
        let comparisons = compare::comparisons(&documents, &["a<b>".into(), HOSTILE.into()]);
        assert_eq!(comparisons.len(), 2);
        harmless(&comparison::page(&comparisons));
    }

    #[test]
    fn a_page_asks_the_network_for_nothing() {
        let page = reports(&[&document()]);
        for word in [
            "src=",
            "@import",
            "url(",
            "fetch(",
            "<link rel=\"stylesheet\"",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        let links = page.matches("http").count();
        assert_eq!(links, 1, "the name of the SVG namespace only");
    }

    #[test]
    fn the_embedded_report_is_still_the_same() {
        let text = json!([HOSTILE, "<!--"]).to_string();
        let embedded = embedded(&text);
        assert!(!embedded.contains('<'));
        let again: serde_json::Value = serde_json::from_str(&embedded).unwrap();
        assert_eq!(again, json!([HOSTILE, "<!--"]));
    }

    #[test]
    fn a_report_without_anything_has_a_page() {
        let least: Document = serde_json::from_value(json!({
            "tool": "encke-loadtest 0.1.0", "scenario": "chat", "unix_time": 1,
            "median": {}, "runs": [],
        }))
        .unwrap();
        assert!(reports(&[&least]).contains("nothing to plot"));
    }
}
