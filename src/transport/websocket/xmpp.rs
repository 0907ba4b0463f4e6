//! XMPP in messages (RFC 7395 section 3): each is one element and a document of its own, which
//! declares what it needs. `<open/>` and `<close/>` stand for the tags around a stream.
//!
//! Streams write for TCP. That form becomes messages here, so that nothing above knows which way a
//! client came.

use super::Opcode;
use super::encode::{Head, frame_in_place};
use crate::xmpp::error::StreamError;
use crate::xmpp::ns;
use crate::xmpp::xml::view::start_tag_attrs;
use crate::xmpp::xml::writer::Writer;
use crate::xmpp::xml::{Bounds, Element, Header, Progress, Scanner, StreamScope};

/// The name in the handshake (section 3.1).
pub const PROTOCOL: &str = "xmpp";

/// What a client's message is.
pub enum Received<'a> {
    /// `<open/>`: a stream begins, for the first time or anew. `to`, `from`, language and version
    /// are where a header has them; [`StreamScope::open`] makes of it the scope of what follows.
    Open(Header<'a>),
    /// `<close/>`: the client ends the stream, whatever other address it names.
    Close,
    /// Anything else: a stanza or a nonza.
    Element(Element<'a>),
}

/// Reads the payload of a text message, in a scope of [`StreamScope::framed`].
///
/// # Errors
/// Whatever the scanner refuses, and what is not one element from the first octet to the last: an
/// XML declaration may be in front of it (section 3.3.3), white space and more elements may not be
/// around it. The scanner is reset before it is used again.
pub fn receive<'a>(
    scanner: &'a mut Scanner,
    payload: &'a [u8],
    scope: &StreamScope,
    bounds: &Bounds,
) -> Result<Received<'a>, StreamError> {
    scanner.reset();
    let mut document = payload;
    let mut progress = scanner.next(document, scope, bounds)?;
    if let (Progress::Blank(taken), true) = (progress, payload.starts_with(DECLARATION)) {
        document = payload.get(taken..).unwrap_or_default();
        if document.starts_with(DECLARATION) {
            return Err(StreamError::RestrictedXml);
        }
        progress = scanner.next(document, scope, bounds)?;
    }
    match progress {
        Progress::Element(taken) if taken == document.len() => {}
        Progress::Incomplete => return Err(StreamError::NotWellFormed),
        _ => return Err(StreamError::BadFormat),
    }
    let element = scanner.element(document);
    if element.is(ns::FRAMING, "close") {
        return Ok(Received::Close);
    }
    if !element.is(ns::FRAMING, "open") {
        return Ok(Received::Element(element));
    }
    match element.has_text() || element.children().next().is_some() {
        true => Err(StreamError::BadFormat),
        false => Ok(Received::Open(scanner.header(document))),
    }
}

/// Appends a message for each whole item at the front of `items`, which this server wrote for TCP:
/// headers, elements and ends of streams. White space is for TCP alone. Returns the octets that
/// were taken; what is left is the beginning of an item.
///
/// # Errors
/// Something that no stream of ours writes. What came before it was appended.
pub fn write_items(
    out: &mut Vec<u8>,
    items: &[u8],
    scanner: &mut Scanner,
) -> Result<usize, StreamError> {
    let mut at = 0;
    while let Some(rest) = items.get(at..).filter(|rest| !rest.is_empty()) {
        let is_header = rest.starts_with(DECLARATION) || rest.starts_with(HEADER);
        let scope = match is_header {
            true => StreamScope::closed(),
            false => StreamScope::standard(),
        };
        scanner.reset();
        at += match scanner.next(rest, &scope, &UNBOUNDED)? {
            Progress::Incomplete => break,
            Progress::Blank(taken) => taken,
            Progress::Header(taken) => {
                write_open(out, scanner.header(rest));
                taken
            }
            Progress::Element(taken) => {
                write_element(out, rest.get(..taken).unwrap_or_default());
                taken
            }
            Progress::End(taken) => {
                write_empty(out, "close", &[]);
                taken
            }
        };
    }
    Ok(at)
}

/// Appends a message of one whole element that this server wrote for TCP. It declares what it had
/// from the header: `jabber:client` by default, and the prefix `stream` of features and errors.
pub fn write_element(out: &mut Vec<u8>, element: &[u8]) {
    let ends_name = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>');
    let name = element.iter().position(ends_name).unwrap_or(element.len());
    let (name, rest) = element.split_at_checked(name).unwrap_or_default();
    let (attribute, namespace) = match name.starts_with(b"<stream:") {
        true => ("xmlns:stream", ns::STREAMS),
        false => ("xmlns", ns::CLIENT),
    };
    let declares = start_tag_attrs(element).any(|attr| attr.name == attribute.as_bytes());
    let declaration = match declares || name.contains(&b':') && attribute == "xmlns" {
        true => ["", "", "", "", ""],
        false => [" ", attribute, "='", namespace, "'"],
    };
    let declared: usize = declaration.iter().map(|part| part.len()).sum();
    let head = Head::new(Opcode::Text, element.len() + declared);
    out.extend_from_slice(head.as_slice());
    out.extend_from_slice(name);
    for part in declaration {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(rest);
}

fn write_open(out: &mut Vec<u8>, header: Header<'_>) {
    let attributes = HEADER_ATTRIBUTES.map(|name| (name, header.attr(name)));
    let attributes: Vec<_> = attributes
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
        .collect();
    write_empty(out, "open", &attributes);
}

/// An empty element of the framing itself.
fn write_empty(out: &mut Vec<u8>, name: &str, attributes: &[(&str, &str)]) {
    let start = out.len();
    let mut writer = Writer::new(out);
    writer.open(name).attr("xmlns", ns::FRAMING);
    for (name, value) in attributes {
        writer.attr(name, value);
    }
    writer.close_empty();
    frame_in_place(out, start);
}

const DECLARATION: &[u8] = b"<?xml";
const HEADER: &[u8] = b"<stream:stream";
/// RFC 6120 section 4.7.
const HEADER_ATTRIBUTES: [&str; 5] = ["id", "from", "to", "version", "xml:lang"];
/// Our own output is within the bounds of whatever made it.
const UNBOUNDED: Bounds = Bounds {
    octets_max: usize::MAX,
    depth_max: usize::MAX,
    attributes_max: usize::MAX,
    elements_max: usize::MAX,
};

#[cfg(test)]
mod tests;
