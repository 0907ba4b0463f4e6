use super::*;
use crate::xmpp::xml::Tree;

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";

pub(super) const BOUNDS: Bounds = Bounds {
    octets_max: 100_000,
    depth_max: 64,
    attributes_max: 64,
    elements_max: 4_096,
};

/// What a stream gave, item by item.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Header(Vec<(String, String)>),
    Element {
        tree: Tree,
        content: String,
        children: Vec<String>,
        inherited: Vec<String>,
        text: bool,
    },
    End,
    Error(&'static str),
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// Feeds pieces as a link would: what is not consumed stays, in front of the next piece.
pub(super) fn feed_with<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    bounds: &Bounds,
    mut found: impl FnMut(Progress, Element<'_>),
) -> Result<(), StreamError> {
    let mut scanner = Scanner::new();
    let mut scope = StreamScope::closed();
    let mut buffer: Vec<u8> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() {
            let progress = scanner.next(&buffer, &scope, bounds);
            let used = match progress {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Blank(used) | Progress::Element(used)) => used,
                Ok(Progress::Header(used)) => {
                    scope = scope.open(&scanner.header(&buffer));
                    used
                }
                Ok(Progress::End(used)) => {
                    scope = StreamScope::closed();
                    used
                }
                Err(error) => {
                    assert_eq!(scanner.next(&buffer, &scope, bounds), Err(error));
                    return Err(error);
                }
            };
            found(progress?, scanner.element(&buffer));
            buffer.drain(..used);
        }
    }
    Ok(())
}

fn feed<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, bounds: &Bounds) -> Vec<Item> {
    let mut items = Vec::new();
    let outcome = feed_with(pieces, bounds, |progress, element| match progress {
        Progress::Header(_) => {
            let attrs = element.attrs();
            let attrs = attrs.map(|a| (text(a.name), a.value().into_owned()));
            items.push(Item::Header(attrs.collect()));
        }
        Progress::Element(_) => items.push(item(element)),
        Progress::End(_) => items.push(Item::End),
        Progress::Incomplete | Progress::Blank(_) => {}
    });
    items.extend(outcome.err().map(|error| Item::Error(error.condition())));
    items
}

fn item(element: Element<'_>) -> Item {
    let children = element.children().map(|child| {
        assert_eq!(
            element.content().get(child.start..child.end()),
            Some(child.octets)
        );
        let tree = child.tree();
        let (namespace, local) = (text(child.namespace), text(child.local));
        assert!(tree.is(&namespace, &local), "{tree:?}");
        for attr in child
            .attrs()
            .filter(|a| !a.is_xmlns() && !a.name.contains(&b':'))
        {
            assert_eq!(tree.attr(&text(attr.name)), Some(&*attr.value()));
        }
        format!("{{{namespace}}}{local}")
    });
    let children = children.collect();
    let tree = element.tree();
    assert!(tree.is(element.namespace(), element.local()));
    Item::Element {
        tree,
        content: String::from_utf8(element.content().to_vec()).unwrap(),
        children,
        inherited: element
            .inherited()
            .map(|(p, n)| format!("{p}={n}"))
            .collect(),
        text: element.has_text(),
    }
}

/// The items of a stream with the usual header.
fn stream(content: impl AsRef<[u8]>) -> Vec<Item> {
    let whole = [HEADER.as_bytes(), content.as_ref()].concat();
    let mut items = feed([&*whole], &BOUNDS);
    assert!(matches!(items.remove(0), Item::Header(_)));
    items
}

fn error_of(content: impl AsRef<[u8]>) -> Option<&'static str> {
    match stream(content).pop() {
        Some(Item::Error(condition)) => Some(condition),
        _ => None,
    }
}

const RICH: &str = "<?xml version=\"1.0\" encoding='utf-8'?>\n \
    <stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x&amp;y' xml:lang='de' \
    to='localhost' version='1.0'> \r\n\
    <message to='juliet@example.net' id=\"a'b\" type = 'chat' xml:lang='en'>\
    <body>Ünï&lt;cö&#x1F600;de \
    ]] > 😀</body><x:y x:z='1' z='2'/><html xmlns='urn:h'><p a='1&#10;2\t3'>t<br/>u</p></html>\
    <![CDATA[a]]>]]b<a>]]&gt;</a></message>\n\
    <iq id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq><presence/>\
    <stream:error><p:q xmlns:p='urn:&#112;'><p:r xmlns:p='urn:q'/></p:q></stream:error>\
    <é:ü xmlns:é='urn:é' é:ö='ä'/>\
    <r xmlns='urn:xmpp:sm:3'/><message><body/></message ></stream:stream >";

