//! Start tags: names, attributes, declarations, and what the element is.

use super::content::Run;
use super::{
    Attribute, AttributeKind, Bounds, ChildSpan, Frame, Progress, Root, Scanner, State, Step,
    Stepped,
};
use crate::xmpp::error::StreamError;
use crate::xmpp::ns;
use crate::xmpp::xml::decode::{Reference, reference};
use crate::xmpp::xml::octets::{self, NAME, SPACE, START, Utf8, hash, utf8};
use crate::xmpp::xml::resolve::{Name, Ns, Span};
use crate::xmpp::xml::scope::StreamScope;

/// How a start tag ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Open,
    Empty,
}

impl Scanner {
    /// Begins an element at a `<`.
    #[inline(always)]
    pub(super) fn open(&mut self, scope: &StreamScope, bounds: &Bounds) -> Result<(), StreamError> {
        if self.frames.len() > bounds.depth_max {
            return Err(StreamError::PolicyViolation("nested too deeply"));
        }
        if self.elements > bounds.elements_max {
            return Err(StreamError::PolicyViolation("too many elements"));
        }
        self.elements += 1;
        self.default = match self.frames.last() {
            Some(parent) => parent.default,
            None => {
                self.outer_default = self.names.scope_default(scope);
                self.outer_default
            }
        };
        self.names_before = self.names.depth();
        self.prefixed = 0;
        self.seen = 0;
        self.begin_name(self.at + 1);
        Ok(())
    }

    fn begin_name(&mut self, at: usize) {
        self.token = at;
        self.at = at;
        self.prefix = 0;
    }

    /// Goes on in a name. `None`: the input ends before it does.
    #[inline(always)]
    fn scan_name(&mut self, bytes: &[u8]) -> Result<Option<Name>, StreamError> {
        let mut at = self.at;
        loop {
            match bytes.get(at) {
                Some(&b) if octets::is(b, NAME) => at += 1,
                Some(b':') => {
                    // One colon, neither first nor last (Namespaces, production 7).
                    if self.prefix != 0 || at == self.token {
                        return Err(StreamError::NotWellFormed);
                    }
                    self.prefix = (at - self.token) as u32;
                    at += 1;
                }
                Some(&b) if b >= 0x80 => match utf8(bytes, at) {
                    Utf8::Char(c, length) if self.may_stand(c, at) => at += length,
                    Utf8::Partial => break,
                    _ => return Err(StreamError::NotWellFormed),
                },
                Some(_) => {
                    self.at = at;
                    self.check_local(bytes)?;
                    return Ok(Some(Name {
                        span: Span::new(self.token, at),
                        prefix: self.prefix,
                    }));
                }
                None => break,
            }
        }
        self.at = at;
        Ok(None)
    }

    fn may_stand(&self, c: char, at: usize) -> bool {
        let first = at == self.token || at == self.local_start();
        octets::is_name_start(c) || (!first && octets::is_name(c))
    }

    /// Where the part behind the colon begins, or the token when there is none.
    fn local_start(&self) -> usize {
        match self.prefix {
            0 => self.token,
            prefix => self.token + prefix as usize + 1,
        }
    }

    /// The part behind the colon is a name of its own. The first octet of the whole was checked.
    #[inline(always)]
    fn check_local(&self, bytes: &[u8]) -> Result<(), StreamError> {
        if self.prefix == 0 {
            return Ok(());
        }
        match bytes
            .get(self.local_start()..self.at)
            .and_then(<[u8]>::first)
        {
            Some(&b) if octets::is(b, START) || b >= 0x80 => Ok(()),
            _ => Err(StreamError::NotWellFormed),
        }
    }

    #[inline(always)]
    pub(super) fn open_name(&mut self, bytes: &[u8]) -> Stepped {
        let Some(name) = self.scan_name(bytes)? else {
            return Ok(Step::Wait(State::OpenName));
        };
        self.opened = name;
        Ok(Step::To(State::InTag))
    }

    #[inline(always)]
    pub(super) fn in_tag(&mut self, bytes: &[u8], scope: &StreamScope, bounds: &Bounds) -> Stepped {
        let at = octets::skip_space(bytes, self.at);
        self.at = at;
        match bytes.get(at) {
            None => Ok(Step::Wait(State::InTag)),
            Some(b'>') => self.end_start_tag(bytes, scope, at + 1, Tag::Open),
            Some(b'/') => match bytes.get(at + 1) {
                None => Ok(Step::Wait(State::InTag)),
                Some(b'>') => self.end_start_tag(bytes, scope, at + 2, Tag::Empty),
                Some(_) => Err(StreamError::NotWellFormed),
            },
            Some(&b) if octets::is(b, START) || b >= 0x80 => {
                let before = at.checked_sub(1).and_then(|at| bytes.get(at));
                if !before.is_some_and(|&b| octets::is(b, SPACE)) {
                    return Err(StreamError::NotWellFormed);
                }
                if self.attributes_len() >= bounds.attributes_max {
                    return Err(StreamError::PolicyViolation("too many attributes"));
                }
                self.begin_name(at);
                self.attribute_name(bytes)
            }
            Some(_) => Err(StreamError::NotWellFormed),
        }
    }

