//! Requests of a link in any pieces: `cargo fuzz run http -s none` works on the stable compiler.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::http(input));
