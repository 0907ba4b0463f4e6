//! Rows that nobody waits for: many are written as one group, so that a logout costs no write and
//! no sync of its own.

use std::ops::Range;

use super::index::{Edit, Edits};
use super::journal::EDIT_OVERHEAD_OCTETS;
use super::{Change, Kind, Require};

/// Rows that were taken and stand neither in the journal nor in the index.
#[derive(Default)]
pub(super) struct Late {
    /// Owners, keys and values.
    octets: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    kind: Kind,
    owner: Range<usize>,
    key: Range<usize>,
    value: Range<usize>,
}

/// Whether a write without a ticket may wait for company.
pub(super) fn may_wait(changes: &[Change]) -> bool {
    let may = |change: &Change| matches!(change, Change::Put { kind, .. } if kind.is_late());
    !changes.is_empty() && changes.iter().all(may)
}

/// Whether a write must find the rows that wait in their place.
pub(super) fn touches(require: &Require, changes: &[Change]) -> bool {
    let asks = match require {
        Require::Nothing => false,
        Require::Present { kind, .. } | Require::Absent { kind, .. } => kind.is_late(),
    };
    let mut changes = changes.iter();
    asks || changes.any(|change| match change {
        Change::Put { kind, .. } | Change::Delete { kind, .. } | Change::Trim { kind, .. } => {
            kind.is_late()
        }
        Change::DeleteOwner { .. } => true,
        Change::Settle { .. } => false,
    })
}

impl Late {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the rows of a write that [`may_wait`].
    pub fn take(&mut self, edits: &[Edit<'_>]) {
        for edit in edits {
            let Edit::Put {
                owner,
                kind,
                key,
                value,
            } = *edit
            else {
                debug_assert!(false, "only rows wait");
                continue;
            };
            let row = Row {
                kind,
                owner: self.keep(owner),
                key: self.keep(key),
                value: self.keep(value),
            };
            self.rows.push(row);
        }
    }

    /// Octets that they take in a group.
    pub fn record_octets(&self) -> usize {
        self.octets.len() + self.rows.len() * EDIT_OVERHEAD_OCTETS
    }

    /// All rows, in order.
    pub fn edits(&self) -> Edits<'_> {
        let edits = self.rows.iter().map(|row| Edit::Put {
            owner: &self.octets[row.owner.clone()],
            kind: row.kind,
            key: &self.octets[row.key.clone()],
            value: &self.octets[row.value.clone()],
        });
        edits.collect()
    }

    /// Empties it and keeps its room.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.rows.clear();
    }

    fn keep(&mut self, octets: &[u8]) -> Range<usize> {
        let start = self.octets.len();
        self.octets.extend_from_slice(octets);
        start..self.octets.len()
    }
}
