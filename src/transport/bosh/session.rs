//! Which request is answered when, and with what.
//!
//! A [`Session`] stands beside a stream. It is given requests by [`Session::receive`], says in
//! order what they mean for the stream, and is then given what the stream wrote by
//! [`Session::settle`], which answers the requests that need no longer be held. Requests are taken
//! and answered in the order of their `rid`, each once, however they arrive.

/// What leaves.
mod answering;
/// What comes.
mod taking;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{self, Grant, Identity, Kind, Wrapped};
use super::keys::{Key, Keys};
use super::replay::Replay;
use super::request::{Opening, Purpose, Request};
use super::{Age, Condition, ContentType, Rules, VERSION};
use crate::base::time::Moment;
use crate::xmpp::xml::Scanner;

/// What the engine does next, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a, T> {
    /// A stream begins with this header.
    Open(Opening<'a>),
    /// It begins anew with this header, after what came before was taken.
    Restart(Opening<'a>),
    /// Elements and white space, to be scanned as what follows a header on TCP; see
    /// [`Request::elements`].
    Elements(Cow<'a, [u8]>),
    /// The client ends the stream, after what came before was taken. [`Session::settle`] answers.
    End,
    /// There is nothing behind the stream any more: as when a link on TCP breaks.
    Lost,
    /// The request of this ticket is answered.
    Answer {
        ticket: T,
        status: u16,
        body: Arc<[u8]>,
    },
}

/// A session of BOSH (XEP-0124). `T` names the link and the request that waits for an answer.
#[derive(Debug)]
pub struct Session<T> {
    /// The identifier that is due.
    next: u64,
    /// Taken and not answered, by ascending identifier.
    held: VecDeque<Held<T>>,
    /// Before their turn.
    early: Vec<Early<T>>,
    replay: Replay,
    keys: Keys,
    state: State,

    wait: Duration,
    /// Requests that may be held: none in a polling session.
    hold: u8,
    requests: u8,
    inactivity: Duration,
    polling: Duration,
    pause_max: Duration,
    replay_octets_max: usize,
    repeats_max: u8,
    age: Age,
    content_type: ContentType,
    acks: Acks,
    /// Of the first request, for restarts that name no domain.
    domain: Box<str>,

    /// Until the first answer.
    grant: Option<Box<Grant>>,
    /// Until the first answer after it was known.
    identity: Option<Box<Identity>>,
    introduced: bool,
    /// The identifier of an answer that the client does not seem to have, and when it was sent.
    report: Option<(u64, Moment)>,
    /// Whether the stream takes nothing for now.
    stalled: bool,
    /// The client is leaving for so long.
    pause: Option<Duration>,
    repeats: u8,
    /// The newest request that was taken.
    last: Last,
    /// Since when no request waits, if none does.
    idle_since: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Everything is answered now, and the session goes on.
    Flushing,
    /// The client ended it.
    Ending,
    Over,
}

/// Whether both sides say what they have (section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acks {
    Off,
    On,
}

#[derive(Debug)]
struct Held<T> {
    rid: u64,
    /// `None`: the link broke. The client may ask again.
    ticket: Option<T>,
    since: Moment,
    key: Option<Key>,
    extra: Extra,
}

/// Whether a request may be one more than the client may have on its way (section 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    No,
    Pause,
    Terminate,
}

#[derive(Debug)]
struct Early<T> {
    request: Request<'static>,
    ticket: Option<T>,
    since: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    came: Moment,
    was_empty: bool,
    extra: Extra,
    /// Whether the newest answer carried something.
    brought: bool,
}

