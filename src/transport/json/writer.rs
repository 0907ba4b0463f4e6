//! The only place that writes JSON (RFC 8259).

use std::io::Write as _;

/// Writes the members of one object. The names are the program's, the values anybody's.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    started: bool,
}

impl<'a> Object<'a> {
    /// `{`
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            started: false,
        }
    }

    /// Behind members that are there already.
    pub fn go_on(out: &'a mut Vec<u8>) -> Self {
        Self { out, started: true }
    }

    /// `"name":`, whose value the caller appends.
    pub fn value(&mut self, name: &str) -> &mut Vec<u8> {
        if self.started {
            self.out.push(b',');
        }
        self.started = true;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A string.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        write_string(self.value(name), text);
        self
    }

    /// A string, if there is one.
    pub fn text_if(&mut self, name: &str, text: Option<impl AsRef<str>>) -> &mut Self {
        if let Some(text) = text {
            self.text(name, text.as_ref());
        }
        self
    }

    /// A whole number.
    pub fn number(&mut self, name: &str, number: i64) -> &mut Self {
        // Writing to memory does not fail.
        let _ = write!(self.value(name), "{number}");
        self
    }

    /// `true`, or nothing.
    pub fn flag(&mut self, name: &str, flag: bool) -> &mut Self {
        if flag {
            self.value(name).extend_from_slice(b"true");
        }
        self
    }

    /// An object.
    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        let mut inner = Object::begin(self.value(name));
        write(&mut inner);
        inner.end();
        self
    }

    /// An array of what `write` writes for each item.
    pub fn array<I>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = I>,
        mut write: impl FnMut(&mut Vec<u8>, I),
    ) -> &mut Self {
        let out = self.value(name);
        out.push(b'[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write(out, item);
        }
        out.push(b']');
        self
    }

    /// `}`
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends a string with its quotes. `<` is escaped as well, should anything ever take the
/// document for a page; there is no line break in it, whatever the text has.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = find_special(rest) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&special, tail)) = tail.split_first() else {
            break;
        };
        match special {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', special]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let _ = write!(out, "\\u{special:04x}");
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Most texts have none: whole chunks are looked at, which the compiler turns into vectors.
fn find_special(octets: &[u8]) -> Option<usize> {
    let is_plain = |chunk: &&[u8]| {
        !chunk
            .iter()
            .fold(false, |any, &octet| any | is_special(octet))
    };
    let plain: usize = octets
        .chunks(CHUNK_OCTETS)
        .take_while(is_plain)
        .map(<[u8]>::len)
        .sum();
    let rest = octets.get(plain..)?;
    let at = rest.iter().position(|&octet| is_special(octet))?;
    Some(plain + at)
}

/// Octets that are looked at together.
const CHUNK_OCTETS: usize = 32;

const fn is_special(octet: u8) -> bool {
    matches!(octet, 0..b' ' | b'"' | b'\\' | b'<' | 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_parted_by_commas() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object
            .text("a", "ü\"\\\n\t\u{1}</script>")
            .flag("no", false)
            .flag("yes", true);
        object.number("n", -1).object("o", |o| {
            o.text_if("x", None::<&str>);
        });
        object.array("l", ["1", "2"], write_string);
        object.end();
        let text = String::from_utf8(out).unwrap();
        let want = "{\"a\":\"ü\\\"\\\\\\n\\t\\u0001\\u003c/script>\",\"yes\":true,\"n\":-1,\
                    \"o\":{},\"l\":[\"1\",\"2\"]}";
        assert_eq!(text, want);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
