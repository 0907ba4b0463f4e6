//! A bare JID of this server and what hangs on it: absent, loading or resident.

use foldhash::quality::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::BuildHasher;

use super::ctx::Return;
use super::parcel::Batch;
use super::roster::Roster;
use super::session::SessionKey;
use crate::base::slab::{Key, Slab};
use crate::base::time::Moment;
use crate::xmpp::error::{Condition, ErrorType, StanzaError};
use crate::xmpp::{jid, ns};

/// The tag of [`AccountKey`].
pub enum AccountTag {}
/// Names an account that is loading or resident in this shard.
pub type AccountKey = Key<AccountTag>;

/// What the home shard knows of a bare JID.
pub struct Account {
    /// The bare JID in normal form.
    pub jid: Box<str>,
    pub sessions: SmallVec<[SessionKey; 1]>,
    pub state: State,
    /// None: empty.
    pub roster: Option<Box<Roster>>,
    /// Sorted; none: empty (XEP-0191).
    pub blocked: Option<Box<BlockList>>,
    /// The keys of the private storage (XEP-0049), once they were needed.
    pub private: Option<Box<Vec<Box<str>>>>,
    /// Messages in the offline store.
    pub offline: u32,
    /// The session that is being given the offline messages.
    pub draining: Option<Box<Draining>>,
    /// Whether a deadline for its eviction is set.
    pub timed: bool,
    /// When it was last used; idle accounts without sessions are evicted.
    pub used: Moment,
}

const _: () = assert!(size_of::<Account>() <= 96);

/// Where an account stands.
pub enum State {
    /// Its records were asked for; what came in meanwhile waits here.
    Loading(Box<Batch>),
    /// In memory.
    Resident,
}

/// A change of a block list on its way to storage.
pub struct BlockChange {
    pub account: AccountKey,
    pub back: Return,
    pub before: Option<Box<BlockList>>,
    pub after: Option<Box<BlockList>>,
    /// What was asked for: these JIDs, or none for all.
    pub jids: Vec<Box<str>>,
    /// Whether they are blocked now, or no longer.
    pub blocks: bool,
}

/// A walk through the offline store.
#[derive(Clone, Copy, Debug)]
pub struct Draining {
    pub session: SessionKey,
    /// The last key that was read.
    pub after: u64,
    /// Whether a page was asked for and has not come.
    pub asked: bool,
    /// The first message that was stored after the page was asked for. It may come before those
    /// that were read: another shard named it, or a session that ended left it.
    pub grown_from: Option<u64>,
}

impl Account {
    fn new(jid: &str, state: State, now: Moment) -> Self {
        Self {
            jid: jid.into(),
            sessions: SmallVec::new(),
            state,
            roster: None,
            blocked: None,
            private: None,
            offline: 0,
            draining: None,
            timed: false,
            used: now,
        }
    }

    /// Whether its records are in memory.
    pub const fn is_resident(&self) -> bool {
        matches!(self.state, State::Resident)
    }

    /// Whether `jid` (full or bare, normal form) is on the block list.
    pub fn blocks(&self, jid: &str) -> bool {
        self.blocked
            .as_deref()
            .is_some_and(|list| is_blocked(list, jid))
    }
}

/// JIDs in normal form, sorted.
pub type BlockList = Vec<Box<str>>;

/// Whether a list has `jid` (full or bare, normal form): by full JID, bare JID, domain with
/// resource, or domain (XEP-0191 section 5).
pub fn is_blocked(list: &BlockList, jid: &str) -> bool {
    let listed = |jid: &str| list.binary_search_by(|entry| (**entry).cmp(jid)).is_ok();
    let (bare, _) = jid::split_resource(jid);
    let (_, domain) = jid::split_local(bare);
    listed(jid) || listed(bare) || listed(domain)
}

