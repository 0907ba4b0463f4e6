//! The command line of encke.

use std::process::ExitCode;

fn main() -> ExitCode {
    encke::server::cli::run().into()
}
