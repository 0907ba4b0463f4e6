//! A bound resource. It may outlive its stream.

use super::account::AccountKey;
use super::effects::LinkKey;
use super::queue::Queue;
use crate::base::slab::Key;
use crate::base::time::Moment;
use crate::store::StreamId;
use crate::xmpp::stanza::Kind;

/// The tag of [`SessionKey`].
pub enum SessionTag {}
/// Names a session of this shard.
pub type SessionKey = Key<SessionTag>;

/// What a session is and wants, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Sent initial presence and is available.
    pub const AVAILABLE: Self = Self(1);
    /// Asked for the roster: gets roster pushes and subscription requests (RFC 6121 section 2.1.6).
    pub const ROSTER: Self = Self(1 << 1);
    /// Enabled carbons (XEP-0280).
    pub const CARBONS: Self = Self(1 << 2);
    /// Said that nobody looks at it (XEP-0352).
    pub const INACTIVE: Self = Self(1 << 3);
    /// Asked for the block list: gets its pushes (XEP-0191).
    pub const BLOCKING: Self = Self(1 << 4);
    /// Its link is not read until its output drained.
    pub const PAUSED: Self = Self(1 << 5);
    /// Is listed for an unasked `<a/>`.
    pub const ACK_LISTED: Self = Self(1 << 6);
    /// Was asked for a sign of life since it was last heard.
    pub const PROBED: Self = Self(1 << 7);
    /// Is watched because its output is not taken.
    pub const SLOW: Self = Self(1 << 9);
    /// A timer for `<r/>` is set.
    pub const ASK_TIMER: Self = Self(1 << 8);
    /// Is told at once what it sent is stored, for somebody waits for that.
    pub const PROMPT: Self = Self(1 << 10);

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As a number, for records.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The inverse of [`Flags::to_bits`].
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Sets `other`; whether that changed anything.
    pub fn set(&mut self, other: Self) -> bool {
        let changed = !self.has(other);
        self.0 |= other.0;
        changed
    }

    /// Clears `other`; whether that changed anything.
    pub fn clear(&mut self, other: Self) -> bool {
        let changed = self.0 & other.0 != 0;
        self.0 &= !other.0;
        changed
    }
}

/// The state behind a bound resource.
pub struct Session {
    pub account: AccountKey,
    /// The link that carries its stream; none while it waits to be resumed.
    pub link: Option<LinkKey>,
    /// The full JID in normal form, for the stamp on everything it sends.
    pub jid: Box<str>,
    /// Octets of `jid` before the resourcepart, the slash included: at most 2,048 (RFC 7622).
    resource_at: u16,
    pub flags: Flags,
    /// Of its last available presence.
    pub priority: i8,
    /// Its last available presence, as [`super::shown::keep`] leaves it.
    pub presence: Option<Box<[u8]>>,
    pub queue: Queue,
    /// What it asked of storage and was not answered, by weight.
    pub asked: u8,
    /// XEP-0198, once enabled.
    pub management: Option<Box<Management>>,
    /// Who got directed presence and must hear that it ends (RFC 6121 section 4.6).
    pub directed: Option<Box<Vec<Box<str>>>>,
    /// What waits until somebody looks at the client (XEP-0352).
    pub held: Option<Box<Held>>,
}

const _: () = assert!(size_of::<Session>() <= 96);

/// What XEP-0352 holds back while nobody looks: the last of each kind from each sender.
#[derive(Default)]
pub struct Held {
    /// The sender's full JID and the whole element, oldest first.
    pub elements: Vec<(Kind, Box<str>, Box<[u8]>)>,
    pub octets: usize,
}

/// A link whose client asked to resume a session.
pub struct Asked {
    pub link: LinkKey,
    pub previd: Box<str>,
    /// The `h` of the client.
    pub handled: u32,
}

