use super::*;
use crate::xmpp::xml::Tree;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";

const BOUNDS: Bounds = Bounds {
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

/// Feeds pieces as a link would: what is not consumed stays, in front of the next piece.
fn feed<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, bounds: &Bounds) -> Vec<Item> {
    let mut scanner = Scanner::new();
    let mut scope = StreamScope::closed();
    let mut buffer: Vec<u8> = Vec::new();
    let mut items = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() {
            let used = match scanner.next(&buffer, &scope, bounds) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Blank(used)) => used,
                Ok(Progress::Header(used)) => {
                    let header = scanner.header(&buffer);
                    let attrs = header.0.attrs();
                    let attrs = attrs.map(|a| (a.name.to_owned(), a.value().into_owned()));
                    items.push(Item::Header(attrs.collect()));
                    scope = scope.open(&header);
                    used
                }
                Ok(Progress::Element(used)) => {
                    items.push(item(scanner.element(&buffer)));
                    used
                }
                Ok(Progress::End(used)) => {
                    items.push(Item::End);
                    scope = StreamScope::closed();
                    used
                }
                Err(error) => {
                    assert_eq!(scanner.next(&buffer, &scope, bounds), Err(error));
                    items.push(Item::Error(error.condition()));
                    return items;
                }
            };
            buffer.drain(..used);
        }
    }
    items
}

fn item(element: Element<'_>) -> Item {
    let children = element.children().map(|child| {
        assert_eq!(
            element.content().get(child.start..child.end()),
            Some(child.octets)
        );
        let tree = child.tree();
        assert!(tree.is(child.namespace, child.local), "{tree:?}");
        for attr in child
            .attrs()
            .filter(|a| !a.is_xmlns() && !a.name.contains(':'))
        {
            assert_eq!(tree.attr(attr.name), Some(&*attr.value()));
        }
        format!("{{{}}}{}", child.namespace, child.local)
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

const RICH: &str = "<?xml version=\"1.0\" encoding='utf-8'?>\n <stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x&amp;y' xml:lang='de' \
    to='localhost' version='1.0'> \r\n\
    <message to='juliet@example.net' id=\"a'b\" type = 'chat' xml:lang='en'><body>Ünï&lt;cö&#x1F600;de \
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
