//! A client of the JSON protocol: a web page with a session, readers of all kinds and requests.
//!
//! It does what a careful page does: comes again with its cursor, repeats under the same name what
//! was not answered, believes in a session until it hears that there is none, and knows messages
//! again by their `stanza_id`. And it checks what it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use encke::base::time::Moment;
use encke::engine::Entry;
use encke::testing::{PASSWORD, Random, WireId, World};
use serde_json::{Value, json};

use crate::http::{Ear, Form};
use crate::ledger::Ledger;
use crate::support::websocket::frame;

/// What comes to a page.
mod hearing;

/// A page that does not keep to the rules, so that a test can show that it would be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slip {
    #[default]
    None,
    /// An event that came is lost.
    SkipsEvents,
    /// What is repeated has another name.
    RenamesMessages,
    /// It says that it has what it threw away.
    LosesMessages,
}

/// A page.
pub struct Page {
    pub account: usize,
    pub bare: String,
    pub resource: String,
    pub priority: i8,
    /// Whether the server may end its session at any time.
    pub is_frail: bool,
    pub slip: Slip,
    /// Numbers its sessions: order is promised within one.
    pub epoch: usize,
    /// What others see of it.
    pub available: Option<String>,
    /// Full addresses that it believes to be available, with their show.
    pub view: BTreeMap<String, String>,
    /// The last answer to who is there.
    pub looked: Option<BTreeMap<String, String>>,
    /// A session of its name may be there that it knows nothing of.
    pub unheard: bool,
    random: Random,
    session: Option<Session>,
    /// Whether it logs in as soon as it can.
    comes_back: bool,
    calls: Vec<Call>,
    readers: Vec<Reader>,
    idle: Option<WireId>,
    /// How many readers it wants.
    wanted: usize,
    /// What it was not told of that it is stored, in order.
    outbox: VecDeque<Out>,
    /// Messages that came, with their `stanza_id`.
    known: BTreeMap<usize, Option<String>>,
    numbered: usize,
    /// Nobody knows whether the server knows how it is.
    must_show: bool,
    /// What it logs in to is gone before it is in.
    is_late: bool,
}

/// What a page knows of its session.
struct Session {
    token: String,
    is_cookie: bool,
    epoch: String,
    /// The last event that it has.
    at: u64,
    /// All that came, by number: what other readers get must be the same.
    events: BTreeMap<u64, Value>,
    /// Messages that were answered, by the number of the event that says so.
    answered: BTreeMap<u64, usize>,
    /// Messages that came as events, and as copies.
    came: BTreeSet<(usize, &'static str)>,
    /// It has everything that happened before.
    current_at: Moment,
    /// Messages that were sent then.
    current_mark: usize,
    /// The server knew then that somebody was there.
    contact_at: Moment,
    /// When events came that are kept as long as any: not before this, and after so many messages.
    born: BTreeMap<u64, (Moment, usize)>,
    last_sent: Option<usize>,
    missed: u64,
    /// The server's process is another one.
    is_over: bool,
    has_gap: bool,
    /// Publications before the topic was subscribed to.
    subscribed: Option<usize>,
    published: BTreeSet<usize>,
}

struct Out {
    message: usize,
    text: Value,
    /// Where it went.
    over: Option<WireId>,
    is_repeated: bool,
}

/// A request that waits for its answer.
struct Call {
    wire: WireId,
    octets: Vec<u8>,
    what: What,
    /// The token it has.
    epoch: usize,
    /// When it was made. Its answer was given later, and may come in pieces.
    at: Moment,
}

#[derive(Clone, Debug)]
enum What {
    Login,
    Message(usize),
    Poll(Option<u64>),
    Presence,
    Look,
    Describe,
    Subscribe,
    Leave,
    Question,
    Acknowledge,
}

struct Reader {
    wire: WireId,
    ear: Ear,
    /// What it asked for.
    from: Option<u64>,
    /// The event that comes next, once it has begun.
    next: Option<u64>,
    slow: Slow,
    /// Requests on a WebSocket without an answer.
    asked: BTreeMap<String, What>,
    is_over: bool,
}

/// Whether a kernel takes less than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    No,
    Yes,
    /// No longer, but it has not had the time.
    Was,
}

/// What is kept for readers that come again.
const REPLAY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(60);
/// Octets of messages that may exceed what is kept, with what is around them.
const VOLUME: usize = 40_000;
/// Octets around the text of a message in an event.
const AROUND: usize = 400;
/// A page that has heard nothing for so long comes again.
const SILENCE: Duration = Duration::from_secs(100);
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The topic that all pages may hear.
pub const TOPIC: &str = "news";

