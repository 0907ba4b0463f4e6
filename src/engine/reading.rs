//! Octets of a link become items: as many as are complete and wanted, no more than the peer has
//! paid for, and none while it does not take its answers.

use std::time::Duration;

use super::inbound;
use super::links::{Link, Reading, Stream, Unread};
use super::shard::Shard;
use super::{http, login, management, route};
use crate::base::time::Now;
use crate::session::ctx::{Core, Ctx, Due};
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::session::{Flags, SessionKey};
use crate::transport::framing::Framing;
use crate::xmpp::xml::{Bounds, Element, Progress, Scanner, StreamScope};

/// How far a shaped link may be ahead of its rate.
const BURST: Duration = Duration::from_secs(1);
/// Scanners kept for reuse.
const SCANNERS_KEPT: usize = 64;
/// Inbound stanzas of one session that may wait for the journal before it is not read.
const PENDING_MAX: usize = 1_000;
/// What one session may have asked of storage, by weight, before it is not read.
const ASKED_MAX: u8 = 64;

impl Shard {
    /// Octets came from a link.
    pub(super) fn receive(&mut self, key: LinkKey, bytes: &[u8], now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.hear(now.mono);
        // A link that changes hands takes them along.
        let moves = matches!(link.stream, Stream::Login(_) | Stream::Http(_));
        if link.reading == Reading::Off && !moves {
            return;
        }
        self.shape(key, bytes.len(), now, fx);
        self.take_in(key, bytes, now, fx);
    }

    /// Octets of a link that were paid for.
    pub(super) fn take_in(&mut self, key: LinkKey, bytes: &[u8], now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match link.stream {
            Stream::Http(_) => return http::receive(self, key, bytes, now, fx),
            // Who reads an answer without end has nothing to say on the same link.
            Stream::Events(_) if link.framing == Framing::Stream => return,
            _ => {}
        }
        if link.framing == Framing::WebSocket {
            return self.receive_frames(key, bytes, now, fx);
        }
        match link.unread.take() {
            Some(mut unread) => {
                unread.octets.extend_from_slice(bytes);
                self.resume_scan(key, unread, now, fx);
            }
            None => {
                let scanner = self.scanners.pop().unwrap_or_default();
                let (taken, scanner) = self.scan(key, bytes, scanner, now, fx);
                if taken < bytes.len() {
                    let mut octets = self.core.pool.take();
                    octets.extend_from_slice(&bytes[taken..]);
                    let unread = Unread {
                        scanner,
                        ..Unread::of(octets)
                    };
                    self.keep_unread(key, Box::new(unread), fx);
                } else if let Some(scanner) = scanner {
                    self.give_scanner(scanner);
                }
            }
        }
    }

    /// A link that sends faster than it may is not read for a while (TCP does the rest).
    pub(super) fn shape(&mut self, key: LinkKey, octets: usize, now: Now, fx: &mut Effects) {
        let rate = self.core.policy.limits.read_octets_per_second as u64;
        if rate == 0 {
            return;
        }
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let cost = octets as u64 * 1_000 / rate;
        link.charge(cost);
        let free_at = link.free_at();
        if free_at > now.mono.after(BURST) && link.reading == Reading::On {
            link.reading = Reading::Shaped;
            fx.link(key, LinkEffect::Pause);
            self.core.wheel.set(free_at, Due::Shaped(key));
        }
    }

    /// A shaped link has paid for what it sent.
    pub(super) fn read_again(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if link.free_at() > now.mono {
            return self.core.wheel.set(link.free_at(), Due::Shaped(key));
        }
        if link.reading == Reading::Shaped {
            self.turn_on(key, now, fx);
        }
    }

    /// What a link waited for has come.
    pub(super) fn read_on(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let waits = |link: &Link| link.reading == Reading::Waiting;
        if self.links.get(key).is_some_and(waits) {
            self.turn_on(key, now, fx);
            self.finish(now, fx);
        }
    }

