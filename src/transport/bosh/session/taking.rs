//! Requests in their order, their repetitions, and what clients may not do.

use std::time::Duration;

use super::{Acks, Action, Extra, Held, Last, Session, State};
use crate::base::time::Moment;
use crate::transport::bosh::Condition;
use crate::transport::bosh::answer::Kind;
use crate::transport::bosh::keys;
use crate::transport::bosh::request::{Opening, Purpose, Request};

impl<T: Copy + PartialEq> Session<T> {
    /// Takes the request that is due; `since` is when it came.
    ///
    /// # Errors
    /// Why the session ends. Nothing of the request was done.
    pub(super) fn take<'a>(
        &mut self,
        request: Request<'a>,
        ticket: Option<T>,
        since: Moment,
        actions: &mut Vec<Action<'a, T>>,
    ) -> Result<(), Condition> {
        let key = self.keys.advance(&request)?;
        let is_empty = request.is_empty();
        let was_empty = is_empty && request.purpose == Purpose::Exchange;
        if was_empty && self.is_hasty(since) {
            return Err(Condition::PolicyViolation);
        }
        self.acknowledge(&request, since);
        self.next = request.rid + 1;
        self.repeats = 0;
        self.pause = None;
        self.last = Last {
            came: since,
            was_empty,
            extra: extra(&request),
            ..self.last
        };
        self.held.push_back(Held {
            rid: request.rid,
            ticket,
            since,
            key,
            extra: extra(&request),
        });
        if request.purpose == Purpose::Restart {
            actions.push(Action::Restart(Opening {
                to: request.header.to.or(Some(self.domain.to_string().into())),
                ..request.header
            }));
            return Ok(());
        }
        if !is_empty {
            actions.push(Action::Elements(request.elements));
        }
        match request.purpose {
            Purpose::Pause(pause) => {
                // No time at all is no period: then all that is wanted is the answers.
                let period = Some(pause).filter(|pause| !pause.is_zero());
                self.pause = period.map(|pause| pause.min(self.pause_max));
                self.state = State::Flushing;
            }
            Purpose::Terminate => {
                actions.push(Action::End);
                self.state = State::Ending;
            }
            Purpose::Exchange | Purpose::Restart => {}
        }
        Ok(())
    }

    /// Which of the early requests is due. Nothing is after the end.
    pub(super) fn early_and_due(&self) -> Option<usize> {
        let mut early = self.early.iter();
        match self.state {
            State::Ending | State::Over => None,
            State::Open | State::Flushing => early.position(|early| early.request.rid == self.next),
        }
    }

    /// A request that was taken before: its link broke, or its answer did not arrive.
    pub(super) fn repeat(
        &mut self,
        request: &Request<'_>,
        ticket: T,
        now: Moment,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        let rid = request.rid;
        if self.repeats_too_often() {
            return self.fail(Condition::PolicyViolation, ticket, actions);
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.rid == rid) {
            if !keys::repeats(request, held.key) {
                return self.fail(Condition::ItemNotFound, ticket, actions);
            }
            let former = held.ticket.replace(ticket);
            held.since = now;
            return self.supersede(former, ticket, actions);
        }
        match self.replay.find(rid) {
            Some(kept) if keys::repeats(request, kept.key) => {
                actions.push(Action::Answer {
                    ticket,
                    status: 200,
                    body: kept.body.clone(),
                });
                self.idle_since = now;
            }
            _ => self.fail(Condition::ItemNotFound, ticket, actions),
        }
    }

    /// A request that came before and is not due yet.
    pub(super) fn repeat_early(
        &mut self,
        request: &Request<'_>,
        ticket: T,
        now: Moment,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        if self.repeats_too_often() {
            return self.fail(Condition::PolicyViolation, ticket, actions);
        }
        let rid = request.rid;
        let Some(early) = self.early.iter_mut().find(|early| early.request.rid == rid) else {
            return;
        };
        if early.request.key != request.key {
            return self.fail(Condition::ItemNotFound, ticket, actions);
        }
        let former = early.ticket.replace(ticket);
        early.since = now;
        self.supersede(former, ticket, actions);
    }

    /// Counts a repetition: nobody may make us answer at any rate (section 14.3).
    pub(super) fn repeats_too_often(&mut self) -> bool {
        self.repeats = self.repeats.saturating_add(1);
        self.repeats > self.repeats_max
    }

    /// A request that waits came again: its former link is told so, the new one gets the answer.
    pub(super) fn supersede(
        &mut self,
        former: Option<T>,
        ticket: T,
        actions: &mut Vec<Action<'_, T>>,
    ) {
        if let Some(former) = former.filter(|former| *former != ticket) {
            self.push_answer(Kind::Recoverable, former, actions);
        }
    }

    /// Requests that came and have no answer, but for the one more that section 11 allows.
    pub(super) fn unanswered(&self) -> usize {
        let held = self.held.iter().map(|held| held.extra);
        let early = self.early.iter().map(|early| extra(&early.request));
        held.chain(early).filter(|own| *own == Extra::No).count()
    }

    /// Whether an empty request that came now came too early (sections 11 and 12).
    fn is_hasty(&self, now: Moment) -> bool {
        if now.since(self.last.came) + POLLING_SLACK >= self.polling {
            return false;
        }
        if self.hold == 0 {
            return self.last.was_empty && !self.last.brought;
        }
        let waits = |held: &&Held<T>| held.ticket.is_some() && held.extra == Extra::No;
        self.held.iter().filter(waits).count() + 1 >= self.requests.into()
    }

    /// What the client says it has (section 9.2). When it says nothing it has everything.
    fn acknowledge(&mut self, request: &Request<'_>, now: Moment) {
        if self.acks == Acks::Off {
            return;
        }
        let had = request.rid.saturating_sub(1);
        let has = request.ack.map_or(had, |ack| ack.min(had));
        self.report = self
            .replay
            .find(has + 1)
            .filter(|kept| now.since(kept.sent) >= REPORTED_AFTER)
            .map(|kept| (kept.rid, kept.sent));
        self.replay.forget_to(has);
    }
}

pub(super) const fn extra(request: &Request<'_>) -> Extra {
    match request.purpose {
        Purpose::Pause(_) => Extra::Pause,
        Purpose::Terminate => Extra::Terminate,
        Purpose::Exchange | Purpose::Restart => Extra::No,
    }
}

/// By how much the network may bring two polls closer together.
const POLLING_SLACK: Duration = Duration::from_secs(1);
/// An answer that was sent later may still be on its way.
const REPORTED_AFTER: Duration = Duration::from_secs(1);
