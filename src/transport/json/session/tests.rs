//! Sessions before a whole server: what they say to it goes over a wire in memory, as from a
//! client on TCP, and they are given what comes back.

/// Tabs, cursors, and what is sent twice.
mod conversations;
/// How sessions begin and end.
mod lives;
/// Whatever the order.
mod order;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::testing::{PASSWORD, Plan, WireId, World};
use crate::transport::json::{request, topic};
use crate::xmpp::jid::BareJid;
use crate::xmpp::xml::{Bounds, Scanner};

const BOUNDS: Bounds = Bounds {
    octets_max: 10_000,
    depth_max: 16,
    attributes_max: 32,
    elements_max: 100,
};
const TOKEN: &str = "TOKEN";
const ADDRESS: &str = "juliet@localhost/tabs";

/// A session of juliet's, and romeo on TCP.
struct Talk {
    world: World,
    wire: WireId,
    session: Session<u32>,
    output: Vec<u8>,
    scanner: Scanner,
    scratch: Vec<u8>,
    now: Moment,
    /// What each ticket got: events, and answers with their status.
    got: BTreeMap<u32, Vec<Value>>,
    /// Tickets that are done with.
    done: Vec<u32>,
    lost: bool,
    topics: Vec<Arc<str>>,
}

fn plan() -> Plan {
    Plan {
        accounts: ["juliet", "romeo", "nurse"]
            .map(|user| format!("{user}@localhost"))
            .to_vec(),
        ..Plan::default()
    }
}

fn password<'a>(user: &'a str, password: &'a str) -> Opening<'a> {
    Opening {
        account: BareJid::parse("juliet@localhost").unwrap(),
        credentials: Credentials::Password {
            user: user.into(),
            password: password.into(),
        },
        resource: Some("tabs".into()),
        lang: None,
        presence: Some(Default::default()),
    }
}

impl Talk {
    /// The session is asked for by ticket 0.
    fn with(opening: &Opening<'_>, rules: Rules) -> Self {
        let mut world = World::new(plan());
        world.logs_in("romeo@localhost/tcp");
        world.sends("romeo", "<presence/>");
        world.receives("romeo");
        Self::in_world(world, opening, rules)
    }

    fn in_world(mut world: World, opening: &Opening<'_>, rules: Rules) -> Self {
        let wire = world.connect();
        let mut actions = Vec::new();
        let now = Moment(1_000);
        let rules = Arc::new(rules);
        let session = Session::open(opening, 0, TOKEN, 0xe, rules, now, &mut actions);
        let mut talk = Self {
            world,
            wire,
            session,
            output: Vec::new(),
            scanner: Scanner::new(),
            scratch: Vec::new(),
            now,
            got: BTreeMap::new(),
            done: Vec::new(),
            lost: false,
            topics: Vec::new(),
        };
        talk.act(actions);
        talk
    }

    /// A session that is open.
    fn open(rules: Rules) -> Self {
        let mut talk = Self::with(&password("juliet", PASSWORD), rules);
        let opened = talk.take(0);
        assert_eq!(opened[0]["status"], 201, "{opened:?}");
        talk
    }

