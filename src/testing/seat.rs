//! One shard with its sockets: the reactor's turn, in its order, without a kernel.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::random::Random;
use super::{Depot, Wires};
use crate::base::slab::Slab;
use crate::base::time::{Moment, Now};
use crate::engine::{
    Batch, Command, Effects, Entry, Input, LinkEffect, LinkKey, LinkTag, Origin, Released, Secured,
    Setup, Shard,
};
use crate::store::{Reply, ShardId, Ticket};

/// Names a wire of a [`super::World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireId(pub(super) usize);

impl WireId {
    /// The wire of this number.
    pub const fn of(number: usize) -> Self {
        Self(number)
    }

    /// Wires are numbered in the order in which they were connected.
    pub const fn number(self) -> usize {
        self.0
    }
}

/// A cable between a client and the server.
#[derive(Default)]
pub(super) struct Wire {
    /// On the way to the server.
    pub up: VecDeque<u8>,
    /// On the way to the client.
    pub down: Vec<u8>,
    /// The client is gone.
    pub hung_up: bool,
    /// The server is gone.
    pub closed: bool,
    /// Octets that the kernel would still take, when it does not take all.
    pub room: Option<usize>,
}

/// What a shard finds in its mailbox.
pub(super) enum Post {
    Opened(WireId, Entry),
    Batch {
        from: ShardId,
        batch: Batch,
    },
    Handoff {
        wire: WireId,
        origin: Origin,
        stream: Box<Released>,
    },
    Reply(Ticket, Reply),
    Command(Command),
}

struct Socket {
    wire: WireId,
    origin: Origin,
    paused: bool,
    dirty: bool,
    /// The kernel refused some octets.
    blocked: bool,
    /// When it began to close.
    closing: Option<Moment>,
}

/// How octets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// All at once.
    Whole,
    /// In pieces of any size.
    Pieces,
}

/// How long a closing link may take to swallow its last octets.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// A shard in its place.
pub(super) struct Seat {
    pub id: ShardId,
    pub shard: Shard,
    pub effects: Effects,
    sockets: Slab<LinkTag, Socket>,
    pub inlet: VecDeque<Post>,
    leaving: Vec<(LinkKey, ShardId)>,
    dirty: VecDeque<LinkKey>,
}

impl Seat {
    pub fn new(setup: Setup) -> Self {
        let (id, shards) = (setup.shard, setup.shards);
        Self {
            id,
            shard: Shard::new(setup),
            effects: Effects::new(shards),
            sockets: Slab::new(),
            inlet: VecDeque::new(),
            leaving: Vec::new(),
            dirty: VecDeque::new(),
        }
    }

    /// Whether a turn would do anything.
    pub fn has_work(&self, wires: &Wires) -> bool {
        let idle = self.inlet.is_empty()
            && self.effects.links.is_empty()
            && self.effects.ops.is_empty()
            && self
                .leaving
                .iter()
                .all(|(key, _)| self.sockets.get(*key).is_some_and(|s| s.dirty))
            && self.effects.mail.iter().all(Batch::is_empty);
        !idle
            || self.sockets.iter().any(|(_, socket)| {
                let wire = &wires[socket.wire];
                let readable = !socket.paused && !wire.up.is_empty() && !wire.closed;
                let writable = socket.dirty && wire.room != Some(0);
                readable || writable || wire.hung_up
            })
    }

