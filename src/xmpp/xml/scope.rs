//! What the stream header declared for everything that follows it.

use super::decode::as_str;
use super::view::Header;
use crate::xmpp::ns;

/// What a stream's header declared: the context of each element on it.
///
/// Nearly all clients declare the same, which costs nothing here; what differs is kept aside.
#[derive(Clone, Debug)]
pub struct StreamScope(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// No header yet.
    Closed,
    /// `jabber:client` by default, `stream` as the prefix of the stream, a short language or none.
    Standard(Tag),
    Unusual(Box<Unusual>),
}

/// A language tag that is kept in place (empty: none): nearly all headers have one, none is long.
#[derive(Clone, Copy, Debug)]
struct Tag {
    length: u8,
    octets: [u8; TAG_OCTETS_MAX],
}

/// What fits beside the two octets that say which kind and how long.
const TAG_OCTETS_MAX: usize = 14;

impl Tag {
    const NONE: Self = Self {
        length: 0,
        octets: [0; TAG_OCTETS_MAX],
    };

    /// `None`: it is too long.
    fn new(lang: &str) -> Option<Self> {
        let mut octets = [0; TAG_OCTETS_MAX];
        octets
            .get_mut(..lang.len())?
            .copy_from_slice(lang.as_bytes());
        Some(Self {
            length: lang.len() as u8,
            octets,
        })
    }

    fn text(&self) -> &str {
        as_str(self.octets.get(..self.length.into()).unwrap_or_default())
    }
}

#[derive(Clone, Debug)]
struct Unusual {
    root: Box<str>,
    default: Box<str>,
    lang: Option<Box<str>>,
    bindings: Box<[(Box<str>, Box<str>)]>,
}

impl StreamScope {
    /// Before a header: the next item is one.
    pub const fn closed() -> Self {
        Self(Kind::Closed)
    }

    /// After the usual header of a client.
    pub const fn standard() -> Self {
        Self(Kind::Standard(Tag::NONE))
    }

    /// After `header`.
    #[must_use]
    pub fn open(&self, header: &Header<'_>) -> Self {
        let lang = header.lang();
        let usual = header.qname() == STANDARD_ROOT
            && header.default_namespace() == ns::CLIENT
            && header
                .namespaces()
                .all(|binding| binding == ("stream", ns::STREAMS));
        if usual && let Some(tag) = Tag::new(lang.as_deref().unwrap_or_default()) {
            return Self(Kind::Standard(tag));
        }
        Self(Kind::Unusual(Box::new(Unusual {
            root: header.qname().into(),
            default: header.default_namespace().into(),
            lang: lang.map(|lang| lang.as_ref().into()),
            bindings: header
                .namespaces()
                .map(|(p, n)| (p.into(), n.into()))
                .collect(),
        })))
    }

    /// Whether a header was received.
    pub const fn is_open(&self) -> bool {
        !matches!(self.0, Kind::Closed)
    }

    /// Whether the header was the usual one.
    pub(super) const fn is_standard(&self) -> bool {
        matches!(self.0, Kind::Standard(_))
    }

    /// The language of what does not name its own.
    pub fn lang(&self) -> Option<&str> {
        match &self.0 {
            Kind::Standard(tag) if tag.length > 0 => Some(tag.text()),
            Kind::Unusual(unusual) => unusual.lang.as_deref(),
            Kind::Standard(_) | Kind::Closed => None,
        }
    }

    /// The namespace of elements without prefix and declaration; empty when there is none.
    pub fn default_namespace(&self) -> &str {
        match &self.0 {
            Kind::Closed => "",
            Kind::Standard(_) => ns::CLIENT,
            Kind::Unusual(unusual) => &unusual.default,
        }
    }

    /// The name in the end tag that ends the stream.
    pub(super) fn root(&self) -> Option<&str> {
        match &self.0 {
            Kind::Closed => None,
            Kind::Standard(_) => Some(STANDARD_ROOT),
            Kind::Unusual(unusual) => Some(&unusual.root),
        }
    }

    /// What the header bound `prefix` to.
    pub(super) fn namespace(&self, prefix: &[u8]) -> Option<&str> {
        match &self.0 {
            Kind::Closed => None,
            Kind::Standard(_) => (prefix == b"stream").then_some(ns::STREAMS),
            Kind::Unusual(unusual) => unusual
                .bindings
                .iter()
                .find(|(bound, _)| bound.as_bytes() == prefix)
                .map(|(_, namespace)| &**namespace),
        }
    }
}

const STANDARD_ROOT: &str = "stream:stream";

#[cfg(test)]
mod tests {
    use super::*;

    /// One is kept per stream, a million times.
    #[test]
    fn a_scope_is_two_words_at_most() {
        assert!(size_of::<StreamScope>() <= 16);
    }
}
