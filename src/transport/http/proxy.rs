//! The header of the PROXY protocol, versions 1 and 2: a proxy that passes on octets says whose.
//!
//! A listener either has it before each link's octets or never; there is no guess.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::network::Networks;

/// What [`parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The header goes on behind the octets.
    Incomplete,
    /// A whole header of so many octets.
    Complete(usize, Origin),
}

/// What the proxy said of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `None` when the proxy speaks for itself or does not know; then the peer is the client.
    pub address: Option<SocketAddr>,
    /// Whether the client's octets reached the proxy over TLS, as far as it said so.
    pub is_secured: bool,
}

/// Why a link is closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The peer is not one of the proxies.
    Untrusted,
    /// The octets are no header.
    Malformed,
    /// The header has more octets than any needs.
    TooLong,
}

/// Looks for a whole header at the start of all octets of a link so far. It is short, so it is
/// read anew each time.
///
/// # Errors
/// Final. What is refused does not depend on how the octets were cut.
pub fn parse(bytes: &[u8], peer: IpAddr, trusted: &Networks) -> Result<Progress, ProxyError> {
    if !trusted.contains(peer) {
        return Err(ProxyError::Untrusted);
    }
    if let Some(rest) = bytes.strip_prefix(LINE_START) {
        return parse_line(rest);
    }
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        return parse_binary(rest);
    }
    match LINE_START.starts_with(bytes) || SIGNATURE.starts_with(bytes) {
        true => Ok(Progress::Incomplete),
        false => Err(ProxyError::Malformed),
    }
}

/// Version 1, behind its first word.
fn parse_line(rest: &[u8]) -> Result<Progress, ProxyError> {
    let room = LINE_OCTETS_MAX - LINE_START.len();
    let seen = rest.get(..room).unwrap_or(rest);
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return match rest.len() < room {
            true => Ok(Progress::Incomplete),
            false => Err(ProxyError::TooLong),
        };
    };
    let line = seen.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| str::from_utf8(line).ok());
    let line = line.ok_or(ProxyError::Malformed)?;
    let origin = Origin {
        address: line_address(line).ok_or(ProxyError::Malformed)?,
        is_secured: false,
    };
    Ok(Progress::Complete(LINE_START.len() + end + 1, origin))
}

/// The source of a line; outside `None` when it is malformed, inside when it is unknown.
fn line_address(line: &str) -> Option<Option<SocketAddr>> {
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let (family, source, target) = (words.next()?, words.next()?, words.next()?);
    let (source_port, target_port) = (port(words.next()?)?, port(words.next()?)?);
    let read = |address: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _) = (read(source)?, (read(target)?, target_port));
    match words.next() {
        None => Some(Some(SocketAddr::new(source.to_canonical(), source_port))),
        Some(_) => None,
    }
}

/// A port in its only spelling.
fn port(digits: &str) -> Option<u16> {
    let number: u16 = digits.parse().ok()?;
    match digits.starts_with(['0', '+']) && digits != "0" {
        true => None,
        false => Some(number),
    }
}

/// Version 2, behind its signature.
fn parse_binary(rest: &[u8]) -> Result<Progress, ProxyError> {
    let is_ours = |version_and_command: u8| matches!(version_and_command, LOCAL | PROXY);
    if rest.first().is_some_and(|first| !is_ours(*first)) {
        return Err(ProxyError::Malformed);
    }
    let [command, family, high, low, content @ ..] = rest else {
        return Ok(Progress::Incomplete);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let octets = SIGNATURE.len() + 4 + length;
    if octets > HEADER_OCTETS_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(content) = content.get(..length) else {
        return Ok(Progress::Incomplete);
    };
    let origin = match *command {
        LOCAL => Origin::default(),
        _ => read_content(*family, content).ok_or(ProxyError::Malformed)?,
    };
    Ok(Progress::Complete(octets, origin))
}

/// Addresses of this family, and what follows them.
fn read_content(family: u8, content: &[u8]) -> Option<Origin> {
    let (address, rest) = match family {
        TCP4 => {
            let (addresses, rest) = content.split_first_chunk::<12>()?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            (Some(SocketAddr::from(([a, b, c, d], port))), rest)
        }
        TCP6 => {
            let (source, rest) = content.split_first_chunk::<16>()?;
            let (_target, rest) = rest.split_first_chunk::<16>()?;
            let ([high, low, _, _], rest) = rest.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes([*high, *low]);
            let source = IpAddr::from(*source).to_canonical();
            (Some(SocketAddr::new(source, port)), rest)
        }
        UNIX_STREAM => (None, content.get(2 * 108..)?),
        // How its addresses end, nobody knows, so neither where the rest begins.
        UNSPECIFIED => return Some(Origin::default()),
        _ => return None,
    };
    Some(Origin {
        address,
        is_secured: is_secured(rest)?,
    })
}

/// Whether one of the fields says that the client came over TLS; `None` when one does not fit.
fn is_secured(mut fields: &[u8]) -> Option<bool> {
    let mut is_secured = false;
    while let Some((kind, rest)) = fields.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        if *kind == TLS_FIELD {
            is_secured |= value.first()? & CLIENT_TLS != 0;
        }
        fields = rest;
    }
    Some(is_secured)
}

const LINE_START: &[u8] = b"PROXY ";
/// Octets of a line of version 1 with its end (section 2.1 of its specification).
const LINE_OCTETS_MAX: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of the longest header, which is one of version 2: its specification says that 536 always
/// fit a first segment.
pub const HEADER_OCTETS_MAX: usize = 536;
/// Version and command: the proxy speaks for itself, or for a client.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// Families of addresses.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// `PP2_TYPE_SSL` and `PP2_CLIENT_SSL`.
const TLS_FIELD: u8 = 0x20;
const CLIENT_TLS: u8 = 0x01;

#[cfg(test)]
mod tests;
