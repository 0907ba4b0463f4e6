use super::*;
use crate::transport::bosh::ContentType;

fn wrapped(items: &str) -> (Wrapped, String) {
    let mut out = Vec::new();
    let wrapped = wrap(&mut out, items.as_bytes(), &mut Scanner::new()).unwrap();
    (wrapped, String::from_utf8(out).unwrap())
}

/// Each item says what it had from the header, and no more.
#[test]
fn items_become_payloads() {
    let cases = [
        (
            "<message to='a'><body>x</body></message>",
            "<message xmlns='jabber:client' to='a'><body>x</body></message>",
        ),
        ("<iq/>", "<iq xmlns='jabber:client'/>"),
        ("<r xmlns='urn:xmpp:sm:3'/>", "<r xmlns='urn:xmpp:sm:3'/>"),
        ("<a xmlns='urn:a'><b/></a>", "<a xmlns='urn:a'><b/></a>"),
        ("<p:a xmlns:p='urn:p'/>", "<p:a xmlns:p='urn:p'/>"),
        (
            " \n<iq/> <iq/> ",
            "<iq xmlns='jabber:client'/><iq xmlns='jabber:client'/>",
        ),
        ("<stream:features/>", "<stream:features/>"),
    ];
    for (items, expected) in cases {
        let (made, content) = wrapped(items);
        assert_eq!(content, expected);
        assert_eq!(made.taken, items.len());
        assert_eq!((made.ending, made.identity), (None, None));
        assert_eq!(made.uses_stream, items.contains("stream:"));
    }
    let (made, content) = wrapped("<iq/><message><bo");
    assert_eq!((made.taken, &*content), (5, "<iq xmlns='jabber:client'/>"));
    let (made, _) =
        wrapped("<message><body>&lt;stream:error><![CDATA[<stream:a/>]]></body></message>");
    assert!(!made.uses_stream);
    let mut out = Vec::new();
    for items in ["text", "<a></b>", "<stream:stream>"] {
        assert!(wrap(&mut out, items.as_bytes(), &mut Scanner::new()).is_err());
    }
}

/// The header gives its names, the end ends; nothing behind it is looked at.
#[test]
fn a_stream_around_items() {
    let header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' id='I&amp;D' from='a'>";
    let (made, content) = wrapped(&format!("{header}<stream:features/>"));
    let identity = Identity {
        id: Some("I&D".into()),
        from: Some("a".into()),
    };
    assert_eq!(made.identity, Some(identity));
    assert_eq!(content, "<stream:features/>");
    let (made, content) = wrapped("<iq/></stream:stream> anything");
    assert_eq!((made.taken, made.ending), (21, Some(Ending::Closed)));
    assert_eq!(content, "<iq xmlns='jabber:client'/>");
}

/// XEP-0124 section 17.2, XEP-0206 section 7: an error of the stream ends the session, and is told
/// in full.
#[test]
fn errors_of_the_stream_are_conditions() {
    let cases = [
        (StreamError::HostUnknown, Condition::HostUnknown),
        (StreamError::HostGone, Condition::HostGone),
        (
            StreamError::ImproperAddressing,
            Condition::ImproperAddressing,
        ),
        (StreamError::SystemShutdown, Condition::SystemShutdown),
        (StreamError::Conflict, Condition::RemoteStreamError),
        (
            StreamError::PolicyViolation("x"),
            Condition::RemoteStreamError,
        ),
    ];
    for (error, condition) in cases {
        let mut items = b"<message/>".to_vec();
        error.write(&mut items);
        let written = String::from_utf8(items.clone()).unwrap();
        items.extend_from_slice(b"</stream:stream>");
        let (made, content) = wrapped(str::from_utf8(&items).unwrap());
        assert_eq!(made.taken, items.len());
        assert_eq!(made.ending, Some(Ending::Failed(condition)));
        assert!(made.uses_stream);
        assert_eq!(
            content,
            written.replace("<message", "<message xmlns='jabber:client'")
        );
    }
}

/// Section 17.2: the words on the wire.
#[test]
fn conditions_end_a_session() {
    let cases = [
        (Condition::BadRequest, "bad-request"),
        (Condition::HostGone, "host-gone"),
        (Condition::HostUnknown, "host-unknown"),
        (Condition::ImproperAddressing, "improper-addressing"),
        (Condition::InternalServerError, "internal-server-error"),
        (Condition::ItemNotFound, "item-not-found"),
        (Condition::OtherRequest, "other-request"),
        (Condition::PolicyViolation, "policy-violation"),
        (Condition::RemoteStreamError, "remote-stream-error"),
        (Condition::SystemShutdown, "system-shutdown"),
        (Condition::UndefinedCondition, "undefined-condition"),
    ];
    for (condition, word) in cases {
        let mut out = Vec::new();
        condition.write(&mut out);
        let expected = format!(
            "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' \
             condition='{word}'/>"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

/// SECURITY class 49: whatever type is asked for, no answer is a page.
#[test]
fn class_49_answers_are_never_pages() {
    for asked in [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "image/svg+xml",
        "",
        "x\r\nEvil: 1",
    ] {
        assert_eq!(
            ContentType::choose(asked).as_str(),
            "text/xml; charset=utf-8"
        );
    }
    let plain = ContentType::choose("Text/Plain; charset=latin1");
    assert_eq!(plain.as_str(), "text/plain; charset=utf-8");
}
