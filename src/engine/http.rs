//! Requests of HTTP on a link of `listen.http` or `listen.https`: read in order, answered in order,
//! one at a time.
//!
//! While an answer is due what its peer sends ahead is kept, up to a bound above which it waits in
//! the kernel: who reads nothing does not hear that its peer has gone. Between two requests a link
//! is one [`Conn`]. A WebSocket begins as a request; from the answer on the link carries a stream
//! like any other, or events. A request that names a session of another shard moves there, with its
//! link and all behind it.

use std::net::IpAddr;
use std::time::Duration;

use self::session::Sender;
use super::input::{Origin, Way};
use super::links::{Link, Links, Reading, Stream, Unread};
use super::shard::Shard;
use super::tube;
use crate::base::limits::Limits;
use crate::base::time::{Moment, Now};
use crate::session::ctx::Due;
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::parcel::Ticket;
use crate::session::policy::HttpPolicy;
use crate::session::queue::{Pool, Queue};
use crate::store::ShardId;
use crate::stream::sasl::Bindings;
use crate::transport::bosh::ContentType;
use crate::transport::framing::Framing;
use crate::transport::http::answer::{self, After, Answer, Manner, Problem};
use crate::transport::http::body::Body;
use crate::transport::http::forwarded;
use crate::transport::http::network::Networks;
use crate::transport::http::origin::Verdict;
use crate::transport::http::{self as codec, Bounds, Progress, Refusal, Request, Scheme, Status};
use crate::transport::websocket::handshake::Agreement;

/// XMPP over BOSH.
mod bosh;
/// What ends a link before its time, or at it.
mod ending;
/// Links that carry events.
pub mod events;
/// XEP-0156: where streams can be had.
mod host_meta;
/// A page to chat with.
mod page;
/// What is served where.
mod routes;
/// encke's own protocol.
mod session;

/// A request becomes a WebSocket.
mod upgrade;

pub use ending::{due, ended, stop};
pub use session::session_answered;

/// Octets behind a request that waits for its answer, above which the link is not read.
const READ_AHEAD_MAX: usize = 16_384;
/// Whoever owes an answer has a deadline of its own, well before this one.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// A link that carries requests.
pub struct Conn {
    pub queue: Queue,
    /// Who sends requests: a client, or a proxy that reads them.
    pub(super) peer: IpAddr,
    way: Way,
    scheme: Scheme,
    /// Channel bindings of the link's TLS.
    bindings: Option<Box<Bindings>>,
    /// Octets of an incomplete head that hold no end of it.
    seen: usize,
    /// A request whose body has not come whole.
    incoming: Option<Box<Incoming>>,
    /// The answer that is due.
    awaiting: Option<Box<Awaited>>,
    /// A whole request on its way to another shard.
    moving: Option<Box<Whole>>,
    /// When the next request must be complete.
    due: Moment,
}

/// A request whose body is on its way.
struct Incoming {
    /// The head's octets: it is read again when the body is whole.
    head: Vec<u8>,
    body: Body,
    content: Vec<u8>,
    /// Octets of the content that say whose it is; `None`: the head did, or it was looked at.
    unproven_max: Option<usize>,
}

/// The octets of a request: its head, and its body without framing.
struct Whole {
    head: Vec<u8>,
    content: Vec<u8>,
}

/// An answer that is due.
struct Awaited {
    manner: Manner,
    /// The page that asks, if it is of a listed origin.
    page: Option<Box<str>>,
    /// Who is to hear when the link is gone.
    holder: Holder,
    /// The request is for a WebSocket, if its session takes it.
    agreement: Option<Box<Agreement>>,
    /// The answer does not wait for something new.
    is_brief: bool,
    /// `Set-Cookie` of the answer.
    cookie: Option<Box<str>>,
}

/// Who has a request.
#[derive(Clone, Copy)]
enum Holder {
    Nobody,
    /// The session of BOSH with this identifier.
    Bosh(u128),
    /// The session of this tube.
    Session(LinkKey),
}

