//! A timer wheel over values of time.
//!
//! Three levels of 256 slots; a tick is [`TICK_MS`], so a level spans 8 s, 35 min and 6 days.
//! Setting is O(1); an entry moves down a level at most twice. Nothing is ever cancelled: who is
//! woken looks whether its deadline still stands, and sets the next one if not.

use super::time::Moment;

/// Resolution of a deadline.
pub const TICK_MS: u64 = 32;
const SLOTS: usize = 256;
const LEVELS: usize = 3;

/// Deadlines, each with a value that says what is due.
pub struct Wheel<T> {
    /// The tick that was expired last.
    tick: u64,
    levels: [Box<[Vec<(u64, T)>]>; LEVELS],
    len: usize,
    due: Vec<T>,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that begins at `now`.
    pub fn new(now: Moment) -> Self {
        let level = || (0..SLOTS).map(|_| Vec::new()).collect();
        Self {
            tick: now.0 / TICK_MS,
            levels: [level(), level(), level()],
            len: 0,
            due: Vec::new(),
        }
    }

    /// Yields `value` from [`Wheel::expire`] once `at` has passed; never before it.
    pub fn set(&mut self, at: Moment, value: T) {
        let tick = at.0.div_ceil(TICK_MS).max(self.tick + 1);
        self.place(tick, value);
        self.len += 1;
    }

    /// Appends what is due at `now` to `out`, in order of tick.
    pub fn expire(&mut self, now: Moment, out: &mut Vec<T>) {
        let target = now.0 / TICK_MS;
        if self.len == 0 {
            self.tick = self.tick.max(target);
            return;
        }
        while self.tick < target && self.len > 0 {
            self.tick += 1;
            self.descend();
            let slot = &mut self.levels[0][self.tick as usize % SLOTS];
            self.len -= slot.len();
            self.due.extend(slot.drain(..).map(|(_, value)| value));
            if slot.capacity() > 64 {
                *slot = Vec::new();
            }
        }
        self.tick = self.tick.max(target);
        out.append(&mut self.due);
    }

    /// An instant at which [`Wheel::expire`] may have work; not later than the next deadline.
    pub fn next(&self) -> Option<Moment> {
        if self.len == 0 {
            return None;
        }
        let ahead = (1..SLOTS as u64)
            .find(|step| {
                let tick = self.tick + step;
                tick.is_multiple_of(SLOTS as u64)
                    || !self.levels[0][tick as usize % SLOTS].is_empty()
            })
            .unwrap_or(SLOTS as u64);
        Some(Moment((self.tick + ahead) * TICK_MS))
    }

    /// How many deadlines wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no deadline waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&mut self, tick: u64, value: T) {
        let distance = tick - self.tick;
        let horizon = (SLOTS * SLOTS * SLOTS) as u64 - 1;
        let (level, tick) = match distance {
            0..256 => (0, tick),
            256..65_536 => (1, tick),
            _ => (2, tick.min(self.tick + horizon)),
        };
        let slot = (tick >> (8 * level)) as usize % SLOTS;
        self.levels[level][slot].push((tick, value));
    }

    /// Moves entries of higher levels down when a lower level has gone round.
    fn descend(&mut self) {
        for level in 1..LEVELS {
            if !self.tick.is_multiple_of(1 << (8 * level)) {
                return;
            }
            let slot = (self.tick >> (8 * level)) as usize % SLOTS;
            let entries = std::mem::take(&mut self.levels[level][slot]);
            for (tick, value) in entries {
                self.place(tick.max(self.tick), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every deadline comes once, not early, and at most a tick late, however far the clock jumps.
    #[test]
    fn deadlines_come_once_and_in_time() {
        for step in [1, 31, 1_000, 70_000, 5_000_000] {
            let mut wheel = Wheel::new(Moment(12_345));
            let deadlines: Vec<u64> = (0..400).map(|n| 12_400 + n * n * 997).collect();
            for &at in &deadlines {
                wheel.set(Moment(at), at);
            }
            let mut seen = Vec::new();
            let mut now = 12_345;
            while !wheel.is_empty() {
                now += step;
                let mut due = Vec::new();
                wheel.expire(Moment(now), &mut due);
                for &at in &due {
                    assert!(at <= now, "early: {at} at {now}");
                    assert!(
                        at + step + 2 * TICK_MS > now,
                        "late: {at} at {now}, step {step}"
                    );
                }
                seen.extend(due);
            }
            seen.sort_unstable();
            assert_eq!(seen, deadlines, "step {step}");
        }
    }

    #[test]
    fn the_next_wake_up_is_not_later_than_the_next_deadline() {
        let mut wheel = Wheel::new(Moment(0));
        assert_eq!(wheel.next(), None);
        wheel.set(Moment(100_000), ());
        let mut due = Vec::new();
        let mut wakes = 0;
        while due.is_empty() {
            let next = wheel.next().unwrap();
            assert!(next <= Moment(100_000 + TICK_MS));
            wheel.expire(next, &mut due);
            wakes += 1;
        }
        assert!(wakes < 20, "{wakes} wake-ups for one deadline");
    }
}
