//! The index on disk: fjall, a log-structured tree, written without a sync of its own.
//!
//! Its blocks carry XXH3 checksums that every read from disk verifies, and after any crash it has a
//! prefix of the writes that were applied. Each carries its sequence, so that the journal replays
//! exactly what is missing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use fjall::{Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use hashbrown::HashMap;

use super::{
    Edit, Index, IndexError, Page, Persist, RowKey, Scan, Snapshot, Table, Visit, VisitAll,
    owner_prefix, row_key, split_row_key,
};
use crate::store::{Kind, Rest, Row};

/// How much memory the index may take.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Octets of blocks kept in memory.
    pub cache_octets: u64,
    /// Octets of fresh rows in memory, for each table of accounts.
    pub fresh_octets: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            cache_octets: 32 << 20,
            fresh_octets: 8 << 20,
        }
    }
}

/// An index in a directory.
pub struct FjallIndex {
    path: PathBuf,
    sizes: Sizes,
    open: Shared,
    /// Writes until the device is asked again how much is free.
    unasked: u32,
    /// Changes of each table since it was last written out for a rest.
    fresh_rows: [usize; Table::ALL.len()],
    /// Rows were written out, and the tree still has them in memory as well.
    lets_go: bool,
}

/// `None` between closing and opening anew, when the latter failed.
type Shared = Arc<RwLock<Option<Open>>>;

struct Open {
    db: fjall::Database,
    tables: [Keyspace; Table::ALL.len()],
}

/// The key of the mark; no row's key, for it has no NUL.
const APPLIED: &[u8] = b"\xFFapplied";
/// Changes of a table that stay in memory while nothing happens: about a megabyte.
const RESTING_ROWS_MAX: usize = 4_096;
/// Threads that write fresh rows out and merge them.
const WORKERS: usize = 2;
/// Free octets below which no row is taken: threads of the tree that meet a full device end, and
/// it must be opened again.
const ROOM_OCTETS: u64 = 32 << 20;
/// Writes between two questions to the device.
const ROOM_WRITES: u32 = 64;
/// Files that are kept open.
const FILES_MAX: usize = 128;
/// fjall's own log is never synced for a promise; this is the least that it takes.
const LOG_OCTETS: u64 = 64 << 20;

impl FjallIndex {
    /// Opens or makes the index in `path`.
    ///
    /// # Errors
    /// When the device fails or the index is damaged or open elsewhere.
    pub fn open(path: &Path, sizes: Sizes) -> Result<Self, IndexError> {
        let open = Open::new(path, sizes).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            sizes,
            open: Arc::new(RwLock::new(Some(open))),
            unasked: 0,
            fresh_rows: [0; Table::ALL.len()],
            lets_go: false,
        })
    }

    fn read(&self) -> Result<Reading<'_>, IndexError> {
        Reading::of(&self.open)
    }
}

impl Open {
    fn new(path: &Path, sizes: Sizes) -> fjall::Result<Self> {
        let db = fjall::Database::builder(path)
            .cache_size(sizes.cache_octets)
            .max_cached_files(Some(FILES_MAX))
            .max_journaling_size(LOG_OCTETS)
            .manual_journal_persist(true)
            .worker_threads(WORKERS)
            .open()?;
        let table = |name| {
            db.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(sizes.fresh_octets)
            })
        };
        let tables = [table("heads")?, table("rows")?, table("sessions")?];
        Ok(Self { db, tables })
    }

    fn table(&self, kind: Kind) -> &Keyspace {
        &self.tables[Table::of(kind) as usize]
    }

    /// Where the mark of what was applied lies: where most writes go, so that no table is kept
    /// fresh by marks alone.
    fn marks(&self) -> &Keyspace {
        &self.tables[Table::Rows as usize]
    }

    /// Lets the tree forget rows in memory that it has written out: it keeps them for readers of
    /// an older state until the next rows are written out. The mark alone will do.
    fn let_go(&self, sequence: u64) -> Result<(), fjall::Error> {
        self.apply(&[], sequence)?;
        self.marks().rotate_memtable().map(|_| ())
    }

    fn apply(&self, edits: &[Edit<'_>], sequence: u64) -> Result<(), fjall::Error> {
        let mut batch = self.db.batch();
        batch.insert(self.marks(), APPLIED, sequence.to_be_bytes());
        if let [edit @ (Edit::Put { .. } | Edit::Delete { .. })] = edits {
            let (kind, row, value) = point(edit);
            match value {
                Some(value) => batch.insert(self.table(kind), &row[..], value),
                None => batch.remove(self.table(kind), &row[..]),
            }
            return batch.commit();
        }
        // All items of a batch are of one age: the last word on each row must be the only one.
        let mut last: HashMap<RowKey, Option<&[u8]>, foldhash::fast::RandomState> =
            HashMap::default();
        for edit in edits {
            match *edit {
                Edit::Put { .. } | Edit::Delete { .. } => {
                    let (_, row, value) = point(edit);
                    last.insert(row, value);
                }
                Edit::Trim { owner, kind, to } => {
                    let (first, end) = (row_key(owner, kind, &[]), row_key(owner, kind, to));
                    self.remove(self.table(kind), &first, &end, &mut last)?;
                }
                Edit::DeleteOwner { owner } => {
                    let first = owner_prefix(owner);
                    let mut end = first.clone();
                    // No kind has this number, so no row ends the range.
                    end.push(u8::MAX);
                    for table in &self.tables {
                        self.remove(table, &first, &end, &mut last)?;
                    }
                }
            }
        }
        for (row, value) in &last {
            let Some((_, kind, _)) = split_row_key(row) else {
                continue;
            };
            match value {
                Some(value) => batch.insert(self.table(kind), &row[..], *value),
                None => batch.remove(self.table(kind), &row[..]),
            }
        }
        batch.commit()
    }

    /// Removes the rows of a range, those of the same batch among them.
    fn remove(
        &self,
        table: &Keyspace,
        first: &RowKey,
        end: &RowKey,
        last: &mut HashMap<RowKey, Option<&[u8]>, foldhash::fast::RandomState>,
    ) -> Result<(), fjall::Error> {
        for (row, value) in last.iter_mut() {
            if row >= first && row <= end {
                *value = None;
            }
        }
        for guard in table.range(&first[..]..=&end[..]) {
            last.insert(RowKey::from_slice(&guard.key()?), None);
        }
        Ok(())
    }
}

