//! Times at which work is due at a fixed rate, whatever the server does.
//!
//! An open loop counts the latency of a message from the time at which it was due, not from the
//! time at which it could be sent: otherwise a server that stalls would hold back the very messages
//! that tell of the stall.

/// Nanoseconds of one clock, counted from the same start as everything else of a thread.
pub type Nanoseconds = u64;

/// The n-th piece of work is due at `start + n * period`.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Nanoseconds,
    period: f64,
    taken: u64,
}

impl Schedule {
    /// None where the rate is no rate.
    pub fn new(start: Nanoseconds, per_second: f64) -> Option<Self> {
        let period = 1e9 / per_second;
        (period.is_finite() && period > 0.0).then_some(Self {
            start,
            period,
            taken: 0,
        })
    }

    /// The number and the time of the next piece, once it is due.
    pub fn take(&mut self, now: Nanoseconds) -> Option<(u64, Nanoseconds)> {
        let due = self.next();
        if due > now {
            return None;
        }
        self.taken += 1;
        Some((self.taken - 1, due))
    }

    /// When the next piece is due.
    pub fn next(&self) -> Nanoseconds {
        self.start
            .saturating_add((self.taken as f64 * self.period) as u64)
    }

    /// Pieces that were due before `until` and that nobody has taken.
    pub fn missed(&self, until: Nanoseconds) -> u64 {
        let due = until.saturating_sub(self.start) as f64 / self.period;
        (due as u64).saturating_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_due_at_a_fixed_rate_and_not_before() {
        let mut schedule = Schedule::new(1_000, 1_000.0).unwrap();
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1_000), Some((0, 1_000)));
        assert_eq!(schedule.take(1_000_999), None);
        assert_eq!(schedule.take(1_001_000), Some((1, 1_001_000)));
    }

    /// Who comes late is told when each piece was due, not when it was taken.
    #[test]
    fn a_stall_moves_nothing() {
        let mut schedule = Schedule::new(0, 10.0).unwrap();
        let stalled_until = 1_000_000_000;
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take(stalled_until))
            .map(|(_, due)| due)
            .collect();
        let expected: Vec<u64> = (0..=10).map(|n| n * 100_000_000).collect();
        assert_eq!(due, expected);
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        let mut schedule = Schedule::new(0, 3.0).unwrap();
        while schedule.take(100_000_000_000).is_some() {}
        assert_eq!(schedule.taken, 301);
        assert_eq!(schedule.missed(200_000_000_000), 299);
    }

    #[test]
    fn no_rate_is_no_schedule() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule::new(0, rate).is_none(), "{rate}");
        }
    }
}