#[test]
fn items_do_not_depend_on_where_tcp_cuts() {
    let bytes = RICH.as_bytes();
    let whole = feed([bytes], &BOUNDS);
    assert_eq!(whole.len(), 9, "{whole:#?}");
    assert_eq!(whole.last(), Some(&Item::End));
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(feed([head, tail], &BOUNDS), whole, "cut at octet {cut}");
    }
    assert_eq!(feed(bytes.chunks(1), &BOUNDS), whole, "octet by octet");
}

/// Where each element is a document of its own it inherits nothing, and what may be in front of it
/// is told apart (RFC 7395 section 3.3.3).
#[test]
fn framed_elements_do_not_depend_on_cuts() {
    let declaration = "<?xml version='1.0'?>\n";
    let message = "<m:message xmlns:m='jabber:client' to='a'><stream:x \
                   xmlns:stream='urn:x'>é</stream:x><body/></m:message>";
    let whole = [declaration, message].concat();
    let scope = StreamScope::framed(Some("de"));
    for cut in 0..=whole.len() {
        let mut scanner = Scanner::new();
        let mut progress = Vec::new();
        let mut at = 0;
        for end in [cut, whole.len()] {
            while at < end {
                match scanner.next(&whole.as_bytes()[at..end], &scope, &BOUNDS) {
                    Ok(Progress::Incomplete) => break,
                    Ok(Progress::Blank(taken)) => at += taken,
                    Ok(Progress::Element(taken)) => {
                        progress.push(item(scanner.element(&whole.as_bytes()[at..])));
                        at += taken;
                    }
                    other => panic!("{other:?} at a cut of {cut}"),
                }
            }
        }
        let [Item::Element { tree, children, .. }] = &progress[..] else {
            panic!("{progress:?}");
        };
        assert!(tree.is("jabber:client", "message") && at == whole.len());
        assert_eq!(children[..], ["{urn:x}x", "{}body"]);
    }
}

/// SECURITY classes 1 to 5 and 8: refused with this condition, wherever the octets are cut.
#[test]
fn what_is_no_xml_for_us_is_refused() {
    let restricted = [
        "<!DOCTYPE l [<!ENTITY a 'lol'><!ENTITY b '&a;&a;'>]><message><body>&b;</body></message>",
        "<message><!DOCTYPE l></message>",
        "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
        "<message><body>&xxe;</body></message>",
        "<message to='&xxe;'/>",
        "<message><body>&averyverylongname;</body></message>",
        "<!-- x -->",
        "<message><!-- x --></message>",
        "<?php echo ?>",
        "<message><?php ?></message>",
        "<?xml version='1.0'?>",
        "<message><?xml version='1.0'?></message>",
    ];
    let not_well_formed = [
        "<message><body>&#0;</body></message>",
        "<message to='&#x1;'/>",
        "<message>\u{1}</message>",
        "<message to='\u{1}'/>",
        "<message>\u{ffff}</message>",
        "<message a='\u{fffe}'/>",
        "<message>&#xffff;</message>",
        "<message>&#xD800;</message>",
        "<message>&#x110000;</message>",
        "<message>&#xffffffffff;</message>",
        "<message>& </message>",
        "<message>&;</message>",
        "<message>&#;</message>",
        "<message>&#X41;</message>",
        "<message>]]></message>",
        "<message><![CDATA[]]]]>]]></message>",
        "<message><![CDATA[\u{1}]]></message>",
        "<message><![CDATX[",
        "<message to='<'/>",
        "<message to='a' to='a'/>",
        "<message xmlns:a='urn:a' xmlns:b='urn:a' a:x='' b:x=''/>",
        "<message xmlns:a='urn:a' xmlns:a='urn:a'/>",
        "<message xmlns='jabber:client' xmlns='jabber:client'/>",
        "<message xmlns:xml='urn:x'/>",
        "<message xmlns:x='http://www.w3.org/XML/1998/namespace'/>",
        "<message xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<message xmlns:x='http://www.w3.org/2000&#47;xmlns/'/>",
        "<message xmlns:xmlns='urn:x'/>",
        "<message xmlns:x=''/>",
        "<xmlns:message/>",
        "<message></Message>",
        "<message><body></message></body>",
        "<message a=b/>",
        "<message a/>",
        "<message a='1'b='2'/>",
        "<message / >",
        "< message/>",
        "<message></ message>",
        "<1/>",
        "<a:1 xmlns:a='urn:a'/>",
        "<a: xmlns:a='urn:a'/>",
        "<:a/>",
        "<a:b:c xmlns:a='urn:a'/>",
        "<a\u{d7}/>",
        "</message>",
    ];
    let undeclared = [
        "<x:message/>",
        "<message x:a=''/>",
        "<message><a xmlns:x='u'/><x:b/></message>",
    ];
    let bad_format = [
        "text",
        "&lt;",
        "<![CDATA[x]]>",
        HEADER.trim_start_matches("<?xml version='1.0'?>"),
    ];
    for (condition, cases) in [
        ("restricted-xml", &restricted[..]),
        ("not-well-formed", &not_well_formed[..]),
        ("bad-namespace-prefix", &undeclared[..]),
        ("bad-format", &bad_format[..]),
    ] {
        for case in cases {
            assert_refused(case.as_bytes(), condition);
        }
    }
    for octets in [
        &b"\xc0\x80"[..],
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\x80",
        b"\xc3(",
        b"\0",
        b"\x0b",
        b"\x1f",
    ] {
        assert_refused(
            &[b"<message><body>", octets, b"</body></message>"].concat(),
            "not-well-formed",
        );
        assert_refused(
            &[b"<message to='", octets, b"'/>"].concat(),
            "not-well-formed",
        );
        assert_refused(&[b"<message", octets, b"/>"].concat(), "not-well-formed");
        assert_refused(
            &[b"<message><![CDATA[", octets, b"]]></message>"].concat(),
            "not-well-formed",
        );
    }
}

