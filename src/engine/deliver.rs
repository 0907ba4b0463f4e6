//! A target becomes sessions: RFC 6121 section 8.5.

use smallvec::SmallVec;

use super::dispatch::{self, Phase};
use super::serve;
use crate::features::Verdict;
use crate::session::account::{AccountKey, State};
use crate::session::ctx::{Ctx, Waiter};
use crate::session::parcel::Batch;
use crate::session::session::{Session, SessionKey};
use crate::store::{Op, Unsettled};
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};

/// Gives a stanza to whoever `target` (of this shard, bare or full, normal form) stands for.
pub fn deliver(ctx: &mut Ctx<'_>, stanza: &Stanza<'_>, target: &str) {
    let (bare, resource) = jid::split_resource(target);
    match ctx.accounts.find(bare) {
        Some(key) => deliver_to(ctx, stanza, target, key, resource),
        None => deliver_to_absent(ctx, stanza, bare, target),
    }
}

/// As [`deliver`], to an account that is loading or resident.
pub fn deliver_to(
    ctx: &mut Ctx<'_>,
    stanza: &Stanza<'_>,
    target: &str,
    key: AccountKey,
    resource: Option<&str>,
) {
    let now = ctx.now.mono;
    let maximum = ctx.policy.limits.loading_stanzas_max;
    let Some(account) = ctx.core.accounts.get_mut(key) else {
        return;
    };
    account.used = now;
    if let State::Loading(parked) = &mut account.state {
        if parked.len() >= maximum && !stanza.traits.has(Traits::RECOVERED) {
            ctx.bounce(stanza, Condition::ResourceConstraint);
            return settle_bounced(ctx, stanza);
        }
        parked.push_for(stanza, std::iter::once(target));
        return;
    }
    deliver_to_account(ctx, key, stanza, target, resource);
}

/// Messages, iqs and subscriptions load an account; other presence is not worth it: nobody is
/// there to see it (guide, "Accounts").
fn deliver_to_absent(ctx: &mut Ctx<'_>, stanza: &Stanza<'_>, bare: &str, target: &str) {
    let idle = matches!(
        stanza.class,
        Type::Available | Type::Unavailable | Type::Error
    );
    if (stanza.kind == Kind::Presence && idle) || stanza.class == Type::Result {
        return;
    }
    let mut parked = Box::new(Batch::default());
    parked.push_for(stanza, std::iter::once(target));
    let now = ctx.now.mono;
    let key = ctx.core.accounts.insert(bare, State::Loading(parked), now);
    ctx.ask(Waiter::Load(key), |ops| Op::Head {
        owner: ops.keep(bare.as_bytes()),
    });
}

fn deliver_to_account(
    ctx: &mut Ctx<'_>,
    key: AccountKey,
    stanza: &Stanza<'_>,
    target: &str,
    resource: Option<&str>,
) {
    match dispatch::incoming(ctx, key, stanza) {
        Verdict::Pass => {}
        Verdict::Consumed => return settle_bounced(ctx, stanza),
        Verdict::Bounce(error) => {
            ctx.bounce(stanza, error);
            return settle_bounced(ctx, stanza);
        }
    }
    match (stanza.kind, resource) {
        (Kind::Message, _) => message(ctx, key, stanza, resource),
        (Kind::Presence, _) => presence(ctx, key, stanza, target, resource),
        (Kind::Iq, Some(resource)) => iq_to_resource(ctx, key, stanza, resource),
        (Kind::Iq, None) if stanza.class.is_answer() => {}
        (Kind::Iq, None) => serve::account(ctx, key, None, stanza),
    }
}

