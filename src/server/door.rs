//! How a command reaches the accounts: the running server, or storage under its lock.

use super::accounts::Accounts;
use super::admin::{Line, Request, Sink};
use super::config::Config;
use super::depot;
use super::desk::Desk;
use super::exit::{Exit, Failure};

/// Where requests go.
pub enum Door {
    /// To the server that runs.
    Running(Line),
    /// Into the data directory itself; no server can start meanwhile.
    Closed(Box<Desk>),
}

impl Door {
    /// Asks the running server of this data directory, or opens the directory.
    ///
    /// # Errors
    /// When neither is possible.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        if let Some(line) = running(config)? {
            return Ok(Self::Running(line));
        }
        let depot = depot::open_alone(config)?;
        let accounts = Accounts::new(depot.storage, depot.desk);
        let desk = Desk::new(accounts, config.domains.clone(), None);
        Ok(Self::Closed(Box::new(desk)))
    }

    /// Asks and hands all answer lines to `sink`.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn ask(&mut self, request: Request, sink: &mut Sink<'_>) -> Result<(), Failure> {
        match self {
            Self::Running(line) => line.ask(&request, sink),
            Self::Closed(desk) => desk.answer(request, sink).map_err(Failure::plain),
        }
    }
}

/// The running server of this data directory, if there is one.
///
/// # Errors
/// When there is one that cannot be reached.
pub fn running(config: &Config) -> Result<Option<Line>, Failure> {
    Line::connect(&config.data_dir).map_err(|e| {
        let dir = config.data_dir.display();
        Failure::new(
            Exit::Data,
            format!("{dir}: its server cannot be reached: {e}"),
        )
    })
}

impl Drop for Door {
    /// What was added is durable already; a clean end spares the next start its recovery.
    fn drop(&mut self) {
        if let Self::Closed(desk) = self {
            desk.accounts().storage().stop();
        }
    }
}
