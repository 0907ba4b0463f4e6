//! What is kept, and how it is asked for.
//!
//! The engine appends requests to [`Ops`] during a turn; the reactor submits them at its end;
//! storage threads execute them behind [`Backend`] and post [`Reply`] values back. Nobody on a
//! reactor ever waits.

mod answer;
pub mod backup;
pub mod crash_files;
pub mod database;
pub mod disk;
pub mod files;
pub mod index;
pub mod journal;
mod late;
pub mod lateness;
pub mod memory;
pub mod open;
pub mod schema;
pub mod worker;

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroize;

pub use crate::base::id::MessageId;
use crate::base::slab::Key;
use lateness::Lateness;

/// Number of a shard, from zero.
pub type ShardId = u16;

/// The tag of [`TicketKey`].
pub enum TicketTag {}
/// A slot in the asking shard's table of waiters.
pub type TicketKey = Key<TicketTag>;

/// Who waits for a reply. Opaque to storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub shard: ShardId,
    pub key: TicketKey,
}

/// The XEP-0198 identity of a session, as its resumption token spells it. It is aligned as what it
/// stands beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct StreamId(pub u128);

/// A table. Its number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// SCRAM keys of an account, key empty. Its presence is the account's existence.
    Credentials = 1,
    /// The whole roster with its version, key empty.
    Roster = 2,
    /// The block list, key empty.
    Blocked = 3,
    /// How much the offline store holds for the account, key empty.
    OfflineCount = 4,
    /// One message for an absent recipient; key: [`MessageId`], 8 octets big-endian.
    Offline = 16,
    /// XEP-0049; key: namespace, NUL, name.
    Private = 17,
    /// XEP-0054, key empty.
    Vcard = 18,
    /// XEP-0012: when the account was last seen and what it said, key empty.
    Last = 19,
    /// A session written down at shutdown; key: [`StreamId`], 16 octets big-endian.
    Session = 20,
}

impl Kind {
    /// All tables.
    pub const ALL: [Self; 9] = [
        Self::Credentials,
        Self::Roster,
        Self::Blocked,
        Self::OfflineCount,
        Self::Offline,
        Self::Private,
        Self::Vcard,
        Self::Last,
        Self::Session,
    ];

    /// The table that has this number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether its rows may be written a while later when nobody waits for the answer: no promise
    /// depends on them, and only a crash tells.
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Last)
    }
}

/// A run of octets in the arena of an [`Ops`].
pub type Span = Range<u32>;

/// One request. Spans point into the arena of the [`Ops`] that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// One value. Answer: [`Reply::Value`].
    Get { owner: Span, kind: Kind, key: Span },
    /// What a login needs: [`Kind::Credentials`], `Roster`, `Blocked` and `OfflineCount` of one
    /// owner in one go. Answer: [`Reply::Head`].
    Head { owner: Span },
    /// Rows of one owner and kind whose key is greater than `after`, in order of key, at most
    /// `limit` rows and about `octets` octets. Answer: [`Reply::Rows`].
    Range {
        owner: Span,
        kind: Kind,
        after: Span,
        limit: u32,
        octets: u32,
    },
    /// All changes or none, durable before the answer. Answer: [`Reply::Done`], or
    /// [`Reply::Conflict`] when the precondition does not hold, or [`Reply::Refused`]. Without a
    /// ticket, rows of a kind that [`Kind::is_late`] wait for others and are written together.
    Write {
        require: Require,
        changes: Vec<Change>,
    },
    /// A message on its way, kept until it is settled. Answer: [`Reply::Done`] as soon as it is
    /// durable **or** settled, whichever comes first; a full disk delays the answer until then.
    /// `stream` and `handled` say which inbound stanza of which session it was, so that a crash
    /// can be answered with `<failed h=…/>`.
    Journal {
        id: MessageId,
        owner: Span,
        octets: Span,
        stream: StreamId,
        handled: u32,
    },
    /// These messages need no journal any more. No answer.
    Settle { id: MessageId },
    /// A session is gone for good: forget what the journal knows of its `handled`. No answer.
    Forget { stream: StreamId },
    /// Derives keys from a password (PBKDF2 with HMAC). Answer: [`Reply::Hashed`].
    Hash {
        hash: Hash,
        password: Span,
        salt: Span,
        iterations: u32,
    },
}

