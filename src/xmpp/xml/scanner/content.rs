//! Text, CDATA, end tags, and everything that is refused.

use super::{Progress, Scanner, State, Step, Stepped};
use crate::xmpp::error::StreamError;
use crate::xmpp::xml::decode::{Reference, reference};
use crate::xmpp::xml::octets::{self, SPACE, Utf8, utf8};
use crate::xmpp::xml::scope::StreamScope;

impl Scanner {
    #[inline(always)]
    pub(super) fn text(&mut self, bytes: &[u8]) -> Stepped {
        let from = self.at;
        let (at, step) = match text_run(bytes, from)? {
            Run::Markup(at) => (at, Step::To(State::Markup)),
            Run::Partial(at) => (at, Step::Wait(State::Text)),
        };
        if self.frames.len() == 1 && !self.has_text {
            let text = bytes.get(from..at).unwrap_or_default();
            self.has_text = !text.iter().all(|&b| octets::is(b, SPACE));
        }
        self.at = at;
        Ok(step)
    }

    /// Goes on behind `<![CDATA[`.
    pub(super) fn cdata(&mut self, bytes: &[u8]) -> Stepped {
        let mut at = self.at;
        let step = loop {
            at = octets::skip_text(bytes, at);
            match bytes.get(at) {
                None => break Step::Wait(State::Cdata),
                Some(b'>') => {
                    at += 1;
                    let inside = bytes.get(self.token..at).unwrap_or_default();
                    if inside.ends_with(b"]]>") {
                        break Step::To(State::Text);
                    }
                }
                Some(b'<' | b'&') => at += 1,
                Some(&b) if b >= 0x80 => match utf8(bytes, at) {
                    Utf8::Char(_, length) => at += length,
                    Utf8::Partial => break Step::Wait(State::Cdata),
                    Utf8::Wrong => return Err(StreamError::NotWellFormed),
                },
                Some(_) => return Err(StreamError::NotWellFormed),
            }
        };
        self.at = at;
        Ok(step)
    }

    /// At `<!`: a CDATA section in content, and nothing else (RFC 6120 section 11.1).
    pub(super) fn declaration(&mut self, bytes: &[u8], scope: &StreamScope) -> Stepped {
        const CDATA: &[u8] = b"<![CDATA[";
        let rest = bytes.get(self.at..).unwrap_or_default();
        match rest.get(2) {
            None => return Ok(Step::Wait(State::Markup)),
            Some(b'[') => {}
            Some(_) => return Err(StreamError::RestrictedXml),
        }
        let seen = rest.get(..CDATA.len()).unwrap_or(rest);
        if !CDATA.starts_with(seen) {
            return Err(StreamError::NotWellFormed);
        }
        if seen.len() < CDATA.len() {
            return Ok(Step::Wait(State::Markup));
        }
        if self.frames.is_empty() {
            return Err(match scope.is_open() {
                true => StreamError::BadFormat,
                false => StreamError::NotWellFormed,
            });
        }
        self.has_text |= self.frames.len() == 1;
        self.at += CDATA.len();
        self.token = self.at;
        self.cdata(bytes)
    }

    /// At `<?`: the XML declaration at the very start of a document, and nothing else.
    pub(super) fn instruction(&mut self, bytes: &[u8], scope: &StreamScope) -> Stepped {
        const XML: &[u8] = b"<?xml";
        if !scope.begins_document() || self.at != 0 {
            return Err(StreamError::RestrictedXml);
        }
        let seen = bytes.get(..XML.len()).unwrap_or(bytes);
        if !XML.starts_with(seen) {
            return Err(StreamError::RestrictedXml);
        }
        match bytes.get(XML.len()) {
            None => return Ok(Step::Wait(State::Markup)),
            Some(&b) if octets::is(b, SPACE) => {}
            Some(_) => return Err(StreamError::RestrictedXml),
        }
        let window = bytes.get(..DECLARATION_OCTETS_MAX).unwrap_or(bytes);
        let Some(length) = memchr::memmem::find(window, b"?>") else {
            return match window.len() < DECLARATION_OCTETS_MAX {
                true => Ok(Step::Wait(State::Markup)),
                false => Err(StreamError::NotWellFormed),
            };
        };
        check_declaration(window.get(XML.len()..length).unwrap_or_default())?;
        self.at = length + 2;
        Ok(Step::To(State::Between))
    }

    /// Goes on in the name of an end tag, which must be the one of the start tag.
    #[inline(always)]
    pub(super) fn close_name(&mut self, bytes: &[u8], scope: &StreamScope) -> Stepped {
        let expected = match self.frames.last() {
            Some(frame) => frame.name.of(bytes),
            None => scope.root().ok_or(StreamError::NotWellFormed)?.as_bytes(),
        };
        let missing = expected.get(self.at - self.token..).unwrap_or_default();
        let rest = bytes.get(self.at..).unwrap_or_default();
        if let Some(seen) = rest.get(..missing.len()) {
            if seen != missing {
                return Err(StreamError::NotWellFormed);
            }
            self.at += missing.len();
            return self.close_end(bytes);
        }
        if !missing.starts_with(rest) {
            return Err(StreamError::NotWellFormed);
        }
        self.at += rest.len();
        Ok(Step::Wait(State::CloseName))
    }

