//! Conversations over BOSH: what a script writes as on TCP goes out in requests of XEP-0124, and
//! what comes in their answers is shown as on TCP. A client always has a request waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use encke::engine::Entry;
use encke::testing::{Crash, Plan, WireId, World};
use encke::xmpp::xml::{Progress, Scanner, StreamScope};

use super::stage::Stage;
use super::websocket::{BOUNDS, HEADER, plain, qualified};

/// The engine on virtual time, with clients that poll for long.
pub struct Bosh {
    world: World,
    clients: Vec<Client>,
}

#[derive(Default)]
struct Client {
    /// What the script has written and is no whole item yet.
    outgoing: String,
    /// Whole items that no request has taken.
    items: String,
    /// The attributes of the next request, beside `rid` and `sid`.
    attributes: String,
    /// Whether the client's header was written.
    open: bool,
    sid: Option<String>,
    rid: u64,
    /// Requests without an answer, with what has come of it.
    waiting: BTreeMap<WireId, Vec<u8>>,
    /// What was answered and is not read.
    shown: Vec<u8>,
    /// Whether an answer begins a stream.
    begins: bool,
    over: bool,
    gone: bool,
}

impl Bosh {
    pub fn new(plan: Plan) -> Self {
        let entry = Entry::Http;
        Self {
            world: World::new(Plan { entry, ..plan }),
            clients: Vec::new(),
        }
    }

    /// Sends what is to be sent, and a request that waits where there is none.
    fn post(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let has_news = !client.items.is_empty() || !client.attributes.is_empty();
        // Two at a time; the first one must be answered before others may come.
        let may = match client.sid {
            None => client.waiting.is_empty() && has_news,
            Some(_) => client.waiting.is_empty() || (has_news && client.waiting.len() < 2),
        };
        if !may || client.over || client.gone {
            return false;
        }
        client.rid += 1;
        let sid = client.sid.as_ref().map(|sid| format!(" sid='{sid}'"));
        let body = format!(
            "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' \
             xmlns:stream='http://etherx.jabber.org/streams' rid='{}'{}{}>{}</body>",
            client.rid,
            sid.unwrap_or_default(),
            std::mem::take(&mut client.attributes),
            std::mem::take(&mut client.items)
        );
        let wire = self.world.connect();
        let head = format!(
            "POST /http-bind HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.clients[number].waiting.insert(wire, Vec::new());
        self.world.write(wire, (head + &body).as_bytes());
        true
    }

    /// Takes the answers that are whole, and says whether there were any.
    fn collect(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let mut answered = Vec::new();
        for (wire, octets) in &mut client.waiting {
            octets.extend_from_slice(&self.world.read(*wire));
            if let Some(body) = body_of(octets) {
                answered.push((*wire, body));
            }
        }
        let any = !answered.is_empty();
        for (wire, body) in answered {
            client.waiting.remove(&wire);
            self.world.hang_up(wire);
            client.show(&body);
        }
        any
    }
}

impl Client {
    /// Cuts what the script wrote into requests.
    fn take_items(&mut self) {
        loop {
            let scope = match self.open {
                true => StreamScope::standard(),
                false => StreamScope::closed(),
            };
            let mut scanner = Scanner::new();
            let text = self.outgoing.clone();
            let taken = match scanner.next(text.as_bytes(), &scope, &BOUNDS) {
                Ok(Progress::Incomplete) => return,
                Ok(Progress::Blank(taken)) => taken,
                Ok(Progress::Header(taken)) => {
                    let header = scanner.header(&text.as_bytes()[..taken]);
                    let attr = |name: &str| {
                        let value = header.attr(name);
                        value
                            .map(|value| format!(" {name}='{value}'"))
                            .unwrap_or_default()
                    };
                    self.attributes = match self.sid {
                        None => format!(
                            " wait='60' hold='1' ver='1.6' xmpp:version='1.0'{}{}",
                            attr("to"),
                            attr("xml:lang")
                        ),
                        Some(_) => format!(" xmpp:restart='true'{}", attr("to")),
                    };
                    (self.open, self.begins) = (true, true);
                    taken
                }
                Ok(Progress::Element(taken)) => {
                    self.items.push_str(&qualified(text[..taken].trim()));
                    taken
                }
                Ok(Progress::End(taken)) => {
                    self.attributes.push_str(" type='terminate'");
                    taken
                }
                Err(_) => {
                    self.items.push_str(&text);
                    text.len()
                }
            };
            self.outgoing.drain(..taken);
        }
    }

