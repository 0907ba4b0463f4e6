use super::lives::friends;
use super::*;

fn message(id: &str, body: &str) -> Value {
    json!({"type": "message", "message_id": id, "to": "romeo@localhost", "body": body})
}

#[test]
fn two_worlds_chat() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    friends(&mut talk);
    let got = talk.take(1);
    let has = |name: &str, member: &str, value: &str| {
        got.iter()
            .any(|event| event["type"] == name && event[member] == value)
    };
    assert!(has("subscription", "action", "subscribe"), "{got:?}");
    assert!(has("presence", "from", "romeo@localhost/tcp"), "{got:?}");
    let pushed = got.iter().rfind(|event| event["type"] == "roster").unwrap();
    assert_eq!(pushed["items"][0]["subscription"], "both");

    talk.world.receives("romeo");
    talk.ask(1, message("m1", "I'm <here>"));
    talk.wait(1);
    let heard = talk.world.receives("romeo").concat();
    assert!(
        heard.contains("<body>I&apos;m &lt;here&gt;</body>"),
        "{heard}"
    );
    assert!(heard.contains("id='m1'"), "{heard}");
    let sent = talk.take(1);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["type"], "sent");
    assert_eq!(
        (&sent[0]["message_id"], &sent[0]["body"]),
        (&json!("m1"), &json!("I'm <here>"))
    );

    talk.romeo(
        "<message to='juliet@localhost/tabs' type='chat' id='r1'><body>so &am</body></message>"
            .replace("&am", "&amp;")
            .as_str(),
    );
    let got = talk.take(1);
    assert_eq!(
        (&got[0]["body"], &got[0]["message_id"]),
        (&json!("so &"), &json!("r1"))
    );
    talk.ask(
        1,
        json!({"type": "presence", "show": "dnd", "status": "busy"}),
    );
    assert!(
        talk.world
            .receives("romeo")
            .concat()
            .contains("<show>dnd</show>")
    );
}

#[test]
fn rosters_are_edited() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    talk.ask(
        2,
        json!({"type": "roster.set", "jid": "a@b.example", "name": "A", "groups": ["g"]}),
    );
    assert_eq!(talk.take(2), [json!({"status": 204})]);
    let pushed = talk.take(1);
    assert_eq!(pushed[0]["items"][0]["groups"], json!(["g"]));
    assert!(pushed[0]["whole"].is_null());
    talk.ask(3, json!({"type": "roster.get"}));
    let got = talk.take(3);
    assert_eq!(
        (&got[0]["status"], &got[0]["items"][0]["name"]),
        (&json!(200), &json!("A"))
    );
    talk.ask(
        1,
        json!({"type": "roster.remove", "jid": "a@b.example", "request_id": "7"}),
    );
    let got = talk.take(1);
    assert!(
        got.contains(&json!({"type": "answer", "request_id": "7", "status": 204})),
        "{got:?}"
    );
    let removed = got.iter().find(|event| event["type"] == "roster").unwrap();
    assert_eq!(removed["items"][0]["subscription"], "remove");
    talk.ask(4, json!({"type": "roster.remove", "jid": "a@b.example"}));
    assert_eq!(talk.take(4)[0]["code"], "item-not-found");
}

