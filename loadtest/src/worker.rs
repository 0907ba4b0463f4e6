//! One thread of the generator: its own event loop, its own sockets, nothing shared on the way of a
//! message.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::args::Security;
use crate::chat::{Talks, Turn};
use crate::client::{Client, Failure, Stage, Step, example};
use crate::plan::{Board, Phase, Plan, Row, Task};
use crate::recorder::{Counts, Recorder, latency_histogram};
use crate::sasl::KeyCache;
use crate::scan::{self, Item};
use crate::socket;
use crate::sys;
use crate::tls::{Progress, Tls};

/// The share of one thread.
pub struct Share {
    pub thread: usize,
    /// Sessions (or logins) of this thread.
    pub sessions: usize,
    pub accounts: usize,
    pub task: Task,
    /// Marks the messages of this run.
    pub run: u32,
}

/// What a thread brings home.
pub struct Outcome {
    pub logins: Histogram<u64>,
    pub messages: Histogram<u64>,
    pub derivations: u64,
}

struct Session {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
    client: Client,
    /// The place in this thread's list of sessions.
    place: usize,
    begun: Instant,
    /// Octets of an element that has not come whole.
    input: Vec<u8>,
    /// Octets that the socket did not take.
    output: Vec<u8>,
    unasked: u32,
}

/// Working space, one set for all sessions of the thread.
#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    clear: Vec<u8>,
    out: Vec<u8>,
    wire: Vec<u8>,
}

pub struct Worker<'a> {
    plan: &'a Plan,
    board: &'a Board,
    row: &'a Row,
    share: Share,
    poll: Poll,
    sessions: Slab<Session>,
    /// Where a session of the list is, if it is.
    places: Vec<Option<usize>>,
    buffers: Buffers,
    keys: KeyCache,
    talks: Option<Talks>,
    /// Sessions of the list that have been begun.
    begun: usize,
    logging_in: usize,
    /// The oldest first: what must have become ready, or have ended, by then.
    deadlines: VecDeque<(Instant, usize, Instant)>,
    asked_at_end: bool,
    /// The slab is swept for logging out up to here.
    swept: usize,
    phase: Phase,
    epoch: Instant,
    logins: Recorder,
    /// The last interval that was asked for and handed over.
    interval: u64,
}

const READ_OCTETS: usize = 64 * 1024;
const EVENTS: usize = 1024;
const ACK_REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// How many sessions are logged out in one turn.
const SWEEP: usize = 64;

impl<'a> Worker<'a> {
    /// Must be called in the thread that runs it: the descriptors belong to that thread.
    pub fn new(plan: &'a Plan, board: &'a Board, share: Share) -> io::Result<Self> {
        if plan.private_descriptors {
            sys::private_descriptors()?;
        }
        let talks = match share.task {
            Task::Chat(chat) => Some(Talks::new(chat, share.sessions)),
            _ => None,
        };
        Ok(Self {
            plan,
            board,
            row: &board.rows[share.thread],
            poll: Poll::new()?,
            sessions: Slab::new(),
            places: vec![None; share.sessions],
            buffers: Buffers {
                read: vec![0; READ_OCTETS],
                ..Buffers::default()
            },
            keys: KeyCache::default(),
            talks,
            begun: 0,
            logging_in: 0,
            deadlines: VecDeque::new(),
            asked_at_end: false,
            swept: 0,
            phase: Phase::Connect,
            epoch: Instant::now(),
            logins: Recorder::new(),
            interval: 0,
            share,
        })
    }

