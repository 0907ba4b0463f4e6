//! What one shard sends to another: stanzas with their octets in one arena, targets many.
//!
//! A parcel is one encoding and a list of targets. The same form carries stanzas between two
//! accounts of one shard, so that every delivery goes the same way.

use std::ops::Range;

use crate::base::pool::RESTING_MAX;
use crate::store::MessageId;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};

/// Octets for which a batch keeps room while nothing happens.
const RESTING_OCTETS: usize = 4 * 1024;

/// What one turn posts to one other shard.
#[derive(Default)]
pub struct Batch {
    /// Addresses: text stays text, so that nobody checks it again.
    texts: String,
    octets: Vec<u8>,
    parcels: Vec<Packed>,
    /// Runs of `texts`.
    targets: Vec<Range<u32>>,
    sealed: Sealed,
}

struct Packed {
    kind: Kind,
    class: Type,
    traits: Traits,
    id: MessageId,
    /// Where its addresses begin: `from`, then `to`.
    text: u32,
    from: u32,
    to: u32,
    /// Where its octets begin: `reference`, `head`, `content`.
    start: u32,
    reference: u32,
    head: u32,
    content: u32,
    targets: Range<u32>,
}

/// How long everything was before the present input.
#[derive(Clone, Copy, Default)]
struct Sealed {
    texts: usize,
    octets: usize,
    parcels: usize,
    targets: usize,
}

impl Batch {
    /// Gives back what a burst needed. Call it when it is empty.
    pub fn rest(&mut self) {
        self.texts.shrink_to(RESTING_OCTETS);
        self.octets.shrink_to(RESTING_OCTETS);
        self.parcels.shrink_to(RESTING_MAX);
        self.targets.shrink_to(RESTING_MAX);
    }

    /// Appends `stanza` for the one address it names.
    pub fn push(&mut self, stanza: &Stanza<'_>) {
        self.push_for(stanza, std::iter::once(stanza.to));
    }

    /// Appends `stanza` for every one of `targets`, each bare or full and in normal form.
    pub fn push_for<'t>(&mut self, stanza: &Stanza<'_>, targets: impl Iterator<Item = &'t str>) {
        let text = self.texts.len() as u32;
        self.texts.push_str(stanza.from);
        self.texts.push_str(stanza.to);
        let start = self.octets.len() as u32;
        self.octets.extend_from_slice(stanza.reference);
        self.octets.extend_from_slice(stanza.head);
        self.octets.extend_from_slice(stanza.content);
        let first = self.targets.len() as u32;
        let to = text + stanza.from.len() as u32;
        for target in targets {
            if target == stanza.to {
                self.targets.push(to..to + target.len() as u32);
                continue;
            }
            let at = self.texts.len() as u32;
            self.texts.push_str(target);
            self.targets.push(at..self.texts.len() as u32);
        }
        self.parcels.push(Packed {
            kind: stanza.kind,
            class: stanza.class,
            traits: stanza.traits,
            id: stanza.id,
            text,
            from: stanza.from.len() as u32,
            to: stanza.to.len() as u32,
            start,
            reference: stanza.reference.len() as u32,
            head: stanza.head.len() as u32,
            content: stanza.content.len() as u32,
            targets: first..self.targets.len() as u32,
        });
    }

    /// Every parcel with its targets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Stanza<'_>, impl Iterator<Item = &str>)> {
        self.parcels.iter().map(|packed| self.parcel(packed))
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
        self.octets.len() + self.texts.len()
    }

    /// Empties it and keeps its capacity.
    pub fn clear(&mut self) {
        self.sealed = Sealed::default();
        self.unwind();
    }

    pub(super) fn seal(&mut self) {
        let Self {
            texts,
            octets,
            parcels,
            targets,
            ..
        } = self;
        self.sealed = Sealed {
            texts: texts.len(),
            octets: octets.len(),
            parcels: parcels.len(),
            targets: targets.len(),
        };
    }

    pub(super) fn unwind(&mut self) {
        self.texts.truncate(self.sealed.texts);
        self.octets.truncate(self.sealed.octets);
        self.parcels.truncate(self.sealed.parcels);
        self.targets.truncate(self.sealed.targets);
    }

    fn parcel(&self, packed: &Packed) -> (Stanza<'_>, impl Iterator<Item = &str>) {
        let text = |start: u32, len: u32| &self.texts[start as usize..(start + len) as usize];
        let octets = |start: u32, len: u32| &self.octets[start as usize..(start + len) as usize];
        let head = packed.start + packed.reference;
        let stanza = Stanza {
            kind: packed.kind,
            class: packed.class,
            traits: packed.traits,
            id: packed.id,
            from: text(packed.text, packed.from),
            to: text(packed.text + packed.from, packed.to),
            reference: octets(packed.start, packed.reference),
            head: octets(head, packed.head),
            content: octets(head + packed.head, packed.content),
        };
        let targets = &self.targets[packed.targets.start as usize..packed.targets.end as usize];
        let targets = targets
            .iter()
            .map(|t| &self.texts[t.start as usize..t.end as usize]);
        (stanza, targets)
    }
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
