//! Every conversation of `tests/scripts`, on every stage that can play it.

use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};

use encke::testing::{Keeping, Network, Plan};
use support::bosh::Bosh;
use support::runner::play;
use support::script::Script;
use support::sockets::Sockets;
use support::stage::{Stage, Virtual, limits, plan};
use support::websocket::WebSockets;

mod support;

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "xmpp")
    });
    let wanted = std::env::var("ENCKE_SCRIPT").unwrap_or_default();
    paths.retain(|path| path.display().to_string().contains(&wanted));
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| Script::read(path)).collect()
}

fn plan_of(script: &Script, plan: Plan) -> Plan {
    Plan {
        accounts: script.accounts(),
        limits: limits(&script.limits),
        ..plan
    }
}

fn play_all(name: &str, base: &Plan) {
    play_each(scripts().into_iter(), name, |script| {
        Box::new(Virtual::new(plan_of(script, base.clone())))
    });
}

fn play_each(
    scripts: impl Iterator<Item = Script>,
    name: &str,
    stage: impl Fn(&Script) -> Box<dyn Stage> + RefUnwindSafe,
) {
    let mut failures = Vec::new();
    for script in scripts {
        let played = std::panic::catch_unwind(|| {
            play(&script, &mut *stage(&script), name);
        });
        if played.is_err() {
            failures.push(script.path.display().to_string());
        }
    }
    assert!(
        failures.is_empty(),
        "{} failed on {name}: {failures:#?}",
        failures.len()
    );
}

#[test]
fn on_one_shard() {
    play_all("one shard", &plan(1, Keeping::Memory, Network::Whole, 1));
}

#[test]
fn on_three_shards() {
    for seed in 1..4 {
        play_all(
            "three shards",
            &plan(3, Keeping::Memory, Network::Whole, seed),
        );
    }
}

#[test]
fn in_pieces_over_a_device() {
    for seed in 1..4 {
        play_all(
            "simulator",
            &plan(3, Keeping::Device, Network::Pieces, seed),
        );
    }
}

/// What only a document that runs over many octets of TCP can show.
const OF_STREAMS: &[&str] = &[
    // Its header declares prefixes; without one nothing is inherited.
    "inherited-prefix",
    // A message that is too large ends the socket with a code of its own.
    "limits-of-stanzas",
    // Their headers have faults that `<open/>` cannot have.
    "login-errors",
];

/// Plays what `excluded` does not name, as a page would.
fn play_over(
    name: &str,
    excluded: &[&[&str]],
    stage: impl Fn(Plan) -> Box<dyn Stage> + RefUnwindSafe,
) {
    for (shards, network) in [
        (1, Network::Whole),
        (3, Network::Whole),
        (3, Network::Pieces),
    ] {
        let plan = plan(shards, Keeping::Memory, network, 1);
        let shown = scripts().into_iter().filter(|script| {
            let stem = script.path.file_stem().unwrap().to_string_lossy();
            !excluded.concat().contains(&&*stem)
        });
        play_each(shown, name, |script| stage(plan_of(script, plan.clone())));
    }
}

#[test]
fn over_websocket() {
    play_over("WebSocket", &[OF_STREAMS], |plan| {
        Box::new(WebSockets::new(plan))
    });
}

/// What of these BOSH cannot show either.
const NOT_IN_REQUESTS: &[&str] = &[
    // What follows a restart waits for its answer.
    "pipelined",
    // A request is a sign of life.
    "silence",
    "silence-answered",
    // A wrapper with such content is no wrapper.
    "stream-errors",
];

#[test]
fn over_bosh() {
    play_over("BOSH", &[OF_STREAMS, NOT_IN_REQUESTS], |plan| {
        Box::new(Bosh::new(plan))
    });
}

#[test]
fn over_sockets() {
    for shards in [1, 3] {
        for script in scripts().iter().filter(|script| !script.is_virtual()) {
            let plan = plan(shards, Keeping::Memory, Network::Whole, 1);
            let mut stage = Sockets::new(&plan_of(script, plan));
            play(script, &mut stage, &format!("sockets, {shards} shards"));
        }
    }
}
