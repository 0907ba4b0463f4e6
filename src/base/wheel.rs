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
///
/// All of them lie in one arena: a slot is a ring through it. So a slot that ten thousand deadlines
/// meet in has no room to spare afterwards, and setting allocates only when more deadlines wait
/// than ever before.
pub struct Wheel<T> {
    /// The tick that was expired last.
    tick: u64,
    /// The last entry of each slot's ring, whose next one is the first.
    levels: [Box<[Index]>; LEVELS],
    entries: Arena<T>,
    len: usize,
}

/// Where an entry lies in the arena.
type Index = u32;
/// No entry.
const NONE: Index = Index::MAX;

struct Entry<T> {
    /// The tick of the deadline, modulo 2^32: no entry is a horizon away.
    tick: u32,
    /// The next of the same slot, or of the vacant ones.
    next: Index,
    value: T,
}

/// Entries in pages, so that growing copies nothing.
struct Arena<T> {
    pages: Vec<Vec<Entry<T>>>,
    /// The first vacant entry.
    vacant: Index,
}

/// Entries in one page.
const PAGE_ENTRIES: usize = 1024;
/// Vacant pages that may be kept: so few are not worth the work.
const RESTING_PAGES: usize = 2;

impl<T: Copy> Wheel<T> {
    /// What a deadline takes.
    pub const ENTRY_OCTETS: usize = size_of::<Entry<T>>();

    /// An empty wheel that begins at `now`.
    pub fn new(now: Moment) -> Self {
        let level = || vec![NONE; SLOTS].into_boxed_slice();
        Self {
            tick: now.0 / TICK_MS,
            levels: [level(), level(), level()],
            entries: Arena::new(),
            len: 0,
        }
    }

    /// Yields `value` from [`Wheel::expire`] once `at` has passed; never before it.
    pub fn set(&mut self, at: Moment, value: T) {
        let tick = at.0.div_ceil(TICK_MS).max(self.tick + 1);
        let (level, slot, tick) = self.place(tick);
        let index = self.entries.insert(Entry {
            tick: tick as u32,
            next: NONE,
            value,
        });
        self.append(level, slot, index);
        self.len += 1;
    }

    /// Appends what is due at `now` to `out`, in order of tick.
    pub fn expire(&mut self, now: Moment, out: &mut Vec<T>) {
        let target = now.0 / TICK_MS;
        while self.tick < target && self.len > 0 {
            self.tick += 1;
            self.descend();
            let mut next = self.take_ring(0, self.tick as usize % SLOTS);
            while next != NONE {
                let entry = self.entries.get(next);
                let (index, value) = (next, entry.value);
                next = entry.next;
                self.entries.remove(index);
                self.len -= 1;
                out.push(value);
            }
        }
        self.tick = self.tick.max(target);
    }

    /// An instant at which [`Wheel::expire`] may have work; not later than the next deadline.
    pub fn next(&self) -> Option<Moment> {
        if self.len == 0 {
            return None;
        }
        let ahead = (1..SLOTS as u64)
            .find(|step| {
                let tick = self.tick + step;
                tick.is_multiple_of(SLOTS as u64) || self.levels[0][tick as usize % SLOTS] != NONE
            })
            .unwrap_or(SLOTS as u64);
        Some(Moment((self.tick + ahead) * TICK_MS))
    }

    /// Gives room back that a burst of deadlines needed. What waits moves together, in its order.
    pub fn rest(&mut self) {
        let pages_needed = self.len.div_ceil(PAGE_ENTRIES);
        if self.entries.pages.len() < 2 * pages_needed + RESTING_PAGES {
            return;
        }
        let former = std::mem::replace(&mut self.entries, Arena::new());
        for level in 0..LEVELS {
            for slot in 0..SLOTS {
                let last = std::mem::replace(&mut self.levels[level][slot], NONE);
                if last == NONE {
                    continue;
                }
                let mut next = former.get(last).next;
                loop {
                    let Entry { tick, value, .. } = *former.get(next);
                    let entry = Entry {
                        tick,
                        next: NONE,
                        value,
                    };
                    let index = self.entries.insert(entry);
                    self.append(level, slot, index);
                    if next == last {
                        break;
                    }
                    next = former.get(next).next;
                }
            }
        }
    }

    /// How many deadlines wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no deadline waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Level and slot of a tick, and the tick itself, which the horizon bounds.
    fn place(&self, tick: u64) -> (usize, usize, u64) {
        let distance = tick - self.tick;
        let horizon = (SLOTS * SLOTS * SLOTS) as u64 - 1;
        let (level, tick) = match distance {
            0..256 => (0, tick),
            256..65_536 => (1, tick),
            _ => (2, tick.min(self.tick + horizon)),
        };
        (level, (tick >> (8 * level)) as usize % SLOTS, tick)
    }

