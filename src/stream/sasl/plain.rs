//! PLAIN (RFC 4616): the password itself, under TLS.

use zeroize::Zeroizing;

use super::hash::Hash;
use super::keys::{Entry, Keys, prepare_password};
use super::{Claim, Condition, HashJob, Login};

/// The message was right; the account's keys are awaited.
#[derive(Debug)]
pub struct Opened {
    password: Zeroizing<Vec<u8>>,
}

/// The salted password is awaited.
#[derive(Debug)]
pub struct Stretching {
    entry: Entry,
    login: Login,
}

impl Opened {
    /// Reads the one message: `[authzid] NUL authcid NUL passwd`.
    ///
    /// # Errors
    /// [`Condition::MalformedRequest`] for another number of parts, an empty name or password, or
    /// what is not UTF-8; [`Condition::NotAuthorized`] for what can be nobody's password.
    pub fn receive(message: &[u8]) -> Result<(Self, Claim), Condition> {
        let message = str::from_utf8(message).map_err(|_| Condition::MalformedRequest)?;
        let mut parts = message.split('\0');
        let (Some(authzid), Some(name), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Condition::MalformedRequest);
        };
        if name.is_empty() || password.is_empty() {
            return Err(Condition::MalformedRequest);
        }
        let prepared = prepare_password(password).map_err(|_| Condition::NotAuthorized)?;
        let opened = Self {
            password: Zeroizing::new(prepared.as_bytes().to_vec()),
        };
        let claim = Claim {
            name: name.to_owned(),
            authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
        };
        Ok((opened, claim))
    }

    /// Asks for the salted password. A decoy costs what a real entry costs.
    pub fn stretch(self, entry: Entry, login: Login) -> (HashJob, Stretching) {
        let job = HashJob {
            hash: entry.hash(),
            password: self.password,
            salt: entry.salt().into(),
            iterations: entry.iterations(),
        };
        (job, Stretching { entry, login })
    }
}

impl Stretching {
    /// Compares.
    ///
    /// # Errors
    /// [`Condition::NotAuthorized`] for a wrong password or an unknown account,
    /// [`Condition::AccountDisabled`] for the right one of an account that may not be used.
    pub fn receive(self, salted: &[u8]) -> Result<(), Condition> {
        self.login.conclude(self.entry.verify(salted))
    }
}

/// The hash function that verifies a password: the usual one where the account has it, so that
/// accounts with all keys and decoys cost the same.
pub fn preferred(keys: Option<&Keys>) -> Hash {
    let Some(keys) = keys else {
        return Hash::Sha256;
    };
    let mut order = [Hash::Sha256, Hash::Sha1, Hash::Sha512].into_iter();
    order
        .find(|&hash| keys.entry(hash).is_some())
        .unwrap_or(Hash::Sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_exactly_three_parts() {
        for (message, expected) in [
            (&b"\0alice\0pw"[..], Ok(("alice", None))),
            (b"a@b\0alice\0pw", Ok(("alice", Some("a@b")))),
            (b"", Err(Condition::MalformedRequest)),
            (b"alice\0pw", Err(Condition::MalformedRequest)),
            (b"\0alice\0pw\0x", Err(Condition::MalformedRequest)),
            (b"\0alice\0pw\0", Err(Condition::MalformedRequest)),
            (b"\0\0pw", Err(Condition::MalformedRequest)),
            (b"\0alice\0", Err(Condition::MalformedRequest)),
            (b"\0al\xffce\0pw", Err(Condition::MalformedRequest)),
            (b"\0alice\0p\x07", Err(Condition::NotAuthorized)),
        ] {
            let claim = Opened::receive(message).map(|(_, claim)| claim);
            let expected = expected.map(|(name, authzid)| Claim {
                name: name.into(),
                authzid: authzid.map(str::to_owned),
            });
            assert_eq!(claim, expected, "{message:?}");
        }
    }
}
