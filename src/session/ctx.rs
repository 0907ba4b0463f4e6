//! The state that a shard owns, and the one view of it that features get.

use std::collections::HashMap;
use std::hash::Hasher;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use foldhash::quality::FixedState;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::account::{Account, AccountKey, Accounts, BlockChange};
use super::contacts::RosterChange;
use super::effects::{Effects, LinkEffect, LinkKey};
use super::parcel::Batch;
use super::policy::Policy;
use super::queue::{Pool, Queue};
use super::session::{Flags, Session, SessionKey, SessionTag};
use super::traffic::ByTransport;
use crate::base::event::Event;
use crate::base::hex;
use crate::base::pool::RESTING_MAX;
use crate::base::slab::Slab;
use crate::base::time::{Moment, Now};
use crate::base::wheel::Wheel;
use crate::store::{MessageId, Op, Ops, Reply, ShardId, StreamId, Ticket, TicketTag};
use crate::xmpp::error::StanzaError;
use crate::xmpp::jid;
use crate::xmpp::ns;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Traits, Type};
use crate::xmpp::xml::Tree;

/// Everything of a shard but its links.
pub struct Core {
    pub shard: ShardId,
    pub shards: u16,
    pub policy: Arc<Policy>,
    /// The server's XEP-0115 hash for the present policy.
    pub caps_ver: String,
    /// When this process began, as far as this shard knows.
    pub started: Moment,
    pub accounts: Accounts,
    pub sessions: Slab<SessionTag, Session>,
    pub pool: Pool,
    pub wheel: Wheel<Due>,
    pub counters: Counters,
    /// Who waits for storage.
    pub waiters: Slab<TicketTag, (Waiter, Option<SessionKey>)>,
    /// The session whose stanza is being handled: what storage is asked meanwhile is on its
    /// account.
    pub asker: Option<SessionKey>,
    /// Stanzas for accounts of this shard, delivered before the next stanza is taken.
    pub local: Batch,
    /// Sessions that are owed an unasked `<a/>`.
    pub acks_due: Vec<SessionKey>,
    /// Links that lost their session, with what is left to be said on them and its full JID.
    pub orphans: Vec<(LinkKey, Queue, Box<str>)>,
    /// Sessions whose queue got something in this input, to be held to their bounds.
    pub grown: Vec<SessionKey>,
    /// Journaled messages that went to several sessions: how many have not settled them.
    pub copies: HashMap<MessageId, u16, FixedState>,
    hash_key: [u8; 16],
    rng: ChaCha20Rng,
    last_id: u64,
}

/// What the wheel wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The login or the silence of a link.
    Link(LinkKey),
    /// A request that is held, or a tube that nobody asks for.
    Tube(LinkKey),
    /// A session whose output nobody took for a while.
    Slow(SessionKey),
    /// A link that sent too fast may be read again.
    Shaped(LinkKey),
    /// The resumption time of a session.
    Session(SessionKey),
    /// Whether a session must be asked for an acknowledgement.
    Ask(SessionKey),
    /// An account that may be idle.
    Account(AccountKey),
    /// The unasked acknowledgements.
    Acks,
}

/// What a shard counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// By the transport of the sender.
    pub messages_received: ByTransport,
    /// By the transport of the receiver.
    pub messages_delivered: ByTransport,
    pub messages_stored: u64,
    pub panics: u64,
}

