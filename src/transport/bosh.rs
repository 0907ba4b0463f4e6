//! BOSH (XEP-0124, and XEP-0206 for XMPP in it): a stream over many short HTTP requests.
//!
//! [`request`] reads the `<body/>` of a request, [`session`] decides which request is answered
//! when and with what, [`answer`] makes of a stream's output what goes into a `<body/>`. A stream
//! behind it is the same as on TCP: what a client sent comes out as items of a stream, and items
//! of a stream go in.

// No panic is reachable from the network.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

use std::time::Duration;

/// Output of a stream, and the wrapper around it.
pub mod answer;
/// Key sequences (XEP-0124 section 15).
mod keys;
/// Former answers.
mod replay;
/// What a client posts.
pub mod request;
/// Which request is answered when, and with what.
pub mod session;

use crate::xmpp::error::StreamError;

/// Of the wrapper (XEP-0124 section 5).
pub const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
/// Of the attributes that XMPP adds to it (XEP-0206).
pub const XBOSH: &str = "urn:xmpp:xbosh";

/// What each session is granted. Clients may ask for less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a request is held.
    pub wait_max: Duration,
    /// Requests held at once; one more may be on its way.
    pub hold_max: u8,
    /// How long a session lives without a request to answer.
    pub inactivity: Duration,
    /// Between two requests that bring nothing, when each is answered at once.
    pub polling: Duration,
    /// How long a client may ask to be left alone.
    pub pause_max: Duration,
    /// Octets of former answers that are kept for clients that ask again, besides the last one.
    /// While more are, that the client may not have, answers carry nothing.
    pub replay_octets_max: usize,
    /// How often requests may be repeated before a new one comes.
    pub repeats_max: u8,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(60),
            hold_max: 2,
            inactivity: Duration::from_secs(45),
            polling: Duration::from_secs(5),
            pause_max: Duration::from_secs(120),
            replay_octets_max: 65_536,
            repeats_max: 20,
        }
    }
}

/// Why a session ends, or does not begin (XEP-0124 section 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The request is not what it must be.
    BadRequest,
    /// The domain is no longer served here.
    HostGone,
    /// The domain is not served here.
    HostUnknown,
    /// The first request names no domain.
    ImproperAddressing,
    /// Our own fault.
    InternalServerError,
    /// No such session, an identifier outside the window, an answer that is no longer kept, a
    /// wrong key: the same word for all, so that nobody can guess from it.
    ItemNotFound,
    /// Another request than the one that is answered ended the session.
    OtherRequest,
    /// The client broke the rules of the session.
    PolicyViolation,
    /// The stream ended with an error, which is inside.
    RemoteStreamError,
    /// The server goes down.
    SystemShutdown,
    /// None of the others.
    UndefinedCondition,
}

impl Condition {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::OtherRequest => "other-request",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteStreamError => "remote-stream-error",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
        }
    }

    /// The status of an answer that says this. Clients of before version 1.6 named no version and
    /// read nothing but the status (section 17.1).
    pub const fn status(self, age: Age) -> u16 {
        match (age, self) {
            (Age::Legacy, Self::BadRequest) => 400,
            (Age::Legacy, Self::PolicyViolation) => 403,
            (Age::Legacy, Self::ItemNotFound) => 404,
            _ => 200,
        }
    }

    /// Appends the whole answer: a wrapper that ends the session.
    pub fn write(self, out: &mut Vec<u8>) {
        answer::write_terminal(out, Some(self));
    }
}

/// Of a request that cannot be read, or of a stream that does not come to be.
impl From<StreamError> for Condition {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::PolicyViolation(_) => Self::PolicyViolation,
            StreamError::HostGone => Self::HostGone,
            StreamError::HostUnknown => Self::HostUnknown,
            StreamError::ImproperAddressing => Self::ImproperAddressing,
            StreamError::InternalServerError => Self::InternalServerError,
            StreamError::SystemShutdown => Self::SystemShutdown,
            _ => Self::BadRequest,
        }
    }
}

/// Whether a client said which version it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Legacy,
    Versioned,
}

/// The type of the answers of a session (section 7.1).
///
/// Clients may ask for any, but what others wrote would run as a page of this server if it were
/// HTML (SECURITY class 49): then it is `text/xml` all the same. Even that should go out with
/// `X-Content-Type-Options: nosniff` and a `Content-Security-Policy` of `sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    Xml,
    ApplicationXml,
    Plain,
}

impl ContentType {
    /// What comes nearest to what a client asked for.
    pub fn choose(asked: &str) -> Self {
        let essence = asked.split(';').next().unwrap_or_default().trim();
        match essence {
            _ if essence.eq_ignore_ascii_case("application/xml") => Self::ApplicationXml,
            _ if essence.eq_ignore_ascii_case("text/plain") => Self::Plain,
            _ => Self::Xml,
        }
    }

    /// The value of the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xml => "text/xml; charset=utf-8",
            Self::ApplicationXml => "application/xml; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
        }
    }
}

/// The version that is spoken here, major and minor.
const VERSION: (u32, u32) = (1, 11);
/// Identifiers of requests never go above: 2^53 - 1 (section 14.1).
const RID_MAX: u64 = 9_007_199_254_740_991;
