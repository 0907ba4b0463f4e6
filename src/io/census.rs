//! What all shards count together: links, links per address, memory.
//!
//! Touched when a link comes or goes, never on a stanza's way.

use std::fs::File;
use std::hash::Hasher;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use siphasher::sip::SipHasher13;

use crate::base::limits::Limits;
use crate::base::time::Moment;
use crate::engine::Shortage;

/// Counters that all shards share.
pub(super) struct Census {
    links: AtomicUsize,
    links_max: AtomicUsize,
    per_address_max: AtomicUsize,
    octets_max: AtomicU64,
    addresses: Addresses,
    memory: Memory,
    /// When the log was last told that there is no room, in milliseconds; zero: never.
    told_ms: AtomicU64,
}

/// How long the log hears no more of that.
const TOLD_MS: u64 = 60_000;

/// Where an address is counted: a keyed hash, not the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressSlot(u32);

impl Census {
    pub(super) fn new(limits: &Limits, hash_key: [u8; 16]) -> Self {
        let census = Self {
            links: AtomicUsize::new(0),
            links_max: AtomicUsize::new(0),
            per_address_max: AtomicUsize::new(0),
            octets_max: AtomicU64::new(0),
            addresses: Addresses::new(hash_key),
            memory: Memory::open(),
            told_ms: AtomicU64::new(0),
        };
        census.reload(limits);
        census
    }

    /// Takes up new limits; zero means none.
    pub(super) fn reload(&self, limits: &Limits) {
        let or_none = |max: usize| if max == 0 { usize::MAX } else { max };
        self.links_max
            .store(or_none(limits.links_max), Ordering::Relaxed);
        self.per_address_max
            .store(or_none(limits.links_per_address_max), Ordering::Relaxed);
        self.octets_max
            .store(limits.process_octets_max, Ordering::Relaxed);
    }

