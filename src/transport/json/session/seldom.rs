//! What most sessions lack most of the time.

use std::ops::{Deref, DerefMut};

/// Something that is mostly as it was in the beginning: one word then. To look at it costs nothing;
/// whoever changes it makes it, and who puts things in order puts it away ([`Seldom::rest`]).
#[derive(Debug)]
pub(super) struct Seldom<V>(Option<Box<V>>);

/// What a [`Seldom`] is about.
pub(super) trait Rare: Default + 'static {
    /// What there is in the beginning.
    const NOTHING: &'static Self;

    /// Whether it might as well not be there.
    fn is_nothing(&self) -> bool;
}

impl<V: Rare> Seldom<V> {
    /// What there is, for change, if there is anything.
    pub fn get_mut(&mut self) -> Option<&mut V> {
        self.0.as_deref_mut()
    }

    /// Makes it.
    pub fn make(&mut self, value: impl FnOnce() -> V) -> &mut V {
        self.0.get_or_insert_with(|| Box::new(value()))
    }

    /// Puts it away if it may be.
    pub fn rest(&mut self) {
        self.0.take_if(|value| value.is_nothing());
    }
}

impl<V> Default for Seldom<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V: Rare> Deref for Seldom<V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.0.as_deref().unwrap_or(V::NOTHING)
    }
}

impl<V: Rare> DerefMut for Seldom<V> {
    fn deref_mut(&mut self) -> &mut V {
        self.0.get_or_insert_default()
    }
}
