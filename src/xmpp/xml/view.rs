//! Views of what was scanned. They decode on demand and own nothing.

use std::borrow::Cow;

use super::decode::{self, as_str};
use super::element::{Context, Tree};
use super::octets::{self, SPACE};
use super::resolve::{Name, Ns};
use super::scanner::Scanner;
use crate::xmpp::ns;

/// One complete element below the stream's root.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    pub(super) scanner: &'a Scanner,
    pub(super) bytes: &'a [u8],
}

impl<'a> Element<'a> {
    /// The name without prefix.
    pub fn local(self) -> &'a str {
        as_str(self.local_octets())
    }

    /// As [`Element::local`], unchecked: for comparing.
    #[inline]
    pub fn local_octets(self) -> &'a [u8] {
        self.scanner.root.name.local(self.bytes)
    }

    /// The name as written.
    pub fn qname(self) -> &'a str {
        as_str(self.scanner.root.name.span.of(self.bytes))
    }

    /// The namespace; empty when there is none.
    pub fn namespace(self) -> &'a str {
        let scanner = self.scanner;
        scanner.names.text(self.bytes, scanner.root.namespace)
    }

    /// Whether it is in `jabber:client` and so are its children that do not say otherwise: true of
    /// nearly all, and found without comparing.
    pub fn is_client(self) -> bool {
        match (self.scanner.root.namespace, self.scanner.inner_default) {
            (Ns::Client, Ns::Client) => true,
            _ => self.namespace() == ns::CLIENT && self.default_namespace() == ns::CLIENT,
        }
    }

    /// The namespace of children without prefix and declaration; empty when there is none. Whoever
    /// writes another start tag around the content must see that it stays the same.
    pub fn default_namespace(self) -> &'a str {
        let names = &self.scanner.names;
        names.text(self.bytes, self.scanner.inner_default)
    }

    /// Whether this is `local` of the namespace `ns`.
    pub fn is(self, ns: &str, local: &str) -> bool {
        self.scanner.root.name.local(self.bytes) == local.as_bytes()
            && self.namespace_octets() == ns.as_bytes()
    }

    /// The value of the attribute without prefix that has this name.
    pub fn attr(self, name: &str) -> Option<Cow<'a, str>> {
        self.attrs()
            .find(|attr| attr.name == name.as_bytes())
            .map(Attr::value)
    }

    /// All attributes, declarations of namespaces included, as they stand.
    pub fn attrs(self) -> impl Iterator<Item = Attr<'a>> {
        self.scanner.root_attributes(self.bytes)
    }

    /// The octets between the start tag and the end tag.
    pub fn content(self) -> &'a [u8] {
        let end = self.scanner.content_end;
        self.bytes
            .get(self.scanner.content_start..end)
            .unwrap_or_default()
    }

    /// The whole element.
    pub fn octets(self) -> &'a [u8] {
        self.bytes.get(..self.scanner.item_end).unwrap_or_default()
    }

    /// The elements directly below the root.
    pub fn children(self) -> impl Iterator<Item = Child<'a>> {
        let spans = self.scanner.children.iter();
        spans.map(move |span| Child {
            local: span.name.local(self.bytes),
            namespace: self.scanner.names.octets(self.bytes, span.namespace),
            octets: self
                .bytes
                .get(span.start as usize..span.end as usize)
                .unwrap_or_default(),
            start: span.start as usize - self.scanner.content_start,
            parent: self,
        })
    }

    /// The first child that is `local` of the namespace `ns`.
    pub fn child(self, ns: &str, local: &str) -> Option<Child<'a>> {
        self.children().find(|child| child.is(ns, local))
    }

    /// Whether there is text other than white space directly below the root.
    pub fn has_text(self) -> bool {
        self.scanner.has_text
    }

    /// The text directly below the root.
    pub fn text(self) -> String {
        self.tree().text()
    }

    /// Prefixes used inside that only the stream header declares, with their namespaces. Whoever
    /// takes the element out of its stream must declare them again.
    pub fn inherited(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let inherited = self.scanner.names.inherited(self.bytes);
        inherited.map(|(prefix, namespace)| (as_str(prefix), as_str(namespace)))
    }

    /// The element's own `xml:lang`.
    pub fn lang(self) -> Option<Cow<'a, str>> {
        self.attr("xml:lang")
    }

    /// An owned copy, to be read deeply.
    pub fn tree(self) -> Tree {
        Tree::read(self.octets(), &self.context(self.scanner.outer_default))
    }

    fn namespace_octets(self) -> &'a [u8] {
        let scanner = self.scanner;
        scanner.names.octets(self.bytes, scanner.root.namespace)
    }

    /// The namespaces in force around or directly below the root.
    fn context(self, default: Ns) -> Context<'a> {
        let names = &self.scanner.names;
        let prefixes = names.inherited(self.bytes).chain(names.bound(self.bytes));
        Context {
            default: as_str(names.octets(self.bytes, default)),
            prefixes: prefixes.map(|(p, n)| (as_str(p), as_str(n))).collect(),
        }
    }
}

/// An element directly below the root of an [`Element`].
#[derive(Clone, Copy)]
pub struct Child<'a> {
    /// The name without prefix.
    pub local: &'a [u8],
    /// The namespace; empty when there is none.
    pub namespace: &'a [u8],
    /// The whole element.
    pub octets: &'a [u8],
    /// Where it begins in [`Element::content`].
    pub start: usize,
    parent: Element<'a>,
}

impl<'a> Child<'a> {
    /// Whether this is `local` of the namespace `ns`.
    pub fn is(self, ns: &str, local: &str) -> bool {
        self.local == local.as_bytes() && self.namespace == ns.as_bytes()
    }