impl Page {
    pub fn new(account: usize, bare: &str, resource: &str, random: Random) -> Self {
        Self {
            account,
            bare: bare.into(),
            resource: resource.into(),
            priority: 0,
            is_frail: false,
            slip: Slip::None,
            epoch: 0,
            available: None,
            view: BTreeMap::new(),
            looked: None,
            unheard: false,
            random,
            session: None,
            comes_back: false,
            calls: Vec::new(),
            readers: Vec::new(),
            idle: None,
            wanted: 0,
            outbox: VecDeque::new(),
            known: BTreeMap::new(),
            numbered: 0,
            must_show: false,
            is_late: false,
        }
    }

    pub fn full(&self) -> String {
        format!("{}/{}", self.bare, self.resource)
    }

    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    pub fn is_off(&self) -> bool {
        self.session.is_none() && !self.logs_in()
    }

    fn logs_in(&self) -> bool {
        self.calls
            .iter()
            .any(|call| matches!(call.what, What::Login) && call.epoch == self.epoch)
    }

    // What a page does.

    /// Logs in, or reads again.
    pub fn come(&mut self, world: &mut World) {
        self.wanted = self.wanted.max(1 + self.random.below(20) / 13);
        if self.is_off() {
            self.comes_back = false;
            self.is_late = false;
            self.unheard = true;
            let cookie = self.random.chance(30);
            let body = json!({
                "user": self.bare, "password": PASSWORD, "resource": self.resource,
                "show": "chat", "priority": self.priority, "cookie": cookie,
            });
            self.call(
                world,
                What::Login,
                "POST",
                "/v1/session",
                "",
                &body.to_string(),
            );
        }
    }

    /// Says something.
    pub fn send(&mut self, ledger: &mut Ledger, to: &str, octets: usize) {
        if !self.is_open() {
            return;
        }
        self.wanted = self.wanted.max(self.random.below(3).min(1));
        let message = ledger.send(&self.full(), self.epoch, to);
        ledger.sent[message].octets = octets;
        ledger.sent[message].is_named = true;
        ledger.note(|| format!("{} sends m{message} to {to}", self.full()));
        let fill = "x".repeat(octets);
        let text = json!({
            "type": "message", "to": to, "message_id": format!("m{message}"),
            "body": format!("{message} {fill}"),
        });
        let is_repeated = false;
        let over = None;
        self.outbox.push_back(Out {
            message,
            text,
            over,
            is_repeated,
        });
    }

    /// Asks for something or other.
    pub fn ask(&mut self, world: &mut World) {
        if !self.is_open() {
            return;
        }
        let private = "<query xmlns='jabber:iq:private'><n xmlns='urn:n'/></query>";
        let question = match self.random.below(9) {
            0 => json!({"type": "iq", "kind": "get", "to": "localhost",
                "xml": ["<ping xmlns='urn:xmpp:ping'/>"]}),
            1 => json!({"type": "roster.get"}),
            2 => json!({"type": "iq", "kind": "set", "xml": [private]}),
            3 => json!({"type": "iq", "kind": "get", "xml": [private]}),
            4 => json!({"type": "iq", "kind": "set",
                "xml": ["<vCard xmlns='vcard-temp'><FN>F</FN></vCard>"]}),
            5 => json!({"type": "iq", "kind": "get", "to": "nobody@localhost",
                "xml": ["<vCard xmlns='vcard-temp'/>"]}),
            6 => json!({"type": "presence.get"}),
            7 => {
                let topic = json!({"type": "subscribe", "topic": TOPIC});
                return self.request(world, What::Subscribe, topic);
            }
            _ => return self.call(world, What::Describe, "GET", "/v1/session", "", ""),
        };
        self.request(world, What::Question, question);
    }

    /// Asks who is there.
    pub fn look(&mut self, world: &mut World) {
        self.looked = None;
        match self.random.chance(50) {
            true => self.request(world, What::Look, json!({"type": "presence.get"})),
            false => self.call(world, What::Look, "GET", "/v1/presence", "", ""),
        }
    }

    /// Shows others how it is.
    pub fn show(&mut self, world: &mut World, show: &str) {
        let is_asking = |what: &What| matches!(what, What::Presence);
        let calls = self.calls.iter().map(|call| &call.what);
        let asked = self.readers.iter().flat_map(|reader| reader.asked.values());
        if self.is_open() && !calls.chain(asked).any(is_asking) {
            self.say_presence(world, show);
        }
    }