/// Other characters pass as they are (class 58).
#[test]
fn text_survives() {
    let text =
        "e\u{301}\u{200d}\u{202e}\u{fdd0}\u{1fffe}\u{7f}\u{85}\u{2028}\u{feff}\u{10ffff}]] >";
    let Some(Item::Element {
        tree,
        content,
        text: has_text,
        ..
    }) = stream(format!("<message>{text}</message>")).pop()
    else {
        panic!("refused");
    };
    assert_eq!(
        (tree.text().as_str(), content.as_str(), has_text),
        (text, text, true)
    );
}

#[test]
fn headers_are_told_apart() {
    let ns = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";
    for (header, condition) in [
        (
            format!(" <?xml version='1.0'?><stream:stream {ns}>"),
            "restricted-xml",
        ),
        (
            format!("<?xml version='1.1'?><stream:stream {ns}>"),
            "not-well-formed",
        ),
        (format!("<?xml?><stream:stream {ns}>"), "restricted-xml"),
        (
            format!("<?xml encoding='UTF-8'?><stream:stream {ns}>"),
            "not-well-formed",
        ),
        (
            format!("<?xml version='1.0' encoding='UTF-16'?><stream:stream {ns}>"),
            "unsupported-encoding",
        ),
        (
            format!("<?xml version='1.0' encoding=\"latin1\"?><stream:stream {ns}>"),
            "unsupported-encoding",
        ),
        (
            format!("<?xml version='1.0' standalone='maybe'?><stream:stream {ns}>"),
            "not-well-formed",
        ),
        (
            format!("<?xml version='1.0'encoding='UTF-8'?><stream:stream {ns}>"),
            "not-well-formed",
        ),
        (
            format!("<?xml version='1.0' {}?>", " ".repeat(300)),
            "not-well-formed",
        ),
        (format!("<!-- --><stream:stream {ns}>"), "restricted-xml"),
        (
            format!("<!DOCTYPE a><stream:stream {ns}>"),
            "restricted-xml",
        ),
        (format!("x<stream:stream {ns}>"), "not-well-formed"),
        (format!("\u{feff}<stream:stream {ns}>"), "not-well-formed"),
        (format!("<stream:stream {ns}/>"), "bad-format"),
        (format!("<stream:features {ns}>"), "bad-format"),
        (
            "<stream:stream xmlns='jabber:client'>".to_owned(),
            "bad-namespace-prefix",
        ),
        (
            "<stream xmlns='jabber:client'>".to_owned(),
            "invalid-namespace",
        ),
        (
            "<stream:stream xmlns:stream='http://wrong.example/'>".to_owned(),
            "invalid-namespace",
        ),
        ("</stream:stream>".to_owned(), "not-well-formed"),
        ("GET / HTTP/1.1\r\n".to_owned(), "not-well-formed"),
    ] {
        for pieces in [header.len(), 1] {
            let items = feed(header.as_bytes().chunks(pieces), &BOUNDS);
            assert_eq!(items, [Item::Error(condition)], "{header}");
        }
    }
    for header in [
        format!("<?xml version='1.0' encoding='utf-8' standalone='yes' ?>\n<stream:stream {ns}>"),
        format!("\n <stream:stream {ns}>"),
        "<stream xmlns='http://etherx.jabber.org/streams'>".to_owned(),
        format!("<x:stream xmlns:x='http://etherx.jabber.org&#x2f;streams' {ns}>"),
    ] {
        let items = feed(header.as_bytes().chunks(1), &BOUNDS);
        assert!(matches!(items[..], [Item::Header(_)]), "{header} {items:?}");
    }
}

