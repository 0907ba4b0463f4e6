//! Sessions of encke's own protocol (`docs/json.md`): [`transport::json`](crate::transport::json)
//! decides what becomes of requests and who gets which event.
//!
//! A session is born at the home of its account and stays there. The token that its client has
//! names the shard and the tube, so nothing is looked up, and whoever uses it comes to that shard
//! with its link: requests, readers and stream are in one place, and an event is one append to each
//! reader's queue.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use smallvec::SmallVec;
use subtle::ConstantTimeEq as _;

use self::wakes::{Tick, Wakes};
use super::{Guest, Room, Tubes, unread_octets};
use crate::base::slab::Mirror;
use crate::base::time::{Moment, Now};
use crate::engine::http::{self, events, session_answered};
use crate::engine::lifecycle::{self, Farewell};
use crate::engine::links::{Link, login_of};
use crate::engine::reading::bounds_of_stanzas;
use crate::engine::route;
use crate::engine::shard::Shard;
use crate::session::ctx::{Core, Ctx, Due};
use crate::session::effects::{Effects, LinkEffect, LinkKey, LinkTag};
use crate::session::parcel::{Letter, Ticket};
use crate::session::session::Flags;
use crate::store::ShardId;
use crate::stream::c2s::Negotiation;
use crate::stream::sasl::Bindings;
use crate::transport::json::problem::{self, Problem};
use crate::transport::json::request::{self, Asked};
use crate::transport::json::session::{Action, Answer, Kind, Opening, Session};
use crate::transport::json::{Cursor, Rules};

/// When a tube is woken.
mod wakes;

/// A stream of events and a WebSocket hear something at least this often: proxies close what is
/// silent for a minute.
const ALIVE: Duration = Duration::from_secs(50);
/// The longest requests that a stream may leave unread before more are refused.
const UNREAD_REQUESTS_MAX: usize = 4;

/// The sessions of a shard.
#[derive(Default)]
pub struct Sessions {
    /// By the tube's key; absent while a session is in the middle of something.
    here: Mirror<LinkTag, Box<Tube>>,
    /// What the last one was granted, for others like it.
    rules: Option<Arc<Rules>>,
    /// Who gets what is published.
    subscribers: HashMap<Arc<str>, Vec<LinkKey>, RandomState>,
    /// For reuse.
    actions: Vec<Action<LinkKey>>,
}

struct Tube {
    secret: [u8; 16],
    session: Session<LinkKey>,
    aside: Option<Box<Aside>>,
    wakes: Wakes,
    /// When readers are due a sign of life.
    alive: Tick,
    /// The stream tells of stored messages at once.
    is_prompt: bool,
}

/// One per session, a million times: a size of the allocator.
const _: () = assert!(size_of::<Tube>() <= 160);

/// What most tubes lack once they are logged in.
#[derive(Default)]
struct Aside {
    /// Until it has said who it is.
    guest: Option<Guest>,
    /// The client wants its token as a cookie, and whether for TLS only.
    cookie: Option<Secured>,
    /// What it subscribed to.
    topics: Vec<Arc<str>>,
}

impl Tube {
    /// It has said who it is, or is gone.
    fn prove(&mut self, tubes: &mut Tubes) {
        let aside = self.aside.as_deref_mut();
        if let Some(mut guest) = aside.and_then(|aside| aside.guest.take()) {
            tubes.prove(&mut guest);
        }
    }

    /// What it subscribed to.
    fn topics(&self) -> &[Arc<str>] {
        self.aside.as_deref().map_or(&[], |aside| &aside.topics)
    }

    /// Puts away what is not needed any more.
    fn rest(&mut self) {
        let is_nothing = |aside: &mut Box<Aside>| {
            aside.guest.is_none() && aside.cookie.is_none() && aside.topics.is_empty()
        };
        self.aside.take_if(is_nothing);
    }
}

/// Whether a cookie may go out in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secured {
    No,
    Yes,
}

/// The token of a session, in 52 hexadecimal digits: where it is, and that its holder may use it.
#[derive(Clone, Copy)]
pub struct Name {
    shard: ShardId,
    key: LinkKey,
    secret: u128,
}

