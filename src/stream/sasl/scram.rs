//! SCRAM for every hash function, with and without channel binding (RFC 5802, RFC 7677).

use subtle::{Choice, ConstantTimeEq};

use super::hash::{Digest, Hash};
use super::keys::Entry;
use super::message::{ClientFinal, ClientFirst, Flag};
use super::{Bindings, Claim, Condition, Login, Terms, decode_base64, encode_base64};

/// Which of a family's two mechanisms runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// The name ends in `-PLUS`: the client binds to the channel.
    Plus,
    /// The client does not.
    Without,
}

/// The client's first message was right; its account's keys are awaited.
#[derive(Debug)]
pub struct Opened {
    hash: Hash,
    /// What `c=` has to say: the gs2 header and the channel binding.
    binding: Vec<u8>,
    /// `client-first-message-bare`
    bare: String,
    /// The client's nonce and ours.
    nonce: String,
}

/// The server's first message was sent; the client's proof is awaited.
#[derive(Debug)]
pub struct Challenged {
    hash: Hash,
    binding: Vec<u8>,
    nonce: String,
    /// `AuthMessage` as far as it is known, with a comma at its end.
    transcript: Vec<u8>,
    stored_key: Digest,
    server_key: Digest,
    login: Login,
}

impl Opened {
    /// Reads the client's first message.
    ///
    /// # Errors
    /// A message that the grammar does not produce, a channel binding that this mechanism or
    /// this link has not, or a client that was kept from seeing the `-PLUS` mechanisms
    /// (RFC 5802 section 6).
    pub fn receive(
        hash: Hash,
        kind: Binding,
        message: &[u8],
        terms: &Terms<'_>,
    ) -> Result<(Self, Claim), Condition> {
        let first = ClientFirst::parse(message)?;
        let mut binding = first.gs2_header.as_bytes().to_vec();
        match (kind, first.flag) {
            (Binding::Without, Flag::None) => {}
            (Binding::Without, Flag::Unoffered) if terms.bindings.is_empty() => {}
            (Binding::Without, Flag::Unoffered) => return Err(Condition::NotAuthorized),
            (Binding::Plus, Flag::Required(name)) => {
                let channel = channel(terms.bindings, name).ok_or(Condition::MalformedRequest)?;
                binding.extend_from_slice(channel);
            }
            (Binding::Without, Flag::Required(_))
            | (Binding::Plus, Flag::None | Flag::Unoffered) => {
                return Err(Condition::MalformedRequest);
            }
        }
        let opened = Self {
            hash,
            binding,
            bare: first.bare.to_owned(),
            nonce: [first.nonce, terms.nonce].concat(),
        };
        let claim = Claim {
            name: first.name,
            authzid: first.authzid,
        };
        Ok((opened, claim))
    }

    /// The hash function whose keys are awaited.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Answers with the server's first message. `login` tells whether `entry` is a real one.
    pub fn challenge(self, entry: &Entry, login: Login) -> (Vec<u8>, Challenged) {
        let iterations = entry.iterations().to_string();
        let salt = encode_base64(entry.salt());
        let server_first = ["r=", &self.nonce, ",s=", &salt, ",i=", &iterations].concat();
        let transcript = [&self.bare, ",", &server_first, ","].concat();
        let challenged = Challenged {
            hash: self.hash,
            binding: self.binding,
            nonce: self.nonce,
            transcript: transcript.into_bytes(),
            stored_key: entry.stored_key().clone(),
            server_key: entry.server_key().clone(),
            login,
        };
        (server_first.into_bytes(), challenged)
    }
}

impl Challenged {
    /// Checks the client's proof; gives the server's final message.
    ///
    /// # Errors
    /// [`Condition::NotAuthorized`] for a wrong proof, nonce or channel binding, with nothing
    /// that tells them or an unknown account apart; [`Condition::AccountDisabled`] for a right
    /// one; [`Condition::MalformedRequest`] or [`Condition::IncorrectEncoding`] for what is no
    /// such message.
    pub fn receive(mut self, message: &[u8]) -> Result<Vec<u8>, Condition> {
        let last = ClientFinal::parse(message)?;
        let binding = decode_base64(last.binding.as_bytes())?;
        let proof = decode_base64(last.proof.as_bytes())?;
        if proof.len() != self.hash.octets() {
            return Err(Condition::MalformedRequest);
        }
        let proof = Digest::from_slice(&proof).ok_or(Condition::MalformedRequest)?;
        self.transcript
            .extend_from_slice(last.without_proof.as_bytes());

        let good = binding.ct_eq(&self.binding)
            & last.nonce.as_bytes().ct_eq(self.nonce.as_bytes())
            & self.proves(&proof);
        self.login.conclude(good)?;
        let signature = self
            .hash
            .hmac(self.server_key.as_slice(), &[&self.transcript]);
        Ok(["v=", &encode_base64(signature.as_slice())]
            .concat()
            .into_bytes())
    }

    /// `H(proof XOR ClientSignature) = StoredKey`
    fn proves(&self, proof: &Digest) -> Choice {
        let signature = self
            .hash
            .hmac(self.stored_key.as_slice(), &[&self.transcript]);
        let client_key = proof.xor(&signature);
        self.hash
            .digest(client_key.as_slice())
            .ct_eq(&self.stored_key)
    }
}

/// The data of a channel binding of this link.
fn channel<'a>(bindings: &'a Bindings, name: &str) -> Option<&'a [u8]> {
    match name {
        TLS_EXPORTER => bindings.exporter.as_ref().map(<[u8; 32]>::as_slice),
        TLS_SERVER_END_POINT => bindings.end_point.as_deref(),
        _ => None,
    }
}

/// The client's side, for tests.
#[cfg(test)]
pub fn client_proof(hash: Hash, salted: &Digest, transcript: &str) -> String {
    let client_key = hash.hmac(salted.as_slice(), &[b"Client Key"]);
    let stored_key = hash.digest(client_key.as_slice());
    let signature = hash.hmac(stored_key.as_slice(), &[transcript.as_bytes()]);
    encode_base64(client_key.xor(&signature).as_slice())
}

/// RFC 9266.
pub const TLS_EXPORTER: &str = "tls-exporter";
/// RFC 5929 section 4.
pub const TLS_SERVER_END_POINT: &str = "tls-server-end-point";
