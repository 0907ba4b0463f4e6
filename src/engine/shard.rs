//! The engine of one core: takes an input, appends effects, owns everything in between.

use std::collections::{HashMap, HashSet};

use super::backoff::Backoff;
use super::inbound::Scratch;
use super::input::{Command, Input, Shortage};
use super::lifecycle::{self, Farewell};
use super::links::{Closing, Link, Links, Moving, Reading, Released, Stream};
use super::tube::{self, Tubes};
use super::websocket::Assembly;
use super::{deliver, http, login, management, resumption, route, shutdown};
use crate::base::event::Event;
use crate::base::pool::RESTING_MAX;
use crate::base::time::{Moment, Now};
use crate::features::disco;
use crate::session::ctx::{Core, Ctx, Due, Setup, Waiter};
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::session::{Flags, SessionKey};
use crate::session::traffic::ByTransport;
use crate::session::{offline, parcel::Batch, record};
use crate::store::{MessageId, Op, Refusal, Reply, StreamId, Ticket};
use crate::xmpp::error::StreamError;
use crate::xmpp::xml::Scanner;

/// How one shard sees itself, for `encke status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub links: usize,
    pub sessions: usize,
    pub sessions_by: ByTransport,
    pub accounts: usize,
    pub waiting_for_storage: usize,
    /// What is kept for streams without a socket of their own: nothing, when there are none.
    pub tube_entries: usize,
    /// Deadlines that wait, stale ones too.
    pub deadlines: usize,
    /// Octets that are due to sessions with a link.
    pub unsent_octets: usize,
    /// The oldest message among them.
    pub oldest_unsent: Option<MessageId>,
    /// Octets that queues hold until their clients have them.
    pub held_octets: usize,
    pub messages_received: u64,
    pub messages_received_by: ByTransport,
    pub messages_delivered: u64,
    pub messages_delivered_by: ByTransport,
    pub messages_stored: u64,
    pub panics: u64,
}

/// One engine on one core.
pub struct Shard {
    pub(super) core: Core,
    pub(super) links: Links,
    pub(super) tubes: Tubes,
    /// Scanners between two elements; a link borrows one while an element is incomplete.
    #[expect(
        clippy::vec_box,
        reason = "a link borrows the box: nothing is moved but a pointer"
    )]
    pub(super) scanners: Vec<Box<Scanner>>,
    /// Buffers for the messages of WebSockets, likewise.
    #[expect(
        clippy::vec_box,
        reason = "a link borrows the box: nothing is moved but a pointer"
    )]
    pub(super) assemblies: Vec<Box<Assembly>>,
    pub(super) scratch: Scratch,
    /// Links of HTTP whose answer was written while something else was under way: they are read on
    /// when that is done. One inside the other, a chain of them would need any amount of stack.
    pub(super) answered: Vec<LinkKey>,
    due: Vec<Due>,
    pub(super) stopping: bool,
    /// What keeps new clients out.
    pub(super) room: Result<(), Shortage>,
    pub(super) backoff: Backoff,
    /// What the journal knows of sessions that a crash ended.
    pub(super) lost: HashMap<StreamId, u32>,
    /// When nobody will ask for them any more.
    lost_until: Moment,
    /// Messages that a revived session holds: recovery leaves them to it.
    revived: HashSet<MessageId>,
}

impl Shard {
    /// An empty shard.
    pub fn new(setup: Setup) -> Self {
        let mut core = Core::new(setup);
        core.caps_ver = disco::caps_ver(&core.policy);
        let backoff = Backoff::new(core.process_seed());
        Self {
            core,
            links: Links::default(),
            tubes: Tubes::default(),
            scanners: Vec::new(),
            assemblies: Vec::new(),
            scratch: Scratch::default(),
            answered: Vec::new(),
            due: Vec::new(),
            stopping: false,
            room: Ok(()),
            backoff,
            lost: HashMap::new(),
            lost_until: Moment(0),
            revived: HashSet::new(),
        }
    }

    /// Takes one input and appends everything it causes to `fx`.
    pub fn handle(&mut self, input: Input<'_>, now: Now, fx: &mut Effects) {
        match input {
            Input::Opened { link, origin } => login::opened(self, link, origin, now, fx),
            Input::Adopted { link, stream } => login::adopted(self, link, *stream, now, fx),
            Input::Bytes { link, bytes } => self.receive(link, bytes, now, fx),
            Input::Secured { link, secured } => login::secured(self, link, secured),
            Input::Drained { link } => self.drained(link, now, fx),
            Input::Ended { link } => http::ended(self, link, fx),
            Input::Closed { link } => self.closed(link, now, fx),
            Input::Room(room) => self.room = room,
            Input::Mail { batch, .. } => self.mail(batch, now, fx),
            Input::Stored { ticket, reply } => self.stored(ticket, reply, now, fx),
            Input::Command(command) => self.command(command, now, fx),
        }
        self.finish_input(now, fx);
    }

