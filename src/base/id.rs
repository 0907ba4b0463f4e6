//! Names that several layers know.

/// Names a message for ever: `milliseconds since 1970 << 20 | shard << 12 | sequence`.
///
/// Rises with time within a shard and is never reused, not even when the clock steps back
/// over a restart. It is the message's `stanza-id` (XEP-0359), its journal entry and its place in
/// the offline store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl MessageId {
    /// When it was named, in milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> 20
    }
}
