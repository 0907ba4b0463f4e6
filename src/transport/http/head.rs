//! Request heads (RFC 9112 sections 2, 3 and 5).
//!
//! The end of a head is searched for once, however the octets come; only a whole head is parsed.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::fields::{Field, Fields};
use super::framing::framing;
use super::target::{Target, check_host};
use super::{Bounds, Framing, Manner, Method, Refusal, Version};

/// What [`parse`] found.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one request, on the stack"
)]
pub enum Progress<'a> {
    /// The head goes on behind the octets; all of them have been seen.
    Incomplete,
    /// A whole head. The body or the next request begins behind [`Request::octets`].
    Complete(Request<'a>),
}

/// The head of a request. It borrows the octets that it came in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Octets of the head, with an empty line before it and the one behind it.
    pub octets: usize,
    pub method: Method,
    pub version: Version,
    /// Decoded and in normal form; `*` for OPTIONS without a path.
    pub path: Cow<'a, str>,
    /// Still encoded: [`super::query`] reads it.
    pub query: Option<&'a str>,
    /// `Host`, which only HTTP/1.0 may lack.
    pub host: Option<&'a str>,
    /// Whether the client wants to go on with the link after the answer.
    pub keep_alive: bool,
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub fields: Fields<'a>,
}

impl<'a> Request<'a> {
    /// The value of a field; see [`Fields::value`].
    pub fn header(&self, field: Field) -> Option<&'a str> {
        self.fields.value(field)
    }

    /// Whether the client asks to go on with another protocol (RFC 9110 section 7.8). A request
    /// with a body does not: the protocol would begin where the body ends, and no browser does it.
    pub fn wants_upgrade(&self, protocol: &str) -> bool {
        self.version == Version::Http11
            && self.framing == Framing::None
            && self.fields.has_token(Field::Connection, "upgrade")
            && self.fields.has_token(Field::Upgrade, protocol)
    }

    /// How the answer must be written.
    pub fn manner(&self) -> Manner {
        Manner::new(self.version, self.method, self.keep_alive)
    }
}

/// Looks for a whole head at the start of `bytes`, of which the first `seen` octets were there at
/// the last call. One empty line before it is skipped (RFC 9112 section 2.2).
///
/// # Errors
/// Final, whatever may follow; the link is closed after the answer. What is refused does not
/// depend on how the octets were cut.
pub fn parse<'a>(bytes: &'a [u8], seen: usize, bounds: &Bounds) -> Result<Progress<'a>, Refusal> {
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    match bytes.get(start..) {
        None | Some([] | [b'\r']) if start == 0 => return Ok(Progress::Incomplete),
        Some([first, ..]) if !first.is_ascii_alphabetic() => return Err(Refusal::RequestLine),
        _ => {}
    }
    let Some(end) = find_end(bytes, start, seen, bounds)? else {
        return Ok(Progress::Incomplete);
    };
    let head = bytes.get(start..end).unwrap_or_default();
    let mut request = read(head, bounds)?;
    request.octets = end;
    Ok(Progress::Complete(request))
}

/// The offset behind the empty line.
fn find_end(
    bytes: &[u8],
    start: usize,
    seen: usize,
    bounds: &Bounds,
) -> Result<Option<usize>, Refusal> {
    let limit = start.saturating_add(bounds.head_octets_max);
    let from = seen.max(start);
    let unseen = bytes.get(from..bytes.len().min(limit)).unwrap_or_default();
    for line_feed in memchr::memchr_iter(b'\n', unseen) {
        let (before, _) = bytes.split_at_checked(from + line_feed).unwrap_or_default();
        match before {
            [.., b'\n', b'\r'] => return Ok(Some(before.len() + 1)),
            [.., b'\r'] => {}
            _ => return Err(Refusal::BareLineFeed),
        }
    }
    if bytes.len() < limit {
        return Ok(None);
    }
    let first = bytes.get(start..limit).unwrap_or_default();
    match memchr::memchr(b'\n', first) {
        Some(_) => Err(Refusal::HeadTooLong),
        None => Err(Refusal::TargetTooLong),
    }
}

/// Reads a whole head.
fn read<'a>(head: &'a [u8], bounds: &Bounds) -> Result<Request<'a>, Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let slots = slots.get_mut(..bounds.fields_max.min(FIELDS_MAX));
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots.unwrap_or_default()) {
        Ok(httparse::Status::Complete(octets)) if octets == head.len() => {}
        Ok(_) => return Err(Refusal::RequestLine),
        Err(error) => return Err(refusal(error, head)),
    }
    let method = Method::parse(parsed.method.unwrap_or_default())?;
    let version = match parsed.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let target = parsed.path.unwrap_or_default();
    if target.len() > bounds.target_octets_max {
        return Err(Refusal::TargetTooLong);
    }
    let fields = Fields::new(block(head), parsed.headers)?;
    let host = host(&fields, version)?;
    let target = Target::parse(target, method, host)?;
    Ok(Request {
        octets: head.len(),
        method,
        version,
        path: target.path,
        query: target.query,
        host,
        keep_alive: keeps_alive(&fields, version),
        framing: framing(&fields, version)?,
        expects_continue: expects_continue(&fields, version)?,
        fields,
    })
}

/// The lines of the fields: all but the first line and the empty one.
fn block(head: &[u8]) -> &[u8] {
    let start = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    head.get(start..head.len().saturating_sub(2))
        .unwrap_or_default()
}

fn host<'a>(fields: &Fields<'a>, version: Version) -> Result<Option<&'a str>, Refusal> {
    let host = fields.value(Field::Host);
    match host {
        Some(host) => check_host(host)?,
        None if version == Version::Http11 => return Err(Refusal::HostMissing),
        None => {}
    }
    Ok(host)
}

/// RFC 9112 section 9.3.
fn keeps_alive(fields: &Fields, version: Version) -> bool {
    let says = |token| fields.has_token(Field::Connection, token);
    match version {
        Version::Http10 => says("keep-alive") && !says("close"),
        Version::Http11 => !says("close"),
    }
}

/// RFC 9110 section 10.1.1: HTTP/1.0 has no expectations, whatever it says.
fn expects_continue(fields: &Fields, version: Version) -> Result<bool, Refusal> {
    match (fields.value(Field::Expect), version) {
        (None, _) | (_, Version::Http10) => Ok(false),
        (Some(expected), _) if expected.eq_ignore_ascii_case("100-continue") => Ok(true),
        _ => Err(Refusal::Expectation),
    }
}

fn refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::Version if has_version(head) => Refusal::VersionUnsupported,
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        _ => Refusal::RequestLine,
    }
}

/// Whether the first line is one of another version of HTTP.
fn has_version(head: &[u8]) -> bool {
    let end = memchr::memchr(b'\r', head).unwrap_or_default();
    let (line, _) = head.split_at_checked(end).unwrap_or_default();
    let spaces = memchr::memchr_iter(b' ', line).count();
    let ends_so = matches!(
        line,
        [
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'0'..=b'9',
            b'.',
            b'0'..=b'9'
        ]
    );
    spaces == 2 && ends_so
}

/// Fields of one head that there is room for.
pub const FIELDS_MAX: usize = 100;

#[cfg(test)]
mod tests;
