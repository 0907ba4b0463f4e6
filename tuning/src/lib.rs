//! Kernel settings for many connections: the table of `tuning/`, and how this machine stands to it.
//!
//! `encke check`, the load test and the programs `tuning/check` and `tuning/apply` read the same
//! rows, so what one of them finds the others mend. `tuning/README.md` says how a row is written.

mod look;
mod table;

pub use look::{Look, State, look};
pub use table::{Clients, Compare, Concern, Fault, Grade, Need, Server, Setting, concerns};
