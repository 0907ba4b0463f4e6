//! Streams over BOSH (XEP-0124, XEP-0206): [`session`](crate::transport::bosh::session) decides
//! which request brings what of a stream and takes what away.
//!
//! A tube is born where its first request came, moves once to the home of its account, like any
//! link, and its birthplace passes requests on: the identifier of a session says where it was born.
//! Requests and answers travel between shards as letters.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::{Guest, Room, unread_octets};
use crate::base::time::{Moment, Now};
use crate::engine::links::{Link, Released, Stream};
use crate::engine::reading::bounds_of_requests;
use crate::engine::shard::Shard;
use crate::engine::{http, login};
use crate::session::ctx::{Due, Token};
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::parcel::{Letter, Ticket};
use crate::store::ShardId;
use crate::stream::c2s::Negotiation;
use crate::stream::sasl::Bindings;
use crate::transport::bosh::request::{self, Request};
use crate::transport::bosh::session::{Action, Session};
use crate::transport::bosh::{Condition, ContentType, Rules};

/// The longest requests that a stream may leave unread before its session is given up.
const UNREAD_REQUESTS_MAX: usize = 4;

/// The sessions of a shard.
#[derive(Default)]
pub struct Sessions {
    here: HashMap<LinkKey, Box<Tube>, RandomState>,
    places: HashMap<u128, Place, RandomState>,
}

struct Tube {
    sid: u128,
    bosh: Session<Ticket>,
    born: ShardId,
    guest: Guest,
    /// The entry of the wheel that counts; others are left over.
    wakes: Option<Moment>,
}

/// Where a session's requests are taken.
#[derive(Clone, Copy)]
enum Place {
    Here(LinkKey),
    There(ShardId),
}

/// A tube on its way home. Opaque to whoever carries it.
struct Moving {
    tube: Box<Tube>,
    stream: Box<Released>,
}

impl Sessions {
    /// Gives back what a burst needed.
    pub fn rest(&mut self) {
        self.here.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.here.len()
    }

    /// Entries of all lists: a session that moved has one where it was born.
    pub fn entries(&self) -> usize {
        self.here.len() + self.places.len()
    }

    /// A tube of which nothing is left. Returns what it was called.
    pub fn forget(&mut self, key: LinkKey) -> Option<u128> {
        let is_here = |place: &Place| matches!(place, Place::Here(here) if *here == key);
        let mut places = self.places.iter();
        let sid = places
            .find(|(_, place)| is_here(place))
            .map(|(sid, _)| *sid)?;
        self.places.remove(&sid);
        Some(sid)
    }

    /// Whether a tube is one of them, and not in the middle of something.
    pub fn is_here(&self, key: LinkKey) -> bool {
        self.here.contains_key(&key)
    }
}

/// What came by POST. The answer goes to the ticket, now or later.
pub fn post(
    shard: &mut Shard,
    ticket: Ticket,
    peer: IpAddr,
    body: Vec<u8>,
    now: Now,
    fx: &mut Effects,
) {
    let mut scanner = shard.scanners.pop().unwrap_or_default();
    let bounds = bounds_of_requests(&shard.core);
    match request::read(&body, &mut scanner, &bounds) {
        Err(condition) => refuse(shard, ticket, condition, now, fx),
        Ok(request) => match request.sid.as_deref() {
            None => begin(shard, ticket, peer, request, now, fx),
            Some(sid) => match number_of(sid) {
                Some(number) => forward(shard, ticket, number, &body, request, now, fx),
                None => refuse(shard, ticket, Condition::ItemNotFound, now, fx),
            },
        },
    }
    shard.give_scanner(scanner);
}

/// Whether a request that begins so is of a session whose client has logged in, as far as this
/// shard can tell.
pub fn is_proven(shard: &Shard, beginning: &[u8]) -> bool {
    let Some(sid) = request::sid_of(beginning).as_deref().and_then(number_of) else {
        return false;
    };
    match shard.tubes.bosh.places.get(&sid) {
        Some(Place::Here(key)) => match shard.links.get(*key).map(|link| &link.stream) {
            Some(Stream::Login(login)) => login.authenticated,
            _ => true,
        },
        Some(Place::There(_)) => true,
        None => (sid >> 112) as ShardId != shard.core.shard,
    }
}

fn number_of(sid: &str) -> Option<u128> {
    let digits = sid.len() == 32 && sid.bytes().all(|octet| octet.is_ascii_hexdigit());
    u128::from_str_radix(sid, 16).ok().filter(|_| digits)
}

