use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;

#[test]
fn a_session_opens() {
    let mut talk = Talk::with(&password("juliet", PASSWORD), Rules::default());
    assert_eq!(
        talk.take(0),
        [
            json!({"status": 201, "session": TOKEN, "jid": "juliet@localhost/tabs",
            "cursor": "e-0"})
        ]
    );
    talk.attach(1, Kind::WebSocket, Some("e-0"));
    let got = talk.take(1);
    assert_eq!(
        got[0],
        json!({"id": "e-0", "type": "ready", "jid": "juliet@localhost/tabs"})
    );
    let mut kinds: Vec<_> = got[1..]
        .iter()
        .map(|value| value["type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["presence", "roster"]);
}

#[test]
fn a_login_is_refused_with_a_code() {
    let token = Opening {
        credentials: Credentials::Token("abc".into()),
        ..password("", "")
    };
    let elsewhere = Opening {
        account: BareJid::parse("juliet@elsewhere.example").unwrap(),
        ..password("juliet", PASSWORD)
    };
    let table = [
        (password("juliet", "wrong"), 401, "not-authorized"),
        (password("nobody", PASSWORD), 401, "not-authorized"),
        (token, 401, "invalid-mechanism"),
        (elsewhere, 404, "host-unknown"),
    ];
    for (opening, status, code) in table {
        let mut talk = Talk::with(&opening, Rules::default());
        let got = talk.take(0);
        assert_eq!(
            (&got[0]["status"], &got[0]["code"]),
            (&json!(status), &json!(code))
        );
        assert!(talk.lost && talk.session.is_over());
        talk.attach(1, poll(), None);
        assert_eq!(talk.take(1)[0]["code"], "no-session");
    }
}

/// The messages of the mechanism are the client's own; here one that gives up.
#[test]
fn a_mechanism_is_passed_through() {
    let opening = |initial: &str| Opening {
        credentials: Credentials::Sasl {
            mechanism: "SCRAM-SHA-256".into(),
            initial: BASE64_STANDARD.encode(initial).into(),
        },
        ..password("", "")
    };
    let mut talk = Talk::with(&opening("n,,n=juliet,r=abc"), Rules::default());
    let got = talk.take(0);
    assert_eq!(
        (&got[0]["status"], &got[0]["session"]),
        (&json!(200), &json!(TOKEN))
    );
    let challenge = BASE64_STANDARD
        .decode(got[0]["challenge"].as_str().unwrap())
        .unwrap();
    assert!(challenge.starts_with(b"r=abc"));
    let mut actions = Vec::new();
    talk.session.respond(1, "<", &mut actions);
    talk.act(actions);
    assert_eq!(talk.take(1)[0]["code"], "wrong-value");
    let mut actions = Vec::new();
    talk.session.respond(
        2,
        &BASE64_STANDARD.encode("c=biws,r=abc,p=AAAA"),
        &mut actions,
    );
    talk.act(actions);
    assert_eq!(talk.take(2)[0]["status"], 401);
    let mut open = Talk::open(Rules::default());
    let mut actions = Vec::new();
    open.session.respond(3, "", &mut actions);
    open.act(actions);
    assert_eq!(open.take(3)[0]["code"], "not-due");
}

#[test]
fn an_opening_is_checked() {
    let sasl = |mechanism: &'static str, initial: &'static str| Opening {
        credentials: Credentials::Sasl {
            mechanism: mechanism.into(),
            initial: initial.into(),
        },
        ..password("", "")
    };
    let wrong = [
        password("", "x"),
        password("a\0b", "x"),
        sasl("scram", ""),
        sasl("", ""),
        sasl("PLAIN", "<"),
        Opening {
            resource: Some("\u{1}".into()),
            ..password("a", "b")
        },
        Opening {
            credentials: Credentials::Token("a b".into()),
            ..password("", "")
        },
    ];
    for opening in wrong {
        assert_eq!(opening.check(), Err(problem::WRONG_VALUE), "{opening:?}");
    }
    assert_eq!(password("a", "<\n").check(), Ok(()));
    assert_eq!(sasl("SCRAM-SHA-256", "biws").check(), Ok(()));
}

/// A login that nobody waits for any more, and one that takes too long.
#[test]
fn a_login_is_given_up() {
    let opening = Opening {
        credentials: Credentials::Sasl {
            mechanism: "SCRAM-SHA-256".into(),
            initial: BASE64_STANDARD.encode("n,,n=juliet,r=abc").into(),
        },
        ..password("", "")
    };
    let mut talk = Talk::with(&opening, Rules::default());
    talk.ask(1, json!({"type": "ping"}));
    assert_eq!(talk.take(1)[0]["code"], "not-ready");
    talk.wait(31);
    assert!(talk.lost && talk.session.is_over());
}

/// Nobody saw a flicker while one tab closed and another opened within the time; afterwards
/// presence says so, and what nobody got is stored.
#[test]
fn grace() {
    let mut talk = Talk::open(Rules::default());
    friends(&mut talk);
    talk.attach(1, Kind::EventStream, None);
    talk.wait(1_000);
    assert!(!talk.session.is_over());
    talk.detach(1);
    talk.wait(59);
    talk.attach(2, Kind::WebSocket, None);
    talk.wait(500);
    talk.detach(2);
    talk.world.receives("romeo");
    talk.wait(30);
    talk.romeo("<message to='juliet@localhost' type='chat' id='o1'><body>late</body></message>");
    assert!(talk.world.receives("romeo").is_empty());
    talk.wait(31);
    assert!(talk.session.is_over() && talk.lost);
    let seen = talk.world.receives("romeo");
    assert!(
        seen.iter().any(|seen| seen.contains("type='unavailable'")),
        "{seen:?}"
    );
    let mut again = Talk::in_world(talk.world, &password("juliet", PASSWORD), Rules::default());
    again.attach(1, Kind::EventStream, Some("e-0"));
    let got = again.take(1);
    let late = got
        .iter()
        .find(|value| value["type"] == "message")
        .expect("it was stored");
    assert_eq!(late["body"], "late");
    assert!(late["delay"]["stamp"].is_string());
}

/// What a reader has does not come once more, whether it said so or was just given it long ago.
#[test]
fn what_was_read_is_not_stored() {
    for says in [true, false] {
        let mut talk = Talk::open(Rules::default());
        talk.attach(1, Kind::WebSocket, None);
        talk.romeo("<message to='juliet@localhost' type='chat'><body>read</body></message>");
        let cursor = talk.session.cursor().to_string();
        match says {
            true => talk.ask(1, json!({"type": "ack", "cursor": cursor})),
            false => talk.wait(121),
        }
        talk.detach(1);
        talk.wait(61);
        let mut again = Talk::in_world(talk.world, &password("juliet", PASSWORD), Rules::default());
        again.attach(1, Kind::EventStream, Some("e-0"));
        assert!(!again.types(1).contains(&"message".to_owned()), "{says}");
    }
}

#[test]
fn a_session_is_closed() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.attach(2, poll(), Some(&talk.session.cursor().to_string()));
    talk.take(1);
    talk.ask(3, json!({"type": "close"}));
    assert_eq!(talk.take(3), [json!({"status": 204})]);
    assert_eq!(talk.types(1), ["closed"]);
    assert_eq!(talk.take(2)[0]["code"], "no-session");
    assert!(talk.lost && talk.session.next_deadline().is_none());
    talk.ask(4, json!({"type": "ping"}));
    assert_eq!(talk.take(4)[0]["code"], "no-session");
}

/// The stream ends with an error: readers hear which.
#[test]
fn the_server_stops() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    talk.world.stop();
    talk.act(Vec::new());
    let got = talk.take(1);
    assert_eq!(got[0]["problem"]["code"], "system-shutdown");
    assert_eq!(got[0]["problem"]["status"], 503);
    assert!(talk.done.contains(&1));
}

