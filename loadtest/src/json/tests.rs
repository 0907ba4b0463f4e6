use super::*;
use crate::task::Broadcast;

/// A session that does not know more than its own octets.
struct Side {
    json: Json,
    client: Client,
    plan: Plan,
    broadcast: Option<Broadcast>,
}

impl Side {
    fn new(transport: Transport) -> Self {
        let mut plan = Plan::for_tests();
        plan.transport = transport;
        plan.path = "/v1".to_owned();
        Self {
            json: Json::new(Purpose::User, 7),
            client: Client::new(3, None),
            plan,
            broadcast: None,
        }
    }

    fn with_topic(purpose: Purpose, topics: Topics) -> Self {
        let broadcast = Broadcast {
            topics,
            topic: "news".to_owned(),
            key: Some("key".to_owned()),
            subscribe_path: "/sub/".to_owned(),
            publish_path: "/pub/".to_owned(),
            events_per_second: 1.0,
            event_octets: 100,
        };
        Self {
            json: Json::new(purpose, 7),
            broadcast: Some(broadcast),
            ..Self::new(Transport::Events)
        }
    }

    fn begins(&mut self) -> (Step, String) {
        let mut out = Vec::new();
        let desk = Desk {
            plan: &self.plan,
            broadcast: self.broadcast.as_ref(),
        };
        let step = self.json.begin(&mut self.client, &desk, &mut out);
        (step, String::from_utf8(out).unwrap())
    }

    fn gets(&mut self, status: u16, body: &str) -> Result<(Step, String), String> {
        let answer = Answer {
            status,
            body: body.as_bytes(),
            octets: 0,
        };
        let mut out = Vec::new();
        let desk = Desk {
            plan: &self.plan,
            broadcast: self.broadcast.as_ref(),
        };
        let mut keys = KeyCache::default();
        let step = self
            .json
            .answered(&mut self.client, &answer, &mut keys, &desk, &mut out)
            .map_err(|failure| failure.kind)?;
        Ok((step, String::from_utf8(out).unwrap()))
    }

    fn posts(&mut self) -> String {
        let mut out = Vec::new();
        let desk = Desk {
            plan: &self.plan,
            broadcast: self.broadcast.as_ref(),
        };
        self.json.post(&desk, &mut out);
        String::from_utf8(out).unwrap()
    }
}

const SESSION: &str = r#"{"session":"TOKEN","jid":"load3@localhost/lt","cursor":"e-0"}"#;

fn first_line(request: &str) -> &str {
    request.lines().next().unwrap()
}

#[test]
fn a_password_is_posted_and_the_same_connection_becomes_the_socket() {
    let mut side = Side::new(Transport::Json);
    let (step, request) = side.begins();
    assert_eq!(step, Step::Go);
    assert_eq!(first_line(&request), "POST /v1/session HTTP/1.1");
    let body = r#"{"user":"load3@localhost","resource":"lt","password":"loadtest"}"#;
    assert!(request.ends_with(body), "{request}");
    let (step, request) = side.gets(201, SESSION).unwrap();
    assert_eq!(step, Step::Go);
    assert_eq!(first_line(&request), "GET /v1/socket HTTP/1.1");
    assert!(request.contains("\r\nAuthorization: Bearer TOKEN\r\n"));
    assert!(request.contains("\r\nSec-WebSocket-Protocol: encke.v1\r\n"));
    assert_eq!(side.client.stage, Stage::Upgrade);
}

#[test]
fn a_poll_goes_on_from_where_the_last_one_ended() {
    let mut side = Side::new(Transport::Poll);
    side.begins();
    let (step, request) = side.gets(201, SESSION).unwrap();
    assert_eq!(step, Step::Ready);
    let expected = "GET /v1/events?cursor=e-0 HTTP/1.1";
    assert_eq!(first_line(&request), expected);
    side.json.polled(b"e-9");
    let (mut out, desk) = (
        Vec::new(),
        Desk {
            plan: &side.plan,
            broadcast: None,
        },
    );
    side.json.poll(&desk, &mut out);
    assert!(out.starts_with(b"GET /v1/events?cursor=e-9 "));
}

#[test]
fn a_refused_login_names_its_code() {
    let mut side = Side::new(Transport::Events);
    side.begins();
    let problem = r#"{"status":401,"code":"not-authorized","title":"no"}"#;
    let kind = "login refused: HTTP 401, not-authorized";
    assert_eq!(side.gets(401, problem), Err(kind.to_owned()));
}

