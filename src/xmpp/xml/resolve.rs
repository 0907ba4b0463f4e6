//! Namespaces: declarations and what names resolve to (Namespaces in XML 1.0, third edition).

use super::decode;
use super::decode::as_str;
use super::octets::{hash, is_verbatim};
use super::scanner::Bounds;
use super::scope::StreamScope;
use crate::xmpp::error::StreamError;
use crate::xmpp::ns;

/// Octets of the scanned input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub length: u32,
}

impl Span {
    /// From `start` to before `end`. The window of the scanner is below 4 GiB.
    pub const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            length: end.saturating_sub(start) as u32,
        }
    }

    /// The octets themselves.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes
            .get(start..start + self.length as usize)
            .unwrap_or_default()
    }
}

/// A name as written: `prefix:local` or `local`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    pub span: Span,
    /// Octets of the prefix; zero when there is none.
    pub prefix: u32,
}

impl Name {
    #[inline]
    pub fn prefix(self, bytes: &[u8]) -> &[u8] {
        self.span
            .of(bytes)
            .get(..self.prefix as usize)
            .unwrap_or_default()
    }

    #[inline]
    pub fn local(self, bytes: &[u8]) -> &[u8] {
        let skipped = if self.prefix == 0 {
            0
        } else {
            self.prefix as usize + 1
        };
        self.span.of(bytes).get(skipped..).unwrap_or_default()
    }
}

/// Where the octets of a namespace are.
#[derive(Clone, Copy, Debug, Default)]
pub enum Ns {
    /// No namespace.
    #[default]
    None,
    Client,
    Streams,
    Xml,
    /// In the input, needing no decoding.
    Input(Span),
    /// In the names' own buffer.
    Decoded(Span),
}

/// A declaration `xmlns:prefix='…'` in force.
#[derive(Clone, Copy, Debug)]
struct Binding {
    prefix: Span,
    prefix_hash: u32,
    namespace: Ns,
    namespace_hash: u32,
}

/// A prefix that only the stream header declares.
#[derive(Clone, Copy, Debug)]
struct Inherited {
    prefix: Span,
    namespace: Ns,
    namespace_hash: u32,
}

/// The declarations in force at one place of the input.
#[derive(Debug, Default)]
pub struct Names {
    bindings: Vec<Binding>,
    inherited: Vec<Inherited>,
    decoded: Vec<u8>,
}

impl Names {
    /// Forgets everything; a buffer that one element made large is given back.
    pub fn clear(&mut self) {
        self.bindings.clear();
        self.inherited.clear();
        self.decoded.clear();
        self.decoded.shrink_to(DECODED_OCTETS_KEPT);
    }

    /// Whether [`Names::clear`] would give something back.
    pub fn is_large(&self) -> bool {
        self.decoded.capacity() > DECODED_OCTETS_KEPT
    }

    /// How many prefixes are bound, to return to by [`Names::leave`].
    #[inline]
    pub fn depth(&self) -> u32 {
        self.bindings.len() as u32
    }

    /// Ends all bindings after the first `depth`.
    #[inline]
    pub fn leave(&mut self, depth: u32) {
        self.bindings.truncate(depth as usize);
    }

    /// The default namespace that the header gives to each element.
    #[inline]
    pub fn scope_default(&mut self, scope: &StreamScope) -> Ns {
        if scope.is_standard() {
            return Ns::Client;
        }
        match scope.default_namespace() {
            "" => Ns::None,
            ns::CLIENT => Ns::Client,
            other => self.keep(other.as_bytes()),
        }
    }

    /// Takes `xmlns='raw'`.
    pub fn declare_default(&mut self, bytes: &[u8], raw: Span) -> Result<Ns, StreamError> {
        let namespace = self.namespace(bytes, raw);
        match self.octets(bytes, namespace) {
            b"" => Ok(Ns::None),
            // Section 3: neither may be declared as the default.
            name if is_reserved(name) => Err(StreamError::NotWellFormed),
            _ => Ok(namespace),
        }
    }