impl Name {
    /// Reads a token.
    pub fn parse(text: &str) -> Option<Self> {
        let is_lower = |octet: u8| octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet);
        if text.len() != 52 || !text.bytes().all(is_lower) {
            return None;
        }
        let (shard, rest) = text.split_at_checked(4)?;
        let (key, secret) = rest.split_at_checked(16)?;
        Some(Self {
            shard: u16::from_str_radix(shard, 16).ok()?,
            key: LinkKey::from_bits(u64::from_str_radix(key, 16).ok()?),
            secret: u128::from_str_radix(secret, 16).ok()?,
        })
    }

    fn text(self) -> String {
        let Self { shard, key, secret } = self;
        format!("{shard:04x}{:016x}{secret:032x}", key.to_bits())
    }
}

/// Where the session of a token is.
pub enum Found {
    Here(LinkKey),
    There(ShardId),
    Nowhere,
}

impl Sessions {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.here.len()
    }

    /// Entries of all lists.
    pub fn entries(&self) -> usize {
        self.here.len() + self.subscribers.len()
    }

    /// Whether a tube is one of them, and not in the middle of something.
    pub fn is_here(&self, key: LinkKey) -> bool {
        self.get(key).is_some()
    }

    /// A tube of which nothing is left.
    pub fn forget(&mut self, key: LinkKey) {
        self.here.remove(key.unmarked());
        self.subscribers.retain(|_, subscribers| {
            subscribers.retain(|other| *other != key);
            !subscribers.is_empty()
        });
    }

    fn get(&self, key: LinkKey) -> Option<&Tube> {
        self.here.get(key.unmarked()).map(Box::as_ref)
    }

    fn get_mut(&mut self, key: LinkKey) -> Option<&mut Tube> {
        self.here.get_mut(key.unmarked()).map(Box::as_mut)
    }

    fn rules(&mut self, core: &Core) -> Arc<Rules> {
        let limits = &core.policy.limits;
        let defaults = Rules::default();
        let rules = Rules {
            login_timeout: limits.login_timeout,
            poll_timeout: limits.json_poll_timeout,
            grace: limits.json_grace,
            stanza_octets_max: limits.stanza_octets_max,
            unacknowledged_max: u32::try_from(limits.queue_stanzas_max / 2).unwrap_or(u32::MAX),
            replay_octets_max: defaults.replay_octets_max.min(limits.queue_octets_max / 2),
            topics: core.policy.http.topics.clone(),
            ..defaults
        };
        match &self.rules {
            Some(same) if **same == rules => same.clone(),
            _ => self.rules.insert(Arc::new(rules)).clone(),
        }
    }

    fn subscribe(&mut self, key: LinkKey, topics: &mut Vec<Arc<str>>, topic: Arc<str>) {
        topics.push(topic.clone());
        self.subscribers.entry(topic).or_default().push(key);
    }

    fn unsubscribe(&mut self, key: LinkKey, topic: &Arc<str>) {
        let Some(subscribers) = self.subscribers.get_mut(topic) else {
            return;
        };
        if let Some(at) = subscribers.iter().position(|other| *other == key) {
            subscribers.swap_remove(at);
        }
        if subscribers.is_empty() {
            self.subscribers.remove(topic);
        }
    }

    fn take(&mut self, key: LinkKey) -> Option<Box<Tube>> {
        self.here.remove(key.unmarked())
    }

    fn put(&mut self, key: LinkKey, tube: Box<Tube>) {
        self.here.place(key.unmarked(), tube);
    }
}

/// Looks for the session of a token.
pub fn find(shard: &Shard, name: &Name) -> Found {
    if name.shard != shard.core.shard {
        return match name.shard < shard.core.shards {
            true => Found::There(name.shard),
            false => Found::Nowhere,
        };
    }
    let tube = shard.tubes.json.get(name.key);
    let is_same = |tube: &Tube| {
        let given = name.secret.to_ne_bytes();
        bool::from(tube.secret.ct_eq(&given))
    };
    match name.key.is_marked() && tube.is_some_and(is_same) {
        true => Found::Here(name.key),
        false => Found::Nowhere,
    }
}