    /// Puts an entry at the end of a slot's ring.
    fn append(&mut self, level: usize, slot: usize, index: Index) {
        let last = std::mem::replace(&mut self.levels[level][slot], index);
        let first = match last {
            NONE => index,
            last => std::mem::replace(&mut self.entries.get_mut(last).next, index),
        };
        self.entries.get_mut(index).next = first;
    }

    /// Empties a slot: the first of its entries, whose last one leads nowhere.
    fn take_ring(&mut self, level: usize, slot: usize) -> Index {
        match std::mem::replace(&mut self.levels[level][slot], NONE) {
            NONE => NONE,
            last => std::mem::replace(&mut self.entries.get_mut(last).next, NONE),
        }
    }

    /// Moves entries of higher levels down when a lower level has gone round.
    fn descend(&mut self) {
        for level in 1..LEVELS {
            if !self.tick.is_multiple_of(1 << (8 * level)) {
                return;
            }
            let mut next = self.take_ring(level, (self.tick >> (8 * level)) as usize % SLOTS);
            while next != NONE {
                let (index, entry) = (next, self.entries.get(next));
                next = entry.next;
                // Not in the past: it would have been moved down before.
                let ahead = entry.tick.wrapping_sub(self.tick as u32);
                let (level, slot, _) = self.place(self.tick + u64::from(ahead));
                self.append(level, slot, index);
            }
        }
    }
}

impl<T> Arena<T> {
    const fn new() -> Self {
        Self {
            pages: Vec::new(),
            vacant: NONE,
        }
    }

    fn insert(&mut self, entry: Entry<T>) -> Index {
        if self.vacant != NONE {
            let index = self.vacant;
            self.vacant = std::mem::replace(self.get_mut(index), entry).next;
            return index;
        }
        if self
            .pages
            .last()
            .is_none_or(|page| page.len() == PAGE_ENTRIES)
        {
            self.pages.push(Vec::with_capacity(PAGE_ENTRIES));
        }
        let before = (self.pages.len() - 1) * PAGE_ENTRIES;
        let page = &mut self.pages[before / PAGE_ENTRIES];
        page.push(entry);
        (before + page.len() - 1) as Index
    }

    fn remove(&mut self, index: Index) {
        let vacant = std::mem::replace(&mut self.vacant, index);
        self.get_mut(index).next = vacant;
    }

    fn get(&self, index: Index) -> &Entry<T> {
        &self.pages[index as usize / PAGE_ENTRIES][index as usize % PAGE_ENTRIES]
    }

    fn get_mut(&mut self, index: Index) -> &mut Entry<T> {
        &mut self.pages[index as usize / PAGE_ENTRIES][index as usize % PAGE_ENTRIES]
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

    /// A slot that many met in leaves no room behind that others could not use.
    #[test]
    fn deadlines_of_one_slot_come_in_order_and_their_room_is_used_again() {
        let mut wheel = Wheel::new(Moment(0));
        let many = 3 * PAGE_ENTRIES;
        for round in 1..=4 {
            let at = Moment(round * 400_000);
            (0..many).for_each(|n| wheel.set(at, n));
            let mut due = Vec::new();
            wheel.expire(at, &mut due);
            assert!(due.into_iter().eq(0..many), "round {round}");
            assert_eq!(wheel.entries.pages.len(), 3, "round {round}");
        }
    }

    #[test]
    fn a_rest_moves_what_waits_together_and_changes_no_deadline() {
        let mut wheel = Wheel::new(Moment(0));
        let many = 8 * PAGE_ENTRIES as u64;
        // Some of each level stay, between others that do not.
        (0..many).for_each(|n| wheel.set(Moment(100 + n % 7 * 1_000), n));
        (0..many / 8).for_each(|n| wheel.set(Moment(20_000 + n * n), n));
        let mut due = Vec::new();
        wheel.expire(Moment(8_000), &mut due);
        assert_eq!((due.len() as u64, wheel.entries.pages.len()), (many, 9));
        wheel.rest();
        assert_eq!(wheel.entries.pages.len(), 1);
        assert_eq!(wheel.len() as u64, many / 8);
        due.clear();
        for now in (8_000..2_000_000).step_by(1_000) {
            let seen = due.len();
            wheel.expire(Moment(now), &mut due);
            let in_time = |n: &u64| 20_000 + n * n <= now && now < 20_000 + n * n + 1_100;
            assert!(due[seen..].iter().all(in_time), "at {now}");
        }
        assert!(due.into_iter().eq(0..many / 8));
        // Nothing is left to move.
        wheel.rest();
        assert!(wheel.is_empty());
        wheel.set(Moment(2_000_100), 5);
        let mut due = Vec::new();
        wheel.expire(Moment(2_100_000), &mut due);
        assert_eq!(due, [5]);
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
