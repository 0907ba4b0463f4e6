//! Classes of octets and characters (XML 1.0, fifth edition), and fast ways over runs of them.

/// A letter, a digit, `-`, `.` or `_`: an ASCII character of a name without colon.
pub const NAME: u8 = 1;
/// A letter or `_`: may begin a name.
pub const START: u8 = 2;
/// White space (XML production 3).
pub const SPACE: u8 = 4;
/// Means nothing but itself in text.
pub const TEXT: u8 = 8;
/// Means nothing but itself in an attribute value, in which it is not the quote. A carriage return
/// would be well-formed, but nobody sends it unescaped and some parsers refuse it: what ends the
/// receiver's stream is not forwarded.
pub const VALUE: u8 = 16;

/// Whether `octet` is in one of `classes`.
#[inline]
#[allow(
    clippy::indexing_slicing,
    reason = "an octet cannot exceed a table of 256"
)]
pub fn is(octet: u8, classes: u8) -> bool {
    CLASSES[octet as usize] & classes != 0
}

/// Where the first octet at or after `at` is that is not white space.
#[inline]
pub fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&b| is(b, SPACE)) {
        at += 1;
    }
    at
}

/// Where the first octet at or after `at` is that is not plain in text.
#[inline]
pub fn skip_text(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = chunk::<32>(bytes, at) {
        if chunk
            .iter()
            .fold(false, |hit, &b| hit | is_special_in_text(b))
        {
            break;
        }
        at += 32;
    }
    while let Some(chunk) = chunk::<8>(bytes, at) {
        let word = u64::from_le_bytes(*chunk);
        // The two angle brackets differ in one bit.
        let hits = unusual(word) | equal(word | spread(0x02), b'>') | equal(word, b'&');
        if hits == 0 {
            at += 8;
            continue;
        }
        at += (hits.trailing_zeros() / 8) as usize;
        if !bytes.get(at).is_some_and(|&b| is(b, TEXT)) {
            return at;
        }
        at += 1;
    }
    while bytes.get(at).is_some_and(|&b| is(b, TEXT)) {
        at += 1;
    }
    at
}

/// Where the first octet at or after `at` is that is not plain in a value quoted by `quote`.
#[inline]
pub fn skip_value(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while let Some(chunk) = chunk::<8>(bytes, at) {
        let word = u64::from_le_bytes(*chunk);
        let hits = unusual(word) | equal(word, quote) | equal(word, b'<') | equal(word, b'&');
        if hits == 0 {
            at += 8;
            continue;
        }
        at += (hits.trailing_zeros() / 8) as usize;
        match bytes.get(at) {
            Some(&b) if b != quote && is(b, VALUE) => at += 1,
            _ => return at,
        }
    }
    while bytes.get(at).is_some_and(|&b| b != quote && is(b, VALUE)) {
        at += 1;
    }
    at
}

/// Where an octet is. For what is short, as addresses are: eight octets at a time beat a vector
/// search, whose beginning costs more than all of this.
#[inline]
pub fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let hits = equal(u64::from_le_bytes(*word), wanted);
        if hits != 0 {
            return Some(index * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    let at = rest.iter().position(|&b| b == wanted)?;
    Some(words.len() * 8 + at)
}

/// What stands at an octet outside ASCII.
pub enum Utf8 {
    /// A character that XML allows, and its octets.
    Char(char, usize),
    /// The input ends inside a character that may become one.
    Partial,
    /// Not UTF-8, or a character that XML forbids.
    Wrong,
}

/// Decodes one character strictly: no overlong form, no surrogate, nothing above U+10FFFF
/// (RFC 3629), neither U+FFFE nor U+FFFF (XML production 2).
pub fn utf8(bytes: &[u8], at: usize) -> Utf8 {
    let octet = |n: usize| bytes.get(at + n).copied();
    let Some(first) = octet(0) else {
        return Utf8::Partial;
    };
    let (length, bits, second) = match first {
        0x00..=0x7f => return Utf8::Char(first as char, 1),
        0xc2..=0xdf => (2, first & 0x1f, 0x80..=0xbf),
        0xe0 => (3, 0, 0xa0..=0xbf),
        0xed => (3, 0x0d, 0x80..=0x9f),
        0xe1..=0xef => (3, first & 0x0f, 0x80..=0xbf),
        0xf0 => (4, 0, 0x90..=0xbf),
        0xf1..=0xf3 => (4, first & 0x07, 0x80..=0xbf),
        0xf4 => (4, 4, 0x80..=0x8f),
        _ => return Utf8::Wrong,
    };
    let mut code = u32::from(bits);
    for n in 1..length {
        let allowed = if n == 1 { second.clone() } else { 0x80..=0xbf };
        match octet(n) {
            None => return Utf8::Partial,
            Some(next) if allowed.contains(&next) => code = code << 6 | u32::from(next & 0x3f),
            Some(_) => return Utf8::Wrong,
        }
    }
    match char::from_u32(code) {
        Some(c) if is_char(c) => Utf8::Char(c, length),
        _ => Utf8::Wrong,
    }
}

/// Whether XML 1.0 allows the character at all (production 2).
pub const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether the character may begin a name (production 4), the colon apart. U+FDF0 to U+FFFD are
/// left out: some parsers refuse them, and what ends the receiver's stream is not forwarded.
pub const fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{10000}'..='\u{effff}')
}

