//! The clock: read once a turn, the same origin for all shards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::base::time::{Moment, Now};

/// Where moments come from. All shards of a process share one origin, so that a moment means
/// the same in each of them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Both times, in milliseconds. Costs two reads of the vDSO and no system call.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Now {
            mono: Moment(self.origin.elapsed().as_millis() as u64),
            wall_ms: wall.as_millis() as u64,
        }
    }
}

/// Time of a core that this thread has used. A system call.
pub fn thread_cpu() -> Duration {
    used(ClockId::ThreadCPUTime)
}

/// Time of all cores that this process has used. A system call.
pub fn process_cpu() -> Duration {
    used(ClockId::ProcessCPUTime)
}

fn used(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_never_step_back_and_stamps_are_of_this_century() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(second.mono >= first.mono);
        assert!(first.wall_ms > 1_700_000_000_000);
    }
}
