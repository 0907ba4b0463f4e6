//! One thread of the generator: its own event loop, its own sockets, nothing shared on the way of a
//! message.

mod alarm;
mod json;
mod labour;
mod lane;
mod link;
mod logins;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll};
use slab::Slab;

use crate::bosh::Bosh;
use crate::broadcast::Listeners;
use crate::chat::{Promised, Talks};
use crate::client::{Client, Resumable};
use crate::json::{Json, Reading};
use crate::plan::{Board, Phase, Plan, Row};
use crate::presence::Watchers;
use crate::recorder::{Recorder, latency_histogram};
use crate::sasl::KeyCache;
use crate::schedule::{Nanoseconds, Schedule};
use crate::sys;
use crate::task::{Deal, Pace, Role, Task};
use crate::websocket::WebSocket;
use alarm::{ALARM, Alarm};
use lane::{Lane, State, Which};

/// The share of one thread.
pub struct Share<'a> {
    pub thread: usize,
    pub task: &'a Task,
    pub accounts: usize,
    /// Marks the messages of this run.
    pub run: u32,
}

/// What a thread brings home, or all of them together.
pub struct Outcome {
    /// From the beginning of a login, or from when it was due, to its end.
    pub logins: Histogram<u64>,
    pub messages: Histogram<u64>,
    pub presence: Histogram<u64>,
    /// From the cut of a connection until the session is back.
    pub returns: Histogram<u64>,
    /// From a burst of messages to an absent account until the server has taken it; from the
    /// beginning of a login until everything that was stored has come.
    pub stores: Histogram<u64>,
    pub fetches: Histogram<u64>,
    /// How late the generator itself was: from when something was due until it was sent.
    pub lags: Histogram<u64>,
    pub derivations: u64,
    /// Messages that came again, or never, because a cut took their acknowledgement.
    pub repeated: u64,
    pub unpromised: u64,
    /// Presence of contacts that another run has left on a roster.
    pub strange: u64,
}

impl Outcome {
    pub fn new() -> Self {
        Self {
            logins: latency_histogram(),
            messages: latency_histogram(),
            presence: latency_histogram(),
            returns: latency_histogram(),
            stores: latency_histogram(),
            fetches: latency_histogram(),
            lags: latency_histogram(),
            derivations: 0,
            repeated: 0,
            unpromised: 0,
            strange: 0,
        }
    }

    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.logins, &other.logins),
            (&mut self.messages, &other.messages),
            (&mut self.presence, &other.presence),
            (&mut self.returns, &other.returns),
            (&mut self.stores, &other.stores),
            (&mut self.fetches, &other.fetches),
            (&mut self.lags, &other.lags),
        ];
        for (sum, part) in pairs {
            // All have the same bounds.
            let _ = sum.add(part);
        }
        self.derivations += other.derivations;
        self.repeated += other.repeated;
        self.unpromised += other.unpromised;
        self.strange += other.strange;
    }
}

struct Session {
    main: Lane,
    /// For requests, while the server holds what was asked on the other one.
    side: Option<Box<Lane>>,
    carrier: Carrier,
    client: Client,
    /// The place in this thread's list of sessions.
    place: u32,
    unasked: u32,
    /// It counts as a login under way.
    opening: bool,
    /// It counts as a logout under way.
    leaving: bool,
    /// When the login, the logout or the burst began that it is in.
    begun: Nanoseconds,
    /// When its former connection was lost; 0 if there was none.
    lost: Nanoseconds,
}

/// What a session is packed into.
enum Carrier {
    Tcp,
    WebSocket(Box<WebSocket>),
    Bosh(Box<Bosh>),
    Json(Box<Json>),
}

impl Session {
    fn lane(&mut self, which: Which) -> Option<&mut Lane> {
        match which {
            Which::Main => Some(&mut self.main),
            Which::Side => self.side.as_deref_mut(),
        }
    }

    fn is_open(&mut self, which: Which) -> bool {
        let lane = self.lane(which);
        lane.is_some_and(|lane| lane.state == State::Open)
    }

    /// Whether the server may close this connection without taking anything from us.
    fn is_unused(&self, which: Which) -> bool {
        match &self.carrier {
            Carrier::Bosh(bosh) => bosh.has_begun() && bosh.is_free(which as usize),
            Carrier::Json(json) => which == Which::Side && !json.is_asking(),
            _ => false,
        }
    }

    /// Whether a logout is done when the server has said so, and not before.
    fn awaits_answer(&self) -> bool {
        match &self.carrier {
            Carrier::Bosh(_) => true,
            Carrier::Json(json) => !matches!(json.reading, Reading::Socket(_)),
            _ => false,
        }
    }
}

/// Working space, one set for all sessions of the thread.
#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    clear: Vec<u8>,
    /// Items of a stream, as on TCP.
    out: Vec<u8>,
    /// Frames of a WebSocket, or requests, which come before those items.
    frames: Vec<u8>,
    /// Items that came in answers.
    items: Vec<u8>,
    wire: Vec<u8>,
}

