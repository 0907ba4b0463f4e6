//! One connection of a session: its socket, and TLS on it.

use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::Buffers;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::socket;
use crate::tls::Tls;

/// Which connection of a session. Most have one; where one waits for the server, requests go over
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Main,
    Side,
}

/// No session has a key as large.
const SIDE: usize = 1 << (usize::BITS - 2);

impl Which {
    pub const ALL: [Self; 2] = [Self::Main, Self::Side];

    pub fn token(self, key: usize) -> Token {
        match self {
            Self::Main => Token(key),
            Self::Side => Token(key | SIDE),
        }
    }

    /// The session and the connection that a token is of.
    pub fn of(Token(token): Token) -> (usize, Self) {
        match token & SIDE {
            0 => (token, Self::Main),
            _ => (token & !SIDE, Self::Side),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    /// In the TLS handshake.
    Securing,
    Open,
    /// The server has closed it while nothing was asked for. It is opened again when it is needed.
    Closed,
}

pub(super) struct Lane {
    pub socket: TcpStream,
    pub state: State,
    pub tls: Option<Box<Tls>>,
    /// Octets of an item that has not come whole.
    pub input: Vec<u8>,
    /// Octets that the socket did not take.
    pub output: Vec<u8>,
}

impl Lane {
    /// Begins to connect.
    pub fn open(
        registry: &Registry,
        target: SocketAddr,
        source: Option<SocketAddr>,
        token: Token,
    ) -> std::io::Result<Self> {
        let mut socket = socket::open(target, source)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut socket, token, interest)?;
        Ok(Self {
            socket,
            state: State::Connecting,
            tls: None,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Securing | State::Open)
    }

    pub fn close(&mut self, registry: &Registry) {
        let _ = registry.deregister(&mut self.socket);
        self.state = State::Closed;
    }

    pub fn begin_tls(&mut self, plan: &Plan, wire: &mut Vec<u8>) -> Result<(), Failure> {
        let (config, name) = plan
            .tls
            .as_ref()
            .expect("a plan with TLS has its configuration");
        let mut tls = Tls::new(config, name.clone())?;
        tls.receive(&mut [], &mut Vec::new(), wire)?;
        self.tls = Some(Box::new(tls));
        self.state = State::Securing;
        Ok(())
    }

    /// Sends what is in clear, behind what TLS itself has written. Both are empty then.
    pub fn send(&mut self, clear: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), Failure> {
        let octets = match &mut self.tls {
            Some(tls) => {
                if !clear.is_empty() {
                    tls.send(clear, wire)?;
                    clear.clear();
                }
                wire
            }
            None => clear,
        };
        if octets.is_empty() {
            return Ok(());
        }
        let written = if self.output.is_empty() {
            socket::write(&mut self.socket, octets)?
        } else {
            0
        };
        self.output.extend_from_slice(&octets[written..]);
        octets.clear();
        Ok(())
    }

    /// Sends what the socket did not take before.
    pub fn send_pending(&mut self) -> Result<(), Failure> {
        if self.output.is_empty() {
            return Ok(());
        }
        let written = socket::write(&mut self.socket, &self.output)?;
        self.output.drain(..written);
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Keeps what has not come whole.
    pub fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.input = rest.to_vec();
        } else if self.input.capacity() > 0 {
            self.input = Vec::new();
        }
    }
}

impl Buffers {
    /// Sends the frames, and what TLS has written, on a connection.
    pub fn send_frames(&mut self, lane: &mut Lane) -> Result<(), Failure> {
        lane.send(&mut self.frames, &mut self.wire)
    }
}
