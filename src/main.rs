//! The command line of encke.

fn main() {}
