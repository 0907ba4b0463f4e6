//! The write-ahead log of everything: the only thing that is synced for a promise.
//!
//! Records are gathered in memory, written by one call, made durable by one sync. A message that is
//! settled while it is gathered is never written. Settlements, forgotten sessions and handled
//! counts of such messages are lazy: they ride with the next write, or go alone after a while.

mod gather;
mod lazy;
mod record;
mod recovery;
mod retire;
mod segment;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::gather::{Gather, OVERHEAD_OCTETS, PieceState};
use self::lazy::Lazy;
use self::record::{Message, RecordKind, write_edit, write_settle};
use self::segment::{FIRST_RECORD, Segment};
use super::backup::{FrozenBody, FrozenMessage};
use super::files::{File, Files};
use super::index::Edit;
use super::lateness::Lateness;
use super::{MessageId, Refusal, Replies, Reply, StreamId, Ticket};
use crate::base::pool::RESTING_MAX;

pub use self::record::Place;
pub(super) use self::record::{EDIT_OVERHEAD_OCTETS, Reader};
pub use self::recovery::{Damage, DamageKind, recover};
pub use self::retire::RetireJob;

/// How large the parts of a journal are.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Octets of one file.
    pub segment_octets: u32,
    /// At the end of each file only checkpoints and lazy records may use this, so that a full
    /// disk does not keep the journal from becoming shorter.
    pub reserve_octets: u32,
    /// Octets of changes after which the index is made durable.
    pub checkpoint_octets: u64,
    /// Octets of messages that wait in memory to be written; more is refused.
    pub held_octets_max: usize,
    /// The same in messages.
    pub held_messages_max: usize,
    /// Lazy records that are written without waiting for company.
    pub lazy_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_octets: 64 << 20,
            reserve_octets: 1 << 20,
            checkpoint_octets: 16 << 20,
            held_octets_max: 64 << 20,
            held_messages_max: 100_000,
            lazy_max: 4096,
        }
    }
}

/// An open journal. Not a thread of its own: the executor appends, the syncer writes and syncs.
pub struct Journal {
    files: Arc<dyn Files>,
    settings: Settings,
    /// Not written yet.
    gather: Gather,
    /// The number of the first record in `gather`.
    gather_base: u64,
    /// Written, and not covered by the sync under way.
    unsynced: Gather,
    /// What the sync under way will make durable.
    syncing: Gather,
    active: Option<Segment>,
    /// The next segment, made before it is needed.
    spare: Option<Segment>,
    next_segment: u64,
    /// Files with records in `unsynced`, the active one excepted.
    to_sync: Vec<Arc<dyn File>>,
    group: u32,
    durable: Place,
    /// Where the last group ended.
    previous: Place,
    live: HashMap<MessageId, Live, RandomState>,
    waiting: VecDeque<Option<Ticket>>,
    /// The number of the first in `waiting`.
    waiting_base: u64,
    /// Those before this number wait for a sync only.
    waiting_written: u64,
    handled: HashMap<StreamId, Handled, RandomState>,
    lazy: Lazy,
    segments: BTreeMap<u64, Kept>,
    /// What the index has durably.
    checkpoint: Place,
    changed_octets: u64,
    retirement: Option<retire::Retirement>,
    last_id: MessageId,
    /// The sequence of the last changes.
    last_sequence: u64,
    /// The sequence that the checkpoint under way covers.
    checkpoint_sequence: u64,
    state: State,
    /// The syncer knows that lazy records wait.
    lazy_told: bool,
    checkpoints_held: bool,
    /// On a full device only the syncer tries to make a segment, not every write.
    may_probe: bool,
    /// When the first record came that no sync has begun for.
    since: Option<Instant>,
    lateness: Arc<Lateness>,
    out: Vec<u8>,
}

/// A message that is not settled.
struct Live {
    at: At,
    /// Its number among those who wait.
    waiting: u64,
}

#[derive(Clone, Copy)]
enum At {
    /// In memory, under this number.
    Gathered(u64),
    /// In a segment, with a body of so many octets.
    Written(Place, u32),
}

