//! Who is there: RFC 6121 section 4, initial, later and directed presence, probes, and the end of
//! all of them.

use super::Feature;
use crate::session::account::{AccountKey, BLOCKED};
use crate::session::ctx::Ctx;
use crate::session::roster::Item;
use crate::session::session::{Flags, SessionKey};
use crate::session::shown::{self, Shown};
use crate::store::{Change, Kind as Table, Op, Require};
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::ns;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Type};
use crate::xmpp::xml::Tree;

pub const FEATURE: Feature = Feature {
    presence: Some(sent),
    presence_in: Some(received),
    ended: Some(ended),
    ..Feature::NONE
};

/// A session sent presence.
fn sent(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    match (stanza.class, stanza.to.is_empty()) {
        (Type::Available, true) => available(ctx, key, stanza),
        (Type::Unavailable, true) => unavailable(ctx, key, stanza),
        (Type::Available | Type::Unavailable, false) => directed(ctx, key, stanza),
        (Type::Probe, false) => probe(ctx, key, stanza),
        (Type::Error, false) => ctx.post(stanza),
        _ => {}
    }
}

/// Sections 4.2.2 and 4.4.2.
fn available(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    let Some(priority) = priority(stanza) else {
        return ctx.refuse_session(key, stanza, Condition::BadRequest);
    };
    // It is kept for whoever asks later, so it is bounded as everything that is kept.
    if stanza.head.len() + stanza.content.len() > ctx.policy.limits.record_octets_max {
        return ctx.refuse_session(key, stanza, Condition::ResourceConstraint);
    }
    let Some(session) = ctx.session_mut(key) else {
        return;
    };
    let took_messages = session.takes_messages();
    session.priority = priority;
    session.presence = Some(shown::keep(stanza));
    let initial = session.flags.set(Flags::AVAILABLE);
    let takes_messages = session.takes_messages();
    let account = session.account;
    announce(ctx, account, stanza);
    if initial {
        show_own(ctx, account, key);
        probe_contacts(ctx, account, stanza.from);
    }
    if takes_messages && !took_messages {
        ctx.drain_offline(key);
    }
}

/// Section 4.5.2.
fn unavailable(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    leave(ctx, key, stanza);
    ctx.send_or_hold(key, stanza, stanza.from);
}

/// A session that ends says goodbye, in words or by the server (section 4.5.2).
fn ended(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(session) = ctx.session(key) else {
        return;
    };
    let draft = Draft::new(Kind::Presence, Type::Unavailable, &session.jid, "", b"");
    leave(ctx, key, &draft.as_stanza());
}

fn leave(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    let Some(session) = ctx.session_mut(key) else {
        return;
    };
    let account = session.account;
    let was_available = session.flags.clear(Flags::AVAILABLE);
    session.presence = None;
    let directed = session.directed.take();
    if was_available {
        announce(ctx, account, stanza);
        if ctx.sessions_with(account, Flags::AVAILABLE).is_empty() {
            note_last(ctx, account, stanza);
        }
    }
    if let Some(directed) = directed {
        ctx.broadcast(stanza, directed.iter().map(|jid| &**jid));
    }
}

/// To everybody who sees the account, and to its own available sessions.
fn announce(ctx: &mut Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>) {
    let Some(account) = ctx.accounts.get(account) else {
        return;
    };
    let own = std::iter::once(&*account.jid);
    // The list leaves the account, because a broadcast may change anything.
    let targets: Vec<Box<str>> = account.watchers().chain(own).map(Box::from).collect();
    ctx.broadcast(stanza, targets.iter().map(|jid| &**jid));
}

/// The other sessions of the account, as if the new one had asked each of them (section 4.3).
fn show_own(ctx: &mut Ctx<'_>, account: AccountKey, key: SessionKey) {
    for other in ctx.sessions_of(account) {
        if other == key {
            continue;
        }
        let Some(shown) = ctx.session(other).and_then(Shown::of) else {
            continue;
        };
        let Some(to) = ctx.session(key).map(|session| session.jid.clone()) else {
            return;
        };
        ctx.send_or_hold(key, &shown.as_stanza(&to), &to);
    }
}

/// Section 4.3.1: asks everybody whom the account sees.
fn probe_contacts(ctx: &mut Ctx<'_>, account: AccountKey, from: &str) {
    let Some(account) = ctx.accounts.get(account) else {
        return;
    };
    let Some(roster) = account.roster.as_deref() else {
        return;
    };
    let seen = roster.items.iter().filter(|item| item.subscription.to);
    let seen = seen.filter(|item| !account.blocks(&item.jid));
    let seen: Vec<Box<str>> = seen.map(|item| item.jid.clone()).collect();
    if seen.is_empty() {
        return;
    }
    let draft = Draft::new(Kind::Presence, Type::Probe, from, "", b"");
    ctx.broadcast(&draft.as_stanza(), seen.iter().map(|jid| &**jid));
}

/// Section 4.6: to somebody who would not see it otherwise.
fn directed(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    let maximum = ctx.policy.limits.directed_max;
    let Some(account) = ctx.account_of(key) else {
        return;
    };
    if account.blocks(stanza.to) {
        return ctx.refuse_session(key, stanza, BLOCKED);
    }
    let (bare, _) = jid::split_resource(stanza.to);
    if !ctx.serves(jid::split_local(bare).1) {
        return ctx.refuse_session(key, stanza, Condition::RemoteServerNotFound);
    }
    let sees_anyway = account.is_seen_by(stanza.to);
    let Some(session) = ctx.session_mut(key) else {
        return;
    };
    if stanza.class == Type::Unavailable {
        if let Some(directed) = &mut session.directed {
            directed.retain(|jid| **jid != *stanza.to);
        }
        session.directed.take_if(|directed| directed.is_empty());
    } else if !(sees_anyway && session.is_available()) {
        let directed = session.directed.get_or_insert_default();
        if !directed.iter().any(|jid| **jid == *stanza.to) {
            if directed.len() >= maximum {
                return ctx.refuse_session(key, stanza, Condition::ResourceConstraint);
            }
            directed.push(stanza.to.into());
        }
    }
    ctx.post(stanza);
}