/// What happens with a [`Reply`].
pub enum Waiter {
    /// A login waits for the account's records.
    Login(LinkKey),
    /// A login waits for a password hash.
    Hash(LinkKey),
    /// An account is loading.
    Load(AccountKey),
    /// The journal has, or will have, the inbound stanza of this number.
    Journaled { session: SessionKey, number: u32 },
    /// A session that was written down waits for its account's records.
    Revive(Box<Revival>),
    /// The record of a revived session goes.
    Unwritten(SessionKey),
    /// A page of the offline store, for a walk that may have ended meanwhile.
    Offline {
        account: AccountKey,
        session: SessionKey,
        after: u64,
    },
    /// A message went, or did not go, to the offline store.
    Stored(Box<Stored>),
    /// A feature's own.
    Feature {
        then: fn(&mut Ctx<'_>, Kept, Reply),
        kept: Kept,
    },
}

impl Waiter {
    /// How much of a session's share of storage it takes: a request may keep whole records in
    /// memory, before and after, a message keeps itself.
    pub const fn weight(&self) -> u8 {
        match self {
            Self::Feature { .. } => 16,
            _ => 1,
        }
    }
}

/// A message on its way to the offline store, so that it can be bounced if it can't be kept.
pub struct Stored {
    pub account: AccountKey,
    pub from: Box<str>,
    pub to: Box<str>,
    pub reference: Box<[u8]>,
    pub id: MessageId,
    pub traits: Traits,
}

/// A session of the former process.
pub struct Revival {
    pub owner: Box<str>,
    pub stream: StreamId,
    pub record: Box<[u8]>,
}

/// What a feature keeps while it waits for storage.
pub enum Kept {
    Nothing,
    /// An iq to be answered.
    Iq(Box<Return>),
    /// An iq to be answered, and something to remember.
    IqWith(Box<Return>, Box<[u8]>),
    /// An account, to be looked up again: it may be gone.
    Account(AccountKey),
    /// A session, likewise.
    Session(SessionKey),
    /// A change of a roster.
    Roster(Box<RosterChange>),
    /// A change of a block list.
    Blocked(Box<BlockChange>),
}

impl Kept {
    /// The way back to who waits for an answer, if anybody does.
    pub fn way_back(&self) -> Option<&Return> {
        match self {
            Self::Iq(back) | Self::IqWith(back, _) => Some(back),
            Self::Roster(change) => change.back.as_ref(),
            Self::Blocked(change) => Some(&change.back),
            Self::Nothing | Self::Account(_) | Self::Session(_) => None,
        }
    }
}

/// The way back to who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// The asker's full JID.
    pub to: Box<str>,
    /// Who was asked; empty when the request named nobody.
    pub from: Box<str>,
    /// The request's ` id='…'`.
    pub reference: Box<[u8]>,
}

/// A request that the server answers, for itself or on behalf of an account.
pub struct Iq<'a> {
    pub stanza: Stanza<'a>,
    /// Of the asker, when it lives in this shard and asks for itself.
    pub session: Option<SessionKey>,
    /// Whose account is asked; none: the server itself, or an account that does not exist.
    pub account: Option<AccountKey>,
    /// Whether asker and asked are the same account.
    pub own: bool,
    pub payload: &'a Tree,
}

impl Iq<'_> {
    /// Whether it is a `set`.
    pub fn is_set(&self) -> bool {
        self.stanza.class == Type::Set
    }

    /// The way back.
    pub fn way_back(&self) -> Return {
        Return {
            to: self.stanza.from.into(),
            from: self.stanza.to.into(),
            reference: self.stanza.reference.into(),
        }
    }
}

/// 128 bits written out; every step of a login makes two.
#[derive(Clone, Copy)]
pub struct Token([u8; 32]);

impl Token {
    /// The digits of `bits`.
    pub fn of(bits: u128) -> Self {
        let mut digits = [0; 32];
        digits[..16].copy_from_slice(&hex::digits((bits >> 64) as u64));
        digits[16..].copy_from_slice(&hex::digits(bits as u64));
        Self(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

/// One input's view: the shard's state, the effects so far, the time.
pub struct Ctx<'c> {
    pub core: &'c mut Core,
    pub fx: &'c mut Effects,
    pub now: Now,
}

impl Deref for Ctx<'_> {
    type Target = Core;
    fn deref(&self) -> &Core {
        self.core
    }
}

impl DerefMut for Ctx<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        self.core
    }
}

