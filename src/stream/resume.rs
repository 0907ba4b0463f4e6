//! XEP-0198 on the wire: what its elements say and how ours are written.

use std::time::Duration;

use crate::xmpp::error::Condition;
use crate::xmpp::ns;
use crate::xmpp::xml::Element;
use crate::xmpp::xml::writer::Writer;

/// An element of stream management that a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nonza {
    /// `<enable/>`
    Enable(Resumption),
    /// `<r/>`
    Request,
    /// `<a/>`
    Answer { handled: u32 },
    /// `<resume/>`
    Resume { previd: Box<str>, handled: u32 },
}

/// What an `<enable/>` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Acknowledgements alone.
    Unwanted,
    /// The stream shall be resumable, for at most this time where the client says so.
    Wanted { max: Option<Duration> },
}

impl Nonza {
    /// Reads an element of the namespace [`ns::SM`].
    ///
    /// # Errors
    /// The condition for `<failed/>`: an element that a client does not send, an attribute that
    /// is missing or no number.
    pub fn parse(el: Element<'_>) -> Result<Self, Condition> {
        let handled = || {
            el.attr("h")
                .as_deref()
                .and_then(number)
                .ok_or(Condition::BadRequest)
        };
        match el.local() {
            "r" => Ok(Self::Request),
            "a" => Ok(Self::Answer {
                handled: handled()?,
            }),
            "enable" => Ok(Self::Enable(resumption(el)?)),
            "resume" => {
                let previd = el.attr("previd").ok_or(Condition::BadRequest)?;
                Ok(Self::Resume {
                    previd: previd.into(),
                    handled: handled()?,
                })
            }
            _ => Err(Condition::FeatureNotImplemented),
        }
    }
}

/// `<r/>`: how much did you handle?
pub const REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";

/// `<a/>`: so much is handled.
pub fn write_answer(out: &mut Vec<u8>, handled: u32) {
    let mut writer = Writer::new(out);
    writer
        .open("a")
        .attr("xmlns", ns::SM)
        .attr("h", &handled.to_string())
        .close_empty();
}

/// `<enabled/>`; `resumable` is the stream's identity and how long it outlives its link.
pub fn write_enabled(out: &mut Vec<u8>, resumable: Option<(&str, Duration)>) {
    let mut writer = Writer::new(out);
    writer.open("enabled").attr("xmlns", ns::SM);
    if let Some((id, max)) = resumable {
        writer
            .attr("id", id)
            .attr("resume", "true")
            .attr("max", &max.as_secs().to_string());
    }
    writer.close_empty();
}

/// `<resumed/>`: go on; so much of yours is handled.
pub fn write_resumed(out: &mut Vec<u8>, previd: &str, handled: u32) {
    let mut writer = Writer::new(out);
    writer.open("resumed").attr("xmlns", ns::SM);
    writer
        .attr("previd", previd)
        .attr("h", &handled.to_string())
        .close_empty();
}

/// `<failed/>`; `handled` is what a lost stream had come to.
pub fn write_failed(out: &mut Vec<u8>, condition: Condition, handled: Option<u32>) {
    let mut writer = Writer::new(out);
    writer.open("failed").attr("xmlns", ns::SM);
    if let Some(handled) = handled {
        writer.attr("h", &handled.to_string());
    }
    writer
        .open(condition.as_str())
        .attr("xmlns", ns::STANZA_ERRORS)
        .close_empty();
    writer.end("failed");
}

fn resumption(el: Element<'_>) -> Result<Resumption, Condition> {
    match el.attr("resume").as_deref() {
        None | Some("false" | "0") => Ok(Resumption::Unwanted),
        Some("true" | "1") => {
            // A time that is no number is as good as none: it only limits what the client gets.
            let max = el.attr("max").as_deref().and_then(number);
            let max = max.map(|seconds| Duration::from_secs(seconds.into()));
            Ok(Resumption::Wanted { max })
        }
        Some(_) => Err(Condition::BadRequest),
    }
}

/// Digits alone; the language's own parser would take a sign.
fn number(text: &str) -> Option<u32> {
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}
