//! Configuration, start, signals, administration: everything around the reactors.

pub mod cli;
pub mod config;
pub mod exit;
pub mod options;
pub mod plan;
pub mod reference;
pub mod show;
pub mod value;
