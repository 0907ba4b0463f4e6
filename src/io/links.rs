//! The sockets of one shard: what is readable, what is dirty, and the steps of a turn on them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::base::pool::{Pool, RESTING_MAX};
use crate::base::slab::Slab;
use crate::base::time::Moment;
use crate::engine::{Input, LinkEffect, LinkKey, LinkTag, Policy};
use crate::io::Shared;
use crate::io::guard::Guarded;
use crate::io::listener::{Listener, Spare};
use crate::io::socket::{Flags, Socket};
use crate::io::tls::{RECORD_OCTETS_MAX, Tls};
use crate::store::ShardId;

mod input;
mod moves;
mod output;
mod relayed;

/// Octets read from one link in one turn.
const READ_OCTETS: usize = 64 * 1024;
/// How long a closing link may take to swallow its last octets.
const LINGER: Duration = Duration::from_secs(5);

/// The sockets of one shard.
pub(super) struct Links {
    shared: Arc<Shared>,
    pub(super) policy: Arc<Policy>,
    registry: Registry,
    sockets: Slab<LinkTag, Socket>,
    listeners: Vec<Listener>,
    /// Nobody is accepted any more, and all links are to end.
    stops: bool,
    spare: Spare,
    /// Links with octets to read, the longest waiting first.
    ready: VecDeque<LinkKey>,
    /// Links with octets to write.
    dirty: VecDeque<LinkKey>,
    /// Links to move, in the order the engine said so.
    leaving: Vec<(LinkKey, ShardId)>,
    /// Closing links by their deadline, which is as far away for each of them.
    lingering: VecDeque<(Moment, LinkKey)>,
    /// Links whose proxy has yet to say whose they are, likewise; some are named or gone.
    unnamed: VecDeque<(Moment, LinkKey)>,
    /// How many of these are neither.
    unnamed_count: usize,
    /// What every read goes into, behind the beginning of a record.
    scratch: Box<[u8]>,
    /// What is sealed in one write.
    sealed: Vec<u8>,
    pool: Pool,
    spare_effects: Vec<(LinkKey, LinkEffect)>,
    pub(super) counters: Counters,
}

/// What the sockets of a shard have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub accepted: u64,
    /// Links closed for a limit of memory, of an address or of descriptors.
    pub refused: u64,
    pub handed_off: u64,
    pub adopted: u64,
    /// Links that came from another shard and found no descriptor here.
    pub lost: u64,
    pub octets_read: u64,
    pub octets_written: u64,
}

impl Links {
    /// The sockets of one shard, with its listeners registered.
    ///
    /// # Errors
    /// When the kernel refuses to watch a listener.
    pub(super) fn new(
        shared: Arc<Shared>,
        policy: Arc<Policy>,
        registry: Registry,
        listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter().enumerate() {
            listener.register(&registry, Token(LISTENER_TOKEN - index))?;
        }
        Ok(Self {
            shared,
            policy,
            registry,
            sockets: Slab::new(),
            listeners,
            stops: false,
            spare: Spare::new(),
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            leaving: Vec::new(),
            lingering: VecDeque::new(),
            unnamed: VecDeque::new(),
            unnamed_count: 0,
            scratch: vec![0; RECORD_OCTETS_MAX + READ_OCTETS].into(),
            sealed: Vec::new(),
            pool: Pool::default(),
            spare_effects: Vec::new(),
            counters: Counters::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Links that wait for a read and for a write.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.ready.len(), self.dirty.len())
    }

    /// Whether something can be done without waiting for the kernel. `reading` tells whether
    /// links are read at all this turn.
    pub(super) fn has_work(&self, now: Moment, reading: bool) -> bool {
        let accepting = || self.listeners.iter().any(|one| one.is_ready(now));
        !self.dirty.is_empty() || (reading && (!self.ready.is_empty() || accepting()))
    }

    /// When a closing or unnamed link or a resting listener has to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let first = [self.lingering.front(), self.unnamed.front()];
        let first = first.into_iter().flatten().map(|(deadline, _)| *deadline);
        let resting = self.listeners.iter().filter_map(Listener::rests_until);
        first.chain(resting).min()
    }

