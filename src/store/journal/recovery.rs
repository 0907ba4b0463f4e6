//! Opening a journal after whatever happened to it.
//!
//! Each group of records begins with a mark of what was durable when it was written. What does not
//! hold before the last mark was promised: it is damage, is reported and set aside, and reading
//! goes on behind it. What does not hold after it was promised to nobody: the journal ends there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::gather::Gather;
use super::record::{
    ALIGN, Entry, Found, HEADER_OCTETS, Message, Place, Reader, RecordKind, read_entry, read_record,
};
use super::segment::{FIRST_RECORD, Head, read_header, segment_name, segment_number};
use super::{At, Handled, Journal, Kept, Lazy, Live, Settings, State};
use crate::store::files::{File, Files};
use crate::store::index::{Edits, Index, IndexError};
use crate::store::{Kind, MessageId, Recovered, StreamId, Unsettled};

/// Something that did not hold, for one line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub kind: DamageKind,
    pub file: String,
    pub offset: u64,
    pub octets: u64,
    /// Where the octets were copied to, unless that failed.
    pub kept_as: Option<String>,
}

/// What [`Damage`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The end of what a crash left: nothing of it was promised.
    TornTail,
    /// Records that were durable once do not hold any more.
    Middle,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            offset,
            octets,
            ..
        } = self;
        match self.kind {
            DamageKind::TornTail => write!(f, "cut a torn tail of {octets} octets")?,
            DamageKind::Middle => write!(f, "{octets} octets are damaged")?,
        }
        write!(f, " in journal/{file} at offset {offset}")?;
        match &self.kept_as {
            Some(name) => write!(f, ", kept as quarantine/{name}"),
            None => f.write_str(", not kept"),
        }
    }
}

/// Reads the journal in `files`, brings `index` up to it and sets damaged octets aside in
/// `quarantine`. The first record written afterwards begins a new segment.
///
/// # Errors
/// When the device or the index fails. Damage is none: see [`Recovered::damage`].
pub fn recover(
    files: Arc<dyn Files>,
    quarantine: &dyn Files,
    settings: Settings,
    index: &mut dyn Index,
) -> io::Result<(Journal, Recovered)> {
    let mut recovery = Recovery::new(&*files, quarantine);
    recovery.scan()?;
    recovery.judge()?;
    recovery.replay(index)?;
    recovery.finish(files.clone(), settings)
}

/// Applies the changes since the last checkpoint to an index that was opened anew.
pub(super) fn replay_again(journal: &Journal, index: &mut dyn Index) -> io::Result<()> {
    let applied = index.applied().map_err(io::Error::other)?;
    for (number, kept) in journal.segments.range(journal.checkpoint.segment..) {
        let octets = read_all(&*kept.file)?;
        for record in scan_segment(*number, &octets).records {
            if record.kind == RecordKind::Changes {
                apply(&octets[record.body.clone()], index, applied).map_err(io::Error::other)?;
            }
        }
    }
    Ok(())
}

struct Recovery<'a> {
    files: &'a dyn Files,
    quarantine: &'a dyn Files,
    segments: BTreeMap<u64, Scanned>,
    durable: Place,
    /// Where each group is, and where it says that the one before it ended.
    links: Vec<(Place, Place)>,
    checkpoint: Place,
    boundary: u64,
    cut: Option<Place>,
    last_id: MessageId,
    last_sequence: u64,
    /// The last sequence that the index has.
    applied: u64,
    live: HashMap<MessageId, (Place, u32), RandomState>,
    handled: HashMap<StreamId, Handled, RandomState>,
    changed_octets: u64,
    damage: Vec<Damage>,
}

/// What one file holds.
struct Scanned {
    file: Arc<dyn File>,
    records: Vec<Record>,
    bad: Vec<Range<usize>>,
    /// Behind the last record.
    end: usize,
    size: usize,
}

struct Record {
    kind: RecordKind,
    body: Range<usize>,
}

impl Record {
    fn place(&self, segment: u64) -> Place {
        let offset = (self.body.start - HEADER_OCTETS) as u32;
        Place { segment, offset }
    }
}

