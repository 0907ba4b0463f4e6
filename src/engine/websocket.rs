//! Octets of a WebSocket become messages, and messages become items of a stream (RFC 7395).
//!
//! Between two messages a link keeps nothing. What breaks the framing of RFC 6455 ends the link as
//! a cut would: a session that can be resumed waits for its client.

use super::http::events;
use super::links::{Reading, Stream, Unread};
use super::reading::bounds_of;
use super::shard::Shard;
use super::tube::json;
use super::{lifecycle, login};
use crate::base::time::Now;
use crate::session::ctx::Ctx;
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::queue::Queue;
use crate::transport::websocket::frame::{Bounds, Decoder, Kind, Step};
use crate::transport::websocket::xmpp::{self, Received};
use crate::transport::websocket::{Code, encode};
use crate::xmpp::error::StreamError;
use crate::xmpp::xml::{Scanner, StreamScope};

/// Frames that one message may come in.
const FRAGMENTS_MAX: u32 = 1_024;

/// Assemblies kept for reuse.
const ASSEMBLIES_KEPT: usize = 64;

/// A message of which a part came.
#[derive(Default)]
pub struct Assembly {
    decoder: Decoder,
    message: Vec<u8>,
}

impl Shard {
    /// Takes as many messages as are whole and wanted, and keeps the rest.
    pub(super) fn receive_frames(
        &mut self,
        key: LinkKey,
        bytes: &[u8],
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let (assembly, kept) = match link.unread.take() {
            Some(unread) => (unread.assembly, Some(unread.octets)),
            None => (None, None),
        };
        match kept {
            None => self.walk_frames(key, bytes, assembly, now, fx),
            Some(mut octets) => {
                octets.extend_from_slice(bytes);
                self.walk_frames(key, &octets, assembly, now, fx);
                self.core.pool.give(octets);
            }
        }
    }

    fn walk_frames(
        &mut self,
        key: LinkKey,
        bytes: &[u8],
        assembly: Option<Box<Assembly>>,
        now: Now,
        fx: &mut Effects,
    ) {
        let mut assembly = assembly.unwrap_or_else(|| self.fresh_assembly());
        let mut at = 0;
        while let Some(link) = self.links.get(key) {
            if link.reading != Reading::On {
                break;
            }
            let bounds = Bounds {
                message_octets_max: bounds_of(&self.core, link).octets_max,
                fragments_max: FRAGMENTS_MAX,
            };
            let Assembly { decoder, message } = &mut *assembly;
            match decoder.next(&bytes[at..], message, &bounds) {
                Ok((taken, Step::Incomplete)) => {
                    at += taken;
                    break;
                }
                Ok((taken, step)) => {
                    at += taken;
                    self.frame(key, step, message, now, fx);
                }
                Err(refusal) => {
                    self.end_socket(key, Some(refusal.code()), refusal.text(), now, fx);
                }
            }
        }
        self.keep_frames(key, &bytes[at..], assembly, fx);
    }

    fn fresh_assembly(&mut self) -> Box<Assembly> {
        let mut assembly = self.assemblies.pop().unwrap_or_default();
        assembly.decoder = Decoder::new();
        assembly.message = self.core.pool.take();
        assembly
    }

    fn frame(
        &mut self,
        key: LinkKey,
        step: Step,
        message: &mut Vec<u8>,
        now: Now,
        fx: &mut Effects,
    ) {
        match step {
            Step::Incomplete => {}
            Step::Pong(_) => {
                self.links.get_mut(key).and_then(events::heard);
            }
            Step::Message(Kind::Text) => {
                match self.links.get_mut(key).and_then(events::heard) {
                    Some(session) => json::said(self, session, key, message, now, fx),
                    None => self.message(key, message, now, fx),
                }
                message.clear();
            }
            // RFC 7395 section 3.2.
            Step::Message(Kind::Binary) => {
                self.end_socket(key, Some(Code::UNSUPPORTED), "binary data", now, fx);
            }
            Step::Ping(payload) => {
                self.say_octets(key, fx, |out| {
                    encode::write_pong(out, payload.as_slice());
                });
                self.hold_pongs(key, now, fx);
            }
            Step::Close(code) => self.end_socket(key, code, "", now, fx),
        }
    }

