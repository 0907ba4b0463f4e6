//! The slab crate in pages, with generations.
//!
//! A [`Key`] is a slot and the generation of its tenant: a stale key finds nothing. Pages hold
//! [`PAGE_SLOTS`] entries, so growing never copies what is already there.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

/// Entries in one page.
pub const PAGE_SLOTS: usize = 4096;

/// Names one entry of the slab whose tag is `T`: 4 octets of slot, 4 of generation.
pub struct Key<T> {
    slot: u32,
    /// The generation and one, so that no key takes no more room than a key.
    generation_plus_one: NonZeroU32,
    tag: PhantomData<fn() -> T>,
}

const _: () = assert!(size_of::<Option<Key<()>>>() == 8);

/// See [`Key::marked`].
const MARK: u32 = 1 << 31;
/// No tenant has this generation.
const NO_GENERATION: u32 = u32::MAX;

impl<T> Key<T> {
    /// The key as one number, for tables that hold plain integers.
    pub const fn to_bits(self) -> u64 {
        (self.generation() as u64) << 32 | self.slot as u64
    }

    /// The inverse of [`Key::to_bits`]. What no key was before names nothing.
    pub const fn from_bits(bits: u64) -> Self {
        Self::new(bits as u32, (bits >> 32) as u32)
    }

    const fn new(slot: u32, generation: u32) -> Self {
        let (slot, generation_plus_one) = match NonZeroU32::new(generation.wrapping_add(1)) {
            Some(number) => (slot, number),
            None => (u32::MAX, NonZeroU32::MAX),
        };
        Self {
            slot,
            generation_plus_one,
            tag: PhantomData,
        }
    }

    const fn generation(self) -> u32 {
        self.generation_plus_one.get() - 1
    }

    /// The slot alone: unique among living entries.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// The same key with a mark. Two slabs whose keys mean the same kind of thing are told apart
    /// by it; neither has so many slots that its own keys have it.
    #[must_use]
    pub const fn marked(self) -> Self {
        Self {
            slot: self.slot | MARK,
            ..self
        }
    }

    /// The same key without the mark.
    #[must_use]
    pub const fn unmarked(self) -> Self {
        Self {
            slot: self.slot & !MARK,
            ..self
        }
    }

    /// Whether the key has the mark.
    pub const fn is_marked(self) -> bool {
        self.slot & MARK != 0
    }

    fn place(self) -> (usize, usize) {
        (self.slot() / PAGE_SLOTS, self.slot() % PAGE_SLOTS)
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}
impl<T> Eq for Key<T> {}
impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.slot, self.generation())
    }
}

/// Entries that choose their own slot.
pub struct Slab<T, V> {
    pages: Vec<Page<V>>,
    /// Pages with a vacant slot; the last one is filled first.
    vacant: Vec<u32>,
    len: usize,
    tag: PhantomData<fn() -> T>,
}

struct Page<V> {
    entries: slab::Slab<V>,
    generations: Box<[u32]>,
}

impl<T, V> Slab<T, V> {
    /// An empty slab; allocates nothing.
    pub const fn new() -> Self {
        Self {
            pages: Vec::new(),
            vacant: Vec::new(),
            len: 0,
            tag: PhantomData,
        }
    }

    /// Puts `value` into a free slot and names it.
    pub fn insert(&mut self, value: V) -> Key<T> {
        let page_index = match self.vacant.last() {
            Some(&index) => index as usize,
            None => self.grow(),
        };
        let page = &mut self.pages[page_index];
        let offset = page.entries.insert(value);
        if page.entries.len() == PAGE_SLOTS {
            self.vacant.pop();
        }
        self.len += 1;
        let slot = (page_index * PAGE_SLOTS + offset) as u32;
        Key::new(slot, page.generations[offset])
    }

    /// The entry, unless the key is stale.
    pub fn get(&self, key: Key<T>) -> Option<&V> {
        let (page, offset) = key.place();
        let page = self.pages.get(page)?;
        if page.generations[offset] != key.generation() {
            return None;
        }
        page.entries.get(offset)
    }

