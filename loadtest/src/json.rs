//! encke's JSON protocol as a client: logging in by a request, then events over a WebSocket, as an
//! event stream or by long polls, all on the connection that has logged in; and topics, whose
//! listeners nginx with nchan has too.
//!
//! It sees whole answers and whole events; sockets are elsewhere. Where the connection waits for
//! events, requests go over another one.

use memchr::{memchr, memchr2, memmem};
use serde_json::{Value, json};

use crate::args::Transport;
use crate::client::{Client, Stage};
use crate::failure::{Failure, example};
use crate::http::{Answer, EventStream, Request};
use crate::plan::Plan;
use crate::sasl::{Exchange, KeyCache, Mechanism};
use crate::task::{Broadcast, Topics};
use crate::websocket::{Subprotocol, WebSocket};

/// One session, or what stands for one with a server that has none.
pub struct Json {
    purpose: Purpose,
    seed: u64,
    pub reading: Reading,
    token: Box<str>,
    /// Of the last event.
    cursor: Vec<u8>,
    /// Events since the last confirmation.
    unconfirmed: u32,
    /// Requests that wait, a line each.
    pending: Vec<u8>,
    /// The answer to a request of these is awaited.
    asked: bool,
    exchange: Option<Box<Exchange>>,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    User,
    /// Listens to the topic of a broadcast.
    Listener,
    /// Publishes there; has no session.
    Publisher,
}

/// How the first connection is read.
pub enum Reading {
    /// Answers.
    Answers,
    Socket(Box<WebSocket>),
    Events(Box<EventStream>),
    /// Answers, each with some events.
    Polls,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Go,
    /// The session is logged in.
    Ready,
    /// The session has ended as was asked for.
    Ended,
}

impl Json {
    /// `seed` makes the masks of different WebSockets differ.
    pub fn new(purpose: Purpose, seed: u64) -> Self {
        Self {
            purpose,
            seed,
            reading: Reading::Answers,
            token: "".into(),
            cursor: Vec::new(),
            unconfirmed: 0,
            pending: Vec::new(),
            asked: false,
            exchange: None,
        }
    }

    /// Whether requests go over the first connection, which nothing else needs.
    pub fn asks_first(&self) -> bool {
        self.purpose == Purpose::Publisher
    }

    /// Whether the server has a session of it, which is to be ended.
    pub fn has_session(&self) -> bool {
        !self.token.is_empty()
    }

    /// The first connection is there.
    pub fn begin(&mut self, client: &mut Client, desk: &Desk<'_>, out: &mut Vec<u8>) -> Step {
        if client.stage == Stage::End {
            self.ask("DELETE", &desk.at("session"), "", b"", desk, out);
            return Step::Go;
        }
        match (self.purpose, desk.topics()) {
            (Purpose::Publisher, _) => {
                client.stage = Stage::Ready;
                client.sm.enabled = true;
                return Step::Ready;
            }
            (Purpose::Listener, Some(Topics::Nchan)) => self.listen(client, desk, out),
            _ => self.log_in(client, desk, out),
        }
        Step::Go
    }

    fn log_in(&mut self, client: &mut Client, desk: &Desk<'_>, out: &mut Vec<u8>) {
        let plan = desk.plan;
        let user = format!("{}{}", plan.prefix, client.user);
        let mut login = json!({
            "user": format!("{user}@{}", plan.domain),
            "resource": plan.resource,
        });
        client.stage = Stage::Login;
        match plan.mechanism {
            None | Some(Mechanism::Plain) => login["password"] = json!(plan.password),
            Some(mechanism) => {
                let (initial, exchange) = Exchange::begin(mechanism, &user, &plan.password);
                login["mechanism"] = json!(mechanism.name());
                login["initial"] = json!(initial);
                self.exchange = exchange.map(Box::new);
                client.stage = Stage::Challenge;
            }
        }
        let body = login.to_string();
        self.ask(
            "POST",
            &desk.at("session"),
            JSON,
            body.as_bytes(),
            desk,
            out,
        );
    }

    /// Takes an answer to what the first connection asked before it began to read events.
    pub fn answered(
        &mut self,
        client: &mut Client,
        answer: &Answer<'_>,
        keys: &mut KeyCache,
        desk: &Desk<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        match client.stage {
            Stage::End => {
                // 404: its time was over.
                if !answer.is_success() && answer.status != 404 {
                    return Err(refusal(answer, "logout"));
                }
                return Ok(Step::Ended);
            }
            _ if !answer.is_success() => return Err(refusal(answer, "login")),
            Stage::Challenge => self.respond(client, answer, keys, desk, out)?,
            Stage::Login | Stage::Success => {
                self.logged_in(answer)?;
                client.sm.enabled = true;
                match (self.purpose, desk.broadcast) {
                    (Purpose::Listener, Some(broadcast)) => {
                        self.subscribe(client, broadcast, desk, out);
                    }
                    _ => return Ok(self.read(client, desk, out)),
                }
            }
            Stage::Subscription => return Ok(self.read(client, desk, out)),
            _ => {
                let kind = format!("unexpected answer while {}", client.stage.situation());
                return Err(Failure::new(kind, example(answer.body)));
            }
        }
        Ok(Step::Go)
    }

