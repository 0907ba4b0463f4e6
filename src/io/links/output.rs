//! Writing: what the shard owes, sealed, to the kernel; one write per link and turn.

use super::{Links, new_tls};
use crate::engine::{Input, LinkKey};
use crate::io::guard::Guarded;
use crate::io::socket::{Flags, Sent};
use crate::io::tls::{Tls, Unsealable};

/// Octets offered to the kernel for one link in one turn.
const WRITE_OCTETS: usize = 128 * 1024;

impl Links {
    /// What is due goes out in clear, now; what the kernel refuses of it goes before the first
    /// record.
    pub(super) fn start_tls(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let due = shard.output(key);
        let sent = match socket.send(due) {
            Sent::Octets(octets) => octets,
            Sent::Broken => {
                self.lose(key, shard);
                return;
            }
        };
        socket.flags.set(Flags::TLS);
        let rest = &due[sent..];
        if !rest.is_empty() {
            let Some(mut tls) = new_tls(&self.shared, socket) else {
                self.lose(key, shard);
                return;
            };
            tls.keep_unsent(rest.to_vec());
            socket.tls = Some(tls);
            socket.flags.clear(Flags::WRITABLE);
            socket.flags.set(Flags::REFUSED);
        }
        let octets = due.len();
        self.counters.octets_written += sent as u64;
        shard.wrote(key, octets);
    }

    /// One write for each link that has something due.
    pub(in crate::io) fn write_dirty(&mut self, shard: &mut Guarded) {
        for _ in 0..self.dirty.len() {
            // Links that are dirty again wait for the next turn.
            if let Some(key) = self.dirty.pop_front() {
                self.write(key, shard);
            }
        }
    }

    fn write(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        socket.flags.clear(Flags::DIRTY);
        if socket.flags.has(Flags::LINGERING) {
            return;
        }
        if !socket.flags.has(Flags::WRITABLE) {
            // The next writable event comes back to it.
            socket.flags.set(Flags::REFUSED);
            return;
        }
        let written = match socket.flags.has(Flags::TLS) {
            true => self.write_sealed(key, shard),
            false => self.write_clear(key, shard),
        };
        match written {
            Written::All => self.on_drained(key, shard),
            Written::Some => self.mark_dirty(key),
            Written::Refused => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.flags.clear(Flags::WRITABLE);
                    socket.flags.set(Flags::REFUSED);
                }
            }
            Written::Broken => self.lose(key, shard),
        }
    }

    fn on_drained(&mut self, key: LinkKey, shard: &mut Guarded) {
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        let refused = socket.flags.has(Flags::REFUSED);
        socket.flags.clear(Flags::REFUSED);
        if !socket.flags.has(Flags::CLOSING) {
            if refused {
                shard.feed(Some(key), Input::Drained { link: key });
            }
            return;
        }
        let flags = socket.flags;
        let gone = flags.has(Flags::ENDED) || socket.end_output().is_err();
        if gone || self.goes_at_once(flags) {
            self.lose(key, shard);
        } else if let Some(socket) = self.sockets.get_mut(key) {
            socket.flags.set(Flags::LINGERING);
            shard.feed(Some(key), Input::Closed { link: key });
        }
    }

    fn write_clear(&mut self, key: LinkKey, shard: &mut Guarded) -> Written {
        let Some(socket) = self.sockets.get(key) else {
            return Written::All;
        };
        let output = shard.output(key);
        if output.is_empty() {
            return Written::All;
        }
        let due = &output[..output.len().min(WRITE_OCTETS)];
        let (due, all) = (due.len(), due.len() == output.len());
        let sent = match all && socket.flags.has(Flags::CLOSING) {
            true => socket.send_last(&output[..due]),
            false => socket.send(&output[..due]),
        };
        match sent {
            Sent::Broken => Written::Broken,
            Sent::Octets(sent) => {
                self.counters.octets_written += sent as u64;
                shard.wrote(key, sent);
                match (sent == due, all) {
                    (false, _) => Written::Refused,
                    (true, false) => Written::Some,
                    (true, true) => Written::All,
                }
            }
        }
    }

    /// Seals what is due behind what is sealed already and writes it at once.
    fn write_sealed(&mut self, key: LinkKey, shard: &mut Guarded) -> Written {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Written::All;
        };
        let Some(tls) = &mut socket.tls else {
            // No octet of the handshake has come: there is nothing to seal with.
            return Written::All;
        };
        let borrowed = tls.unsent().is_empty();
        let mut out = match borrowed {
            true => std::mem::take(&mut self.sealed),
            false => tls.take_unsent(),
        };
        let sealing = seal_due(tls, socket.flags, shard.output(key), &mut out);
        match sealing {
            Ok(sealed) => {
                if sealed.notified {
                    socket.flags.set(Flags::NOTIFIED);
                }
                // Before `wrote`, which may say that the link is dirty again.
                let sent = match sealed.all && socket.flags.has(Flags::CLOSING) {
                    true => socket.send_last(&out),
                    false => socket.send(&out),
                };
                let written = self.keep_refused(key, out, sent, borrowed);
                if sealed.octets > 0 {
                    shard.wrote(key, sealed.octets);
                }
                match written {
                    Written::All if !sealed.all => Written::Some,
                    written => written,
                }
            }
            Err(_) => {
                out.clear();
                self.sealed = out;
                Written::Broken
            }
        }
    }

    /// Puts away the octets that the kernel refused, and the buffer.
    fn keep_refused(
        &mut self,
        key: LinkKey,
        mut out: Vec<u8>,
        sent: Sent,
        borrowed: bool,
    ) -> Written {
        let written = match sent {
            Sent::Broken => Written::Broken,
            Sent::Octets(octets) => {
                self.counters.octets_written += octets as u64;
                if octets == out.len() {
                    Written::All
                } else {
                    let mut rest = self.pool.take();
                    rest.extend_from_slice(&out[octets..]);
                    if let Some(tls) = self.sockets.get_mut(key).and_then(|s| s.tls.as_mut()) {
                        tls.keep_unsent(rest);
                    }
                    Written::Refused
                }
            }
        };
        out.clear();
        if borrowed {
            self.sealed = out;
        } else {
            self.pool.give(out);
        }
        written
    }
}

/// What became of a link's output.
enum Written {
    All,
    /// The budget is spent.
    Some,
    Refused,
    Broken,
}

/// What was sealed of a link's output.
struct Sealed {
    octets: usize,
    all: bool,
    notified: bool,
}

fn seal_due(
    tls: &mut Tls,
    flags: Flags,
    output: &[u8],
    out: &mut Vec<u8>,
) -> Result<Sealed, Unsealable> {
    if flags.has(Flags::MUTE) || tls.is_handshaking() {
        return Ok(Sealed {
            octets: 0,
            all: true,
            notified: false,
        });
    }
    let due = &output[..output.len().min(WRITE_OCTETS)];
    if !due.is_empty() {
        tls.seal(due, out)?;
    }
    let all = due.len() == output.len();
    let notify = all && flags.has(Flags::CLOSING) && !flags.has(Flags::NOTIFIED);
    if notify {
        tls.close(out)?;
    }
    Ok(Sealed {
        octets: due.len(),
        all,
        notified: notify,
    })
}
