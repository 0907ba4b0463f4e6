//! What is kept of a password: keys that verify it and cannot replace it (RFC 5802 section 3).

use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::hash::{Digest, Hash};

/// The keys of one account, at most one entry for each hash function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    entries: Vec<Entry>,
}

/// What one hash function keeps of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    hash: Hash,
    salt: Box<[u8]>,
    iterations: u32,
    stored_key: Digest,
    server_key: Digest,
}

/// Why keys are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysError {
    /// The record has another version than those we know.
    Version,
    /// The octets are no record: cut short, too long, or out of order.
    Form,
    /// A salt is empty or longer than 255 octets.
    Salt,
    /// There are no iterations, or more than [`ITERATIONS_MAX`].
    Iterations,
    /// A key has not the length of its hash function.
    Key,
    /// Two entries have the same hash function.
    Twice,
}

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordError {
    /// Nothing is left of it after preparation.
    Empty,
    /// It is longer than [`PASSWORD_OCTETS_MAX`].
    Long,
    /// It has a character that SASLprep prohibits.
    Prohibited,
}

impl Keys {
    /// Derives the keys of a password for all hash functions.
    ///
    /// `salt` is fresh randomness of this account; each hash function gets a salt of its own
    /// from it, so that two mechanisms tell no more than one. Takes milliseconds for each
    /// thousand of `iterations`: never on a reactor.
    ///
    /// # Errors
    /// [`PasswordError`] when the password cannot be prepared.
    pub fn derive(
        password: &str,
        salt: &[u8; SALT_OCTETS],
        iterations: u32,
    ) -> Result<Self, PasswordError> {
        let password = prepare_password(password)?;
        let iterations = iterations.clamp(1, ITERATIONS_MAX);
        let entries = Hash::ALL.into_iter().map(|hash| {
            let salt = salt_for(hash, salt, b"");
            let salted = hash.stretch(password.as_bytes(), &salt, iterations);
            Entry::from_salted(hash, &salt, iterations, &salted)
        });
        Ok(Self {
            entries: entries.collect(),
        })
    }

    /// Keys that were derived elsewhere, such as those of an import.
    ///
    /// # Errors
    /// [`KeysError::Twice`], or [`KeysError::Form`] when there is no entry at all.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, KeysError> {
        entries.sort_by_key(|entry| entry.hash);
        let twice = entries
            .iter()
            .zip(entries.iter().skip(1))
            .any(|(a, b)| a.hash == b.hash);
        match (entries.is_empty(), twice) {
            (true, _) => Err(KeysError::Form),
            (_, true) => Err(KeysError::Twice),
            _ => Ok(Self { entries }),
        }
    }

    /// The entry of a hash function.
    pub fn entry(&self, hash: Hash) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.hash == hash)
    }

    /// All entries, in the order of [`Hash::ALL`].
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The record that [`Self::decode`] reads.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut record = Zeroizing::new(Vec::with_capacity(RECORD_OCTETS));
        record.push(VERSION);
        for entry in &self.entries {
            record.push(number(entry.hash));
            record.push(u8::try_from(entry.salt.len()).unwrap_or_default());
            record.extend_from_slice(&entry.salt);
            record.extend_from_slice(&entry.iterations.to_be_bytes());
            record.extend_from_slice(entry.stored_key.as_slice());
            record.extend_from_slice(entry.server_key.as_slice());
        }
        record
    }

    /// Reads a record of [`Self::encode`]. Total: any octets give keys or an error.
    ///
    /// # Errors
    /// [`KeysError`]: nothing is taken from a record with any fault.
    pub fn decode(record: &[u8]) -> Result<Self, KeysError> {
        let (version, mut rest) = record.split_first().ok_or(KeysError::Form)?;
        if *version != VERSION {
            return Err(KeysError::Version);
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(Hash::ALL.len());
        while !rest.is_empty() {
            let entry = Entry::take(&mut rest)?;
            if entries.last().is_some_and(|last| last.hash >= entry.hash) {
                return Err(KeysError::Form);
            }
            entries.push(entry);
        }
        Self::from_entries(entries)
    }
}

