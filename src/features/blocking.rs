//! XEP-0191 Blocking Command: nothing to or from whom the user does not want to know.

use super::{Asked, Feature, IqRoute, Verdict, Xep};
use crate::session::account::{
    AccountKey, BLOCKED, BlockChange, BlockList, encode_blocked, is_blocked,
};
use crate::session::ctx::{Ctx, Iq, Kept};
use crate::session::session::{Flags, SessionKey};
use crate::store::{Kind as Table, Reply};
use crate::xmpp::error::{Condition, StanzaError};
use crate::xmpp::jid::{self, Jid};
use crate::xmpp::ns;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Type};
use crate::xmpp::xml::Tree;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 191,
        version: "1.3",
    }),
    disco: &[ns::BLOCKING],
    account_disco: &[ns::BLOCKING],
    iq: &[
        route("blocklist", Some(get), None),
        route("block", None, Some(block)),
        route("unblock", None, Some(unblock)),
    ],
    outgoing: Some(outgoing),
    incoming: Some(incoming),
    ..Feature::NONE
};

type Handler = fn(&mut Ctx<'_>, &Iq<'_>);

const fn route(name: &'static str, get: Option<Handler>, set: Option<Handler>) -> IqRoute {
    IqRoute {
        namespace: ns::BLOCKING,
        name,
        asked: Asked::Own,
        get,
        set,
    }
}

/// Section 3.2. Who asks hears of changes.
fn get(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    if let Some(session) = iq.session.and_then(|key| ctx.session_mut(key)) {
        session.flags.set(Flags::BLOCKING);
    }
    let Some(account) = iq.account.and_then(|key| ctx.accounts.get(key)) else {
        return;
    };
    let list = account
        .blocked
        .as_deref()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let list = write_items("blocklist", list);
    ctx.reply(iq, list);
}

/// Section 3.3.
fn block(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let jids = match read_items(iq.payload) {
        Ok(jids) if jids.is_empty() => return ctx.refuse(iq, Condition::BadRequest),
        Ok(jids) => jids,
        Err(error) => return ctx.refuse(iq, error),
    };
    let maximum = ctx.policy.limits.blocked_max;
    let Some(key) = iq.account else { return };
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    let mut list: BlockList = account.blocked.as_deref().cloned().unwrap_or_default();
    for jid in &jids {
        if let Err(at) = list.binary_search(jid) {
            list.insert(at, jid.clone());
        }
    }
    // A client gets the list in one piece, as it does its roster.
    let octets_max = ctx.policy.limits.link_output_octets_max;
    if list.len() > maximum || write_items("blocklist", &list).len() > octets_max {
        return ctx.refuse(iq, Condition::ResourceConstraint);
    }
    change(ctx, key, iq, jids, list);
}

/// Sections 3.4 and 3.5: these, or all.
fn unblock(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let jids = match read_items(iq.payload) {
        Ok(jids) => jids,
        Err(error) => return ctx.refuse(iq, error),
    };
    let Some(key) = iq.account else { return };
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    let mut list: BlockList = account.blocked.as_deref().cloned().unwrap_or_default();
    list.retain(|jid| !jids.is_empty() && !jids.contains(jid));
    change(ctx, key, iq, jids, list);
}

/// The new list holds at once and is told when it is stored.
fn change(ctx: &mut Ctx<'_>, key: AccountKey, iq: &Iq<'_>, jids: Vec<Box<str>>, list: BlockList) {
    let Some(account) = ctx.core.accounts.get_mut(key) else {
        return;
    };
    let owner = account.jid.clone();
    let record = encode_blocked(&list);
    let after = (!list.is_empty()).then(|| Box::new(list));
    let before = std::mem::replace(&mut account.blocked, after.clone());
    let blocks = iq.payload.local() == "block";
    let change = BlockChange {
        account: key,
        back: iq.way_back(),
        before,
        after,
        jids,
        blocks,
    };
    ctx.ask_then(Kept::Blocked(Box::new(change)), stored, |ops| {
        ops.put_of_account(&owner, Table::Blocked, &record)
    });
}

fn stored(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let Kept::Blocked(change) = kept else { return };
    let Some(account) = ctx.core.accounts.get_mut(change.account) else {
        return;
    };
    if reply != Reply::Done {
        // A later change was built upon this one: its answer speaks for both.
        if account.blocked == change.after {
            account.blocked.clone_from(&change.before);
        }
        return ctx.refuse_to(&change.back, Condition::ResourceConstraint);
    }
    ctx.reply_to(&change.back, Vec::new());
    let name = if change.blocks { "block" } else { "unblock" };
    ctx.push_to(
        change.account,
        Flags::BLOCKING,
        &write_items(name, &change.jids),
    );
    tell_contacts(ctx, &change);
}