/// A request finds its session, here or there.
fn forward(
    shard: &mut Shard,
    ticket: Ticket,
    sid: u128,
    body: &[u8],
    request: Request<'_>,
    now: Now,
    fx: &mut Effects,
) {
    let born = (sid >> 112) as ShardId;
    let place = shard.tubes.bosh.places.get(&sid).copied();
    http::attend(shard, ticket, sid);
    match place {
        Some(Place::Here(key)) => take(shard, key, ticket, request, now, fx),
        Some(Place::There(to)) => send(shard, to, fx, || Letter::Post {
            ticket,
            body: body.into(),
        }),
        None if born != shard.core.shard && born < shard.core.shards => {
            send(shard, born, fx, || Letter::Post {
                ticket,
                body: body.into(),
            });
        }
        None => refuse(shard, ticket, Condition::ItemNotFound, now, fx),
    }
}

fn send(shard: &Shard, to: ShardId, fx: &mut Effects, letter: impl FnOnce() -> Letter) {
    debug_assert_ne!(to, shard.core.shard, "nobody writes to himself");
    fx.batch(to).post(letter());
}

/// A session is asked for.
fn begin(
    shard: &mut Shard,
    ticket: Ticket,
    peer: IpAddr,
    request: Request<'_>,
    now: Now,
    fx: &mut Effects,
) {
    if shard.stopping {
        return refuse(shard, ticket, Condition::SystemShutdown, now, fx);
    }
    if shard.tubes.room(peer, &shard.core) != Room::Free {
        return refuse(shard, ticket, Condition::PolicyViolation, now, fx);
    }
    // Its first 16 bits say where it was born; the others are nobody's to guess.
    let sid = shard.core.random() >> 16 | u128::from(shard.core.shard) << 112;
    let mut actions = Vec::new();
    let rules = Rules::default();
    let token = Token::of(sid);
    let begun = Session::create(
        request,
        ticket,
        token.as_str(),
        &rules,
        now.mono,
        &mut actions,
    );
    let bosh = match begun {
        Ok(bosh) => bosh,
        Err(condition) => return refuse(shard, ticket, condition, now, fx),
    };
    let mut negotiation = Negotiation::clear();
    // There is no STARTTLS here: the link is as secure as it will be.
    negotiation.secured(Bindings::default());
    let key = shard
        .links
        .insert_tube(Link::new(negotiation, peer, now.mono));
    let tube = Box::new(Tube {
        sid,
        bosh,
        born: shard.core.shard,
        guest: shard.tubes.admit(peer),
        wakes: None,
    });
    shard.tubes.bosh.places.insert(sid, Place::Here(key));
    http::attend(shard, ticket, sid);
    let at = now.mono.after(shard.core.policy.limits.login_timeout);
    shard.core.wheel.set(at, Due::Link(key));
    carry_out(shard, key, tube, actions, now, fx);
}

/// A request of a session that is here.
fn take(
    shard: &mut Shard,
    key: LinkKey,
    ticket: Ticket,
    request: Request<'_>,
    now: Now,
    fx: &mut Effects,
) {
    // Who pauses, or asks for no waiting, is not held back.
    let bound = shard.core.policy.limits.stanza_octets_max * UNREAD_REQUESTS_MAX;
    if unread_octets(shard, key) > bound {
        drop_tube(shard, key, Condition::PolicyViolation, now, fx);
        return refuse(shard, ticket, Condition::PolicyViolation, now, fx);
    }
    let Some(mut tube) = shard.tubes.bosh.here.remove(&key) else {
        return refuse(shard, ticket, Condition::ItemNotFound, now, fx);
    };
    if let Some(link) = shard.links.get_mut(key) {
        link.hear(now.mono);
    }
    let mut actions = Vec::new();
    tube.bosh.receive(request, ticket, now.mono, &mut actions);
    carry_out(shard, key, tube, actions, now, fx);
}

/// The socket of a request is gone before its answer.
pub fn gone(shard: &mut Shard, sid: u128, ticket: Ticket, now: Now, fx: &mut Effects) {
    let born = (sid >> 112) as ShardId;
    match shard.tubes.bosh.places.get(&sid).copied() {
        Some(Place::Here(key)) => {
            let Some(mut tube) = shard.tubes.bosh.here.remove(&key) else {
                return;
            };
            tube.bosh.gone(ticket, now.mono);
            carry_out(shard, key, tube, Vec::new(), now, fx);
        }
        Some(Place::There(to)) => send(shard, to, fx, || Letter::Gone { sid, ticket }),
        None if born != shard.core.shard && born < shard.core.shards => {
            send(shard, born, fx, || Letter::Gone { sid, ticket });
        }
        None => {}
    }
}

