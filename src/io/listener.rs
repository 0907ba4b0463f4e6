//! Accepting: one listener per shard and address, within budgets, without spinning when
//! descriptors run out.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::base::time::Moment;
use crate::engine::Entry;

/// Where a kind of link is accepted.
#[derive(Clone, Debug)]
pub struct Bind {
    pub address: SocketAddr,
    pub entry: Entry,
}

/// One shard's share of an address.
pub(super) struct Listener {
    socket: TcpListener,
    pub(super) entry: Entry,
    /// Somebody may be waiting.
    ready: bool,
    /// No accept before this: a table was full.
    resting_until: Option<Moment>,
}

/// What one look for a new link brought.
pub(super) enum Accepted {
    Link(TcpStream, SocketAddr),
    /// Nobody waits.
    Nobody,
    /// The next one may be better.
    Failed,
    /// Closed at once: it had taken one of the last descriptors.
    Crowded,
    /// No descriptor is left.
    Full,
}

/// The last descriptors of a table, which no link may keep. Shards that share a table take numbers
/// while others refuse; without a margin they would take each other's `Spare`, and who waits could
/// not be refused any more.
const MARGIN: u64 = 16;
/// How long a listener rests after a table was full.
const REST: Duration = Duration::from_millis(100);
/// Links that wait in the kernel; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// One listener for each shard, all on the same port.
///
/// # Errors
/// When the address is in use, not ours or not allowed.
pub(super) fn bind(bind: &Bind, shards: usize) -> io::Result<(SocketAddr, Vec<Listener>)> {
    // Listeners that share a port would let a second server of the same user in unnoticed: the
    // first one asks for the port alone, to learn whether it is free.
    let alone = open(bind.address)?;
    alone.bind(&bind.address.into())?;
    let address = local_address(&alone)?;
    alone.set_reuse_port(true)?;
    let mut sockets = vec![alone];
    for _ in 1..shards {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        sockets.push(socket);
    }
    let mut listeners = Vec::new();
    for socket in sockets {
        socket.listen(BACKLOG)?;
        listeners.push(Listener {
            socket: socket.into(),
            entry: bind.entry,
            ready: true,
            resting_until: None,
        });
    }
    Ok((address, listeners))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // What is accepted inherits it, which saves a call per link.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("a TCP socket without an address"))
}

impl Listener {
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(
            &mut SourceFd(&self.socket.as_raw_fd()),
            token,
            Interest::READABLE,
        )
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// An event said that somebody waits.
    pub(super) fn mark_ready(&mut self) {
        self.ready = true;
    }

    /// Whether an accept is worth a try at `now`.
    pub(super) fn is_ready(&self, now: Moment) -> bool {
        self.ready && self.resting_until.is_none_or(|until| now >= until)
    }

    /// When a resting listener wants to be asked again.
    pub(super) fn rests_until(&self) -> Option<Moment> {
        self.resting_until.filter(|_| self.ready)
    }

    /// A table was full.
    pub(super) fn rest(&mut self, now: Moment) {
        self.resting_until = Some(now.after(REST));
    }

    /// A link has gone: there is room again.
    pub(super) fn wake(&mut self) {
        self.resting_until = None;
    }

    pub(super) fn accept(&mut self) -> Accepted {
        match acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, _)) if is_in_margin(socket.as_raw_fd()) => Accepted::Crowded,
            Ok((socket, peer)) => match peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
                Some(peer) => Accepted::Link(TcpStream::from(socket), canonical(peer)),
                None => Accepted::Failed,
            },
            Err(Errno::AGAIN) => {
                self.ready = false;
                Accepted::Nobody
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::Full,
            Err(_) => Accepted::Failed,
        }
    }
}

/// The limit is asked for each time: it is cheap beside an accept, and may be changed from outside.
fn is_in_margin(descriptor: RawFd) -> bool {
    getrlimit(Resource::Nofile)
        .current
        .is_some_and(|limit| descriptor as u64 >= limit.saturating_sub(MARGIN))
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// A descriptor kept for the moment when none is left: who waits can be refused then, instead of
/// hanging in the kernel's queue.
pub(super) struct Spare(Option<OwnedFd>);

impl Spare {
    pub(super) fn new() -> Self {
        let mut spare = Self(None);
        spare.fill();
        spare
    }

    /// Takes a descriptor again, where there is one.
    pub(super) fn fill(&mut self) -> bool {
        if self.0.is_none() {
            self.0 = eventfd(0, EventfdFlags::CLOEXEC).ok();
        }
        self.0.is_some()
    }

    /// Refuses up to `count` of those who wait. Returns how many.
    pub(super) fn refuse(&mut self, listener: &mut Listener, count: usize) -> usize {
        let mut refused = 0;
        while refused < count && self.fill() {
            self.0 = None;
            match listener.accept() {
                Accepted::Link(..) | Accepted::Crowded => refused += 1,
                _ => break,
            }
        }
        self.fill();
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Bind {
        Bind {
            address: "127.0.0.1:0".parse().unwrap(),
            entry: Entry::Clear,
        }
    }

    #[test]
    fn all_shards_listen_on_one_port_and_links_send_at_once() {
        let (address, mut listeners) = bind(&loopback(), 3).unwrap();
        assert_eq!(listeners.len(), 3);
        let client = TcpStream::connect(address).unwrap();
        let (link, peer) = listeners
            .iter_mut()
            .find_map(|listener| match listener.accept() {
                Accepted::Link(link, peer) => Some((link, peer)),
                _ => None,
            })
            .expect("one of them has it");
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(link.nodelay().unwrap(), "inherited from the listener");
    }

    #[test]
    fn a_port_that_another_server_shares_is_in_use() {
        let (address, _listeners) = bind(&loopback(), 2).unwrap();
        let again = Bind {
            address,
            entry: Entry::Clear,
        };
        let error = bind(&again, 2).err().expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_full_table_rests_the_listener_until_a_link_goes() {
        let (_, mut listeners) = bind(&loopback(), 1).unwrap();
        let listener = &mut listeners[0];
        listener.rest(Moment(1_000));
        assert!(!listener.is_ready(Moment(1_050)));
        assert_eq!(listener.rests_until(), Some(Moment(1_100)));
        assert!(listener.is_ready(Moment(1_100)));
        listener.rest(Moment(2_000));
        listener.wake();
        assert!(listener.is_ready(Moment(2_001)));
    }
}
