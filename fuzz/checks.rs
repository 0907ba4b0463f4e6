//! What must hold for any input. The fuzz targets feed it; `tests/corpora.rs` replays the corpora.
#![allow(dead_code, reason = "each target uses one of them")]

use std::net::{IpAddr, Ipv4Addr};

use encke::transport::http::forwarded::{self, Source};
use encke::transport::http::network::Networks;
use encke::transport::http::{self, head, proxy, query};
use encke::transport::websocket::frame::{self, Decoder, Kind, Refusal, Step, UNREAD_OCTETS_MAX};
use encke::transport::websocket::{encode, xmpp};
use encke::xmpp::jid::Jid;
use encke::xmpp::xml::{Bounds, Progress, Scanner, StreamScope, Tree};

/// Tight, so that short inputs reach the bounds.
const BOUNDS: Bounds = Bounds {
    octets_max: 400,
    depth_max: 8,
    attributes_max: 8,
    elements_max: 16,
};

/// The items of a stream do not depend on how it was cut, nothing panics, and what is written anew
/// reads the same.
pub fn xml(input: &[u8]) {
    let whole = items(input, input.len().max(1));
    assert_eq!(items(input, 1), whole);
    assert_eq!(items(input, 7), whole);
    for tree in whole.0 {
        let mut written = Vec::new();
        tree.write(&mut written);
        let bounds = Bounds {
            octets_max: usize::MAX,
            attributes_max: usize::MAX,
            ..BOUNDS
        };
        let mut scanner = Scanner::new();
        let progress = scanner.next(&written, &StreamScope::standard(), &bounds);
        assert_eq!(
            progress,
            Ok(Progress::Element(written.len())),
            "{}",
            written.escape_ascii()
        );
        assert_eq!(scanner.element(&written).tree(), tree);
    }
}

/// The normal form of an address is its own normal form, and its parts make it up.
pub fn jid(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let Ok(jid) = Jid::parse(text) else {
        return;
    };
    assert_eq!(Jid::parse(jid.as_str()).as_ref(), Ok(&jid));
    assert_eq!(
        Jid::from_parts(jid.local(), jid.domain(), jid.resource()).as_ref(),
        Ok(&jid)
    );
    assert_eq!(
        Jid::parse(jid.bare()).map(|bare| bare.to_bare()),
        Ok(jid.to_bare())
    );
    assert!(jid.as_str().len() <= 3 * 1023 + 2);
}

/// As frames of a client: what they come to does not depend on how they were cut, and text that we
/// write reads the same. As items of a server: each becomes one message that stands alone.
pub fn websocket(input: &[u8]) {
    let whole = steps(input, input.len().max(1));
    assert_eq!(steps(input, 1), whole);
    assert_eq!(steps(input, 7), whole);
    for (_, message) in whole.0 {
        let Ok(message) = str::from_utf8(&message) else {
            continue;
        };
        let mut written = Vec::new();
        encode::write_text(&mut written, message);
        assert_eq!(payloads(&written), [message.as_bytes()]);
        stands_alone(message.as_bytes());
    }
    let mut written = Vec::new();
    let taken = xmpp::write_items(&mut written, input, &mut Scanner::new());
    assert!(taken.is_err() || taken.is_ok_and(|taken| taken <= input.len()));
    for payload in payloads(&written) {
        assert!(stands_alone(payload), "{}", payload.escape_ascii());
    }
}

/// Whether this is a message of XMPP, but for prefixes that are not declared and content of the
/// framing's own elements.
fn stands_alone(payload: &[u8]) -> bool {
    let bounds = Bounds {
        octets_max: usize::MAX,
        depth_max: usize::MAX,
        attributes_max: usize::MAX,
        elements_max: usize::MAX,
    };
    let scope = StreamScope::framed(Some("en"));
    match xmpp::receive(&mut Scanner::new(), payload, &scope, &bounds) {
        Ok(_) => true,
        Err(error) => matches!(error.condition(), "bad-namespace-prefix" | "bad-format"),
    }
}

/// The steps with their messages, and how the link ended.
fn steps(input: &[u8], piece: usize) -> (Vec<(Step, Vec<u8>)>, Option<Refusal>) {
    let bounds = frame::Bounds {
        message_octets_max: 300,
        fragments_max: 8,
    };
    let mut decoder = Decoder::new();
    let mut unread = Vec::new();
    let mut message = Vec::new();
    let mut steps = Vec::new();
    for piece in input.chunks(piece) {
        unread.extend_from_slice(piece);
        loop {
            let (taken, step) = match decoder.next(&unread, &mut message, &bounds) {
                Ok(progress) => progress,
                Err(refusal) => return (steps, Some(refusal)),
            };
            assert!(message.len() <= bounds.message_octets_max);
            unread.drain(..taken);
            match step {
                Step::Incomplete => break,
                Step::Message(kind) => {
                    assert!(kind == Kind::Binary || str::from_utf8(&message).is_ok());
                    steps.push((step, std::mem::take(&mut message)));
                }
                Step::Close(_) => {
                    steps.push((step, Vec::new()));
                    return (steps, None);
                }
                Step::Ping(_) | Step::Pong(_) => steps.push((step, Vec::new())),
            }
        }
        assert!(unread.len() < UNREAD_OCTETS_MAX);
    }
    (steps, None)
}

