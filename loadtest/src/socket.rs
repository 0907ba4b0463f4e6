//! Sockets and the octets in them.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::failure::Failure;
use crate::sys;

/// Begins to connect, from a source address where one is given.
pub fn open(target: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        sys::bind_address_no_port(&socket)?;
        socket.bind(&source.into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Makes the end of this connection a reset, as that of a machine that is gone.
pub fn reset_on_close(socket: &TcpStream) {
    // Where it fails the connection is closed in the usual way, which is a cut too.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Whether the socket has met itself: nobody listens at the port and the kernel chose the same one
/// for our end, as TCP allows.
pub fn is_its_own_peer(socket: &TcpStream) -> bool {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer,
        _ => false,
    }
}

/// How much the socket took.
pub fn write(socket: &mut TcpStream, octets: &[u8]) -> Result<usize, Failure> {
    let mut written = 0;
    while written < octets.len() {
        match socket.write(&octets[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Failure::new(
                    "connection lost while writing",
                    error.to_string(),
                ));
            }
        }
    }
    Ok(written)
}
