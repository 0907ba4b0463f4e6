//! What the stream header declared for everything that follows it.

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
    /// `jabber:client` by default, `stream` as the prefix of the stream, no language.
    Standard,
    Unusual(Box<Unusual>),
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
        Self(Kind::Standard)
    }

    /// After `header`.
    #[must_use]
    pub fn open(&self, header: &Header<'_>) -> Self {
        let lang = header.lang();
        let usual = lang.is_none()
            && header.qname() == STANDARD_ROOT
            && header.default_namespace() == ns::CLIENT
            && header
                .namespaces()
                .all(|binding| binding == ("stream", ns::STREAMS));
        if usual {
            return Self(Kind::Standard);
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
        matches!(self.0, Kind::Standard)
    }

    /// The language of what does not name its own.
    pub fn lang(&self) -> Option<&str> {
        match &self.0 {
            Kind::Unusual(unusual) => unusual.lang.as_deref(),
            _ => None,
        }
    }

    /// The namespace of elements without prefix and declaration; empty when there is none.
    pub fn default_namespace(&self) -> &str {
        match &self.0 {
            Kind::Closed => "",
            Kind::Standard => ns::CLIENT,
            Kind::Unusual(unusual) => &unusual.default,
        }
    }

    /// The name in the end tag that ends the stream.
    pub(super) fn root(&self) -> Option<&str> {
        match &self.0 {
            Kind::Closed => None,
            Kind::Standard => Some(STANDARD_ROOT),
            Kind::Unusual(unusual) => Some(&unusual.root),
        }
    }

    /// What the header bound `prefix` to.
    pub(super) fn namespace(&self, prefix: &[u8]) -> Option<&str> {
        match &self.0 {
            Kind::Closed => None,
            Kind::Standard => (prefix == b"stream").then_some(ns::STREAMS),
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
