//! The server's certificate: read from where the configuration says, or made on the first start.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::config::Config;
use crate::io::Certificates;

/// A chain and its key, in PEM, from these files.
pub struct Pair {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
    pub chain_path: PathBuf,
    pub key_path: PathBuf,
    pub origin: Origin,
}

/// Who made a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Configured,
    /// Made by this server; clients will ask whether to trust it.
    SelfSigned,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its DNS names, in lower case.
    pub names: Vec<String>,
    pub begins: jiff::Timestamp,
    pub ends: jiff::Timestamp,
}

const CHAIN: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// How long one of ours is valid.
const SELF_SIGNED_YEARS: i16 = 10;
/// Files of certificates are small; anything else is a mistake.
const PEM_OCTETS_MAX: u64 = 1 << 20;

/// Reads the configured certificate, or ours in the data directory; makes ours when it is
/// missing, has ended, or does not name the domains.
///
/// # Errors
/// One line: which file, what is wrong.
pub fn read_or_make(config: &Config) -> Result<Pair, String> {
    if config.certificate.is_some() {
        return read(config);
    }
    let usable = read(config).is_ok_and(|pair| {
        let facts = Facts::of(&pair.chain);
        let fits = |facts: Facts| facts.days_left() > 0 && facts.misses(&config.domains).is_empty();
        facts.is_ok_and(fits) && pair.certificates().is_ok()
    });
    if !usable {
        make(config)?;
    }
    read(config)
}

/// Reads the certificate that is there.
///
/// # Errors
/// One line: which file, what is wrong.
pub fn read(config: &Config) -> Result<Pair, String> {
    let origin = match config.certificate {
        Some(_) => Origin::Configured,
        None => Origin::SelfSigned,
    };
    let ours = |name| config.data_dir.join(name);
    let chain_path = config.certificate.clone().unwrap_or_else(|| ours(CHAIN));
    let key_path = config.key.clone().unwrap_or_else(|| ours(KEY));
    Ok(Pair {
        chain: read_file(&chain_path)?,
        key: read_file(&key_path)?,
        chain_path,
        key_path,
        origin,
    })
}

impl Pair {
    /// What TLS needs, checked: the key fits the certificate.
    ///
    /// # Errors
    /// One line: which files, what is wrong.
    pub fn certificates(&self) -> Result<Certificates, String> {
        Certificates::from_pem(&[(&self.chain, &self.key)]).map_err(|e| {
            format!(
                "{} with {}: {e}",
                self.chain_path.display(),
                self.key_path.display()
            )
        })
    }
}

impl Facts {
    /// Reads the first certificate of a chain in PEM.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of(chain: &[u8]) -> Result<Self, String> {
        let leaf = CertificateDer::from_pem_slice(chain).map_err(|e| format!("no PEM: {e}"))?;
        let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|e| format!("no X.509: {e}"))?;
        let time = |seconds: i64| {
            jiff::Timestamp::from_second(seconds).map_err(|e| format!("its validity: {e}"))
        };
        let validity = leaf.validity();
        let mut names = Vec::new();
        for extension in leaf.extensions() {
            if let ParsedExtension::SubjectAlternativeName(all) = extension.parsed_extension() {
                names.extend(all.general_names.iter().filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                    _ => None,
                }));
            }
        }
        Ok(Self {
            names,
            begins: time(validity.not_before.timestamp())?,
            ends: time(validity.not_after.timestamp())?,
        })
    }

    /// Whole days until it ends; zero or less when it has ended.
    pub fn days_left(&self) -> i64 {
        let seconds = self.ends.as_second() - jiff::Timestamp::now().as_second();
        match seconds {
            ..=0 => 0,
            seconds => (seconds / 86_400).max(1),
        }
    }

    /// The domains that it does not name.
    pub fn misses<'a>(&self, domains: &'a [String]) -> Vec<&'a str> {
        let named = |domain: &str| {
            self.names.iter().any(|name| match name.strip_prefix("*.") {
                Some(rest) => domain.split_once('.').is_some_and(|(_, tail)| tail == rest),
                None => name == domain,
            })
        };
        domains
            .iter()
            .map(String::as_str)
            .filter(|domain| !named(domain))
            .collect()
    }
}

fn make(config: &Config) -> Result<(), String> {
    let failed = |e: rcgen::Error| format!("making a self-signed certificate: {e}");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(config.domains.clone()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "encke, self-signed");
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let date = |years: i16| {
        // The 28th is a day of every month.
        let (month, day) = (
            today.month().unsigned_abs(),
            today.day().unsigned_abs().min(28),
        );
        rcgen::date_time_ymd(i32::from(today.year() + years), month, day)
    };
    params.not_before = date(-1);
    params.not_after = date(SELF_SIGNED_YEARS);
    let certificate = params.self_signed(&key).map_err(failed)?;
    let dir = &config.data_dir;
    // The key first: a certificate without its key would be taken for a finished pair.
    write_private(&dir.join(KEY), key.serialize_pem().as_bytes())?;
    write_private(&dir.join(CHAIN), certificate.pem().as_bytes())
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// One line: which file, what is wrong.
pub fn write_private(path: &Path, octets: &[u8]) -> Result<(), String> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        match std::fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(octets)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut octets = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(PEM_OCTETS_MAX).read_to_end(&mut octets));
    match read {
        Ok(_) => Ok(octets),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn ours_names_the_domains_and_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config {
            domains: vec!["localhost".into()],
            data_dir: dir.path().into(),
            ..Config::default()
        };
        let first = read_or_make(&config).expect("made");
        let facts = Facts::of(&first.chain).expect("read");
        assert_eq!(facts.names, ["localhost"]);
        assert!(facts.days_left() > 3_600, "{}", facts.days_left());
        let mode = std::fs::metadata(&first.key_path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read_or_make(&config).expect("kept").chain, first.chain);
        config.domains.push("b.example".into());
        let second = read_or_make(&config).expect("made anew");
        assert_eq!(Facts::of(&second.chain).expect("read").names.len(), 2);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (tempfile::tempdir(), tempfile::tempdir());
        let make_in = |dir: &Path| {
            let domains = vec!["localhost".into()];
            let config = Config {
                domains,
                data_dir: dir.into(),
                ..Config::default()
            };
            read_or_make(&config).expect("made")
        };
        let mut pair = make_in(one.expect("a directory").path());
        pair.key = make_in(other.expect("a directory").path()).key;
        assert!(pair.certificates().is_err());
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let now = jiff::Timestamp::now();
        let facts = Facts {
            names: vec!["*.b.example".into()],
            begins: now,
            ends: now,
        };
        let domains = [
            "a.b.example".into(),
            "b.example".into(),
            "c.a.b.example".into(),
        ];
        assert_eq!(facts.misses(&domains), ["b.example", "c.a.b.example"]);
    }
}