#[derive(Clone, Copy)]
struct Handled {
    count: u32,
    /// The count is in this segment or a later one.
    segment: u64,
}

/// A file that is kept.
struct Kept {
    file: Arc<dyn File>,
    /// Octets of its messages that are not settled.
    live_octets: u64,
}

/// What the device did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Well,
    /// A write found no space.
    Full,
    /// A write or a sync failed this many times in a row.
    Failing(u32),
}

/// A sync to be done without holding the journal.
pub struct SyncJob {
    files: Vec<Arc<dyn File>>,
    end: Place,
    waiting_end: u64,
    /// When its first record came.
    since: Option<Instant>,
}

impl SyncJob {
    /// Waits for the device.
    ///
    /// # Errors
    /// What the device says. Nothing of the job may be trusted then.
    pub fn run(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())
    }
}

impl Journal {
    /// Takes a message that waits to be durable or settled.
    ///
    /// # Errors
    /// [`Refusal::Full`] when too much waits for the device.
    pub fn message(
        &mut self,
        ticket: Option<Ticket>,
        message: NewMessage<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let NewMessage {
            id,
            owner,
            octets,
            stream,
            handled,
        } = message;
        let size = record::MESSAGE_HEAD_OCTETS + owner.len() + octets.len();
        if owner.len() > usize::from(u16::MAX) || size > self.body_octets_max() {
            return Err(Refusal::Failed);
        }
        if self.holds_too_much() {
            return Err(Refusal::Full);
        }
        if let Some(ticket) = self.settle(id) {
            replies.push((ticket, Reply::Done));
        }
        self.last_id = self.last_id.max(id);
        let segment = self.active.as_ref().map_or(0, |active| active.number);
        self.handled.insert(
            stream,
            Handled {
                count: handled,
                segment,
            },
        );
        self.lazy.handled.remove(&stream);
        let waiting = self.wait(ticket);
        let piece = self.gather.push(RecordKind::Message, waiting + 1, |out| {
            let message = Message {
                id,
                stream,
                handled,
                owner,
                octets,
            };
            message.write(out);
        });
        piece.message = Some(id);
        let at = At::Gathered(self.gather_base + self.gather.pieces.len() as u64 - 1);
        self.live.insert(id, Live { at, waiting });
        Ok(())
    }

    /// A message needs no journal any more. Returns who waits for it, to be answered now.
    pub fn settle(&mut self, id: MessageId) -> Option<Ticket> {
        let live = self.live.remove(&id)?;
        match live.at {
            At::Gathered(number) => self.bury(number),
            At::Written(place, size) => {
                self.unkeep(place, size);
                self.lazy.settled.push(id);
            }
        }
        self.take_waiting(live.waiting)
    }

    /// A session is gone for good.
    pub fn forget(&mut self, stream: StreamId) {
        if self.handled.remove(&stream).is_some() {
            self.lazy.handled.remove(&stream);
            self.lazy.forgotten.push(stream);
        }
    }

