//! What readers get, and how it is framed for each kind of them.

use std::sync::Arc;

use super::Cursor;
use crate::transport::websocket::encode;

/// One event. It is encoded once, whoever reads it and however; only its number is written for each
/// reader, for the same event of a topic has another one in each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where the reader is when it has this; `None` of what is for one reader only.
    pub id: Option<Cursor>,
    /// The `type` in it.
    pub name: &'static str,
    /// A whole object but for `id`, in one line.
    pub json: Arc<[u8]>,
}

/// What an event that is kept tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Message,
    /// A chat state and no text.
    Typing,
    /// A receipt and no text.
    Receipt,
    /// A copy of a message from or to another session of the account (XEP-0280).
    Carbon,
    Presence,
    Subscription,
    /// What came back in place of an answer.
    Failure,
    /// A message of this session that is stored.
    Sent,
    Roster,
    /// A publication.
    Topic,
    /// Publications that found no room.
    Missed,
}

impl Class {
    /// The `type` of the event. None is `error`, which browsers say themselves of an
    /// `EventSource`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Typing => "typing",
            Self::Receipt => "receipt",
            Self::Carbon => "carbon",
            Self::Presence => "presence",
            Self::Subscription => "subscription",
            Self::Failure => "failure",
            Self::Sent => "sent",
            Self::Roster => "roster",
            Self::Topic => "topic",
            Self::Missed => "missed",
        }
    }

    /// Whether it says nothing that the roster and the presences do not say, or its sender.
    pub const fn is_spare(self) -> bool {
        matches!(
            self,
            Self::Sent | Self::Presence | Self::Roster | Self::Typing
        )
    }

    /// Whether the stream would store the stanza that it came of.
    pub const fn is_owed(self) -> bool {
        matches!(
            self,
            Self::Message | Self::Receipt | Self::Carbon | Self::Failure
        )
    }
}

/// The longest `{"id":"…",`.
const ID_OCTETS_MAX: usize = 48;

impl Event {
    /// Appends the whole object.
    pub fn write(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        match (self.id, self.json.split_first()) {
            (Some(id), Some((brace, members))) => {
                out.reserve(ID_OCTETS_MAX + self.json.len());
                out.push(*brace);
                // Writing to memory does not fail.
                let _ = write!(out, "\"id\":\"{id}\",");
                out.extend_from_slice(members);
            }
            _ => out.extend_from_slice(&self.json),
        }
    }

    /// Appends a text message of WebSocket (RFC 6455 section 5.6).
    pub fn write_websocket(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.write(out);
        encode::frame_in_place(out, start);
    }

    /// Appends a block of `text/event-stream` (HTML, section 9.2.6).
    pub fn write_stream(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        if let Some(id) = self.id {
            let _ = writeln!(out, "id: {id}");
        }
        // Of an event without name `onmessage` hears, so the name that means the same is left out.
        if self.name != "message" {
            let _ = writeln!(out, "event: {}", self.name);
        }
        out.extend_from_slice(b"data: ");
        self.write(out);
        out.extend_from_slice(b"\n\n");
    }
}

/// Appends how long a browser waits before it comes again, which is said once, at the beginning.
pub fn write_retry(out: &mut Vec<u8>, milliseconds: u32) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    let _ = write!(out, "retry: {milliseconds}\n\n");
}

/// Appends a comment, which keeps proxies from closing a stream where nothing happens.
pub fn write_alive(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// Appends the answer to a poll: the events and where to go on.
pub fn write_page(out: &mut Vec<u8>, events: impl IntoIterator<Item = Event>, next: Cursor) {
    let mut object = super::writer::Object::begin(out);
    object.array("events", events, |out, event| {
        event.write(out);
    });
    object.text("next", &next.to_string());
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: u64, name: &'static str) -> Event {
        let json = format!("{{\"type\":\"{name}\"}}");
        Event {
            id: Some(Cursor { epoch: 10, offset }),
            name,
            json: json.into_bytes().into(),
        }
    }

    #[test]
    fn an_event_in_each_framing() {
        let mut out = Vec::new();
        write_retry(&mut out, 2_000);
        event(1, "message").write_stream(&mut out);
        event(2, "presence").write_stream(&mut out);
        write_alive(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "retry: 2000\n\n\
             id: a-1\ndata: {\"id\":\"a-1\",\"type\":\"message\"}\n\n\
             id: a-2\nevent: presence\ndata: {\"id\":\"a-2\",\"type\":\"presence\"}\n\n:\n\n"
        );
        let mut out = Vec::new();
        event(1, "gap").write_websocket(&mut out);
        assert_eq!(out, b"\x81\x19{\"id\":\"a-1\",\"type\":\"gap\"}");
        let mut out = Vec::new();
        let events = [event(1, "gap"), event(2, "sent")];
        let next = events[1].id.unwrap();
        write_page(&mut out, events, next);
        let page: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(page["next"], "a-2");
        assert_eq!(page["events"][1]["type"], "sent");
    }
}
