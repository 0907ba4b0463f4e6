//! The rules of the architecture guide that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use encke::features::FEATURES;

/// The table of the guide, part (b): a layer and what it may import besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("xmpp", &["base"]),
    ("transport", &["base", "xmpp"]),
    ("stream", &["base", "xmpp"]),
    ("store", &["base", "xmpp"]),
    ("session", &["base", "xmpp", "transport", "store"]),
    ("features", &["base", "xmpp", "store", "session"]),
    (
        "engine",
        &[
            "base",
            "xmpp",
            "transport",
            "stream",
            "store",
            "session",
            "features",
        ],
    ),
    ("outside", &["base", "xmpp", "store"]),
    ("io", &["base", "engine", "store", "outside"]),
    (
        "server",
        &[
            "base",
            "xmpp",
            "transport",
            "stream",
            "store",
            "session",
            "features",
            "engine",
            "outside",
            "io",
        ],
    ),
    (
        "testing",
        &["base", "xmpp", "stream", "store", "session", "engine"],
    ),
];

/// Parts of the store that a layer above it may not see: what runs on threads.
const STORE_BACKENDS: &[&str] = &[
    "worker",
    "disk",
    "memory",
    "journal",
    "index",
    "files",
    "crash_files",
    "open",
    "database",
];
/// Layers that see I/O and may use them.
const ABOVE_BACKENDS: &[&str] = &["store", "io", "server", "testing"];

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;
/// Words that name nothing (guide, part (e)), as parts of identifiers that are defined.
const BANNED: &[&str] = &["manager", "helper", "util", "utils", "common", "misc"];
/// Names that look banned and say what they mean: whoever lay down gets up; the service manager is
/// systemd's own word.
const NAMES_ALLOWED: &[&str] = &["get_up", "tell_manager", "manager"];
/// Layers where no panic may be reachable.
const CAREFUL: &[&str] = &["transport", "stream", "xmpp"];

struct Source {
    path: String,
    layer: String,
    text: String,
}

