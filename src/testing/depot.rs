//! Storage without threads: requests wait in a queue until somebody lets it work.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::session::ctx::Revival;
use crate::store::crash_files::{CrashFiles, Faults};
use crate::store::disk::DiskBackend;
use crate::store::index::Scan;
use crate::store::index::memory::{Lost, MemoryIndex};
use crate::store::journal::Settings;
use crate::store::memory::MemoryBackend;
use crate::store::{
    Backend, Change, Kind, Op, Ops, Recovered, Refusal, Replies, Reply, Require, StreamId,
};

/// What keeps the rows and the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Maps. A crash loses nothing of what was executed.
    Memory,
    /// The journal of the real server on a device that loses what was not synced.
    Device,
}

/// A bug put in on purpose, so that a test can show that it would be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    #[default]
    Nothing,
    /// A journaled message is answered before it is in the journal.
    AnswersEarly,
    /// Rows of the offline store are forgotten now and then.
    ForgetsRows,
}

/// How a process ends without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: the kernel has all that was written.
    Killed,
    /// What was not synced is lost, torn, or there.
    PowerLost,
}

/// Storage of a [`super::World`].
pub struct Depot {
    kept: Kept,
    device: CrashFiles,
    quarantine: CrashFiles,
    index: MemoryIndex,
    waiting: VecDeque<Ops>,
    replies: Replies,
    plant: Plant,
    refusing: Option<Refusal>,
    /// Something was executed since the last commit.
    unsynced: bool,
}

enum Kept {
    Memory(MemoryBackend),
    Device(Box<DiskBackend>),
    /// Between a crash and the next start.
    Nothing,
}

/// Small, so that a run of some hundred messages fills segments and retires them.
const SETTINGS: Settings = Settings {
    segment_octets: 64 * 1024,
    reserve_octets: 4 * 1024,
    checkpoint_octets: 24 * 1024,
    held_octets_max: 256 * 1024,
    held_messages_max: 512,
    lazy_max: 16,
};

/// Puts a row into a store, before anything runs.
pub fn put(backend: &mut dyn Backend, owner: &str, kind: Kind, value: &[u8]) {
    let mut ops = Ops::default();
    let (owner, key, value) = (ops.keep(owner.as_bytes()), ops.keep(b""), ops.keep(value));
    let put = Change::Put {
        owner,
        kind,
        key,
        value,
    };
    let write = Op::Write {
        require: Require::Nothing,
        changes: vec![put],
    };
    ops.push(None, write);
    backend.execute(&ops, &mut Replies::new());
    backend.commit(&mut Replies::new());
}

impl Depot {
    /// Empty storage whose accidents follow `seed`.
    pub fn new(keeping: Keeping, plant: Plant, seed: u64) -> Self {
        let mut depot = Self {
            kept: Kept::Nothing,
            device: CrashFiles::new(seed),
            quarantine: CrashFiles::new(seed),
            index: MemoryIndex::default(),
            waiting: VecDeque::new(),
            replies: Replies::new(),
            plant,
            refusing: None,
            unsynced: false,
        };
        match keeping {
            Keeping::Memory => depot.kept = Kept::Memory(MemoryBackend::default()),
            Keeping::Device => {
                depot.open();
            }
        }
        depot
    }

    /// Takes the requests of one turn.
    pub fn submit(&mut self, ops: &mut Ops) {
        if ops.is_empty() {
            return;
        }
        if self.plant == Plant::AnswersEarly {
            let early = ops
                .iter()
                .filter(|(_, op)| matches!(op, Op::Journal { .. }));
            self.replies
                .extend(early.filter_map(|(ticket, _)| Some(((*ticket)?, Reply::Done))));
        }
        self.waiting.push_back(std::mem::take(ops));
    }