    /// The entry for change, unless the key is stale.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut V> {
        let (page, offset) = key.place();
        let page = self.pages.get_mut(page)?;
        if page.generations[offset] != key.generation() {
            return None;
        }
        page.entries.get_mut(offset)
    }

    /// Takes the entry out; every copy of its key is stale from now on.
    pub fn remove(&mut self, key: Key<T>) -> Option<V> {
        let (index, offset) = key.place();
        let page = self.pages.get_mut(index)?;
        if page.generations[offset] != key.generation() {
            return None;
        }
        let value = page.entries.try_remove(offset)?;
        let next = page.generations[offset].wrapping_add(1);
        page.generations[offset] = if next == NO_GENERATION { 0 } else { next };
        if page.entries.len() == PAGE_SLOTS - 1 {
            self.vacant.push(index as u32);
        }
        self.len -= 1;
        Some(value)
    }

    /// How many entries live.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing lives.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All living entries, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &V)> {
        self.pages.iter().enumerate().flat_map(|(index, page)| {
            page.entries.iter().map(move |(offset, value)| {
                let slot = (index * PAGE_SLOTS + offset) as u32;
                let generation = page.generations[offset];
                (Key::new(slot, generation), value)
            })
        })
    }

    fn grow(&mut self) -> usize {
        let index = self.pages.len();
        self.pages.push(Page {
            entries: slab::Slab::with_capacity(PAGE_SLOTS),
            generations: vec![0; PAGE_SLOTS].into_boxed_slice(),
        });
        self.vacant.push(index as u32);
        index
    }
}

impl<T, V> Default for Slab<T, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// Entries placed under the keys of another slab, which decides who lives.
pub struct Mirror<T, V> {
    pages: Vec<Box<[Option<(u32, V)>]>>,
    len: usize,
    tag: PhantomData<fn() -> T>,
}

impl<T, V> Mirror<T, V> {
    /// An empty mirror; allocates nothing.
    pub const fn new() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
            tag: PhantomData,
        }
    }

    /// Places `value` under `key`; returns what an earlier generation left there.
    pub fn place(&mut self, key: Key<T>, value: V) -> Option<V> {
        let (page, offset) = key.place();
        while self.pages.len() <= page {
            self.pages.push((0..PAGE_SLOTS).map(|_| None).collect());
        }
        let former = self.pages[page][offset].replace((key.generation(), value));
        if former.is_none() {
            self.len += 1;
        }
        former.map(|(_, value)| value)
    }

    /// The entry, unless the key is stale.
    pub fn get(&self, key: Key<T>) -> Option<&V> {
        let (page, offset) = key.place();
        match self.pages.get(page)?.get(offset)? {
            Some((generation, value)) if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// The entry for change, unless the key is stale.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut V> {
        let (page, offset) = key.place();
        match self.pages.get_mut(page)?.get_mut(offset)? {
            Some((generation, value)) if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// Takes the entry out, unless the key is stale.
    pub fn remove(&mut self, key: Key<T>) -> Option<V> {
        self.get(key)?;
        let (page, offset) = key.place();
        self.len -= 1;
        self.pages[page][offset].take().map(|(_, value)| value)
    }

    /// How many entries live.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing lives.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All living entries, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &V)> {
        self.pages.iter().enumerate().flat_map(|(index, page)| {
            page.iter().enumerate().filter_map(move |(offset, entry)| {
                let (generation, value) = entry.as_ref()?;
                let slot = (index * PAGE_SLOTS + offset) as u32;
                Some((Key::new(slot, *generation), value))
            })
        })
    }
}

impl<T, V> Default for Mirror<T, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Tag {}

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab: Slab<Tag, &str> = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.slot(), first.slot(), "the slot is used again");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
    }

    #[test]
    fn full_pages_take_entries_again_once_one_left() {
        let mut slab: Slab<Tag, usize> = Slab::new();
        let keys: Vec<_> = (0..PAGE_SLOTS * 2 + 1).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.len(), PAGE_SLOTS * 2 + 1);
        slab.remove(keys[7]);
        let again = slab.insert(7);
        assert_eq!(again.slot(), keys[7].slot());
        assert_eq!(slab.iter().count(), slab.len());
        assert_eq!(Key::<Tag>::from_bits(again.to_bits()), again);
    }

    #[test]
    fn a_mirror_follows_the_generations_of_its_slab() {
        let mut slab: Slab<Tag, ()> = Slab::new();
        let mut mirror: Mirror<Tag, u8> = Mirror::new();
        let old = slab.insert(());
        mirror.place(old, 1);
        slab.remove(old);
        let new = slab.insert(());
        assert_eq!(mirror.get(new), None);
        assert_eq!(mirror.place(new, 2), Some(1));
        assert_eq!((mirror.get(old), mirror.get(new)), (None, Some(&2)));
        assert_eq!(mirror.remove(new), Some(2));
        assert!(mirror.is_empty());
    }
}
