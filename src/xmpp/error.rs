//! Why a stream is closed, why a stanza is refused, and how both are written.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::fmt;

use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

/// Why we close a stream (RFC 6120 section 4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamError {
    /// Well-formed XML that cannot be processed here, such as text between stanzas.
    BadFormat,
    /// A prefix that is declared nowhere.
    BadNamespacePrefix,
    /// A newer stream took this one's place.
    Conflict,
    /// The peer was silent for too long.
    ConnectionTimeout,
    /// The `to` of the header is no longer served here.
    HostGone,
    /// The `to` of the header is not served here.
    HostUnknown,
    /// A `to` or `from` is missing or cannot be used between servers.
    ImproperAddressing,
    /// The peer acknowledged more than it was sent (XEP-0198 section 4).
    HandledCountTooHigh { handled: u32, sent: u32 },
    /// Our own fault.
    InternalServerError,
    /// A `from` that was not authenticated.
    InvalidFrom,
    /// The namespace of the stream or of its content is not the one we speak.
    InvalidNamespace,
    /// The XML is well-formed and breaks its schema.
    InvalidXml,
    /// Something was sent before authentication or binding that must come after it.
    NotAuthorized,
    /// The octets are not XML.
    NotWellFormed,
    /// A bound was exceeded; the text says which.
    PolicyViolation(&'static str),
    /// A remote server cannot be reached.
    RemoteConnectionFailed,
    /// The peer must start again, for instance because its security changed.
    Reset,
    /// No room for this stream now.
    ResourceConstraint,
    /// Comment, processing instruction, document type or entity (RFC 6120 section 11.1).
    RestrictedXml,
    /// The server goes down.
    SystemShutdown,
    /// None of the others; the text says what, or is empty.
    UndefinedCondition(&'static str),
    /// Another encoding than UTF-8.
    UnsupportedEncoding,
    /// A mandatory feature of the peer is not supported.
    UnsupportedFeature,
    /// A top-level element that is no stanza and nothing else we know.
    UnsupportedStanzaType,
    /// A stream version below 1.0.
    UnsupportedVersion,
}

impl StreamError {
    /// The word on the wire.
    pub const fn condition(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation(_) => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition(_) | Self::HandledCountTooHigh { .. } => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }

    /// What a person may read beside the condition.
    pub const fn text(self) -> Option<&'static str> {
        match self {
            Self::PolicyViolation(text) | Self::UndefinedCondition(text) if !text.is_empty() => {
                Some(text)
            }
            _ => None,
        }
    }

    /// Appends `<stream:error>…</stream:error>`. The caller ends the stream.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<stream:error>");
        write_condition(out, self.condition(), ns::STREAM_ERRORS, self.text());
        if let Self::HandledCountTooHigh { handled, sent } = self {
            let specific = format!(
                "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='{handled}' send-count='{sent}'/>"
            );
            out.extend_from_slice(specific.as_bytes());
        }
        out.extend_from_slice(b"</stream:error>");
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition())?;
        match self.text() {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StreamError {}

/// What the sender of a refused stanza may do (RFC 6120 section 8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    Auth,
    Cancel,
    Continue,
    Modify,
    Wait,
}

impl ErrorType {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

/// Why a stanza is refused (RFC 6120 section 8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    BadRequest,
    Conflict,
    FeatureNotImplemented,
    Forbidden,
    Gone,
    InternalServerError,
    ItemNotFound,
    JidMalformed,
    NotAcceptable,
    NotAllowed,
    NotAuthorized,
    PolicyViolation,
    RecipientUnavailable,
    Redirect,
    RegistrationRequired,
    RemoteServerNotFound,
    RemoteServerTimeout,
    ResourceConstraint,
    ServiceUnavailable,
    SubscriptionRequired,
    UndefinedCondition,
    UnexpectedRequest,
}

