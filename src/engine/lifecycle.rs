//! Sessions begin, lose their link, are resumed, end.

use super::dispatch;
use crate::base::event::Event;
use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Due};
use crate::session::effects::LinkKey;
use crate::session::queue::Queue;
use crate::session::session::{Flags, Session, SessionKey};
use crate::store::{MessageId, Op, StreamId};
use crate::xmpp::error::{Condition, StreamError};
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};
use crate::xmpp::xml::{Bounds, Element, Progress, Scanner, StreamScope, writer};

/// Binds `resource` of an account to a link. The queue holds what the link still owes.
///
/// A session of the same full JID ends with `conflict` (RFC 6120 section 7.7.2.2): the newer
/// client is the one that is there. `None`: the account has as many sessions as it may.
pub fn bind(
    ctx: &mut Ctx<'_>,
    account: AccountKey,
    link: LinkKey,
    resource: &str,
    queue: Queue,
) -> Result<SessionKey, Queue> {
    if let Some(old) = find_resource(ctx, account, resource) {
        end(ctx, old, Farewell::Error(StreamError::Conflict));
    }
    let now = ctx.now.mono;
    let maximum = ctx.policy.limits.sessions_per_account_max;
    let Some(entry) = ctx.core.accounts.get_mut(account) else {
        return Err(queue);
    };
    if entry.sessions.len() >= maximum {
        return Err(queue);
    }
    entry.used = now;
    let mut session = Session::new(account, link, &entry.jid, resource);
    session.queue = queue;
    let key = ctx.core.sessions.insert(session);
    if let Some(entry) = ctx.core.accounts.get_mut(account) {
        entry.sessions.push(key);
        let account = entry.jid.clone();
        ctx.event(Event::SessionBound { account });
    }
    dispatch::bound(ctx, key);
    Ok(key)
}

fn find_resource(ctx: &Ctx<'_>, account: AccountKey, resource: &str) -> Option<SessionKey> {
    let named = |key: &SessionKey| ctx.session(*key).is_some_and(|s| s.resource() == resource);
    ctx.sessions_of(account).into_iter().find(named)
}

/// The session that a resumption token names, if it belongs to this account.
pub fn find_stream(ctx: &Ctx<'_>, account: AccountKey, stream: StreamId) -> Option<SessionKey> {
    let named = |key: &SessionKey| {
        let management = ctx.session(*key).and_then(|s| s.management.as_deref());
        management.is_some_and(|m| m.id == stream && m.resume_seconds > 0)
    };
    ctx.sessions_of(account).into_iter().find(named)
}

/// What a client is told when its session ends.
#[derive(Clone, Copy, Debug)]
pub enum Farewell {
    /// It ended its stream; ours ends too (RFC 6120 section 4.4).
    Close,
    Error(StreamError),
    /// Nobody is there to hear it.
    Silent,
}

/// The link is gone without a goodbye.
pub fn detach(ctx: &mut Ctx<'_>, key: SessionKey) {
    let now = ctx.now.mono;
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    session.link = None;
    session.flags.clear(Flags::PAUSED);
    let account = session.account;
    pass_drain_on(ctx, account, key);
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    let resumable = session.is_resumable();
    let Some(management) = session.management.as_deref_mut().filter(|_| resumable) else {
        return end(ctx, key, Farewell::Silent);
    };
    management.detached = now;
    let patience = std::time::Duration::from_secs(u64::from(management.resume_seconds));
    ctx.core.wheel.set(now.after(patience), Due::Session(key));
}

/// Messages must not queue behind a client that is not there while another one is: it gets what is
/// in the store. Without another one they go on queueing, so that none overtakes.
fn pass_drain_on(ctx: &mut Ctx<'_>, account: AccountKey, key: SessionKey) {
    let Some(entry) = ctx.core.accounts.get(account) else {
        return;
    };
    if entry
        .draining
        .as_deref()
        .is_none_or(|draining| draining.session != key)
    {
        return;
    }
    let there = |other: &SessionKey| {
        let other = ctx.core.sessions.get(*other);
        other.is_some_and(|other| other.link.is_some() && other.takes_messages())
    };
    let Some(taker) = entry.sessions.iter().copied().find(there) else {
        return;
    };
    if let Some(entry) = ctx.core.accounts.get_mut(account) {
        entry.draining = None;
    }
    ctx.drain_offline(taker);
}