fn point<'a>(edit: &Edit<'a>) -> (Kind, RowKey, Option<&'a [u8]>) {
    match *edit {
        Edit::Put {
            owner,
            kind,
            key,
            value,
        } => (kind, row_key(owner, kind, key), Some(value)),
        Edit::Delete { owner, kind, key } => (kind, row_key(owner, kind, key), None),
        Edit::Trim { .. } | Edit::DeleteOwner { .. } => unreachable!("these are ranges"),
    }
}

/// The open index, held so that nobody closes it meanwhile.
struct Reading<'a> {
    open: RwLockReadGuard<'a, Option<Open>>,
}

impl<'a> Reading<'a> {
    fn of(shared: &'a Shared) -> Result<Self, IndexError> {
        let open = shared.read().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            return Err(IndexError::Failed("it could not be opened again".into()));
        }
        Ok(Self { open })
    }

    fn get(&self) -> &Open {
        self.open
            .as_ref()
            .expect("it was open when the lock was taken")
    }
}

impl Index for FjallIndex {
    fn get(&self, owner: &[u8], kind: Kind, key: &[u8]) -> Result<Option<Box<[u8]>>, IndexError> {
        let open = self.read()?;
        let value = open.get().table(kind).get(row_key(owner, kind, key));
        Ok(value.map_err(failed)?.map(|value| value[..].into()))
    }

    fn range(
        &self,
        owner: &[u8],
        kind: Kind,
        page: &Page<'_>,
        rows: &mut Vec<Row>,
    ) -> Result<bool, IndexError> {
        let open = self.read()?;
        let head = owner.len() + 2;
        let mut start = row_key(owner, kind, page.after);
        // The first key that is greater: range bounds of a tree are inclusive below.
        start.push(0);
        let mut end = row_key(owner, kind, &[]);
        *end.last_mut().expect("it ends with the kind") += 1;
        let mut octets = 0;
        for guard in open.get().table(kind).range(&start[..]..&end[..]) {
            if rows.len() >= page.rows_max || octets >= page.octets_max {
                return Ok(true);
            }
            let (row, value) = guard.into_inner().map_err(failed)?;
            octets += row.len() - head + value.len();
            rows.push((row[head..].into(), value[..].into()));
        }
        Ok(false)
    }

