//! encke's own protocol, under `/v1/` (`docs/json.md`): which session a request means, whether it
//! may, and what it asks for.

use std::borrow::Cow;

use super::{Call, Outcome, answered, conn_of, events, say, upgrade};
use crate::base::time::Now;
use crate::engine::reading::bounds_of_stanzas;
use crate::engine::shard::Shard;
use crate::engine::tube::json::{self, Found, Name, Secured};
use crate::session::effects::{Effects, LinkKey};
use crate::session::parcel::Ticket;
use crate::transport::http::origin::Verdict;
use crate::transport::http::{self, query};
use crate::transport::http::{Field, Method, Scheme, Status};
use crate::transport::json::problem::{self, Problem};
use crate::transport::json::request::{self, Asked, Request};
use crate::transport::json::session::{Answer, Kind};
use crate::transport::json::{Cursor, PROTOCOL, opening, topic};
use crate::xmpp::jid::Jid;

/// The cookie that has the token.
const COOKIE: &str = "encke-session";
/// The subprotocol that has it, for those who can send neither field nor cookie.
const TOKEN_PROTOCOL: &str = "encke.session.";

/// A handler, or what answered in its place.
type Checked<T> = Result<T, Outcome>;

/// How a request shows that it may speak for its session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Whoever sends it knows the token.
    Token,
    /// A browser sends it whatever page asks.
    Cookie,
}

/// `/v1/session`
pub fn session(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    finish(match call.request.method {
        Method::Post => open(shard, call, body, fx),
        Method::Delete => close(shard, call, fx),
        _ => describe(shard, call),
    })
}

/// `/v1/session/respond`
pub fn respond(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    finish(respond_with(shard, call, body, fx))
}

/// Where a reader has what is new, one way and the other.
pub const EVENTS: &str = "/v1/events";
pub const SOCKET: &str = "/v1/socket";

/// `/v1/events`
pub fn events(shard: &mut Shard, call: &Call<'_>, _: &[u8], fx: &mut Effects) -> Outcome {
    finish(read_events(shard, call, fx))
}

/// `/v1/socket`
pub fn socket(shard: &mut Shard, call: &Call<'_>, _: &[u8], fx: &mut Effects) -> Outcome {
    finish(open_socket(shard, call, fx))
}

/// A request whose type the path says, or the body.
pub fn ask(
    shard: &mut Shard,
    call: &Call<'_>,
    body: &[u8],
    implied: Option<&str>,
    fx: &mut Effects,
) -> Outcome {
    finish(ask_with(shard, call, body, implied, fx))
}

/// Where topics are, each under its name.
pub const TOPICS: &str = "/v1/topics/";
/// Octets of a publication.
const PUBLICATION_OCTETS_MAX: usize = 16_384;

/// `/v1/topics/NAME`
pub fn publish(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    finish(publish_to(shard, call, body, fx))
}

