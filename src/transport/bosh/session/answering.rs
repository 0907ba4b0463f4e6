//! Answers in the order of their requests.

use std::sync::Arc;

use super::{Acks, Action, Extra, Held, Session, State};
use crate::base::time::Moment;
use crate::transport::bosh::Condition;
use crate::transport::bosh::answer::{Ending, Envelope, Kind, Wrapped};
use crate::transport::bosh::replay::Kept;

impl<T: Copy + PartialEq> Session<T> {
    /// Answers the first request that can carry something with `content`, and those before it,
    /// whose links are gone, with nothing: they find that when they are asked again.
    pub(super) fn deliver(
        &mut self,
        wrapped: &Wrapped,
        content: &[u8],
        now: Moment,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        for _ in 0..self.carrier() {
            self.answer_empty(now, actions);
        }
        if let Some(held) = self.held.pop_front() {
            self.answer(&held, Kind::Normal, wrapped, content, now, actions);
        }
    }

    /// Answers everything: the first request that can carry something ends the session.
    pub(super) fn finish(
        &mut self,
        wrapped: &Wrapped,
        content: &[u8],
        now: Moment,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        for _ in 0..self.carrier() {
            self.answer_empty(now, actions);
        }
        let condition = match wrapped.ending {
            Some(Ending::Failed(condition)) => Some(condition),
            Some(Ending::Closed) | None => None,
        };
        if let Some(held) = self.held.pop_front() {
            let kind = Kind::Terminate(condition);
            self.answer(&held, kind, wrapped, content, now, actions);
        }
        while !self.held.is_empty() {
            self.answer_empty(now, actions);
        }
        let early: Vec<T> = self
            .early
            .drain(..)
            .filter_map(|early| early.ticket)
            .collect();
        for ticket in early {
            self.push_answer(Kind::Normal, ticket, actions);
        }
        self.state = State::Over;
    }

    /// Answers what need not be held any longer.
    pub(super) fn release(&mut self, now: Moment, actions: &mut Vec<Action<'_, T>>) {
        if self.stalled {
            return;
        }
        let kept = match self.state {
            State::Flushing => 0,
            _ => usize::from(self.hold),
        };
        while self.held.len() > kept {
            self.answer_empty(now, actions);
        }
        if self.state == State::Flushing {
            self.state = State::Open;
        }
        let is_there = |held: &Held<T>| held.ticket.is_some();
        if self.report.is_some() && self.held.front().is_some_and(is_there) {
            self.answer_empty(now, actions);
        }
    }

    /// Answers the request that was taken first.
    pub(super) fn answer_empty(&mut self, now: Moment, actions: &mut Vec<Action<'_, T>>) {
        if let Some(held) = self.held.pop_front() {
            self.answer(&held, Kind::Normal, &Wrapped::default(), b"", now, actions);
        }
    }

    fn answer(
        &mut self,
        held: &Held<T>,
        kind: Kind,
        wrapped: &Wrapped,
        content: &[u8],
        now: Moment,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        // A session that does not come to be has nothing to be told of.
        let begins = kind == Kind::Normal;
        let grant = self.grant.take().filter(|_| begins);
        let identity = self.identity.take().filter(|_| begins);
        let newest = self.next - 1;
        let says_ack = self.acks == Acks::On && (grant.is_some() || newest != held.rid);
        let report = self.report.take();
        let envelope = Envelope {
            kind,
            grant: grant.as_deref(),
            identity: identity.as_deref(),
            ack: says_ack.then_some(newest),
            report: report.map(|(rid, sent)| (rid, now.0.saturating_sub(sent.0))),
            uses_stream: wrapped.uses_stream,
        };
        let mut body = Vec::with_capacity(content.len() + WRAPPER_OCTETS);
        envelope.write(&mut body, content);
        let body: Arc<[u8]> = body.into();
        self.replay.keep(
            Kept {
                rid: held.rid,
                key: held.key,
                body: body.clone(),
                sent: now,
            },
            self.confirmed(),
            // Section 11 allows one more.
            usize::from(self.requests) + 1,
            self.replay_octets_max,
        );
        self.last.brought = !content.is_empty();
        self.idle_since = now;
        if let Some(ticket) = held.ticket {
            actions.push(Action::Answer {
                ticket,
                status: 200,
                body,
            });
        }
    }