    /// Does what the session says, until nothing comes back.
    fn act(&mut self, actions: Vec<Action<u32>>) {
        let mut actions = actions;
        let mut taken = Vec::new();
        loop {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Stream(octets) => self.world.write(self.wire, &octets),
                    Action::Lost => {
                        self.world.settle();
                        self.world.hang_up(self.wire);
                        self.lost = true;
                    }
                    Action::Begin { ticket } => assert!(!self.done.contains(&ticket)),
                    Action::Answer { ticket, answer } => self.answered(ticket, &answer),
                    Action::Event { ticket, event } => {
                        taken.push(ticket);
                        assert!(!self.done.contains(&ticket));
                        let mut json = Vec::new();
                        event.write(&mut json);
                        let value: Value = serde_json::from_slice(&json).unwrap();
                        assert_eq!(value["type"], event.name);
                        let id = event.id.map(|id| id.to_string());
                        assert_eq!(value["id"].as_str(), id.as_deref());
                        self.got.entry(ticket).or_default().push(value);
                    }
                    Action::End { ticket } => self.done.push(ticket),
                    Action::Topic { topic, is_wanted } => match is_wanted {
                        true => self.topics.push(topic),
                        false => self.topics.retain(|other| *other != topic),
                    },
                }
            }
            self.world.settle();
            self.output.extend(self.world.read(self.wire));
            let (output, now) = (&self.output, self.now);
            let (scanner, scratch) = (&mut self.scanner, &mut self.scratch);
            let octets = self
                .session
                .settle(output, ADDRESS, scanner, scratch, now, &mut actions);
            self.output.drain(..octets);
            let is_room = !taken.is_empty();
            for ticket in taken.drain(..) {
                self.session.taken(ticket, self.now, &mut actions);
            }
            if actions.is_empty() && !is_room {
                return;
            }
        }
    }

    fn answered(&mut self, ticket: u32, answer: &Answer) {
        assert!(!self.done.contains(&ticket), "{ticket} twice");
        self.done.push(ticket);
        let mut value = match answer.body.is_empty() {
            true => json!({}),
            false => serde_json::from_slice(&answer.body).unwrap(),
        };
        value["status"] = answer.status.into();
        let problem = value["code"].is_string();
        assert_eq!(answer.media == Media::Problem, problem, "{value}");
        self.got.entry(ticket).or_default().push(value);
    }

    fn attach(&mut self, ticket: u32, kind: Kind, cursor: Option<&str>) {
        let cursor = cursor.map(|cursor| Cursor::parse(cursor).unwrap());
        let mut actions = Vec::new();
        self.session
            .attach(ticket, kind, cursor, ADDRESS, self.now, &mut actions);
        self.act(actions);
    }

    fn detach(&mut self, ticket: u32) {
        let mut actions = Vec::new();
        self.session.detach(ticket, self.now, &mut actions);
        self.act(actions);
    }

    fn ask(&mut self, ticket: u32, body: Value) {
        let body = body.to_string();
        let mut actions = Vec::new();
        let mut scanner = Scanner::new();
        match request::read(body.as_bytes(), None, &mut scanner, &BOUNDS) {
            Ok(asked) => self.session.request(ticket, asked, self.now, &mut actions),
            Err(why) => self.session.refuse_request(ticket, None, why, &mut actions),
        }
        self.act(actions);
    }

    fn publish(&mut self, topic: &str, data: &str) {
        if !self.topics.iter().any(|wanted| **wanted == *topic) {
            return;
        }
        let json = topic::publication(topic, data.as_bytes()).unwrap();
        let mut actions = Vec::new();
        self.session.publish(&json, self.now, &mut actions);
        self.act(actions);
    }

    /// Romeo writes.
    fn romeo(&mut self, xml: &str) {
        self.world.sends("romeo", xml);
        self.act(Vec::new());
    }

    /// Time passes, deadline by deadline, for the session and the server.
    fn wait(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        loop {
            let soon = self.now.after(Duration::from_secs(10)).min(end);
            let next = self.session.next_deadline().filter(|next| *next <= soon);
            let until = next.unwrap_or(soon).max(self.now);
            self.world.advance(until.since(self.now));
            // A sign of life.
            self.world.sends("romeo", " ");
            self.now = until;
            let mut actions = Vec::new();
            self.session.expire(self.now, &mut actions);
            let left = self.session.next_deadline();
            assert!(
                left.is_none_or(|left| left > self.now),
                "what is due is done"
            );
            self.act(actions);
            if next.is_none() && self.now == end {
                return;
            }
        }
    }

    fn take(&mut self, ticket: u32) -> Vec<Value> {
        self.got.remove(&ticket).unwrap_or_default()
    }

    /// The types of what a ticket got.
    fn types(&mut self, ticket: u32) -> Vec<String> {
        let got = self.take(ticket);
        let name = |value: &Value| value["type"].as_str().unwrap_or("-").to_owned();
        got.iter().map(name).collect()
    }
}

fn poll() -> Kind {
    Kind::Poll { conditional: false }
}