#[test]
fn anything_may_be_asked() {
    let mut talk = Talk::open(Rules::default());
    let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    talk.ask(
        1,
        json!({"type": "iq", "kind": "get", "to": "localhost", "xml": [query]}),
    );
    let got = talk.take(1);
    assert!(
        got[0]["xml"].as_str().unwrap().contains("<identity"),
        "{got:?}"
    );
    talk.attach(2, Kind::WebSocket, None);
    talk.take(2);
    let odd = json!({"type": "iq", "kind": "set", "to": "localhost", "request_id": "x",
        "xml": ["<odd xmlns='urn:odd'/>"]});
    talk.ask(2, odd);
    let got = talk.take(2);
    assert_eq!(
        (&got[0]["type"], &got[0]["request_id"]),
        (&json!("answer"), &json!("x"))
    );
    assert_eq!(got[0]["problem"]["code"], "service-unavailable");
    talk.ask(2, json!({"type": "odd"}));
    assert_eq!(talk.take(2)[0]["problem"]["code"], "unknown-request");
    talk.ask(2, json!({"type": "ping"}));
    assert!(talk.take(2).is_empty(), "nobody asked for an answer");
    // Romeo asks the session: a ping is answered, what nobody knows is refused.
    talk.world.receives("romeo");
    for (payload, answer) in [
        ("urn:xmpp:ping", "type='result'"),
        ("u:x", "service-unavailable"),
    ] {
        talk.romeo(&format!(
            "<iq type='get' id='q' to='juliet@localhost/tabs'><ping xmlns='{payload}'/></iq>"
        ));
        let got = talk.world.receives("romeo").concat();
        assert!(got.contains(answer), "{got}");
    }
    // What is not a roster of ours is not believed.
    talk.romeo(
        "<iq type='set' id='q' to='juliet@localhost/tabs'><query xmlns='jabber:iq:roster'>\
         <item jid='evil@localhost'/></query></iq>",
    );
    assert!(talk.take(2).is_empty());
}

/// RFC 6120 section 8.1.2.1: whoever knows the identifiers can still not answer for others.
#[test]
fn only_who_was_asked_answers() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    let evil = "<query xmlns='jabber:iq:roster'><item jid='evil@localhost'/></query>";
    talk.romeo(&format!(
        "<iq type='result' id='encke-roster' to='juliet@localhost/tabs'>{evil}</iq>"
    ));
    assert!(talk.take(1).is_empty(), "no roster");
    talk.world.logs_in("nurse@localhost/tcp");
    let query = "<query xmlns='jabber:iq:version'/>";
    talk.ask(
        2,
        json!({"type": "iq", "kind": "get", "to": "Nurse@localhost/tcp", "xml": [query]}),
    );
    let asked = talk.world.receives("nurse").concat();
    let id = asked
        .split(" id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let id = id.expect("she is asked").to_owned();
    let answer = |name: &str| {
        format!(
            "<iq type='result' id='{id}' to='juliet@localhost/tabs'>\
             <query xmlns='jabber:iq:version'><name>{name}</name></query></iq>"
        )
    };
    talk.romeo(&answer("forged"));
    assert!(talk.take(2).is_empty());
    talk.world.sends("nurse", &answer("hers"));
    talk.act(Vec::new());
    let got = talk.take(2);
    assert!(got[0]["xml"].as_str().unwrap().contains("hers"), "{got:?}");
}

#[test]
fn who_does_not_answer_is_given_up() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    let query = "<query xmlns='jabber:iq:version'/>";
    talk.ask(
        1,
        json!({"type": "iq", "kind": "get", "to": "romeo@localhost/tcp", "xml": [query],
            "request_id": "v"}),
    );
    talk.wait(299);
    assert!(talk.take(1).is_empty());
    talk.wait(2);
    let got = talk.take(1);
    assert_eq!(got[0]["request_id"], "v");
    assert_eq!(got[0]["problem"]["code"], "answer-timeout");
}

/// Each tab sees all, also what another one sent, in one order.
#[test]
fn tabs_share_a_session() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.attach(2, Kind::EventStream, None);
    talk.attach(3, Kind::WebSocket, None);
    talk.romeo("<message to='juliet@localhost' type='chat'><body>1</body></message>");
    talk.ask(3, message("a", "2"));
    talk.ask(4, message("b", "3"));
    talk.wait(1);
    let [one, two, three] = [1, 2, 3].map(|tab| talk.take(tab));
    assert_eq!(one[1..], two[1..]);
    assert_eq!(one[1..], three[1..]);
    let bodies: Vec<_> = one
        .iter()
        .filter_map(|event| event["body"].as_str())
        .collect();
    assert_eq!(bodies, ["1", "2", "3"]);
    let answer = talk.take(4);
    assert_eq!(answer[0]["message_id"], "b");
    assert_eq!(answer[0]["cursor"], one.last().unwrap()["id"]);
}

