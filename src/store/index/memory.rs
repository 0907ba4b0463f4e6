//! The index in memory: for tests, and for the simulator.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{
    Edit, Index, IndexError, Page, RowKey, Scan, Snapshot, Table, Visit, VisitAll, owner_prefix,
    row_key, split_row_key,
};
use crate::store::{Kind, Row};

type Rows = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Sorted maps. `persist` does nothing: what dies with the process was never durable.
#[derive(Clone, Debug, Default)]
pub struct MemoryIndex {
    tables: [Rows; Table::ALL.len()],
}

impl MemoryIndex {
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
        Ok(self
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
        for (row, value) in self
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

    fn apply(&mut self, edits: &[Edit<'_>]) -> Result<(), IndexError> {
        for edit in edits {
            self.edit(edit);
        }
        Ok(())
    }

    fn persist(&mut self) -> Result<(), IndexError> {
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        Ok(Box::new(self.clone()))
    }
}

impl Snapshot for MemoryIndex {
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
            .apply(&[Edit::Put {
                owner,
                kind,
                key,
                value,
            }])
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
        index.apply(&[Edit::Trim { owner, kind, to }]).unwrap();
        assert_eq!(page(&index, &[], 10), (vec![3, 4], false));

        index.apply(&[Edit::DeleteOwner { owner }]).unwrap();
        let mut left = 0;
        index
            .scan_all(&mut |owner, _, _, _| {
                assert_eq!(owner, b"ab");
                left += 1;
                Scan::More
            })
            .unwrap();
        assert_eq!(left, 4);
    }
}