impl<'a> Recovery<'a> {
    fn new(files: &'a dyn Files, quarantine: &'a dyn Files) -> Self {
        Self {
            files,
            quarantine,
            segments: BTreeMap::new(),
            durable: Place::default(),
            links: Vec::new(),
            checkpoint: Place::default(),
            boundary: 0,
            cut: None,
            last_id: MessageId::default(),
            last_sequence: 0,
            applied: 0,
            live: HashMap::default(),
            handled: HashMap::default(),
            changed_octets: 0,
            damage: Vec::new(),
        }
    }

    /// Finds all records and how far the journal was durable.
    fn scan(&mut self) -> io::Result<()> {
        for name in self.files.list()? {
            let Some(number) = segment_number(&name) else {
                continue;
            };
            let file = self.files.open(&name)?;
            let octets = read_all(&*file)?;
            let found = scan_segment(number, &octets);
            let marks = found
                .records
                .iter()
                .filter(|r| r.kind == RecordKind::Synced);
            for mark in marks {
                let mut reader = Reader::new(&octets[mark.body.clone()]);
                if let (Some(durable), Some(previous)) = (reader.place(), reader.place()) {
                    self.durable = self.durable.max(durable);
                    self.links.push((mark.place(number), previous));
                }
            }
            let scanned = Scanned {
                file,
                records: found.records,
                bad: found.bad,
                end: found.end,
                size: octets.len(),
            };
            self.segments.insert(number, scanned);
        }
        Ok(())
    }

    /// Tells damage from the torn tail, finds the last checkpoint, drops what neither holds.
    fn judge(&mut self) -> io::Result<()> {
        self.follow_links();
        let durable = self.durable;
        // A header is durable before the first record: without records it was never finished.
        let torn = |(number, found): (&u64, &Scanned)| {
            let place = |bad: &Range<usize>| Place {
                segment: *number,
                offset: bad.start as u32,
            };
            let promised = |bad: &Range<usize>| {
                place(bad) < durable || bad.start == 0 && !found.records.is_empty()
            };
            found.bad.iter().find(|bad| !promised(bad)).map(place)
        };
        self.cut = self.segments.iter().find_map(torn);
        if let Some(cut) = self.cut {
            self.drop_after(cut)?;
        }
        self.find_checkpoint()?;
        self.segments = self.segments.split_off(&self.boundary);
        self.report_damage();
        Ok(())
    }

    /// Follows the groups from the last to the first. What lies between the end that a group
    /// names and the beginning of its own segment was not trusted after a failed write or sync and
    /// stands again behind: it is void. And a segment may end early without a trace in itself.
    fn follow_links(&mut self) {
        let mut links = std::mem::take(&mut self.links);
        links.sort_unstable();
        let mut ends = vec![self.durable];
        let mut void = Place {
            segment: u64::MAX,
            offset: 0,
        };
        for (at, previous) in links.into_iter().rev() {
            if at >= void {
                continue;
            }
            ends.push(previous);
            if previous.segment < at.segment {
                void = previous;
                self.drop_void(previous, at.segment);
            }
        }
        for end in ends {
            let Some(scanned) = self.segments.get_mut(&end.segment) else {
                continue;
            };
            if scanned.end < end.offset as usize {
                let overlap = scanned.bad.iter().any(|bad| bad.end > scanned.end);
                if !overlap {
                    scanned.bad.push(scanned.end..end.offset as usize);
                }
                scanned.end = end.offset as usize;
            }
        }
    }

    fn drop_void(&mut self, from: Place, to_segment: u64) {
        for (number, scanned) in self.segments.range_mut(from.segment..to_segment) {
            let start = if *number == from.segment {
                from.offset
            } else {
                0
            };
            let start = start as usize;
            scanned.records.retain(|record| record.body.start < start);
            scanned.bad.retain(|bad| bad.start < start);
            scanned.end = scanned.end.min(start);
        }
    }