    /// An answer, as on TCP.
    fn show(&mut self, body: &str) {
        let tag = body.find('>').unwrap();
        let (tag, rest) = body.split_at(tag);
        if self.sid.is_none()
            && let Some((_, sid)) = tag.split_once(" sid='")
        {
            self.sid = sid.split('\'').next().map(str::to_owned);
        }
        let mut rest = rest[1..].trim_end_matches("</body>");
        if tag.ends_with('/') {
            rest = "";
        }
        let ends = tag.contains("type='terminate'");
        if self.begins && (!rest.is_empty() || ends) {
            self.begins = false;
            self.shown.extend_from_slice(HEADER.as_bytes());
        }
        let mut scanner = Scanner::new();
        while !rest.is_empty() {
            let scope = StreamScope::standard();
            let Ok(Progress::Element(taken)) = scanner.next(rest.as_bytes(), &scope, &BOUNDS)
            else {
                panic!("no items: {rest}");
            };
            let item = &rest[..taken];
            if item.starts_with("<success") {
                self.open = false;
            }
            self.shown.extend_from_slice(plain(item).as_bytes());
            rest = &rest[taken..];
            scanner.reset();
        }
        if ends {
            self.shown.extend_from_slice(b"</stream:stream>");
            self.over = true;
        }
    }
}

impl Stage for Bosh {
    fn connect(&mut self) -> usize {
        self.clients.push(Client {
            rid: 1_000,
            ..Client::default()
        });
        self.clients.len() - 1
    }

    fn write(&mut self, link: usize, text: &str) {
        let client = &mut self.clients[link];
        client.outgoing.push_str(text);
        client.take_items();
    }

    fn settle(&mut self) {
        let mut again = true;
        while again {
            again = false;
            for number in 0..self.clients.len() {
                again |= self.post(number);
            }
            self.world.settle();
            for number in 0..self.clients.len() {
                again |= self.collect(number);
                self.clients[number].take_items();
            }
        }
        self.world.check();
    }

    fn read(&mut self, link: usize) -> Vec<u8> {
        std::mem::take(&mut self.clients[link].shown)
    }

    fn cut(&mut self, link: usize) {
        let client = &mut self.clients[link];
        client.gone = true;
        for wire in std::mem::take(&mut client.waiting).into_keys() {
            self.world.hang_up(wire);
        }
        // Who does not come back is gone when its time is over.
        self.world.settle();
        self.world.advance(Duration::from_secs(46));
        self.settle();
    }

    fn is_closed(&mut self, link: usize) -> bool {
        self.clients[link].over || self.clients[link].gone
    }

    fn advance(&mut self, time: Duration) {
        // Requests come back after a minute at the latest.
        let mut rest = time;
        while !rest.is_zero() {
            let step = rest.min(Duration::from_secs(30));
            self.world.advance(step);
            self.settle();
            rest -= step;
        }
    }

    fn crash(&mut self) {
        self.world.crash(Crash::PowerLost);
    }

    fn stop(&mut self) {
        self.world.stop();
        for number in 0..self.clients.len() {
            self.collect(number);
        }
    }
}

/// The body of an answer, when all of it is there.
fn body_of(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(octets).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, length) = head.split_once("Content-Length: ")?;
    let length: usize = length.split('\r').next()?.parse().ok()?;
    (body.len() >= length).then(|| body[..length].to_owned())
}
