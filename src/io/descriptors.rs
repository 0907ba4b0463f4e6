//! A descriptor table of one's own, so that accept and close meet no other core and the limit of
//! the process becomes a limit per shard.

use std::io;
use std::os::fd::RawFd;

use rustix::thread::UnshareFlags;

/// Keeps the process's signals away from the calling thread.
///
/// A handler that ran here would write to the number of its pipe, which in a table of one's own is
/// nothing, or a client's socket.
///
/// # Errors
/// When the kernel refuses.
#[allow(unsafe_code)]
pub(super) fn leave_signals_to_others() -> io::Result<()> {
    // SAFETY: both calls write to the set that is passed to them and to this thread's mask alone.
    let failed = unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut())
    };
    match failed {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Gives the calling thread a descriptor table of its own, with `keep` and the standard streams in
/// it and nothing else.
///
/// # Errors
/// When the kernel refuses, or `/proc` is not there to tell what is open.
#[allow(unsafe_code)]
pub(super) fn own(keep: &[RawFd]) -> io::Result<()> {
    // SAFETY: a table of its own changes nothing for descriptors that exist: each number means the
    // same as before in both tables. What is opened from now on is known to this thread only, and
    // this thread gives descriptors away by SCM_RIGHTS only.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES)? };
    for descriptor in open_descriptors()? {
        if descriptor > 2 && !keep.contains(&descriptor) {
            close(descriptor);
        }
    }
    Ok(())
}

/// Closes the copies that this thread's table holds of what now belongs to others.
pub(super) fn give_up(descriptors: &[RawFd]) {
    for descriptor in descriptors {
        close(*descriptor);
    }
}

#[allow(unsafe_code)]
fn close(descriptor: RawFd) {
    // SAFETY: the number is open in this thread's table, where nothing that this thread can reach
    // owns it: its owner lives on a thread with another table, in which it stays open.
    unsafe { rustix::io::close(descriptor) };
}

/// What is open in this thread's table; the listing's own descriptor is closed again.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/thread-self/fd")? {
        if let Some(number) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            open.push(number);
        }
    }
    // The listing shows itself: it is the one that is closed by now.
    open.retain(|descriptor| is_open(*descriptor));
    Ok(open)
}

#[allow(unsafe_code)]
fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: asking for the flags of a number neither closes nor changes anything.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    rustix::io::fcntl_getfd(borrowed).is_ok()
}
