//! SASL messages and records of keys.

#![no_main]

#[path = "sasl/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    exercise::run(input);
});
