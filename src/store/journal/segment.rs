//! One file of the journal.

use std::io;
use std::sync::Arc;

use super::record::Place;
use crate::store::files::{File, Files};

/// What a segment begins with, padded to [`FIRST_RECORD`].
const MAGIC: &[u8; 8] = b"ENCKEJL1";
/// Where the first record stands.
pub(super) const FIRST_RECORD: u32 = 64;

/// A segment that is open for writing.
pub(super) struct Segment {
    pub number: u64,
    pub file: Arc<dyn File>,
    /// Where the next record goes.
    pub offset: u32,
}

impl Segment {
    /// Makes a file with reserved space that survives a power cut.
    ///
    /// # Errors
    /// When there is no space, or the device fails; no file is left then as far as possible.
    pub fn create(files: &dyn Files, number: u64, octets: u32) -> io::Result<Self> {
        let name = segment_name(number);
        let made = files.create(&name).and_then(|file| {
            file.allocate(u64::from(octets))?;
            file.write_at(&header(number), 0)?;
            file.sync_data()?;
            files.sync_dir()?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Self {
                number,
                file,
                offset: FIRST_RECORD,
            }),
            Err(error) => {
                // The first error is the one to report.
                let _ = files.remove(&name);
                Err(error)
            }
        }
    }

    pub fn end(&self) -> Place {
        Place {
            segment: self.number,
            offset: self.offset,
        }
    }
}

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:012}.log")
}

/// The number in a file's name; `None` when it is no segment.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?;
    if number.len() < 12 {
        return None;
    }
    number.parse().ok()
}

fn header(number: u64) -> Vec<u8> {
    let mut octets = MAGIC.to_vec();
    octets.extend_from_slice(&number.to_le_bytes());
    let check = crc32c::crc32c(&octets);
    octets.extend_from_slice(&check.to_le_bytes());
    octets.resize(FIRST_RECORD as usize, 0);
    octets
}

/// What the first octets of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Good,
    /// Nothing was ever made durable here.
    Blank,
    Damaged,
}

pub(super) fn read_header(number: u64, octets: &[u8]) -> Head {
    let found = &octets[..octets.len().min(FIRST_RECORD as usize)];
    if found == header(number) {
        Head::Good
    } else if found.iter().all(|octet| *octet == 0) {
        Head::Blank
    } else {
        Head::Damaged
    }
}