    /// Writes a group of edits and settlements at once; `ticket` is answered when it is durable.
    /// Returns its sequence.
    ///
    /// # Errors
    /// Nothing was written then.
    pub fn changes(
        &mut self,
        ticket: Option<Ticket>,
        edits: &[Edit<'_>],
        settled: &[MessageId],
    ) -> Result<u64, Refusal> {
        let waiting = self.wait(ticket);
        let sequence = self.last_sequence + 1;
        let piece = self.gather.push(RecordKind::Changes, waiting + 1, |out| {
            out.extend_from_slice(&sequence.to_le_bytes());
            edits.iter().for_each(|edit| write_edit(out, edit));
            settled.iter().for_each(|id| write_settle(out, *id));
        });
        let size = piece.body.len();
        let written = if size > self.body_octets_max() {
            Err(Refusal::Failed)
        } else {
            self.write().map_err(|error| refusal(&error))
        };
        if let Err(refusal) = written {
            self.gather.pop();
            self.waiting.pop_back();
            return Err(refusal);
        }
        self.last_sequence = sequence;
        self.changed_octets += size as u64;
        for id in settled {
            self.last_id = self.last_id.max(*id);
            // Who waits for the message is answered by the sync that makes the change durable, not
            // before: until then a power cut would take both.
            if let Some(live) = self.live.remove(id)
                && let At::Written(place, size) = live.at
            {
                self.unkeep(place, size);
            }
        }
        Ok(sequence)
    }

    /// Octets of edits that one group takes.
    pub fn changes_octets_max(&self) -> usize {
        self.body_octets_max() - size_of::<u64>()
    }

    /// Writes what was gathered to the page cache.
    ///
    /// # Errors
    /// What could not be written stays gathered.
    pub fn write(&mut self) -> io::Result<()> {
        let mut retried = false;
        loop {
            self.drop_dead();
            let lazy_due = self.lazy.len() >= self.settings.lazy_max;
            if self.gather.is_empty() && !lazy_due {
                return Ok(());
            }
            match self.write_group() {
                Ok(()) => self.state = State::Well,
                Err(error) if is_full(&error) => {
                    self.state = State::Full;
                    return Err(error);
                }
                Err(error) => {
                    self.abandon_active();
                    if retried {
                        self.state = self.state.failed();
                        return Err(error);
                    }
                    retried = true;
                }
            }
        }
    }

    /// Writes lazy records that found no company.
    ///
    /// # Errors
    /// They stay for later.
    pub fn write_lazy(&mut self) -> io::Result<()> {
        if self.lazy.is_empty() {
            return Ok(());
        }
        self.write_group()
    }

    /// Whether a sync has something to do.
    pub fn wants_sync(&self) -> bool {
        !self.unsynced.is_empty() || self.gather.living_octets() > 0
    }

    /// On a full device: lets the next write look once whether there is space for a segment, and
    /// looks when nothing waits to be written.
    pub fn probe(&mut self) {
        self.may_probe = true;
        if self.state == State::Full && self.gather.is_empty() && self.make_room(0, 0).is_ok() {
            self.state = State::Well;
        }
    }

    /// Whether the syncer must be woken. Lazy records wake it once, to begin their wait.
    pub fn wants_waking(&mut self) -> bool {
        if self.state == State::Full {
            // It looks by itself from time to time.
            return false;
        }
        let lazy = self.has_lazy() && !std::mem::replace(&mut self.lazy_told, true);
        let syncs = self.wants_sync();
        if !syncs && self.syncing.is_empty() {
            self.nothing_waits();
        }
        lazy || syncs
    }

    /// The index lacks a change: nothing may call it complete.
    pub fn hold_checkpoints(&mut self) {
        self.checkpoints_held = true;
    }

    /// The index has all changes again.
    pub fn allow_checkpoints(&mut self) {
        self.checkpoints_held = false;
    }

    /// See [`Journal::hold_checkpoints`].
    pub fn checkpoints_held(&self) -> bool {
        self.checkpoints_held
    }

    /// Gives back what a burst needed.
    pub fn rest(&mut self) {
        self.gather.rest();
        self.unsynced.rest();
        self.syncing.rest();
        self.waiting.shrink_to(RESTING_MAX);
        self.out.shrink_to(gather::RESTING_OCTETS);
    }

    /// Whether lazy records wait.
    pub fn has_lazy(&self) -> bool {
        !self.lazy.is_empty()
    }

    /// What the device did last.
    pub fn state(&self) -> State {
        self.state
    }

    /// Begins a sync of all that is written. `None` when all of it is durable.
    pub fn begin_sync(&mut self, replies: &mut Replies) -> Option<SyncJob> {
        debug_assert!(self.syncing.is_empty(), "one sync at a time");
        if self.unsynced.is_empty() {
            if self.gather.is_empty() {
                self.nothing_waits();
            }
            self.release(self.waiting_written, replies);
            return None;
        }
        std::mem::swap(&mut self.syncing, &mut self.unsynced);
        let mut files = std::mem::take(&mut self.to_sync);
        let mut end = self.durable;
        if let Some(active) = &self.active {
            files.push(active.file.clone());
            end = active.end();
        }
        let since = self.since;
        if self.gather.is_empty() {
            self.since = None;
        }
        Some(SyncJob {
            files,
            end,
            waiting_end: self.waiting_written,
            since,
        })
    }

    /// Ends a sync and appends the answers that waited for it.
    pub fn end_sync(&mut self, job: &SyncJob, result: &io::Result<()>, replies: &mut Replies) {
        if result.is_ok() {
            self.syncing.clear();
            self.durable = self.durable.max(job.end);
            if !matches!(self.state, State::Full) {
                self.state = State::Well;
            }
            self.release(job.waiting_end, replies);
            if let Some(since) = job.since {
                self.lateness.waited(since.elapsed());
            }
            self.lateness.waits_since(self.since);
            return;
        }
        self.since = job.since.or(self.since);
        self.take_back();
        self.state = self.state.failed();
        if matches!(self.state, State::Failing(times) if times > 1) {
            self.fail_waiting(job.waiting_end, replies);
        }
    }

    /// Makes the next segment before it is needed, when the active one is half full. Returns what
    /// [`Journal::put_spare`] takes, so that the device is waited for without holding the journal.
    pub fn wants_spare(&mut self) -> Option<SpareJob> {
        let active = self.active.as_ref()?;
        if self.spare.is_some() || active.offset < self.settings.segment_octets / 2 {
            return None;
        }
        let number = self.next_segment;
        self.next_segment += 1;
        Some(SpareJob {
            files: self.files.clone(),
            number,
            octets: self.settings.segment_octets,
        })
    }

    /// Keeps what [`SpareJob::run`] made.
    pub fn put_spare(&mut self, spare: Spare) {
        // A segment that was begun in the meantime has a higher number: order is order of numbers.
        let late = self
            .active
            .as_ref()
            .is_some_and(|active| active.number > spare.0.number);
        if late {
            self.segments.insert(spare.0.number, Kept::new(&spare.0));
        } else {
            self.spare = Some(spare.0);
        }
    }

    /// All messages that are not settled, in order of id.
    pub fn freeze(&self) -> Vec<FrozenMessage> {
        let frozen = self.live.iter().filter_map(|(id, live)| {
            let body = match live.at {
                At::Gathered(number) => {
                    let piece = &self.gather.pieces[(number - self.gather_base) as usize];
                    let message = Message::read(self.gather.octets(piece))?;
                    FrozenBody::Here {
                        owner: message.owner.into(),
                        octets: message.octets.into(),
                    }
                }
                At::Written(place, size) => FrozenBody::There {
                    file: self.segments.get(&place.segment)?.file.clone(),
                    offset: u64::from(place.offset) + record::HEADER_OCTETS as u64,
                    size,
                },
            };
            Some(FrozenMessage { id: *id, body })
        });
        let mut frozen: Vec<FrozenMessage> = frozen.collect();
        frozen.sort_unstable_by_key(|message| message.id);
        frozen
    }

    /// Applies the changes since the last checkpoint to an index that was opened anew.
    ///
    /// # Errors
    /// When the device or the index fails.
    pub fn replay(&self, index: &mut dyn super::index::Index) -> io::Result<()> {
        recovery::replay_again(self, index)
    }

    fn body_octets_max(&self) -> usize {
        let room = self.settings.segment_octets - self.settings.reserve_octets - FIRST_RECORD;
        room as usize / 2 - 4 * OVERHEAD_OCTETS
    }

    fn holds_too_much(&mut self) -> bool {
        let dead = self.gather.bodies.len() - self.gather.living_octets();
        if self.gather.dead * 2 > self.gather.pieces.len().max(1024) || dead > 1 << 20 {
            self.compact();
        }
        self.gather.living_octets() >= self.settings.held_octets_max
            || self.gather.pieces.len() >= self.settings.held_messages_max
    }

    /// Where it notes how late it is.
    pub fn lateness(&self) -> Arc<Lateness> {
        self.lateness.clone()
    }

    fn nothing_waits(&mut self) {
        if self.since.take().is_some() {
            self.lateness.waits_since(None);
        }
    }

    fn wait(&mut self, ticket: Option<Ticket>) -> u64 {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            if self.syncing.is_empty() {
                self.lateness.waits_since(self.since);
            }
        }
        self.waiting.push_back(ticket);
        self.waiting_base + self.waiting.len() as u64 - 1
    }

