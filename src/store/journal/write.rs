//! Writing groups of records, and taking them back when they are not trusted any more.

use std::io;

use super::gather::{Gather, OVERHEAD_OCTETS, Piece, PieceState};
use super::record::{self, Place, RecordKind, record_octets, write_place, write_record};
use super::segment::Segment;
use super::{At, Journal, Kept, State};

/// Octets of the body of a [`RecordKind::Synced`]: what is durable, and where the last group ended.
const MARK_OCTETS: usize = 24;

impl Journal {
    /// Writes as many records as the active segment takes, by one call.
    pub(super) fn write_group(&mut self) -> io::Result<()> {
        let living = |piece: &&Piece| piece.state != PieceState::Dead;
        let first = self.gather.pieces.iter().find(living);
        let need = first.map_or(0, Piece::record_octets);
        let reserve = first.map_or(0, |piece| self.reserve_for(piece));
        self.make_room(need, reserve)?;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let (mut before, mut after) = (Gather::default(), Gather::default());
        let taken = self.encode_group(&mut out, &mut before, &mut after);
        let active = self.active.as_ref().expect("room was made in it");
        let result = active.file.write_at(&out, u64::from(active.offset));
        if result.is_ok() {
            self.group_written(&out, taken, &before, &after);
        } else {
            // Part of the group may be there; without its first header none of it counts.
            let _ = active
                .file
                .write_at(&[0; record::HEADER_OCTETS], u64::from(active.offset));
        }
        self.out = out;
        result
    }

    /// Encodes the group at the end of the active segment: a mark of what is durable, what was
    /// settled (`before`), then from `gather`, then, if that is all of it, counts and the sessions
    /// that are gone for good (`after`). Returns how many of the third.
    fn encode_group(
        &mut self,
        out: &mut Vec<u8>,
        before: &mut Gather,
        after: &mut Gather,
    ) -> usize {
        self.group += 1;
        let active = self.active.as_ref().expect("room was made in it");
        let (start, group) = (active.end(), self.group);
        let put = |out: &mut Vec<u8>, kind, body: &[u8]| {
            let offset = start.offset + out.len() as u32;
            write_record(out, Place { offset, ..start }, group, kind, body);
        };
        let mut durable = Vec::new();
        write_place(&mut durable, self.durable);
        write_place(&mut durable, self.previous);
        put(out, RecordKind::Synced, &durable);
        self.lazy.gather_settled(before, self.waiting_written);
        for piece in &before.pieces {
            put(out, piece.kind, before.octets(piece));
        }
        let room = (self.settings.segment_octets - start.offset) as usize;
        let room = room - record_octets(self.lazy.last_octets()) - OVERHEAD_OCTETS;
        let mut taken = 0_usize;
        for piece in &self.gather.pieces {
            if piece.state != PieceState::Dead {
                if out.len() + piece.record_octets() + self.reserve_for(piece) > room {
                    break;
                }
                put(out, piece.kind, self.gather.octets(piece));
            }
            taken += 1;
        }
        let waiting = match taken.checked_sub(1) {
            Some(last) => self.gather.pieces[last].waiting_end,
            None => self.waiting_written,
        };
        if taken == self.gather.pieces.len() {
            self.lazy.gather_last(after, waiting, &self.handled);
        }
        for piece in &after.pieces {
            put(out, piece.kind, after.octets(piece));
        }
        taken
    }

    /// What a record must leave free at the end of a segment.
    fn reserve_for(&self, piece: &Piece) -> usize {
        match (piece.kind, piece.state) {
            (RecordKind::Message | RecordKind::Changes, PieceState::New) => {
                self.settings.reserve_octets as usize
            }
            _ => 0,
        }
    }

    /// Takes up that a group stands where the active segment ended.
    fn group_written(&mut self, out: &[u8], taken: usize, before: &Gather, after: &Gather) {
        let active = self.active.as_mut().expect("it was written to");
        let mut place = active.end();
        active.offset += out.len() as u32;
        place.offset += record_octets(MARK_OCTETS) as u32;
        for piece in &before.pieces {
            place.offset += piece.record_octets() as u32;
        }
        self.previous = active.end();
        self.unsynced.append(before, before.pieces.len());
        self.lazy.settled.clear();
        if taken == self.gather.pieces.len() {
            self.lazy.handled.clear();
            self.lazy.forgotten.clear();
        }
        self.lazy_told = false;
        for piece in &self.gather.pieces[..taken] {
            if piece.state == PieceState::Dead {
                continue;
            }
            let size = piece.body.len() as u32;
            if let Some(live) = piece.message.and_then(|id| self.live.get_mut(&id)) {
                live.at = At::Written(place, size);
                if let Some(kept) = self.segments.get_mut(&place.segment) {
                    kept.live_octets += u64::from(size);
                }
            }
            place.offset += piece.record_octets() as u32;
        }
        if let Some(last) = self.gather.pieces[..taken].last() {
            self.waiting_written = last.waiting_end;
        }
        self.unsynced.append(&self.gather, taken);
        self.unsynced.append(after, after.pieces.len());
        self.gather.drop_front(taken);
        self.gather_base += taken as u64;
    }

    /// Makes sure that a group with a first record of `octets` fits the active segment and leaves
    /// `reserve` free.
    pub(super) fn make_room(&mut self, octets: usize, reserve: usize) -> io::Result<()> {
        let mark = record_octets(MARK_OCTETS);
        let need = mark + self.lazy.record_octets() + octets;
        let end = self.settings.segment_octets as usize - reserve;
        match &self.active {
            Some(active) if active.offset as usize + need <= end => return Ok(()),
            _ => {}
        }
        let next = match self.spare.take() {
            Some(spare) => spare,
            None => {
                if self.state == State::Full && !std::mem::take(&mut self.may_probe) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let number = self.next_segment;
                let next = Segment::create(&*self.files, number, self.settings.segment_octets)?;
                self.next_segment += 1;
                next
            }
        };
        self.segments.insert(next.number, Kept::new(&next));
        if let Some(old) = self.active.replace(next) {
            self.to_sync.push(old.file);
        }
        Ok(())
    }

    /// Leaves a segment that a write failed on. What it has is still to be synced.
    pub(super) fn abandon_active(&mut self) {
        if let Some(active) = self.active.take() {
            // What stands behind the end is no record; cutting it spares recovery a report.
            let _ = active.file.truncate(u64::from(active.offset));
            self.to_sync.push(active.file);
        }
    }

    /// After a failed sync: nothing since the last good one is trusted; all of it is gathered again
    /// for a new segment.
    pub(super) fn take_back(&mut self) {
        let mut again = Gather::default();
        for part in [&self.syncing, &self.unsynced, &self.gather] {
            again.append(part, part.pieces.len());
        }
        self.syncing.clear();
        self.unsynced.clear();
        self.to_sync.clear();
        self.gather_base += self.gather.pieces.len() as u64;
        self.gather = again;
        self.waiting_written = self.waiting_base;
        self.active = None;
        self.previous = self.durable;
        for (place, piece) in self.gather.pieces.iter_mut().enumerate() {
            let Some(live) = piece.message.and_then(|id| self.live.get_mut(&id)) else {
                continue;
            };
            if let At::Written(place, size) = live.at {
                if let Some(kept) = self.segments.get_mut(&place.segment) {
                    kept.live_octets = kept.live_octets.saturating_sub(u64::from(size));
                }
                // It may stand in the segment that is not trusted, so a settlement is written.
                piece.state = PieceState::Carried;
            }
            live.at = At::Gathered(self.gather_base + place as u64);
        }
    }
}
