//! Records that wait: to be written, or, once written, to be synced.

use std::ops::Range;

use super::record::{HEADER_OCTETS, RecordKind, record_octets};
use crate::base::pool::RESTING_MAX;
use crate::store::MessageId;

/// Octets for which a list keeps room while nothing happens.
pub(super) const RESTING_OCTETS: usize = 4 * 1024;

/// Records in order, with their bodies in one run.
#[derive(Default)]
pub(super) struct Gather {
    pub bodies: Vec<u8>,
    pub pieces: Vec<Piece>,
    /// Octets of bodies that need not be written any more.
    pub dead_octets: usize,
    /// Records that need not be written any more.
    pub dead: usize,
}

/// One record to be.
#[derive(Clone)]
pub(super) struct Piece {
    pub kind: RecordKind,
    pub body: Range<usize>,
    /// The message that it holds.
    pub message: Option<MessageId>,
    pub state: PieceState,
    /// When it is durable, all who wait before this number are answered.
    pub waiting_end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceState {
    New,
    /// An older copy is on disk.
    Carried,
    /// It need not be written any more.
    Dead,
}

impl Gather {
    /// Appends a record whose body `write` appends.
    pub fn push(
        &mut self,
        kind: RecordKind,
        waiting_end: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Piece {
        let start = self.bodies.len();
        write(&mut self.bodies);
        self.pieces.push(Piece {
            kind,
            body: start..self.bodies.len(),
            message: None,
            state: PieceState::New,
            waiting_end,
        });
        self.pieces.last_mut().expect("it was just pushed")
    }

    /// Takes the last record back.
    pub fn pop(&mut self) {
        if let Some(piece) = self.pieces.pop() {
            self.bodies.truncate(piece.body.start);
        }
    }

    pub fn octets(&self, piece: &Piece) -> &[u8] {
        &self.bodies[piece.body.clone()]
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Empties it; room for a burst does not stay.
    pub fn clear(&mut self) {
        self.bodies.clear();
        self.pieces.clear();
        if self.bodies.capacity() > ROOM_OCTETS_MAX {
            self.bodies.shrink_to(0);
        }
        if self.pieces.capacity() * size_of::<Piece>() > ROOM_OCTETS_MAX {
            self.pieces.shrink_to(0);
        }
        self.dead_octets = 0;
        self.dead = 0;
    }

    /// Gives back what a burst needed. What is in it stays.
    pub fn rest(&mut self) {
        self.bodies.shrink_to(RESTING_OCTETS);
        self.pieces.shrink_to(RESTING_MAX);
    }

    /// Octets of living bodies.
    pub fn living_octets(&self) -> usize {
        self.bodies.len() - self.dead_octets
    }

    pub fn bury(&mut self, place: usize) {
        let piece = &mut self.pieces[place];
        if piece.state != PieceState::Dead {
            piece.state = PieceState::Dead;
            self.dead_octets += piece.body.len();
            self.dead += 1;
        }
    }

    /// Appends living records of `other` from its first `count`.
    pub fn append(&mut self, other: &Self, count: usize) {
        for piece in &other.pieces[..count] {
            if piece.state == PieceState::Dead {
                continue;
            }
            let start = self.bodies.len();
            self.bodies.extend_from_slice(other.octets(piece));
            self.pieces.push(Piece {
                body: start..self.bodies.len(),
                ..piece.clone()
            });
        }
    }

    /// Drops the first `count` records.
    pub fn drop_front(&mut self, count: usize) {
        if count == self.pieces.len() {
            return self.clear();
        }
        let start = self.pieces[count].body.start;
        self.bodies.drain(..start);
        self.pieces.drain(..count);
        self.dead_octets = 0;
        self.dead = 0;
        for piece in &mut self.pieces {
            piece.body = piece.body.start - start..piece.body.end - start;
            if piece.state == PieceState::Dead {
                self.dead += 1;
                self.dead_octets += piece.body.len();
            }
        }
    }
}

impl Piece {
    /// Octets that it takes in a segment.
    pub fn record_octets(&self) -> usize {
        record_octets(self.body.len())
    }
}

/// Room that is kept for the next records: many times what comes between two syncs of a busy
/// server.
pub(super) const ROOM_OCTETS_MAX: usize = 1 << 20;
/// The largest overhead of one record.
pub(super) const OVERHEAD_OCTETS: usize = HEADER_OCTETS + 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_burst_does_not_stay() {
        let mut gather = Gather::default();
        for octets in [100, 2 * ROOM_OCTETS_MAX] {
            gather.push(RecordKind::Settle, 0, |out| out.resize(octets, 0));
        }
        gather.clear();
        assert!(gather.bodies.capacity() <= ROOM_OCTETS_MAX);
        gather.push(RecordKind::Settle, 0, |out| out.resize(100, 0));
        gather.clear();
        assert!(gather.bodies.capacity() > 0, "the usual room stays");
    }
}
