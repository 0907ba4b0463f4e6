//! encke: a chat and real-time server for one ordinary Linux machine.
//!
//! The layers, from the inside out. Each may use those above it, never those below;
//! `tests/tidy.rs` holds the table.

/// Slabs, wheels, pools, bounds: no XMPP and no I/O.
pub mod base;
/// The shard: a pure state machine that is the server.
pub mod engine;
/// One extension, one file.
pub mod features;
/// Everything the kernel sees: sockets, TLS, threads, clocks.
pub mod io;
/// Configuration, start, signals, administration.
pub mod server;
/// The state that a shard owns: accounts, sessions, rosters, queues.
pub mod session;
/// What is kept: operations, the journal, the embedded engine.
pub mod store;
/// What a peer may do next: negotiation, SASL.
pub mod stream;
/// A whole server in memory, for tests and benches.
pub mod testing;
/// Octets to stream items and back.
pub mod transport;
/// The vocabulary of RFC 6120 and 6121: JIDs, stanzas, errors, XML.
pub mod xmpp;
