//! HTTP as a web page reads it: answers, event streams and WebSockets of the JSON protocol.

use serde_json::Value;

use crate::support::websocket::next_frame;

/// An answer, when all of it is there.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(octets: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(octets).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = field(head, "Content-Length").unwrap_or("0");
        let length: usize = length.parse().unwrap();
        (body.len() >= length).then(|| Self {
            status: status_of(head),
            head: head.to_owned(),
            body: body[..length].to_owned(),
        })
    }

    /// The body. Nothing, if there is none.
    pub fn json(&self) -> Value {
        match self.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&self.body)
                .unwrap_or_else(|why| panic!("{why}: {}{}", self.head, self.body)),
        }
    }

    pub fn is_last(&self) -> bool {
        field(&self.head, "Connection") == Some("close")
    }
}

pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").skip(1);
    fields.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn status_of(head: &str) -> u16 {
    let status = head.strip_prefix("HTTP/1.1 ").expect("an answer of HTTP");
    status[..3].parse().unwrap()
}

/// How events come without being asked for each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    EventStream,
    WebSocket,
}

/// What a reader hears.
#[derive(Debug)]
pub enum Heard {
    /// It is no reader.
    Refused(Answer),
    Event(Value),
    Ping,
    /// The server ends it in order.
    End,
}

/// What a reader reads with.
pub struct Ear {
    pub form: Form,
    octets: Vec<u8>,
    /// What the chunks have, up to the last whole block.
    text: String,
    has_head: bool,
}

impl Ear {
    pub const fn new(form: Form) -> Self {
        Self {
            form,
            octets: Vec::new(),
            text: String::new(),
            has_head: false,
        }
    }

    pub fn receive(&mut self, octets: &[u8]) -> Vec<Heard> {
        self.octets.extend_from_slice(octets);
        let mut heard = Vec::new();
        if !self.has_head {
            let head = self.octets.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(head) = head else {
                return heard;
            };
            let text = String::from_utf8_lossy(&self.octets[..head]).into_owned();
            let wanted = match self.form {
                Form::EventStream => 200,
                Form::WebSocket => 101,
            };
            if status_of(&text) != wanted {
                heard.extend(Answer::read(&self.octets).map(Heard::Refused));
                return heard;
            }
            match self.form {
                Form::EventStream => {
                    assert_eq!(field(&text, "Content-Type"), Some("text/event-stream"));
                    assert_eq!(field(&text, "Transfer-Encoding"), Some("chunked"));
                }
                Form::WebSocket => {
                    assert_eq!(field(&text, "Sec-WebSocket-Protocol"), Some("encke.v1"));
                }
            }
            self.has_head = true;
            self.octets.drain(..head + 4);
        }
        match self.form {
            Form::EventStream => self.take_chunks(&mut heard),
            Form::WebSocket => self.take_frames(&mut heard),
        }
        heard
    }

    fn take_frames(&mut self, heard: &mut Vec<Heard>) {
        while let Some((opcode, text, octets)) = next_frame(&self.octets) {
            self.octets.drain(..octets);
            heard.push(match opcode {
                0x81 => Heard::Event(parse(&text)),
                0x89 => Heard::Ping,
                0x88 => Heard::End,
                other => panic!("an unexpected frame {other:#x}"),
            });
        }
    }

    fn take_chunks(&mut self, heard: &mut Vec<Heard>) {
        let mut is_last = false;
        while let Some(line) = self.octets.windows(2).position(|two| two == b"\r\n") {
            let length = str::from_utf8(&self.octets[..line]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            let end = line + 2 + length;
            if self.octets.len() < end + 2 {
                break;
            }
            let chunk = str::from_utf8(&self.octets[line + 2..end]).unwrap();
            self.text.push_str(chunk);
            assert_eq!(&self.octets[end..end + 2], b"\r\n");
            self.octets.drain(..end + 2);
            is_last |= length == 0;
        }
        while let Some((block, rest)) = self.text.split_once("\n\n") {
            heard.extend(block_of(block).map(Heard::Event));
            self.text = rest.to_owned();
        }
        if is_last {
            assert_eq!(self.text, "", "a stream ends between two events");
            heard.push(Heard::End);
        }
    }
}

/// The event of a block. What is said beside it must be the same.
fn block_of(block: &str) -> Option<Value> {
    let member = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let Some(data) = member("data") else {
        let known = |line: &str| line == ":" || line.starts_with("retry: ");
        assert!(block.lines().all(known), "{block}");
        return None;
    };
    let event = parse(data);
    assert_eq!(event["id"].as_str(), member("id"), "{block}");
    let name = member("event").unwrap_or("message");
    assert_eq!(event["type"], name, "{block}");
    Some(event)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}
