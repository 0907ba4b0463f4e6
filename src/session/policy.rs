//! What the administrator decided, as the engine needs it.

use crate::base::limits::Limits;
use crate::transport::http::forwarded::Source;
use crate::transport::http::network::Networks;
use crate::transport::http::origin::Origins;
use crate::transport::json::topic::Topics;

/// What web clients are allowed and told.
#[derive(Clone, Debug)]
pub struct HttpPolicy {
    /// Origins whose pages may use this server beside its own.
    pub origins: Origins,
    /// Reverse proxies that are believed about where a request came from.
    pub proxies: Networks,
    /// Whether they have to say it before the first octet of each link (PROXY protocol).
    pub proxy_protocol: bool,
    /// Where they say it.
    pub proxy_header: Source,
    /// What programs may publish to sessions of the JSON protocol.
    pub topics: Topics,
    /// How browsers reach this server, without a slash at the end; none: as the request says.
    pub public_url: Option<String>,
}

impl Default for HttpPolicy {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            proxies: Networks::default(),
            proxy_protocol: false,
            proxy_header: Source::XForwardedFor,
            topics: Topics::default(),
            public_url: None,
        }
    }
}

/// Shared by all shards; replaced whole when the configuration is reloaded.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Domains served, in normal form; at least one.
    pub domains: Vec<String>,
    /// Bare JIDs in normal form.
    pub admins: Vec<String>,
    /// Whether login needs TLS.
    pub require_tls: bool,
    /// Whether a certificate is there, so that TLS can be offered.
    pub offer_tls: bool,
    /// XEP-0157 addresses, as `mailto:` or `xmpp:` URIs, by form field such as `abuse-addresses`.
    pub contacts: Vec<(String, Vec<String>)>,
    pub http: HttpPolicy,
    pub limits: Limits,
    /// Secret of this installation: what an unknown user's salt is derived from.
    pub secret: [u8; 32],
}
