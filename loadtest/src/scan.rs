//! Finds where top-level elements of a stream begin and end, and reads the little that a load
//! generator looks at. It trusts the server to be well-formed: a server that is not shows as an
//! error, late.

use memchr::{memchr, memchr2, memchr3, memmem};

/// What stands at the start of the octets.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// `<stream:stream …>`; so many octets.
    Header(usize),
    /// A whole element; so many octets.
    Element(usize),
    /// `</stream:stream>`.
    End(usize),
    /// More octets are needed.
    Partial,
    /// This cannot be a stream.
    Malformed,
}

/// Takes the next item off `bytes`, which must not start with white space.
pub fn next(bytes: &[u8]) -> Item {
    match bytes {
        [] | [b'<'] => Item::Partial,
        [b'<', b'?', ..] => match memchr(b'>', bytes) {
            Some(end) => Item::Element(end + 1),
            None => Item::Partial,
        },
        [b'<', b'/', ..] => match memchr(b'>', bytes) {
            Some(end) => Item::End(end + 1),
            None => Item::Partial,
        },
        [b'<', ..] if is_header(bytes) => match tag_end(bytes, 0) {
            Some(end) => Item::Header(end),
            None => Item::Partial,
        },
        [b'<', ..] => element(bytes),
        _ => Item::Malformed,
    }
}

fn is_header(bytes: &[u8]) -> bool {
    let name = name(bytes);
    name == b"stream:stream" || name == b"stream"
}

fn element(bytes: &[u8]) -> Item {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        let Some(open) = memchr(b'<', &bytes[at..]) else {
            return Item::Partial;
        };
        let open = at + open;
        let Some(end) = tag_end(bytes, open) else {
            return Item::Partial;
        };
        if bytes[open + 1] == b'/' {
            depth = depth.saturating_sub(1);
        } else if bytes[end - 2] != b'/' {
            depth += 1;
        }
        if depth == 0 {
            return Item::Element(end);
        }
        at = end;
    }
}

/// Past the `>` that ends the tag at `open`; quoted attribute values may contain that character.
fn tag_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        let found = at + memchr3(b'>', b'"', b'\'', bytes.get(at..)?)?;
        match bytes[found] {
            b'>' => return Some(found + 1),
            quote => at = found + 1 + memchr(quote, &bytes[found + 1..])? + 1,
        }
    }
}

/// The name in the tag at the start, with its prefix; what there is of it, if the tag is cut.
pub fn name(element: &[u8]) -> &[u8] {
    let rest = element.get(1..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|c| matches!(c, b' ' | b'>' | b'/' | b'\t' | b'\n' | b'\r'))
        .unwrap_or(rest.len());
    &rest[..end]
}

/// The head of an element: its first tag.
pub fn head(element: &[u8]) -> &[u8] {
    &element[..tag_end(element, 0).unwrap_or(element.len())]
}

/// The value of an attribute of the head, as written.
pub fn attribute<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(found) = memmem::find(&head[at..], name.as_bytes()) {
        let start = at + found;
        let after = start + name.len();
        let before_is_space = start > 0 && head[start - 1].is_ascii_whitespace();
        if before_is_space && head.get(after) == Some(&b'=') {
            let quote = *head.get(after + 1)?;
            let value = head.get(after + 2..)?;
            return Some(&value[..memchr(quote, value)?]);
        }
        at = after;
    }
    None
}

/// The text of the first element of that name within `bytes`.
pub fn text<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(found) = memmem::find(&bytes[at..], name.as_bytes()) {
        let start = at + found;
        let after = start + name.len();
        let opens = start > 0 && bytes[start - 1] == b'<';
        if opens && matches!(bytes.get(after)?, b'>' | b' ') {
            let content = after + memchr(b'>', &bytes[after..])? + 1;
            let length = memchr(b'<', &bytes[content..])?;
            return Some(&bytes[content..content + length]);
        }
        at = after;
    }
    None
}

/// The word that an error, a failure or a stream error carries: the name of its first child, or of
/// the first within `<error>`.
pub fn condition(element: &[u8]) -> String {
    let from = memmem::find(element, b"<error").unwrap_or(0);
    let inner = &element[from..];
    let after = tag_end(inner, 0).unwrap_or(inner.len());
    let rest = &inner[after..];
    let Some(open) = memchr(b'<', rest) else {
        return "unknown".to_owned();
    };
    let found = name(&rest[open..]);
    String::from_utf8_lossy(found).into_owned()
}

/// How many octets of white space stand at the start.
pub fn blank(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|c| c.is_ascii_whitespace()).count()
}

/// The length of the message at the start; ours contain no other message.
pub fn message_length(bytes: &[u8], close: &memmem::Finder<'_>) -> Option<usize> {
    let head = memchr(b'>', bytes)?;
    if bytes[head - 1] == b'/' {
        return Some(head + 1);
    }
    let end = close.find(&bytes[head..])?;
    Some(head + end + close.needle().len())
}

/// Where the text of `<body>` begins.
pub fn body(message: &[u8], finder: &memmem::Finder<'_>) -> Option<usize> {
    let open = finder.find(message)? + 5;
    match message.get(open)? {
        b'>' => Some(open + 1),
        b' ' => Some(open + memchr2(b'>', b'<', &message[open..])? + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_ends_where_it_ends() {
        let whole = b"<a x='>'><b/><c>t</c></a><d/>";
        assert_eq!(next(whole), Item::Element(25));
        assert_eq!(next(&whole[25..]), Item::Element(4));
    }

    #[test]
    fn a_cut_element_is_partial_wherever_it_is_cut() {
        let whole = b"<iq type='result' id=\"1>2\"><q><i a='/>'/></q></iq>";
        assert_eq!(next(whole), Item::Element(whole.len()));
        for cut in 0..whole.len() {
            assert_eq!(next(&whole[..cut]), Item::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn headers_and_ends_are_told_apart() {
        assert!(matches!(
            next(b"<stream:stream id='1'><x/>"),
            Item::Header(22)
        ));
        assert!(matches!(next(b"</stream:stream>"), Item::End(16)));
        assert!(matches!(next(b"<stream:features/>"), Item::Element(18)));
        assert!(matches!(next(b"hello"), Item::Malformed));
    }

    #[test]
    fn attributes_and_texts_are_read() {
        let head = head(b"<a xid='no' id='yes'/>");
        assert_eq!(attribute(head, "id"), Some(&b"yes"[..]));
        assert_eq!(text(b"<x><jid>a@b/c</jid></x>", "jid"), Some(&b"a@b/c"[..]));
    }

    #[test]
    fn the_condition_is_named() {
        assert_eq!(
            condition(b"<failure xmlns='s'><not-authorized/></failure>"),
            "not-authorized"
        );
        let iq = b"<iq type='error'><bind/><error type='c'><conflict xmlns='x'/></error></iq>";
        assert_eq!(condition(iq), "conflict");
    }
}
