use super::*;
use crate::xmpp::xml::Tree;

const BOUNDS: Bounds = Bounds {
    octets_max: 2_000,
    depth_max: 8,
    attributes_max: 32,
    elements_max: 16,
};

fn refused(payload: &str) -> Option<Condition> {
    let read = read(payload.as_bytes(), &mut Scanner::new(), &BOUNDS);
    read.err()
}

/// The elements as the engine scans them, or the condition with which the stream ends.
fn elements(payload: &str) -> Result<Vec<Tree>, &'static str> {
    let mut scanner = Scanner::new();
    let request = read(payload.as_bytes(), &mut scanner, &BOUNDS).unwrap();
    assert_eq!(request.clone().into_owned(), request);
    let mut trees = Vec::new();
    let mut rest = &*request.elements;
    while !rest.is_empty() {
        scanner.reset();
        let progress = scanner.next(rest, &StreamScope::standard(), &BOUNDS);
        let taken = match progress.map_err(crate::xmpp::error::StreamError::condition)? {
            Progress::Blank(taken) => taken,
            Progress::Element(taken) => {
                trees.push(scanner.element(rest).tree());
                taken
            }
            other => panic!("{other:?}"),
        };
        rest = &rest[taken..];
    }
    Ok(trees)
}

/// Every attribute, decoded and of its kind; those of XMPP by their namespace.
#[test]
fn a_wrapper_is_read() {
    let payload = "<?xml version='1.0' encoding='utf-8'?>\n<b:body \
        xmlns:b='http://jabber.org/protocol/httpbind' rid=' 12 ' sid='a&apos;b' to='c' \
        from=\"d>'\" wait='60' hold='1' ver='1.11' content='text/plain' xml:lang='de' ack='1' \
        key='k' newkey='n' x:version='1.0' x:restart='false' xmlns:x='urn:xmpp:xbosh' stream='s' \
        y:version='9' y:restart='true' xmlns:y='urn:y' route='xmpp:e:1' restart='true'/>\r\n";
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    let expected = Request {
        rid: 12,
        sid: text("a'b"),
        purpose: Purpose::Exchange,
        header: Opening {
            to: text("c"),
            from: text("d>'"),
            lang: text("de"),
            version: text("1.0"),
        },
        wait: Some(60),
        hold: Some(1),
        ver: Some((1, 11)),
        ack: Some(1),
        content: text("text/plain"),
        key: text("k"),
        newkey: text("n"),
        elements: Cow::Borrowed(b""),
    };
    let request = read(payload.as_bytes(), &mut Scanner::new(), &BOUNDS);
    assert_eq!(request, Ok(expected));
    let purposes = [
        ("", Purpose::Exchange),
        ("type='error'", Purpose::Exchange),
        ("type='terminate' pause='3'", Purpose::Terminate),
        ("pause='3'", Purpose::Pause(Duration::from_secs(3))),
        (
            "p:restart='true' xmlns:p='urn:xmpp:&#120;bosh'",
            Purpose::Restart,
        ),
    ];
    for (attributes, purpose) in purposes {
        let payload = format!("<body xmlns='{HTTPBIND}' rid='1' {attributes}></body >");
        let request = read(payload.as_bytes(), &mut Scanner::new(), &BOUNDS).unwrap();
        assert_eq!(request.purpose, purpose, "{attributes}");
        assert!(request.is_empty());
    }
}

/// The elements stand alone in the scope of a stream: their namespaces are their own, or of a
/// client where old ones leave it out.
#[test]
fn elements_are_those_of_a_stream() {
    let stanza = "<message><body>1 &gt; <![CDATA[</body>]]></body></message>";
    for body in [
        format!("<body xmlns='{HTTPBIND}' rid='1'>{stanza} \n <iq/></body>"),
        format!(
            "<b:body xmlns:b='{HTTPBIND}' rid='1' xmlns='jabber:client'>{stanza}<iq/></b:body>"
        ),
        format!(
            "<body xmlns='{HTTPBIND}' rid='1'><message xmlns='jabber:client'><body>1 &gt; \
             <![CDATA[</body>]]></body></message><s:iq xmlns:s='jabber:client'/></body>"
        ),
    ] {
        let trees = elements(&body).unwrap();
        let [message, iq] = &trees[..] else {
            panic!("{trees:?}");
        };
        assert!(
            message.is(ns::CLIENT, "message") && iq.is(ns::CLIENT, "iq"),
            "{body}"
        );
        assert_eq!(
            message.child(ns::CLIENT, "body").unwrap().text(),
            "1 > </body>"
        );
    }
    let features = format!(
        "<body xmlns='{HTTPBIND}' rid='1' xmlns:stream='{}'><stream:error/></body>",
        ns::STREAMS
    );
    assert!(elements(&features).unwrap()[0].is(ns::STREAMS, "error"));
    // Prefixes of the wrapper are not theirs, and no stream begins or ends inside.
    let cases = [
        ("<p:a/>", "bad-namespace-prefix"),
        ("<a p:b=''/>", "bad-namespace-prefix"),
        (
            "<s:stream xmlns:s='http://etherx.jabber.org/streams'/>",
            "bad-format",
        ),
    ];
    for (content, condition) in cases {
        let payload = format!("<body xmlns='{HTTPBIND}' xmlns:p='urn:p' rid='1'>{content}</body>");
        assert_eq!(elements(&payload), Err(condition), "{content}");
    }
}

