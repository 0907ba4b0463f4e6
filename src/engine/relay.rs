//! Links that a proxy passes on: what stands before their first octet says whose they are (the
//! PROXY protocol). It is read before TLS, hence before the engine hears of the link.
//!
//! From here on the client that the proxy names is the peer: limits and logins count it, and
//! `Forwarded` is believed only if this client is itself one of `http.proxies`, since the proxy
//! that named it has not looked into what it passes on. Who is not named may be anybody: it has
//! the address of the proxy, and nothing that the proxy would be trusted with.

use std::net::SocketAddr;

use super::input::{Entry, Origin, Way};
use crate::session::policy::HttpPolicy;
pub use crate::transport::http::proxy::HEADER_OCTETS_MAX;
use crate::transport::http::proxy::{self, Progress, ProxyError};

/// Whether a link begins with the word of a proxy. There is no guess: a proxy has to say it, and
/// whoever else does sends no HTTP and no TLS.
pub fn is_due(origin: &Origin, policy: &HttpPolicy) -> bool {
    policy.proxy_protocol && origin.entry.is_http() && policy.proxies.contains(origin.peer.ip())
}

/// Looks for the whole word at the start of all octets of a link so far: how many it has, and
/// where the link comes from; nothing while it is not whole. [`HEADER_OCTETS_MAX`] are enough.
///
/// # Errors
/// Final: the link is to be closed without an answer.
pub fn read(
    bytes: &[u8],
    proxy: SocketAddr,
    entry: Entry,
    policy: &HttpPolicy,
) -> Result<Option<(usize, Origin)>, ProxyError> {
    let Progress::Complete(octets, told) = proxy::parse(bytes, proxy.ip(), &policy.proxies)? else {
        return Ok(None);
    };
    let way = match (told.address, told.is_secured) {
        (None, _) => Way::Unsaid,
        (Some(_), false) => Way::Relayed,
        (Some(_), true) => Way::RelayedByTls,
    };
    let peer = told.address.unwrap_or(proxy);
    Ok(Some((octets, Origin { peer, entry, way })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::http::network::Networks;

    fn policy() -> HttpPolicy {
        HttpPolicy {
            proxies: Networks::new(["10.0.0.0/8"]).unwrap(),
            proxy_protocol: true,
            ..HttpPolicy::default()
        }
    }

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 7)
    }

    #[test]
    fn proxies_say_whose_links_they_pass_on_and_nobody_else_does() {
        let off = HttpPolicy {
            proxy_protocol: false,
            ..policy()
        };
        for (address, entry, expected) in [
            ("10.0.0.1", Entry::Http, true),
            ("10.0.0.1", Entry::Https, true),
            ("10.0.0.1", Entry::Clear, false),
            ("10.0.0.1", Entry::DirectTls, false),
            ("192.0.2.1", Entry::Http, false),
        ] {
            let origin = Origin::direct(peer(address), entry);
            assert_eq!(is_due(&origin, &policy()), expected, "{address} {entry:?}");
            assert!(!is_due(&origin, &off));
        }
    }

    #[test]
    fn who_is_named_is_the_peer_and_who_is_not_is_nobody_in_particular() {
        let proxy = peer("10.0.0.1");
        let read = |line: &str| read(line.as_bytes(), proxy, Entry::Https, &policy());
        let (octets, origin) = read("PROXY TCP4 192.0.2.1 10.0.0.1 7 2\r\nGET")
            .unwrap()
            .expect("it is whole");
        assert_eq!(octets, "PROXY TCP4 192.0.2.1 10.0.0.1 7 2\r\n".len());
        assert_eq!((origin.peer, origin.way), (peer("192.0.2.1"), Way::Relayed));
        assert_eq!(origin.entry, Entry::Https);
        let (_, origin) = read("PROXY UNKNOWN\r\n").unwrap().expect("it is whole");
        assert_eq!((origin.peer, origin.way), (proxy, Way::Unsaid));
        assert!(read("PROXY TCP4 192.0.2.1").unwrap().is_none());
        assert!(read("GET / HTTP/1.1\r\n").is_err());
    }

    #[test]
    fn the_longest_word_is_whole_or_refused() {
        let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x08";
        // PP2_TYPE_NOOP fills what the addresses leave.
        let octets = [head.as_slice(), &[0; 12], b"\x04\x01\xf9", &[0; 505]].concat();
        assert_eq!(octets.len(), HEADER_OCTETS_MAX);
        let whole = read(&octets, peer("10.0.0.1"), Entry::Http, &policy()).unwrap();
        assert_eq!(whole.map(|(octets, _)| octets), Some(HEADER_OCTETS_MAX));
    }
}
