//! What knows neither XMPP nor I/O.

pub mod event;
pub mod limits;
pub mod slab;
pub mod time;
