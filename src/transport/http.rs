//! HTTP/1.1 and 1.0 for a server (RFC 9110, RFC 9112): request heads and bodies in, answers out.
//!
//! Nothing here reads ahead or keeps octets: who owns the link calls again when more came. A
//! request that two parties could read in two ways is refused and its link closed; there is no
//! lenient mode.

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

/// Response heads and bodies.
pub mod answer;
/// Bodies, sized or chunked.
pub mod body;
/// Percent-encoding.
mod escape;
/// Header fields.
pub mod fields;
/// Who asks, when proxies are between.
pub mod forwarded;
/// What tells how long a body is.
mod framing;
/// Request heads.
pub mod head;
/// Networks whose word counts.
pub mod network;
/// Which web pages may ask.
pub mod origin;
/// The PROXY protocol.
pub mod proxy;
/// Pairs behind the question mark.
pub mod query;
/// Why a request is not served.
pub mod refusal;
/// Status codes.
pub mod status;
/// Paths, and the forms of a target.
mod target;

pub use answer::{Answer, Manner};
pub use body::{Body, Taken};
pub use fields::Field;
pub use head::{Progress, Request};
pub use refusal::Refusal;
pub use status::Status;

/// What one request head may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets of a head with its empty line; more is refused with 431, or 414 when the request
    /// line alone has them.
    pub head_octets_max: usize,
    /// Octets of a request's target; more is refused with 414.
    pub target_octets_max: usize,
    /// Header fields of a request, 100 at the most; more is refused with 431.
    pub fields_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_octets_max: 16_384,
            target_octets_max: 8_192,
            fields_max: head::FIELDS_MAX,
        }
    }
}

/// What a client wants done (RFC 9110 section 9). No path is served to TRACE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
}

impl Method {
    /// The method of this name, which is case-sensitive.
    ///
    /// # Errors
    /// [`Refusal::MethodRefused`] for CONNECT, which is for proxies, else
    /// [`Refusal::MethodUnknown`].
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "CONNECT" => return Err(Refusal::MethodRefused),
            _ => return Err(Refusal::MethodUnknown),
        })
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
        }
    }

    /// What pages of other origins may use, as `Access-Control-Allow-Methods` lists them.
    pub const LIST: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
}

/// The version of a request. Answers always say 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// As many octets as `Content-Length` says.
    Sized(u64),
    /// Chunks until the last one.
    Chunked,
}

/// How the client's octets came: what an origin begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The word before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL of this scheme need not name.
    pub const fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}