/// The shard that owns a bare JID, where there are `shards` of them.
pub fn home(hash_key: &[u8; 16], shards: u16, bare: &str) -> ShardId {
    let mut hasher = SipHasher13::new_with_key(hash_key);
    hasher.write(bare.as_bytes());
    ((u128::from(hasher.finish()) * u128::from(shards)) >> 64) as ShardId
}

/// What a [`Core`] is made of.
pub struct Setup {
    pub shard: ShardId,
    pub shards: u16,
    pub policy: Arc<Policy>,
    /// Keys the home of a bare JID; the same for all shards of a process.
    pub hash_key: [u8; 16],
    /// Seeds the shard's random numbers; different for each shard.
    pub seed: [u8; 32],
    /// Every message id given from now on is greater.
    pub next_id: MessageId,
}

impl Core {
    /// An empty shard's state.
    pub fn new(setup: Setup) -> Self {
        let mut rng = ChaCha20Rng::from_seed(setup.seed);
        let table_seed = rng.next_u64();
        Self {
            shard: setup.shard,
            shards: setup.shards,
            policy: setup.policy,
            caps_ver: String::new(),
            started: Moment(0),
            accounts: Accounts::new(table_seed),
            sessions: Slab::new(),
            pool: Pool::default(),
            wheel: Wheel::new(Moment(0)),
            counters: Counters::default(),
            waiters: Slab::new(),
            asker: None,
            local: Batch::default(),
            acks_due: Vec::new(),
            orphans: Vec::new(),
            grown: Vec::new(),
            copies: HashMap::with_hasher(FixedState::with_seed(table_seed)),
            hash_key: setup.hash_key,
            rng,
            last_id: setup.next_id.0,
        }
    }

    /// Gives back what a burst needed.
    pub fn rest(&mut self) {
        self.pool.rest();
        self.wheel.rest();
        self.local.rest();
        self.acks_due.shrink_to(RESTING_MAX);
        self.orphans.shrink_to(RESTING_MAX);
        self.grown.shrink_to(RESTING_MAX);
        self.copies.shrink_to(RESTING_MAX);
    }

    /// The shard that owns a bare JID: a keyed hash, not a table.
    pub fn home(&self, bare: &str) -> ShardId {
        home(&self.hash_key, self.shards, bare)
    }

    /// Whether this shard owns a bare JID.
    pub fn is_home(&self, bare: &str) -> bool {
        self.shards == 1 || self.home(bare) == self.shard
    }

    /// Whether the server serves this domain.
    pub fn serves(&self, domain: &str) -> bool {
        self.policy.domains.iter().any(|served| served == domain)
    }