    /// Runs the deadlines that are due. Call once a turn. Returns whether there were any.
    pub fn expire(&mut self, now: Now, fx: &mut Effects) -> bool {
        let mut due = std::mem::take(&mut self.due);
        self.core.wheel.expire(now.mono, &mut due);
        let worked = !due.is_empty();
        for what in due.drain(..) {
            self.wake(what, now, fx);
        }
        self.due = due;
        if !self.lost.is_empty() && self.lost_until <= now.mono {
            self.forget_lost(fx);
        }
        self.finish_input(now, fx);
        worked
    }

    /// Sessions that a crash ended cannot be resumed any more. Every shard knows all of them; one
    /// tells storage.
    fn forget_lost(&mut self, fx: &mut Effects) {
        for stream in std::mem::take(&mut self.lost).into_keys() {
            if self.core.shard == 0 {
                fx.ops.push(None, Op::Forget { stream });
            }
        }
    }

    /// Gives back what a burst needed. Call it when nothing has happened for a while.
    pub fn rest(&mut self) {
        self.core.rest();
        self.tubes.rest();
        self.backoff.forget_decided();
        self.due.shrink_to(RESTING_MAX);
        self.answered.shrink_to(RESTING_MAX);
        self.scanners.truncate(RESTING_MAX);
        self.assemblies.truncate(RESTING_MAX);
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
            Some(Stream::Http(conn)) => conn.queue.output(),
            Some(Stream::Events(events)) => events.queue.output(),
            Some(Stream::Closing(closing)) => closing.queue.output(),
            None => &[],
        }
    }

    /// The full address of the session of a link, also while what it left is said.
    pub(super) fn address(&self, link: LinkKey) -> &str {
        match self.links.get(link).map(|link| &link.stream) {
            Some(Stream::Bound(key)) => self.core.session(*key).map_or("", |session| &session.jid),
            Some(Stream::Closing(closing)) => &closing.address,
            _ => "",
        }
    }

    /// The first `octets` of [`Shard::output`] were taken by the kernel (in clear) or sealed (TLS).
    pub fn wrote(&mut self, link: LinkKey, octets: usize, now: Now, fx: &mut Effects) {
        let Some(entry) = self.links.get_mut(link) else {
            return;
        };
        match &mut entry.stream {
            Stream::Login(login) => login.queue.wrote(&mut self.core.pool, octets, |_| ()),
            Stream::Http(_) => http::wrote(self, link, octets, now, fx),
            Stream::Events(_) => http::events::wrote(self, link, octets, now, fx),
            Stream::Closing(closing) => {
                closing.queue.wrote(&mut self.core.pool, octets, |_| ());
            }
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
        let moving = match entry.stream {
            Stream::Login(login) => Moving::Login {
                login,
                scope: entry.scope,
            },
            Stream::Http(conn) => Moving::Request(conn),
            Stream::Bound(_) | Stream::Events(_) | Stream::Closing(_) => return None,
        };
        Some(Box::new(Released { moving, unread }))
    }

    /// After a panic inside [`Shard::handle`] for an input of `link`: drops the link's state, and
    /// that of whoever used a tube that is lost. The caller unwinds the effects, closes the sockets
    /// that are returned, then calls [`Shard::check`].
    pub fn abandon(&mut self, link: Option<LinkKey>) -> Vec<LinkKey> {
        self.core.counters.panics += 1;
        let (tubes, mut sockets) = tube::lost(self);
        sockets.extend(link.filter(|link| !sockets.contains(link)));
        for key in tubes.iter().chain(&sockets) {
            self.abandon_link(*key);
        }
        sockets
    }

    fn abandon_link(&mut self, key: LinkKey) {
        let Some(entry) = self.links.remove(key) else {
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
        self.core.time_account(session.account);
    }

    /// Asserts every invariant; debug builds call it after each input.
    pub fn check(&self) {
        // Without the count this would go on through thousands of empty slots, after every input.
        for (key, link) in self.links.iter().take(self.links.len()) {
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

    /// Whether nothing waits for storage.
    pub fn is_quiet(&self) -> bool {
        self.core.waiters.is_empty()
    }

    /// Whether no link, no session and no storage request is left (after `Command::WriteDown`).
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.core.sessions.is_empty() && self.core.waiters.is_empty()
    }

    /// Counters and depths.
    pub fn report(&self) -> Report {
        let core = &self.core;
        let mut report = Report {
            links: self.links.len(),
            sessions: core.sessions.len(),
            accounts: core.accounts.len(),
            waiting_for_storage: core.waiters.len(),
            tube_entries: self.tubes.entries(),
            deadlines: core.wheel.len(),
            messages_received: core.counters.messages_received.total(),
            messages_received_by: core.counters.messages_received,
            messages_delivered: core.counters.messages_delivered.total(),
            messages_delivered_by: core.counters.messages_delivered,
            messages_stored: core.counters.messages_stored,
            panics: core.counters.panics,
            ..Report::default()
        };
        for (_, session) in core.sessions.iter() {
            report.sessions_by.count(session.transport());
            report.held_octets += session.queue.held_octets();
            if session.link.is_some() {
                report.unsent_octets += session.queue.unsent_octets();
                let oldest = [report.oldest_unsent, session.queue.oldest_unsent()];
                report.oldest_unsent = oldest.into_iter().flatten().min();
            }
        }
        report
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

    pub(super) fn closed(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
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
            Stream::Login(mut login) => {
                login.queue.discard(&mut self.core.pool);
                login::decided(self, login.attempt.take(), now, fx);
            }
            Stream::Http(conn) => http::closed(self, key, *conn, now, fx),
            Stream::Events(events) => http::events::closed(self, key, *events, now, fx),
            Stream::Closing(mut closing) => closing.queue.discard(&mut self.core.pool),
        }
    }

    fn mail(&mut self, batch: &mut Batch, now: Now, fx: &mut Effects) {
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        route::drain(&mut ctx, batch);
        for letter in batch.letters() {
            tube::receive(self, letter, now, fx);
        }
        batch.clear();
    }

    fn stored(&mut self, ticket: Ticket, reply: Reply, now: Now, fx: &mut Effects) {
        let Some((waiter, asker)) = self.core.waiters.remove(ticket.key) else {
            return;
        };
        if let Some(session) = asker.and_then(|key| self.core.sessions.get_mut(key)) {
            session.asked = session.asked.saturating_sub(waiter.weight());
        }
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        match waiter {
            Waiter::Login(link) => login::keys(self, link, reply, now, fx),
            Waiter::Hash(link) => login::hashed(self, link, reply, now, fx),
            Waiter::Load(account) => login::loaded(&mut ctx, account, reply),
            Waiter::Journaled { session, number } => {
                if reply != Reply::Done {
                    let full = reply == Reply::Refused(Refusal::Full);
                    return self.unkept(session, full, now, fx);
                }
                management::committed(&mut ctx, session, number);
                resumption::committed(self, session, now, fx);
                self.resume_if_drained(session, now, fx);
            }
            Waiter::Unwritten(session) => {
                if reply != Reply::Done {
                    let full = reply == Reply::Refused(Refusal::Full);
                    return self.unkept(session, full, now, fx);
                }
                resumption::unwritten(self, session, now, fx);
            }
            // The next process finds it where it is.
            Waiter::Revive(_) if self.stopping => {}
            Waiter::Revive(revival) => {
                if let Reply::Head(head) = reply {
                    shutdown::revived(&mut ctx, &revival, head);
                }
            }
            Waiter::Offline {
                account,
                session,
                after,
            } => {
                let page = match reply {
                    Reply::Rows { rows, more } => Some((rows, more)),
                    _ => None,
                };
                ctx.offline_page(account, session, after, page);
            }
            Waiter::Stored(stored) => ctx.offline_stored(*stored, &reply),
            Waiter::Feature { then, kept } => then(&mut ctx, kept, reply),
        }
        if let Some(session) = asker {
            self.finish(now, fx);
            self.resume_if_drained(session, now, fx);
        }
    }

    /// Whoever is in the middle of a login for this account starts again, with what is true now.
    fn kick_logins(&mut self, account: &str, now: Now, fx: &mut Effects) {
        let concerned = |link: &Link| match &link.stream {
            Stream::Login(login) => login.is_for(account),
            _ => false,
        };
        let links = self.links.iter().filter(|(_, link)| concerned(link));
        for key in links.map(|(key, _)| key).collect::<Vec<_>>() {
            self.fail(key, StreamError::Reset, now, fx);
        }
    }

    /// The journal will never have an inbound stanza, so `h` can never pass it: the client must
    /// learn that, and send again what is not covered.
    fn unkept(&mut self, key: SessionKey, full: bool, now: Now, fx: &mut Effects) {
        let error = StreamError::ResourceConstraint;
        fx.events.push(Event::StorageRefused { full });
        let entry = self.core.sessions.get_mut(key);
        let management = entry.and_then(|session| session.management.as_deref_mut());
        if let Some(asked) = management.and_then(|management| management.resuming.take()) {
            self.fail(asked.link, error, now, fx);
        }
        match self.core.session(key).and_then(|session| session.link) {
            Some(link) => self.fail(link, error, now, fx),
            None => {
                let core = &mut self.core;
                lifecycle::end(&mut Ctx { core, fx, now }, key, Farewell::Silent);
            }
        }
    }

    fn command(&mut self, command: Command, now: Now, fx: &mut Effects) {
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        match command {
            Command::Errand { link, answer } => http::errand_done(self, link, answer, now, fx),
            Command::Reload(policy) => {
                self.core.caps_ver = disco::caps_ver(&policy);
                self.core.policy = policy;
                tube::json::reloaded(self);
            }
            Command::Stop => shutdown::stop(self, now, fx),
            Command::RefuseWaiting => shutdown::refuse_waiting(self, now, fx),
            Command::WriteDown => shutdown::write_down_all(self, now, fx),
            Command::Kick { account, condition } => {
                lifecycle::kick(&mut ctx, &account, condition);
                self.kick_logins(&account, now, fx);
            }
            Command::Recover(unsettled) if self.revived.remove(&unsettled.id) => {}
            Command::Recover(unsettled) => deliver::recover(&mut ctx, &unsettled),
            Command::Revive(revival) => {
                self.revived.extend(record::journaled(&revival.record));
                shutdown::revive(&mut ctx, revival);
            }
            Command::Handled { stream, handled } => {
                self.lost_until = now.mono.after(self.core.policy.limits.resumption_timeout);
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
            Due::Slow(session) => lifecycle::still_slow(&mut ctx, session),
            Due::Session(session) => lifecycle::resumption_over(&mut ctx, session),
            Due::Ask(session) => management::ask(&mut ctx, session),
            Due::Tube(key) => tube::due(self, key, now, fx),
            Due::Account(account) => lifecycle::evict(&mut ctx, account),
            Due::Acks => management::acknowledge_listed(&mut ctx),
        }
    }

    /// The client ended its stream (RFC 6120 section 4.4).
    pub(super) fn stream_ended(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
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
                let attempt = login.attempt.take();
                let queue = login.goodbye(&mut self.core);
                link.close_with(queue, key, fx);
                login::decided(self, attempt, now, fx);
            }
            Stream::Http(_) | Stream::Events(_) | Stream::Closing(_) => {}
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
                let attempt = login.attempt.take();
                let queue = login.last_words(&mut self.core, error);
                link.close_with(queue, key, fx);
                login::decided(self, attempt, now, fx);
            }
            Stream::Http(conn) => {
                let queue = std::mem::take(&mut conn.queue);
                return link.close_with(queue, key, fx);
            }
            Stream::Events(_) | Stream::Closing(_) => return,
        }
        fx.events.push(Event::StreamError { condition });
        self.adopt_orphans(fx);
    }

    /// Links whose session ended say what is left and close.
    pub(super) fn adopt_orphans(&mut self, fx: &mut Effects) {
        for (key, queue, address) in std::mem::take(&mut self.core.orphans) {
            if let Some(link) = self.links.get_mut(key) {
                link.close_with(queue, key, fx);
                if let Stream::Closing(closing) = &mut link.stream {
                    closing.address = address;
                }
            }
        }
    }

    /// What every input ends with: nothing is in the middle of anything any more.
    pub(super) fn finish_input(&mut self, now: Now, fx: &mut Effects) {
        self.finish(now, fx);
        while let Some(link) = self.answered.pop() {
            http::go_on(self, link, now, fx);
        }
    }

    /// What everything that was taken ends with.
    pub(super) fn finish(&mut self, now: Now, fx: &mut Effects) {
        loop {
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
            if fx.tubes.is_empty() || !tube::apply(self, now, fx) {
                break;
            }
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
        let address = Box::default();
        self.stream = Stream::Closing(Box::new(Closing { queue, address }));
        self.reading = Reading::Off;
        self.unread = None;
        fx.link(key, LinkEffect::Flush);
        fx.link(key, LinkEffect::Close);
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
