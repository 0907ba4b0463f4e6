//! Sessions of encke's JSON protocol, and listeners of topics: from answers and events to what they
//! mean, and back.

use std::sync::atomic::Ordering;

use super::lane::{State, Which};
use super::{Buffers, Carrier, Worker};
use crate::client::Stage;
use crate::failure::{Failure, example};
use crate::http::{self, Answer, Streamed};
use crate::json::{self, Desk, Json, Reading, Step};
use crate::task::Role;
use crate::websocket::News;

impl<'a> Worker<'a> {
    fn desk(&self) -> Desk<'a> {
        Desk {
            plan: self.plan,
            broadcast: self.share.task.broadcast.as_ref(),
        }
    }

    /// The first connection is open.
    pub(super) fn begin_json(&mut self, key: usize, buf: &mut Buffers) {
        let desk = self.desk();
        let session = &mut self.sessions[key];
        let Carrier::Json(json) = &mut session.carrier else {
            return;
        };
        let step = json.begin(&mut session.client, &desk, &mut buf.frames);
        if step == Step::Ready {
            self.on_ready(key, &mut buf.out);
        }
    }

    /// Takes what came on a connection; how much of it is done.
    pub(super) fn consume_json(
        &mut self,
        key: usize,
        which: Which,
        bytes: &mut Vec<u8>,
        start: usize,
        buf: &mut Buffers,
    ) -> Result<(usize, News), Failure> {
        let Some(json) = self.json(key) else {
            return Ok((bytes.len(), News::None));
        };
        let mut news = News::None;
        let mut text = Text::Answers;
        match &mut json.reading {
            _ if which == Which::Side => {}
            Reading::Answers | Reading::Polls => {}
            Reading::Socket(web) => {
                news = web.receive(bytes, start, &mut buf.frames)?;
                text = Text::Lines;
                if news == News::Upgraded {
                    self.sessions[key].client.stage = Stage::Greeting;
                }
            }
            Reading::Events(stream) => {
                let streamed = stream.receive(bytes, start)?;
                text = Text::Blocks;
                match streamed {
                    Streamed::Nothing => {}
                    Streamed::Opened => self.on_stream_opened(key, buf),
                    Streamed::Ended => {
                        let kind = "event stream ended by the server";
                        return Err(Failure::new(kind, example(bytes)));
                    }
                }
            }
        }
        let used = match text {
            Text::Answers => self.take_answers(key, which, bytes, buf)?,
            _ => self.take_events(key, text, bytes, buf)?,
        };
        let every = self.plan.confirm_every;
        if let Some(json) = self.json(key)
            && matches!(json.reading, Reading::Socket(_))
        {
            json.confirm(every, &mut buf.out);
        }
        Ok((used, news))
    }

    fn json(&mut self, key: usize) -> Option<&mut Json> {
        match &mut self.sessions.get_mut(key)?.carrier {
            Carrier::Json(json) => Some(json),
            _ => None,
        }
    }

    fn on_stream_opened(&mut self, key: usize, buf: &mut Buffers) {
        let session = &mut self.sessions[key];
        let Carrier::Json(json) = &mut session.carrier else {
            return;
        };
        session.client.stage = Stage::Greeting;
        if !json.has_session() {
            // nchan greets nobody.
            session.client.stage = Stage::Ready;
            self.on_ready(key, &mut buf.out);
        }
    }

    fn take_answers(
        &mut self,
        key: usize,
        which: Which,
        bytes: &[u8],
        buf: &mut Buffers,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some(answer) = Answer::read(&bytes[used..])? {
            used += answer.octets;
            let Some(json) = self.json(key) else {
                break;
            };
            let polls = matches!(json.reading, Reading::Polls);
            let posted = which == Which::Side || json.asks_first();
            match (posted, polls) {
                (true, _) => self.on_posted(key, &answer)?,
                (_, true) => self.on_polled(key, &answer, buf)?,
                _ => self.on_answer(key, &answer, buf)?,
            }
        }
        Ok(used)
    }

    fn on_answer(
        &mut self,
        key: usize,
        answer: &Answer<'_>,
        buf: &mut Buffers,
    ) -> Result<(), Failure> {
        let desk = self.desk();
        let session = &mut self.sessions[key];
        let Carrier::Json(json) = &mut session.carrier else {
            return Ok(());
        };
        let client = &mut session.client;
        match json.answered(client, answer, &mut self.keys, &desk, &mut buf.frames)? {
            Step::Go => {}
            Step::Ready => self.on_ready(key, &mut buf.out),
            Step::Ended => self.ended(key),
        }
        Ok(())
    }

    /// A request was answered: a message is stored, or an event is published.
    fn on_posted(&mut self, key: usize, answer: &Answer<'_>) -> Result<(), Failure> {
        if let Some(json) = self.json(key) {
            json.posted(answer)?;
            let sm = &mut self.sessions[key].client.sm;
            sm.acknowledged = sm.acknowledged.wrapping_add(1);
        }
        Ok(())
    }

    fn on_polled(
        &mut self,
        key: usize,
        answer: &Answer<'_>,
        buf: &mut Buffers,
    ) -> Result<(), Failure> {
        if answer.status != 304 {
            if !answer.is_success() {
                return Err(answer.refusal("poll"));
            }
            let Some((events, next)) = json::polled(answer.body) else {
                return Err(Failure::new("a poll without events", example(answer.body)));
            };
            let mut peers = 0;
            for event in events {
                peers += self.on_json_event(key, event, buf)?;
            }
            if let Some(json) = self.json(key) {
                json.polled(next);
            }
            self.nudge(key, peers, buf)?;
        }
        let desk = self.desk();
        if let Some(json) = self.json(key) {
            json.poll(&desk, &mut buf.frames);
        }
        Ok(())
    }

    fn take_events(
        &mut self,
        key: usize,
        text: Text,
        bytes: &[u8],
        buf: &mut Buffers,
    ) -> Result<usize, Failure> {
        let (mut used, mut peers) = (0, 0);
        while let Some((event, octets)) = text.next(&bytes[used..]) {
            used += octets;
            if !event.is_empty() {
                peers += self.on_json_event(key, event, buf)?;
            }
        }
        self.nudge(key, peers, buf)?;
        Ok(used)
    }

    fn nudge(&mut self, key: usize, peers: usize, buf: &mut Buffers) -> Result<(), Failure> {
        if peers > 0 {
            self.nudge_peer(key, peers, buf)?;
        }
        Ok(())
    }

    /// Returns how many messages the peer may send now.
    fn on_json_event(
        &mut self,
        key: usize,
        event: &[u8],
        buf: &mut Buffers,
    ) -> Result<usize, Failure> {
        let now = self.now();
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(0);
        };
        let place = session.place as usize;
        let Carrier::Json(json) = &mut session.carrier else {
            return Ok(0);
        };
        if let Some(listeners) = &mut self.listeners
            && self.deal.role(place) == Role::Listen
            && (!json.has_session() || json::kind(event) == b"topic")
        {
            let member = place - self.deal.places(Role::Listen).start;
            json.note(event);
            listeners.receive(member, event, now, self.board);
            return Ok(0);
        }
        json.note(event);
        match json::kind(event) {
            b"message" if self.talks.as_ref().is_some_and(|talks| talks.has(place)) => {
                return Ok(self.on_message(key, event, now, &mut buf.out));
            }
            b"sent" if matches!(json.reading, Reading::Socket(_)) => {
                let sm = &mut session.client.sm;
                sm.acknowledged = sm.acknowledged.wrapping_add(1);
            }
            b"ready" if session.client.stage == Stage::Greeting => {
                session.client.stage = Stage::Ready;
                self.on_ready(key, &mut buf.out);
            }
            b"failure" => {
                let kind = format!("message refused: {}", json::problem(event));
                self.board.error(&kind, || example(event));
            }
            b"gap" => self.board.error("gap in the events", || example(event)),
            b"answer" if json::member(event, b"\"code\":\"").is_some() => {
                let kind = format!("request refused: {}", json::problem(event));
                self.board.error(&kind, || example(event));
            }
            b"closed" if session.client.stage != Stage::End => {
                let kind = format!("session ended by the server: {}", json::problem(event));
                return Err(Failure::new(kind, example(event)));
            }
            _ => {}
        }
        Ok(0)
    }

    /// Sends what there is on the connection that events come on, then the next request, on the one
    /// for that.
    pub(super) fn flush_json(&mut self, key: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let desk = self.desk();
        let session = &mut self.sessions[key];
        let Carrier::Json(json) = &mut session.carrier else {
            return Ok(());
        };
        match &json.reading {
            Reading::Socket(web) => {
                for line in buf.out.split(|octet| *octet == b'\n') {
                    match line {
                        b"" => {}
                        // What keeps a TCP link alive.
                        b" " => web.ping(&mut buf.frames),
                        line => web.send(line, &mut buf.frames),
                    }
                }
                buf.out.clear();
            }
            _ => json.put(&mut buf.out),
        }
        buf.send_frames(&mut session.main)?;
        if !json.wants_to_ask() {
            return Ok(());
        }
        let which = match json.asks_first() {
            true => Which::Main,
            false => Which::Side,
        };
        let lane = match which {
            Which::Main => Some(&mut session.main),
            Which::Side => session.side.as_deref_mut(),
        };
        match lane {
            Some(lane) if lane.state == State::Open => {
                json.post(&desk, &mut buf.frames);
                buf.send_frames(lane)
            }
            _ => self.need(key, which),
        }
    }

    /// Logs out. A server that is writing an event stream, or holds a poll, takes no request on
    /// that connection: it is dropped for a new one, as there is no descriptor to spare for each.
    pub(super) fn leave_json(&mut self, key: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let Carrier::Json(json) = &mut session.carrier else {
            return Ok(());
        };
        session.client.stage = Stage::End;
        if matches!(json.reading, Reading::Socket(_)) {
            out.extend_from_slice(b"{\"type\":\"close\"}\n");
            return Ok(());
        }
        if !json.has_session() {
            self.ended(key);
            return Ok(());
        }
        json.drop_requests();
        json.reading = Reading::Answers;
        for which in Which::ALL {
            if let Some(lane) = session.lane(which) {
                lane.close(self.poll.registry());
            }
        }
        session.side = None;
        self.need(key, Which::Main)
    }

    /// Who has only passed leaves again.
    pub(super) fn leave_passed(&mut self) {
        while let Some(key) = self.passed.pop() {
            if self.sessions.contains(key) {
                self.log_out(key);
            }
        }
    }

    /// Publishes what is due.
    pub(super) fn publish_due_events(&mut self) {
        let now = self.now();
        while let Some((_, due)) = self.events.as_mut().and_then(|s| s.take(now)) {
            self.outcome.lags.saturating_record(now - due);
            let place = self.deal.places(Role::Publish).start;
            let Some(key) = self.ready_at(place) else {
                self.row.unsent.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let mut buffers = self.take_buffers();
            if let Some(listeners) = &mut self.listeners {
                listeners.publish_one(due, &mut buffers.out);
            }
            let sm = &mut self.sessions[key].client.sm;
            sm.sent = sm.sent.wrapping_add(1);
            self.send(key, buffers);
        }
    }
}

/// What came is answers, or events: lines, or the blocks of an event stream.
#[derive(Clone, Copy)]
enum Text {
    Answers,
    Lines,
    Blocks,
}

impl Text {
    fn next(self, bytes: &[u8]) -> Option<(&[u8], usize)> {
        match self {
            Self::Answers => None,
            Self::Lines => {
                let end = memchr::memchr(b'\n', bytes)?;
                Some((&bytes[..end], end + 1))
            }
            Self::Blocks => http::event(bytes),
        }
    }
}
