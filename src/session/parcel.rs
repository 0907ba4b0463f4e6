//! What one shard sends to another: stanzas with their octets in one arena, targets many.
//!
//! A parcel is one encoding and a list of targets. The same form carries stanzas between two
//! accounts of one shard, so that every delivery goes the same way.

use std::ops::Range;

use crate::store::MessageId;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};

/// What one turn posts to one other shard.
#[derive(Default)]
pub struct Batch {
    arena: Vec<u8>,
    parcels: Vec<Packed>,
    targets: Vec<Range<u32>>,
    sealed: (usize, usize, usize),
}

struct Packed {
    kind: Kind,
    class: Type,
    traits: Traits,
    id: MessageId,
    start: u32,
    from: u32,
    to: u32,
    reference: u32,
    head: u32,
    content: u32,
    targets: Range<u32>,
}

impl Batch {
    /// Appends `stanza` for the one address it names.
    pub fn push(&mut self, stanza: &Stanza<'_>) {
        self.push_for(stanza, std::iter::once(stanza.to));
    }

    /// Appends `stanza` for every one of `targets`, each bare or full and in normal form.
    pub fn push_for<'t>(&mut self, stanza: &Stanza<'_>, targets: impl Iterator<Item = &'t str>) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(stanza.from.as_bytes());
        self.arena.extend_from_slice(stanza.to.as_bytes());
        self.arena.extend_from_slice(stanza.reference);
        self.arena.extend_from_slice(stanza.head);
        self.arena.extend_from_slice(stanza.content);
        let first = self.targets.len() as u32;
        let to = start + stanza.from.len() as u32;
        for target in targets {
            if target == stanza.to {
                self.targets.push(to..to + target.len() as u32);
                continue;
            }
            let at = self.arena.len() as u32;
            self.arena.extend_from_slice(target.as_bytes());
            self.targets.push(at..self.arena.len() as u32);
        }
        self.parcels.push(Packed {
            kind: stanza.kind,
            class: stanza.class,
            traits: stanza.traits,
            id: stanza.id,
            start,
            from: stanza.from.len() as u32,
            to: stanza.to.len() as u32,
            reference: stanza.reference.len() as u32,
            head: stanza.head.len() as u32,
            content: stanza.content.len() as u32,
            targets: first..self.targets.len() as u32,
        });
    }

    /// Every parcel with its targets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Stanza<'_>, impl Iterator<Item = &str>)> {
        (0..self.parcels.len()).map(|index| self.parcel(index))
    }

    /// How many parcels there are.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Whether there is nothing to post.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Octets on the way, for the bound on mail.
    pub fn octets_len(&self) -> usize {
        self.arena.len()
    }

    /// Empties it and keeps its capacity.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.parcels.clear();
        self.targets.clear();
        self.sealed = (0, 0, 0);
    }

    pub(super) fn seal(&mut self) {
        self.sealed = (self.arena.len(), self.parcels.len(), self.targets.len());
    }

    pub(super) fn unwind(&mut self) {
        self.arena.truncate(self.sealed.0);
        self.parcels.truncate(self.sealed.1);
        self.targets.truncate(self.sealed.2);
    }

    fn parcel(&self, index: usize) -> (Stanza<'_>, impl Iterator<Item = &str>) {
        let packed = &self.parcels[index];
        let mut at = packed.start as usize;
        let mut piece = |len: u32| {
            let bytes = &self.arena[at..at + len as usize];
            at += len as usize;
            bytes
        };
        let stanza = Stanza {
            kind: packed.kind,
            class: packed.class,
            traits: packed.traits,
            id: packed.id,
            from: text(piece(packed.from)),
            to: text(piece(packed.to)),
            reference: piece(packed.reference),
            head: piece(packed.head),
            content: piece(packed.content),
        };
        let targets = &self.targets[packed.targets.start as usize..packed.targets.end as usize];
        let targets = targets
            .iter()
            .map(|t| text(&self.arena[t.start as usize..t.end as usize]));
        (stanza, targets)
    }
}

/// Octets that came from a `str`.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::stanza::Draft;

    #[test]
    fn a_parcel_comes_out_as_it_went_in() {
        let draft = Draft::new(Kind::Presence, Type::Available, "a@b/c", "", b" id='7'")
            .with_content(b"<show>away</show>".to_vec());
        let mut batch = Batch::default();
        batch.push_for(&draft.as_stanza(), ["x@y", "z@y/w"].into_iter());
        batch.seal();
        batch.push(&Draft::new(Kind::Iq, Type::Get, "q@r", "s@t", b"").as_stanza());
        assert_eq!(batch.len(), 2);
        batch.unwind();

        let parcels: Vec<_> = batch
            .iter()
            .map(|(s, t)| (s, t.collect::<Vec<_>>()))
            .collect();
        assert_eq!(parcels.len(), 1);
        let (stanza, targets) = &parcels[0];
        assert_eq!(targets, &["x@y", "z@y/w"]);
        let mut out = Vec::new();
        stanza.write(targets[1], &mut out);
        let wire = "<presence from='a@b/c' id='7' to='z@y/w'><show>away</show></presence>";
        assert_eq!(out, wire.as_bytes());
    }
}