/// A request came from the shard where its link is. Who asks for a new session is served there, so
/// the address does not matter.
pub fn passed_on(shard: &mut Shard, ticket: Ticket, body: Vec<u8>, now: Now, fx: &mut Effects) {
    let nobody = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    post(shard, ticket, nobody, body, now, fx);
}

/// A session moves in.
pub fn moved_in(shard: &mut Shard, moving: Box<dyn Any + Send>, now: Now, fx: &mut Effects) {
    if let Ok(moving) = moving.downcast::<Moving>() {
        adopt(shard, *moving, now, fx);
    }
}

/// A session that was born here has ended elsewhere.
pub fn left(shard: &mut Shard, sid: u128) {
    shard.tubes.bosh.places.remove(&sid);
}

/// Does what the engine asked for.
pub fn apply(shard: &mut Shard, key: LinkKey, effect: LinkEffect, now: Now, fx: &mut Effects) {
    match effect {
        LinkEffect::Flush => pump(shard, key, now, fx),
        LinkEffect::Authenticated => {
            if let Some(mut tube) = shard.tubes.bosh.here.remove(&key) {
                shard.tubes.prove(&mut tube.guest);
                shard.tubes.bosh.here.insert(key, tube);
            }
        }
        LinkEffect::HandOff(to) => hand_off(shard, key, to, fx),
        LinkEffect::Close => {
            pump(shard, key, now, fx);
            // The goodbye waits for who comes to fetch it, but not when everybody leaves.
            if shard.stopping {
                drop_tube(shard, key, Condition::SystemShutdown, now, fx);
            }
        }
        LinkEffect::Abort => drop_tube(shard, key, Condition::UndefinedCondition, now, fx),
        LinkEffect::Resume => go_on(shard, key, now, fx),
        // What comes while a stream does not read waits as its unread octets. Its requests are held
        // meanwhile, and a client may have few on their way, each within its bound.
        LinkEffect::Pause | LinkEffect::StartTls => {}
    }
}

/// Answers what was held only because the stream did not read.
fn go_on(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    if let Some(tube) = shard.tubes.bosh.here.remove(&key) {
        carry_out(shard, key, tube, Vec::new(), now, fx);
    }
}

/// What the stream wrote goes to who waits for it.
fn pump(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let tube = shard.tubes.bosh.here.get(&key);
    if tube.is_some_and(|tube| tube.bosh.wants_output())
        && let Some(tube) = shard.tubes.bosh.here.remove(&key)
    {
        carry_out(shard, key, tube, Vec::new(), now, fx);
    }
}

/// Does what came of a request, then answers what need not wait.
fn carry_out(
    shard: &mut Shard,
    key: LinkKey,
    mut tube: Box<Tube>,
    actions: Vec<Action<'_, Ticket>>,
    now: Now,
    fx: &mut Effects,
) {
    let kind = tube.bosh.content_type();
    let mut lost = perform(shard, key, kind, actions, now, fx);
    let mut scanner = shard.scanners.pop().unwrap_or_default();
    let mut scratch = std::mem::take(&mut shard.tubes.scratch);
    let mut answers = Vec::new();
    tube.bosh.stall(unread_octets(shard, key) > 0);
    let output = shard.output(key);
    let taken = tube
        .bosh
        .settle(output, &mut scanner, &mut scratch, now.mono, &mut answers);
    shard.tubes.scratch = scratch;
    shard.give_scanner(scanner);
    if taken > 0 {
        shard.wrote(key, taken, now, fx);
    }
    lost |= perform(shard, key, kind, answers, now, fx);
    if lost || tube.bosh.is_over() {
        return bury(shard, key, &mut tube, now, fx);
    }
    arm(shard, key, &mut tube);
    shard.tubes.bosh.here.insert(key, tube);
}

