use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// As many sessions of one account as there may be.
fn full(limits: Limits) -> House {
    House::with(
        1,
        Limits {
            sessions_per_account_max: 3,
            ..limits
        },
    )
}

/// A login of juliet's under a name of its own.
fn log_in(house: &mut House, resource: &str) -> String {
    let body = json!({
        "user": "juliet@localhost", "password": PASSWORD, "resource": resource,
    });
    house.ask("POST", "/v1/session", "", &body.to_string()).1
}

fn open(house: &mut House, resource: &str) -> String {
    let answer = log_in(house, resource);
    assert_eq!(status_of(&answer), "201", "{answer}");
    let token = content(&answer)["session"].as_str().unwrap().to_owned();
    format!("Authorization: Bearer {token}\r\n")
}

fn is_there(house: &mut House, session: &str) -> bool {
    let (_, answer) = house.ask("GET", "/v1/session", session, "");
    status_of(&answer) == "200"
}

/// A page that is loaded again and again, and forgets each time who it was.
#[test]
fn forgotten_sessions_make_room() {
    let mut house = full(Limits::default());
    house.world.sends(
        "romeo",
        "<presence type='subscribe' to='juliet@localhost'/>",
    );
    let watched = open(&mut house, "watched");
    let ask = json!({"to": "romeo@localhost", "action": "subscribed"}).to_string();
    house.ask("POST", "/v1/subscriptions", &watched, &ask);
    let reader = house.events(&watched);
    let mut forgotten = Vec::new();
    for number in 0..10 {
        house.world.advance(Duration::from_secs(5));
        forgotten.push(open(&mut house, &format!("page {number}")));
        house.romeo_writes("To all of you");
    }
    let last = forgotten.split_off(8);
    for session in forgotten {
        assert!(!is_there(&mut house, &session));
    }
    for session in last {
        assert!(is_there(&mut house, &session));
    }
    assert!(is_there(&mut house, &watched), "somebody reads it");
    let heard = read(&mut house.world, reader);
    assert_eq!(heard.matches("To all of you").count(), 10, "{heard}");
    let gone = |stanza: &String| {
        stanza.contains("type='unavailable'") && stanza.contains("from='juliet@localhost/page 0'")
    };
    assert_eq!(
        house
            .world
            .receives("romeo")
            .iter()
            .filter(|s| gone(s))
            .count(),
        1
    );
    house.world.check();
}

/// What one that makes room had not given to anybody is stored.
#[test]
fn who_makes_room_loses_no_message() {
    let mut house = full(Limits::default());
    let sessions: Vec<_> = (0..3).map(|n| open(&mut house, &format!("{n}"))).collect();
    // It has the highest priority, so nobody else is told.
    let ask = json!({"priority": 9}).to_string();
    house.ask("POST", "/v1/presence", &sessions[0], &ask);
    for session in &sessions[1..] {
        let ask = json!({"priority": -1}).to_string();
        house.ask("POST", "/v1/presence", session, &ask);
    }
    house.romeo_writes("Only to the first");
    house.world.advance(Duration::from_secs(5));
    let late = open(&mut house, "late");
    assert!(!is_there(&mut house, &sessions[0]));
    let got = house.poll(&late, "").to_string();
    assert_eq!(got.matches("Only to the first").count(), 1, "{got}");
}

#[test]
fn who_is_read_or_just_was_makes_no_room() {
    let mut house = full(Limits::default());
    let sessions: Vec<_> = (0..3).map(|n| open(&mut house, &format!("{n}"))).collect();
    for session in &sessions {
        house.events(session);
    }
    house.world.advance(Duration::from_secs(20));
    let answer = log_in(&mut house, "late");
    assert_eq!(status_of(&answer), "503", "{answer}");
    assert_eq!(content(&answer)["code"], "resource-constraint");
    assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    // One of them is between two polls.
    let polled = &sessions[1];
    let (_, answer) = house.ask("DELETE", "/v1/session", polled, "");
    assert_eq!(status_of(&answer), "204", "{answer}");
    let polled = open(&mut house, "polled");
    house.world.advance(Duration::from_secs(4));
    house.poll(&polled, "");
    house.world.advance(Duration::from_secs(4));
    assert_eq!(status_of(&log_in(&mut house, "late")), "503");
    house.world.advance(Duration::from_secs(1));
    assert_eq!(status_of(&log_in(&mut house, "late")), "201");
}

/// RFC 9110 section 15.6.4.
#[test]
fn every_503_says_when_to_come_again() {
    let mut house = House::with(
        1,
        Limits {
            links_max: 3,
            ..Limits::default()
        },
    );
    let after = |answer: &str, code: &str| {
        assert_eq!(status_of(answer), "503", "{answer}");
        assert_eq!(content(answer)["code"], code, "{answer}");
        let head = answer.split_once("\r\n\r\n").unwrap().0;
        let field = head
            .lines()
            .find_map(|line| line.strip_prefix("Retry-After: "));
        field.map(|seconds| seconds.parse::<u32>().unwrap())
    };
    // As long as the wrong passwords before it make it wait.
    let wrong = json!({"user": "nurse@localhost", "password": "wrong"}).to_string();
    for wait in [1, 2, 4] {
        loop {
            let (_, answer) = house.ask("POST", "/v1/session", "", &wrong);
            if status_of(&answer) == "503" {
                assert_eq!(after(&answer, "temporary-auth-failure"), Some(wait));
                break;
            }
            assert_eq!(status_of(&answer), "401", "{answer}");
        }
        house.world.advance(Duration::from_secs(wait.into()));
    }
    // Nobody else has the right to say when.
    let session = open(&mut house, "0");
    let ask = json!({"kind": "get", "to": "localhost", "xml": ["<q xmlns='a:b'/>"]}).to_string();
    let (_, answer) = house.ask("POST", "/v1/iq", &session, &ask);
    assert_eq!(after(&answer, "service-unavailable"), None);
    for number in 1..3 {
        open(&mut house, &number.to_string());
    }
    assert_eq!(
        after(&log_in(&mut house, "3"), "resource-constraint"),
        Some(5)
    );
    let (poll, _) = house.ask("GET", "/v1/events?cursor=", &session, "");
    let cursor = content(&house.ask("GET", "/v1/session", &session, "").1)["cursor"].clone();
    let path = format!("/v1/events?cursor={}", cursor.as_str().unwrap());
    let (held, answer) = house.ask("GET", &path, &session, "");
    assert_eq!(answer, "");
    house.world.hang_up(poll);
    house.world.tell_all(|| Command::Stop);
    house.world.settle();
    let answer = read(&mut house.world, held);
    assert_eq!(after(&answer, "stopping"), Some(5));
}