/// XEP-0198 as a session keeps it.
pub struct Management {
    pub id: StreamId,
    /// How long it may be resumed; zero: not at all.
    pub resume_seconds: u32,
    /// Stanzas taken from the client, modulo 2^32.
    pub received: u32,
    /// Those of them that still wait for the journal, oldest first; true: committed.
    pub pending: Vec<(u32, bool)>,
    /// The `h` that the client was last told.
    pub told: u32,
    /// Stanzas that the client acknowledged, modulo 2^32.
    pub acknowledged: u32,
    /// Octets put into the queue since the last `<r/>`.
    pub octets_since_request: u32,
    /// When the link was lost; the end of time: never.
    pub detached: Moment,
    /// Whether the store may still have its record: a crash would bring the session back as it was
    /// then, so nobody goes on with it before.
    pub on_record: bool,
    /// Who is resumed as soon as nothing is pending.
    pub resuming: Option<Box<Asked>>,
}

/// One per session whose client manages its stream.
const _: () = assert!(size_of::<Management>() <= 80);

impl Management {
    /// A fresh one.
    pub fn new(id: StreamId, resume_seconds: u32) -> Self {
        Self {
            id,
            resume_seconds,
            received: 0,
            pending: Vec::new(),
            told: 0,
            acknowledged: 0,
            octets_since_request: 0,
            detached: Moment(u64::MAX),
            on_record: false,
            resuming: None,
        }
    }

    /// The `h` that may be told now: nothing at or below it waits for the journal.
    pub fn handled(&self) -> u32 {
        match self.pending.first() {
            Some((number, _)) => number.wrapping_sub(1),
            None => self.received,
        }
    }

    /// Whether a client may go on with it now.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.on_record
    }

    /// The journal has the stanza of this number, or it is settled.
    pub fn committed(&mut self, number: u32) {
        let first = self.pending.first().map_or(number, |front| front.0);
        let at = number.wrapping_sub(first) as usize;
        let exact = self.pending.get(at).is_some_and(|entry| entry.0 == number);
        let entry = match exact {
            true => self.pending.get_mut(at),
            false => self.pending.iter_mut().find(|entry| entry.0 == number),
        };
        if let Some(entry) = entry {
            entry.1 = true;
        }
        let settled = self.pending.iter().take_while(|entry| entry.1).count();
        self.pending.drain(..settled);
    }
}

impl Session {
    /// A session just bound: not available, nothing sent.
    pub fn new(account: AccountKey, link: LinkKey, bare: &str, resource: &str) -> Self {
        Self {
            link: Some(link),
            ..Self::detached(account, bare, resource)
        }
    }

    /// A session without a link.
    pub fn detached(account: AccountKey, bare: &str, resource: &str) -> Self {
        Self {
            account,
            link: None,
            jid: [bare, "/", resource].concat().into(),
            resource_at: bare.len() as u16 + 1,
            flags: Flags::default(),
            priority: 0,
            presence: None,
            queue: Queue::default(),
            asked: 0,
            management: None,
            directed: None,
            held: None,
        }
    }

    /// The resourcepart.
    pub fn resource(&self) -> &str {
        &self.jid[usize::from(self.resource_at)..]
    }

    /// Whether it sent initial presence.
    pub fn is_available(&self) -> bool {
        self.flags.has(Flags::AVAILABLE)
    }

    /// Whether messages to the bare JID reach it (RFC 6121 section 8.5.2).
    pub fn takes_messages(&self) -> bool {
        self.is_available() && self.priority >= 0
    }

    /// Whether it outlives its link.
    pub fn is_resumable(&self) -> bool {
        self.management
            .as_ref()
            .is_some_and(|management| management.resume_seconds > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P1: `h` never passes a gap.
    #[test]
    fn handled_stops_before_the_first_uncommitted_stanza() {
        let mut management = Management::new(StreamId(1), 60);
        management.received = 5;
        management
            .pending
            .extend([(2, false), (4, false), (5, false)]);
        assert_eq!(management.handled(), 1);
        management.committed(4);
        assert_eq!(management.handled(), 1);
        management.committed(2);
        assert_eq!(management.handled(), 4);
        management.committed(5);
        assert_eq!(management.handled(), 5);
    }

    #[test]
    fn handled_counts_over_the_end_of_its_numbers() {
        let mut management = Management::new(StreamId(1), 60);
        management.received = 1;
        management
            .pending
            .extend([(u32::MAX, false), (0, false), (1, false)]);
        assert_eq!(management.handled(), u32::MAX - 1);
        management.committed(u32::MAX);
        management.committed(0);
        assert_eq!(management.handled(), 0);
    }
}
