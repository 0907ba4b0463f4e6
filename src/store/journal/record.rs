//! How one record lies on disk.
//!
//! A header of 20 octets, then the body, then zeros up to a multiple of four. All numbers are
//! little-endian.
//!
//! ```text
//!  0  mark     u16   0xE7C5
//!  2  kind     u8    see RecordKind
//!  3  version  u8    of the body
//!  4  size     u32   octets of the body
//!  8  group    u32   rises with every write to the segment
//! 12  body     u32   CRC-32C of the body
//! 16  header   u32   CRC-32C of segment number, offset and the 16 octets above
//! ```
//!
//! The header's checksum covers the record's place, so what an earlier tenant of the same blocks
//! left is no record.

use std::ops::Range;

use crate::store::index::Edit;
use crate::store::{Kind, MessageId, StreamId};

/// Octets of a header.
pub(super) const HEADER_OCTETS: usize = 20;
/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 4;
const MARK: u16 = 0xE7C5;
const VERSION: u8 = 1;

/// What a record says. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RecordKind {
    /// Begins a group: what is durable, and where the group before ended.
    Synced = 1,
    Message = 2,
    /// Messages that need no journal any more.
    Settle = 3,
    /// Sessions that are gone.
    Forget = 4,
    /// How many stanzas of some sessions were handled.
    Handled = 5,
    /// One write: all its edits and settlements, or none.
    Changes = 6,
    /// The index has everything before this place.
    Checkpoint = 7,
}

impl RecordKind {
    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Synced,
            Self::Message,
            Self::Settle,
            Self::Forget,
            Self::Handled,
            Self::Changes,
            Self::Checkpoint,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// Where a record is, in the order of writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u64,
    pub offset: u32,
}

/// Octets that a body of `size` takes with header and padding.
pub(super) fn record_octets(size: usize) -> usize {
    (HEADER_OCTETS + size).next_multiple_of(ALIGN)
}

/// Appends a record that will stand at `place`.
pub(super) fn write_record(
    out: &mut Vec<u8>,
    place: Place,
    group: u32,
    kind: RecordKind,
    body: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&MARK.to_le_bytes());
    out.push(kind as u8);
    out.push(VERSION);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let check = header_check(place, &out[start..]);
    out.extend_from_slice(&check.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(start + record_octets(body.len()), 0);
}

fn header_check(place: Place, header: &[u8]) -> u32 {
    let check = crc32c::crc32c(&place.segment.to_le_bytes());
    let check = crc32c::crc32c_append(check, &place.offset.to_le_bytes());
    crc32c::crc32c_append(check, header)
}

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Record {
        kind: RecordKind,
        group: u32,
        body: Range<usize>,
    },
    /// A header that holds, over a body that does not; `end` is where the next record begins.
    BadBody { end: usize },
    /// No header that holds.
    Nothing,
}

/// Reads what stands at `offset` of a whole segment.
pub(super) fn read_record(segment: u64, octets: &[u8], offset: usize) -> Found {
    let Some(header) = octets.get(offset..offset + HEADER_OCTETS) else {
        return Found::Nothing;
    };
    let place = Place {
        segment,
        offset: offset as u32,
    };
    if header[..2] != MARK.to_le_bytes() || number(header, 16) != header_check(place, &header[..16])
    {
        return Found::Nothing;
    }
    let size = number(header, 4) as usize;
    let body = offset + HEADER_OCTETS..offset + HEADER_OCTETS + size;
    let end = offset + record_octets(size);
    let kind = RecordKind::from_number(header[2]);
    match (octets.get(body.clone()), kind) {
        (Some(found), Some(kind))
            if crc32c::crc32c(found) == number(header, 12) && header[3] == VERSION =>
        {
            let group = number(header, 8);
            Found::Record { kind, group, body }
        }
        _ => Found::BadBody {
            end: end.min(octets.len()),
        },
    }
}

fn number(octets: &[u8], at: usize) -> u32 {
    let four = octets[at..at + 4].try_into();
    u32::from_le_bytes(four.expect("four octets are four octets"))
}

