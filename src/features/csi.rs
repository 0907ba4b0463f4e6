//! XEP-0352 Client State Indication: what nobody looks at may wait.

use super::{Feature, NonzaRoute, Verdict, Xep};
use crate::session::ctx::Ctx;
use crate::session::session::{Flags, SessionKey};
use crate::xmpp::error::StreamError;
use crate::xmpp::ns;
use crate::xmpp::stanza::Stanza;
use crate::xmpp::xml::Element;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 352,
        version: "1.0.0",
    }),
    nonza: &[
        NonzaRoute {
            namespace: ns::CSI,
            name: "active",
            take: active,
        },
        NonzaRoute {
            namespace: ns::CSI,
            name: "inactive",
            take: inactive,
        },
    ],
    delivering: Some(delivering),
    ..Feature::NONE
};

/// Section 5.1: what waited goes out before anything else is answered.
fn active(ctx: &mut Ctx<'_>, key: SessionKey, _: Element<'_>) -> Result<(), StreamError> {
    if let Some(session) = ctx.session_mut(key) {
        session.flags.clear(Flags::INACTIVE);
    }
    ctx.release_held(key);
    Ok(())
}

fn inactive(ctx: &mut Ctx<'_>, key: SessionKey, _: Element<'_>) -> Result<(), StreamError> {
    if let Some(session) = ctx.session_mut(key) {
        session.flags.set(Flags::INACTIVE);
    }
    Ok(())
}

fn delivering(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) -> Verdict {
    if ctx.hold(key, stanza) {
        Verdict::Consumed
    } else {
        Verdict::Pass
    }
}