/// The hash function of an [`Op::Hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
}

/// What must hold before an [`Op::Write`] is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Require {
    Nothing,
    /// The row exists.
    Present {
        owner: Span,
        kind: Kind,
        key: Span,
    },
    /// The row does not exist.
    Absent {
        owner: Span,
        kind: Kind,
        key: Span,
    },
}

/// One step of an [`Op::Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        owner: Span,
        kind: Kind,
        key: Span,
        value: Span,
    },
    Delete {
        owner: Span,
        kind: Kind,
        key: Span,
    },
    /// Rows with keys up to and including `to`.
    Trim {
        owner: Span,
        kind: Kind,
        to: Span,
    },
    /// Everything that the owner has, of every kind.
    DeleteOwner {
        owner: Span,
    },
    /// As [`Op::Settle`], but in the same commit as the other changes.
    Settle {
        id: MessageId,
    },
}

/// A row of an answer: key and value.
pub type Row = (Box<[u8]>, Box<[u8]>);

/// The answer to an [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Value(Option<Box<[u8]>>),
    /// The four rows of [`Op::Head`]; `credentials` is absent when there is no such account.
    Head(Box<Head>),
    /// `more` tells that the limit cut the answer short.
    Rows {
        rows: Vec<Row>,
        more: bool,
    },
    Done,
    Conflict,
    Refused(Refusal),
    Hashed(Box<[u8]>),
}

/// See [`Op::Head`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub credentials: Option<Box<[u8]>>,
    pub roster: Option<Box<[u8]>>,
    pub blocked: Option<Box<[u8]>>,
    pub offline_count: Option<Box<[u8]>>,
}

/// Why storage did not do it. The stanza error is `resource-constraint` of type `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No space is left; it may come back.
    Full,
    /// The device failed, or a stored record is damaged.
    Failed,
}

/// The requests of one turn, in order, with all their octets in one arena.
#[derive(Debug, Default)]
pub struct Ops {
    arena: Vec<u8>,
    list: Vec<(Option<Ticket>, Op)>,
    /// Whether the arena holds a password.
    secret: bool,
}

/// A point in the life of an [`Ops`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OpsMark {
    arena: usize,
    list: usize,
}

impl Ops {
    /// Copies `bytes` into the arena.
    pub fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        start..self.arena.len() as u32
    }

    /// Copies several pieces into the arena as one run.
    pub fn keep_all(&mut self, pieces: &[&[u8]]) -> Span {
        let start = self.arena.len() as u32;
        for piece in pieces {
            self.arena.extend_from_slice(piece);
        }
        start..self.arena.len() as u32
    }

    /// Lets `write` append to the arena and returns what it appended.
    pub fn keep_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        start..self.arena.len() as u32
    }

    /// A request to put the one row of a kind that an account has. Nothing is written for an
    /// account that was deleted meanwhile.
    pub fn put_of_account(&mut self, owner: &str, kind: Kind, value: &[u8]) -> Op {
        let owner = self.keep(owner.as_bytes());
        let key = self.keep(b"");
        let value = self.keep(value);
        Op::Write {
            require: Require::Present {
                owner: owner.clone(),
                kind: Kind::Credentials,
                key: key.clone(),
            },
            changes: vec![Change::Put {
                owner,
                kind,
                key,
                value,
            }],
        }
    }

    /// Appends a request whose spans come from this arena.
    pub fn push(&mut self, ticket: Option<Ticket>, op: Op) {
        self.secret |= matches!(op, Op::Hash { .. });
        self.list.push((ticket, op));
    }

    /// The octets of a span.
    pub fn octets(&self, span: &Span) -> &[u8] {
        &self.arena[span.start as usize..span.end as usize]
    }

    /// All requests, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Option<Ticket>, Op)> {
        self.list.iter()
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Empties it and keeps its capacity. A password in it is wiped.
    pub fn clear(&mut self) {
        if self.secret {
            self.arena.zeroize();
            self.secret = false;
        }
        self.arena.clear();
        self.list.clear();
    }

    /// How long it is now, for [`Ops::truncate`].
    pub fn mark(&self) -> OpsMark {
        OpsMark {
            arena: self.arena.len(),
            list: self.list.len(),
        }
    }

    /// Forgets what was appended after `mark` was taken.
    pub fn truncate(&mut self, mark: OpsMark) {
        self.arena.truncate(mark.arena);
        self.list.truncate(mark.list);
    }

    /// Octets of memory that it keeps when it is empty.
    pub fn octets_capacity(&self) -> usize {
        self.arena.capacity() + self.list.capacity() * size_of::<(Option<Ticket>, Op)>()
    }

    /// Octets that the requests carry.
    pub fn octets_len(&self) -> usize {
        self.arena.len()
    }
}

