//! The octets of a session: from its sockets through TLS and HTTP to elements, and back.

use std::io::{ErrorKind, Read};

use mio::event::Event;

use super::lane::{State, Which};
use super::{Buffers, Carrier, Session, Worker};
use crate::args::{Security, Transport};
use crate::bosh;
use crate::chat::Turn;
use crate::client::{Stage, Step};
use crate::failure::{Failure, example};
use crate::http::Answer;
use crate::scan::{self, Item};
use crate::socket;
use crate::task::Role;
use crate::tls::Progress;
use crate::websocket::{self, News};

impl Worker<'_> {
    pub(super) fn on_event(&mut self, event: &Event) {
        let (key, which) = Which::of(event.token());
        let mut buffers = self.take_buffers();
        let session = self.sessions.get_mut(key);
        let Some(lane) = session.and_then(|session| session.lane(which)) else {
            self.buffers = buffers;
            return;
        };
        let mut result = Ok(());
        if lane.state == State::Connecting {
            if event.is_writable() || event.is_error() || event.is_read_closed() {
                result = self.on_connected(key, which, &mut buffers);
            }
        } else if event.is_writable() {
            result = lane.send_pending();
        }
        if result.is_ok() && (event.is_readable() || event.is_read_closed()) {
            result = self.on_readable(key, which, event.is_read_closed(), &mut buffers);
        }
        self.buffers = buffers;
        if let Err(failure) = result {
            self.fail(key, &failure);
        }
    }

    /// The working space, empty; whoever takes it puts it back.
    pub(super) fn take_buffers(&mut self) -> Buffers {
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.clear();
        buffers
    }

    fn on_connected(
        &mut self,
        key: usize,
        which: Which,
        buffers: &mut Buffers,
    ) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let lost = session.lost > 0;
        let Some(lane) = session.lane(which) else {
            return Ok(());
        };
        let error = lane.socket.take_error().unwrap_or_else(Some);
        if let Some(error) = error {
            return Err(Failure::new(
                format!("connect: {}", error.kind()),
                error.to_string(),
            ));
        }
        if lost && socket::is_its_own_peer(&lane.socket) {
            let detail = "the port is one that the kernel hands out: keep it for the server";
            return Err(Failure::new("connected to itself", detail));
        }
        if self.plan.security == Security::Direct {
            self.begin_tls(key, which, buffers)?;
        } else {
            self.on_open(key, which, buffers);
        }
        self.flush(key, buffers)
    }

    fn begin_tls(
        &mut self,
        key: usize,
        which: Which,
        buffers: &mut Buffers,
    ) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        if which == Which::Main && session.client.stage != Stage::End {
            session.client.stage = Stage::Handshake;
        }
        let Some(lane) = session.lane(which) else {
            return Ok(());
        };
        lane.begin_tls(self.plan, &mut buffers.wire)?;
        lane.send(&mut Vec::new(), &mut buffers.wire)
    }

    /// A connection is as secure as it will be.
    fn on_open(&mut self, key: usize, which: Which, buf: &mut Buffers) {
        let session = &mut self.sessions[key];
        let secured = session.main.tls.is_some();
        if let Some(lane) = session.lane(which) {
            lane.state = State::Open;
        }
        let plan = self.plan;
        match (&mut session.carrier, which) {
            (Carrier::Json(_), Which::Main) => self.begin_json(key, buf),
            (Carrier::WebSocket(web), Which::Main) => {
                web.ask(&plan.domain, &plan.path, "", &mut buf.frames);
                session.client.stage = Stage::Upgrade;
            }
            (Carrier::Bosh(bosh), _) if bosh.has_begun() => {}
            (_, Which::Main) if secured => session.client.on_secured(plan, &mut buf.out),
            (_, Which::Main) => session.client.open(plan, &mut buf.out),
            (_, Which::Side) => {}
        }
    }

    /// Reads until the socket is drained. A short read says so, unless the end came with it.
    fn on_readable(
        &mut self,
        key: usize,
        which: Which,
        ends: bool,
        buffers: &mut Buffers,
    ) -> Result<(), Failure> {
        loop {
            let Some(session) = self.sessions.get_mut(key) else {
                return Ok(());
            };
            let stage = session.client.stage;
            let lane = session.lane(which);
            let Some(lane) = lane.filter(|lane| lane.is_connected()) else {
                return Ok(());
            };
            match lane.socket.read(&mut buffers.read) {
                Ok(0) => return self.on_end(key, which, &News::None),
                Ok(octets) => {
                    buffers.clear();
                    self.on_octets(key, which, octets, buffers)?;
                    if octets < buffers.read.len() && !ends {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if stage == Stage::End {
                        return self.on_end(key, which, &News::None);
                    }
                    let kind = format!("connection lost while {}", stage.situation());
                    return Err(Failure::new(kind, error.to_string()));
                }
            }
        }
    }

    /// The server closed a connection, or the WebSocket and said why.
    fn on_end(&mut self, key: usize, which: Which, news: &News) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        if session.is_unused(which) {
            if let Some(lane) = session.lane(which) {
                lane.close(self.poll.registry());
            }
            return Ok(());
        }
        let stage = session.client.stage;
        if stage == Stage::End && !session.awaits_answer() {
            self.ended(key);
            return Ok(());
        }
        let situation = stage.situation();
        if let News::Closed { code, reason } = news {
            let code = code.map_or("no code".to_owned(), |code| code.to_string());
            let kind = format!("WebSocket closed by the server while {situation}: {code}");
            return Err(Failure::new(kind, format!("{reason:?}")));
        }
        let kind = format!("closed by the server while {situation}");
        let rest = session.lane(which).map(|lane| example(&lane.input));
        let rest = rest.unwrap_or_default();
        Err(Failure::new(kind, format!("unread: {rest:?}")))
    }

    fn on_octets(
        &mut self,
        key: usize,
        which: Which,
        count: usize,
        buf: &mut Buffers,
    ) -> Result<(), Failure> {
        let Some(lane) = self.sessions[key].lane(which) else {
            return Ok(());
        };
        let mut clear = std::mem::take(&mut buf.clear);
        clear.clear();
        clear.append(&mut lane.input);
        let start = clear.len();
        let mut progress = Progress::Established;
        if let Some(tls) = &mut lane.tls {
            let received = &mut buf.read[..count];
            progress = tls.receive(received, &mut clear, &mut buf.wire)?;
            if which == Which::Side {
                // What goes out below belongs to the other connection.
                lane.send(&mut Vec::new(), &mut buf.wire)?;
            }
        } else {
            clear.extend_from_slice(&buf.read[..count]);
        }
        if progress == Progress::Finished {
            self.note_agreed(key);
            self.on_open(key, which, buf);
        }
        let (used, news) = self.unpack(key, which, &mut clear, start, buf)?;
        let session = self.sessions.get_mut(key);
        if let Some(lane) = session.and_then(|session| session.lane(which)) {
            lane.keep(&clear[used..]);
        }
        buf.clear = clear;
        if self.sessions.contains(key) {
            self.flush(key, buf)?;
            if progress == Progress::Closed || matches!(news, News::Closed { .. }) {
                self.on_end(key, which, &news)?;
            }
        }
        Ok(())
    }

    /// The first handshake of a run tells what all agree on.
    fn note_agreed(&self, key: usize) {
        let mut known = self.board.agreed.lock().expect("no thread panics with it");
        if known.is_none() {
            let tls = self.sessions[key].main.tls.as_ref();
            *known = tls.map(|tls| tls.agreed());
        }
    }

    /// Takes what came, which begins at `start` behind what was kept; how much of it is done.
    fn unpack(
        &mut self,
        key: usize,
        which: Which,
        clear: &mut Vec<u8>,
        start: usize,
        buf: &mut Buffers,
    ) -> Result<(usize, News), Failure> {
        let session = &mut self.sessions[key];
        let mut news = News::None;
        match &mut session.carrier {
            Carrier::Tcp => {}
            Carrier::WebSocket(web) => {
                news = web.receive(clear, start, &mut buf.frames)?;
                if news == News::Upgraded {
                    session.client.open(self.plan, &mut buf.out);
                }
            }
            Carrier::Bosh(_) => return Ok((self.consume_bosh(key, which, clear, buf)?, news)),
            Carrier::Json(_) => return self.consume_json(key, which, clear, start, buf),
        }
        Ok((self.consume(key, clear, buf)?, news))
    }

    /// Takes all whole answers off `bytes`, and what is in them.
    fn consume_bosh(
        &mut self,
        key: usize,
        which: Which,
        bytes: &[u8],
        buf: &mut Buffers,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some(answer) = Answer::read(&bytes[used..])? {
            used += answer.octets;
            let session = self.sessions.get_mut(key);
            let Some(Carrier::Bosh(bosh)) = session.map(|session| &mut session.carrier) else {
                break;
            };
            let mut items = std::mem::take(&mut buf.items);
            items.clear();
            let news = bosh.answered(which as usize, &answer, &mut items)?;
            let taken = self.consume(key, &items, buf)?;
            if taken < items.len() {
                let rest = example(&items[taken..]);
                return Err(Failure::new("BOSH: a part of an item", rest));
            }
            buf.items = items;
            if news == bosh::News::Ended && self.sessions.contains(key) {
                self.ended(key);
            }
        }
        Ok(used)
    }

    /// Takes all whole items off `bytes`; returns how many octets they were.
    fn consume(&mut self, key: usize, bytes: &[u8], buf: &mut Buffers) -> Result<usize, Failure> {
        let now = self.now();
        let place = self.sessions[key].place as usize;
        let mut used = 0;
        let mut peers = 0;
        loop {
            used += scan::blank(&bytes[used..]);
            let rest = &bytes[used..];
            if let Some(talks) = &self.talks
                && rest.starts_with(b"<message")
                && talks.has(place)
            {
                let Some(length) = scan::message_length(rest, &talks.close) else {
                    break;
                };
                used += length;
                peers += self.on_message(key, &rest[..length], now, &mut buf.out);
                continue;
            }
            let item = match self.plan.transport {
                Transport::Websocket => websocket::next(rest),
                _ => scan::next(rest),
            };
            match item {
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
    pub(super) fn on_message(
        &mut self,
        key: usize,
        message: &[u8],
        now: u64,
        out: &mut Vec<u8>,
    ) -> usize {
        let Some(talks) = &mut self.talks else {
            return 0;
        };
        let session = &mut self.sessions[key];
        let sm = &mut session.client.sm;
        sm.received = sm.received.wrapping_add(1);
        let place = session.place as usize;
        let turn = talks.receive(place, message, now, self.phase, self.board);
        match turn {
            Turn::Nobody => {
                self.note_fetched(key, now);
                0
            }
            Turn::Mine => {
                self.write_message(key, place, now, out);
                0
            }
            Turn::Peers => 1,
        }
    }

    pub(super) fn nudge_peer(
        &mut self,
        key: usize,
        count: usize,
        buf: &mut Buffers,
    ) -> Result<(), Failure> {
        let Some(session) = self.sessions.get(key) else {
            return Ok(());
        };
        let place = session.place as usize ^ 1;
        let Some(peer) = self.places[place] else {
            return Ok(());
        };
        self.flush(key, buf)?;
        let now = self.now();
        self.talk(peer, place, count as u32, now, buf);
        Ok(())
    }

    fn on_element(&mut self, key: usize, element: &[u8], buf: &mut Buffers) -> Result<(), Failure> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        let place = session.place as usize;
        let before = (session.client.stage, session.client.sm.acknowledged);
        if self.watchers.is_some() && self.deal.role(place) == Role::Watch {
            if scan::name(element) == b"presence" {
                self.on_presence(key, place, element, buf);
                return Ok(());
            }
            if before.0 == Stage::Roster && scan::name(element) == b"iq" {
                self.on_roster(place, element);
            }
        }
        let session = &mut self.sessions[key];
        let (plan, out) = (self.plan, &mut buf.out);
        let step = session.client.receive(element, plan, &mut self.keys, out)?;
        let acknowledged = session.client.sm.acknowledged;
        if acknowledged != before.1
            && let Some(talks) = self.talks.as_mut().filter(|talks| talks.has(place))
        {
            talks.acknowledged(place, acknowledged);
        }
        match step {
            Step::Go => {}
            Step::StartTls => self.begin_tls(key, Which::Main, buf)?,
            Step::Ready if before.0 != Stage::Ready => self.on_ready(key, &mut buf.out),
            Step::Ready => {}
            Step::Resumed(count) => self.on_resumed(key, count, &mut buf.out),
            Step::Probed => self.on_probed(key, buf),
        }
        Ok(())
    }

    fn on_stream_end(&mut self, key: usize) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        if session.client.stage == Stage::End {
            say_goodbye(session);
            self.ended(key);
            return Ok(());
        }
        let situation = session.client.stage.situation();
        let kind = format!("stream ended by the server while {situation}");
        Err(Failure::new(kind, "</stream:stream> without an error"))
    }

    pub(super) fn flush(&mut self, key: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let Some(session) = self.sessions.get_mut(key) else {
            return Ok(());
        };
        match &mut session.carrier {
            Carrier::Tcp => session.main.send(&mut buf.out, &mut buf.wire),
            Carrier::WebSocket(web) => {
                web.pack(&buf.out, &mut buf.frames);
                buf.out.clear();
                buf.send_frames(&mut session.main)
            }
            Carrier::Bosh(bosh) => {
                bosh.put(&mut buf.out);
                self.post_bosh(key, buf)
            }
            Carrier::Json(_) => self.flush_json(key, buf),
        }
    }

    /// Sends requests on all connections that are free, as long as there is something to send or
    /// nothing that the server holds.
    fn post_bosh(&mut self, key: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        buf.send_frames(&mut session.main)?;
        for which in Which::ALL {
            let session = &mut self.sessions[key];
            let open = session.is_open(which);
            let Carrier::Bosh(bosh) = &mut session.carrier else {
                break;
            };
            if !bosh.is_free(which as usize) {
                continue;
            }
            if open {
                bosh.ask(which as usize, self.plan, &mut buf.frames);
                if let Some(lane) = session.lane(which) {
                    buf.send_frames(lane)?;
                }
            } else if bosh.wants_to_send() {
                self.need(key, which)?;
            }
        }
        Ok(())
    }

    /// Opens a connection that is wanted, unless that is under way.
    pub(super) fn need(&mut self, key: usize, which: Which) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let place = session.place as usize;
        let state = session.lane(which).map(|lane| lane.state);
        if state.is_some_and(|state| state != State::Closed) {
            return Ok(());
        }
        let lane = self.open_lane(place, which.token(key));
        let lane = lane.map_err(|error| {
            Failure::new(format!("connect: {}", error.kind()), error.to_string())
        })?;
        let session = &mut self.sessions[key];
        match which {
            Which::Main => session.main = lane,
            Which::Side => session.side = Some(Box::new(lane)),
        }
        Ok(())
    }
}

/// Ends what the stream was on, layer by layer. Whether it arrives does not matter any more.
fn say_goodbye(session: &mut Session) {
    let (mut last, mut wire) = (Vec::new(), Vec::new());
    if let Carrier::WebSocket(web) = &session.carrier {
        web.close(&mut last);
    }
    let lane = &mut session.main;
    if let Some(mut tls) = lane.tls.take() {
        if !last.is_empty() {
            let _ = tls.send(&last, &mut wire);
        }
        tls.close(&mut wire);
        last = wire;
    }
    let _ = socket::write(&mut lane.socket, &last);
}
