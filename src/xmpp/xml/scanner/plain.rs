//! The way of nearly all elements: there as a whole, with names in ASCII and no prefix but `xml:`
//! of `xml:lang`. One loop over local variables, no state to come back to.
//!
//! It decides nothing on its own: whatever is unusual, wrong, beyond a bound or not all there yet
//! is left to the state machine, which begins again at the first octet. So an octet is looked at
//! twice at most, and what is accepted is the same however the input was cut.

use super::content::{Run, text_run};
use super::tag::value_run;
use super::{Attribute, AttributeKind, Bounds, ChildSpan, Frame, Root, Scanner};
use crate::xmpp::xml::octets::{self, NAME, SPACE, START};
use crate::xmpp::xml::resolve::{Name, Ns, Span};
use crate::xmpp::xml::scope::StreamScope;

impl Scanner {
    /// The element that begins at the first of `bytes`: its octets. `None`: ask the state machine.
    pub(super) fn whole(
        &mut self,
        bytes: &[u8],
        scope: &StreamScope,
        bounds: &Bounds,
    ) -> Option<usize> {
        if !scope.is_open() || bytes.first() != Some(&b'<') {
            return None;
        }
        self.begin();
        let mut at = self.plain_root(bytes, scope, bounds)?;
        while !self.frames.is_empty() {
            let text = at;
            let Ok(Run::Markup(markup)) = text_run(bytes, text) else {
                return None;
            };
            if self.frames.len() == 1 && !self.has_text {
                let text = bytes.get(text..markup)?;
                self.has_text = !text.iter().all(|&b| octets::is(b, SPACE));
            }
            at = match bytes.get(markup + 1)? {
                b'/' => self.plain_end(bytes, markup)?,
                _ => self.plain_element(bytes, markup, bounds)?,
            };
        }
        self.item_end = at;
        Some(at)
    }

    fn plain_root(&mut self, bytes: &[u8], scope: &StreamScope, bounds: &Bounds) -> Option<usize> {
        self.elements = 1;
        self.outer_default = self.names.scope_default(scope);
        let tag = self.plain_tag(bytes, 0, self.outer_default, bounds, true)?;
        if tag.name.of(bytes) == b"stream" {
            return None;
        }
        self.root = Root {
            name: tag.as_name(),
            namespace: tag.default,
        };
        self.root_attributes = self.attributes.len();
        self.inner_default = tag.default;
        self.content_start = tag.end;
        self.content_end = tag.end;
        self.plain_push(&tag);
        Some(tag.end)
    }

    #[inline(always)]
    fn plain_element(&mut self, bytes: &[u8], markup: usize, bounds: &Bounds) -> Option<usize> {
        if self.frames.len() > bounds.depth_max || self.elements > bounds.elements_max {
            return None;
        }
        self.elements += 1;
        let default = self.frames.last()?.default;
        let tag = self.plain_tag(bytes, markup, default, bounds, false)?;
        if self.frames.len() == 1 {
            self.children.push(ChildSpan {
                start: markup as u32,
                end: tag.end as u32,
                name: tag.as_name(),
                namespace: tag.default,
            });
        }
        self.plain_push(&tag);
        Some(tag.end)
    }

    #[inline(always)]
    fn plain_push(&mut self, tag: &PlainTag) {
        if !tag.empty {
            self.frames.push(Frame {
                name: tag.name,
                default: tag.default,
                names_before: 0,
            });
        }
    }