fn publish_to(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Checked<()> {
    check(shard, call)?;
    let key = bearer(call.request).ok_or_else(|| refuse(shard, call, problem::NO_TOKEN))?;
    let name = call.request.path.strip_prefix(TOPICS).unwrap_or_default();
    let topic = shard.core.policy.http.topics.open(name, key);
    let topic = topic.ok_or_else(|| refuse(shard, call, problem::NO_TOPIC))?;
    if body.len() > PUBLICATION_OCTETS_MAX {
        return Err(refuse(shard, call, problem::TOO_LARGE));
    }
    let json = topic::publication(&topic, body).map_err(|why| refuse(shard, call, why))?;
    let ticket = Ticket {
        shard: shard.core.shard,
        link: call.key,
    };
    json::publish(shard, ticket, &topic, &json, call.now, fx);
    Ok(())
}

/// `/v1/roster`
pub fn roster(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    match call.request.method {
        Method::Get => finish(ask_for(shard, call, Request::RosterGet, fx)),
        Method::Delete => finish(remove_item(shard, call, fx)),
        _ => ask(shard, call, body, Some("roster.set"), fx),
    }
}

/// `/v1/presence`
pub fn presence(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    match call.request.method {
        Method::Get => finish(ask_for(shard, call, Request::PresenceGet, fx)),
        _ => ask(shard, call, body, Some("presence"), fx),
    }
}

fn finish(checked: Checked<()>) -> Outcome {
    match checked {
        Ok(()) => Outcome::Later,
        Err(outcome) => outcome,
    }
}

fn open(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Checked<()> {
    check(shard, call)?;
    let octets_max = shard.core.policy.limits.preauth_stanza_octets_max;
    let login = opening::read(body, octets_max).map_err(|why| refuse(shard, call, why))?;
    let home = shard.core.home(login.opening.account.as_str());
    if home != shard.core.shard {
        return Err(Outcome::Elsewhere(home));
    }
    let secured = match call.client.scheme {
        Scheme::Https => Secured::Yes,
        Scheme::Http => Secured::No,
    };
    let cookie = login.cookie.then_some(secured);
    let peer = call.client.address;
    json::open(shard, call.key, &login.opening, peer, cookie, call.now, fx)
        .map_err(|why| refuse(shard, call, why))
}

fn respond_with(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Checked<()> {
    check(shard, call)?;
    let session = find(shard, call)?;
    let octets_max = shard.core.policy.limits.preauth_stanza_octets_max;
    let response =
        opening::read_response(body, octets_max).map_err(|why| refuse(shard, call, why))?;
    json::respond(shard, session, call.key, &response, call.now, fx);
    Ok(())
}

fn describe(shard: &mut Shard, call: &Call<'_>) -> Checked<()> {
    check(shard, call)?;
    let session = find(shard, call)?;
    let answer = json::describe(shard, session);
    let answer = answer.unwrap_or_else(|| Answer::refusal(problem::NO_SESSION));
    Err(write(shard, call.key, &answer))
}

fn close(shard: &mut Shard, call: &Call<'_>, fx: &mut Effects) -> Checked<()> {
    check(shard, call)?;
    // No script can take it away. It may be another session's.
    let is_ours = call.verdict(shard) != Verdict::Absent;
    let ends_cookie = call.request.fields.cookie(COOKIE).is_some_and(|cookie| {
        let by_cookie = name_of(call.request).is_some_and(|(_, proof)| proof == Proof::Cookie);
        (by_cookie && is_ours) || bearer(call.request) == Some(cookie)
    });
    if let Some(conn) = conn_of(&mut shard.links, call.key)
        && let Some(awaited) = &mut conn.awaiting
        && ends_cookie
    {
        let gone = format!("{COOKIE}=; Path=/v1/; Max-Age=0; HttpOnly; SameSite=Strict");
        awaited.cookie = Some(gone.into());
    }
    let session = find(shard, call)?;
    request_of(shard, call, session, Request::Close, fx);
    Ok(())
}

fn ask_with(
    shard: &mut Shard,
    call: &Call<'_>,
    body: &[u8],
    implied: Option<&str>,
    fx: &mut Effects,
) -> Checked<()> {
    check(shard, call)?;
    let session = find(shard, call)?;
    let mut scanner = shard.scanners.pop().unwrap_or_default();
    let bounds = bounds_of_stanzas(&shard.core);
    let read = request::read(body, implied, &mut scanner, &bounds);
    shard.give_scanner(scanner);
    let asked = read.map_err(|why| refuse(shard, call, why))?;
    json::request(shard, session, call.key, asked, call.now, fx);
    Ok(())
}

fn ask_for(
    shard: &mut Shard,
    call: &Call<'_>,
    request: Request<'_>,
    fx: &mut Effects,
) -> Checked<()> {
    check(shard, call)?;
    let session = find(shard, call)?;
    request_of(shard, call, session, request, fx);
    Ok(())
}

fn remove_item(shard: &mut Shard, call: &Call<'_>, fx: &mut Effects) -> Checked<()> {
    let address = parameter(shard, call, "jid")?;
    let address = match address {
        None => return Err(refuse(shard, call, problem::MISSING_MEMBER)),
        Some(address) if Jid::parse(&address).is_err() => {
            return Err(refuse(shard, call, problem::WRONG_ADDRESS));
        }
        Some(address) => address,
    };
    ask_for(shard, call, Request::RosterRemove { address }, fx)
}

fn request_of(
    shard: &mut Shard,
    call: &Call<'_>,
    session: LinkKey,
    request: Request<'_>,
    fx: &mut Effects,
) {
    let asked = Asked {
        request_id: None,
        request,
    };
    json::request(shard, session, call.key, asked, call.now, fx);
}

fn read_events(shard: &mut Shard, call: &Call<'_>, fx: &mut Effects) -> Checked<()> {
    check(shard, call)?;
    let fields = &call.request.fields;
    let wanted = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(events::EVENT_STREAM)
    };
    let is_stream = fields.list(Field::Accept).any(wanted);
    let seen = call.request.header(Field::LastEventId);
    let tag = fields.list(Field::IfNoneMatch).next().map(untagged);
    let (kind, said) = match is_stream {
        true => (Kind::EventStream, seen),
        false => {
            let conditional = tag.is_some();
            // Whoever has anything at all waits for what is new (RFC 9110 section 13.1.2).
            (Kind::Poll { conditional }, tag.filter(|tag| *tag != "*"))
        }
    };
    // A browser that comes again says where it was in a field, and asks for the same address.
    let cursor = match said.filter(|said| !said.is_empty()) {
        Some(said) => Some(Cow::Borrowed(said)),
        None => parameter(shard, call, "cursor")?,
    };
    let cursor = read_cursor(shard, call, cursor)?;
    let session = find(shard, call)?;
    json::attach(shard, session, call.key, kind, cursor, call.now, fx);
    Ok(())
}

fn open_socket(shard: &mut Shard, call: &Call<'_>, fx: &mut Effects) -> Checked<()> {
    let agreement = upgrade::agree(shard, call, PROTOCOL)?;
    let cursor = parameter(shard, call, "cursor")?;
    let cursor = read_cursor(shard, call, cursor)?;
    let session = find(shard, call)?;
    if let Some(conn) = conn_of(&mut shard.links, call.key)
        && let Some(awaited) = &mut conn.awaiting
    {
        awaited.agreement = Some(Box::new(agreement));
    }
    let kind = Kind::WebSocket;
    json::attach(shard, session, call.key, kind, cursor, call.now, fx);
    Ok(())
}

/// An entity tag without its quotes, whatever a proxy made of it.
fn untagged(tag: &str) -> &str {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.trim_matches('"')
}

fn parameter<'c>(shard: &mut Shard, call: &Call<'c>, name: &str) -> Checked<Option<Cow<'c, str>>> {
    let query = call.request.query.unwrap_or_default();
    query::find(query, name).map_err(|_| refuse(shard, call, problem::WRONG_VALUE))
}

