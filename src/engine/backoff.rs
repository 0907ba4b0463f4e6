//! Wrong passwords make the next attempt wait (SECURITY class 21): by address and account, in a
//! table of bounded size.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;

use crate::base::time::Moment;

/// Failures that cost nothing: fingers slip.
const FREE_FAILURES: u32 = 5;
/// The longest wait; it doubles from a second with each failure.
const LONGEST: Duration = Duration::from_secs(300);
/// Pairs remembered; at the bound those that need not wait are forgotten, then all.
const PAIRS_MAX: usize = 10_000;

/// Who failed how often.
pub struct Backoff {
    pairs: HashMap<u64, Failures, FixedState>,
    hasher: FixedState,
}

struct Failures {
    count: u32,
    until: Moment,
}

impl Backoff {
    /// Nobody failed yet. `seed` keys the table.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            pairs: HashMap::with_hasher(hasher.clone()),
            hasher,
        }
    }

    /// Whether this address must wait before it tries this account again.
    pub fn must_wait(&self, peer: IpAddr, account: &str, now: Moment) -> bool {
        let pair = self.pairs.get(&self.pair(peer, account));
        pair.is_some_and(|failures| failures.until > now)
    }

    /// An attempt failed.
    pub fn failed(&mut self, peer: IpAddr, account: &str, now: Moment) {
        if self.pairs.len() >= PAIRS_MAX {
            self.pairs.retain(|_, failures| failures.until > now);
            if self.pairs.len() >= PAIRS_MAX {
                self.pairs.clear();
            }
        }
        let pair = self.pair(peer, account);
        let failures = self.pairs.entry(pair).or_insert(Failures {
            count: 0,
            until: now,
        });
        failures.count = failures.count.saturating_add(1);
        let doublings = failures.count.saturating_sub(FREE_FAILURES);
        if doublings > 0 {
            let wait = Duration::from_secs(1 << (doublings - 1).min(10)).min(LONGEST);
            failures.until = now.after(wait);
        }
    }

    /// An attempt succeeded.
    pub fn succeeded(&mut self, peer: IpAddr, account: &str) {
        let pair = self.pair(peer, account);
        self.pairs.remove(&pair);
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
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn waits_double_after_the_free_failures_and_end_with_a_success() {
        let mut backoff = Backoff::new(1);
        let mut now = Moment(1_000);
        for _ in 0..FREE_FAILURES {
            backoff.failed(PEER, "a@b", now);
            assert!(!backoff.must_wait(PEER, "a@b", now));
        }
        for seconds in [1, 2, 4, 8] {
            backoff.failed(PEER, "a@b", now);
            assert!(backoff.must_wait(
                PEER,
                "a@b",
                now.after(Duration::from_millis(seconds * 999))
            ));
            now = now.after(Duration::from_secs(seconds));
            assert!(!backoff.must_wait(PEER, "a@b", now));
        }
        assert!(!backoff.must_wait(PEER, "other@b", Moment(0)));
        backoff.succeeded(PEER, "a@b");
        backoff.failed(PEER, "a@b", now);
        assert!(!backoff.must_wait(PEER, "a@b", now));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut backoff = Backoff::new(1);
        for n in 0..PAIRS_MAX * 2 {
            backoff.failed(PEER, &n.to_string(), Moment(0));
        }
        assert!(backoff.pairs.len() <= PAIRS_MAX);
    }
}
