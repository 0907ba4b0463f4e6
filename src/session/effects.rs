//! What one input causes, for the reactor to carry out at the end of its turn.

use super::parcel::Batch;
use crate::base::event::Event;
use crate::base::pool::RESTING_MAX;
use crate::base::slab::Key;
use crate::store::{Ops, OpsMark, ShardId};

/// The tag of [`LinkKey`].
pub enum LinkTag {}
/// Names a link. The reactor's table of sockets gives the keys.
pub type LinkKey = Key<LinkTag>;

/// What a shard wants done with a link. In order per link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEffect {
    /// The shard's `output` has something for the link.
    Flush,
    /// Write what is due in clear, then begin a TLS handshake as the server.
    StartTls,
    /// Stop reading.
    Pause,
    /// Read again.
    Resume,
    /// The peer has proved who it is: its address no longer counts for this link.
    Authenticated,
    /// Write what is due, then move the link to this shard: deregister, release, send.
    HandOff(ShardId),
    /// Write what is due within the linger time, then close. `Input::Closed` follows.
    Close,
    /// Close now. `Input::Closed` follows.
    Abort,
}

/// What a shard wants done where waiting is allowed, for a link that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    pub link: LinkKey,
    pub kind: ErrandKind,
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrandKind {
    /// The counters of the whole server, as OpenMetrics.
    Metrics,
}

/// All that one input caused. Reused from turn to turn. An effect never owns octets of a link.
#[derive(Default)]
pub struct Effects {
    /// What to do with links, in order.
    pub links: Vec<(LinkKey, LinkEffect)>,
    /// What to do with links that have no socket. The engine does it before its input ends.
    pub tubes: Vec<(LinkKey, LinkEffect)>,
    /// One batch for each shard, by its number; the own one stays empty.
    pub mail: Vec<Batch>,
    /// What to ask of storage.
    pub ops: Ops,
    /// What to write to the log.
    pub events: Vec<Event>,
    /// What others are to do meanwhile.
    pub errands: Vec<Errand>,
    /// Batches that got something since the last [`Effects::seal`].
    touched: Vec<ShardId>,
    sealed: Sealed,
}

/// How long each lane was before the present input.
#[derive(Default)]
struct Sealed {
    links: usize,
    ops: OpsMark,
    events: usize,
    errands: usize,
}

impl Effects {
    /// Empty effects for a server of `shards` shards.
    pub fn new(shards: u16) -> Self {
        Self {
            mail: (0..shards).map(|_| Batch::default()).collect(),
            ..Self::default()
        }
    }

    /// Asks for a link effect.
    #[inline]
    pub fn link(&mut self, link: LinkKey, effect: LinkEffect) {
        match link.is_marked() {
            false => self.links.push((link, effect)),
            true => self.tubes.push((link, effect)),
        }
    }

    /// The batch for another shard.
    pub fn batch(&mut self, shard: ShardId) -> &mut Batch {
        if self.touched.last() != Some(&shard) {
            self.touched.push(shard);
        }
        &mut self.mail[usize::from(shard)]
    }

    /// Marks where the effects of the next input begin.
    pub fn seal(&mut self) {
        for shard in self.touched.drain(..) {
            self.mail[usize::from(shard)].seal();
        }
        let Self {
            links,
            ops,
            events,
            errands,
            ..
        } = self;
        self.sealed = Sealed {
            links: links.len(),
            ops: ops.mark(),
            events: events.len(),
            errands: errands.len(),
        };
    }

    /// Gives back what a burst needed. Call it when it is empty.
    pub fn rest(&mut self) {
        self.links.shrink_to(RESTING_MAX);
        self.events.shrink_to(RESTING_MAX);
        self.mail.iter_mut().for_each(Batch::rest);
    }

    /// Drops what was appended since [`Effects::seal`]: the input ended in a panic.
    pub fn unwind(&mut self) {
        for shard in self.touched.drain(..) {
            self.mail[usize::from(shard)].unwind();
        }
        self.links.truncate(self.sealed.links);
        self.tubes.clear();
        self.ops.truncate(self.sealed.ops);
        self.events.truncate(self.sealed.events);
        self.errands.truncate(self.sealed.errands);
    }
}