    /// Ends the session by the fault of the request of `ticket`.
    pub(super) fn fail(
        &mut self,
        condition: Condition,
        ticket: T,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        self.lose(Condition::OtherRequest, actions);
        self.refuse(condition, ticket, actions);
    }

    /// Ends the session and gives up the stream.
    pub(super) fn lose(&mut self, condition: Condition, actions: &mut Vec<Action<'_, T>>) {
        self.terminate(condition, actions);
        actions.push(Action::Lost);
    }

    pub(super) fn refuse(&self, condition: Condition, ticket: T, actions: &mut Vec<Action<'_, T>>) {
        let mut body = Vec::with_capacity(WRAPPER_OCTETS);
        condition.write(&mut body);
        actions.push(Action::Answer {
            ticket,
            status: condition.status(self.age),
            body: body.into(),
        });
    }

    /// An answer that is nobody's turn and is not kept.
    pub(super) fn push_answer(&self, kind: Kind, ticket: T, actions: &mut Vec<Action<'_, T>>) {
        let mut body = Vec::with_capacity(WRAPPER_OCTETS);
        let envelope = Envelope {
            kind,
            ..Envelope::default()
        };
        envelope.write(&mut body, b"");
        actions.push(Action::Answer {
            ticket,
            status: 200,
            body: body.into(),
        });
    }

    /// Whether a request waits on a link that is there.
    pub(super) fn is_attended(&self) -> bool {
        let held = self.held.iter().map(|held| held.ticket);
        let early = self.early.iter().map(|early| early.ticket);
        held.chain(early).any(|ticket| ticket.is_some())
    }

    /// Whether output can ride on the answer to a request. On that to a pause nothing does, and
    /// that to the end is the last one.
    pub(super) fn carries(&self, held: &Held<T>) -> bool {
        let takes = match held.extra {
            Extra::No => true,
            Extra::Pause => false,
            Extra::Terminate => !self.stalled,
        };
        takes && held.ticket.is_some()
    }

    /// The number of the last answer that the client has, as its requests show: it may have no more
    /// of them on their way than it was granted (section 11). What it acknowledged is not kept.
    fn confirmed(&self) -> u64 {
        let more = u64::from(self.last.extra != Extra::No);
        let newest = self.next - 1;
        newest.saturating_sub(u64::from(self.requests) + more)
    }

    /// Whether so much is kept for a client that may have lost it that the next answers carry
    /// nothing: the stream keeps its output until the client shows what it has.
    pub(super) fn is_full(&self) -> bool {
        let octets = self.replay.octets_behind(self.confirmed());
        // The last answer of all takes everything, and while the stream takes nothing no answer is
        // given but those that carry something: they are few.
        let carries_all = self.stalled || self.state == State::Ending;
        !carries_all && octets > self.replay_octets_max
    }

    /// Answers everything with nothing, so that the client asks anew, which shows what it has. A
    /// client with a request that is held need not.
    pub(super) fn prompt(&mut self, now: Moment, actions: &mut Vec<Action<'_, T>>) {
        while !self.held.is_empty() {
            self.answer_empty(now, actions);
        }
    }

    /// How many come before the first request that can carry something, or else before the first
    /// whose link is there.
    fn carrier(&self) -> usize {
        let is_there = |held: &Held<T>| held.ticket.is_some();
        let carrier = self.held.iter().position(|held| self.carries(held));
        carrier
            .or_else(|| self.held.iter().position(is_there))
            .unwrap_or_default()
    }
}

/// Of most wrappers.
const WRAPPER_OCTETS: usize = 96;
