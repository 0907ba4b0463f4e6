//! The backend that keeps its promises: the journal in front of an index.
//!
//! A write goes to the journal, then to the index, then is answered when the journal is durable.
//! The same code runs on two threads behind [`super::worker`] and, call by call, in the simulator.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use super::answer::{holds, read};
use super::backup::Frozen;
use super::files::Files;
use super::index::{Edit, Edits, Index, IndexError, Persist};
use super::journal::{self, EDIT_OVERHEAD_OCTETS, Journal, NewMessage, Settings, State};
use super::late::{self, Late};
use super::lateness::Lateness;
use super::open::DirLock;
use super::{
    Backend, Change, MessageId, Op, Ops, Recovered, Refusal, Replies, Reply, Require, Rest, Synced,
    Syncer, Ticket, Wake,
};

/// Journal and index.
pub struct DiskBackend {
    journal: Arc<Mutex<Journal>>,
    index: Box<dyn Index>,
    half: Half,
    /// Rows that nobody waits for.
    late: Late,
    /// Octets of them that are written without waiting for more.
    late_octets_max: usize,
    /// Owners whose rows the index has not got, because applying a write failed. Not empty: no
    /// write is accepted until the index was opened again.
    behind: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    /// When it was last tried to open the index again, and how long to wait after that.
    caught_up_at: Option<Instant>,
    catch_up_pause: Duration,
    /// Let go after all else.
    lock: Option<DirLock>,
}

impl DiskBackend {
    /// Recovers the journal in `files` and brings `index` up to it.
    ///
    /// # Errors
    /// When the device or the index fails. Damaged records are no error: see
    /// [`Recovered::damage`].
    pub fn recover(
        files: Arc<dyn Files>,
        quarantine: &dyn Files,
        settings: Settings,
        mut index: Box<dyn Index>,
    ) -> io::Result<(Self, Recovered)> {
        let (journal, recovered) = journal::recover(files, quarantine, settings, &mut *index)?;
        let late_octets_max = journal.changes_octets_max().min(LATE_OCTETS_MAX);
        let journal = Arc::new(Mutex::new(journal));
        let half = Half::new(&journal, &*index);
        let backend = Self {
            journal,
            index,
            half,
            late: Late::default(),
            late_octets_max,
            caught_up_at: None,
            catch_up_pause: Duration::ZERO,
            lock: None,
            behind: HashSet::default(),
        };
        Ok((backend, recovered))
    }

    /// Holds the directory as long as this lives, and tries the device with patience: without a
    /// directory, as in a simulation, every write may try.
    pub(super) fn keep_lock(&mut self, lock: DirLock) {
        self.lock = Some(lock);
        self.catch_up_pause = CATCH_UP_PAUSE;
    }

    /// The rows.
    pub fn index(&self) -> &dyn Index {
        &*self.index
    }

    fn execute_one(&mut self, ops: &Ops, ticket: Option<Ticket>, op: &Op, replies: &mut Replies) {
        let refused = match op {
            Op::Write { require, changes }
                if ticket.is_none() && self.put_off(ops, require, changes) =>
            {
                None
            }
            Op::Write { require, changes } => match self.write(ops, ticket, require, changes) {
                Ok(Written::Waits) => None,
                Ok(Written::Conflict) => Some(Reply::Conflict),
                Err(refusal) => Some(Reply::Refused(refusal)),
            },
            Op::Journal {
                id,
                owner,
                octets,
                stream,
                handled,
            } => {
                let message = NewMessage {
                    id: *id,
                    owner: ops.octets(owner),
                    octets: ops.octets(octets),
                    stream: *stream,
                    handled: *handled,
                };
                let taken = lock(&self.journal).message(ticket, message, replies);
                taken.err().map(Reply::Refused)
            }
            Op::Settle { id } => {
                let waiting = lock(&self.journal).settle(*id);
                replies.extend(waiting.map(|ticket| (ticket, Reply::Done)));
                None
            }
            Op::Forget { stream } => {
                lock(&self.journal).forget(*stream);
                None
            }
            Op::Hash { .. } => ticket
                .and_then(|ticket| ops.hash_job(ticket, op))
                .map(|job| job.derive()),
            Op::Get { owner, .. } | Op::Head { owner } | Op::Range { owner, .. } => {
                if let Op::Get { kind, .. } | Op::Range { kind, .. } = op
                    && kind.is_late()
                {
                    self.write_late();
                }
                if self.behind.contains(ops.octets(owner)) {
                    Some(Reply::Refused(Refusal::Full))
                } else {
                    read(&*self.index, ops, op)
                }
            }
        };
        if let (Some(ticket), Some(reply)) = (ticket, refused) {
            replies.push((ticket, reply));
        }
    }