    fn take_waiting(&mut self, number: u64) -> Option<Ticket> {
        let place = number.checked_sub(self.waiting_base)?;
        self.waiting.get_mut(place as usize)?.take()
    }

    fn release(&mut self, end: u64, replies: &mut Replies) {
        while self.waiting_base < end {
            let ticket = self.waiting.pop_front().flatten();
            replies.extend(ticket.map(|ticket| (ticket, Reply::Done)));
            self.waiting_base += 1;
        }
    }

    /// Answers those whose records could not be made durable twice. The records stay: they are
    /// tried again, for what comes after them.
    fn fail_waiting(&mut self, end: u64, replies: &mut Replies) {
        for place in 0..(end - self.waiting_base) as usize {
            let ticket = self.waiting.get_mut(place).and_then(Option::take);
            replies.extend(ticket.map(|ticket| (ticket, Reply::Refused(Refusal::Failed))));
        }
    }

    fn bury(&mut self, number: u64) {
        let place = (number - self.gather_base) as usize;
        let piece = &self.gather.pieces[place];
        let message = piece.message;
        if piece.state == PieceState::Carried {
            self.lazy.settled.extend(message);
        }
        let stream = Message::read(self.gather.octets(piece)).map(|message| message.stream);
        self.lazy
            .handled
            .extend(stream.filter(|stream| self.handled.contains_key(stream)));
        self.gather.bury(place);
    }

