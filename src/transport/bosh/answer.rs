//! The `<body/>` of an answer: the items of a stream as documents inside a wrapper.
//!
//! Streams write for TCP. That form is made into payloads here, so that nothing above knows which
//! way a client came.

use super::{Condition, HTTPBIND, XBOSH};
use crate::xmpp::error::StreamError;
use crate::xmpp::ns;
use crate::xmpp::xml::view::start_tag_attrs;
use crate::xmpp::xml::writer::Writer;
use crate::xmpp::xml::{Bounds, Element, Progress, Scanner, StreamScope};

/// What [`wrap`] made of the items of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wrapped {
    /// Octets of whole items; what is behind them is the beginning of one.
    pub taken: usize,
    /// Whether the wrapper must declare the prefix `stream` (XEP-0206 section 2).
    pub uses_stream: bool,
    /// Of our header, if it was among them: it is not sent.
    pub identity: Option<Identity>,
    pub ending: Option<Ending>,
}

/// What our header says of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The stream's, which old clients need for an old way of authenticating.
    pub id: Option<Box<str>>,
    /// The domain.
    pub from: Option<Box<str>>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Closed,
    Failed(Condition),
}

/// Appends to `out` what goes into a wrapper: the whole items at the front of `items`, which this
/// server wrote for TCP. Stanzas get the namespace that they had from the header; the header, white
/// space and the end are not content. Items behind the end of the stream are not looked at.
///
/// # Errors
/// Something that no stream of ours writes.
pub fn wrap(
    out: &mut Vec<u8>,
    items: &[u8],
    scanner: &mut Scanner,
) -> Result<Wrapped, StreamError> {
    let mut wrapped = Wrapped::default();
    while let Some(rest) = items.get(wrapped.taken..).filter(|rest| !rest.is_empty()) {
        let is_header = rest.starts_with(b"<?xml") || rest.starts_with(b"<stream:stream");
        let scope = match is_header {
            true => StreamScope::closed(),
            false => StreamScope::standard(),
        };
        scanner.reset();
        wrapped.taken += match scanner.next(rest, &scope, &UNBOUNDED)? {
            Progress::Incomplete => break,
            Progress::Blank(taken) => taken,
            Progress::Header(taken) => {
                let header = scanner.header(rest);
                let own = |name| header.attr(name).map(|value| value.as_ref().into());
                wrapped.identity = Some(Identity {
                    id: own("id"),
                    from: own("from"),
                });
                taken
            }
            Progress::Element(taken) => {
                let element = scanner.element(rest);
                write_item(out, element);
                wrapped.uses_stream |= element.inherited().next().is_some();
                if element.is(ns::STREAMS, "error") {
                    wrapped.ending = Some(Ending::Failed(condition(element)));
                }
                taken
            }
            Progress::End(taken) => {
                wrapped.taken += taken;
                wrapped.ending = wrapped.ending.or(Some(Ending::Closed));
                break;
            }
        };
    }
    Ok(wrapped)
}

/// The prefix `stream` is the wrapper's to declare; the default namespace is the item's own.
fn write_item(out: &mut Vec<u8>, element: Element<'_>) {
    let octets = element.octets();
    let ends_name = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>');
    let name = octets.iter().position(ends_name).unwrap_or(octets.len());
    let (name, rest) = octets.split_at_checked(name).unwrap_or_default();
    out.extend_from_slice(name);
    let declares = start_tag_attrs(octets).any(|attr| attr.name == b"xmlns");
    if !declares && !name.contains(&b':') {
        for part in [" xmlns='", ns::CLIENT, "'"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(rest);
}

/// What the error of a stream is to a session. Where and how the server is there, it knows itself;
/// everything else comes from the stream (XEP-0124 section 17.2).
fn condition(error: Element<'_>) -> Condition {
    match error.children().next().map(|child| child.local) {
        Some(b"host-gone") => Condition::HostGone,
        Some(b"host-unknown") => Condition::HostUnknown,
        Some(b"improper-addressing") => Condition::ImproperAddressing,
        Some(b"system-shutdown") => Condition::SystemShutdown,
        _ => Condition::RemoteStreamError,
    }
}

/// What the start tag of a wrapper says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Envelope<'a> {
    pub kind: Kind,
    /// In the first answer.
    pub grant: Option<&'a Grant>,
    pub identity: Option<&'a Identity>,
    /// The last request that came, all before it having come too (section 9.1).
    pub ack: Option<u64>,
    /// An answer that the client does not seem to have, and the milliseconds since it was sent
    /// (section 9.2).
    pub report: Option<(u64, u64)>,
    pub uses_stream: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Normal,
    /// The session goes on; what was asked must be asked again (section 17.3).
    Recoverable,
    Terminate(Option<Condition>),
}

/// What a new session is granted (section 7.2). Durations are in seconds.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub sid: Box<str>,
    pub ver: (u32, u32),
    pub wait: u64,
    pub hold: u8,
    pub requests: u8,
    pub inactivity: u64,
    pub polling: u64,
    pub maxpause: u64,
}

impl Envelope<'_> {
    /// The whole wrapper with `content` in it.
    pub fn write(&self, out: &mut Vec<u8>, content: &[u8]) {
        let mut writer = Writer::new(out);
        writer.open("body").attr("xmlns", HTTPBIND);
        match self.kind {
            Kind::Normal => {}
            Kind::Recoverable => {
                writer.attr("type", "error");
            }
            Kind::Terminate(condition) => {
                writer.attr("type", "terminate");
                if let Some(condition) = condition {
                    writer.attr("condition", condition.as_str());
                }
            }
        }
        if let Some(grant) = self.grant {
            grant.write(&mut writer);
        }
        if self.grant.is_some() || self.identity.is_some() {
            writer
                .attr("xmlns:xmpp", XBOSH)
                .attr("xmpp:version", "1.0")
                .attr("xmpp:restartlogic", "true");
        }
        if let Some(identity) = self.identity {
            let attributes = [("authid", &identity.id), ("from", &identity.from)];
            for (name, value) in attributes {
                if let Some(value) = value {
                    writer.attr(name, value);
                }
            }
        }
        if let Some(ack) = self.ack {
            writer.attr("ack", &ack.to_string());
        }
        if let Some((report, time)) = self.report {
            writer.attr("report", &report.to_string());
            writer.attr("time", &time.to_string());
        }
        if self.uses_stream {
            writer.attr("xmlns:stream", ns::STREAMS);
        }
        if !content.is_empty() {
            writer.raw(content);
        }
        writer.end("body");
    }
}

impl Grant {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.attr("sid", &self.sid);
        let (major, minor) = self.ver;
        writer.attr("ver", &format!("{major}.{minor}"));
        let numbers = [
            ("wait", self.wait),
            ("hold", self.hold.into()),
            ("requests", self.requests.into()),
            ("inactivity", self.inactivity),
            ("polling", self.polling),
            ("maxpause", self.maxpause),
        ];
        for (name, number) in numbers {
            writer.attr(name, &number.to_string());
        }
    }
}

/// Appends a wrapper that ends the session.
pub fn write_terminal(out: &mut Vec<u8>, condition: Option<Condition>) {
    let envelope = Envelope {
        kind: Kind::Terminate(condition),
        ..Envelope::default()
    };
    envelope.write(out, b"");
}

/// Our own output is within the bounds of whatever made it.
const UNBOUNDED: Bounds = Bounds {
    octets_max: usize::MAX,
    depth_max: usize::MAX,
    attributes_max: usize::MAX,
    elements_max: usize::MAX,
};

#[cfg(test)]
mod tests;
