//! From an accepted link to a bound session: the negotiation, fed with what only the engine knows.
//!
//! A login costs one storage read, asked for when SASL names the account. After authentication
//! the link moves to the account's home shard, once, and takes the records along.

use super::backoff::Attempt;
use super::input::{Origin, Secured};
use super::links::{Link, Login, Moving, Reading, Released, Stream, login_of};
use super::shard::{Shard, install};
use super::{backoff, displace, http, lifecycle, resumption};
use crate::base::event::Event;
use crate::base::time::Now;
use crate::features::disco;
use crate::session::account::{AccountKey, State};
use crate::session::ctx::{Core, Ctx, Due, Token, Waiter};
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::queue::Queue;
use crate::session::session::{Asked, Flags, SessionKey};
use crate::store::{Head, Op, Refusal, Reply};
use crate::stream::c2s::{Caps, Negotiation, Offer, Step, Tls};
use crate::stream::sasl::{self, Bindings, Keys, Lookup};
use crate::xmpp::error::{Condition, StanzaError, StreamError};
use crate::xmpp::jid::{self, BareJid};
use crate::xmpp::stanza::{Draft, Kind, Type};
use crate::xmpp::xml::{Element, Header, StreamScope};

/// What a negotiation may need for one step.
struct Tokens {
    stream_id: Token,
    nonce: Token,
}

impl Tokens {
    fn new(core: &mut Core) -> Self {
        Self {
            stream_id: core.token(),
            nonce: core.token(),
        }
    }

    fn offer<'a>(&'a self, core: &'a Core) -> Offer<'a> {
        let policy = &core.policy;
        Offer {
            domains: &policy.domains,
            tls: match (policy.offer_tls, policy.require_tls) {
                (true, true) => Tls::Required,
                (true, false) => Tls::Optional,
                (false, _) => Tls::Unavailable,
            },
            limits: &policy.limits,
            secret: &policy.secret,
            iterations: sasl::ITERATIONS,
            stream_id: self.stream_id.as_str(),
            nonce: self.nonce.as_str(),
            caps: Some(Caps {
                node: disco::CAPS_NODE,
                ver: &core.caps_ver,
            }),
        }
    }
}

/// A link was accepted.
pub fn opened(shard: &mut Shard, key: LinkKey, origin: Origin, now: Now, fx: &mut Effects) {
    if shard.stopping {
        return fx.link(key, LinkEffect::Abort);
    }
    if origin.entry.is_http() {
        return http::opened(shard, key, origin, now);
    }
    let negotiation = match origin.entry.is_tls() {
        false => Negotiation::clear(),
        true => Negotiation::direct_tls(),
    };
    shard
        .links
        .place(key, Link::new(negotiation, origin.peer.ip(), now.mono));
    let at = now.mono.after(shard.core.policy.limits.login_timeout);
    shard.core.wheel.set(at, Due::Link(key));
}

/// A link came from the shard that accepted it.
pub fn adopted(shard: &mut Shard, key: LinkKey, released: Released, now: Now, fx: &mut Effects) {
    let Released { moving, unread } = released;
    let (login, scope) = match moving {
        Moving::Login { login, scope } => (login, scope),
        Moving::Request(conn) => return http::adopted(shard, key, *conn, unread, now, fx),
    };
    let (opened, peer) = (login.opened, login.peer);
    let mut link = Link::new(Negotiation::clear(), peer, now.mono);
    link.framing = login.queue.framing();
    link.stream = Stream::Login(login);
    link.scope = scope;
    shard.links.place(key, link);
    let at = opened.after(shard.core.policy.limits.login_timeout);
    shard.core.wheel.set(at, Due::Link(key));
    if shard.stopping {
        return shard.fail(key, StreamError::SystemShutdown, now, fx);
    }
    admit(shard, key, now, fx);
    if !shard.output(key).is_empty() {
        fx.link(key, LinkEffect::Flush);
    }
    if let Some(link) = shard.links.get_mut(key) {
        link.unread = unread;
    }
    shard.take_unread(key, now, fx);
}

