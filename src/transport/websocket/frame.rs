//! Reading client frames (RFC 6455 section 5): heads, masks, fragments, control frames in between.
//!
//! Payloads are unmasked into the message as they come, so each octet is looked at once however the
//! input is cut. What has to stay with the link is the beginning of a head or of a control frame,
//! less than [`UNREAD_OCTETS_MAX`].

use super::{
    CONTROL_OCTETS_MAX, Code, FIN, LENGTH, LENGTH_16, LENGTH_64, MASKED, Opcode, RESERVED,
};

/// What one message may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets of its payload, over all fragments; more is refused as soon as a head says so.
    pub message_octets_max: usize,
    /// Frames that it may come in; more is refused even if they are empty.
    pub fragments_max: u32,
}

/// What [`Decoder::next`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is taken that can be; what is left is the beginning of a frame.
    Incomplete,
    /// The message is whole, unmasked, and text is UTF-8.
    Message(Kind),
    /// To be answered by [`write_pong`](super::encode::write_pong) with the same payload.
    Ping(Payload),
    Pong(Payload),
    /// The last frame: to be answered by [`write_close`](super::encode::write_close), unless that
    /// was said before, with this code. What follows is not read.
    Close(Option<Code>),
}

/// What a message is (section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// What a ping or pong carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    octets: [u8; CONTROL_OCTETS_MAX],
    length: u8,
}

impl Payload {
    /// The octets, unmasked.
    pub fn as_slice(&self) -> &[u8] {
        let octets = self.octets.get(..usize::from(self.length));
        octets.unwrap_or_default()
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.as_slice().escape_ascii())
    }
}

/// Why a link is closed: what the peer's frames broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A reserved bit, without an extension that means something by it.
    ReservedBits,
    /// An opcode that means nothing.
    ReservedOpcode,
    /// A client frame without mask (section 5.1).
    Unmasked,
    /// A control frame in fragments (section 5.5).
    FragmentedControl,
    /// A control frame of more than 125 octets.
    LongControl,
    /// A length that could be written in fewer octets, or is above 2^63 (section 5.2).
    Length,
    /// A continuation of nothing (section 5.4).
    NothingToContinue,
    /// A new message inside a fragmented one.
    Interrupted,
    /// More than [`Bounds::message_octets_max`].
    TooLarge,
    /// More than [`Bounds::fragments_max`].
    TooManyFragments,
    /// Text or a reason that is not UTF-8 (section 8.1).
    NotUtf8,
    /// A close frame of one octet, or with a code that nobody may send.
    CloseCode,
}

impl Refusal {
    /// What goes into our close frame.
    pub const fn code(self) -> Code {
        match self {
            Self::TooLarge => Code::TOO_LARGE,
            Self::TooManyFragments => Code::POLICY_VIOLATION,
            Self::NotUtf8 => Code::INVALID_PAYLOAD,
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::Unmasked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::Length
            | Self::NothingToContinue
            | Self::Interrupted
            | Self::CloseCode => Code::PROTOCOL_ERROR,
        }
    }

    /// The reason beside the code.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits",
            Self::ReservedOpcode => "reserved opcode",
            Self::Unmasked => "a frame without mask",
            Self::FragmentedControl => "a control frame in fragments",
            Self::LongControl => "a long control frame",
            Self::Length => "a length in a wrong form",
            Self::NothingToContinue => "nothing to continue",
            Self::Interrupted => "a message inside another",
            Self::TooLarge => "message too large",
            Self::TooManyFragments => "too many fragments",
            Self::NotUtf8 => "text is not UTF-8",
            Self::CloseCode => "a wrong close code",
        }
    }
}

/// Reads the frames of one link. Needed as long as it is not [idle](Self::is_idle); a fresh one
/// goes on as well as one that has completed a message.
#[derive(Debug, Default)]
pub struct Decoder {
    message: Option<Assembly>,
    frame: Option<Frame>,
}

/// A few words beside a message that is not complete.
const _: () = assert!(size_of::<Decoder>() <= 48);

/// A message of which a fragment came.
#[derive(Debug)]
struct Assembly {
    kind: Kind,
    fragments: u32,
    /// How much of the payload is known to be whole characters.
    checked: usize,
}