/// SECURITY classes 9 and 10: each bound holds while the item is incomplete.
#[test]
fn bounds_hold_for_what_never_ends() {
    let policy = |content: String| assert_refused(content.as_bytes(), "policy-violation");
    policy(format!("<m>{}", "<a>".repeat(65)));
    policy(format!("<m>{}", "<a/>".repeat(4_097)));
    let many = |n: usize| (0..n).map(|i| format!(" a{i}=''")).collect::<String>();
    policy(format!("<m{}", many(65)));
    policy(format!("<m><x{}", many(65)));
    policy(format!(
        "<m>{}",
        (0..300)
            .map(|i| format!("<a xmlns:p{}='u'{}>", i, prefixes(i)))
            .collect::<String>()
    ));
    let endless = "x".repeat(BOUNDS.octets_max);
    for start in [
        "<",
        "<m ",
        "<m a='",
        "<m>",
        "<m></",
        "<m a=",
        "<m><![CDATA[",
    ] {
        let content = format!("{start}{endless}");
        let condition = if start == "<m></" || start == "<m a=" {
            "not-well-formed"
        } else {
            "policy-violation"
        };
        assert_eq!(error_of(&content), Some(condition), "{start}");
    }
    assert_eq!(
        error_of(format!("<m{}", " ".repeat(BOUNDS.octets_max))),
        Some("policy-violation")
    );
    // White space between elements is no element.
    assert_eq!(error_of(" ".repeat(2 * BOUNDS.octets_max)), None);
    let spaces = feed([&*vec![b' '; BOUNDS.octets_max + 1]], &BOUNDS);
    assert_eq!(spaces, [Item::Error("policy-violation")]);

    let exact = format!("<m>{}</m>", "x".repeat(BOUNDS.octets_max - 7));
    assert_eq!(error_of(&exact), None);
    assert_eq!(
        error_of(exact.replace("<m>", "<m >")),
        Some("policy-violation")
    );
    assert_eq!(
        error_of(format!("<m>{}{}</m>", "<a>".repeat(64), "</a>".repeat(64))),
        None
    );
    assert_eq!(
        error_of(format!("<m{}>{}</m>", many(64), "<a/>".repeat(4_096))),
        None
    );
}

fn prefixes(level: usize) -> String {
    (0..30)
        .map(|i| format!(" xmlns:q{level}x{i}='u'"))
        .collect()
}

/// A prefix that only the header declares must be declared again elsewhere; one that the element
/// declares need not.
#[test]
fn inherited_prefixes_are_named() {
    let items = feed([RICH.as_bytes()], &BOUNDS);
    let inherited: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Element { inherited, .. } => Some(inherited.join(" ")),
            _ => None,
        })
        .collect();
    let stream = "stream=http://etherx.jabber.org/streams";
    assert_eq!(inherited, ["x=urn:x&y", "", "", stream, "", "", ""]);
    let items = self::stream("<m><stream:a/><stream:b xmlns:stream='urn:s'/></m>");
    let Some(Item::Element {
        inherited,
        children,
        ..
    }) = items.first()
    else {
        panic!("{items:?}");
    };
    assert_eq!(inherited, &[stream]);
    assert_eq!(
        children,
        &["{http://etherx.jabber.org/streams}a", "{urn:s}b"]
    );
}

