//! How the items of a stream are cut on its link.
//!
//! On TCP one document runs from the header to its end (RFC 6120 section 4); on a WebSocket each
//! item is a document and a message of its own (RFC 7395 section 3.3). Whoever writes to a session
//! writes items as on TCP, and they are enclosed here.

use std::borrow::Cow;
use std::ops::Range;

use super::websocket::{Code, encode, xmpp};
use crate::xmpp::stanza::Stanza;
use crate::xmpp::xml::Scanner;

/// One of the two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6120.
    #[default]
    Stream,
    /// RFC 7395.
    WebSocket,
}

/// What a stanza on a WebSocket declares, first of all its attributes: it has no header around it.
const NAMESPACE: &[u8] = b" xmlns='jabber:client'";

impl Framing {
    /// Encloses whole items, written as on TCP from `start` on to the end of `out`.
    pub fn enclose(self, out: &mut Vec<u8>, start: usize) {
        if self == Self::Stream || out.len() == start {
            return;
        }
        let counts = [&b"<a "[..], b"<r "];
        if out
            .get(start..)
            .is_some_and(|items| counts.iter().any(|c| items.starts_with(c)))
        {
            // What stream management says goes out alone, and often.
            return encode::frame_in_place(out, start);
        }
        let items = out.split_off(start);
        let written = xmpp::write_items(out, &items, &mut Scanner::new());
        debug_assert_eq!(written, Ok(items.len()), "whole items of ours");
        if items.ends_with(b"</stream:stream>") {
            // Nothing follows the end of a stream, so its socket ends too (section 3.6).
            encode::write_close(out, Some(Code::NORMAL), "");
        }
    }

    /// Appends a stanza, addressed as `to`. Returns where it is, without what encloses it.
    #[inline]
    pub fn write(self, stanza: &Stanza<'_>, to: &str, out: &mut Vec<u8>) -> Range<usize> {
        let start = out.len();
        match self {
            Self::Stream => stanza.write(to, out),
            Self::WebSocket => stanza.write_with(NAMESPACE, to, out),
        }
        self.enclose_one(out, start)
    }

    /// Appends a stanza that [`Framing::write`] wrote on any link. Returns as that does.
    pub fn copy(self, stanza: &[u8], out: &mut Vec<u8>) -> Range<usize> {
        let start = out.len();
        let name = name_octets(stanza);
        let (head, rest) = stanza.split_at(name);
        out.extend_from_slice(head);
        if self == Self::WebSocket {
            out.extend_from_slice(NAMESPACE);
        }
        out.extend_from_slice(rest.strip_prefix(NAMESPACE).unwrap_or(rest));
        self.enclose_one(out, start)
    }

    #[inline]
    fn enclose_one(self, out: &mut Vec<u8>, start: usize) -> Range<usize> {
        let octets = out.len() - start;
        if self == Self::WebSocket {
            encode::frame_in_place(out, start);
        }
        out.len() - octets..out.len()
    }
}

/// A stanza that [`Framing::write`] wrote on any link, as TCP has it.
pub fn plain(stanza: &[u8]) -> Cow<'_, [u8]> {
    let (head, rest) = stanza.split_at(name_octets(stanza));
    match rest.strip_prefix(NAMESPACE) {
        None => Cow::Borrowed(stanza),
        Some(rest) => Cow::Owned([head, rest].concat()),
    }
}

/// Octets of `<` and the name behind it.
fn name_octets(stanza: &[u8]) -> usize {
    let end = |octet: &u8| matches!(octet, b' ' | b'>' | b'/');
    stanza.iter().position(end).unwrap_or(stanza.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::stanza::{Draft, Kind, Type};

    #[test]
    fn a_stanza_is_the_same_whatever_links_it_went_over() {
        let draft = Draft::new(Kind::Message, Type::Chat, "a@b/c", "d@e", b"").with_content("<x/>");
        let mut plainly = Vec::new();
        Framing::Stream.write(&draft.as_stanza(), "d@e", &mut plainly);
        let mut framed = b"before".to_vec();
        let place = Framing::WebSocket.write(&draft.as_stanza(), "d@e", &mut framed);
        let payload = framed[place].to_vec();
        assert!(payload.starts_with(b"<message xmlns='jabber:client' from='a@b/c'"));
        assert_eq!(&*plain(&payload), plainly);
        assert_eq!(&*plain(&plainly), plainly);
        for stanza in [&payload, &plainly] {
            let mut out = Vec::new();
            let place = Framing::Stream.copy(stanza, &mut out);
            assert_eq!((&out[place], &out[..]), (&plainly[..], &plainly[..]));
            let place = Framing::WebSocket.copy(stanza, &mut out);
            assert_eq!(&out[place], payload);
        }
    }
}
