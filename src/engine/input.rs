//! What goes into a shard.

use std::net::SocketAddr;
use std::sync::Arc;

use super::links::Released;
use crate::session::ctx::Revival;
use crate::session::effects::{Errand, LinkKey};
use crate::session::parcel::Batch;
use crate::session::policy::Policy;
use crate::store::{Reply, ShardId, StreamId, Ticket, Unsettled};

/// Where a link came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub peer: SocketAddr,
    pub entry: Entry,
    pub way: Way,
}

/// How the peer's octets reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The peer is the socket's.
    Direct,
    /// A proxy named the peer: in clear up to the proxy, as far as that says.
    Relayed,
    /// A proxy named the peer and says that TLS ended there.
    RelayedByTls,
    /// From anybody, through the proxy that is the peer of the socket.
    Unsaid,
}

impl Origin {
    /// Of a socket with this peer.
    pub const fn direct(peer: SocketAddr, entry: Entry) -> Self {
        let way = Way::Direct;
        Self { peer, entry, way }
    }
}

/// How a listener's links begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In clear, with STARTTLS offered (RFC 6120 section 5).
    Clear,
    /// With a TLS handshake (XEP-0368). `Input::Secured` comes before the first octets.
    DirectTls,
    /// With a request of HTTP, in clear.
    Http,
    /// With a TLS handshake, then a request of HTTP.
    Https,
}

impl Entry {
    /// Whether TLS comes before everything else.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::DirectTls | Self::Https)
    }

    /// Whether requests of HTTP come.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// What the engine learns from a finished handshake.
#[derive(Clone, Debug, Default)]
pub struct Secured {
    /// `tls-exporter` channel binding (RFC 9266), TLS 1.3 only.
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` channel binding (RFC 5929): the hash of our certificate.
    pub end_point: Option<Box<[u8]>>,
    /// Name for the log, such as `TLSv1.3`.
    pub version: &'static str,
}

/// Everything that can happen to a shard.
pub enum Input<'a> {
    /// A link was accepted under this key.
    Opened { link: LinkKey, origin: Origin },
    /// A link came from another shard, with what `Shard::release` gave there.
    Adopted {
        link: LinkKey,
        stream: Box<Released>,
    },
    /// The peer sent these octets (decrypted).
    Bytes { link: LinkKey, bytes: &'a [u8] },
    /// The handshake that `LinkEffect::StartTls` or the [`Entry`] asked for is done.
    Secured { link: LinkKey, secured: Secured },
    /// The socket took everything that was due after it had refused some.
    Drained { link: LinkKey },
    /// The peer of a link of HTTP says nothing more. It may be gone, or wait for an answer; what
    /// is due is written when the engine closes the link.
    Ended { link: LinkKey },
    /// The link is gone. Comes exactly once for each link that was not handed off.
    Closed { link: LinkKey },
    /// Whether there is room for new clients from now on.
    Room(Result<(), Shortage>),
    /// What another shard posted in one turn.
    Mail { from: ShardId, batch: &'a mut Batch },
    /// Storage answered.
    Stored { ticket: Ticket, reply: Reply },
    /// The server's own wishes.
    Command(Command),
}

/// What there is not enough of for one more client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    Links,
    Memory,
}

impl Shortage {
    /// The option that bounds it.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Links => "limits.links",
            Self::Memory => "limits.process_octets_max",
        }
    }
}

/// What the server asks of a shard.
pub enum Command {
    /// An [`Errand`] of this link is done; nothing: it was refused.
    Errand {
        link: LinkKey,
        answer: Option<Vec<u8>>,
    },
    /// Take up new limits and texts.
    Reload(Arc<Policy>),
    /// Say goodbye to everybody who cannot come back (`system-shutdown`) and hear nobody any more.
    /// What is under way goes on until `Shard::is_quiet`.
    Stop,
    /// After [`Command::Stop`], when storage has had its time: answer the requests that it has not
    /// answered with an error. The answers may be for other shards.
    RefuseWaiting,
    /// After [`Command::Stop`], when all shards are quiet: flush acknowledgements, write resumable
    /// sessions down, close with `system-shutdown`. The shard is done when `Shard::is_empty`.
    WriteDown,
    /// End all sessions of an account (it was deleted or its password changed).
    Kick {
        account: Box<str>,
        condition: &'static str,
    },
    /// A message that recovery found unsettled: route it again, to the offline store.
    Recover(Unsettled),
    /// A session that shutdown wrote down ([`crate::store::Kind::Session`]).
    /// Comes before any [`Command::Recover`].
    Revive(Revival),
    /// What a resumption of a session lost in a crash is told.
    Handled { stream: StreamId, handled: u32 },
}

impl Errand {
    /// The command for the shard that asked; nothing to answer with: it was refused.
    pub fn done(self, answer: Option<Vec<u8>>) -> Command {
        let link = self.link;
        Command::Errand { link, answer }
    }
}
