//! The rows, as they are written in `table/`.

use std::fmt;

/// What belongs together: one file of `table/`.
#[derive(Clone, Debug)]
pub struct Concern {
    /// The file in `tuning/table/`.
    pub file: &'static str,
    pub settings: Vec<Setting>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Setting {
    /// A sysctl, an absolute path below `/sys`, `unit.LimitNOFILE`, or words for what is set by
    /// hand.
    pub name: &'static str,
    pub compare: Compare,
    /// One for each of [`SIZES`]; none where something is set by hand.
    values: Vec<&'static str>,
    pub clients: Clients,
    /// A counter that is 0 while the setting is in nobody's way.
    pub used: Option<&'static str>,
    pub need: Need,
    /// How it is set where no program here can.
    pub how: Option<&'static str>,
    pub grade: Grade,
    /// What happens while it is too low.
    pub low: &'static str,
    pub why: String,
    /// Before, after and the command, or why it was not measured.
    pub measured: String,
}

/// How a value must stand to the needed one. Numbers of a list are compared one by one, and `-`
/// among the needed ones means any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    AtLeast,
    /// The first number at most, the second at least.
    Covers,
    /// A list of ports and ranges that has all these.
    Contains,
    /// One of several words; the kernel puts the chosen one in brackets.
    OneOf,
    /// Only people can see it.
    ByHand,
}

/// Whether a row concerns machines that run the clients as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    Same,
    /// The needed numbers are twice as high with both ends on the machine.
    Double,
    /// It matters only there.
    Only,
}

/// When a written value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// At once.
    Nothing,
    /// With the next start of the server.
    Restart,
    /// In network namespaces that are made afterwards.
    Namespace,
    /// It cannot be written: it belongs on the kernel's command line.
    Reboot,
    /// A drop-in of the systemd unit, and a restart.
    Unit,
    /// People must do it.
    Hand,
}

/// What is at stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Connections are refused or lost.
    Limit,
    /// Work costs more than it need.
    Speed,
}

/// What the values are computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub sessions: u64,
    /// The clients run on the same machine, as they do in a load test.
    pub clients_here: bool,
}

/// A mistake in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: &'static str,
    pub line: usize,
    pub what: String,
}

/// The sizes that a row has values for. A server takes the first that is not smaller; the last
/// one serves all that are larger.
pub const SIZES: &[(&str, u64)] = &[
    ("10k", 10_000),
    ("100k", 100_000),
    ("1M", 1_000_000),
    ("2M", 2_000_000),
];

/// The files in the order in which they are applied: ports are reserved before the range grows.
const FILES: &[(&str, &str)] = &[
    (
        "descriptors.conf",
        include_str!("../table/descriptors.conf"),
    ),
    ("tcp-memory.conf", include_str!("../table/tcp-memory.conf")),
    ("backlog.conf", include_str!("../table/backlog.conf")),
    ("ports.conf", include_str!("../table/ports.conf")),
    ("hash-size.conf", include_str!("../table/hash-size.conf")),
    ("conntrack.conf", include_str!("../table/conntrack.conf")),
    ("huge-pages.conf", include_str!("../table/huge-pages.conf")),
    ("nic-queues.conf", include_str!("../table/nic-queues.conf")),
    (
        "busy-polling.conf",
        include_str!("../table/busy-polling.conf"),
    ),
    ("systemd.conf", include_str!("../table/systemd.conf")),
];

/// The whole table.
///
/// # Errors
/// A row that is not written as `tuning/README.md` says. A test reads all rows, so a released
/// program never sees one.
pub fn concerns() -> Result<Vec<Concern>, Fault> {
    FILES
        .iter()
        .map(|(file, text)| concern(file, text))
        .collect()
}

impl Setting {
    /// The file that holds the value, below the root; `None` where there is none.
    pub fn path(&self) -> Option<String> {
        match self.need {
            Need::Hand => None,
            Need::Unit => Some("proc/self/limits".into()),
            _ => Some(path_of(self.name)),
        }
    }

    /// The file of the counter that is 0 while the setting is in nobody's way.
    pub fn used_path(&self) -> Option<String> {
        self.used.map(path_of)
    }

    /// The needed value; `None` where the row does not concern this server.
    pub fn value(&self, server: Server) -> Option<String> {
        if self.clients == Clients::Only && !server.clients_here {
            return None;
        }
        let fits = SIZES.iter().position(|(_, size)| server.sessions <= *size);
        let value = self.values.get(fits.unwrap_or(SIZES.len() - 1))?;
        let factor = match self.clients {
            Clients::Double if server.clients_here => 2,
            _ => 1,
        };
        let scaled = |word: &str| match word.parse::<u64>() {
            Ok(number) => (number * factor).to_string(),
            Err(_) => word.to_owned(),
        };
        let words: Vec<String> = value.split_whitespace().map(scaled).collect();
        Some(words.join(" "))
    }
}