    fn say_presence(&mut self, world: &mut World, show: &str) {
        self.available = Some(show.to_owned());
        let presence = json!({"type": "presence", "show": show, "priority": self.priority});
        self.request(world, What::Presence, presence);
    }

    /// Says what it has, or reads otherwise, or asks again.
    pub fn turn(&mut self, world: &mut World) {
        let Some(session) = &self.session else {
            return;
        };
        match self.random.below(6) {
            0..=2 => {
                let mut at = session.at;
                if self.random.chance(20) {
                    at = self.random.below(at as usize + 1) as u64;
                }
                let cursor = format!("{}-{at}", session.epoch);
                let ack = json!({"type": "ack", "cursor": cursor});
                self.request(world, What::Acknowledge, ack);
            }
            // A new reader before the old one goes, or after.
            3 => {
                self.attach(world);
                if !self.readers.is_empty() && self.random.chance(70) {
                    self.drop_reader(world, 0);
                }
            }
            4 => self.wanted = 1 + self.random.below(3),
            _ => self.repeat(world),
        }
    }

    /// What was sent last and not answered is sent again, under the same name.
    fn repeat(&mut self, world: &mut World) {
        if let Some(first) = self.outbox.front_mut().filter(|out| out.over.is_some()) {
            first.is_repeated = true;
            let (message, text) = (first.message, first.text.to_string());
            let what = What::Message(message);
            self.call(world, what, "POST", "/v1/requests", "", &text);
        }
    }

    /// A link breaks, or all; or the page goes.
    pub fn go(&mut self, world: &mut World, ledger: &mut Ledger) {
        match self.random.below(10) {
            0..=4 => self.cut_one(world),
            5..=6 => self.cut_all(world, ledger),
            7 => {
                self.cut_all(world, ledger);
                self.wanted = 0;
            }
            8 => self.vanish(world, ledger),
            _ => self.leave(world, ledger),
        }
    }

    fn cut_one(&mut self, world: &mut World) {
        let (readers, calls) = (self.readers.len(), self.calls.len());
        let at = self.random.below(readers + calls);
        if at < readers {
            self.drop_reader(world, at);
        } else if at - readers < calls {
            let call = self.calls.remove(at - readers);
            world.hang_up(call.wire);
            self.unanswered(&call);
        }
    }

    fn cut_all(&mut self, world: &mut World, ledger: &mut Ledger) {
        ledger.note(|| format!("{} loses its links", self.full()));
        while !self.readers.is_empty() {
            self.drop_reader(world, 0);
        }
        for call in std::mem::take(&mut self.calls) {
            world.hang_up(call.wire);
            self.unanswered(&call);
        }
        if let Some(idle) = self.idle.take() {
            world.hang_up(idle);
        }
    }

    /// The tab is closed, and nobody knows its token any more.
    pub fn vanish(&mut self, world: &mut World, ledger: &mut Ledger) {
        ledger.note(|| format!("{} vanishes", self.full()));
        self.note_time(world, ledger, Duration::from_secs(55));
        self.cut_all(world, ledger);
        self.unheard |= self.session.is_some();
        self.forget(ledger);
        self.comes_back = false;
    }

    /// It logs out, and does not wait for the answer.
    pub fn leave(&mut self, world: &mut World, ledger: &mut Ledger) {
        if !self.is_open() {
            return self.vanish(world, ledger);
        }
        self.note_time(world, ledger, Duration::from_secs(55));
        self.cut_all(world, ledger);
        ledger.note(|| format!("{} leaves", self.full()));
        self.call(world, What::Leave, "DELETE", "/v1/session", "", "");
        self.unheard = true;
        self.forget(ledger);
        self.comes_back = false;
    }

    /// Nothing of the session counts any more.
    fn forget(&mut self, ledger: &mut Ledger) {
        if self.session.take().is_none() {
            return;
        }
        ledger.session_over(&self.full(), self.epoch);
        self.epoch += 1;
        self.available = None;
        self.view.clear();
        self.looked = None;
        // What was not answered is given up, or said once more: it may then come twice.
        for out in &mut self.outbox {
            out.over = None;
            ledger.sent[out.message].repeated = true;
        }
        if self.random.chance(50) {
            self.outbox.clear();
        }
    }

