//! Which certificate a peer is shown, and how to replace it while the server runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::io::binding;

/// All certificates of the server. The first one serves whoever asks for no name or a foreign one.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Arc<Certificate>>,
    /// By name in lower case; a wildcard is filed under `*.rest`.
    by_name: HashMap<String, usize>,
}

/// One chain with its key.
#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    /// What `tls-server-end-point` binds to.
    end_point: Option<Arc<[u8]>>,
}

/// Why a certificate cannot be used.
#[derive(Debug)]
pub enum CertificateError {
    /// No chain was given, or the file holds none.
    Missing,
    /// The octets are not PEM, or not of the kind that was asked for.
    Pem(rustls::pki_types::pem::Error),
    /// The leaf is no X.509 certificate.
    Leaf(String),
    /// The key does not fit, or is of a kind that TLS cannot use.
    Key(rustls::Error),
}

impl Certificates {
    /// From PEM: for each entry the chain, leaf first, and its private key.
    ///
    /// # Errors
    /// For the first entry that cannot be used; nothing is half taken.
    pub fn from_pem(entries: &[(&[u8], &[u8])]) -> Result<Self, CertificateError> {
        let mut certificates = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
        };
        for (chain, key) in entries {
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(CertificateError::Pem)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Pem)?;
            certificates.add(chain, &key)?;
        }
        if certificates.all.is_empty() {
            return Err(CertificateError::Missing);
        }
        Ok(certificates)
    }

    fn add(
        &mut self,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<(), CertificateError> {
        let leaf = chain.first().ok_or(CertificateError::Missing)?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| CertificateError::Leaf(error.to_string()))?;
        let end_point = binding::end_point(leaf, &parsed.signature_algorithm.algorithm);
        let index = self.all.len();
        for name in names(&parsed) {
            self.by_name.entry(name).or_insert(index);
        }
        let signer = any_supported_type(key).map_err(CertificateError::Key)?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            // Some kinds of key cannot tell; the handshake would.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(error) => return Err(CertificateError::Key(error)),
        }
        self.all.push(Arc::new(Certificate {
            key: Arc::new(key),
            end_point: end_point.map(Into::into),
        }));
        Ok(())
    }

    fn choose(&self, server_name: Option<&str>) -> Option<&Arc<Certificate>> {
        let index = server_name
            .and_then(|name| {
                let name = name.to_ascii_lowercase();
                self.by_name.get(&name).or_else(|| {
                    let (_, rest) = name.split_once('.')?;
                    self.by_name.get(&format!("*.{rest}"))
                })
            })
            .copied()
            .unwrap_or(0);
        self.all.get(index)
    }
}

/// Only subject alternative names count; a common name is text for people.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for extension in leaf.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() {
            for name in &alternative.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push(name.to_ascii_lowercase());
                }
            }
        }
    }
    names
}

/// Answers rustls from what a reload may replace at any time.
pub(super) struct Resolver {
    current: ArcSwap<Certificates>,
}

impl Resolver {
    pub(super) fn new(certificates: Certificates) -> Self {
        Self {
            current: ArcSwap::from_pointee(certificates),
        }
    }

    pub(super) fn replace(&self, certificates: Certificates) {
        self.current.store(Arc::new(certificates));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.current.load();
        let chosen = certificates.choose(hello.server_name())?;
        CHOSEN.set(chosen.end_point.clone());
        Some(chosen.key.clone())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

thread_local! {
    /// The end point of the certificate that the call into rustls just made has chosen: rustls
    /// does not tell the caller which one it was.
    static CHOSEN: RefCell<Option<Arc<[u8]>>> = const { RefCell::new(None) };
}

/// What the last handshake step on this thread has chosen, once.
pub(super) fn take_chosen() -> Option<Arc<[u8]>> {
    CHOSEN.take()
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no certificate"),
            Self::Pem(error) => write!(f, "not readable as PEM: {error}"),
            Self::Leaf(error) => write!(f, "not an X.509 certificate: {error}"),
            Self::Key(error) => write!(f, "the private key cannot be used: {error}"),
        }
    }
}

impl std::error::Error for CertificateError {}