/// RFC 6121 sections 8.5.2.1.1, 8.5.2.2.1, 8.5.3.1 and 8.5.3.2.1.
fn message(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>, resource: Option<&str>) {
    let exact = resource.and_then(|resource| session_of(ctx, key, resource));
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    if account.is_draining() && exact.is_none() && stanza.traits.has(Traits::STORABLE) {
        return keep(ctx, key, stanza);
    }
    if let Some(session) = exact {
        return give(ctx, session, stanza);
    }
    match stanza.class {
        Type::Groupchat => return ctx.bounce(stanza, Condition::ServiceUnavailable),
        Type::Error => return,
        Type::Headline if resource.is_some() => return,
        _ => {}
    }
    if let [only] = *account.sessions {
        // Nearly always so.
        return match ctx.session(only).is_some_and(Session::takes_messages) {
            true => give(ctx, only, stanza),
            false => nobody(ctx, key, stanza),
        };
    }
    let takers: SmallVec<[SessionKey; 4]> = takers_of(ctx, key).collect();
    if takers.is_empty() {
        return nobody(ctx, key, stanza);
    }
    if takers.len() > 1 && stanza.traits.has(Traits::JOURNALED) {
        ctx.core.copies.insert(stanza.id, takers.len() as u16);
    }
    for session in takers {
        give(ctx, session, stanza);
    }
}

/// The sessions that a message to the bare JID reaches: all of non-negative priority.
fn takers_of(ctx: &Ctx<'_>, key: AccountKey) -> impl Iterator<Item = SessionKey> {
    let account = ctx.accounts.get(key);
    let sessions = account
        .map(|account| account.sessions.iter())
        .unwrap_or_default();
    sessions
        .copied()
        .filter(|key| ctx.session(*key).is_some_and(|s| s.takes_messages()))
}

/// RFC 6121 section 8.5.2.2: no resource takes it.
fn nobody(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>) {
    match stanza.class {
        Type::Normal | Type::Chat if stanza.traits.has(Traits::STORABLE) => keep(ctx, key, stanza),
        Type::Groupchat => ctx.bounce(stanza, Condition::ServiceUnavailable),
        _ => {}
    }
}

fn keep(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>) {
    if !ctx.store_offline(key, stanza) {
        ctx.bounce(stanza, Condition::ServiceUnavailable);
        settle_bounced(ctx, stanza);
    }
}

/// RFC 6121 sections 8.5.2.1.2 and 8.5.3.1; subscriptions and probes are the account's business.
fn presence(
    ctx: &mut Ctx<'_>,
    key: AccountKey,
    stanza: &Stanza<'_>,
    target: &str,
    resource: Option<&str>,
) {
    match (stanza.class, resource) {
        (Type::Available | Type::Unavailable, None) => {
            dispatch::presence_in(ctx, key, stanza);
            for session in ctx.sessions_of(key) {
                if ctx
                    .session(session)
                    .is_some_and(|session| session.is_available())
                {
                    give_as(ctx, session, stanza, target);
                }
            }
        }
        (Type::Available | Type::Unavailable | Type::Error, Some(resource)) => {
            if let Some(session) = session_of(ctx, key, resource) {
                give_as(ctx, session, stanza, target);
            }
        }
        (Type::Error, None) => {}
        _ => dispatch::presence_in(ctx, key, stanza),
    }
}

fn iq_to_resource(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>, resource: &str) {
    match session_of(ctx, key, resource) {
        Some(session) => give(ctx, session, stanza),
        None => ctx.bounce(stanza, Condition::ServiceUnavailable),
    }
}

/// The connected resource of this name.
fn session_of(ctx: &Ctx<'_>, key: AccountKey, resource: &str) -> Option<SessionKey> {
    let account = ctx.accounts.get(key)?;
    let named = |key: &&SessionKey| ctx.session(**key).is_some_and(|s| s.resource() == resource);
    account.sessions.iter().find(named).copied()
}

/// Gives a stanza to one session as it is addressed.
pub fn give(ctx: &mut Ctx<'_>, session: SessionKey, stanza: &Stanza<'_>) {
    give_as(ctx, session, stanza, stanza.to);
}

fn give_as(ctx: &mut Ctx<'_>, session: SessionKey, stanza: &Stanza<'_>, to: &str) {
    match dispatch::ask(ctx, Phase::Delivering, session, stanza) {
        Verdict::Pass => {
            if stanza.kind == Kind::Message {
                ctx.count_delivered(session);
            }
            ctx.send(session, stanza, to);
        }
        Verdict::Consumed | Verdict::Bounce(_) => {}
    }
}

/// What was bounced or dropped needs no journal any more (P1 c).
fn settle_bounced(ctx: &mut Ctx<'_>, stanza: &Stanza<'_>) {
    if stanza.traits.has(Traits::JOURNALED) {
        let id = stanza.id;
        ctx.tell(|_| Op::Settle { id });
    }
}