    /// No stanza counts pongs, and a peer may ask for any number of them.
    fn hold_pongs(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let high_water = self.core.policy.limits.link_output_high_water_octets;
        match self.links.get(key).map(|link| &link.stream) {
            Some(Stream::Bound(session)) => self.pause_if_full(key, *session, fx),
            Some(Stream::Login(login)) if login.queue.unsent_octets() > high_water => {
                let error = StreamError::PolicyViolation("output is not read");
                self.fail(key, error, now, fx);
            }
            Some(Stream::Events(events)) if events.queue.unsent_octets() > high_water => {
                fx.link(key, LinkEffect::Abort);
            }
            _ => {}
        }
    }

    /// One message: exactly one item.
    fn message(&mut self, key: LinkKey, message: &[u8], now: Now, fx: &mut Effects) {
        let mut scanner = self.scanners.pop().unwrap_or_default();
        self.item(key, message, &mut scanner, now, fx);
        self.give_scanner(scanner);
    }

    fn item(
        &mut self,
        key: LinkKey,
        message: &[u8],
        scanner: &mut Scanner,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let bounds = bounds_of(&self.core, link);
        match xmpp::receive(scanner, message, &link.scope, &bounds) {
            // A stream that is bound does not begin anew (RFC 7395 section 3.4).
            Ok(Received::Open(_)) if link.session().is_some() => {
                self.fail(key, StreamError::BadFormat, now, fx);
            }
            Ok(Received::Open(header)) => {
                link.scope = link.scope.open(&header);
                login::header(self, key, &header, now, fx);
            }
            Ok(Received::Close) => self.stream_ended(key, now, fx),
            Ok(Received::Element(element)) => {
                let scope = std::mem::replace(&mut link.scope, StreamScope::closed());
                self.element(key, scope, element, now, fx);
            }
            Err(error) => self.fail(key, error, now, fx),
        }
    }

    /// What was not taken waits, and with it the message that it belongs to.
    fn keep_frames(
        &mut self,
        key: LinkKey,
        rest: &[u8],
        mut assembly: Box<Assembly>,
        fx: &mut Effects,
    ) {
        let idle = assembly.decoder.is_idle();
        if idle && rest.is_empty() {
            let message = std::mem::take(&mut assembly.message);
            self.core.pool.give(message);
            if self.assemblies.len() < ASSEMBLIES_KEPT {
                self.assemblies.push(assembly);
            }
            return;
        }
        let mut octets = self.core.pool.take();
        octets.extend_from_slice(rest);
        let unread = Unread {
            assembly: Some(assembly),
            ..Unread::of(octets)
        };
        self.keep_unread(key, Box::new(unread), fx);
    }

    /// Octets that are no item of the stream.
    fn say_octets(&mut self, key: LinkKey, fx: &mut Effects, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let pool = &mut self.core.pool;
        match &mut link.stream {
            Stream::Login(login) => login.queue.append_octets(pool, write),
            Stream::Bound(session) => {
                let Some(session) = self.core.sessions.get_mut(*session) else {
                    return;
                };
                session.queue.append_octets(pool, write);
            }
            Stream::Events(events) => events.queue.append_octets(pool, write),
            Stream::Http(_) | Stream::Closing(_) => return,
        }
        fx.link(key, LinkEffect::Flush);
    }

    /// The socket ends, not the stream: a session that can be resumed waits for its client.
    fn end_socket(
        &mut self,
        key: LinkKey,
        code: Option<Code>,
        reason: &str,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let mut queue = match &mut link.stream {
            Stream::Login(login) => std::mem::take(&mut login.queue),
            Stream::Bound(_) => Queue::default(),
            Stream::Events(events) => std::mem::take(&mut events.queue),
            // It is being said already.
            Stream::Http(_) | Stream::Closing(_) => return,
        };
        let has_all = queue.unsent_octets() == 0;
        queue.append_octets(&mut self.core.pool, |out| {
            encode::write_close(out, code, reason);
        });
        let session = link.session();
        let reader_of = events::heard(link);
        link.close_with(queue, key, fx);
        if let Some(session) = reader_of {
            json::gone(self, session, key, has_all, now, fx);
        }
        if let Some(session) = session {
            let core = &mut self.core;
            lifecycle::detach(&mut Ctx { core, fx, now }, session);
        }
    }
}