/// Contacts that see the account see it go, or come back.
fn tell_contacts(ctx: &mut Ctx<'_>, change: &BlockChange) {
    let Some(account) = ctx.accounts.get(change.account) else {
        return;
    };
    let own = account.jid.clone();
    let items = account
        .roster
        .as_deref()
        .map(|roster| &*roster.items)
        .unwrap_or_default();
    let list = |list: &Option<Box<BlockList>>, jid: &str| {
        list.as_deref().is_some_and(|list| is_blocked(list, jid))
    };
    let changed = items
        .iter()
        .filter(|item| list(&change.before, &item.jid) != list(&change.after, &item.jid));
    let changed: Vec<_> = changed
        .map(|item| (item.jid.clone(), item.subscription))
        .collect();
    for (jid, subscription) in changed {
        match (change.blocks, subscription.from) {
            (true, true) => ctx.withdraw_presence(change.account, &jid),
            (false, true) => ctx.show_presence(change.account, &jid),
            _ => {}
        }
        // What the contact told meanwhile was not heard.
        if !change.blocks && subscription.to {
            let probe = Draft::new(Kind::Presence, Type::Probe, &own, &jid, b"");
            ctx.post(&probe.as_stanza());
        }
    }
}

/// Section 3.3: the sender learns why. Not by the usual way: what comes from a blocked JID is
/// dropped there.
fn outgoing(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) -> Verdict {
    let Some(account) = ctx.account_of(key) else {
        return Verdict::Pass;
    };
    if account.blocked.is_none() || is_exempt(ctx, &account.jid, stanza.to) {
        return Verdict::Pass;
    }
    if !account.blocks(stanza.to) {
        return Verdict::Pass;
    }
    ctx.refuse_session(key, stanza, BLOCKED);
    Verdict::Consumed
}

/// Section 3.3: to a blocked JID the account looks as if it were offline.
fn incoming(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>) -> Verdict {
    let Some(account) = ctx.accounts.get(key) else {
        return Verdict::Pass;
    };
    if account.blocked.is_none() || is_exempt(ctx, &account.jid, stanza.from) {
        return Verdict::Pass;
    }
    if !account.blocks(stanza.from) {
        return Verdict::Pass;
    }
    match (stanza.kind, stanza.class) {
        (Kind::Presence, _) | (_, Type::Error | Type::Result) => Verdict::Consumed,
        _ => Verdict::Bounce(StanzaError::new(Condition::ServiceUnavailable)),
    }
}

/// The account itself and the server cannot be blocked: its answers come from there.
fn is_exempt(ctx: &Ctx<'_>, own: &str, jid: &str) -> bool {
    let (bare, resource) = jid::split_resource(jid);
    bare.is_empty() || bare == own || (resource.is_none() && ctx.serves(bare))
}

fn read_items(payload: &Tree) -> Result<Vec<Box<str>>, Condition> {
    let mut jids = Vec::new();
    for item in payload
        .children()
        .filter(|child| child.is(ns::BLOCKING, "item"))
    {
        let jid = item.attr("jid").ok_or(Condition::BadRequest)?;
        let jid = Jid::parse(jid).map_err(|_| Condition::JidMalformed)?;
        jids.push(jid.as_str().into());
    }
    jids.sort_unstable();
    jids.dedup();
    Ok(jids)
}

fn write_items(name: &str, jids: &[Box<str>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.open(name).attr("xmlns", ns::BLOCKING);
    for jid in jids {
        writer.open("item").attr("jid", jid).end("item");
    }
    writer.end(name);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_in_normal_form_and_each_once() {
        let read = |xml: &str| read_items(&Tree::parse(xml.as_bytes()));
        let items = "<block xmlns='urn:xmpp:blocking'><item jid='B@X'/><item jid='a@x/R'/>\
                     <item jid='b@x'/></block>";
        assert_eq!(read(items), Ok(vec!["a@x/R".into(), "b@x".into()]));
        let bad = "<block xmlns='urn:xmpp:blocking'><item/></block>";
        assert_eq!(read(bad), Err(Condition::BadRequest));
        let malformed = "<block xmlns='urn:xmpp:blocking'><item jid='@x'/></block>";
        assert_eq!(read(malformed), Err(Condition::JidMalformed));
    }
}
