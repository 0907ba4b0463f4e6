//! Targets and hosts: what a request is for (RFC 9112 section 3.2).
//!
//! The path is decoded once and must then be in normal form, so routes are matched exactly and no
//! spelling of a path gets around one.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::escape::{Plus, decode};
use super::{Method, Refusal};

/// A target, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Decoded; begins with a slash, or is `*` alone.
    pub path: Cow<'a, str>,
    /// Behind the question mark, still encoded.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Takes a target apart, which must be a path, `*` for OPTIONS, or a URL of the same host.
    ///
    /// # Errors
    /// [`Refusal::TargetForm`], [`Refusal::TargetOctet`], [`Refusal::Escape`],
    /// [`Refusal::PathNotNormal`].
    pub fn parse(target: &'a str, method: Method, host: Option<&str>) -> Result<Self, Refusal> {
        if target == "*" && method == Method::Options {
            return Ok(Self {
                path: Cow::Borrowed(target),
                query: None,
            });
        }
        let local = match target.starts_with('/') {
            true => target,
            false => local(target, host)?,
        };
        let (path, query) = match local.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (local, None),
        };
        if !query.unwrap_or_default().bytes().all(is_query_octet) {
            return Err(Refusal::TargetOctet);
        }
        Ok(Self {
            path: normal_path(if path.is_empty() { "/" } else { path })?,
            query,
        })
    }
}

/// What follows the host in a URL, when it is the host that was asked.
fn local<'a>(target: &'a str, host: Option<&str>) -> Result<&'a str, Refusal> {
    let (scheme, rest) = target.split_once("://").ok_or(Refusal::TargetForm)?;
    let is_web = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, local) = rest.split_at_checked(end).ok_or(Refusal::TargetForm)?;
    let is_ours = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
    match is_web && is_ours {
        true => Ok(local),
        false => Err(Refusal::TargetForm),
    }
}

fn normal_path(path: &str) -> Result<Cow<'_, str>, Refusal> {
    if !path.bytes().all(is_path_octet) {
        return Err(Refusal::TargetOctet);
    }
    let plain = decode(path, Plus::Plus)?;
    // An escaped slash is a slash more than the path had.
    let slashes = |path: &str| memchr::memchr_iter(b'/', path.as_bytes()).count();
    let is_hiding = |b: u8| b == b'\\' || b.is_ascii_control();
    if plain.len() != path.len() && slashes(&plain) != slashes(path) || plain.bytes().any(is_hiding)
    {
        return Err(Refusal::PathNotNormal);
    }
    let mut segments = plain.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, "." | "..") || segment.is_empty() && !is_last {
            return Err(Refusal::PathNotNormal);
        }
    }
    Ok(plain)
}

/// `pchar`, the slash, and the start of an escape (RFC 3986 section 3.3).
const fn is_path_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')'
        )
        || matches!(
            octet,
            b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/' | b'%'
        )
}

/// What browsers leave as it is in a query, which is more than RFC 3986 has.
const fn is_query_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'"' | b'<' | b'>' | b'#')
}

/// Checks the value of `Host`: a name or an address, and perhaps a port.
///
/// # Errors
/// [`Refusal::HostMalformed`].
pub fn check_host(host: &str) -> Result<(), Refusal> {
    let (name, port) = match host.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']').ok_or(Refusal::HostMalformed)?;
            let address: Result<Ipv6Addr, _> = address.parse();
            address.map_err(|_| Refusal::HostMalformed)?;
            ("", port)
        }
        None => {
            let colon = host.find(':').unwrap_or(host.len());
            let (name, port) = host.split_at_checked(colon).unwrap_or_default();
            if !(1..=NAME_OCTETS_MAX).contains(&name.len()) {
                return Err(Refusal::HostMalformed);
            }
            (name, port)
        }
    };
    let is_name_octet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match name.bytes().all(is_name_octet) && is_port(port) {
        true => Ok(()),
        false => Err(Refusal::HostMalformed),
    }
}

