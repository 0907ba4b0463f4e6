//! The state that a shard owns: accounts, sessions, rosters, queues; and the view that features
//! get of it.

pub mod account;
pub mod contacts;
pub mod ctx;
pub mod effects;
pub mod held;
pub mod last;
pub mod offline;
pub mod parcel;
pub mod policy;
pub mod queue;
pub mod record;
pub mod roster;
#[expect(
    clippy::module_inception,
    reason = "a session is what the layer is named after"
)]
pub mod session;
pub mod shown;
pub mod stamp;
pub mod traffic;