/// Reads input of n and of 2n octets, one by one: the second must not take four times as long. The
/// work is counted, not timed: each step's share of looked-at octets is bounded.
#[test]
fn octets_are_looked_at_once() {
    for unit in ["x", "<a b='c'>&#65;</a>", "ü", "<a/>", " "] {
        let body = unit.repeat(20_000 / unit.len());
        for (start, end) in [("<m>", "</m>"), ("<m><![CDATA[", "]]></m>")] {
            let content = format!("{start}{body}{end}");
            let mut scanner = Scanner::new();
            let scope = StreamScope::standard();
            let bounds = Bounds {
                elements_max: 100_000,
                ..BOUNDS
            };
            let mut reached = 0;
            for length in 1..=content.len() {
                let progress = scanner.next(&content.as_bytes()[..length], &scope, &bounds);
                if length < content.len() {
                    assert_eq!(progress, Ok(Progress::Incomplete), "{unit}");
                    // Never back by more than one introducer, reference or character.
                    assert!(
                        scanner.at >= reached && length - scanner.at <= 16,
                        "{unit} {length}"
                    );
                    reached = scanner.at;
                } else {
                    assert_eq!(progress, Ok(Progress::Element(length)));
                }
            }
        }
    }
}

/// Deep input must not overflow the stack, whatever the bound.
#[test]
fn depth_costs_no_stack() {
    let depth = 100_000;
    let bounds = Bounds {
        octets_max: usize::MAX,
        depth_max: depth,
        elements_max: depth,
        ..BOUNDS
    };
    let content = format!("<m>{}{}</m>", "<a>".repeat(depth), "</a>".repeat(depth));
    let mut scanner = Scanner::new();
    let scope = StreamScope::standard();
    let progress = scanner.next(content.as_bytes(), &scope, &bounds);
    assert_eq!(progress, Ok(Progress::Element(content.len())));
    let mut written = Vec::new();
    let mut tree = Tree::new("u", "a");
    for _ in 0..depth {
        tree = Tree::new("u", "a").with_child(tree);
    }
    tree.write(&mut written);
    assert_eq!(
        written.len(),
        "<a xmlns='u'></a>".len() + (depth - 1) * 7 + 4
    );
    drop(tree);
}

#[test]
fn heads_and_children_are_read_without_a_tree() {
    let octets = "<message xmlns:s='urn:s' to = \"a&amp;b\" s:to='x' xml:lang='de'><x a='1\t2' \
        xmlns='urn:xmpp:sid&#58;0'/><s:y > </s:y></message>";
    let mut scanner = Scanner::new();
    let scope = StreamScope::standard();
    scanner.next(octets.as_bytes(), &scope, &BOUNDS).unwrap();
    let element = scanner.element(octets.as_bytes());
    assert!(element.is("jabber:client", "message") && !element.has_text());
    assert_eq!(element.attr("to").as_deref(), Some("a&b"));
    assert_eq!(element.attr("id"), None);
    assert_eq!(element.lang().as_deref(), Some("de"));
    assert_eq!(element.octets(), octets.as_bytes());
    let quotes: Vec<_> = element
        .attrs()
        .map(|a| (text(a.name), a.quote, a.is_xmlns()))
        .collect();
    assert_eq!(
        quotes,
        [
            ("xmlns:s".into(), b'\'', true),
            ("to".into(), b'"', false),
            ("s:to".into(), b'\'', false),
            ("xml:lang".into(), b'\'', false)
        ]
    );
    let child = element.child("urn:xmpp:sid:0", "x").unwrap();
    assert_eq!(
        (child.attr("a").as_deref(), child.start, child.is_empty()),
        (Some("1 2"), 0, true)
    );
    assert_eq!(element.default_namespace(), "jabber:client");
    let child = element.child("urn:s", "y").unwrap();
    assert_eq!(
        (child.tree().text().as_str(), child.is_empty()),
        (" ", false)
    );
}

fn assert_refused(content: &[u8], condition: &'static str) {
    let shown = content.get(..200).unwrap_or(content).escape_ascii();
    assert_eq!(error_of(content), Some(condition), "{shown}");
    let whole = [HEADER.as_bytes(), content].concat();
    let items = feed(whole.chunks(1), &BOUNDS);
    assert_eq!(
        items.last(),
        Some(&Item::Error(condition)),
        "octet by octet: {shown}"
    );
}