/// The handshake is done.
pub fn secured(shard: &mut Shard, key: LinkKey, secured: Secured) {
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    link.scope = StreamScope::closed();
    link.reading = Reading::On;
    let bindings = Bindings {
        exporter: secured.exporter,
        end_point: secured.end_point,
    };
    match &mut link.stream {
        Stream::Login(login) => login.negotiation.secured(bindings),
        Stream::Http(conn) => conn.secured(bindings),
        Stream::Bound(_) | Stream::Events(_) | Stream::Closing(_) => {}
    }
}

/// The client's header came.
pub fn header(shard: &mut Shard, key: LinkKey, header: &Header<'_>, now: Now, fx: &mut Effects) {
    let tokens = Tokens::new(&mut shard.core);
    let mut out = shard.core.pool.take();
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let offer = tokens.offer(&shard.core);
    let result = login.negotiation.header(*header, &offer, &mut out);
    login
        .queue
        .append(&mut shard.core.pool, |queue| queue.extend_from_slice(&out));
    shard.core.pool.give(out);
    fx.link(key, LinkEffect::Flush);
    if let Err(error) = result {
        shard.fail(key, error, now, fx);
    }
}

/// An element of a stream that is not bound.
pub fn element(shard: &mut Shard, key: LinkKey, element: Element<'_>, now: Now, fx: &mut Effects) {
    let tokens = Tokens::new(&mut shard.core);
    let mut out = shard.core.pool.take();
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let offer = tokens.offer(&shard.core);
    let result = login.negotiation.element(element, &offer, &mut out);
    proceed(shard, key, result, out, now, fx);
}

/// The account's records came, or there is no such account: the negotiation cannot tell.
pub fn keys(shard: &mut Shard, key: LinkKey, reply: Reply, now: Now, fx: &mut Effects) {
    let tokens = Tokens::new(&mut shard.core);
    let mut out = shard.core.pool.take();
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let offer = tokens.offer(&shard.core);
    let result = match reply {
        Reply::Head(head) => {
            let keys = head.credentials.as_deref().map(Keys::decode);
            let found = match &keys {
                None => Lookup::Unknown,
                Some(Ok(keys)) => Lookup::Known(keys),
                Some(Err(_)) => Lookup::Unavailable,
            };
            let result = login.negotiation.keys(found, &offer, &mut out);
            login.head = Some(head);
            result
        }
        _ => login
            .negotiation
            .keys(Lookup::Unavailable, &offer, &mut out),
    };
    go_on(shard, key, result, out, now, fx);
}

/// A password was hashed.
pub fn hashed(shard: &mut Shard, key: LinkKey, reply: Reply, now: Now, fx: &mut Effects) {
    let tokens = Tokens::new(&mut shard.core);
    let mut out = shard.core.pool.take();
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let offer = tokens.offer(&shard.core);
    // Others may have failed meanwhile: guesses that come at once are as many as one by one.
    let claimed = login.negotiation.claimed().map_or("", BareJid::as_str);
    let must_wait = shard.backoff.must_wait(login.peer, claimed, now.mono);
    let hash: Option<&[u8]> = match &reply {
        Reply::Hashed(hash) if !must_wait => Some(hash),
        _ => None,
    };
    let result = login.negotiation.hashed(hash, &offer, &mut out);
    go_on(shard, key, result, out, now, fx);
}

/// As [`proceed`], after reading had to wait.
fn go_on(
    shard: &mut Shard,
    key: LinkKey,
    result: Result<Step, StreamError>,
    out: Vec<u8>,
    now: Now,
    fx: &mut Effects,
) {
    if let Some(link) = shard.links.get_mut(key) {
        link.reading = Reading::On;
        fx.link(key, LinkEffect::Resume);
    }
    proceed(shard, key, result, out, now, fx);
    let reads = |link: &Link| link.reading == Reading::On;
    if shard.links.get(key).is_some_and(reads) {
        shard.take_unread(key, now, fx);
    }
}

