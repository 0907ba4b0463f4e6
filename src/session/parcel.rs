//! What one shard sends to another: stanzas with their octets in one arena, targets many.
//!
//! A parcel is one encoding and a list of targets. The same form carries stanzas between two
//! accounts of one shard, so that every delivery goes the same way.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use crate::base::pool::RESTING_MAX;
use crate::base::time::Moment;
use crate::session::effects::LinkKey;
use crate::store::{MessageId, ShardId};
use crate::transport::bosh::ContentType;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};

/// Octets for which a batch keeps room while nothing happens.
const RESTING_OCTETS: usize = 4 * 1024;

/// Who waits for an answer: the request of a link, in some shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub shard: ShardId,
    pub link: LinkKey,
}

/// What shards tell each other about streams over HTTP, and about logins. Each is small or goes out
/// as it is.
pub enum Letter {
    /// A request for a session that is, or was, there.
    Post { ticket: Ticket, body: Box<[u8]> },
    /// The answer for a link that waits there.
    Answer {
        link: LinkKey,
        status: u16,
        kind: ContentType,
        body: Arc<[u8]>,
    },
    /// Nobody waits any more for the answer to this ticket.
    Gone { sid: u128, ticket: Ticket },
    /// A session moves in; only the engine looks inside.
    Tube(Box<dyn Any + Send>),
    /// A session that was born there has ended.
    Left { sid: u128 },
    /// What was published to a topic that is at home there, by who waits for the answer.
    Publish {
        ticket: Ticket,
        topic: Arc<str>,
        json: Arc<[u8]>,
    },
    /// It is on its way to all shards.
    Published { link: LinkKey },
    /// The home of a topic passes it on to everybody.
    Publication { topic: Arc<str>, json: Arc<[u8]> },
    /// A login failed for an account that is at home there.
    LoginFailed { pair: u64 },
    /// The home of an account says how long the next login has to wait.
    MustWait { pair: u64, until: Moment },
}

impl Letter {
    fn octets_len(&self) -> usize {
        let body = match self {
            Self::Post { body, .. } => body.len(),
            Self::Answer { body, .. } => body.len(),
            Self::Publish { json, .. } | Self::Publication { json, .. } => json.len(),
            Self::Published { .. } | Self::Gone { .. } | Self::Tube(_) | Self::Left { .. } => 0,
            Self::LoginFailed { .. } | Self::MustWait { .. } => 0,
        };
        body + size_of::<Self>()
    }
}

/// What one turn posts to one other shard.
#[derive(Default)]
pub struct Batch {
    /// Addresses: text stays text, so that nobody checks it again.
    texts: String,
    octets: Vec<u8>,
    parcels: Vec<Packed>,
    /// Runs of `texts`.
    targets: Vec<Range<u32>>,
    letters: Vec<Letter>,
    letters_octets: usize,
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
    letters: usize,
}

impl Batch {
    /// Appends a letter. Letters keep their order; they know none with parcels.
    pub fn post(&mut self, letter: Letter) {
        self.letters_octets += letter.octets_len();
        self.letters.push(letter);
    }

    /// Takes the letters out.
    pub fn letters(&mut self) -> Vec<Letter> {
        self.letters_octets = 0;
        std::mem::take(&mut self.letters)
    }

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
        self.parcels.is_empty() && self.letters.is_empty()
    }

    /// Octets on the way, for the bound on mail.
    pub fn octets_len(&self) -> usize {
        self.octets.len() + self.texts.len() + self.letters_octets
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
            letters,
            ..
        } = self;
        self.sealed = Sealed {
            texts: texts.len(),
            octets: octets.len(),
            parcels: parcels.len(),
            targets: targets.len(),
            letters: letters.len(),
        };
    }

    pub(super) fn unwind(&mut self) {
        self.texts.truncate(self.sealed.texts);
        self.octets.truncate(self.sealed.octets);
        self.parcels.truncate(self.sealed.parcels);
        self.targets.truncate(self.sealed.targets);
        self.letters.truncate(self.sealed.letters);
        let left = self.letters.iter().map(Letter::octets_len);
        self.letters_octets = left.sum();
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
