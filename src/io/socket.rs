//! One connected socket: 24 octets, plus the TLS state where there is one.

use std::io;
use std::net::TcpStream;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::engine::Entry;
use crate::io::census::AddressSlot;
use crate::io::tls::Tls;

/// What the reactor keeps for each link.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) flags: Flags,
    /// Where the address is counted while [`Flags::COUNTED`].
    pub(super) address: AddressSlot,
    /// Made when the first octet of a handshake comes; then [`Flags::TLS`] is set already.
    pub(super) tls: Option<Box<Tls>>,
}

const _: () = assert!(size_of::<Socket>() <= 48);

/// A set of facts about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u32);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    /// An event said so, and no read came back short since.
    pub(super) const READABLE: Self = Self(1);
    /// No write came back short since the last event.
    pub(super) const WRITABLE: Self = Self(1 << 1);
    /// The peer has sent its FIN: a short read does not mean drained until one returns nothing.
    pub(super) const READ_CLOSED: Self = Self(1 << 2);
    /// The kernel reported an error.
    pub(super) const BROKEN: Self = Self(1 << 3);
    /// On the ready list.
    pub(super) const READY: Self = Self(1 << 4);
    /// On the dirty list.
    pub(super) const DIRTY: Self = Self(1 << 5);
    /// The engine wants no octets.
    pub(super) const PAUSED: Self = Self(1 << 6);
    /// The kernel refused octets that were due: the engine is told when they are gone.
    pub(super) const REFUSED: Self = Self(1 << 7);
    /// Octets are TLS records.
    pub(super) const TLS: Self = Self(1 << 8);
    /// TLS has failed: only what is sealed already may go out.
    pub(super) const MUTE: Self = Self(1 << 9);
    /// The link is to close when everything due was written.
    pub(super) const CLOSING: Self = Self(1 << 10);
    /// The last read returned nothing.
    pub(super) const ENDED: Self = Self(1 << 11);
    /// The engine knows the link no more; we wait for the peer to take the last octets.
    pub(super) const LINGERING: Self = Self(1 << 12);
    /// On its way to another shard.
    pub(super) const LEAVING: Self = Self(1 << 13);
    /// The listener was one for Direct TLS.
    pub(super) const DIRECT: Self = Self(1 << 14);
    /// The address counts one link more for this one.
    pub(super) const COUNTED: Self = Self(1 << 15);
    /// `close_notify` is sealed.
    pub(super) const NOTIFIED: Self = Self(1 << 16);
    /// The listener was one for HTTP.
    pub(super) const HTTP: Self = Self(1 << 17);
    /// A proxy has to say first whose link it is; the engine does not know it yet.
    pub(super) const UNNAMED: Self = Self(1 << 18);

    pub(super) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 == flag.0
    }

    pub(super) const fn has_any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    pub(super) const fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }

    pub(super) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(super) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }

    /// Only those of `mask`.
    pub(super) const fn only(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Octets(usize),
    /// Nothing is there now.
    Nothing,
    End,
    Broken,
}

/// What one write achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Octets(usize),
    Broken,
}

impl Socket {
    pub(super) fn entry(&self) -> Entry {
        let tls = self.flags.has(Flags::DIRECT);
        match (self.flags.has(Flags::HTTP), tls) {
            (false, false) => Entry::Clear,
            (false, true) => Entry::DirectTls,
            (true, false) => Entry::Http,
            (true, true) => Entry::Https,
        }
    }

    /// Whether the next octets belong to a handshake.
    pub(super) fn is_handshaking(&self) -> bool {
        self.flags.has(Flags::TLS) && self.tls.as_ref().is_none_or(|tls| tls.is_handshaking())
    }

    /// One `recv`. Fewer octets than asked for mean that the socket is drained.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> Read {
        self.receive_with(bytes, RecvFlags::empty())
    }

    /// As [`Socket::receive`], but the octets stay where they are.
    pub(super) fn peek(&self, bytes: &mut [u8]) -> Read {
        self.receive_with(bytes, RecvFlags::PEEK)
    }

    fn receive_with(&self, bytes: &mut [u8], flags: RecvFlags) -> Read {
        loop {
            return match recv(&self.stream, &mut *bytes, flags) {
                Ok((_, 0)) => Read::End,
                Ok((_, octets)) => Read::Octets(octets),
                Err(Errno::AGAIN) => Read::Nothing,
                Err(Errno::INTR) => continue,
                Err(_) => Read::Broken,
            };
        }
    }

    /// One `send`. Fewer octets than given mean that the kernel has no room.
    pub(super) fn send(&self, bytes: &[u8]) -> Sent {
        self.send_with(bytes, SendFlags::NOSIGNAL)
    }

    /// As [`Socket::send`], for what [`Socket::end_output`] or the close follows at once: the last
    /// octets and the end travel in one segment.
    pub(super) fn send_last(&self, bytes: &[u8]) -> Sent {
        self.send_with(bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn send_with(&self, bytes: &[u8], flags: SendFlags) -> Sent {
        loop {
            return match send(&self.stream, bytes, flags) {
                Ok(octets) => Sent::Octets(octets),
                Err(Errno::AGAIN) => Sent::Octets(0),
                Err(Errno::INTR) => continue,
                Err(_) => Sent::Broken,
            };
        }
    }

    /// Says to the peer that nothing more comes.
    pub(super) fn end_output(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }
}