/// Of the text messages that a server wrote.
fn payloads(mut frames: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let [first, length, rest @ ..] = frames {
        assert_eq!(*first, 0x81);
        let form = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let (length_octets, rest) = rest.split_at(form);
        let octets = match form {
            0 => usize::from(*length),
            _ => length_octets
                .iter()
                .fold(0, |octets, octet| octets << 8 | usize::from(*octet)),
        };
        let (payload, rest) = rest.split_at(octets);
        payloads.push(payload);
        frames = rest;
    }
    assert!(frames.is_empty());
    payloads
}

/// The requests of a link do not depend on how it was cut, and no path means another one; a header
/// of a proxy is the same in any pieces.
pub fn http(input: &[u8]) {
    let whole = requests(input, input.len().max(1));
    assert_eq!(requests(input, 1), whole);
    assert_eq!(requests(input, 7), whole);
    for (path, _) in whole.0 {
        assert!(path.starts_with('/') || path == "*", "{path:?}");
        let mut segments: Vec<&str> = path.split('/').skip(1).collect();
        assert!(
            !segments
                .iter()
                .any(|segment| matches!(*segment, "." | "..")),
            "{path:?}"
        );
        segments.pop();
        assert!(!segments.contains(&""), "{path:?}");
        assert!(!path.contains(['\\', '\0', '\r', '\n']), "{path:?}");
    }

    let trusted = Networks::new(["127.0.0.1"]).unwrap();
    let header = proxy::parse(input, PEER, &trusted);
    for end in 0..input.len() {
        let part = proxy::parse(&input[..end], PEER, &trusted);
        assert!(
            part == Ok(proxy::Progress::Incomplete) || part == header,
            "cut at {end}"
        );
    }
}

/// Paths and bodies of the requests, and why the last one was refused.
fn requests(input: &[u8], piece: usize) -> (Vec<(String, Vec<u8>)>, Option<http::Refusal>) {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    let mut link = HttpLink::default();
    for piece in input.chunks(piece) {
        unread.extend_from_slice(piece);
        if let Err(refusal) = link.receive(&mut unread, &mut found) {
            return (found, Some(refusal));
        }
    }
    (found, None)
}

#[derive(Default)]
struct HttpLink {
    body: Option<http::Body>,
    seen: usize,
}

impl HttpLink {
    /// Takes all that is whole.
    fn receive(
        &mut self,
        unread: &mut Vec<u8>,
        found: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<(), http::Refusal> {
        loop {
            if let (Some(body), Some((_, out))) = (&mut self.body, found.last_mut()) {
                let taken = body.take(unread, out)?;
                unread.drain(..taken.octets);
                if !taken.done {
                    return Ok(());
                }
                self.body = None;
            }
            let octets = match head::parse(unread, self.seen, &HEAD_BOUNDS)? {
                head::Progress::Incomplete => {
                    self.seen = unread.len();
                    return Ok(());
                }
                head::Progress::Complete(request) => {
                    look_at(&request);
                    found.push((request.path.to_string(), Vec::new()));
                    self.body = Some(http::Body::new(request.framing, 64)?);
                    request.octets
                }
            };
            self.seen = 0;
            unread.drain(..octets);
        }
    }
}

/// Whatever may be read of a request can be read.
fn look_at(request: &head::Request) {
    let trusted = Networks::new(["0.0.0.0/0", "::/0"]).unwrap();
    for source in [Source::Forwarded, Source::XForwardedFor] {
        forwarded::client(PEER, &request.fields, source, &trusted);
    }
    let pairs = query::pairs(request.query.unwrap_or_default());
    for (name, value) in pairs.flatten() {
        assert!(!name.contains('\0') && !value.contains('\0'));
    }
    request.fields.cookie("a");
    request.wants_upgrade("websocket");
}

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Tight, so that short inputs reach the bounds.
const HEAD_BOUNDS: http::Bounds = http::Bounds {
    head_octets_max: 300,
    target_octets_max: 60,
    fields_max: 8,
};

/// Trees of the elements, and how the stream ended.
fn items(input: &[u8], piece: usize) -> (Vec<Tree>, Option<&'static str>, bool) {
    let mut scanner = Scanner::new();
    let mut scope = StreamScope::closed();
    let mut buffer = Vec::new();
    let mut trees = Vec::new();
    let mut ended = false;
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() {
            let used = match scanner.next(&buffer, &scope, &BOUNDS) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Blank(used)) => used,
                Ok(Progress::Header(used)) => {
                    scope = scope.open(&scanner.header(&buffer));
                    used
                }
                Ok(Progress::Element(used)) => {
                    let element = scanner.element(&buffer);
                    for child in element.children() {
                        let name = [child.namespace, child.local].map(str::from_utf8);
                        let [Ok(namespace), Ok(local)] = name else {
                            panic!("a name that is not text passed the scanner");
                        };
                        assert!(child.tree().is(namespace, local));
                    }
                    trees.push(element.tree());
                    used
                }
                Ok(Progress::End(used)) => {
                    ended = true;
                    scope = StreamScope::closed();
                    used
                }
                Err(error) => return (trees, Some(error.condition()), ended),
            };
            buffer.drain(..used);
        }
    }
    (trees, None, ended)
}