fn path_of(name: &str) -> String {
    match name.strip_prefix('/') {
        Some(path) => path.to_owned(),
        None => format!("proc/sys/{}", name.replace('.', "/")),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tuning/table/{}:{}: {}", self.file, self.line, self.what)
    }
}

/// The fields of a row while it is read. Continuation lines are joined by a space.
struct Row {
    name: &'static str,
    line: usize,
    fields: Vec<(&'static str, &'static str, String)>,
}

fn concern(file: &'static str, text: &'static str) -> Result<Concern, Fault> {
    let fault = |line: usize, what: String| Fault {
        file,
        line: line + 1,
        what,
    };
    let mut rows: Vec<Row> = Vec::new();
    for (line, written) in text.lines().enumerate() {
        let trimmed = written.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let header = written
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(name) = header {
            rows.push(Row {
                name,
                line,
                fields: Vec::new(),
            });
            continue;
        }
        let fields = rows.last_mut().map(|row| &mut row.fields);
        let fields = fields.ok_or_else(|| fault(line, "a field before the first row".into()))?;
        if written.starts_with(' ') {
            let (_, _, joined) = fields
                .last_mut()
                .ok_or_else(|| fault(line, "nothing is continued here".into()))?;
            *joined = format!("{joined} {trimmed}");
            continue;
        }
        let (key, value) = written
            .split_once('=')
            .ok_or_else(|| fault(line, format!("no `=` in `{written}`")))?;
        fields.push((key.trim(), value.trim(), value.trim().to_owned()));
    }
    let settings = rows
        .into_iter()
        .map(|row| setting(&row).map_err(|what| fault(row.line, format!("{}: {what}", row.name))));
    Ok(Concern {
        file,
        settings: settings.collect::<Result<_, _>>()?,
    })
}

fn setting(row: &Row) -> Result<Setting, String> {
    const KEYS: &[&str] = &[
        "compare", "clients", "used", "needs", "how", "grade", "low", "why", "measured",
    ];
    for (at, (key, ..)) in row.fields.iter().enumerate() {
        let known = KEYS.contains(key) || SIZES.iter().any(|(size, _)| size == key);
        if !known {
            return Err(format!("`{key}` is unknown"));
        }
        if row.fields[..at].iter().any(|(earlier, ..)| earlier == key) {
            return Err(format!("`{key}` comes twice"));
        }
    }
    let short = |key: &str| {
        let field = row.fields.iter().find(|(name, ..)| *name == key);
        field
            .map(|(_, value, _)| *value)
            .filter(|value| !value.is_empty())
    };
    let long = |key: &str| {
        let field = row.fields.iter().find(|(name, ..)| *name == key);
        let text = field.map(|(_, _, joined)| joined.trim().to_owned());
        text.filter(|text| !text.is_empty())
            .ok_or(format!("`{key}` is missing"))
    };
    let wrong = |key: &str, value: &str| format!("`{key} = {value}` is not known");
    let compare = match short("compare") {
        Some("at-least") => Compare::AtLeast,
        Some("covers") => Compare::Covers,
        Some("contains") => Compare::Contains,
        Some("one-of") => Compare::OneOf,
        None => Compare::ByHand,
        Some(other) => return Err(wrong("compare", other)),
    };
    let values: Vec<&'static str> = SIZES.iter().filter_map(|(size, _)| short(size)).collect();
    if values.len()
        != if compare == Compare::ByHand {
            0
        } else {
            SIZES.len()
        }
    {
        return Err("it needs `compare` and a value for each size, or none of them".into());
    }
    let setting = Setting {
        name: row.name,
        compare,
        values,
        clients: match short("clients").unwrap_or("same") {
            "same" => Clients::Same,
            "double" => Clients::Double,
            "only" => Clients::Only,
            other => return Err(wrong("clients", other)),
        },
        used: short("used"),
        need: match short("needs").unwrap_or("nothing") {
            "nothing" => Need::Nothing,
            "restart" => Need::Restart,
            "namespace" => Need::Namespace,
            "reboot" => Need::Reboot,
            "unit" => Need::Unit,
            "hand" => Need::Hand,
            other => return Err(wrong("needs", other)),
        },
        how: short("how"),
        grade: match short("grade") {
            Some("limit") => Grade::Limit,
            Some("speed") => Grade::Speed,
            other => return Err(wrong("grade", other.unwrap_or_default())),
        },
        low: short("low").unwrap_or_default(),
        why: long("why")?,
        measured: long("measured")?,
    };
    let by_hand = setting.need == Need::Hand;
    if by_hand != (compare == Compare::ByHand) {
        return Err("`needs = hand` has no `compare`, and the other way round".into());
    }
    if matches!(setting.need, Need::Hand | Need::Reboot) && setting.how.is_none() {
        return Err("`how` is missing".into());
    }
    if !by_hand && setting.low.is_empty() {
        return Err("`low` is missing".into());
    }
    Ok(setting)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
