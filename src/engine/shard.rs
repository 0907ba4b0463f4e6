//! What goes into a shard and what comes out of it.

use std::net::SocketAddr;

use crate::base::slab::Key;
use crate::base::time::{Moment, Now};
use crate::store::{Ops, Reply, ShardId, Ticket};

/// The tag of [`LinkKey`].
pub enum LinkTag {}
/// Names a link. The reactor's table of sockets gives the keys.
pub type LinkKey = Key<LinkTag>;

/// Where a link came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub peer: SocketAddr,
    pub entry: Entry,
}

/// How a listener's links begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In clear, with STARTTLS offered (RFC 6120 section 5).
    Clear,
    /// With a TLS handshake (XEP-0368). `Input::Secured` comes before the first octets.
    DirectTls,
}

/// What the engine learns from a finished handshake.
#[derive(Clone, Debug, Default)]
pub struct Secured {
    /// `tls-exporter` channel binding (RFC 9266), TLS 1.3 only.
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` channel binding (RFC 5929): the hash of our certificate.
    pub end_point: Option<Box<[u8]>>,
    /// Name for the log, such as `TLSv1.3`.
    pub version: &'static str,
}

/// Everything that can happen to a shard.
pub enum Input<'a> {
    /// A link was accepted under this key.
    Opened { link: LinkKey, origin: Origin },
    /// A link came from another shard, with what [`Shard::release`] gave there.
    Adopted {
        link: LinkKey,
        origin: Origin,
        stream: Box<Released>,
    },
    /// The peer sent these octets (decrypted).
    Bytes { link: LinkKey, bytes: &'a [u8] },
    /// The handshake that [`LinkEffect::StartTls`] or [`Entry::DirectTls`] asked for is done.
    Secured { link: LinkKey, secured: Secured },
    /// The socket took everything that was due after it had refused some.
    Drained { link: LinkKey },
    /// The link is gone. Comes exactly once for each link that was not handed off.
    Closed { link: LinkKey },
    /// What another shard posted in one turn.
    Mail { from: ShardId, batch: &'a mut Batch },
    /// Storage answered.
    Stored { ticket: Ticket, reply: Reply },
    /// The server's own wishes.
    Command(Command),
}

/// What the server asks of a shard.
pub enum Command {
    /// Take up new limits and texts.
    Reload(std::sync::Arc<super::Policy>),
    /// Say goodbye to everybody: flush acknowledgements, write resumable sessions down, close with
    /// `system-shutdown`. The shard is done when [`Shard::is_empty`].
    Stop,
    /// End all sessions of an account (it was deleted or its password changed).
    Kick {
        account: Box<str>,
        condition: &'static str,
    },
    /// A message that recovery found unsettled: route it again, to the offline store.
    Recover(crate::store::Unsettled),
    /// A session that shutdown wrote down ([`crate::store::Kind::Session`]).
    Revive {
        owner: Box<str>,
        stream: crate::store::StreamId,
        record: Box<[u8]>,
    },
    /// What a resumption of a session lost in a crash is told.
    Handled {
        stream: crate::store::StreamId,
        handled: u32,
    },
}

/// What a shard wants done with a link. In order per link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEffect {
    /// [`Shard::output`] has something.
    Flush,
    /// Write what is due in clear, then begin a TLS handshake as the server.
    StartTls,
    /// Stop reading.
    Pause,
    /// Read again.
    Resume,
    /// Write what is due, then move the link to this shard: deregister, [`Shard::release`], send.
    HandOff(ShardId),
    /// Write what is due within the linger time, then close. [`Input::Closed`] follows.
    Close,
    /// Close now. [`Input::Closed`] follows.
    Abort,
}

/// All that one input caused. Reused from turn to turn.
#[derive(Default)]
pub struct Effects {
    /// What to do with links, in order.
    pub links: Vec<(LinkKey, LinkEffect)>,
    /// One batch for each shard, by its number; the own one stays empty.
    pub mail: Vec<Batch>,
    /// What to ask of storage.
    pub ops: Ops,
    /// What to write to the log.
    pub events: Vec<crate::base::event::Event>,
}

/// What one turn posts to one other shard. Octets once, targets many.
#[derive(Default)]
pub struct Batch {
    arena: Vec<u8>,
}

impl Batch {
    /// Whether there is nothing to post.
    pub fn is_empty(&self) -> bool {
        self.arena.is_empty()
    }

    /// Octets on the way, for the bound on mail.
    pub fn octets_len(&self) -> usize {
        self.arena.len()
    }
}

/// What a link takes along when it moves to its home shard: its stream, unread octets, unsent
/// octets. Opaque outside the engine.
pub struct Released {}

/// How one shard sees itself, for `encke status`.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub links: usize,
    pub sessions: usize,
    pub sessions_detached: usize,
    pub accounts: usize,
    pub waiting_for_storage: usize,
    pub messages_received: u64,
    pub messages_delivered: u64,
    pub messages_stored: u64,
    pub panics: u64,
}

/// One engine on one core.
pub struct Shard {}

impl Shard {
    /// An empty shard. `seed` feeds its random numbers; all shards share `setup.hash_key`.
    pub fn new(_setup: Setup) -> Self {
        Self {}
    }

    /// Takes one input and appends everything it causes to `fx`.
    pub fn handle(&mut self, _input: Input<'_>, _now: Now, _fx: &mut Effects) {}

    /// Runs the deadlines that are due. Call once a turn.
    pub fn expire(&mut self, _now: Now, _fx: &mut Effects) {}

    /// When [`Shard::expire`] has something to do next. A reactor need not wake earlier.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// What is due to be written to `link`; empty when nothing is.
    pub fn output(&self, _link: LinkKey) -> &[u8] {
        &[]
    }

    /// The first `octets` of [`Shard::output`] were taken by the kernel (in clear) or sealed (TLS).
    pub fn wrote(&mut self, _link: LinkKey, _octets: usize, _now: Now, _fx: &mut Effects) {}

    /// Lets go of a link for [`LinkEffect::HandOff`]. `None` when the key is stale.
    pub fn release(&mut self, _link: LinkKey) -> Option<Box<Released>> {
        None
    }

    /// Asserts every invariant; debug builds call it after each input.
    pub fn check(&self) {}

    /// Whether no link, no session and no storage request is left (after [`Command::Stop`]).
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Counters and depths.
    pub fn report(&self) -> Report {
        Report::default()
    }

    /// After a panic inside [`Shard::handle`] for an input of `link`: drops the link's state.
    /// The caller clears `fx`, closes the socket, then calls [`Shard::check`].
    pub fn abandon(&mut self, _link: Option<LinkKey>) {}
}

/// What a shard is made of.
pub struct Setup {
    pub shard: ShardId,
    pub shards: u16,
    pub policy: std::sync::Arc<super::Policy>,
    /// Keys the home of a bare JID; the same for all shards of a process.
    pub hash_key: [u8; 16],
    /// Seeds the shard's random numbers; different for each shard.
    pub seed: [u8; 32],
    /// Every message id given from now on is greater.
    pub next_id: crate::store::MessageId,
}
