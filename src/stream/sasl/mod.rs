//! SASL: who is at the other end (RFC 4422, RFC 6120 section 6).
//!
//! One [`Exchange`] is one attempt. It is consumed by each message and knows neither XML nor
//! addresses: the stream unwraps the messages and says whose account a name means.

/// The hash functions of SCRAM.
pub mod hash;
/// What is kept of a password.
pub mod keys;
/// SCRAM's grammar.
mod message;
/// PLAIN.
mod plain;
/// SCRAM.
mod scram;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::Choice;
use zeroize::Zeroizing;

pub use hash::{Digest, Hash};
pub use keys::{Entry, ITERATIONS, Keys};
pub use scram::{Binding, TLS_EXPORTER, TLS_SERVER_END_POINT};

/// A way to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Scram(Hash, Binding),
    Plain,
}

impl Mechanism {
    /// All that are offered anywhere, the best first.
    pub const ALL: [Self; 5] = [
        Self::Scram(Hash::Sha256, Binding::Plus),
        Self::Scram(Hash::Sha1, Binding::Plus),
        Self::Scram(Hash::Sha256, Binding::Without),
        Self::Scram(Hash::Sha1, Binding::Without),
        Self::Plain,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scram(Hash::Sha1, Binding::Plus) => "SCRAM-SHA-1-PLUS",
            Self::Scram(Hash::Sha1, Binding::Without) => "SCRAM-SHA-1",
            Self::Scram(Hash::Sha256, Binding::Plus) => "SCRAM-SHA-256-PLUS",
            Self::Scram(Hash::Sha256, Binding::Without) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512, Binding::Plus) => "SCRAM-SHA-512-PLUS",
            Self::Scram(Hash::Sha512, Binding::Without) => "SCRAM-SHA-512",
            Self::Plain => "PLAIN",
        }
    }

    /// Whether this link has it: `-PLUS` needs a channel to bind to.
    pub fn is_offered(self, bindings: &Bindings) -> bool {
        match self {
            Self::Scram(_, Binding::Plus) => !bindings.is_empty(),
            Self::Scram(_, Binding::Without) | Self::Plain => true,
        }
    }

    /// What `name` names among the mechanisms that this link has.
    pub fn offered(name: &str, bindings: &Bindings) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|mechanism| mechanism.name() == name && mechanism.is_offered(bindings))
    }
}

/// Why an attempt failed (RFC 6120 section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The client gave up.
    Aborted,
    /// The account may not log in now.
    AccountDisabled,
    /// TLS must come first.
    EncryptionRequired,
    /// The data are not base64.
    IncorrectEncoding,
    /// The client asked to act as somebody else.
    InvalidAuthzid,
    /// The mechanism is not offered on this link.
    InvalidMechanism,
    /// The message breaks the grammar of its mechanism.
    MalformedRequest,
    /// Policy wants a stronger mechanism for this account.
    MechanismTooWeak,
    /// Wrong password, unknown account, wrong channel: never told apart.
    NotAuthorized,
    /// Our own trouble; it may pass.
    TemporaryAuthFailure,
}

impl Condition {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client may bind its authentication to, as the TLS layer of this link gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// RFC 9266.
    pub exporter: Option<[u8; 32]>,
    /// RFC 5929 section 4.
    pub end_point: Option<Box<[u8]>>,
}

impl Bindings {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.end_point.is_none()
    }
}

/// What an exchange must know of its link and server.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The channel bindings of the link.
    pub bindings: &'a Bindings,
    /// Fresh and printable without commas; used at most once.
    pub nonce: &'a str,
    /// Hides unknown accounts; the same for years.
    pub secret: &'a [u8; 32],
    /// What new accounts of this server have, and so unknown ones seem to have.
    pub iterations: u32,
}

/// Who the client says it is. Nothing of it is true yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name, unescaped and unprepared.
    pub name: String,
    /// Whom it wants to act as, where it says so.
    pub authzid: Option<String>,
}

/// What storage says of an account.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// There is one with these keys.
    Known(&'a Keys),
    /// There is none.
    Unknown,
    /// It is there and may not be used: whoever proves to own it is told.
    Disabled(&'a Keys),
    /// Storage could not tell.
    Unavailable,
}

/// A PBKDF2 to be done where it delays nobody: the answer is [`Hash::stretch`] of the parts.
#[derive(Clone, PartialEq, Eq)]
pub struct HashJob {
    pub hash: Hash,
    pub password: Zeroizing<Vec<u8>>,
    pub salt: Box<[u8]>,
    pub iterations: u32,
}

impl fmt::Debug for HashJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HashJob({:?}, {} iterations)",
            self.hash, self.iterations
        )
    }
}

/// One attempt, between two messages.
#[derive(Debug)]
pub struct Exchange(State);

#[derive(Debug)]
enum State {
    /// The mechanism was chosen without an initial response.
    Chosen(Mechanism),
    ScramOpened(scram::Opened),
    ScramChallenged(scram::Challenged),
    PlainOpened(plain::Opened),
    PlainStretching(plain::Stretching),
}

/// Where an exchange stands after a message.
#[derive(Debug)]
pub enum Progress {
    /// Send this, not yet in base64, and wait for the response.
    Challenge(Vec<u8>, Exchange),
    /// Find the account that is claimed, then call [`Exchange::look_up`].
    Look(Claim, Exchange),
    /// Have this done, then call [`Exchange::stretched`].
    Stretch(HashJob, Exchange),
    /// The claim is true. Send this with the success, where it is not empty.
    Success(Vec<u8>),
}

