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

    pub fn clear(&mut self) {
        self.settled.clear();
        self.forgotten.clear();
        self.handled.clear();
    }

    /// An upper bound of what the records of all take.
    pub fn record_octets(&self) -> usize {
        let body = 8 * self.settled.len() + 16 * self.forgotten.len() + 20 * self.handled.len();
        body + 3 * OVERHEAD_OCTETS
    }

    /// Encodes what was settled and handled.
    pub fn gather(
        &self,
        out: &mut Gather,
        waiting: u64,
        handled: &HashMap<StreamId, Handled, RandomState>,
    ) {
        if !self.settled.is_empty() {
            out.push(RecordKind::Settle, waiting, |out| {
                let ids = self.settled.iter();
                ids.for_each(|id| out.extend_from_slice(&id.0.to_le_bytes()));
            });
        }
        if !self.handled.is_empty() {
            out.push(RecordKind::Handled, waiting, |out| {
                for stream in &self.handled {
                    if let Some(entry) = handled.get(stream) {
                        out.extend_from_slice(&stream.0.to_le_bytes());
                        out.extend_from_slice(&entry.count.to_le_bytes());
                    }
                }
            });
        }
    }

    /// Encodes the sessions that are gone.
    pub fn gather_forgotten(&self, out: &mut Gather, waiting: u64) {
        if !self.forgotten.is_empty() {
            out.push(RecordKind::Forget, waiting, |out| {
                let streams = self.forgotten.iter();
                streams.for_each(|stream| out.extend_from_slice(&stream.0.to_le_bytes()));
            });
        }
    }
}
