//! A link of a device that is a web page without WebSockets: items as on TCP in requests of
//! XEP-0124, one link each, and asked again when that link breaks.

use std::collections::{BTreeMap, VecDeque};

use encke::engine::Entry;
use encke::testing::{WireId, World};
use encke::xmpp::xml::{Progress, Scanner, StreamScope};

use crate::support::websocket::{BOUNDS, HEADER, plain, qualified};

/// One session.
#[derive(Default)]
pub struct Bosh {
    sid: Option<String>,
    rid: u64,
    /// What no request has taken: attributes and content.
    outgoing: VecDeque<(String, String)>,
    /// Requests without an answer.
    waiting: BTreeMap<u64, Request>,
    /// Answers that came before their turn.
    early: BTreeMap<u64, String>,
    /// Whose answer comes next.
    next: u64,
    /// Whether the next content begins a stream.
    begins: bool,
    pub is_over: bool,
}

struct Request {
    wire: WireId,
    text: String,
    octets: Vec<u8>,
}

impl Request {
    fn ask_again(&mut self, world: &mut World) {
        self.octets.clear();
        self.wire = world.connect_to(Entry::Http);
        world.write(self.wire, self.text.as_bytes());
    }
}

const HOLD: usize = 1;

impl Bosh {
    pub fn new(rid: u64) -> Self {
        Self {
            rid,
            next: rid + 1,
            ..Self::default()
        }
    }

    /// One item.
    pub fn say(&mut self, item: &str) {
        if item.starts_with("<?xml") {
            let attributes = match self.sid.is_some() {
                true => "xmpp:restart='true'",
                false => "wait='20' hold='1' ver='1.6' xmpp:version='1.0'",
            };
            let attributes = format!("{attributes} to='localhost'");
            self.begins = true;
            return self.outgoing.push_back((attributes, String::new()));
        }
        if item == "</stream:stream>" {
            let end = "type='terminate'".to_owned();
            return self.outgoing.push_back((end, String::new()));
        }
        match self.outgoing.back_mut() {
            Some((attributes, content)) if attributes.is_empty() => *content += &qualified(item),
            _ => self.outgoing.push_back((String::new(), qualified(item))),
        }
    }

    /// Asks, asks again and takes answers. Returns the items in them, as on TCP.
    pub fn pump(&mut self, world: &mut World) -> String {
        self.post(world);
        let (mut answered, mut refused) = (Vec::new(), None);
        for (rid, request) in &mut self.waiting {
            request.octets.extend_from_slice(&world.read(request.wire));
            match body_of(&request.octets) {
                Some(body) if is_error(&body) => refused = Some(*rid),
                Some(body) => answered.push((*rid, body)),
                None if world.is_closed(request.wire) => request.ask_again(world),
                None => {}
            }
        }
        // Section 17.3: that one, and all before it that have no answer.
        if let Some(refused) = refused {
            let is_answered = |rid: &u64| answered.iter().any(|(other, _)| other == rid);
            let again = self.waiting.range_mut(..=refused);
            for (_, request) in again.filter(|(rid, _)| !is_answered(rid)) {
                world.hang_up(request.wire);
                request.ask_again(world);
            }
        }
        for (rid, body) in answered {
            if let Some(request) = self.waiting.remove(&rid) {
                world.hang_up(request.wire);
            }
            self.early.insert(rid, body);
        }
        let mut shown = String::new();
        while let Some(body) = self.early.remove(&self.next) {
            self.next += 1;
            self.show(&body, &mut shown);
        }
        // Whoever hears the end on a later request was not told in order.
        let ends = |body: &String| body.contains("type='terminate'");
        self.is_over |= self.early.values().any(ends);
        shown
    }

    fn post(&mut self, world: &mut World) {
        while !self.is_over && (self.sid.is_some() || self.waiting.is_empty()) {
            let sent = self.waiting.len() + self.early.len();
            let wanted = match self.outgoing.is_empty() {
                true => self.sid.is_some() && sent < HOLD,
                false => sent < HOLD + 1,
            };
            if !wanted {
                return;
            }
            let (attributes, content) = self.outgoing.pop_front().unwrap_or_default();
            self.rid += 1;
            let sid = self.sid.as_ref().map(|sid| format!(" sid='{sid}'"));
            let body = format!(
                "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' \
                 xmlns:stream='http://etherx.jabber.org/streams' rid='{}'{} {attributes}>\
                 {content}</body>",
                self.rid,
                sid.unwrap_or_default()
            );
            let length = body.len();
            let text = format!(
                "POST /http-bind HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n\
                 {body}"
            );
            let wire = world.connect_to(Entry::Http);
            world.write(wire, text.as_bytes());
            let octets = Vec::new();
            let request = Request { wire, text, octets };
            self.waiting.insert(self.rid, request);
        }
    }

    fn show(&mut self, body: &str, shown: &mut String) {
        let (tag, rest) = body.split_at(body.find('>').unwrap());
        if self.sid.is_none()
            && let Some((_, sid)) = tag.split_once(" sid='")
        {
            self.sid = sid.split('\'').next().map(str::to_owned);
        }
        self.is_over |= tag.contains("type='terminate'");
        let mut rest = match tag.ends_with('/') {
            true => "",
            false => rest[1..].trim_end_matches("</body>"),
        };
        if std::mem::take(&mut self.begins) {
            self.begins = rest.is_empty();
            if !self.begins {
                shown.push_str(HEADER);
            }
        }
        while !rest.is_empty() {
            let mut scanner = Scanner::new();
            let scope = StreamScope::standard();
            let progress = scanner.next(rest.as_bytes(), &scope, &BOUNDS);
            let Ok(Progress::Element(taken)) = progress else {
                panic!("no items: {rest}");
            };
            shown.push_str(&plain(&rest[..taken]));
            rest = &rest[taken..];
        }
    }

    /// Changes whenever a request goes out or an answer comes.
    pub fn progress(&self) -> (u64, u64, Vec<WireId>) {
        let wires = self.waiting.values().map(|request| request.wire);
        (self.rid, self.next, wires.collect())
    }

    /// One of its links.
    pub fn any_wire(&self) -> Option<WireId> {
        self.waiting.values().next().map(|request| request.wire)
    }

    /// The page is gone, and its links with it.
    pub fn hang_up(&mut self, world: &mut World) {
        for request in self.waiting.values() {
            world.hang_up(request.wire);
        }
        self.is_over = true;
    }
}

/// Whether the server asks for the request again.
fn is_error(body: &str) -> bool {
    let tag = body.split('>').next().unwrap_or_default();
    tag.contains(" type='error'")
}

/// The body of an answer, when all of it is there. A request that came too slowly was not taken.
fn body_of(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(octets).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    if head.starts_with("HTTP/1.1 408") {
        return None;
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, length) = head.split_once("Content-Length: ")?;
    let length: usize = length.split('\r').next()?.parse().ok()?;
    (body.len() >= length).then(|| body[..length].to_owned())
}
