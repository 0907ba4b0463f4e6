use super::*;
use crate::transport::json::outgoing::{self, Item};
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds {
    octets_max: 2_000,
    depth_max: 8,
    attributes_max: 8,
    elements_max: 16,
};

fn ask(body: &str) -> Result<Asked<'_>, Problem> {
    read(body.as_bytes(), None, &mut Scanner::new(), &BOUNDS)
}

/// The stanza that a request becomes.
fn stanza(body: &str) -> String {
    let mut out = Vec::new();
    match ask(body).unwrap().request {
        Request::Message(message) => {
            let id = message.message_id.clone().unwrap_or("made".into());
            outgoing::write_message(&mut out, &message, &id);
        }
        Request::Presence(presence) => outgoing::write_presence(&mut out, &presence),
        Request::Subscription { to, action, status } => {
            outgoing::write_subscription(&mut out, &to, action, status.as_deref());
        }
        Request::RosterSet {
            address,
            name,
            groups,
        } => outgoing::write_iq(&mut out, "set", "1", None, |writer| {
            let item = Item {
                address: &address,
                name: name.as_deref(),
                removed: false,
                groups: groups.iter().map(|group| &**group),
            };
            outgoing::write_roster(writer, Some(item));
        }),
        other => panic!("{other:?}"),
    }
    let progress = Scanner::new().next(&out, &StreamScope::standard(), &BOUNDS);
    assert_eq!(
        progress,
        Ok(Progress::Element(out.len())),
        "{}",
        out.escape_ascii()
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn requests_become_stanzas() {
    let table = [
        (
            "{\"type\":\"message\",\"to\":\"juliet@example.net\",\"message_id\":\"m1\",\
             \"body\":\"I'm <here> & \\\"there\\\"\\n\"}",
            "<message type='chat' to='juliet@example.net' id='m1'><body>I&apos;m &lt;here&gt; \
             &amp; &quot;there&quot;\n</body></message>",
        ),
        (
            r#"{"type":"message","to":"a@b","kind":"normal","subject":"s","thread":"t","body":""}"#,
            "<message to='a@b' id='made'><subject>s</subject><body></body><thread>t</thread>\
             </message>",
        ),
        (
            "{\"type\":\"message\",\"to\":\"a@b\",\"kind\":\"groupchat\",\"body\":\"x\",\
             \"state\":\"active\",\"wants_receipt\":true}",
            "<message type='groupchat' to='a@b' id='made'><body>x</body><active \
             xmlns='http://jabber.org/protocol/chatstates'/><request \
             xmlns='urn:xmpp:receipts'/></message>",
        ),
        (
            r#"{"type":"message","to":"a@b/c","state":"composing"}"#,
            "<message type='chat' to='a@b/c' id='made'><composing \
             xmlns='http://jabber.org/protocol/chatstates'/></message>",
        ),
        (
            r#"{"type":"message","to":"a@b","kind":"headline","received":"m'1"}"#,
            "<message type='headline' to='a@b' id='made'><received xmlns='urn:xmpp:receipts' \
             id='m&apos;1'/></message>",
        ),
        (
            "{\"type\":\"message\",\"to\":\"a@b\",\"wants_receipt\":false,\"xml\":[\"\
             <x xmlns='urn:x'><y>z</y></x>\",\"<p:q xmlns:p='urn:p' xmlns='urn:p'/>\"]}",
            "<message type='chat' to='a@b' id='made'><x xmlns='urn:x'><y>z</y></x><p:q \
             xmlns:p='urn:p' xmlns='urn:p'/></message>",
        ),
        (r#"{"type":"presence"}"#, "<presence/>"),
        (r#"{"type":"presence","show":"online"}"#, "<presence/>"),
        (
            r#"{"type":"presence","show":"offline","to":"a@b"}"#,
            "<presence to='a@b' type='unavailable'/>",
        ),
        (
            "{\"type\":\"presence\",\"show\":\"dnd\",\"status\":\"<\",\"priority\":-5,\
             \"xml\":[\"<c xmlns='u'/>\"]}",
            "<presence><show>dnd</show><status>&lt;</status><priority>-5</priority><c \
             xmlns='u'/></presence>",
        ),
        (
            r#"{"type":"presence","show":"xa"}"#,
            "<presence><show>xa</show></presence>",
        ),
        (
            r#"{"type":"presence","show":"away"}"#,
            "<presence><show>away</show></presence>",
        ),
        (
            r#"{"type":"presence","show":"chat"}"#,
            "<presence><show>chat</show></presence>",
        ),
        (
            r#"{"type":"subscription","to":"a@b","action":"subscribe","status":"hi"}"#,
            "<presence type='subscribe' to='a@b'><status>hi</status></presence>",
        ),
        (
            r#"{"type":"subscription","to":"a@b","action":"unsubscribed"}"#,
            "<presence type='unsubscribed' to='a@b'/>",
        ),
        (
            r#"{"type":"roster.set","jid":"a@b","name":"A'","groups":["g<","h"]}"#,
            "<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='a@b' \
             name='A&apos;'><group>g&lt;</group><group>h</group></item></query></iq>",
        ),
    ];
    for (request, wanted) in table {
        assert_eq!(stanza(request), wanted);
    }
}

#[test]
fn other_requests_are_read() {
    let cursor = Cursor {
        epoch: 1,
        offset: 2,
    };
    let table = [
        (r#"{"type":"ping"}"#, Request::Ping),
        (r#"{"type":"close"}"#, Request::Close),
        (r#"{"type":"roster.get"}"#, Request::RosterGet),
        (r#"{"type":"ack","cursor":"1-2"}"#, Request::Ack(cursor)),
        (
            r#"{"type":"roster.remove","jid":"a@b"}"#,
            Request::RosterRemove {
                address: "a@b".into(),
            },
        ),
        (
            r#"{"type":"iq","kind":"get","to":"b","xml":["<q xmlns='u'/>"]}"#,
            Request::Iq {
                to: Some("b".into()),
                set: false,
                payload: "<q xmlns='u'/>".into(),
            },
        ),
    ];
    for (body, request) in table {
        let request_id = None;
        assert_eq!(
            ask(body),
            Ok(Asked {
                request_id,
                request
            }),
            "{body}"
        );
    }
    let asked = ask(r#" {"request_id":"7","type":"ping"} "#).unwrap();
    assert_eq!(asked.request_id.as_deref(), Some("7"));
}

#[test]
fn what_is_wrong_has_a_code() {
    let long = format!(
        r#"{{"type":"message","to":"a@b","body":"{}"}}"#,
        "x".repeat(2_000)
    );
    let name = format!(r#"{{"type":"ping","request_id":"{}"}}"#, "x".repeat(129));
    let groups = format!(
        r#"{{"type":"roster.set","jid":"a@b","groups":[{}"g"]}}"#,
        r#""g","#.repeat(32)
    );
    let deep = "[".repeat(500);
    let xml = |xml: &str| format!(r#"{{"type":"message","to":"a@b","xml":["{xml}"]}}"#);
    let table = [
        ("", problem::NOT_JSON),
        ("null", problem::NOT_JSON),
        ("{", problem::NOT_JSON),
        (&deep, problem::NOT_JSON),
        (r#"["ping"]"#, problem::NOT_JSON),
        (r#"{"type":"ping"}{}"#, problem::NOT_JSON),
        (r#"{"type":"ping",}"#, problem::NOT_JSON),
        (
            r#"{"type":"message","to":"a@b","body":"\ud800"}"#,
            problem::NOT_JSON,
        ),
        ("{}", problem::MISSING_MEMBER),
        (r#"{"type":"message"}"#, problem::MISSING_MEMBER),
        (
            r#"{"type":"subscription","to":"a@b"}"#,
            problem::MISSING_MEMBER,
        ),
        (r#"{"type":"iq","kind":"get"}"#, problem::MISSING_MEMBER),
        (
            r#"{"type":"iq","xml":["<q xmlns='u'/>"]}"#,
            problem::MISSING_MEMBER,
        ),
        (r#"{"type":"ping","type":"ping"}"#, problem::WRONG_MEMBER),
        (r#"{"type":"ping","other":1}"#, problem::WRONG_MEMBER),
        (r#"{"type":"ping","body":"x"}"#, problem::WRONG_MEMBER),
        (
            r#"{"type":"presence","priority":128}"#,
            problem::WRONG_MEMBER,
        ),
        (
            r#"{"type":"presence","priority":"1"}"#,
            problem::WRONG_MEMBER,
        ),
        (
            r#"{"type":"message","to":"a@b","body":1}"#,
            problem::WRONG_MEMBER,
        ),
        (r#"{"type":"dance"}"#, problem::UNKNOWN_REQUEST),
        (r#"{"type":"presence","show":"Away"}"#, problem::WRONG_VALUE),
        (
            r#"{"type":"message","to":"a@b","kind":"error"}"#,
            problem::WRONG_VALUE,
        ),
        (
            r#"{"type":"message","to":"a@b","state":"asleep"}"#,
            problem::WRONG_VALUE,
        ),
        (
            r#"{"type":"message","to":"a@b","message_id":""}"#,
            problem::WRONG_VALUE,
        ),
        (
            r#"{"type":"message","to":"a@b","message_id":"a\n"}"#,
            problem::WRONG_VALUE,
        ),
        (r#"{"type":"ack","cursor":"1-02"}"#, problem::WRONG_VALUE),
        (r#"{"type":"message","to":"@b"}"#, problem::WRONG_ADDRESS),
        (
            r#"{"type":"message","to":"a@b","body":"\u0000"}"#,
            problem::WRONG_CHARACTER,
        ),
        (
            r#"{"type":"message","to":"a@b","body":"\ufffe"}"#,
            problem::WRONG_CHARACTER,
        ),
        (&long, problem::TOO_LARGE),
        (&name, problem::TOO_LARGE),
        (&groups, problem::TOO_LARGE),
        (&xml(""), problem::WRONG_XML),
        (&xml("text"), problem::WRONG_XML),
        (&xml("<a/>"), problem::WRONG_XML),
        (&xml("<a xmlns='u'>"), problem::WRONG_XML),
        (&xml("<a xmlns='u'/></message>"), problem::WRONG_XML),
        (&xml("<a xmlns='u'/><b xmlns='u'/>"), problem::WRONG_XML),
        (&xml(" <a xmlns='u'/>"), problem::WRONG_XML),
        (&xml("<p:a xmlns:p='u'><b/></p:a>"), problem::WRONG_XML),
        (&xml("<stream:a xmlns='u'/>"), problem::WRONG_XML),
        (&xml("<body xmlns='jabber:client'/>"), problem::WRONG_XML),
        (&xml("<!--a-->"), problem::WRONG_XML),
        (&xml("<a xmlns='u'>&other;</a>"), problem::WRONG_XML),
    ];
    for (body, wanted) in table {
        assert_eq!(ask(body), Err(wanted), "{body}");
    }
    let not_text = read(b"{\"type\":\"\xff\"}", None, &mut Scanner::new(), &BOUNDS);
    assert_eq!(not_text, Err(problem::NOT_JSON));
}

/// A path that names the request makes `type` superfluous, not a lie.
#[test]
fn a_type_may_be_implied() {
    let read =
        |body: &'static str| read(body.as_bytes(), Some("ping"), &mut Scanner::new(), &BOUNDS);
    assert_eq!(read("{}").unwrap().request, Request::Ping);
    assert_eq!(read(r#"{"type":"ping"}"#).unwrap().request, Request::Ping);
    assert_eq!(read(r#"{"type":"close"}"#), Err(problem::UNKNOWN_REQUEST));
}

#[test]
fn every_problem_has_a_code_of_its_own() {
    let mut codes: Vec<_> = problem::PROBLEMS.iter().map(|why| why.code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), problem::PROBLEMS.len());
    let document: serde_json::Value = serde_json::from_slice(&problem::TOO_MANY.to_json()).unwrap();
    assert_eq!(document["status"], 429);
    assert_eq!(document["code"], "too-many");
}

proptest! {
    /// Whatever text comes in, it is refused or one stanza has it.
    #[test]
    fn text_reaches_the_stanza_as_it_was(text: String) {
        let body = serde_json::json!({"type": "message", "to": "a@b", "body": text}).to_string();
        match read(body.as_bytes(), None, &mut Scanner::new(), &BOUNDS) {
            Ok(Asked { request: Request::Message(message), .. }) => {
                let mut out = Vec::new();
                outgoing::write_message(&mut out, &message, "id");
                let mut scanner = Scanner::new();
                let progress = scanner.next(&out, &StreamScope::standard(), &BOUNDS);
                if text.len() < 200 {
                    prop_assert_eq!(progress, Ok(Progress::Element(out.len())));
                    let tree = scanner.element(&out).tree();
                    prop_assert_eq!(tree.child(ns::CLIENT, "body").unwrap().text(), text);
                }
            }
            Err(why) => {
                let refused = why == problem::WRONG_CHARACTER || why == problem::TOO_LARGE;
                prop_assert!(refused);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// The name of a request that is refused for something else.
#[test]
fn a_name_is_read_from_any_object() {
    let deep = format!(
        "{{\"x\":{}{},\"request_id\":\"n\"}}",
        "[".repeat(900),
        "]".repeat(900)
    );
    let long = "n".repeat(IDENTIFIER_OCTETS_MAX + 1);
    let table = [
        (
            r#"{"request_id":"n","x":{"request_id":"inner"}}"#,
            Some("n"),
        ),
        (r#" {"x":1e9,"request_id":"\u006e"} "#, Some("n")),
        (&*deep, Some("n")),
        (r#"{"x":{"request_id":"inner"}}"#, None),
        (r#"{"request_id":1}"#, None),
        (r#"{"request_id":null}"#, None),
        (r#"{"request_id":""}"#, None),
        (r#"{"request_id":"\u0000"}"#, None),
        (r#"{"request_id":"a","request_id":"b"}"#, None),
        (r#"["n"]"#, None),
        (r#"{"request_id":"n""#, None),
        (r#"{"request_id":"n"} x"#, None),
        (&format!("{{\"request_id\":\"{long}\"}}"), None),
    ];
    for (text, name) in table {
        assert_eq!(
            name_of(text.as_bytes(), BOUNDS.octets_max).as_deref(),
            name,
            "{text}"
        );
    }
    assert_eq!(name_of(b"{\"request_id\":\"\xff\"}", 99), None);
    assert_eq!(name_of(br#"{"request_id":"n"}"#, 4), None);
}