    /// The value of the attribute without prefix that has this name.
    pub fn attr(self, name: &str) -> Option<Cow<'a, str>> {
        self.attrs()
            .find(|attr| attr.name == name.as_bytes())
            .map(Attr::value)
    }

    /// All attributes, declarations of namespaces included, as they stand.
    pub fn attrs(self) -> impl Iterator<Item = Attr<'a>> {
        StartTag::new(self.octets)
    }

    /// Where it ends in [`Element::content`].
    pub fn end(self) -> usize {
        self.start + self.octets.len()
    }

    /// Whether it has neither text nor elements, however it is written.
    pub fn is_empty(self) -> bool {
        let mut tag = StartTag::new(self.octets);
        while tag.next().is_some() {}
        let after = octets::skip_space(tag.rest, 0);
        match tag.rest.get(after..) {
            Some([b'>', content @ ..]) => content.starts_with(b"</"),
            _ => true,
        }
    }

    /// An owned copy, to be read deeply.
    pub fn tree(self) -> Tree {
        Tree::read(
            self.octets,
            &self.parent.context(self.parent.scanner.inner_default),
        )
    }
}

/// The stream's start tag, or the element that stands for it (RFC 7395 section 3.4).
#[derive(Clone, Copy)]
pub struct Header<'a>(pub(super) Element<'a>);

impl<'a> Header<'a> {
    /// The value of the attribute without prefix that has this name.
    pub fn attr(self, name: &str) -> Option<Cow<'a, str>> {
        self.0.attr(name)
    }

    /// The name as written, usually `stream:stream`.
    pub fn qname(self) -> &'a str {
        self.0.qname()
    }

    /// The namespace of the content (RFC 6120 section 4.8.2); empty when there is none. Framed
    /// streams have but one.
    pub fn default_namespace(self) -> &'a str {
        match self.is_framed() {
            true => ns::CLIENT,
            false => self.0.default_namespace(),
        }
    }

    /// Whether this is an `<open/>`, after which elements are documents of their own.
    pub fn is_framed(self) -> bool {
        self.0.is(ns::FRAMING, "open")
    }

    /// The prefixes and their namespaces.
    pub fn namespaces(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let bound = self.0.scanner.names.bound(self.0.bytes);
        bound.map(|(prefix, namespace)| (as_str(prefix), as_str(namespace)))
    }

    /// The language of the stream.
    pub fn lang(self) -> Option<Cow<'a, str>> {
        self.0.lang()
    }

    /// The version, major and minor; 0.9 when there is none (RFC 6120 section 4.7.5). `None`: not
    /// a version.
    pub fn version(self) -> Option<(u32, u32)> {
        let Some(version) = self.attr("version") else {
            return Some((0, 9));
        };
        let (major, minor) = version.split_once('.')?;
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        Some((number(major)?, number(minor)?))
    }
}

/// One attribute as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// With its prefix.
    pub name: &'a [u8],
    /// The octets between the quotes.
    pub raw: &'a [u8],
    /// The quote: `'` or `"`.
    pub quote: u8,
}

impl<'a> Attr<'a> {
    /// Whether it declares a namespace.
    pub fn is_xmlns(self) -> bool {
        self.name == b"xmlns" || self.name.starts_with(b"xmlns:")
    }

    /// As [`Attr::value`], as octets: for comparing.
    pub fn octets(self) -> Cow<'a, [u8]> {
        match octets::is_verbatim(self.raw) {
            true => Cow::Borrowed(self.raw),
            false => Cow::Owned(self.value().into_owned().into_bytes()),
        }
    }

    /// The value, decoded, white space normalised.
    pub fn value(self) -> Cow<'a, str> {
        decode::attribute(as_str(self.raw))
    }
}

/// The attributes of the start tag at the front of an element that was accepted or written here, as
/// they stand.
pub fn start_tag_attrs(element: &[u8]) -> impl Iterator<Item = Attr<'_>> {
    StartTag::new(element)
}

/// Reads the attributes of a start tag that the scanner accepted.
struct StartTag<'a> {
    rest: &'a [u8],
}

impl<'a> StartTag<'a> {
    fn new(element: &'a [u8]) -> Self {
        let ends_name = |b: &u8| octets::is(*b, SPACE) || matches!(b, b'>' | b'/');
        let after = element.iter().position(ends_name).unwrap_or(element.len());
        Self {
            rest: element.get(after..).unwrap_or_default(),
        }
    }
}

impl<'a> Iterator for StartTag<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let rest = self.rest.get(octets::skip_space(self.rest, 0)..)?;
        if matches!(rest.first(), None | Some(b'>' | b'/')) {
            return None;
        }
        let equals = memchr::memchr(b'=', rest)?;
        let (name, rest) = rest.split_at_checked(equals)?;
        let rest = rest.get(octets::skip_space(rest, 1)..)?;
        let (&quote, rest) = rest.split_first()?;
        let (raw, rest) = rest.split_at_checked(memchr::memchr(quote, rest)?)?;
        self.rest = rest.get(1..)?;
        Some(Attr {
            name: name.trim_ascii_end(),
            raw,
            quote,
        })
    }
}

impl Scanner {
    fn root_attributes<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Attr<'a>> {
        let attributes = self.attributes.get(..self.root_attributes);
        attributes
            .unwrap_or_default()
            .iter()
            .map(move |attribute| Attr {
                name: attribute.name.span.of(bytes),
                raw: attribute.value.of(bytes),
                quote: attribute.quote,
            })
    }
}

/// A child of the root, in the scanner's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChildSpan {
    pub start: u32,
    pub end: u32,
    pub name: Name,
    pub namespace: Ns,
}