/// Replies, each with who waits for it.
pub type Replies = Vec<(Ticket, Reply)>;

/// Executes requests. Runs on a storage thread and may block; requests of one account arrive in
/// order, and a later read sees an earlier write.
pub trait Backend: Send {
    /// Executes `batch` in order and appends every answer that is due now to `replies`.
    ///
    /// An answer that needs a commit may come from a later call, also one with an empty batch.
    fn execute(&mut self, batch: &Ops, replies: &mut Replies);

    /// Makes durable what was written and appends the answers that waited for it.
    fn commit(&mut self, replies: &mut Replies);

    /// Whether [`Backend::execute`] has put rows off, because nobody waits for them.
    fn has_late(&self) -> bool {
        false
    }

    /// Writes the rows that were put off. [`Backend::commit`] and [`Backend::close`] do it too.
    fn write_late(&mut self) {}

    /// Everything as it is now but rows that were put off, to be read on another thread.
    fn freeze(&self) -> Result<backup::Frozen, index::IndexError>;

    /// The half of [`Backend::commit`] that waits for the device, for a thread of its own. With
    /// one, nobody calls `commit` any more.
    fn syncer(&mut self) -> Option<Box<dyn Syncer>> {
        None
    }

    /// Whether the syncer has something to do.
    fn wants_sync(&self) -> bool {
        false
    }

    /// Where it notes how long the device has others wait.
    fn lateness(&self) -> Arc<Lateness> {
        Arc::default()
    }

    /// Nothing was asked for a while: gives back memory that a burst needed.
    fn rest(&mut self) -> Rest {
        Rest::Done
    }

    /// Leaves everything in a state that the next start finds without replaying.
    fn close(&mut self) {}
}

/// Whether a [`Backend`] has given back all it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Done,
    /// More, after as long again.
    Again,
}

/// Makes durable what a [`Backend`] wrote, beside it.
pub trait Syncer: Send {
    /// Makes durable what was written and appends the answers that waited for it.
    fn sync(&mut self, wake: Wake, replies: &mut Replies) -> Synced;
}

/// Why a [`Syncer`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something was executed.
    Called,
    /// It waited long enough, or is to end.
    TimedOut,
}

/// What a [`Syncer`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// Nothing waits.
    Idle,
    /// Something was made durable; there may be more by now.
    Some,
    /// Nothing that somebody waits for, but something to be written after a while.
    Lazy,
    /// The device has no space: try again after a while.
    Blocked,
}

/// What a journal knows after a start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Messages that were on their way, in order of id: to be routed again, to the offline store.
    pub unsettled: Vec<Unsettled>,
    /// How many inbound stanzas of each session were handled, to the journal's knowledge.
    pub handled: Vec<(StreamId, u32)>,
    /// Greater than every id that was ever given.
    pub next_id: MessageId,
    /// What did not hold: one line of the log each.
    pub damage: Vec<journal::Damage>,
}

/// One message that was journaled and not settled.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsettled {
    pub id: MessageId,
    /// The recipient's bare JID.
    pub owner: Box<str>,
    /// The stanza, as [`Op::Journal`] got it.
    pub octets: Box<[u8]>,
}