    #[inline(always)]
    pub(super) fn close_end(&mut self, bytes: &[u8]) -> Stepped {
        self.at = octets::skip_space(bytes, self.at);
        match bytes.get(self.at) {
            None => return Ok(Step::Wait(State::CloseEnd)),
            Some(b'>') => self.at += 1,
            Some(_) => return Err(StreamError::NotWellFormed),
        }
        let Some(frame) = self.frames.pop() else {
            return Ok(Step::Done(Progress::End(self.at)));
        };
        match self.frames.len() {
            // The root's own declarations stay, for the views.
            0 => {
                self.content_end = self.markup;
                self.item_end = self.at;
                return Ok(Step::Done(Progress::Element(self.at)));
            }
            1 => {
                if let Some(child) = self.children.last_mut() {
                    child.end = self.at as u32;
                }
            }
            _ => {}
        }
        self.names.leave(frame.names_before);
        Ok(Step::To(State::Text))
    }
}

/// How far characters go.
pub(super) enum Run {
    /// To the octet that ends them: a `<`, or the quote of a value.
    Markup(usize),
    /// To the end of the input, or to a character or reference that the input cuts.
    Partial(usize),
}

/// The text that goes on at `from`.
#[inline(always)]
pub(super) fn text_run(bytes: &[u8], from: usize) -> Result<Run, StreamError> {
    let mut at = from;
    loop {
        // Between tags there is mostly nothing.
        if bytes.get(at) != Some(&b'<') {
            at = octets::skip_text(bytes, at);
        }
        match bytes.get(at) {
            Some(b'<') => return Ok(Run::Markup(at)),
            None => return Ok(Run::Partial(at)),
            Some(b'&') => match reference(bytes.get(at..).unwrap_or_default()) {
                Reference::Char(_, length) => at += length,
                Reference::Partial => return Ok(Run::Partial(at)),
                Reference::Wrong(error) => return Err(error),
            },
            // All markup ends in `>` or `;`, so these two octets are text.
            Some(b'>')
                if bytes
                    .get(..at)
                    .is_some_and(|before| before.ends_with(b"]]")) =>
            {
                return Err(StreamError::NotWellFormed);
            }
            Some(b'>') => at += 1,
            Some(&b) if b >= 0x80 => match utf8(bytes, at) {
                Utf8::Char(_, length) => at += length,
                Utf8::Partial => return Ok(Run::Partial(at)),
                Utf8::Wrong => return Err(StreamError::NotWellFormed),
            },
            Some(_) => return Err(StreamError::NotWellFormed),
        }
    }
}

/// What is between `<?xml` and `?>` (XML productions 23 to 26, 32 and 80).
fn check_declaration(declaration: &[u8]) -> Result<(), StreamError> {
    let mut rest = declaration;
    let (name, version) = pseudo_attribute(&mut rest)?.ok_or(StreamError::NotWellFormed)?;
    if name != b"version" || version != b"1.0" {
        return Err(StreamError::NotWellFormed);
    }
    let mut next = pseudo_attribute(&mut rest)?;
    if let Some((b"encoding", encoding)) = next {
        if !encoding.eq_ignore_ascii_case(b"UTF-8") {
            return Err(StreamError::UnsupportedEncoding);
        }
        next = pseudo_attribute(&mut rest)?;
    }
    if let Some((b"standalone", b"yes" | b"no")) = next {
        next = pseudo_attribute(&mut rest)?;
    }
    match next {
        None => Ok(()),
        Some(_) => Err(StreamError::NotWellFormed),
    }
}

/// A name and its value, from an XML declaration.
type Pseudo<'a> = (&'a [u8], &'a [u8]);

/// Takes ` name='value'` from the front. `None`: there is only white space left.
fn pseudo_attribute<'a>(rest: &mut &'a [u8]) -> Result<Option<Pseudo<'a>>, StreamError> {
    let start = octets::skip_space(rest, 0);
    let bytes = *rest;
    if start == bytes.len() {
        return Ok(None);
    }
    let parsed = || {
        let bytes = bytes.get(start..)?;
        let equals = memchr::memchr(b'=', bytes)?;
        let name = bytes.get(..equals)?.trim_ascii_end();
        let value = bytes.get(octets::skip_space(bytes, equals + 1)..)?;
        let (quote @ (b'\'' | b'"'), value) = value.split_first()? else {
            return None;
        };
        let end = memchr::memchr(*quote, value)?;
        Some((name, value.get(..end)?, value.get(end + 1..)?))
    };
    match parsed() {
        Some((name, value, tail)) if start > 0 => {
            *rest = tail;
            Ok(Some((name, value)))
        }
        _ => Err(StreamError::NotWellFormed),
    }
}

/// Bounds what is read again when the declaration arrives octet by octet.
const DECLARATION_OCTETS_MAX: usize = 256;
