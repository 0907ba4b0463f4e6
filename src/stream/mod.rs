//! What a peer may do next: negotiation, SASL.

/// Who is at the other end.
pub mod sasl;
