//! The index in memory: for tests, and for the simulator.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Edit, Index, IndexError, Page, Persist, RowKey, Scan, Snapshot, Table, Visit, VisitAll,
    owner_prefix, row_key, split_row_key,
};
use crate::store::{Kind, Row};

type Rows = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Sorted maps. Clones are the same index.
#[derive(Clone, Debug, Default)]
pub struct MemoryIndex {
    now: Arc<Mutex<Tables>>,
    /// What a crash leaves.
    persisted: Arc<Mutex<Tables>>,
    /// Applying fails while this is set.
    broken: Arc<AtomicBool>,
}

impl MemoryIndex {
    /// What a power cut does: what was applied since the last persisting is lost, or not, as a
    /// tree that writes in the background has it.
    pub fn crash(&self, lost: Lost) {
        match lost {
            Lost::All => *lock(&self.now) = lock(&self.persisted).clone(),
            Lost::Nothing => *lock(&self.persisted) = lock(&self.now).clone(),
        }
    }

    /// Lets applying fail from now on, as a full disk does, or not any more.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Every row: owner, kind, key and value.
    pub fn rows(&self) -> Vec<(Box<[u8]>, Box<[u8]>)> {
        let tables = lock(&self.now);
        let rows = tables.tables.iter().flatten();
        rows.map(|(row, value)| (row.clone(), value.clone()))
            .collect()
    }
}

/// See [`MemoryIndex::crash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    All,
    Nothing,
}

fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Debug, Default)]
struct Tables {
    tables: [Rows; Table::ALL.len()],
    applied: u64,
}

impl Tables {
    fn table(&self, kind: Kind) -> &Rows {
        &self.tables[Table::of(kind) as usize]
    }

    fn table_mut(&mut self, kind: Kind) -> &mut Rows {
        &mut self.tables[Table::of(kind) as usize]
    }

    fn edit(&mut self, edit: &Edit<'_>) {
        match *edit {
            Edit::Put {
                owner,
                kind,
                key,
                value,
            } => {
                let row = row_key(owner, kind, key);
                self.table_mut(kind).insert(boxed(&row), value.into());
            }
            Edit::Delete { owner, kind, key } => {
                self.table_mut(kind).remove(&row_key(owner, kind, key)[..]);
            }
            Edit::Trim { owner, kind, to } => {
                let (first, last) = (row_key(owner, kind, &[]), row_key(owner, kind, to));
                remove(
                    self.table_mut(kind),
                    (Bound::Included(&first[..]), Bound::Included(&last[..])),
                );
            }
            Edit::DeleteOwner { owner } => {
                let first = owner_prefix(owner);
                let mut end = first.clone();
                *end.last_mut().expect("it ends with NUL") = 1;
                for rows in &mut self.tables {
                    remove(
                        rows,
                        (Bound::Included(&first[..]), Bound::Excluded(&end[..])),
                    );
                }
            }
        }
    }
}

impl Index for MemoryIndex {
    fn get(&self, owner: &[u8], kind: Kind, key: &[u8]) -> Result<Option<Box<[u8]>>, IndexError> {
        Ok(lock(&self.now)
            .table(kind)
            .get(&row_key(owner, kind, key)[..])
            .cloned())
    }

    fn range(
        &self,
        owner: &[u8],
        kind: Kind,
        page: &Page<'_>,
        rows: &mut Vec<Row>,
    ) -> Result<bool, IndexError> {
        let start = row_key(owner, kind, page.after);
        let head = owner.len() + 2;
        let mut octets = 0;
        let tables = lock(&self.now);
        for (row, value) in tables
            .table(kind)
            .range::<[u8], _>((Bound::Excluded(&start[..]), Bound::Unbounded))
        {
            if row.get(..head) != start.get(..head) {
                return Ok(false);
            }
            if rows.len() >= page.rows_max || octets >= page.octets_max {
                return Ok(true);
            }
            octets += row.len() - head + value.len();
            rows.push((row[head..].into(), value.clone()));
        }
        Ok(false)
    }

    fn apply(&mut self, edits: &[Edit<'_>], sequence: u64) -> Result<(), IndexError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(IndexError::Full);
        }
        let mut tables = lock(&self.now);
        for edit in edits {
            tables.edit(edit);
        }
        tables.applied = sequence;
        Ok(())
    }

