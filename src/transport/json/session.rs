//! Who gets what, and when.
//!
//! A [`Session`] stands beside a stream, which it speaks for its client. It is given requests and
//! readers, and by [`Session::settle`] what the stream wrote. Events have numbers without holes;
//! each reader gets all behind its cursor, in order, each once.
//!
//! A message from the stream is acknowledged to it (XEP-0198) when a reader said that it has the
//! event, or when the link of some reader took it and it is older than what is kept. So what
//! nobody got is still the stream's when a session ends, which stores it. Presence and answers,
//! which no stream stores, are acknowledged as they are.

/// What the stream wrote.
mod hearing;
/// The stream until it is bound.
mod login;
/// Readers, and what they are given.
mod readers;
/// Names of messages that were stored.
mod remembered;
/// What is asked for.
mod requests;
/// What most sessions lack most of the time.
mod seldom;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use smol_str::SmolStr;

pub use login::{Credentials, Opening};
pub use readers::Kind;

use self::login::Login;
use self::readers::Reader;
use self::remembered::Remembered;
use self::requests::{ASK_MAX, Ask, Sending};
use self::seldom::{Rare, Seldom};
use super::event::{Class, Event};
use super::problem::{self, Foreign, Problem};
use super::writer::Object;
use super::{Cursor, Rules};
use crate::base::time::Moment;

/// What the engine does next, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<T> {
    /// The stream gets these octets, as from a client on TCP. [`Session::settle`] answers.
    Stream(Vec<u8>),
    /// The request of this ticket is answered; it is done with.
    Answer { ticket: T, answer: Answer },
    /// The reader is taken: its answer begins, and goes on until [`Action::End`].
    Begin { ticket: T },
    /// The reader gets an event.
    Event { ticket: T, event: Event },
    /// The reader gets no more; it is done with.
    End { ticket: T },
    /// Publications to this topic are to be given to [`Session::publish`], or no longer.
    Topic { topic: Arc<str>, is_wanted: bool },
    /// There is nothing behind the stream any more: as when a link on TCP breaks.
    Lost,
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub media: Media,
    pub body: Arc<[u8]>,
    /// Of a poll: for its `ETag`.
    pub cursor: Option<Cursor>,
    /// Seconds: for its `Retry-After`.
    pub retry_after: Option<u32>,
}

/// The type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    Problem,
}

impl Answer {
    /// What was asked for is under way.
    pub fn accepted() -> Self {
        answer(202, Vec::new())
    }

    /// The stream refused it.
    fn foreign(why: &Foreign) -> Self {
        Self {
            status: why.status,
            media: Media::Problem,
            body: why.to_json().into(),
            cursor: None,
            retry_after: why.retry_after(),
        }
    }

    /// A request is refused.
    pub fn refusal(why: Problem) -> Self {
        Self {
            status: why.status,
            media: Media::Problem,
            body: why.to_json().into(),
            cursor: None,
            retry_after: why.retry_after(),
        }
    }
}

impl Media {
    /// The value of `Content-Type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Problem => "application/problem+json",
        }
    }
}

/// A session of encke's own protocol. `T` names the link and the request that waits.
#[derive(Debug)]
pub struct Session<T> {
    rules: Arc<Rules>,
    phase: Phase,
    /// The stream has not said yet who is in the roster.
    awaits_roster: bool,
    /// An event was forgotten before anybody was given it.
    has_dropped: bool,
    epoch: u32,
    login: Option<Box<Login<T>>>,
    readers: SmallVec<[Reader<T>; 1]>,
    /// The number of the next event.
    next: u64,
    log: Seldom<Log>,
    /// Stanzas that were taken from the stream.
    received: u32,
    /// Of these, what the stream was told last.
    told: u32,
    /// Stanzas that were given to the stream.
    sent: u32,
    work: Seldom<Work<T>>,
    /// Since when there is no reader.
    idle_since: Moment,
    /// [`Session::expire`] has nothing to do before this. May be too early, and never late: so
    /// nobody has to look through everything for each message.
    deadline: Moment,
}

/// A million sessions that do nothing have one each.
const _: () = assert!(size_of::<Session<u64>>() <= 120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Login,
    Open,
    Over,
}