    fn unkeep(&mut self, place: Place, size: u32) {
        if let Some(kept) = self.segments.get_mut(&place.segment) {
            kept.live_octets = kept.live_octets.saturating_sub(u64::from(size));
        }
    }

    /// When all that is gathered is settled, it is as good as written.
    fn drop_dead(&mut self) {
        if self.gather.dead == self.gather.pieces.len() {
            if let Some(last) = self.gather.pieces.last() {
                self.waiting_written = last.waiting_end;
            }
            self.gather_base += self.gather.pieces.len() as u64;
            self.gather.clear();
        }
    }
}

/// Owner and stanza in the body of a message's record.
pub(super) fn owner_and_octets(body: &[u8]) -> Option<(&[u8], &[u8])> {
    Message::read(body).map(|message| (message.owner, message.octets))
}

/// A message for [`Journal::message`].
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    pub id: MessageId,
    pub owner: &'a [u8],
    pub octets: &'a [u8],
    pub stream: StreamId,
    pub handled: u32,
}

/// See [`Journal::wants_spare`].
pub struct SpareJob {
    files: Arc<dyn Files>,
    number: u64,
    octets: u32,
}

/// A segment that was made before it is needed.
pub struct Spare(Segment);

impl SpareJob {
    /// Waits for the device.
    ///
    /// # Errors
    /// When there is no space or the device fails.
    pub fn run(self) -> io::Result<Spare> {
        Segment::create(&*self.files, self.number, self.octets).map(Spare)
    }
}

impl Kept {
    fn new(segment: &Segment) -> Self {
        Self {
            file: segment.file.clone(),
            live_octets: 0,
        }
    }
}

impl State {
    fn failed(self) -> Self {
        match self {
            Self::Failing(times) => Self::Failing(times.saturating_add(1)),
            Self::Well | Self::Full => Self::Failing(1),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn refusal(error: &io::Error) -> Refusal {
    if is_full(error) {
        Refusal::Full
    } else {
        Refusal::Failed
    }
}