fn read_cursor(
    shard: &mut Shard,
    call: &Call<'_>,
    text: Option<Cow<'_, str>>,
) -> Checked<Option<Cursor>> {
    let said = text.as_deref().filter(|text| !text.is_empty());
    match said.map(Cursor::parse) {
        None => Ok(None),
        Some(Some(cursor)) => Ok(Some(cursor)),
        Some(None) => Err(refuse(shard, call, problem::WRONG_VALUE)),
    }
}

/// What is asked of every request, before anybody looks whose it is.
fn check(shard: &mut Shard, call: &Call<'_>) -> Checked<()> {
    let verdict = call.verdict(shard);
    if !verdict.is_allowed() {
        let title = "pages of this origin may not ask; see http.origins";
        return Err(call.problem(shard, Status::Forbidden, "origin", title));
    }
    if let Verdict::Listed(page) = verdict
        && let Some(conn) = conn_of(&mut shard.links, call.key)
        && let Some(awaited) = &mut conn.awaiting
    {
        awaited.page = Some(page.into());
    }
    if call.request.method == Method::Options {
        return Err(call.answer(shard, Status::NoContent, |answer| {
            verdict.allow_preflight(answer).empty();
        }));
    }
    if shard.core.policy.require_tls && !call.client.secure {
        let title = "connect with TLS: https://";
        return Err(call.problem(shard, Status::Forbidden, "tls-required", title));
    }
    Ok(())
}

/// Who sends a request, as far as its head tells in this shard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Somebody we know, whose body may be as long as a stanza after the login.
    Known,
    /// Somebody who has not said who it is.
    Unproven,
    /// The session that it names is gone, whatever the body says.
    Nobody,
}

