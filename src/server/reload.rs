//! SIGHUP: a new configuration without disconnecting anybody.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::boot::{policy, tell_certificate};
use super::certificate;
use super::config::{self, Loaded, Mode, Wanted};
use super::live::Live;
use super::log::Log;
use super::manager::tell_manager;
use super::options::{Change, ROWS};
use super::plan::Plan;
use crate::engine::Command;
use crate::io::TlsShared;

/// What is needed to take up a new configuration.
pub struct Reloader {
    loaded: Loaded,
    plan: Plan,
    secret: [u8; 32],
    tls: Arc<TlsShared>,
    log: Log,
}

impl Reloader {
    /// Begins with the configuration of the start.
    pub fn new(
        loaded: Loaded,
        plan: Plan,
        secret: [u8; 32],
        tls: Arc<TlsShared>,
        log: Log,
    ) -> Self {
        Self {
            loaded,
            plan,
            secret,
            tls,
            log,
        }
    }

    /// The configuration in force.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The configuration in force, for a next start.
    pub fn into_loaded(self) -> Loaded {
        self.loaded
    }

    /// Reads everything again. What is wrong keeps its old state, and the log says why.
    pub fn reload(&mut self, live: &Live) {
        // systemd tells this reload from an earlier one by the time.
        match NotifyState::monotonic_usec_now() {
            Ok(time) => tell_manager(&[NotifyState::Reloading, time]),
            Err(_) => tell_manager(&[NotifyState::Reloading]),
        }
        match self.read() {
            Ok(loaded) => self.take_up(loaded, live),
            Err(lines) => {
                for reason in lines {
                    tracing::error!(reason, "reload-refused");
                }
            }
        }
        // Who waits for this may look into the log.
        self.log.flush();
        tell_manager(&[NotifyState::Ready]);
    }

    fn read(&self) -> Result<Loaded, Vec<String>> {
        let wanted = Wanted {
            file: self.loaded.file.clone(),
            data_dir: self.loaded.data_dir_of_command_line(),
        };
        let loaded = config::load(&wanted, std::env::vars_os())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if loaded.mode != self.loaded.mode {
            let to = match loaded.mode {
                Mode::Standalone => "a configuration is missing",
                Mode::Configured => "a configuration for the standalone mode needs a restart",
            };
            return Err(vec![to.into()]);
        }
        Ok(loaded)
    }

    /// Certificates first: with bad ones nothing else is taken up either.
    fn take_up(&mut self, mut loaded: Loaded, live: &Live) {
        let read = certificate::read_or_make(&loaded.config)
            .and_then(|pair| pair.certificates().map(|certificates| (pair, certificates)));
        let (pair, certificates) = match read {
            Ok(read) => read,
            Err(reason) => return tracing::error!(reason, "reload-refused"),
        };
        if let Err(error) = self.log.configure(&loaded.config) {
            let target = &loaded.config.log_target;
            return tracing::error!(target = %target, %error, "reload-refused");
        }
        tell_certificate(&pair.chain, pair.origin, loaded.mode);
        self.tls.replace(certificates);
        let mut changed = Vec::new();
        for row in ROWS {
            let (old, new) = (row.read(&self.loaded.config), row.read(&loaded.config));
            if old == new {
                continue;
            }
            match row.change {
                Change::Live => changed.push(row.name),
                Change::Restart => {
                    tracing::warn!(option = row.name, "needs-restart");
                    row.write(&mut loaded.config, old);
                }
            }
        }
        let policy = Arc::new(policy(&loaded.config, &self.plan, self.secret));
        live.broadcast(|| Command::Reload(policy.clone()));
        self.loaded = loaded;
        tracing::info!(changed = changed.join(","), "reloaded");
    }
}
