//! Octets to stream items and back, for each way that a client may come by. No I/O: a transport is
//! given octets and gives items, and what it refuses never reaches a stream.

/// Streams over HTTP requests (XEP-0124 and XEP-0206).
pub mod bosh;
/// How the items of a stream are cut on its link.
pub mod framing;
/// HTTP/1.1: request heads and bodies, answers.
pub mod http;
/// Events and requests in JSON: encke's own protocol.
pub mod json;
/// Frames of RFC 6455, and XMPP in them (RFC 7395).
pub mod websocket;