/// Reads a body piece by piece; every method is `None` past the end.
pub(in crate::store) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub fn u128(&mut self) -> Option<u128> {
        Some(u128::from_le_bytes(self.take(16)?.try_into().ok()?))
    }

    pub fn place(&mut self) -> Option<Place> {
        let (segment, offset) = (self.u64()?, self.u32()?);
        Some(Place { segment, offset })
    }
}

/// The body of a [`RecordKind::Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub id: MessageId,
    pub stream: StreamId,
    pub handled: u32,
    pub owner: &'a [u8],
    pub octets: &'a [u8],
}

/// What a message's body has before owner and octets.
pub(super) const MESSAGE_HEAD_OCTETS: usize = 30;

impl<'a> Message<'a> {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        out.extend_from_slice(&self.handled.to_le_bytes());
        out.extend_from_slice(&(self.owner.len() as u16).to_le_bytes());
        out.extend_from_slice(self.owner);
        out.extend_from_slice(self.octets);
    }

    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let id = MessageId(reader.u64()?);
        let stream = StreamId(reader.u128()?);
        let handled = reader.u32()?;
        let owner_octets = reader.u16()? as usize;
        Some(Self {
            id,
            stream,
            handled,
            owner: reader.take(owner_octets)?,
            octets: reader.rest(),
        })
    }
}

pub(super) fn write_place(out: &mut Vec<u8>, place: Place) {
    out.extend_from_slice(&place.segment.to_le_bytes());
    out.extend_from_slice(&place.offset.to_le_bytes());
}

/// One entry of a [`RecordKind::Changes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Edit(Edit<'a>),
    Settle(MessageId),
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const TRIM: u8 = 3;
const DELETE_OWNER: u8 = 4;
const SETTLE: u8 = 5;

/// Octets that an edit takes beside its owner, key and value.
pub(in crate::store) const EDIT_OVERHEAD_OCTETS: usize = 2 + 3 * 4;

pub(super) fn write_edit(out: &mut Vec<u8>, edit: &Edit<'_>) {
    let (tag, owner, kind, key, value): (_, &[u8], u8, &[u8], &[u8]) = match *edit {
        Edit::Put {
            owner,
            kind,
            key,
            value,
        } => (PUT, owner, kind as u8, key, value),
        Edit::Delete { owner, kind, key } => (DELETE, owner, kind as u8, key, &[]),
        Edit::Trim { owner, kind, to } => (TRIM, owner, kind as u8, to, &[]),
        Edit::DeleteOwner { owner } => (DELETE_OWNER, owner, 0, &[], &[]),
    };
    out.extend_from_slice(&[tag, kind]);
    for piece in [owner, key, value] {
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    }
    for piece in [owner, key, value] {
        out.extend_from_slice(piece);
    }
}

pub(super) fn write_settle(out: &mut Vec<u8>, id: MessageId) {
    out.push(SETTLE);
    out.extend_from_slice(&id.0.to_le_bytes());
}

/// The next entry of a [`RecordKind::Changes`]; `None` when it is none that we know.
pub(super) fn read_entry<'a>(reader: &mut Reader<'a>) -> Option<Entry<'a>> {
    let tag = reader.u8()?;
    if tag == SETTLE {
        return Some(Entry::Settle(MessageId(reader.u64()?)));
    }
    let kind = reader.u8()?;
    let sizes = [reader.u32()?, reader.u32()?, reader.u32()?];
    let owner = reader.take(sizes[0] as usize)?;
    let key = reader.take(sizes[1] as usize)?;
    let value = reader.take(sizes[2] as usize)?;
    if tag == DELETE_OWNER {
        return Some(Entry::Edit(Edit::DeleteOwner { owner }));
    }
    let kind = Kind::from_number(kind)?;
    Some(Entry::Edit(match tag {
        PUT => Edit::Put {
            owner,
            kind,
            key,
            value,
        },
        DELETE => Edit::Delete { owner, kind, key },
        TRIM => Edit::Trim {
            owner,
            kind,
            to: key,
        },
        _ => return None,
    }))
}
