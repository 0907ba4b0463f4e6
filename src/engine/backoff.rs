//! Wrong passwords make the next attempt wait (SECURITY class 21): by address and account, in
//! tables of bounded size.
//!
//! The home of an account counts for all shards, and tells them when somebody has to wait: so it
//! does not matter which shard an attempt comes to, and an attempt asks no other shard. That an
//! attempt succeeded is seen at home, where its link goes.
//!
//! Attempts that are under way count where they are: of a pair no more of them are open at once, on
//! each shard, than could fail one after the other before the next has to wait. The others have
//! their turn when one of these is decided, so that many who come back together all get in.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;

use super::shard::Shard;
use crate::base::time::{Moment, Now};
use crate::session::effects::{Effects, LinkKey};
use crate::session::parcel::Letter;
use crate::store::ShardId;

/// Failures that cost nothing: fingers slip.
const FREE_FAILURES: u32 = 5;
/// The longest wait; it doubles from a second with each failure.
const LONGEST: Duration = Duration::from_secs(300);
/// Pairs remembered; at the bound those that need not wait are forgotten, then all.
const PAIRS_MAX: usize = 10_000;

/// Links of a pair that wait for their turn; more are refused.
const LINE_MAX: usize = 64;

/// Who failed how often.
pub struct Backoff {
    /// Of accounts that are at home here.
    failures: HashMap<u64, Failures, FixedState>,
    /// Until when, as the homes of the accounts said.
    waits: HashMap<u64, Moment, FixedState>,
    /// Attempts that have begun here and are not decided.
    open: HashMap<u64, Arc<()>, FixedState>,
    /// Links that wait until one of these is decided.
    lines: HashMap<u64, VecDeque<LinkKey>, FixedState>,
    hasher: FixedState,
}

/// An attempt that is under way. It counts until it is dropped, with its link at the latest.
pub struct Attempt {
    pair: u64,
    /// Counts itself.
    _count: Arc<()>,
}

struct Failures {
    count: u32,
    until: Moment,
}

/// An attempt for this account failed, wherever that is at home.
pub fn failed(shard: &mut Shard, peer: IpAddr, account: &str, now: Now, fx: &mut Effects) {
    let pair = shard.backoff.pair(peer, account);
    let home = shard.core.home(account);
    if home == shard.core.shard {
        return count(shard, pair, now, fx);
    }
    fx.batch(home).post(Letter::LoginFailed { pair });
}

/// An attempt for an account that is at home here failed.
pub fn count(shard: &mut Shard, pair: u64, now: Now, fx: &mut Effects) {
    if let Some(until) = shard.backoff.count(pair, now.mono) {
        tell(shard, pair, until, now, fx);
    }
}

/// An attempt for an account that is at home here succeeded.
pub fn succeeded(shard: &mut Shard, peer: IpAddr, account: &str, now: Now, fx: &mut Effects) {
    let pair = shard.backoff.pair(peer, account);
    if shard.backoff.forgive(pair) {
        tell(shard, pair, Moment(0), now, fx);
    }
}

/// Every shard learns until when an attempt has to wait.
fn tell(shard: &mut Shard, pair: u64, until: Moment, now: Now, fx: &mut Effects) {
    shard.backoff.learn(pair, until, now.mono);
    let others = (0..shard.core.shards).filter(|other| *other != shard.core.shard);
    for other in others.collect::<Vec<ShardId>>() {
        fx.batch(other).post(Letter::MustWait { pair, until });
    }
}

