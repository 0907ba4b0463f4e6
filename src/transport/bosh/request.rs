//! The `<body/>` of a request: what it says about the session, and what it carries.

use std::borrow::Cow;
use std::time::Duration;

use super::{Condition, HTTPBIND, RID_MAX, XBOSH};
use crate::xmpp::ns;
use crate::xmpp::xml::view::start_tag_attrs;
use crate::xmpp::xml::writer::Writer;
use crate::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

/// What a client posted. `route` is not looked at: one server is behind this. Nor is `stream`,
/// because several streams in a session are not announced (XEP-0124 section 16.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub rid: u64,
    /// `None`: a new session is asked for.
    pub sid: Option<Cow<'a, str>>,
    pub purpose: Purpose,
    pub header: Opening<'a>,
    /// Seconds.
    pub wait: Option<u32>,
    pub hold: Option<u32>,
    pub ver: Option<(u32, u32)>,
    /// `1` in the first request, later an identifier.
    pub ack: Option<u64>,
    /// The type that answers should have.
    pub content: Option<Cow<'a, str>>,
    pub key: Option<Cow<'a, str>>,
    pub newkey: Option<Cow<'a, str>>,
    /// What was inside: elements and white space, to be scanned as what follows the header on TCP.
    /// Elements that say no namespace are then in `jabber:client`, although the text of XML has
    /// them in that of the wrapper: old clients write so, XEP-0206 section 2 knows it, and others
    /// take it. Prefixes that the wrapper alone declares are unknown there, except `stream`.
    pub elements: Cow<'a, [u8]>,
}

/// What a request is for, besides what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Exchange,
    /// A new stream inside the session (XEP-0206 section 5). What it carries is ignored.
    Restart,
    /// To be left alone for a while (XEP-0124 section 10).
    Pause(Duration),
    /// To end the session when what is carried was taken (section 13).
    Terminate,
}

/// What a header has on TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening<'a> {
    pub to: Option<Cow<'a, str>>,
    pub from: Option<Cow<'a, str>>,
    pub lang: Option<Cow<'a, str>>,
    /// `None`: 1.0, by the schema of XEP-0206.
    pub version: Option<Cow<'a, str>>,
}

impl Opening<'_> {
    /// Appends the header that says the same on TCP.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.open("stream:stream");
        writer
            .attr("xmlns", ns::CLIENT)
            .attr("xmlns:stream", ns::STREAMS)
            .attr("version", self.version.as_deref().unwrap_or("1.0"));
        let attributes = [
            ("to", &self.to),
            ("from", &self.from),
            ("xml:lang", &self.lang),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                writer.attr(name, value);
            }
        }
        writer.text("");
    }

    pub(super) fn into_owned(self) -> Opening<'static> {
        Opening {
            to: self.to.map(own),
            from: self.from.map(own),
            lang: self.lang.map(own),
            version: self.version.map(own),
        }
    }
}

impl Request<'_> {
    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        self.elements.iter().all(u8::is_ascii_whitespace)
    }

    /// The same, on its own.
    pub fn into_owned(self) -> Request<'static> {
        Request {
            rid: self.rid,
            sid: self.sid.map(own),
            purpose: self.purpose,
            header: self.header.into_owned(),
            wait: self.wait,
            hold: self.hold,
            ver: self.ver,
            ack: self.ack,
            content: self.content.map(own),
            key: self.key.map(own),
            newkey: self.newkey.map(own),
            elements: Cow::Owned(self.elements.into_owned()),
        }
    }
}

/// Reads the whole payload of a POST. White space and an XML declaration may be around it.
/// `bounds` are for the wrapper with all that is in it.
///
/// # Errors
/// What the answer says, whether there is such a session or not: nobody can end a session by a
/// request that cannot be read. `BadRequest` for what is no wrapper by XEP-0124 section 5, has no
/// `rid`, or has values that are not of their kind; `PolicyViolation` beyond the bounds.
pub fn read<'a>(
    payload: &'a [u8],
    scanner: &mut Scanner,
    bounds: &Bounds,
) -> Result<Request<'a>, Condition> {
    scanner.reset();
    let scope = StreamScope::framed(None);
    let mut document = payload.trim_ascii_end();
    let mut progress = scanner.next(document, &scope, bounds)?;
    if let Progress::Blank(taken) = progress {
        document = document.get(taken..).unwrap_or_default();
        if document.starts_with(b"<?") {
            return Err(Condition::BadRequest);
        }
        progress = scanner.next(document, &scope, bounds)?;
    }
    if progress != Progress::Element(document.len()) {
        return Err(Condition::BadRequest);
    }
    let element = scanner.element(document);
    if !element.is(HTTPBIND, "body") || element.has_text() {
        return Err(Condition::BadRequest);
    }
    let inherits = !matches!(element.default_namespace(), HTTPBIND | ns::CLIENT);
    if inherits && element.children().next().is_some() {
        return Err(Condition::BadRequest);
    }
    from_attributes(document)
}

