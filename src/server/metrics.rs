//! `/metrics`: the counters of the running server as OpenMetrics text.
//!
//! A scrape is an errand: the shard that took the request goes on, a thread of its own asks all
//! shards as `encke status` does, and the answer comes back as a command.

use std::io;
use std::sync::{Arc, OnceLock};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::exposition;
use super::live::Live;
use crate::engine::Errand;
use crate::io::ErrandSink;
use crate::store::ShardId;
use crate::store::worker::Storage;

/// Scrapes that may wait; more are told to come back.
const WAITING_MAX: usize = 64;

/// The counter where shards leave their errands.
pub struct Errands {
    sender: Sender<(ShardId, Errand)>,
    receiver: Receiver<(ShardId, Errand)>,
    live: Arc<OnceLock<Live>>,
}

impl Errands {
    /// A counter that nobody serves yet.
    pub fn new() -> Self {
        let (sender, receiver) = bounded(WAITING_MAX);
        Self {
            sender,
            receiver,
            live: Arc::default(),
        }
    }

    /// Takes the errands of a turn; never waits.
    pub fn sink(&self) -> ErrandSink {
        let (sender, live) = (self.sender.clone(), self.live.clone());
        Arc::new(move |shard, errands| {
            for errand in errands.drain(..) {
                // Too many wait, or nobody serves any more: either way the client is told.
                if let (Err(refused), Some(live)) = (sender.try_send((shard, errand)), live.get()) {
                    let (shard, errand) = refused.into_inner();
                    live.command(shard, errand.done(None));
                }
            }
        })
    }

    /// Serves them on a thread of its own until the shards are gone.
    ///
    /// # Errors
    /// When the thread cannot be had.
    pub fn serve(self, live: Live, storage: Storage) -> io::Result<()> {
        let Self {
            sender,
            receiver,
            live: known,
        } = self;
        // The shards hold the other ends: when they are gone, so is the thread.
        drop(sender);
        let _ = known.set(live.clone());
        let work = move || {
            for (shard, errand) in receiver {
                let text = exposition::write(&live.status(&storage));
                live.command(shard, errand.done(Some(text.into_bytes())));
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into());
        thread.spawn(work).map(drop)
    }
}
