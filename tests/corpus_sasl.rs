//! Replays what the fuzzer of SASL messages starts from and has found.

use std::fs;

#[path = "../fuzz/fuzz_targets/sasl/exercise.rs"]
mod exercise;

#[test]
fn the_corpus_of_sasl_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/sasl");
    let mut inputs = 0;
    for entry in fs::read_dir(corpus).expect("the corpus is part of the repository") {
        let path = entry.expect("it can be listed").path();
        let input = fs::read(&path).expect("it can be read");
        let is_right = path.to_string_lossy().contains("-known");
        assert_eq!(exercise::run(&input), is_right, "{}", path.display());
        for end in 0..input.len() {
            exercise::run(&input[..end]);
        }
        inputs += 1;
    }
    assert!(inputs > 0, "an empty corpus proves nothing");
}