/// Says what the negotiation said, in a buffer of the pool, and does what it asks for.
fn proceed(
    shard: &mut Shard,
    key: LinkKey,
    result: Result<Step, StreamError>,
    out: Vec<u8>,
    now: Now,
    fx: &mut Effects,
) {
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    let Some(login) = link.login() else { return };
    if !out.is_empty() {
        login
            .queue
            .append(&mut shard.core.pool, |queue| queue.extend_from_slice(&out));
        fx.link(key, LinkEffect::Flush);
    }
    shard.core.pool.give(out);
    let high_water = shard.core.policy.limits.link_output_high_water_octets;
    if login.queue.unsent_octets() > high_water {
        let error = StreamError::PolicyViolation("output is not read");
        return shard.fail(key, error, now, fx);
    }
    let step = match result {
        Ok(step) => step,
        Err(error) => return shard.fail(key, error, now, fx),
    };
    match step {
        Step::Continue => {}
        Step::Failed(condition) => {
            let attempt = login.attempt.take();
            let claimed = login.negotiation.claimed();
            let account: Box<str> = claimed.map_or("", BareJid::as_str).into();
            let peer = login.peer;
            if condition == sasl::Condition::NotAuthorized {
                backoff::failed(shard, peer, &account, now, fx);
            }
            fx.events.push(Event::LoginFailed {
                account,
                condition: condition.as_str(),
            });
            decided(shard, attempt, now, fx);
        }
        Step::StartTls => {
            link.reading = Reading::Tls;
            link.scope = StreamScope::closed();
            fx.link(key, LinkEffect::StartTls);
        }
        Step::LoadKeys(account) => {
            wait(shard, key, fx);
            look_up(shard, key, &account, now, fx);
        }
        Step::Hash(job) => {
            wait(shard, key, fx);
            let mut ctx = Ctx {
                core: &mut shard.core,
                fx,
                now,
            };
            ctx.ask(Waiter::Hash(key), |ops| Op::Hash {
                hash: match job.hash {
                    sasl::Hash::Sha1 => crate::store::Hash::Sha1,
                    _ => crate::store::Hash::Sha256,
                },
                password: ops.keep(&job.password),
                salt: ops.keep(&job.salt),
                iterations: job.iterations,
            });
        }
        Step::Authenticated(account) => authenticated(shard, key, &account, now, fx),
        Step::Bind(resource) => bind(shard, key, resource, now, fx),
        Step::Resume { previd, handled } => {
            let asked = Asked {
                link: key,
                previd,
                handled,
            };
            resumption::resume(shard, asked, now, fx);
        }
    }
}

/// Asks for the keys of the account that a link claims, when it is its turn.
fn look_up(shard: &mut Shard, key: LinkKey, account: &BareJid, now: Now, fx: &mut Effects) {
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let (peer, name) = (login.peer, account.as_str());
    login.attempt = shard.backoff.begin(peer, name, now.mono);
    if login.attempt.is_none() {
        let must_wait = shard.backoff.must_wait(peer, name, now.mono);
        if must_wait || !shard.backoff.wait_in_line(peer, name, key) {
            keys(shard, key, Reply::Refused(Refusal::Failed), now, fx);
        }
        return;
    }
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    ctx.ask(Waiter::Login(key), |ops| Op::Head {
        owner: ops.keep(name.as_bytes()),
    });
}

/// An attempt to log in has come to its end, or its link has: who waited for that goes on.
pub fn decided(shard: &mut Shard, attempt: Option<Attempt>, now: Now, fx: &mut Effects) {
    let Some(pair) = attempt.map(|attempt| shard.backoff.end(attempt)) else {
        return;
    };
    while let Some(next) = shard.backoff.next_in_line(pair) {
        // It may be gone.
        let login = login_of(&mut shard.links, next);
        let claimed = login.and_then(|login| login.negotiation.claimed().cloned());
        if let Some(account) = claimed {
            look_up(shard, next, &account, now, fx);
        }
    }
}

