//! What a peer may do next: negotiation, SASL.

// No panic is reachable from the network.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

/// A client's stream, up to its resource.
pub mod c2s;
/// Stream management on the wire.
pub mod resume;
/// Who is at the other end.
pub mod sasl;
