//! Accounts as the administrator sees them: keys in storage, whether the server runs or not.

use std::time::Duration;

use crossbeam::channel::Receiver;

use crate::store::index::{IndexError, Scan};
use crate::store::worker::Storage;
use crate::store::{
    Change, Kind, Op, Ops, Refusal, Replies, Reply, Require, ShardId, Ticket, TicketKey,
};

/// Whose tickets those of the administration are: no shard has this number.
pub const DESK: ShardId = ShardId::MAX;

/// The rows of accounts, asked for by one thread.
pub struct Accounts {
    storage: Storage,
    replies: Receiver<Replies>,
    next_ticket: u64,
}

/// An account with its keys, as `stream::sasl` encodes them.
pub struct Credentials {
    /// The bare JID, in normal form.
    pub jid: String,
    pub record: Vec<u8>,
}

/// What became of a request about one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It exists already, or does not exist.
    Conflict,
    /// The disk is full, or failed.
    Refused(Refusal),
    /// Storage has not answered in time, or has stopped.
    Silent,
}

/// How long storage may take for one list of requests.
const PATIENCE: Duration = Duration::from_secs(60);

impl Accounts {
    /// Works on `storage`, whose outlet posts what is for [`DESK`] to `replies`.
    pub fn new(storage: Storage, replies: Receiver<Replies>) -> Self {
        Self {
            storage,
            replies,
            next_ticket: 0,
        }
    }

    /// Storage itself.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Adds accounts; [`Outcome::Conflict`] for one that exists.
    pub fn add(&mut self, accounts: &[Credentials]) -> Vec<Outcome> {
        let mut ops = Ops::default();
        for account in accounts {
            let (owner, none) = (ops.keep(account.jid.as_bytes()), ops.keep(b""));
            let kind = Kind::Credentials;
            let require = Require::Absent {
                owner: owner.clone(),
                kind,
                key: none.clone(),
            };
            let value = ops.keep(&account.record);
            let changes = vec![Change::Put {
                owner,
                kind,
                key: none,
                value,
            }];
            self.push(&mut ops, Op::Write { require, changes });
        }
        self.run(ops)
    }

    /// Replaces the keys of an account; [`Outcome::Conflict`] when there is none.
    pub fn replace(&mut self, account: &Credentials) -> Outcome {
        let mut ops = Ops::default();
        let (owner, key) = (ops.keep(account.jid.as_bytes()), ops.keep(b""));
        let kind = Kind::Credentials;
        let require = Require::Present {
            owner: owner.clone(),
            kind,
            key: key.clone(),
        };
        let value = ops.keep(&account.record);
        let changes = vec![Change::Put {
            owner,
            kind,
            key,
            value,
        }];
        self.push(&mut ops, Op::Write { require, changes });
        self.run_one(ops)
    }

    /// Deletes an account with all it has; [`Outcome::Conflict`] when there is none.
    pub fn delete(&mut self, jid: &str) -> Outcome {
        let mut ops = Ops::default();
        let (owner, key) = (ops.keep(jid.as_bytes()), ops.keep(b""));
        let kind = Kind::Credentials;
        let require = Require::Present {
            owner: owner.clone(),
            kind,
            key,
        };
        let changes = vec![Change::DeleteOwner { owner }];
        self.push(&mut ops, Op::Write { require, changes });
        self.run_one(ops)
    }

    /// Shows every account, in order.
    ///
    /// # Errors
    /// When storage failed.
    pub fn list(&self, visit: &mut dyn FnMut(&str)) -> Result<(), IndexError> {
        let snapshot = self.storage.snapshot()?;
        snapshot.scan_kind(Kind::Credentials, &mut |owner, _, _| {
            visit(&String::from_utf8_lossy(owner));
            Scan::More
        })
    }

