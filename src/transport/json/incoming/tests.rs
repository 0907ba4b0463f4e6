use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The event that a stanza becomes, without its number.
fn event(stanza: &str) -> Option<Value> {
    let mut out = Vec::new();
    let mut scanner = Scanner::new();
    let progress = scanner.next(stanza.as_bytes(), &StreamScope::standard(), &UNBOUNDED);
    assert_eq!(progress, Ok(Progress::Element(stanza.len())), "{stanza}");
    let element = scanner.element(stanza.as_bytes());
    describe(&mut out, element, "d@e", |out, class| {
        out.extend_from_slice(b"{\"type\":");
        write_string(out, class.name());
    })?;
    out.push(b'}');
    assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
    Some(serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", out.escape_ascii())))
}

#[test]
fn messages_become_events() {
    let table = [
        (
            "<message from='a@b/c' to='d@e' id='1' type='chat'><body>I&apos;m\n&lt;ok></body>\
             </message>",
            json!({"type": "message", "from": "a@b/c", "to": "d@e", "message_id": "1",
                "kind": "chat", "body": "I'm\n<ok>"}),
        ),
        (
            "<message from='a@b'><subject>s</subject><body a='x>y'>t</body ><thread>u</thread>\
             </message>",
            json!({"type": "message", "from": "a@b", "kind": "normal", "subject": "s",
                "body": "t", "thread": "u"}),
        ),
        (
            "<message type='odd' xml:lang='de'><body><![CDATA[<&>]]>\r\n</body>\
             <body xml:lang='en'>x</body></message>",
            json!({"type": "message", "kind": "normal", "lang": "de", "body": "<&>\n",
                "xml": ["<body xmlns='jabber:client' xml:lang='en'>x</body>"]}),
        ),
        (
            "<message type='groupchat'><body/>\
             <active xmlns='http://jabber.org/protocol/chatstates'/>\
             <request xmlns='urn:xmpp:receipts'/></message>",
            json!({"type": "message", "kind": "groupchat", "body": "", "state": "active",
                "wants_receipt": true}),
        ),
        (
            "<message from='a@b' type='chat'>\
             <composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
            json!({"type": "typing", "from": "a@b", "kind": "chat", "state": "composing"}),
        ),
        // A chat state goes along with anything; only alone it is all there is.
        (
            "<message type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/>\
             <encrypted xmlns='e'/><store xmlns='urn:xmpp:hints'/></message>",
            json!({"type": "message", "kind": "chat", "state": "active", "xml": [
                "<encrypted xmlns='e'/>", "<store xmlns='urn:xmpp:hints'/>"]}),
        ),
        (
            "<message type='chat'><paused xmlns='http://jabber.org/protocol/chatstates'/>\
             <no-store xmlns='urn:xmpp:hints'/><origin-id xmlns='urn:xmpp:sid:0' id='1'/>\
             </message>",
            json!({"type": "typing", "kind": "chat", "state": "paused", "xml": [
                "<no-store xmlns='urn:xmpp:hints'/>",
                "<origin-id xmlns='urn:xmpp:sid:0' id='1'/>"]}),
        ),
        (
            "<message type='chat'><body>b</body>\
             <delay xmlns='urn:xmpp:delay' from='a@b' stamp='2099-01-01T00:00:00Z'/>\
             <delay xmlns='urn:xmpp:delay' from='e' stamp='2026-01-01T00:00:00Z'/></message>",
            json!({"type": "message", "kind": "chat", "body": "b",
                "delay": {"from": "e", "stamp": "2026-01-01T00:00:00Z"},
                "xml": [
                "<delay xmlns='urn:xmpp:delay' from='a@b' stamp='2099-01-01T00:00:00Z'/>"]}),
        ),
        (
            "<message from='a@b' id='2'><received xmlns='urn:xmpp:receipts' id='1'/></message>",
            json!({"type": "receipt", "from": "a@b", "message_id": "2", "kind": "normal",
                "received": "1"}),
        ),
        (
            "<message type='headline'><body>b</body>\
             <delay xmlns='urn:xmpp:delay' from='e' stamp='2026-01-01T00:00:00Z'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='d@e' id='77'/></message>",
            json!({"type": "message", "kind": "headline", "body": "b",
                "delay": {"from": "e", "stamp": "2026-01-01T00:00:00Z"},
                "stanza_id": {"id": "77", "by": "d@e"}}),
        ),
        (
            "<message><x:y xmlns:x='u' z='1'><x:a/></x:y><thread parent='p'>t</thread></message>",
            json!({"type": "message", "kind": "normal", "xml": [
                "<y xmlns='u' z='1'><a/></y>",
                "<thread xmlns='jabber:client' parent='p'>t</thread>"]}),
        ),
        (
            "<message from='d@e'><received xmlns='urn:xmpp:carbons:2'>\
             <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='S'/>\
             <message xmlns='jabber:client' from='a@b/c' to='d@e/f' type='chat'><body>hi</body>\
             </message></forwarded></received></message>",
            json!({"type": "carbon", "direction": "received", "stamp": "S",
                "message": {"from": "a@b/c", "to": "d@e/f", "kind": "chat", "body": "hi"}}),
        ),
        (
            "<message from='d@e'><sent xmlns='urn:xmpp:carbons:2'>\
             <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='a@b'>\
             <body>hi</body><u xmlns='v'/></message></forwarded></sent></message>",
            json!({"type": "carbon", "direction": "sent", "message": {"to": "a@b",
                "kind": "normal", "body": "hi", "xml": ["<u xmlns='v'/>"]}}),
        ),
        (
            "<message from='a@b' id='1' type='error'><body>lost</body><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>gone</text>\
             <blocked xmlns='urn:xmpp:blocking:errors'/></error></message>",
            json!({"type": "failure", "of": "message", "from": "a@b", "message_id": "1",
                "body": "lost", "problem": {"status": 503, "code": "service-unavailable",
                "class": "cancel", "detail": "gone",
                "xml": ["<blocked xmlns='urn:xmpp:blocking:errors'/>"]}}),
        ),
        (
            "<message type='error'/>",
            json!({"type": "failure", "of": "message",
                "problem": {"status": 400, "code": "undefined-condition"}}),
        ),
    ];
    for (stanza, wanted) in table {
        assert_eq!(event(stanza), Some(wanted), "{stanza}");
    }
}

#[test]
fn presences_become_events() {
    let table = [
        (
            "<presence from='a@b/c' to='d@e'/>",
            json!({"type": "presence", "from": "a@b/c", "to": "d@e", "show": "online"}),
        ),
        (
            "<presence><show>away</show><status>&amp;</status><priority>-7</priority></presence>",
            json!({"type": "presence", "show": "away", "status": "&", "priority": -7}),
        ),
        (
            "<presence><show>odd</show><priority>high</priority></presence>",
            json!({"type": "presence", "show": "online"}),
        ),
        (
            "<presence type='unavailable' from='a@b/c'><status>bye</status>\
             <delay xmlns='urn:xmpp:delay' stamp='S'/></presence>",
            json!({"type": "presence", "from": "a@b/c", "show": "offline", "status": "bye",
                "delay": {"stamp": "S"}}),
        ),
        (
            "<presence><c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' hash='h'/>\
             </presence>",
            json!({"type": "presence", "show": "online",
                "xml": ["<c xmlns='http://jabber.org/protocol/caps' node='n' ver='v' hash='h'/>"]}),
        ),
        (
            "<presence type='subscribe' from='a@b' id='9'><status>please</status></presence>",
            json!({"type": "subscription", "action": "subscribe", "from": "a@b",
                "presence_id": "9", "status": "please"}),
        ),
        (
            "<presence type='unsubscribed' from='a@b'/>",
            json!({"type": "subscription", "action": "unsubscribed", "from": "a@b"}),
        ),
        (
            "<presence type='error' from='a@b'><error type='wait'>\
             <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>",
            json!({"type": "failure", "of": "presence", "from": "a@b",
                "problem": {"status": 410, "code": "gone", "class": "wait"}}),
        ),
    ];
    for (stanza, wanted) in table {
        assert_eq!(event(stanza), Some(wanted), "{stanza}");
    }
    for other in [
        "<presence type='probe'/>",
        "<iq type='get' id='1'/>",
        "<message xmlns='u'/>",
    ] {
        assert_eq!(event(other), None, "{other}");
    }
}

#[test]
fn items_of_a_roster() {
    let query = "<query xmlns='jabber:iq:roster' ver='1'><item jid='a@b' name='A' \
                 subscription='both' approved='true'><group>g</group><group>h&lt;</group></item>\
                 <item jid='c@d' ask='subscribe'/><item jid='e@f' subscription='remove'/></query>";
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    write_items(&mut object, &Tree::parse(query.as_bytes()));
    object.end();
    assert_eq!(
        serde_json::from_slice::<Value>(&out).unwrap(),
        json!({"items": [
            {"jid": "a@b", "name": "A", "subscription": "both", "approved": true,
                "groups": ["g", "h<"]},
            {"jid": "c@d", "subscription": "none", "ask": "subscribe", "groups": []},
            {"jid": "e@f", "subscription": "remove", "groups": []}]})
    );
}

proptest! {
    /// The quick ways over text are as good as the thorough one.
    #[test]
    fn text_is_read_as_the_tree_reads_it(
        text in "([a-c'\"&<>\r\n\t ü]|<!\\[CDATA\\[x\\]\\]>){0,12}",
        close in "(body|body )",
    ) {
        let escaped = text.replace('&', "&amp;").replace("]]>", "]]&gt;");
        let stanza = format!("<message><body x='a>'>{escaped}</{close}></message>");
        let mut scanner = Scanner::new();
        let progress = scanner.next(stanza.as_bytes(), &StreamScope::standard(), &UNBOUNDED);
        if progress == Ok(Progress::Element(stanza.len())) {
            let body = scanner.element(stanza.as_bytes()).children().next().unwrap();
            prop_assert_eq!(text_of(body), body.tree().text());
        }
    }
}
