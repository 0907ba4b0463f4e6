//! Replays what fuzzing has found worth keeping.

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/json.rs"]
mod json;

#[test]
fn xml() {
    replay("xml", checks::xml);
}

#[test]
fn jid() {
    replay("jid", checks::jid);
}

#[test]
fn websocket() {
    replay("websocket", checks::websocket);
}

#[test]
fn http() {
    replay("http", checks::http);
}

#[test]
fn bosh() {
    replay("bosh", checks::bosh);
}

#[test]
fn json() {
    replay("json", json::json);
}

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 10, "the corpus of {target} is missing");
}