/// Which session a request names whose wrapper begins so, though it may be wrong otherwise.
pub fn sid_of(beginning: &[u8]) -> Option<String> {
    let is_tag = |two: &[u8]| two.starts_with(b"<") && !two.ends_with(b"?");
    let tag = beginning.get(beginning.windows(2).position(is_tag)?..)?;
    let tag = tag.get(..end_of_tag(tag)?)?;
    let mut document = tag.strip_suffix(b"/").unwrap_or(tag).to_vec();
    document.extend_from_slice(b"/>");
    let bounds = Bounds {
        octets_max: document.len(),
        depth_max: 1,
        attributes_max: 64,
        elements_max: 1,
    };
    let request = read(&document, &mut Scanner::new(), &bounds).ok()?;
    request.sid.map(Cow::into_owned)
}

/// Where the `>` of a start tag is.
fn end_of_tag(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    tag.iter().position(|octet| {
        match (quote, *octet) {
            (None, b'>') => return true,
            (None, b'\'' | b'"') => quote = Some(*octet),
            (Some(open), octet) if open == octet => quote = None,
            _ => {}
        }
        false
    })
}

/// Of a wrapper that was accepted. Attributes that are not known here are ignored.
fn from_attributes(document: &[u8]) -> Result<Request<'_>, Condition> {
    let mut request = Request {
        rid: 0,
        sid: None,
        purpose: Purpose::Exchange,
        header: Opening::default(),
        wait: None,
        hold: None,
        ver: None,
        ack: None,
        content: None,
        key: None,
        newkey: None,
        elements: Cow::Borrowed(content(document)),
    };
    let mut rid = None;
    let mut pause = None;
    let mut terminates = false;
    let mut restarts = false;
    let xbosh = |prefix: &[u8]| {
        let mut attrs = start_tag_attrs(document);
        attrs.any(|attr| {
            attr.name.strip_prefix(b"xmlns:") == Some(prefix) && *attr.octets() == *XBOSH.as_bytes()
        })
    };
    for attr in start_tag_attrs(document) {
        let value = attr.value();
        match attr.name {
            b"rid" => rid = Some(number(&value)?),
            b"sid" => request.sid = Some(value),
            b"to" => request.header.to = Some(value),
            b"from" => request.header.from = Some(value),
            b"xml:lang" => request.header.lang = Some(value),
            b"wait" => request.wait = Some(small(&value)?),
            b"hold" => request.hold = Some(small(&value)?),
            b"ver" => request.ver = Some(version(&value)?),
            b"ack" => request.ack = Some(number(&value)?),
            b"content" => request.content = Some(value),
            b"key" => request.key = Some(value),
            b"newkey" => request.newkey = Some(value),
            b"pause" => pause = Some(small(&value)?),
            b"type" => terminates = value == "terminate",
            b"xmlns:stream" if value != ns::STREAMS => return Err(Condition::BadRequest),
            name => {
                let colon = name.iter().position(|octet| *octet == b':');
                let (prefix, local) = name.split_at(colon.unwrap_or_default());
                match local {
                    b":version" if xbosh(prefix) => request.header.version = Some(value),
                    b":restart" if xbosh(prefix) => restarts = matches!(&*value, "true" | "1"),
                    _ => {}
                }
            }
        }
    }
    request.rid = rid
        .filter(|rid| (1..=RID_MAX).contains(rid))
        .ok_or(Condition::BadRequest)?;
    request.purpose = match (terminates, restarts, pause) {
        (true, ..) => Purpose::Terminate,
        (_, true, _) => Purpose::Restart,
        (.., Some(seconds)) => Purpose::Pause(Duration::from_secs(seconds.into())),
        _ => Purpose::Exchange,
    };
    Ok(request)
}

/// What is between the tags of an element that was accepted.
fn content(element: &[u8]) -> &[u8] {
    let mut quote = None;
    let start = element.iter().position(|&octet| {
        match quote {
            Some(open) if octet == open => quote = None,
            None if matches!(octet, b'\'' | b'"') => quote = Some(octet),
            None => return octet == b'>',
            Some(_) => {}
        }
        false
    });
    let start = start.map_or(element.len(), |at| at + 1);
    let end = memchr::memrchr(b'<', element).unwrap_or_default();
    element.get(start..end).unwrap_or_default()
}

/// Digits alone. What is too large for the type is as large as it can be: it is bounded later.
fn number(value: &str) -> Result<u64, Condition> {
    let value = value.trim_ascii();
    if value.is_empty() || !value.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(Condition::BadRequest);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

fn small(value: &str) -> Result<u32, Condition> {
    Ok(u32::try_from(number(value)?).unwrap_or(u32::MAX))
}

fn version(value: &str) -> Result<(u32, u32), Condition> {
    let (major, minor) = value.split_once('.').ok_or(Condition::BadRequest)?;
    Ok((small(major)?, small(minor)?))
}

fn own<T: ToOwned + ?Sized>(value: Cow<'_, T>) -> Cow<'static, T> {
    Cow::Owned(value.into_owned())
}

#[cfg(test)]
mod tests;
