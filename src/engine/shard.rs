//! The engine of one core: takes an input, appends effects, owns everything in between.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::backoff::Backoff;
use super::inbound::{self, Scratch};
use super::input::{Command, Input};
use super::lifecycle::{self, Farewell};
use super::links::{Link, Links, Reading, Released, Stream, Unread};
use super::{deliver, login, management, route, shutdown};
use crate::base::event::Event;
use crate::base::slab::Mirror;
use crate::base::time::{Moment, Now};
use crate::features::disco;
use crate::session::ctx::{Core, Ctx, Due, Setup, Waiter};
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::session::{Flags, SessionKey};
use crate::session::{offline, parcel::Batch, record};
use crate::store::{MessageId, Reply, StreamId, Ticket};
use crate::xmpp::error::StreamError;
use crate::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

/// How one shard sees itself, for `encke status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
pub struct Shard {
    pub(super) core: Core,
    pub(super) links: Links,
    /// Scanners between two elements; a link borrows one while an element is incomplete.
    #[expect(
        clippy::vec_box,
        reason = "a link borrows the box: nothing is moved but a pointer"
    )]
    scanners: Vec<Box<Scanner>>,
    scratch: Scratch,
    due: Vec<Due>,
    pub(super) stopping: bool,
    pub(super) backoff: Backoff,
    /// What the journal knows of sessions that a crash ended.
    pub(super) lost: HashMap<StreamId, u32>,
    /// Messages that a revived session holds: recovery leaves them to it.
    revived: HashSet<MessageId>,
}

/// How far a shaped link may be ahead of its rate.
const BURST: Duration = Duration::from_secs(1);
/// Scanners kept for reuse.
const SCANNERS_KEPT: usize = 64;
/// Inbound stanzas of one session that may wait for the journal before it is not read.
const PENDING_MAX: usize = 1_000;

impl Shard {
    /// An empty shard.
    pub fn new(setup: Setup) -> Self {
        let mut core = Core::new(setup);
        let backoff_seed = core.random() as u64;
        core.caps_ver = disco::caps_ver(&core.policy);
        Self {
            core,
            links: Mirror::new(),
            scanners: Vec::new(),
            scratch: Scratch::default(),
            due: Vec::new(),
            stopping: false,
            backoff: Backoff::new(backoff_seed),
            lost: HashMap::new(),
            revived: HashSet::new(),
        }
    }

    /// Takes one input and appends everything it causes to `fx`.
    pub fn handle(&mut self, input: Input<'_>, now: Now, fx: &mut Effects) {
        match input {
            Input::Opened { link, origin } => login::opened(self, link, origin, now, fx),
            Input::Adopted { link, stream, .. } => login::adopted(self, link, *stream, now, fx),
            Input::Bytes { link, bytes } => self.receive(link, bytes, now, fx),
            Input::Secured { link, secured } => login::secured(self, link, secured),
            Input::Drained { link } => self.drained(link, now, fx),
            Input::Closed { link } => self.closed(link, now, fx),
            Input::Mail { batch, .. } => self.mail(batch, now, fx),
            Input::Stored { ticket, reply } => self.stored(ticket, reply, now, fx),
            Input::Command(command) => self.command(command, now, fx),
        }
        self.finish(now, fx);
    }

    /// Runs the deadlines that are due. Call once a turn.
    pub fn expire(&mut self, now: Now, fx: &mut Effects) {
        let mut due = std::mem::take(&mut self.due);
        self.core.wheel.expire(now.mono, &mut due);
        for what in due.drain(..) {
            self.wake(what, now, fx);
        }
        self.due = due;
        self.finish(now, fx);
    }

