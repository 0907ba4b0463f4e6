//! The opening handshake from the server's side (RFC 6455 section 4.2): what a request must have,
//! and the answer.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

/// Values of a request's headers; `None` where there is no such header, and where one came several
/// times all values with `, ` between them. That the method is GET and the version HTTP/1.1 or
/// higher was checked, and where it matters the `Origin` too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub upgrade: Option<&'a str>,
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`
    pub version: Option<&'a str>,
    /// `Sec-WebSocket-Key`
    pub key: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`
    pub protocols: Option<&'a str>,
}

/// What the answer will say. There is no extension in it, whatever the client offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    accept: [u8; ACCEPT_OCTETS],
    /// `None`: the client wants none of ours. Where a path serves one protocol alone the request
    /// is refused then.
    pub protocol: Option<&'static str>,
}

/// Why a request does not become a link. No octet of the body is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The request asks for no WebSocket.
    NoUpgrade,
    /// Another version than 13.
    Version,
    /// The key is missing or is not 16 octets.
    Key,
}

impl Rejection {
    /// The status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::NoUpgrade | Self::Key => 400,
            Self::Version => 426,
        }
    }

    /// Headers that the answer must have (RFC 6455 section 4.4, RFC 9110 section 15.5.22).
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::NoUpgrade | Self::Key => &[],
            Self::Version => &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
        }
    }

    /// What a person may read.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoUpgrade => "a WebSocket handshake is expected here",
            Self::Version => "only version 13 of WebSocket is spoken here",
            Self::Key => "the WebSocket key is not 16 octets in base64",
        }
    }
}

impl Agreement {
    /// Appends the whole answer. Frames follow at once.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\n\
              Connection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        if let Some(protocol) = self.protocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(protocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Checks a request. Of `served`, our protocols in the order of our preference, the first is chosen
/// that the client offers, whatever the order of its own list.
///
/// # Errors
/// Whatever section 4.2.1 requires and the request lacks.
pub fn check(request: &Request<'_>, served: &[&'static str]) -> Result<Agreement, Rejection> {
    let asks = |header: Option<&str>, token: &str| {
        list(header).any(|element| element.eq_ignore_ascii_case(token))
    };
    if !asks(request.upgrade, "websocket") || !asks(request.connection, "upgrade") {
        return Err(Rejection::NoUpgrade);
    }
    if request.version.map(str::trim_ascii) != Some("13") {
        return Err(Rejection::Version);
    }
    let key = request.key.map(str::trim_ascii).unwrap_or_default();
    if !is_key(key) {
        return Err(Rejection::Key);
    }
    let is_offered = |name: &&&str| list(request.protocols).any(|offered| offered == **name);
    Ok(Agreement {
        accept: accept_key(key),
        protocol: served.iter().find(is_offered).copied(),
    })
}

/// `Sec-WebSocket-Accept` for this `Sec-WebSocket-Key` (section 4.2.2, step 5.4).
pub fn accept_key(key: &str) -> [u8; ACCEPT_OCTETS] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [b'='; ACCEPT_OCTETS];
    // The base64 of 20 octets are 28, so it fits.
    let written = BASE64.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_OCTETS));
    accept
}

/// The elements of a list in a header (RFC 9110 section 5.6.1).
fn list(header: Option<&str>) -> impl Iterator<Item = &str> {
    let elements = header.unwrap_or_default().split(',');
    elements
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
}

/// The octets themselves mean nothing.
fn is_key(key: &str) -> bool {
    let mut octets = [0; KEY_OCTETS + 2];
    key.len() == KEY_LENGTH && BASE64.decode_slice(key, &mut octets) == Ok(KEY_OCTETS)
}

/// The last character of 16 octets has four bits to spare. Clients that make up characters instead
/// of octets set them, and nobody is misled by them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// Section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_OCTETS: usize = 16;
/// 16 octets in base64.
const KEY_LENGTH: usize = 24;
const ACCEPT_OCTETS: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn usual() -> Request<'static> {
        Request {
            upgrade: Some("websocket"),
            connection: Some("Upgrade"),
            version: Some("13"),
            key: Some(KEY),
            protocols: None,
        }
    }

    /// Section 1.3 has this pair.
    #[test]
    fn the_key_is_answered_as_in_the_rfc() {
        assert_eq!(&accept_key(KEY), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_answer_names_the_protocol_and_nothing_else() {
        let request = Request {
            protocols: Some("chat, xmpp"),
            ..usual()
        };
        let mut out = Vec::new();
        check(&request, &["xmpp"]).unwrap().write(&mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                        Sec-WebSocket-Protocol: xmpp\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        check(&usual(), &["xmpp"]).unwrap().write(&mut out);
        assert!(out.ends_with(b"xOo=\r\n\r\n"));
    }

    #[test]
    fn tokens_are_found_in_lists_of_any_case() {
        for (upgrade, connection) in [
            ("WebSocket", "upgrade"),
            ("websocket", "keep-alive, Upgrade"),
            ("h2c,\twebsocket", ",, UPGRADE ,close"),
        ] {
            let request = Request {
                upgrade: Some(upgrade),
                connection: Some(connection),
                ..usual()
            };
            assert!(check(&request, &[]).is_ok(), "{request:?}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_has_its_answer() {
        let keys = [
            None,
            Some(""),
            Some("dGhlIHNhbXBsZSBub25jZQ"),
            Some("dGhlIHNhbXBsZSBub25jZQ= "),
            Some("dGhlIHNhbXBsZSBub25jZQAA"),
            Some("dGhlIHNhbXBsZSBub25jZWE="),
            Some("dGhlIHNhbXBsZSBub25-_Q=="),
            Some("dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for key in keys {
            let request = Request { key, ..usual() };
            assert_eq!(check(&request, &[]), Err(Rejection::Key), "{key:?}");
        }
        for version in [None, Some("8"), Some("013"), Some("13, 13"), Some("13;")] {
            let request = Request { version, ..usual() };
            assert_eq!(check(&request, &[]), Err(Rejection::Version), "{version:?}");
        }
        for token in [
            None,
            Some(""),
            Some("websockets"),
            Some("upgrade websocket"),
        ] {
            let upgrade = Request {
                upgrade: token,
                ..usual()
            };
            let connection = Request {
                connection: token,
                ..usual()
            };
            assert_eq!(check(&upgrade, &[]), Err(Rejection::NoUpgrade));
            assert_eq!(check(&connection, &[]), Err(Rejection::NoUpgrade));
        }
        assert_eq!(Rejection::Version.status(), 426);
        assert!(
            Rejection::Version
                .headers()
                .contains(&("Sec-WebSocket-Version", "13"))
        );
    }

    #[test]
    fn the_protocol_is_ours_by_our_preference() {
        for (offered, chosen) in [
            (None, None),
            (Some("encke.v1"), Some("encke.v1")),
            (Some("encke.v1 , xmpp"), Some("xmpp")),
            (Some("XMPP"), None),
            (Some("xmpp2, x"), None),
        ] {
            let request = Request {
                protocols: offered,
                ..usual()
            };
            let agreement = check(&request, &["xmpp", "encke.v1"]).unwrap();
            assert_eq!(agreement.protocol, chosen, "{offered:?}");
        }
    }
}
