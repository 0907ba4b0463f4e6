//! Frames of WebSocket in any pieces: `cargo fuzz run websocket -s none` works on the stable
//! compiler.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::websocket(input));
