//! RFC 3921 section 3: the session request, which has done nothing since RFC 6121 and which old
//! clients still send.

use super::{Asked, Feature, IqRoute};
use crate::session::ctx::{Ctx, Iq};
use crate::xmpp::ns;

pub const FEATURE: Feature = Feature {
    iq: &[route(Asked::Own), route(Asked::Server)],
    ..Feature::NONE
};

const fn route(asked: Asked) -> IqRoute {
    IqRoute {
        namespace: ns::SESSION,
        name: "session",
        asked,
        get: None,
        set: Some(answer),
    }
}

fn answer(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    ctx.reply(iq, Vec::new());
}