impl Entry {
    /// An entry that was derived elsewhere.
    ///
    /// # Errors
    /// [`KeysError`] when a part is out of its bounds.
    pub fn new(
        hash: Hash,
        salt: &[u8],
        iterations: u32,
        stored_key: &[u8],
        server_key: &[u8],
    ) -> Result<Self, KeysError> {
        if salt.is_empty() || salt.len() > SALT_OCTETS_MAX {
            return Err(KeysError::Salt);
        }
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(KeysError::Iterations);
        }
        let key = |octets: &[u8]| match octets.len() == hash.octets() {
            true => Digest::from_slice(octets).ok_or(KeysError::Key),
            false => Err(KeysError::Key),
        };
        Ok(Self {
            hash,
            salt: salt.into(),
            iterations,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// The hash function.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations of PBKDF2.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// `StoredKey`, for an export.
    pub fn stored_key(&self) -> &Digest {
        &self.stored_key
    }

    /// `ServerKey`, for an export.
    pub fn server_key(&self) -> &Digest {
        &self.server_key
    }

    /// Whether `salted`, the outcome of [`Hash::stretch`], comes from the right password.
    pub fn verify(&self, salted: &[u8]) -> Choice {
        let client_key = self.hash.hmac(salted, &[CLIENT_KEY]);
        let stored_key = self.hash.digest(client_key.as_slice());
        stored_key.ct_eq(&self.stored_key)
    }

    /// Stands in for the entry of an account that is not here: the same for the same name, as
    /// costly, and no password fits (SECURITY class 20).
    pub(super) fn decoy(hash: Hash, secret: &[u8; 32], account: &str, iterations: u32) -> Self {
        let salt = salt_for(hash, secret, account.as_bytes());
        Self {
            hash,
            salt: salt.into(),
            iterations: iterations.clamp(1, ITERATIONS_MAX),
            stored_key: hash.hmac(secret, &[b"stored", &salt]),
            server_key: hash.hmac(secret, &[b"server", &salt]),
        }
    }

    fn from_salted(hash: Hash, salt: &[u8], iterations: u32, salted: &Digest) -> Self {
        let client_key = hash.hmac(salted.as_slice(), &[CLIENT_KEY]);
        Self {
            hash,
            salt: salt.into(),
            iterations,
            stored_key: hash.digest(client_key.as_slice()),
            server_key: hash.hmac(salted.as_slice(), &[SERVER_KEY]),
        }
    }

    fn take(rest: &mut &[u8]) -> Result<Self, KeysError> {
        let hash = hash(octet(rest)?).ok_or(KeysError::Form)?;
        let salt_octets = usize::from(octet(rest)?);
        let salt = take(rest, salt_octets)?;
        let iterations = take(rest, 4)?.iter().fold(0, |n, &b| n << 8 | u32::from(b));
        let stored_key = take(rest, hash.octets())?;
        let server_key = take(rest, hash.octets())?;
        Self::new(hash, salt, iterations, stored_key, server_key)
    }
}

/// Prepares a password as SCRAM and PLAIN compare it (RFC 4013).
///
/// # Errors
/// [`PasswordError`] says why it can be nobody's password.
pub fn prepare_password(password: &str) -> Result<Zeroizing<String>, PasswordError> {
    if password.len() > PASSWORD_OCTETS_MAX {
        return Err(PasswordError::Long);
    }
    let prepared = stringprep::saslprep(password).map_err(|_| PasswordError::Prohibited)?;
    if prepared.is_empty() {
        return Err(PasswordError::Empty);
    }
    Ok(Zeroizing::new(prepared.into_owned()))
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "keys of an unknown version",
            Self::Form => "not a record of keys",
            Self::Salt => "a salt must have 1 to 255 octets",
            Self::Iterations => "iterations are out of bounds",
            Self::Key => "a key has not the length of its hash function",
            Self::Twice => "two keys for one hash function",
        })
    }
}

impl std::error::Error for KeysError {}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the password is empty",
            Self::Long => "the password is longer than 1023 octets",
            Self::Prohibited => "the password has a character that SASLprep prohibits",
        })
    }
}

impl std::error::Error for PasswordError {}

/// The salt of one hash function, from what all hash functions of an account share.
fn salt_for(hash: Hash, seed: &[u8], name: &[u8]) -> [u8; SALT_OCTETS] {
    let mac = Hash::Sha256.hmac(seed, &[b"salt ", hash.name().as_bytes(), b" ", name]);
    let mut salt = [0; SALT_OCTETS];
    for (to, from) in salt.iter_mut().zip(mac.as_slice()) {
        *to = *from;
    }
    salt
}

/// The number of a hash function in a record. It is on disk: never reuse one.
const fn number(hash: Hash) -> u8 {
    match hash {
        Hash::Sha1 => 1,
        Hash::Sha256 => 2,
        Hash::Sha512 => 3,
    }
}

fn hash(wanted: u8) -> Option<Hash> {
    Hash::ALL.into_iter().find(|&hash| number(hash) == wanted)
}

fn octet(rest: &mut &[u8]) -> Result<u8, KeysError> {
    let (first, tail) = rest.split_first().ok_or(KeysError::Form)?;
    *rest = tail;
    Ok(*first)
}

fn take<'a>(rest: &mut &'a [u8], octets: usize) -> Result<&'a [u8], KeysError> {
    let (head, tail) = rest.split_at_checked(octets).ok_or(KeysError::Form)?;
    *rest = tail;
    Ok(head)
}

/// Octets of a salt of ours.
pub const SALT_OCTETS: usize = 16;
/// Of PBKDF2, for accounts that this server makes: about a millisecond of a core.
pub const ITERATIONS: u32 = 10_000;
/// Bounds the work that an imported record may ask of a client and of our storage threads.
pub const ITERATIONS_MAX: u32 = 10_000_000;
/// Octets of a password, before preparation.
pub const PASSWORD_OCTETS_MAX: usize = 1_023;

