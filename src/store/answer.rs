//! What every backend does alike: reads, preconditions, hashes.

use zeroize::Zeroizing;

use super::index::{Index, IndexError, Page};
use super::{Hash, Head, Kind, Op, Ops, Refusal, Reply, Require, Row, Ticket};

impl From<IndexError> for Refusal {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full => Self::Full,
            IndexError::Failed(_) => Self::Failed,
        }
    }
}

/// The answer to a read; `None` when `op` is not one.
pub(super) fn read(index: &dyn Index, ops: &Ops, op: &Op) -> Option<Reply> {
    let reply = match op {
        Op::Get { owner, kind, key } => index
            .get(ops.octets(owner), *kind, ops.octets(key))
            .map(Reply::Value),
        Op::Head { owner } => head(index, ops.octets(owner)).map(|head| Reply::Head(head.into())),
        Op::Range {
            owner,
            kind,
            after,
            limit,
            octets,
        } => {
            let page = Page {
                after: ops.octets(after),
                rows_max: *limit as usize,
                octets_max: *octets as usize,
            };
            let mut rows: Vec<Row> = Vec::new();
            index
                .range(ops.octets(owner), *kind, &page, &mut rows)
                .map(|more| Reply::Rows { rows, more })
        }
        Op::Write { .. }
        | Op::Journal { .. }
        | Op::Settle { .. }
        | Op::Forget { .. }
        | Op::Hash { .. } => return None,
    };
    Some(reply.unwrap_or_else(|error| Reply::Refused(error.into())))
}

fn head(index: &dyn Index, owner: &[u8]) -> Result<Head, IndexError> {
    let row = |kind| index.get(owner, kind, &[]);
    let Some(credentials) = row(Kind::Credentials)? else {
        return Ok(Head::default());
    };
    Ok(Head {
        credentials: Some(credentials),
        roster: row(Kind::Roster)?,
        blocked: row(Kind::Blocked)?,
        offline_count: row(Kind::OfflineCount)?,
    })
}

/// Whether the precondition of a write holds.
pub(super) fn holds(index: &dyn Index, ops: &Ops, require: &Require) -> Result<bool, IndexError> {
    let exists = |owner, kind, key| {
        let row = index.get(ops.octets(owner), kind, ops.octets(key))?;
        Ok::<_, IndexError>(row.is_some())
    };
    match require {
        Require::Nothing => Ok(true),
        Require::Present { owner, kind, key } => exists(owner, *kind, key),
        Require::Absent { owner, kind, key } => Ok(!exists(owner, *kind, key)?),
    }
}

/// A password to be hashed, taken out of its [`Ops`].
pub(super) struct HashJob {
    pub ticket: Ticket,
    pub hash: Hash,
    pub password: Zeroizing<Box<[u8]>>,
    pub salt: Box<[u8]>,
    pub iterations: u32,
}

impl HashJob {
    /// PBKDF2 (RFC 8018 section 5.2) with the output length of the hash: RFC 5802's `Hi`.
    pub fn derive(&self) -> Reply {
        let Self {
            password,
            salt,
            iterations,
            ..
        } = self;
        Reply::Hashed(match self.hash {
            Hash::Sha1 => {
                pbkdf2::pbkdf2_hmac_array::<sha1::Sha1, 20>(password, salt, *iterations).into()
            }
            Hash::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(password, salt, *iterations).into()
            }
        })
    }
}

impl Ops {
    /// Takes the hash requests out; what is left is for a backend.
    pub(super) fn take_hashes(&mut self) -> Vec<HashJob> {
        if !self.secret {
            return Vec::new();
        }
        let mut jobs = Vec::new();
        let arena = &self.arena;
        let octets = |span: &super::Span| arena[span.start as usize..span.end as usize].into();
        self.list.retain(|(ticket, op)| {
            let Op::Hash {
                hash,
                password,
                salt,
                iterations,
            } = op
            else {
                return true;
            };
            jobs.extend(ticket.map(|ticket| HashJob {
                ticket,
                hash: *hash,
                password: Zeroizing::new(octets(password)),
                salt: octets(salt),
                iterations: *iterations,
            }));
            false
        });
        jobs
    }

    /// The job of one hash request, for backends that have no threads beside them.
    pub(super) fn hash_job(&self, ticket: Ticket, op: &Op) -> Option<HashJob> {
        let Op::Hash {
            hash,
            password,
            salt,
            iterations,
        } = op
        else {
            return None;
        };
        Some(HashJob {
            ticket,
            hash: *hash,
            password: Zeroizing::new(self.octets(password).into()),
            salt: self.octets(salt).into(),
            iterations: *iterations,
        })
    }
}