    fn apply(&mut self, edits: &[Edit<'_>], sequence: u64) -> Result<(), IndexError> {
        for edit in edits {
            if let Edit::Put { kind, .. } | Edit::Delete { kind, .. } = edit {
                self.fresh_rows[Table::of(*kind) as usize] += 1;
            }
        }
        self.read()?.get().apply(edits, sequence).map_err(failed)
    }

    fn check_room(&mut self) -> Result<(), IndexError> {
        if self.unasked > 0 {
            self.unasked -= 1;
            return Ok(());
        }
        let device = rustix::fs::statvfs(&self.path);
        let device = device.map_err(|error| IndexError::Failed(error.to_string()))?;
        if device.f_bavail.saturating_mul(device.f_frsize) < ROOM_OCTETS {
            return Err(IndexError::Full);
        }
        self.unasked = ROOM_WRITES;
        Ok(())
    }

    fn applied(&self) -> Result<u64, IndexError> {
        let open = self.read()?;
        let mark = open.get().marks().get(APPLIED).map_err(failed)?;
        let octets = mark.as_deref().and_then(|octets| octets.try_into().ok());
        Ok(octets.map_or(0, u64::from_be_bytes))
    }

    fn persister(&self) -> Box<dyn Persist> {
        Box::new(Persister {
            open: self.open.clone(),
        })
    }

    fn reopen(&mut self) -> Result<(), IndexError> {
        self.unasked = 0;
        self.check_room()?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Its lock and its threads end first.
        *open = None;
        *open = Some(Open::new(&self.path, self.sizes).map_err(failed)?);
        Ok(())
    }

    /// Writes out the fresh rows that many changes left in memory, where each takes several times
    /// its octets.
    fn rest(&mut self) -> Rest {
        let applied = self.applied();
        // What fails here fails again where it is noticed.
        let (Ok(sequence), Ok(open)) = (applied, Reading::of(&self.open)) else {
            return Rest::Done;
        };
        if std::mem::take(&mut self.lets_go) {
            let _ = open.get().let_go(sequence);
            return Rest::Done;
        }
        for (table, fresh) in open.get().tables.iter().zip(&mut self.fresh_rows) {
            // The tree also writes out by itself and begins anew then: this may be too early by
            // that, never too late.
            if *fresh >= RESTING_ROWS_MAX && table.rotate_memtable().is_ok() {
                *fresh = 0;
                self.lets_go = true;
            }
        }
        match self.lets_go {
            true => Rest::Again,
            false => Rest::Done,
        }
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        let open = self.read()?;
        Ok(Box::new(FjallSnapshot {
            rows: open.get().db.snapshot(),
            tables: open.get().tables.clone(),
        }))
    }
}

struct Persister {
    open: Shared,
}

impl Persist for Persister {
    fn persist(&mut self) -> Result<(), IndexError> {
        let open = Reading::of(&self.open)?;
        open.get().db.persist(PersistMode::SyncAll).map_err(failed)
    }
}

struct FjallSnapshot {
    rows: fjall::Snapshot,
    tables: [Keyspace; Table::ALL.len()],
}

impl FjallSnapshot {
    fn scan(&self, table: &Keyspace, visit: &mut VisitAll<'_>) -> Result<Scan, IndexError> {
        for guard in self.rows.iter(table) {
            let (row, value) = guard.into_inner().map_err(failed)?;
            let Some((owner, kind, key)) = split_row_key(&row) else {
                continue;
            };
            if visit(owner, kind, key, &value) == Scan::Enough {
                return Ok(Scan::Enough);
            }
        }
        Ok(Scan::More)
    }
}

impl Snapshot for FjallSnapshot {
    fn scan_kind(&self, kind: Kind, visit: &mut Visit<'_>) -> Result<(), IndexError> {
        let table = &self.tables[Table::of(kind) as usize];
        let only = &mut |owner: &[u8], found, key: &[u8], value: &[u8]| {
            if found == kind {
                visit(owner, key, value)
            } else {
                Scan::More
            }
        };
        self.scan(table, only).map(|_| ())
    }

    fn scan_all(&self, visit: &mut VisitAll<'_>) -> Result<(), IndexError> {
        for table in &self.tables {
            if self.scan(table, visit)? == Scan::Enough {
                break;
            }
        }
        Ok(())
    }
}

fn failed(error: fjall::Error) -> IndexError {
    match &error {
        fjall::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => IndexError::Full,
        fjall::Error::Locked => IndexError::Failed("it is open in another process".into()),
        _ => IndexError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rest writes out is found as before, and a rest with little to write does nothing.
    #[test]
    fn a_rest_writes_out_fresh_rows_and_lets_go_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = FjallIndex::open(dir.path(), Sizes::default()).unwrap();
        let put = |index: &mut FjallIndex, number: usize| {
            let owner = format!("user{number}@localhost");
            let edit = Edit::Put {
                owner: owner.as_bytes(),
                kind: Kind::Last,
                key: b"",
                value: b"gone",
            };
            index.apply(&[edit], number as u64).unwrap();
        };
        put(&mut index, 1);
        assert_eq!(index.rest(), Rest::Done);
        (2..=RESTING_ROWS_MAX).for_each(|number| put(&mut index, number));
        assert_eq!(index.rest(), Rest::Again);
        assert_eq!(index.rest(), Rest::Done);
        assert_eq!(index.rest(), Rest::Done);
        let row = index.get(b"user77@localhost", Kind::Last, b"").unwrap();
        assert_eq!(row.as_deref(), Some(&b"gone"[..]));
        assert_eq!(index.applied().unwrap(), RESTING_ROWS_MAX as u64);
    }
}
