//! The simulator: random clients, links, storage, crashes and limits, all from a seed.
//!
//! `ENCKE_SEEDS=N` runs more seeds, `ENCKE_SEED=k` only that one, with its history.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use encke::testing::{Keeping, Plant};
use page::Slip;
use run::{Pages, Style, play};

#[path = "sim/bosh.rs"]
mod bosh;
#[path = "sim/device.rs"]
mod device;
#[path = "sim/http.rs"]
mod http;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/page.rs"]
mod page;
#[path = "sim/run.rs"]
mod run;
mod support;

/// Seeds of an ordinary `cargo test`, and so of every run of CI: a minute of one core.
const SEEDS: u64 = 300;
/// After so many failures there is nothing more to learn.
const FAILURES_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
}

#[test]
fn nothing_is_lost_reordered_or_left_behind() {
    if let Some(seed) = number("ENCKE_SEED") {
        return play(seed, Style::of(seed));
    }
    let last = number("ENCKE_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(1), Mutex::new(Vec::new()));
    let failures = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let play_some = || {
        while failures().len() < FAILURES_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return;
            }
            if catch_unwind(|| play(seed, Style::of(seed))).is_err() {
                eprintln!("seed {seed} failed: ENCKE_SEED={seed} replays it");
                failures().push(seed);
            }
        }
    };
    // A seed depends on nothing but itself, so each core plays its own.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(play_some);
        }
    });
    let failed = failures();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; ENCKE_SEED replays one"
    );
}

/// Whether any of some runs with a bug put in on purpose fails.
fn is_found(plant: Plant, pages: Pages, slip: Slip) -> bool {
    (1..=60).any(|seed| {
        let style = Style {
            plant,
            pages,
            slip,
            keeping: Keeping::Device,
            crashes: 10,
            tight: false,
            refuses: false,
            ..Style::of(seed)
        };
        catch_unwind(AssertUnwindSafe(|| play(seed, style))).is_err()
    })
}

#[test]
fn a_planted_bug_is_found() {
    for pages in [Pages::Nobody, Pages::Only] {
        assert!(
            is_found(Plant::AnswersEarly, pages, Slip::None),
            "acknowledging before the journal has it"
        );
        assert!(
            is_found(Plant::ForgetsRows, pages, Slip::None),
            "an offline store that forgets"
        );
    }
}

/// As if the server did that to pages.
#[test]
fn a_careless_page_is_found() {
    for slip in [
        Slip::SkipsEvents,
        Slip::RenamesMessages,
        Slip::LosesMessages,
    ] {
        assert!(is_found(Plant::Nothing, Pages::Only, slip), "{slip:?}");
    }
}
