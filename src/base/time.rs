//! Instants as plain numbers, so that the engine runs on virtual time.

use std::time::Duration;

/// A monotonic instant: milliseconds since an origin that only the clock knows.
///
/// Wall-clock jumps do not touch it; every deadline is one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This instant, later by `timeout`; saturates at the end of time.
    pub fn after(self, timeout: Duration) -> Self {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long ago `earlier` was; zero when it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What a turn reads from the clock, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers and deadlines.
    pub mono: Moment,
    /// Milliseconds since 1970-01-01T00:00:00Z, for stamps that people read.
    pub wall_ms: u64,
}