    fn write(
        &mut self,
        ops: &Ops,
        ticket: Option<Ticket>,
        require: &Require,
        changes: &[Change],
    ) -> Result<Written, Refusal> {
        if late::touches(require, changes) {
            self.write_late();
        }
        if !self.behind.is_empty() {
            self.catch_up()?;
        }
        if !holds(&*self.index, ops, require)? {
            return Ok(Written::Conflict);
        }
        let edits: Edits<'_> = changes.iter().filter_map(|c| Edit::of(c, ops)).collect();
        let settled = changes.iter().filter_map(|change| match change {
            Change::Settle { id } => Some(*id),
            _ => None,
        });
        let settled: Vec<MessageId> = settled.collect();
        self.change(ticket, &edits, &settled)?;
        Ok(Written::Waits)
    }

    /// One group of the journal, then the index.
    fn change(
        &mut self,
        ticket: Option<Ticket>,
        edits: &[Edit<'_>],
        settled: &[MessageId],
    ) -> Result<(), Refusal> {
        if edits.iter().any(|edit| edit.owner().contains(&0)) {
            return Err(Refusal::Failed);
        }
        if edits.iter().any(|edit| matches!(edit, Edit::Put { .. })) {
            self.index.check_room()?;
        }
        // Held until the index has it: a checkpoint in between would not cover it.
        let mut journal = lock(&self.journal);
        let sequence = journal.changes(ticket, edits, settled)?;
        if !edits.is_empty() && self.index.apply(edits, sequence).is_err() {
            // The journal has it, so it is done; the index gets it when it is opened again.
            self.behind
                .extend(edits.iter().map(|edit| edit.owner().into()));
            journal.hold_checkpoints();
        }
        Ok(())
    }

    /// Keeps a write that nobody waits for until there is more to write, and tells whether it did.
    fn put_off(&mut self, ops: &Ops, require: &Require, changes: &[Change]) -> bool {
        if !late::may_wait(changes) || !self.behind.is_empty() {
            return false;
        }
        let edits: Edits<'_> = changes.iter().filter_map(|c| Edit::of(c, ops)).collect();
        let size: usize = edits.iter().map(Edit::octets_len).sum();
        let size = size + edits.len() * EDIT_OVERHEAD_OCTETS;
        let fits = size <= self.late_octets_max;
        if !fits || edits.iter().any(|edit| edit.owner().contains(&0)) {
            return false;
        }
        // As good as written: whatever asks for such a row or removes it finds it in its place.
        if matches!(holds(&*self.index, ops, require), Ok(true)) {
            if self.late.record_octets() + size > self.late_octets_max {
                self.write_late();
            }
            self.late.take(&edits);
        }
        true
    }

    /// Opens an index that failed and replays what it lacks.
    fn catch_up(&mut self) -> Result<(), Refusal> {
        if self
            .caught_up_at
            .is_some_and(|last| last.elapsed() < self.catch_up_pause)
        {
            return Err(Refusal::Full);
        }
        self.caught_up_at = Some(Instant::now());
        self.index.reopen()?;
        let mut journal = lock(&self.journal);
        let replayed = journal.replay(&mut *self.index);
        replayed.map_err(|_| Refusal::Failed)?;
        journal.allow_checkpoints();
        self.behind.clear();
        Ok(())
    }
}

/// Rows that nobody waits for, in one group: some hundred, which hold up others by a fraction of a
/// millisecond.
const LATE_OCTETS_MAX: usize = 16 << 10;
/// Opening an index may take as long as a start.
const CATCH_UP_PAUSE: Duration = Duration::from_secs(1);

enum Written {
    Waits,
    Conflict,
}

impl Backend for DiskBackend {
    fn execute(&mut self, batch: &Ops, replies: &mut Replies) {
        for (ticket, op) in batch.iter() {
            self.execute_one(batch, *ticket, op, replies);
        }
    }