/// The resumption time may be over.
pub fn resumption_over(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.session(key) else {
        return;
    };
    let Some(management) = session.management.as_deref() else {
        return;
    };
    let patience = std::time::Duration::from_secs(u64::from(management.resume_seconds));
    if session.link.is_none() && management.detached.after(patience) <= ctx.now.mono {
        end(ctx, key, Farewell::Silent);
    }
}

/// Ends a session for good: everybody hears that it is unavailable, and what it did not
/// acknowledge goes to the offline store (P4).
pub fn end(ctx: &mut Ctx<'_>, key: SessionKey, farewell: Farewell) {
    if ctx.session(key).is_none() {
        return;
    }
    dispatch::ended(ctx, key);
    let Some(mut session) = ctx.core.sessions.remove(key) else {
        return;
    };
    let account = session.account;
    let now = ctx.now.mono;
    let mut name = Box::from("");
    if let Some(entry) = ctx.core.accounts.get_mut(account) {
        entry.sessions.retain(|other| *other != key);
        entry.used = now;
        name = entry.jid.clone();
        if entry
            .draining
            .as_deref()
            .is_some_and(|draining| draining.session == key)
        {
            entry.draining = None;
        }
        if entry.sessions.is_empty() {
            ctx.core.time_account(account);
        }
    }
    let unacknowledged = session.queue.unacknowledged();
    store_open(ctx, account, &session);
    if let Some(management) = &session.management {
        let stream = management.id;
        ctx.tell(|_| Op::Forget { stream });
    }
    ctx.event(Event::SessionEnded {
        account: name,
        unacknowledged,
    });
    let Some(link) = session.link.take() else {
        return session.queue.discard(&mut ctx.core.pool);
    };
    say_farewell(ctx, &mut session.queue, farewell);
    let queue = std::mem::take(&mut session.queue);
    ctx.core.orphans.push((link, queue, session.jid));
}

fn say_farewell(ctx: &mut Ctx<'_>, queue: &mut Queue, farewell: Farewell) {
    queue.append(&mut ctx.core.pool, |out| match farewell {
        Farewell::Close => out.extend_from_slice(b"</stream:stream>"),
        Farewell::Error(error) => {
            error.write(out);
            out.extend_from_slice(b"</stream:stream>");
        }
        Farewell::Silent => {}
    });
}

/// Messages that nobody acknowledged go to the offline store; what came from there is there still.
fn store_open(ctx: &mut Ctx<'_>, account: AccountKey, session: &Session) {
    for (mark, element) in session.queue.open() {
        let kept = mark.traits.has(Traits::STORABLE)
            && !mark.traits.has(Traits::FROM_STORE)
            && !mark.traits.has(Traits::CARBON);
        if !kept {
            refuse_request(ctx, &element);
            settle_dropped(ctx, mark.traits, mark.id);
            continue;
        }
        let (from, to, reference) = addresses(&element);
        let stanza = Stanza {
            kind: Kind::Message,
            class: Type::Chat,
            traits: mark.traits,
            id: mark.id,
            from: &from,
            to: &to,
            reference: &reference,
            head: b"",
            content: b"",
        };
        if !ctx.store_element(account, &stanza, &element) {
            ctx.bounce(&stanza, Condition::ServiceUnavailable);
            settle_dropped(ctx, mark.traits, mark.id);
        }
    }
}

/// Nobody will answer a request that the client did not take: its sender hears what it would hear
/// of an absent resource (XEP-0198 section 5, RFC 6121 section 8.5.3.2.3).
fn refuse_request(ctx: &mut Ctx<'_>, element: &[u8]) {
    let class = element.starts_with(b"<iq").then(|| class_of(element));
    let Some(class @ (Type::Get | Type::Set)) = class.flatten() else {
        return;
    };
    let (from, to, reference) = addresses(element);
    let request = Stanza {
        kind: Kind::Iq,
        class,
        traits: Traits::NONE,
        id: MessageId(0),
        from: &from,
        to: &to,
        reference: &reference,
        head: b"",
        content: b"",
    };
    ctx.bounce(&request, Condition::ServiceUnavailable);
}

fn settle_dropped(ctx: &mut Ctx<'_>, traits: Traits, id: MessageId) {
    if traits.has(Traits::JOURNALED) && ctx.core.settled_by_all(id) {
        ctx.tell(|_| Op::Settle { id });
    }
}

