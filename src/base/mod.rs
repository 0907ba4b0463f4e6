//! What knows neither XMPP nor I/O.

pub mod event;
pub mod hex;
pub mod id;
pub mod limits;
pub mod pool;
pub mod slab;
pub mod time;
pub mod wheel;