#[test]
fn a_session_ends_by_a_request_on_a_new_connection() {
    let mut side = Side::new(Transport::Events);
    side.begins();
    side.gets(201, SESSION).unwrap();
    side.client.stage = Stage::End;
    let (_, request) = side.begins();
    assert_eq!(first_line(&request), "DELETE /v1/session HTTP/1.1");
    assert!(request.contains("\r\nAuthorization: Bearer TOKEN\r\n"));
    assert_eq!(side.gets(204, "").unwrap().0, Step::Ended);
    assert_eq!(side.gets(404, "").unwrap().0, Step::Ended);
    assert!(side.gets(500, "").is_err());
}

#[test]
fn a_listener_of_encke_logs_in_and_subscribes_and_one_of_nchan_only_listens() {
    let mut side = Side::with_topic(Purpose::Listener, Topics::Encke);
    side.begins();
    let (_, request) = side.gets(201, SESSION).unwrap();
    assert_eq!(first_line(&request), "POST /v1/requests HTTP/1.1");
    assert!(request.ends_with(r#"{"type":"subscribe","topic":"news"}"#));
    let (_, request) = side.gets(204, "").unwrap();
    assert_eq!(first_line(&request), "GET /v1/events HTTP/1.1");

    let mut side = Side::with_topic(Purpose::Listener, Topics::Nchan);
    let (_, request) = side.begins();
    assert_eq!(first_line(&request), "GET /sub/news HTTP/1.1");
    assert!(request.contains("\r\nAccept: text/event-stream\r\n"));
    assert!(!request.contains("Authorization"));
}

#[test]
fn a_publisher_posts_one_line_after_the_other() {
    for (topics, path) in [
        (Topics::Encke, "/v1/topics/news"),
        (Topics::Nchan, "/pub/news"),
    ] {
        let mut side = Side::with_topic(Purpose::Publisher, topics);
        assert_eq!(side.begins(), (Step::Ready, String::new()));
        side.json.put(&mut b"{1}\n{2}\n".to_vec());
        let request = side.posts();
        assert_eq!(first_line(&request), format!("POST {path} HTTP/1.1"));
        assert!(request.contains("\r\nAuthorization: Bearer key\r\n"));
        assert!(request.ends_with("\r\n\r\n{1}"), "{request}");
        assert_eq!(side.posts(), "");
        let taken = Answer {
            status: 202,
            body: b"",
            octets: 0,
        };
        side.json.posted(&taken).unwrap();
        assert!(side.posts().ends_with("\r\n\r\n{2}"));
    }
}

#[test]
fn so_many_events_are_confirmed_at_once() {
    let mut json = Json::new(Purpose::User, 7);
    let mut out = Vec::new();
    for number in 1..=3 {
        json.note(format!(r#"{{"id":"e-{number}","type":"message"}}"#).as_bytes());
        json.note(br#"{"type":"answer","status":204}"#);
        json.confirm(3, &mut out);
    }
    assert_eq!(out, b"{\"type\":\"ack\",\"cursor\":\"e-3\"}\n");
}

#[test]
fn the_events_of_a_poll_are_told_apart() {
    let body = br#"{"events":[{"id":"e-1","body":"\"]}\\"},{"a":[{}],"b":{}}],"next":"e-2"}"#;
    let (events, next) = polled(body).unwrap();
    let expected = [
        &br#"{"id":"e-1","body":"\"]}\\"}"#[..],
        br#"{"a":[{}],"b":{}}"#,
    ];
    assert_eq!((events.as_slice(), next), (&expected[..], &b"e-2"[..]));
    let (none, next) = polled(br#"{"events":[],"next":"e-2"}"#).unwrap();
    assert_eq!((none.len(), next), (0, &b"e-2"[..]));
    for cut in 0..body.len() - 1 {
        assert_eq!(polled(&body[..cut]), None, "cut at octet {cut}");
    }
}

#[test]
fn kinds_and_problems_are_read() {
    let event = br#"{"id":"e-1","type":"failure","problem":{"status":404,"code":"gone"}}"#;
    assert_eq!(kind(event), b"failure");
    assert_eq!(problem(event), "gone");
    assert_eq!(problem(b"{}"), "no code");
}
