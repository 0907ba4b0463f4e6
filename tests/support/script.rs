//! Conversations in readable XML: `tests/scripts/README` says how they are written.

use std::path::{Path, PathBuf};

/// A conversation.
#[derive(Debug)]
pub struct Script {
    pub path: PathBuf,
    /// XEPs it names, such as `0280`.
    pub xeps: Vec<String>,
    pub limits: Vec<(String, u64)>,
    pub steps: Vec<Step>,
}

/// A step and its line.
#[derive(Debug)]
pub struct Step {
    pub line: usize,
    pub what: What,
}

/// What happens in a step.
#[derive(Debug)]
pub enum What {
    /// Logs in, sends initial presence, and forgets what came.
    Online(Vec<String>),
    /// Binds; no presence.
    Login(Vec<String>),
    /// Authenticates; no resource.
    Auth(String),
    /// Only the link and the headers.
    Open(String),
    /// Only the link.
    Connect(String),
    Sends {
        who: String,
        text: String,
        times: usize,
    },
    Gets {
        who: String,
        xml: String,
        order: Order,
    },
    GetsNothing(String),
    GetsEnd(String),
    Skips(String),
    Cut(String),
    Closed(String),
    /// Virtual time only.
    Advance(u64),
    /// A power cut. Virtual time only.
    Crash,
    /// SIGTERM and a new start. Virtual time only.
    Stop,
}

/// Whether elements come as they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Listed,
    Any,
}

impl Script {
    /// Whether it needs a clock or a process of its own.
    pub fn is_virtual(&self) -> bool {
        let special =
            |step: &Step| matches!(step.what, What::Advance(_) | What::Crash | What::Stop);
        self.steps.iter().any(special)
    }

    /// Bare JIDs that must exist.
    pub fn accounts(&self) -> Vec<String> {
        let mut names: Vec<String> = ["romeo", "juliet", "nurse", "mercutio"]
            .map(|local| format!("{local}@localhost"))
            .to_vec();
        for step in &self.steps {
            if let What::Online(who) | What::Login(who) = &step.what {
                names.extend(who.iter().map(|name| format!("{}@localhost", local(name))));
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Reads a script.
    ///
    /// # Panics
    /// With file and line when it is not one.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut script = Self {
            path: path.into(),
            xeps: Vec::new(),
            limits: Vec::new(),
            steps: Vec::new(),
        };
        for (line, statement) in statements(&text) {
            if let Some(comment) = statement.strip_prefix('#') {
                let words = comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                let xeps = words.filter_map(|word| word.strip_prefix("XEP-"));
                script.xeps.extend(xeps.map(str::to_owned));
                continue;
            }
            if let Some(limits) = statement.strip_prefix("limits ") {
                for limit in limits.split_whitespace() {
                    let (name, value) = limit.split_once('=').unwrap();
                    script.limits.push((name.into(), value.parse().unwrap()));
                }
                continue;
            }
            let what = parse(&statement);
            let what = what.unwrap_or_else(|| panic!("{}:{line}: {statement}", path.display()));
            script.steps.push(Step { line, what });
        }
        script
    }
}

/// The localpart of a client's name.
pub fn local(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

/// A statement begins at the left; what is indented goes on with it.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match (line.starts_with([' ', '\t']), found.last_mut()) {
            (true, Some((_, statement))) => {
                // A tag that goes on needs its space, elements that follow do not.
                if !(statement.ends_with('>') || statement.ends_with(':')) {
                    statement.push(' ');
                }
                statement.push_str(line.trim());
            }
            _ => found.push((at + 1, line.trim_end().to_owned())),
        }
    }
    found
}

fn parse(statement: &str) -> Option<What> {
    let names = |rest: &str| rest.split_whitespace().map(str::to_owned).collect();
    let (first, rest) = statement.split_once(' ').unwrap_or((statement, ""));
    match first {
        "online" => return Some(What::Online(names(rest))),
        "login" => return Some(What::Login(names(rest))),
        "auth" => return Some(What::Auth(rest.into())),
        "open" => return Some(What::Open(rest.into())),
        "connect" => return Some(What::Connect(rest.into())),
        "advance" => return rest.parse().ok().map(What::Advance),
        "crash" => return Some(What::Crash),
        "stop" => return Some(What::Stop),
        "repeat" => {
            let (times, rest) = rest.split_once(' ')?;
            let (who, text) = rest.split_once(':')?;
            let (who, text) = (who.into(), text.trim().into());
            return Some(What::Sends {
                who,
                text,
                times: times.parse().ok()?,
            });
        }
        _ => {}
    }
    if let Some(who) = first.strip_suffix(':') {
        return Some(What::Sends {
            who: who.into(),
            text: rest.into(),
            times: 1,
        });
    }
    let who = first.to_owned();
    if let Some(xml) = rest.strip_prefix("gets in any order:") {
        return Some(What::Gets {
            who,
            xml: xml.into(),
            order: Order::Any,
        });
    }
    if let Some(xml) = rest.strip_prefix("gets:") {
        return Some(What::Gets {
            who,
            xml: xml.into(),
            order: Order::Listed,
        });
    }
    match rest {
        "gets nothing" => Some(What::GetsNothing(who)),
        "gets the end" => Some(What::GetsEnd(who)),
        "skips" => Some(What::Skips(who)),
        "is cut" => Some(What::Cut(who)),
        "is closed" => Some(What::Closed(who)),
        _ => None,
    }
}