    /// Reads a link again, first what was kept of it.
    pub(super) fn turn_on(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        link.reading = Reading::On;
        fx.link(key, LinkEffect::Resume);
        self.take_unread(key, now, fx);
    }

    /// Goes on with octets that were kept.
    pub(super) fn take_unread(&mut self, key: LinkKey, now: Now, fx: &mut Effects) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if matches!(link.stream, Stream::Http(_)) || link.framing == Framing::WebSocket {
            if link.unread.is_some() {
                self.take_in(key, &[], now, fx);
            }
            return;
        }
        if let Some(unread) = link.unread.take() {
            self.resume_scan(key, unread, now, fx);
        }
    }

    fn resume_scan(&mut self, key: LinkKey, mut unread: Box<Unread>, now: Now, fx: &mut Effects) {
        let scanner = unread.scanner.take();
        let scanner = scanner.or_else(|| self.scanners.pop()).unwrap_or_default();
        let octets = std::mem::take(&mut unread.octets);
        let (taken, scanner) = self.scan(key, &octets, scanner, now, fx);
        unread.octets = octets;
        if taken == unread.octets.len() {
            self.core.pool.give(unread.octets);
            if let Some(scanner) = scanner {
                self.give_scanner(scanner);
            }
            return;
        }
        unread.octets.drain(..taken);
        unread.scanner = scanner;
        self.keep_unread(key, unread, fx);
    }

    pub(super) fn keep_unread(&mut self, key: LinkKey, unread: Box<Unread>, fx: &mut Effects) {
        match self.links.get_mut(key) {
            Some(link) if link.reading == Reading::Tls => {
                if !unread.octets.iter().copied().all(is_space) {
                    fx.link(key, LinkEffect::Abort);
                }
                self.core.pool.give(unread.octets);
            }
            Some(link) if !matches!(link.stream, Stream::Closing(_)) => link.unread = Some(unread),
            _ => self.core.pool.give(unread.octets),
        }
    }

    pub(super) fn give_scanner(&mut self, mut scanner: Box<Scanner>) {
        if self.scanners.len() < SCANNERS_KEPT {
            scanner.reset();
            self.scanners.push(scanner);
        }
    }

    /// Takes as many items as are complete and wanted. Returns the octets taken and the scanner,
    /// if it is in the middle of an element.
    pub(super) fn scan(
        &mut self,
        key: LinkKey,
        bytes: &[u8],
        mut scanner: Box<Scanner>,
        now: Now,
        fx: &mut Effects,
    ) -> (usize, Option<Box<Scanner>>) {
        let mut at = 0;
        while at < bytes.len() {
            let Some(link) = self.links.get_mut(key) else {
                break;
            };
            if link.reading != Reading::On {
                break;
            }
            if link.restarts() {
                // What a client put behind its last element belongs to the stream before.
                at += bytes[at..]
                    .iter()
                    .take_while(|octet| is_space(**octet))
                    .count();
            }
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let bounds = bounds_of(&self.core, link);
            let scope = std::mem::replace(&mut link.scope, StreamScope::closed());
            let progress = scanner.next(rest, &scope, &bounds);
            let taken = match progress {
                Ok(Progress::Incomplete) => {
                    link.scope = scope;
                    return (at, Some(scanner));
                }
                Ok(Progress::Blank(taken)) => {
                    link.scope = scope;
                    taken
                }
                Ok(Progress::Header(taken)) => {
                    let header = scanner.header(rest);
                    link.scope = scope.open(&header);
                    login::header(self, key, &header, now, fx);
                    taken
                }
                Ok(Progress::Element(taken)) => {
                    self.element(key, scope, scanner.element(&rest[..taken]), now, fx);
                    taken
                }
                Ok(Progress::End(taken)) => {
                    link.scope = scope;
                    self.stream_ended(key, now, fx);
                    taken
                }
                Err(error) => {
                    link.scope = scope;
                    self.fail(key, error, now, fx);
                    break;
                }
            };
            at += taken;
            scanner.reset();
        }
        self.give_scanner(scanner);
        (at, None)
    }

    pub(super) fn element(
        &mut self,
        key: LinkKey,
        scope: StreamScope,
        element: Element<'_>,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let Some(session) = link.session() else {
            link.scope = scope;
            return login::element(self, key, element, now, fx);
        };
        self.core.asker = Some(session);
        let mut ctx = Ctx {
            core: &mut self.core,
            fx,
            now,
        };
        let result = inbound::take(&mut ctx, &mut self.scratch, session, &scope, element);
        route::drain_local(&mut ctx);
        management::taken(&mut ctx, session);
        self.core.asker = None;
        if let Some(link) = self.links.get_mut(key) {
            link.scope = scope;
        }
        match result {
            Ok(()) => self.pause_if_full(key, session, fx),
            Err(error) => self.fail(key, error, now, fx),
        }
        self.adopt_orphans(fx);
    }

    /// A peer that does not read its answers is not read.
    pub(super) fn pause_if_full(&mut self, key: LinkKey, session: SessionKey, fx: &mut Effects) {
        let high_water = self.core.policy.limits.link_output_high_water_octets;
        let Some(session) = self.core.sessions.get_mut(session) else {
            return;
        };
        let pending = session.management.as_deref().map_or(0, |m| m.pending.len());
        let busy = pending >= PENDING_MAX || session.asked >= ASKED_MAX;
        if session.queue.unsent_octets() <= high_water && !busy {
            return;
        }
        session.flags.set(Flags::PAUSED);
        if let Some(link) = self
            .links
            .get_mut(key)
            .filter(|link| link.reading == Reading::On)
        {
            link.reading = Reading::Paused;
            fx.link(key, LinkEffect::Pause);
        }
    }

    /// What held a session's reading back may be over.
    pub(super) fn resume_if_drained(&mut self, session: SessionKey, now: Now, fx: &mut Effects) {
        let low_water = self.core.policy.limits.link_output_high_water_octets / 2;
        let Some(entry) = self.core.sessions.get_mut(session) else {
            return;
        };
        let pending = entry.management.as_deref().map_or(0, |m| m.pending.len());
        let idle = pending < PENDING_MAX / 2 && entry.asked < ASKED_MAX;
        let drained = entry.queue.unsent_octets() <= low_water && idle;
        if !drained || !entry.flags.clear(Flags::PAUSED) {
            return;
        }
        let Some(key) = entry.link else { return };
        let paused = |link: &Link| link.reading == Reading::Paused;
        if self.links.get(key).is_some_and(paused) {
            self.turn_on(key, now, fx);
            self.finish(now, fx);
        }
    }
}

/// White space as XML has it.
const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// Of the wrapper of a request, before it is known whose it is; what is inside is held to the
/// bounds of its stream.
pub(super) fn bounds_of_requests(core: &Core) -> Bounds {
    let inside = bounds_of_stanzas(core);
    Bounds {
        depth_max: inside.depth_max + 1,
        ..inside
    }
}

/// Of what a peer sends whom we know.
pub(super) fn bounds_of_stanzas(core: &Core) -> Bounds {
    let limits = &core.policy.limits;
    Bounds {
        octets_max: limits.stanza_octets_max,
        depth_max: limits.depth_max,
        attributes_max: limits.attributes_max,
        elements_max: limits.elements_max,
    }
}

/// RFC 6120 section 13.12: what a peer may send depends on whether we know who it is.
pub(super) fn bounds_of(core: &Core, link: &Link) -> Bounds {
    let known = bounds_of_stanzas(core);
    match &link.stream {
        Stream::Login(login) if !login.authenticated => Bounds {
            octets_max: core.policy.limits.preauth_stanza_octets_max,
            ..known
        },
        _ => known,
    }
}