    fn commit(&mut self, replies: &mut Replies) {
        self.write_late();
        self.half.sync(Wake::Called, replies);
    }

    fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    fn write_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let mut late = std::mem::take(&mut self.late);
        if self.behind.is_empty() || self.catch_up().is_ok() {
            // Nobody waits: what a full or failing device refuses is lost, as each alone would be.
            let _ = self.change(None, &late.edits(), &[]);
        }
        late.clear();
        self.late = late;
    }

    fn freeze(&self) -> Result<Frozen, IndexError> {
        Ok(Frozen {
            rows: self.index.snapshot()?,
            messages: lock(&self.journal).freeze(),
        })
    }

    fn wants_sync(&self) -> bool {
        lock(&self.journal).wants_waking()
    }

    fn syncer(&mut self) -> Option<Box<dyn Syncer>> {
        Some(Box::new(Half::new(&self.journal, &*self.index)))
    }

    fn lateness(&self) -> Arc<Lateness> {
        self.half.lateness.clone()
    }

    fn rest(&mut self) -> Rest {
        lock(&self.journal).rest();
        self.index.rest()
    }

    fn close(&mut self) {
        let mut replies = Replies::new();
        self.write_late();
        self.half.checkpoint(Due::Always);
        // Lazy records go with the checkpoint; what fails is found again at the next start.
        while self.half.sync(Wake::TimedOut, &mut replies) == Synced::Some {}
    }
}

/// The half that waits for the device.
struct Half {
    journal: Arc<Mutex<Journal>>,
    persist: Box<dyn Persist>,
    lateness: Arc<Lateness>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Always,
    WhenDue,
}

impl Half {
    fn new(journal: &Arc<Mutex<Journal>>, index: &dyn Index) -> Self {
        Self {
            journal: journal.clone(),
            persist: index.persister(),
            lateness: lock(journal).lateness(),
        }
    }

    /// Persists the index and notes it in the journal.
    fn checkpoint(&mut self, due: Due) {
        let mut journal = lock(&self.journal);
        if due == Due::WhenDue && !journal.checkpoint_due() || journal.checkpoints_held() {
            return;
        }
        let end = journal.begin_checkpoint();
        drop(journal);
        let persisted = self.persist.persist().is_ok();
        let mut journal = lock(&self.journal);
        if persisted && !journal.checkpoints_held() {
            journal.add_checkpoint(end);
        } else {
            journal.checkpoint_failed();
        }
    }
}

impl Syncer for Half {
    fn sync(&mut self, wake: Wake, replies: &mut Replies) -> Synced {
        self.checkpoint(Due::WhenDue);
        let mut journal = lock(&self.journal);
        journal.probe();
        let written = match wake {
            Wake::TimedOut => journal.write().and_then(|()| journal.write_lazy()),
            Wake::Called => journal.write(),
        };
        let job = journal.begin_sync(replies);
        let (lazy, full) = (journal.has_lazy(), journal.state() == State::Full);
        let Some(job) = job else {
            return match written {
                _ if full => Synced::Blocked,
                Err(_) => Synced::Blocked,
                Ok(()) if lazy => Synced::Lazy,
                Ok(()) => Synced::Idle,
            };
        };
        drop(journal);
        let began = Instant::now();
        let result = job.run();
        self.lateness.synced(began.elapsed());
        let mut journal = lock(&self.journal);
        journal.end_sync(&job, &result, replies);
        let retired = journal.retire();
        let spare = journal.wants_spare();
        let failing = match journal.state() {
            State::Well => false,
            State::Full => true,
            State::Failing(times) => times > 1,
        };
        drop(journal);
        if let Some(retired) = retired {
            retired.run();
        }
        // Without a spare the next segment is made when it is needed, and that may fail as well.
        if let Some(Ok(spare)) = spare.map(journal::SpareJob::run) {
            lock(&self.journal).put_spare(spare);
        }
        if written.is_err() || failing {
            Synced::Blocked
        } else {
            Synced::Some
        }
    }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
