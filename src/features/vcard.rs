//! XEP-0054 vcard-temp: one's own card, for everybody to read.

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::ctx::{Ctx, Iq, Kept};
use crate::store::{Kind as Table, Op, Reply};
use crate::xmpp::error::Condition;
use crate::xmpp::ns;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 54,
        version: "1.3.0",
    }),
    disco: &[ns::VCARD],
    account_disco: &[ns::VCARD],
    iq: &[
        IqRoute {
            namespace: ns::VCARD,
            name: "vCard",
            asked: Asked::Own,
            get: Some(get),
            set: Some(set),
        },
        IqRoute {
            namespace: ns::VCARD,
            name: "vCard",
            asked: Asked::Account,
            get: Some(get),
            set: Some(forbid),
        },
    ],
    ..Feature::NONE
};

/// Sections 3.1 and 3.3.
fn get(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let Some(owner) = iq
        .account
        .and_then(|key| ctx.accounts.get(key))
        .map(|a| a.jid.clone())
    else {
        return ctx.refuse(iq, Condition::ServiceUnavailable);
    };
    let then = if iq.own { found_own } else { found };
    ctx.ask_then(Kept::Iq(Box::new(iq.way_back())), then, |ops| Op::Get {
        owner: ops.keep(owner.as_bytes()),
        kind: Table::Vcard,
        key: ops.keep(b""),
    });
}

fn found_own(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    answer(ctx, kept, reply, Condition::ItemNotFound);
}

/// An account without a card must look like one that does not exist.
fn found(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    answer(ctx, kept, reply, Condition::ServiceUnavailable);
}

fn answer(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply, absent: Condition) {
    let Kept::Iq(back) = kept else { return };
    match reply {
        Reply::Value(Some(card)) => ctx.reply_to(&back, card),
        Reply::Value(None) => ctx.refuse_to(&back, absent),
        _ => ctx.refuse_to(&back, Condition::ResourceConstraint),
    }
}

/// Section 3.2.
fn set(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let Some(owner) = iq
        .account
        .and_then(|key| ctx.accounts.get(key))
        .map(|a| a.jid.clone())
    else {
        return;
    };
    let mut card = Vec::new();
    iq.payload.write(&mut card);
    if card.len() > ctx.policy.limits.record_octets_max {
        return ctx.refuse(iq, Condition::ResourceConstraint);
    }
    ctx.ask_then(Kept::Iq(Box::new(iq.way_back())), stored, |ops| {
        ops.put_of_account(&owner, Table::Vcard, &card)
    });
}

fn stored(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let Kept::Iq(back) = kept else { return };
    match reply {
        Reply::Done => ctx.reply_to(&back, Vec::new()),
        _ => ctx.refuse_to(&back, Condition::ResourceConstraint),
    }
}

fn forbid(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    ctx.refuse(iq, Condition::Forbidden);
}
