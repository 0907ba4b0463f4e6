//! Scenario files: TOML whose keys are the options of a kind, under the same names.
//!
//! The options of the command line are the only table of keys: a file is turned into options, so
//! that both are parsed, checked and documented in one place.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Args, Command, FromArgMatches, Subcommand};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::{ConnectArgs, ReportArgs, RunArgs, ScenariosArgs};
use crate::kinds::Kind;

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),+]
    };
}

/// The scenarios that come with the program.
const SHIPPED: &[(&str, &str)] = shipped![
    "idle",
    "idle-tls",
    "login",
    "login-storm",
    "chat",
    "chat-window-16",
    "chat-open",
    "presence",
    "offline",
    "reconnect",
    "reconnect-resume",
    "server-restart",
    "churn",
    "mixed",
    "websocket-idle",
    "websocket-chat",
    "bosh-chat",
    "json-idle",
    "json-chat",
    "events-idle",
    "events-chat",
    "broadcast",
];

/// Aiming at somebody else's machine must not hide in a file.
const COMMAND_LINE_ONLY: &[&str] = &["i_own_the_target"];
/// How like a name must be to be proposed.
const ALIKE: f64 = 0.55;

/// Reads a scenario and what the command line says about it.
///
/// # Errors
/// Everything that is wrong with the file, one line each.
pub fn load(args: &RunArgs) -> Result<Kind, String> {
    let (place, text) = find(&args.scenario)?;
    let mut scenario = Scenario::read(&place, &text)?;
    let (set, options) = split_off_set(args);
    for setting in &set {
        scenario.set(setting);
    }
    scenario.finish(&args.scenario, &options)
}

/// Lists the scenarios, or shows one, or all keys.
///
/// # Errors
/// When there is no such scenario.
pub fn show(args: &ScenariosArgs) -> Result<(), String> {
    if args.keys {
        print!("{}", reference());
    } else if let Some(name) = &args.name {
        let found = SHIPPED.iter().find(|(shipped, _)| shipped == name);
        let (_, text) = found.ok_or_else(|| unknown_scenario(name))?;
        print!("{text}");
    } else {
        for (name, text) in SHIPPED {
            let first = text.lines().next().unwrap_or_default();
            say!("{name:18} {}", first.trim_start_matches(['#', ' ']));
        }
        say!("\nencke-loadtest scenarios NAME shows one; --keys shows what can be set.");
    }
    Ok(())
}

fn find(name: &str) -> Result<(String, String), String> {
    if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        return Ok((format!("{name} (shipped)"), (*text).to_owned()));
    }
    if !name.ends_with(".toml") && !Path::new(name).exists() {
        return Err(unknown_scenario(name));
    }
    let text = std::fs::read_to_string(name).map_err(|e| format!("{name}: {e}"))?;
    Ok((name.to_owned(), text))
}

fn unknown_scenario(name: &str) -> String {
    let hint = did_you_mean(name, SHIPPED.iter().map(|(name, _)| *name));
    format!("no scenario and no file is called {name}{hint} (`encke-loadtest scenarios` lists all)")
}

/// `--set` may stand anywhere; what follows the first other option is not looked at by the parser.
fn split_off_set(args: &RunArgs) -> (Vec<String>, Vec<String>) {
    let (mut set, mut options) = (args.set.clone(), Vec::new());
    let mut words = args.options.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--set") {
            Some("") => set.extend(words.next().cloned()),
            Some(rest) if rest.starts_with('=') => set.push(rest[1..].to_owned()),
            _ => options.push(word.clone()),
        }
    }
    (set, options)
}

/// A scenario on its way to becoming options.
struct Scenario {
    kind: Command,
    /// In the order given; a key that comes again replaces the former.
    given: Vec<(String, Option<String>)>,
    faults: Vec<String>,
}

/// The tables of a file beside its top: their keys are options that all kinds share.
const TABLES: &[&str] = &["connect", "report"];

