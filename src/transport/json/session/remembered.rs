//! Names of messages that were stored, so that a repetition is not sent again.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::LazyLock;

use foldhash::quality::RandomState;

use crate::base::time::Moment;

/// The digest of a name, which is all that a repetition needs. Nobody outside knows which names
/// have equal digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(u64);

static NAMES: LazyLock<RandomState> = LazyLock::new(RandomState::default);

impl Name {
    pub fn of(name: &str) -> Self {
        Self(NAMES.hash_one(name))
    }
}

/// The last names, and since when each is known. Nothing is allocated while there are none.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<Box<Names>>);

#[derive(Debug, Default)]
struct Names {
    order: VecDeque<(Name, Moment)>,
    names: HashSet<Name, foldhash::fast::RandomState>,
}

impl Remembered {
    /// No names.
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// Whether a message of this name was stored.
    pub fn has(&self, name: Name) -> bool {
        let names = self.0.as_deref();
        names.is_some_and(|names| names.names.contains(&name))
    }

    /// Adds a name; of more than `names_max` the oldest is forgotten.
    pub fn add(&mut self, name: Name, now: Moment, names_max: usize) {
        let names = self.0.get_or_insert_default();
        if names.names.insert(name) {
            names.order.push_back((name, now));
        }
        if names.order.len() > names_max {
            names.forget_oldest();
        }
    }

    /// Since when the oldest name is known.
    pub fn oldest(&self) -> Option<Moment> {
        let oldest = self.0.as_deref()?.order.front();
        oldest.map(|(_, since)| *since)
    }

    /// Forgets the names that are too old.
    pub fn forget(&mut self, is_old: impl Fn(Moment) -> bool) {
        while self.oldest().is_some_and(&is_old) {
            if let Some(names) = &mut self.0 {
                names.forget_oldest();
            }
        }
        self.0.take_if(|names| names.order.is_empty());
    }
}

impl Names {
    fn forget_oldest(&mut self) {
        if let Some((name, _)) = self.order.pop_front() {
            self.names.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_names_are_known_until_they_are_old() {
        let mut remembered = Remembered::default();
        let names = ["one", "two", "three"].map(Name::of);
        for (name, at) in names.into_iter().zip(0..) {
            remembered.add(name, Moment(at), 2);
        }
        assert_eq!(names.map(|name| remembered.has(name)), [false, true, true]);
        assert_eq!(remembered.oldest(), Some(Moment(1)));
        remembered.forget(|since| since < Moment(2));
        assert_eq!(names.map(|name| remembered.has(name)), [false, false, true]);
        remembered.forget(|_| true);
        assert!(remembered.oldest().is_none() && remembered.0.is_none());
    }
}