const SALT_OCTETS_MAX: usize = 255;
const VERSION: u8 = 1;
/// What [`Keys::derive`] encodes to.
const RECORD_OCTETS: usize = 1 + 3 * (1 + 1 + SALT_OCTETS + 4) + 2 * (20 + 32 + 64);
const CLIENT_KEY: &[u8] = b"Client Key";
const SERVER_KEY: &[u8] = b"Server Key";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Keys {
        Keys::derive("pencil", &[7; SALT_OCTETS], 2).unwrap()
    }

    #[test]
    fn encoding_and_decoding_are_inverse() {
        let keys = keys();
        let record = keys.encode();
        assert_eq!(record.len(), RECORD_OCTETS);
        assert_eq!(Keys::decode(&record).unwrap(), keys);
    }

    /// The form on disk must not change unseen.
    #[test]
    fn the_record_has_a_fixed_form() {
        let entry = Entry::new(Hash::Sha1, b"salt", 4096, &[1; 20], &[2; 20]).unwrap();
        let mut expected = vec![1, 1, 4, b's', b'a', b'l', b't', 0, 0, 16, 0];
        expected.extend([1; 20]);
        expected.extend([2; 20]);
        let keys = Keys::from_entries(vec![entry]).unwrap();
        assert_eq!(*keys.encode(), expected);
    }

    #[test]
    fn no_cut_and_no_addition_decodes() {
        let record = keys().encode();
        let ends = [1 + 62, 1 + 62 + 86, RECORD_OCTETS];
        for end in 0..record.len() {
            let decoded = Keys::decode(&record[..end]);
            assert_eq!(decoded.is_ok(), ends.contains(&end), "cut at {end}");
        }
        let longer = [&record[..], &[0]].concat();
        assert_eq!(Keys::decode(&longer), Err(KeysError::Form));
    }

    #[test]
    fn faulty_records_are_told_apart() {
        let entry = |hash, octets, salt: &[u8], iterations| {
            Entry::new(hash, salt, iterations, &vec![0; octets], &vec![0; octets])
        };
        let good = entry(Hash::Sha1, 20, b"s", 1).unwrap();
        assert_eq!(
            Keys::from_entries(vec![good.clone(), good]),
            Err(KeysError::Twice)
        );
        assert_eq!(Keys::from_entries(vec![]), Err(KeysError::Form));
        assert_eq!(entry(Hash::Sha1, 32, b"s", 1), Err(KeysError::Key));
        assert_eq!(entry(Hash::Sha1, 20, b"", 1), Err(KeysError::Salt));
        assert_eq!(entry(Hash::Sha1, 20, &[0; 256], 1), Err(KeysError::Salt));
        assert_eq!(entry(Hash::Sha1, 20, b"s", 0), Err(KeysError::Iterations));
        assert_eq!(Keys::decode(&[2]), Err(KeysError::Version));
    }

    #[test]
    fn each_hash_function_has_its_own_salt() {
        let keys = keys();
        let salts: Vec<&[u8]> = keys.entries().iter().map(Entry::salt).collect();
        assert_ne!(salts[0], salts[1]);
        assert_ne!(salts[1], salts[2]);
    }

    #[test]
    fn only_the_right_password_verifies() {
        for entry in keys().entries() {
            let right = entry
                .hash()
                .stretch(b"pencil", entry.salt(), entry.iterations());
            let wrong = entry
                .hash()
                .stretch(b"pencil2", entry.salt(), entry.iterations());
            assert!(bool::from(entry.verify(right.as_slice())));
            assert!(!bool::from(entry.verify(wrong.as_slice())));
            assert!(!bool::from(entry.verify(b"")));
        }
    }

    /// RFC 4013 section 3.
    #[test]
    fn passwords_are_prepared_by_saslprep() {
        for (password, expected) in [
            ("I\u{ad}X", Ok("IX")),
            ("user", Ok("user")),
            ("USER", Ok("USER")),
            ("\u{aa}", Ok("a")),
            ("\u{2168}", Ok("IX")),
            ("a\u{a0}b", Ok("a b")),
            ("\u{7}", Err(PasswordError::Prohibited)),
            ("\u{627}1", Err(PasswordError::Prohibited)),
            ("\u{ad}", Err(PasswordError::Empty)),
            ("", Err(PasswordError::Empty)),
        ] {
            let prepared = prepare_password(password);
            assert_eq!(
                prepared.as_ref().map(|p| p.as_str()),
                expected.as_ref().copied()
            );
        }
        let long = "x".repeat(PASSWORD_OCTETS_MAX + 1);
        assert_eq!(prepare_password(&long), Err(PasswordError::Long));
    }

    proptest! {
        /// A record is read as it was written or not at all.
        #[test]
        fn any_octets_decode_to_what_encodes_to_them(
            at in 0..RECORD_OCTETS,
            octet in any::<u8>(),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut record = keys().encode().to_vec();
            record[at] = octet;
            for record in [record, noise] {
                if let Ok(keys) = Keys::decode(&record) {
                    prop_assert_eq!(&*keys.encode(), &record);
                }
            }
        }
    }
}