    #[inline(always)]
    pub(super) fn attribute_name(&mut self, bytes: &[u8]) -> Stepped {
        let Some(name) = self.scan_name(bytes)? else {
            return Ok(Step::Wait(State::AttributeName));
        };
        let octets = name.span.of(bytes);
        let kind = match (name.prefix, octets) {
            (0, b"xmlns") => AttributeKind::DefaultNamespace,
            (0, _) => AttributeKind::Plain,
            _ if name.prefix(bytes) == b"xmlns" => AttributeKind::Namespace,
            _ => AttributeKind::Prefixed,
        };
        let hash = hash(octets);
        let bit = 1 << (hash % 64);
        if self.seen & bit != 0 {
            let same =
                |other: &Attribute| other.hash == hash && other.name.span.of(bytes) == octets;
            if self.attributes_in_hand().iter().any(same) {
                return Err(StreamError::NotWellFormed);
            }
        }
        self.seen |= bit;
        self.prefixed += u32::from(kind == AttributeKind::Prefixed);
        self.attributes.push(Attribute {
            name,
            value: Span::default(),
            hash,
            quote: 0,
            kind,
            namespace: Ns::None,
        });
        if bytes.get(self.at) == Some(&b'=') {
            self.at += 1;
            return self.quote(bytes);
        }
        self.equals(bytes)
    }

    pub(super) fn equals(&mut self, bytes: &[u8]) -> Stepped {
        self.at = octets::skip_space(bytes, self.at);
        match bytes.get(self.at) {
            None => Ok(Step::Wait(State::Equals)),
            Some(b'=') => {
                self.at += 1;
                self.quote(bytes)
            }
            Some(_) => Err(StreamError::NotWellFormed),
        }
    }

    #[inline(always)]
    pub(super) fn quote(&mut self, bytes: &[u8]) -> Stepped {
        self.at = octets::skip_space(bytes, self.at);
        match bytes.get(self.at) {
            None => Ok(Step::Wait(State::Quote)),
            Some(&quote @ (b'\'' | b'"')) => {
                self.at += 1;
                self.token = self.at;
                self.quote = quote;
                Ok(Step::To(State::Value))
            }
            Some(_) => Err(StreamError::NotWellFormed),
        }
    }

    #[inline(always)]
    pub(super) fn value(&mut self, bytes: &[u8], bounds: &Bounds) -> Stepped {
        let at = match value_run(bytes, self.at, self.quote)? {
            Run::Markup(at) => at,
            Run::Partial(at) => return Ok(self.wait(at, State::Value)),
        };
        let value = Span::new(self.token, at);
        self.at = at + 1;
        self.end_attribute(bytes, value, bounds)?;
        Ok(Step::To(State::InTag))
    }

    #[inline(always)]
    fn end_attribute(
        &mut self,
        bytes: &[u8],
        value: Span,
        bounds: &Bounds,
    ) -> Result<(), StreamError> {
        let quote = self.quote;
        let Some(attribute) = self.attributes.last_mut() else {
            return Ok(());
        };
        attribute.value = value;
        attribute.quote = quote;
        match attribute.kind {
            AttributeKind::Plain | AttributeKind::Prefixed => Ok(()),
            AttributeKind::DefaultNamespace => {
                self.default = self.names.declare_default(bytes, value)?;
                Ok(())
            }
            AttributeKind::Namespace => {
                let name = attribute.name.span;
                let skipped = attribute.name.prefix + 1;
                let prefix = Span {
                    start: name.start + skipped,
                    length: name.length - skipped,
                };
                self.names.declare(bytes, prefix, value, bounds)
            }
        }
    }

    /// Everything about the element is known but its content.
    #[inline(always)]
    fn end_start_tag(&mut self, bytes: &[u8], scope: &StreamScope, at: usize, tag: Tag) -> Stepped {
        self.at = at;
        let name = self.opened;
        let namespace = match name.prefix {
            0 => self.default,
            length => {
                let prefix = Span {
                    start: name.span.start,
                    length,
                };
                self.names.resolve(bytes, prefix, scope)?.0
            }
        };
        if self.prefixed > 0 {
            self.check_prefixed(bytes, scope)?;
        }
        if self.frames.is_empty() {
            return self.end_root_tag(bytes, scope, Root { name, namespace }, tag);
        }
        self.attributes.truncate(self.root_attributes);
        if self.frames.len() == 1 {
            self.children.push(ChildSpan {
                start: self.markup as u32,
                end: at as u32,
                name,
                namespace,
            });
        }
        match tag {
            Tag::Open => self.push_frame(),
            Tag::Empty => self.names.leave(self.names_before),
        }
        Ok(Step::To(State::Text))
    }