/// Events that may be asked for again. While there are none, all before the next one are given and
/// confirmed.
///
/// It is of a size that nothing has that stays: when many of them go, whole pages are left.
#[derive(Debug)]
#[repr(align(32))]
struct Log {
    kept: VecDeque<Kept>,
    kept_octets: usize,
    /// Of these, what nobody was given.
    backlog_octets: usize,
    /// The number of the first event that no link of a reader took.
    ungiven: u64,
    /// The last event that a reader said it has.
    confirmed: u64,
    /// No event behind the confirmed ones and before this one is owed.
    owed_from: u64,
    /// Stanzas before that event, if it is owed.
    owed: Option<u32>,
}

/// What is under way, and what is remembered of it.
#[derive(Debug)]
struct Work<T> {
    /// When the stream is told what is left: until then it keeps more than it must.
    tell_at: Moment,
    /// Who is there, by address, with the event that said so.
    present: Vec<(Box<str>, Event)>,
    present_octets: usize,
    sending: VecDeque<Sending<T>>,
    remembered: Remembered,
    asks: Vec<Ask<T>>,
    /// Publications that found no room since the last one that did.
    missed: u32,
}

impl Log {
    /// Before the event of this number, which is the first one that is kept.
    const fn before(next: u64) -> Self {
        Self {
            kept: VecDeque::new(),
            kept_octets: 0,
            backlog_octets: 0,
            ungiven: next,
            confirmed: next.saturating_sub(1),
            owed_from: next,
            owed: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::before(0)
    }
}

impl Rare for Log {
    const NOTHING: &'static Self = &Self::before(0);

    fn is_nothing(&self) -> bool {
        self.kept.is_empty()
    }
}

impl<T> Work<T> {
    const fn nothing() -> Self {
        Self {
            tell_at: Moment(u64::MAX),
            present: Vec::new(),
            present_octets: 0,
            sending: VecDeque::new(),
            remembered: Remembered::nothing(),
            asks: Vec::new(),
            missed: 0,
        }
    }
}

impl<T> Default for Work<T> {
    fn default() -> Self {
        Self::nothing()
    }
}

impl<T: 'static> Rare for Work<T> {
    const NOTHING: &'static Self = &Self::nothing();

    fn is_nothing(&self) -> bool {
        self.tell_at == Moment(u64::MAX)
            && self.present.is_empty()
            && self.sending.is_empty()
            && self.remembered.oldest().is_none()
            && self.asks.is_empty()
            && self.missed == 0
    }
}

/// An event that may be asked for again.
#[derive(Debug)]
struct Kept {
    json: Arc<[u8]>,
    since: Moment,
    /// Stanzas from the stream before the one that this came of.
    before: u32,
    class: Class,
}

/// There are many of them. Two, as after a login, do not take the room of what stays longer.
const _: () = assert!(size_of::<Kept>() <= 32);

