//! The links of one shard and what each carries.
//!
//! An idle bound link is one slot here: no parser, no buffer. Unread octets and the scanner that
//! is in the middle of them are there only while an element is incomplete or reading is paused.

use std::net::IpAddr;

use super::backoff::Attempt;
use super::http::Conn;
use super::http::events::Events;
use super::websocket::Assembly;
use crate::base::slab::{Mirror, Slab};
use crate::base::time::Moment;
use crate::session::effects::{LinkKey, LinkTag};
use crate::session::queue::Queue;
use crate::session::session::SessionKey;
use crate::stream::c2s::Negotiation;
use crate::transport::framing::Framing;
use crate::xmpp::xml::{Scanner, StreamScope};

/// What the engine knows of a socket.
pub struct Link {
    pub stream: Stream,
    pub scope: StreamScope,
    pub unread: Option<Box<Unread>>,
    /// When octets last came.
    heard: Moment,
    /// The milliseconds from then until what it sent is paid for, at
    /// `limits.read_octets_per_second`.
    owed_ms: u32,
    pub reading: Reading,
    /// How its octets are cut into items.
    pub framing: Framing,
}

/// One per socket, and one per stream without a socket.
const _: () = assert!(size_of::<Link>() <= 56);

/// Whether octets are taken from a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    On,
    /// Until storage answered.
    Waiting,
    /// Until the peer took what it is owed.
    Paused,
    /// Until what it sent is paid for.
    Shaped,
    /// Nothing more is read: the link is about to close or to change hands.
    Off,
    /// TLS begins: whatever was sent in clear behind the request ends the link (SECURITY class 13).
    Tls,
}

/// Octets that were received and not taken.
pub struct Unread {
    pub octets: Vec<u8>,
    /// In the middle of the first element, unless it did not begin.
    pub scanner: Option<Box<Scanner>>,
    /// On a WebSocket: the message of which a part came.
    pub assembly: Option<Box<Assembly>>,
}

impl Unread {
    /// Octets in the middle of nothing.
    pub const fn of(octets: Vec<u8>) -> Self {
        Self {
            octets,
            scanner: None,
            assembly: None,
        }
    }
}

/// What a link carries (guide, idea 3: link < stream < session).
pub enum Stream {
    /// Up to the bound resource.
    Login(Box<Login>),
    /// The session has the queue.
    Bound(SessionKey),
    /// Requests of HTTP, up to an upgrade.
    Http(Box<Conn>),
    /// Events of a session of the JSON protocol, to one reader.
    Events(Box<Events>),
    Closing(Box<Closing>),
}

/// What is left to be said.
pub struct Closing {
    pub queue: Queue,
    /// The full address of the session that ended; empty if there was none.
    pub address: Box<str>,
}

/// A stream that is not bound.
pub struct Login {
    pub negotiation: Negotiation,
    pub queue: Queue,
    /// The records of the account, read once, before SASL needed them.
    pub head: Option<Box<crate::store::Head>>,
    /// Whether SASL succeeded: the bounds of an authenticated peer hold.
    pub authenticated: bool,
    /// The password, or what stands for it, is being looked at.
    pub attempt: Option<Attempt>,
    /// When the link was opened.
    pub opened: Moment,
    /// Where it came from.
    pub peer: IpAddr,
}

/// What a link takes along when it moves to another shard. Opaque outside the engine.
pub struct Released {
    pub(super) moving: Moving,
    pub(super) unread: Option<Box<Unread>>,
}

/// What moves.
pub(super) enum Moving {
    /// A stream, to the home of its account.
    Login {
        login: Box<Login>,
        scope: StreamScope,
    },
    /// A request, to the session that it names.
    Request(Box<Conn>),
}

impl Released {
    /// Whether its client has said who it is.
    pub const fn is_proven(&self) -> bool {
        matches!(self.moving, Moving::Login { .. })
    }
}

/// All links: those of sockets, under the keys of the reactor, and those of tubes, under marked
/// keys of their own.
#[derive(Default)]
pub struct Links {
    sockets: Mirror<LinkTag, Link>,
    tubes: Slab<LinkTag, Link>,
}

