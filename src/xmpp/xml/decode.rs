//! References, and the decoded form of attribute values and text.

use std::borrow::Cow;

use super::octets::{self, NAME, START};
use crate::xmpp::error::StreamError;

/// What stands at an `&`.
pub enum Reference {
    /// A character and the octets of its reference, from `&` to `;`.
    Char(char, usize),
    /// The input ends inside the reference.
    Partial,
    /// No reference that we take.
    Wrong(StreamError),
}

/// Reads the reference at the start of `rest`, which begins with `&`.
pub fn reference(rest: &[u8]) -> Reference {
    match rest.get(1) {
        None => Reference::Partial,
        Some(b'#') => match rest.get(2) {
            None => Reference::Partial,
            Some(b'x') => number(rest, 3, 16),
            Some(_) => number(rest, 2, 10),
        },
        Some(&b) if octets::is(b, START) || b >= 0x80 || b == b':' => entity(rest),
        Some(_) => Reference::Wrong(StreamError::NotWellFormed),
    }
}

/// The value between the quotes as an application sees it: references replaced, each line break
/// or tab a space (XML 1.0 sections 2.11 and 3.3.3).
pub fn attribute(text: &str) -> Cow<'_, str> {
    let raw = text.as_bytes();
    if octets::is_verbatim(raw)
        || !raw
            .iter()
            .any(|b| matches!(b, b'&' | b'\t' | b'\n' | b'\r'))
    {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(raw.len());
    decode(raw, " ", &mut decoded);
    Cow::Owned(decoded)
}

/// Appends text as an application sees it: references replaced, each line break one LF.
pub fn text(raw: &[u8], decoded: &mut String) {
    decode(raw, "\n", decoded);
}

/// Appends the inside of a CDATA section: as it stands but for line breaks.
pub fn cdata(raw: &[u8], decoded: &mut String) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\r', rest) {
        decoded.push_str(as_str(rest.get(..at).unwrap_or_default()));
        decoded.push('\n');
        rest = rest.get(at + 1..).unwrap_or_default();
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    decoded.push_str(as_str(rest));
}

/// Octets that the scanner has passed are UTF-8; anything else is read as nothing.
pub fn as_str(checked: &[u8]) -> &str {
    str::from_utf8(checked).unwrap_or_default()
}

fn decode(raw: &[u8], line_break: &str, decoded: &mut String) {
    let attribute = line_break == " ";
    let special = |b: &u8| matches!(b, b'&' | b'\r') || (attribute && matches!(b, b'\t' | b'\n'));
    let mut rest = raw;
    while let Some(at) = rest.iter().position(special) {
        decoded.push_str(as_str(rest.get(..at).unwrap_or_default()));
        rest = rest.get(at..).unwrap_or_default();
        let length = match (rest.first(), reference(rest)) {
            (Some(b'&'), Reference::Char(c, length)) => {
                decoded.push(c);
                length
            }
            (Some(b'\r'), _) => {
                decoded.push_str(line_break);
                if rest.get(1) == Some(&b'\n') { 2 } else { 1 }
            }
            (Some(b'&'), _) => 1,
            _ => {
                decoded.push_str(line_break);
                1
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    decoded.push_str(as_str(rest));
}

fn number(rest: &[u8], from: usize, radix: u32) -> Reference {
    let mut code: u32 = 0;
    for at in from..REFERENCE_OCTETS_MAX {
        match rest.get(at).copied() {
            None => return Reference::Partial,
            Some(b';') if at > from => {
                return match char::from_u32(code).filter(|&c| octets::is_char(c)) {
                    Some(c) => Reference::Char(c, at + 1),
                    None => Reference::Wrong(StreamError::NotWellFormed),
                };
            }
            Some(b) => match (b as char).to_digit(radix) {
                Some(digit) => code = code.saturating_mul(radix).saturating_add(digit),
                None => return Reference::Wrong(StreamError::NotWellFormed),
            },
        }
    }
    Reference::Wrong(StreamError::PolicyViolation("character reference too long"))
}

fn entity(rest: &[u8]) -> Reference {
    for at in 2..REFERENCE_OCTETS_MAX {
        match rest.get(at).copied() {
            None => return Reference::Partial,
            Some(b';') => {
                let c = match rest.get(1..at) {
                    Some(b"lt") => '<',
                    Some(b"gt") => '>',
                    Some(b"amp") => '&',
                    Some(b"apos") => '\'',
                    Some(b"quot") => '"',
                    _ => break,
                };
                return Reference::Char(c, at + 1);
            }
            Some(b) if octets::is(b, NAME) || b >= 0x80 || b == b':' => {}
            Some(_) => return Reference::Wrong(StreamError::NotWellFormed),
        }
    }
    Reference::Wrong(StreamError::RestrictedXml)
}

/// Bounds what is read again when a reference arrives octet by octet.
const REFERENCE_OCTETS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_normalised_and_references_are_not() {
        assert_eq!(attribute("a\tb\r\nc\rd\ne"), "a b c d e");
        assert_eq!(attribute("&#9;&#xA;&#13;&lt;&amp;amp;"), "\t\n\r<&amp;");
        assert!(matches!(attribute("plain ü"), Cow::Borrowed("plain ü")));
    }

    #[test]
    fn text_keeps_white_space_but_line_ends() {
        let mut out = String::new();
        text(b"a\tb\r\nc\rd\ne&#13;&apos;", &mut out);
        cdata(b"<&amp;\r\n\r.", &mut out);
        assert_eq!(out, "a\tb\nc\nd\ne\r'<&amp;\n\n.");
    }
}
