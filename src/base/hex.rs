//! Numbers as all of their hexadecimal digits, in lower case: names of messages and streams.

/// The sixteen digits of a number.
pub fn digits(number: u64) -> [u8; 16] {
    let mut all = [0; 16];
    all[..8].copy_from_slice(&eight((number >> 32) as u32));
    all[8..].copy_from_slice(&eight(number as u32));
    all
}

/// Eight digits at a time: each message is named in digits, so they are made in a few words.
const fn eight(half: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Each nibble moves into an octet of its own; those above nine reach the letters.
    let mut spread = half as u64;
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((spread + ONES * 6) >> 4) & ONES;
    (spread + ONES * b'0' as u64 + letters * (b'a' - b'9' - 1) as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_digits_are_there() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0x9a09_a90a_f0f0_0f0f, u64::MAX] {
            let digits = String::from_utf8(digits(number).to_vec()).unwrap();
            assert_eq!(digits, format!("{number:016x}"));
        }
    }
}