impl Condition {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Conflict => "conflict",
            Self::FeatureNotImplemented => "feature-not-implemented",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::JidMalformed => "jid-malformed",
            Self::NotAcceptable => "not-acceptable",
            Self::NotAllowed => "not-allowed",
            Self::NotAuthorized => "not-authorized",
            Self::PolicyViolation => "policy-violation",
            Self::RecipientUnavailable => "recipient-unavailable",
            Self::Redirect => "redirect",
            Self::RegistrationRequired => "registration-required",
            Self::RemoteServerNotFound => "remote-server-not-found",
            Self::RemoteServerTimeout => "remote-server-timeout",
            Self::ResourceConstraint => "resource-constraint",
            Self::ServiceUnavailable => "service-unavailable",
            Self::SubscriptionRequired => "subscription-required",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnexpectedRequest => "unexpected-request",
        }
    }

    /// The type that section 8.3.3 gives to this condition.
    pub const fn default_type(self) -> ErrorType {
        match self {
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorType::Auth,
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect => ErrorType::Modify,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorType::Cancel,
        }
    }
}

/// The error that answers a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StanzaError {
    pub condition: Condition,
    pub class: ErrorType,
    pub text: Option<&'static str>,
    /// An application-specific condition: name and namespace of an empty element.
    pub specific: Option<(&'static str, &'static str)>,
}

impl StanzaError {
    /// This condition with its default type.
    pub const fn new(condition: Condition) -> Self {
        Self {
            condition,
            class: condition.default_type(),
            text: None,
            specific: None,
        }
    }

    /// The same with another type than the default.
    #[must_use]
    pub const fn with_class(mut self, class: ErrorType) -> Self {
        self.class = class;
        self
    }

    /// The same with a text for people.
    #[must_use]
    pub const fn with_text(mut self, text: &'static str) -> Self {
        self.text = Some(text);
        self
    }

    /// The same with an application-specific condition.
    #[must_use]
    pub const fn with_specific(mut self, name: &'static str, namespace: &'static str) -> Self {
        self.specific = Some((name, namespace));
        self
    }

    /// Appends `<error type='…'>…</error>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<error type='");
        out.extend_from_slice(self.class.as_str().as_bytes());
        out.extend_from_slice(b"'>");
        write_condition(out, self.condition.as_str(), ns::STANZA_ERRORS, self.text);
        if let Some((name, namespace)) = self.specific {
            let mut writer = Writer::new(out);
            writer.open(name);
            writer.attr("xmlns", namespace);
            writer.close_empty();
        }
        out.extend_from_slice(b"</error>");
    }
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self::new(condition)
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.condition.as_str(), self.class.as_str())
    }
}

impl std::error::Error for StanzaError {}

/// The condition and the text have the same form in both kinds of error.
fn write_condition(out: &mut Vec<u8>, condition: &str, namespace: &str, text: Option<&str>) {
    let mut writer = Writer::new(out);
    writer.open(condition);
    writer.attr("xmlns", namespace);
    writer.close_empty();
    if let Some(text) = text {
        writer.open("text");
        writer.attr("xmlns", namespace);
        writer.attr("xml:lang", "en");
        writer.text(text);
        writer.end("text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn stream_errors_are_written_as_the_rfc_shows() {
        assert_eq!(
            written(|out| StreamError::HostUnknown.write(out)),
            "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             </stream:error>"
        );
        assert_eq!(
            written(|out| StreamError::PolicyViolation("too <deep>").write(out)),
            "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>\
             too &lt;deep&gt;</text>\
             </stream:error>"
        );
    }

    #[test]
    fn stanza_errors_carry_type_text_and_specific_condition() {
        let plain = StanzaError::new(Condition::ItemNotFound);
        assert_eq!(
            written(|out| plain.write(out)),
            "<error type='cancel'><item-not-found \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        );
        let blocked = StanzaError::new(Condition::NotAcceptable)
            .with_class(ErrorType::Cancel)
            .with_specific("blocked", ns::BLOCKING_ERRORS);
        assert_eq!(
            written(|out| blocked.write(out)),
            "<error type='cancel'><not-acceptable \
             xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <blocked xmlns='urn:xmpp:blocking:errors'/></error>"
        );
    }
}
