//! Buffers that are lent to whoever has octets waiting, so that the idle hold none.

/// Keeps empty buffers for the next borrower.
#[derive(Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
}

/// Buffers kept; what comes back beyond is freed.
const KEPT_MAX: usize = 1024;
/// Buffers kept, and entries for which a list keeps room, while nothing happens.
pub const RESTING_MAX: usize = 16;
/// A larger buffer is freed rather than kept: one big stanza must not stay for ever.
pub const KEPT_OCTETS_MAX: usize = 16 * 1024;
/// What a new buffer starts with: one chat message with its envelope.
pub const FRESH_OCTETS: usize = 512;

impl Pool {
    /// An empty buffer with some capacity.
    pub fn take(&mut self) -> Vec<u8> {
        self.free
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(FRESH_OCTETS))
    }

    /// Takes a buffer back; its content is forgotten.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > KEPT_OCTETS_MAX || self.free.len() >= KEPT_MAX {
            return;
        }
        buffer.clear();
        self.free.push(buffer);
    }

    /// Frees all but a few: a burst is over.
    pub fn rest(&mut self) {
        self.free.truncate(RESTING_MAX);
        self.free.shrink_to(RESTING_MAX);
    }
}
