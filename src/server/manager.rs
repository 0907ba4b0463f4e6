//! Word to the service manager that started us (`Type=notify`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// Where the manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells the manager, where there is one that wants to know.
pub fn tell_manager(states: &[NotifyState<'_>]) {
    let socket = std::env::var_os(VARIABLE);
    let told = match socket.as_deref().and_then(abstract_name) {
        Some(name) => tell_abstract(name, states),
        None => sd_notify::notify(states),
    };
    if let Err(error) = told {
        tracing::warn!(%error, "notify-failed");
    }
}

/// The name of a socket without a file, which the crate does not know: `@name`.
fn abstract_name(socket: &OsStr) -> Option<&[u8]> {
    socket.as_bytes().strip_prefix(b"@")
}

fn tell_abstract(name: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_a_file_is_reached() {
        let name = format!("encke-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("bound");
        let socket = format!("@{name}");
        let name = abstract_name(OsStr::new(&socket)).expect("abstract");
        tell_abstract(name, &[NotifyState::Ready, NotifyState::Stopping]).expect("sent");
        let mut octets = [0; 64];
        let length = manager.recv(&mut octets).expect("received");
        assert_eq!(&octets[..length], b"READY=1\nSTOPPING=1\n");
        assert_eq!(abstract_name(OsStr::new("/run/systemd/notify")), None);
    }
}
