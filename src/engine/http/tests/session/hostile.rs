//! Peers and networks that a session of the JSON protocol has to withstand.

use super::*;

fn types_in(text: &str, name: &str) -> usize {
    text.matches(&format!("\"type\":\"{name}\"")).count()
}

/// SECURITY class 27: only the server makes copies.
#[test]
fn a_carbon_of_a_stranger_is_none() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost/tab' type='chat'>\
         <received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='nurse@localhost/x' to='juliet@localhost' type='chat'>\
         <body>forged</body></message></forwarded></received><body>mine</body></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    assert_eq!(types_in(&events.to_string(), "carbon"), 0, "{events}");
}

/// Of several identifiers the server's own is the one that counts.
#[test]
fn the_servers_stanza_id_is_told() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost' type='chat'>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='evil.example' id='fake'/><body>b</body></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    let mut message = events["events"].as_array().unwrap().iter();
    let message = message.rfind(|event| event["type"] == "message").unwrap();
    assert_eq!(message["stanza_id"]["by"], "juliet@localhost", "{message}");
}

/// What only has a chat state besides is stored as it would be for anybody who is away.
#[test]
fn what_has_a_chat_state_and_no_text_is_stored() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let secret = "<message to='juliet@localhost' type='chat'><encrypted xmlns='e'/>\
         <active xmlns='http://jabber.org/protocol/chatstates'/></message>";
    house.world.sends("romeo", secret);
    house.world.settle();
    house.ask("DELETE", "/v1/session", &session, "");
    house.world.settle();
    let session = house.open("");
    let events = house.poll(&session, "");
    assert!(events.to_string().contains("encrypted"), "{events}");
}

/// XEP-0203 section 6: what says that this server kept it was said by this server.
#[test]
fn senders_do_not_date_for_the_server() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost' type='chat'><body>b</body>\
         <delay xmlns='urn:xmpp:delay' from='localhost' stamp='2099-01-01T00:00:00Z'/></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    assert!(!events.to_string().contains("2099"), "{events}");
}

/// An attribute is no text.
#[test]
fn a_body_is_what_is_inside_of_it() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost' type='chat'>\
         <body a='>nothing of this'/></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    assert!(!events.to_string().contains("\"body\":\"noth"), "{events}");
}

/// What is not answered in time takes no place for ever.
#[test]
fn a_request_that_ran_out_of_time_is_forgotten() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.events(&session);
    let ask = json!({
        "kind": "get", "to": "romeo@localhost/tcp", "xml": ["<q xmlns='a:b'/>"],
    });
    let wires: Vec<_> = (0..64)
        .map(|_| house.ask("POST", "/v1/iq", &session, &ask.to_string()).0)
        .collect();
    house.world.advance(Duration::from_secs(320));
    for wire in wires {
        assert_eq!(status_of(&read(&mut house.world, wire)), "504");
    }
    let (_, answer) = house.ask("GET", "/v1/roster", &session, "");
    assert_eq!(status_of(&answer), "200", "{answer}");
}

/// Octets may come while a link is about to move.
#[test]
fn nothing_is_lost_on_the_way_to_another_shard() {
    let mut house = House::with(3, Limits::default());
    let session = house.open("");
    for _ in 0..6 {
        let wire = house.world.connect_to(Entry::Http);
        house.world.set_room(wire, Some(0));
        let first =
            request("GET", "/healthz", "", "") + &request("GET", "/v1/session", &session, "");
        let second = request("GET", "/readyz", "", "");
        house.world.write(wire, first.as_bytes());
        house.world.settle();
        house.world.write(wire, second.as_bytes());
        house.world.settle();
        house.world.set_room(wire, None);
        house.world.settle();
        let answers = read(&mut house.world, wire);
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    }
}

