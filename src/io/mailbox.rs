//! A shard's inlet: a lock-free queue of posts, one sleeping flag, one waker.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam::channel::Sender;
use crossbeam::queue::SegQueue;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::engine::{Batch, Command};
use crate::io::ShardReport;
use crate::io::bell::Bell;
use crate::io::handoff::Handoff;
use crate::store::{Replies, ShardId};

/// Octets of batches on the way to one shard, above which senders keep theirs and stop reading.
pub const MAIL_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// What a shard finds in its mailbox.
pub enum Post {
    /// What another shard sent in one turn.
    Batch { from: ShardId, batch: Batch },
    /// A link that moves here.
    Handoff(Box<Handoff>),
    /// Answers of storage.
    Replies(Replies),
    /// A wish of the server for the engine.
    Command(Command),
    /// How is it?
    Report(Question),
    /// Close the listeners.
    StopAccepting,
    /// Close everything and end the thread.
    End,
}

/// What somebody wants to know of a shard.
pub struct Question {
    /// Has room for every answer, so answering never waits.
    pub answer: Sender<ShardReport>,
    /// When it was asked: what is found before it in the mailbox has waited as long, or longer.
    pub asked: Instant,
    /// Posts and octets that were on the way then.
    pub posts: usize,
    pub octets: usize,
}

/// The side of a mailbox that everybody may post to.
pub struct Inlet {
    posts: SegQueue<Post>,
    /// Octets of the batches in `posts`.
    octets: AtomicUsize,
    bell: Bell,
    /// What wakes the owner's poll. Not mio's waker, which hides its descriptor: a shard with a
    /// table of its own has to name what it keeps.
    waker: OwnedFd,
}

impl Inlet {
    /// An inlet that wakes the poll of `registry` with `token`.
    ///
    /// Make it before any thread leaves the shared descriptor table: a waker made later would be
    /// dead for the others.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&waker.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self {
            posts: SegQueue::new(),
            octets: AtomicUsize::new(0),
            bell: Bell::new(),
            waker,
        })
    }

    /// The descriptor that every thread needs to wake the owner.
    pub fn descriptor(&self) -> RawFd {
        self.waker.as_raw_fd()
    }

    /// Appends a post and wakes nobody: call [`Inlet::ring`] when the turn's last one is in.
    pub fn push(&self, post: Post) {
        if let Post::Batch { batch, .. } = &post {
            // Relaxed: a bound that is read a little late is still a bound.
            self.octets.fetch_add(batch.octets_len(), Ordering::Relaxed);
        }
        self.posts.push(post);
    }

    /// Wakes the owner if it sleeps.
    pub fn ring(&self) {
        if !self.bell.ring() {
            return;
        }
        // Edge-triggered: each write is an event, nobody reads the counter. It is full after 2^64
        // wake-ups only, and would not wake then.
        match rustix::io::write(&self.waker, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => tracing::error!(name = "wake-failed", %error),
        }
    }

    /// Appends one post and wakes the owner if it sleeps.
    pub fn post(&self, post: Post) {
        self.push(post);
        self.ring();
    }

    /// Asks the owner how it is.
    pub fn ask(&self, answer: Sender<ShardReport>) {
        self.post(Post::Report(Question {
            answer,
            asked: Instant::now(),
            posts: self.len(),
            octets: self.octets_len(),
        }));
    }

    /// Whether senders should keep what they have.
    pub fn is_full(&self) -> bool {
        self.octets.load(Ordering::Relaxed) >= MAIL_OCTETS_MAX
    }

    /// Whether nothing is on the way.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// Posts on the way.
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    /// Octets on the way.
    pub fn octets_len(&self) -> usize {
        self.octets.load(Ordering::Relaxed)
    }

    /// For the owner: the oldest post.
    pub fn take(&self) -> Option<Post> {
        let post = self.posts.pop()?;
        if let Post::Batch { batch, .. } = &post {
            self.octets.fetch_sub(batch.octets_len(), Ordering::Relaxed);
        }
        Some(post)
    }

    /// For the owner: whether it may sleep. Call [`Inlet::get_up`] afterwards in any case.
    #[must_use]
    pub fn lie_down(&self) -> bool {
        self.bell.lie_down();
        self.posts.is_empty()
    }

    /// For the owner: it is awake again.
    pub fn get_up(&self) {
        self.bell.get_up();
    }
}
