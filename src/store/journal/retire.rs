//! Letting go of old segments, once the index has what they say.

use std::sync::Arc;

use super::gather::{Gather, PieceState};
use super::lazy::{HANDLED_OCTETS, push_handled};
use super::record::{HEADER_OCTETS, Message, Place, RecordKind, write_place};
use super::segment::segment_name;
use super::{At, Journal};

use crate::store::files::Files;
use crate::store::{MessageId, StreamId};

/// A checkpoint on its way to be durable.
pub(super) struct Retirement {
    checkpoint: Place,
    /// Segments before this one go.
    boundary: u64,
    waiting_end: u64,
}

/// Files to be removed without holding the journal.
pub struct RetireJob {
    files: Arc<dyn Files>,
    numbers: Vec<u64>,
}

impl RetireJob {
    /// Removes them. What fails is tried again at the next start.
    pub fn run(&self) {
        for number in &self.numbers {
            // A file that stays is below the boundary of a durable checkpoint: it is not read.
            let _ = self.files.remove(&segment_name(*number));
        }
    }
}

impl Journal {
    /// Whether it is time to persist the index: when much changed, or when many segments are kept
    /// for few messages.
    pub fn checkpoint_due(&self) -> bool {
        if self.retirement.is_some() || !matches!(self.state, super::State::Well) {
            return false;
        }
        let live: u64 = self.segments.values().map(|kept| kept.live_octets).sum();
        let allowed = 2 + 4 * live / u64::from(self.settings.segment_octets);
        self.changed_octets >= self.settings.checkpoint_octets
            || self.segments.len() as u64 > allowed
    }

    /// Begins a checkpoint: where the journal ends. All changes before are in the index, if it was
    /// not let go between.
    pub fn begin_checkpoint(&mut self) -> Place {
        self.checkpoint_sequence = self.last_sequence;
        let none = Place {
            segment: self.next_segment,
            offset: 0,
        };
        self.active.as_ref().map_or(none, |active| active.end())
    }

    /// Appends that the index durably has everything before `end`, carries what old segments still
    /// must say, and lets them go when that is durable.
    pub fn add_checkpoint(&mut self, end: Place) {
        if self.retirement.is_some() {
            return;
        }
        self.changed_octets = 0;
        let boundary = self.boundary(end);
        self.carry(boundary);
        // What the budget left behind stays for the next checkpoint.
        let mut old = self.segments.range(..boundary);
        let left = old.find(|(_, kept)| kept.live_octets > 0);
        let boundary = left.map_or(boundary, |(number, _)| *number);
        let waiting = self.wait(None);
        let (last_id, sequence) = (self.last_id, self.checkpoint_sequence);
        self.gather
            .push(RecordKind::Checkpoint, waiting + 1, |out| {
                write_place(out, end);
                out.extend_from_slice(&boundary.to_le_bytes());
                out.extend_from_slice(&last_id.0.to_le_bytes());
                out.extend_from_slice(&sequence.to_le_bytes());
            });
        self.retirement = Some(Retirement {
            checkpoint: end,
            boundary,
            waiting_end: waiting + 1,
        });
    }

    /// The index could not be persisted: tries again when as much has changed once more.
    pub fn checkpoint_failed(&mut self) {
        self.changed_octets = 0;
    }

    /// What may be removed now.
    pub fn retire(&mut self) -> Option<RetireJob> {
        let retirement = self.retirement.as_ref()?;
        if self.waiting_base < retirement.waiting_end {
            return None;
        }
        let retirement = self.retirement.take()?;
        self.checkpoint = retirement.checkpoint;
        let kept = self.segments.split_off(&retirement.boundary);
        let gone = std::mem::replace(&mut self.segments, kept);
        Some(RetireJob {
            files: self.files.clone(),
            numbers: gone.into_keys().collect(),
        })
    }

    /// Segments before the result go: as many as a quarter of a segment of carrying allows.
    fn boundary(&self, end: Place) -> u64 {
        let budget = self.carry_octets_max();
        let mut carried = 0;
        let oldest = self
            .segments
            .first_key_value()
            .map_or(end.segment, |(n, _)| *n);
        let mut boundary = oldest;
        for (number, kept) in self.segments.range(..end.segment) {
            carried += kept.live_octets;
            if carried > budget && *number > oldest {
                break;
            }
            boundary = number + 1;
        }
        boundary
    }

    fn carry_octets_max(&self) -> u64 {
        u64::from(self.settings.segment_octets / 4)
    }

    /// Gathers again what segments before `boundary` say and still holds.
    fn carry(&mut self, boundary: u64) {
        let mut budget = self.carry_octets_max();
        let mut old: Vec<(Place, u32, MessageId)> = Vec::new();
        for (id, live) in &self.live {
            match live.at {
                At::Written(place, size) if place.segment < boundary => {
                    old.push((place, size, *id));
                }
                _ => {}
            }
        }
        old.sort_unstable();
        for (place, size, id) in old {
            if budget < u64::from(size) {
                break;
            }
            budget -= u64::from(size);
            self.carry_message(place, size, id);
        }
        // Not with the lazy ones: they may come behind the checkpoint that lets the old ones go.
        let segment = self.active.as_ref().map_or(0, |active| active.number);
        let waiting_end = self.waiting_base + self.waiting.len() as u64;
        let old = self.handled.iter_mut();
        let old = old.filter(|(_, entry)| entry.segment < boundary);
        let counts = old.map(|(stream, entry)| {
            entry.segment = segment;
            (*stream, entry.count)
        });
        let counts: Vec<(StreamId, u32)> = counts.collect();
        for part in counts.chunks(self.body_octets_max() / HANDLED_OCTETS) {
            push_handled(&mut self.gather, waiting_end, part.iter().copied());
        }
    }

    fn carry_message(&mut self, place: Place, size: u32, id: MessageId) {
        let mut body = vec![0; size as usize];
        let at = u64::from(place.offset) + HEADER_OCTETS as u64;
        let file = self
            .segments
            .get(&place.segment)
            .map(|kept| kept.file.clone());
        let read = file.map(|file| file.read_at(&mut body, at));
        let whole = matches!(read, Some(Ok(count)) if count == body.len());
        self.unkeep(place, size);
        // What cannot be read back is lost only if the process ends before it is settled.
        if !whole || Message::read(&body).is_none_or(|message| message.id != id) {
            return;
        }
        let waiting_end = self.waiting_base + self.waiting.len() as u64;
        let piece = self.gather.push(RecordKind::Message, waiting_end, |out| {
            out.extend_from_slice(&body);
        });
        piece.message = Some(id);
        piece.state = PieceState::Carried;
        let number = self.gather_base + self.gather.pieces.len() as u64 - 1;
        if let Some(live) = self.live.get_mut(&id) {
            live.at = At::Gathered(number);
        }
    }

    /// Makes room in memory by dropping what was settled, when that is most of what is held.
    pub(super) fn compact(&mut self) {
        let living = Gather::default();
        let held = std::mem::replace(&mut self.gather, living);
        self.gather_base += held.pieces.len() as u64;
        self.gather.append(&held, held.pieces.len());
        for (place, piece) in self.gather.pieces.iter().enumerate() {
            if let Some(live) = piece.message.and_then(|id| self.live.get_mut(&id)) {
                live.at = At::Gathered(self.gather_base + place as u64);
            }
        }
    }
}