/// A data frame whose head was read.
#[derive(Debug)]
struct Frame {
    last: bool,
    /// Octets that are due.
    rest: usize,
    mask: Mask,
}

/// Turned so that its first octet is for the next of the payload (section 5.3).
type Mask = [u8; 4];

impl Decoder {
    /// A decoder between two messages.
    pub const fn new() -> Self {
        Self {
            message: None,
            frame: None,
        }
    }

    /// Whether nothing of a message has come.
    pub const fn is_idle(&self) -> bool {
        self.message.is_none()
    }

    /// Takes octets from the front of `bytes`: how many, and what they came to.
    ///
    /// The payload of data frames is appended to `message`, which is empty when a message begins
    /// and stays with the decoder until it is whole. Call again, with what was not taken, until
    /// [`Step::Incomplete`]; then with those octets and more behind them.
    ///
    /// # Errors
    /// Whatever breaks the rules or `bounds`. The link must be closed with [`Refusal::code`];
    /// neither decoder nor message is good for anything any more.
    pub fn next(
        &mut self,
        bytes: &[u8],
        message: &mut Vec<u8>,
        bounds: &Bounds,
    ) -> Result<(usize, Step), Refusal> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.frame.is_some() {
                at += self.take_payload(rest, message)?;
                match self.end_frame() {
                    None => return Ok((at, Step::Incomplete)),
                    Some(Ended::Fragment) => continue,
                    Some(Ended::Message(kind)) => return Ok((at, Step::Message(kind))),
                }
            }
            let Some(head) = self.head(rest, message.len(), bounds)? else {
                return Ok((at, Step::Incomplete));
            };
            let payload = rest.get(head.octets..).unwrap_or_default();
            if !head.opcode.is_control() {
                at += head.octets;
                self.begin_frame(&head);
                continue;
            }
            let Some(payload) = payload.get(..head.payload_octets) else {
                return Ok((at, Step::Incomplete));
            };
            at += head.octets + head.payload_octets;
            return Ok((at, control(&head, payload)?));
        }
    }

    /// The head of the frame at the start of `bytes`; `None` when it is not all there. Each octet
    /// is judged before those behind it, so that the outcome does not depend on how many came.
    fn head(&self, bytes: &[u8], held: usize, bounds: &Bounds) -> Result<Option<Head>, Refusal> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = self.opcode(first, bounds)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(Refusal::Unmasked);
        }
        let length = second & LENGTH;
        if opcode.is_control() && length >= LENGTH_16 {
            return Err(Refusal::LongControl);
        }
        let (payload_octets, mask_at) = match length {
            LENGTH_16 => match array(bytes, 2) {
                Some(length) => (u64::from(u16::from_be_bytes(length)), 4),
                None => return Ok(None),
            },
            LENGTH_64 => match array(bytes, 2) {
                Some(length) => (u64::from_be_bytes(length), 10),
                None => return Ok(None),
            },
            length => (u64::from(length), 2),
        };
        let is_shortest = match length {
            LENGTH_16 => payload_octets >= u64::from(LENGTH_16),
            LENGTH_64 => payload_octets > u64::from(u16::MAX) && payload_octets >> 63 == 0,
            _ => true,
        };
        if !is_shortest {
            return Err(Refusal::Length);
        }
        let payload_octets = usize::try_from(payload_octets).unwrap_or(usize::MAX);
        let whole = held.saturating_add(payload_octets);
        if !opcode.is_control() && whole > bounds.message_octets_max {
            return Err(Refusal::TooLarge);
        }
        let head = array(bytes, mask_at).map(|mask| Head {
            opcode,
            last: first & FIN != 0,
            payload_octets,
            mask,
            octets: mask_at + 4,
        });
        Ok(head)
    }

    /// All that the first octet of a frame can break.
    fn opcode(&self, first: u8, bounds: &Bounds) -> Result<Opcode, Refusal> {
        if first & RESERVED != 0 {
            return Err(Refusal::ReservedBits);
        }
        let opcode = Opcode::read(first).ok_or(Refusal::ReservedOpcode)?;
        let fragments = match (opcode, &self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                return match first & FIN {
                    0 => Err(Refusal::FragmentedControl),
                    _ => Ok(opcode),
                };
            }
            (Opcode::Continuation, Some(message)) => message.fragments,
            (Opcode::Continuation, None) => return Err(Refusal::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Refusal::Interrupted),
            (Opcode::Text | Opcode::Binary, None) => 0,
        };
        match fragments < bounds.fragments_max {
            true => Ok(opcode),
            false => Err(Refusal::TooManyFragments),
        }
    }

    fn begin_frame(&mut self, head: &Head) {
        let kind = match head.opcode {
            Opcode::Binary => Kind::Binary,
            _ => Kind::Text,
        };
        let message = self.message.get_or_insert(Assembly {
            kind,
            fragments: 0,
            checked: 0,
        });
        message.fragments += 1;
        self.frame = Some(Frame {
            last: head.last,
            rest: head.payload_octets,
            mask: head.mask,
        });
    }

    /// Moves what there is of the frame in hand into the message.
    fn take_payload(&mut self, bytes: &[u8], message: &mut Vec<u8>) -> Result<usize, Refusal> {
        let (Some(frame), Some(assembly)) = (&mut self.frame, &mut self.message) else {
            return Ok(0);
        };
        let there = bytes.get(..frame.rest).unwrap_or(bytes);
        let start = message.len();
        message.extend_from_slice(there);
        unmask(
            message.get_mut(start..).unwrap_or_default(),
            &mut frame.mask,
        );
        frame.rest -= there.len();
        if assembly.kind == Kind::Text {
            // Characters may be cut between frames, but not by the end of the message.
            let is_end = frame.last && frame.rest == 0;
            let unchecked = message.get(assembly.checked..).unwrap_or_default();
            assembly.checked += match str::from_utf8(unchecked) {
                Ok(_) => unchecked.len(),
                Err(error) if error.error_len().is_none() && !is_end => error.valid_up_to(),
                Err(_) => return Err(Refusal::NotUtf8),
            };
        }
        Ok(there.len())
    }

    /// Leaves the frame in hand. `None`: something of it is due.
    fn end_frame(&mut self) -> Option<Ended> {
        let frame = self.frame.take_if(|frame| frame.rest == 0)?;
        if !frame.last {
            return Some(Ended::Fragment);
        }
        let message = self.message.take()?;
        Some(Ended::Message(message.kind))
    }
}

