//! Sessions of the JSON protocol on links, in one shard and in several: what `transport::json`
//! cannot see.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{read, status_of};
use crate::base::limits::Limits;
use crate::engine::{Command, Entry};
use crate::testing::{Keeping, PASSWORD, Plan, WireId, World};
use crate::transport::json::topic::Topics;

/// Peers and networks that it has to withstand.
mod hostile;
/// How much there is room for, and who makes room.
mod room;

const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A server, and romeo on TCP.
struct House {
    world: World,
}

impl House {
    fn with(shards: u16, limits: Limits) -> Self {
        let plan = Plan {
            shards,
            limits,
            keeping: Keeping::Device,
            accounts: ["romeo", "juliet", "nurse"]
                .map(|user| format!("{user}@localhost"))
                .to_vec(),
            ..Plan::default()
        };
        let mut policy = plan.policy();
        policy.http.topics = Topics::new(["news:0123456789abcdef"]).unwrap();
        let policy = Arc::new(policy);
        let mut world = World::new(plan);
        world.tell_all(|| Command::Reload(policy.clone()));
        world.logs_in("romeo@localhost/tcp");
        world.sends("romeo", "<presence/>");
        world.discard_received();
        Self { world }
    }

    /// A request on a link of its own. What is read of it so far is the answer.
    fn ask(&mut self, method: &str, path: &str, fields: &str, body: &str) -> (WireId, String) {
        let wire = self.world.connect_to(Entry::Http);
        let answer = self.ask_on(wire, method, path, fields, body);
        (wire, answer)
    }

    fn ask_on(
        &mut self,
        wire: WireId,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
    ) -> String {
        let request = request(method, path, fields, body);
        self.world.write(wire, request.as_bytes());
        self.world.settle();
        read(&mut self.world, wire)
    }

    fn ask_raw(&mut self, path: &str, fields: &str) -> (WireId, Vec<u8>) {
        let wire = self.world.connect_to(Entry::Http);
        let request = request("GET", path, fields, "");
        self.world.write(wire, request.as_bytes());
        self.world.settle();
        let answer = self.world.read(wire);
        (wire, answer)
    }

    /// A session of juliet's. Returns the field that names it.
    fn open(&mut self, more: &str) -> String {
        self.open_with("juliet", more)
    }

    fn open_as(&mut self, user: &str) -> String {
        self.open_with(user, "")
    }

    fn open_with(&mut self, user: &str, more: &str) -> String {
        let body = format!(
            "{{\"user\":\"{user}@localhost\",\"password\":\"{PASSWORD}\",\
             \"resource\":\"tab\"{more}}}"
        );
        let (_, answer) = self.ask(
            "POST",
            "/v1/session",
            "Origin: http://chat.example\r\n",
            &body,
        );
        assert_eq!(status_of(&answer), "201", "{answer}");
        let token = content(&answer)["session"].as_str().unwrap().to_owned();
        format!("Authorization: Bearer {token}\r\n")
    }

    fn events(&mut self, session: &str) -> WireId {
        let fields = format!("{session}Accept: text/event-stream\r\n");
        let (wire, head) = self.ask("GET", "/v1/events", &fields, "");
        assert_eq!(status_of(&head), "200", "{head}");
        assert!(head.contains("Content-Type: text/event-stream\r\n"));
        assert!(head.contains("event: ready\n"), "{head}");
        wire
    }

    fn poll(&mut self, session: &str, cursor: &str) -> Value {
        let path = format!("/v1/events?cursor={cursor}");
        let (_, answer) = self.ask("GET", &path, session, "");
        assert_eq!(status_of(&answer), "200", "{answer}");
        content(&answer)
    }