/// Whether the character may stand in a name (production 4a), the colon apart.
pub const fn is_name(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}'
            | '\u{203f}'..='\u{2040}')
}

/// Whether an attribute value means what it shows: no reference, no white space but the space.
/// May be wrong about what is beyond ASCII, in the safe direction.
#[inline]
pub fn is_verbatim(raw: &[u8]) -> bool {
    let plain = |word: u64| unusual(word) | equal(word, b'&') == 0;
    let (words, rest) = raw.as_chunks::<8>();
    if !words.iter().all(|word| plain(u64::from_le_bytes(*word))) {
        return false;
    }
    match raw.last_chunk::<8>() {
        Some(last) => plain(u64::from_le_bytes(*last)),
        None => rest.iter().all(|&b| matches!(b, 0x20..=0x7f) && b != b'&'),
    }
}

/// Whether text can stand anywhere in XML as it is: nothing in it would be escaped. May be wrong
/// about what is beyond ASCII, in the safe direction.
#[inline]
pub fn is_unescaped(text: &[u8]) -> bool {
    let plain = |word: u64| {
        // `&` and the apostrophe differ in one bit, and so do the angle brackets.
        unusual(word)
            | equal(word | spread(0x01), b'\'')
            | equal(word | spread(0x02), b'>')
            | equal(word, b'"')
            == 0
    };
    let (words, rest) = text.as_chunks::<8>();
    if !words.iter().all(|word| plain(u64::from_le_bytes(*word))) {
        return false;
    }
    match text.last_chunk::<8>() {
        // Some octets are looked at twice, and none one by one.
        Some(last) => plain(u64::from_le_bytes(*last)),
        None => rest
            .iter()
            .all(|&b| matches!(b, 0x20..=0x7f) && !matches!(b, b'&' | b'\'' | b'<' | b'>' | b'"')),
    }
}

/// A hash of short strings, for tables of a few dozen entries whose size is bounded: collisions
/// cost comparisons, never correctness.
#[inline]
pub fn hash(bytes: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = (state.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    // The two halves may overlap: no octet is left out, and no loop is needed.
    let tail = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(head), Some(tail)) => {
            u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail))
        }
        _ => match (rest.first(), rest.get(rest.len() / 2), rest.last()) {
            (Some(&a), Some(&b), Some(&c)) => u64::from(a) << 16 | u64::from(b) << 8 | u64::from(c),
            _ => 0,
        },
    };
    state = (state.rotate_left(23) ^ tail).wrapping_mul(FACTOR);
    (state >> 32) as u32
}

#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>()
}

#[inline]
const fn is_special_in_text(octet: u8) -> bool {
    (octet as i8) < 0x20 || octet | 0x02 == b'>' || octet == b'&'
}

const fn spread(octet: u8) -> u64 {
    u64::from_le_bytes([octet; 8])
}

/// The high bit of each octet below 0x20 or above 0x7f. Above the lowest hit there may be false
/// ones: only the lowest counts.
#[inline]
const fn unusual(word: u64) -> u64 {
    (word.wrapping_sub(spread(0x20)) & !word | word) & spread(0x80)
}

