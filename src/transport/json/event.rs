//! What readers get, and how it is framed for each kind of them.

use std::sync::Arc;

use super::Cursor;
use crate::transport::websocket::encode;

/// One event. It is encoded once, whoever reads it and however.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where the reader is when it has this; `None` of what is for one reader only.
    pub id: Option<Cursor>,
    /// The `type` in it.
    pub name: &'static str,
    /// A whole object, in one line.
    pub json: Arc<[u8]>,
}

impl Event {
    /// Appends a text message of WebSocket (RFC 6455 section 5.6).
    pub fn write_websocket(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.json);
        encode::frame_in_place(out, start);
    }

    /// Appends a block of `text/event-stream`.
    pub fn write_stream(&self, out: &mut Vec<u8>) {
        let id = self.id.map(|id| id.to_string());
        write_block(out, id.as_deref(), self.name, &self.json);
    }
}

/// Appends a block of `text/event-stream` (HTML, section 9.2.6). Whatever line breaks `data` has,
/// the reader gets them as LF.
pub fn write_block(out: &mut Vec<u8>, id: Option<&str>, name: &str, data: &[u8]) {
    if let Some(id) = id {
        write_line(out, b"id", id.as_bytes());
    }
    // Of an event without name `onmessage` hears, so the name that means the same is left out.
    if name != "message" {
        write_line(out, b"event", name.as_bytes());
    }
    let mut rest = data;
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, tail) = rest.split_at_checked(end).unwrap_or((rest, b""));
        write_line(out, b"data", line);
        match tail {
            [] => break,
            [b'\r', b'\n', next @ ..] | [_, next @ ..] => rest = next,
        }
    }
    out.push(b'\n');
}

fn write_line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    for part in [field, b": ", value, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends how long a browser waits before it comes again, which is said once, at the beginning.
pub fn write_retry(out: &mut Vec<u8>, milliseconds: u32) {
    write_line(out, b"retry", milliseconds.to_string().as_bytes());
    out.push(b'\n');
}

/// Appends a comment, which keeps proxies from closing a stream where nothing happens.
pub fn write_alive(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// Appends the answer to a poll: the events and where to go on.
pub fn write_page<'a>(
    out: &mut Vec<u8>,
    events: impl IntoIterator<Item = &'a Event>,
    next: Cursor,
) {
    let mut object = super::writer::Object::begin(out);
    object.array("events", events, |out, event| {
        out.extend_from_slice(&event.json);
    });
    object.text("next", &next.to_string());
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: u64, name: &'static str) -> Event {
        let json = format!("{{\"id\":\"a-{offset}\",\"type\":\"{name}\"}}");
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
        write_page(&mut out, &events, events[1].id.unwrap());
        let page: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(page["next"], "a-2");
        assert_eq!(page["events"][1]["type"], "sent");
    }

    /// What a browser makes of a block is what went in, but for the kind of line breaks.
    #[test]
    fn lines_survive_a_block() {
        for (data, lines) in [
            ("", vec![""]),
            ("a\nb", vec!["a", "b"]),
            ("a\r\nb\rc\n", vec!["a", "b", "c", ""]),
            ("\n\nid: x", vec!["", "", "id: x"]),
        ] {
            let mut out = Vec::new();
            write_block(&mut out, None, "x", data.as_bytes());
            let mut want = String::from("event: x\n");
            for line in lines {
                want += &format!("data: {line}\n");
            }
            assert_eq!(String::from_utf8(out).unwrap(), want + "\n", "{data:?}");
        }
    }
}