    /// When [`Shard::expire`] has something to do next. A reactor need not wake earlier.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.core.wheel.next()
    }

    /// What is due to be written to `link`; empty when nothing is.
    pub fn output(&self, link: LinkKey) -> &[u8] {
        match self.links.get(link).map(|link| &link.stream) {
            Some(Stream::Bound(key)) => self
                .core
                .session(*key)
                .map_or(&[], |session| session.queue.output()),
            Some(Stream::Login(login)) => login.queue.output(),
            Some(Stream::Closing(queue)) => queue.output(),
            None => &[],
        }
    }

    /// The first `octets` of [`Shard::output`] were taken by the kernel (in clear) or sealed (TLS).
    pub fn wrote(&mut self, link: LinkKey, octets: usize, now: Now, fx: &mut Effects) {
        let Some(entry) = self.links.get_mut(link) else {
            return;
        };
        match &mut entry.stream {
            Stream::Login(login) => login.queue.wrote(&mut self.core.pool, octets, |_| ()),
            Stream::Closing(queue) => queue.wrote(&mut self.core.pool, octets, |_| ()),
            Stream::Bound(key) => {
                let key = *key;
                self.wrote_session(key, octets, now, fx);
            }
        }
    }

    /// Lets go of a link for [`LinkEffect::HandOff`]. `None` when the key is stale.
    pub fn release(&mut self, link: LinkKey) -> Option<Box<Released>> {
        let mut entry = self.links.remove(link)?;
        let unread = entry.unread.take();
        match entry.stream {
            Stream::Login(login) => Some(Box::new(Released {
                login,
                unread,
                scope: entry.scope,
            })),
            Stream::Bound(_) | Stream::Closing(_) => None,
        }
    }

    /// After a panic inside [`Shard::handle`] for an input of `link`: drops the link's state. The
    /// caller unwinds the effects, closes the socket, then calls [`Shard::check`].
    pub fn abandon(&mut self, link: Option<LinkKey>) {
        self.core.counters.panics += 1;
        let Some(entry) = link.and_then(|link| self.links.remove(link)) else {
            return;
        };
        let Stream::Bound(key) = entry.stream else {
            return;
        };
        let Some(session) = self.core.sessions.remove(key) else {
            return;
        };
        if let Some(account) = self.core.accounts.get_mut(session.account) {
            account.sessions.retain(|other| *other != key);
            account.draining.take_if(|draining| draining.session == key);
        }
    }

    /// Asserts every invariant; debug builds call it after each input.
    pub fn check(&self) {
        for (key, link) in self.links.iter() {
            let Stream::Bound(session) = link.stream else {
                continue;
            };
            let session = self
                .core
                .session(session)
                .expect("a bound link has a session");
            assert_eq!(session.link, Some(key), "a session knows its link");
        }
        for (key, session) in self.core.sessions.iter() {
            session.queue.check();
            let account = self
                .core
                .accounts
                .get(session.account)
                .expect("it has an account");
            assert!(
                account.sessions.contains(&key),
                "an account knows its sessions"
            );
            assert!(account.is_resident(), "a session's account is in memory");
        }
        for (_, account) in self.core.accounts.iter() {
            for key in &account.sessions {
                assert!(
                    self.core.session(*key).is_some(),
                    "no account has a dead session"
                );
            }
        }
        assert!(
            self.core.local.is_empty(),
            "local stanzas are delivered within their input"
        );
        assert!(
            self.core.orphans.is_empty(),
            "no link is left without a stream"
        );
    }

    /// Whether no link, no session and no storage request is left (after `Command::Stop`).
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.core.sessions.is_empty() && self.core.waiters.is_empty()
    }

    /// Counters and depths.
    pub fn report(&self) -> Report {
        let core = &self.core;
        let detached = core
            .sessions
            .iter()
            .filter(|(_, session)| session.link.is_none());
        Report {
            links: self.links.len(),
            sessions: core.sessions.len(),
            sessions_detached: detached.count(),
            accounts: core.accounts.len(),
            waiting_for_storage: core.waiters.len(),
            messages_received: core.counters.messages_received,
            messages_delivered: core.counters.messages_delivered,
            messages_stored: core.counters.messages_stored,
            panics: core.counters.panics,
        }
    }

    /// Octets came from a link.
    fn receive(&mut self, key: LinkKey, bytes: &[u8], now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.heard = now.mono;
        if link.reading == Reading::Off && !matches!(link.stream, Stream::Login(_)) {
            return;
        }
        self.shape(key, bytes.len(), now, fx);
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match link.unread.take() {
            Some(mut unread) => {
                unread.octets.extend_from_slice(bytes);
                self.resume_scan(key, unread, now, fx);
            }
            None => {
                let scanner = self.scanners.pop().unwrap_or_default();
                let (taken, scanner) = self.scan(key, bytes, scanner, now, fx);
                if taken < bytes.len() {
                    let mut octets = self.core.pool.take();
                    octets.extend_from_slice(&bytes[taken..]);
                    self.keep_unread(key, Box::new(Unread { octets, scanner }), fx);
                } else if let Some(scanner) = scanner {
                    self.give_scanner(scanner);
                }
            }
        }
    }

    /// A link that sends faster than it may is not read for a while (TCP does the rest).
    fn shape(&mut self, key: LinkKey, octets: usize, now: Now, fx: &mut Effects) {
        let rate = self.core.policy.limits.read_octets_per_second as u64;
        if rate == 0 {
            return;
        }
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let cost = octets as u64 * 1_000 / rate;
        link.free_at = Moment(link.free_at.max(now.mono).0 + cost);
        if link.free_at > now.mono.after(BURST) && link.reading == Reading::On {
            link.reading = Reading::Shaped;
            fx.link(key, LinkEffect::Pause);
            self.core.wheel.set(link.free_at, Due::Shaped(key));
        }
    }

    /// A shaped link has paid for what it sent.
    fn read_again(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if link.free_at > now.mono {
            return self.core.wheel.set(link.free_at, Due::Shaped(key));
        }
        if link.reading != Reading::Shaped {
            return;
        }
        link.reading = Reading::On;
        fx.link(key, LinkEffect::Resume);
        if let Some(unread) = link.unread.take() {
            self.resume_scan(key, unread, now, fx);
        }
    }

    /// Goes on with octets that were kept.
    pub(super) fn resume_scan(
        &mut self,
        key: LinkKey,
        mut unread: Box<Unread>,
        now: Now,
        fx: &mut Effects,
    ) {
        let scanner = unread.scanner.take();
        let scanner = scanner.or_else(|| self.scanners.pop()).unwrap_or_default();
        let octets = std::mem::take(&mut unread.octets);
        let (taken, scanner) = self.scan(key, &octets, scanner, now, fx);
        unread.octets = octets;
        if taken == unread.octets.len() {
            self.core.pool.give(unread.octets);
            if let Some(scanner) = scanner {
                self.give_scanner(scanner);
            }
            return;
        }
        unread.octets.drain(..taken);
        unread.scanner = scanner;
        self.keep_unread(key, unread, fx);
    }

    fn keep_unread(&mut self, key: LinkKey, unread: Box<Unread>, fx: &mut Effects) {
        match self.links.get_mut(key) {
            Some(link) if link.reading == Reading::Tls => {
                if !unread.octets.iter().copied().all(is_space) {
                    fx.link(key, LinkEffect::Abort);
                }
                self.core.pool.give(unread.octets);
            }
            Some(link) if !matches!(link.stream, Stream::Closing(_)) => link.unread = Some(unread),
            _ => self.core.pool.give(unread.octets),
        }
    }

    fn give_scanner(&mut self, mut scanner: Box<Scanner>) {
        if self.scanners.len() < SCANNERS_KEPT {
            scanner.reset();
            self.scanners.push(scanner);
        }
    }

    /// Takes as many items as are complete and wanted. Returns the octets taken and the scanner,
    /// if it is in the middle of an element.
    fn scan(
        &mut self,
        key: LinkKey,
        bytes: &[u8],
        mut scanner: Box<Scanner>,
        now: Now,
        fx: &mut Effects,
    ) -> (usize, Option<Box<Scanner>>) {
        let mut at = 0;
        while at < bytes.len() {
            let Some(link) = self.links.get_mut(key) else {
                break;
            };
            if link.reading != Reading::On {
                break;
            }
            if link.restarts() {
                // What a client put behind its last element belongs to the stream before.
                at += bytes[at..]
                    .iter()
                    .take_while(|octet| is_space(**octet))
                    .count();
            }
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let bounds = bounds_of(&self.core, link);
            let scope = std::mem::replace(&mut link.scope, StreamScope::closed());
            let progress = scanner.next(rest, &scope, &bounds);
            let taken = match progress {
                Ok(Progress::Incomplete) => {
                    link.scope = scope;
                    return (at, Some(scanner));
                }
                Ok(Progress::Blank(taken)) => {
                    link.scope = scope;
                    taken
                }
                Ok(Progress::Header(taken)) => {
                    let header = scanner.header(rest);
                    link.scope = scope.open(&header);
                    login::header(self, key, &header, now, fx);
                    taken
                }
                Ok(Progress::Element(taken)) => {
                    self.element(key, scope, &scanner, &rest[..taken], now, fx);
                    taken
                }
                Ok(Progress::End(taken)) => {
                    link.scope = scope;
                    self.stream_ended(key, now, fx);
                    taken
                }
                Err(error) => {
                    link.scope = scope;
                    self.fail(key, error, now, fx);
                    break;
                }
            };
            at += taken;
            scanner.reset();
        }
        self.give_scanner(scanner);
        (at, None)
    }

    fn element(
        &mut self,
        key: LinkKey,
        scope: StreamScope,
        scanner: &Scanner,
        bytes: &[u8],
        now: Now,
        fx: &mut Effects,
    ) {
        let element = scanner.element(bytes);
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let Some(session) = link.session() else {
            link.scope = scope;
            return login::element(self, key, element, now, fx);
        };
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        let result = inbound::take(&mut ctx, &mut self.scratch, session, &scope, element);
        route::drain_local(&mut ctx);
        if let Some(link) = self.links.get_mut(key) {
            link.scope = scope;
        }
        match result {
            Ok(()) => self.pause_if_full(key, session, fx),
            Err(error) => self.fail(key, error, now, fx),
        }
        self.adopt_orphans(fx);
    }

    /// A peer that does not read its answers is not read.
    fn pause_if_full(&mut self, key: LinkKey, session: SessionKey, fx: &mut Effects) {
        let high_water = self.core.policy.limits.link_output_high_water_octets;
        let Some(session) = self.core.sessions.get_mut(session) else {
            return;
        };
        let pending = session.management.as_deref().map_or(0, |m| m.pending.len());
        if session.queue.unsent_octets() <= high_water && pending < PENDING_MAX {
            return;
        }
        session.flags.set(Flags::PAUSED);
        if let Some(link) = self
            .links
            .get_mut(key)
            .filter(|link| link.reading == Reading::On)
        {
            link.reading = Reading::Paused;
            fx.link(key, LinkEffect::Pause);
        }
    }

    /// What held a session's reading back may be over.
    fn resume_if_drained(&mut self, session: SessionKey, now: Now, fx: &mut Effects) {
        let low_water = self.core.policy.limits.link_output_high_water_octets / 2;
        let Some(entry) = self.core.sessions.get_mut(session) else {
            return;
        };
        let pending = entry.management.as_deref().map_or(0, |m| m.pending.len());
        let drained = entry.queue.unsent_octets() <= low_water && pending < PENDING_MAX / 2;
        if !drained || !entry.flags.clear(Flags::PAUSED) {
            return;
        }
        let Some(key) = entry.link else { return };
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if link.reading != Reading::Paused {
            return;
        }
        link.reading = Reading::On;
        fx.link(key, LinkEffect::Resume);
        if let Some(unread) = link.unread.take() {
            self.resume_scan(key, unread, now, fx);
            self.finish(now, fx);
        }
    }

    fn wrote_session(&mut self, key: SessionKey, octets: usize, now: Now, fx: &mut Effects) {
        let Some(session) = self.core.sessions.get_mut(key) else {
            return;
        };
        let account = session.account;
        let mut settled = smallvec::SmallVec::<[_; 8]>::new();
        session.queue.wrote(&mut self.core.pool, octets, |mark| {
            settled.push((mark.id, mark.traits));
        });
        let paused = session.flags.has(Flags::PAUSED);
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        if !settled.is_empty() {
            ctx.settle(account, &settled);
        }
        if ctx
            .accounts
            .get(account)
            .is_some_and(|account| account.is_draining())
        {
            ctx.next_offline_page(account);
        }
        if paused {
            self.resume_if_drained(key, now, fx);
        }
    }

    fn drained(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        if let Some(session) = self.links.get(key).and_then(Link::session) {
            self.resume_if_drained(session, now, fx);
        }
    }

    fn closed(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let Some(mut link) = self.links.remove(key) else {
            return;
        };
        if let Some(unread) = link.unread.take() {
            self.core.pool.give(unread.octets);
        }
        match link.stream {
            Stream::Bound(session) => {
                lifecycle::detach(
                    &mut Ctx {
                        core: &mut self.core,
                        fx,
                        now,
                    },
                    session,
                );
            }
            Stream::Login(mut login) => login.queue.discard(&mut self.core.pool),
            Stream::Closing(mut queue) => queue.discard(&mut self.core.pool),
        }
    }

    fn mail(&mut self, batch: &mut Batch, now: Now, fx: &mut Effects) {
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        route::drain(&mut ctx, batch);
        batch.clear();
    }

    fn stored(&mut self, ticket: Ticket, reply: Reply, now: Now, fx: &mut Effects) {
        let Some(waiter) = self.core.waiters.remove(ticket.key) else {
            return;
        };
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        match waiter {
            Waiter::Login(link) => login::keys(self, link, reply, now, fx),
            Waiter::Hash(link) => login::hashed(self, link, reply, now, fx),
            Waiter::Load(account) => login::loaded(&mut ctx, account, reply),
            Waiter::Journaled { session, .. } if reply != Reply::Done => {
                // It can never be acknowledged: the client keeps it, and learns so now.
                let farewell = Farewell::Error(StreamError::ResourceConstraint);
                lifecycle::end(&mut ctx, session, farewell);
            }
            Waiter::Journaled { session, number } => {
                management::committed(&mut ctx, session, number);
                self.resume_if_drained(session, now, fx);
            }
            // The next process finds it where it is.
            Waiter::Revive(_) if self.stopping => {}
            Waiter::Revive(revival) => {
                if let Reply::Head(head) = reply {
                    shutdown::revived(&mut ctx, &revival, head);
                }
            }
            Waiter::Offline(account) => {
                if let Reply::Rows { rows, more } = reply {
                    ctx.offline_page(account, &rows, more);
                } else if let Some(account) = ctx.core.accounts.get_mut(account) {
                    account.draining = None;
                }
            }
            Waiter::Stored(stored) => ctx.offline_stored(*stored, &reply),
            Waiter::Feature { then, kept } => then(&mut ctx, kept, reply),
        }
    }

    fn command(&mut self, command: Command, now: Now, fx: &mut Effects) {
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        match command {
            Command::Reload(policy) => {
                self.core.caps_ver = disco::caps_ver(&policy);
                self.core.policy = policy;
            }
            Command::Stop => shutdown::stop(self, now, fx),
            Command::Kick { account, condition } => {
                lifecycle::kick(&mut ctx, &account, condition);
            }
            Command::Recover(unsettled) if self.revived.remove(&unsettled.id) => {}
            Command::Recover(unsettled) => deliver::recover(&mut ctx, &unsettled),
            Command::Revive(revival) => {
                self.revived.extend(record::journaled(&revival.record));
                shutdown::revive(&mut ctx, revival);
            }
            Command::Handled { stream, handled } => {
                self.lost.insert(stream, handled);
            }
        }
    }

    fn wake(&mut self, due: Due, now: Now, fx: &mut Effects) {
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        match due {
            Due::Link(key) => login::link_due(self, key, now, fx),
            Due::Shaped(key) => self.read_again(key, now, fx),
            Due::Session(session) => lifecycle::resumption_over(&mut ctx, session),
            Due::Ask(session) => management::ask(&mut ctx, session),
            Due::Account(account) => lifecycle::evict(&mut ctx, account),
            Due::Acks => management::acknowledge_listed(&mut ctx),
        }
    }

    /// The client ended its stream (RFC 6120 section 4.4).
    fn stream_ended(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match &mut link.stream {
            Stream::Bound(session) => {
                let session = *session;
                let mut ctx = Ctx {
                    core: &mut self.core,
                    fx,
                    now,
                };
                lifecycle::end(&mut ctx, session, Farewell::Close);
                route::drain_local(&mut ctx);
                self.adopt_orphans(fx);
            }
            Stream::Login(login) => {
                let queue = login.goodbye(&mut self.core);
                link.close_with(queue, key, fx);
            }
            Stream::Closing(_) => {}
        }
    }

    /// Closes a stream for the peer's fault or ours.
    pub(super) fn fail(&mut self, key: LinkKey, error: StreamError, now: Now, fx: &mut Effects) {
        let condition = error.condition();
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match &mut link.stream {
            Stream::Bound(session) => {
                let session = *session;
                let mut ctx = Ctx {
                    core: &mut self.core,
                    fx,
                    now,
                };
                lifecycle::end(&mut ctx, session, Farewell::Error(error));
                route::drain_local(&mut ctx);
            }
            Stream::Login(login) => {
                let queue = login.last_words(&mut self.core, error);
                link.close_with(queue, key, fx);
            }
            Stream::Closing(_) => return,
        }
        fx.events.push(Event::StreamError { condition });
        self.adopt_orphans(fx);
    }

    /// Links whose session ended say what is left and close.
    fn adopt_orphans(&mut self, fx: &mut Effects) {
        for (key, queue) in std::mem::take(&mut self.core.orphans) {
            if let Some(link) = self.links.get_mut(key) {
                link.close_with(queue, key, fx);
            }
        }
    }

    /// What every input ends with.
    fn finish(&mut self, now: Now, fx: &mut Effects) {
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        route::drain_local(&mut ctx);
        while let Some(session) = ctx.core.grown.pop() {
            lifecycle::hold_bounds(&mut ctx, session);
            route::drain_local(&mut ctx);
        }
        if !self.core.orphans.is_empty() {
            self.adopt_orphans(fx);
        }
        if cfg!(debug_assertions) {
            self.check();
        }
    }
}

