//! Latencies of an interval beside those of the whole run, without a lock on the way of a message.
//!
//! A thread records into histograms of its own. When the main thread asks, once an interval, the
//! thread adds them to the shared one and, what counts, to its total.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// From a microsecond to 1,000 seconds, in nanoseconds, to three digits: a million sessions take
/// minutes to come back.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 1_000_000_000_000, 3).expect("the bounds are in order")
}

/// Latencies that one thread records.
pub struct Recorder {
    /// What counts, and what does not, since the last interval was handed over.
    counted: Histogram<u64>,
    others: Histogram<u64>,
    total: Histogram<u64>,
}

/// Whether a latency belongs to the figures of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Yes,
    /// It shows over time only: it was recorded while warming up.
    No,
}

impl Counts {
    pub const fn when(measured: bool) -> Self {
        if measured { Self::Yes } else { Self::No }
    }
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            counted: latency_histogram(),
            others: latency_histogram(),
            total: latency_histogram(),
        }
    }

    pub fn record(&mut self, nanoseconds: u64, counts: Counts) {
        let interval = match counts {
            Counts::Yes => &mut self.counted,
            Counts::No => &mut self.others,
        };
        interval.saturating_record(nanoseconds);
    }

    /// Gives the interval away and begins a new one.
    pub fn hand_over(&mut self, shared: &Mutex<Histogram<u64>>) {
        // All have the same bounds, so that adding cannot fail.
        let _ = self.total.add(&self.counted);
        for interval in [&mut self.counted, &mut self.others] {
            if !interval.is_empty() {
                let mut shared = shared.lock().expect("no thread panics with the lock");
                let _ = shared.add(&*interval);
                drop(shared);
                interval.reset();
            }
        }
    }

    /// What counted.
    pub fn into_total(mut self) -> Histogram<u64> {
        let _ = self.total.add(&self.counted);
        self.total
    }
}

/// Where the threads put their intervals when they are asked.
pub struct Intervals {
    asked: AtomicU64,
    pub logins: Mutex<Histogram<u64>>,
    pub messages: Mutex<Histogram<u64>>,
    pub presence: Mutex<Histogram<u64>>,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            asked: AtomicU64::new(0),
            logins: Mutex::new(latency_histogram()),
            messages: Mutex::new(latency_histogram()),
            presence: Mutex::new(latency_histogram()),
        }
    }
}

impl Intervals {
    /// Asks all threads; they answer within a turn.
    pub fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the interval; a thread that has seen a smaller one hands over.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What has been handed over since the last call: logins, messages, presence.
    pub fn take(&self) -> [Spread; 3] {
        [&self.logins, &self.messages, &self.presence].map(take)
    }
}

fn take(shared: &Mutex<Histogram<u64>>) -> Spread {
    let mut histogram = shared.lock().expect("no thread panics with the lock");
    let spread = Spread::of(&histogram);
    if !histogram.is_empty() {
        histogram.reset();
    }
    spread
}

/// A histogram of few values, to the percent, so that hundreds of them can be kept and joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Values in rising order, and how often each came.
    counts: Vec<(u64, u64)>,
    max: u64,
}

/// Leading bits of a value that are kept: an error of less than 1 %.
const BITS_KEPT: u32 = 8;

impl Spread {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut spread = Self::default();
        if histogram.is_empty() {
            return spread;
        }
        spread.max = histogram.max();
        for step in histogram.iter_recorded() {
            spread.append(rounded(step.value_iterated_to()), step.count_at_value());
        }
        spread
    }

    /// The value must not be less than the last one.
    fn append(&mut self, value: u64, count: u64) {
        match self.counts.last_mut() {
            Some((last, sum)) if *last == value => *sum += count,
            _ => self.counts.push((value, count)),
        }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The least value that is not exceeded by this share of them; none where there are none.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let rank = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (value, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return Some((*value).min(self.max));
            }
        }
        None
    }

    pub fn join(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.counts.iter().chain(&other.counts).copied().collect();
        all.sort_unstable();
        let mut joined = Self {
            counts: Vec::new(),
            max: self.max.max(other.max),
        };
        for (value, count) in all {
            joined.append(value, count);
        }
        joined
    }
}

/// The value with its leading bits, rounded up: a latency is never shown shorter than it was.
const fn rounded(value: u64) -> u64 {
    let bits = u64::BITS - value.leading_zeros();
    if bits <= BITS_KEPT {
        return value;
    }
    let step = 1 << (bits - BITS_KEPT);
    value.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[u64]) -> Spread {
        let mut histogram = latency_histogram();
        for value in values {
            histogram.record(*value).unwrap();
        }
        Spread::of(&histogram)
    }

    #[test]
    fn rounding_errs_upwards_by_less_than_one_percent() {
        for value in [1, 127, 128, 129, 12_345, 999_999_999, 99_000_000_000] {
            let shown = rounded(value);
            assert!(shown >= value);
            assert!((shown - value) as f64 <= value as f64 * 0.008, "{value}");
        }
    }

    #[test]
    fn quantiles_of_a_joined_spread_are_those_of_all_values() {
        let low: Vec<u64> = (1..=99).map(|n| n * 10_000).collect();
        let high = [50_000_000];
        let joined = spread(&low).join(&spread(&high));
        let all: Vec<u64> = low.iter().chain(&high).copied().collect();
        assert_eq!(joined, spread(&all));
        assert_eq!(joined.count(), 100);
        let near = |quantile, value: f64| {
            let found = joined.quantile(quantile).unwrap() as f64;
            assert!((found / value - 1.0).abs() < 0.02, "{found} for {value}");
        };
        near(0.5, 500_000.0);
        near(0.99, 990_000.0);
        near(1.0, 50_000_000.0);
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(spread(&[]).quantile(0.5), None);
    }

    #[test]
    fn only_what_counts_reaches_the_total() {
        let shared = Mutex::new(latency_histogram());
        let mut recorder = Recorder::new();
        recorder.record(5_000, Counts::No);
        recorder.record(7_000_000, Counts::Yes);
        recorder.hand_over(&shared);
        recorder.record(8_000_000, Counts::Yes);
        assert_eq!(shared.lock().unwrap().len(), 2);
        recorder.hand_over(&shared);
        assert_eq!(shared.lock().unwrap().len(), 3);
        recorder.record(9_000_000, Counts::Yes);
        assert_eq!(recorder.into_total().len(), 3);
    }
}