/// After the grace time others see it leave, however much nobody read.
#[test]
fn a_full_session_ends_in_order() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let ask = json!({"to": "romeo@localhost", "action": "subscribed"}).to_string();
    house.world.sends(
        "romeo",
        "<presence type='subscribe' to='juliet@localhost'/>",
    );
    house.ask("POST", "/v1/subscriptions", &session, &ask);
    house.world.discard_received();
    for _ in 0..8 {
        house.romeo_writes(&"x".repeat(50_000));
    }
    house.world.advance(Duration::from_secs(61));
    let got = house.world.receives("romeo");
    assert!(
        got.iter().any(|stanza| stanza.contains("unavailable")),
        "{got:?}"
    );
    let reports = house.world.reports();
    let sessions: usize = reports.iter().map(|report| report.sessions).sum();
    assert_eq!(sessions, 1, "romeo's");
}

/// Presences are kept, but not any amount of them.
#[test]
fn kept_presences_have_a_bound() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    let long = "x".repeat(200_000);
    for number in 0..20 {
        let jid = format!("nurse@localhost/{number}");
        house.world.logs_in(&jid);
        house.world.sends(
            &jid,
            &format!("<presence to='juliet@localhost/tab'><status>{long}</status></presence>"),
        );
        read(&mut house.world, reader);
    }
    let (_, answer) = house.ask("GET", "/v1/presence", &session, "");
    assert_eq!(status_of(&answer), "200");
    assert!(answer.len() < 1_500_000, "{}", answer.len());
}

/// P4: what the kernel never took is with nobody.
#[test]
fn what_no_reader_took_is_stored() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    house.world.set_room(reader, Some(0));
    house.romeo_writes("Never read");
    house.world.advance(Duration::from_secs(200));
    house.world.hang_up(reader);
    house.world.settle();
    house.world.advance(Duration::from_secs(61));
    let session = house.open("");
    let events = house.poll(&session, "");
    assert!(events.to_string().contains("Never read"), "{events}");
}

/// P4: a network that died takes what it is given, and nobody answers.
#[test]
fn what_a_dead_socket_was_given_is_stored() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let fields = format!("{HANDSHAKE}Sec-WebSocket-Protocol: encke.v1\r\n{session}");
    let (socket, _) = house.ask_raw("/v1/socket", &fields);
    house.world.advance(Duration::from_secs(1));
    house.romeo_writes("Never read");
    house.world.advance(Duration::from_secs(110));
    assert!(house.world.is_closed(socket));
    house.world.advance(Duration::from_secs(61));
    let session = house.open("");
    let events = house.poll(&session, "");
    assert!(events.to_string().contains("Never read"), "{events}");
}

/// A program that only sends is served as long as it sends.
#[test]
fn who_only_sends_is_answered() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let message = json!({"to": "nurse@localhost", "body": "x".repeat(10_000)}).to_string();
    for number in 0..40 {
        let (_, answer) = house.ask("POST", "/v1/messages", &session, &message);
        assert_eq!(status_of(&answer), "200", "{number}: {answer}");
    }
}

/// What fills a session that nobody reads is a reason to refuse, not to be silent.
#[test]
fn who_sends_and_does_not_read_is_told() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.romeo_writes("Hi");
    let message = json!({"to": "nurse@localhost", "body": "x".repeat(10_000)}).to_string();
    let mut refused = 0;
    for number in 0..40 {
        let (_, answer) = house.ask("POST", "/v1/messages", &session, &message);
        match status_of(&answer) {
            "200" => assert_eq!(refused, 0),
            "429" => refused += 1,
            _ => panic!("{number}: {answer}"),
        }
    }
    assert!(refused > 0);
    let (_, answer) = house.ask("GET", "/v1/roster", &session, "");
    assert_eq!(status_of(&answer), "429");
    assert!(house.poll(&session, "").to_string().contains("\"Hi\""));
    let (_, answer) = house.ask("POST", "/v1/messages", &session, &message);
    assert_eq!(status_of(&answer), "200");
}

/// A topic that a reload brings is there for sessions that live.
#[test]
fn a_reload_reaches_sessions_that_live() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let mut policy = Plan::default().policy();
    policy.http.topics = Topics::new(["late:0123456789abcdef"]).unwrap();
    let policy = Arc::new(policy);
    house.world.tell_all(|| Command::Reload(policy.clone()));
    house.world.settle();
    let ask = "{\"type\":\"subscribe\",\"topic\":\"late\"}";
    let (_, answer) = house.ask("POST", "/v1/requests", &session, ask);
    assert_eq!(status_of(&answer), "204", "{answer}");
}