/// Section 5 and the bounds: whatever is not one wrapper with elements in it.
#[test]
fn what_is_no_wrapper_is_refused() {
    let wrapped = |content: &str| format!("<body xmlns='{HTTPBIND}' rid='1'>{content}</body>");
    let bad = [
        String::new(),
        "rid=1".into(),
        "<body rid='1'/>".into(),
        "<body xmlns='jabber:client' rid='1'/>".into(),
        format!("<html xmlns='{HTTPBIND}' rid='1'/>"),
        format!("<body xmlns='{HTTPBIND}'/>"),
        format!("<body xmlns='{HTTPBIND}' rid='1'>"),
        format!("<body xmlns='{HTTPBIND}' rid='1' rid='2'/>"),
        format!("<b:body xmlns:b='{HTTPBIND}' rid='1'><message/></b:body>"),
        format!("<b:body xmlns:b='{HTTPBIND}' xmlns='urn:x' rid='1'><a/></b:body>"),
        format!("<body xmlns='{HTTPBIND}' xmlns:stream='urn:x' rid='1'/>"),
        format!("<stream:stream xmlns:stream='{}'>", ns::STREAMS),
        wrapped("text"),
        wrapped("&#32;"),
        wrapped("<![CDATA[x]]>"),
        wrapped("<!-- -->"),
        wrapped("<?a b?>"),
        wrapped("<a>"),
        wrapped("<p:a/>"),
        wrapped("&e;"),
        wrapped("\u{1}"),
        wrapped("") + &wrapped(""),
        wrapped("") + "x",
        "<!DOCTYPE body>".to_owned() + &wrapped(""),
        "<?xml version='1.0'?><?xml version='1.0'?>".to_owned() + &wrapped(""),
        "<?xml version='1.0' encoding='latin1'?>".to_owned() + &wrapped(""),
    ];
    for payload in bad {
        assert_eq!(refused(&payload), Some(Condition::BadRequest), "{payload}");
    }
    assert_eq!(refused(&format!(" \n{}\n ", wrapped(" "))), None);
    let deep = "<a>".repeat(9) + &"</a>".repeat(9);
    for content in [&deep, &"<a/>".repeat(17), &" ".repeat(2_000)] {
        assert_eq!(refused(&wrapped(content)), Some(Condition::PolicyViolation));
    }
    assert_eq!(
        read(b"<body xmlns='\xff'/>", &mut Scanner::new(), &BOUNDS),
        Err(Condition::BadRequest)
    );
}

#[test]
fn a_beginning_names_its_session() {
    let cut = "<message><body>hello";
    let table = [
        (
            format!("<body xmlns='{HTTPBIND}' rid='1' sid='s'>{cut}"),
            Some("s"),
        ),
        (
            format!("<?xml version='1.0'?>\n<b:body sid=\"s\" xmlns:b='{HTTPBIND}' rid='1'>{cut}"),
            Some("s"),
        ),
        (
            format!(" <body xmlns='{HTTPBIND}' rid='1' key='a>b' sid='s' />"),
            Some("s"),
        ),
        (
            format!("<body xmlns='{HTTPBIND}' rid='1' key='a sid=\"s\" '>{cut}"),
            None,
        ),
        (format!("<body xmlns='{HTTPBIND}' rid='1'>{cut}"), None),
        (format!("<body xmlns='{HTTPBIND}' rid='1' sid='s"), None),
        (
            format!("<body xmlns='{HTTPBIND}' rid='1' x='<body sid=s>"),
            None,
        ),
        ("<body rid='1' sid='s'>".to_owned(), None),
        ("text".to_owned(), None),
        (String::new(), None),
    ];
    for (text, sid) in table {
        assert_eq!(sid_of(text.as_bytes()).as_deref(), sid, "{text}");
    }
}
