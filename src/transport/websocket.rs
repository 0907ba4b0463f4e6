//! WebSocket (RFC 6455) for servers, and XMPP over it (RFC 7395).
//!
//! [`handshake`] makes a link out of an HTTP request, [`frame`] reads what the client sends,
//! [`encode`] writes what the server sends, [`xmpp`] turns messages into stream items and back. No
//! extension is ever accepted, so the reserved bits are always zero and a payload is what it says.
//!
//! Between two messages a link keeps nothing: a [`frame::Decoder`] in its first state is as good as
//! a new one.

// No panic is reachable from the network.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

/// Server frames.
pub mod encode;
/// Client frames.
pub mod frame;
/// From HTTP to WebSocket.
pub mod handshake;
/// One element, one message.
pub mod xmpp;

/// What a frame is (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// `None`: it is reserved.
    pub(crate) const fn read(octet: u8) -> Option<Self> {
        match octet & OPCODE {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    pub(crate) const fn as_octet(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// Whether it may come between the fragments of a message, and may have none itself.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why a link is closed (RFC 6455 section 7.4). Only codes that may be on the wire can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(u16);

impl Code {
    /// All is done.
    pub const NORMAL: Self = Self(1000);
    /// The server goes down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the rules of frames.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A kind of message that is not taken, such as binary where text is due.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The payload is not what its kind says, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A bound was exceeded that has no code of its own.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A message is too large.
    pub const TOO_LARGE: Self = Self(1009);
    /// Our own fault.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// The server comes back soon.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// There is no room now.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// `None`: nobody may send it, because it is unassigned, for local use or out of range
    /// (sections 7.4.1 and 7.4.2).
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

/// Bits of the first two octets of a frame.
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// Lengths that say that the length follows, in two octets or in eight.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// Octets of a control frame's payload (section 5.5).
const CONTROL_OCTETS_MAX: usize = 125;
