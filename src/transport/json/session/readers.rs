//! Readers, and what they are given.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Action, Answer, Phase, Session, TELL_STANZAS, answer};
use crate::base::time::Moment;
use crate::transport::json::Cursor;
use crate::transport::json::event::{Event, write_page};
use crate::transport::json::problem;
use crate::transport::json::writer::Object;

/// Octets around an event on its way.
const FRAME_OCTETS: usize = 64;

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may also ask for things, and is answered among the events.
    WebSocket,
    EventStream,
    /// One answer. `conditional`: 304 is the answer when nothing came (`If-None-Match`), not an
    /// empty page.
    Poll {
        conditional: bool,
    },
}

#[derive(Debug)]
pub(super) struct Reader<T> {
    pub ticket: T,
    pub kind: Kind,
    /// The event that it gets next.
    pub next: u64,
    /// Octets that its link has room for, as far as we know.
    room: u32,
    since: Moment,
}

impl<T> Reader<T> {
    /// Since when it waits for one answer, if it does.
    pub fn held_since(&self) -> Option<Moment> {
        matches!(self.kind, Kind::Poll { .. }).then_some(self.since)
    }
}

impl<T: Copy + PartialEq + 'static> Session<T> {
    /// Takes a reader: it gets everything behind `cursor`; without one, everything that is kept.
    /// What is kept no longer, or of another epoch, is one event `gap`. Then, because there is room
    /// again: [`Session::settle`].
    pub fn attach(
        &mut self,
        ticket: T,
        kind: Kind,
        cursor: Option<Cursor>,
        address: &str,
        now: Moment,
        actions: &mut Vec<Action<T>>,
    ) {
        let refused = match self.phase {
            Phase::Login => Some(problem::NOT_READY),
            Phase::Over => Some(problem::NO_SESSION),
            Phase::Open if self.readers.len() >= self.rules.readers_max => Some(problem::TOO_MANY),
            Phase::Open => None,
        };
        if let Some(why) = refused {
            let answer = Answer::refusal(why);
            return actions.push(Action::Answer { ticket, answer });
        }
        let ours = cursor.filter(|cursor| cursor.epoch == self.epoch && cursor.offset < self.next);
        // First, for then less may be kept.
        if let Some(ours) = ours {
            self.confirm(ours);
        }
        let wanted = match (cursor, ours) {
            (None, _) => self.first(),
            (_, Some(cursor)) => cursor.offset + 1,
            (Some(_), None) => 0,
        };
        let next = wanted.max(self.first());
        let start = Cursor {
            epoch: self.epoch,
            offset: 0,
        };
        let gap = match cursor {
            // It wants what is kept, and what nobody was given should be.
            None => self.has_dropped.then_some(start),
            Some(_) => cursor.filter(|_| wanted < next),
        };
        let is_poll = matches!(kind, Kind::Poll { .. });
        if !is_poll {
            actions.push(Action::Begin { ticket });
            let event = match gap {
                Some(after) => self.gap(after, next),
                None => self.ready(next, address),
            };
            actions.push(Action::Event { ticket, event });
        } else if let Some(after) = gap {
            let events = [self.gap(after, next)].into_iter();
            let answer = self.page(events.chain(self.events_from(next)));
            actions.push(Action::Answer { ticket, answer });
            self.given_to(self.next);
            return self.tell(TELL_STANZAS, now, actions);
        }
        let reader = Reader {
            ticket,
            kind,
            next,
            room: self.reader_room(),
            since: now,
        };
        if is_poll {
            self.due_by(now.after(self.rules.poll_timeout));
        }
        self.readers.push(reader);
        self.give(now, actions);
        self.tell(TELL_STANZAS, now, actions);
    }

    /// The link of a reader, or of a request that waits, is gone.
    pub fn detach(&mut self, ticket: T, now: Moment, actions: &mut Vec<Action<T>>) {
        let before = self.readers.len();
        self.readers.retain(|reader| reader.ticket != ticket);
        if before > self.readers.len() {
            self.idle_since = now;
        }
        if self.readers.is_empty() {
            self.due_by(self.idle_since.after(self.rules.grace));
            // Nobody knows how much of what it was given the last one had.
            let first = self.first();
            if let Some(log) = self.log.get_mut() {
                log.ungiven = log.ungiven.min(first.max(log.confirmed + 1));
                let given =
                    usize::try_from(log.ungiven.saturating_sub(first)).unwrap_or(usize::MAX);
                let open = log.kept.iter().skip(given);
                log.backlog_octets = open.map(|kept| kept.json.len()).sum();
            }
        }
        if let Some(work) = self.work.get_mut() {
            for sending in &mut work.sending {
                sending.waiting.retain(|waiting| *waiting != ticket);
            }
            work.asks.retain(|ask| ask.ticket != ticket);
        }
        if let Some(login) = &mut self.login
            && login.ticket == Some(ticket)
        {
            login.ticket = None;
            self.abandon(problem::SESSION_ENDED, actions);
        }
    }

    /// The link of a reader has taken all that it was given, and has room again. Then, because
    /// there may be room for the stream, too: [`Session::settle`].
    pub fn taken(&mut self, ticket: T, now: Moment, actions: &mut Vec<Action<T>>) {
        let room = self.reader_room();
        let mut readers = self.readers.iter_mut();
        let Some(reader) = readers.find(|reader| reader.ticket == ticket) else {
            return;
        };
        reader.room = room;
        let next = reader.next;
        self.given_to(next);
        self.give(now, actions);
    }

    /// Gives every reader what it lacks, as far as its link has room.
    pub(super) fn give(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        let mut readers = std::mem::take(&mut self.readers);
        readers.retain_mut(|reader| {
            if reader.next == self.next {
                return true;
            }
            if let Kind::Poll { .. } = reader.kind {
                let ticket = reader.ticket;
                let gap = self.gap_before(reader);
                let answer = self.page(gap.into_iter().chain(self.events_from(reader.next)));
                actions.push(Action::Answer { ticket, answer });
                self.idle_since = now;
                self.given_to(self.next);
                return false;
            }
            self.give_stream(reader, actions);
            true
        });
        self.readers = readers;
        if self.readers.is_empty() {
            self.due_by(self.idle_since.after(self.rules.grace));
        }
    }

    fn give_stream(&self, reader: &mut Reader<T>, actions: &mut Vec<Action<T>>) {
        let ticket = reader.ticket;
        if let Some(event) = self.gap_before(reader) {
            actions.push(Action::Event { ticket, event });
        }
        for event in self.events_from(reader.next) {
            if reader.room == 0 {
                break;
            }
            let octets = u32::try_from(event.json.len() + FRAME_OCTETS);
            reader.room = reader.room.saturating_sub(octets.unwrap_or(u32::MAX));
            reader.next += 1;
            actions.push(Action::Event { ticket, event });
        }
    }

    /// What a reader is told if others were faster by more than what is kept. It goes on behind
    /// that.
    fn gap_before(&self, reader: &mut Reader<T>) -> Option<Event> {
        let first = self.first();
        if reader.next >= first {
            return None;
        }
        let after = Cursor {
            epoch: self.epoch,
            offset: reader.next - 1,
        };
        reader.next = first;
        Some(self.gap(after, first))
    }

    /// Somebody has, or will soon have, all events before this one.
    pub(super) fn given_to(&mut self, next: u64) {
        let first = self.first();
        // Without a log, nothing is left that nobody was given.
        let Some(log) = self.log.get_mut() else {
            return;
        };
        let had_none = log.ungiven == first;
        while log.ungiven < next {
            let place = usize::try_from(log.ungiven.saturating_sub(first));
            if let Some(kept) = place.ok().and_then(|place| log.kept.get(place)) {
                log.backlog_octets -= kept.json.len();
            }
            log.ungiven += 1;
        }
        if had_none && let Some(oldest) = self.log.kept.front() {
            self.due_by(oldest.since.after(self.rules.replay));
        }
        self.trim();
    }

    pub(super) fn events_from(&self, next: u64) -> impl Iterator<Item = Event> + use<'_, T> {
        let (epoch, first) = (self.epoch, self.first());
        let from = next.max(first);
        let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
        let kept = self.log.kept.iter().skip(skipped);
        kept.zip(from..).map(move |(kept, offset)| Event {
            id: Some(Cursor { epoch, offset }),
            name: kept.class.name(),
            json: kept.json.clone(),
        })
    }

    /// The answer to a poll that has all these now.
    fn page(&self, events: impl Iterator<Item = Event>) -> Answer {
        let mut body = Vec::new();
        write_page(&mut body, events, self.cursor());
        Answer {
            cursor: Some(self.cursor()),
            ..answer(200, body)
        }
    }

    /// Polls that have waited long enough.
    pub(super) fn answer_late_polls(&mut self, now: Moment, actions: &mut Vec<Action<T>>) {
        let timeout = self.rules.poll_timeout;
        let due = |reader: &Reader<T>| {
            let since = reader.held_since();
            since.is_some_and(|since| since.after(timeout) <= now)
        };
        let readers = std::mem::take(&mut self.readers).into_iter();
        let (late, others): (SmallVec<[_; 1]>, _) = readers.partition(due);
        self.readers = others;
        for reader in late {
            self.idle_since = now;
            let ticket = reader.ticket;
            let mut answer = self.page(std::iter::empty());
            if reader.kind == (Kind::Poll { conditional: true }) {
                answer.status = 304;
                answer.body = Arc::default();
            }
            actions.push(Action::Answer { ticket, answer });
        }
    }

    /// A reader has what is up to here.
    pub(super) fn confirm(&mut self, cursor: Cursor) {
        if cursor.epoch == self.epoch && cursor.offset < self.next {
            if let Some(log) = self.log.get_mut() {
                log.confirmed = log.confirmed.max(cursor.offset);
            }
            self.given_to(cursor.offset + 1);
        }
    }

    /// Whether requests of this ticket are answered among its events.
    pub(super) fn is_socket(&self, ticket: T) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|reader| reader.ticket == ticket && reader.kind == Kind::WebSocket)
    }

    /// What a reader gets first: where it stands, so that its browser can say it even if nothing
    /// else comes.
    fn ready(&self, next: u64, address: &str) -> Event {
        self.place("ready", next, |object| {
            object.text("jid", address);
        })
    }

    /// What the link of a reader has room for that has taken everything.
    fn reader_room(&self) -> u32 {
        u32::try_from(self.rules.reader_octets_max).unwrap_or(u32::MAX)
    }

    /// Events behind `after` are lost to this reader; the next one it gets is `next`.
    fn gap(&self, after: Cursor, next: u64) -> Event {
        self.place("gap", next, |object| {
            object.text("after", &after.to_string());
        })
    }

    fn place(&self, name: &'static str, next: u64, write: impl FnOnce(&mut Object<'_>)) -> Event {
        let id = Cursor {
            epoch: self.epoch,
            offset: next - 1,
        };
        let mut json = Vec::with_capacity(64);
        let mut object = Object::begin(&mut json);
        object.text("type", name);
        write(&mut object);
        object.end();
        Event {
            id: Some(id),
            name,
            json: json.into(),
        }
    }
}
