//! Randomness from the system, drawn at start only: shards draw from what they are seeded with.

use std::io;

/// A seed for one shard.
///
/// # Errors
/// When the kernel gives no randomness; there is nothing to fall back to.
pub fn seed() -> io::Result<[u8; 32]> {
    fill()
}

/// The key that all shards of a process share, for the home of a bare JID.
///
/// # Errors
/// See [`seed`].
pub fn hash_key() -> io::Result<[u8; 16]> {
    fill()
}

fn fill<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
        assert_ne!(hash_key().unwrap(), [0; 16]);
    }
}
