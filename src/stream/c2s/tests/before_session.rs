//! Between authentication and a session.

use super::*;

fn refused(class: &str, condition: &str) -> String {
    format!(
        "<iq type='error' id='1'><error type='{class}'>\
         <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
}

fn failed(condition: &str) -> String {
    format!(
        "<failed xmlns='urn:xmpp:sm:3'>\
         <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    )
}

fn bind(content: &str) -> String {
    format!(
        "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         {content}</bind></iq>"
    )
}

#[test]
fn nothing_else_is_served_before_binding() {
    let mut talk = Talk::authenticated();
    let long = bind(&format!("<resource>{}</resource>", "x".repeat(1_024)));
    let prohibited = bind("<resource>a\u{7f}b</resource>");
    let ping = "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>";
    for (element, class, condition) in [
        (ping, "cancel", "not-allowed"),
        ("<iq type='set' id='1'/>", "modify", "bad-request"),
        (
            "<iq type='set' id='1'><a xmlns='x'/><b xmlns='x'/></iq>",
            "modify",
            "bad-request",
        ),
        (
            "<iq type='get' id='1' to='EXAMPLE.net'><ping xmlns='urn:xmpp:ping'/></iq>",
            "cancel",
            "not-allowed",
        ),
        (&prohibited, "modify", "bad-request"),
        (&long, "modify", "bad-request"),
    ] {
        let (out, step) = talk.hears(element).unwrap();
        assert_eq!(out, refused(class, condition), "{element}");
        assert!(matches!(step, Step::Continue), "{element}");
    }
    let (out, _) = talk
        .hears("<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
        .unwrap();
    assert!(out.starts_with("<iq type='error'><error type='modify'><bad-request "));
}

#[test]
fn stream_management_before_binding_fails_softly() {
    let mut talk = Talk::authenticated();
    for (content, condition) in [
        ("enable", "unexpected-request"),
        ("enable resume='maybe'", "bad-request"),
        ("r", "unexpected-request"),
        ("a h='1'", "unexpected-request"),
        ("a h='x'", "bad-request"),
        ("x", "feature-not-implemented"),
        ("resume h='1'", "bad-request"),
        ("resume previd='x'", "bad-request"),
        ("resume previd='x' h='abc'", "bad-request"),
        ("resume previd='x' h=''", "bad-request"),
        ("resume previd='x' h='-1'", "bad-request"),
        ("resume previd='x' h='+1'", "bad-request"),
        ("resume previd='x' h='4294967296'", "bad-request"),
    ] {
        let (out, step) = talk
            .hears(&format!("<{content} xmlns='urn:xmpp:sm:3'/>"))
            .unwrap();
        assert_eq!(out, failed(condition), "{content}");
        assert!(matches!(step, Step::Continue), "{content}");
    }
}

#[test]
fn binding_may_be_asked_for_again_after_an_error() {
    let mut talk = Talk::authenticated();
    for (content, expected) in [
        ("", None),
        ("<resource/>", None),
        ("<resource>r</resource>", Some("r")),
        ("<resource>&lt;R&amp;</resource>", Some("<R&")),
    ] {
        let (_, step) = talk.hears(&bind(content)).unwrap();
        assert!(
            matches!(&step, Step::Bind(r) if r.as_deref() == expected),
            "{step:?}"
        );
        assert!(talk.negotiation.is_waiting());
        let mut out = Vec::new();
        let full = StanzaError::new(StanzaCondition::ResourceConstraint);
        talk.negotiation.bound(Err(full), &mut out);
        assert_eq!(text(&out), refused("wait", "resource-constraint"));
    }
}

/// RFC 6120 section 7.1.
#[test]
fn stanzas_before_binding_end_the_stream() {
    let auth = auth("PLAIN", PLAIN_PW);
    for (element, expected) in [
        ("<message to='bob@example.net'/>", "not-authorized"),
        ("<presence/>", "not-authorized"),
        ("<iq type='result' id='1'/>", "not-authorized"),
        ("<iq type='error' id='1'/>", "not-authorized"),
        ("<iq id='1'/>", "not-authorized"),
        (
            "<iq type='get' id='1' to='bob@example.net'><ping xmlns='urn:xmpp:ping'/></iq>",
            "not-authorized",
        ),
        (&auth, "not-authorized"),
        (STARTTLS, "not-authorized"),
        ("<x xmlns='urn:unknown'/>", "unsupported-stanza-type"),
    ] {
        let (_, error) = Talk::authenticated().hears(element).unwrap_err();
        assert_eq!(error.condition(), expected, "{element}");
    }
}

#[test]
fn a_resumption_that_fails_leaves_the_way_to_binding_open() {
    let mut talk = Talk::authenticated();
    let resume = "<resume xmlns='urn:xmpp:sm:3' h='4294967295' previd='a&amp;b'/>";
    let (_, step) = talk.hears(resume).unwrap();
    assert!(
        matches!(&step, Step::Resume { previd, handled: u32::MAX } if &**previd == "a&b"),
        "{step:?}"
    );
    assert_eq!(
        talk.negotiation.account().unwrap().as_str(),
        "alice@example.net"
    );
    let mut out = Vec::new();
    talk.negotiation
        .not_resumed(StanzaCondition::ItemNotFound, Some(7), &mut out);
    assert_eq!(
        text(&out),
        "<failed xmlns='urn:xmpp:sm:3' h='7'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    let bind = "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    assert!(matches!(talk.hears(bind).unwrap().1, Step::Bind(None)));
}
