//! How a command ends: one code per cause, and what is said about it.

use std::fmt;
use std::process::ExitCode;

/// The exit codes. Scripts depend on them: never give one a second meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done. For `check`: nothing found.
    Done = 0,
    /// Refused or failed, as the line says. For `check`: warnings.
    Failed = 1,
    /// Wrong use of the command line. For `check`: errors.
    Usage = 2,
    /// The configuration cannot be used.
    Configuration = 3,
    /// An address cannot be listened on.
    Address = 4,
    /// The data directory cannot be used: no rights, in use, damaged.
    Data = 5,
    /// No server answers in this data directory.
    NotRunning = 6,
    /// The server broke; its data are recovered at the next start.
    Internal = 70,
}

/// All exit codes with their meaning, for the documentation and the help.
pub const EXITS: &[(Exit, &str)] = &[
    (Exit::Done, "done; for `check`: nothing found"),
    (
        Exit::Failed,
        "refused or failed, the last line says why; for `check`: warnings",
    ),
    (
        Exit::Usage,
        "wrong use of the command line; for `check`: errors",
    ),
    (Exit::Configuration, "the configuration cannot be used"),
    (Exit::Address, "an address cannot be listened on"),
    (
        Exit::Data,
        "the data directory cannot be used: no rights, in use, or damaged",
    ),
    (
        Exit::NotRunning,
        "no server is running in this data directory",
    ),
    (
        Exit::Internal,
        "a fault of encke itself; what was acknowledged is recovered at the next start",
    ),
];

/// Why a command did not do what it was asked, in lines for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub lines: Vec<String>,
}

impl Failure {
    /// A failure that one line explains.
    pub fn new(exit: Exit, line: impl fmt::Display) -> Self {
        Self {
            exit,
            lines: vec![line.to_string()],
        }
    }

    /// A failure without a more special code.
    pub fn plain(line: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, line)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
