//! The page that lays runs over each other.

use std::fmt::Write as _;

use super::{errors_in_a_word, escape, facts, page as frame};
use crate::compare::{Comparison, NOISE_IN_WORDS, Row, letter, word};
use crate::document::Document;
use crate::format::{date, grouped};
use crate::metrics::{self, Verdict};

pub fn page(comparison: &Comparison) -> String {
    let names = &comparison.names;
    let title = names.join(" and ");
    let between = if names.len() == 2 { "against" } else { "·" };
    let mut body = format!(
        "<header><p class=\"eyebrow\">encke-loadtest · comparison</p><h1>{}</h1></header>\n",
        names
            .iter()
            .map(|name| escape(name))
            .collect::<Vec<_>>()
            .join(&format!(" <span class=\"soft\">{between}</span> ")),
    );
    body.push_str(&runs(comparison));
    body.push_str(&differences(comparison));
    body.push_str(&table(comparison));
    body.push_str(
        "<section><h2>Plots</h2><div class=\"charts\" data-compare>\
         <noscript>The plots need JavaScript; the figures do not.</noscript></div></section>\n",
    );
    for (name, document) in names.iter().zip(&comparison.documents) {
        let errors = facts::errors(document);
        if !errors.is_empty() {
            let _ = write!(body, "<h2>{}</h2>{errors}", escape(name));
        }
    }
    frame(&title, &body, &comparison.documents, names)
}

/// Which run is which.
fn runs(comparison: &Comparison) -> String {
    let mut rows = String::new();
    for (at, (name, document)) in comparison
        .names
        .iter()
        .zip(&comparison.documents)
        .enumerate()
    {
        let swatch = format!("style=\"background: var(--line-{})\"", at % 6 + 1);
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\"><span class=\"swatch\" {swatch}></span><b>{}</b> {}</th>\
             <td>{}</td><td class=\"soft\">{}</td><td>{}</td></tr>",
            letter(at),
            escape(name),
            escape(&about(document)),
            escape(&date(document.unix_time)),
            errors_in_a_word(document),
        );
    }
    format!(
        "<section><h2>Runs</h2><div class=\"card scroll\"><table><tbody>{rows}</tbody>\
         </table></div></section>\n"
    )
}

fn about(document: &Document) -> String {
    let mut parts = vec![document.scenario.clone()];
    parts.extend(facts::load(document));
    parts.extend(document.server.version.clone());
    parts.extend(document.commit.clone());
    parts.join(" · ")
}

fn differences(comparison: &Comparison) -> String {
    if comparison.differences.is_empty() {
        return String::new();
    }
    let items: String = comparison
        .differences
        .iter()
        .map(|(what, values)| {
            let values: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(at, value)| format!("<b>{}</b> {}", letter(at), escape(value)))
                .collect();
            format!("<li>{}: {}</li>\n", escape(what), values.join(", "))
        })
        .collect();
    format!(
        "<section><h2>What else differs</h2><div class=\"card\"><ul class=\"notes\">\n{items}</ul>\
         </div></section>\n"
    )
}

fn table(comparison: &Comparison) -> String {
    let mut head = String::from("<th scope=\"col\">Figure</th>");
    for at in 0..comparison.documents.len() {
        let _ = write!(
            head,
            "<th scope=\"col\" class=\"number\">{}</th>",
            letter(at)
        );
        if at > 0 {
            head.push_str("<th scope=\"col\" class=\"number\">against A</th><th></th>");
        }
    }
    head.push_str("<th></th>");
    let rows: String = comparison.rows.iter().map(row).collect();
    format!(
        "<section><h2>Figures</h2><div class=\"card scroll\"><table><thead><tr>{head}</tr></thead>\
         <tbody>\n{rows}</tbody></table></div><p class=\"lead\">Medians. A is the base. Better and \
         worse are said where it is known which way a figure improves; ~ is \
         {NOISE_IN_WORDS}.</p></section>\n"
    )
}

fn row(row: &Row) -> String {
    let mut text = format!("<tr><th scope=\"row\">{}", escape(&row.figure));
    if !row.unit.is_empty() {
        let _ = write!(text, "<span class=\"soft\">, {}</span>", escape(&row.unit));
    }
    text.push_str("</th>");
    for (at, value) in row.values.iter().enumerate() {
        let shown = value.map_or_else(|| "–".to_owned(), grouped);
        let _ = write!(text, "<td class=\"number strong\">{}</td>", escape(&shown));
        if let Some(difference) = at.checked_sub(1).and_then(|at| row.differences.get(at)) {
            let share = difference.share.map_or_else(String::new, metrics::percent);
            let class = match difference.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::Same | Verdict::None => "soft",
            };
            let word = word(difference.verdict);
            let _ = write!(
                text,
                "<td class=\"number {class}\">{share}</td><td class=\"{class}\">{word}</td>"
            );
        }
    }
    text.push_str("<td></td></tr>\n");
    text
}