impl Links {
    /// Places the link of a socket, or replaces that of a tube.
    pub fn place(&mut self, key: LinkKey, link: Link) {
        match key.is_marked() {
            false => drop(self.sockets.place(key, link)),
            true => {
                if let Some(tube) = self.tubes.get_mut(key.unmarked()) {
                    *tube = link;
                }
            }
        }
    }

    /// Takes in the link of a tube and gives it a key.
    pub fn insert_tube(&mut self, link: Link) -> LinkKey {
        self.tubes.insert(link).marked()
    }

    /// The link, unless the key is stale.
    #[inline]
    pub fn get(&self, key: LinkKey) -> Option<&Link> {
        match key.is_marked() {
            false => self.sockets.get(key),
            true => self.tubes.get(key.unmarked()),
        }
    }

    /// The link for change, unless the key is stale.
    #[inline]
    pub fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link> {
        match key.is_marked() {
            false => self.sockets.get_mut(key),
            true => self.tubes.get_mut(key.unmarked()),
        }
    }

    /// Takes the link out, unless the key is stale.
    pub fn remove(&mut self, key: LinkKey) -> Option<Link> {
        match key.is_marked() {
            false => self.sockets.remove(key),
            true => self.tubes.remove(key.unmarked()),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sockets.len() + self.tubes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (LinkKey, &Link)> {
        let tubes = self.tubes.iter().map(|(key, link)| (key.marked(), link));
        self.sockets.iter().chain(tubes)
    }
}

impl Login {
    /// Whether it claims, or proved, to be this account.
    pub fn is_for(&self, account: &str) -> bool {
        let Self { negotiation, .. } = self;
        let named = negotiation.claimed().or(negotiation.account());
        named.is_some_and(|jid| jid.as_str() == account)
    }
}

impl Link {
    /// A link just accepted.
    pub fn new(negotiation: Negotiation, peer: IpAddr, now: Moment) -> Self {
        let login = Login {
            negotiation,
            queue: Queue::default(),
            head: None,
            authenticated: false,
            attempt: None,
            opened: now,
            peer,
        };
        Self::carrying(Stream::Login(Box::new(login)), now)
    }

    /// A link just accepted that carries requests of HTTP.
    pub fn http(conn: Conn, now: Moment) -> Self {
        Self::carrying(Stream::Http(Box::new(conn)), now)
    }

    fn carrying(stream: Stream, now: Moment) -> Self {
        Self {
            stream,
            scope: StreamScope::closed(),
            unread: None,
            heard: now,
            owed_ms: 0,
            reading: Reading::On,
            framing: Framing::Stream,
        }
    }

    /// When octets last came.
    pub const fn heard(&self) -> Moment {
        self.heard
    }

    /// Octets come.
    pub fn hear(&mut self, now: Moment) {
        let owed = self.free_at().since(now).as_millis();
        self.owed_ms = u32::try_from(owed).unwrap_or(u32::MAX);
        self.heard = now;
    }

    /// What was just heard has its price.
    pub fn charge(&mut self, millis: u64) {
        let owed = u64::from(self.owed_ms).saturating_add(millis);
        self.owed_ms = u32::try_from(owed).unwrap_or(u32::MAX);
    }

    /// When what it sent is paid for.
    pub const fn free_at(&self) -> Moment {
        Moment(self.heard.0.saturating_add(self.owed_ms as u64))
    }

    /// The scope of a stream that begins.
    pub fn fresh_scope(&self) -> StreamScope {
        match self.framing {
            Framing::Stream => StreamScope::closed(),
            Framing::WebSocket => StreamScope::framed(None),
        }
    }

    /// Its session, once bound.
    pub const fn session(&self) -> Option<SessionKey> {
        match self.stream {
            Stream::Bound(session) => Some(session),
            _ => None,
        }
    }

    /// Whether the header of a stream that follows authentication is due.
    pub fn restarts(&self) -> bool {
        let authenticated = matches!(&self.stream, Stream::Login(login) if login.authenticated);
        authenticated && !self.scope.is_open()
    }

    /// Its login, until bound.
    pub fn login(&mut self) -> Option<&mut Login> {
        match &mut self.stream {
            Stream::Login(login) => Some(login),
            _ => None,
        }
    }
}

/// A link of a shard, by key.
pub fn login_of(links: &mut Links, key: LinkKey) -> Option<&mut Login> {
    links.get_mut(key)?.login()
}
