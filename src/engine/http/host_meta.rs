//! XEP-0156: a web client that knows a domain asks here where its streams can be had.

use super::{Call, Outcome, upgrade};
use crate::engine::shard::Shard;
use crate::session::effects::Effects;
use crate::transport::http::{Scheme, Status};
use crate::xmpp::xml::writer::Writer;

const XRD: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";
/// How long a client may go by an answer.
const CACHE: &str = "public, max-age=300";

/// A way to connect: its relation, the scheme of its address without and with TLS, its path.
const CONNECTIONS: &[(&str, [&str; 2], &str)] = &[(
    "urn:xmpp:alt-connections:websocket",
    ["ws", "wss"],
    upgrade::PATH,
)];

/// RFC 6415.
pub fn xml(shard: &mut Shard, call: &Call<'_>, _: &[u8], _: &mut Effects) -> Outcome {
    let mut text = b"<?xml version='1.0' encoding='utf-8'?>\n".to_vec();
    let mut writer = Writer::new(&mut text);
    writer.open("XRD").attr("xmlns", XRD);
    for (relation, address) in connections(shard, call) {
        writer.open("Link").attr("rel", relation);
        writer.attr("href", &address).close_empty();
    }
    writer.end("XRD");
    tell(shard, call, "application/xrd+xml; charset=utf-8", &text)
}

/// RFC 6415 appendix A.
pub fn json(shard: &mut Shard, call: &Call<'_>, _: &[u8], _: &mut Effects) -> Outcome {
    // No character of a host or of our paths needs an escape in JSON.
    let links: Vec<String> = connections(shard, call)
        .into_iter()
        .map(|(relation, address)| format!("{{\"rel\":\"{relation}\",\"href\":\"{address}\"}}"))
        .collect();
    let text = format!("{{\"links\":[{}]}}\n", links.join(","));
    tell(shard, call, "application/json", text.as_bytes())
}

fn tell(shard: &mut Shard, call: &Call<'_>, kind: &str, text: &[u8]) -> Outcome {
    call.answer(shard, Status::Ok, |answer| {
        // It says the same to everybody, and pages of other origins need it (XEP-0156 section 3).
        let answer = answer.field("Access-Control-Allow-Origin", "*");
        answer.cache(CACHE).body(kind, text);
    })
}

/// Each way with its address: as configured, else as this request came.
fn connections(shard: &Shard, call: &Call<'_>) -> Vec<(&'static str, String)> {
    let policy = &shard.core.policy;
    let public = policy.http.public_url.as_deref();
    let (secure, base) = match public.and_then(|url| url.split_once("://")) {
        Some((scheme, rest)) => (scheme == Scheme::Https.name(), rest),
        None => {
            let domain = policy.domains.first().map_or("", String::as_str);
            let host = call.request.host.unwrap_or(domain);
            (call.client.scheme == Scheme::Https, host)
        }
    };
    let address = |(relation, schemes, path): &(&'static str, [&str; 2], &str)| {
        let scheme = schemes[usize::from(secure)];
        (*relation, format!("{scheme}://{base}{path}"))
    };
    CONNECTIONS.iter().map(address).collect()
}