/// Romeo and juliet see each other's presence.
pub(super) fn friends(talk: &mut Talk) {
    talk.romeo("<presence to='juliet@localhost' type='subscribe'/>");
    talk.ask(
        100,
        json!({"type": "subscription", "to": "romeo@localhost", "action": "subscribed"}),
    );
    talk.ask(
        101,
        json!({"type": "subscription", "to": "romeo@localhost", "action": "subscribe"}),
    );
    talk.romeo("<presence to='juliet@localhost' type='subscribed'/>");
}

/// Whatever ended the session: who waits hears that nobody knows what became of it, for a message
/// may have gone out.
#[test]
fn who_waits_hears_that_the_session_ended() {
    let mut world = World::new(Plan {
        keeping: crate::testing::Keeping::Device,
        ..plan()
    });
    world.logs_in("romeo@localhost/tcp");
    let mut talk = Talk::in_world(world, &password("juliet", PASSWORD), Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    talk.world.stall(true);
    let message = |id: &str| json!({"type": "message", "message_id": id, "to": "romeo@localhost"});
    talk.ask(2, message("a"));
    let query = "<query xmlns='jabber:iq:version'/>";
    let version = json!({"type": "iq", "kind": "get", "to": "romeo@localhost/tcp", "xml": [query],
        "request_id": "v"});
    talk.ask(1, version.clone());
    talk.ask(3, version);
    talk.ask(4, json!({"type": "close"}));
    assert_eq!(talk.take(2)[0]["code"], "session-ended");
    assert_eq!(talk.take(3)[0]["code"], "session-ended");
    let got = talk.take(1);
    let [answer, closed] = &got[..] else {
        panic!("{got:?}");
    };
    assert_eq!(answer["request_id"], "v");
    assert_eq!(answer["problem"]["code"], "session-ended");
    assert_eq!(closed["problem"]["code"], "no-session");
}

/// Who knows the address may write before the stream counts what it brings.
#[test]
fn a_message_that_is_early_ends_nothing() {
    let mut actions = Vec::new();
    let rules = Arc::new(Rules::default());
    let now = Moment(0);
    let opening = password("juliet", PASSWORD);
    let mut session = Session::open(&opening, 0, TOKEN, 0xe, rules, now, &mut actions);
    let header = "<stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' id='1' from='localhost' version='1.0'>";
    let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    let output = format!(
        "{header}<stream:features><mechanisms {sasl}><mechanism>PLAIN</mechanism></mechanisms>\
         </stream:features><success {sasl}/>{header}<stream:features/>\
         <iq type='result' id='encke-bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>juliet@localhost/tabs</jid></bind></iq>\
         <iq type='get' id='x' from='a@b/c'><query xmlns='u'/></iq>\
         <message from='a@b/c' type='chat'><body>early</body></message>\
         <enabled xmlns='urn:xmpp:sm:3' id='i' resume='true'/>\
         <message from='a@b/c' type='chat'><body>late</body></message>"
    );
    let (mut scanner, mut scratch) = (Scanner::new(), Vec::new());
    session.settle(
        output.as_bytes(),
        ADDRESS,
        &mut scanner,
        &mut scratch,
        now,
        &mut actions,
    );
    session.attach(1, Kind::EventStream, None, ADDRESS, now, &mut actions);
    let event = |action: &Action<u32>| match action {
        Action::Event { event, .. } => Some(String::from_utf8(event.json.to_vec()).unwrap()),
        _ => None,
    };
    let events: Vec<_> = actions.iter().filter_map(event).collect();
    assert!(
        events[1].contains("early") && events[2].contains("late"),
        "{events:?}"
    );
    assert_eq!(session.received, 1, "the stream counts from the answer on");
}
