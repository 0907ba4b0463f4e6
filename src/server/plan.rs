//! How many shards a machine gets, and whether they share a table of descriptors.

use super::config::Config;

/// What the configuration and the machine come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub shards: u16,
    /// Connections at a time.
    pub links_max: usize,
    /// Whether each shard has a descriptor table of its own.
    pub private_descriptors: bool,
}

/// What the machine gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub cores: usize,
    /// The hard limit of descriptors of one table (`RLIMIT_NOFILE`).
    pub descriptors_max: u64,
}

/// Descriptors of a table that are not links: files, listeners, wakers, pairs between shards.
const DESCRIPTORS_KEPT: u64 = 500;
/// Listeners of one port get links unevenly; so much room is left in each table, in percent.
const UNEVEN_PERCENT: u64 = 110;
/// More links than anybody has memory for.
const LINKS_MAX: u64 = 10_000_000;
/// More threads than a machine has.
const SHARDS_MAX: u64 = 1_024;

impl Machine {
    /// This machine, as this process may use it.
    pub fn here() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            descriptors_max: limit.maximum.unwrap_or(u64::MAX),
        }
    }

    /// Links that one table holds.
    fn links_per_table(self) -> u64 {
        let kept = DESCRIPTORS_KEPT.min(self.descriptors_max / 2);
        self.descriptors_max - kept
    }
}

impl Plan {
    /// Decides what the configuration leaves open.
    ///
    /// # Errors
    /// What of the configuration does not fit the machine, and how to mend it.
    pub fn new(config: &Config, machine: Machine) -> Result<Self, String> {
        let table = machine.links_per_table();
        let cores = machine.cores as u64;
        let wanted = u64::try_from(config.limits.links_max).unwrap_or(LINKS_MAX);
        let shared_only = config.private_descriptors == Some(false);
        let links = match wanted {
            0 if shared_only => table.min(LINKS_MAX),
            0 => default_links(table, config, cores),
            wanted => wanted,
        };
        let fits_shared = links <= table;
        if shared_only && !fits_shared {
            return Err(format!(
                "limits.links = {links} does not fit a shared descriptor table of {}; set \
                 private_descriptors = \"auto\", or raise RLIMIT_NOFILE (LimitNOFILE= of systemd)",
                machine.descriptors_max
            ));
        }
        let private = config.private_descriptors.unwrap_or(!fits_shared);
        let tables = if private { tables_for(links, table) } else { 1 };
        let shards = match u64::from(config.shards) {
            0 => cores.max(tables).min(SHARDS_MAX),
            count => count,
        };
        if private && shards < tables {
            return Err(format!(
                "limits.links = {links} needs {tables} shards here: each has one descriptor table \
                 of {}; raise shards.count or RLIMIT_NOFILE, or lower limits.links",
                machine.descriptors_max
            ));
        }
        Ok(Self {
            shards: u16::try_from(shards).unwrap_or(u16::MAX),
            links_max: usize::try_from(links).unwrap_or(usize::MAX),
            private_descriptors: private,
        })
    }
}

/// What one table per shard holds, where nobody asks for a number.
fn default_links(table: u64, config: &Config, cores: u64) -> u64 {
    let tables = match config.shards {
        0 => cores,
        count => u64::from(count),
    };
    (table.saturating_mul(tables).saturating_mul(100) / UNEVEN_PERCENT).clamp(1, LINKS_MAX)
}

fn tables_for(links: u64, table: u64) -> u64 {
    links
        .saturating_mul(UNEVEN_PERCENT)
        .div_ceil(table.saturating_mul(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(links: usize, shards: u16, private: Option<bool>) -> Result<Plan, String> {
        let mut config = Config {
            shards,
            private_descriptors: private,
            ..Config::default()
        };
        config.limits.links_max = links;
        Plan::new(
            &config,
            Machine {
                cores: 2,
                descriptors_max: 20_000,
            },
        )
    }

    #[test]
    fn a_million_links_get_sixty_tables_of_twenty_thousand() {
        let found = plan(1_000_000, 0, None).expect("fits");
        assert_eq!((found.shards, found.private_descriptors), (57, true));
    }

    #[test]
    fn few_links_share_one_table() {
        let found = plan(10_000, 0, None).expect("fits");
        assert_eq!((found.shards, found.private_descriptors), (2, false));
    }

    #[test]
    fn the_default_is_what_one_table_per_core_holds() {
        let found = plan(0, 0, None).expect("fits");
        assert_eq!((found.shards, found.links_max), (2, 35_454));
        assert!(found.private_descriptors);
        assert_eq!(
            plan(0, 0, Some(false)).map(|found| found.links_max),
            Ok(19_500)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_remedy() {
        let refused = plan(100_000, 0, Some(false)).expect_err("too many");
        assert!(refused.contains("private_descriptors"), "{refused}");
        let refused = plan(100_000, 2, None).expect_err("too few shards");
        assert!(refused.contains("needs 6 shards"), "{refused}");
    }
}
