//! What is written when there is company, or after a while: nobody waits for it.

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::Handled;
use super::gather::{Gather, OVERHEAD_OCTETS};
use super::record::RecordKind;
use crate::store::{MessageId, StreamId};

/// Settlements, sessions that are gone, and counts of messages that were never written.
#[derive(Default)]
pub(super) struct Lazy {
    pub settled: Vec<MessageId>,
    pub forgotten: Vec<StreamId>,
    /// Streams whose count is to be written.
    pub handled: HashSet<StreamId, RandomState>,
}

impl Lazy {
    pub fn len(&self) -> usize {
        self.settled.len() + self.forgotten.len() + self.handled.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An upper bound of what the records of all take.
    pub fn record_octets(&self) -> usize {
        let body = 8 * self.settled.len() + self.last_octets();
        body + 3 * OVERHEAD_OCTETS
    }

    /// An upper bound of what the bodies of [`Lazy::gather_last`] take.
    pub fn last_octets(&self) -> usize {
        16 * self.forgotten.len() + HANDLED_OCTETS * self.handled.len()
    }

    /// Encodes what was settled.
    pub fn gather_settled(&self, out: &mut Gather, waiting: u64) {
        if !self.settled.is_empty() {
            out.push(RecordKind::Settle, waiting, |out| {
                let ids = self.settled.iter();
                ids.for_each(|id| out.extend_from_slice(&id.0.to_le_bytes()));
            });
        }
    }

    /// Encodes what was handled, and the sessions that are gone. Both are true only when all
    /// messages taken so far stand before them: a count covers those that wait to be written, too,
    /// and a message brings a session back.
    pub fn gather_last(
        &self,
        out: &mut Gather,
        waiting: u64,
        handled: &HashMap<StreamId, Handled, RandomState>,
    ) {
        let counts = self.handled.iter();
        let counts = counts.filter_map(|stream| Some((*stream, handled.get(stream)?.count)));
        push_handled(out, waiting, counts);
        if !self.forgotten.is_empty() {
            out.push(RecordKind::Forget, waiting, |out| {
                let streams = self.forgotten.iter();
                streams.for_each(|stream| out.extend_from_slice(&stream.0.to_le_bytes()));
            });
        }
    }
}

/// Octets that one count takes in a record.
pub(super) const HANDLED_OCTETS: usize = 20;

/// Appends a record of how many stanzas of some sessions were handled, unless there are none.
pub(super) fn push_handled(
    out: &mut Gather,
    waiting: u64,
    counts: impl Iterator<Item = (StreamId, u32)>,
) {
    let mut counts = counts.peekable();
    if counts.peek().is_none() {
        return;
    }
    out.push(RecordKind::Handled, waiting, |out| {
        for (stream, count) in counts {
            out.extend_from_slice(&stream.0.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    });
}