/// A session is asked for by the request of `link`. The answer comes by
/// [`session_answered`].
///
/// # Errors
/// There is no room, or the server stops.
pub fn open(
    shard: &mut Shard,
    link: LinkKey,
    opening: &Opening<'_>,
    peer: IpAddr,
    cookie: Option<Secured>,
    now: Now,
    fx: &mut Effects,
) -> Result<(), Problem> {
    if shard.stopping {
        return Err(problem::STOPPING);
    }
    match shard.tubes.room(peer, &shard.core) {
        Room::Free => {}
        Room::NotForThisAddress => return Err(problem::TOO_MANY),
        Room::None => return Err(problem::NO_ROOM),
    }
    let mut negotiation = Negotiation::clear();
    // There is no STARTTLS here: the link is as secure as it will be.
    negotiation.secured(Bindings::default());
    let key = shard
        .links
        .insert_tube(Link::new(negotiation, peer, now.mono));
    let name = Name {
        shard: shard.core.shard,
        key,
        secret: shard.core.random(),
    };
    // Cursors of one session mean nothing to the next one of the same tube.
    let epoch = shard.core.random() as u32;
    let rules = shard.tubes.json.rules(&shard.core);
    let mut actions = Vec::new();
    let session = Session::open(
        opening,
        link,
        &name.text(),
        epoch,
        rules,
        now.mono,
        &mut actions,
    );
    let tube = Box::new(Tube {
        secret: name.secret.to_ne_bytes(),
        session,
        aside: Some(Box::new(Aside {
            guest: Some(shard.tubes.admit(peer)),
            cookie,
            topics: Vec::new(),
        })),
        wakes: Wakes::default(),
        alive: Tick::of(now.mono),
        is_prompt: false,
    });
    http::attend_session(shard, link, key);
    carry_out(shard, key, tube, actions, now, fx);
    Ok(())
}

/// Does something with a session, then everything that follows of it.
fn visit(
    shard: &mut Shard,
    key: LinkKey,
    now: Now,
    fx: &mut Effects,
    act: impl FnOnce(&mut Session<LinkKey>, &mut Vec<Action<LinkKey>>),
) {
    if let Some(mut tube) = shard.tubes.json.take(key) {
        let mut actions = std::mem::take(&mut shard.tubes.json.actions);
        note_taken(shard, &mut tube, now, &mut actions);
        act(&mut tube.session, &mut actions);
        carry_out(shard, key, tube, actions, now, fx);
    }
}

/// Readers whose links have taken everything have room again. Only who waits for room is told so at
/// once ([`taken`]): that would be one visit more for each event.
fn note_taken(shard: &mut Shard, tube: &mut Tube, now: Now, actions: &mut Vec<Action<LinkKey>>) {
    let readers: SmallVec<[LinkKey; 4]> = tube.session.streams().collect();
    for link in readers {
        if events::has_taken_all(shard, link) {
            tube.session.taken(link, now.mono, actions);
        }
    }
}

/// The next step of a login.
pub fn respond(
    shard: &mut Shard,
    key: LinkKey,
    link: LinkKey,
    response: &str,
    now: Now,
    fx: &mut Effects,
) {
    http::attend_session(shard, link, key);
    visit(shard, key, now, fx, |session, actions| {
        session.respond(link, response, actions);
    });
}

/// A request, of a link or of a reader over WebSocket.
pub fn request(
    shard: &mut Shard,
    key: LinkKey,
    link: LinkKey,
    asked: Asked<'_>,
    now: Now,
    fx: &mut Effects,
) {
    http::attend_session(shard, link, key);
    if is_stuck(shard, key) {
        return visit(shard, key, now, fx, |session, actions| {
            let id = asked.request_id.as_deref();
            session.refuse_request(link, id, problem::TOO_MANY, actions);
        });
    }
    visit(shard, key, now, fx, |session, actions| {
        session.request(link, asked, now.mono, actions);
    });
}

/// Whether the stream waits for something and has enough to do then.
fn is_stuck(shard: &Shard, key: LinkKey) -> bool {
    let bound = shard.core.policy.limits.stanza_octets_max * UNREAD_REQUESTS_MAX;
    unread_octets(shard, key) > bound
}

