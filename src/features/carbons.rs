//! XEP-0280 Message Carbons: the other sessions of an account see what one of them sends and gets.

use smallvec::SmallVec;

use super::{Asked, Feature, IqRoute, Verdict, Xep};
use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Iq};
use crate::session::session::{Flags, SessionKey};
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::ns;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Traits};
use crate::xmpp::xml::writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 280,
        version: "1.0.1",
    }),
    disco: &[ns::CARBONS],
    account_disco: &[ns::CARBONS],
    iq: &[route("enable", enable), route("disable", disable)],
    outgoing: Some(sent),
    incoming: Some(received),
    ..Feature::NONE
};

const fn route(name: &'static str, set: fn(&mut Ctx<'_>, &Iq<'_>)) -> IqRoute {
    IqRoute {
        namespace: ns::CARBONS,
        name,
        asked: Asked::Own,
        get: None,
        set: Some(set),
    }
}

fn enable(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let Some(session) = iq.session.and_then(|key| ctx.session_mut(key)) else {
        return ctx.refuse(iq, Condition::NotAllowed);
    };
    session.flags.set(Flags::CARBONS);
    ctx.reply(iq, Vec::new());
}

fn disable(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    if let Some(session) = iq.session.and_then(|key| ctx.session_mut(key)) {
        session.flags.clear(Flags::CARBONS);
    }
    ctx.reply(iq, Vec::new());
}

/// Section 8: to every session but the sender's. What goes to the account itself reaches them as
/// it is.
fn sent(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) -> Verdict {
    let account = ctx.session(key).map(|session| session.account);
    let others = account.is_some_and(|account| has_others(ctx, account))
        && is_copied(stanza)
        && bare(stanza.to) != bare(stanza.from);
    if let Some(account) = account.filter(|_| others) {
        copy(ctx, account, stanza, "sent", &[key]);
    }
    Verdict::Pass
}

/// Section 7: to every session that does not get the message itself.
fn received(ctx: &mut Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>) -> Verdict {
    if has_others(ctx, account)
        && is_copied(stanza)
        && !ctx.sessions_with(account, Flags::CARBONS).is_empty()
    {
        let mut except = takers(ctx, account, stanza);
        // The sender knows what it wrote to its own account.
        let sender = |key: &SessionKey| ctx.session(*key).is_some_and(|s| *s.jid == *stanza.from);
        except.extend(ctx.sessions_of(account).into_iter().filter(sender));
        copy(ctx, account, stanza, "received", &except);
    }
    Verdict::Pass
}

/// Nearly every account has one session: it costs one look.
fn has_others(ctx: &Ctx<'_>, account: AccountKey) -> bool {
    ctx.accounts
        .get(account)
        .is_some_and(|account| account.sessions.len() > 1)
}

fn is_copied(stanza: &Stanza<'_>) -> bool {
    let Stanza { kind, traits, .. } = *stanza;
    kind == Kind::Message && traits.has(Traits::COPYABLE) && !traits.has(Traits::CARBON)
}

/// The sessions that get a message by RFC 6121 section 8.5: the one it is addressed to, the one
/// that takes the offline store while there is one, or all that take messages.
fn takers(ctx: &Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>) -> SmallVec<[SessionKey; 4]> {
    let sessions = ctx.sessions_of(account);
    let (_, resource) = jid::split_resource(stanza.to);
    let addressed = |key: &SessionKey| {
        ctx.session(*key)
            .is_some_and(|session| Some(session.resource()) == resource)
    };
    if let Some(key) = sessions.iter().copied().find(addressed) {
        return SmallVec::from_slice(&[key]);
    }
    let draining = ctx
        .accounts
        .get(account)
        .and_then(|account| account.draining.as_deref());
    if let Some(draining) = draining.filter(|_| stanza.traits.has(Traits::STORABLE)) {
        return SmallVec::from_slice(&[draining.session]);
    }
    let takes = |key: &SessionKey| ctx.session(*key).is_some_and(|s| s.takes_messages());
    sessions.into_iter().filter(takes).collect()
}

fn copy(
    ctx: &mut Ctx<'_>,
    account: AccountKey,
    stanza: &Stanza<'_>,
    direction: &str,
    except: &[SessionKey],
) {
    let Some(own) = ctx.accounts.get(account).map(|account| account.jid.clone()) else {
        return;
    };
    let mut wrapped = None;
    for key in ctx.sessions_with(account, Flags::CARBONS) {
        if except.contains(&key) {
            continue;
        }
        let wrapped = wrapped.get_or_insert_with(|| {
            let kept = stanza.traits.has(Traits::MAY_WAIT);
            let traits = if kept {
                Traits::CARBON.with(Traits::MAY_WAIT)
            } else {
                Traits::CARBON
            };
            Draft::new(Kind::Message, stanza.class, &own, "", b"")
                .with_content(wrap(stanza, direction))
                .with_traits(traits)
        });
        let Some(to) = ctx.session(key).map(|session| session.jid.clone()) else {
            continue;
        };
        ctx.send_or_hold(key, &wrapped.as_stanza(), &to);
    }
}

/// `<sent/>` or `<received/>` around the forwarded message (XEP-0297).
fn wrap(stanza: &Stanza<'_>, direction: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(stanza.octets_len() + 160);
    let start = format!(
        "<{direction} xmlns='{}'><forwarded xmlns='{}'><message xmlns='{}'",
        ns::CARBONS,
        ns::FORWARD,
        ns::CLIENT,
    );
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(stanza.head.strip_prefix(b"<message").unwrap_or_default());
    out.extend_from_slice(b" to='");
    writer::escape_attr(&mut out, stanza.to);
    out.extend_from_slice(b"'>");
    out.extend_from_slice(stanza.content);
    out.extend_from_slice(format!("</message></forwarded></{direction}>").as_bytes());
    out
}

fn bare(jid: &str) -> &str {
    jid::split_resource(jid).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::stanza::Type;

    #[test]
    fn the_message_is_forwarded_whole_in_its_own_namespace() {
        let draft = Draft::new(Kind::Message, Type::Chat, "a@b/c", "d'@e", b" id='1'")
            .with_content(b"<body>hi</body>".to_vec());
        assert_eq!(
            String::from_utf8(wrap(&draft.as_stanza(), "sent")).unwrap(),
            "<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
             <message xmlns='jabber:client' from='a@b/c' id='1' type='chat' to='d&apos;@e'>\
             <body>hi</body></message></forwarded></sent>"
        );
    }
}
