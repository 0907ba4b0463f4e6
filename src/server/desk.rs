//! Who answers at the counter: the same for a running server and for a command without one.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::accounts::{Accounts, Credentials, Outcome};
use super::admin::{Account, Answer, Request, Sink, State};
use super::import::local_jid;
use super::live::Live;
use super::vault;
use crate::stream::sasl::Keys;

/// Answers requests on storage and, if there are any, on reactors.
pub struct Desk {
    accounts: Accounts,
    domains: Vec<String>,
    live: Option<Live>,
    closed: bool,
}

impl Desk {
    /// Works on storage alone, or beside the reactors of `live`.
    pub fn new(accounts: Accounts, domains: Vec<String>, live: Option<Live>) -> Self {
        Self {
            accounts,
            domains,
            live,
            closed: false,
        }
    }

    /// Storage itself, to stop it when the command is done.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Answers one request, all lines but the last.
    ///
    /// # Errors
    /// The line that explains the failure.
    pub fn answer(&mut self, request: Request, sink: &mut Sink<'_>) -> Result<(), String> {
        match request {
            Request::Add { accounts } => self.add(accounts, sink),
            Request::Replace { account } => self.replace(account, sink),
            Request::Delete { jid } => self.delete(&jid, sink),
            Request::List => self.list(sink),
            Request::Status => self.status(sink),
            Request::Backup { file } => self.back_up(&file, sink),
            Request::Restore { file } => self.restore(&file, sink),
        }
    }

    /// Whether a new server has taken over, with a desk of its own.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn add(&mut self, accounts: Vec<Account>, sink: &mut Sink<'_>) -> Result<(), String> {
        let read: Result<Vec<Credentials>, String> = accounts
            .into_iter()
            .map(|account| self.read(account))
            .collect();
        let read = read?;
        let outcomes = self.accounts.add(&read);
        for (account, outcome) in read.into_iter().zip(outcomes) {
            if let Some(trouble) = outcome.trouble() {
                return Err(format!("{}: {trouble}", account.jid));
            }
            let state = match outcome {
                Outcome::Conflict => State::Exists,
                _ => State::Added,
            };
            tell(sink, account.jid, state)?;
        }
        Ok(())
    }

    fn replace(&mut self, account: Account, sink: &mut Sink<'_>) -> Result<(), String> {
        let account = self.read(account)?;
        let outcome = self.accounts.replace(&account);
        self.settle(account.jid, outcome, State::Changed, "not-authorized", sink)
    }

    fn delete(&mut self, jid: &str, sink: &mut Sink<'_>) -> Result<(), String> {
        let jid = local_jid(jid, &self.domains)?;
        let outcome = self.accounts.delete(&jid);
        self.settle(jid, outcome, State::Deleted, "not-authorized", sink)
    }

    /// Ends the sessions of an account that has changed, then tells.
    fn settle(
        &self,
        jid: String,
        outcome: Outcome,
        done: State,
        condition: &'static str,
        sink: &mut Sink<'_>,
    ) -> Result<(), String> {
        if let Some(trouble) = outcome.trouble() {
            return Err(format!("{jid}: {trouble}"));
        }
        if outcome == Outcome::Conflict {
            return tell(sink, jid, State::Missing);
        }
        if let Some(live) = &self.live {
            live.kick(&jid, condition);
        }
        tell(sink, jid, done)
    }

    fn list(&self, sink: &mut Sink<'_>) -> Result<(), String> {
        let mut failed = None;
        let listed = self.accounts.list(&mut |jid| {
            if failed.is_none() {
                let answer = Answer::Account {
                    jid: jid.into(),
                    state: State::Listed,
                };
                failed = sink(answer).err();
            }
        });
        listed.map_err(|e| e.to_string())?;
        failed.map_or(Ok(()), |e| Err(e.to_string()))
    }

    fn back_up(&self, file: &Path, sink: &mut Sink<'_>) -> Result<(), String> {
        let kept = vault::keep(self.accounts.storage(), file)?;
        tracing::info!(file = %file.display(), rows = kept.rows, "backed-up");
        let (rows, messages, octets) = (kept.rows, kept.messages, kept.octets);
        sink(Answer::Kept {
            rows,
            messages,
            octets,
        })
        .map_err(|e| e.to_string())
    }

    /// The new store is made while the old one serves; only then does the server start again.
    fn restore(&mut self, file: &Path, sink: &mut Sink<'_>) -> Result<(), String> {
        let Some(live) = &self.live else {
            return Err("no server is running".into());
        };
        vault::stage(live.data_dir(), file)?;
        let former = live.restart_on_staged()?;
        self.closed = true;
        sink(Answer::Restored { former }).map_err(|e| e.to_string())
    }

    fn status(&self, sink: &mut Sink<'_>) -> Result<(), String> {
        let Some(live) = &self.live else {
            return Err("no server is running".into());
        };
        let status = Box::new(live.status(self.accounts.storage()));
        sink(Answer::Status { status }).map_err(|e: io::Error| e.to_string())
    }

    /// The keys of a request are checked like those of a file: storage keeps no nonsense.
    fn read(&self, account: Account) -> Result<Credentials, String> {
        let jid = local_jid(&account.jid, &self.domains)?;
        let record = STANDARD
            .decode(&account.keys)
            .map_err(|e| format!("{jid}: {e}"))?;
        Keys::decode(&record).map_err(|e| format!("{jid}: {e}"))?;
        Ok(Credentials { jid, record })
    }
}

fn tell(sink: &mut Sink<'_>, jid: String, state: State) -> Result<(), String> {
    sink(Answer::Account { jid, state }).map_err(|e| e.to_string())
}