    fn romeo_writes(&mut self, body: &str) {
        let message =
            format!("<message to='juliet@localhost' type='chat'><body>{body}</body></message>");
        self.world.sends("romeo", &message);
        self.world.settle();
    }
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = match body.is_empty() {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: chat.example\r\n{fields}{length}\r\n{body}")
}

fn content(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// A text message of a client.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    let mut octets = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    octets.extend_from_slice(text.as_bytes());
    octets
}

/// What the text messages of a server say.
fn texts(mut octets: &[u8]) -> Vec<Value> {
    let mut texts = Vec::new();
    while let [0x81, length, rest @ ..] = octets {
        let (length, rest) = match (length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (length, rest) => (usize::from(*length), rest),
        };
        let (text, rest) = rest.split_at(length);
        texts.push(serde_json::from_slice(text).unwrap());
        octets = rest;
    }
    assert!(octets.is_empty(), "{octets:x?}");
    texts
}

/// Whichever shard a link begins in, it ends where the session is.
#[test]
fn every_link_finds_its_session() {
    for shards in [1, 3] {
        let mut house = House::with(shards, Limits::default());
        let session = house.open("");
        for _ in 0..2 * shards {
            let (_, answer) = house.ask("GET", "/v1/session", &session, "");
            assert_eq!(content(&answer)["jid"], "juliet@localhost/tab");
        }
        let readers: Vec<_> = (0..shards).map(|_| house.events(&session)).collect();
        house.romeo_writes("To all");
        for reader in readers {
            let got = read(&mut house.world, reader);
            assert!(got.contains("\"body\":\"To all\""), "{got}");
        }
        let message = json!({"to": "romeo@localhost", "body": "Hi", "message_id": "m"});
        let (_, answer) = house.ask("POST", "/v1/messages", &session, &message.to_string());
        assert_eq!(content(&answer)["state"], "stored");
        assert!(house.world.receives("romeo")[0].contains("<body>Hi</body>"));
    }
}

#[test]
fn a_link_that_moved_goes_on() {
    let mut house = House::with(3, Limits::default());
    let session = house.open("");
    let pipeline = request("GET", "/v1/session", &session, "")
        + &request(
            "POST",
            "/v1/messages",
            &session,
            "{\"to\":\"romeo@localhost\",\"body\":\"1\"}",
        )
        + &request("GET", "/healthz", "", "");
    for _ in 0..3 {
        let wire = house.world.connect_to(Entry::Http);
        house.world.write(wire, pipeline.as_bytes());
        house.world.settle();
        let answers = read(&mut house.world, wire);
        assert_eq!(
            answers.matches("HTTP/1.1 200 OK\r\n").count(),
            3,
            "{answers}"
        );
        assert!(answers.ends_with("ok\n"));
        // And once more.
        let answer = house.ask_on(wire, "GET", "/v1/session", &session, "");
        assert_eq!(content(&answer)["jid"], "juliet@localhost/tab");
    }
    house.world.check();
}

#[test]
fn a_websocket_asks_and_hears() {
    let mut house = House::with(3, Limits::default());
    let session = house.open("");
    let token = session.trim().rsplit(' ').next().unwrap().to_owned();
    let by_protocol =
        format!("{HANDSHAKE}Sec-WebSocket-Protocol: encke.v1, encke.session.{token}\r\n");
    let (wire, answer) = house.ask_raw("/v1/socket", &by_protocol);
    let (head, frames) = answer.split_at(head_octets(&answer));
    let head = String::from_utf8_lossy(head);
    assert!(
        head.contains("Sec-WebSocket-Protocol: encke.v1\r\n"),
        "{head}"
    );
    assert_eq!(texts(frames)[0]["type"], "ready");
    let ask = frame("{\"type\":\"message\",\"to\":\"romeo@localhost\",\"body\":\"Hi\"}");
    for octet in ask {
        house.world.write(wire, &[octet]);
        house.world.settle();
    }
    let events = texts(&house.world.read(wire));
    assert_eq!(events.last().unwrap()["type"], "sent");
    assert_eq!(house.world.receives("romeo").len(), 1);
    house
        .world
        .write(wire, &frame("{\"type\":\"ping\",\"request_id\":\"p\"}"));
    house.world.write(wire, &frame("no JSON"));
    house.world.settle();
    let answers = texts(&house.world.read(wire));
    assert_eq!(
        answers[0],
        json!({"type": "answer", "request_id": "p", "status": 204})
    );
    assert_eq!(answers[1]["problem"]["code"], "not-json");
    // Binary data: 1003, and the session stays.
    house.world.write(wire, b"\x82\x82\0\0\0\0hi");
    house.world.settle();
    assert_eq!(house.world.read(wire)[2..4], 1003u16.to_be_bytes());
    assert!(house.world.is_closed(wire));
    let (_, answer) = house.ask("GET", "/v1/session", &session, "");
    assert_eq!(status_of(&answer), "200");
}

/// Who asks by many requests at once has to know which of them was refused.
#[test]
fn a_refusal_names_the_request_that_cannot_be_read() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let fields = format!("{HANDSHAKE}{session}Sec-WebSocket-Protocol: encke.v1\r\n");
    let (wire, _) = house.ask_raw("/v1/socket", &fields);
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let table = [
        (
            r#"{"request_id":"1","type":"ping","new":1}"#,
            "wrong-member",
        ),
        (
            r#"{"type":"message","to":7,"request_id":"2"}"#,
            "wrong-member",
        ),
        (
            r#"{"type":"dance","request_id":"\u0033"}"#,
            "unknown-request",
        ),
        (r#"{"request_id":"4","type":"iq"}"#, "missing-member"),
        (
            &format!("{{\"body\":{deep},\"request_id\":\"5\"}}"),
            "wrong-member",
        ),
    ];
    for (number, (text, code)) in table.into_iter().enumerate() {
        house.world.write(wire, &frame(text));
        house.world.settle();
        let answer = texts(&house.world.read(wire)).remove(0);
        assert_eq!(answer["problem"]["code"], code, "{text}");
        assert_eq!(answer["request_id"], (number + 1).to_string(), "{text}");
    }
}

/// SECURITY classes 43 and 49: a browser sends cookies whatever page asks.
#[test]
fn a_cookie_alone_speaks_only_for_our_pages() {
    let mut house = House::with(1, Limits::default());
    let body = json!({"user": "juliet@localhost", "password": PASSWORD, "cookie": true});
    let (_, answer) = house.ask("POST", "/v1/session", "", &body.to_string());
    let cookie = answer.split_once("Set-Cookie: ").unwrap().1;
    let (pair, rest) = cookie.split_once("; ").unwrap();
    assert!(
        rest.starts_with("Path=/v1/; HttpOnly; SameSite=Strict\r\n"),
        "{rest}"
    );
    let cookie = format!("Cookie: other=1; {pair}\r\n");
    let ours = format!("{cookie}Origin: http://chat.example\r\n");
    let evil = format!("{cookie}Origin: http://evil.example\r\n");
    let message = "{\"to\":\"romeo@localhost\",\"body\":\"Hi\"}";
    let socket = format!("{HANDSHAKE}Sec-WebSocket-Protocol: encke.v1\r\n");
    let table = [
        ("POST", "/v1/messages", cookie.clone(), message, "403"),
        ("POST", "/v1/messages", evil.clone(), message, "403"),
        ("GET", "/v1/session", evil.clone(), "", "403"),
        ("GET", "/v1/socket", format!("{socket}{cookie}"), "", "403"),
        ("GET", "/v1/socket", format!("{socket}{evil}"), "", "403"),
        ("DELETE", "/v1/session", cookie.clone(), "", "403"),
        ("GET", "/v1/session", cookie.clone(), "", "200"),
        ("POST", "/v1/messages", ours.clone(), message, "200"),
    ];
    for (method, path, fields, body, status) in table {
        let (_, answer) = house.ask(method, path, &fields, body);
        assert_eq!(
            status_of(&answer),
            status,
            "{method} {path} {fields}: {answer}"
        );
    }
    assert_eq!(house.world.receives("romeo").len(), 1);
    // Another session of the same browser ends, and leaves the cookie.
    let other = house.open_with("romeo", "");
    let both = format!("{ours}{other}");
    let (_, answer) = house.ask("DELETE", "/v1/session", &both, "");
    assert_eq!(status_of(&answer), "204");
    assert!(!answer.contains("Set-Cookie"), "{answer}");
    let (_, answer) = house.ask_raw("/v1/socket", &format!("{socket}{ours}"));
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let (_, answer) = house.ask("DELETE", "/v1/session", &ours, "");
    assert_eq!(status_of(&answer), "204");
    assert!(
        answer.contains("Set-Cookie: encke-session=; Path=/v1/; Max-Age=0;"),
        "{answer}"
    );
    let (_, answer) = house.ask("GET", "/v1/session", &cookie, "");
    assert_eq!(content(&answer)["code"], "no-session");
    // A cookie of nothing is taken away as well, which no script could.
    let (_, answer) = house.ask("DELETE", "/v1/session", &ours, "");
    assert_eq!(content(&answer)["code"], "no-session");
    assert!(answer.contains("Set-Cookie: encke-session=;"), "{answer}");
    let (_, answer) = house.ask("DELETE", "/v1/session", &cookie, "");
    assert!(
        !answer.contains("Set-Cookie"),
        "nobody of ours asked: {answer}"
    );
}

#[test]
fn tokens_are_believed_whole_or_not() {
    let mut house = House::with(2, Limits::default());
    let session = house.open("");
    let token = session.trim().rsplit(' ').next().unwrap().to_owned();
    let mut other = token.clone();
    let last = other.pop().unwrap();
    other.push(if last == '0' { '1' } else { '0' });
    let elsewhere = format!("0007{}", &token[4..]);
    let table = [
        (format!("Bearer {other}"), "404"),
        (format!("Bearer {elsewhere}"), "404"),
        (format!("Bearer {}", token.to_uppercase()), "401"),
        (format!("Bearer {token}0"), "401"),
        (format!("Basic {token}"), "401"),
        ("Bearer".into(), "401"),
        (format!("bearer  {token}"), "200"),
    ];
    for (authorization, status) in table {
        let fields = format!("Authorization: {authorization}\r\n");
        let (_, answer) = house.ask("GET", "/v1/session", &fields, "");
        // Two digits of one token may differ in case only if it has letters.
        if token != token.to_uppercase() || status != "401" {
            assert_eq!(status_of(&answer), status, "{authorization}");
        }
    }
}

/// SECURITY class 51: who does not read is given little, holds nobody up, and loses nothing.
#[test]
fn a_slow_reader_gets_everything_in_its_own_time() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    house.world.set_room(reader, Some(0));
    let long = "x".repeat(60_000);
    for number in 0..8 {
        house.romeo_writes(&format!("{number}{long}"));
    }
    assert!(house.world.owed_octets() < 400_000);
    house.world.set_room(reader, None);
    house.world.settle();
    let got = read(&mut house.world, reader);
    let found: Vec<_> = got
        .match_indices("\"body\":\"")
        .map(|(at, _)| &got[at + 8..at + 10])
        .collect();
    assert_eq!(found, ["0x", "1x", "2x", "3x", "4x", "5x", "6x", "7x"]);
}