    /// Whether there is anything to do.
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.replies.is_empty() || self.unsynced
    }

    /// Whether requests wait to be executed, or answers to be given.
    pub fn has_requests(&self) -> bool {
        !self.waiting.is_empty() || !self.replies.is_empty()
    }

    /// Executes the oldest batch, without making it durable.
    pub fn execute(&mut self) -> Replies {
        let mut replies = std::mem::take(&mut self.replies);
        let Some(ops) = self.waiting.pop_front() else {
            return replies;
        };
        self.unsynced = true;
        if let Some(refusal) = self.refusing {
            return self.refuse(&ops, refusal, replies);
        }
        let forgets = self.plant == Plant::ForgetsRows && is_reading_offline(&ops);
        match self.backend() {
            Some(backend) if !forgets => {
                backend.execute(&ops, &mut replies);
                return replies;
            }
            _ => {}
        }
        for (ticket, _) in ops.iter() {
            let empty = Reply::Rows {
                rows: Vec::new(),
                more: false,
            };
            replies.extend(ticket.map(|ticket| (ticket, empty)));
        }
        replies
    }

    /// Makes durable what was executed.
    pub fn commit(&mut self) -> Replies {
        let mut replies = Replies::new();
        self.unsynced = false;
        if let Some(backend) = self.backend() {
            backend.commit(&mut replies);
        }
        replies
    }

    /// Refuses reads and writes from now on, or no longer. What the journal was given waits.
    pub fn set_refusing(&mut self, refusal: Option<Refusal>) {
        self.refusing = refusal;
    }

    /// What goes wrong on the device, counted in calls from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.device.set_faults(faults);
    }

    /// See [`put`].
    pub fn put(&mut self, owner: &str, kind: Kind, value: &[u8]) {
        if let Some(backend) = self.backend() {
            put(backend, owner, kind, value);
        }
    }

    /// Ends the process in an orderly way: all is executed and written.
    pub fn close(&mut self) {
        while !self.waiting.is_empty() {
            self.execute();
        }
        self.commit();
        if let Some(backend) = self.backend() {
            backend.close();
        }
    }

    /// What a crash leaves, after the next start.
    pub fn crash(&mut self, how: Crash, lost: Lost) -> Recovered {
        self.waiting.clear();
        self.replies.clear();
        self.refusing = None;
        self.unsynced = false;
        if let Kept::Memory(backend) = &mut self.kept {
            // Nobody is left to be answered: the next process has tickets of the same names.
            backend.commit(&mut Replies::new());
            return backend.recovered();
        }
        self.kept = Kept::Nothing;
        if how == Crash::PowerLost {
            self.device.cut_power();
            self.index.crash(lost);
            self.device.restore_power();
        }
        self.device.set_faults(Faults::default());
        self.open()
    }

    /// The sessions that a shutdown wrote down.
    pub fn written_sessions(&mut self) -> Vec<Revival> {
        let mut found = Vec::new();
        let Some(backend) = self.backend() else {
            return found;
        };
        let Ok(frozen) = backend.freeze() else {
            return found;
        };
        // A scan in memory does not fail.
        let _ = frozen
            .rows
            .scan_kind(Kind::Session, &mut |owner, key, value| {
                if let Ok(key) = key.try_into() {
                    found.push(Revival {
                        owner: String::from_utf8_lossy(owner).into(),
                        stream: StreamId(u128::from_be_bytes(key)),
                        record: value.into(),
                    });
                }
                Scan::More
            });
        found
    }

    /// How many rows of a kind there are.
    pub fn rows(&mut self, kind: Kind) -> usize {
        let mut count = 0;
        if let Some(Ok(frozen)) = self.backend().map(|backend| backend.freeze()) {
            let _ = frozen.rows.scan_kind(kind, &mut |_, _, _| {
                count += 1;
                Scan::More
            });
        }
        count
    }

    fn open(&mut self) -> Recovered {
        let files = Arc::new(self.device.clone());
        let index = Box::new(self.index.clone());
        let opened = DiskBackend::recover(files, &self.quarantine, SETTINGS, index);
        let (backend, recovered) = opened.expect("the device works when the process starts");
        self.kept = Kept::Device(Box::new(backend));
        recovered
    }

    fn backend(&mut self) -> Option<&mut dyn Backend> {
        match &mut self.kept {
            Kept::Memory(backend) => Some(backend),
            Kept::Device(backend) => Some(&mut **backend),
            Kept::Nothing => None,
        }
    }

    /// Reads and writes are refused; the journal waits behind, as on a full device.
    fn refuse(&mut self, ops: &Ops, refusal: Refusal, mut replies: Replies) -> Replies {
        let mut rest = Ops::default();
        for (ticket, op) in ops.iter() {
            match op {
                Op::Journal {
                    id,
                    owner,
                    octets,
                    stream,
                    handled,
                } => {
                    let op = Op::Journal {
                        id: *id,
                        owner: rest.keep(ops.octets(owner)),
                        octets: rest.keep(ops.octets(octets)),
                        stream: *stream,
                        handled: *handled,
                    };
                    rest.push(*ticket, op);
                }
                Op::Settle { .. } | Op::Forget { .. } => rest.push(None, op.clone()),
                _ => {
                    let refused = Reply::Refused(refusal);
                    replies.extend(ticket.map(|ticket| (ticket, refused)));
                }
            }
        }
        if let (false, Some(backend)) = (rest.is_empty(), self.backend()) {
            backend.execute(&rest, &mut replies);
        }
        replies
    }
}

fn is_reading_offline(ops: &Ops) -> bool {
    ops.iter().all(|(_, op)| {
        matches!(
            op,
            Op::Range {
                kind: Kind::Offline,
                ..
            }
        )
    })
}