    /// One turn, as `io::reactor` takes it. Returns what is posted to others.
    pub fn turn(
        &mut self,
        now: Now,
        wires: &mut Wires,
        depot: &mut Depot,
        (network, random): (Network, &mut Random),
    ) -> Vec<(ShardId, Post)> {
        self.read(now, wires, (network, random));
        self.drain_inlet(now);
        self.effects.seal();
        self.shard.expire(now, &mut self.effects);
        depot.submit(&mut self.effects.ops);
        self.apply(now, wires);
        self.write(now, wires);
        let mut posts = self.hand_off();
        for (to, batch) in self.effects.mail.iter_mut().enumerate() {
            if !batch.is_empty() {
                let (from, batch) = (self.id, std::mem::take(batch));
                posts.push((to as ShardId, Post::Batch { from, batch }));
            }
        }
        self.effects.events.clear();
        posts
    }

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.effects.seal();
        self.shard.handle(input, now, &mut self.effects);
    }

    fn read(&mut self, now: Now, wires: &mut Wires, (network, random): (Network, &mut Random)) {
        let keys: Vec<LinkKey> = self.sockets.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(socket) = self.sockets.get(key) else {
                continue;
            };
            let wire = &mut wires[socket.wire];
            if socket
                .closing
                .is_some_and(|since| since.after(LINGER) <= now.mono)
            {
                self.lose(key, now, wires);
                continue;
            }
            if wire.hung_up {
                // What was on the way is read first, unless nobody reads.
                if wire.up.is_empty() || socket.paused || socket.closing.is_some() {
                    self.lose(key, now, wires);
                    continue;
                }
            }
            if socket.paused || wire.up.is_empty() {
                continue;
            }
            let all = wire.up.len();
            let count = match network {
                Network::Whole => all,
                Network::Pieces => 1 + random.below(all),
            };
            let octets: Vec<u8> = wire.up.drain(..count).collect();
            if socket.closing.is_none() {
                self.feed(
                    now,
                    Input::Bytes {
                        link: key,
                        bytes: &octets,
                    },
                );
            }
        }
    }

    fn drain_inlet(&mut self, now: Now) {
        while let Some(post) = self.inlet.pop_front() {
            match post {
                Post::Opened(wire, entry) => {
                    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
                    let origin = Origin::direct(peer, entry);
                    let link = self.seat_socket(wire, origin);
                    self.feed(now, Input::Opened { link, origin });
                }
                Post::Batch { from, mut batch } => {
                    self.feed(
                        now,
                        Input::Mail {
                            from,
                            batch: &mut batch,
                        },
                    );
                }
                Post::Handoff {
                    wire,
                    origin,
                    stream,
                } => {
                    let link = self.seat_socket(wire, origin);
                    self.feed(now, Input::Adopted { link, stream });
                }
                Post::Reply(ticket, reply) => self.feed(now, Input::Stored { ticket, reply }),
                Post::Command(command) => self.feed(now, Input::Command(command)),
            }
        }
    }

    fn seat_socket(&mut self, wire: WireId, origin: Origin) -> LinkKey {
        self.sockets.insert(Socket {
            wire,
            origin,
            paused: false,
            dirty: false,
            blocked: false,
            closing: None,
        })
    }

    /// What these cause in turn comes next turn.
    fn apply(&mut self, now: Now, wires: &mut Wires) {
        for (key, effect) in std::mem::take(&mut self.effects.links) {
            let Some(socket) = self.sockets.get_mut(key) else {
                continue;
            };
            match effect {
                LinkEffect::Flush => self.mark_dirty(key),
                LinkEffect::StartTls => self.start_tls(key, now, wires),
                LinkEffect::Authenticated => {}
                LinkEffect::Pause => socket.paused = true,
                LinkEffect::Resume => socket.paused = false,
                LinkEffect::HandOff(to) => {
                    self.leaving.push((key, to));
                    self.mark_dirty(key);
                }
                LinkEffect::Close => {
                    socket.closing.get_or_insert(now.mono);
                    self.mark_dirty(key);
                }
                LinkEffect::Abort => self.lose(key, now, wires),
            }
        }
    }

    /// A handshake takes no time here.
    fn start_tls(&mut self, key: LinkKey, now: Now, wires: &mut Wires) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let due = self.shard.output(key);
        let count = due.len();
        wires[socket.wire].down.extend_from_slice(due);
        self.shard.wrote(key, count, now, &mut self.effects);
        let secured = Secured {
            version: "TLSv1.3",
            ..Secured::default()
        };
        self.feed(now, Input::Secured { link: key, secured });
    }

    fn mark_dirty(&mut self, key: LinkKey) {
        if let Some(socket) = self.sockets.get_mut(key).filter(|socket| !socket.dirty) {
            socket.dirty = true;
            self.dirty.push_back(key);
        }
    }

    fn write(&mut self, now: Now, wires: &mut Wires) {
        for key in std::mem::take(&mut self.dirty) {
            let Some(socket) = self.sockets.get_mut(key) else {
                continue;
            };
            let wire = &mut wires[socket.wire];
            let due = self.shard.output(key);
            let count = wire.room.map_or(due.len(), |room| room.min(due.len()));
            // A kernel takes octets also for a peer that is gone.
            wire.down.extend_from_slice(&due[..count]);
            wire.room = wire.room.map(|room| room - count);
            let rest = due.len() - count;
            socket.dirty = false;
            let drained = rest == 0 && std::mem::replace(&mut socket.blocked, rest > 0);
            self.effects.seal();
            self.shard.wrote(key, count, now, &mut self.effects);
            if rest > 0 {
                self.mark_dirty(key);
            } else if self
                .sockets
                .get(key)
                .is_some_and(|socket| socket.closing.is_some())
            {
                self.lose(key, now, wires);
            } else if drained {
                self.feed(now, Input::Drained { link: key });
            }
        }
    }

    /// After its last octets were written.
    fn hand_off(&mut self) -> Vec<(ShardId, Post)> {
        let mut posts = Vec::new();
        for (key, to) in std::mem::take(&mut self.leaving) {
            let Some(socket) = self.sockets.get(key) else {
                continue;
            };
            if socket.dirty {
                self.leaving.push((key, to));
                continue;
            }
            let Socket { wire, origin, .. } = *socket;
            self.effects.seal();
            if let Some(stream) = self.shard.release(key) {
                self.sockets.remove(key);
                posts.push((
                    to,
                    Post::Handoff {
                        wire,
                        origin,
                        stream,
                    },
                ));
            }
        }
        posts
    }

    /// The link is gone: the engine hears so once.
    fn lose(&mut self, key: LinkKey, now: Now, wires: &mut Wires) {
        let Some(socket) = self.sockets.remove(key) else {
            return;
        };
        self.leaving.retain(|(leaving, _)| *leaving != key);
        wires[socket.wire].closed = true;
        wires[socket.wire].up.clear();
        self.feed(now, Input::Closed { link: key });
    }

    /// Octets that its shard keeps for its peers to read.
    pub fn owed_octets(&self) -> usize {
        let keys = self.sockets.iter().map(|(key, _)| key);
        keys.map(|key| self.shard.output(key).len()).sum()
    }

    /// Sockets that live.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }
}