impl Scenario {
    fn read(place: &str, text: &str) -> Result<Self, String> {
        let file = File { place, text };
        let table = DeTable::parse(text).map_err(|e| {
            let at = file.line(e.span().map_or(0, |span| span.start));
            let reason = e.message().lines().collect::<Vec<_>>().join(", ");
            format!("{at}: no TOML: {reason}")
        })?;
        let top = table.get_ref();
        let Some(kind) = top.get("kind") else {
            let kinds: Vec<String> = kinds().get_subcommands().map(name_of).collect();
            let kinds = kinds.join(", ");
            return Err(format!("{place}: `kind` is missing; it is one of {kinds}"));
        };
        let name = kind.get_ref().as_str().unwrap_or_default();
        let Some(command) = kinds().find_subcommand(name).cloned() else {
            let all: Vec<String> = kinds().get_subcommands().map(name_of).collect();
            let hint = did_you_mean(name, all.iter().map(String::as_str));
            let at = file.line(kind.span().start);
            return Err(format!("{at}: there is no kind {name:?}{hint}"));
        };
        let mut scenario = Self {
            kind: command,
            given: Vec::new(),
            faults: Vec::new(),
        };
        for (key, value) in in_order(top) {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("kind", _) => {}
                (name, DeValue::Table(table)) if TABLES.contains(&name) => {
                    for (key, value) in in_order(table) {
                        let at = file.line(key.span().start);
                        scenario.put(&at, Some(name), key.get_ref(), value.get_ref());
                    }
                }
                (name, DeValue::Table(_)) if !scenario.has(name) => {
                    let at = file.line(key.span().start);
                    let hint = did_you_mean(name, TABLES.iter().copied());
                    let fault = format!("{at}: there is no table [{name}]{hint}");
                    scenario.faults.push(fault);
                }
                (name, value) => {
                    let at = file.line(key.span().start);
                    scenario.put(&at, None, name, value);
                }
            }
        }
        Ok(scenario)
    }

    /// Whether the kind has such a key of its own.
    fn has(&self, key: &str) -> bool {
        let own = keys(&self.kind, None);
        own.iter().any(|arg| arg.get_id() == key)
    }

    /// `key=value` or `table.key=value`; the value is written as in TOML, or as it is.
    fn set(&mut self, setting: &str) {
        let at = format!("--set {setting}");
        let Some((key, value)) = setting.split_once('=') else {
            self.faults.push(format!("{at}: this is no key=value"));
            return;
        };
        let (table, key) = match key.trim().split_once('.') {
            Some((table, key)) => (Some(table), key),
            None => (table_of(key.trim()), key.trim()),
        };
        let line = format!("value = {}", value.trim());
        let parsed = DeTable::parse(&line).ok();
        let value = parsed.as_ref().and_then(|line| line.get_ref().get("value"));
        let text = DeValue::String(setting_text(setting).into());
        self.put(&at, table, key, value.map_or(&text, Spanned::get_ref));
    }

    fn put(&mut self, at: &str, table: Option<&str>, key: &str, value: &DeValue<'_>) {
        let known = keys(&self.kind, table);
        let full = table.map_or(key.to_owned(), |table| format!("{table}.{key}"));
        let Some(arg) = known.iter().find(|arg| arg.get_id() == key) else {
            let hint = match table_of(key).filter(|_| table.is_none()) {
                Some(table) => format!(": it belongs into the table [{table}]"),
                None => did_you_mean(key, known.iter().map(|arg| arg.get_id().as_str())),
            };
            let kind = self.kind.get_name();
            let fault = format!("{at}: {kind} has no key `{full}`{hint}");
            self.faults.push(fault);
            return;
        };
        if COMMAND_LINE_ONLY.contains(&key) {
            let fault = format!("{at}: `{key}` is said on the command line only");
            self.faults.push(fault);
            return;
        }
        match word(arg, value) {
            Ok(word) => {
                if let Some(fault) = word.as_deref().and_then(|word| self.check(word)) {
                    self.faults.push(format!("{at}: {full}: {fault}"));
                }
                self.given.retain(|(former, _)| former != key);
                self.given.push((key.to_owned(), word));
            }
            Err(fault) => self.faults.push(format!("{at}: {full}: {fault}")),
        }
    }

    /// What the parser says about one option, in a line.
    fn check(&self, word: &str) -> Option<String> {
        let kind = self.kind.clone();
        let error = kind.try_get_matches_from(["kind", word]).err()?;
        if error.kind() == clap::error::ErrorKind::MissingRequiredArgument {
            // It goes with another key; the whole will tell.
            return None;
        }
        let text = error.to_string();
        let lines = text.lines().map(str::trim);
        let said: Vec<&str> = lines
            .take_while(|line| !line.starts_with("For more") && !line.starts_with("Usage"))
            .filter(|line| !line.is_empty())
            .collect();
        Some(said.join(" ").trim_start_matches("error: ").to_owned())
    }

    /// The kind with its options, the command line last.
    fn finish(self, name: &str, options: &[String]) -> Result<Kind, String> {
        if !self.faults.is_empty() {
            return Err(self.faults.join("\nencke-loadtest: "));
        }
        let words = ["encke-loadtest run".to_owned(), name_of(&self.kind)];
        // An option that is a list would be added to that of the file instead of replacing it.
        let said = |key: &str| {
            options
                .iter()
                .any(|option| option_name(option).is_some_and(|name| name == key))
        };
        let given = self.given.into_iter().filter(|(key, _)| !said(key));
        let given = given.filter_map(|(_, word)| word);
        let words = words.into_iter().chain(given).chain(options.to_owned());
        let matches = kinds()
            .try_get_matches_from(words)
            .unwrap_or_else(|error| error.exit());
        let mut kind = Kind::from_arg_matches(&matches).map_err(|e| e.to_string())?;
        kind.report_mut().scenario = Some(name.to_owned());
        Ok(kind)
    }
}