/// An answer means that it is stored, however often it is asked; romeo has it once.
#[test]
fn sending_is_idempotent_and_durable() {
    let mut world = World::new(Plan {
        keeping: crate::testing::Keeping::Device,
        ..plan()
    });
    // Connected, but not yet available.
    world.logs_in("romeo@localhost/tcp");
    let mut talk = Talk::in_world(world, &password("juliet", PASSWORD), Rules::default());
    assert_eq!(talk.take(0)[0]["status"], 201);
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    talk.world.receives("romeo");
    talk.world.stall(true);
    talk.ask(2, message("a", "x"));
    talk.ask(3, message("a", "x"));
    talk.ask(1, message("a", "x"));
    talk.ask(4, message("a", "x"));
    talk.detach(4);
    talk.wait(1);
    assert_eq!(talk.take(2), [] as [Value; 0], "it is not stored");
    assert_eq!(talk.take(1), [] as [Value; 0], "it is not stored");
    talk.world.stall(false);
    talk.wait(1);
    assert_eq!(talk.take(2)[0]["state"], "stored");
    assert_eq!(talk.take(3)[0]["state"], "stored");
    assert!(talk.take(4).is_empty());
    assert_eq!(talk.types(1), ["sent"]);
    talk.ask(5, message("a", "x"));
    assert_eq!(talk.take(5)[0]["state"], "stored");
    talk.ask(
        1,
        json!({"type": "message", "message_id": "a", "to": "romeo@localhost",
        "request_id": "again"}),
    );
    assert_eq!(talk.take(1)[0]["message_id"], "a");
    talk.romeo("<presence/>");
    let heard = talk.world.receives("romeo");
    assert_eq!(
        heard
            .iter()
            .filter(|heard| heard.contains("<body>x</body>"))
            .count(),
        1
    );
    talk.wait(601);
    talk.ask(6, message("a", "x"));
    talk.wait(1);
    assert_eq!(talk.take(6)[0]["state"], "stored");
    let heard = talk.world.receives("romeo").concat();
    assert!(
        heard.contains("<body>x</body>"),
        "the name is forgotten, by the rules"
    );
}

#[test]
fn a_message_without_a_name_gets_one() {
    let mut talk = Talk::open(Rules::default());
    talk.ask(
        1,
        json!({"type": "message", "to": "romeo@localhost", "body": "x"}),
    );
    talk.ask(
        2,
        json!({"type": "message", "to": "romeo@localhost", "body": "x"}),
    );
    let (one, two) = (talk.take(1), talk.take(2));
    assert_ne!(one[0]["message_id"], two[0]["message_id"]);
}

#[test]
fn waiting_is_bounded() {
    let rules = Rules {
        waiting_max: 2,
        readers_max: 1,
        ..Rules::default()
    };
    let mut world = World::new(Plan {
        keeping: crate::testing::Keeping::Device,
        ..plan()
    });
    world.logs_in("romeo@localhost/tcp");
    let mut talk = Talk::in_world(world, &password("juliet", PASSWORD), rules);
    talk.world.stall(true);
    for (ticket, id) in [(1, "a"), (2, "b"), (3, "c")] {
        talk.ask(ticket, message(id, "x"));
    }
    assert_eq!(talk.take(3)[0]["code"], "too-many");
    talk.attach(4, Kind::WebSocket, None);
    talk.take(4);
    talk.ask(4, message("d", "x"));
    let refused = talk.take(4);
    assert_eq!(refused[0]["message_id"], "d", "it says which: {refused:?}");
    assert_eq!(refused[0]["problem"]["code"], "too-many");
    talk.attach(5, Kind::EventStream, None);
    assert_eq!(talk.take(5)[0]["status"], 429);
}