/// What a handler did with its request.
enum Outcome {
    /// The answer is written.
    Answered(After),
    /// The answer comes later, by [`errand_done`] or [`tube_answered`].
    Later,
    /// The link carries something else now.
    Upgraded,
    /// It is served in this shard.
    Elsewhere(ShardId),
}

/// What a handler may look at.
struct Call<'a> {
    key: LinkKey,
    request: &'a Request<'a>,
    /// Who asks, proxies aside.
    client: Client,
    now: Now,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Client {
    address: IpAddr,
    /// How it reaches us.
    scheme: Scheme,
    /// Whether what it sends cannot be read on the way, as far as we know.
    secure: bool,
    /// Whether it came through a proxy that names its clients before their first octet.
    relayed: bool,
}

impl Client {
    /// Whoever sent a request that came over this link.
    fn of(conn: &Conn, request: &Request<'_>, policy: &HttpPolicy) -> Self {
        let Conn { peer, way, .. } = *conn;
        let nobody = Networks::default();
        // Who is not named has the address of a proxy, but may be anybody.
        let (proxies, nearby) = match way {
            Way::Unsaid => (&nobody, false),
            _ => (&policy.proxies, peer.is_loopback()),
        };
        let scheme = match way {
            Way::RelayedByTls => Scheme::Https,
            _ => conn.scheme,
        };
        let found = forwarded::client(peer, &request.fields, policy.proxy_header, proxies);
        // A proxy may have been reached in clear, which it says.
        let in_clear = found.scheme == Some(Scheme::Http) && !found.address.is_loopback();
        let nearby = nearby || proxies.contains(peer);
        Self {
            address: found.address,
            scheme: found.scheme.unwrap_or(scheme),
            secure: !in_clear && (scheme == Scheme::Https || nearby),
            relayed: way != Way::Direct,
        }
    }
}

impl Awaited {
    /// Lets the page that asks read the answer.
    fn allow<'o>(&self, answer: Answer<'o>) -> Answer<'o> {
        match self.page.as_deref().map(Verdict::Listed) {
            Some(verdict) => verdict.allow(answer),
            None => answer,
        }
    }
}

impl Conn {
    /// A link just accepted.
    pub fn new(origin: Origin, due: Moment) -> Self {
        Self {
            queue: Queue::default(),
            peer: origin.peer.ip(),
            way: origin.way,
            scheme: match origin.entry.is_tls() {
                true => Scheme::Https,
                false => Scheme::Http,
            },
            bindings: None,
            seen: 0,
            incoming: None,
            awaiting: None,
            moving: None,
            due,
        }
    }

    /// Gives its buffers back.
    pub(super) fn discard(&mut self, pool: &mut Pool) {
        self.queue.discard(pool);
        if let Some(incoming) = self.incoming.take() {
            pool.give(incoming.content);
        }
    }

    /// The TLS handshake is done.
    pub fn secured(&mut self, bindings: Bindings) {
        self.bindings = Some(Box::new(bindings));
    }
}

/// A link of HTTP was accepted.
pub fn opened(shard: &mut Shard, key: LinkKey, origin: Origin, now: Now) {
    let due = now
        .mono
        .after(shard.core.policy.limits.http_request_timeout);
    let conn = Conn::new(origin, due);
    shard.links.place(key, Link::http(conn, now.mono));
    shard.core.wheel.set(due, Due::Link(key));
}

/// A link came with the request of another shard.
pub fn adopted(
    shard: &mut Shard,
    key: LinkKey,
    mut conn: Conn,
    unread: Option<Box<Unread>>,
    now: Now,
    fx: &mut Effects,
) {
    let moved = conn.moving.take();
    let bounds = bounds(&shard.core.policy.limits);
    shard.core.wheel.set(conn.due, Due::Link(key));
    let mut link = Link::http(conn, now.mono);
    link.unread = unread;
    shard.links.place(key, link);
    if let Some(moved) = moved
        && let Ok(Progress::Complete(request)) = codec::head::parse(&moved.head, 0, &bounds)
    {
        serve(shard, key, &moved.head, &request, &moved.content, now, fx);
    }
    shard.take_unread(key, now, fx);
}

