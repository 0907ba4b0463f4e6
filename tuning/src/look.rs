//! How a machine stands to a row.

use std::path::Path;

use crate::table::{Compare, Need, Server, Setting};

/// What was found about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What the kernel says, its blanks made one; `None` where it does not say.
    pub found: Option<String>,
    /// `None` where the row does not concern this server.
    pub needed: Option<String>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Enough,
    Low,
    /// The kernel has no such setting, or it belongs to another network namespace.
    Absent,
    /// Only people can see it.
    ByHand,
    /// It does not matter here: nothing uses it, or the clients are elsewhere.
    Idle,
}

/// Looks at one row. `root` is `/`, or a directory that stands for it.
pub fn look(root: &Path, setting: &Setting, server: Server) -> Look {
    let needed = setting.value(server);
    let path = setting.path().map(|path| root.join(path));
    let text = path.and_then(|path| std::fs::read_to_string(path).ok());
    let found = text.and_then(|text| match setting.need {
        Need::Unit => open_files(&text),
        _ => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    });
    let idle = setting.used_path().is_some_and(|path| {
        let count = std::fs::read_to_string(root.join(path));
        count.is_ok_and(|count| count.trim() == "0")
    });
    let state = match (&found, &needed) {
        _ if setting.need == Need::Hand => State::ByHand,
        _ if idle => State::Idle,
        (_, None) => State::Idle,
        (None, Some(_)) => State::Absent,
        (Some(found), Some(needed)) if suffices(setting.compare, found, needed) => State::Enough,
        _ => State::Low,
    };
    Look {
        found,
        needed,
        state,
    }
}

/// Whether `found` need not be changed.
fn suffices(compare: Compare, found: &str, needed: &str) -> bool {
    match compare {
        Compare::AtLeast => pairs(found, needed).all(|(_, found, needed)| found >= needed),
        Compare::Covers => pairs(found, needed).all(|(at, found, needed)| match at {
            0 => found <= needed,
            _ => found >= needed,
        }),
        Compare::Contains => {
            let found = ranges(found);
            let has = |port| {
                found
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&port))
            };
            ranges(needed)
                .into_iter()
                .all(|(low, high)| (low..=high).all(has))
        }
        Compare::OneOf => {
            let chosen = found.split_whitespace().find_map(|word| {
                word.strip_prefix('[')
                    .and_then(|word| word.strip_suffix(']'))
            });
            let chosen = chosen.unwrap_or(found);
            needed.split_whitespace().any(|word| word == chosen)
        }
        Compare::ByHand => true,
    }
}

/// Numbers that are compared, with their place. What is no number counts as endless: the kernel
/// and systemd write `unlimited` and `infinity`. A negative size of a table is that of another
/// namespace, which is shared.
fn pairs<'a>(found: &'a str, needed: &'a str) -> impl Iterator<Item = (usize, u64, u64)> + 'a {
    let number = |word: &str| match word.parse::<i64>() {
        Ok(number) => number.unsigned_abs(),
        Err(_) => u64::MAX,
    };
    let words = found.split_whitespace().zip(needed.split_whitespace());
    words
        .enumerate()
        .filter(|(_, (_, needed))| *needed != "-")
        .map(move |(at, (found, needed))| (at, number(found), number(needed)))
}

/// `5222-5223,5269` as ranges.
fn ranges(ports: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
    };
    ports.split(',').filter_map(range).collect()
}

/// The hard limit of open files in `/proc/self/limits`.
fn open_files(limits: &str) -> Option<String> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
