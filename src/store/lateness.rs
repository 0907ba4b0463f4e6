//! How late storage is: noted by the thread that waits for the device, read by whoever asks.
//!
//! It costs three looks at the clock for each group that is made durable, and nothing for the
//! messages in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is counted since the start, and what waits now.
#[derive(Debug)]
pub struct Lateness {
    origin: Instant,
    /// When the oldest record came that is not durable, in microseconds after `origin`.
    oldest: AtomicU64,
    syncs: Counts,
    waits: Counts,
}

/// A copy of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatenessReport {
    /// How long the oldest record waits that is not durable; zero: there is none.
    pub oldest: Duration,
    /// How long the device took.
    pub syncs: Spread,
    /// How long the first record of each group waited until it was durable.
    pub waits: Spread,
}

/// Durations by size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many were at most as long as each of [`BOUNDS`], and longer than the one before; last
    /// those that were longer than all.
    pub counts: [u64; BOUNDS.len() + 1],
    pub sum: Duration,
    pub last: Duration,
    pub max: Duration,
}

/// From a fast device to one that has everybody wait, in microseconds.
pub const BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// Durations that one thread counts and all may read.
#[derive(Debug, Default)]
struct Counts {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
    last: AtomicU64,
    max: AtomicU64,
}

const NOTHING: u64 = u64::MAX;

impl Default for Lateness {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            oldest: AtomicU64::new(NOTHING),
            syncs: Counts::default(),
            waits: Counts::default(),
        }
    }
}

impl Lateness {
    /// The oldest record that is not durable came then; there is none.
    pub fn waits_since(&self, since: Option<Instant>) {
        let micros = since.map(|since| micros(since.saturating_duration_since(self.origin)));
        self.oldest
            .store(micros.unwrap_or(NOTHING), Ordering::Relaxed);
    }

    /// The device took so long.
    pub fn synced(&self, took: Duration) {
        self.syncs.add(took);
    }

    /// The first record of a group became durable after so long.
    pub fn waited(&self, waited: Duration) {
        self.waits.add(waited);
    }

    /// How it is now. Numbers that belong together may be one apart.
    pub fn report(&self) -> LatenessReport {
        let oldest = match self.oldest.load(Ordering::Relaxed) {
            NOTHING => Duration::ZERO,
            since => self
                .origin
                .elapsed()
                .saturating_sub(Duration::from_micros(since)),
        };
        LatenessReport {
            oldest,
            syncs: self.syncs.read(),
            waits: self.waits.read(),
        }
    }
}

impl Counts {
    fn add(&self, duration: Duration) {
        let micros = micros(duration);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.last.store(micros, Ordering::Relaxed);
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Spread {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Spread {
            counts: std::array::from_fn(|place| read(&self.counts[place])),
            sum: Duration::from_micros(read(&self.sum)),
            last: Duration::from_micros(read(&self.last)),
            max: Duration::from_micros(read(&self.max)),
        }
    }
}

impl Spread {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NOTHING - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_where_they_belong() {
        let lateness = Lateness::default();
        for micros in [0, 100, 101, 5_000_000, 5_000_001] {
            lateness.synced(Duration::from_micros(micros));
        }
        let LatenessReport { syncs, waits, .. } = lateness.report();
        assert_eq!(syncs.counts[..3], [2, 1, 0]);
        assert_eq!(syncs.counts[BOUNDS.len() - 1..], [1, 1]);
        assert_eq!(syncs.count(), 5);
        assert_eq!(syncs.sum, Duration::from_micros(10_000_202));
        assert_eq!(syncs.last, syncs.max);
        assert_eq!(waits, Spread::default());
    }

    #[test]
    fn what_waits_is_as_old_as_it_is() {
        let lateness = Lateness::default();
        assert_eq!(lateness.report().oldest, Duration::ZERO);
        let since = Instant::now();
        lateness.waits_since(Some(since));
        let before = since.elapsed();
        let oldest = lateness.report().oldest;
        assert!(oldest + Duration::from_micros(1) >= before, "{oldest:?}");
        assert!(oldest <= since.elapsed() + Duration::from_micros(1));
        lateness.waits_since(None);
        assert_eq!(lateness.report().oldest, Duration::ZERO);
    }
}