/// Octets came. Takes as many requests as are whole and wanted, and keeps the rest.
pub fn receive(shard: &mut Shard, key: LinkKey, bytes: &[u8], now: Now, fx: &mut Effects) {
    let unread = shard.links.get_mut(key).and_then(|link| link.unread.take());
    let Some(mut unread) = unread else {
        let taken = walk(shard, key, bytes, now, fx);
        if taken < bytes.len() {
            let mut octets = shard.core.pool.take();
            octets.extend_from_slice(&bytes[taken..]);
            keep(shard, key, Box::new(Unread::of(octets)), now, fx);
        }
        return;
    };
    let mut octets = std::mem::take(&mut unread.octets);
    octets.extend_from_slice(bytes);
    let taken = walk(shard, key, &octets, now, fx);
    octets.drain(..taken);
    if octets.is_empty() {
        return shard.core.pool.give(octets);
    }
    unread.octets = octets;
    keep(shard, key, unread, now, fx);
}

/// Octets that were not taken: of the next request or, behind an upgrade, of the stream.
fn keep(shard: &mut Shard, key: LinkKey, unread: Box<Unread>, now: Now, fx: &mut Effects) {
    let waits = |link: &Link| link.reading == Reading::Waiting;
    if unread.octets.len() > READ_AHEAD_MAX && shard.links.get(key).is_some_and(waits) {
        fx.link(key, LinkEffect::Pause);
    }
    shard.keep_unread(key, unread, fx);
    let upgraded = |link: &Link| link.framing == Framing::WebSocket;
    if shard.links.get(key).is_some_and(upgraded) {
        shard.take_unread(key, now, fx);
    }
}

/// Takes requests from the front of `bytes`. Returns the octets taken.
fn walk(shard: &mut Shard, key: LinkKey, bytes: &[u8], now: Now, fx: &mut Effects) -> usize {
    let high_water = shard.core.policy.limits.link_output_high_water_octets;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(link) = shard.links.get_mut(key) else {
            break;
        };
        let Stream::Http(conn) = &mut link.stream else {
            break;
        };
        if link.reading != Reading::On {
            break;
        }
        // A peer that does not read its answers is not read, and closed when that takes too long.
        if conn.queue.unsent_octets() > high_water {
            link.reading = Reading::Paused;
            fx.link(key, LinkEffect::Pause);
            break;
        }
        let progress = match conn.incoming.take() {
            Some(incoming) => take_body(shard, key, incoming, rest, now, fx),
            None => take_head(shard, key, rest, now, fx),
        };
        match progress {
            Ok(Some(taken)) => at += taken,
            Ok(None) => break,
            Err(Refused { why, page }) => {
                refuse(shard, key, &Problem::of(why), page, fx);
                break;
            }
        }
    }
    at
}

/// Why a request is not taken.
struct Refused {
    why: Refusal,
    /// The page that asks, where the head was understood.
    page: Option<Box<str>>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, page: None }
    }
}

