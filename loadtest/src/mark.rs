//! What every message and every presence of ours carries: which run, from whom to whom, which
//! number, and when it was due. So each of them can be told from all others when it comes back.

use crate::schedule::Nanoseconds;

/// Hexadecimal digits: 8 for the run, 8 for the talk, 8 for the number, 16 for the time.
pub const MARK_OCTETS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub run: u32,
    /// The pair and the direction of a message; the user of a presence.
    pub talk: u32,
    pub number: u32,
    /// When it was sent, or was due in an open loop.
    pub at: Nanoseconds,
}

impl Mark {
    pub fn write(&self, out: &mut [u8]) {
        digits(u64::from(self.run), &mut out[..8]);
        digits(u64::from(self.talk), &mut out[8..16]);
        digits(u64::from(self.number), &mut out[16..24]);
        digits(self.at, &mut out[24..MARK_OCTETS]);
    }

    pub fn read(text: &[u8]) -> Option<Self> {
        Some(Self {
            run: number(text.get(..8)?)? as u32,
            talk: number(text.get(8..16)?)? as u32,
            number: number(text.get(16..24)?)? as u32,
            at: number(text.get(24..MARK_OCTETS)?)?,
        })
    }
}

fn digits(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_the_wire() {
        for number in [0, 1, 0x1234_abcd, u32::MAX] {
            let mark = Mark {
                run: number,
                talk: 7,
                number: number ^ 5,
                at: u64::from(number) << 31,
            };
            let mut wire = [0; MARK_OCTETS];
            mark.write(&mut wire);
            assert_eq!(Mark::read(&wire), Some(mark));
        }
    }

    #[test]
    fn what_is_no_mark_is_not_read() {
        assert_eq!(Mark::read(&[b'0'; MARK_OCTETS - 1]), None);
        assert_eq!(Mark::read(&[b'g'; MARK_OCTETS]), None);
    }
}
