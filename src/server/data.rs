//! The data directory: made for its owner alone, with the secret of this installation.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::certificate::write_private;
use super::config::Config;
use super::exit::{Exit, Failure};

const SECRET: &str = "secret";

/// Makes the directory where it is missing; others may not look into it.
///
/// # Errors
/// When it can neither be found nor made.
pub fn prepare(dir: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Failure::new(Exit::Data, format!("{}: {e}", dir.display())))
}

/// The secret of this installation: the configured one, or the one of the directory, which is
/// made on the first start.
///
/// # Errors
/// When its file is damaged, or cannot be written.
pub fn secret(config: &Config) -> Result<[u8; 32], Failure> {
    let failed = |line: String| Failure::new(Exit::Data, line);
    if let Some(text) = &config.secret {
        return Ok(from_hexadecimal(text).unwrap_or_default());
    }
    let path = config.data_dir.join(SECRET);
    match std::fs::read_to_string(&path) {
        Ok(text) => from_hexadecimal(text.trim())
            .ok_or_else(|| failed(format!("{}: not 64 hexadecimal digits", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let fresh = random::<32>()?;
            let digits: String = fresh.iter().map(|octet| format!("{octet:02x}")).collect();
            write_private(&path, format!("{digits}\n").as_bytes()).map_err(failed)?;
            Ok(fresh)
        }
        Err(e) => Err(failed(format!("{}: {e}", path.display()))),
    }
}

/// Whether this installation has its secret: the last thing that a first start makes.
pub fn has_secret(config: &Config) -> bool {
    config.data_dir.join(SECRET).exists()
}

/// Octets that nobody can guess.
///
/// # Errors
/// When the system has no randomness.
pub fn random<const OCTETS: usize>() -> Result<[u8; OCTETS], Failure> {
    let mut octets = [0; OCTETS];
    getrandom::fill(&mut octets)
        .map_err(|e| Failure::new(Exit::Internal, format!("no randomness: {e}")))?;
    Ok(octets)
}

fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config {
            data_dir: dir.path().into(),
            ..Config::default()
        };
        let first = secret(&config).expect("made");
        assert_eq!(secret(&config).expect("kept"), first);
        assert_ne!(first, [0; 32]);
        std::fs::write(dir.path().join(SECRET), "abc").expect("written");
        assert_eq!(secret(&config).expect_err("refused").exit, Exit::Data);
    }
}