    /// Takes `xmlns:prefix='raw'`.
    pub fn declare(
        &mut self,
        bytes: &[u8],
        prefix: Span,
        raw: Span,
        bounds: &Bounds,
    ) -> Result<(), StreamError> {
        let namespace = self.namespace(bytes, raw);
        let name = self.octets(bytes, namespace);
        match prefix.of(bytes) {
            b"xml" if name == ns::XML.as_bytes() => return Ok(()),
            b"xml" | b"xmlns" => return Err(StreamError::NotWellFormed),
            // Only the default can be undeclared in namespaces 1.0.
            _ if name.is_empty() || is_reserved(name) => return Err(StreamError::NotWellFormed),
            _ => {}
        }
        let binding = Binding {
            prefix,
            prefix_hash: hash(prefix.of(bytes)),
            namespace,
            namespace_hash: hash(name),
        };
        // Lookups go through all of them: without this bound they could be made slow.
        if self.bindings.len() >= bounds.attributes_max.saturating_mul(BINDINGS_PER_ATTRIBUTE) {
            return Err(StreamError::PolicyViolation("too many namespaces"));
        }
        self.bindings.push(binding);
        Ok(())
    }

    /// What `prefix` is bound to, and the hash of that namespace.
    pub fn resolve(
        &mut self,
        bytes: &[u8],
        prefix: Span,
        scope: &StreamScope,
    ) -> Result<(Ns, u32), StreamError> {
        let name = prefix.of(bytes);
        let wanted = hash(name);
        for binding in self.bindings.iter().rev() {
            if binding.prefix_hash == wanted && binding.prefix.of(bytes) == name {
                return Ok((binding.namespace, binding.namespace_hash));
            }
        }
        match name {
            b"xml" => return Ok((Ns::Xml, hash(ns::XML.as_bytes()))),
            b"xmlns" => return Err(StreamError::NotWellFormed),
            _ => {}
        }
        for known in &self.inherited {
            if known.prefix.of(bytes) == name {
                return Ok((known.namespace, known.namespace_hash));
            }
        }
        let Some(found) = scope.namespace(name) else {
            return Err(StreamError::BadNamespacePrefix);
        };
        let namespace = match found {
            ns::STREAMS => Ns::Streams,
            ns::CLIENT => Ns::Client,
            other => self.keep(other.as_bytes()),
        };
        let namespace_hash = hash(found.as_bytes());
        self.inherited.push(Inherited {
            prefix,
            namespace,
            namespace_hash,
        });
        Ok((namespace, namespace_hash))
    }

    /// The octets of a namespace, decoded.
    #[inline]
    pub fn octets<'a>(&'a self, bytes: &'a [u8], namespace: Ns) -> &'a [u8] {
        match namespace {
            Ns::None => b"",
            Ns::Client => ns::CLIENT.as_bytes(),
            Ns::Streams => ns::STREAMS.as_bytes(),
            Ns::Xml => ns::XML.as_bytes(),
            Ns::Input(span) => span.of(bytes),
            Ns::Decoded(span) => span.of(&self.decoded),
        }
    }

    /// As [`Names::octets`], as text: what was scanned is checked once more.
    #[inline]
    pub fn text<'a>(&'a self, bytes: &'a [u8], namespace: Ns) -> &'a str {
        match namespace {
            Ns::None => "",
            Ns::Client => ns::CLIENT,
            Ns::Streams => ns::STREAMS,
            Ns::Xml => ns::XML,
            other => as_str(self.octets(bytes, other)),
        }
    }

    /// Prefixes bound by the open elements, outermost first.
    pub fn bound<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.bindings
            .iter()
            .map(|b| (b.prefix.of(bytes), self.octets(bytes, b.namespace)))
    }

    /// Prefixes that were used and that only the header declares.
    pub fn inherited<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.inherited
            .iter()
            .map(|i| (i.prefix.of(bytes), self.octets(bytes, i.namespace)))
    }

    fn namespace(&mut self, bytes: &[u8], raw: Span) -> Ns {
        let octets = raw.of(bytes);
        if is_verbatim(octets) {
            return Ns::Input(raw);
        }
        match decode::attribute(as_str(octets)) {
            std::borrow::Cow::Borrowed(_) => Ns::Input(raw),
            std::borrow::Cow::Owned(decoded) => self.keep(decoded.as_bytes()),
        }
    }

    fn keep(&mut self, octets: &[u8]) -> Ns {
        let start = self.decoded.len();
        self.decoded.extend_from_slice(octets);
        Ns::Decoded(Span::new(start, self.decoded.len()))
    }
}

/// The two namespaces that belong to the prefixes `xml` and `xmlns` alone.
fn is_reserved(namespace: &[u8]) -> bool {
    namespace == ns::XML.as_bytes() || namespace == ns::XMLNS.as_bytes()
}

/// Prefixes in force at once, for each attribute that one element may have.
const BINDINGS_PER_ATTRIBUTE: usize = 4;

/// Enough for the namespaces of an unusual header.
const DECODED_OCTETS_KEPT: usize = 512;
