//! Storage without threads, for the command line while the server is down.

use std::fmt;

use super::backup::Frozen;
use super::disk::DiskBackend;
use super::index::{Edit, IndexError, Visit};
use super::open::{Config, OpenError, open};
use super::{
    Backend, Change, Kind, Op, Ops, Recovered, Refusal, Replies, Reply, Require, Ticket, TicketKey,
};

/// An open storage directory. Every write is durable when it returns.
pub struct Database {
    backend: DiskBackend,
    replies: Replies,
}

/// Why a row could not be read or written.
#[derive(Debug)]
pub enum DatabaseError {
    Index(IndexError),
    Refused(Refusal),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(error) => error.fmt(f),
            Self::Refused(Refusal::Full) => f.write_str("no space is left on the device"),
            Self::Refused(Refusal::Failed) => f.write_str("the device failed"),
        }
    }
}

impl std::error::Error for DatabaseError {}

/// Octets of rows in one write of an import.
const IMPORT_OCTETS: usize = 1 << 20;

impl Database {
    /// Opens the directory. What recovery found stays in the journal for the server; its damage
    /// report is returned.
    ///
    /// # Errors
    /// [`OpenError::InUse`] names the process that has it.
    pub fn open(config: &Config) -> Result<(Self, Recovered), OpenError> {
        let (backend, recovered) = open(config)?;
        let replies = Replies::new();
        Ok((Self { backend, replies }, recovered))
    }

    /// One value.
    ///
    /// # Errors
    /// When the index failed.
    pub fn get(
        &self,
        owner: &[u8],
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<Box<[u8]>>, DatabaseError> {
        let value = self.backend.index().get(owner, kind, key);
        value.map_err(DatabaseError::Index)
    }

    /// All edits or none, durable when it returns.
    ///
    /// # Errors
    /// When there is no space or the device failed.
    pub fn write(&mut self, edits: &[Edit<'_>]) -> Result<(), DatabaseError> {
        let mut ops = Ops::default();
        let changes = edits
            .iter()
            .map(|edit| Change::keep(edit, &mut ops))
            .collect();
        let ticket = Ticket {
            shard: 0,
            key: TicketKey::from_bits(0),
        };
        let require = Require::Nothing;
        ops.push(Some(ticket), Op::Write { require, changes });
        self.replies.clear();
        self.backend.execute(&ops, &mut self.replies);
        self.backend.commit(&mut self.replies);
        match self.replies.first() {
            Some((_, Reply::Done)) => Ok(()),
            Some((_, Reply::Refused(refusal))) => Err(DatabaseError::Refused(*refusal)),
            _ => Err(DatabaseError::Refused(Refusal::Failed)),
        }
    }

    /// Stores one value.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn put(
        &mut self,
        owner: &[u8],
        kind: Kind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), DatabaseError> {
        self.write(&[Edit::Put {
            owner,
            kind,
            key,
            value,
        }])
    }

    /// Deletes everything that an owner has.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn delete_owner(&mut self, owner: &[u8]) -> Result<(), DatabaseError> {
        self.write(&[Edit::DeleteOwner { owner }])
    }

    /// Stores one row of one kind per owner, key empty, many at a time; `progress` gets the count.
    /// Returns it at the end. After an error the rows before it are stored.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn import(
        &mut self,
        kind: Kind,
        rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, DatabaseError> {
        let mut count = 0;
        loop {
            let mut octets = 0;
            let mut part: Vec<(Box<[u8]>, Box<[u8]>)> = Vec::new();
            while octets < IMPORT_OCTETS {
                let Some((owner, value)) = rows.next() else {
                    break;
                };
                octets += owner.len() + value.len();
                part.push((owner, value));
            }
            if part.is_empty() {
                return Ok(count);
            }
            let edits: Vec<Edit<'_>> = part
                .iter()
                .map(|(owner, value)| Edit::Put {
                    owner,
                    kind,
                    key: &[],
                    value,
                })
                .collect();
            self.write(&edits)?;
            count += edits.len() as u64;
            progress(count);
        }
    }

    /// Shows every row of a kind, owners in order.
    ///
    /// # Errors
    /// When the index failed.
    pub fn scan_kind(&self, kind: Kind, visit: &mut Visit<'_>) -> Result<(), DatabaseError> {
        let rows = self.backend.index().snapshot();
        let rows = rows.map_err(DatabaseError::Index)?;
        rows.scan_kind(kind, visit).map_err(DatabaseError::Index)
    }

    /// Everything as it is now, for [`super::backup::backup`].
    ///
    /// # Errors
    /// When the index failed.
    pub fn freeze(&self) -> Result<Frozen, DatabaseError> {
        self.backend.freeze().map_err(DatabaseError::Index)
    }

    /// Leaves it so that the next start need not replay. Dropping it instead loses nothing.
    pub fn close(mut self) {
        self.backend.close();
    }
}

impl Change {
    /// The change that an edit asks for, with its octets in `ops`.
    fn keep(edit: &Edit<'_>, ops: &mut Ops) -> Self {
        match *edit {
            Edit::Put {
                owner,
                kind,
                key,
                value,
            } => Self::Put {
                owner: ops.keep(owner),
                kind,
                key: ops.keep(key),
                value: ops.keep(value),
            },
            Edit::Delete { owner, kind, key } => Self::Delete {
                owner: ops.keep(owner),
                kind,
                key: ops.keep(key),
            },
            Edit::Trim { owner, kind, to } => Self::Trim {
                owner: ops.keep(owner),
                kind,
                to: ops.keep(to),
            },
            Edit::DeleteOwner { owner } => Self::DeleteOwner {
                owner: ops.keep(owner),
            },
        }
    }
}