/// A text message of a reader.
pub fn said(
    shard: &mut Shard,
    key: LinkKey,
    link: LinkKey,
    text: &[u8],
    now: Now,
    fx: &mut Effects,
) {
    let mut scanner = shard.scanners.pop().unwrap_or_default();
    let bounds = bounds_of_stanzas(&shard.core);
    match request::read(text, None, &mut scanner, &bounds) {
        Ok(asked) => request(shard, key, link, asked, now, fx),
        Err(why) => visit(shard, key, now, fx, |session, actions| {
            let id = request::name_of(text, bounds.octets_max);
            session.refuse_request(link, id.as_deref(), why, actions);
        }),
    }
    shard.give_scanner(scanner);
}

/// The request of `link` becomes a reader.
pub fn attach(
    shard: &mut Shard,
    key: LinkKey,
    link: LinkKey,
    kind: Kind,
    cursor: Option<Cursor>,
    now: Now,
    fx: &mut Effects,
) {
    http::attend_session(shard, link, key);
    if let Some(tube) = shard.tubes.json.get_mut(key)
        && tube.session.streams().next().is_none()
    {
        tube.alive = Tick::of(now.mono.after(ALIVE));
    }
    if let Some(mut tube) = shard.tubes.json.take(key) {
        let mut actions = std::mem::take(&mut shard.tubes.json.actions);
        note_taken(shard, &mut tube, now, &mut actions);
        let address = shard.address(key);
        tube.session
            .attach(link, kind, cursor, address, now.mono, &mut actions);
        carry_out(shard, key, tube, actions, now, fx);
    }
}

/// The link of a reader that waited for room has taken everything.
pub fn taken(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    visit(shard, key, now, fx, |_, _| {});
    shard.finish_input(now, fx);
}

/// The link of a reader, or of a request that waits, is gone. `has_all`: it took everything first.
pub fn gone(
    shard: &mut Shard,
    key: LinkKey,
    link: LinkKey,
    has_all: bool,
    now: Now,
    fx: &mut Effects,
) {
    visit(shard, key, now, fx, |session, actions| {
        if has_all {
            session.taken(link, now.mono, actions);
        }
        session.detach(link, now.mono, actions);
    });
}

/// Since when nobody has read a session, or asked it for anything; `None`: somebody does.
pub fn unread_since(shard: &Shard, key: LinkKey) -> Option<Moment> {
    shard.tubes.json.get(key)?.session.unread_since()
}

/// Whether the login of a session is done.
pub fn is_open(shard: &Shard, key: LinkKey) -> bool {
    let tube = shard.tubes.json.get(key);
    tube.is_some_and(|tube| tube.session.is_open())
}

/// Ends a session that nobody reads as when its grace time is over.
pub fn give_up(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    visit(shard, key, now, fx, |session, actions| {
        session.finish(problem::GRACE_OVER, actions);
    });
}

/// What a session says of itself.
pub fn describe(shard: &Shard, key: LinkKey) -> Option<Answer> {
    let tube = shard.tubes.json.get(key)?;
    Some(tube.session.describe(shard.address(key)))
}

/// What a program published, to all shards. A topic has a home, as accounts have: everything goes
/// there first, so that all shards hear it in one order. Who published it is answered when it is on
/// its way from there: whoever comes later comes behind it.
pub fn publish(
    shard: &mut Shard,
    ticket: Ticket,
    topic: &Arc<str>,
    json: &Arc<[u8]>,
    now: Now,
    fx: &mut Effects,
) {
    let (here, home) = (shard.core.shard, shard.core.home(topic));
    if home != here {
        return fx.batch(home).post(Letter::Publish {
            ticket,
            topic: topic.clone(),
            json: json.clone(),
        });
    }
    for to in (0..shard.core.shards).filter(|to| *to != here) {
        fx.batch(to).post(Letter::Publication {
            topic: topic.clone(),
            json: json.clone(),
        });
    }
    published(shard, topic, json, now, fx);
    let link = ticket.link;
    match ticket.shard == here {
        true => was_published(shard, link, now, fx),
        false => fx.batch(ticket.shard).post(Letter::Published { link }),
    }
}

/// The request of a link was to publish something, which is on its way.
pub fn was_published(shard: &mut Shard, link: LinkKey, now: Now, fx: &mut Effects) {
    session_answered(shard, link, &Answer::accepted(), None, now, fx);
}