/// In JSON a text may be twice as long as it is in XML.
#[test]
fn a_long_event_does_not_end_its_reader() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    house.romeo_writes(&"\"".repeat(200_000));
    assert!(read(&mut house.world, reader).len() > 400_000);
    house.romeo_writes("And on");
    assert!(read(&mut house.world, reader).contains("And on"));
}

/// Who reads gets what comes, however much comes at once.
#[test]
fn a_burst_does_not_end_who_reads() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    let burst: String = (0..8)
        .map(|number| {
            let body = format!("number {number} {}", "x".repeat(50_000));
            format!("<message to='juliet@localhost' type='chat'><body>{body}</body></message>")
        })
        .collect();
    house.world.sends("romeo", &burst);
    house.world.settle();
    let got = read(&mut house.world, reader);
    assert_eq!(got.matches("number ").count(), 8, "{}", got.len());
}

/// P4: whoever is too slow loses the link, and what it did not take is kept or stored.
#[test]
fn a_slow_reader_loses_its_link_and_no_message() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let reader = house.events(&session);
    house.world.set_room(reader, Some(0));
    for number in 0..40 {
        house.romeo_writes(&format!("number {number} {}", "x".repeat(10_000)));
    }
    house.world.hang_up(reader);
    house.world.settle();
    let mut got = house.poll(&session, "").to_string();
    house.world.advance(Duration::from_secs(70));
    let session = house.open("");
    for _ in 0..20 {
        got += &house.poll(&session, "").to_string();
    }
    let is_missing = |number: &i32| !got.contains(&format!("number {number} "));
    let missing: Vec<_> = (0..40).filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// SECURITY class 21: guesses that come at once are as many as others, by password and by SCRAM.
#[test]
fn guesses_at_once_are_no_more_guesses() {
    let by_password = r#"{"user":"juliet@localhost","password":"wrong"}"#;
    let first = "biwsbj1qdWxpZXQscj1meWtvK2QybGJiRmdPTlJ2OXFreGRhd0w=";
    let by_scram = json!({
        "user": "juliet@localhost", "mechanism": "SCRAM-SHA-256", "initial": first,
    });
    for (body, sign) in [
        (by_password, "\"not-authorized\""),
        (&by_scram.to_string(), "\"challenge\""),
    ] {
        let mut house = House::with(3, Limits::default());
        let wires: Vec<_> = (0..100)
            .map(|_| {
                let wire = house.world.connect_to(Entry::Http);
                let request = request("POST", "/v1/session", "", body);
                house.world.write(wire, request.as_bytes());
                wire
            })
            .collect();
        house.world.settle();
        let mut tried = 0;
        for wire in wires {
            let answer = read(&mut house.world, wire);
            tried += usize::from(answer.contains(sign));
        }
        assert_eq!(tried, 6, "{body}");
        // Who began and went takes no place for ever.
        house.world.advance(Duration::from_secs(31));
        house.open("");
    }
}

/// Whoever is asked and never answers does not take a place for ever.
#[test]
fn a_place_over_a_websocket_comes_back() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    let fields = format!("{HANDSHAKE}Sec-WebSocket-Protocol: encke.v1\r\n{session}");
    let (socket, _) = house.ask_raw("/v1/socket", &fields);
    let ask = "{\"type\":\"iq\",\"kind\":\"get\",\"to\":\"romeo@localhost/tcp\",\
               \"xml\":[\"<q xmlns='a:b'/>\"]}";
    for _ in 0..64 {
        house.world.write(socket, &frame(ask));
    }
    house.world.settle();
    for _ in 0..10 {
        house.world.advance(Duration::from_secs(45));
        house.world.write(socket, b"\x8a\x80\0\0\0\0");
    }
    house.world.settle();
    house.world.read(socket);
    house.world.write(
        socket,
        &frame("{\"type\":\"roster.get\",\"request_id\":\"r\"}"),
    );
    house.world.settle();
    let answer = texts(&house.world.read(socket));
    assert_eq!(answer.last().unwrap()["status"], 200, "{answer:?}");
}
