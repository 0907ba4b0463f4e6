//! Links that a proxy passes on: its word about whose they are is read before anything else.
//!
//! The word stays in the kernel until it is whole, so such a link needs no buffer. The engine
//! hears of it when it is known whose it is; until then it counts for no address. A proxy says it
//! at once: where too many links wait, the oldest goes, so that who holds them keeps nobody out.

use super::{Links, READ_OCTETS};
use crate::base::time::Moment;
use crate::engine::relay::{self, HEADER_OCTETS_MAX};
use crate::engine::{Input, LinkKey, Origin};
use crate::io::guard::Guarded;
use crate::io::socket::{Flags, Read};

/// Links of one shard that may wait for a proxy's word, whatever else there is room for.
const UNNAMED_MAX: usize = 1_024;

const _: () = assert!(HEADER_OCTETS_MAX <= READ_OCTETS);

impl Links {
    /// A proxy has to say within the time of a request whose link this is.
    pub(super) fn await_name(&mut self, key: LinkKey, now: Moment) {
        let deadline = now.after(self.policy.limits.http_request_timeout);
        self.unnamed.push_back((deadline, key));
        self.unnamed_count += 1;
        while self.unnamed_count > self.unnamed_max() {
            self.forget_named();
            let Some((_, oldest)) = self.unnamed.pop_front() else {
                break;
            };
            self.remove(oldest);
            self.counters.refused += 1;
        }
    }

    /// How many may wait: a quarter of this shard's share of all links.
    fn unnamed_max(&self) -> usize {
        let share = self.policy.limits.links_max / self.shared.inlets.len().max(1) / 4;
        match self.policy.limits.links_max {
            0 => UNNAMED_MAX,
            _ => share.clamp(1, UNNAMED_MAX),
        }
    }

    /// Looks whether it is known whose link this is. Returns the octets taken.
    pub(super) fn read_name(&mut self, key: LinkKey, shard: &mut Guarded) -> usize {
        let Some(socket) = self.sockets.get_mut(key) else {
            return 0;
        };
        let entry = socket.entry();
        let seen = match socket.peek(&mut self.scratch[..HEADER_OCTETS_MAX]) {
            Read::Octets(octets) => octets,
            Read::Nothing if !socket.flags.has(Flags::BROKEN) => {
                socket.flags.clear(Flags::READABLE);
                return 0;
            }
            Read::Nothing | Read::End | Read::Broken => {
                self.lose(key, shard);
                return 0;
            }
        };
        let Ok(proxy) = socket.stream.peer_addr() else {
            self.lose(key, shard);
            return 0;
        };
        let word = relay::read(&self.scratch[..seen], proxy, entry, &self.policy.http);
        match word {
            // More octets are an event, although these were not taken.
            Ok(None) if !socket.flags.has(Flags::READ_CLOSED) => {
                socket.flags.clear(Flags::READABLE);
                0
            }
            Ok(None) => {
                self.lose(key, shard);
                0
            }
            Ok(Some((octets, origin))) => {
                self.name(key, octets, origin, shard);
                octets
            }
            Err(reason) => {
                tracing::warn!(name = "proxy-header-refused", ?reason);
                self.counters.refused += 1;
                self.lose(key, shard);
                0
            }
        }
    }

    /// It is known whose link this is: from here on it is like any other.
    fn name(&mut self, key: LinkKey, octets: usize, origin: Origin, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        // They were there a moment ago, and nobody else reads.
        if socket.receive(&mut self.scratch[..octets]) != Read::Octets(octets) {
            return self.lose(key, shard);
        }
        let Some(address) = self.shared.census.admit(origin.peer.ip()) else {
            self.counters.refused += 1;
            return self.lose(key, shard);
        };
        socket.address = address;
        socket.flags.set(Flags::COUNTED);
        socket.flags.clear(Flags::UNNAMED);
        self.unnamed_count -= 1;
        self.counters.accepted += 1;
        shard.feed(Some(key), Input::Opened { link: key, origin });
        self.forget_named();
    }

    /// Ends the links whose proxy has not said in time whose they are.
    pub(super) fn expire_unnamed(&mut self, shard: &mut Guarded) {
        self.forget_named();
        while let Some((deadline, key)) = self.unnamed.front().copied() {
            if deadline > shard.now.mono {
                break;
            }
            self.lose(key, shard);
            self.counters.refused += 1;
            self.forget_named();
        }
    }

    /// Ends all of them: nobody else would.
    pub(super) fn lose_unnamed(&mut self) {
        for (_, key) in std::mem::take(&mut self.unnamed) {
            if self.is_unnamed(key) {
                self.remove(key);
            }
        }
    }

    /// Lets go of the oldest entries as far as their links are named or gone.
    fn forget_named(&mut self) {
        while let Some((_, key)) = self.unnamed.front().copied() {
            if self.is_unnamed(key) {
                break;
            }
            self.unnamed.pop_front();
        }
    }

    fn is_unnamed(&self, key: LinkKey) -> bool {
        let socket = self.sockets.get(key);
        socket.is_some_and(|socket| socket.flags.has(Flags::UNNAMED))
    }
}
