//! XMPP over WebSocket: a request becomes a link that carries a stream (RFC 7395).

use super::{Call, Outcome, conn_of};
use crate::engine::links::{Login, Reading, Stream};
use crate::engine::shard::Shard;
use crate::session::effects::{Effects, LinkEffect};
use crate::stream::c2s::Negotiation;
use crate::transport::framing::Framing;
use crate::transport::http::answer::Problem;
use crate::transport::http::{Field, Status, Version};
use crate::transport::websocket::handshake::{self, Agreement, Rejection};
use crate::transport::websocket::xmpp;
use crate::xmpp::xml::StreamScope;

/// Where it is asked for.
pub const PATH: &str = "/ws";

/// Takes the request, or says why not.
pub fn serve(shard: &mut Shard, call: &Call<'_>, _: &[u8], fx: &mut Effects) -> Outcome {
    let agreement = match agree(shard, call, xmpp::PROTOCOL) {
        Ok(agreement) => agreement,
        Err(outcome) => return outcome,
    };
    if shard.stopping {
        let title = "the server stops";
        return call.problem(shard, Status::ServiceUnavailable, "stopping", title);
    }
    begin(shard, call, &agreement, fx);
    Outcome::Upgraded
}

/// Checks a request for a WebSocket of one protocol.
///
/// # Errors
/// Why not is answered.
pub fn agree(
    shard: &mut Shard,
    call: &Call<'_>,
    protocol: &'static str,
) -> Result<Agreement, Outcome> {
    let request = call.request;
    let refused =
        |shard: &mut Shard, status, code, title| Err(call.problem(shard, status, code, title));
    if request.version == Version::Http10 {
        let title = "a WebSocket needs HTTP/1.1 (RFC 6455 section 4.1)";
        return refused(shard, Status::BadRequest, "no-websocket", title);
    }
    let handshake = handshake::Request {
        upgrade: request.header(Field::Upgrade),
        connection: request.header(Field::Connection),
        version: request.header(Field::SecWebSocketVersion),
        key: request.header(Field::SecWebSocketKey),
        protocols: request.header(Field::SecWebSocketProtocol),
    };
    let agreement = handshake::check(&handshake, &[protocol])
        .map_err(|rejection| reject(shard, call, rejection))?;
    if agreement.protocol.is_none() {
        let title = match protocol {
            xmpp::PROTOCOL => "the subprotocol xmpp is the only one here (RFC 7395)",
            _ => "the subprotocol encke.v1 is the only one here",
        };
        return refused(shard, Status::BadRequest, "no-subprotocol", title);
    }
    // A page of another site must not speak in the name of its reader (SECURITY class 43).
    if !call.verdict(shard).is_allowed() {
        let title = "pages of this origin may not connect; see http.origins";
        return refused(shard, Status::Forbidden, "origin", title);
    }
    if shard.core.policy.require_tls && !call.client.secure {
        let title = "connect with TLS: wss:// or https://";
        return refused(shard, Status::Forbidden, "tls-required", title);
    }
    Ok(agreement)
}

fn reject(shard: &mut Shard, call: &Call<'_>, rejection: Rejection) -> Outcome {
    let status = Status::of(rejection.status());
    call.answer(shard, status, |mut answer| {
        for (name, value) in rejection.headers() {
            answer = answer.field(name, value);
        }
        let problem = Problem {
            status,
            code: "no-websocket",
            title: rejection.text(),
            detail: "",
        };
        problem.finish(answer);
    })
}

/// From here on the link carries a stream. Its entry in the wheel is for the login now.
fn begin(shard: &mut Shard, call: &Call<'_>, agreement: &Agreement, fx: &mut Effects) {
    let key = call.key;
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return;
    };
    let mut queue = std::mem::take(&mut conn.queue);
    let bindings = conn.bindings.take();
    queue.append_octets(&mut shard.core.pool, |out| agreement.write(out));
    queue.cut_as(Framing::WebSocket);
    let mut negotiation = Negotiation::clear();
    // There is no STARTTLS here: the link is as secure as it will be.
    negotiation.secured(bindings.map(|bindings| *bindings).unwrap_or_default());
    let now = call.now.mono;
    let login = Login {
        negotiation,
        queue,
        head: None,
        authenticated: false,
        attempt: None,
        opened: now,
        peer: call.client.address,
    };
    if let Some(link) = shard.links.get_mut(key) {
        link.stream = Stream::Login(Box::new(login));
        link.scope = StreamScope::framed(None);
        link.framing = Framing::WebSocket;
        link.reading = Reading::On;
    }
    fx.link(key, LinkEffect::Flush);
}