impl<T: Copy + PartialEq + 'static> Session<T> {
    /// The session that `opening` asks for: 201 answers `ticket` when it is ready, 200 when the
    /// client has to say more ([`Session::respond`]), a problem otherwise. `token` is ours for it:
    /// unique, and not to be guessed. Then: [`Session::settle`].
    pub fn open(
        opening: &Opening<'_>,
        ticket: T,
        token: &str,
        epoch: u32,
        rules: Arc<Rules>,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) -> Self {
        let login = Login::begin(opening, ticket, token, now);
        actions.push(Action::Stream(login.header()));
        Self {
            phase: Phase::Login,
            awaits_roster: false,
            has_dropped: false,
            epoch,
            login: Some(Box::new(login)),
            readers: SmallVec::new(),
            next: 1,
            log: Seldom::default(),
            received: 0,
            told: 0,
            sent: 0,
            work: Seldom::default(),
            deadline: now.after(rules.login_timeout),
            idle_since: now,
            rules,
        }
    }

    /// What it is granted is something else from here on.
    pub fn govern(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        self.deadline = self.earliest();
    }

    /// When [`Session::expire`] must be called. `None`: the session is over.
    pub fn next_deadline(&self) -> Option<Moment> {
        debug_assert!(self.deadline <= self.earliest(), "nothing is due before");
        (!self.is_over()).then_some(self.deadline)
    }

    /// Something is due then.
    fn due_by(&mut self, at: Moment) {
        self.deadline = self.deadline.min(at);
    }

    /// When the first of all that waits is due.
    fn earliest(&self) -> Moment {
        if self.is_over() {
            return Moment(u64::MAX);
        }
        if let Some(login) = &self.login {
            return login.since.after(self.rules.login_timeout);
        }
        let polls = self.readers.iter().filter_map(Reader::held_since);
        let polls = polls.map(|since| since.after(self.rules.poll_timeout));
        let idle = self.readers.is_empty();
        let idle = idle.then(|| self.idle_since.after(self.rules.grace));
        let oldest = self.log.kept.front();
        let oldest = oldest.filter(|_| self.first() < self.log.ungiven);
        let oldest = oldest.map(|kept| kept.since.after(self.rules.replay));
        let remembered = self.work.remembered.oldest();
        let remembered = remembered.map(|since| since.after(self.rules.remembered));
        let asks = self.work.asks.iter().map(|ask| ask.since.after(ASK_MAX));
        let waiting = polls
            .chain(idle)
            .chain(oldest)
            .chain(remembered)
            .chain(asks);
        waiting.fold(self.work.tell_at, Moment::min)
    }

    /// Answers polls that have waited long enough, forgets what is old, or gives the client up.
    pub fn expire(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        if self.is_over() || self.deadline > now {
            return;
        }
        self.deadline = self.earliest();
        if self.deadline > now {
            return;
        }
        if self.phase == Phase::Login {
            return self.abandon(problem::SESSION_ENDED, actions);
        }
        if self.readers.is_empty() && self.idle_since.after(self.rules.grace) <= now {
            return self.finish(problem::GRACE_OVER, actions);
        }
        self.answer_late_polls(now, actions);
        if let Some(work) = self.work.get_mut() {
            let lifetime = self.rules.remembered;
            let is_old = |since: Moment| since.after(lifetime) <= now;
            work.remembered.forget(is_old);
        }
        self.forget_old(now);
        self.give_asks_up(now, actions);
        self.tell(1, now, actions);
        self.rest();
        self.deadline = self.earliest();
    }

    /// What a burst needed is given back.
    fn rest(&mut self) {
        self.log.rest();
        if let Some(log) = self.log.get_mut() {
            log.kept.shrink_to_fit();
        }
        self.work.rest();
        if let Some(work) = self.work.get_mut() {
            work.present.shrink_to_fit();
            if work.sending.is_empty() {
                work.sending = VecDeque::new();
            }
            if work.asks.is_empty() {
                work.asks = Vec::new();
            }
        }
    }

    /// The session is over for the client: after what it asked for before, the stream ends in
    /// order, which says unavailable and stores what nobody got.
    pub fn finish(&mut self, why: Problem, actions: &mut Vec<Action<T>>) {
        let mut octets = Vec::new();
        self.write_handled(&mut octets);
        octets.extend_from_slice(b"</stream:stream>");
        actions.push(Action::Stream(octets));
        self.abandon(why, actions);
    }

    /// Ends the session from the server's side: readers and whoever waits are told `why`.
    pub fn abandon(&mut self, why: Problem, actions: &mut Vec<Action<T>>) {
        if self.is_over() {
            return;
        }
        let mut json = Vec::new();
        let mut object = Object::begin(&mut json);
        object
            .text("type", "closed")
            .object("problem", |object| why.write_members(object));
        object.end();
        self.end(&json, &Answer::refusal(why), actions);
    }

    fn end(&mut self, closed: &[u8], refusal: &Answer, actions: &mut Vec<Action<T>>) {
        let refused = |ticket| Action::Answer {
            ticket,
            answer: refusal.clone(),
        };
        self.phase = Phase::Over;
        if let Some(login) = self.login.take() {
            actions.extend(login.ticket.map(refused));
        }
        // What became of it nobody knows, whatever ended the session.
        let Work { sending, asks, .. } = std::mem::take(&mut *self.work);
        for ticket in sending.into_iter().flat_map(|sending| sending.waiting) {
            let answer = Answer::refusal(problem::SESSION_ENDED);
            actions.push(Action::Answer { ticket, answer });
        }
        for ask in asks {
            self.refuse(ask.ticket, ask.request_id, problem::SESSION_ENDED, actions);
        }
        let closed = Event {
            id: None,
            name: "closed",
            json: closed.into(),
        };
        for reader in std::mem::take(&mut self.readers) {
            let ticket = reader.ticket;
            if reader.held_since().is_some() {
                actions.push(refused(ticket));
                continue;
            }
            let event = closed.clone();
            actions.push(Action::Event { ticket, event });
            actions.push(Action::End { ticket });
        }
        self.log = Seldom::default();
        self.work = Seldom::default();
        actions.push(Action::Lost);
    }

    /// Whether the login is done, and nothing has ended it.
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Since when there is neither a reader nor a request; `None`: there is, or the session is not
    /// open.
    pub fn unread_since(&self) -> Option<Moment> {
        let waits = |sending: &Sending<T>| !sending.waiting.is_empty();
        let is_asked = !self.work.asks.is_empty() || self.work.sending.iter().any(waits);
        let is_unread = self.readers.is_empty() && self.is_open();
        (is_unread && !is_asked).then_some(self.idle_since)
    }

    /// Whether nothing will come of this session any more.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Where a reader is that has everything.
    pub const fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            offset: self.next - 1,
        }
    }

    /// Whose it is, and where a reader is that has everything.
    pub fn describe(&self, address: &str) -> Answer {
        if self.phase != Phase::Open {
            return Answer::refusal(problem::NOT_READY);
        }
        let mut body = Vec::new();
        let mut object = Object::begin(&mut body);
        object
            .text("jid", address)
            .text("cursor", &self.cursor().to_string());
        object.end();
        answer(200, body)
    }

    /// Readers that get events until they go.
    pub fn streams(&self) -> impl Iterator<Item = T> + use<'_, T> {
        let streams = self.readers.iter();
        let streams = streams.filter(|reader| reader.held_since().is_none());
        streams.map(|reader| reader.ticket)
    }

    /// Of these, whose links make room, for them or for the stream, by taking what they were given.
    pub fn awaited(&self) -> impl Iterator<Item = T> + use<'_, T> {
        let is_full = !self.has_room();
        let lacks = move |reader: &&Reader<T>| is_full || reader.next < self.next;
        let streams = self.readers.iter().filter(lacks);
        let streams = streams.filter(|reader| reader.held_since().is_none());
        streams.map(|reader| reader.ticket)
    }

    /// The number of the oldest event that is kept; the next one's, if none is.
    fn first(&self) -> u64 {
        self.next - self.log.kept.len() as u64
    }

    /// Keeps an event, and gives it to readers later, by [`Session::give`].
    fn keep_written(&mut self, class: Class, before: u32, json: &[u8], now: Moment) {
        self.keep_shared(class, before, json.into(), now);
    }

    fn keep_shared(&mut self, class: Class, before: u32, json: Arc<[u8]>, now: Moment) {
        let log = self.log.make(|| Log::before(self.next));
        log.kept_octets += json.len();
        log.backlog_octets += json.len();
        log.kept.push_back(Kept {
            json,
            since: now,
            before,
            class,
        });
        self.next += 1;
        self.due_by(now.after(self.rules.replay));
        if self.log.backlog_octets > self.rules.backlog_octets_max {
            self.trim();
        }
    }

    /// A program publishes to a topic of this session ([`topic::publication`]). While nobody reads,
    /// a topic has no more room than stanzas have; what finds none is only counted, for nobody
    /// keeps it.
    pub fn publish(&mut self, json: &Arc<[u8]>, now: Moment, actions: &mut Vec<Action<T>>) {
        if self.phase != Phase::Open {
            return;
        }
        if !self.has_room() {
            self.work.missed = self.work.missed.saturating_add(1);
            return;
        }
        if self.work.missed > 0 {
            let missed = std::mem::take(&mut self.work.missed);
            let mut json = Vec::with_capacity(40);
            write_start(&mut json, Class::Missed);
            let _ = write!(json, ",\"count\":{missed}}}");
            self.keep_written(Class::Missed, self.received, &json, now);
        }
        self.keep_shared(Class::Topic, self.received, json.clone(), now);
        self.give(now, actions);
    }

    /// Forgets what was given to a reader and is too much; of what nobody was given, what is too
    /// much and can be asked for anew: or who only sends would be stopped by the news of it.
    fn trim(&mut self) {
        while self.is_surplus() {
            self.forget_oldest();
        }
    }

    /// Whether the oldest event is one too many. It is looked at only if it may be: it lies where
    /// nothing else was touched for long.
    fn is_surplus(&self) -> bool {
        let (rules, log) = (&self.rules, &*self.log);
        let is_oldest = |test: fn(&Kept) -> bool| log.kept.front().is_some_and(test);
        match self.first() < log.ungiven {
            true => {
                log.kept_octets > rules.replay_octets_max
                    || log.kept.len() > rules.replay_events_max
                    || (log.kept.len() > rules.replay_spare_max
                        && is_oldest(|kept| !kept.class.is_owed()))
            }
            false => {
                log.backlog_octets > rules.backlog_octets_max
                    && is_oldest(|kept| kept.class.is_spare())
            }
        }
    }

    /// Forgets what was given to a reader long ago.
    fn forget_old(&mut self, now: Moment) {
        while self.first() < self.log.ungiven
            && let Some(oldest) = self.log.kept.front()
            && oldest.since.after(self.rules.replay) <= now
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let is_given = self.first() < self.log.ungiven;
        let Some(log) = self.log.get_mut() else {
            return;
        };
        let Some(oldest) = log.kept.pop_front() else {
            return;
        };
        let octets = oldest.json.len();
        log.kept_octets -= octets;
        if !is_given {
            log.backlog_octets -= octets;
            log.ungiven += 1;
            self.has_dropped = true;
        }
    }

    /// Stanzas of the stream that are with the client, as far as one can know, or that nobody would
    /// store.
    fn handled(&mut self) -> u32 {
        let first = self.first();
        let Some(log) = self.log.get_mut() else {
            return self.received;
        };
        let from = log.owed_from.max(log.confirmed + 1).max(first);
        if from > log.owed_from || log.owed.is_none() {
            let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
            let spared = log.kept.iter().skip(skipped);
            let spared = spared.take_while(|kept| !kept.class.is_owed()).count();
            log.owed_from = from + spared as u64;
            let owed = log.kept.get(skipped.saturating_add(spared));
            log.owed = owed.map(|kept| kept.before);
        }
        let owed = log.owed.unwrap_or(self.received);
        // Who reads is not slow: what was given may be asked for again, and is not owed any more.
        let place = usize::try_from(log.ungiven.saturating_sub(first)).unwrap_or(usize::MAX);
        let given = log.kept.get(place);
        let given = given.map_or(self.received, |kept| kept.before);
        let surplus = self.received.wrapping_sub(owed);
        let surplus = surplus.saturating_sub(self.rules.unacknowledged_max);
        let handled = owed.wrapping_add(surplus.min(ahead(owed, given)));
        // What was told once is not taken back, though nobody may have it any more.
        self.told.wrapping_add(ahead(self.told, handled))
    }

    /// Acknowledges to the stream, if there is news of so many stanzas. The rest is told soon, and
    /// not for each stanza.
    fn tell(&mut self, stanzas_min: u32, now: Moment, actions: &mut Vec<Action<T>>) {
        if self.told == self.received {
            return;
        }
        let news = self.handled().wrapping_sub(self.told);
        if news >= stanzas_min {
            let mut octets = Vec::with_capacity(48);
            self.write_handled(&mut octets);
            actions.push(Action::Stream(octets));
        } else if news > 0 && self.work.tell_at == Moment(u64::MAX) {
            let at = now.after(TELL_AFTER);
            self.work.tell_at = at;
            self.due_by(at);
        }
    }

    fn write_handled(&mut self, out: &mut Vec<u8>) {
        self.told = self.handled();
        if let Some(work) = self.work.get_mut() {
            work.tell_at = Moment(u64::MAX);
        }
        out.extend_from_slice(b"<a xmlns='urn:xmpp:sm:3' h='");
        out.extend_from_slice(self.told.to_string().as_bytes());
        out.extend_from_slice(b"'/>");
    }

    /// An identifier that the client has not used.
    fn number(&self) -> SmolStr {
        // That of the stanza that it is for.
        let number = self.sent.wrapping_add(1);
        smol_str::format_smolstr!("encke-{:x}-{number}", self.epoch)
    }
}

/// `{"type":"…"`: how every event that is kept begins.
fn write_start(out: &mut Vec<u8>, class: Class) {
    for part in ["{\"type\":\"", class.name(), "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn answer(status: u16, body: Vec<u8>) -> Answer {
    Answer {
        status,
        media: Media::Json,
        body: body.into(),
        cursor: None,
        retry_after: None,
    }
}

/// How far one counter is ahead of another, in the order of counters that wrap around.
const fn ahead(of: u32, counter: u32) -> u32 {
    match counter.wrapping_sub(of) {
        far if far > u32::MAX / 2 => 0,
        far => far,
    }
}

/// News of so many stanzas are worth an acknowledgement to the stream,
const TELL_STANZAS: u32 = 8;
/// fewer are after this time.
const TELL_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
