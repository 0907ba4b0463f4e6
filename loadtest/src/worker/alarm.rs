//! Wakes the thread to the microsecond: epoll itself counts in milliseconds, which is longer than
//! most messages take.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::schedule::Nanoseconds;

pub struct Alarm {
    timer: OwnedFd,
    /// What it is set to; it rings once.
    set: Option<Nanoseconds>,
}

/// No session has this token.
pub const ALARM: Token = Token(usize::MAX - 1);

impl Alarm {
    pub fn new(poll: &Poll) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let descriptor = timer.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&descriptor), ALARM, Interest::READABLE)?;
        Ok(Self { timer, set: None })
    }

    /// Rings at `at`, which is later than `now`.
    pub fn set(&mut self, now: Nanoseconds, at: Nanoseconds) -> io::Result<()> {
        if self.set == Some(at) {
            return Ok(());
        }
        let wait = Duration::from_nanos(at.saturating_sub(now).max(1));
        let value = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: i64::from(wait.subsec_nanos()),
            },
        };
        // Setting it anew also takes back what it has rung.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        self.set = Some(at);
        Ok(())
    }
}
