//! The hash functions of SCRAM, and HMAC and PBKDF2 over them.

use std::fmt;

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A hash function that keys are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// RFC 5802.
    Sha1,
    /// RFC 7677.
    Sha256,
    /// Kept from the start; no mechanism offers it yet.
    Sha512,
}

impl Hash {
    /// All of them, in the order of their records.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// Octets of a digest.
    pub const fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The name as SCRAM mechanisms and exports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }

    /// `H(bytes)`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Self::Sha1 => Digest::from_array(Sha1::digest(bytes).into()),
            Self::Sha256 => Digest::from_array(Sha256::digest(bytes).into()),
            Self::Sha512 => Digest::from_array(Sha512::digest(bytes).into()),
        }
    }

    /// `HMAC(key, parts)`, the parts one after the other.
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Digest {
        match self {
            Self::Sha1 => hmac::<Sha1>(key, parts),
            Self::Sha256 => hmac::<Sha256>(key, parts),
            Self::Sha512 => hmac::<Sha512>(key, parts),
        }
    }

    /// `Hi(password, salt, iterations)` of RFC 5802: PBKDF2 for one digest.
    ///
    /// Milliseconds: never on a reactor.
    pub fn stretch(self, password: &[u8], salt: &[u8], iterations: u32) -> Digest {
        let mut digest = Digest::zero(self.octets());
        let done = match self {
            Self::Sha1 => {
                pbkdf2::pbkdf2::<Hmac<Sha1>>(password, salt, iterations, digest.bytes_mut())
            }
            Self::Sha256 => {
                pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, digest.bytes_mut())
            }
            Self::Sha512 => {
                pbkdf2::pbkdf2::<Hmac<Sha512>>(password, salt, iterations, digest.bytes_mut())
            }
        };
        debug_assert!(done.is_ok(), "HMAC takes keys of any length");
        digest
    }
}

/// Octets of a digest or of a key of the same length. Wiped when dropped, compared in constant
/// time, never shown.
#[derive(Clone)]
pub struct Digest {
    bytes: [u8; OCTETS_MAX],
    length: u8,
}

impl Digest {
    /// The octets as they are; `None` when they are as long as no digest.
    pub fn from_slice(octets: &[u8]) -> Option<Self> {
        let known = Hash::ALL.iter().any(|hash| hash.octets() == octets.len());
        if !known {
            return None;
        }
        let mut digest = Self::zero(octets.len());
        digest.bytes_mut().copy_from_slice(octets);
        Some(digest)
    }

    /// The octets.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// Each octet combined with that of `other` by exclusive or; the shorter length counts.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        let mut sum = Self::zero(usize::from(self.length.min(other.length)));
        let pairs = self.as_slice().iter().zip(other.as_slice());
        for (to, (a, b)) in sum.bytes_mut().iter_mut().zip(pairs) {
            *to = a ^ b;
        }
        sum
    }

    fn zero(length: usize) -> Self {
        Self {
            bytes: [0; OCTETS_MAX],
            length: u8::try_from(length.min(OCTETS_MAX)).unwrap_or_default(),
        }
    }

    fn from_array<const N: usize>(octets: [u8; N]) -> Self {
        let mut digest = Self::zero(N);
        digest.bytes_mut().copy_from_slice(&octets);
        digest
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl Drop for Digest {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.as_slice().ct_eq(other.as_slice())
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({} octets)", self.length)
    }
}

fn hmac<D: EagerHash>(key: &[u8], parts: &[&[u8]]) -> Digest
where
    Hmac<D>: Mac + KeyInit,
{
    // HMAC takes keys of any length; the zero digest is unreachable and matches nothing.
    let Ok(mut mac) = <Hmac<D> as KeyInit>::new_from_slice(key) else {
        return Digest::zero(0);
    };
    for part in parts {
        mac.update(part);
    }
    Digest::from_slice(&mac.finalize().into_bytes()).unwrap_or_else(|| Digest::zero(0))
}

/// Octets of the longest digest.
const OCTETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// RFC 6070, test vectors 1 to 3; the others are Python's `hashlib.pbkdf2_hmac`.
    #[test]
    fn pbkdf2_agrees_with_known_vectors() {
        for (hash, iterations, expected) in [
            (Hash::Sha1, 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
            (Hash::Sha1, 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
            (Hash::Sha1, 4096, "4b007901b765489abead49d926f721d065a429c1"),
            (
                Hash::Sha256,
                4096,
                "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a",
            ),
            (
                Hash::Sha512,
                2,
                "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c\
                 f76cab2868a39b9f7840edce4fef5a82be67335c77a6068e04112754f27ccf4e",
            ),
        ] {
            let derived = hash.stretch(b"password", b"salt", iterations);
            assert_eq!(hex(derived.as_slice()), expected, "{hash:?} {iterations}");
        }
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_agrees_with_rfc_4231() {
        let mac = Hash::Sha256.hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex(mac.as_slice()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let mac = Hash::Sha512.hmac(b"Jefe", &[b"what do ya want for nothing?"]);
        assert!(hex(mac.as_slice()).starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e83"));
    }

    #[test]
    fn a_digest_does_not_show_itself() {
        let digest = Hash::Sha1.digest(b"secret");
        assert_eq!(format!("{digest:?}"), "Digest(20 octets)");
        assert_ne!(digest, Hash::Sha256.digest(b"secret"));
    }
}
