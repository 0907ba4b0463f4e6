//! The sockets of one shard: what is readable, what is dirty, and the steps of a turn on them.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::base::pool::Pool;
use crate::base::slab::Slab;
use crate::base::time::Moment;
use crate::engine::{Entry, Input, LinkEffect, LinkKey, LinkTag, Origin};
use crate::io::Shared;
use crate::io::guard::Guarded;
use crate::io::handoff::Handoff;
use crate::io::listener::{Accepted, Listener, Spare};
use crate::io::socket::{Flags, Read, Sent, Socket};
use crate::io::tls::{Opened, RECORD_OCTETS_MAX, Standing, Tls};
use crate::store::ShardId;

/// Octets read from one link in one turn.
const READ_OCTETS: usize = 64 * 1024;
/// Octets read from all links in one turn: beyond, the others would wait too long.
const READ_OCTETS_PER_TURN: usize = 2 * 1024 * 1024;
/// Octets offered to the kernel for one link in one turn.
const WRITE_OCTETS: usize = 128 * 1024;
/// Handshake steps in one turn: each may cost 50 µs.
const HANDSHAKES_PER_TURN: usize = 32;
/// Links accepted from one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Links refused at once when no descriptor is left.
const REFUSALS_PER_REST: usize = 64;
/// How long a closing link may take to swallow its last octets.
const LINGER: Duration = Duration::from_secs(5);

