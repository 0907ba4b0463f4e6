//! XEP-0012 Last Activity: the server's uptime, and when an account was last there.

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::ctx::{Ctx, Iq, Kept};
use crate::session::last;
use crate::session::session::Flags;
use crate::store::{Kind as Table, Op, Reply};
use crate::xmpp::error::Condition;
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 12,
        version: "2.0",
    }),
    disco: &[ns::LAST],
    account_disco: &[ns::LAST],
    iq: &[
        route(Asked::Server, uptime),
        route(Asked::Account, last_seen),
    ],
    ..Feature::NONE
};

const fn route(asked: Asked, get: fn(&mut Ctx<'_>, &Iq<'_>)) -> IqRoute {
    IqRoute {
        namespace: ns::LAST,
        name: "query",
        asked,
        get: Some(get),
        set: None,
    }
}

/// Section 5.
fn uptime(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let seconds = ctx.now.mono.since(ctx.started).as_secs();
    ctx.reply(iq, query(seconds, ""));
}

/// Section 3: for those who may see the account's presence.
fn last_seen(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let account = iq
        .account
        .and_then(|key| Some((key, ctx.accounts.get(key)?)));
    let seen = account.filter(|(_, account)| iq.own || account.is_seen_by(iq.stanza.from));
    let Some((key, account)) = seen else {
        return ctx.refuse(iq, Condition::Forbidden);
    };
    let owner = account.jid.clone();
    if !ctx.sessions_with(key, Flags::AVAILABLE).is_empty() {
        return ctx.reply(iq, query(0, ""));
    }
    ctx.ask_then(Kept::Iq(Box::new(iq.way_back())), found, |ops| Op::Get {
        owner: ops.keep(owner.as_bytes()),
        kind: Table::Last,
        key: ops.keep(b""),
    });
}

fn found(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let Kept::Iq(back) = kept else { return };
    let Reply::Value(record) = reply else {
        return ctx.refuse_to(&back, Condition::ResourceConstraint);
    };
    let Some((stamp, status)) = record.as_deref().and_then(last::decode) else {
        return ctx.refuse_to(&back, Condition::ItemNotFound);
    };
    let seconds = ctx.now.wall_ms.saturating_sub(stamp) / 1000;
    ctx.reply_to(&back, query(seconds, status));
}

fn query(seconds: u64, status: &str) -> Vec<u8> {
    let mut query = Vec::new();
    let mut writer = Writer::new(&mut query);
    writer
        .open("query")
        .attr("xmlns", ns::LAST)
        .attr("seconds", &seconds.to_string());
    if !status.is_empty() {
        writer.text(status);
    }
    writer.end("query");
    query
}