/// What a data frame was.
enum Ended {
    Fragment,
    Message(Kind),
}

/// What is in front of a payload.
struct Head {
    opcode: Opcode,
    last: bool,
    payload_octets: usize,
    mask: Mask,
    /// Of the head itself.
    octets: usize,
}

/// A whole control frame.
fn control(head: &Head, masked: &[u8]) -> Result<Step, Refusal> {
    let mut payload = Payload {
        octets: [0; CONTROL_OCTETS_MAX],
        length: masked.len() as u8,
    };
    let mut mask = head.mask;
    for (octet, masked) in payload.octets.iter_mut().zip(masked) {
        *octet = *masked;
    }
    unmask(&mut payload.octets, &mut mask);
    match head.opcode {
        Opcode::Ping => Ok(Step::Ping(payload)),
        Opcode::Close => Ok(Step::Close(close_code(payload.as_slice())?)),
        _ => Ok(Step::Pong(payload)),
    }
}

/// The code of a close frame, whose reason must be text (section 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<Code>, Refusal> {
    if payload.is_empty() {
        return Ok(None);
    }
    let code = array(payload, 0).map(u16::from_be_bytes);
    let code = code.and_then(Code::new).ok_or(Refusal::CloseCode)?;
    match str::from_utf8(payload.get(2..).unwrap_or_default()) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Refusal::NotUtf8),
    }
}

/// Section 5.3, eight octets at a time.
fn unmask(octets: &mut [u8], mask: &mut Mask) {
    let turn = octets.len() % mask.len();
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = octets.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (octet, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *octet ^= mask;
    }
    mask.rotate_left(turn);
}

/// `N` octets at `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Octets of the longest control frame, the largest thing that is taken as a whole.
pub const UNREAD_OCTETS_MAX: usize = 2 + 4 + CONTROL_OCTETS_MAX;

#[cfg(test)]
mod tests;
