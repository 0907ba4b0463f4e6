//! What a peer may do next: negotiation, SASL.

/// A client's stream, up to its resource.
pub mod c2s;
/// Stream management on the wire.
pub mod resume;
/// Who is at the other end.
pub mod sasl;