/// A client may ask itself. Blocked contacts are as good as absent. Whoever has not answered the
/// user's request yet would deny the probe, and so the request.
fn probe(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    let Some(account) = ctx.account_of(key) else {
        return;
    };
    let (contact, _) = jid::split_resource(stanza.to);
    let asking = |item: &Item| item.ask && !item.subscription.to;
    if account.blocks(stanza.to) || account.contact(contact).is_some_and(asking) {
        return;
    }
    ctx.post(stanza);
}

/// Section 4.3.2: who may know is told; who may not hears that there is no subscription, as from
/// an account that does not exist.
fn received(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>) {
    if stanza.class != Type::Probe {
        return;
    }
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    let own = account.jid.clone();
    if !account.is_seen_by(stanza.from) {
        return ctx.deny_probe(&own, stanza.from);
    }
    if !ctx.sessions_with(key, Flags::AVAILABLE).is_empty() {
        return ctx.show_presence(key, stanza.from);
    }
    let draft = Draft::new(Kind::Presence, Type::Unavailable, &own, stanza.from, b"");
    ctx.post(&draft.as_stanza());
}

/// The priority of a presence: 0 when it has none. `None`: it is not a number from -128 to 127,
/// or there are two (section 4.7.2.3).
fn priority(stanza: &Stanza<'_>) -> Option<i8> {
    if memchr::memmem::find(stanza.content, b"priority").is_none() {
        return Some(0);
    }
    let tree = read(stanza);
    let mut found = tree
        .children()
        .filter(|child| child.is(ns::CLIENT, "priority"));
    let Some(priority) = found.next() else {
        return Some(0);
    };
    if found.next().is_some() {
        return None;
    }
    priority
        .text()
        .trim_matches([' ', '\t', '\n', '\r'])
        .parse()
        .ok()
}

fn read(stanza: &Stanza<'_>) -> Tree {
    let mut element = Vec::with_capacity(stanza.octets_len());
    stanza.write("", &mut element);
    Tree::parse(&element)
}

/// XEP-0012: when the last session left and what it said.
fn note_last(ctx: &mut Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>) {
    let Some(owner) = ctx.accounts.get(account).map(|account| account.jid.clone()) else {
        return;
    };
    // A logout seldom says anything: only then is it opened.
    let status = match memchr::memmem::find(stanza.content, b"status") {
        None => String::new(),
        Some(_) => read(stanza)
            .child(ns::CLIENT, "status")
            .map(Tree::text)
            .unwrap_or_default(),
    };
    let record = crate::session::last::encode(ctx.now.wall_ms, &status);
    ctx.tell(|ops| {
        let owner = ops.keep(owner.as_bytes());
        let key = ops.keep(b"");
        let value = ops.keep(&record);
        Op::Write {
            // An account that was deleted under its sessions leaves no record behind.
            require: Require::Present {
                owner: owner.clone(),
                kind: Table::Credentials,
                key: key.clone(),
            },
            changes: vec![Change::Put {
                owner,
                kind: Table::Last,
                key,
                value,
            }],
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::roster::Roster;
    use crate::testing::{Plan, World};

    /// Section 4.3.2: who believes to see an account that is gone learns better by the probe.
    #[test]
    fn an_account_that_is_gone_denies_a_probe() {
        let mut world = World::new(Plan {
            accounts: vec!["romeo@localhost".into()],
            ..Plan::default()
        });
        let mut roster = Roster::default();
        let item = roster.entry("juliet@localhost");
        (item.subscription.to, item.listed) = (true, true);
        let record = roster.encode();
        world.depot().put("romeo@localhost", Table::Roster, &record);
        world.logs_in("romeo@localhost/orchard");
        let get = "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>";
        world.sends("romeo", get);
        assert!(
            world
                .receives("romeo")
                .concat()
                .contains("subscription='to'")
        );
        world.sends("romeo", "<presence/>");
        let got = world.receives("romeo").concat();
        assert!(got.contains("type='unsubscribed'"), "{got}");
        assert!(got.contains("subscription='none'"), "{got}");
    }

    #[test]
    fn a_priority_is_a_number_of_one_octet() {
        for (content, expected) in [
            ("", Some(0)),
            ("<show>away</show>", Some(0)),
            ("<priority>-128</priority>", Some(-128)),
            ("<show>away</show><priority> 127\n</priority>", Some(127)),
            ("<priority>+5</priority>", Some(5)),
            ("<priority xmlns='urn:other'>999</priority>", Some(0)),
            ("<priority>128</priority>", None),
            ("<priority>-129</priority>", None),
            ("<priority>high</priority>", None),
            ("<priority/>", None),
            ("<priority>1</priority><priority>2</priority>", None),
        ] {
            let draft =
                Draft::new(Kind::Presence, Type::Available, "a@b/c", "", b"").with_content(content);
            assert_eq!(priority(&draft.as_stanza()), expected, "{content}");
        }
    }
}
