//! What conversations and the simulator share.
#![allow(dead_code, reason = "no test uses all of it")]

pub mod dom;
pub mod runner;
pub mod script;
pub mod sockets;
pub mod stage;
pub mod websocket;
