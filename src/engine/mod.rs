//! The shard: `Shard::handle(input, now, &mut effects)` is the server.

pub mod backoff;
pub mod deliver;
pub mod dispatch;
pub mod inbound;
pub mod input;
pub mod lifecycle;
pub mod links;
pub mod login;
pub mod management;
pub mod reading;
pub mod resumption;
pub mod route;
pub mod serve;
pub mod shard;
pub mod shutdown;

pub use crate::session::ctx::{Revival, Setup, home};
pub use crate::session::effects::{Effects, LinkEffect, LinkKey, LinkTag};
pub use crate::session::parcel::Batch;
pub use crate::session::policy::Policy;
pub use input::{Command, Entry, Input, Origin, Secured};
pub use links::Released;
pub use shard::{Report, Shard};
