//! Who asks, when proxies are between: `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! Anybody can write these fields. They are read only when a trusted proxy sent the request, and
//! from the right, where that proxy wrote; what stands left of the first stranger is the
//! stranger's own word.

use std::net::IpAddr;

use super::Scheme;
use super::fields::{Field, Fields};
use super::network::Networks;

/// Which field the trusted proxies write. Most pass on the other one as it came from the client,
/// so only a configuration can know; there is no guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Forwarded,
    /// And `X-Forwarded-Proto`.
    XForwardedFor,
}

/// Whom a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    /// How the client reached the first trusted proxy, if a proxy said so.
    pub scheme: Option<Scheme>,
}

/// The client of a request that came over a link with this peer: the first address from the right
/// that is not trusted. Where an entry hides its address or is malformed, it is the proxy that
/// wrote the entry; when all are trusted, the leftmost.
pub fn client(peer: IpAddr, fields: &Fields, source: Source, trusted: &Networks) -> Client {
    let mut client = Client {
        address: peer.to_canonical(),
        scheme: None,
    };
    if !trusted.contains(peer) {
        return client;
    }
    let field = match source {
        Source::Forwarded => Field::Forwarded,
        Source::XForwardedFor => Field::XForwardedFor,
    };
    let told = match source {
        Source::Forwarded => None,
        Source::XForwardedFor => last_scheme(fields),
    };
    client.scheme = told;
    // Split without regard to quotes: no address has a comma, and a quote that a client left open
    // must not swallow what the proxy added behind it.
    let entries = fields
        .values(field)
        .rev()
        .flat_map(|value| value.rsplit(','));
    for entry in entries.map(|entry| entry.trim_matches([' ', '\t'])) {
        if entry.is_empty() {
            continue;
        }
        let hop = match source {
            Source::Forwarded => Hop::parse(entry),
            Source::XForwardedFor => Hop {
                address: address(entry),
                scheme: told,
            },
        };
        client.scheme = hop.scheme;
        let Some(address) = hop.address else {
            break;
        };
        client.address = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// What one proxy said of whom it served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    address: Option<IpAddr>,
    scheme: Option<Scheme>,
}

impl Hop {
    /// `forwarded-element` (RFC 7239 section 4); nothing is known when it is malformed.
    fn parse(element: &str) -> Self {
        Self::parse_pairs(element).unwrap_or_default()
    }

    fn parse_pairs(element: &str) -> Option<Self> {
        let (mut node, mut proto) = (None, None);
        for pair in element.split(';').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let value = unquote(value)?;
            let slot = match name {
                _ if name.eq_ignore_ascii_case("for") => &mut node,
                _ if name.eq_ignore_ascii_case("proto") => &mut proto,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        Some(Self {
            address: node.and_then(address),
            scheme: proto.and_then(scheme),
        })
    }
}

/// The value of a parameter; escapes inside quotes have no use in what we read.
fn unquote(value: &str) -> Option<&str> {
    let inside = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    match inside.contains(['"', '\\']) {
        true => None,
        false => Some(inside),
    }
}

/// An address with or without brackets and port (RFC 7239 section 6).
fn address(node: &str) -> Option<IpAddr> {
    let (address, port) = match node.strip_prefix('[') {
        Some(literal) => literal.split_once(']')?,
        None if node.matches(':').count() == 1 => {
            node.split_at_checked(node.find(':').unwrap_or_default())?
        }
        None => (node, ""),
    };
    let port = match port {
        "" => port,
        _ => port.strip_prefix(':')?,
    };
    let address: IpAddr = address.parse().ok()?;
    match port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) {
        true => Some(address.to_canonical()),
        false => None,
    }
}

/// What our own peer said in `X-Forwarded-Proto`.
fn last_scheme(fields: &Fields) -> Option<Scheme> {
    fields
        .list(Field::XForwardedProto)
        .next_back()
        .and_then(scheme)
}

fn scheme(name: &str) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|scheme| name.eq_ignore_ascii_case(scheme.name()))
}

#[cfg(test)]
mod tests;
