//! The shard: `Shard::handle(input, now, &mut effects)` is the server.

pub mod backoff;
pub mod deliver;
pub mod dispatch;
mod displace;
pub mod http;
pub mod inbound;
pub mod input;
mod lifecycle;
pub mod links;
pub mod login;
pub mod management;
pub mod reading;
pub mod relay;
pub mod resumption;
pub mod route;
pub mod serve;
pub mod shard;
pub mod shutdown;
pub mod tube;
pub mod websocket;

pub use crate::session::ctx::{Revival, Setup, home};
pub use crate::session::effects::{Effects, Errand, ErrandKind, LinkEffect, LinkKey, LinkTag};
pub use crate::session::parcel::Batch;
pub use crate::session::policy::{HttpPolicy, Policy};
pub use input::{Command, Entry, Input, Origin, Secured, Shortage, Way};
pub use links::Released;
pub use shard::{Report, Shard};