    /// Shows every session that a shutdown wrote down: owner, key, record.
    ///
    /// # Errors
    /// When storage failed.
    pub fn written_sessions(
        &self,
        visit: &mut dyn FnMut(&str, &[u8], &[u8]),
    ) -> Result<(), IndexError> {
        let snapshot = self.storage.snapshot()?;
        snapshot.scan_kind(Kind::Session, &mut |owner, key, value| {
            visit(&String::from_utf8_lossy(owner), key, value);
            Scan::More
        })
    }

    fn push(&mut self, ops: &mut Ops, op: Op) {
        self.next_ticket += 1;
        let key = TicketKey::from_bits(self.next_ticket);
        ops.push(Some(Ticket { shard: DESK, key }), op);
    }

    fn run_one(&mut self, ops: Ops) -> Outcome {
        self.run(ops).pop().unwrap_or(Outcome::Silent)
    }

    /// Submits requests, the last of which has the newest ticket, and waits for all answers.
    fn run(&mut self, mut ops: Ops) -> Vec<Outcome> {
        let count = ops.len();
        let first = self.next_ticket + 1 - count as u64;
        let mut outcomes = vec![Outcome::Silent; count];
        self.storage.submit(&mut ops);
        let mut missing = count;
        while missing > 0 {
            let Ok(replies) = self.replies.recv_timeout(PATIENCE) else {
                break;
            };
            for (ticket, reply) in replies {
                // An answer that came too late for an earlier list belongs to nobody.
                let place = ticket
                    .key
                    .to_bits()
                    .checked_sub(first)
                    .map(|place| place as usize);
                if let Some(outcome) = place.and_then(|place| outcomes.get_mut(place)) {
                    *outcome = Outcome::of(&reply);
                    missing -= 1;
                }
            }
        }
        outcomes
    }
}

impl Outcome {
    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Done => Self::Done,
            Reply::Conflict => Self::Conflict,
            Reply::Refused(refusal) => Self::Refused(*refusal),
            _ => Self::Refused(Refusal::Failed),
        }
    }

    /// Why nothing was changed, where it is nobody's choice.
    pub fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Done | Self::Conflict => None,
            Self::Refused(Refusal::Full) => Some("the disk is full"),
            Self::Refused(Refusal::Failed) => Some("storage failed; the log says why"),
            Self::Silent => Some("storage does not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam::channel::unbounded;

    use super::*;
    use crate::store::memory::MemoryBackend;

    fn accounts() -> Accounts {
        let (sender, replies) = unbounded();
        let outlet = Arc::new(move |_, list| sender.send(list).expect("a receiver"));
        let storage = Storage::start(Box::new(MemoryBackend::default()), outlet);
        Accounts::new(storage.expect("started"), replies)
    }

    fn credentials(jid: &str) -> Credentials {
        Credentials {
            jid: jid.into(),
            record: b"keys".to_vec(),
        }
    }

    #[test]
    fn an_account_lives_from_add_to_delete() {
        let mut accounts = accounts();
        let two = [credentials("a@b"), credentials("c@b")];
        assert_eq!(accounts.replace(&two[0]), Outcome::Conflict);
        assert_eq!(accounts.add(&two), [Outcome::Done, Outcome::Done]);
        assert_eq!(accounts.add(&two), [Outcome::Conflict, Outcome::Conflict]);
        assert_eq!(accounts.replace(&two[0]), Outcome::Done);
        assert_eq!(accounts.delete("a@b"), Outcome::Done);
        assert_eq!(accounts.delete("a@b"), Outcome::Conflict);
        let mut names = Vec::new();
        accounts
            .list(&mut |name| names.push(name.to_owned()))
            .expect("listed");
        assert_eq!(names, ["c@b"]);
    }

    #[test]
    fn a_stopped_storage_is_no_endless_wait() {
        let mut accounts = accounts();
        accounts.storage.stop();
        assert!(accounts.list(&mut |_| ()).is_err());
        assert_eq!(accounts.add(&[]), []);
    }
}