impl Buffers {
    /// Drops what was not sent.
    fn clear(&mut self) {
        self.out.clear();
        self.frames.clear();
        self.wire.clear();
    }
}

/// A place that is to log in again.
struct Again {
    place: usize,
    lost: Nanoseconds,
    former: Option<Box<Resumable>>,
}

pub struct Worker<'a> {
    plan: &'a Plan,
    board: &'a Board,
    row: &'a Row,
    share: Share<'a>,
    deal: Deal,
    poll: Poll,
    alarm: Alarm,
    sessions: Slab<Session>,
    /// Where a session of the list is, if it is.
    places: Vec<Option<usize>>,
    buffers: Buffers,
    keys: KeyCache,
    talks: Option<Talks>,
    watchers: Option<Watchers>,
    listeners: Option<Listeners>,
    /// Sessions that have only passed, and leave now.
    passed: Vec<usize>,
    /// Places of the list that have been begun once, and those that shall begin again.
    begun: usize,
    again: VecDeque<Again>,
    /// How often each place that comes and goes has come.
    visits: Vec<u32>,
    /// Nobody logs in again before that: the server is away.
    patience: Nanoseconds,
    backoff: Duration,
    logging_in: usize,
    leaving: usize,
    /// The oldest first: what must have become ready, or have ended, by then.
    deadlines: VecDeque<(Nanoseconds, usize, Nanoseconds)>,
    /// The same for sessions that leave by themselves.
    departures: VecDeque<(Nanoseconds, usize, Nanoseconds)>,
    departed: u64,
    begins: Option<Schedule>,
    messages: Option<Schedule>,
    changes: Option<Schedule>,
    events: Option<Schedule>,
    keepalives: Option<Schedule>,
    /// Pairs that talk in an open loop, by the place of their first end.
    talking: Vec<usize>,
    asked_at_end: bool,
    /// The slab is swept for logging out up to here.
    swept: usize,
    phase: Phase,
    logins: Recorder,
    /// The last interval that was asked for and handed over.
    interval: u64,
    outcome: Outcome,
}

const READ_OCTETS: usize = 64 * 1024;
const EVENTS: usize = 1024;
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
const BUSY_TIMEOUT: Duration = Duration::from_millis(1);

impl<'a> Worker<'a> {
    /// Must be called in the thread that runs it: the descriptors belong to that thread.
    pub fn new(plan: &'a Plan, board: &'a Board, share: Share<'a>) -> io::Result<Self> {
        if plan.private_descriptors {
            sys::private_descriptors()?;
        }
        let (task, run) = (share.task, share.run);
        let deal = Deal::new(task, plan.threads, share.thread);
        let user = |place| (deal.user(place) % share.accounts) as u32;
        let talks = task.chat.map(|chat| {
            let users = deal.places(Role::Talk).map(user);
            Talks::new(chat, users, run, plan)
        });
        let watchers = task.presence.map(|presence| {
            let users = deal.places(Role::Watch).map(user).collect();
            Watchers::new(presence, users, run)
        });
        let listeners = task.broadcast.as_ref().map(|broadcast| {
            let members = deal.places(Role::Listen).len();
            Listeners::new(broadcast, members, run)
        });
        let poll = Poll::new()?;
        let now = plan.epoch.elapsed().as_nanos() as Nanoseconds;
        Ok(Self {
            alarm: Alarm::new(&poll)?,
            poll,
            row: &board.rows[share.thread],
            sessions: Slab::new(),
            places: vec![None; deal.sessions()],
            buffers: Buffers {
                read: vec![0; READ_OCTETS],
                ..Buffers::default()
            },
            keys: KeyCache::default(),
            talks,
            watchers,
            listeners,
            passed: Vec::new(),
            begun: 0,
            again: VecDeque::new(),
            visits: vec![0; deal.places(Role::Churn).len()],
            patience: 0,
            backoff: Duration::ZERO,
            logging_in: 0,
            leaving: 0,
            deadlines: VecDeque::new(),
            departures: VecDeque::new(),
            departed: 0,
            begins: plan.rate.and_then(|rate| Schedule::new(now, rate)),
            messages: None,
            changes: None,
            events: None,
            keepalives: None,
            talking: Vec::new(),
            asked_at_end: false,
            swept: 0,
            phase: Phase::Connect,
            logins: Recorder::new(),
            interval: 0,
            outcome: Outcome::new(),
            plan,
            board,
            share,
            deal,
        })
    }

