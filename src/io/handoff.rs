//! Moving a link to its home shard.
//!
//! With a shared descriptor table the socket itself travels in the post. With private tables the
//! descriptor goes first, through one SEQPACKET pair per two shards, in batches; the post follows
//! and takes the descriptors in the order they were sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use smallvec::SmallVec;

use crate::base::pool::RESTING_MAX;
use crate::engine::Released;
use crate::io::census::AddressSlot;
use crate::io::mailbox::{Inlet, Post};
use crate::io::socket::Flags;
use crate::io::tls::Tls;
use crate::store::ShardId;

/// A link between two shards.
pub struct Handoff {
    pub(super) from: ShardId,
    /// The socket itself, or nothing when its descriptor went ahead.
    pub(super) socket: Option<TcpStream>,
    pub(super) stream: Box<Released>,
    pub(super) tls: Option<Box<Tls>>,
    pub(super) flags: Flags,
    /// Where its address is counted, if it is.
    pub(super) address: AddressSlot,
}

/// Descriptors in one message: what the kernel takes is 253, what pays is far below.
const DESCRIPTORS_MAX: usize = 16;

/// A shard's ends of the pairs, and the links that wait to go through them.
pub(super) struct Courier {
    /// By peer; all absent when the table is shared.
    pairs: Vec<Option<OwnedFd>>,
    /// Links that wait for the pair to take them, by destination. Bounded by the links there are.
    waiting: Vec<VecDeque<(TcpStream, Box<Handoff>)>>,
    /// Descriptors that came ahead of their posts, by origin; `None` for one that this table had
    /// no room for.
    arrived: Vec<VecDeque<Option<OwnedFd>>>,
}

/// One pair for each two of `shards`: the ends that each of them holds.
///
/// # Errors
/// When the process has too few descriptors.
pub(super) fn pairs(shards: usize) -> io::Result<Vec<Courier>> {
    let mut couriers: Vec<_> = (0..shards).map(|_| Courier::new(shards)).collect();
    for low in 0..shards {
        for high in low + 1..shards {
            let (one, other) = socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
                None,
            )?;
            couriers[low].pairs[high] = Some(one);
            couriers[high].pairs[low] = Some(other);
        }
    }
    Ok(couriers)
}

impl Courier {
    /// A courier without pairs: sockets travel in the posts.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            pairs: (0..shards).map(|_| None).collect(),
            waiting: (0..shards).map(|_| VecDeque::new()).collect(),
            arrived: (0..shards).map(|_| VecDeque::new()).collect(),
        }
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.pairs.iter().flatten().map(AsRawFd::as_raw_fd)
    }

    /// Takes a link that goes with the next [`Courier::flush`].
    pub(super) fn send(&mut self, to: ShardId, socket: TcpStream, handoff: Box<Handoff>) {
        self.waiting[usize::from(to)].push_back((socket, handoff));
    }

    /// Posts the links for `to`, without waking it. Returns how many went.
    ///
    /// What the pair cannot take now (its buffer is full, or too many descriptors of this user are
    /// on the way) stays for the next call.
    pub(super) fn flush(&mut self, to: ShardId, inlet: &Inlet) -> usize {
        let waiting = &mut self.waiting[usize::from(to)];
        let mut posted = 0;
        while !waiting.is_empty() {
            let batch = match &self.pairs[usize::from(to)] {
                None => waiting.len(),
                Some(pair) => match send_descriptors(
                    pair.as_fd(),
                    waiting.iter().map(|(socket, _)| socket.as_fd()),
                ) {
                    Ok(sent) => sent,
                    Err(Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) => break,
                    Err(error) => {
                        // The peer's end is gone: its thread is, and the process ends.
                        tracing::error!(name = "handoff-failed", %error);
                        waiting.clear();
                        break;
                    }
                },
            };
            let private = self.pairs[usize::from(to)].is_some();
            for (socket, mut handoff) in waiting.drain(..batch) {
                // Our copy of a descriptor that went ahead is closed here.
                handoff.socket = (!private).then_some(socket);
                inlet.push(Post::Handoff(handoff));
            }
            posted += batch;
        }
        posted
    }

    /// Gives back what a burst needed.
    pub(super) fn rest(&mut self) {
        let lists = self.waiting.iter_mut();
        lists.for_each(|waiting| waiting.shrink_to(RESTING_MAX));
        let lists = self.arrived.iter_mut();
        lists.for_each(|arrived| arrived.shrink_to(RESTING_MAX));
    }

    /// Whether links wait for a pair.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    /// Drops what waits: the thread ends.
    pub(super) fn clear(&mut self) -> usize {
        self.waiting.iter_mut().map(|w| w.drain(..).count()).sum()
    }

    /// The socket of a handoff; `None` when this table had no room for it.
    pub(super) fn receive(&mut self, handoff: &mut Handoff) -> Option<TcpStream> {
        if let Some(socket) = handoff.socket.take() {
            return Some(socket);
        }
        let from = usize::from(handoff.from);
        let pair = self.pairs[from].as_ref()?;
        let arrived = &mut self.arrived[from];
        while arrived.is_empty() {
            // The descriptor went ahead of its post, so it is there; `Err` is for one that is not.
            receive_descriptors(pair.as_fd(), arrived).ok()?;
        }
        arrived.pop_front().flatten().map(TcpStream::from)
    }
}

