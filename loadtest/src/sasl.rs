//! SASL as a client: PLAIN, SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802), without channel binding.
//!
//! The expensive part, PBKDF2, is computed once per mechanism, password, salt and count of
//! iterations: test accounts that share a salt cost the generator two hashes a login.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Plain,
    ScramSha1,
    ScramSha256,
}

impl Mechanism {
    /// Best first.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::ScramSha1, Self::Plain];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }
}

/// What a server stores, and what a client derives from the password.
pub struct Keys {
    pub client: Vec<u8>,
    pub stored: Vec<u8>,
    pub server: Vec<u8>,
}

impl Keys {
    /// PBKDF2 and what follows from it: hundreds of microseconds.
    pub fn derive(mechanism: Mechanism, password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut salted = vec![
            0;
            if mechanism == Mechanism::ScramSha1 {
                20
            } else {
                32
            }
        ];
        let password = password.as_bytes();
        match mechanism {
            Mechanism::ScramSha1 => {
                pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted);
            }
            _ => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
        }
        let client = mac(mechanism, &salted, b"Client Key");
        let server = mac(mechanism, &salted, b"Server Key");
        Self {
            stored: hash(mechanism, &client),
            client,
            server,
        }
    }
}

fn mac(mechanism: Mechanism, key: &[u8], text: &[u8]) -> Vec<u8> {
    fn run<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    }
    match mechanism {
        Mechanism::ScramSha1 => run::<Hmac<Sha1>>(key, text),
        _ => run::<Hmac<Sha256>>(key, text),
    }
}

fn hash(mechanism: Mechanism, text: &[u8]) -> Vec<u8> {
    match mechanism {
        Mechanism::ScramSha1 => Sha1::digest(text).to_vec(),
        _ => Sha256::digest(text).to_vec(),
    }
}

/// Keys that one thread has derived; each thread has its own, so that nothing is locked.
#[derive(Default)]
pub struct KeyCache {
    keys: HashMap<(Mechanism, Vec<u8>, u32), Arc<Keys>>,
    /// How often PBKDF2 ran. Where it is as often as logins, the server salts each account by
    /// itself and the generator's CPU is mostly that.
    pub derivations: u64,
}

impl KeyCache {
    fn keys(&mut self, which: Mechanism, password: &str, salt: &[u8], count: u32) -> Arc<Keys> {
        let entry = (which, salt.to_vec(), count);
        if let Some(keys) = self.keys.get(&entry) {
            return Arc::clone(keys);
        }
        self.derivations += 1;
        let keys = Arc::new(Keys::derive(which, password, salt, count));
        self.keys.insert(entry, Arc::clone(&keys));
        keys
    }
}

/// A running exchange.
pub struct Exchange {
    mechanism: Mechanism,
    first_bare: String,
    nonce: String,
    server_signature: Vec<u8>,
}

impl Exchange {
    /// Begins; returns the initial response in base64 and, where the mechanism goes on, the
    /// exchange.
    pub fn begin(mechanism: Mechanism, user: &str, password: &str) -> (String, Option<Self>) {
        if mechanism == Mechanism::Plain {
            return (BASE64.encode(format!("\0{user}\0{password}")), None);
        }
        let mut random = [0; 18];
        getrandom::fill(&mut random).expect("the system has randomness");
        let nonce = BASE64.encode(random);
        let first_bare = format!(
            "n={},r={nonce}",
            user.replace('=', "=3D").replace(',', "=2C")
        );
        let response = BASE64.encode(format!("n,,{first_bare}"));
        (
            response,
            Some(Self {
                mechanism,
                first_bare,
                nonce,
                server_signature: Vec::new(),
            }),
        )
    }

    /// Answers the server's challenge, in base64.
    pub fn answer(
        &mut self,
        challenge: &[u8],
        password: &str,
        cache: &mut KeyCache,
    ) -> Result<String, &'static str> {
        let challenge = BASE64
            .decode(challenge)
            .map_err(|_| "challenge is not base64")?;
        let challenge = String::from_utf8(challenge).map_err(|_| "challenge is not UTF-8")?;
        let field = |name: &str| {
            challenge
                .split(',')
                .find_map(|part| part.strip_prefix(name))
        };
        let nonce = field("r=").ok_or("challenge has no nonce")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("challenge has a foreign nonce");
        }
        let salt = field("s=").and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or("challenge has no salt")?;
        let iterations = field("i=").and_then(|count| count.parse().ok());
        let iterations = iterations.ok_or("challenge has no iteration count")?;
        let keys = cache.keys(self.mechanism, password, &salt, iterations);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.first_bare);
        let mut proof = mac(self.mechanism, &keys.stored, signed.as_bytes());
        for (octet, key) in proof.iter_mut().zip(&keys.client) {
            *octet ^= key;
        }
        self.server_signature = mac(self.mechanism, &keys.server, signed.as_bytes());
        Ok(BASE64.encode(format!("{without_proof},p={}", BASE64.encode(proof))))
    }

    /// Whether the server has proven that it knows the password too.
    pub fn verify(&self, success: &[u8]) -> bool {
        let Ok(text) = BASE64.decode(success) else {
            return false;
        };
        let signature = text.strip_prefix(b"v=").and_then(|v| BASE64.decode(v).ok());
        signature.is_some_and(|v| v == self.server_signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 5802 section 5 and of RFC 7677 section 3.
    #[test]
    fn scram_agrees_with_the_examples_of_the_specifications() {
        let cases = [
            (
                Mechanism::ScramSha1,
                "fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
            (
                Mechanism::ScramSha256,
                "rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ];
        for (mechanism, nonce, challenge, proof, signature) in cases {
            let mut exchange = Exchange {
                mechanism,
                first_bare: format!("n=user,r={nonce}"),
                nonce: nonce.to_owned(),
                server_signature: Vec::new(),
            };
            let mut cache = KeyCache::default();
            let challenge = BASE64.encode(challenge);
            let answer = exchange
                .answer(challenge.as_bytes(), "pencil", &mut cache)
                .unwrap();
            let answer = String::from_utf8(BASE64.decode(answer).unwrap()).unwrap();
            assert!(answer.ends_with(proof), "{answer}");
            assert!(exchange.verify(BASE64.encode(signature).as_bytes()));
            exchange
                .answer(challenge.as_bytes(), "pencil", &mut cache)
                .unwrap();
            assert_eq!(cache.derivations, 1);
        }
    }
}
