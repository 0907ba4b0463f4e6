//! XMPP over BOSH: a request that carries a piece of a stream (XEP-0124, XEP-0206).

use super::{Call, Outcome, conn_of};
use crate::engine::shard::Shard;
use crate::engine::tube::bosh;
use crate::session::effects::Effects;
use crate::session::parcel::Ticket;
use crate::transport::http::origin::Verdict;
use crate::transport::http::{Method, Status};

/// Where requests go.
pub const PATH: &str = "/http-bind";

/// Takes a request, or what a browser asks before it (CORS).
pub fn serve(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    let request = call.request;
    let verdict = call.verdict(shard);
    if !verdict.is_allowed() {
        let title = "pages of this origin may not ask; see http.origins";
        return call.problem(shard, Status::Forbidden, "origin", title);
    }
    if request.method == Method::Options {
        return call.answer(shard, Status::NoContent, |answer| {
            verdict.allow_preflight(answer).empty();
        });
    }
    if shard.core.policy.require_tls && !call.client.secure {
        let title = "connect with TLS: https://";
        return call.problem(shard, Status::Forbidden, "tls-required", title);
    }
    if let (Some(conn), Verdict::Listed(page)) = (conn_of(&mut shard.links, call.key), verdict)
        && let Some(awaited) = &mut conn.awaiting
    {
        awaited.page = Some(page.into());
    }
    let ticket = Ticket {
        shard: shard.core.shard,
        link: call.key,
    };
    bosh::post(
        shard,
        ticket,
        call.client.address,
        body.to_vec(),
        call.now,
        fx,
    );
    Outcome::Later
}