/// A publication, for the subscribers of this shard.
pub fn published(
    shard: &mut Shard,
    topic: &Arc<str>,
    json: &Arc<[u8]>,
    now: Now,
    fx: &mut Effects,
) {
    // Who goes meanwhile is not there when its turn comes; nobody comes.
    let subscribers = shard.tubes.json.subscribers.get(topic);
    for key in subscribers.cloned().unwrap_or_default() {
        visit(shard, key, now, fx, |session, actions| {
            session.publish(json, now.mono, actions);
        });
    }
}

/// The administrator decided anew.
pub fn reloaded(shard: &mut Shard) {
    let Shard { tubes, core, .. } = shard;
    let rules = tubes.json.rules(core);
    let keys: Vec<_> = tubes
        .json
        .here
        .iter()
        .map(|(key, _)| key.marked())
        .collect();
    for key in keys {
        if let Some(tube) = tubes.json.get_mut(key) {
            tube.session.govern(rules.clone());
        }
    }
}

/// The server stops: sessions end in order, which stores what nobody confirmed.
pub fn stop(shard: &mut Shard, now: Now, fx: &mut Effects) {
    let keys = shard.tubes.json.here.iter().map(|(key, _)| key.marked());
    for key in keys.collect::<Vec<_>>() {
        visit(shard, key, now, fx, |session, actions| {
            session.finish(problem::STOPPING, actions);
        });
    }
}

/// Does what the engine asked for.
pub fn apply(shard: &mut Shard, key: LinkKey, effect: LinkEffect, now: Now, fx: &mut Effects) {
    match effect {
        LinkEffect::Flush | LinkEffect::Close | LinkEffect::Resume => {
            visit(shard, key, now, fx, |_, _| {});
        }
        LinkEffect::Authenticated => {
            if let Some(mut tube) = shard.tubes.json.take(key) {
                tube.prove(&mut shard.tubes);
                tube.rest();
                shard.tubes.json.put(key, tube);
            }
        }
        // The session was born at the home of the account that it was asked for, so this is
        // another one.
        LinkEffect::HandOff(_) => visit(shard, key, now, fx, |session, actions| {
            session.abandon(problem::WRONG_ACCOUNT, actions);
        }),
        LinkEffect::Abort => visit(shard, key, now, fx, |session, actions| {
            session.abandon(problem::SESSION_ENDED, actions);
        }),
        // What comes while a stream does not read waits as its unread octets, within a bound.
        LinkEffect::Pause | LinkEffect::StartTls => {}
    }
}

/// Does what came of something, gives the stream's output to the session, and so on until nothing
/// comes of it any more.
fn carry_out(
    shard: &mut Shard,
    key: LinkKey,
    mut tube: Box<Tube>,
    mut actions: Vec<Action<LinkKey>>,
    now: Now,
    fx: &mut Effects,
) {
    let mut scanner = shard.scanners.pop().unwrap_or_default();
    let mut scratch = std::mem::take(&mut shard.tubes.scratch);
    loop {
        // What this brings for other tubes waits in its lane.
        perform(shard, key, &mut tube, &mut actions, now, fx);
        let (output, address) = (shard.output(key), shard.address(key));
        let (scanner, scratch) = (&mut *scanner, &mut scratch);
        let taken = tube
            .session
            .settle(output, address, scanner, scratch, now.mono, &mut actions);
        if taken > 0 {
            shard.wrote(key, taken, now, fx);
        }
        if actions.is_empty() {
            break;
        }
    }
    shard.tubes.scratch = scratch;
    shard.tubes.json.actions = actions;
    shard.give_scanner(scanner);
    if tube.session.is_over() {
        tube.prove(&mut shard.tubes);
        for topic in tube.topics() {
            shard.tubes.json.unsubscribe(key, topic);
        }
        end_stream(shard, key, now, fx);
        return shard.closed(key, now, fx);
    }
    if !tube.is_prompt {
        tube.is_prompt = make_prompt(shard, key);
    }
    for link in tube.session.awaited() {
        events::await_room(shard, link);
    }
    arm(shard, key, &mut tube, now);
    tube.rest();
    shard.tubes.json.put(key, tube);
}

