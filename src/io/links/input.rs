//! Reading: what came from the kernel, decrypted, into the shard.

use super::{HOLDING_FLAGS, Links, READ_OCTETS, new_tls};
use crate::engine::{Input, LinkKey};
use crate::io::guard::Guarded;
use crate::io::socket::{Flags, Read};
use crate::io::tls::{Opened, Standing};

/// Octets read from all links in one turn: beyond, the others would wait too long.
const READ_OCTETS_PER_TURN: usize = 2 * 1024 * 1024;
/// Handshake steps in one turn: each may cost 50 µs.
const HANDSHAKES_PER_TURN: usize = 32;

impl Links {
    /// Reads what is ready, within the budgets.
    pub(in crate::io) fn read_ready(&mut self, shard: &mut Guarded) {
        let mut octets = READ_OCTETS_PER_TURN;
        let mut handshakes = HANDSHAKES_PER_TURN;
        for _ in 0..self.ready.len() {
            if octets == 0 {
                break;
            }
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            let Some(socket) = self.sockets.get_mut(key) else {
                continue;
            };
            socket.flags.clear(Flags::READY);
            if socket.flags.has_any(HOLDING_FLAGS) {
                if socket.flags.has(Flags::BROKEN) {
                    self.lose(key, shard);
                }
                continue;
            }
            if socket.is_handshaking() {
                if handshakes == 0 {
                    self.queue_read(key);
                    continue;
                }
                handshakes -= 1;
            }
            let read = self.read(key, shard);
            octets = octets.saturating_sub(read);
            self.counters.octets_read += read as u64;
            self.queue_read(key);
        }
    }

    /// One read and what follows from it. Returns the octets.
    fn read(&mut self, key: LinkKey, shard: &mut Guarded) -> usize {
        let Some(socket) = self.sockets.get_mut(key) else {
            return 0;
        };
        if socket.flags.has(Flags::UNNAMED) {
            return self.read_name(key, shard);
        }
        // What comes to a closing link is thrown away.
        let recalled = match &socket.tls {
            Some(tls) if !socket.flags.has(Flags::CLOSING) => tls.recall(&mut self.scratch),
            _ => 0,
        };
        let room = &mut self.scratch[recalled..recalled + READ_OCTETS];
        let octets = match socket.receive(room) {
            Read::Octets(octets) => octets,
            Read::Nothing if !socket.flags.has(Flags::BROKEN) => {
                socket.flags.clear(Flags::READABLE);
                return 0;
            }
            Read::End => {
                socket.flags.set(Flags::ENDED);
                self.end(key, shard);
                return 0;
            }
            Read::Nothing | Read::Broken => {
                self.lose(key, shard);
                return 0;
            }
        };
        if octets < READ_OCTETS && !socket.flags.has(Flags::READ_CLOSED) {
            socket.flags.clear(Flags::READABLE);
        }
        if socket.flags.has(Flags::CLOSING) {
            // Nobody wants it, but unread octets would turn our close into a reset that overtakes
            // what we sent last.
        } else if socket.flags.has(Flags::TLS) {
            self.open_records(key, recalled + octets, shard);
        } else {
            let bytes = &self.scratch[..octets];
            shard.feed(Some(key), Input::Bytes { link: key, bytes });
        }
        octets
    }

    /// The peer has said its last: what is due to it is written, then the link is gone.
    fn end(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        if socket.flags.has(Flags::LINGERING) {
            self.lose(key, shard);
        } else if socket.flags.has(Flags::HTTP) && !socket.flags.has(Flags::CLOSING) {
            shard.feed(Some(key), Input::Ended { link: key });
        } else {
            self.begin_close(key, shard.now.mono);
        }
    }

    /// Decrypts what the scratch buffer holds and feeds it.
    fn open_records(&mut self, key: LinkKey, octets: usize, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let Some(mut tls) = socket.tls.take().or_else(|| new_tls(&self.shared, socket)) else {
            self.lose(key, shard);
            return;
        };
        let incoming = &mut self.scratch[..octets];
        let standing = tls.receive(incoming, &mut self.pool, &mut |opened| {
            let input = match opened {
                Opened::Secured(secured) => Input::Secured { link: key, secured },
                Opened::Bytes(bytes) => Input::Bytes { link: key, bytes },
            };
            shard.feed(Some(key), input);
        });
        let owes = !tls.unsent().is_empty();
        socket.tls = Some(tls);
        match standing {
            Standing::Open => {}
            Standing::PeerClosed => self.begin_close(key, shard.now.mono),
            Standing::Failed => {
                socket.flags.set(Flags::MUTE);
                self.begin_close(key, shard.now.mono);
            }
        }
        if owes {
            self.mark_dirty(key);
        }
    }
}