    /// The same in all shards of a process, and nobody's to guess.
    pub fn process_seed(&self) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(b"process seed");
        hasher.finish()
    }

    /// 128 unguessable bits.
    pub fn random(&mut self) -> u128 {
        u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64())
    }

    /// 128 unguessable bits as 32 hexadecimal digits.
    pub fn token(&mut self) -> Token {
        Token::of(self.random())
    }

    /// A fresh message id; see [`MessageId`].
    pub fn next_id(&mut self, now: Now) -> MessageId {
        let mine = u64::from(self.shard & 0xff) << 12;
        let fresh = now.wall_ms << 20 | mine;
        let next = self.last_id + 1;
        let of_mine = next & 0xf_f000 == mine && next & 0xfff != 0;
        self.last_id = match (fresh > self.last_id, of_mine) {
            (true, _) => fresh,
            (false, true) => next,
            (false, false) => ((self.last_id >> 20) + 1) << 20 | mine,
        };
        MessageId(self.last_id)
    }

    /// One session settled a journaled message; whether that was the last one.
    pub fn settled_by_all(&mut self, id: MessageId) -> bool {
        let Some(count) = self.copies.get_mut(&id) else {
            return true;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.copies.remove(&id);
        true
    }

    /// How long an account without sessions stays in memory. A link that has authenticated and not
    /// bound counts on it.
    pub fn account_patience(&self) -> std::time::Duration {
        let limits = &self.policy.limits;
        limits.account_idle_timeout.max(limits.login_timeout)
    }

    /// Sees to it that the account is looked at when it may be idle; one deadline is enough.
    pub fn time_account(&mut self, key: AccountKey) {
        let idle = self.account_patience();
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut account.timed, true) {
            self.wheel.set(account.used.after(idle), Due::Account(key));
        }
    }

    /// The session, unless the key is stale.
    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key)
    }

    /// The session for change, unless the key is stale.
    pub fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key)
    }

    /// The account behind a session.
    pub fn account_of(&self, key: SessionKey) -> Option<&Account> {
        self.accounts.get(self.sessions.get(key)?.account)
    }

    /// The sessions of an account, as keys to walk over while they change.
    pub fn sessions_of(&self, account: AccountKey) -> SmallVec<[SessionKey; 4]> {
        self.accounts
            .get(account)
            .map(|a| a.sessions.iter().copied().collect())
            .unwrap_or_default()
    }
}