/// Nobody can resume the stream of a session that is over, so it ends, even if it has not read that
/// it shall: what its client has not confirmed is stored at once.
fn end_stream(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let Some(session) = shard.links.get(key).and_then(Link::session) else {
        return;
    };
    let core = &mut shard.core;
    let mut ctx = Ctx { core, fx, now };
    lifecycle::end(&mut ctx, session, Farewell::Silent);
    route::drain_local(&mut ctx);
    shard.adopt_orphans(fx);
}

fn perform(
    shard: &mut Shard,
    key: LinkKey,
    tube: &mut Tube,
    actions: &mut Vec<Action<LinkKey>>,
    now: Now,
    fx: &mut Effects,
) {
    let mut lost: SmallVec<[LinkKey; 4]> = SmallVec::new();
    for action in actions.drain(..) {
        match action {
            Action::Stream(octets) => shard.receive(key, &octets, now, fx),
            Action::Answer { ticket, mut answer } => {
                if answer.retry_after.is_some() {
                    answer.retry_after = must_wait(shard, key, now).or(answer.retry_after);
                }
                let aside = tube.aside.as_deref_mut().filter(|_| answer.status == 201);
                let cookie = aside.and_then(|aside| aside.cookie.take());
                let name = Name {
                    shard: shard.core.shard,
                    key,
                    secret: u128::from_ne_bytes(tube.secret),
                };
                let token = cookie.map(|secured| (name.text(), secured));
                session_answered(shard, ticket, &answer, token, now, fx);
            }
            Action::Begin { ticket } => events::begin(shard, ticket, key, fx),
            Action::Event { ticket, event } => {
                if !events::write(shard, ticket, &event, fx) {
                    lost.push(ticket);
                }
            }
            Action::End { ticket } => events::end(shard, ticket, fx),
            Action::Topic { topic, is_wanted } => {
                let sessions = &mut shard.tubes.json;
                let topics = &mut tube.aside.get_or_insert_default().topics;
                match (is_wanted, topics.iter().position(|one| *one == topic)) {
                    (true, None) => sessions.subscribe(key, topics, topic),
                    (false, Some(at)) => sessions.unsubscribe(key, &topics.swap_remove(at)),
                    _ => {}
                }
            }
            Action::Lost => {}
        }
    }
    for ticket in lost {
        tube.session.detach(ticket, now.mono, actions);
    }
}

/// For how many seconds a login would be refused, if that is why it is.
fn must_wait(shard: &mut Shard, key: LinkKey, now: Now) -> Option<u32> {
    let login = login_of(&mut shard.links, key).filter(|login| !login.authenticated)?;
    let account = login.negotiation.claimed()?.as_str();
    let wait = shard.backoff.wait(login.peer, account, now.mono)?;
    u32::try_from(wait.as_millis().div_ceil(1_000)).ok()
}

/// Whoever waits for a message to be stored waits for the stream to say so.
fn make_prompt(shard: &mut Shard, key: LinkKey) -> bool {
    let session = shard.links.get(key).and_then(Link::session);
    let session = session.and_then(|session| shard.core.sessions.get_mut(session));
    session.is_some_and(|session| session.flags.set(Flags::PROMPT))
}

/// The next deadline, if it is earlier than what is set already.
fn arm(shard: &mut Shard, key: LinkKey, tube: &mut Tube, now: Now) {
    let alive = match tube.session.streams().next() {
        Some(_) => tube.alive.moment(now.mono),
        None => Moment(u64::MAX),
    };
    let next = tube.session.next_deadline().unwrap_or(alive).min(alive);
    if next < Moment(u64::MAX) && tube.wakes.add(next) {
        shard.core.wheel.set(next, Due::Tube(key));
    }
}

/// A deadline of a session.
pub fn due(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    let Some(mut tube) = shard.tubes.json.take(key) else {
        return;
    };
    if !tube.wakes.take(now.mono) {
        return shard.tubes.json.put(key, tube);
    }
    let mut actions = std::mem::take(&mut shard.tubes.json.actions);
    note_taken(shard, &mut tube, now, &mut actions);
    tube.session.expire(now.mono, &mut actions);
    if tube.alive.has_come(now.mono) {
        tube.alive = Tick::of(now.mono.after(ALIVE));
        for link in tube.session.streams() {
            events::show_life(shard, link, fx);
        }
    }
    carry_out(shard, key, tube, actions, now, fx);
}

#[cfg(test)]
mod tests;
