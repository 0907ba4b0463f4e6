//! XEP-0202 Entity Time, of the server, which lives in UTC.

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::ctx::{Ctx, Iq};
use crate::session::stamp;
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 202,
        version: "2.0",
    }),
    disco: &[ns::TIME],
    iq: &[IqRoute {
        namespace: ns::TIME,
        name: "time",
        asked: Asked::Server,
        get: Some(time),
        set: None,
    }],
    ..Feature::NONE
};

fn time(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let mut time = Vec::new();
    let mut writer = Writer::new(&mut time);
    writer.open("time").attr("xmlns", ns::TIME);
    writer.open("tzo").text("+00:00").end("tzo");
    writer
        .open("utc")
        .text(&stamp::utc(ctx.now.wall_ms))
        .end("utc");
    writer.end("time");
    ctx.reply(iq, time);
}
