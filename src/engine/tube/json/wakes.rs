//! When a tube is woken.

use std::num::NonZeroU32;

use crate::base::time::Moment;
use crate::base::wheel::TICK_MS;

/// An instant in ticks of the wheel, rounded up, modulo 2^32: half the octets of a [`Moment`]. It
/// is compared with what is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick(NonZeroU32);

impl Tick {
    pub fn of(at: Moment) -> Self {
        let ticks = at.0.div_ceil(TICK_MS) as u32;
        Self(NonZeroU32::new(ticks).unwrap_or(NonZeroU32::MIN))
    }

    /// Whether it is not behind this number of ticks.
    const fn is_within(self, ticks: u32) -> bool {
        ticks.wrapping_sub(self.0.get()) <= u32::MAX / 2
    }

    /// Whether it has come.
    pub const fn has_come(self, now: Moment) -> bool {
        self.is_within((now.0 / TICK_MS) as u32)
    }

    /// As a moment: `now`, if it has come.
    pub fn moment(self, now: Moment) -> Moment {
        let now_tick = now.0 / TICK_MS;
        match self.has_come(now) {
            true => now,
            false => {
                let ahead = self.0.get().wrapping_sub(now_tick as u32);
                Moment((now_tick + u64::from(ahead)) * TICK_MS)
            }
        }
    }
}

/// The entries of the wheel that count, the earlier one first; others are left over. Who is woken
/// too early sets the next one then: that is cheaper than one more entry.
#[derive(Debug, Default)]
pub struct Wakes([Option<Tick>; 2]);

impl Wakes {
    /// Somebody must be woken at `at`. Returns whether that takes an entry.
    pub fn add(&mut self, at: Moment) -> bool {
        let (at, [first, _]) = (Tick::of(at), self.0);
        let is_new = first.is_none_or(|first| !first.is_within(at.0.get()));
        if is_new {
            self.0 = [Some(at), first];
        }
        is_new
    }

    /// An entry has come. Returns whether it counts.
    pub fn take(&mut self, now: Moment) -> bool {
        let [first, second] = self.0;
        let counts = first.is_some_and(|first| first.has_come(now));
        if counts {
            self.0 = [second, None];
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_not_before_its_moment_and_near_ones_are_in_order() {
        // Where the number of ticks does not fit any more, too.
        for origin in [0, TICK_MS << 31, (TICK_MS << 32) - 64, TICK_MS << 32] {
            for at in (origin..origin + 200).map(Moment) {
                let tick = Tick::of(at);
                let end = Moment(at.0 + 2 * TICK_MS);
                let found = (at.0 - at.0.min(64)..end.0).map(Moment);
                let found = found.into_iter().find(|now| tick.has_come(*now));
                assert!(found.is_some_and(|now| now >= at), "{at:?}: {found:?}");
                let early = Moment(at.0.saturating_sub(1_000));
                let moment = tick.moment(early);
                assert!(at <= moment && moment < end, "{at:?}: {moment:?}");
                assert_eq!(tick.moment(end), end);
            }
        }
    }

    #[test]
    fn two_entries_are_known_and_what_is_later_needs_none() {
        let mut wakes = Wakes::default();
        assert!(wakes.add(Moment(30_000)));
        assert!(!wakes.add(Moment(30_000)) && !wakes.add(Moment(60_000)));
        assert!(wakes.add(Moment(1_000)));
        assert!(!wakes.take(Moment(900)), "one that is left over");
        assert!(wakes.take(Moment(1_024)));
        assert!(!wakes.add(Moment(50_000)), "the first one comes before");
        assert!(!wakes.take(Moment(29_000)));
        assert!(wakes.take(Moment(30_016)));
        assert!(!wakes.take(Moment(30_016)));
        assert!(wakes.add(Moment(50_000)));
    }
}