/// What found no room before anybody read is not passed over in silence.
#[test]
fn a_reader_without_a_cursor_is_told_of_a_gap() {
    let rules = Rules {
        backlog_octets_max: 2_000,
        ..Rules::default()
    };
    let mut talk = Talk::open(rules);
    for _ in 0..20 {
        talk.ask(
            9,
            json!({"type": "presence", "status": "a status ".repeat(20)}),
        );
        talk.take(9);
        talk.done.clear();
    }
    talk.attach(1, Kind::EventStream, None);
    let got = talk.take(1);
    assert_eq!(
        (&got[0]["type"], &got[0]["after"]),
        (&json!("gap"), &json!("e-0"))
    );
    talk.attach(2, poll(), None);
    assert_eq!(talk.take(2)[0]["events"][0]["type"], "gap");
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::EventStream, Some("e-0"));
    let first = talk.session.cursor().to_string();
    talk.detach(1);
    for body in ["1", "2", "3"] {
        talk.romeo(&format!(
            "<message to='juliet@localhost' type='chat'><body>{body}</body></message>"
        ));
    }
    let bodies = |got: &[Value]| -> Vec<String> {
        got.iter()
            .filter_map(|event| event["body"].as_str().map(str::to_owned))
            .collect()
    };
    talk.attach(2, Kind::EventStream, Some(&first));
    let got = talk.take(2);
    assert_eq!(
        (got[0]["type"].as_str(), got[0]["id"].as_str()),
        (Some("ready"), Some(&*first))
    );
    assert_eq!(bodies(&got), ["1", "2", "3"]);
    talk.attach(3, Kind::WebSocket, got[2]["id"].as_str());
    assert_eq!(bodies(&talk.take(3)), ["3"]);
    talk.wait(121);
    talk.romeo("<message to='juliet@localhost' type='chat'><body>4</body></message>");
    let now = talk.session.cursor();
    talk.attach(4, Kind::WebSocket, Some(&first));
    let got = talk.take(4);
    assert_eq!(got[0]["type"], "gap");
    assert_eq!(got[0]["after"], *first);
    assert_eq!(got[0]["id"], format!("e-{}", now.offset - 1));
    assert_eq!(bodies(&got), ["4"]);
    talk.attach(5, poll(), Some("d-5"));
    let page = talk.take(5);
    assert_eq!(page[0]["events"][0]["type"], "gap");
    assert_eq!(page[0]["events"][1]["body"], "4");
    assert_eq!(page[0]["next"], now.to_string());
    talk.attach(6, Kind::EventStream, Some("e-99"));
    assert_eq!(talk.take(6)[0]["type"], "gap");
    talk.attach(7, Kind::EventStream, None);
    assert_eq!(talk.types(7), ["ready", "message"]);
}

#[test]
fn polls_are_held() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, poll(), None);
    let cursor = talk.take(1)[0]["next"].as_str().unwrap().to_owned();
    talk.attach(2, poll(), Some(&cursor));
    talk.attach(3, Kind::Poll { conditional: true }, Some(&cursor));
    talk.wait(59);
    assert!(talk.got.is_empty());
    talk.wait(1);
    assert_eq!(
        talk.take(2),
        [json!({"status": 200, "events": [], "next": cursor})]
    );
    assert_eq!(talk.take(3), [json!({"status": 304})]);
    talk.attach(4, poll(), Some(&cursor));
    talk.romeo("<message to='juliet@localhost' type='chat'><body>1</body></message>");
    let page = talk.take(4);
    assert_eq!(page[0]["events"][0]["body"], "1");
    assert_eq!(page[0]["next"], page[0]["events"][0]["id"]);
}

/// While nobody reads, what does not fit stays with the stream, and comes when somebody does.
#[test]
fn a_backlog_is_bounded_and_complete() {
    let rules = Rules {
        backlog_octets_max: 2_000,
        replay_octets_max: 1_000,
        ..Rules::default()
    };
    let mut talk = Talk::open(rules);
    for number in 0..40 {
        talk.romeo(&format!(
            "<message to='juliet@localhost' type='chat'><body>{number}</body></message>"
        ));
    }
    assert!(!talk.output.is_empty() && !talk.session.wants_output());
    assert!(talk.session.log.kept_octets < 3_000);
    talk.attach(1, Kind::EventStream, Some("e-0"));
    let got = talk.take(1);
    let bodies: Vec<_> = got
        .iter()
        .filter_map(|event| event["body"].as_str())
        .collect();
    let wanted: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(bodies, wanted);
    assert!(talk.session.log.kept_octets <= 1_000);
}

