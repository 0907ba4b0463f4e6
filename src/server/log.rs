//! The log: lines made anywhere, written by a thread of its own.
//!
//! Nobody who logs waits for a device: what does not fit into the queue is counted and dropped.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry, reload};

use super::config::Config;
use crate::base::event::{Event, Level};
use crate::store::ShardId;

/// The way to the log thread. Clones write to the same log.
#[derive(Clone)]
pub struct Log {
    queue: Sender<Item>,
    shared: Arc<Shared>,
    level: reload::Handle<LevelFilter, Registry>,
}

struct Shared {
    /// Items that found the queue full.
    dropped: AtomicU64,
    form: AtomicU8,
    /// The least important level of engine events.
    level: AtomicU8,
}

enum Item {
    Line(String),
    Events(ShardId, Vec<Event>),
    Target(Target),
    Flush(Sender<()>),
}

enum Target {
    Stderr,
    Stdout,
    File(File),
}

/// Items that may wait for the log thread.
const QUEUE_ITEMS_MAX: usize = 8_192;
/// Characters of one value; the rest is cut.
const VALUE_CHARS_MAX: usize = 512;
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

const TEXT: u8 = 0;
const JSON: u8 = 1;

impl Log {
    /// Starts the log thread and takes over what this process logs.
    ///
    /// # Errors
    /// When the target cannot be opened, or the system gives no thread.
    pub fn start(config: &Config) -> io::Result<Self> {
        let target = open(&config.log_target)?;
        let (queue, items) = bounded(QUEUE_ITEMS_MAX);
        let shared = Arc::new(Shared {
            dropped: AtomicU64::new(0),
            form: AtomicU8::new(form(&config.log_format)),
            level: AtomicU8::new(level(&config.log_level) as u8),
        });
        let (filter, level) = reload::Layer::new(filter(&config.log_level));
        let layer = Lines {
            queue: queue.clone(),
            shared: shared.clone(),
        };
        let subscriber = Registry::default().with(layer.with_filter(filter));
        // Only tests start a second log in one process; the first one stays.
        let _ = tracing::subscriber::set_global_default(subscriber);
        let writer = Writer {
            items,
            target,
            shared: shared.clone(),
        };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            queue,
            shared,
            level,
        })
    }

    /// Takes the settings of `config`, and opens the target anew.
    ///
    /// # Errors
    /// When the target cannot be opened; nothing has changed then.
    pub fn configure(&self, config: &Config) -> io::Result<()> {
        let target = open(&config.log_target)?;
        self.shared
            .form
            .store(form(&config.log_format), Ordering::Relaxed);
        self.shared
            .level
            .store(level(&config.log_level) as u8, Ordering::Relaxed);
        let _ = self.level.reload(filter(&config.log_level));
        self.put(Item::Target(target));
        Ok(())
    }

    /// Takes what a shard has to tell and leaves `events` empty. Never waits.
    pub fn events(&self, shard: ShardId, events: &mut Vec<Event>) {
        let least = self.shared.level.load(Ordering::Relaxed);
        events.retain(|event| event.level() as u8 >= least);
        if !events.is_empty() {
            self.put(Item::Events(shard, std::mem::take(events)));
        }
    }

    /// Items that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits, within bounds, until what was logged is written.
    pub fn flush(&self) {
        let (done, written) = bounded(1);
        if self
            .queue
            .send_timeout(Item::Flush(done), FLUSH_TIMEOUT)
            .is_ok()
        {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn put(&self, item: Item) {
        if self.queue.try_send(item).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Makes lines of what is logged with `tracing`.
struct Lines {
    queue: Sender<Item>,
    shared: Arc<Shared>,
}

impl Layer<Registry> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, Registry>) {
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (name, list) = fields.named();
        let line = line(&self.shared, level, &name, &list);
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Fields {
    name: String,
    message: String,
    list: Vec<(&'static str, String)>,
}

impl Fields {
    /// The stable name is the field `name`, or the message where there is none.
    fn named(mut self) -> (String, Vec<(&'static str, String)>) {
        if self.name.is_empty() {
            return (self.message, self.list);
        }
        if !self.message.is_empty() {
            self.list.push(("text", self.message));
        }
        (self.name, self.list)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.into(),
            "name" => self.name = value.into(),
            name => self.list.push((name, value.into())),
        }
    }
}

struct Writer {
    items: Receiver<Item>,
    target: Target,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        let mut told = 0;
        while let Ok(item) = self.items.recv() {
            match item {
                Item::Line(line) => self.write(&line),
                Item::Events(shard, events) => {
                    for event in events {
                        let mut fields = event.fields();
                        fields.push(("shard", shard.to_string()));
                        let line = line(&self.shared, event.level(), event.name(), &fields);
                        self.write(&line);
                    }
                }
                Item::Target(target) => self.target = target,
                Item::Flush(done) => {
                    let _ = done.send(());
                }
            }
            let dropped = self.shared.dropped.load(Ordering::Relaxed);
            if dropped > told && self.items.is_empty() {
                let fields = [("count", (dropped - told).to_string())];
                let line = line(&self.shared, Level::Warn, "log-dropped", &fields);
                self.write(&line);
                told = dropped;
            }
        }
    }

    /// A log that cannot be written is nobody's reason to stop.
    fn write(&mut self, line: &str) {
        let _ = match &mut self.target {
            Target::Stderr => io::stderr().write_all(line.as_bytes()),
            Target::Stdout => io::stdout().write_all(line.as_bytes()),
            Target::File(file) => file.write_all(line.as_bytes()),
        };
    }
}

fn open(target: &str) -> io::Result<Target> {
    Ok(match target {
        "stderr" => Target::Stderr,
        "stdout" => Target::Stdout,
        path => Target::File(OpenOptions::new().create(true).append(true).open(path)?),
    })
}

fn form(word: &str) -> u8 {
    if word == "json" { JSON } else { TEXT }
}

fn level(word: &str) -> Level {
    match word {
        "error" => Level::Error,
        "warn" => Level::Warn,
        "debug" => Level::Debug,
        _ => Level::Info,
    }
}

fn filter(word: &str) -> LevelFilter {
    match level(word) {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    }
}

fn line(shared: &Shared, level: Level, name: &str, fields: &[(&'static str, String)]) -> String {
    let now = jiff::Timestamp::now();
    match shared.form.load(Ordering::Relaxed) {
        JSON => json_line(now, level, name, fields),
        _ => text_line(now, level, name, fields),
    }
}

fn text_line(
    now: jiff::Timestamp,
    level: Level,
    name: &str,
    fields: &[(&'static str, String)],
) -> String {
    let level = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN ",
        Level::Info => "INFO ",
        Level::Debug => "DEBUG",
    };
    let mut line = format!("{now:.3} {level} ");
    push_escaped(&mut line, name);
    for (field, value) in fields {
        let _ = write!(line, " {field}=");
        push_value(&mut line, value);
    }
    line.push('\n');
    line
}

fn json_line(
    now: jiff::Timestamp,
    level: Level,
    name: &str,
    fields: &[(&'static str, String)],
) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let mut object = serde_json::Map::new();
    object.insert("time".into(), format!("{now:.3}").into());
    object.insert("level".into(), level.into());
    object.insert("event".into(), name.into());
    for (field, value) in fields {
        object.insert((*field).into(), cut(value).into());
    }
    format!("{}\n", serde_json::Value::Object(object))
}

/// Plain where that is unmistakable, else in quotes.
fn push_value(line: &mut String, value: &str) {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"._:/@+-,[]%".contains(&octet);
    if !value.is_empty() && value.len() <= VALUE_CHARS_MAX && value.bytes().all(plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    push_escaped(line, value);
    line.push('"');
}

/// Names and addresses are strangers' text: no line break, no escape sequence, nothing that turns
/// the direction of writing reaches a terminal.
fn push_escaped(line: &mut String, value: &str) {
    for char in cut(value).chars() {
        match char {
            '"' | '\\' => line.extend(['\\', char]),
            ' '..='~' => line.push(char),
            char if char.is_alphanumeric() => line.push(char),
            char => line.extend(char.escape_unicode()),
        }
    }
}

fn cut(value: &str) -> &str {
    value
        .char_indices()
        .nth(VALUE_CHARS_MAX)
        .map_or(value, |(end, _)| &value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        let mut line = String::new();
        push_value(&mut line, value);
        line
    }

    #[test]
    fn strangers_cannot_write_lines_or_escape_sequences() {
        assert_eq!(text("romeo@example.net"), "romeo@example.net");
        assert_eq!(text("a b"), "\"a b\"");
        assert_eq!(text("a\nERROR \"x\""), r#""a\u{a}ERROR \"x\"""#);
        assert_eq!(text("\u{1b}[31m"), r#""\u{1b}[31m""#);
        assert_eq!(text("\u{202e}evil"), r#""\u{202e}evil""#);
        assert_eq!(text("müller"), "\"müller\"");
        assert_eq!(text(&"x".repeat(600)).len(), VALUE_CHARS_MAX + 2);
    }

    #[test]
    fn both_forms_say_the_same() {
        let now = jiff::Timestamp::from_millisecond(1_700_000_000_123).expect("a time");
        let fields = [
            ("account", "romeo@example.net".to_owned()),
            ("why", "a \"b\"".to_owned()),
        ];
        assert_eq!(
            text_line(now, Level::Info, "login-failed", &fields),
            "2023-11-14T22:13:20.123Z INFO  login-failed account=romeo@example.net \
             why=\"a \\\"b\\\"\"\n"
        );
        let json = json_line(now, Level::Info, "login-failed", &fields);
        let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(read["event"], "login-failed");
        assert_eq!(read["why"], "a \"b\"");
    }
}
