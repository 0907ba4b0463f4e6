//! What the stream header declared for everything that follows it.

use super::view::Header;
use crate::xmpp::ns;

/// What a stream's header declared: the context of each element on it.
///
/// Nearly all clients declare the same namespaces and one short language, which costs nothing
/// beside these two words; what differs is kept aside.
#[derive(Clone, Debug)]
pub struct StreamScope(Kind);

/// One is kept per stream, a million times.
const _: () = assert!(size_of::<StreamScope>() <= 16);

#[derive(Clone, Debug)]
enum Kind {
    /// No header yet.
    Closed,
    /// `jabber:client` by default, `stream` as the prefix of the stream, perhaps a language.
    Standard(Option<ShortLang>),
    Unusual(Box<Unusual>),
}

/// A language tag of a few octets, in place: `en`, `pt-BR`, `zh-Hant-TW`.
#[derive(Clone, Copy, Debug)]
struct ShortLang {
    length: u8,
    octets: [u8; SHORT_LANG_OCTETS_MAX],
}

/// What fits into two words beside what tells the kinds apart.
const SHORT_LANG_OCTETS_MAX: usize = 13;

impl ShortLang {
    /// `None`: it is too long.
    fn new(lang: &str) -> Option<Self> {
        let mut octets = [0; SHORT_LANG_OCTETS_MAX];
        octets
            .get_mut(..lang.len())?
            .copy_from_slice(lang.as_bytes());
        Some(Self {
            length: lang.len() as u8,
            octets,
        })
    }

    fn as_str(&self) -> &str {
        let octets = self.octets.get(..usize::from(self.length));
        let text = octets.map(std::str::from_utf8);
        // It was made of a whole text.
        text.and_then(Result::ok).unwrap_or_default()
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
        Self(Kind::Standard(None))
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
        let short = lang.as_deref().map(ShortLang::new);
        match (usual, short) {
            (true, None) => return Self(Kind::Standard(None)),
            (true, Some(Some(lang))) => return Self(Kind::Standard(Some(lang))),
            _ => {}
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

    /// Whether the header declared the usual namespaces.
    pub(super) const fn is_standard(&self) -> bool {
        matches!(self.0, Kind::Standard(_))
    }

    /// The language of what does not name its own.
    pub fn lang(&self) -> Option<&str> {
        match &self.0 {
            Kind::Closed => None,
            Kind::Standard(lang) => lang.as_ref().map(ShortLang::as_str),
            Kind::Unusual(unusual) => unusual.lang.as_deref(),
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

    /// Whatever its length, a language comes back; a usual one takes no memory.
    #[test]
    fn a_short_language_is_kept_in_place() {
        for lang in ["", "en", "zh-Hant-TW", "x-thirteen-oc"] {
            assert_eq!(ShortLang::new(lang).unwrap().as_str(), lang);
        }
        assert!(ShortLang::new("x-fourteen-oct").is_none());
    }
}
