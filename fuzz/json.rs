//! Sessions of the JSON protocol, for any input.

use std::collections::BTreeMap;
use std::sync::Arc;

use encke::base::time::Moment;
use encke::transport::json::problem::Problem;
use encke::transport::json::request::{self, Asked, Request};
use encke::transport::json::session::{Action, Credentials, Kind, Opening, Session};
use encke::transport::json::{Cursor, Rules};
use encke::xmpp::jid::BareJid;
use encke::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

const BOUNDS: Bounds = Bounds {
    octets_max: 400,
    depth_max: 8,
    attributes_max: 8,
    elements_max: 16,
};
const UNBOUNDED: Bounds = Bounds {
    octets_max: usize::MAX,
    depth_max: usize::MAX,
    attributes_max: usize::MAX,
    elements_max: usize::MAX,
};
/// What it binds.
const ADDRESS: &str = "a@b/c";
/// What a server says until a session is open.
const LOGIN: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>\
    <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\
    <stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>\
    <iq type='result' id='encke-bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <jid>a@b/c</jid></bind></iq><enabled xmlns='urn:xmpp:sm:3'/>";

/// A conversation, in parts between zero octets:
/// - `?`: the login is not spoken for the server;
/// - `!ITEMS`: the stream writes; `+SECONDS`: time passes;
/// - `@w CURSOR`, `@e CURSOR`, `@p CURSOR`: a reader comes, called by the number of its part;
///   `-NUMBER`: it goes;
/// - `#NUMBER BODY`: what a reader asks; anything else: what somebody asks by HTTP.
pub fn json(input: &[u8]) {
    let mut talk = Talk::new(input.starts_with(b"?"));
    for (at, part) in input.split(|octet| *octet == 0).enumerate() {
        talk.part(at + 1, part);
    }
}

struct Talk {
    session: Session<usize>,
    scanner: Scanner,
    scratch: Vec<u8>,
    output: Vec<u8>,
    now: Moment,
    /// Tickets that wait, and where readers are.
    waiting: BTreeMap<usize, Option<u64>>,
    sockets: Vec<usize>,
}

impl Talk {
    fn new(silent: bool) -> Self {
        let opening = Opening {
            account: BareJid::parse("a@b").expect("an address"),
            credentials: Credentials::Password {
                user: "a".into(),
                password: "x".into(),
            },
            resource: None,
            lang: None,
            presence: None,
        };
        let rules = Rules {
            replay_octets_max: 600,
            replay_events_max: 4,
            backlog_octets_max: 900,
            readers_max: 3,
            waiting_max: 3,
            remembered_max: 2,
            ..Rules::default()
        };
        let mut actions = Vec::new();
        let now = Moment(0);
        let session = Session::open(&opening, 0, "T", 1, Arc::new(rules), now, &mut actions);
        let mut talk = Self {
            session,
            scanner: Scanner::new(),
            scratch: Vec::new(),
            output: if silent { Vec::new() } else { LOGIN.into() },
            now,
            waiting: BTreeMap::from([(0, None)]),
            sockets: Vec::new(),
        };
        talk.act(actions);
        talk
    }

    fn part(&mut self, at: usize, part: &[u8]) {
        let mut actions = Vec::new();
        let number = |digits: &[u8]| str::from_utf8(digits).ok()?.parse::<u16>().ok();
        match part {
            [b'?', ..] => {}
            [b'!', items @ ..] => self.output.extend_from_slice(items),
            [b'+', seconds @ ..] => {
                self.now.0 += u64::from(number(seconds).unwrap_or(1)) * 1_000;
                self.session.expire(self.now, &mut actions);
                let next = self.session.next_deadline();
                assert!(
                    next.is_none_or(|next| next > self.now),
                    "what is due is done"
                );
            }
            [b'-', ticket @ ..] => {
                let ticket = number(ticket).unwrap_or_default().into();
                self.session.detach(ticket, self.now, &mut actions);
                self.waiting.remove(&ticket);
            }
            [b'@', kind, cursor @ ..] => {
                let kind = match kind {
                    b'w' => Kind::WebSocket,
                    b'e' => Kind::EventStream,
                    _ => Kind::Poll { conditional: false },
                };
                let cursor = str::from_utf8(cursor).ok();
                let cursor = cursor.and_then(|cursor| Cursor::parse(cursor.trim_ascii()));
                self.waiting.insert(at, None);
                self.session
                    .attach(at, kind, cursor, ADDRESS, self.now, &mut actions);
            }
            [b'#', rest @ ..] => {
                let end = rest
                    .iter()
                    .position(|octet| *octet == b' ')
                    .unwrap_or(rest.len());
                let (ticket, body) = rest.split_at(end);
                let ticket = usize::from(number(ticket).unwrap_or_default());
                // Only readers that are there and can ask do.
                if self.sockets.contains(&ticket)
                    && self.waiting.get(&ticket).is_some_and(Option::is_some)
                {
                    self.ask(ticket, body, &mut actions);
                }
            }
            body => {
                self.waiting.insert(at, None);
                self.ask(at, body, &mut actions);
            }
        }
        self.act(actions);
        let is_over = self.session.is_over();
        assert_eq!(is_over, self.session.next_deadline().is_none());
        assert!(!is_over || self.waiting.is_empty(), "{:?}", self.waiting);
    }