    fn respond(
        &mut self,
        client: &mut Client,
        answer: &Answer<'_>,
        keys: &mut KeyCache,
        desk: &Desk<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let said = object(answer)?;
        let challenge = text(&said, "challenge")?;
        self.token = text(&said, "session")?.into();
        let Some(exchange) = self.exchange.as_mut() else {
            return Err(Failure::new(
                "SASL: nothing to answer",
                example(answer.body),
            ));
        };
        let response = exchange
            .answer(challenge.as_bytes(), &desk.plan.password, keys)
            .map_err(|why| Failure::new(format!("SASL: {why}"), example(answer.body)))?;
        client.stage = Stage::Success;
        let body = json!({ "response": response }).to_string();
        let path = desk.at("session/respond");
        self.ask("POST", &path, JSON, body.as_bytes(), desk, out);
        Ok(())
    }

    fn logged_in(&mut self, answer: &Answer<'_>) -> Result<(), Failure> {
        let said = object(answer)?;
        if let Some(exchange) = self.exchange.take()
            && !exchange.verify(text(&said, "success")?.as_bytes())
        {
            let kind = "SASL: wrong server signature";
            return Err(Failure::new(kind, example(answer.body)));
        }
        self.token = text(&said, "session")?.into();
        self.cursor = text(&said, "cursor")?.into();
        Ok(())
    }

    fn subscribe(
        &mut self,
        client: &mut Client,
        broadcast: &Broadcast,
        desk: &Desk<'_>,
        out: &mut Vec<u8>,
    ) {
        client.stage = Stage::Subscription;
        let body = json!({ "type": "subscribe", "topic": broadcast.topic }).to_string();
        let path = desk.at("requests");
        self.ask("POST", &path, JSON, body.as_bytes(), desk, out);
    }

    /// Begins to read events on the connection that has logged in.
    fn read(&mut self, client: &mut Client, desk: &Desk<'_>, out: &mut Vec<u8>) -> Step {
        match desk.plan.transport {
            Transport::Json => {
                let web = WebSocket::new(Subprotocol::Encke, self.seed);
                let fields = self.authorization();
                web.ask(&desk.plan.domain, &desk.at("socket"), &fields, out);
                self.reading = Reading::Socket(Box::new(web));
                client.stage = Stage::Upgrade;
            }
            Transport::Poll => {
                self.reading = Reading::Polls;
                self.poll(desk, out);
                client.stage = Stage::Ready;
                return Step::Ready;
            }
            _ => self.listen(client, desk, out),
        }
        Step::Go
    }

    fn listen(&mut self, client: &mut Client, desk: &Desk<'_>, out: &mut Vec<u8>) {
        let path = match (self.purpose, desk.broadcast) {
            (Purpose::Listener, Some(cast)) if cast.topics == Topics::Nchan => {
                format!("{}{}", cast.subscribe_path, cast.topic)
            }
            _ => desk.at("events"),
        };
        let fields = "Accept: text/event-stream\r\n";
        self.ask("GET", &path, fields, b"", desk, out);
        self.reading = Reading::Events(Box::default());
        client.stage = Stage::Events;
    }

    /// Asks for what comes after the last event.
    pub fn poll(&self, desk: &Desk<'_>, out: &mut Vec<u8>) {
        let cursor = String::from_utf8_lossy(&self.cursor);
        let path = format!("{}?cursor={cursor}", desk.at("events"));
        self.ask("GET", &path, "", b"", desk, out);
    }

    /// The server has answered a poll, up to this cursor.
    pub fn polled(&mut self, next: &[u8]) {
        self.cursor.clear();
        self.cursor.extend_from_slice(next);
    }

    /// Notes that an event came: what follows is asked for from here.
    pub fn note(&mut self, event: &[u8]) {
        if let Some(id) = member(event, b"\"id\":\"") {
            self.polled(id);
            self.unconfirmed += 1;
        }
    }

    /// Appends a confirmation, if it is time for one.
    pub fn confirm(&mut self, every: u32, out: &mut Vec<u8>) {
        if self.unconfirmed >= every {
            self.unconfirmed = 0;
            out.extend_from_slice(b"{\"type\":\"ack\",\"cursor\":\"");
            out.extend_from_slice(&self.cursor);
            out.extend_from_slice(b"\"}\n");
        }
    }

    /// Takes requests, a line each, to be posted when a connection is free.
    pub fn put(&mut self, lines: &mut Vec<u8>) {
        self.pending.append(lines);
    }

