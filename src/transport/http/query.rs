//! The pairs of a query, as `URLSearchParams` and forms write them.

use std::borrow::Cow;

use super::Refusal;
use super::escape::{Plus, decode};

/// The pairs of a query in order, decoded. A `+` is a space; a name without `=` has an empty
/// value; nothing between two `&` is no pair.
///
/// # Errors
/// Each pair: [`Refusal::Escape`]. A link may go on after it.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Refusal>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, Plus::Space)?, decode(value, Plus::Space)?))
        })
}

/// The value of one parameter.
///
/// # Errors
/// [`Refusal::Escape`] wherever it stands, and [`Refusal::ParameterTwice`]: which of two is meant,
/// the next party may decide otherwise.
pub fn find<'q>(query: &'q str, name: &str) -> Result<Option<Cow<'q, str>>, Refusal> {
    let mut found = None;
    for pair in pairs(query) {
        let (given, value) = pair?;
        if given == name && found.replace(value).is_some() {
            return Err(Refusal::ParameterTwice);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(query: &str) -> Result<Vec<(String, String)>, Refusal> {
        pairs(query)
            .map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned())))
            .collect()
    }

    #[test]
    fn pairs_are_decoded() {
        for (query, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("a=1&a=2", &[("a", "1"), ("a", "2")]),
            ("a==&=b", &[("a", "="), ("", "b")]),
            ("a%3Db=c%26d+e%2B", &[("a=b", "c&d e+")]),
        ] {
            let expected = expected.iter().map(|(a, b)| ((*a).into(), (*b).into()));
            assert_eq!(owned(query), Ok(expected.collect()), "{query}");
        }
        assert_eq!(owned("a=1&b=%zz"), Err(Refusal::Escape));
    }

    #[test]
    fn a_parameter_is_found_once() {
        assert_eq!(find("a=1&b=2", "b"), Ok(Some("2".into())));
        assert_eq!(find("a=1&b=2", "c"), Ok(None));
        assert_eq!(find("a=1&%61=2", "a"), Err(Refusal::ParameterTwice));
        assert_eq!(find("a=1&b=%", "a"), Err(Refusal::Escape));
    }

    proptest! {
        #[test]
        fn pairs_come_back(given in proptest::collection::vec(("[^\0]{1,6}", "[^\0]{0,6}"), 0..5)) {
            let escape = |text: &str| -> String {
                text.bytes().map(|b| match b {
                    b' ' => "+".into(),
                    b if b.is_ascii_alphanumeric() => char::from(b).into(),
                    b => format!("%{b:02X}"),
                }).collect()
            };
            let written: Vec<_> = given
                .iter()
                .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
                .collect();
            prop_assert_eq!(owned(&written.join("&")), Ok(given));
        }
    }
}