impl Exchange {
    /// Begins an attempt. `initial` is the initial response, decoded, where there is one.
    ///
    /// # Errors
    /// The [`Condition`] to send; the attempt is over. So with all others.
    pub fn begin(
        mechanism: Mechanism,
        initial: Option<&[u8]>,
        terms: &Terms<'_>,
    ) -> Result<Progress, Condition> {
        let chosen = Self(State::Chosen(mechanism));
        match initial {
            Some(initial) => chosen.respond(initial, terms),
            // Both mechanisms let the client speak first (RFC 6120 section 6.4.2).
            None => Ok(Progress::Challenge(Vec::new(), chosen)),
        }
    }

    /// Takes a response of the client, decoded.
    ///
    /// # Errors
    /// See [`Self::begin`]. A response that nobody waits for is malformed.
    pub fn respond(self, message: &[u8], terms: &Terms<'_>) -> Result<Progress, Condition> {
        match self.0 {
            State::Chosen(Mechanism::Scram(hash, binding)) => {
                let (opened, claim) = scram::Opened::receive(hash, binding, message, terms)?;
                Ok(Progress::Look(claim, Self(State::ScramOpened(opened))))
            }
            State::Chosen(Mechanism::Plain) => {
                let (opened, claim) = plain::Opened::receive(message)?;
                Ok(Progress::Look(claim, Self(State::PlainOpened(opened))))
            }
            State::ScramChallenged(challenged) => {
                challenged.receive(message).map(Progress::Success)
            }
            State::ScramOpened(_) | State::PlainOpened(_) | State::PlainStretching(_) => {
                Err(Condition::MalformedRequest)
            }
        }
    }

    /// Continues with what storage says of the claimed account, whose bare JID in normal form is
    /// `account`. An unknown one goes on like a known one, to the same end as a wrong password.
    ///
    /// # Errors
    /// [`Condition::TemporaryAuthFailure`] when storage could not tell.
    pub fn look_up(
        self,
        found: Lookup<'_>,
        account: &str,
        terms: &Terms<'_>,
    ) -> Result<Progress, Condition> {
        let (keys, login) = match found {
            Lookup::Known(keys) => (Some(keys), Login::Allowed),
            Lookup::Disabled(keys) => (Some(keys), Login::Disabled),
            Lookup::Unknown => (None, Login::Refused),
            Lookup::Unavailable => return Err(Condition::TemporaryAuthFailure),
        };
        let entry_for = |hash| {
            // Made in both cases, so that both take the same time.
            let decoy = Entry::decoy(hash, terms.secret, account, terms.iterations);
            match keys.and_then(|keys| keys.entry(hash)) {
                Some(entry) => (entry.clone(), login),
                None => (decoy, Login::Refused),
            }
        };
        match self.0 {
            State::ScramOpened(opened) => {
                let (entry, login) = entry_for(opened.hash());
                let (message, challenged) = opened.challenge(&entry, login);
                Ok(Progress::Challenge(
                    message,
                    Self(State::ScramChallenged(challenged)),
                ))
            }
            State::PlainOpened(opened) => {
                let (entry, login) = entry_for(plain::preferred(keys));
                let (job, stretching) = opened.stretch(entry, login);
                Ok(Progress::Stretch(
                    job,
                    Self(State::PlainStretching(stretching)),
                ))
            }
            _ => Err(Condition::TemporaryAuthFailure),
        }
    }

    /// Continues with the outcome of a [`HashJob`].
    ///
    /// # Errors
    /// [`Condition::NotAuthorized`] for a wrong password.
    pub fn stretched(self, salted: &[u8]) -> Result<Progress, Condition> {
        match self.0 {
            State::PlainStretching(stretching) => {
                stretching.receive(salted)?;
                Ok(Progress::Success(Vec::new()))
            }
            _ => Err(Condition::TemporaryAuthFailure),
        }
    }
}

/// Whether a right proof opens the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Allowed,
    /// The account may not be used; only its owner is told.
    Disabled,
    /// The entry is a decoy.
    Refused,
}

impl Login {
    /// What a right or wrong proof comes to.
    fn conclude(self, proof: Choice) -> Result<(), Condition> {
        let is_real = !matches!(self, Self::Refused);
        let good = proof & Choice::from(u8::from(is_real));
        match (bool::from(good), self) {
            (true, Self::Allowed) => Ok(()),
            (true, _) => Err(Condition::AccountDisabled),
            (false, _) => Err(Condition::NotAuthorized),
        }
    }
}

/// Strict base64 (RFC 6120 section 6.4.2, RFC 4648 section 4): padded, canonical, nothing between.
///
/// # Errors
/// [`Condition::IncorrectEncoding`].
pub fn decode_base64(encoded: &[u8]) -> Result<Zeroizing<Vec<u8>>, Condition> {
    match STANDARD.decode(encoded) {
        Ok(decoded) => Ok(Zeroizing::new(decoded)),
        Err(_) => Err(Condition::IncorrectEncoding),
    }
}

/// Padded base64.
pub fn encode_base64(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

#[cfg(test)]
mod tests;