    fn end_root_tag(&mut self, bytes: &[u8], scope: &StreamScope, root: Root, tag: Tag) -> Stepped {
        self.root = root;
        self.root_attributes = self.attributes.len();
        self.inner_default = self.default;
        self.content_start = self.at;
        self.content_end = self.at;
        self.item_end = self.at;
        let is_stream = root.name.local(bytes) == b"stream";
        let is_streams = self.names.octets(bytes, root.namespace) == ns::STREAMS.as_bytes();
        match (scope.is_open(), is_stream, is_streams) {
            // A header inside a stream: well-formed, and meaningless.
            (true, true, true) => Err(StreamError::BadFormat),
            (true, ..) if tag == Tag::Empty => Ok(Step::Done(Progress::Element(self.at))),
            (true, ..) => {
                self.push_frame();
                Ok(Step::To(State::Text))
            }
            (false, true, true) if tag == Tag::Open => Ok(Step::Done(Progress::Header(self.at))),
            (false, true, false) => Err(StreamError::InvalidNamespace),
            (false, ..) => Err(StreamError::BadFormat),
        }
    }

    #[inline(always)]
    fn push_frame(&mut self) {
        self.frames.push(Frame {
            name: self.opened.span,
            default: self.default,
            names_before: self.names_before,
        });
    }

    /// Resolves the prefixes of attributes; no two may mean the same (Namespaces, section 6.3).
    fn check_prefixed(&mut self, bytes: &[u8], scope: &StreamScope) -> Result<(), StreamError> {
        let first = self.attributes.len() - self.attributes_len();
        let mut seen = 0_u64;
        for index in first..self.attributes.len() {
            let Some(&attribute) = self.attributes.get(index) else {
                break;
            };
            if attribute.kind != AttributeKind::Prefixed {
                continue;
            }
            let name: Name = attribute.name;
            let prefix = Span {
                start: name.span.start,
                length: name.prefix,
            };
            let (namespace, namespace_hash) = self.names.resolve(bytes, prefix, scope)?;
            let local = name.local(bytes);
            let key = hash(local).rotate_left(7) ^ namespace_hash;
            let bit = 1 << (key % 64);
            if seen & bit != 0 {
                let octets = self.names.octets(bytes, namespace);
                let same = |other: &Attribute| {
                    other.kind == AttributeKind::Prefixed
                        && other.hash == key
                        && other.name.local(bytes) == local
                        && self.names.octets(bytes, other.namespace) == octets
                };
                let before = self.attributes.get(first..index).unwrap_or_default();
                if before.iter().any(same) {
                    return Err(StreamError::NotWellFormed);
                }
            }
            seen |= bit;
            if let Some(attribute) = self.attributes.get_mut(index) {
                // The name alone was unique; from here on it is the meaning that must be.
                attribute.hash = key;
                attribute.namespace = namespace;
            }
        }
        Ok(())
    }

    fn attributes_len(&self) -> usize {
        self.attributes.len() - self.root_attributes
    }

    fn attributes_in_hand(&self) -> &[Attribute] {
        self.attributes
            .get(self.root_attributes..)
            .unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn wait(&mut self, at: usize, state: State) -> Step {
        self.at = at;
        Step::Wait(state)
    }
}

/// The value that goes on at `from` and ends at `quote`.
#[inline(always)]
pub(super) fn value_run(bytes: &[u8], from: usize, quote: u8) -> Result<Run, StreamError> {
    let mut at = from;
    loop {
        at = octets::skip_value(bytes, at, quote);
        match bytes.get(at) {
            Some(&b) if b == quote => return Ok(Run::Markup(at)),
            Some(b'&') => match reference(bytes.get(at..).unwrap_or_default()) {
                Reference::Char(_, length) => at += length,
                Reference::Partial => return Ok(Run::Partial(at)),
                Reference::Wrong(error) => return Err(error),
            },
            Some(&b) if b >= 0x80 => match utf8(bytes, at) {
                Utf8::Char(_, length) => at += length,
                Utf8::Partial => return Ok(Run::Partial(at)),
                Utf8::Wrong => return Err(StreamError::NotWellFormed),
            },
            None => return Ok(Run::Partial(at)),
            // A `<` or a control character.
            Some(_) => return Err(StreamError::NotWellFormed),
        }
    }
}
