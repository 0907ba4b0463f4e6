//! What is counted by the transport that carries a session.

use std::ops::Index;

use super::session::{Flags, Session};
use crate::transport::framing::Framing;

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    WebSocket,
    Bosh,
    /// encke's own protocol, whatever its readers read by.
    Json,
    /// It waits for its client.
    None,
}

impl Transport {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::Tcp,
        Self::WebSocket,
        Self::Bosh,
        Self::Json,
        Self::None,
    ];

    /// Its name for the administrator.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "websocket",
            Self::Bosh => "bosh",
            Self::Json => "json",
            Self::None => "none",
        }
    }
}

impl Session {
    /// What carries it now.
    pub fn transport(&self) -> Transport {
        match (self.link, self.queue.framing()) {
            (None, _) => Transport::None,
            // Of streams without a socket, only those of JSON sessions are told so promptly.
            (Some(link), _) if link.is_marked() => match self.flags.has(Flags::PROMPT) {
                true => Transport::Json,
                false => Transport::Bosh,
            },
            (Some(_), Framing::WebSocket) => Transport::WebSocket,
            (Some(_), Framing::Stream) => Transport::Tcp,
        }
    }
}

/// One number for each transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTransport([u64; Transport::ALL.len()]);

impl ByTransport {
    /// One more.
    pub fn count(&mut self, transport: Transport) {
        self.0[transport as usize] += 1;
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<Transport> for ByTransport {
    type Output = u64;

    fn index(&self, transport: Transport) -> &u64 {
        &self.0[transport as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transport_has_a_place_and_a_name_of_its_own() {
        let mut counted = ByTransport::default();
        for (place, transport) in Transport::ALL.into_iter().enumerate() {
            assert_eq!(transport as usize, place);
            counted.count(transport);
        }
        assert!(Transport::ALL.iter().all(|each| counted[*each] == 1));
        assert_eq!(counted.total(), Transport::ALL.len() as u64);
        let mut names = Transport::ALL.map(Transport::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Transport::ALL.len());
    }
}