/// The key that an option of the command line is for, if the word is an option.
fn option_name(word: &str) -> Option<String> {
    let long = word.strip_prefix("--")?;
    let name = long.split('=').next()?;
    Some(name.replace('-', "_"))
}

/// A value as the one word of the command line; none for a flag that is not set.
fn word(arg: &Arg, value: &DeValue<'_>) -> Result<Option<String>, String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            DeValue::Boolean(true) => Ok(Some(format!("--{long}"))),
            DeValue::Boolean(false) => Ok(None),
            _ => Err("it is true or false".to_owned()),
        };
    }
    let text = match value {
        DeValue::Array(items) if arg.get_value_delimiter().is_some() => {
            let texts = items.iter().map(|item| scalar(item.get_ref()));
            texts.collect::<Result<Vec<_>, _>>()?.join(",")
        }
        value => scalar(value)?,
    };
    Ok(Some(format!("--{long}={text}")))
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().replace('_', "")),
        DeValue::Float(number) => Ok(number.as_str().replace('_', "")),
        _ => Err("it is a text or a number".to_owned()),
    }
}

/// The value of `key=value`, as it is.
fn setting_text(setting: &str) -> String {
    let value = setting.split_once('=').map_or("", |(_, value)| value);
    value.trim().to_owned()
}

struct File<'a> {
    place: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, octet: usize) -> String {
        let before = self.text.get(..octet).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        format!("{}:{line}", self.place)
    }
}

/// The parser sorts keys; people want faults in the order of their file.
fn in_order<'a, 'b>(
    table: &'a DeTable<'b>,
) -> Vec<(
    &'a Spanned<std::borrow::Cow<'b, str>>,
    &'a Spanned<DeValue<'b>>,
)> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

/// All kinds with their options, later ones overriding earlier ones.
fn kinds() -> Command {
    let command = Command::new("encke-loadtest run")
        .disable_help_subcommand(true)
        .args_override_self(true);
    Kind::augment_subcommands(command)
}

fn name_of(command: &Command) -> String {
    command.get_name().to_owned()
}

fn shared(table: &str) -> Vec<Arg> {
    let command = match table {
        "connect" => ConnectArgs::augment_args(Command::new("connect")),
        "report" => ReportArgs::augment_args(Command::new("report")),
        _ => return Vec::new(),
    };
    command.get_arguments().cloned().collect()
}

/// The table that a shared key belongs to.
fn table_of(key: &str) -> Option<&'static str> {
    let has = |table: &&&str| shared(table).iter().any(|arg| arg.get_id() == key);
    TABLES.iter().find(has).copied()
}

/// The keys of a table, or those of the kind itself.
fn keys(kind: &Command, table: Option<&str>) -> Vec<Arg> {
    match table {
        Some(table) => shared(table),
        None => {
            let own = kind.get_arguments().filter(|arg| {
                arg.get_long() != Some("help") && table_of(arg.get_id().as_str()).is_none()
            });
            own.cloned().collect()
        }
    }
}

fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let alike = known.map(|known| {
        let score = strsim::normalized_damerau_levenshtein(name, known);
        (score, known)
    });
    let best = alike.max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, known)) if score >= ALIKE => format!(", did you mean `{known}`?"),
        _ => String::new(),
    }
}

/// All keys as Markdown.
fn reference() -> String {
    let mut text = String::from(
        "# Keys of scenario files\n\nThe options of the program, under the same names: `kind = \
         \"idle\"` and `sessions = 500` are `encke-loadtest idle --sessions 500`. Made by \
         `encke-loadtest scenarios --keys`.\n",
    );
    for kind in kinds().get_subcommands() {
        let about = kind.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        let _ = write!(text, "\n## kind = \"{}\"\n\n{about}.\n\n", kind.get_name());
        rows(&mut text, &keys(kind, None));
    }
    for table in TABLES {
        let _ = write!(text, "\n## [{table}]\n\nFor all kinds.\n\n");
        rows(&mut text, &shared(table));
    }
    text
}

fn rows(text: &mut String, args: &[Arg]) {
    text.push_str("| key | default | meaning |\n|---|---|---|\n");
    for arg in args {
        let key = arg.get_id().as_str();
        if COMMAND_LINE_ONLY.contains(&key) {
            continue;
        }
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        let default = match arg.get_action() {
            ArgAction::SetTrue => "false".to_owned(),
            _ => defaults.join(","),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values = arg.get_possible_values();
        let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
        let choice = if values.is_empty() || matches!(arg.get_action(), ArgAction::SetTrue) {
            String::new()
        } else {
            format!(" One of {}.", values.join(", "))
        };
        let stop = if help.ends_with('.') { "" } else { "." };
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("`{default}`")
        };
        let _ = writeln!(text, "| `{key}` | {default} | {help}{stop}{choice} |");
    }
}

#[cfg(test)]
mod tests;