impl<T: Copy + PartialEq> Session<T> {
    /// The session that a request without `sid` asks for. `sid` is ours for it: unique, and not to
    /// be guessed. Then: [`Session::settle`].
    ///
    /// # Errors
    /// What answers the request instead.
    pub fn create<'a>(
        request: Request<'a>,
        ticket: T,
        sid: &str,
        rules: &Rules,
        now: Moment,
        actions: &mut Vec<Action<'a, T>>,
    ) -> Result<Self, Condition> {
        if request.header.to.as_deref().is_none_or(str::is_empty) {
            return Err(Condition::ImproperAddressing);
        }
        if request.sid.is_some() || request.purpose != Purpose::Exchange {
            return Err(Condition::BadRequest);
        }
        let hold = request.hold.unwrap_or(1).min(rules.hold_max.into()) as u8;
        let mut session = Self::agree(&request, hold, rules, now)?;
        session.grant = Some(Box::new(session.granted(sid, hold, request.ver)));
        session.held.push_back(Held {
            rid: request.rid,
            ticket: Some(ticket),
            since: now,
            key: None,
            extra: Extra::No,
        });
        let is_empty = request.is_empty();
        actions.push(Action::Open(request.header));
        if !is_empty {
            actions.push(Action::Elements(request.elements));
        }
        Ok(session)
    }

    /// What the client asked for, within the rules.
    fn agree(
        request: &Request<'_>,
        hold: u8,
        rules: &Rules,
        now: Moment,
    ) -> Result<Self, Condition> {
        let wait = request
            .wait
            .map(|seconds| Duration::from_secs(seconds.into()));
        let wait = wait.unwrap_or(rules.wait_max).min(rules.wait_max);
        let polls = hold == 0 || wait.is_zero();
        let content = request.content.as_deref();
        Ok(Self {
            next: request.rid + 1,
            held: VecDeque::with_capacity(usize::from(hold) + 1),
            early: Vec::new(),
            replay: Replay::default(),
            keys: Keys::begin(request)?,
            state: State::Open,
            wait,
            hold: if polls { 0 } else { hold },
            requests: hold.saturating_add(1),
            // Section 12: who polls has longer.
            inactivity: match polls {
                true => rules.inactivity + rules.polling * 2,
                false => rules.inactivity,
            },
            polling: rules.polling,
            pause_max: rules.pause_max,
            replay_octets_max: rules.replay_octets_max,
            repeats_max: rules.repeats_max,
            age: request.ver.map_or(Age::Legacy, |_| Age::Versioned),
            content_type: content.map_or(ContentType::Xml, ContentType::choose),
            acks: request.ack.map_or(Acks::Off, |_| Acks::On),
            domain: request.header.to.as_deref().unwrap_or_default().into(),
            grant: None,
            identity: None,
            introduced: false,
            report: None,
            stalled: false,
            pause: None,
            repeats: 0,
            last: Last {
                came: now,
                was_empty: false,
                extra: Extra::No,
                brought: false,
            },
            idle_since: now,
        })
    }

    /// The same, to be told to the client.
    fn granted(&self, sid: &str, hold: u8, ver: Option<(u32, u32)>) -> Grant {
        Grant {
            sid: sid.into(),
            ver: ver.unwrap_or(VERSION).min(VERSION),
            wait: self.wait.as_secs(),
            hold,
            requests: self.requests,
            inactivity: self.inactivity.as_secs(),
            polling: self.polling.as_secs(),
            maxpause: self.pause_max.as_secs(),
        }
    }

    /// Takes a request with this session's `sid`. Then, once its actions are done:
    /// [`Session::settle`].
    pub fn receive<'a>(
        &mut self,
        request: Request<'a>,
        ticket: T,
        now: Moment,
        actions: &mut Vec<Action<'a, T>>,
    ) {
        let rid = request.rid;
        match self.state {
            State::Over => return self.refuse(Condition::ItemNotFound, ticket, actions),
            _ if rid < self.next => return self.repeat(&request, ticket, now, actions),
            // Nothing may come behind the end.
            State::Ending => return self.refuse(Condition::ItemNotFound, ticket, actions),
            State::Open | State::Flushing => {}
        }
        if rid >= self.next + u64::from(self.requests) {
            return self.fail(Condition::ItemNotFound, ticket, actions);
        }
        if self.early.iter().any(|early| early.request.rid == rid) {
            return self.repeat_early(&request, ticket, now, actions);
        }
        if taking::extra(&request) == Extra::No && self.unanswered() >= usize::from(self.requests) {
            return self.fail(Condition::PolicyViolation, ticket, actions);
        }
        if rid > self.next {
            return self.early.push(Early {
                request: request.into_owned(),
                ticket: Some(ticket),
                since: now,
            });
        }
        if let Err(condition) = self.take(request, Some(ticket), now, actions) {
            return self.fail(condition, ticket, actions);
        }
        while let Some(at) = self.early_and_due() {
            let early = self.early.swap_remove(at);
            if let Err(condition) = self.take(early.request, early.ticket, early.since, actions) {
                return match early.ticket {
                    Some(ticket) => self.fail(condition, ticket, actions),
                    None => self.lose(condition, actions),
                };
            }
        }
    }

    /// Answers what need no longer be held, the first of it with the whole items at the front of
    /// `output`, which the stream wrote for TCP. Returns the octets of those that were taken.
    /// To be called after each input and whenever the stream wrote something; `scratch` is for
    /// reuse.
    pub fn settle(
        &mut self,
        output: &[u8],
        scanner: &mut Scanner,
        scratch: &mut Vec<u8>,
        now: Moment,
        actions: &mut Vec<Action<'_, T>>,
    ) -> usize {
        scratch.clear();
        if self.state == State::Over {
            return 0;
        }
        let mut wrapped = Wrapped::default();
        if self.wants_output() && !output.is_empty() {
            if self.is_full() {
                self.prompt(now, actions);
                self.release(now, actions);
                return 0;
            }
            match answer::wrap(scratch, output, scanner) {
                Ok(made) => wrapped = made,
                Err(_) => {
                    self.lose(Condition::InternalServerError, actions);
                    return output.len();
                }
            }
        }
        if let Some(identity) = wrapped.identity.take().filter(|_| !self.introduced) {
            self.introduced = true;
            self.identity = Some(Box::new(identity));
        }
        // The stream ends when it has taken what came before.
        let ends = wrapped.ending.is_some() || (self.state == State::Ending && !self.stalled);
        if ends && self.is_attended() {
            self.finish(&wrapped, scratch, now, actions);
        } else if !ends {
            if !scratch.is_empty() {
                self.deliver(&wrapped, scratch, now, actions);
            }
            self.release(now, actions);
        }
        wrapped.taken
    }

    /// Whether the stream takes nothing for now: then requests are held, and so is a client that
    /// has none left. Before [`Session::settle`].
    pub const fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Whether [`Session::settle`] would take output, or ask for what it takes.
    pub fn wants_output(&self) -> bool {
        self.state != State::Over && self.held.iter().any(|held| self.carries(held))
    }

    /// Ends the session: every request that waits is answered with `condition`.
    pub fn terminate(&mut self, condition: Condition, actions: &mut Vec<Action<'_, T>>) {
        self.state = State::Over;
        let held = self.held.drain(..).map(|held| held.ticket);
        let early = self.early.drain(..).map(|early| early.ticket);
        let tickets: Vec<T> = held.chain(early).flatten().collect();
        for ticket in tickets {
            self.refuse(condition, ticket, actions);
        }
    }

    /// The link of a request that waits is gone. The client may come again on another one.
    pub fn gone(&mut self, ticket: T, now: Moment) {
        let held = self.held.iter_mut().map(|held| &mut held.ticket);
        let early = self.early.iter_mut().map(|early| &mut early.ticket);
        for waiting in held
            .chain(early)
            .filter(|waiting| **waiting == Some(ticket))
        {
            *waiting = None;
            self.idle_since = now;
        }
    }

    /// When [`Session::expire`] must be called. `None`: the session is over.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.state == State::Over {
            return None;
        }
        let held = self.held.iter().filter(|held| held.ticket.is_some());
        let held = held.map(|held| held.since.after(self.wait));
        let early = self.early.iter().filter(|early| early.ticket.is_some());
        let early = early.map(|early| early.since.after(self.inactivity));
        let idle = self.pause.unwrap_or(self.inactivity);
        held.chain(early)
            .min()
            .or(Some(self.idle_since.after(idle)))
    }

    /// Answers what has waited long enough, or gives the client up.
    pub fn expire(&mut self, now: Moment, actions: &mut Vec<Action<'_, T>>) {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if !self.is_attended() {
            self.state = State::Over;
            return actions.push(Action::Lost);
        }
        let wait = self.wait;
        let due = |held: &Held<T>| held.ticket.is_some() && held.since.after(wait) <= now;
        let last = self.held.iter().rposition(due);
        for _ in 0..last.map_or(0, |last| last + 1) {
            self.answer_empty(now, actions);
        }
        // What is missing does not come any more: the client sends it again, and this too.
        let inactivity = self.inactivity;
        let due = |early: &mut Early<T>| early.since.after(inactivity) <= now;
        let late: Vec<_> = self.early.extract_if(.., due).collect();
        for ticket in late.into_iter().filter_map(|early| early.ticket) {
            self.push_answer(Kind::Recoverable, ticket, actions);
            self.idle_since = now;
        }
    }

    /// Of all answers.
    pub const fn content_type(&self) -> ContentType {
        self.content_type
    }

    /// Whether no answer but `item-not-found` will come any more.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

#[cfg(test)]
mod tests;