/// What a link was given and did not take was given to nobody.
#[test]
fn a_reader_that_took_nothing_comes_again() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    let cursor = house.poll(&session, "")["next"]
        .as_str()
        .unwrap()
        .to_owned();
    house.world.set_room(reader, Some(0));
    let long = "x".repeat(1_000);
    for number in 0..300 {
        house.romeo_writes(&format!("{number} {long}"));
    }
    house.world.hang_up(reader);
    house.world.settle();
    let fields = format!("{session}Accept: text/event-stream\r\nLast-Event-ID: {cursor}\r\n");
    let (_, got) = house.ask("GET", "/v1/events", &fields, "");
    assert!(!got.contains("event: gap"));
    for number in 0..300 {
        assert_eq!(
            got.matches(&format!("\"body\":\"{number} x")).count(),
            1,
            "{number}"
        );
    }
}

/// Within the grace time nobody sees that the last reader went, after it everybody does.
#[test]
fn a_session_outlives_its_readers_by_the_grace_time() {
    let mut house = House::with(2, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    let ask = json!({"to": "romeo@localhost", "action": "subscribed"}).to_string();
    house.world.sends(
        "romeo",
        "<presence type='subscribe' to='juliet@localhost'/>",
    );
    house.ask("POST", "/v1/subscriptions", &session, &ask);
    house.world.discard_received();
    house.world.hang_up(reader);
    house.world.settle();
    house.world.advance(Duration::from_secs(50));
    house.romeo_writes("Are you there?");
    assert_eq!(house.world.receives("romeo"), Vec::<String>::new());
    let reader = house.events(&session);
    house.world.hang_up(reader);
    house.world.settle();
    house.world.advance(Duration::from_secs(61));
    let got = house.world.receives("romeo");
    assert!(
        got.iter().any(|stanza| stanza.contains("unavailable")),
        "{got:?}"
    );
    let (_, answer) = house.ask("GET", "/v1/session", &session, "");
    assert_eq!(content(&answer)["code"], "no-session");
    // What nobody confirmed waits.
    let session = house.open("");
    let events = house.poll(&session, "");
    assert!(events.to_string().contains("Are you there?"), "{events}");
}

/// Acknowledged means durable, and a reader does not wait for that.
#[test]
fn a_message_is_answered_when_it_is_stored() {
    let mut house = House::with(2, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    house.world.stall(true);
    let message = "{\"to\":\"nurse@localhost\",\"body\":\"Hi\"}";
    let (sender, answer) = house.ask("POST", "/v1/messages", &session, message);
    assert_eq!(answer, "");
    let (_, answer) = house.ask("GET", "/v1/roster", &session, "");
    assert_eq!(status_of(&answer), "200");
    assert!(!read(&mut house.world, reader).contains("\"type\":\"sent\""));
    house.world.stall(false);
    house.world.settle();
    assert_eq!(content(&read(&mut house.world, sender))["state"], "stored");
    assert!(read(&mut house.world, reader).contains("\"type\":\"sent\""));
}

/// A server that stops tells readers, and stores what they did not confirm.
#[test]
fn a_stop_loses_nothing() {
    let mut house = House::with(2, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    let (poll, _) = house.ask("GET", "/v1/events?cursor=0-0", &session, "");
    house.romeo_writes("Before the end");
    read(&mut house.world, poll);
    let nurse = house.open_as("nurse");
    let cursor = house.poll(&nurse, "")["next"].as_str().unwrap().to_owned();
    let path = format!("/v1/events?cursor={cursor}");
    let (waiting, answer) = house.ask("GET", &path, &nurse, "");
    assert_eq!(answer, "", "it waits");
    house.world.stop();
    let answer = read(&mut house.world, waiting);
    assert_eq!(status_of(&answer), "503", "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    let last = read(&mut house.world, reader);
    assert!(
        last.contains("\"code\":\"stopping\"") && last.ends_with("0\r\n\r\n"),
        "{last}"
    );
    let (_, answer) = house.ask("GET", "/v1/session", &session, "");
    assert_eq!(content(&answer)["code"], "no-session");
    let session = house.open("");
    let events = house.poll(&session, "");
    assert!(events.to_string().contains("Before the end"), "{events}");
}

/// RFC 9110 section 13.1.2: who has anything, whatever it is, waits for what is new.
#[test]
fn a_poll_on_the_condition_that_there_is_nothing_at_all_has_no_cursor() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let fields = format!("{session}If-None-Match: *\r\n");
    let (_, answer) = house.ask("GET", "/v1/events", &fields, "");
    assert_eq!(status_of(&answer), "200", "{answer}");
    assert_eq!(content(&answer), house.poll(&session, ""));
}

/// Readers hear something now and then, and who never answers is not there.
#[test]
fn silence_is_broken() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let stream = house.events(&session);
    let fields = format!("{HANDSHAKE}Sec-WebSocket-Protocol: encke.v1\r\n{session}");
    let (socket, _) = house.ask_raw("/v1/socket", &fields);
    house.world.advance(Duration::from_secs(51));
    assert!(read(&mut house.world, stream).contains(":\n\n"));
    assert!(house.world.read(socket).ends_with(b"\x89\x00"));
    house.world.advance(Duration::from_secs(120));
    assert!(house.world.is_closed(socket) && !house.world.is_closed(stream));
}

/// The credentials of one account do not open a session of another one.
#[test]
fn the_user_is_who_logs_in() {
    use base64::Engine as _;
    for shards in [1, 3] {
        let mut house = House::with(shards, Limits::default());
        let initial = base64::prelude::BASE64_STANDARD.encode(format!("\0romeo\0{PASSWORD}"));
        let body = json!({"user": "juliet@localhost", "mechanism": "PLAIN", "initial": initial});
        let (_, answer) = house.ask("POST", "/v1/session", "", &body.to_string());
        assert_eq!(status_of(&answer), "401", "{answer}");
    }
}

fn head_octets(answer: &[u8]) -> usize {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    end.unwrap() + 4
}

/// One publication reaches the subscribers of every shard; whoever has no key publishes nothing.
#[test]
fn topics_reach_every_shard() {
    let mut house = House::with(3, Limits::default());
    let session = house.open("");
    let nurse = house.open_as("nurse");
    let subscribe = "{\"type\":\"subscribe\",\"topic\":\"news\"}";
    for session in [&session, &nurse] {
        let (_, answer) = house.ask("POST", "/v1/requests", session, subscribe);
        assert_eq!(status_of(&answer), "204", "{answer}");
    }
    let readers = [house.events(&session), house.events(&nurse)];
    let long = "1".repeat(20_000);
    let table = [
        ("news", "0123456789abcdef", "{\"goals\": 2}", "202"),
        ("news", "0123456789abcdeF", "1", "404"),
        ("olds", "0123456789abcdef", "1", "404"),
        ("news/", "0123456789abcdef", "1", "404"),
        ("", "0123456789abcdef", "1", "404"),
        ("news", "0123456789abcdef", "{", "400"),
        ("news", "0123456789abcdef", &long, "413"),
    ];
    for (name, key, data, status) in table {
        let path = format!("/v1/topics/{name}");
        let fields = format!("Authorization: Bearer {key}\r\n");
        let (_, answer) = house.ask("POST", &path, &fields, data);
        assert_eq!(status_of(&answer), status, "{name} {key} {data}");
    }
    for reader in readers {
        let got = read(&mut house.world, reader);
        assert!(
            got.contains("event: topic\n") && got.contains("{\"goals\": 2}"),
            "{got}"
        );
        assert_eq!(got.matches("event: topic").count(), 1);
    }
}

/// Programs that publish at the same time, on links of several shards.
#[test]
fn all_hear_publications_in_one_order() {
    let mut house = House::with(3, Limits::default());
    let subscribe = "{\"type\":\"subscribe\",\"topic\":\"news\"}";
    let readers: Vec<_> = ["romeo", "juliet", "nurse"]
        .into_iter()
        .map(|user| {
            let session = house.open_as(user);
            house.ask("POST", "/v1/requests", &session, subscribe);
            house.events(&session)
        })
        .collect();
    let wires: Vec<_> = (0..30)
        .map(|_| house.world.connect_to(Entry::Http))
        .collect();
    house.world.settle();
    let fields = "Authorization: Bearer 0123456789abcdef\r\n";
    for (number, wire) in wires.iter().enumerate() {
        let ask = request("POST", "/v1/topics/news", fields, &number.to_string());
        house.world.write(*wire, ask.as_bytes());
    }
    house.world.settle();
    let orders = readers.into_iter().map(|reader| {
        let heard = read(&mut house.world, reader);
        let data = heard.split("\"data\":").skip(1);
        let data = data.filter_map(|rest| rest.split('}').next()?.parse::<usize>().ok());
        data.collect::<Vec<_>>()
    });
    let orders: Vec<_> = orders.collect();
    assert_eq!(orders[0].len(), 30);
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
}

/// What is not stored is answered as soon as it is on its way.
#[test]
fn a_message_without_a_text_is_answered() {
    let mut house = House::with(2, Limits::default());
    let session = house.open("");
    for message in [
        json!({"to": "romeo@localhost/tcp", "state": "composing"}),
        json!({"to": "nobody@localhost", "body": "Hi"}),
        json!({"to": "juliet@localhost", "body": "To myself"}),
        json!({"to": "elsewhere.example", "body": "Hi"}),
        json!({"to": "romeo@localhost", "kind": "headline", "body": "News"}),
    ] {
        let (_, answer) = house.ask("POST", "/v1/messages", &session, &message.to_string());
        assert_eq!(content(&answer)["state"], "stored", "{message}");
    }
}
