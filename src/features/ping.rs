//! XEP-0199 XMPP Ping: answers a ping to the server or to an account.

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::ctx::{Ctx, Iq};
use crate::xmpp::ns;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 199,
        version: "2.0.1",
    }),
    disco: &[ns::PING],
    account_disco: &[ns::PING],
    iq: &[route(Asked::Server), route(Asked::Own)],
    ..Feature::NONE
};

const fn route(asked: Asked) -> IqRoute {
    IqRoute {
        namespace: ns::PING,
        name: "ping",
        asked,
        get: Some(pong),
        set: None,
    }
}

/// The answer is an empty result (section 4.2).
fn pong(ctx: &mut Ctx<'_>, ping: &Iq<'_>) {
    ctx.reply(ping, Vec::new());
}