/// The head of a request. Returns the octets taken of it and of its body; nothing while it is not
/// whole.
fn take_head(
    shard: &mut Shard,
    key: LinkKey,
    bytes: &[u8],
    now: Now,
    fx: &mut Effects,
) -> Result<Option<usize>, Refused> {
    let bounds = bounds(&shard.core.policy.limits);
    let due = now
        .mono
        .after(shard.core.policy.limits.http_request_timeout);
    let Some(Stream::Http(conn)) = shard.links.get_mut(key).map(|link| &mut link.stream) else {
        return Ok(None);
    };
    if conn.seen == 0 {
        // The first octet of a request starts its time.
        conn.due = due;
    }
    let request = match codec::head::parse(bytes, conn.seen, &bounds)? {
        Progress::Complete(request) => request,
        Progress::Incomplete => {
            conn.seen = bytes.len();
            return Ok(None);
        }
    };
    conn.seen = 0;
    let octets = request.octets;
    if request.framing == codec::Framing::None {
        serve(shard, key, &bytes[..octets], &request, &[], now, fx);
        return Ok(Some(octets));
    }
    let is_bosh = request.path == bosh::PATH;
    let sender = match is_bosh {
        true => Sender::Known,
        false => session::sender(shard, &request),
    };
    let limits = &shard.core.policy.limits;
    let body_max = match sender {
        Sender::Known => limits.stanza_octets_max,
        Sender::Unproven | Sender::Nobody => limits.preauth_stanza_octets_max,
    } as u64;
    // What is said before the body is read says more than that it is too long.
    let is_in_vain = match request.framing {
        _ if request.expects_continue && !routes::takes(&request) => true,
        codec::Framing::Sized(octets) if octets <= body_max => false,
        _ => sender == Sender::Nobody,
    };
    if is_in_vain {
        // Whether the body comes all the same, nobody knows.
        let request = Request {
            keep_alive: false,
            ..request
        };
        serve(shard, key, &bytes[..octets], &request, &[], now, fx);
        return Ok(Some(octets));
    }
    let unproven_max = is_bosh.then_some(limits.preauth_stanza_octets_max);
    let body = Body::new(request.framing, body_max).map_err(|why| Refused {
        why,
        page: ending::page_of(shard, &bytes[..octets]),
    })?;
    if request.expects_continue {
        let Some(conn) = conn_of(&mut shard.links, key) else {
            return Ok(None);
        };
        conn.queue.append_octets(&mut shard.core.pool, |out| {
            out.extend_from_slice(answer::CONTINUE);
        });
        fx.link(key, LinkEffect::Flush);
    }
    let incoming = Box::new(Incoming {
        head: bytes[..octets].to_vec(),
        body,
        content: shard.core.pool.take(),
        unproven_max,
    });
    let taken = take_body(shard, key, incoming, &bytes[octets..], now, fx)?;
    Ok(Some(octets + taken.unwrap_or(0)))
}

/// More of a body; when it is whole, the request is served.
fn take_body(
    shard: &mut Shard,
    key: LinkKey,
    mut incoming: Box<Incoming>,
    bytes: &[u8],
    now: Now,
    fx: &mut Effects,
) -> Result<Option<usize>, Refused> {
    let refused = |shard: &Shard, why| Refused {
        why,
        page: ending::page_of(shard, &incoming.head),
    };
    let taken = match incoming.body.take(bytes, &mut incoming.content) {
        Ok(taken) => taken,
        Err(why) => return Err(refused(shard, why)),
    };
    if let Some(octets_max) = incoming.unproven_max
        && let Some(beginning) = incoming.content.get(..octets_max)
        && beginning.len() < incoming.content.len()
    {
        if !tube::bosh::is_proven(shard, beginning) {
            return Err(refused(shard, Refusal::BodyTooLong));
        }
        incoming.unproven_max = None;
    }
    if !taken.done {
        if let Some(conn) = conn_of(&mut shard.links, key) {
            conn.incoming = Some(incoming);
        }
        // Nothing of what is left can be understood before more comes.
        return Ok((taken.octets > 0).then_some(taken.octets));
    }
    let bounds = bounds(&shard.core.policy.limits);
    let Incoming { head, content, .. } = *incoming;
    if let Progress::Complete(request) = codec::head::parse(&head, 0, &bounds)? {
        serve(shard, key, &head, &request, &content, now, fx);
    }
    shard.core.pool.give(content);
    Ok(Some(taken.octets))
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        head_octets_max: limits.http_head_octets_max,
        ..Bounds::default()
    }
}

