//! Who answers at the counter: the same for a running server and for a command without one.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::accounts::{Accounts, Credentials, Outcome};
use super::admin::{Account, Answer, Office, Request, Sink, State};
use super::import::local_jid;
use super::live::Live;
use crate::stream::sasl::Keys;

/// Answers requests on storage and, if there are any, on reactors.
pub struct Desk {
    accounts: Accounts,
    domains: Vec<String>,
    live: Option<Live>,
}

impl Desk {
    /// Works on storage alone, or beside the reactors of `live`.
    pub fn new(accounts: Accounts, domains: Vec<String>, live: Option<Live>) -> Self {
        Self {
            accounts,
            domains,
            live,
        }
    }

    /// Storage itself, to stop it when the command is done.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
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

impl Office for Desk {
    fn answer(&mut self, request: Request, sink: &mut Sink<'_>) -> Result<(), String> {
        match request {
            Request::Add { accounts } => self.add(accounts, sink),
            Request::Replace { account } => self.replace(account, sink),
            Request::Delete { jid } => self.delete(&jid, sink),
            Request::List => self.list(sink),
            Request::Status => self.status(sink),
        }
    }
}

fn tell(sink: &mut Sink<'_>, jid: String, state: State) -> Result<(), String> {
    sink(Answer::Account { jid, state }).map_err(|e| e.to_string())
}