    fn drop_after(&mut self, cut: Place) -> io::Result<()> {
        let torn = self
            .segments
            .get_mut(&cut.segment)
            .expect("the cut is in it");
        let start = cut.offset as usize;
        torn.records.retain(|record| record.body.start < start);
        torn.bad.retain(|bad| bad.start < start);
        let tail = start..torn.size;
        torn.end = start;
        let file = torn.file.clone();
        self.set_aside(DamageKind::TornTail, cut.segment, &*file, tail);
        for (number, later) in self.segments.split_off(&(cut.segment + 1)) {
            if later.end > FIRST_RECORD as usize {
                self.set_aside(DamageKind::TornTail, number, &*later.file, 0..later.size);
            }
            self.files.remove(&segment_name(number))?;
        }
        file.truncate(u64::from(cut.offset))
    }

    fn find_checkpoint(&mut self) -> io::Result<()> {
        for scanned in self.segments.values() {
            let marks = scanned.records.iter();
            for mark in marks.filter(|record| record.kind == RecordKind::Checkpoint) {
                let mut body = vec![0; mark.body.len()];
                scanned.file.read_at(&mut body, mark.body.start as u64)?;
                let mut reader = Reader::new(&body);
                let place = reader.place();
                let fields = (place, reader.u64(), reader.u64(), reader.u64());
                if let (Some(checkpoint), Some(boundary), Some(last_id), Some(sequence)) = fields {
                    self.checkpoint = checkpoint;
                    self.boundary = boundary;
                    self.last_id = self.last_id.max(MessageId(last_id));
                    self.last_sequence = self.last_sequence.max(sequence);
                }
            }
        }
        let stale: Vec<u64> = self
            .segments
            .range(..self.boundary)
            .map(|(n, _)| *n)
            .collect();
        for number in stale {
            self.files.remove(&segment_name(number))?;
        }
        Ok(())
    }

    fn report_damage(&mut self) {
        let mut found: Vec<(u64, Arc<dyn File>, Range<usize>)> = Vec::new();
        for (number, scanned) in &self.segments {
            for bad in &scanned.bad {
                found.push((*number, scanned.file.clone(), bad.clone()));
            }
        }
        for (number, file, bad) in found {
            self.set_aside(DamageKind::Middle, number, &*file, bad);
        }
    }

    /// Copies octets that do not hold to a file of their own, zeros at the end spared.
    fn set_aside(&mut self, kind: DamageKind, number: u64, file: &dyn File, bad: Range<usize>) {
        let mut octets = vec![0; bad.len()];
        let count = file.read_at(&mut octets, bad.start as u64).unwrap_or(0);
        octets.truncate(count);
        let end = octets
            .iter()
            .rposition(|octet| *octet != 0)
            .map_or(0, |last| last + 1);
        octets.truncate(end);
        let name = format!("{number:012}-{}.bin", bad.start);
        let kept = self.quarantine.create(&name).and_then(|copy| {
            copy.write_at(&octets, 0)?;
            copy.sync_data()
        });
        self.damage.push(Damage {
            kind,
            file: segment_name(number),
            offset: bad.start as u64,
            octets: if kind == DamageKind::TornTail {
                end
            } else {
                bad.len()
            } as u64,
            kept_as: kept.is_ok().then_some(name),
        });
    }

    /// Takes up what all records say, in order.
    fn replay(&mut self, index: &mut dyn Index) -> io::Result<()> {
        self.applied = index.applied().map_err(io::Error::other)?;
        if self.applied < self.last_sequence {
            return Err(io::Error::other(
                "the index lacks rows that were in it: restore a backup",
            ));
        }
        let segments = std::mem::take(&mut self.segments);
        for (number, scanned) in &segments {
            let octets = read_to(&*scanned.file, scanned.end as u64)?;
            for record in &scanned.records {
                let place = record.place(*number);
                let body = &octets[record.body.clone()];
                if self.take_up(place, record.kind, body, index)?.is_none() {
                    let bad = record.body.clone();
                    self.set_aside(DamageKind::Middle, *number, &*scanned.file, bad);
                }
            }
        }
        self.segments = segments;
        Ok(())
    }

