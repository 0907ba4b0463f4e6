//! Percent-encoding (RFC 3986 section 2.1), undone once and strictly.

use std::borrow::Cow;

use super::Refusal;

/// What `+` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// Itself, as in paths.
    Plus,
    /// A space, as in forms.
    Space,
}

/// Undoes the escapes of a text; borrows when it has none.
///
/// # Errors
/// [`Refusal::Escape`] for a `%` without two hexadecimal digits behind it, for what is not UTF-8
/// afterwards, and for NUL.
pub fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, Refusal> {
    let is_escaped = |b: &u8| *b == b'%' || *b == b'+' && plus == Plus::Space;
    if !text.as_bytes().iter().any(is_escaped) {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        plain.push(match octet {
            b'%' => match digit(octets.next())? << 4 | digit(octets.next())? {
                0 => return Err(Refusal::Escape),
                escaped => escaped,
            },
            b'+' if plus == Plus::Space => b' ',
            plain => plain,
        });
    }
    let plain = String::from_utf8(plain).map_err(|_| Refusal::Escape)?;
    Ok(Cow::Owned(plain))
}

fn digit(octet: Option<u8>) -> Result<u8, Refusal> {
    let digit = octet.and_then(|octet| char::from(octet).to_digit(16));
    digit
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or(Refusal::Escape)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_undone_once() {
        for (text, plain) in [
            ("", ""),
            ("abc", "abc"),
            ("a+b", "a+b"),
            ("%41%62%7a", "Abz"),
            ("%C3%A4", "\u{e4}"),
            ("%2525", "%25"),
            ("%252e%252E", "%2e%2E"),
            ("%20%2B", " +"),
        ] {
            assert_eq!(decode(text, Plus::Plus).as_deref(), Ok(plain), "{text}");
        }
        assert_eq!(decode("a+b%2B", Plus::Space).as_deref(), Ok("a b+"));
        assert!(matches!(decode("abc", Plus::Space), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for text in [
            "%",
            "%4",
            "%4g",
            "%g4",
            "%%",
            "% 4",
            "%+4",
            "%0x",
            "a%",
            "%u0041",
            "%00",
            "%ff",
            "%C3",
            "%C3A4",
            "%c0%ae",
            "%e0%80%ae",
            "%ed%a0%80",
            "%f4%90%80%80",
        ] {
            assert_eq!(decode(text, Plus::Plus), Err(Refusal::Escape), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_escaped_comes_back(text in "[^\0]{0,20}") {
            let escaped: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            let plain = decode(&escaped, Plus::Space);
            prop_assert_eq!(plain.as_deref(), Ok(&*text));
        }
    }
}