/// Reads [`crate::store::Kind::Blocked`]: a version, then JIDs that end with a NUL each.
pub fn decode_blocked(record: Option<&[u8]>) -> Option<Box<BlockList>> {
    let (version, rest) = record?.split_first()?;
    if *version != BLOCKED_VERSION {
        return None;
    }
    let text = std::str::from_utf8(rest).ok()?;
    let list: Vec<Box<str>> = text.split_terminator('\0').map(Box::from).collect();
    (!list.is_empty()).then(|| Box::new(list))
}

/// The inverse of [`decode_blocked`].
pub fn encode_blocked(list: &[Box<str>]) -> Vec<u8> {
    let mut record = vec![BLOCKED_VERSION];
    for jid in list {
        record.extend_from_slice(jid.as_bytes());
        record.push(0);
    }
    record
}

const BLOCKED_VERSION: u8 = 1;

/// What a user hears who writes to somebody on the own block list (XEP-0191 section 3.3).
pub const BLOCKED: StanzaError = StanzaError::new(Condition::NotAcceptable)
    .with_class(ErrorType::Cancel)
    .with_specific("blocked", ns::BLOCKING_ERRORS);

/// The accounts of one shard.
pub struct Accounts {
    slab: Slab<AccountTag, Account>,
    index: HashTable<AccountKey>,
    hasher: FixedState,
}

impl Accounts {
    /// No accounts; `seed` keys the table, so that nobody can choose colliding names.
    pub fn new(seed: u64) -> Self {
        Self {
            slab: Slab::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The account of a bare JID, if it is loading or resident.
    pub fn find(&self, jid: &str) -> Option<AccountKey> {
        let hash = self.hasher.hash_one(jid);
        let same = |key: &AccountKey| self.slab.get(*key).is_some_and(|a| *a.jid == *jid);
        self.index.find(hash, same).copied()
    }

    /// Adds an account that is not there.
    pub fn insert(&mut self, jid: &str, state: State, now: Moment) -> AccountKey {
        let key = self.slab.insert(Account::new(jid, state, now));
        let Self {
            slab,
            index,
            hasher,
        } = self;
        let rehash = |key: &AccountKey| slab.get(*key).map_or(0, |a| hasher.hash_one(&*a.jid));
        index.insert_unique(hasher.hash_one(jid), key, rehash);
        key
    }

    /// Forgets an account.
    pub fn remove(&mut self, key: AccountKey) -> Option<Account> {
        let account = self.slab.remove(key)?;
        let hash = self.hasher.hash_one(&*account.jid);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == key) {
            entry.remove();
        }
        Some(account)
    }

    /// The account, unless the key is stale.
    pub fn get(&self, key: AccountKey) -> Option<&Account> {
        self.slab.get(key)
    }

    /// The account for change, unless the key is stale.
    pub fn get_mut(&mut self, key: AccountKey) -> Option<&mut Account> {
        self.slab.get_mut(key)
    }

    /// How many are loading or resident.
    pub const fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (AccountKey, &Account)> {
        self.slab.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_until_they_are_removed() {
        let mut accounts = Accounts::new(7);
        let keys: Vec<_> = (0..500)
            .map(|n| accounts.insert(&format!("u{n}@x"), State::Resident, Moment(0)))
            .collect();
        assert_eq!(accounts.find("u77@x"), Some(keys[77]));
        assert_eq!(accounts.find("u500@x"), None);
        accounts.remove(keys[77]);
        assert_eq!(accounts.find("u77@x"), None);
        assert_eq!(accounts.find("u78@x"), Some(keys[78]));
    }

    #[test]
    fn a_block_list_matches_full_bare_and_domain() {
        let mut account = Account::new("me@x", State::Resident, Moment(0));
        let list = ["a@b", "c@d/e", "spam.example"];
        account.blocked = Some(Box::new(list.map(Box::from).to_vec()));
        for (jid, expected) in [
            ("a@b", true),
            ("a@b/r", true),
            ("c@d", false),
            ("c@d/e", true),
            ("x@spam.example/r", true),
            ("spam.example", true),
            ("x@b", false),
        ] {
            assert_eq!(account.blocks(jid), expected, "{jid}");
        }
    }
}