    fn applied(&self) -> Result<u64, IndexError> {
        Ok(lock(&self.now).applied)
    }

    fn persister(&self) -> Box<dyn Persist> {
        Box::new(self.clone())
    }

    fn reopen(&mut self) -> Result<(), IndexError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(IndexError::Full);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        Ok(Box::new(lock(&self.now).clone()))
    }
}

impl Persist for MemoryIndex {
    fn persist(&mut self) -> Result<(), IndexError> {
        *lock(&self.persisted) = lock(&self.now).clone();
        Ok(())
    }
}

impl Snapshot for Tables {
    fn scan_kind(&self, kind: Kind, visit: &mut Visit<'_>) -> Result<(), IndexError> {
        for (row, value) in self.table(kind) {
            let Some((owner, found, key)) = split_row_key(row) else {
                continue;
            };
            if found == kind && visit(owner, key, value) == Scan::Enough {
                break;
            }
        }
        Ok(())
    }

    fn scan_all(&self, visit: &mut VisitAll<'_>) -> Result<(), IndexError> {
        for (row, value) in self.tables.iter().flatten() {
            let Some((owner, kind, key)) = split_row_key(row) else {
                continue;
            };
            if visit(owner, kind, key, value) == Scan::Enough {
                break;
            }
        }
        Ok(())
    }
}

fn remove(rows: &mut Rows, range: (Bound<&[u8]>, Bound<&[u8]>)) {
    let gone: Vec<Box<[u8]>> = rows
        .range::<[u8], _>(range)
        .map(|(row, _)| row.clone())
        .collect();
    for row in gone {
        rows.remove(&row);
    }
}

fn boxed(row: &RowKey) -> Box<[u8]> {
    row[..].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(index: &mut MemoryIndex, owner: &[u8], kind: Kind, key: &[u8]) {
        let value = b"value";
        index
            .apply(
                &[Edit::Put {
                    owner,
                    kind,
                    key,
                    value,
                }],
                1,
            )
            .unwrap();
    }

    fn page(index: &MemoryIndex, after: &[u8], rows_max: usize) -> (Vec<u8>, bool) {
        let mut rows = Vec::new();
        let page = Page {
            after,
            rows_max,
            octets_max: 1 << 20,
        };
        let more = index.range(b"a", Kind::Offline, &page, &mut rows).unwrap();
        (rows.iter().map(|(key, _)| key[0]).collect(), more)
    }

    #[test]
    fn a_page_ends_at_its_owner_and_kind() {
        let mut index = MemoryIndex::default();
        for key in 1..=4u8 {
            put(&mut index, b"a", Kind::Offline, &[key]);
            put(&mut index, b"ab", Kind::Offline, &[key]);
            put(&mut index, b"a", Kind::Private, &[key]);
        }
        assert_eq!(page(&index, &[], 10), (vec![1, 2, 3, 4], false));
        assert_eq!(page(&index, &[], 2), (vec![1, 2], true));
        assert_eq!(page(&index, &[2], 2), (vec![3, 4], false));
    }

    #[test]
    fn trimming_and_deleting_an_owner_touch_nobody_else() {
        let mut index = MemoryIndex::default();
        for key in 1..=4u8 {
            put(&mut index, b"a", Kind::Offline, &[key]);
            put(&mut index, b"ab", Kind::Offline, &[key]);
        }
        put(&mut index, b"a", Kind::Credentials, &[]);
        let (owner, kind, to) = (&b"a"[..], Kind::Offline, &[2u8][..]);
        index.apply(&[Edit::Trim { owner, kind, to }], 2).unwrap();
        assert_eq!(page(&index, &[], 10), (vec![3, 4], false));

        index.apply(&[Edit::DeleteOwner { owner }], 3).unwrap();
        let mut left = 0;
        let rows = index.snapshot().unwrap();
        rows.scan_all(&mut |owner, _, _, _| {
            assert_eq!(owner, b"ab");
            left += 1;
            Scan::More
        })
        .unwrap();
        assert_eq!(left, 4);
    }
}
