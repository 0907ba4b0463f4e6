//! Sessions of JSON: `cargo fuzz run json -s none` works on the stable compiler.
#![no_main]

#[path = "../json.rs"]
mod json;

libfuzzer_sys::fuzz_target!(|input: &[u8]| json::json(input));
