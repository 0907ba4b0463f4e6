use super::*;
use crate::base::limits::Limits;
use crate::stream::c2s::{Negotiation, Offer, Tls};
use crate::xmpp::xml::Tree;

const BOUNDS: Bounds = Bounds {
    octets_max: 1_000,
    depth_max: 8,
    attributes_max: 8,
    elements_max: 16,
};
const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.net' \
    from='a@example.net' xml:lang='de' version='1.0'/>";

/// What came, for comparing.
#[derive(Debug, PartialEq)]
enum Item {
    Open {
        to: Option<String>,
        from: Option<String>,
        lang: Option<String>,
        version: Option<(u32, u32)>,
    },
    Close,
    Element(Tree),
    Error(&'static str),
}

fn read(payload: &str) -> Item {
    let mut scanner = Scanner::new();
    let scope = StreamScope::framed(None);
    let own = |value: Option<std::borrow::Cow<'_, str>>| value.map(|value| value.into_owned());
    match receive(&mut scanner, payload.as_bytes(), &scope, &BOUNDS) {
        Ok(Received::Open(header)) => Item::Open {
            to: own(header.attr("to")),
            from: own(header.attr("from")),
            lang: own(header.lang()),
            version: header.version(),
        },
        Ok(Received::Close) => Item::Close,
        Ok(Received::Element(element)) => Item::Element(element.tree()),
        Err(error) => Item::Error(error.condition()),
    }
}

/// The payloads of the messages that our own octets become.
fn messages(items: &str) -> Vec<String> {
    let mut out = Vec::new();
    let taken = write_items(&mut out, items.as_bytes(), &mut Scanner::new());
    assert_eq!(taken, Ok(items.len()));
    payloads(&out)
}

fn payloads(mut frames: &[u8]) -> Vec<String> {
    let mut payloads = Vec::new();
    while let [0x81, length, rest @ ..] = frames {
        let (octets, rest) = match length {
            126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            octets => (usize::from(*octets), rest),
        };
        let (payload, rest) = rest.split_at(octets);
        payloads.push(String::from_utf8(payload.to_vec()).unwrap());
        frames = rest;
    }
    assert!(frames.is_empty());
    payloads
}

/// RFC 7395 sections 3.4 and 3.6, as clients write them.
#[test]
fn open_and_close_are_recognised() {
    let item = Item::Open {
        to: Some("example.net".to_owned()),
        from: Some("a@example.net".to_owned()),
        lang: Some("de".to_owned()),
        version: Some((1, 0)),
    };
    assert_eq!(read(OPEN), item);
    let bare = Item::Open {
        to: Some("example.net".to_owned()),
        from: None,
        lang: None,
        version: Some((0, 9)),
    };
    for payload in [
        "<open to=\"example.net\" xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\"></open>",
        "<f:open xmlns:f='urn:ietf:params:xml:ns:xmpp-framing' to='example.net' />",
        "<?xml version='1.0'?><open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.net'/>",
        "<open xmlns='urn:ietf:params:xml:ns:xmpp&#45;framing' to='example.net'/>",
    ] {
        assert_eq!(read(payload), bare, "{payload}");
    }
    for payload in [
        "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
        "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing' see-other-uri='wss://b.example/x'/>",
        "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'></close>",
    ] {
        assert_eq!(read(payload), Item::Close, "{payload}");
    }
    for payload in ["<open/>", "<close xmlns='jabber:client'/>"] {
        assert!(matches!(read(payload), Item::Element(_)), "{payload}");
    }
}

/// Nothing is inherited: an element means the same as on a stream that declares nothing.
#[test]
fn elements_are_documents_of_their_own() {
    let Item::Element(tree) = read(
        "<message xmlns='jabber:client' to='a'><body>x</body>\
         <stream:x xmlns:stream='urn:own'/></message>",
    ) else {
        panic!("an element is due");
    };
    assert!(tree.is("jabber:client", "message"));
    let Item::Element(tree) = read("<message/>") else {
        panic!("an element is due");
    };
    assert!(tree.is("", "message"), "it is no stanza");
    assert_eq!(
        read("<stream:features/>"),
        Item::Error("bad-namespace-prefix")
    );
    let with_declaration =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns='jabber:client'/>";
    assert!(matches!(read(with_declaration), Item::Element(_)));
}

/// SECURITY class 42: one message is one element, and nothing around it.
#[test]
fn what_is_not_one_element_is_refused() {
    for (payload, condition) in [
        ("", "not-well-formed"),
        (" ", "bad-format"),
        (" <presence/>", "bad-format"),
        ("<presence/> ", "bad-format"),
        ("<presence/>\n", "bad-format"),
        ("<presence/><presence/>", "bad-format"),
        ("<presence/>x", "bad-format"),
        ("x", "bad-format"),
        ("\u{feff}<presence/>", "bad-format"),
        ("<presence>", "not-well-formed"),
        ("<presence", "not-well-formed"),
        ("</presence>", "not-well-formed"),
        ("</stream:stream>", "not-well-formed"),
        ("<?xml version='1.0'?>", "not-well-formed"),
        ("<?xml version='1.1'?><presence/>", "not-well-formed"),
        ("<?xml version='1.0'", "not-well-formed"),
        (
            "<?xml version='1.0'?><?xml version='1.0'?><presence/>",
            "restricted-xml",
        ),
        ("<?xml version='1.0'?> <presence/> ", "bad-format"),
        (
            "<?xml version='1.0' encoding='latin1'?><presence/>",
            "unsupported-encoding",
        ),
        ("<?php ?><presence/>", "restricted-xml"),
        ("<!-- --><presence/>", "restricted-xml"),
        ("<!DOCTYPE x><presence/>", "restricted-xml"),
        (
            "<presence><?xml version='1.0'?></presence>",
            "restricted-xml",
        ),
        (
            "<stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='example.net' version='1.0'>",
            "bad-format",
        ),
        (
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'><x/></open>",
            "bad-format",
        ),
        (
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'>x</open>",
            "bad-format",
        ),
    ] {
        assert_eq!(read(payload), Item::Error(condition), "{payload}");
    }
    let large = format!("<presence id='{}'/>", "1".repeat(BOUNDS.octets_max));
    assert_eq!(read(&large), Item::Error("policy-violation"));
}

/// Whether elements read one by one or in any order, an earlier one leaves nothing behind.
#[test]
fn a_scanner_goes_on_after_a_refusal() {
    let mut scanner = Scanner::new();
    let scope = StreamScope::framed(Some("en"));
    for payload in ["<presence", "<a/><b/>", "<!-- -->", "<?xml version='1.0'?>"] {
        assert!(receive(&mut scanner, payload.as_bytes(), &scope, &BOUNDS).is_err());
        let right = receive(&mut scanner, b"<a/>", &scope, &BOUNDS);
        assert!(matches!(right, Ok(Received::Element(_))), "{payload}");
    }
}

#[test]
fn our_own_items_become_messages() {
    for (items, expected) in [
        (
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' id='a&apos;1' from='example.net' \
             to='a@example.net' version='1.0' xml:lang='en'>",
            &[
                "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='a&apos;1' \
               from='example.net' to='a@example.net' version='1.0' xml:lang='en'/>",
            ][..],
        ),
        (
            "</stream:stream>",
            &["<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"],
        ),
        (
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
            &[
                "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>\
               <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
            ],
        ),
        (
            "<stream:features/><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>eA==</success>",
            &[
                "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>",
                "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>eA==</success>",
            ],
        ),
        (
            "<iq id='1' type='result'/> <presence/>\n\
             <message to=' xmlns=' xmlns:x='urn:x'><x:y/><body>/></body></message>\
             <r xmlns='urn:xmpp:sm:3'/>",
            &[
                "<iq xmlns='jabber:client' id='1' type='result'/>",
                "<presence xmlns='jabber:client'/>",
                "<message xmlns='jabber:client' to=' xmlns=' xmlns:x='urn:x'><x:y/>\
                 <body>/></body></message>",
                "<r xmlns='urn:xmpp:sm:3'/>",
            ],
        ),
        (
            "<message xmlns='jabber:client'/><x:y xmlns:x='urn:x'/>",
            &["<message xmlns='jabber:client'/>", "<x:y xmlns:x='urn:x'/>"],
        ),
    ] {
        assert_eq!(messages(items), expected, "{items}");
    }
}

#[test]
fn an_item_that_is_not_whole_stays() {
    let items = "<iq id='1'/><message><body>x</body></message>";
    let whole = "<iq id='1'/>".len();
    for cut in 0..items.len() {
        let mut out = Vec::new();
        let taken = write_items(&mut out, &items.as_bytes()[..cut], &mut Scanner::new());
        let expected = if cut < whole { 0 } else { whole };
        assert_eq!(taken, Ok(expected), "cut at octet {cut}");
        assert_eq!(payloads(&out).len(), usize::from(expected > 0));
    }
    for wrong in ["</iq>", "text", "<!-- -->", "<x:y/>"] {
        assert!(write_items(&mut Vec::new(), wrong.as_bytes(), &mut Scanner::new()).is_err());
    }
}

/// What a stream writes for TCP means the same in messages, from `<open/>` to `<close/>`.
#[test]
fn a_negotiation_speaks_in_messages() {
    let (domains, limits) = (["example.net".to_owned()], Limits::default());
    let offer = Offer {
        domains: &domains,
        tls: Tls::Unavailable,
        limits: &limits,
        secret: &[7; 32],
        iterations: 4_096,
        stream_id: "s1",
        nonce: "n",
        caps: None,
    };
    let mut scanner = Scanner::new();
    let scope = StreamScope::framed(None);
    let Ok(Received::Open(header)) = receive(&mut scanner, OPEN.as_bytes(), &scope, &BOUNDS) else {
        panic!("the client opens a stream");
    };
    assert_eq!(scope.open(&header).lang(), Some("de"));
    let mut negotiation = Negotiation::clear();
    let mut out = Vec::new();
    negotiation.header(header, &offer, &mut out).unwrap();
    negotiation.close(StreamError::Reset, &offer, &mut out);
    let messages = messages(str::from_utf8(&out).unwrap());
    let [open, features, error, close] = &messages[..] else {
        panic!("{messages:?}");
    };
    let Item::Open { from, version, .. } = read(open) else {
        panic!("{open}");
    };
    assert_eq!(
        (from.as_deref(), version),
        (Some("example.net"), Some((1, 0)))
    );
    assert!(matches!(read(features), Item::Element(tree) if tree.is(ns::STREAMS, "features")));
    assert!(matches!(read(error), Item::Element(tree) if tree.is(ns::STREAMS, "error")));
    assert_eq!(read(close), Item::Close);
}