/// The sockets of one shard.
pub(super) struct Links {
    shared: Arc<Shared>,
    registry: Registry,
    sockets: Slab<LinkTag, Socket>,
    listeners: Vec<Listener>,
    spare: Spare,
    /// Links with octets to read, the longest waiting first.
    ready: VecDeque<LinkKey>,
    /// Links with octets to write.
    dirty: VecDeque<LinkKey>,
    /// Links to move, in the order the engine said so.
    leaving: Vec<(LinkKey, ShardId)>,
    /// Closing links by their deadline, which is as far away for each of them.
    lingering: VecDeque<(Moment, LinkKey)>,
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
        registry: Registry,
        listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter().enumerate() {
            listener.register(&registry, Token(LISTENER_TOKEN - index))?;
        }
        Ok(Self {
            shared,
            registry,
            sockets: Slab::new(),
            listeners,
            spare: Spare::new(),
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            leaving: Vec::new(),
            lingering: VecDeque::new(),
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

    /// When a closing link or a resting listener has to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        let resting = self.listeners.iter().filter_map(Listener::rests_until);
        lingering.into_iter().chain(resting).min()
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

    /// Accepts who waits, within the budget.
    pub(super) fn accept(&mut self, shard: &mut Guarded) {
        let now = shard.now.mono;
        for index in 0..self.listeners.len() {
            if !self.listeners[index].is_ready(now) {
                continue;
            }
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.shared.census.enter() {
                    self.listeners[index].rest(now);
                    break;
                }
                let listener = &mut self.listeners[index];
                let accepted = listener.accept();
                let entry = listener.entry;
                if let Accepted::Link(socket, peer) = accepted {
                    self.open(socket, Origin { peer, entry }, shard);
                    continue;
                }
                self.shared.census.leave();
                if matches!(accepted, Accepted::Full) {
                    let refused = self.spare.refuse(listener, REFUSALS_PER_REST);
                    self.counters.refused += refused as u64;
                    listener.rest(now);
                }
                if !matches!(accepted, Accepted::Failed) {
                    break;
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, origin: Origin, shard: &mut Guarded) {
        let slot = (!self.shared.census.is_memory_short(shard.now.mono))
            .then(|| self.shared.census.admit(origin.peer.ip()))
            .flatten();
        let Some(address) = slot else {
            self.shared.census.leave();
            self.counters.refused += 1;
            return;
        };
        let entry = match origin.entry {
            Entry::Clear => Flags::NONE,
            Entry::DirectTls => Flags::DIRECT.with(Flags::TLS),
        };
        let socket = Socket {
            stream,
            flags: Flags::WRITABLE.with(Flags::COUNTED).with(entry),
            address,
            tls: None,
        };
        if let Some(link) = self.insert(socket) {
            self.counters.accepted += 1;
            shard.feed(Some(link), Input::Opened { link, origin });
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
            && !flags.has(Flags::LINGERING)
        {
            shard.feed(Some(key), Input::Closed { link: key });
        }
    }

    /// Closes the links that made the shard panic: the engine has forgotten them.
    pub(super) fn drop_condemned(&mut self, shard: &mut Guarded) {
        for key in shard.take_condemned() {
            self.remove(key);
        }
    }

    /// Reads what is ready, within the budgets.
    pub(super) fn read_ready(&mut self, shard: &mut Guarded) {
        let mut octets = READ_OCTETS_PER_TURN;
        let mut handshakes = HANDSHAKES_PER_TURN;
        for _ in 0..self.ready.len() {
            if octets == 0 {
                break;
            }
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            let Some(socket) = self.sockets.get_mut(key) else {
                continue;
            };
            socket.flags.clear(Flags::READY);
            if socket.flags.has_any(HOLDING_FLAGS) {
                if socket.flags.has(Flags::BROKEN) {
                    self.lose(key, shard);
                }
                continue;
            }
            if socket.is_handshaking() {
                if handshakes == 0 {
                    self.queue_read(key);
                    continue;
                }
                handshakes -= 1;
            }
            let read = self.read(key, shard);
            octets = octets.saturating_sub(read);
            self.counters.octets_read += read as u64;
            self.queue_read(key);
        }
    }

    /// One read and what follows from it. Returns the octets.
    fn read(&mut self, key: LinkKey, shard: &mut Guarded) -> usize {
        let Some(socket) = self.sockets.get_mut(key) else {
            return 0;
        };
        let recalled = socket
            .tls
            .as_ref()
            .map_or(0, |tls| tls.recall(&mut self.scratch));
        let room = &mut self.scratch[recalled..recalled + READ_OCTETS];
        let octets = match socket.receive(room) {
            Read::Octets(octets) => octets,
            Read::Nothing if !socket.flags.has(Flags::BROKEN) => {
                socket.flags.clear(Flags::READABLE);
                return 0;
            }
            Read::End => {
                socket.flags.set(Flags::ENDED);
                self.end(key, shard);
                return 0;
            }
            Read::Nothing | Read::Broken => {
                self.lose(key, shard);
                return 0;
            }
        };
        if octets < READ_OCTETS && !socket.flags.has(Flags::READ_CLOSED) {
            socket.flags.clear(Flags::READABLE);
        }
        if socket.flags.has(Flags::CLOSING) {
            // Nobody wants it, but unread octets would turn our close into a reset that overtakes
            // what we sent last.
        } else if socket.flags.has(Flags::TLS) {
            self.open_records(key, recalled + octets, shard);
        } else {
            let bytes = &self.scratch[..octets];
            shard.feed(Some(key), Input::Bytes { link: key, bytes });
        }
        octets
    }

    /// The peer has said its last: what is due to it is written, then the link is gone.
    fn end(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        if socket.flags.has(Flags::LINGERING) {
            self.lose(key, shard);
        } else {
            self.begin_close(key, shard.now.mono);
        }
    }

    /// Decrypts what the scratch buffer holds and feeds it.
    fn open_records(&mut self, key: LinkKey, octets: usize, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let Some(mut tls) = socket.tls.take().or_else(|| new_tls(&self.shared, socket)) else {
            self.lose(key, shard);
            return;
        };
        let incoming = &mut self.scratch[..octets];
        let standing = tls.receive(incoming, &mut self.pool, &mut |opened| {
            let input = match opened {
                Opened::Secured(secured) => Input::Secured { link: key, secured },
                Opened::Bytes(bytes) => Input::Bytes { link: key, bytes },
            };
            shard.feed(Some(key), input);
        });
        let owes = !tls.unsent().is_empty();
        socket.tls = Some(tls);
        match standing {
            Standing::Open => {}
            Standing::PeerClosed => self.begin_close(key, shard.now.mono),
            Standing::Failed => {
                socket.flags.set(Flags::MUTE);
                self.begin_close(key, shard.now.mono);
            }
        }
        if owes {
            self.mark_dirty(key);
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

    /// What is due goes out in clear, now; what the kernel refuses of it goes before the first
    /// record.
    fn start_tls(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let due = shard.output(key);
        let sent = match socket.send(due) {
            Sent::Octets(octets) => octets,
            Sent::Broken => {
                self.lose(key, shard);
                return;
            }
        };
        socket.flags.set(Flags::TLS);
        let rest = &due[sent..];
        if !rest.is_empty() {
            let Some(mut tls) = new_tls(&self.shared, socket) else {
                self.lose(key, shard);
                return;
            };
            tls.keep_unsent(rest.to_vec());
            socket.tls = Some(tls);
            socket.flags.clear(Flags::WRITABLE);
            socket.flags.set(Flags::REFUSED);
        }
        let octets = due.len();
        self.counters.octets_written += sent as u64;
        shard.wrote(key, octets);
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

    /// Ends the links whose time to linger is over.
    pub(super) fn expire(&mut self, shard: &mut Guarded) {
        while let Some((deadline, key)) = self.lingering.front().copied() {
            if deadline > shard.now.mono {
                break;
            }
            self.lingering.pop_front();
            self.lose(key, shard);
        }
    }

    /// One write for each link that has something due.
    pub(super) fn write_dirty(&mut self, shard: &mut Guarded) {
        for _ in 0..self.dirty.len() {
            // Links that are dirty again wait for the next turn.
            if let Some(key) = self.dirty.pop_front() {
                self.write(key, shard);
            }
        }
    }

    fn write(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        socket.flags.clear(Flags::DIRTY);
        if socket.flags.has(Flags::LINGERING) {
            return;
        }
        if !socket.flags.has(Flags::WRITABLE) {
            // The next writable event comes back to it.
            socket.flags.set(Flags::REFUSED);
            return;
        }
        let written = match socket.flags.has(Flags::TLS) {
            true => self.write_sealed(key, shard),
            false => self.write_clear(key, shard),
        };
        match written {
            Written::All => self.on_drained(key, shard),
            Written::Some => self.mark_dirty(key),
            Written::Refused => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.flags.clear(Flags::WRITABLE);
                    socket.flags.set(Flags::REFUSED);
                }
            }
            Written::Broken => self.lose(key, shard),
        }
    }

    fn on_drained(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let refused = socket.flags.has(Flags::REFUSED);
        socket.flags.clear(Flags::REFUSED);
        if !socket.flags.has(Flags::CLOSING) {
            if refused {
                shard.feed(Some(key), Input::Drained { link: key });
            }
            return;
        }
        let gone = socket.flags.has(Flags::ENDED) || socket.end_output().is_err();
        if gone {
            self.lose(key, shard);
        } else {
            socket.flags.set(Flags::LINGERING);
            shard.feed(Some(key), Input::Closed { link: key });
        }
    }

    fn write_clear(&mut self, key: LinkKey, shard: &mut Guarded) -> Written {
        let Some(socket) = self.sockets.get(key) else {
            return Written::All;
        };
        let output = shard.output(key);
        if output.is_empty() {
            return Written::All;
        }
        let due = &output[..output.len().min(WRITE_OCTETS)];
        let (due, all) = (due.len(), due.len() == output.len());
        match socket.send(&output[..due]) {
            Sent::Broken => Written::Broken,
            Sent::Octets(sent) => {
                self.counters.octets_written += sent as u64;
                shard.wrote(key, sent);
                match (sent == due, all) {
                    (false, _) => Written::Refused,
                    (true, false) => Written::Some,
                    (true, true) => Written::All,
                }
            }
        }
    }

    /// Seals what is due behind what is sealed already and writes it at once.
    fn write_sealed(&mut self, key: LinkKey, shard: &mut Guarded) -> Written {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Written::All;
        };
        let Some(tls) = &mut socket.tls else {
            // No octet of the handshake has come: there is nothing to seal with.
            return Written::All;
        };
        let borrowed = tls.unsent().is_empty();
        let mut out = match borrowed {
            true => std::mem::take(&mut self.sealed),
            false => tls.take_unsent(),
        };
        let sealing = seal_due(tls, socket.flags, shard.output(key), &mut out);
        match sealing {
            Ok(sealed) => {
                if sealed.notified {
                    socket.flags.set(Flags::NOTIFIED);
                }
                // Before `wrote`, which may say that the link is dirty again.
                let sent = socket.send(&out);
                let written = self.keep_refused(key, out, sent, borrowed);
                if sealed.octets > 0 {
                    shard.wrote(key, sealed.octets);
                }
                match written {
                    Written::All if !sealed.all => Written::Some,
                    written => written,
                }
            }
            Err(_) => {
                out.clear();
                self.sealed = out;
                Written::Broken
            }
        }
    }

    /// Puts away the octets that the kernel refused, and the buffer.
    fn keep_refused(
        &mut self,
        key: LinkKey,
        mut out: Vec<u8>,
        sent: Sent,
        borrowed: bool,
    ) -> Written {
        let written = match sent {
            Sent::Broken => Written::Broken,
            Sent::Octets(octets) => {
                self.counters.octets_written += octets as u64;
                if octets == out.len() {
                    Written::All
                } else {
                    let mut rest = self.pool.take();
                    rest.extend_from_slice(&out[octets..]);
                    if let Some(tls) = self.sockets.get_mut(key).and_then(|s| s.tls.as_mut()) {
                        tls.keep_unsent(rest);
                    }
                    Written::Refused
                }
            }
        };
        out.clear();
        if borrowed {
            self.sealed = out;
        } else {
            self.pool.give(out);
        }
        written
    }

    /// Lets go of the links that move, after their last octets were written.
    pub(super) fn hand_off(
        &mut self,
        from: ShardId,
        shard: &mut Guarded,
        send: &mut dyn FnMut(ShardId, TcpStream, Box<Handoff>),
    ) {
        let mut leaving = std::mem::take(&mut self.leaving);
        for (key, to) in leaving.drain(..) {
            let Some(stream) = shard.release(key) else {
                // The engine knows it no more: it closes already, or a panic has forgotten it.
                if self
                    .sockets
                    .get(key)
                    .is_some_and(|socket| !socket.flags.has(Flags::CLOSING))
                {
                    self.lose(key, shard);
                }
                continue;
            };
            // Who moves has authenticated.
            self.uncount(key);
            let Some(socket) = self.sockets.remove(key) else {
                continue;
            };
            let entry = socket.entry();
            let Ok(peer) = socket.stream.peer_addr() else {
                self.shared.census.leave();
                continue;
            };
            // Or this poll would go on receiving its events.
            let _ = self
                .registry
                .deregister(&mut SourceFd(&socket.stream.as_raw_fd()));
            self.counters.handed_off += 1;
            let handoff = Handoff {
                from,
                socket: None,
                origin: Origin { peer, entry },
                stream,
                tls: socket.tls,
                flags: socket.flags.only(MOVING_FLAGS),
            };
            send(to, socket.stream, Box::new(handoff));
        }
        self.leaving = leaving;
    }

    /// Takes a link in. Registering reports its present state, so no edge is lost.
    pub(super) fn adopt(&mut self, stream: Option<TcpStream>, got: Handoff, shard: &mut Guarded) {
        let Some(stream) = stream else {
            self.counters.lost += 1;
            self.shared.census.leave();
            return;
        };
        let owes = got.tls.as_ref().is_some_and(|tls| !tls.unsent().is_empty());
        let socket = Socket {
            stream,
            flags: got.flags.with(Flags::WRITABLE),
            // Never read: the link is not counted any more.
            address: Default::default(),
            tls: got.tls,
        };
        let Some(link) = self.insert(socket) else {
            return;
        };
        self.counters.adopted += 1;
        let (origin, stream) = (got.origin, got.stream);
        shard.feed(
            Some(link),
            Input::Adopted {
                link,
                origin,
                stream,
            },
        );
        if owes || got.flags.has(Flags::REFUSED) {
            self.mark_dirty(link);
        }
    }

    /// Accepts nobody any more.
    pub(super) fn close_listeners(&mut self) {
        self.listeners.clear();
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
/// What is true of a socket wherever it is. Not that it is paused: its new shard reads it.
const MOVING_FLAGS: Flags = Flags::TLS
    .with(Flags::DIRECT)
    .with(Flags::REFUSED)
    .with(Flags::READ_CLOSED);

/// What became of a link's output.
enum Written {
    All,
    /// The budget is spent.
    Some,
    Refused,
    Broken,
}

/// What was sealed of a link's output.
struct Sealed {
    octets: usize,
    all: bool,
    notified: bool,
}

fn seal_due(
    tls: &mut Tls,
    flags: Flags,
    output: &[u8],
    out: &mut Vec<u8>,
) -> Result<Sealed, crate::io::tls::Unsealable> {
    if flags.has(Flags::MUTE) || tls.is_handshaking() {
        return Ok(Sealed {
            octets: 0,
            all: true,
            notified: false,
        });
    }
    let due = &output[..output.len().min(WRITE_OCTETS)];
    if !due.is_empty() {
        tls.seal(due, out)?;
    }
    let all = due.len() == output.len();
    let notify = all && flags.has(Flags::CLOSING) && !flags.has(Flags::NOTIFIED);
    if notify {
        tls.close(out)?;
    }
    Ok(Sealed {
        octets: due.len(),
        all,
        notified: notify,
    })
}

fn new_tls(shared: &Shared, socket: &Socket) -> Option<Box<Tls>> {
    let tls = Tls::accept(shared.tls.as_ref()?, socket.entry());
    tls.inspect_err(|error| tracing::error!(name = "tls-failed", %error))
        .ok()
}