    fn ask(&mut self, ticket: usize, body: &[u8], actions: &mut Vec<Action<usize>>) {
        match request::read(body, None, &mut self.scanner, &BOUNDS) {
            Ok(asked) => {
                check(&asked);
                self.session.request(ticket, asked, self.now, actions);
            }
            Err(Problem { .. }) if !self.waiting.get(&ticket).is_some_and(Option::is_some) => {
                self.waiting.remove(&ticket);
            }
            Err(why) => self.session.refuse_request(ticket, None, why, actions),
        }
    }

    fn act(&mut self, mut actions: Vec<Action<usize>>) {
        loop {
            let mut taken = Vec::new();
            for action in std::mem::take(&mut actions) {
                if let Action::Event { ticket, .. } = &action {
                    taken.push(*ticket);
                }
                self.carry_out(action);
            }
            for ticket in taken {
                self.session.taken(ticket, self.now, &mut actions);
            }
            let (scanner, scratch) = (&mut self.scanner, &mut self.scratch);
            let output = &self.output;
            let octets =
                self.session
                    .settle(output, ADDRESS, scanner, scratch, self.now, &mut actions);
            self.output.drain(..octets);
            if actions.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&mut self, action: Action<usize>) {
        match action {
            Action::Topic { .. } => {}
            Action::Stream(octets) => self.read(&octets),
            Action::Lost => {}
            Action::Begin { ticket } => {
                let reader = self.waiting.insert(ticket, Some(0));
                assert_eq!(reader, Some(None));
            }
            Action::Event { ticket, event } => {
                let mut json = Vec::new();
                event.write(&mut json);
                let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
                assert_eq!(value["type"], event.name);
                let at = self.waiting.get_mut(&ticket).and_then(Option::as_mut);
                let at = at.expect("a reader that has begun");
                if let Some(id) = event.id {
                    assert_eq!(value["id"], id.to_string());
                    if !matches!(event.name, "ready" | "gap") {
                        assert_eq!(id.offset, *at + 1, "each once, in order");
                    }
                    *at = id.offset;
                }
            }
            Action::End { ticket } => {
                assert!(
                    self.waiting
                        .remove(&ticket)
                        .is_some_and(|reader| reader.is_some())
                );
            }
            Action::Answer { ticket, answer } => {
                assert_eq!(
                    self.waiting.remove(&ticket),
                    Some(None),
                    "one answer to {ticket}"
                );
                if !answer.body.is_empty() {
                    let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                    assert!(value.is_object());
                }
            }
        }
    }

    /// Whatever was asked for, a stream of ours can read what comes of it.
    fn read(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let scope = match rest.starts_with(b"<stream:stream") {
                true => StreamScope::closed(),
                false => StreamScope::standard(),
            };
            self.scanner.reset();
            rest = match self.scanner.next(rest, &scope, &UNBOUNDED) {
                Ok(
                    Progress::Blank(taken)
                    | Progress::Element(taken)
                    | Progress::Header(taken)
                    | Progress::End(taken),
                ) => &rest[taken..],
                other => panic!("{other:?}: {}", rest.escape_ascii()),
            };
        }
    }
}

/// What was accepted is within the bounds.
fn check(asked: &Asked<'_>) {
    if let Request::Message(message) = &asked.request {
        assert!(!message.to.is_empty() && message.xml.len() <= 32);
        assert!(message.message_id.as_ref().is_none_or(|id| !id.is_empty()));
    }
}
