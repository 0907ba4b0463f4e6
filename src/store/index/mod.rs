//! The tables behind the journal: what is read, and what a checkpoint makes durable.

pub mod fjall;
pub mod memory;

use std::fmt;

use smallvec::SmallVec;

use super::{Change, Kind, Ops, Rest, Row, Span};

/// Sorted rows under owner, kind and key. Nothing in it is a promise before it is persisted.
pub trait Index: Send {
    /// One value.
    fn get(&self, owner: &[u8], kind: Kind, key: &[u8]) -> Result<Option<Box<[u8]>>, IndexError>;

    /// Appends rows with keys greater than `page.after` to `rows` and tells whether there are more.
    fn range(
        &self,
        owner: &[u8],
        kind: Kind,
        page: &Page<'_>,
        rows: &mut Vec<Row>,
    ) -> Result<bool, IndexError>;

    /// Carries out all edits in order, or none of them, and remembers `sequence` with them.
    fn apply(&mut self, edits: &[Edit<'_>], sequence: u64) -> Result<(), IndexError>;

    /// Whether there is room for new rows. Asked before the journal takes a write with rows.
    ///
    /// # Errors
    /// [`IndexError::Full`] while the device is nearly full.
    fn check_room(&mut self) -> Result<(), IndexError> {
        Ok(())
    }

    /// The sequence of the last write that it has. It has all before and none after.
    fn applied(&self) -> Result<u64, IndexError>;

    /// What makes everything applied so far survive a power cut, beside this.
    fn persister(&self) -> Box<dyn Persist>;

    /// Closes and opens it after an error: it has what the last checkpoint says, and maybe more.
    ///
    /// # Errors
    /// [`IndexError::Full`] when there is no room yet; what can be read stays readable then.
    fn reopen(&mut self) -> Result<(), IndexError>;

    /// Nothing was asked for a while: what takes much memory may go to disk.
    fn rest(&mut self) -> Rest {
        Rest::Done
    }

    /// The rows as they are now, to be read elsewhere while this goes on.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError>;
}

/// See [`Index::persister`].
pub trait Persist: Send {
    /// Makes everything applied before this call survive a power cut.
    fn persist(&mut self) -> Result<(), IndexError>;
}

/// All rows as they were at one instant.
pub trait Snapshot: Send {
    /// Shows every row of one kind, of all owners in order, until `visit` has enough.
    fn scan_kind(&self, kind: Kind, visit: &mut Visit<'_>) -> Result<(), IndexError>;

    /// Shows every row, table by table, until `visit` has enough.
    fn scan_all(&self, visit: &mut VisitAll<'_>) -> Result<(), IndexError>;
}

/// Gets owner, key and value of a row.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8], &[u8]) -> Scan + 'a;
/// Gets owner, kind, key and value of a row.
pub type VisitAll<'a> = dyn FnMut(&[u8], Kind, &[u8], &[u8]) -> Scan + 'a;

/// Whether a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    More,
    Enough,
}

/// Where a page of rows begins and how large it may be.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    pub after: &'a [u8],
    pub rows_max: usize,
    /// A page ends with the row that reaches this.
    pub octets_max: usize,
}

/// One step of a write, with its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    Put {
        owner: &'a [u8],
        kind: Kind,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        owner: &'a [u8],
        kind: Kind,
        key: &'a [u8],
    },
    /// Rows with keys up to and including `to`.
    Trim {
        owner: &'a [u8],
        kind: Kind,
        to: &'a [u8],
    },
    DeleteOwner {
        owner: &'a [u8],
    },
}

/// The edits of one write.
pub type Edits<'a> = SmallVec<[Edit<'a>; 4]>;

impl<'a> Edit<'a> {
    /// Whose row it is.
    pub fn owner(&self) -> &'a [u8] {
        match *self {
            Self::Put { owner, .. }
            | Self::Delete { owner, .. }
            | Self::Trim { owner, .. }
            | Self::DeleteOwner { owner } => owner,
        }
    }

    /// Octets of its owner, key and value.
    pub fn octets_len(&self) -> usize {
        match *self {
            Self::Put {
                owner, key, value, ..
            } => owner.len() + key.len() + value.len(),
            Self::Delete { owner, key, .. } => owner.len() + key.len(),
            Self::Trim { owner, to, .. } => owner.len() + to.len(),
            Self::DeleteOwner { owner } => owner.len(),
        }
    }

    /// The edit that a change of `ops` asks for; `None` for a settlement, which is no row.
    pub fn of(change: &Change, ops: &'a Ops) -> Option<Self> {
        let octets = |span: &Span| ops.octets(span);
        Some(match change {
            Change::Put {
                owner,
                kind,
                key,
                value,
            } => Self::Put {
                owner: octets(owner),
                kind: *kind,
                key: octets(key),
                value: octets(value),
            },
            Change::Delete { owner, kind, key } => Self::Delete {
                owner: octets(owner),
                kind: *kind,
                key: octets(key),
            },
            Change::Trim { owner, kind, to } => Self::Trim {
                owner: octets(owner),
                kind: *kind,
                to: octets(to),
            },
            Change::DeleteOwner { owner } => Self::DeleteOwner {
                owner: octets(owner),
            },
            Change::Settle { .. } => return None,
        })
    }
}

/// Why a table could not be read or written.
#[derive(Debug)]
pub enum IndexError {
    /// No space is left on the device.
    Full,
    /// A record is damaged, or the device failed.
    Failed(String),
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space is left for the index"),
            Self::Failed(cause) => write!(f, "the index failed: {cause}"),
        }
    }
}

impl std::error::Error for IndexError {}

/// A part of the index that is scanned on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// What a login reads: small, one row per account and kind.
    Heads,
    /// Everything else that accounts own.
    Rows,
    /// Sessions written down at a shutdown: read at every start, so it must not lie among `Rows`.
    Sessions,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Heads, Self::Rows, Self::Sessions];

    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Credentials | Kind::Roster | Kind::Blocked | Kind::OfflineCount => Self::Heads,
            Kind::Offline | Kind::Private | Kind::Vcard | Kind::Last => Self::Rows,
            Kind::Session => Self::Sessions,
        }
    }
}

/// The key of a row in its table: owner, NUL, kind, key. No owner contains NUL.
pub(crate) type RowKey = SmallVec<[u8; 96]>;

pub(crate) fn row_key(owner: &[u8], kind: Kind, key: &[u8]) -> RowKey {
    let mut row = owner_prefix(owner);
    row.push(kind as u8);
    row.extend_from_slice(key);
    row
}

/// What all keys of one owner begin with.
pub(crate) fn owner_prefix(owner: &[u8]) -> RowKey {
    let mut row = RowKey::with_capacity(owner.len() + 2);
    row.extend_from_slice(owner);
    row.push(0);
    row
}

/// Owner, kind and key of a row's key; `None` when it is none of ours.
pub(crate) fn split_row_key(row: &[u8]) -> Option<(&[u8], Kind, &[u8])> {
    let nul = memchr::memchr(0, row)?;
    let (owner, rest) = row.split_at(nul);
    let (kind, key) = rest.get(1..)?.split_first()?;
    Some((owner, Kind::from_number(*kind)?, key))
}