/// Nothing, or a colon and a port in digits.
fn is_port(port: &str) -> bool {
    let Some(digits) = port.strip_prefix(':') else {
        return port.is_empty();
    };
    let number: Result<u16, _> = digits.parse();
    number.is_ok() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// RFC 1035 section 2.3.4.
const NAME_OCTETS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Result<(String, Option<&str>), Refusal> {
        let target = Target::parse(target, Method::Get, Some("Chat.example:5280"))?;
        Ok((target.path.into_owned(), target.query))
    }

    #[test]
    fn targets_are_taken_apart() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/v1/events", "/v1/events", None),
            ("/v1/events/", "/v1/events/", None),
            ("/?", "/", Some("")),
            ("/a?b=c&d=%zz?", "/a", Some("b=c&d=%zz?")),
            ("/a?x=[1]|{2}^`\\", "/a", Some("x=[1]|{2}^`\\")),
            ("/a%20b/%C3%A4", "/a b/\u{e4}", None),
            ("/juliet@example.net/%3f", "/juliet@example.net/?", None),
            ("/...", "/...", None),
            ("/.well-known/host-meta", "/.well-known/host-meta", None),
            ("/%252e%252e%252f", "/%2e%2e%2f", None),
            ("/a+b", "/a+b", None),
            ("http://chat.example:5280", "/", None),
            ("HTTPS://CHAT.example:5280?a", "/", Some("a")),
            ("http://chat.example:5280/a/b?c", "/a/b", Some("c")),
        ] {
            assert_eq!(get(target), Ok((path.into(), query)), "{target}");
        }
        let options = Target::parse("*", Method::Options, None).unwrap();
        assert_eq!((&*options.path, options.query), ("*", None));
        assert!(matches!(
            Target::parse("/a/b", Method::Get, None).unwrap().path,
            Cow::Borrowed(_)
        ));
    }

    /// SECURITY class 47.
    #[test]
    fn no_spelling_of_a_path_is_another_path() {
        for target in [
            "/../etc/passwd",
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/.",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/%2e%2e/a",
            "/%2E%2e/a",
            "/.%2e/a",
            "/%2e/a",
            "/..%2fa",
            "/a%2Fb",
            "/%2f",
            "/..%5ca",
            "/a%5C..%5cb",
            "/a%0d%0ab",
            "/a%7f",
            "/a%09",
        ] {
            assert_eq!(get(target), Err(Refusal::PathNotNormal), "{target}");
        }
        for target in [
            "/%c0%ae%c0%ae/",
            "/%e0%80%af",
            "/%00",
            "/a%2",
            "/%u002e",
            "/%",
            "/%zz",
        ] {
            assert_eq!(get(target), Err(Refusal::Escape), "{target}");
        }
        for target in [
            "/..\\a",
            "/a#b",
            "/<script>",
            "/\u{e4}",
            "/a|b",
            "/a?<b>",
            "/?\u{e4}",
        ] {
            assert_eq!(get(target), Err(Refusal::TargetOctet), "{target}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for target in [
            "",
            "*",
            "a",
            "a/b",
            "?a",
            "chat.example:5280",
            "http:/a",
            "http://",
            "http:///a",
            "http://other.example/a",
            "http://chat.example/a",
            "http://u@chat.example:5280/a",
            "http://chat.example:5280@other.example/",
            "http://chat.example:5280#a",
            "ftp://chat.example:5280/a",
            "://chat.example:5280/a",
        ] {
            assert_eq!(get(target), Err(Refusal::TargetForm), "{target}");
        }
        let no_host = Target::parse("http:///a", Method::Get, None);
        assert_eq!(no_host, Err(Refusal::TargetForm));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in [
            "a",
            "chat.example",
            "a-b_c.d:1",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:5280",
        ] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
        let long = "a".repeat(256);
        for host in [
            "", ":80", "a:", "a:+1", "a:65536", "a:1:2", "a b", "a/b", "a,b", "u@a", "<b>", "a\tb",
            "[::1", "[]", "[::1]x", "[::1]:", "[a]", "::1", "a%41", "\u{e4}", "a?b", &long,
        ] {
            assert_eq!(check_host(host), Err(Refusal::HostMalformed), "{host}");
        }
    }
}
