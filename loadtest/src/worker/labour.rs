//! What logged-in sessions do: messages in a closed and in an open loop, presence, keep-alives,
//! messages for the absent.

use std::sync::atomic::Ordering;

use super::{Buffers, POLL_TIMEOUT, Worker};
use crate::client::{PROBE, Stage};
use crate::plan::Phase;
use crate::schedule::{Nanoseconds, Schedule};
use crate::task::{Answer, Cut, Ends, Pace, Role};

const ACK_REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";
/// Pieces of scheduled work that are done before sockets are looked at again.
const BATCH: usize = 64;

impl Worker<'_> {
    /// A phase has begun.
    pub(super) fn enter_phase(&mut self, now: Nanoseconds) {
        match self.phase {
            Phase::Warm | Phase::Measure => self.start(now),
            Phase::Return => {
                self.messages = None;
                if let Some(cut) = self.share.task.cut.filter(|&cut| cut != Cut::Server) {
                    self.send_before_cut(now);
                    self.cut_all(cut);
                }
                self.admit_absent();
            }
            Phase::Drain | Phase::Close => {
                // What was due a turn ago is late; what is due just now is not.
                let turn = POLL_TIMEOUT.as_nanos() as Nanoseconds;
                let until = now.saturating_sub(turn);
                let missed = self.messages.as_ref().map_or(0, |s| s.missed(until));
                self.row.unsent.fetch_add(missed, Ordering::Relaxed);
                self.messages = None;
                self.changes = None;
                self.events = None;
                self.keepalives = None;
            }
            _ => {}
        }
    }

    /// One turn of the phase's work.
    pub(super) fn work(&mut self) {
        match self.phase {
            Phase::Prepare => self.prepare(),
            Phase::Warm | Phase::Measure | Phase::Return => {
                self.send_due_messages();
                self.send_due_changes();
                self.send_due_keepalives();
                self.publish_due_events();
            }
            Phase::Drain => self.drain(),
            Phase::Close => self.sweep(),
            _ => {}
        }
        self.depart();
        self.leave_passed();
        if self.phase == Phase::Return {
            self.row.done.store(self.phase as u64, Ordering::Release);
        }
    }

    pub(super) fn next_due(&self) -> Nanoseconds {
        let schedules = [
            &self.messages,
            &self.changes,
            &self.events,
            &self.keepalives,
        ];
        let scheduled = schedules.into_iter().flatten().map(Schedule::next).min();
        let departure = self.departures.front().map(|&(leaves, ..)| leaves);
        let departure = departure.filter(|_| self.phase < Phase::Drain);
        let due = scheduled.into_iter().chain(departure).min();
        due.unwrap_or(Nanoseconds::MAX).min(self.next_login())
    }

    /// Starts everybody's work, once.
    fn start(&mut self, now: Nanoseconds) {
        self.start_talks(now);
        let share = |mine: usize, all: usize| mine as f64 / all.max(1) as f64;
        let task = self.share.task;
        if self.changes.is_none()
            && let Some((presence, watchers)) = task.presence.zip(self.watchers.as_ref())
        {
            let all = task.groups * presence.group_size;
            let rate = presence.changes_per_second * share(watchers.members(), all);
            self.changes = Schedule::new(now, rate);
        }
        if self.events.is_none()
            && let Some(broadcast) = &task.broadcast
            && !self.deal.places(Role::Publish).is_empty()
        {
            self.events = Schedule::new(now, broadcast.events_per_second);
        }
        if self.keepalives.is_none()
            && let Some(every) = task.keepalive
        {
            let rate = self.places.len() as f64 / every.as_secs_f64();
            self.keepalives = Schedule::new(now, rate);
        }
    }

    fn start_talks(&mut self, now: Nanoseconds) {
        let Some(talks) = &mut self.talks else { return };
        let chat = talks.chat;
        if let Some(pairs) = talks.start() {
            self.talking = pairs;
        } else if !matches!(chat.pace, Pace::Rate(_)) || self.messages.is_some() {
            return;
        }
        let mut buffers = self.take_buffers();
        match chat.pace {
            Pace::Window(window) => {
                for place in self.talking.clone() {
                    if let Some(key) = self.places[place] {
                        self.talk(key, place, window, now, &mut buffers);
                    }
                }
            }
            Pace::Rate(rate) => {
                let all = self.share.task.pairs.max(1);
                let mine = rate * self.talking.len() as f64 / all as f64;
                self.messages = Schedule::new(now, mine);
            }
            Pace::Store { .. } => {
                for place in self.deal.places(Role::Talk).step_by(2) {
                    if let Some(key) = self.places[place] {
                        self.store(key, place, now, &mut buffers);
                    }
                }
            }
            Pace::Cut(_) => {}
        }
        self.buffers = buffers;
    }

    fn send_due_messages(&mut self) {
        for _ in 0..BATCH {
            let now = self.now();
            let Some((number, due)) = self.messages.as_mut().and_then(|s| s.take(now)) else {
                return;
            };
            let (pairs, answer) = (
                self.talking.len(),
                self.talks.as_ref().map(|t| t.chat.answer),
            );
            let (round, pair) = (number as usize / pairs, number as usize % pairs);
            // Both ends talk in turns, or only the first does.
            let place = match answer {
                Some(Answer::OneWay) => self.talking[pair],
                _ => self.talking[pair] + round % 2,
            };
            self.outcome.lags.saturating_record(now - due);
            match self.ready_at(place) {
                Some(key) => {
                    let mut buffers = self.take_buffers();
                    self.talk(key, place, 1, due, &mut buffers);
                    self.buffers = buffers;
                }
                None => {
                    self.row.unsent.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn send_due_changes(&mut self) {
        for _ in 0..BATCH {
            let now = self.now();
            let Some((number, due)) = self.changes.as_mut().and_then(|s| s.take(now)) else {
                return;
            };
            let Some(members) = self.watchers.as_ref().map(|w| w.members()) else {
                return;
            };
            let member = number as usize % members;
            let place = self.deal.places(Role::Watch).start + member;
            self.outcome.lags.saturating_record(now - due);
            let Some(key) = self.ready_at(place) else {
                continue;
            };
            let mut buffers = self.take_buffers();
            if let Some(watchers) = &mut self.watchers {
                watchers.change(member, due, &mut buffers.out);
            }
            self.count_sent(key, &mut buffers.out);
            self.send(key, buffers);
        }
    }

    fn send_due_keepalives(&mut self) {
        for _ in 0..BATCH {
            let now = self.now();
            let Some((number, due)) = self.keepalives.as_mut().and_then(|s| s.take(now)) else {
                return;
            };
            let Some(key) = self.ready_at(number as usize % self.places.len()) else {
                continue;
            };
            self.outcome.lags.saturating_record(now - due);
            self.row.keepalives.fetch_add(1, Ordering::Relaxed);
            let mut buffers = self.take_buffers();
            // On a WebSocket a ping is made of it.
            buffers.out.push(b' ');
            self.send(key, buffers);
        }
    }

    pub(super) fn ready_at(&self, place: usize) -> Option<usize> {
        let key = self.places[place]?;
        let session = self.sessions.get(key)?;
        (session.client.stage == Stage::Ready).then_some(key)
    }

    pub(super) fn send(&mut self, key: usize, mut buffers: Buffers) {
        let result = self.flush(key, &mut buffers);
        self.buffers = buffers;
        if let Err(failure) = result {
            self.fail(key, &failure);
        }
    }

    /// Sends so many messages from a place, due at `at`.
    pub(super) fn talk(
        &mut self,
        key: usize,
        place: usize,
        count: u32,
        at: Nanoseconds,
        buf: &mut Buffers,
    ) {
        buf.clear();
        for _ in 0..count {
            self.write_message(key, place, at, &mut buf.out);
        }
        if let Err(failure) = self.flush(key, buf) {
            self.fail(key, &failure);
        }
    }

    pub(super) fn write_message(
        &mut self,
        key: usize,
        place: usize,
        at: Nanoseconds,
        out: &mut Vec<u8>,
    ) {
        let Some(talks) = &mut self.talks else {
            return;
        };
        talks.write(place, at, out);
        if self.count_sent(key, out) && self.may_return() {
            let counted = self.sessions[key].client.sm.sent;
            if let Some(talks) = &mut self.talks {
                talks.keep(place, counted, at);
            }
        }
    }

    /// A stanza has been appended: with stream management it counts, and sometimes we ask. Returns
    /// whether it counts.
    fn count_sent(&mut self, key: usize, out: &mut Vec<u8>) -> bool {
        let session = &mut self.sessions[key];
        let sm = &mut session.client.sm;
        if self.plan.transport.is_json() {
            // The server says of each that it is stored.
            sm.sent = sm.sent.wrapping_add(1);
            return false;
        }
        let Some(every) = self.plan.ack_every else {
            return false;
        };
        if !sm.enabled {
            return false;
        }
        sm.sent = sm.sent.wrapping_add(1);
        session.unasked += 1;
        if session.unasked >= every {
            session.unasked = 0;
            out.extend_from_slice(ACK_REQUEST);
        }
        true
    }

    /// Both ends of every pair send what shall be under way when the connections are cut.
    fn send_before_cut(&mut self, now: Nanoseconds) {
        let pace = self.share.task.chat.map(|chat| chat.pace);
        let Some(Pace::Cut(count)) = pace else {
            return;
        };
        let mut buffers = self.take_buffers();
        for place in self.deal.places(Role::Talk) {
            if let Some(key) = self.ready_at(place) {
                self.talk(key, place, count, now, &mut buffers);
            }
        }
        self.buffers = buffers;
    }

    fn cut_all(&mut self, how: Cut) {
        for place in 0..self.places.len() {
            if let Some(key) = self.ready_at(place)
                && self.deal.role(place) != Role::Churn
                && (place % 2 == 1 || self.share.task.ends == Ends::Both)
            {
                self.cut(key, how);
            }
        }
    }

    /// Sends the next burst for an absent account, and asks the server whether it has it.
    fn store(&mut self, key: usize, place: usize, now: Nanoseconds, buffers: &mut Buffers) {
        let pace = self.share.task.chat.map(|chat| chat.pace);
        let (Some(Pace::Store { messages, burst }), Some(talks)) = (pace, &self.talks) else {
            return;
        };
        let count = burst.min(messages.saturating_sub(talks.sent_by(place)));
        if count == 0 {
            return;
        }
        buffers.clear();
        for _ in 0..count {
            self.write_message(key, place, now, &mut buffers.out);
        }
        buffers.out.extend_from_slice(PROBE);
        self.count_sent(key, &mut buffers.out);
        let session = &mut self.sessions[key];
        session.begun = now;
        if let Err(failure) = self.flush(key, buffers) {
            self.fail(key, &failure);
        }
    }

    /// The server has processed a burst.
    pub(super) fn on_probed(&mut self, key: usize, buffers: &mut Buffers) {
        let pace = self.share.task.chat.map(|chat| chat.pace);
        let Some(Pace::Store { burst, .. }) = pace else {
            return;
        };
        let now = self.now();
        let session = &mut self.sessions[key];
        let place = session.place as usize;
        self.outcome
            .stores
            .saturating_record(now.saturating_sub(session.begun));
        let sent = self.talks.as_ref().map_or(0, |t| t.sent_by(place));
        // Only the last burst may be smaller.
        let last = match sent % burst {
            0 => burst,
            rest => rest,
        };
        self.row
            .stored
            .fetch_add(u64::from(last), Ordering::Relaxed);
        self.store(key, place, now, buffers);
    }

    /// Somebody who was absent has got a message: maybe the last one.
    pub(super) fn note_fetched(&mut self, key: usize, now: Nanoseconds) {
        if self.phase != Phase::Return {
            return;
        }
        let session = &self.sessions[key];
        let place = session.place as usize;
        let complete = self.talks.as_ref().is_some_and(|t| t.is_complete(place));
        if self.is_absent(place) && complete {
            let took = now.saturating_sub(session.begun);
            self.outcome.fetches.saturating_record(took);
        }
    }

    /// Makes the subscriptions that do not exist yet.
    fn prepare(&mut self) {
        loop {
            let mut buffers = self.take_buffers();
            let Some(watchers) = &mut self.watchers else {
                self.buffers = buffers;
                break;
            };
            let Some(member) = watchers.ask(self.plan, &mut buffers.out) else {
                self.buffers = buffers;
                break;
            };
            let place = self.deal.places(Role::Watch).start + member;
            match self.ready_at(place) {
                Some(key) => {
                    self.count_sent(key, &mut buffers.out);
                    self.send(key, buffers);
                }
                None => self.buffers = buffers,
            }
        }
        if self.watchers.as_ref().is_none_or(|w| w.is_prepared()) {
            self.row.done.store(self.phase as u64, Ordering::Release);
        }
    }

    pub(super) fn on_presence(
        &mut self,
        key: usize,
        place: usize,
        stanza: &[u8],
        buf: &mut Buffers,
    ) {
        let member = place - self.deal.places(Role::Watch).start;
        let now = self.now();
        let sm = &mut self.sessions[key].client.sm;
        sm.received = sm.received.wrapping_add(1);
        let before = buf.out.len();
        if let Some(watchers) = &mut self.watchers {
            watchers.receive(member, stanza, now, self.plan, self.board, &mut buf.out);
        }
        if buf.out.len() > before {
            self.count_sent(key, &mut buf.out);
        }
    }

    pub(super) fn on_roster(&mut self, place: usize, result: &[u8]) {
        let member = place - self.deal.places(Role::Watch).start;
        if let Some(watchers) = &mut self.watchers {
            watchers.on_roster(member, result, self.plan);
        }
    }

    /// Asks for the last acknowledgements, once, and counts what is still without.
    fn drain(&mut self) {
        if let Some(watchers) = &self.watchers {
            self.row.owed.store(watchers.owed(), Ordering::Relaxed);
        }
        if let Some(listeners) = &self.listeners {
            let owed = listeners.owed(self.share.task.listening);
            self.row.owed.store(owed, Ordering::Relaxed);
        }
        let json = self.plan.transport.is_json();
        if self.plan.ack_every.is_some() || json {
            if !json && !std::mem::replace(&mut self.asked_at_end, true) {
                for place in 0..self.places.len() {
                    if let Some(key) = self.ready_at(place) {
                        let mut buffers = self.take_buffers();
                        buffers.out.extend_from_slice(ACK_REQUEST);
                        self.send(key, buffers);
                    }
                }
            }
            let waiting = self.sessions.iter();
            let waiting = waiting.map(|(_, session)| session.client.sm.unacknowledged());
            self.row
                .unacknowledged
                .store(waiting.sum(), Ordering::Relaxed);
        }
        self.row.done.store(self.phase as u64, Ordering::Release);
    }
}
