//! Requests to the server itself and to accounts on whose behalf it answers.

use super::dispatch;
use crate::features::Asked;
use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Iq};
use crate::session::session::SessionKey;
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::stanza::{Kind, Stanza, Type};
use crate::xmpp::xml::Tree;

/// A stanza to a domain of ours (RFC 6120 section 10.5.2).
///
/// Messages to the server are not for anybody; presence to it has no meaning here.
pub fn server(ctx: &mut Ctx<'_>, session: Option<SessionKey>, stanza: &Stanza<'_>) {
    match stanza.kind {
        Kind::Iq if !stanza.class.is_answer() => {
            let (_, resource) = jid::split_resource(stanza.to);
            if resource.is_some() {
                return ctx.bounce(stanza, Condition::ServiceUnavailable);
            }
            answer(ctx, Asked::Server, session, None, stanza);
        }
        Kind::Message if !stanza.class.is_answer() && stanza.class != Type::Headline => {
            ctx.bounce(stanza, Condition::ServiceUnavailable);
        }
        _ => {}
    }
}

/// A request to an account's bare JID (RFC 6121 section 8.5.2.1.3).
pub fn account(
    ctx: &mut Ctx<'_>,
    key: AccountKey,
    session: Option<SessionKey>,
    stanza: &Stanza<'_>,
) {
    let (bare, _) = jid::split_resource(stanza.from);
    let own = ctx
        .accounts
        .get(key)
        .is_some_and(|account| *account.jid == *bare);
    let asked = if own { Asked::Own } else { Asked::Account };
    answer(ctx, asked, session, Some(key), stanza);
}

/// A request to an account that does not exist. It gets the answers of an account that the asker
/// may not see, so that nobody learns who has an account: for what no feature answers to others
/// that is what RFC 6121 section 8.5.1 asks for.
pub fn nobody(ctx: &mut Ctx<'_>, stanza: &Stanza<'_>) {
    answer(ctx, Asked::Account, None, None, stanza);
}

/// Finds who answers. RFC 6120 section 8.2.3: exactly one child, exactly one answer.
fn answer(
    ctx: &mut Ctx<'_>,
    asked: Asked,
    session: Option<SessionKey>,
    account: Option<AccountKey>,
    stanza: &Stanza<'_>,
) {
    let Some(payload) = only_child(stanza) else {
        return ctx.bounce(stanza, Condition::BadRequest);
    };
    let own = asked == Asked::Own;
    let (namespace, name) = (payload.namespace(), payload.local());
    let mut route = dispatch::iq(asked, namespace, name);
    if own && route.is_none() {
        route = dispatch::iq(Asked::Account, namespace, name);
    }
    let handler = route.and_then(|route| match stanza.class {
        Type::Set => route.set,
        _ => route.get,
    });
    let iq = Iq {
        stanza: *stanza,
        session,
        account,
        own,
        payload: &payload,
    };
    match (handler, route) {
        (Some(handler), _) => handler(ctx, &iq),
        (None, Some(_)) => ctx.refuse(&iq, Condition::NotAllowed),
        (None, None) => ctx.refuse(&iq, Condition::ServiceUnavailable),
    }
}

/// The payload of a request, unless there are none or several.
fn only_child(stanza: &Stanza<'_>) -> Option<Tree> {
    let mut whole = Vec::with_capacity(stanza.octets_len());
    stanza.write("", &mut whole);
    Tree::parse(&whole).into_only_child()
}