pub(super) fn wait(shard: &mut Shard, key: LinkKey, fx: &mut Effects) {
    if let Some(link) = shard.links.get_mut(key) {
        link.reading = Reading::Waiting;
        fx.link(key, LinkEffect::Pause);
    }
}

/// SASL succeeded: the stream restarts, at the home of the account.
fn authenticated(shard: &mut Shard, key: LinkKey, account: &BareJid, now: Now, fx: &mut Effects) {
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    link.scope = link.fresh_scope();
    let attempt = link.login().and_then(|login| {
        login.authenticated = true;
        login.attempt.take()
    });
    fx.link(key, LinkEffect::Authenticated);
    decided(shard, attempt, now, fx);
    let home = shard.core.home(account.as_str());
    if home == shard.core.shard {
        return admit(shard, key, now, fx);
    }
    if let Some(link) = shard.links.get_mut(key) {
        link.reading = Reading::Off;
    }
    fx.link(key, LinkEffect::HandOff(home));
}

/// The account of an authenticated link is resident from here on.
fn admit(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let Some(account) = login
        .negotiation
        .account()
        .map(|jid| jid.as_str().to_owned())
    else {
        return;
    };
    let peer = login.peer;
    let head = login.head.take().unwrap_or_default();
    backoff::succeeded(shard, peer, &account, now, fx);
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    admit_account(&mut ctx, &account, head);
}

/// Makes an account resident, with these records unless newer ones are in memory.
pub fn admit_account(ctx: &mut Ctx<'_>, account: &str, head: Box<Head>) -> AccountKey {
    let now = ctx.now.mono;
    let Some(found) = ctx.accounts.find(account) else {
        let fresh = ctx.core.accounts.insert(account, State::Resident, now);
        install(ctx, fresh, &head);
        ctx.core.time_account(fresh);
        return fresh;
    };
    if let Some(entry) = ctx.core.accounts.get_mut(found) {
        entry.used = now;
    }
    loaded(ctx, found, Reply::Head(head));
    found
}

/// The records of a loading account came.
pub fn loaded(ctx: &mut Ctx<'_>, key: AccountKey, reply: Reply) {
    if ctx
        .accounts
        .get(key)
        .is_none_or(|account| account.is_resident())
    {
        return;
    }
    match reply {
        Reply::Head(head) => {
            install(ctx, key, &head);
            super::deliver::loaded(ctx, key, head.credentials.is_some());
        }
        _ => super::deliver::load_failed(ctx, key),
    }
}

/// RFC 6120 section 7: the resource becomes a session.
fn bind(shard: &mut Shard, key: LinkKey, resource: Option<Box<str>>, now: Now, fx: &mut Effects) {
    let resource = resource.unwrap_or_else(|| shard.core.token().as_str().into());
    let account = login_of(&mut shard.links, key).and_then(|login| login.negotiation.account());
    if let Some(account) = account.map(|account| account.as_str().to_owned()) {
        displace::make_room(shard, &account, &resource, now, fx);
    }
    let Some((account, queue)) = take_queue(shard, key) else {
        return;
    };
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    let resident = |key: &AccountKey| ctx.accounts.get(*key).is_some_and(|a| a.is_resident());
    let Some(found) = ctx.accounts.find(&account).filter(resident) else {
        give_queue(shard, key, queue);
        return shard.fail(key, StreamError::NotAuthorized, now, fx);
    };
    let mut out = Vec::new();
    let bound = lifecycle::bind(&mut ctx, found, key, &resource, queue);
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    match bound {
        Ok(session) => {
            let full = ctx
                .session(session)
                .map(|s| s.jid.clone())
                .unwrap_or_default();
            login.negotiation.bound(Ok(&full), &mut out);
            ctx.send_nonza(session, &out);
            super::route::drain_local(&mut ctx);
            if let Some(link) = shard.links.get_mut(key) {
                link.stream = Stream::Bound(session);
            }
        }
        Err(queue) => {
            let refused = StanzaError::new(Condition::ResourceConstraint);
            login.negotiation.bound(Err(refused), &mut out);
            login.queue = queue;
            login
                .queue
                .append(&mut ctx.core.pool, |queue| queue.extend_from_slice(&out));
            fx.link(key, LinkEffect::Flush);
        }
    }
}

