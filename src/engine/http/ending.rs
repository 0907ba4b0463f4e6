//! What ends a link of HTTP: the server that stops, the peer that has said its last, a deadline.

use super::{bounds, conn_of, given_up, refuse, routes};
use crate::base::time::Now;
use crate::engine::shard::Shard;
use crate::session::ctx::Due;
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::transport::http::answer::Problem;
use crate::transport::http::origin::Verdict;
use crate::transport::http::{Field, Progress, Scheme, Status, head};

/// The server stops: a request that waits gets its answer, for its session is told to end as well,
/// and one that came in part is refused. Returns whether the link ends so.
pub fn stop(shard: &mut Shard, key: LinkKey, fx: &mut Effects) -> bool {
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return false;
    };
    let is_awaited = conn.awaiting.is_some();
    let came_in_part = conn.seen > 0 || conn.incoming.is_some() || conn.moving.is_some();
    if !is_awaited && came_in_part {
        let problem = Problem {
            status: Status::ServiceUnavailable,
            code: "stopping",
            title: "the server stops",
            detail: "",
        };
        let page = page_of_incoming(shard, key);
        refuse(shard, key, &problem, page, fx);
    }
    is_awaited || came_in_part
}

/// The peer says nothing more (RFC 9112 section 9.6). An answer that comes soon is still written.
/// Whoever waits for something new is taken to be gone: nobody tells that from a peer that waits,
/// and what is written to the dead is lost.
pub fn ended(shard: &mut Shard, key: LinkKey, fx: &mut Effects) {
    let awaited = conn_of(&mut shard.links, key).and_then(|conn| conn.awaiting.as_mut());
    match awaited.filter(|awaited| awaited.is_brief) {
        Some(awaited) => awaited.manner = awaited.manner.closing(),
        None => fx.link(key, LinkEffect::Close),
    }
}

/// Looks at a link's deadline: its request is not whole in time, or none came.
///
/// A link has one entry in the wheel at any time, so that requests cost none; who is late is found
/// out within `limits.http_request_timeout`.
pub fn due(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let next = now
        .mono
        .after(shard.core.policy.limits.http_request_timeout);
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return;
    };
    if conn.due > now.mono {
        let at = next.min(conn.due);
        return shard.core.wheel.set(at, Due::Link(key));
    }
    if let Some(awaited) = &mut conn.awaiting {
        let (holder, page) = (awaited.holder, awaited.page.take());
        let problem = Problem {
            status: Status::GatewayTimeout,
            code: "answer-timeout",
            title: "the answer did not come in time",
            detail: "",
        };
        refuse(shard, key, &problem, page, fx);
        return given_up(shard, key, holder, now, fx);
    }
    if conn.seen > 0 || conn.incoming.is_some() {
        let problem = Problem {
            status: Status::RequestTimeout,
            code: "request-timeout",
            title: "the request did not come whole in time",
            detail: "",
        };
        let page = page_of_incoming(shard, key);
        return refuse(shard, key, &problem, page, fx);
    }
    let queue = std::mem::take(&mut conn.queue);
    if let Some(link) = shard.links.get_mut(key) {
        link.close_with(queue, key, fx);
    }
}

/// The page that sends this head, if it is of a listed origin: it may read why it is refused.
pub(super) fn page_of(shard: &Shard, octets: &[u8]) -> Option<Box<str>> {
    let bounds = bounds(&shard.core.policy.limits);
    let Ok(Progress::Complete(request)) = head::parse(octets, 0, &bounds) else {
        return None;
    };
    let origins = &shard.core.policy.http.origins;
    if !routes::is_for_pages(&request.path) {
        return None;
    }
    match origins.judge(request.header(Field::Origin), None, Scheme::Https) {
        Verdict::Listed(page) => Some(page.into()),
        Verdict::Absent | Verdict::Same | Verdict::Refused => None,
    }
}

/// The page of the request whose body is on its way.
fn page_of_incoming(shard: &mut Shard, key: LinkKey) -> Option<Box<str>> {
    let conn = conn_of(&mut shard.links, key)?;
    let incoming = conn.incoming.take()?;
    let page = page_of(shard, &incoming.head);
    shard.core.pool.give(incoming.content);
    page
}