/// One message: an octet and a descriptor for each of the first sockets. Returns how many.
fn send_descriptors<'fd>(
    pair: BorrowedFd<'_>,
    sockets: impl Iterator<Item = BorrowedFd<'fd>>,
) -> Result<usize, Errno> {
    let sockets: SmallVec<[BorrowedFd<'_>; DESCRIPTORS_MAX]> =
        sockets.take(DESCRIPTORS_MAX).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&sockets));
    debug_assert!(fits, "the space is for as many");
    let octets = [0; DESCRIPTORS_MAX];
    sendmsg(
        pair,
        &[IoSlice::new(&octets[..sockets.len()])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sockets.len())
}

/// Takes one message. Where the table is full the kernel drops the rest of the descriptors; the
/// octets tell how many were meant.
fn receive_descriptors(
    pair: BorrowedFd<'_>,
    arrived: &mut VecDeque<Option<OwnedFd>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut octets = [0; DESCRIPTORS_MAX];
    let message = recvmsg(
        pair,
        &mut [IoSliceMut::new(&mut octets)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message.bytes == 0 {
        return Err(Errno::PIPE);
    }
    let meant = arrived.len() + message.bytes;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = part {
            arrived.extend(sockets.map(Some));
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        tracing::warn!(name = "descriptors-lost", lost = meant - arrived.len());
    }
    arrived.resize_with(meant, || None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::process::Command;

    use rustix::process::{Resource, getrlimit, setrlimit};

    use super::*;

    /// A client's end and ours, for each of `count` links.
    fn sockets(count: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        (0..count).map(|_| connect()).unzip()
    }

    fn pass(ours: &[TcpStream], between: &[Courier]) -> VecDeque<Option<OwnedFd>> {
        let there = between[0].pairs[1].as_ref().unwrap();
        let here = between[1].pairs[0].as_ref().unwrap();
        let mut sent = 0;
        while sent < ours.len() {
            let rest = ours[sent..].iter().map(AsFd::as_fd);
            sent += send_descriptors(there.as_fd(), rest).unwrap();
        }
        let mut arrived = VecDeque::new();
        while arrived.len() < ours.len() {
            receive_descriptors(here.as_fd(), &mut arrived).unwrap();
        }
        assert!(receive_descriptors(here.as_fd(), &mut arrived).is_err());
        arrived
    }

    #[test]
    fn descriptors_arrive_in_the_order_they_were_sent() {
        let (mut clients, ours) = sockets(DESCRIPTORS_MAX * 2 + 3);
        let arrived = pass(&ours, &pairs(2).unwrap());
        drop(ours);
        assert_eq!(arrived.len(), clients.len());
        for (number, (client, socket)) in clients.iter_mut().zip(arrived).enumerate() {
            let mut socket = TcpStream::from(socket.unwrap());
            socket.write_all(&[number as u8]).unwrap();
            let mut read = [0];
            client.read_exact(&mut read).unwrap();
            assert_eq!(usize::from(read[0]), number);
        }
    }

    /// Limits are the process's, so this runs in one of its own.
    #[test]
    fn a_full_table_loses_the_last_ones_and_no_other() {
        let name = "io::handoff::tests::a_full_table_in_a_process_of_its_own";
        let outcome = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&outcome.stdout);
        assert!(
            outcome.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }

    #[test]
    #[ignore = "changes the limits of the process; another test runs it"]
    fn a_full_table_in_a_process_of_its_own() {
        const ROOM: usize = 5;
        let (mut clients, ours) = sockets(DESCRIPTORS_MAX);
        let between = pairs(2).unwrap();
        let limit = getrlimit(Resource::Nofile);
        let mut low = limit;
        let next = rustix::io::fcntl_dupfd_cloexec(&ours[0], 0).unwrap();
        low.current = Some(next.as_raw_fd() as u64 + ROOM as u64);
        drop(next);
        setrlimit(Resource::Nofile, low).unwrap();
        let arrived = pass(&ours, &between);
        setrlimit(Resource::Nofile, limit).unwrap();
        let here: Vec<_> = arrived.iter().map(Option::is_some).collect();
        let meant: Vec<_> = (0..DESCRIPTORS_MAX).map(|number| number < ROOM).collect();
        assert_eq!(here, meant);
        drop(ours);
        let lost = clients.last_mut().unwrap();
        assert_eq!(lost.read(&mut [0]).unwrap(), 0, "the link is closed");
    }
}
