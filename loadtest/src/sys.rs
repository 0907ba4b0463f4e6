//! The few things that need the kernel's own words: private descriptor tables, limits, the machine.

use std::io;
use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;

/// Gives the calling thread a descriptor table of its own, and so a limit of its own.
///
/// Whoever calls this must make every descriptor that the thread uses afterwards in that thread,
/// and must not receive descriptors that other threads make later.
#[allow(unsafe_code)]
pub fn private_descriptors() -> io::Result<()> {
    // SAFETY: the worker calls this before it makes its poll and its sockets; it uses only those,
    // and it hands none of them to another thread, so no descriptor is used in a table it is not
    // in.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }?;
    Ok(())
}

/// Lets the kernel choose the local port at `connect`, when it knows the destination, so that one
/// port serves many destinations.
#[allow(unsafe_code)]
pub fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the whole call, the option takes one int, and the pointer
    // and the length describe exactly that.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Raises the soft limit of descriptors to the hard one; returns it.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |n| n as usize)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn kernel() -> String {
    let name = rustix::system::uname();
    format!(
        "{} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy()
    )
}

/// How many ports the kernel hands out by itself; a source address carries that many connections to
/// one destination.
pub fn ephemeral_ports() -> usize {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let mut numbers = range
        .iter()
        .flat_map(|line| line.split_whitespace())
        .filter_map(|number| number.parse::<usize>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(low), Some(high)) if high > low => high - low,
        _ => 28_000,
    }
}