pub(super) fn take_queue(shard: &mut Shard, key: LinkKey) -> Option<(String, Queue)> {
    let login = login_of(&mut shard.links, key)?;
    let account = login.negotiation.account()?.as_str().to_owned();
    Some((account, std::mem::take(&mut login.queue)))
}

fn give_queue(shard: &mut Shard, key: LinkKey, queue: Queue) {
    if let Some(login) = login_of(&mut shard.links, key) {
        login.queue = queue;
    }
}

/// A link's deadline: the login took too long, or the peer is silent.
pub fn link_due(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let limits = &shard.core.policy.limits;
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    let session = match &link.stream {
        Stream::Login(login) => {
            let at = login.opened.after(limits.login_timeout);
            if at > now.mono {
                return shard.core.wheel.set(at, Due::Link(key));
            }
            return shard.fail(key, StreamError::ConnectionTimeout, now, fx);
        }
        Stream::Http(_) => return http::due(shard, key, now, fx),
        // Its session sees to it.
        Stream::Events(_) | Stream::Closing(_) => return,
        Stream::Bound(session) => *session,
    };
    let silence = limits.silence_timeout;
    // The question was asked after a whole silence, and this is a silence later: what came since
    // then is more recent than what came before it by a silence.
    let answered = link.heard().after(silence + silence / 2) > now.mono;
    let quiet_at = link.heard().after(silence);
    let Some(entry) = shard.core.sessions.get_mut(session) else {
        return;
    };
    if entry.flags.has(Flags::PROBED) && !answered {
        // A session that can be resumed only loses its link.
        return fx.link(key, LinkEffect::Abort);
    }
    if quiet_at > now.mono {
        entry.flags.clear(Flags::PROBED);
        return shard.core.wheel.set(quiet_at, Due::Link(key));
    }
    entry.flags.set(Flags::PROBED);
    let managed = entry.management.is_some();
    let due = now.mono.after(silence);
    shard.core.wheel.set(due, Due::Link(key));
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    ask_for_life(&mut ctx, session, managed);
}

/// XEP-0198 asks with `<r/>`, everybody else gets a ping (XEP-0199 section 4.1).
fn ask_for_life(ctx: &mut Ctx<'_>, session: SessionKey, managed: bool) {
    if managed {
        return ctx.send_nonza(session, crate::session::ctx::REQUEST);
    }
    let Some(entry) = ctx.session(session) else {
        return;
    };
    let full = entry.jid.to_string();
    let (_, domain) = jid::split_local(jid::split_resource(&full).0);
    let reference = format!(" id='{}'", ctx.now.mono.0);
    let ping = Draft::new(Kind::Iq, Type::Get, domain, &full, reference.as_bytes())
        .with_content(b"<ping xmlns='urn:xmpp:ping'/>".to_vec());
    ctx.send(session, &ping.as_stanza(), &full);
}

impl Login {
    /// The stream error and the end of the stream, with a header before it if we sent none.
    pub(super) fn last_words(&mut self, core: &mut Core, error: StreamError) -> Queue {
        self.say_last(core, |negotiation, offer, out| {
            negotiation.close(error, offer, out)
        })
    }

    /// The end of the stream, in answer to the client's.
    pub(super) fn goodbye(&mut self, core: &mut Core) -> Queue {
        self.say_last(core, |negotiation, offer, out| negotiation.end(offer, out))
    }

    fn say_last(
        &mut self,
        core: &mut Core,
        say: impl FnOnce(&mut Negotiation, &Offer<'_>, &mut Vec<u8>),
    ) -> Queue {
        let tokens = Tokens::new(core);
        let mut out = Vec::new();
        say(&mut self.negotiation, &tokens.offer(core), &mut out);
        let mut queue = std::mem::take(&mut self.queue);
        queue.append(&mut core.pool, |octets| octets.extend_from_slice(&out));
        queue
    }
}
