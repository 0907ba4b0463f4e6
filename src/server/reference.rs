//! The sample file and the reference page, made from the rows.

use std::fmt::Write as _;

use super::options::{Change, ROWS, Row};

/// A configuration file with every option, commented out, at its default.
pub fn sample() -> String {
    let mut out = String::from(SAMPLE_HEAD);
    let mut table = "";
    for row in ROWS {
        let (of, key) = row.place();
        if of != table {
            table = of;
            let _ = write!(out, "\n[{table}]\n");
        }
        let _ = write!(out, "\n# {}\n", row.text);
        let _ = writeln!(out, "# {}; {}.", row.kind.describe(), when(row));
        let value = match (row.example, row.default()) {
            ("", default) if default.is_empty() => "\"\"".into(),
            ("", default) => default,
            (example, _) => example.into(),
        };
        // The one line that everybody must change is the one that is not a comment.
        let mark = if row.name == "domain" { "" } else { "# " };
        let _ = writeln!(out, "{mark}{key} = {value}");
    }
    out
}

/// The page `docs/options.md`.
pub fn reference() -> String {
    let mut out = String::from(REFERENCE_HEAD);
    let mut table = "-";
    for row in ROWS {
        let (of, _) = row.place();
        if of != table {
            table = of;
            let title = if table.is_empty() {
                "At the top".into()
            } else {
                format!("`[{table}]`")
            };
            let _ = write!(out, "\n## {title}\n\n");
            out.push_str("| option | type | default | takes effect | |\n|---|---|---|---|---|\n");
        }
        let default = match row.default() {
            none if none.is_empty() => "none".into(),
            default => format!("`{default}`"),
        };
        let kind = row.kind.describe().replace('|', "\\|");
        let name = row.name;
        let _ = writeln!(
            out,
            "| `{name}` | {kind} | {default} | {} | {} |",
            when(row),
            row.text
        );
    }
    out
}

fn when(row: &Row) -> &'static str {
    match row.change {
        Change::Live => "on reload",
        Change::Restart => "on restart",
    }
}

const SAMPLE_HEAD: &str = "\
# The configuration of encke. `encke config sample` prints this file, `encke check` tests yours.
# Only the domain is needed. Every other line shows the default, or an example where there is none.
# An environment variable overrides any option: ENCKE__LISTEN__C2S=\"0.0.0.0:5222,[::]:5222\".
";

const REFERENCE_HEAD: &str = "\
# Options

Made from the rows in `src/server/options.rs` by `encke config reference`; do not edit.

The configuration is a TOML file: the one named by `--config`, else `./encke.toml`. An option
`table.key` can be overridden by the environment variable `ENCKE__TABLE__KEY` (lists separated by
commas), or by `ENCKE__TABLE__KEY_FILE`, which names a file that holds the value. `encke config
show` tells what is in force and why. *On reload* means with SIGHUP.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fresh(path: &str, made: &str, command: &str) {
        let root = env!("CARGO_MANIFEST_DIR");
        let kept = std::fs::read_to_string(format!("{root}/{path}")).unwrap_or_default();
        assert!(
            kept == made,
            "{path} is stale: cargo run -q -- {command} > {path}"
        );
    }

    #[test]
    fn the_kept_reference_is_fresh() {
        fresh("docs/options.md", &reference(), "config reference");
    }

    #[test]
    fn the_kept_sample_is_fresh() {
        fresh("packaging/encke.toml", &sample(), "config sample");
    }

    /// Somebody will uncomment a line and expect it to be accepted.
    #[test]
    fn the_sample_is_accepted_with_every_line_uncommented() {
        for row in ROWS {
            let text = match (row.example, row.default()) {
                ("", default) => default,
                (example, _) => example.into(),
            };
            if text.is_empty() {
                continue;
            }
            let value = toml::de::DeValue::parse(&text).expect(row.name);
            row.kind.read_toml(value.get_ref()).expect(row.name);
        }
    }
}
