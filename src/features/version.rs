//! XEP-0092 Software Version, of the server.

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::ctx::{Ctx, Iq};
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 92,
        version: "1.1",
    }),
    disco: &[ns::VERSION],
    iq: &[IqRoute {
        namespace: ns::VERSION,
        name: "query",
        asked: Asked::Server,
        get: Some(version),
        set: None,
    }],
    ..Feature::NONE
};

/// Section 5 advises against naming the operating system.
fn version(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let mut query = Vec::new();
    let mut writer = Writer::new(&mut query);
    writer.open("query").attr("xmlns", ns::VERSION);
    writer.open("name").text("encke").end("name");
    writer
        .open("version")
        .text(env!("CARGO_PKG_VERSION"))
        .end("version");
    writer.end("query");
    ctx.reply(iq, query);
}