    /// A start tag at `markup`. The attributes of the root are kept.
    #[inline(always)]
    fn plain_tag(
        &mut self,
        bytes: &[u8],
        markup: usize,
        mut default: Ns,
        bounds: &Bounds,
        keep: bool,
    ) -> Option<PlainTag> {
        let name = plain_name(bytes, markup + 1)?;
        let mut at = (name.start + name.length) as usize;
        let mut seen = 0_u64;
        let mut attributes = 0;
        loop {
            match *bytes.get(at)? {
                b'>' => {
                    let empty = false;
                    let end = at + 1;
                    return Some(PlainTag {
                        name,
                        default,
                        end,
                        empty,
                    });
                }
                b'/' if bytes.get(at + 1) == Some(&b'>') => {
                    let empty = true;
                    let end = at + 2;
                    return Some(PlainTag {
                        name,
                        default,
                        end,
                        empty,
                    });
                }
                b' ' => {}
                _ => return None,
            }
            let mut own = plain_name(bytes, at + 1)?;
            let mut prefix = 0;
            at = (own.start + own.length) as usize;
            if bytes.get(at) == Some(&b':') {
                // The only prefix that needs no declaration.
                if bytes.get(at - 3..at + 5) != Some(b"xml:lang") || own.length != 3 {
                    return None;
                }
                prefix = 3;
                own.length = 8;
                at += 5;
            }
            let [b'=', quote @ (b'\'' | b'"')] = *bytes.get(at..at + 2)? else {
                return None;
            };
            let Ok(Run::Markup(end)) = value_run(bytes, at + 2, quote) else {
                return None;
            };
            let value = Span::new(at + 2, end);
            at = end + 1;
            let octets = own.of(bytes);
            let bit = bit_of(octets)?;
            attributes += 1;
            if seen & bit != 0 || attributes > bounds.attributes_max {
                return None;
            }
            seen |= bit;
            let mut kind = AttributeKind::Plain;
            if octets == b"xmlns" {
                kind = AttributeKind::DefaultNamespace;
                default = self.names.declare_default(bytes, value).ok()?;
            } else if prefix > 0 {
                kind = AttributeKind::Prefixed;
            }
            if keep {
                self.attributes.push(Attribute {
                    name: Name { span: own, prefix },
                    value,
                    hash: 0, // for the search for doubles, which is over
                    quote,
                    kind,
                    namespace: Ns::None,
                });
            }
        }
    }

    /// An end tag at `markup`, which must be the one of the start tag.
    #[inline(always)]
    fn plain_end(&mut self, bytes: &[u8], markup: usize) -> Option<usize> {
        let name = self.frames.pop()?.name;
        let end = markup + 2 + name.length as usize;
        if bytes.get(markup + 2..end)? != name.of(bytes) || bytes.get(end) != Some(&b'>') {
            return None;
        }
        match self.frames.len() {
            0 => self.content_end = markup,
            1 => self.children.last_mut()?.end = end as u32 + 1,
            _ => {}
        }
        Some(end + 1)
    }
}

/// A start tag that was read.
struct PlainTag {
    name: Span,
    /// The namespace of the element and the default one inside: the same without prefixes.
    default: Ns,
    /// Behind its `>`.
    end: usize,
    empty: bool,
}

impl PlainTag {
    fn as_name(&self) -> Name {
        Name {
            span: self.name,
            prefix: 0,
        }
    }
}

/// A name without colon at `at`.
#[inline(always)]
fn plain_name(bytes: &[u8], at: usize) -> Option<Span> {
    let rest = bytes.get(at..)?;
    if !octets::is(*rest.first()?, START) {
        return None;
    }
    let length = rest.iter().take_while(|&&b| octets::is(b, NAME)).count();
    Some(Span {
        start: at as u32,
        length: length as u32,
    })
}

/// A bit for the name of an attribute: no two of the names that stanzas have share one.
#[inline(always)]
fn bit_of(name: &[u8]) -> Option<u64> {
    let (first, middle, last) = (name.first()?, name.get(name.len() / 2)?, name.last()?);
    let mixed = 2 * u32::from(*first) + 28 * u32::from(*middle) + u32::from(*last);
    Some(1 << (mixed % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::xml::scanner::tests::BOUNDS;

    /// That both ways agree is shown by the tests of the scanner, which cut their input. Here: that
    /// stanzas as clients write them go this way.
    #[test]
    fn usual_stanzas_are_plain() {
        let plain = [
            "<presence/>",
            "<message to='a@b/c' type=\"chat\" id='7' xml:lang='en'><body>Äpfel &amp; <b/></body>\
             <x xmlns='urn:x'>] ]&gt;</x></message>",
            "<iq type='get' id='1'><query xmlns='jabber:iq:roster' ver=''/></iq>",
        ];
        let unusual = [
            "<message><body>half",
            "<message ><body/></message>",
            "<message><![CDATA[x]]></message>",
            "<message><x:y xmlns:x='urn:x'/></message>",
            "<message a:to='x'/>",
            "<message to='x' to='y'/>",
            "<message></messages>",
            "<stream/>",
            "</stream:stream>",
        ];
        let scope = StreamScope::standard();
        let whole = |text: &str| Scanner::new().whole(text.as_bytes(), &scope, &BOUNDS);
        for text in plain {
            assert_eq!(whole(text), Some(text.len()), "{text}");
        }
        for text in unusual {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