/// Copies of what other sessions of the account do.
#[test]
fn carbons_are_events() {
    let mut talk = Talk::open(Rules::default());
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    talk.world.logs_in("juliet@localhost/tcp");
    talk.world.sends(
        "juliet@localhost/tcp",
        "<message to='romeo@localhost' type='chat'><body>from elsewhere</body></message>",
    );
    talk.act(Vec::new());
    let got = talk.take(1);
    let carbon = got
        .iter()
        .find(|event| event["type"] == "carbon")
        .expect("a copy");
    assert_eq!(carbon["direction"], "sent");
    assert_eq!(carbon["message"]["body"], "from elsewhere");
    talk.ask(
        1,
        json!({"type": "message", "to": "nobody@localhost", "body": "x",
        "message_id": "n"}),
    );
    let failure = talk
        .take(1)
        .into_iter()
        .find(|event| event["type"] == "failure")
        .unwrap();
    assert_eq!(failure["message_id"], "n");
    assert_eq!(failure["problem"]["code"], "service-unavailable");
}

#[test]
fn topics_are_for_who_asked() {
    let topics = topic::Topics::new(["news:0123456789abcdef"]).unwrap();
    let rules = Rules {
        topics,
        backlog_octets_max: 2_000,
        ..Rules::default()
    };
    let mut talk = Talk::open(rules);
    talk.attach(1, Kind::WebSocket, None);
    talk.take(1);
    talk.publish("news", "0");
    talk.ask(
        1,
        json!({"type": "subscribe", "topic": "news", "request_id": "s"}),
    );
    talk.ask(
        1,
        json!({"type": "subscribe", "topic": "none", "request_id": "n"}),
    );
    talk.publish("news", "{\"a\": 1}");
    let got = talk.take(1);
    assert_eq!(got[0]["status"], 204);
    assert_eq!(got[1]["problem"]["code"], "no-topic");
    assert_eq!(
        (&got[2]["topic"], &got[2]["data"]),
        (&json!("news"), &json!({"a": 1}))
    );
    assert_eq!(got.len(), 3);
    // Nobody reads: what found no room is counted, what found some is there.
    talk.detach(1);
    let long = format!("\"{}\"", "x".repeat(900));
    for _ in 0..5 {
        talk.publish("news", &long);
    }
    let cursor = got[2]["id"].as_str().unwrap();
    talk.attach(2, Kind::EventStream, Some(cursor));
    talk.publish("news", "1");
    assert_eq!(
        talk.types(2),
        ["ready", "topic", "topic", "topic", "missed", "topic"]
    );
    talk.ask(3, json!({"type": "unsubscribe", "topic": "news"}));
    assert_eq!(talk.take(3)[0]["status"], 204);
    talk.publish("news", "2");
    assert_eq!(talk.types(2), Vec::<String>::new());
}

/// When the last reader goes, what the stream was told is not taken back, and of what nobody was
/// given it is told nothing.
#[test]
fn a_reader_that_goes_takes_nothing_back() {
    let rules = Rules {
        unacknowledged_max: 4,
        ..Rules::default()
    };
    let mut talk = Talk::open(rules);
    talk.attach(1, Kind::EventStream, None);
    let write = |talk: &mut Talk, number: usize| {
        talk.romeo(&format!(
            "<message to='juliet@localhost' type='chat'><body>{number}</body></message>"
        ));
    };
    for number in 0..40 {
        write(&mut talk, number);
    }
    let told = talk.session.told;
    assert!(told > 30);
    talk.detach(1);
    for number in 40..60 {
        write(&mut talk, number);
    }
    talk.wait(5);
    assert!(!talk.session.is_over());
    assert_eq!(talk.session.told, told);
    talk.attach(2, Kind::EventStream, Some("e-0"));
    let got = talk.take(2);
    let bodies = got.iter().filter(|event| event["body"].is_string());
    assert_eq!(bodies.count(), 60);
}
