//! The octets of a session: from the socket through TLS and WebSocket to elements, and back.

use std::io::{ErrorKind, Read};

use mio::event::Event;

use super::{Buffers, Session, Worker};
use crate::args::Security;
use crate::chat::Turn;
use crate::client::{Stage, Step};
use crate::failure::{Failure, example};
use crate::plan::Plan;
use crate::scan::{self, Item};
use crate::socket;
use crate::task::Role;
use crate::tls::{Progress, Tls};
use crate::websocket::{self, News};

impl Worker<'_> {
    pub(super) fn on_event(&mut self, event: &Event) {
        let key = event.token().0;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let connecting = session.client.stage == Stage::Connect;
        let mut buffers = self.take_buffers();
        let mut result = Ok(());
        if connecting {
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

    /// The working space, empty; whoever takes it puts it back.
    pub(super) fn take_buffers(&mut self) -> Buffers {
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.clear();
        buffers
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
        if session.lost > 0 && socket::is_its_own_peer(&session.socket) {
            let detail = "the port is one that the kernel hands out: keep it for the server";
            return Err(Failure::new("connected to itself", detail));
        }
        if self.plan.security == Security::Direct {
            self.begin_tls(key, buffers)?;
        } else {
            begin_stream(session, self.plan, buffers);
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
                Ok(0) => return self.on_end(key, &News::None),
                Ok(octets) => {
                    buffers.clear();
                    self.on_octets(key, octets, buffers)?;
                    if octets < buffers.read.len() && !ends {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if session.client.stage == Stage::End {
                        return self.on_end(key, &News::None);
                    }
                    let situation = session.client.stage.situation();
                    let kind = format!("connection lost while {situation}");
                    return Err(Failure::new(kind, error.to_string()));
                }
            }
        }
    }

    /// The server closed the connection, or the WebSocket and said why.
    fn on_end(&mut self, key: usize, news: &News) -> Result<(), Failure> {
        let stage = self.sessions[key].client.stage;
        if stage == Stage::End {
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
        let rest = example(&self.sessions[key].input);
        Err(Failure::new(kind, format!("unread: {rest:?}")))
    }

    fn on_octets(&mut self, key: usize, count: usize, buf: &mut Buffers) -> Result<(), Failure> {
        let session = &mut self.sessions[key];
        let mut clear = std::mem::take(&mut buf.clear);
        clear.clear();
        clear.append(&mut session.input);
        let start = clear.len();
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
                begin_stream(session, self.plan, buf);
            }
        } else {
            clear.extend_from_slice(&buf.read[..count]);
        }
        let mut news = News::None;
        if let Some(web) = &mut session.web {
            news = web.receive(&mut clear, start, &mut buf.frames)?;
            if news == News::Upgraded {
                session.client.open(self.plan, &mut buf.out);
            }
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
            if closed || matches!(news, News::Closed { .. }) {
                self.on_end(key, &news)?;
            }
        }
        Ok(())
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
            let item = match self.plan.path {
                Some(_) => websocket::next(rest),
                None => scan::next(rest),
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
    fn on_message(&mut self, key: usize, message: &[u8], now: u64, out: &mut Vec<u8>) -> usize {
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

    fn nudge_peer(&mut self, key: usize, count: usize, buf: &mut Buffers) -> Result<(), Failure> {
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
            Step::StartTls => self.begin_tls(key, buf)?,
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
        if let Some(web) = &session.web {
            web.pack(&buf.out, &mut buf.frames);
            std::mem::swap(&mut buf.out, &mut buf.frames);
            buf.frames.clear();
        }
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
}

/// The way to the server is as secure as it will be: opens the stream, or first asks for the
/// WebSocket that it is to be on.
fn begin_stream(session: &mut Session, plan: &Plan, buf: &mut Buffers) {
    match (&session.web, &plan.path) {
        (Some(web), Some(path)) => {
            web.ask(&plan.domain, path, &mut buf.frames);
            session.client.stage = Stage::Upgrade;
        }
        _ if session.tls.is_some() => session.client.on_secured(plan, &mut buf.out),
        _ => session.client.open(plan, &mut buf.out),
    }
}

/// Ends what the stream was on, layer by layer. Whether it arrives does not matter any more.
fn say_goodbye(session: &mut Session) {
    let (mut last, mut wire) = (Vec::new(), Vec::new());
    if let Some(web) = session.web.take() {
        web.close(&mut last);
    }
    if let Some(mut tls) = session.tls.take() {
        if !last.is_empty() {
            let _ = tls.send(&last, &mut wire);
        }
        tls.close(&mut wire);
        last = wire;
    }
    let _ = socket::write(&mut session.socket, &last);
}
