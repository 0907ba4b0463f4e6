//! encke's own protocol for programs that know no XML: requests and events in JSON, over
//! WebSocket, `EventSource` or long poll. `docs/json.md` is its reference.
//!
//! [`session`] speaks an ordinary stream for its client: what the stream writes becomes events
//! ([`incoming`]), which readers get in order and again when they come back; what is asked for
//! ([`request`]) becomes stanzas ([`outgoing`]). Nothing behind the stream knows of it.

// No panic is reachable from the network.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::fmt;
use std::time::Duration;

use self::topic::Topics;

/// What readers get, and how it is framed for each kind of them.
pub mod event;
/// What a stream brings, as events.
pub mod incoming;
/// What a session is asked for with.
pub mod opening;
/// What is asked for, as stanzas.
pub mod outgoing;
/// Why something is refused.
pub mod problem;
/// What clients ask for.
pub mod request;
/// Who gets what, and when.
pub mod session;
/// What a program publishes to many sessions.
pub mod topic;
/// The only place that writes JSON.
mod writer;

/// What each session is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// From the first request to a session that is ready.
    pub login_timeout: Duration,
    /// How long a poll is held.
    pub poll_timeout: Duration,
    /// How long a session lives without a reader or a request.
    pub grace: Duration,
    /// How long events are kept that some reader was given already.
    pub replay: Duration,
    /// Octets of such events.
    pub replay_octets_max: usize,
    /// Number of such events.
    pub replay_events_max: usize,
    /// The same, where the oldest one is of no message: a busy topic fills no more.
    pub replay_spare_max: usize,
    /// Octets of events nobody was given, above which no more are taken from the stream.
    pub backlog_octets_max: usize,
    /// Stanzas that the stream may be left without an acknowledgement for; the stream has a bound
    /// above which it takes a client for slow.
    pub unacknowledged_max: u32,
    /// Octets of a stanza; a request that would become a longer one is refused.
    pub stanza_octets_max: usize,
    /// Addresses of which the last presence is kept.
    pub present_max: usize,
    /// Octets of all of them.
    pub present_octets_max: usize,
    /// Octets that the link of a reader may have on their way.
    pub reader_octets_max: usize,
    /// Readers at once.
    pub readers_max: usize,
    /// Messages that are not stored yet, and requests that are not answered yet.
    pub waiting_max: usize,
    /// Identifiers of messages that are remembered after they were stored.
    pub remembered_max: usize,
    /// How long they are.
    pub remembered: Duration,
    /// What may be subscribed to.
    pub topics: Topics,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(60),
            replay: Duration::from_secs(120),
            replay_octets_max: 262_144,
            replay_events_max: 1_024,
            replay_spare_max: 256,
            backlog_octets_max: 131_072,
            unacknowledged_max: 500,
            stanza_octets_max: 262_144,
            present_max: 4_096,
            present_octets_max: 262_144,
            reader_octets_max: 65_536,
            readers_max: 32,
            waiting_max: 64,
            remembered_max: 256,
            remembered: Duration::from_secs(600),
            topics: Topics::default(),
        }
    }
}

/// The subprotocol of a WebSocket that carries requests and events.
pub const PROTOCOL: &str = "encke.v1";

/// A place between two events of a session: behind the event of this number, and all before it.
/// Offset 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Of the session.
    pub epoch: u32,
    pub offset: u64,
}

impl Cursor {
    /// Reads what [`Cursor`] writes, and nothing else. Quotes around it, as an `ETag` has them,
    /// are the caller's to take off.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.split_once('-')?;
        let cursor = Self {
            epoch: u32::from_str_radix(epoch, 16).ok()?,
            offset: offset.parse().ok()?,
        };
        // One form only, so that equal cursors are equal texts.
        (text.len() <= CURSOR_OCTETS_MAX && cursor.to_string() == text).then_some(cursor)
    }
}

/// As in `id` and `Last-Event-ID`.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.offset)
    }
}

/// Eight hexadecimal digits, the hyphen, twenty decimal ones.
const CURSOR_OCTETS_MAX: usize = 29;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_form() {
        let cursor = Cursor {
            epoch: 0xabc,
            offset: 17,
        };
        assert_eq!(cursor.to_string(), "abc-17");
        assert_eq!(Cursor::parse("abc-17"), Some(cursor));
        for wrong in [
            "", "-", "abc", "ABC-17", "abc-017", "0abc-17", "abc-+1", "abc-1 ", "g-1",
        ] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
        assert_eq!(
            Cursor::parse("ffffffff-18446744073709551615")
                .unwrap()
                .offset,
            u64::MAX
        );
        assert_eq!(Cursor::parse("ffffffff-18446744073709551616"), None);
    }
}