    pub fn wants_to_ask(&self) -> bool {
        !self.asked && !self.pending.is_empty()
    }

    pub fn is_asking(&self) -> bool {
        self.asked
    }

    pub fn drop_requests(&mut self) {
        self.pending.clear();
        self.asked = false;
    }

    /// Appends the next request.
    pub fn post(&mut self, desk: &Desk<'_>, out: &mut Vec<u8>) {
        let Some(end) = memchr(b'\n', &self.pending).filter(|_| !self.asked) else {
            return;
        };
        let line = self.pending[..end].to_vec();
        match (self.purpose, desk.broadcast) {
            (Purpose::Publisher, Some(broadcast)) => {
                self.ask(
                    "POST",
                    &broadcast.publish_path(desk.plan),
                    JSON,
                    &line,
                    desk,
                    out,
                );
            }
            _ => self.ask("POST", &desk.at("requests"), JSON, &line, desk, out),
        }
        self.pending.drain(..=end);
        self.asked = true;
    }

    /// A request has been answered.
    pub fn posted(&mut self, answer: &Answer<'_>) -> Result<(), Failure> {
        self.asked = false;
        if answer.is_success() {
            return Ok(());
        }
        Err(refusal(answer, "request"))
    }

    fn authorization(&self) -> String {
        match &*self.token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        }
    }

    fn ask(
        &self,
        method: &'static str,
        path: &str,
        fields: &str,
        body: &[u8],
        desk: &Desk<'_>,
        out: &mut Vec<u8>,
    ) {
        let key = desk.broadcast.and_then(|broadcast| broadcast.key.as_ref());
        let authorization = match (self.purpose, key) {
            (Purpose::Publisher, Some(key)) => format!("Authorization: Bearer {key}\r\n"),
            _ => self.authorization(),
        };
        let request = Request {
            method,
            host: &desk.plan.domain,
            path,
            fields: &format!("{authorization}{fields}"),
        };
        request.write(body, out);
    }
}

/// What all sessions of a thread know.
pub struct Desk<'a> {
    pub plan: &'a Plan,
    pub broadcast: Option<&'a Broadcast>,
}

impl Desk<'_> {
    /// A resource of the protocol.
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.plan.path)
    }

    fn topics(&self) -> Option<Topics> {
        self.broadcast.map(|broadcast| broadcast.topics)
    }
}

impl Broadcast {
    fn publish_path(&self, plan: &Plan) -> String {
        match self.topics {
            Topics::Encke => format!("{}/topics/{}", plan.path, self.topic),
            Topics::Nchan => format!("{}{}", self.publish_path, self.topic),
        }
    }
}

/// The `type` of an event: servers write it before anything that a user has chosen.
pub fn kind(event: &[u8]) -> &[u8] {
    member(event, b"\"type\":\"").unwrap_or_default()
}

/// The first string behind `name`, as written.
pub fn member<'a>(event: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = memmem::find(event, name)? + name.len();
    let end = memchr(b'"', &event[start..])?;
    Some(&event[start..start + end])
}

/// What went wrong, by the code of the problem in it.
pub fn problem(octets: &[u8]) -> String {
    let code = member(octets, b"\"code\":\"").unwrap_or(b"no code");
    String::from_utf8_lossy(code).into_owned()
}

/// The events in the answer to a poll, and where the next one goes on.
pub fn polled(body: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    const EVENTS: &[u8] = b"\"events\":[";
    let list = memmem::find(body, EVENTS)? + EVENTS.len();
    let (events, end) = objects(&body[list..])?;
    Some((events, member(&body[list + end..], b"\"next\":\"")?))
}

/// The objects of a list, and where it ends.
fn objects(list: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let mut at = 0;
    loop {
        match list.get(at)? {
            b'"' => at += string(&list[at..])?,
            b'{' | b'[' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            b']' if depth == 0 => return Some((found, at)),
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    found.push(&list[start..=at]);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Where the string at the start has its other quotation mark.
fn string(octets: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', octets.get(at..)?)?;
        if octets[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn refusal(answer: &Answer<'_>, what: &str) -> Failure {
    let (status, code) = (answer.status, problem(answer.body));
    let kind = format!("{what} refused: HTTP {status}, {code}");
    Failure::new(kind, example(answer.body))
}

fn object(answer: &Answer<'_>) -> Result<Value, Failure> {
    let value = serde_json::from_slice(answer.body);
    value.map_err(|_| Failure::new("an answer that is no JSON", example(answer.body)))
}

fn text<'a>(object: &'a Value, name: &str) -> Result<&'a str, Failure> {
    let value = object[name].as_str();
    value.ok_or_else(|| {
        let kind = format!("an answer without {name}");
        Failure::new(kind, example(object.to_string().as_bytes()))
    })
}

const JSON: &str = "Content-Type: application/json\r\n";

#[cfg(test)]
mod tests;