/// Sender, recipient and ` id='…'` of an element that we wrote ourselves.
pub fn addresses(element: &[u8]) -> (String, String, Vec<u8>) {
    let read = |root: Element<'_>| {
        let text = |name| {
            root.attr(name)
                .map(|value| value.into_owned())
                .unwrap_or_default()
        };
        let mut reference = Vec::new();
        if let Some(id) = root.attr("id") {
            reference.extend_from_slice(b" id='");
            writer::escape_attr(&mut reference, &id);
            reference.push(b'\'');
        }
        (text("from"), text("to"), reference)
    };
    read_root(element, read).unwrap_or_default()
}

/// The type of an iq that we wrote ourselves.
fn class_of(element: &[u8]) -> Option<Type> {
    let read = |root: Element<'_>| {
        let class = root.attr("type");
        Type::of(Kind::Iq, class.as_deref().map(str::as_bytes))
    };
    read_root(element, read).flatten()
}

fn read_root<T>(element: &[u8], read: impl FnOnce(Element<'_>) -> T) -> Option<T> {
    let mut scanner = Scanner::new();
    let bounds = Bounds {
        octets_max: usize::MAX,
        depth_max: usize::MAX,
        attributes_max: usize::MAX,
        elements_max: usize::MAX,
    };
    let scope = StreamScope::standard();
    match scanner.next(element, &scope, &bounds) {
        Ok(Progress::Element(_)) => Some(read(scanner.element(element))),
        _ => None,
    }
}

/// What every octet to a slow or absent reader may lead to; called after something was queued.
pub fn hold_bounds(ctx: &mut Ctx<'_>, key: SessionKey) {
    let limits = &ctx.core.policy.limits;
    let Some(session) = ctx.core.sessions.get(key) else {
        return;
    };
    let queue = &session.queue;
    let full = queue.unacknowledged() > limits.queue_stanzas_max
        || queue.held_octets() > limits.queue_octets_max;
    let unsent = session.link.map_or(0, |_| queue.unsent_octets());
    let slow = unsent > limits.link_output_octets_max && !session.is_resumable();
    let hopeless = unsent > limits.queue_octets_max;
    if full || hopeless {
        return end(ctx, key, Farewell::Error(NOT_READ));
    }
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    if slow && session.flags.set(Flags::SLOW) {
        let at = ctx.now.mono.after(SLOW_READER_PATIENCE);
        ctx.core.wheel.set(at, Due::Slow(key));
    }
}

/// A reader that was slow has had its time.
pub fn still_slow(ctx: &mut Ctx<'_>, key: SessionKey) {
    let maximum = ctx.policy.limits.link_output_octets_max;
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    session.flags.clear(Flags::SLOW);
    if session.link.is_some() && session.queue.unsent_octets() > maximum {
        end(ctx, key, Farewell::Error(NOT_READ));
    }
}

const NOT_READ: StreamError = StreamError::PolicyViolation("output is not read");
/// How long more than `limits.link_output_octets_max` may stay unread.
const SLOW_READER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Ends all sessions of an account and forgets what is in memory of it.
pub fn kick(ctx: &mut Ctx<'_>, account: &str, condition: &str) {
    let Some(key) = ctx.accounts.find(account) else {
        return;
    };
    let error = match condition {
        "conflict" => StreamError::Conflict,
        "reset" => StreamError::Reset,
        "policy-violation" => StreamError::PolicyViolation("closed by the administrator"),
        _ => StreamError::NotAuthorized,
    };
    for session in ctx.sessions_of(key) {
        end(ctx, session, Farewell::Error(error));
    }
    if ctx
        .accounts
        .get(key)
        .is_some_and(|account| account.is_resident())
    {
        ctx.core.accounts.remove(key);
    }
}

/// Forgets an account that nobody used for a while.
pub fn evict(ctx: &mut Ctx<'_>, key: AccountKey) {
    let idle = ctx.core.account_patience();
    let now = ctx.now.mono;
    let Some(account) = ctx.core.accounts.get_mut(key) else {
        return;
    };
    account.timed = false;
    if !account.is_resident() || !account.sessions.is_empty() {
        return;
    }
    let at = account.used.after(idle);
    if at > now {
        return ctx.core.time_account(key);
    }
    ctx.core.accounts.remove(key);
}