/// A whole request, of which `head` are the octets.
fn serve(
    shard: &mut Shard,
    key: LinkKey,
    head: &[u8],
    request: &Request<'_>,
    body: &[u8],
    now: Now,
    fx: &mut Effects,
) {
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return;
    };
    conn.awaiting = Some(Box::new(Awaited {
        manner: request.manner(),
        page: None,
        holder: Holder::Nobody,
        agreement: None,
        is_brief: routes::is_brief(request),
        cookie: None,
    }));
    let client = Client::of(conn, request, &shard.core.policy.http);
    let call = Call {
        key,
        request,
        client,
        now,
    };
    match routes::dispatch(shard, &call, body, fx) {
        Outcome::Answered(after) => answered(shard, key, after, now, fx),
        // It may have come at once.
        Outcome::Later => {
            let Some(conn) = conn_of(&mut shard.links, key).filter(|conn| conn.awaiting.is_some())
            else {
                return;
            };
            conn.due = now.mono.after(ANSWER_MAX);
            if let Some(link) = shard.links.get_mut(key) {
                link.reading = Reading::Waiting;
            }
        }
        Outcome::Upgraded => {}
        Outcome::Elsewhere(to) => {
            let Some(conn) = conn_of(&mut shard.links, key) else {
                return;
            };
            conn.awaiting = None;
            conn.moving = Some(Box::new(Whole {
                head: head.to_vec(),
                content: body.to_vec(),
            }));
            if let Some(link) = shard.links.get_mut(key) {
                link.reading = Reading::Off;
                fx.link(key, LinkEffect::HandOff(to));
            }
        }
    }
}

/// The answer of a link's request is in its queue.
fn answered(shard: &mut Shard, key: LinkKey, after: After, now: Now, fx: &mut Effects) {
    let idle = now.mono.after(shard.core.policy.limits.http_idle_timeout);
    fx.link(key, LinkEffect::Flush);
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return;
    };
    conn.awaiting = None;
    conn.due = idle;
    if after == After::KeepAlive {
        return;
    }
    let queue = std::mem::take(&mut conn.queue);
    if let Some(link) = shard.links.get_mut(key) {
        link.close_with(queue, key, fx);
    }
}

/// Octets of answers were taken. Whoever reads them is not idle, however slow.
pub fn wrote(shard: &mut Shard, key: LinkKey, octets: usize, now: Now, fx: &mut Effects) {
    let limits = &shard.core.policy.limits;
    let low_water = limits.link_output_high_water_octets / 2;
    let idle = now.mono.after(limits.http_idle_timeout);
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    let Stream::Http(conn) = &mut link.stream else {
        return;
    };
    conn.queue.wrote(&mut shard.core.pool, octets, |_| ());
    if octets > 0 && conn.seen == 0 && conn.incoming.is_none() {
        conn.due = idle;
    }
    if link.reading == Reading::Paused && conn.queue.unsent_octets() <= low_water {
        shard.turn_on(key, now, fx);
        shard.finish_input(now, fx);
    }
}

/// A request that cannot be understood: nobody knows where the next one begins.
fn refuse(
    shard: &mut Shard,
    key: LinkKey,
    problem: &Problem<'_>,
    page: Option<Box<str>>,
    fx: &mut Effects,
) {
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return;
    };
    let mut queue = std::mem::take(&mut conn.queue);
    let verdict = page.as_deref().map_or(Verdict::Absent, Verdict::Listed);
    queue.append_octets(&mut shard.core.pool, |out| {
        let answer = Answer::new(out, problem.status, Manner::REFUSED);
        problem.finish(verdict.allow(answer));
    });
    if let Some(link) = shard.links.get_mut(key) {
        link.close_with(queue, key, fx);
    }
}

/// Writes an answer and says what becomes of the link.
fn say(
    shard: &mut Shard,
    key: LinkKey,
    manner: Manner,
    status: Status,
    write: impl FnOnce(Answer<'_>),
) -> Outcome {
    // A link that is open when the server stops is of no use to anybody.
    let manner = match shard.stopping {
        true => manner.closing(),
        false => manner,
    };
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return Outcome::Later;
    };
    conn.queue.append_octets(&mut shard.core.pool, |out| {
        write(Answer::new(out, status, manner));
    });
    Outcome::Answered(manner.after)
}