    pub fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.phase = self.board.phase();
            if self.board.intervals.asked() != self.interval {
                self.hand_over();
            }
            match self.phase {
                Phase::Abort => break,
                Phase::Close => self.sweep(),
                Phase::Warm | Phase::Measure => self.start_talks(),
                Phase::Drain => self.drain(),
                _ => {}
            }
            let more = self.begin_logins();
            let done = self.begun == self.share.sessions || self.phase == Phase::Close;
            if done && self.sessions.is_empty() && self.phase >= self.last_phase() {
                break;
            }
            let busy =
                more || (self.phase == Phase::Close && self.swept < self.sessions.capacity());
            let timeout = if busy {
                Duration::from_millis(1)
            } else {
                POLL_TIMEOUT
            };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.on_event(event);
            }
            self.expire();
            self.publish();
        }
        self.publish();
        self.hand_over();
        if let Some(talks) = &self.talks {
            talks.settle(self.board);
        }
        Ok(Outcome {
            logins: self.logins.into_total(),
            messages: self
                .talks
                .map_or_else(latency_histogram, |talks| talks.latency.into_total()),
            derivations: self.keys.derivations,
        })
    }

    /// When the thread may end by itself.
    fn last_phase(&self) -> Phase {
        if self.share.task == Task::Pass {
            Phase::Connect
        } else {
            Phase::Close
        }
    }

    fn publish(&self) {
        let online = self.sessions.len() - self.logging_in.min(self.sessions.len());
        self.row.online.store(online as u64, Ordering::Relaxed);
        if let Some(talks) = &self.talks {
            talks.publish(self.row);
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
    }

    /// The user of a place: pairs stay within a thread, everything else is dealt out.
    fn user(&self, place: usize) -> u32 {
        let (threads, thread) = (self.plan.threads, self.share.thread);
        let index = match self.share.task {
            Task::Chat(_) => (place / 2 * threads + thread) * 2 + place % 2,
            _ => place * threads + thread,
        };
        (index % self.share.accounts) as u32
    }

    /// Whether there is more to begin that only the rate holds back.
    fn begin_logins(&mut self) -> bool {
        if self.phase >= Phase::Drain {
            return false;
        }
        let allowed = match self.plan.rate {
            Some(rate) => (self.epoch.elapsed().as_secs_f64() * rate) as usize + 1,
            None => usize::MAX,
        };
        let end = self.share.sessions.min(allowed);
        while self.begun < end && self.logging_in < self.plan.parallel {
            let place = self.begun;
            self.begun += 1;
            if let Err(error) = self.connect(place) {
                let kind = format!("connect: {}", error.kind());
                self.row.failed.fetch_add(1, Ordering::Relaxed);
                self.board.error(&kind, || error.to_string());
            }
        }
        self.begun < self.share.sessions && self.logging_in < self.plan.parallel
    }

    fn connect(&mut self, place: usize) -> io::Result<()> {
        let index = place * self.plan.threads + self.share.thread;
        let target = self.plan.target(index);
        let source = self.plan.source(index, &target);
        let user = self.user(place);
        let mut socket = socket::open(target, source)?;
        let entry = self.sessions.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(entry.key()), interest)?;
        let (key, begun) = (entry.key(), Instant::now());
        self.deadlines
            .push_back((begun + self.plan.timeout, key, begun));
        self.places[place] = Some(key);
        entry.insert(Session {
            socket,
            tls: None,
            client: Client::new(user),
            place,
            begun,
            input: Vec::new(),
            output: Vec::new(),
            unasked: 0,
        });
        self.logging_in += 1;
        Ok(())
    }

    fn on_event(&mut self, event: &Event) {
        let key = event.token().0;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.out.clear();
        buffers.wire.clear();
        let mut result = Ok(());
        if session.client.stage == Stage::Connect {
            if event.is_writable() || event.is_error() || event.is_read_closed() {
                result = self.on_connected(key, &mut buffers);
            }
        } else if event.is_writable() {
            result = self.flush_pending(key);
        }
        if result.is_ok() && (event.is_readable() || event.is_read_closed()) {
            result = self.on_readable(key, event.is_read_closed(), &mut buffers);
        }
        self.buffers = buffers;
        if let Err(failure) = result {
            self.fail(key, &failure);
        }
    }

    fn on_connected(&mut self, key: usize, buffers: &mut Buffers) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let error = session.socket.take_error().unwrap_or_else(Some);
        if let Some(error) = error {
            return Err(Failure::new(
                format!("connect: {}", error.kind()),
                error.to_string(),
            ));
        }
        if self.plan.security == Security::Direct {
            self.begin_tls(key, buffers)?;
        } else {
            session.client.open(self.plan, &mut buffers.out);
        }
        self.flush(key, buffers)
    }

    fn begin_tls(&mut self, key: usize, buffers: &mut Buffers) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let (config, name) = self
            .plan
            .tls
            .as_ref()
            .expect("a plan with TLS has its configuration");
        let mut tls = Tls::new(config, name.clone())?;
        tls.receive(&mut [], &mut Vec::new(), &mut buffers.wire)?;
        session.tls = Some(Box::new(tls));
        session.client.stage = Stage::Handshake;
        Ok(())
    }

    /// Reads until the socket is drained. A short read says so, unless the end came with it.
    fn on_readable(
        &mut self,
        key: usize,
        ends: bool,
        buffers: &mut Buffers,
    ) -> Result<(), Failure> {
        loop {
            let Some(session) = self.sessions.get_mut(key) else {
                return Ok(());
            };
            match session.socket.read(&mut buffers.read) {
                Ok(0) => return self.on_end(key),
                Ok(octets) => {
                    buffers.out.clear();
                    buffers.wire.clear();
                    self.on_octets(key, octets, buffers)?;
                    if octets < buffers.read.len() && !ends {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if session.client.stage == Stage::End {
                        return self.on_end(key);
                    }
                    let situation = session.client.stage.situation();
                    let kind = format!("connection lost while {situation}");
                    return Err(Failure::new(kind, error.to_string()));
                }
            }
        }
    }

    /// The server closed the connection.
    fn on_end(&mut self, key: usize) -> Result<(), Failure> {
        let stage = self.sessions[key].client.stage;
        if stage == Stage::End {
            self.ended(key);
            return Ok(());
        }
        let kind = format!("closed by the server while {}", stage.situation());
        let rest = example(&self.sessions[key].input);
        Err(Failure::new(kind, format!("unread: {rest:?}")))
    }

    fn on_octets(&mut self, key: usize, count: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let mut clear = std::mem::take(&mut buf.clear);
        clear.clear();
        clear.append(&mut session.input);
        let mut closed = false;
        if let Some(tls) = &mut session.tls {
            let received = &mut buf.read[..count];
            let progress = tls.receive(received, &mut clear, &mut buf.wire)?;
            closed = progress == Progress::Closed;
            if progress == Progress::Finished {
                let agreed = || session.tls.as_ref().map(|tls| tls.agreed());
                let mut known = self.board.agreed.lock().expect("no thread panics with it");
                if known.is_none() {
                    *known = agreed();
                }
                session.client.on_secured(self.plan, &mut buf.out);
            }
        } else {
            clear.extend_from_slice(&buf.read[..count]);
        }
        let used = self.consume(key, &clear, buf)?;
        if let Some(session) = self.sessions.get_mut(key) {
            if used < clear.len() {
                session.input = clear[used..].to_vec();
            } else if session.input.capacity() > 0 {
                session.input = Vec::new();
            }
        }
        buf.clear = clear;
        if self.sessions.contains(key) {
            self.flush(key, buf)?;
            if closed {
                self.on_end(key)?;
            }
        }
        Ok(())
    }

    /// Takes all whole items off `bytes`; returns how many octets they were.
    fn consume(&mut self, key: usize, bytes: &[u8], buf: &mut Buffers) -> Result<usize, Failure> {
        let now = self.now();
        let mut used = 0;
        let mut peers = 0;
        loop {
            used += scan::blank(&bytes[used..]);
            let rest = &bytes[used..];
            if let Some(talks) = &self.talks
                && rest.starts_with(b"<message")
            {
                let Some(length) = scan::message_length(rest, &talks.close) else {
                    break;
                };
                used += length;
                peers += self.on_message(key, &rest[..length], now, &mut buf.out);
                continue;
            }
            match scan::next(rest) {
                Item::Partial => break,
                Item::Header(length) => used += length,
                Item::Element(length) => {
                    used += length;
                    self.on_element(key, &rest[..length], buf)?;
                }
                Item::End(length) => {
                    used += length;
                    self.on_stream_end(key)?;
                    break;
                }
                Item::Malformed => {
                    return Err(Failure::new("the server sent no XML stream", example(rest)));
                }
            }
        }
        if peers > 0 {
            self.nudge_peer(key, peers, buf)?;
        }
        Ok(used)
    }

    /// Returns how many messages the peer may send now.
    fn on_message(&mut self, key: usize, message: &[u8], now: u64, out: &mut Vec<u8>) -> usize {
        let Some(talks) = &mut self.talks else {
            return 0;
        };
        let session = &mut self.sessions[key];
        let sm = &mut session.client.sm;
        sm.received = sm.received.wrapping_add(1);
        match talks.receive(session.place, message, now, self.phase, self.board) {
            Turn::Nobody => 0,
            Turn::Mine => {
                talks.write(session.place, now, out);
                self.count_sent(key, out);
                0
            }
            Turn::Peers => 1,
        }
    }

    /// A message has been appended: with stream management it counts, and sometimes we ask.
    fn count_sent(&mut self, key: usize, out: &mut Vec<u8>) {
        let Some(every) = self.plan.ack_every else {
            return;
        };
        let session = &mut self.sessions[key];
        let sm = &mut session.client.sm;
        if !sm.enabled {
            return;
        }
        sm.sent = sm.sent.wrapping_add(1);
        session.unasked += 1;
        if session.unasked >= every {
            session.unasked = 0;
            out.extend_from_slice(ACK_REQUEST);
        }
    }

    fn nudge_peer(&mut self, key: usize, count: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let Some(session) = self.sessions.get(key) else {
            return Ok(());
        };
        let place = session.place ^ 1;
        let Some(peer) = self.places[place] else {
            return Ok(());
        };
        self.flush(key, buf)?;
        self.talk(peer, place, count, buf)
    }

    /// Sends so many messages from a place.
    fn talk(
        &mut self,
        key: usize,
        place: usize,
        count: usize,
        buf: &mut Buffers,
    ) -> Result<(), Failure> {
        let now = self.now();
        buf.out.clear();
        buf.wire.clear();
        for _ in 0..count {
            let Some(talks) = &mut self.talks else {
                return Ok(());
            };
            talks.write(place, now, &mut buf.out);
            self.count_sent(key, &mut buf.out);
        }
        let result = self.flush(key, buf);
        if let Err(failure) = result {
            self.fail(key, &failure);
        }
        Ok(())
    }

    fn start_talks(&mut self) {
        let Some(talks) = &mut self.talks else { return };
        let window = talks.chat.window as usize;
        let mut buffers = std::mem::take(&mut self.buffers);
        for place in self.talks.as_mut().map(Talks::start).unwrap_or_default() {
            if let Some(key) = self.places[place] {
                let _ = self.talk(key, place, window, &mut buffers);
            }
        }
        self.buffers = buffers;
    }

    fn on_element(&mut self, key: usize, element: &[u8], buf: &mut Buffers) -> Result<(), Failure> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        let before = session.client.stage;
        match session
            .client
            .receive(element, self.plan, &mut self.keys, &mut buf.out)?
        {
            Step::Go => Ok(()),
            Step::StartTls => self.begin_tls(key, buf),
            Step::Ready if before != Stage::Ready => {
                self.on_ready(key, &mut buf.out);
                Ok(())
            }
            Step::Ready => Ok(()),
        }
    }

    fn on_ready(&mut self, key: usize, out: &mut Vec<u8>) {
        let session = &mut self.sessions[key];
        let took = session.begun.elapsed().as_nanos() as u64;
        self.logins.record(took, Counts::Yes);
        self.row.ready.fetch_add(1, Ordering::Relaxed);
        if self.share.task == Task::Pass {
            if session.client.stage != Stage::End {
                session.client.close(out);
            }
            return;
        }
        self.logging_in -= 1;
        let place = session.place;
        let user = session.client.user;
        if let Some(talks) = &mut self.talks {
            talks.prepare(place, self.share.run, user / 2, self.plan, user ^ 1);
        }
    }

    fn on_stream_end(&mut self, key: usize) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        if session.client.stage == Stage::End {
            if let Some(mut tls) = session.tls.take() {
                let mut wire = Vec::new();
                tls.close(&mut wire);
                let _ = socket::write(&mut session.socket, &wire);
            }
            self.ended(key);
            return Ok(());
        }
        let situation = session.client.stage.situation();
        let kind = format!("stream ended by the server while {situation}");
        Err(Failure::new(kind, "</stream:stream> without an error"))
    }

    fn flush(&mut self, key: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        let octets = match &mut session.tls {
            Some(tls) => {
                if !buf.out.is_empty() {
                    tls.send(&buf.out, &mut buf.wire)?;
                    buf.out.clear();
                }
                &mut buf.wire
            }
            None => &mut buf.out,
        };
        if octets.is_empty() {
            return Ok(());
        }
        let written = if session.output.is_empty() {
            socket::write(&mut session.socket, octets)?
        } else {
            0
        };
        session.output.extend_from_slice(&octets[written..]);
        octets.clear();
        Ok(())
    }

    fn flush_pending(&mut self, key: usize) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        if session.output.is_empty() {
            return Ok(());
        }
        let written = socket::write(&mut session.socket, &session.output)?;
        session.output.drain(..written);
        if session.output.is_empty() {
            session.output = Vec::new();
        }
        Ok(())
    }

    /// Asks for the last acknowledgements, once, and counts what is still without.
    fn drain(&mut self) {
        if self.plan.ack_every.is_none() {
            return;
        }
        if !std::mem::replace(&mut self.asked_at_end, true) {
            let mut buffers = std::mem::take(&mut self.buffers);
            for place in 0..self.places.len() {
                let Some(key) = self.places[place] else {
                    continue;
                };
                buffers.out.clear();
                buffers.wire.clear();
                buffers.out.extend_from_slice(ACK_REQUEST);
                if let Err(failure) = self.flush(key, &mut buffers) {
                    self.fail(key, &failure);
                }
            }
            self.buffers = buffers;
        }
        let waiting = self
            .sessions
            .iter()
            .map(|(_, session)| session.client.sm.unacknowledged());
        self.row
            .unacknowledged
            .store(waiting.sum(), Ordering::Relaxed);
    }

    /// Logs a part of the sessions out; those that are not logged in are dropped.
    fn sweep(&mut self) {
        let mut buffers = std::mem::take(&mut self.buffers);
        let mut left = SWEEP;
        while left > 0 && self.swept < self.sessions.capacity() {
            let key = self.swept;
            self.swept += 1;
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            left -= 1;
            if session.client.stage != Stage::Ready {
                self.remove(key);
                continue;
            }
            buffers.out.clear();
            buffers.wire.clear();
            session.client.close(&mut buffers.out);
            session.begun = Instant::now();
            let begun = session.begun;
            self.deadlines
                .push_back((begun + self.plan.timeout, key, begun));
            if let Err(failure) = self.flush(key, &mut buffers) {
                self.fail(key, &failure);
            }
        }
        self.buffers = buffers;
    }

    fn expire(&mut self) {
        let now = Instant::now();
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

    fn fail(&mut self, key: usize, failure: &Failure) {
        if self.sessions.contains(key) {
            self.row.failed.fetch_add(1, Ordering::Relaxed);
            self.board.error(&failure.kind, || failure.detail.clone());
            self.remove(key);
        }
    }

    fn ended(&mut self, key: usize) {
        self.row.ended.fetch_add(1, Ordering::Relaxed);
        self.remove(key);
    }

    fn remove(&mut self, key: usize) {
        let mut session = self.sessions.remove(key);
        let _ = self.poll.registry().deregister(&mut session.socket);
        self.places[session.place] = None;
        let logged_in = session.client.stage == Stage::Ready;
        let logged_out = session.client.stage == Stage::End && self.share.task != Task::Pass;
        if !logged_in && !logged_out {
            self.logging_in -= 1;
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}