impl Ctx<'_> {
    /// Sends a stanza to its `to`, wherever that lives. Delivery follows before the next stanza of
    /// the same sender is taken.
    pub fn post(&mut self, stanza: &Stanza<'_>) {
        let home = self.home(jid::split_resource(stanza.to).0);
        if home == self.shard {
            self.core.local.push(stanza);
        } else {
            self.fx.batch(home).push(stanza);
        }
    }

    /// Sends one encoding to many bare or full JIDs: one parcel a shard.
    pub fn broadcast<'t>(&mut self, stanza: &Stanza<'_>, targets: impl Iterator<Item = &'t str>) {
        let mut homes: SmallVec<[(ShardId, &str); 16]> = targets
            .map(|jid| (self.home(jid::split_resource(jid).0), jid))
            .collect();
        homes.sort_by_key(|(home, _)| *home);
        for group in homes.chunk_by(|one, other| one.0 == other.0) {
            let home = group[0].0;
            let here = group.iter().map(|(_, jid)| *jid);
            if home == self.shard {
                self.core.local.push_for(stanza, here);
            } else {
                self.fx.batch(home).push_for(stanza, here);
            }
        }
    }

    /// Puts a stanza into a session's queue, addressed as `to`.
    pub fn send(&mut self, key: SessionKey, stanza: &Stanza<'_>, to: &str) {
        let Core {
            sessions,
            pool,
            policy,
            wheel,
            grown,
            ..
        } = &mut *self.core;
        let Some(session) = sessions.get_mut(key) else {
            return;
        };
        if session.queue.held_octets() > GROWN_OCTETS {
            grown.push(key);
        }
        let before = session.queue.held_octets();
        session.queue.push(pool, stanza, to);
        let added = session.queue.held_octets().saturating_sub(before);
        if let Some(management) = &mut session.management {
            let octets = management.octets_since_request as usize + added;
            management.octets_since_request = u32::try_from(octets).unwrap_or(u32::MAX);
            if octets >= policy.limits.ack_request_octets {
                management.octets_since_request = 0;
                session
                    .queue
                    .append(pool, |out| out.extend_from_slice(REQUEST));
            } else if session.link.is_some() && session.flags.set(Flags::ASK_TIMER) {
                wheel.set(self.now.mono.after(ASK_AFTER), Due::Ask(key));
            }
        }
        if let Some(link) = session.link {
            self.fx.link(link, LinkEffect::Flush);
        }
    }

    /// A session gets a message.
    pub fn count_delivered(&mut self, key: SessionKey) {
        if let Some(session) = self.core.sessions.get(key) {
            let transport = session.transport();
            self.core.counters.messages_delivered.count(transport);
        }
    }

    /// Puts a nonza into a session's queue.
    pub fn send_nonza(&mut self, key: SessionKey, octets: &[u8]) {
        let Core { sessions, pool, .. } = &mut *self.core;
        let Some(session) = sessions.get_mut(key) else {
            return;
        };
        session
            .queue
            .append(pool, |out| out.extend_from_slice(octets));
        if let Some(link) = session.link {
            self.fx.link(link, LinkEffect::Flush);
        }
    }

    /// Answers a request with a result.
    pub fn reply(&mut self, iq: &Iq<'_>, payload: impl Into<Vec<u8>>) {
        self.reply_to(&iq.way_back(), payload);
    }

    /// Answers a request with an error.
    pub fn refuse(&mut self, iq: &Iq<'_>, error: impl Into<StanzaError>) {
        self.refuse_to(&iq.way_back(), error);
    }

    /// As [`Ctx::reply`], later.
    pub fn reply_to(&mut self, back: &Return, payload: impl Into<Vec<u8>>) {
        let draft = Draft::new(
            Kind::Iq,
            Type::Result,
            &back.from,
            &back.to,
            &back.reference,
        )
        .with_content(payload);
        self.post(&draft.as_stanza());
    }

    /// As [`Ctx::refuse`], later.
    pub fn refuse_to(&mut self, back: &Return, error: impl Into<StanzaError>) {
        let mut draft = Draft::new(Kind::Iq, Type::Error, &back.from, &back.to, &back.reference);
        error.into().write(draft.content());
        self.post(&draft.as_stanza());
    }

    /// Answers any stanza that is not itself an answer with an error.
    pub fn bounce(&mut self, stanza: &Stanza<'_>, error: impl Into<StanzaError>) {
        if stanza.class.is_answer() || stanza.from.is_empty() {
            return;
        }
        let mut draft = Draft::new(
            stanza.kind,
            Type::Error,
            stanza.to,
            stanza.from,
            stanza.reference,
        );
        error.into().write(draft.content());
        self.post(&draft.as_stanza());
    }

    /// Asks storage; `waiter` gets the reply. `op` builds the request in the arena.
    pub fn ask(&mut self, waiter: Waiter, op: impl FnOnce(&mut Ops) -> Op) {
        // The journal has a bound of its own: the stanzas that wait for it.
        let counted = !matches!(waiter, Waiter::Journaled { .. } | Waiter::Offline { .. });
        let asker = self.core.asker.filter(|_| counted);
        if let Some(session) = asker.and_then(|key| self.core.sessions.get_mut(key)) {
            session.asked = session.asked.saturating_add(waiter.weight());
        }
        let ticket = Ticket {
            shard: self.core.shard,
            key: self.core.waiters.insert((waiter, asker)),
        };
        let op = op(&mut self.fx.ops);
        self.fx.ops.push(Some(ticket), op);
    }

    /// As [`Ctx::ask`] with a feature's continuation.
    pub fn ask_then(
        &mut self,
        kept: Kept,
        then: fn(&mut Ctx<'_>, Kept, Reply),
        op: impl FnOnce(&mut Ops) -> Op,
    ) {
        self.ask(Waiter::Feature { then, kept }, op);
    }

    /// Tells storage something that needs no answer.
    pub fn tell(&mut self, op: impl FnOnce(&mut Ops) -> Op) {
        let op = op(&mut self.fx.ops);
        self.fx.ops.push(None, op);
    }

    /// Writes a line to the log.
    pub fn event(&mut self, event: Event) {
        self.fx.events.push(event);
    }
}

/// How long a stanza may wait before its receiver is asked whether it came.
const ASK_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Octets above which a queue is held to its bounds after the input.
const GROWN_OCTETS: usize = 32 * 1024;

/// `<r/>` as it goes out.
pub const REQUEST: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";
const _: () = assert!(ns::SM.len() == 13);