    /// The server's process ends, in this way or that.
    pub fn loses_server(&mut self, world: &World, ledger: &mut Ledger) {
        self.note_time(world, ledger, Duration::from_secs(55));
        self.is_late = true;
        if let Some(session) = &mut self.session {
            session.is_over = true;
            session.current_at = Moment(0);
            session.contact_at = Moment(0);
        }
    }

    // Links.

    pub fn wires(&self) -> impl Iterator<Item = WireId> + use<'_> {
        let readers = self.readers.iter().map(|reader| reader.wire);
        let calls = self.calls.iter().map(|call| call.wire);
        readers.chain(calls).chain(self.idle)
    }

    /// One of its links takes less, or all again.
    pub fn narrow(&mut self, world: &mut World, room: Option<usize>) {
        let wires: Vec<WireId> = self.wires().collect();
        if wires.is_empty() {
            return;
        }
        let wire = *self.random.pick(&wires);
        world.set_room(wire, room);
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.wire == wire) {
            reader.slow = match (room, reader.slow) {
                (Some(_), _) => Slow::Yes,
                (None, Slow::No) => Slow::No,
                (None, _) => Slow::Was,
            };
        }
    }

    /// Every shard wrote what it could.
    pub fn flushed(&mut self) {
        for reader in &mut self.readers {
            if reader.slow == Slow::Was {
                reader.slow = Slow::No;
            }
        }
    }

    pub fn widen(&mut self, world: &mut World) {
        for reader in &mut self.readers {
            if reader.slow == Slow::Yes {
                reader.slow = Slow::Was;
            }
        }
        for wire in self.wires().collect::<Vec<_>>() {
            world.set_room(wire, None);
        }
    }

    fn drop_reader(&mut self, world: &mut World, at: usize) {
        let reader = self.readers.remove(at);
        world.hang_up(reader.wire);
        self.reader_gone(reader);
    }

    fn reader_gone(&mut self, reader: Reader) {
        for out in &mut self.outbox {
            out.over.take_if(|over| *over == reader.wire);
        }
        for what in reader.asked.into_values() {
            self.try_again(&what);
        }
    }

    /// Nobody knows what became of a request.
    fn try_again(&mut self, what: &What) {
        self.must_show |= matches!(what, What::Presence);
    }

    fn unanswered(&mut self, call: &Call) {
        if call.epoch == self.epoch {
            for out in &mut self.outbox {
                if out.over.take_if(|over| *over == call.wire).is_some() {
                    out.is_repeated = true;
                }
            }
            self.try_again(&call.what);
        }
    }

    /// A request, by a reader's WebSocket or for itself.
    fn request(&mut self, world: &mut World, what: What, request: Value) {
        let by_socket = self.random.chance(50);
        let socket = self.socket().filter(|_| by_socket);
        let Some(reader) = socket else {
            let text = request.to_string();
            return self.call(world, what, "POST", "/v1/requests", "", &text);
        };
        self.numbered += 1;
        let name = format!("r{}", self.numbered);
        let mut request = request;
        request["request_id"] = json!(name);
        let reader = &mut self.readers[reader];
        world.write(reader.wire, &frame(&request.to_string()));
        reader.asked.insert(name, what);
    }

    /// A WebSocket that has begun.
    fn socket(&self) -> Option<usize> {
        self.readers.iter().position(|reader| {
            reader.ear.form == Form::WebSocket && reader.next.is_some() && !reader.is_over
        })
    }

    /// Reads, in one way or another.
    fn attach(&mut self, world: &mut World) {
        let Some(session) = &self.session else {
            return;
        };
        let (epoch, at) = (session.epoch.clone(), session.at);
        let from = match self.random.below(20) {
            0..=1 => None,
            2..=4 => Some(self.random.below(at as usize + 1) as u64),
            _ => Some(at),
        };
        let cursor = from.map(|from| format!("{epoch}-{from}"));
        let query = cursor.as_ref().map(|cursor| format!("?cursor={cursor}"));
        let query = query.unwrap_or_default();
        let form = match self.random.below(3) {
            0 => {
                let (path, fields) = match (cursor, self.random.chance(50)) {
                    (Some(cursor), true) => (
                        "/v1/events".to_owned(),
                        format!("If-None-Match: \"{cursor}\"\r\n"),
                    ),
                    _ => (format!("/v1/events{query}"), String::new()),
                };
                return self.call(world, What::Poll(from), "GET", &path, &fields, "");
            }
            1 => Form::EventStream,
            _ => Form::WebSocket,
        };
        let wire = world.connect_to(Entry::Http);
        let mut proof = self.proof();
        let (path, fields) = match form {
            Form::EventStream => {
                let accept = "Accept: text/event-stream\r\n";
                match (cursor, self.random.chance(50)) {
                    (Some(cursor), true) => (
                        "/v1/events".to_owned(),
                        format!("{accept}Last-Event-ID: {cursor}\r\n"),
                    ),
                    _ => (format!("/v1/events{query}"), accept.to_owned()),
                }
            }
            Form::WebSocket => {
                let mut protocol = "encke.v1".to_owned();
                if let Some(token) = proof.strip_prefix("Authorization: Bearer ")
                    && self.random.chance(50)
                {
                    protocol += &format!(", encke.session.{}", token.trim());
                    proof = String::new();
                }
                let fields = format!("{UPGRADE}Sec-WebSocket-Protocol: {protocol}\r\n");
                (format!("/v1/socket{query}"), fields)
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{proof}{fields}\r\n");
        world.write(wire, request.as_bytes());
        self.readers.push(Reader {
            wire,
            ear: Ear::new(form),
            from,
            next: None,
            slow: Slow::No,
            asked: BTreeMap::new(),
            is_over: false,
        });
    }

    /// Does what is to be done. Returns whether there was anything.
    fn go_on(&mut self, world: &mut World) -> bool {
        if self.comes_back && self.is_off() {
            self.come(world);
            return true;
        }
        let Some(session) = &self.session else {
            return false;
        };
        let mut any = false;
        if world.now().mono.since(session.current_at) >= SILENCE {
            while let Some(at) = self.readers.iter().position(|r| r.slow != Slow::No) {
                self.drop_reader(world, at);
            }
        }
        let polls = |page: &Self| {
            let polls = page.calls.iter();
            polls
                .filter(|call| matches!(call.what, What::Poll(_)))
                .count()
        };
        while self.readers.len() + polls(self) < self.wanted {
            self.attach(world);
            any = true;
        }
        if std::mem::take(&mut self.must_show)
            && let Some(show) = self.available.clone()
        {
            self.show(world, &show);
            any = true;
        }
        any | self.post(world)
    }

    /// Sends what was said: over HTTP one after the other, over one WebSocket in order.
    fn post(&mut self, world: &mut World) -> bool {
        let mut any = false;
        while let Some(at) = self.outbox.iter().position(|out| out.over.is_none()) {
            let under_way = self.outbox.iter().find_map(|out| out.over);
            let socket = self.socket().map(|reader| self.readers[reader].wire);
            let by_socket = socket.filter(|socket| match under_way {
                Some(over) => over == *socket,
                None => self.random.chance(60),
            });
            let out = &mut self.outbox[at];
            let mut text = out.text.clone();
            if out.is_repeated && self.slip == Slip::RenamesMessages {
                text["message_id"] = json!(format!("m0{}", out.message));
            }
            match (by_socket, under_way) {
                (Some(socket), _) => {
                    out.over = Some(socket);
                    text["request_id"] = text["message_id"].clone();
                    world.write(socket, &frame(&text.to_string()));
                }
                (None, None) => {
                    let what = What::Message(out.message);
                    self.call(world, what, "POST", "/v1/requests", "", &text.to_string());
                    self.outbox[at].over = self.calls.last().map(|call| call.wire);
                }
                (None, Some(_)) => break,
            }
            any = true;
        }
        any
    }

    fn call(
        &mut self,
        world: &mut World,
        what: What,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
    ) {
        let idle = self.idle.take().filter(|wire| !world.is_closed(*wire));
        let wire = idle.unwrap_or_else(|| world.connect_to(Entry::Http));
        let proof = self.proof();
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{proof}{fields}{length}\r\n{body}"
        );
        world.write(wire, request.as_bytes());
        self.calls.push(Call {
            wire,
            octets: Vec::new(),
            what,
            epoch: self.epoch,
            at: world.now().mono,
        });
    }

    /// What shows that it may speak for its session.
    fn proof(&self) -> String {
        match &self.session {
            None => "Origin: http://localhost\r\n".to_owned(),
            Some(session) if session.is_cookie => format!(
                "Cookie: encke-session={}\r\nOrigin: http://localhost\r\n",
                session.token
            ),
            Some(session) => format!("Authorization: Bearer {}\r\n", session.token),
        }
    }

    /// Nothing of it is left.
    pub fn close(&mut self, world: &mut World) {
        for wire in self.wires().collect::<Vec<_>>() {
            world.hang_up(wire);
        }
    }
}
