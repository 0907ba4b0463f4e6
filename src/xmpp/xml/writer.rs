//! The only place that escapes.

use super::octets;

/// Appends `text` as element content. Quotes are escaped too, so that the same octets are safe
/// wherever they are pasted; a carriage return would not survive the next parser.
pub fn escape_text(out: &mut Vec<u8>, text: &str) {
    escape(out, text.as_bytes(), text_escape);
}

/// Appends `value` as the inside of a quoted attribute value, for either quote. White space other
/// than the space would be normalised away by the next parser (XML 1.0 section 3.3.3).
#[inline]
pub fn escape_attr(out: &mut Vec<u8>, value: &str) {
    match octets::is_unescaped(value.as_bytes()) {
        true => out.extend_from_slice(value.as_bytes()),
        false => escape(out, value.as_bytes(), attr_escape),
    }
}

/// Writes elements into a buffer. The names are the program's, the values anybody's.
///
/// The writer knows whether a start tag is open, so attributes and content may follow each other
/// in the natural order; it does not keep the names, the caller ends what it opened.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    in_tag: bool,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, in_tag: false }
    }

    /// `<name`
    pub fn open(&mut self, name: &str) -> &mut Self {
        self.leave_tag();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        self.in_tag = true;
        self
    }

    /// ` name='value'`
    pub fn attr(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(self.in_tag, "an attribute outside a start tag");
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"='");
        escape_attr(self.out, value);
        self.out.push(b'\'');
        self
    }

    /// `/>`
    pub fn close_empty(&mut self) -> &mut Self {
        debug_assert!(self.in_tag, "nothing to close");
        self.out.extend_from_slice(b"/>");
        self.in_tag = false;
        self
    }

    /// Escaped text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.leave_tag();
        escape_text(self.out, text);
        self
    }

    /// Octets that are checked XML already.
    pub fn raw(&mut self, octets: &[u8]) -> &mut Self {
        self.leave_tag();
        self.out.extend_from_slice(octets);
        self
    }

    /// `</name>`, or `/>` when nothing came after the start tag.
    pub fn end(&mut self, name: &str) -> &mut Self {
        if self.in_tag {
            return self.close_empty();
        }
        self.out.extend_from_slice(b"</");
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'>');
        self
    }

    fn leave_tag(&mut self) {
        if self.in_tag {
            self.out.push(b'>');
            self.in_tag = false;
        }
    }
}

/// Copies runs that need nothing and replaces the octets that do.
fn escape(out: &mut Vec<u8>, bytes: &[u8], replacement: impl Fn(u8) -> &'static [u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&b| !replacement(b).is_empty()) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&special, tail)) = tail.split_first() else {
            return;
        };
        out.extend_from_slice(replacement(special));
        rest = tail;
    }
    out.extend_from_slice(rest);
}

#[inline]
fn text_escape(octet: u8) -> &'static [u8] {
    match octet {
        b'&' => b"&amp;",
        b'<' => b"&lt;",
        b'>' => b"&gt;",
        b'"' => b"&quot;",
        b'\'' => b"&apos;",
        b'\r' => b"&#13;",
        _ => b"",
    }
}

#[inline]
fn attr_escape(octet: u8) -> &'static [u8] {
    match octet {
        b'\t' => b"&#9;",
        b'\n' => b"&#10;",
        _ => text_escape(octet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_special_is_escaped() {
        let mut out = Vec::new();
        escape_attr(&mut out, "a'/><b x=\"&\t\r\n ü");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a&apos;/&gt;&lt;b x=&quot;&amp;&#9;&#13;&#10; ü"
        );
        let mut out = Vec::new();
        escape_text(&mut out, "]]>\t\r\n");
        assert_eq!(out, b"]]&gt;\t&#13;\n");
    }

    #[test]
    fn the_writer_closes_tags_by_itself() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.open("a").attr("x", "1'2");
        writer.open("b").end("b");
        writer.open("c").text("<").end("c");
        writer.end("a");
        assert_eq!(out, b"<a x='1&apos;2'><b/><c>&lt;</c></a>");
    }
}