/// Looks who sends a request with a body.
pub fn sender(shard: &Shard, request: &http::Request<'_>) -> Sender {
    match &*request.path {
        "/v1/session" | "/v1/session/respond" => Sender::Unproven,
        path if let Some(name) = path.strip_prefix(TOPICS) => {
            let topics = &shard.core.policy.http.topics;
            match bearer(request).and_then(|key| topics.open(name, key)) {
                Some(_) => Sender::Known,
                None => Sender::Unproven,
            }
        }
        _ => match name_of(request).map(|(name, _)| json::find(shard, &name)) {
            Some(Found::Here(session)) if !json::is_open(shard, session) => Sender::Unproven,
            Some(Found::Here(_) | Found::There(_)) => Sender::Known,
            Some(Found::Nowhere) => Sender::Nobody,
            None => Sender::Unproven,
        },
    }
}

/// The session that a request means.
fn find(shard: &mut Shard, call: &Call<'_>) -> Checked<LinkKey> {
    let (name, proof) =
        name_of(call.request).ok_or_else(|| refuse(shard, call, problem::NO_TOKEN))?;
    // A page of another site can have a browser send its cookies (SECURITY classes 43 and 49).
    // Reading is different: such a page is not shown what comes.
    let reads = call.request.method == Method::Get && !call.request.fields.has(Field::Upgrade);
    if proof == Proof::Cookie && !reads && call.verdict(shard) == Verdict::Absent {
        return Err(refuse(shard, call, problem::NO_ORIGIN));
    }
    match json::find(shard, &name) {
        Found::Here(session) => Ok(session),
        Found::There(to) => Err(Outcome::Elsewhere(to)),
        // It may have ended a moment ago, which its client will hear by its readers.
        Found::Nowhere if shard.stopping => Err(refuse(shard, call, problem::STOPPING)),
        Found::Nowhere => Err(refuse(shard, call, problem::NO_SESSION)),
    }
}

/// RFC 6750 section 2.1.
fn bearer<'c>(request: &http::Request<'c>) -> Option<&'c str> {
    let (scheme, token) = request.header(Field::Authorization)?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim_ascii())
}

fn name_of(request: &http::Request<'_>) -> Option<(Name, Proof)> {
    let fields = &request.fields;
    if fields.has(Field::Authorization) {
        return Some((Name::parse(bearer(request)?)?, Proof::Token));
    }
    let mut protocols = fields.list(Field::SecWebSocketProtocol);
    if let Some(token) = protocols.find_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL)) {
        return Some((Name::parse(token)?, Proof::Token));
    }
    let cookie = fields.cookie(COOKIE)?;
    Some((Name::parse(cookie)?, Proof::Cookie))
}

/// Refuses a request.
fn refuse(shard: &mut Shard, call: &Call<'_>, why: Problem) -> Outcome {
    write(shard, call.key, &Answer::refusal(why))
}

/// Writes an answer to the request of a link.
fn write(shard: &mut Shard, key: LinkKey, answer: &Answer) -> Outcome {
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return Outcome::Later;
    };
    let Some(awaited) = conn.awaiting.take() else {
        return Outcome::Later;
    };
    let status = Status::of(answer.status);
    say(shard, key, awaited.manner, status, |mut out| {
        out = awaited.allow(out);
        if status == Status::Unauthorized {
            out = out.field("WWW-Authenticate", "Bearer");
        }
        if let Some(cursor) = answer.cursor {
            out = out.field("ETag", &format!("\"{cursor}\""));
        }
        if let Some(seconds) = answer.retry_after {
            out = out.retry_after(seconds);
        }
        if let Some(cookie) = &awaited.cookie {
            out = out.field("Set-Cookie", cookie);
        }
        match answer.body.is_empty() {
            true => out.empty(),
            false => out.body(answer.media.as_str(), &answer.body),
        }
    })
}

/// A session answers the request of a link. `token`: it shall be a cookie as well.
pub fn session_answered(
    shard: &mut Shard,
    key: LinkKey,
    answer: &Answer,
    token: Option<(String, Secured)>,
    now: Now,
    fx: &mut Effects,
) {
    if let Some((token, secured)) = token
        && let Some(conn) = conn_of(&mut shard.links, key)
        && let Some(awaited) = &mut conn.awaiting
    {
        let secure = match secured {
            Secured::Yes => "; Secure",
            Secured::No => "",
        };
        let cookie = format!("{COOKIE}={token}; Path=/v1/; HttpOnly; SameSite=Strict{secure}");
        awaited.cookie = Some(cookie.into());
    }
    if let Outcome::Answered(after) = write(shard, key, answer) {
        answered(shard, key, after, now, fx);
        // The session may be in the middle of something, which the next request may be for.
        shard.answered.push(key);
    }
}