    /// `None` when the body is not what its kind asks for.
    fn take_up(
        &mut self,
        place: Place,
        kind: RecordKind,
        body: &[u8],
        index: &mut dyn Index,
    ) -> io::Result<Option<()>> {
        let mut reader = Reader::new(body);
        let segment = place.segment;
        match kind {
            RecordKind::Synced | RecordKind::Checkpoint => {}
            RecordKind::Message => {
                let Some(message) = Message::read(body) else {
                    return Ok(None);
                };
                self.last_id = self.last_id.max(message.id);
                self.live.insert(message.id, (place, body.len() as u32));
                self.count(message.stream, message.handled, segment);
            }
            RecordKind::Settle => {
                while let Some(id) = reader.u64() {
                    self.settle(MessageId(id));
                }
            }
            RecordKind::Forget => {
                while let Some(stream) = reader.u128() {
                    self.handled.remove(&StreamId(stream));
                }
            }
            RecordKind::Handled => {
                while let (Some(stream), Some(count)) = (reader.u128(), reader.u32()) {
                    self.count(StreamId(stream), count, segment);
                }
            }
            RecordKind::Changes => return self.take_up_changes(place, body, index),
        }
        Ok(Some(()))
    }

    fn take_up_changes(
        &mut self,
        place: Place,
        body: &[u8],
        index: &mut dyn Index,
    ) -> io::Result<Option<()>> {
        let mut reader = Reader::new(body);
        let Some(sequence) = reader.u64() else {
            return Ok(None);
        };
        self.last_sequence = self.last_sequence.max(sequence);
        while !reader.is_empty() {
            match read_entry(&mut reader) {
                Some(Entry::Settle(id)) => self.settle(id),
                Some(Entry::Edit(edit)) => self.last_id = self.last_id.max(offline_id(&edit)),
                None => return Ok(None),
            }
        }
        if place >= self.checkpoint {
            self.changed_octets += body.len() as u64;
        }
        apply(body, index, self.applied).map_err(io::Error::other)?;
        Ok(Some(()))
    }

    /// A message that was carried forward says what was true when it came: a count only grows,
    /// modulo 2^32.
    fn count(&mut self, stream: StreamId, count: u32, segment: u64) {
        let fresh = Handled { count, segment };
        let entry = self.handled.entry(stream).or_insert(fresh);
        if (count.wrapping_sub(entry.count) as i32) >= 0 {
            *entry = fresh;
        }
    }

    fn settle(&mut self, id: MessageId) {
        self.last_id = self.last_id.max(id);
        self.live.remove(&id);
    }

    /// Makes what was found durable, so that nobody builds on what a power cut could take.
    fn finish(self, files: Arc<dyn Files>, settings: Settings) -> io::Result<(Journal, Recovered)> {
        let mut durable = Place::default();
        for (number, scanned) in &self.segments {
            scanned.file.sync_data()?;
            durable = Place {
                segment: *number,
                offset: scanned.end as u32,
            };
        }
        files.sync_dir()?;
        let mut recovered = Recovered {
            unsettled: self.unsettled()?,
            handled: self
                .handled
                .iter()
                .map(|(id, entry)| (*id, entry.count))
                .collect(),
            next_id: MessageId(self.last_id.0 + 1),
            damage: self.damage,
        };
        recovered.handled.sort_unstable();
        let next_segment = self
            .segments
            .last_key_value()
            .map_or(1, |(number, _)| number + 1);
        let mut journal = Journal {
            files,
            settings,
            gather: Gather::default(),
            gather_base: 0,
            unsynced: Gather::default(),
            syncing: Gather::default(),
            active: None,
            spare: None,
            next_segment: next_segment.max(self.boundary),
            to_sync: Vec::new(),
            group: 0,
            durable,
            previous: durable,
            live: HashMap::default(),
            waiting: VecDeque::new(),
            waiting_base: 1,
            waiting_written: 1,
            handled: self.handled,
            lazy: Lazy::default(),
            segments: BTreeMap::new(),
            checkpoint: self.checkpoint,
            changed_octets: self.changed_octets,
            retirement: None,
            last_id: self.last_id,
            last_sequence: self.last_sequence.max(self.applied),
            checkpoint_sequence: 0,
            state: State::Well,
            lazy_told: false,
            checkpoints_held: false,
            may_probe: true,
            since: None,
            lateness: Arc::default(),
            out: Vec::new(),
        };
        for (number, scanned) in self.segments {
            let live_octets = 0;
            let file = scanned.file;
            journal.segments.insert(number, Kept { file, live_octets });
        }
        for (id, (place, size)) in self.live {
            if let Some(kept) = journal.segments.get_mut(&place.segment) {
                kept.live_octets += u64::from(size);
            }
            let at = At::Written(place, size);
            journal.live.insert(id, Live { at, waiting: 0 });
        }
        Ok((journal, recovered))
    }

