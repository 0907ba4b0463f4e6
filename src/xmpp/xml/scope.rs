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
    /// Declared as nearly always, perhaps with a language.
    Usual(Declared, Option<ShortLang>),
    Unusual(Box<Unusual>),
}

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    /// `jabber:client` by default, `stream` as the prefix of the stream.
    Stream,
    /// Nothing: each element is a document of its own.
    Nothing,
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
    /// `None`: there is no end tag, because there is no start tag either.
    root: Option<Box<str>>,
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
        Self(Kind::Usual(Declared::Stream, None))
    }

    /// Of framing where each element is a document of its own and declares what it needs (RFC 7395
    /// section 3.3.3), before and after its header, which says no more than the language. An XML
    /// declaration may be in front of each element.
    pub fn framed(lang: Option<&str>) -> Self {
        match lang.map(ShortLang::new) {
            None => Self(Kind::Usual(Declared::Nothing, None)),
            Some(Some(lang)) => Self(Kind::Usual(Declared::Nothing, Some(lang))),
            Some(None) => Self(Kind::Unusual(Box::new(Unusual {
                root: None,
                default: Box::default(),
                lang: lang.map(Box::from),
                bindings: Box::default(),
            }))),
        }
    }

    /// After `header`.
    #[must_use]
    pub fn open(&self, header: &Header<'_>) -> Self {
        let lang = header.lang();
        if header.is_framed() {
            return Self::framed(lang.as_deref());
        }
        let usual = header.qname() == STANDARD_ROOT
            && header.default_namespace() == ns::CLIENT
            && header
                .namespaces()
                .all(|binding| binding == ("stream", ns::STREAMS));
        let short = lang.as_deref().map(ShortLang::new);
        match (usual, short) {
            (true, None) => return Self::standard(),
            (true, Some(Some(lang))) => return Self(Kind::Usual(Declared::Stream, Some(lang))),
            _ => {}
        }
        Self(Kind::Unusual(Box::new(Unusual {
            root: Some(header.qname().into()),
            default: header.default_namespace().into(),
            lang: lang.map(|lang| lang.as_ref().into()),
            bindings: header
                .namespaces()
                .map(|(p, n)| (p.into(), n.into()))
                .collect(),
        })))
    }

    /// Whether elements come next, not a header.
    pub const fn is_open(&self) -> bool {
        !matches!(self.0, Kind::Closed)
    }

    /// Whether an XML declaration may come next.
    pub(super) fn begins_document(&self) -> bool {
        match &self.0 {
            Kind::Closed => true,
            Kind::Usual(declared, _) => *declared == Declared::Nothing,
            Kind::Unusual(unusual) => unusual.root.is_none(),
        }
    }

    /// Whether the header declared the usual namespaces.
    pub(super) const fn is_standard(&self) -> bool {
        matches!(self.0, Kind::Usual(Declared::Stream, _))
    }

    /// The language of what does not name its own.
    pub fn lang(&self) -> Option<&str> {
        match &self.0 {
            Kind::Closed => None,
            Kind::Usual(_, lang) => lang.as_ref().map(ShortLang::as_str),
            Kind::Unusual(unusual) => unusual.lang.as_deref(),
        }
    }

    /// The namespace of elements without prefix and declaration; empty when there is none.
    pub fn default_namespace(&self) -> &str {
        match &self.0 {
            Kind::Closed | Kind::Usual(Declared::Nothing, _) => "",
            Kind::Usual(Declared::Stream, _) => ns::CLIENT,
            Kind::Unusual(unusual) => &unusual.default,
        }
    }

    /// The name in the end tag that ends the stream.
    pub(super) fn root(&self) -> Option<&str> {
        match &self.0 {
            Kind::Closed | Kind::Usual(Declared::Nothing, _) => None,
            Kind::Usual(Declared::Stream, _) => Some(STANDARD_ROOT),
            Kind::Unusual(unusual) => unusual.root.as_deref(),
        }
    }

    /// What the header bound `prefix` to.
    pub(super) fn namespace(&self, prefix: &[u8]) -> Option<&str> {
        match &self.0 {
            Kind::Closed | Kind::Usual(Declared::Nothing, _) => None,
            Kind::Usual(Declared::Stream, _) => (prefix == b"stream").then_some(ns::STREAMS),
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
    #[test]
    fn a_framed_scope_declares_nothing_but_the_language() {
        for lang in [None, Some("de"), Some("x-longer-than-two-words-are")] {
            let scope = StreamScope::framed(lang);
            assert_eq!(scope.lang(), lang);
            assert_eq!((scope.default_namespace(), scope.root()), ("", None));
            assert_eq!(scope.namespace(b"stream"), None);
            assert!(scope.is_open() && scope.begins_document() && !scope.is_standard());
        }
    }
}