/// What somebody else was asked for has come; nothing: it was refused.
pub fn errand_done(
    shard: &mut Shard,
    key: LinkKey,
    content: Option<Vec<u8>>,
    now: Now,
    fx: &mut Effects,
) {
    let Some(awaited) = conn_of(&mut shard.links, key).and_then(|conn| conn.awaiting.take()) else {
        return;
    };
    let manner = awaited.manner;
    let outcome = match content {
        Some(text) => say(shard, key, manner, Status::Ok, |answer| {
            answer.body(routes::OPEN_METRICS, &text);
        }),
        None => say(shard, key, manner, Status::ServiceUnavailable, |answer| {
            answer.retry_after(1).empty();
        }),
    };
    if let Outcome::Answered(after) = outcome {
        answered(shard, key, after, now, fx);
        shard.read_on(key, now, fx);
    }
}

/// The request of a ticket is with a session now: it hears when the link is gone.
pub fn attend(shard: &mut Shard, ticket: Ticket, sid: u128) {
    let here = ticket.shard == shard.core.shard;
    let conn = conn_of(&mut shard.links, ticket.link).filter(|_| here);
    if let Some(awaited) = conn.and_then(|conn| conn.awaiting.as_mut()) {
        awaited.holder = Holder::Bosh(sid);
    }
}

/// The request of a link is with the session of this tube now.
pub fn attend_session(shard: &mut Shard, key: LinkKey, session: LinkKey) {
    let conn = conn_of(&mut shard.links, key);
    if let Some(awaited) = conn.and_then(|conn| conn.awaiting.as_mut()) {
        awaited.holder = Holder::Session(session);
    }
}

/// A session answers the request of a link.
pub fn tube_answered(
    shard: &mut Shard,
    key: LinkKey,
    status: u16,
    kind: ContentType,
    body: &[u8],
    now: Now,
    fx: &mut Effects,
) {
    let Some(awaited) = conn_of(&mut shard.links, key).and_then(|conn| conn.awaiting.take()) else {
        return;
    };
    let status = Status::of(status);
    let outcome = say(shard, key, awaited.manner, status, |answer| {
        let answer = awaited.allow(answer);
        // What others wrote must not run as a page of this server (SECURITY class 49).
        let answer = answer.field(answer::POLICY, "sandbox");
        answer.body(kind.as_str(), body);
    });
    if let Outcome::Answered(after) = outcome {
        answered(shard, key, after, now, fx);
        // The tube may be in the middle of something, which the next request may be for.
        shard.answered.push(key);
    }
}

/// Whether a link reads from one of these tubes, or waits for an answer of theirs; `sids` are the
/// names of those that have one.
pub fn is_with(link: &Link, tubes: &[LinkKey], sids: &[u128]) -> bool {
    let holder = match &link.stream {
        Stream::Events(events) => Holder::Session(events.session),
        Stream::Http(conn) => conn.awaiting.as_ref().map_or(Holder::Nobody, |a| a.holder),
        _ => Holder::Nobody,
    };
    match holder {
        Holder::Nobody => false,
        Holder::Session(tube) => tubes.contains(&tube),
        Holder::Bosh(sid) => sids.contains(&sid),
    }
}

/// Takes the requests behind one that was answered, unless the next one waits already.
pub fn go_on(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    if conn_of(&mut shard.links, key).is_some_and(|conn| conn.awaiting.is_none()) {
        shard.read_on(key, now, fx);
    }
}

/// The socket is gone.
pub fn closed(shard: &mut Shard, key: LinkKey, mut conn: Conn, now: Now, fx: &mut Effects) {
    conn.discard(&mut shard.core.pool);
    if let Some(awaited) = conn.awaiting {
        given_up(shard, key, awaited.holder, now, fx);
    }
}

/// Nobody waits for the answer of this link's request any more.
fn given_up(shard: &mut Shard, key: LinkKey, holder: Holder, now: Now, fx: &mut Effects) {
    match holder {
        Holder::Bosh(sid) => {
            let ticket = Ticket {
                shard: shard.core.shard,
                link: key,
            };
            tube::bosh::gone(shard, sid, ticket, now, fx);
        }
        Holder::Session(session) => tube::json::gone(shard, session, key, false, now, fx),
        Holder::Nobody => {}
    }
}

fn conn_of(links: &mut Links, key: LinkKey) -> Option<&mut Conn> {
    match &mut links.get_mut(key)?.stream {
        Stream::Http(conn) => Some(conn),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