impl Link {
    /// Nothing is read any more; `queue` is said, then the link closes.
    pub(super) fn close_with(
        &mut self,
        queue: crate::session::queue::Queue,
        key: LinkKey,
        fx: &mut Effects,
    ) {
        self.stream = Stream::Closing(Box::new(queue));
        self.reading = Reading::Off;
        self.unread = None;
        fx.link(key, LinkEffect::Flush);
        fx.link(key, LinkEffect::Close);
    }
}

/// White space as XML has it.
const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// RFC 6120 section 13.12: what a peer may send depends on whether we know who it is.
fn bounds_of(core: &Core, link: &Link) -> Bounds {
    let limits = &core.policy.limits;
    let known = match &link.stream {
        Stream::Login(login) => login.authenticated,
        _ => true,
    };
    Bounds {
        octets_max: match known {
            true => limits.stanza_octets_max,
            false => limits.preauth_stanza_octets_max,
        },
        depth_max: limits.depth_max,
        attributes_max: limits.attributes_max,
        elements_max: limits.elements_max,
    }
}

/// What the four rows of an account say.
pub(super) fn install(
    ctx: &mut Ctx<'_>,
    key: crate::session::account::AccountKey,
    head: &crate::store::Head,
) {
    let Some(account) = ctx.core.accounts.get_mut(key) else {
        return;
    };
    account.roster = head
        .roster
        .as_deref()
        .and_then(crate::session::roster::Roster::decode);
    account.blocked = crate::session::account::decode_blocked(head.blocked.as_deref());
    account.offline = offline::parse_count(head.offline_count.as_deref());
}