impl Backoff {
    /// Nobody failed yet. `seed` keys the tables: the same in all shards.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            failures: HashMap::with_hasher(hasher.clone()),
            waits: HashMap::with_hasher(hasher.clone()),
            open: HashMap::with_hasher(hasher.clone()),
            lines: HashMap::with_hasher(hasher.clone()),
            hasher,
        }
    }

    /// Whether this address must wait before it tries this account again.
    pub fn must_wait(&self, peer: IpAddr, account: &str, now: Moment) -> bool {
        self.wait(peer, account, now).is_some()
    }

    /// How long this address must wait before it tries this account again, if it must.
    pub fn wait(&self, peer: IpAddr, account: &str, now: Moment) -> Option<Duration> {
        let until = self.waits.get(&self.pair(peer, account))?;
        Some(until.since(now)).filter(|wait| !wait.is_zero())
    }

    /// An attempt begins, unless its address must wait, or has as many under way as it could make
    /// one after the other: guesses at once are no more guesses. Then others wait in line.
    ///
    /// A shard knows of those that came to it. Another address is another pair, so nobody keeps the
    /// owner of an account out from elsewhere.
    pub fn begin(&mut self, peer: IpAddr, account: &str, now: Moment) -> Option<Attempt> {
        if self.must_wait(peer, account, now) {
            return None;
        }
        let pair = self.pair(peer, account);
        if self.is_crowded(pair) {
            return None;
        }
        if self.open.len() >= PAIRS_MAX {
            self.forget_decided();
            if self.open.len() >= PAIRS_MAX {
                self.open.clear();
            }
        }
        let open = self.open.entry(pair).or_default();
        Some(Attempt {
            pair,
            _count: open.clone(),
        })
    }

    /// Whether as many attempts are under way as may be.
    pub fn is_crowded(&self, pair: u64) -> bool {
        let failures = self.failures.get(&pair);
        let failures = failures.map_or(0, |failures| failures.count);
        let free = match self.waits.contains_key(&pair) {
            true => 0,
            false => FREE_FAILURES.saturating_sub(failures),
        };
        // The table has one as well.
        let open = self.open.get(&pair);
        open.is_some_and(|open| Arc::strong_count(open) > free as usize + 1)
    }

    /// A link waits until an attempt before it is decided. Whether there is room for that.
    pub fn wait_in_line(&mut self, peer: IpAddr, account: &str, link: LinkKey) -> bool {
        let pair = self.pair(peer, account);
        let line = self.lines.entry(pair).or_default();
        let has_room = line.len() < LINE_MAX;
        if has_room {
            line.push_back(link);
        }
        has_room
    }

    /// Who may try next, if anybody waits.
    pub fn next_in_line(&mut self, pair: u64) -> Option<LinkKey> {
        if self.is_crowded(pair) {
            return None;
        }
        let line = self.lines.get_mut(&pair)?;
        let next = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&pair);
        }
        next
    }

    /// An attempt is decided. Returns whose it was, for [`Backoff::next_in_line`].
    pub fn end(&mut self, attempt: Attempt) -> u64 {
        let pair = attempt.pair;
        drop(attempt);
        if self
            .open
            .get(&pair)
            .is_some_and(|open| Arc::strong_count(open) == 1)
        {
            self.open.remove(&pair);
        }
        pair
    }

    /// Attempts whose links are gone.
    pub fn forget_decided(&mut self) {
        let open = &mut self.open;
        open.retain(|_, open| Arc::strong_count(open) > 1);
        self.lines.retain(|pair, _| open.contains_key(pair));
    }

    /// What the home of an account said.
    pub fn learn(&mut self, pair: u64, until: Moment, now: Moment) {
        if until <= now {
            self.waits.remove(&pair);
            return;
        }
        if self.waits.len() >= PAIRS_MAX {
            self.waits.retain(|_, until| *until > now);
            if self.waits.len() >= PAIRS_MAX {
                self.waits.clear();
            }
        }
        self.waits.insert(pair, until);
    }

    /// One failure more. Until when the next attempt has to wait, if it has to.
    fn count(&mut self, pair: u64, now: Moment) -> Option<Moment> {
        if self.failures.len() >= PAIRS_MAX {
            self.failures.retain(|_, failures| failures.until > now);
            if self.failures.len() >= PAIRS_MAX {
                self.failures.clear();
            }
        }
        let failures = self.failures.entry(pair).or_insert(Failures {
            count: 0,
            until: now,
        });
        failures.count = failures.count.saturating_add(1);
        let doublings = failures.count.checked_sub(FREE_FAILURES + 1)?;
        let wait = Duration::from_secs(1 << doublings.min(10)).min(LONGEST);
        failures.until = now.after(wait);
        Some(failures.until)
    }

    /// Forgets the failures. Whether somebody had to wait for them.
    fn forgive(&mut self, pair: u64) -> bool {
        let failures = self.failures.remove(&pair);
        failures.is_some_and(|failures| failures.count > FREE_FAILURES)
    }

    /// An IPv6 network counts as one address: it costs nothing to have more of them.
    fn pair(&self, peer: IpAddr, account: &str) -> u64 {
        let network = match peer {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        };
        self.hasher.hash_one((network, account))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::testing::{HEADER, PASSWORD, Plan, WireId, World};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn waits_double_after_the_free_failures_and_end_with_a_success() {
        let mut backoff = Backoff::new(1);
        let pair = backoff.pair(PEER, "a@b");
        let mut now = Moment(1_000);
        for _ in 0..FREE_FAILURES {
            assert_eq!(backoff.count(pair, now), None);
        }
        for seconds in [1, 2, 4, 8] {
            let until = backoff.count(pair, now).expect("a wait");
            backoff.learn(pair, until, now);
            let almost = now.after(Duration::from_millis(seconds * 999));
            assert!(backoff.must_wait(PEER, "a@b", almost));
            now = now.after(Duration::from_secs(seconds));
            assert!(!backoff.must_wait(PEER, "a@b", now));
        }
        assert!(!backoff.must_wait(PEER, "other@b", Moment(0)));
        assert!(backoff.forgive(pair), "others know of it");
        assert_eq!(backoff.count(pair, now), None);
        assert!(!backoff.forgive(pair), "nobody had to wait");
    }

    /// An attempt that was begun before the others failed.
    #[test]
    fn a_success_ends_a_wait_everywhere() {
        let (mut home, mut other) = (Backoff::new(1), Backoff::new(1));
        let (pair, now) = (home.pair(PEER, "a@b"), Moment(1_000));
        assert_eq!(pair, other.pair(PEER, "a@b"));
        let until = (0..=FREE_FAILURES).find_map(|_| home.count(pair, now));
        other.learn(pair, until.expect("a wait"), now);
        assert!(other.must_wait(PEER, "a@b", now));
        assert!(home.forgive(pair), "others have to hear of it");
        other.learn(pair, Moment(0), now);
        assert!(!other.must_wait(PEER, "a@b", now));
    }

    #[test]
    fn attempts_at_once_are_as_many_as_one_by_one() {
        let mut backoff = Backoff::new(1);
        let now = Moment(1_000);
        let begin = |backoff: &mut Backoff| backoff.begin(PEER, "a@b", now);
        let mut open: Vec<_> = (0..=FREE_FAILURES)
            .filter_map(|_| begin(&mut backoff))
            .collect();
        assert_eq!(open.len(), FREE_FAILURES as usize + 1);
        assert!(begin(&mut backoff).is_none());
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
        assert!(backoff.begin(elsewhere, "a@b", now).is_some());
        assert!(backoff.begin(PEER, "other@b", now).is_some());
        // One link is gone, one attempt was right.
        open.pop();
        backoff.end(open.pop().expect("an attempt"));
        open.extend((0..10).filter_map(|_| begin(&mut backoff)));
        assert_eq!(open.len(), FREE_FAILURES as usize + 1);
        // Each that fails is one less.
        let pair = backoff.pair(PEER, "a@b");
        for attempt in open.drain(..) {
            assert!(!backoff.must_wait(PEER, "a@b", now));
            backoff.end(attempt);
            if let Some(until) = backoff.count(pair, now) {
                backoff.learn(pair, until, now);
            }
            assert!(begin(&mut backoff).is_none());
        }
        // And after each wait there is one.
        let later = now.after(Duration::from_secs(1));
        let attempt = backoff.begin(PEER, "a@b", later);
        assert!(attempt.is_some() && backoff.begin(PEER, "a@b", later).is_none());
        drop(attempt);
        backoff.forget_decided();
        assert!(backoff.open.is_empty());
    }

    /// What links that ask for SCRAM at the same time are told.
    fn ask_at_once(world: &mut World, count: usize) -> (Vec<WireId>, usize) {
        let first = STANDARD.encode("n,,n=romeo,r=fyko+d2lbbFgONRv9qkxdawL");
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>";
        let wires: Vec<_> = (0..count).map(|_| world.connect()).collect();
        for wire in &wires {
            world.write(*wire, format!("{HEADER}{auth}{first}</auth>").as_bytes());
        }
        world.settle();
        let mut asked = 0;
        for wire in &wires {
            let said = String::from_utf8(world.read(*wire)).unwrap();
            asked += usize::from(said.contains("<challenge"));
            assert!(!said.contains("failure"), "the others wait: {said}");
        }
        (wires, asked)
    }

    #[test]
    fn challenges_at_once_are_counted_until_their_links_go() {
        for shards in [1, 3] {
            let mut world = World::new(Plan {
                shards,
                accounts: vec!["romeo@localhost".into(), "juliet@localhost".into()],
                ..Plan::default()
            });
            let bound = (FREE_FAILURES as usize + 1) * usize::from(shards);
            for _ in 0..3 {
                let (wires, asked) = ask_at_once(&mut world, 60);
                assert!((1..=bound).contains(&asked), "{asked} of {bound}");
                assert!(shards > 1 || asked == bound, "{asked}");
                assert_eq!(attempt(&mut world, "juliet", PASSWORD), "<success");
                for wire in wires {
                    world.hang_up(wire);
                }
                world.settle();
            }
            assert_eq!(attempt(&mut world, "romeo", PASSWORD), "<success");
        }
    }

    /// After a restart all come again together.
    #[test]
    fn who_comes_with_others_has_its_turn() {
        let mut world = World::new(Plan {
            shards: 2,
            accounts: vec!["romeo@localhost".into()],
            ..Plan::default()
        });
        let plain = STANDARD.encode(format!("\0romeo\0{PASSWORD}"));
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
        let wires: Vec<_> = (0..60).map(|_| world.connect()).collect();
        for wire in &wires {
            world.write(*wire, format!("{HEADER}{auth}{plain}</auth>").as_bytes());
        }
        world.settle();
        for wire in wires {
            let said = String::from_utf8(world.read(wire)).unwrap();
            assert!(said.contains("<success"), "{said}");
        }
        assert!(world.shards().all(|shard| shard.backoff.lines.is_empty()));
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut backoff = Backoff::new(1);
        let attempts: Vec<_> = (0..PAIRS_MAX * 2)
            .map(|number| backoff.begin(PEER, &number.to_string(), Moment(0)))
            .collect();
        assert!(backoff.open.len() <= PAIRS_MAX && attempts.iter().all(Option::is_some));
        for pair in 0..PAIRS_MAX as u64 * 2 {
            backoff.count(pair, Moment(0));
            backoff.learn(pair, Moment(1_000), Moment(0));
        }
        assert!(backoff.failures.len() <= PAIRS_MAX && backoff.waits.len() <= PAIRS_MAX);
    }

    /// What an attempt on a link of its own, on whatever shard, is told.
    fn attempt(world: &mut World, user: &str, password: &str) -> String {
        let plain = STANDARD.encode(format!("\0{user}\0{password}"));
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
        let wire = world.connect();
        world.write(wire, format!("{HEADER}{auth}{plain}</auth>").as_bytes());
        world.settle();
        let said = String::from_utf8(world.read(wire)).unwrap();
        world.hang_up(wire);
        world.settle();
        let verdicts = ["not-authorized", "temporary-auth-failure", "<success"];
        let verdict = verdicts.into_iter().find(|verdict| said.contains(verdict));
        verdict.unwrap_or(&said).to_owned()
    }

    fn attempts(world: &mut World, count: u32, user: &str, verdict: &str) {
        for number in 0..count {
            assert_eq!(attempt(world, user, "wrong"), verdict, "attempt {number}");
        }
    }

    #[test]
    fn more_shards_are_no_more_attempts() {
        for shards in [1, 2, 7] {
            let mut world = World::new(Plan {
                shards,
                accounts: vec!["romeo@localhost".into(), "juliet@localhost".into()],
                ..Plan::default()
            });
            for user in ["romeo", "nobody"] {
                attempts(&mut world, FREE_FAILURES + 1, user, "not-authorized");
                attempts(&mut world, 20, user, "temporary-auth-failure");
            }
            assert_eq!(
                attempt(&mut world, "romeo", PASSWORD),
                "temporary-auth-failure"
            );
            assert_eq!(attempt(&mut world, "juliet", PASSWORD), "<success");
            world.advance(Duration::from_secs(1));
            assert_eq!(attempt(&mut world, "romeo", PASSWORD), "<success");
            attempts(&mut world, FREE_FAILURES + 1, "romeo", "not-authorized");
            attempts(&mut world, 1, "romeo", "temporary-auth-failure");
        }
    }
}