/// An account's records came, or there is no such account: what waited for it goes on.
pub fn loaded(ctx: &mut Ctx<'_>, key: AccountKey, exists: bool) {
    let Some(account) = ctx.core.accounts.get_mut(key) else {
        return;
    };
    let State::Loading(parked) = std::mem::replace(&mut account.state, State::Resident) else {
        return;
    };
    if !exists {
        ctx.core.accounts.remove(key);
        for (stanza, targets) in parked.iter() {
            for target in targets {
                no_such_account(ctx, &stanza, target);
            }
        }
        return;
    }
    ctx.core.time_account(key);
    for (stanza, targets) in parked.iter() {
        for target in targets {
            deliver(ctx, &stanza, target);
        }
    }
}

/// RFC 6121 section 8.5.1; presence and iqs meet what an account says to whom it does not know.
fn no_such_account(ctx: &mut Ctx<'_>, stanza: &Stanza<'_>, target: &str) {
    let (bare, resource) = jid::split_resource(target);
    match (stanza.kind, stanza.class) {
        (Kind::Presence, Type::Probe) => ctx.deny_probe(bare, stanza.from),
        (Kind::Presence, _) => {}
        (Kind::Iq, Type::Get | Type::Set) if resource.is_none() => serve::nobody(ctx, stanza),
        _ => ctx.bounce(stanza, Condition::ServiceUnavailable),
    }
    settle_bounced(ctx, stanza);
}

/// Storage could not say whether there is such an account: nothing is decided, nothing is lost.
pub fn load_failed(ctx: &mut Ctx<'_>, key: AccountKey) {
    let Some(account) = ctx.core.accounts.remove(key) else {
        return;
    };
    let State::Loading(parked) = account.state else {
        return;
    };
    for (stanza, _) in parked.iter() {
        // What a former process promised stays in the journal for the next start.
        if !stanza.traits.has(Traits::RECOVERED) {
            ctx.bounce(&stanza, Condition::ResourceConstraint);
            settle_bounced(ctx, &stanza);
        }
    }
}

/// Routes a message that a crash left on its way: nobody is online yet, so it is stored.
pub fn recover(ctx: &mut Ctx<'_>, unsettled: &Unsettled) {
    let (from, to, reference) = super::lifecycle::addresses(&unsettled.octets);
    let (head, content) = match split_element(&unsettled.octets) {
        Some(parts) => parts,
        None => return ctx.tell(|_| Op::Settle { id: unsettled.id }),
    };
    let stanza = Stanza {
        kind: Kind::Message,
        class: Type::Chat,
        traits: Traits::STORABLE
            .with(Traits::JOURNALED)
            .with(Traits::RECOVERED),
        id: unsettled.id,
        from: &from,
        to: if to.is_empty() { &unsettled.owner } else { &to },
        reference: &reference,
        head,
        content,
    };
    deliver(ctx, &stanza, &unsettled.owner);
}

/// The start tag (still open and without its `to`, which we write last) and the content of a
/// message that we wrote.
fn split_element(element: &[u8]) -> Option<(&[u8], &[u8])> {
    let open = element.strip_suffix(b"</message>")?;
    let end = crate::session::offline::start_tag_end(open);
    let head = open.get(..end)?;
    let to = memchr::memmem::rfind(head, b" to='").unwrap_or(head.len());
    Some((&head[..to], open.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::stanza::Draft;

    /// A receiver would lose its stream over an attribute that stands twice.
    #[test]
    fn a_recovered_message_is_written_as_it_was() {
        for to in ["juliet@example.net", "juliet@example.net/it's > a 'room'"] {
            let draft = Draft::new(Kind::Message, Type::Chat, "r@x/\" to='a'", to, b" id='7'")
                .with_content(b"<body>hi</body>".to_vec());
            let mut written = Vec::new();
            draft.as_stanza().write(to, &mut written);
            let (head, content) = split_element(&written).unwrap();
            let mut again = Vec::new();
            Stanza {
                head,
                content,
                ..draft.as_stanza()
            }
            .write(to, &mut again);
            assert_eq!(again, written);
        }
    }
}
