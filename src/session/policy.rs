//! What the administrator decided, as the engine needs it.

use crate::base::limits::Limits;

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
    pub limits: Limits,
    /// Secret of this installation: what an unknown user's salt is derived from.
    pub secret: [u8; 32],
}
