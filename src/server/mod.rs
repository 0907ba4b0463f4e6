//! Configuration, start, signals, administration: everything around the reactors.

pub mod accounts;
pub mod admin;
mod boot;
pub mod certificate;
pub mod check;
pub mod cli;
pub mod config;
mod data;
mod demo;
mod depot;
pub mod desk;
mod door;
pub mod exit;
pub mod import;
mod live;
pub mod log;
pub mod options;
mod password;
pub mod plan;
pub mod reference;
mod reload;
pub mod show;
pub mod signals;
pub mod status;
mod user;
pub mod value;
mod vault;
