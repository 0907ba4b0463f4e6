//! How links come and go: accepted, handed off, adopted.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;

use super::Links;
use crate::engine::{Entry, Input, Origin, Shortage, relay};
use crate::io::guard::Guarded;
use crate::io::handoff::Handoff;
use crate::io::listener::Accepted;
use crate::io::socket::{Flags, Socket};
use crate::store::ShardId;

/// Links accepted from one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Links refused at once when no descriptor is left.
const REFUSALS_PER_REST: usize = 64;
/// What is true of a socket wherever it is. Not that it is paused: its new shard reads it.
const MOVING_FLAGS: Flags = Flags::TLS
    .with(Flags::DIRECT)
    .with(Flags::HTTP)
    .with(Flags::COUNTED)
    .with(Flags::REFUSED)
    .with(Flags::READ_CLOSED);

impl Links {
    /// Accepts who waits, within the budget.
    pub(in crate::io) fn accept(&mut self, shard: &mut Guarded) {
        let now = shard.now.mono;
        for index in 0..self.listeners.len() {
            if !self.listeners[index].is_ready(now) {
                continue;
            }
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.shared.census.enter() {
                    self.shared.census.tell(Shortage::Links, now);
                    self.listeners[index].rest(now);
                    break;
                }
                let listener = &mut self.listeners[index];
                let accepted = listener.accept();
                let entry = listener.entry;
                if let Accepted::Link(socket, peer) = accepted {
                    self.open(socket, Origin::direct(peer, entry), shard);
                    continue;
                }
                self.shared.census.leave();
                match accepted {
                    Accepted::Crowded => self.counters.refused += 1,
                    Accepted::Full => {
                        let refused = self.spare.refuse(listener, REFUSALS_PER_REST);
                        self.counters.refused += refused as u64;
                        listener.rest(now);
                        break;
                    }
                    Accepted::Nobody => break,
                    Accepted::Failed | Accepted::Link(..) => (),
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, origin: Origin, shard: &mut Guarded) {
        let now = shard.now.mono;
        let census = &self.shared.census;
        let is_unnamed = relay::is_due(&origin, &self.policy.http);
        let counted = match is_unnamed {
            false => Flags::COUNTED,
            true => Flags::UNNAMED,
        };
        let slot = match is_unnamed {
            _ if census.is_memory_short(now) => {
                census.tell(Shortage::Memory, now);
                None
            }
            false => census.admit(origin.peer.ip()),
            // Never read before the link is counted.
            true => Some(Default::default()),
        };
        let Some(address) = slot else {
            self.shared.census.leave();
            self.counters.refused += 1;
            return;
        };
        let entry = match origin.entry {
            Entry::Clear => Flags::NONE,
            Entry::DirectTls => Flags::DIRECT.with(Flags::TLS),
            Entry::Http => Flags::HTTP,
            Entry::Https => Flags::HTTP.with(Flags::DIRECT).with(Flags::TLS),
        };
        let socket = Socket {
            stream,
            flags: Flags::WRITABLE.with(counted).with(entry),
            address,
            tls: None,
        };
        let Some(link) = self.insert(socket) else {
            return;
        };
        if is_unnamed {
            return self.await_name(link, now);
        }
        self.counters.accepted += 1;
        shard.feed(Some(link), Input::Opened { link, origin });
    }

    /// Lets go of the links that move, after their last octets were written.
    pub(in crate::io) fn hand_off(
        &mut self,
        from: ShardId,
        shard: &mut Guarded,
        send: &mut dyn FnMut(ShardId, TcpStream, Box<Handoff>),
    ) {
        let mut leaving = std::mem::take(&mut self.leaving);
        for (key, to) in leaving.drain(..) {
            let Some(stream) = shard.release(key) else {
                // The engine knows it no more: it closes already, or a panic has forgotten it.
                if self
                    .sockets
                    .get(key)
                    .is_some_and(|socket| !socket.flags.has(Flags::CLOSING))
                {
                    self.lose(key, shard);
                }
                continue;
            };
            // Nearly everybody who moves has authenticated; who has not counts in the new shard.
            if stream.is_proven() {
                self.uncount(key);
            }
            let Some(socket) = self.sockets.remove(key) else {
                continue;
            };
            // Or this poll would go on receiving its events.
            let _ = self
                .registry
                .deregister(&mut SourceFd(&socket.stream.as_raw_fd()));
            self.counters.handed_off += 1;
            let handoff = Handoff {
                from,
                socket: None,
                stream,
                tls: socket.tls,
                flags: socket.flags.only(MOVING_FLAGS),
                address: socket.address,
            };
            send(to, socket.stream, Box::new(handoff));
        }
        self.leaving = leaving;
    }

    /// Takes a link in. Registering reports its present state, so no edge is lost.
    pub(in crate::io) fn adopt(
        &mut self,
        stream: Option<TcpStream>,
        got: Handoff,
        shard: &mut Guarded,
    ) {
        let Some(stream) = stream else {
            self.counters.lost += 1;
            self.shared.census.leave();
            if got.flags.has(Flags::COUNTED) {
                self.shared.census.dismiss(got.address);
            }
            return;
        };
        let owes = got.tls.as_ref().is_some_and(|tls| !tls.unsent().is_empty());
        let socket = Socket {
            stream,
            flags: got.flags.with(Flags::WRITABLE),
            address: got.address,
            tls: got.tls,
        };
        let Some(link) = self.insert(socket) else {
            return;
        };
        self.counters.adopted += 1;
        let stream = got.stream;
        shard.feed(Some(link), Input::Adopted { link, stream });
        if owes || got.flags.has(Flags::REFUSED) {
            self.mark_dirty(link);
        }
    }

    /// Accepts nobody any more, nor whoever has been accepted and not named. Every link is to end.
    pub(in crate::io) fn stop(&mut self) {
        self.listeners.clear();
        self.lose_unnamed();
        self.stops = true;
        let closing: Vec<_> = self.lingering.iter().map(|(_, key)| *key).collect();
        for key in closing {
            let flags = self.sockets.get(key).map(|socket| socket.flags);
            let lingers = flags.filter(|flags| flags.has(Flags::LINGERING));
            if lingers.is_some_and(|flags| self.goes_at_once(flags)) {
                self.remove(key);
            }
        }
    }
}
