//! Storage as the server and the commands open it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crossbeam::channel::{Receiver, unbounded};

use super::accounts::DESK;
use super::config::Config;
use super::exit::{Exit, Failure};
use crate::io::Outlet;
use crate::store::open::Config as Place;
use crate::store::worker::Storage;
use crate::store::{Recovered, Replies};

/// Open storage and where its replies go.
pub struct Depot {
    pub storage: Storage,
    pub recovered: Recovered,
    /// Replies to requests of [`DESK`].
    pub desk: Receiver<Replies>,
    /// Where replies to shards go, from the moment that there are shards.
    pub shards: Arc<OnceLock<Outlet>>,
}

/// The name of storage in the data directory.
const DIR: &str = "store";

/// Where storage is in a data directory.
pub fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join(DIR)
}

/// Whether storage was ever opened in this directory.
pub fn is_store(dir: &Path) -> bool {
    dir.join("SCHEMA").exists()
}

/// Takes the data directory for this process, recovers it and starts the storage threads.
///
/// # Errors
/// When another process has it, or it cannot be read.
pub fn open(config: &Config) -> Result<Depot, Failure> {
    let (sender, desk) = unbounded();
    let shards: Arc<OnceLock<Outlet>> = Arc::default();
    let to_shards = shards.clone();
    let outlet = Arc::new(move |shard, replies: Replies| {
        if shard == DESK {
            // Nobody listens any more when the process is about to end.
            let _ = sender.send(replies);
        } else if let Some(outlet) = to_shards.get() {
            outlet(shard, replies);
        }
    });
    let place = Place::in_dir(dir(&config.data_dir));
    let (storage, recovered) =
        Storage::open(&place, outlet).map_err(|e| Failure::new(Exit::Data, e))?;
    Ok(Depot {
        storage,
        recovered,
        desk,
        shards,
    })
}

/// Opens storage for a command, while no server runs. What recovery finds stays for the server.
///
/// # Errors
/// As [`open`], and when there is nothing to open.
pub fn open_alone(config: &Config) -> Result<Depot, Failure> {
    super::data::prepare(&config.data_dir)?;
    let depot = open(config)?;
    for damage in &depot.recovered.damage {
        eprintln!("encke: {damage}");
    }
    Ok(depot)
}
