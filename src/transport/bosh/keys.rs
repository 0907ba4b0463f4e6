//! Key sequences (XEP-0124 section 15): each request shows the key whose hash the one before had.

use sha1::{Digest as _, Sha1};

use super::Condition;
use super::request::Request;

/// A key as its octets, whatever case its digits were written in.
pub type Key = [u8; KEY_OCTETS];

/// Octets of a SHA-1 hash.
const KEY_OCTETS: usize = 20;

/// What the key of the next request must hash to. `None`: the session uses no keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys(Option<Key>);

impl Keys {
    /// Of the session that `request` opens.
    ///
    /// # Errors
    /// `BadRequest`: the key is not one.
    pub fn begin(request: &Request<'_>) -> Result<Self, Condition> {
        let newkey = request.newkey.as_deref();
        let key = newkey.map(|key| read(key).ok_or(Condition::BadRequest));
        Ok(Self(key.transpose()?))
    }

    /// Takes the next request of the sequence. Returns its key, which a repetition must have too.
    ///
    /// # Errors
    /// `ItemNotFound`: it is not the next, or is none.
    pub fn advance(&mut self, request: &Request<'_>) -> Result<Option<Key>, Condition> {
        let mut shown = None;
        if let Some(expected) = self.0 {
            let text = request.key.as_deref().ok_or(Condition::ItemNotFound)?;
            let key = read(text).ok_or(Condition::ItemNotFound)?;
            // The hash is of the digits as they were written.
            let hash: Key = Sha1::digest(text.as_bytes()).into();
            if hash != expected {
                return Err(Condition::ItemNotFound);
            }
            self.0 = Some(key);
            shown = Some(key);
        }
        if let Some(newkey) = request.newkey.as_deref() {
            self.0 = Some(read(newkey).ok_or(Condition::BadRequest)?);
        }
        Ok(shown)
    }
}

/// Whether a repeated request shows the key that it showed at first.
pub fn repeats(request: &Request<'_>, shown: Option<Key>) -> bool {
    shown.is_none() || request.key.as_deref().and_then(read) == shown
}

/// Forty hexadecimal digits.
fn read(text: &str) -> Option<Key> {
    let mut key = Key::default();
    if text.len() != 2 * KEY_OCTETS {
        return None;
    }
    let digit = |octet: u8| (octet as char).to_digit(16);
    for (octet, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else {
            return None;
        };
        *octet = (digit(high)? << 4 | digit(low)?) as u8;
    }
    Some(key)
}
