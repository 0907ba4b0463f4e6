//! Bodies of requests (RFC 9112 sections 6 and 7.1), in any pieces.

use super::fields::Spelling;
use super::{Framing, Refusal};

/// Decodes one body. What it decides depends on the octets alone, never on how they were cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    state: State,
    /// Decoded octets that may still come.
    room: u64,
    /// Octets of extensions and trailers so far, for bounds of their own.
    extension_octets: u16,
    trailer_octets: u16,
}

/// What [`Body::take`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Octets of the input that belong to this body.
    pub octets: usize,
    /// Whether it has ended; what follows is the next request.
    pub done: bool,
}

/// What the next octet is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A body by its length, with so many octets to come.
    Sized(u64),
    /// A chunk's size, so far.
    Size {
        value: u64,
        digits: u8,
    },
    /// What follows the size and a semicolon.
    Extension {
        size: u64,
    },
    /// Behind the CR of the line of a chunk of this size.
    LineEnd(u64),
    /// A chunk with so many octets to come.
    Chunk(u64),
    /// Behind a chunk.
    ChunkCr,
    ChunkLf,
    /// At the start of a trailer or of the empty line.
    TrailerStart,
    TrailerName(Spelling),
    TrailerValue,
    TrailerLf,
    /// Behind the CR of the empty line.
    LastLf,
    Done,
    Refused(Refusal),
}

impl Body {
    /// The body that a head announced, of `octets_max` decoded octets at the most.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLong`] when its length is known and too high.
    pub fn new(framing: Framing, octets_max: u64) -> Result<Self, Refusal> {
        let state = match framing {
            Framing::None | Framing::Sized(0) => State::Done,
            Framing::Sized(octets) if octets > octets_max => return Err(Refusal::BodyTooLong),
            Framing::Sized(octets) => State::Sized(octets),
            Framing::Chunked => SIZE,
        };
        Ok(Self {
            state,
            room: octets_max,
            extension_octets: 0,
            trailer_octets: 0,
        })
    }

    /// Whether all of it came.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what belongs to this body from `bytes` and appends the decoded octets to `out`.
    /// Trailers are dropped. Unless it is done afterwards, all of `bytes` was taken.
    ///
    /// # Errors
    /// Final: every later call returns the same. `out` may have what came before the fault.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Taken, Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_done() {
            rest = match self.advance(rest, out) {
                Ok(rest) => rest,
                Err(refusal) => {
                    self.state = State::Refused(refusal);
                    return Err(refusal);
                }
            };
        }
        Ok(Taken {
            octets: bytes.len() - rest.len(),
            done: self.is_done(),
        })
    }

    /// One run of a body or a chunk, or one octet around them; returns what follows.
    fn advance<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> Result<&'b [u8], Refusal> {
        match self.state {
            State::Sized(octets) => {
                let (left, rest) = copy(octets, bytes, out);
                self.state = match left {
                    0 => State::Done,
                    left => State::Sized(left),
                };
                return Ok(rest);
            }
            State::Chunk(octets) => {
                let (left, rest) = copy(octets, bytes, out);
                self.state = match left {
                    0 => State::ChunkCr,
                    left => State::Chunk(left),
                };
                return Ok(rest);
            }
            State::Refused(refusal) => return Err(refusal),
            _ => {}
        }
        if let Some((octet, rest)) = bytes.split_first() {
            self.state = self.step(*octet)?;
            return Ok(rest);
        }
        Ok(bytes)
    }

    fn step(&mut self, octet: u8) -> Result<State, Refusal> {
        Ok(match (self.state, octet) {
            (State::Size { value, digits }, _) => self.size(value, digits, octet)?,
            (State::Extension { size }, b'\r') => State::LineEnd(size),
            (State::Extension { size }, _) => {
                self.extension_octets += 1;
                match is_value_octet(octet) && self.extension_octets <= EXTENSION_OCTETS_MAX {
                    true => State::Extension { size },
                    false => return Err(Refusal::ChunkExtension),
                }
            }
            (State::LineEnd(0), b'\n') => State::TrailerStart,
            (State::LineEnd(size), b'\n') => State::Chunk(size),
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => SIZE,
            (State::LineEnd(_), _) => return Err(Refusal::ChunkSize),
            (State::ChunkCr | State::ChunkLf, _) => return Err(Refusal::ChunkEnd),
            (State::LastLf, b'\n') => State::Done,
            (State::TrailerStart, b'\r') => State::LastLf,
            _ => self.trailer(octet)?,
        })
    }

    /// The size of a chunk goes on or ends. White space around it is what two parties may read
    /// in two ways, and nobody sends it.
    fn size(&mut self, value: u64, digits: u8, octet: u8) -> Result<State, Refusal> {
        if let Some(digit) = char::from(octet).to_digit(16) {
            if digits == SIZE_DIGITS_MAX {
                return Err(Refusal::ChunkSize);
            }
            let value = value << 4 | u64::from(digit);
            return match value > self.room {
                true => Err(Refusal::BodyTooLong),
                false => Ok(State::Size {
                    value,
                    digits: digits + 1,
                }),
            };
        }
        if digits == 0 {
            return Err(Refusal::ChunkSize);
        }
        self.room -= value;
        match octet {
            b'\r' => Ok(State::LineEnd(value)),
            b';' => Ok(State::Extension { size: value }),
            _ => Err(Refusal::ChunkSize),
        }
    }

    /// A trailer goes on: a field that would have changed what the request is may not come now
    /// (RFC 9110 section 6.5.1), though all are dropped here.
    fn trailer(&mut self, octet: u8) -> Result<State, Refusal> {
        self.trailer_octets += 1;
        if self.trailer_octets > TRAILER_OCTETS_MAX {
            return Err(Refusal::TrailersTooLong);
        }
        match (self.state, octet) {
            (State::TrailerName(name), b':') if !name.is_field() => Ok(State::TrailerValue),
            (State::TrailerName(mut name), _) if is_name_octet(octet) => {
                name.push(octet);
                Ok(State::TrailerName(name))
            }
            (State::TrailerStart, _) if is_name_octet(octet) => {
                let mut name = Spelling::EMPTY;
                name.push(octet);
                Ok(State::TrailerName(name))
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value_octet(octet) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::Trailer),
        }
    }
}

/// Copies what there is of `octets`; what is left of them, and what follows.
fn copy<'b>(octets: u64, bytes: &'b [u8], out: &mut Vec<u8>) -> (u64, &'b [u8]) {
    let here = usize::try_from(octets)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let (ours, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
    out.extend_from_slice(ours);
    (octets - ours.len() as u64, rest)
}

/// Octets of a field's value: no control character but the tab.
const fn is_value_octet(octet: u8) -> bool {
    octet == b'\t' || octet >= b' ' && octet != 0x7f
}

/// `tchar` (RFC 9110 section 5.6.2).
const fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        )
        || matches!(octet, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// At the first digit of a chunk's size.
const SIZE: State = State::Size {
    value: 0,
    digits: 0,
};
/// Digits of a size, leading zeros too; 60 bits cannot overflow.
const SIZE_DIGITS_MAX: u8 = 15;
/// Octets of all extensions of one body: nobody needs any.
const EXTENSION_OCTETS_MAX: u16 = 1_024;
/// Octets of all trailers of one body.
const TRAILER_OCTETS_MAX: u16 = 4_096;

#[cfg(test)]
mod tests;
