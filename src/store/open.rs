//! A storage directory: who may use it, and what is where in it.
//!
//! ```text
//! LOCK         held by the process that uses it; says its pid
//! SCHEMA       see schema.rs
//! journal/     segments
//! index/       fjall
//! quarantine/  octets of the journal that did not hold
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::DiskBackend;
use super::files::{RealFiles, make_private_dir};
use super::index::IndexError;
use super::index::fjall::{FjallIndex, Sizes};
use super::journal::Settings;
use super::worker::{Outlet, Storage};
use super::{Recovered, schema};

/// Where storage is and how large its parts may be.
#[derive(Clone, Debug)]
pub struct Config {
    /// A directory of its own, made when it is missing.
    pub dir: PathBuf,
    pub journal: Settings,
    pub index: Sizes,
}

impl Config {
    /// Defaults in `dir`.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            journal: Settings::default(),
            index: Sizes::default(),
        }
    }
}

/// Why storage could not be opened. One line each.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses it; its pid when it could be read.
    InUse {
        dir: PathBuf,
        pid: Option<u32>,
    },
    /// A later program wrote it.
    Newer {
        found: u32,
        known: u32,
    },
    /// There is something that no version of this program wrote.
    NotOurs {
        dir: PathBuf,
    },
    Io {
        path: PathBuf,
        error: io::Error,
    },
    Index(IndexError),
}

impl OpenError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.into();
        Self::Io { path, error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse {
                dir,
                pid: Some(pid),
            } => {
                write!(f, "{} is in use by process {pid}", dir.display())
            }
            Self::InUse { dir, pid: None } => {
                write!(f, "{} is in use by another process", dir.display())
            }
            Self::Newer { found, known } => write!(
                f,
                "the data has version {found}, this program knows version {known}: \
                 start the newer program, or restore a backup made by this one"
            ),
            Self::NotOurs { dir } => {
                write!(
                    f,
                    "{} holds something else than encke's data",
                    dir.display()
                )
            }
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Index(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// Holds a directory for this process until it is dropped.
pub struct DirLock {
    _file: fs::File,
}

impl DirLock {
    /// Takes the directory, made when it is missing.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process has it.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::io(dir, error);
        make_private_dir(dir).map_err(io)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(dir.join("LOCK")).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The pid is a courtesy: without it the error still says enough.
                let _ = file.read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                let dir = dir.into();
                return Err(OpenError::InUse { dir, pid });
            }
            Err(fs::TryLockError::Error(error)) => return Err(io(error)),
        }
        // Written for others to read; the lock itself holds on a full disk, too.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

/// Opens the backend in a directory: takes it, migrates it, recovers it.
///
/// # Errors
/// See [`OpenError`]. Damage in the journal is none: see [`Recovered::damage`].
pub fn open(config: &Config) -> Result<(DiskBackend, Recovered), OpenError> {
    let lock = DirLock::take(&config.dir)?;
    schema::migrate(&config.dir)?;
    let folder = |name: &str| {
        let path = config.dir.join(name);
        RealFiles::open_dir(&path).map_err(|error| OpenError::io(&path, error))
    };
    let (journal, quarantine) = (folder("journal")?, folder("quarantine")?);
    let index_dir = config.dir.join("index");
    make_private_dir(&index_dir).map_err(|error| OpenError::io(&index_dir, error))?;
    let index = FjallIndex::open(&index_dir, config.index).map_err(OpenError::Index)?;
    let (mut backend, recovered) = DiskBackend::recover(
        Arc::new(journal),
        &quarantine,
        config.journal,
        Box::new(index),
    )
    .map_err(|error| OpenError::io(&config.dir, error))?;
    backend.keep_lock(lock);
    Ok((backend, recovered))
}

impl Storage {
    /// Opens the storage in a directory and starts its threads. What [`Recovered`] says is to be
    /// acted upon before anything else is submitted.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: &Config, outlet: Outlet) -> Result<(Self, Recovered), OpenError> {
        let (backend, recovered) = open(config)?;
        let storage = Self::start(Box::new(backend), outlet)
            .map_err(|error| OpenError::io(&config.dir, error))?;
        Ok((storage, recovered))
    }
}
