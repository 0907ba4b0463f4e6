//! The vocabulary of RFC 6120 and 6121. No behaviour.

/// Why a stream is closed, why a stanza is refused.
pub mod error;
/// Addresses in normal form.
pub mod jid;
/// Every namespace, once.
pub mod ns;
/// A stanza in flight.
pub mod stanza;
/// Octets to checked elements, and back.
pub mod xml;
