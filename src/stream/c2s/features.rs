//! What is announced in each state, and the header before it.

use std::time::Duration;

use super::{Channel, Offer, Tls};
use crate::stream::sasl::{Bindings, Mechanism, TLS_EXPORTER, TLS_SERVER_END_POINT};
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

/// Ends a stream.
pub const END: &[u8] = b"</stream:stream>";

/// Our header (RFC 6120 section 4.7): `to` is told only to whom said who it is.
pub fn write_header(out: &mut Vec<u8>, offer: &Offer<'_>, from: Option<&str>, to: Option<&str>) {
    out.extend_from_slice(b"<?xml version='1.0'?>");
    let mut writer = Writer::new(out);
    writer.open("stream:stream");
    writer
        .attr("xmlns", ns::CLIENT)
        .attr("xmlns:stream", ns::STREAMS);
    writer.attr("id", offer.stream_id);
    if let Some(from) = from {
        writer.attr("from", from);
    }
    if let Some(to) = to {
        writer.attr("to", to);
    }
    writer
        .attr("version", "1.0")
        .attr("xml:lang", "en")
        .text("");
}

/// Before authentication.
pub fn write_anonymous(out: &mut Vec<u8>, offer: &Offer<'_>, channel: &Channel) {
    let mut writer = Writer::new(out);
    writer.open(FEATURES);
    match (channel, offer.tls) {
        (Channel::Secured(bindings), _) => write_sasl(&mut writer, bindings),
        (Channel::Clear, Tls::Required) => write_starttls(&mut writer, offer.tls),
        (Channel::Clear, Tls::Optional) => {
            write_starttls(&mut writer, offer.tls);
            write_sasl(&mut writer, &Bindings::default());
        }
        (Channel::Clear, Tls::Unavailable) => write_sasl(&mut writer, &Bindings::default()),
    }
    let limits = offer.limits;
    write_limits(
        &mut writer,
        limits.preauth_stanza_octets_max,
        limits.login_timeout,
    );
    writer.end(FEATURES);
}

/// After authentication.
pub fn write_authenticated(out: &mut Vec<u8>, offer: &Offer<'_>) {
    let mut writer = Writer::new(out);
    writer.open(FEATURES);
    writer.open("bind").attr("xmlns", ns::BIND).close_empty();
    // Done by binding since RFC 6121; old clients want to see it.
    writer.open("session").attr("xmlns", ns::SESSION);
    writer.open("optional").close_empty().end("session");
    for (name, namespace) in AUTHENTICATED {
        writer.open(name).attr("xmlns", namespace).close_empty();
    }
    if let Some(caps) = offer.caps {
        writer
            .open("c")
            .attr("xmlns", ns::CAPS)
            .attr("hash", "sha-1");
        writer
            .attr("node", caps.node)
            .attr("ver", caps.ver)
            .close_empty();
    }
    let limits = offer.limits;
    write_limits(
        &mut writer,
        limits.stanza_octets_max,
        limits.silence_timeout,
    );
    writer.end(FEATURES);
}

fn write_starttls(writer: &mut Writer<'_>, tls: Tls) {
    writer.open("starttls").attr("xmlns", ns::TLS);
    if tls == Tls::Required {
        writer.open("required").close_empty();
    }
    writer.end("starttls");
}

/// The mechanisms, and the channel bindings that they may use (XEP-0440).
fn write_sasl(writer: &mut Writer<'_>, bindings: &Bindings) {
    writer.open("mechanisms").attr("xmlns", ns::SASL);
    let offered = Mechanism::ALL
        .into_iter()
        .filter(|m| m.is_offered(bindings));
    for mechanism in offered {
        writer
            .open("mechanism")
            .text(mechanism.name())
            .end("mechanism");
    }
    writer.end("mechanisms");
    if bindings.is_empty() {
        return;
    }
    writer
        .open("sasl-channel-binding")
        .attr("xmlns", ns::SASL_CB);
    let exporter = bindings.exporter.is_some().then_some(TLS_EXPORTER);
    let end_point = bindings.end_point.is_some().then_some(TLS_SERVER_END_POINT);
    for name in exporter.into_iter().chain(end_point) {
        writer
            .open("channel-binding")
            .attr("type", name)
            .close_empty();
    }
    writer.end("sasl-channel-binding");
}

/// XEP-0478: what we take before and after authentication.
fn write_limits(writer: &mut Writer<'_>, octets_max: usize, idle: Duration) {
    writer.open("limits").attr("xmlns", ns::STREAM_LIMITS);
    writer
        .open("max-bytes")
        .text(&octets_max.to_string())
        .end("max-bytes");
    writer
        .open("idle-seconds")
        .text(&idle.as_secs().to_string())
        .end("idle-seconds");
    writer.end("limits");
}

const FEATURES: &str = "stream:features";
/// Features that are announced by an empty element.
const AUTHENTICATED: [(&str, &str); 4] = [
    ("sm", ns::SM),
    ("ver", ns::ROSTERVER),
    ("sub", ns::PREAPPROVAL),
    ("csi", ns::CSI),
];