    /// Notes what an event says.
    pub(super) fn mark_ready(&mut self, event: &Event) {
        let token = event.token().0;
        if token >= LISTENER_TOKEN - self.listeners.len() {
            if let Some(listener) = self.listeners.get_mut(LISTENER_TOKEN - token) {
                listener.mark_ready();
            }
            return;
        }
        let key = LinkKey::from_bits(token as u64);
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if event.is_readable() {
            socket.flags.set(Flags::READABLE);
        }
        if event.is_read_closed() {
            socket.flags.set(Flags::READABLE.with(Flags::READ_CLOSED));
        }
        if event.is_error() || (event.is_read_closed() && event.is_write_closed()) {
            // What came before the error is still read.
            let read = Flags::READABLE.with(Flags::READ_CLOSED);
            socket.flags.set(read.with(Flags::BROKEN));
        }
        let writable = event.is_writable();
        if writable {
            socket.flags.set(Flags::WRITABLE);
        }
        if writable && socket.flags.has(Flags::REFUSED) {
            self.mark_dirty(key);
        }
        self.queue_read(key);
    }

    /// Puts a link on the ready list if it has a flag and work for it.
    fn queue_read(&mut self, key: LinkKey) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let flags = &mut socket.flags;
        let held = flags.has_any(HOLDING_FLAGS);
        let due = flags.has(Flags::BROKEN) || (flags.has(Flags::READABLE) && !held);
        if due && !flags.has(Flags::READY) {
            flags.set(Flags::READY);
            self.ready.push_back(key);
        }
    }

    fn mark_dirty(&mut self, key: LinkKey) {
        if let Some(socket) = self.sockets.get_mut(key)
            && !socket.flags.has(Flags::DIRTY)
        {
            socket.flags.set(Flags::DIRTY);
            self.dirty.push_back(key);
        }
    }

    /// Gives the socket a key and lets the kernel watch it: the only time it is told.
    fn insert(&mut self, socket: Socket) -> Option<LinkKey> {
        let descriptor = socket.stream.as_raw_fd();
        let key = self.sockets.insert(socket);
        let watched = self.registry.register(
            &mut SourceFd(&descriptor),
            Token(key.to_bits() as usize),
            Interest::READABLE.add(Interest::WRITABLE),
        );
        if let Err(error) = watched {
            tracing::warn!(name = "watch-failed", %error);
            self.remove(key);
            return None;
        }
        Some(key)
    }

    /// Forgets the socket and closes it.
    fn remove(&mut self, key: LinkKey) -> Option<Flags> {
        let socket = self.sockets.remove(key)?;
        self.shared.census.leave();
        if socket.flags.has(Flags::COUNTED) {
            self.shared.census.dismiss(socket.address);
        }
        if socket.flags.has(Flags::UNNAMED) {
            self.unnamed_count -= 1;
        }
        if let Some(tls) = socket.tls {
            tls.retire(&mut self.pool);
        }
        drop(socket.stream);
        // A listener that found a table full has room again.
        self.spare.fill();
        for listener in &mut self.listeners {
            listener.wake();
        }
        Some(socket.flags)
    }

    /// Closes the socket now and tells the engine, once.
    pub(super) fn lose(&mut self, key: LinkKey, shard: &mut Guarded) {
        if let Some(flags) = self.remove(key)
            && !flags.has_any(Flags::LINGERING.with(Flags::UNNAMED))
        {
            shard.feed(Some(key), Input::Closed { link: key });
        }
    }

    /// Closes the links that a panic took away: the engine has forgotten them.
    pub(super) fn drop_condemned(&mut self, shard: &mut Guarded) {
        for key in shard.take_condemned() {
            self.remove(key);
        }
    }

    /// Carries out what the engine asked for, in order. What that causes in turn comes next turn.
    pub(super) fn apply(&mut self, shard: &mut Guarded) {
        let mut effects = std::mem::take(&mut self.spare_effects);
        std::mem::swap(&mut effects, &mut shard.effects.links);
        for (key, effect) in effects.drain(..) {
            self.apply_one(key, effect, shard);
        }
        self.spare_effects = effects;
    }

    fn apply_one(&mut self, key: LinkKey, effect: LinkEffect, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        match effect {
            LinkEffect::Flush => self.mark_dirty(key),
            LinkEffect::StartTls => self.start_tls(key, shard),
            LinkEffect::Pause => socket.flags.set(Flags::PAUSED),
            LinkEffect::Resume => {
                socket.flags.clear(Flags::PAUSED);
                self.queue_read(key);
            }
            LinkEffect::Authenticated => self.uncount(key),
            LinkEffect::HandOff(to) => {
                socket.flags.set(Flags::LEAVING);
                self.leaving.push((key, to));
                self.mark_dirty(key);
            }
            LinkEffect::Close => self.begin_close(key, shard.now.mono),
            LinkEffect::Abort => self.lose(key, shard),
        }
    }

    /// The address no longer counts for this link.
    fn uncount(&mut self, key: LinkKey) {
        if let Some(socket) = self.sockets.get_mut(key)
            && socket.flags.has(Flags::COUNTED)
        {
            socket.flags.clear(Flags::COUNTED);
            self.shared.census.dismiss(socket.address);
        }
    }

    /// From now on nothing is read, and the link ends when everything due is written or when the
    /// time is over.
    fn begin_close(&mut self, key: LinkKey, now: Moment) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        if !socket.flags.has(Flags::CLOSING) {
            socket.flags.set(Flags::CLOSING);
            self.lingering.push_back((now.after(LINGER), key));
        }
        socket.flags.clear(Flags::PAUSED);
        self.mark_dirty(key);
        self.queue_read(key);
    }

    /// Whether a link that has said everything may go although its peer has not. Clients of HTTP
    /// do not look before their next request, so a server that stops would wait for each of them;
    /// but unread octets would turn the close into a reset.
    const fn goes_at_once(&self, flags: Flags) -> bool {
        self.stops && flags.has(Flags::HTTP) && !flags.has(Flags::READABLE)
    }

    /// Ends the links whose time to linger, or to be named, is over.
    pub(super) fn expire(&mut self, shard: &mut Guarded) {
        self.expire_unnamed(shard);
        while let Some((deadline, key)) = self.lingering.front().copied() {
            if deadline > shard.now.mono {
                break;
            }
            self.lingering.pop_front();
            self.lose(key, shard);
        }
    }

    /// Gives back what a burst needed.
    pub(super) fn rest(&mut self) {
        self.ready.shrink_to(RESTING_MAX);
        self.dirty.shrink_to(RESTING_MAX);
        self.leaving.shrink_to(RESTING_MAX);
        self.lingering.shrink_to(RESTING_MAX);
        self.unnamed.shrink_to(RESTING_MAX);
        self.spare_effects.shrink_to(RESTING_MAX);
        self.sealed = Vec::new();
        self.pool.rest();
    }

    /// Closes every link now.
    pub(super) fn lose_all(&mut self, shard: &mut Guarded) {
        let keys: Vec<_> = self.sockets.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.lose(key, shard);
        }
    }
}

/// Wakes the poll for a listener; the next ones count down. No key looks like this.
const LISTENER_TOKEN: usize = usize::MAX - 1;
/// Wakes the poll for the mailbox.
pub(super) const MAIL_TOKEN: Token = Token(usize::MAX);

/// What keeps a readable link from being read.
const HOLDING_FLAGS: Flags = Flags::PAUSED.with(Flags::LEAVING).with(Flags::ENDED);

fn new_tls(shared: &Shared, socket: &Socket) -> Option<Box<Tls>> {
    let tls = Tls::accept(shared.tls.as_ref()?, socket.entry());
    tls.inspect_err(|error| tracing::error!(name = "tls-failed", %error))
        .ok()
}
