//! Channel bindings: `tls-exporter` (RFC 9266) and `tls-server-end-point` (RFC 5929).
//!
//! The unbuffered connection has no exporter. A key log that admits the exporter's secret alone
//! derives the binding while rustls still holds the secret, so no copy of it is ever made.

use std::cell::Cell;

use hmac::{Hmac, KeyInit, Mac};
use rustls::KeyLog;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry;

/// Octets of a `tls-exporter` binding.
pub const EXPORTER_OCTETS: usize = 32;

/// Keeps no log: turns the one secret it admits into a channel binding.
#[derive(Debug)]
pub(super) struct ExporterLog;

impl KeyLog for ExporterLog {
    fn will_log(&self, label: &str) -> bool {
        label == "EXPORTER_SECRET"
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if self.will_log(label) {
            DERIVED.set(exporter(secret));
        }
    }
}

thread_local! {
    /// What the call into rustls just made has derived.
    static DERIVED: Cell<Option<[u8; EXPORTER_OCTETS]>> = const { Cell::new(None) };
}

/// The binding that the last handshake step on this thread derived, once.
pub(super) fn take_derived() -> Option<[u8; EXPORTER_OCTETS]> {
    DERIVED.take()
}

/// `TLS-Exporter("EXPORTER-Channel-Binding", "", 32)` of RFC 8446 section 7.5. The hash is the
/// negotiated suite's, which the length of the secret tells.
fn exporter(secret: &[u8]) -> Option<[u8; EXPORTER_OCTETS]> {
    match secret.len() {
        32 => Some(derive::<Hmac<Sha256>, Sha256>(secret)),
        48 => Some(derive::<Hmac<Sha384>, Sha384>(secret)),
        _ => None,
    }
}

fn derive<M: Mac + KeyInit, D: Digest>(secret: &[u8]) -> [u8; EXPORTER_OCTETS] {
    let nothing = D::digest([]);
    let mut own = [0; 48];
    let own = &mut own[..secret.len()];
    expand_label::<M>(secret, b"EXPORTER-Channel-Binding", &nothing, own);
    let mut binding = [0; EXPORTER_OCTETS];
    expand_label::<M>(own, b"exporter", &nothing, &mut binding);
    zeroize::Zeroize::zeroize(own);
    binding
}

/// `HKDF-Expand-Label` of RFC 8446 section 7.1 for an output of at most one hash.
fn expand_label<M: Mac + KeyInit>(secret: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    const PREFIX: &[u8] = b"tls13 ";
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(&(out.len() as u16).to_be_bytes());
    mac.update(&[(PREFIX.len() + label.len()) as u8]);
    mac.update(PREFIX);
    mac.update(label);
    mac.update(&[context.len() as u8]);
    mac.update(context);
    mac.update(&[1]);
    out.copy_from_slice(&mac.finalize().into_bytes()[..out.len()]);
}

/// The hash of a certificate by the hash of its own signature, with SHA-256 in place of MD5 and
/// SHA-1 (RFC 5929 section 4.1). `None` where the signature's algorithm names no hash, such as
/// Ed25519: the binding is undefined then and must not be offered.
pub(super) fn end_point(certificate: &[u8], signature: &Oid<'_>) -> Option<Vec<u8>> {
    let of = |oids: &[Oid<'_>]| oids.contains(signature);
    if of(&[
        oid_registry::OID_PKCS1_SHA256WITHRSA,
        oid_registry::OID_SIG_ECDSA_WITH_SHA256,
        oid_registry::OID_PKCS1_SHA1WITHRSA,
        oid_registry::OID_PKCS1_MD5WITHRSAENC,
    ]) {
        Some(Sha256::digest(certificate).to_vec())
    } else if of(&[
        oid_registry::OID_PKCS1_SHA384WITHRSA,
        oid_registry::OID_SIG_ECDSA_WITH_SHA384,
    ]) {
        Some(Sha384::digest(certificate).to_vec())
    } else if of(&[
        oid_registry::OID_PKCS1_SHA512WITHRSA,
        oid_registry::OID_SIG_ECDSA_WITH_SHA512,
    ]) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}
