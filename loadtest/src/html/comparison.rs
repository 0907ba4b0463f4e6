//! The page that lays runs over each other.

use std::fmt::Write as _;

use super::{errors_in_a_word, escape, facts, page as frame};
use crate::compare::{Comparison, NOISE_IN_WORDS, Row, letter, word};
use crate::document::Document;
use crate::format::{date, grouped, with_unit};
use crate::metrics::{self, Better, Verdict};

pub fn page(comparisons: &[Comparison]) -> String {
    let mut labels: Vec<&str> = Vec::new();
    for name in comparisons.iter().flat_map(|comparison| &comparison.names) {
        if !labels.contains(&name.as_str()) {
            labels.push(name);
        }
    }
    let between = if labels.len() == 2 { "against" } else { "·" };
    let title: Vec<_> = labels.iter().map(|label| escape(label)).collect();
    let title = title.join(&format!(" <span class=\"soft\">{between}</span> "));
    let first = comparisons.first().and_then(|one| one.documents.first());
    let machine = first.map_or_else(String::new, |document| {
        let machine = &document.machine;
        format!("{}, {}", machine.cpu, machine.line())
    });
    let mut body = format!(
        "<header><p class=\"eyebrow\">encke-loadtest · comparison</p><h1>{title}</h1>\
         <p class=\"lead\">{}</p></header>\n",
        escape(&machine)
    );
    body.push_str(&match comparisons {
        [one] => headline_bars(one),
        many => cost_bars(many),
    });
    let mut shown = Vec::new();
    for (index, comparison) in comparisons.iter().enumerate() {
        if comparisons.len() > 1 {
            let title = escape(&comparison.title);
            let _ = write!(
                body,
                "<article class=\"load\" id=\"load-{index}\"><h1>{title}</h1>"
            );
        }
        body.push_str(&section(comparison, shown.len()));
        if comparisons.len() > 1 {
            body.push_str("</article>\n");
        }
        let reports = comparison
            .names
            .iter()
            .zip(&comparison.colors)
            .zip(&comparison.documents);
        shown.extend(reports.map(|((name, color), document)| (name.as_str(), *color, *document)));
    }
    frame(&labels.join(" and "), &body, &shown)
}

/// One comparison; the plots show the reports of the page from `first` on.
fn section(comparison: &Comparison, first: usize) -> String {
    let mut body = runs(comparison);
    body.push_str(&differences(comparison));
    body.push_str(&table(comparison));
    let end = first + comparison.documents.len();
    let _ = writeln!(
        body,
        "<section><h2>Plots</h2><div class=\"charts\" data-compare=\"{first}-{end}\">\
         <noscript>The plots need JavaScript; the figures do not.</noscript></div></section>"
    );
    for (name, document) in comparison.names.iter().zip(&comparison.documents) {
        let errors = facts::errors(document);
        if !errors.is_empty() {
            let _ = write!(body, "<h2>{}</h2>{errors}", escape(name));
        }
    }
    body
}

/// What a unit of work costs, load by load.
fn cost_bars(comparisons: &[Comparison]) -> String {
    let cards = comparisons
        .iter()
        .enumerate()
        .filter_map(|(index, comparison)| {
            let figures: Vec<_> = comparison
                .rows
                .iter()
                .map(|row| row.figure.as_str())
                .collect();
            let cost = metrics::cost(&figures)?;
            let title = escape(&comparison.title);
            let title = format!("<a href=\"#load-{index}\">{title}</a>");
            let about = format!("{}. {}", escape(cost), way(cost));
            Some(bars(comparison, cost, &title, &about))
        });
    glance(&cards.collect::<String>())
}

/// The headline figures of one comparison.
fn headline_bars(comparison: &Comparison) -> String {
    let figures: Vec<_> = comparison
        .rows
        .iter()
        .map(|row| row.figure.as_str())
        .collect();
    let cards = metrics::headline(&figures)
        .into_iter()
        .map(|figure| bars(comparison, figure, &escape(figure), way(figure)));
    glance(&cards.collect::<String>())
}

fn way(figure: &str) -> &'static str {
    match metrics::better(figure) {
        Better::Less => "Less is better.",
        Better::More => "More is better.",
        Better::Neither => "",
    }
}

fn glance(cards: &str) -> String {
    format!("<section><h2>At a glance</h2><div class=\"charts\">\n{cards}</div></section>\n")
}

/// One figure of all reports, as bars from zero. Title and text are markup already.
fn bars(comparison: &Comparison, figure: &str, title: &str, about: &str) -> String {
    let Some(row) = comparison.rows.iter().find(|row| row.figure == figure) else {
        return String::new();
    };
    let most = row.values.iter().flatten().copied().fold(0.0, f64::max);
    let mut lines = String::new();
    for ((name, value), color) in comparison
        .names
        .iter()
        .zip(&row.values)
        .zip(&comparison.colors)
    {
        let share = value.map_or(0.0, |value| value.max(0.0) / most.max(f64::MIN_POSITIVE));
        let shown = value.map_or_else(|| "–".to_owned(), |value| with_unit(value, &row.unit));
        let _ = writeln!(
            lines,
            "<span class=\"name\">{}</span><span class=\"bar\" style=\"width: {:.1}%; \
             background: var(--line-{})\"></span><span class=\"value\">{}</span>",
            escape(name),
            share * 100.0,
            color % 6 + 1,
            escape(&shown),
        );
    }
    format!(
        "<figure><figcaption><h3>{title}</h3><p class=\"about\">{about}</p></figcaption>\
         <div class=\"bars\">\n{lines}</div></figure>\n"
    )
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
        let swatch = format!(
            "style=\"background: var(--line-{})\"",
            comparison.colors[at] % 6 + 1
        );
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