impl Source {
    /// What is not for tests: unit tests end a file, or are in one of their own.
    fn code(&self) -> &str {
        if self.path.ends_with("tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        let marks = self.text.match_indices("#[cfg(test)]").map(|(at, _)| at);
        let is_end = |at: &usize| {
            let ahead: String = self.text[*at..].chars().take(160).collect();
            ahead.contains("mod tests")
        };
        let end = marks.into_iter().find(is_end).unwrap_or(self.text.len());
        &self.text[..end]
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !matches!(name.as_str(), "target" | "__pycache__")
            && !name.starts_with('.')
        {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join("src"), "rs", &mut paths);
    paths.sort();
    let source = |path: PathBuf| {
        let short = path
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let layer = short
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .unwrap()
            .to_owned();
        Source {
            text: std::fs::read_to_string(&path).unwrap(),
            path: short,
            layer,
        }
    };
    paths.into_iter().map(source).collect()
}

fn report(faults: &[String]) {
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Everything after `crate::` up to the end of the path, for each import or path in code.
fn crate_paths(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .flat_map(|(at, line)| {
            let starts = line.match_indices("crate::").map(|(start, _)| start);
            let whole = starts.filter(|start| {
                let before = line[..*start].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$')
            });
            whole.map(move |start| (at + 1, &line[start + "crate::".len()..]))
        })
}

#[test]
fn every_layer_imports_only_what_it_may() {
    let mut faults = Vec::new();
    for source in sources() {
        let allowed = LAYERS.iter().find(|(layer, _)| *layer == source.layer);
        let Some((_, allowed)) = allowed else {
            if !matches!(source.layer.as_str(), "lib" | "main") {
                faults.push(format!("{}: a layer that the table lacks", source.path));
            }
            continue;
        };
        for (line, path) in crate_paths(source.code()) {
            let mut parts = path.split("::").map(|part| {
                part.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default()
            });
            let layer = parts.next().unwrap_or_default();
            let inside = parts.next().unwrap_or_default();
            if layer != source.layer && !allowed.contains(&layer) {
                faults.push(format!("{}:{line}: imports crate::{path}", source.path));
            }
            let backend = layer == "store" && STORE_BACKENDS.contains(&inside);
            if backend && !ABOVE_BACKENDS.contains(&source.layer.as_str()) {
                faults.push(format!(
                    "{}:{line}: sees a backend: crate::{path}",
                    source.path
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn no_feature_imports_another() {
    let mut faults = Vec::new();
    for source in sources() {
        if source.layer != "features" || source.path == "src/features/mod.rs" {
            continue;
        }
        for (at, line) in source.code().lines().enumerate() {
            let sibling = line.strip_prefix("use super::").filter(|rest| {
                rest.starts_with(|c: char| c.is_lowercase())
                    && source.path.matches('/').count() == 2
            });
            let absolute = line.contains("crate::features::")
                && line
                    .split("crate::features::")
                    .nth(1)
                    .unwrap()
                    .starts_with(char::is_lowercase);
            if sibling.is_some() || absolute {
                faults.push(format!("{}:{}: {line}", source.path, at + 1));
            }
        }
    }
    report(&faults);
}

#[test]
fn files_and_lines_are_short() {
    let mut faults = Vec::new();
    let mut paths = Vec::new();
    for folder in [
        "src",
        "tests",
        "benches",
        "fuzz/fuzz_targets",
        "loadtest/src",
        "loadtest/tests",
        "tuning/src",
    ] {
        walk(&root().join(folder), "rs", &mut paths);
    }
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{name}: {lines} lines"));
        }
        for (at, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                faults.push(format!(
                    "{name}:{}: {} columns",
                    at + 1,
                    line.chars().count()
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn names_come_from_the_glossary() {
    let mut faults = Vec::new();
    let definitions = [
        "fn ", "struct ", "enum ", "mod ", "trait ", "type ", "const ", "static ",
    ];
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            let code = line.trim_start();
            let code = code.strip_prefix("pub ").unwrap_or(code);
            let Some(name) = definitions.iter().find_map(|word| code.strip_prefix(word)) else {
                continue;
            };
            let name = name
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap();
            if NAMES_ALLOWED.contains(&name) {
                continue;
            }
            let words = words(name);
            let banned = words.iter().any(|word| BANNED.contains(&word.as_str()));
            if banned
                || words.first().is_some_and(|word| word == "get")
                    && words.len() > 1
                    && words[1] != "mut"
            {
                faults.push(format!("{}:{}: {name}", source.path, at + 1));
            }
        }
    }
    report(&faults);
}

/// The words of `snake_case` or `CamelCase`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        let last = words.last_mut().unwrap();
        if c == '_' {
            words.push(String::new());
        } else if c.is_uppercase() && last.chars().next_back().is_some_and(char::is_lowercase) {
            words.push(c.to_lowercase().to_string());
        } else {
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn nothing_is_left_undone_and_nothing_panics_where_peers_reach() {
    let mut faults = Vec::new();
    let undone = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
    ];
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            if undone.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{}: {line}", source.path, at + 1));
            }
            if line.contains("TODO") && !line.contains('#') {
                faults.push(format!(
                    "{}:{}: a TODO without an issue",
                    source.path,
                    at + 1
                ));
            }
        }
        if !CAREFUL.contains(&source.layer.as_str()) {
            continue;
        }
        for (at, line) in source.code().lines().enumerate() {
            let panics = [".unwrap()", ".expect(", "panic!(", "unreachable!("];
            let comment = line.trim_start().starts_with("//");
            if !comment && panics.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    report(&faults);
}

/// XEPs that the conversations name, with the scripts that do.
fn scripted() -> BTreeMap<u16, BTreeSet<String>> {
    let mut paths = Vec::new();
    walk(&root().join("tests/scripts"), "xmpp", &mut paths);
    let mut found: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for comment in text.lines().filter(|line| line.starts_with('#')) {
            for (start, _) in comment.match_indices("XEP-") {
                if let Some(Ok(number)) = comment.get(start + 4..start + 8).map(str::parse) {
                    found.entry(number).or_default().insert(name.clone());
                }
            }
        }
    }
    found
}

#[test]
fn every_feature_has_a_conversation() {
    let scripted = scripted();
    let numbers = FEATURES
        .iter()
        .filter_map(|feature| feature.xep)
        .map(|xep| xep.number);
    let missing = numbers.filter(|number| !scripted.contains_key(number));
    let missing: Vec<String> = missing.map(|number| format!("XEP-{number:04}")).collect();
    report(&missing);
}

/// `docs/xeps.md` as it must be. `ENCKE_WRITE_DOCS=1 cargo test --test tidy` writes it.
#[test]
fn the_list_of_extensions_is_fresh() {
    let scripted = scripted();
    let mut xeps: Vec<_> = FEATURES.iter().filter_map(|feature| feature.xep).collect();
    xeps.sort_by_key(|xep| xep.number);
    xeps.dedup_by_key(|xep| xep.number);
    let mut text = String::from(
        "# Extensions\n\n\
         Generated from `features::FEATURES` and `tests/scripts`; `ENCKE_WRITE_DOCS=1 cargo test \
         --test tidy` writes it anew.\n\n\
         | XEP | version | conversations |\n|---|---|---|\n",
    );
    for xep in xeps {
        let scripts = scripted.get(&xep.number).into_iter().flatten();
        let scripts: Vec<String> = scripts.map(|name| format!("`{name}`")).collect();
        let number = format!("{:04}", xep.number);
        let link = format!("[{number}](https://xmpp.org/extensions/xep-{number}.html)");
        writeln!(
            text,
            "| {link} | {} | {} |",
            xep.version,
            scripts.join(", ")
        )
        .unwrap();
    }
    let path = root().join("docs/xeps.md");
    if std::env::var_os("ENCKE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/xeps.md is stale: ENCKE_WRITE_DOCS=1 cargo test --test tidy"
    );
}