/// Returns whether the client is given up.
fn perform(
    shard: &mut Shard,
    key: LinkKey,
    kind: ContentType,
    actions: Vec<Action<'_, Ticket>>,
    now: Now,
    fx: &mut Effects,
) -> bool {
    let mut lost = false;
    for action in actions {
        match action {
            Action::Open(opening) | Action::Restart(opening) => {
                let mut header = shard.core.pool.take();
                opening.write(&mut header);
                shard.receive(key, &header, now, fx);
                shard.core.pool.give(header);
            }
            Action::Elements(elements) => shard.receive(key, &elements, now, fx),
            Action::End => shard.receive(key, b"</stream:stream>", now, fx),
            Action::Lost => lost = true,
            Action::Answer {
                ticket,
                status,
                body,
            } => answer(shard, ticket, status, kind, body, now, fx),
        }
    }
    lost
}

fn answer(
    shard: &mut Shard,
    ticket: Ticket,
    status: u16,
    kind: ContentType,
    body: Arc<[u8]>,
    now: Now,
    fx: &mut Effects,
) {
    let Ticket { shard: to, link } = ticket;
    if to == shard.core.shard {
        return http::tube_answered(shard, link, status, kind, &body, now, fx);
    }
    fx.batch(to).post(Letter::Answer {
        link,
        status,
        kind,
        body,
    });
}

/// A request that no session takes.
fn refuse(shard: &mut Shard, ticket: Ticket, condition: Condition, now: Now, fx: &mut Effects) {
    let mut body = Vec::new();
    condition.write(&mut body);
    answer(shard, ticket, 200, ContentType::Xml, body.into(), now, fx);
}

/// The next deadline of the session, if it is earlier than what is set already.
fn arm(shard: &mut Shard, key: LinkKey, tube: &mut Tube) {
    let Some(at) = tube.bosh.next_deadline() else {
        return;
    };
    if tube.wakes.is_none_or(|set| at < set) {
        tube.wakes = Some(at);
        shard.core.wheel.set(at, Due::Tube(key));
    }
}

/// A deadline of a session.
pub fn due(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let set = shard.tubes.bosh.here.get(&key).and_then(|tube| tube.wakes);
    if set.is_none_or(|at| at > now.mono) {
        return;
    }
    let Some(mut tube) = shard.tubes.bosh.here.remove(&key) else {
        return;
    };
    tube.wakes = None;
    let mut actions = Vec::new();
    tube.bosh.expire(now.mono, &mut actions);
    carry_out(shard, key, tube, actions, now, fx);
}

/// The link of an authenticated tube moves to its home.
fn hand_off(shard: &mut Shard, key: LinkKey, to: ShardId, fx: &mut Effects) {
    let Some(mut tube) = shard.tubes.bosh.here.remove(&key) else {
        return;
    };
    let Some(stream) = shard.release(key) else {
        shard.tubes.bosh.here.insert(key, tube);
        return;
    };
    shard.tubes.prove(&mut tube.guest);
    shard.tubes.bosh.places.insert(tube.sid, Place::There(to));
    tube.wakes = None;
    let moving: Box<dyn Any + Send> = Box::new(Moving { tube, stream });
    fx.batch(to).post(Letter::Tube(moving));
}

fn adopt(shard: &mut Shard, moving: Moving, now: Now, fx: &mut Effects) {
    let Moving { tube, stream } = moving;
    let fresh = Link::new(Negotiation::clear(), tube.guest.peer, now.mono);
    let key = shard.links.insert_tube(fresh);
    shard.tubes.bosh.places.insert(tube.sid, Place::Here(key));
    shard.tubes.bosh.here.insert(key, tube);
    login::adopted(shard, key, *stream, now, fx);
    go_on(shard, key, now, fx);
}

/// Ends a tube now: who waits hears why.
fn drop_tube(shard: &mut Shard, key: LinkKey, condition: Condition, now: Now, fx: &mut Effects) {
    let Some(mut tube) = shard.tubes.bosh.here.remove(&key) else {
        return;
    };
    let mut actions = Vec::new();
    tube.bosh.terminate(condition, &mut actions);
    let kind = tube.bosh.content_type();
    perform(shard, key, kind, actions, now, fx);
    bury(shard, key, &mut tube, now, fx);
}

/// Nothing is left of a tube; a session that can be resumed waits for its client.
fn bury(shard: &mut Shard, key: LinkKey, tube: &mut Tube, now: Now, fx: &mut Effects) {
    shard.tubes.prove(&mut tube.guest);
    shard.tubes.bosh.places.remove(&tube.sid);
    if tube.born != shard.core.shard {
        let sid = tube.sid;
        fx.batch(tube.born).post(Letter::Left { sid });
    }
    shard.closed(key, now, fx);
}