    pub fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.follow_phase();
            if self.board.intervals.asked() != self.interval {
                self.hand_over();
            }
            if self.phase == Phase::Abort {
                break;
            }
            self.begin_logins();
            self.work();
            if self.is_over() {
                break;
            }
            let timeout = self.timeout()?;
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() != ALARM {
                    self.on_event(event);
                }
            }
            self.expire();
            self.publish();
        }
        self.publish();
        self.hand_over();
        self.settle();
        self.outcome.logins = self.logins.into_total();
        self.outcome.derivations = self.keys.derivations;
        Ok(self.outcome)
    }

    /// Whether the thread may end by itself: who only passes ends when all have passed.
    fn is_over(&self) -> bool {
        let passing = self.share.task.passing == self.share.task.sessions();
        let begun = self.begun == self.deal.sessions() || self.phase == Phase::Close;
        begun && self.sessions.is_empty() && (passing || self.phase >= Phase::Close)
    }

    /// How long to wait for events; the alarm is set to what is due before that.
    fn timeout(&mut self) -> io::Result<Duration> {
        if self.phase == Phase::Close && self.swept < self.sessions.capacity() {
            return Ok(BUSY_TIMEOUT);
        }
        let now = self.now();
        let due = self.next_due();
        if due <= now {
            return Ok(Duration::ZERO);
        }
        if due - now < POLL_TIMEOUT.as_nanos() as Nanoseconds {
            self.alarm.set(now, due)?;
        }
        Ok(POLL_TIMEOUT)
    }

    fn follow_phase(&mut self) {
        let phase = self.board.phase();
        if phase == self.phase {
            return;
        }
        let (before, now) = (self.phase, self.now());
        self.phase = phase;
        let talks = self.talks.as_mut().map(|talks| &mut talks.measured);
        let watchers = self.watchers.as_mut().map(|watch| &mut watch.measured);
        let listeners = self.listeners.as_mut().map(|listen| &mut listen.measured);
        for measured in talks.into_iter().chain(watchers).chain(listeners) {
            if phase == Phase::Measure {
                *measured = now..Nanoseconds::MAX;
            } else if before == Phase::Measure {
                measured.end = now;
            }
        }
        self.enter_phase(now);
    }

    fn publish(&self) {
        let online = self.sessions.len() - self.logging_in.min(self.sessions.len());
        self.row.online.store(online as u64, Ordering::Relaxed);
        if let Some(talks) = &self.talks {
            talks.publish(self.row);
        }
        if let Some(watchers) = &self.watchers {
            watchers.publish(self.row);
        }
        if let Some(listeners) = &self.listeners {
            listeners.publish(self.row);
        }
    }

    /// Gives the latencies since the last time to the main thread.
    fn hand_over(&mut self) {
        let intervals = &self.board.intervals;
        self.interval = intervals.asked();
        self.logins.hand_over(&intervals.logins);
        if let Some(talks) = &mut self.talks {
            talks.latency.hand_over(&intervals.messages);
        }
        if let Some(watchers) = &mut self.watchers {
            watchers.latency.hand_over(&intervals.presence);
        }
        if let Some(listeners) = &mut self.listeners {
            listeners.latency.hand_over(&intervals.messages);
        }
    }

    /// Counts what never came, and takes the latencies home.
    fn settle(&mut self) {
        if let Some(mut talks) = self.talks.take() {
            let promised = if self.plan.ack_every.is_some() {
                Promised::All
            } else {
                Promised::UnlessCut
            };
            talks.settle(promised, self.board);
            self.outcome.repeated = talks.repeated;
            self.outcome.unpromised = talks.unpromised;
            self.outcome.messages = talks.latency.into_total();
        }
        if let Some(watchers) = self.watchers.take() {
            watchers.settle(self.board);
            self.outcome.strange = watchers.strange;
            self.outcome.presence = watchers.latency.into_total();
        }
        if let Some(listeners) = self.listeners.take() {
            // All threads have told what they published before any of them was to close.
            listeners.settle(self.board.total(|row| &row.changes), self.board);
            self.outcome.messages = listeners.latency.into_total();
        }
    }

    /// The user of a place. Who comes and goes is somebody else each time, as far as accounts go;
    /// two places never share one.
    fn user(&self, place: usize) -> u32 {
        let user = self.deal.user(place);
        let accounts = self.share.accounts;
        let churning = self.deal.places(Role::Churn);
        if !churning.contains(&place) {
            return (user % accounts) as u32;
        }
        // The accounts beyond those of the sessions are dealt in blocks as large as the churn.
        let spare = accounts.saturating_sub(self.share.task.sessions());
        let blocks = 1 + spare / self.share.task.churning.max(1);
        let visit = self.visits[place - churning.start] as usize % blocks;
        let base = match visit {
            0 => 0,
            visit => {
                let first = self.deal.first_user(Role::Churn);
                self.share.task.sessions() - first + (visit - 1) * self.share.task.churning
            }
        };
        ((user + base) % accounts) as u32
    }

    /// Whether a session that is lost comes back: everywhere if the server is expected to go away.
    fn may_return(&self) -> bool {
        self.share.task.cut.is_some()
    }

    /// The ends of pairs that come only when messages have been stored for them.
    fn is_absent(&self, place: usize) -> bool {
        let stores = |talks: &Talks| matches!(talks.chat.pace, Pace::Store { .. });
        let talks = self.talks.as_ref().is_some_and(stores);
        talks && place % 2 == 1 && self.deal.role(place) == Role::Talk
    }

    fn now(&self) -> Nanoseconds {
        self.plan.epoch.elapsed().as_nanos() as Nanoseconds
    }
}