    /// Counts one more link, unless there are as many as may be.
    #[must_use]
    pub(super) fn enter(&self) -> bool {
        let before = self.links.fetch_add(1, Ordering::Relaxed);
        let fits = before < self.links_max.load(Ordering::Relaxed);
        if !fits {
            self.links.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    /// One link less.
    pub(super) fn leave(&self) {
        self.links.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }

    /// Counts a link of `address` that has yet to authenticate, unless there are too many.
    pub(super) fn admit(&self, address: IpAddr) -> Option<AddressSlot> {
        let slot = self.addresses.slot(address);
        let max = self.per_address_max.load(Ordering::Relaxed);
        if self.addresses.count(slot) as usize >= max {
            return None;
        }
        self.addresses.add(slot);
        Some(slot)
    }

    /// The link has authenticated or is gone.
    pub(super) fn dismiss(&self, slot: AddressSlot) {
        self.addresses.remove(slot);
    }

    /// Whether the process holds more memory than it may. Looks at most once a second.
    pub(super) fn is_memory_short(&self, now: Moment) -> bool {
        match self.octets_max.load(Ordering::Relaxed) {
            0 => false,
            max => self.memory.is_above(max, now),
        }
    }

    /// Whether there is room for one more client.
    pub(super) fn room(&self, now: Moment) -> Result<(), Shortage> {
        if self.links() >= self.links_max.load(Ordering::Relaxed) {
            return Err(Shortage::Links);
        }
        match self.is_memory_short(now) {
            true => Err(Shortage::Memory),
            false => Ok(()),
        }
    }

    /// Somebody waits outside, or was turned away: the log says so, once for all within a time.
    pub(super) fn tell(&self, shortage: Shortage, now: Moment) {
        if self.may_tell(now) {
            let option = shortage.option();
            tracing::warn!(name = "full", option, links = self.links());
        }
    }

    fn may_tell(&self, now: Moment) -> bool {
        let told = self.told_ms.load(Ordering::Relaxed);
        let is_due = told == 0 || now.0 >= told + TOLD_MS;
        let order = Ordering::Relaxed;
        let set = || {
            self.told_ms
                .compare_exchange(told, now.0.max(1), order, order)
        };
        is_due && set().is_ok()
    }

    /// The descriptor that a shard with a table of its own has to keep.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.memory.statm.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// Counts by a keyed hash in two rows; the smaller count is the answer. It never counts too few,
/// it counts too many only for who collides in both rows, and it cannot grow.
struct Addresses {
    hash_key: [u8; 16],
    rows: [Box<[AtomicU32]>; 2],
}

/// Counters in one row.
const ROW_COUNTERS: usize = 1 << 14;

impl Addresses {
    fn new(hash_key: [u8; 16]) -> Self {
        let row = || (0..ROW_COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self {
            hash_key,
            rows: [row(), row()],
        }
    }

    /// An IPv6 peer owns its whole /64.
    fn slot(&self, address: IpAddr) -> AddressSlot {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        match address.to_canonical() {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()[..8]),
        }
        AddressSlot(hasher.finish() as u32)
    }

    fn counters(&self, slot: AddressSlot) -> [&AtomicU32; 2] {
        let mask = ROW_COUNTERS - 1;
        [
            &self.rows[0][slot.0 as usize & mask],
            &self.rows[1][(slot.0 >> 16) as usize & mask],
        ]
    }

    fn count(&self, slot: AddressSlot) -> u32 {
        let [first, second] = self.counters(slot);
        first
            .load(Ordering::Relaxed)
            .min(second.load(Ordering::Relaxed))
    }

    fn add(&self, slot: AddressSlot) {
        for counter in self.counters(slot) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, slot: AddressSlot) {
        for counter in self.counters(slot) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What the process holds, by `/proc/self/statm`.
struct Memory {
    /// Opened once, read again and again; absent where there is no `/proc`.
    statm: Option<File>,
    looked_ms: AtomicU64,
    above: AtomicBool,
}

/// How long one look is good for.
const LOOK_MS: u64 = 1_000;

impl Memory {
    fn open() -> Self {
        Self {
            statm: File::open("/proc/self/statm").ok(),
            looked_ms: AtomicU64::new(0),
            above: AtomicBool::new(false),
        }
    }

    fn is_above(&self, max: u64, now: Moment) -> bool {
        let looked = self.looked_ms.load(Ordering::Relaxed);
        let due = looked == 0 || now.0 >= looked + LOOK_MS;
        // Zero means never: the first millisecond counts as the second.
        let mine = due
            && self
                .looked_ms
                .compare_exchange(looked, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine && let Some(resident) = self.resident_octets() {
            self.above.store(resident >= max, Ordering::Relaxed);
        }
        self.above.load(Ordering::Relaxed)
    }

    /// The kernel makes the text anew for a read at its start.
    fn resident_octets(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(limits: Limits) -> Census {
        Census::new(&limits, [7; 16])
    }

    #[test]
    fn an_address_has_room_again_when_its_links_authenticate_or_end() {
        let census = census(Limits {
            links_per_address_max: 2,
            ..Limits::default()
        });
        let flooder: IpAddr = "192.0.2.1".parse().unwrap();
        let slot = census.admit(flooder).unwrap();
        assert!(census.admit("::ffff:192.0.2.1".parse().unwrap()).is_some());
        assert_eq!(census.admit(flooder), None);
        assert!(census.admit("192.0.2.2".parse().unwrap()).is_some());
        census.dismiss(slot);
        assert_eq!(census.admit(flooder), Some(slot));
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_peer() {
        let census = census(Limits {
            links_per_address_max: 1,
            ..Limits::default()
        });
        assert!(census.admit("2001:db8::1".parse().unwrap()).is_some());
        assert!(census.admit("2001:db8::2".parse().unwrap()).is_none());
        assert!(census.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
    }

    #[test]
    fn links_are_bounded_and_zero_is_no_bound() {
        let few = census(Limits {
            links_max: 1,
            ..Limits::default()
        });
        assert!(few.enter());
        assert!(!few.enter());
        few.leave();
        assert!(few.enter());
        let many = census(Limits::default());
        assert!((0..1_000).all(|_| many.enter()));
    }

    #[test]
    fn who_is_full_says_so_now_and_then() {
        let census = census(Limits {
            links_max: 1,
            ..Limits::default()
        });
        assert_eq!(census.room(Moment(0)), Ok(()));
        assert!(census.enter());
        assert_eq!(census.room(Moment(0)), Err(Shortage::Links));
        for (now, may) in [(0, true), (0, false), (60_000, false), (60_001, true)] {
            assert_eq!(census.may_tell(Moment(now)), may, "{now}");
        }
        census.leave();
        assert_eq!(census.room(Moment(0)), Ok(()));
    }

    #[test]
    fn memory_is_looked_at_once_a_second() {
        let census = census(Limits {
            process_octets_max: 1,
            ..Limits::default()
        });
        assert!(census.is_memory_short(Moment(0)));
        census.reload(&Limits {
            process_octets_max: u64::MAX,
            ..Limits::default()
        });
        assert!(
            census.is_memory_short(Moment(500)),
            "the look is still good"
        );
        assert!(!census.is_memory_short(Moment(1_500)));
    }
}