/// What a request may bring before anybody knows who it is: refused before it has come.
#[test]
fn a_body_of_nobody_is_no_longer_than_a_stanza_before_login() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let nobodys = format!("Authorization: Bearer 0000{}\r\n", "f".repeat(48));
    let login = json!({
        "user": "nurse@localhost", "mechanism": "SCRAM-SHA-256",
        "initial": "biwsbj1udXJzZSxyPWZ5a28rZDJsYmJGZ09OUnY5cWt4ZGF3TA==",
    });
    let begun = house.ask("POST", "/v1/session", "", &login.to_string()).1;
    assert_eq!(status_of(&begun), "200", "{begun}");
    let begun = content(&begun)["session"].as_str().unwrap().to_owned();
    let begun = format!("Authorization: Bearer {begun}\r\n");
    let expect = |fields: &str| format!("{fields}Expect: 100-continue\r\n");
    // What may be said at once of a body that is longer; `None`: nothing but that it is to come.
    let table = [
        ("/v1/session", "", Some("413")),
        ("/v1/session", &*session, Some("413")),
        ("/v1/session/respond", &session, Some("413")),
        ("/v1/messages", "", Some("413")),
        ("/v1/messages", &nobodys, Some("404")),
        ("/v1/messages", &begun, Some("413")),
        ("/v1/messages", &session, None),
        (
            "/v1/topics/news",
            "Authorization: Bearer fedcba9876543210\r\n",
            Some("413"),
        ),
        (
            "/v1/topics/news",
            "Authorization: Bearer 0123456789abcdef\r\n",
            None,
        ),
        ("/nothing", "", Some("404")),
    ];
    for (path, fields, said) in table {
        for length in ["Content-Length: 10001", "Transfer-Encoding: chunked"] {
            let wire = house.world.connect_to(Entry::Http);
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\n{}{length}\r\n\r\n",
                expect(fields)
            );
            house.world.write(wire, head.as_bytes());
            // The size of the first chunk: 10,001 octets.
            let chunk = if length.starts_with('C') {
                ""
            } else {
                "2711\r\n"
            };
            house.world.write(wire, chunk.as_bytes());
            house.world.settle();
            let answer = read(&mut house.world, wire);
            let status = status_of(answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n"));
            let status = Some(status).filter(|status| !status.is_empty());
            assert_eq!(status, said, "{path} {fields} {length}: {answer}");
        }
    }
}

/// Over BOSH the body itself says which session it is of.
#[test]
fn a_body_of_bosh_says_early_whose_it_is() {
    let mut house = House::with(1, Limits::default());
    let wrapper = |more: &str, content: &str| {
        format!("<body xmlns='http://jabber.org/protocol/httpbind' rid='{more}>{content}")
    };
    let opening =
        "1' to='localhost' wait='60' hold='1' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'";
    let opened = house
        .ask("POST", "/http-bind", "", &wrapper(opening, "</body>"))
        .1;
    let sid = opened
        .split_once(" sid='")
        .unwrap()
        .1
        .split_once('\'')
        .unwrap()
        .0
        .to_owned();
    let long = format!("<message>{}", "x".repeat(12_000));
    let post = |house: &mut House, text: &str| {
        let wire = house.world.connect_to(Entry::Http);
        let head = "POST /http-bind HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n";
        house.world.write(wire, (head.to_owned() + text).as_bytes());
        house.world.settle();
        let answer = read(&mut house.world, wire);
        (answer.contains("HTTP/1.1 413 "), answer)
    };
    assert!(
        post(&mut house, &wrapper(opening, &long)).0,
        "it opens a session"
    );
    assert!(
        post(&mut house, &wrapper(&format!("2' sid='{sid}'"), &long)).0,
        "its client has not logged in"
    );
    let forged = format!("{}{}", &sid[..4], "0".repeat(28));
    assert!(
        post(&mut house, &wrapper(&format!("2' sid='{forged}'"), &long)).0,
        "there is no such session"
    );
    let plain = STANDARD.encode(format!("\0nurse\0{PASSWORD}"));
    let auth = format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth></body>"
    );
    let said = house
        .ask(
            "POST",
            "/http-bind",
            "",
            &wrapper(&format!("2' sid='{sid}'"), &auth),
        )
        .1;
    assert!(said.contains("<success"), "{said}");
    let said = post(&mut house, &wrapper(&format!("3' sid='{sid}'"), &long)).1;
    assert_eq!(said, "", "the rest is waited for");
}