/// The high bit of each octet that equals `octet`; only the lowest hit counts.
#[inline]
const fn equal(word: u64, octet: u8) -> u64 {
    let difference = word ^ spread(octet);
    difference.wrapping_sub(spread(0x01)) & !difference & spread(0x80)
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 0x80 {
        let b = octet as u8;
        let mut classes = 0;
        if b.is_ascii_alphabetic() || b == b'_' {
            classes |= NAME | START;
        }
        if b.is_ascii_digit() || b == b'-' || b == b'.' {
            classes |= NAME;
        }
        if matches!(b, b' ' | b'\t' | b'\n' | b'\r') {
            classes |= SPACE;
        }
        if b >= 0x20 || classes & SPACE != 0 {
            if !matches!(b, b'<' | b'>' | b'&') {
                classes |= TEXT;
            }
            if !matches!(b, b'<' | b'&' | b'\r') {
                classes |= VALUE;
            }
        }
        table[octet] = classes;
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The word-wise ways must stop exactly where the octet-wise definition says.
    #[test]
    fn runs_end_at_each_special_octet_in_each_place() {
        for octet in 0..=255u8 {
            for length in 0..48 {
                for at in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = octet;
                    let text = if is(octet, TEXT) { length } else { at };
                    assert_eq!(skip_text(&bytes, 0), text, "{octet} at {at} of {length}");
                    for quote in [b'\'', b'"'] {
                        let plain = octet != quote && is(octet, VALUE);
                        let value = if plain { length } else { at };
                        assert_eq!(skip_value(&bytes, 0, quote), value, "{octet} at {at}");
                    }
                }
            }
        }
    }

    /// What would be escaped, or is beyond ASCII, is found in every place.
    #[test]
    fn what_must_be_escaped_is_found() {
        for octet in 0..=255u8 {
            let special = !(0x20..=0x7f).contains(&octet) || b"&'<>\"".contains(&octet);
            let decoded = !(0x20..=0x7f).contains(&octet) || octet == b'&';
            for length in 1..24 {
                for at in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = octet;
                    assert_eq!(
                        is_unescaped(&bytes),
                        !special,
                        "{octet} at {at} of {length}"
                    );
                    assert_eq!(is_verbatim(&bytes), !decoded, "{octet} at {at} of {length}");
                }
            }
        }
        assert!(is_unescaped(b"") && is_verbatim(b""));
    }

    #[test]
    fn an_octet_is_found_in_each_place_and_the_first_counts() {
        for length in 0..24 {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = b'/';
                bytes[length - 1] = b'/';
                assert_eq!(find(&bytes, b'/'), Some(at), "{at} of {length}");
                assert_eq!(find(&bytes, b'.'), None);
            }
        }
    }

    #[test]
    fn utf8_agrees_with_the_standard_library() {
        let mut seed = 1u64;
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = (seed >> 16).to_le_bytes();
            bytes[0] |= 0x80;
            let bytes = &bytes[..4];
            let expected = match std::str::from_utf8(bytes) {
                Ok(text) => text.chars().next(),
                Err(e) => str::from_utf8(&bytes[..e.valid_up_to()])
                    .unwrap()
                    .chars()
                    .next(),
            };
            let actual = match utf8(bytes, 0) {
                Utf8::Char(c, _) => Some(c),
                Utf8::Partial => panic!("four octets are enough"),
                Utf8::Wrong => None,
            };
            let expected = expected.filter(|&c| is_char(c));
            assert_eq!(actual, expected, "{bytes:x?}");
        }
        for c in [
            '\u{80}',
            '\u{7ff}',
            '\u{800}',
            '\u{fffd}',
            '\u{10000}',
            '\u{10ffff}',
            '\u{fdd0}',
        ] {
            let text = c.to_string();
            for cut in 1..text.len() {
                assert!(matches!(utf8(&text.as_bytes()[..cut], 0), Utf8::Partial));
            }
            assert!(
                matches!(utf8(text.as_bytes(), 0), Utf8::Char(x, n) if x == c && n == text.len())
            );
        }
    }
}