    fn unsettled(&self) -> io::Result<Vec<Unsettled>> {
        let mut order: Vec<(MessageId, Place, u32)> = Vec::with_capacity(self.live.len());
        order.extend(
            self.live
                .iter()
                .map(|(id, (place, size))| (*id, *place, *size)),
        );
        order.sort_unstable();
        let mut unsettled = Vec::with_capacity(order.len());
        for (id, place, size) in order {
            let mut body = vec![0; size as usize];
            let at = u64::from(place.offset) + HEADER_OCTETS as u64;
            self.segments[&place.segment].file.read_at(&mut body, at)?;
            unsettled.extend(Message::read(&body).map(|message| Unsettled {
                id,
                owner: String::from_utf8_lossy(message.owner).into(),
                octets: message.octets.into(),
            }));
        }
        Ok(unsettled)
    }
}

/// The message that an edit puts into the offline store, else zero.
fn offline_id(edit: &crate::store::index::Edit<'_>) -> MessageId {
    match edit {
        crate::store::index::Edit::Put {
            kind: Kind::Offline,
            key,
            ..
        } => MessageId((*key).try_into().map_or(0, u64::from_be_bytes)),
        _ => MessageId(0),
    }
}

/// Applies changes unless the index has them.
fn apply(body: &[u8], index: &mut dyn Index, applied: u64) -> Result<(), IndexError> {
    let mut reader = Reader::new(body);
    let sequence = reader.u64().unwrap_or_default();
    let mut edits = Edits::new();
    while !reader.is_empty() {
        match read_entry(&mut reader) {
            Some(Entry::Edit(edit)) => edits.push(edit),
            Some(Entry::Settle(_)) => {}
            None => break,
        }
    }
    if edits.is_empty() || sequence <= applied {
        return Ok(());
    }
    index.apply(&edits, sequence)
}

struct Scan {
    records: Vec<Record>,
    bad: Vec<Range<usize>>,
    end: usize,
}

/// Finds all records of a segment; where one does not hold, goes on at the next that does.
fn scan_segment(number: u64, octets: &[u8]) -> Scan {
    let mut scan = Scan {
        records: Vec::new(),
        bad: Vec::new(),
        end: FIRST_RECORD as usize,
    };
    let written = octets
        .iter()
        .rposition(|octet| *octet != 0)
        .map_or(0, |last| last + 1);
    if read_header(number, octets) == Head::Damaged {
        scan.bad.push(0..FIRST_RECORD as usize);
    }
    let mut offset = FIRST_RECORD as usize;
    let mut last_group = 0;
    while offset < written {
        match read_record(number, octets, offset) {
            Found::Record { kind, group, body } if group >= last_group => {
                last_group = group;
                offset = body.end.next_multiple_of(ALIGN);
                scan.end = offset;
                scan.records.push(Record { kind, body });
            }
            Found::BadBody { end } => {
                scan.bad.push(offset..end);
                offset = end;
            }
            _ => {
                let next = resume_at(number, octets, offset, last_group, written);
                scan.bad.push(offset..next);
                offset = next;
            }
        }
    }
    scan
}

/// The next place where a record of the same or a later group holds.
fn resume_at(number: u64, octets: &[u8], from: usize, last_group: u32, written: usize) -> usize {
    let mut offset = from + ALIGN;
    while offset < written {
        match read_record(number, octets, offset) {
            Found::Record { group, .. } if group >= last_group => return offset,
            Found::BadBody { .. } => return offset,
            _ => offset += ALIGN,
        }
    }
    written
}

fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    read_to(file, file.size()?)
}

fn read_to(file: &dyn File, end: u64) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; end as usize];
    let count = file.read_at(&mut octets, 0)?;
    octets.truncate(count);
    Ok(octets)
}
