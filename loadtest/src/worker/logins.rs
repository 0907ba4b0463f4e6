//! How sessions come and go: logins at their pace, cuts and returns, logouts, failures.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Token;

use super::lane::{Lane, Which};
use super::{Again, Carrier, Session, Worker};
use crate::args::Transport;
use crate::bosh::Bosh;
use crate::client::{Client, Resumable, Stage};
use crate::failure::Failure;
use crate::json::{Json, Purpose};
use crate::plan::Phase;
use crate::recorder::Counts;
use crate::schedule::Nanoseconds;
use crate::socket;
use crate::task::{Cut, Role};
use crate::websocket::{Subprotocol, WebSocket};

/// How many sessions are logged out in one turn.
const SWEEP: usize = 64;
/// How many sessions of a thread log out at the same time.
const LEAVING_MAX: usize = 512;
/// How long a thread waits after a failed attempt to come back, and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

impl Worker<'_> {
    /// Begins what may be begun: who comes back first, then who has not been there.
    pub(super) fn begin_logins(&mut self) {
        if self.phase >= Phase::Drain {
            return;
        }
        let now = self.now();
        while self.logging_in < self.parallel() && now >= self.patience {
            let new = if self.again.is_empty() {
                self.next_place()
            } else {
                None
            };
            if new.is_none() && self.again.is_empty() {
                return;
            }
            let due = match &mut self.begins {
                Some(schedule) => match schedule.take(now) {
                    Some((_, due)) => due,
                    None => return,
                },
                None => now,
            };
            let again = match new {
                Some(place) => {
                    self.begun = place + 1;
                    Again {
                        place,
                        lost: 0,
                        former: None,
                    }
                }
                None => match self.again.pop_front() {
                    Some(again) => again,
                    None => return,
                },
            };
            self.begin(again, due);
        }
    }

    /// Logins at the same time. While the server refuses, one knocks for all.
    fn parallel(&self) -> usize {
        if self.backoff.is_zero() {
            self.plan.parallel
        } else {
            1
        }
    }

    /// The next place that has not been begun; the absent are passed over until they shall come.
    fn next_place(&self) -> Option<usize> {
        (self.begun..self.places.len()).find(|&place| !self.is_absent(place))
    }

    /// When a login is due that only the rate or the patience holds back.
    pub(super) fn next_login(&self) -> Nanoseconds {
        let waiting = !self.again.is_empty() || self.next_place().is_some();
        let open = self.phase < Phase::Drain && self.logging_in < self.parallel();
        if !waiting || !open {
            return Nanoseconds::MAX;
        }
        let rate = self.begins.as_ref().map_or(0, |schedule| schedule.next());
        rate.max(self.patience)
    }

    fn begin(&mut self, again: Again, due: Nanoseconds) {
        let Again {
            place,
            lost,
            former,
        } = again;
        // Whoever returns to a server that is away keeps what it can resume.
        match self.connect(place, due, lost) {
            Ok(key) => {
                let user = self.sessions[key].client.user;
                self.sessions[key].client = Client::new(user, former);
            }
            Err(error) => {
                let failure = Failure::new(format!("connect: {}", error.kind()), error.to_string());
                self.dismiss(place, lost, former, &failure);
            }
        }
    }

    /// Begins to connect for a place.
    pub(super) fn open_lane(&self, place: usize, token: Token) -> io::Result<Lane> {
        let index = place * self.plan.threads + self.share.thread;
        let target = self.plan.target(index);
        let source = self.plan.source(index, &target);
        Lane::open(self.poll.registry(), target, source, token)
    }

    fn connect(&mut self, place: usize, begun: u64, lost: u64) -> io::Result<usize> {
        let user = self.user(place);
        let key = self.sessions.vacant_key();
        let main = self.open_lane(place, Which::Main.token(key))?;
        let timeout = self.plan.timeout.as_nanos() as Nanoseconds;
        let now = self.plan.epoch.elapsed().as_nanos() as Nanoseconds;
        let seed = now ^ (u64::from(user) << 40);
        self.deadlines.push_back((now + timeout, key, begun));
        self.places[place] = Some(key);
        let carrier = self.carrier(place, seed);
        self.sessions.insert(Session {
            main,
            side: None,
            carrier,
            client: Client::new(user, None),
            place: place as u32,
            unasked: 0,
            opening: true,
            leaving: false,
            begun,
            lost,
        });
        self.logging_in += 1;
        Ok(key)
    }

    fn carrier(&self, place: usize, seed: u64) -> Carrier {
        let purpose = match self.deal.role(place) {
            Role::Listen => Purpose::Listener,
            Role::Publish => Purpose::Publisher,
            _ => Purpose::User,
        };
        match self.plan.transport {
            Transport::Tcp => Carrier::Tcp,
            Transport::Websocket => {
                let web = WebSocket::new(Subprotocol::Xmpp, seed);
                Carrier::WebSocket(Box::new(web))
            }
            Transport::Bosh => Carrier::Bosh(Box::new(Bosh::new(seed))),
            Transport::Json | Transport::Events | Transport::Poll => {
                Carrier::Json(Box::new(Json::new(purpose, seed)))
            }
        }
    }

    pub(super) fn on_ready(&mut self, key: usize, out: &mut Vec<u8>) {
        let now = self.now();
        let session = &mut self.sessions[key];
        let took = now.saturating_sub(session.begun);
        self.logins.record(took, Counts::Yes);
        let place = session.place as usize;
        self.row.ready.fetch_add(1, Ordering::Relaxed);
        self.backoff = Duration::ZERO;
        let role = self.deal.role(place);
        if role == Role::Pass {
            match session.carrier {
                // It may need another connection.
                Carrier::Json(_) => self.passed.push(key),
                _ if session.client.stage != Stage::End => session.client.close(out),
                _ => {}
            }
            return;
        }
        session.opening = false;
        self.logging_in -= 1;
        let begun = session.begun;
        if session.lost > 0 {
            self.on_back(key, now);
            if let Some(talks) = self.talks.as_mut().filter(|talks| talks.has(place)) {
                talks.rebind(place);
            }
        }
        match role {
            Role::Talk => {
                if let Some(talks) = &mut self.talks {
                    talks.ready(place);
                }
            }
            Role::Watch => {
                let member = place - self.deal.places(Role::Watch).start;
                if let Some(watchers) = &mut self.watchers {
                    watchers.ready(member);
                }
            }
            Role::Churn => {
                let stay = self.share.task.churn.map_or(Duration::ZERO, |c| c.stay);
                let leaves = now + stay.as_nanos() as Nanoseconds;
                self.departures.push_back((leaves, key, begun));
            }
            Role::Listen => {
                let member = place - self.deal.places(Role::Listen).start;
                if let Some(listeners) = &mut self.listeners {
                    listeners.ready(member);
                }
            }
            Role::Idle | Role::Pass | Role::Publish => {}
        }
    }

    fn on_back(&mut self, key: usize, now: Nanoseconds) {
        let took = now.saturating_sub(self.sessions[key].lost);
        self.outcome.returns.saturating_record(took);
        self.row.back.fetch_add(1, Ordering::Relaxed);
    }

    /// The former session goes on: what the server has not got is sent again.
    pub(super) fn on_resumed(&mut self, key: usize, count: u32, out: &mut Vec<u8>) {
        let now = self.now();
        let session = &mut self.sessions[key];
        session.opening = false;
        self.logging_in -= 1;
        self.backoff = Duration::ZERO;
        let took = now.saturating_sub(session.begun);
        self.logins.record(took, Counts::Yes);
        let place = session.place as usize;
        if let Some(talks) = self.talks.as_mut().filter(|talks| talks.has(place)) {
            talks.acknowledged(place, count);
            session.client.sm.sent = talks.send_again(place, count, out);
        }
        self.row.resumed.fetch_add(1, Ordering::Relaxed);
        self.on_back(key, now);
    }

    /// Cuts the connection, as the task says.
    pub(super) fn cut(&mut self, key: usize, how: Cut) {
        if how == Cut::Reset {
            let session = &mut self.sessions[key];
            for which in Which::ALL {
                if let Some(lane) = session.lane(which) {
                    socket::reset_on_close(&lane.socket);
                }
            }
        }
        let place = self.sessions[key].place as usize;
        if self.deal.role(place) == Role::Churn {
            self.row.cut.fetch_add(1, Ordering::Relaxed);
            self.ended(key);
        } else {
            self.lose(key);
        }
    }

    /// The connection is gone and the session will come back.
    fn lose(&mut self, key: usize) {
        let session = self.remove(key);
        let place = session.place as usize;
        let lost = if session.lost > 0 && session.opening {
            session.lost
        } else {
            self.row.cut.fetch_add(1, Ordering::Relaxed);
            self.now().max(1)
        };
        self.again.push_back(Again {
            place,
            lost,
            former: session.client.former(),
        });
    }

    /// Sends the sessions away whose time is over.
    pub(super) fn depart(&mut self) {
        let Some(churn) = self.share.task.churn else {
            return;
        };
        let now = self.now();
        while let Some(&(leaves, key, begun)) = self.departures.front() {
            if leaves > now || self.phase >= Phase::Drain {
                return;
            }
            self.departures.pop_front();
            let there = self.sessions.get(key);
            if !there.is_some_and(|s| s.begun == begun && s.client.stage == Stage::Ready) {
                continue;
            }
            self.departed += 1;
            let abrupt = u64::from(churn.abrupt);
            if self.departed * abrupt / 100 != (self.departed - 1) * abrupt / 100 {
                self.cut(key, Cut::Reset);
            } else {
                self.log_out(key);
            }
        }
    }

    pub(super) fn log_out(&mut self, key: usize) {
        let (now, timeout) = (self.now(), self.plan.timeout.as_nanos() as Nanoseconds);
        let mut buffers = self.take_buffers();
        let session = &mut self.sessions[key];
        session.begun = now;
        session.leaving = true;
        self.leaving += 1;
        self.deadlines.push_back((now + timeout, key, now));
        let result = match session.carrier {
            Carrier::Json(_) => self.leave_json(key, &mut buffers.out),
            _ => {
                session.client.close(&mut buffers.out);
                Ok(())
            }
        };
        let result = result.and_then(|()| self.flush(key, &mut buffers));
        self.buffers = buffers;
        if let Err(failure) = result {
            self.fail(key, &failure);
        }
    }

    /// Logs a part of the sessions out; those that are not logged in are dropped. No more leave at
    /// the same time than the server lets go within the time that a logout may take.
    pub(super) fn sweep(&mut self) {
        self.again.clear();
        let mut left = SWEEP.min(LEAVING_MAX.saturating_sub(self.leaving));
        while left > 0 && self.swept < self.sessions.capacity() {
            let key = self.swept;
            self.swept += 1;
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            left -= 1;
            match session.client.stage {
                Stage::Ready => self.log_out(key),
                Stage::End => {}
                _ => drop(self.remove(key)),
            }
        }
    }

    pub(super) fn expire(&mut self) {
        let now = self.now();
        while let Some(&(deadline, key, begun)) = self.deadlines.front() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_front();
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            if session.begun != begun || session.client.stage == Stage::Ready {
                continue;
            }
            let situation = session.client.stage.situation();
            let kind = format!("timeout while {situation}");
            let user = session.client.user;
            let detail = format!("user {user}, {} s", self.plan.timeout.as_secs());
            self.fail(key, &Failure::new(kind, detail));
        }
    }

    /// A session cannot go on. Where the server may go away that is no error, and it comes back.
    pub(super) fn fail(&mut self, key: usize, failure: &Failure) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let place = session.place as usize;
        let was_on = !session.opening && session.client.stage != Stage::End;
        if was_on && self.comes_back(failure) {
            self.lose(key);
            return;
        }
        let session = self.remove(key);
        let lost = session.lost;
        self.dismiss(place, lost, session.client.former(), failure);
    }

    fn comes_back(&self, failure: &Failure) -> bool {
        let server = self.share.task.cut == Some(Cut::Server);
        server && self.phase < Phase::Drain && failure.is_passing()
    }

    /// An attempt has failed: it is made again later, or it is an error.
    fn dismiss(
        &mut self,
        place: usize,
        lost: Nanoseconds,
        former: Option<Box<Resumable>>,
        failure: &Failure,
    ) {
        self.backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        let pause = self.now() + self.backoff.as_nanos() as Nanoseconds;
        if lost > 0 && self.comes_back(failure) {
            self.row.attempts_failed.fetch_add(1, Ordering::Relaxed);
            self.patience = pause;
            self.again.push_back(Again {
                place,
                lost,
                former,
            });
            return;
        }
        self.row.failed.fetch_add(1, Ordering::Relaxed);
        self.board.error(&failure.kind, || failure.detail.clone());
        if self.deal.role(place) == Role::Churn && self.phase < Phase::Drain {
            self.patience = pause;
            self.come_again(place);
        }
    }

    /// The stream has ended as it should.
    pub(super) fn ended(&mut self, key: usize) {
        self.row.ended.fetch_add(1, Ordering::Relaxed);
        let session = self.remove(key);
        let place = session.place as usize;
        if self.deal.role(place) == Role::Churn && self.phase < Phase::Drain {
            self.come_again(place);
        }
    }

    /// Somebody else comes in this place.
    fn come_again(&mut self, place: usize) {
        let visit = place - self.deal.places(Role::Churn).start;
        self.visits[visit] = self.visits[visit].wrapping_add(1);
        self.again.push_back(Again {
            place,
            lost: 0,
            former: None,
        });
    }

    fn remove(&mut self, key: usize) -> Session {
        let mut session = self.sessions.remove(key);
        for which in Which::ALL {
            if let Some(lane) = session.lane(which) {
                lane.close(self.poll.registry());
            }
        }
        self.places[session.place as usize] = None;
        if session.opening {
            self.logging_in -= 1;
        }
        if session.leaving {
            self.leaving -= 1;
        }
        session
    }

    /// The absent come: they stand in the list as if they had been lost just now.
    pub(super) fn admit_absent(&mut self) {
        for place in self.deal.places(Role::Talk) {
            if self.is_absent(place) && self.places[place].is_none() {
                self.again.push_back(Again {
                    place,
                    lost: 0,
                    former: None,
                });
            }
        }
    }
}
