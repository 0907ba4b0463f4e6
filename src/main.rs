//! The command line of encke.

#![deny(unsafe_code)]

use std::process::ExitCode;

use encke::io::Unused;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pages that a burst left behind go back to the system after ten seconds, by whichever thread
/// allocates next, or by a reactor that rests: reactors stay without company on their cores.
const MALLOC_CONF: &[u8] = b"background_thread:false,dirty_decay_ms:10000,muzzy_decay_ms:0\0";

/// A pointer that is read once, by the allocator, before `main`.
#[repr(transparent)]
struct Text(&'static u8);

/// What jemalloc reads its settings from: a C string under this name.
// Safe to export: the allocator is the only one to define or read this name, and the octets
// behind the pointer are constant and end with a zero.
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF_POINTER: Text = Text(&MALLOC_CONF[0]);

/// Gives back pages of all arenas: all that are free, or those whose ten seconds are over. An idle
/// server allocates nothing, so nobody else would.
#[allow(unsafe_code)]
fn give_pages_back(pages: Unused) {
    // 4096 means all of them.
    let name = match pages {
        Unused::Now => c"arena.4096.purge",
        Unused::Long => c"arena.4096.decay",
    };
    let none = std::ptr::null_mut();
    // SAFETY: the name is a C string, and these controls read and write no value. That one fails
    // would mean that there is no such control, and nothing is given back then.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), none, none.cast(), none, 0) };
}

fn main() -> ExitCode {
    // Only the first provider of a process counts; nobody was before us.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    encke::server::cli::run(give_pages_back).into()
}
