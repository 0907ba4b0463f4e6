//! Header fields: those that this server reads, found in one pass, and all others by name.

use std::borrow::Cow;

use super::Refusal;

/// A field that this server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
    Origin,
    Cookie,
    Authorization,
    ContentType,
    ContentEncoding,
    Accept,
    IfNoneMatch,
    LastEventId,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    Upgrade,
    SecWebSocketKey,
    SecWebSocketVersion,
    SecWebSocketProtocol,
    SecWebSocketExtensions,
    AccessControlRequestMethod,
    AccessControlRequestHeaders,
}

/// How often a field may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    /// Several lines mean one list (RFC 9110 section 5.3).
    List,
}

/// Names in lower case, in the order of [`Field`].
const FIELDS: [(Field, &str, Times); 23] = [
    (Field::Host, "host", Times::Once),
    (Field::Connection, "connection", Times::List),
    (Field::ContentLength, "content-length", Times::Once),
    (Field::TransferEncoding, "transfer-encoding", Times::Once),
    (Field::Expect, "expect", Times::Once),
    (Field::Origin, "origin", Times::Once),
    (Field::Cookie, "cookie", Times::List),
    (Field::Authorization, "authorization", Times::Once),
    (Field::ContentType, "content-type", Times::Once),
    (Field::ContentEncoding, "content-encoding", Times::List),
    (Field::Accept, "accept", Times::List),
    (Field::IfNoneMatch, "if-none-match", Times::List),
    (Field::LastEventId, "last-event-id", Times::Once),
    (Field::Forwarded, "forwarded", Times::List),
    (Field::XForwardedFor, "x-forwarded-for", Times::List),
    (Field::XForwardedProto, "x-forwarded-proto", Times::List),
    (Field::Upgrade, "upgrade", Times::List),
    (Field::SecWebSocketKey, "sec-websocket-key", Times::Once),
    (
        Field::SecWebSocketVersion,
        "sec-websocket-version",
        Times::Once,
    ),
    (
        Field::SecWebSocketProtocol,
        "sec-websocket-protocol",
        Times::List,
    ),
    (
        Field::SecWebSocketExtensions,
        "sec-websocket-extensions",
        Times::List,
    ),
    (
        Field::AccessControlRequestMethod,
        "access-control-request-method",
        Times::Once,
    ),
    (
        Field::AccessControlRequestHeaders,
        "access-control-request-headers",
        Times::List,
    ),
];

/// The fields of one head.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// Their lines, each with its end.
    block: &'a [u8],
    /// The first value of each that we read.
    first: [Option<&'a str>; FIELDS.len()],
    /// A bit for each that came.
    present: u32,
    /// A bit for each that came more than once.
    repeated: u32,
}

impl<'a> Fields<'a> {
    /// Takes the lines of a head that a parser has accepted, and what it found in them.
    ///
    /// # Errors
    /// What may come once and came twice; a value that is not UTF-8. `Cookie` is the exception:
    /// other services of the same host may have set what they liked.
    pub(super) fn new(block: &'a [u8], found: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Self {
            block,
            first: [None; FIELDS.len()],
            present: 0,
            repeated: 0,
        };
        for header in found {
            let known = FIELDS
                .iter()
                .find(|(_, name, _)| name.eq_ignore_ascii_case(header.name));
            if let Some((field, _, times)) = known {
                fields.insert(*field, *times, header.value)?;
            }
        }
        Ok(fields)
    }

    fn insert(&mut self, field: Field, times: Times, value: &'a [u8]) -> Result<(), Refusal> {
        if self.has(field) {
            if times == Times::Once {
                return Err(twice(field));
            }
            self.repeated |= bit(field);
        }
        let text = match str::from_utf8(value) {
            Ok(text) => Some(text),
            Err(_) if field == Field::Cookie => None,
            Err(_) => return Err(Refusal::FieldNotText),
        };
        if let Some(first) = self.first.get_mut(field as usize)
            && self.present & bit(field) == 0
        {
            *first = text;
        }
        self.present |= bit(field);
        Ok(())
    }

    /// Whether a field came at all.
    pub fn has(&self, field: Field) -> bool {
        self.present & bit(field) != 0
    }

    /// The value of a field, without the white space around it; the first one of a list that came
    /// in several lines.
    pub fn value(&self, field: Field) -> Option<&'a str> {
        self.first.get(field as usize).copied().flatten()
    }

    /// The values of a field in the order of its lines.
    pub fn values(&self, field: Field) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
        let is_repeated = self.repeated & bit(field) != 0;
        let block = if is_repeated { self.block } else { &[] };
        let single = if is_repeated { None } else { self.value(field) };
        let lines = Lines { block }
            .filter(move |(name, _)| name.eq_ignore_ascii_case(field.name().as_bytes()))
            .filter_map(|(_, value)| str::from_utf8(value).ok());
        single.into_iter().chain(lines)
    }

    /// The value of a field as one, as if a list had come in one line (RFC 9110 section 5.3).
    pub fn joined(&self, field: Field) -> Option<Cow<'a, str>> {
        if self.repeated & bit(field) == 0 {
            return self.value(field).map(Cow::Borrowed);
        }
        let mut values = self.values(field);
        let mut joined = values.next()?.to_owned();
        for value in values {
            joined.push_str(", ");
            joined.push_str(value);
        }
        Some(Cow::Owned(joined))
    }

    /// The elements of a list, in order, without the empty ones (RFC 9110 section 5.6.1). Not for
    /// fields that have commas inside quotes.
    pub fn list(&self, field: Field) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
        let elements = self.values(field).flat_map(|value| value.split(','));
        elements
            .map(|element| element.trim_matches([' ', '\t']))
            .filter(|element| !element.is_empty())
    }

    /// Whether a list has an element, in any case of letters.
    pub fn has_token(&self, field: Field, token: &str) -> bool {
        self.list(field)
            .any(|element| element.eq_ignore_ascii_case(token))
    }

    /// The values of all fields of a name, in any case of letters, as octets.
    pub fn named<'n>(
        &self,
        name: &'n str,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        Lines { block: self.block }
            .filter(move |(given, _)| given.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The value of a cookie; `None` also when it came twice, for then somebody else set one of
    /// them (RFC 6265 section 8.6).
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        if !self.has(Field::Cookie) {
            return None;
        }
        let cookies = self
            .named("cookie")
            .flat_map(|line| line.split(|b| *b == b';'));
        let mut found = cookies.filter_map(|cookie| {
            let value = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
            value.strip_prefix(b"=")
        });
        let value = found.next()?;
        match found.next() {
            None => str::from_utf8(value).ok(),
            Some(_) => None,
        }
    }
}

impl Field {
    /// The name in lower case.
    pub fn name(self) -> &'static str {
        FIELDS.get(self as usize).map_or("", |(_, name, _)| *name)
    }
}

/// Names of fields compared one octet at a time, without keeping them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    /// A bit for each of [`FIELDS`] that begins as the name does.
    matching: u32,
    octets: u16,
}

impl Spelling {
    pub const EMPTY: Self = Self {
        matching: u32::MAX,
        octets: 0,
    };

    /// The name goes on.
    pub fn push(&mut self, octet: u8) {
        for (field, name, _) in &FIELDS {
            if name.as_bytes().get(usize::from(self.octets)) != Some(&octet.to_ascii_lowercase()) {
                self.matching &= !bit(*field);
            }
        }
        self.octets = self.octets.saturating_add(1);
    }

    /// Whether the name has ended as one of a field that we read.
    pub fn is_field(self) -> bool {
        FIELDS.iter().any(|(field, name, _)| {
            self.matching & bit(*field) != 0 && name.len() == usize::from(self.octets)
        })
    }
}

/// Names and values of the lines of a head, from either end.
struct Lines<'a> {
    block: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.block)?;
        let (line, rest) = self.block.split_at_checked(end + 1)?;
        self.block = rest;
        split(line)
    }
}

impl DoubleEndedIterator for Lines<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let inside = self.block.strip_suffix(b"\n")?;
        let start = memchr::memrchr(b'\n', inside).map_or(0, |end| end + 1);
        let (rest, line) = self.block.split_at_checked(start)?;
        self.block = rest;
        split(line)
    }
}

/// The name and the value of a line that has been accepted.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    Some((name, value.strip_prefix(b":")?.trim_ascii()))
}

/// The bit of a field in a set.
const fn bit(field: Field) -> u32 {
    1 << field as u32
}

const fn twice(field: Field) -> Refusal {
    match field {
        Field::Host => Refusal::HostTwice,
        Field::ContentLength => Refusal::ContentLengthTwice,
        Field::TransferEncoding => Refusal::TransferEncoding,
        _ => Refusal::FieldTwice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(block: &str) -> Result<Fields<'_>, Refusal> {
        let mut found = [httparse::EMPTY_HEADER; 16];
        let ended: &'static str = Box::leak(format!("{block}\r\n").into_boxed_str());
        let httparse::Status::Complete((_, found)) =
            httparse::parse_headers(ended.as_bytes(), &mut found).unwrap()
        else {
            panic!("a partial head: {block}");
        };
        Fields::new(&ended.as_bytes()[..block.len()], found)
    }

    #[test]
    fn the_table_is_in_the_order_of_the_fields() {
        for (at, (field, name, _)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, at, "{name}");
            assert_eq!(field.name(), *name);
            assert_eq!(*name, name.to_ascii_lowercase());
        }
        assert!(FIELDS.len() <= 32, "a bit for each");
    }

    #[test]
    fn fields_are_found_in_any_case() {
        let fields = fields("HOST: a\r\nX-Other:\t b \r\nx-oTHER:c\r\nAccept:\r\n").unwrap();
        assert_eq!(fields.value(Field::Host), Some("a"));
        assert_eq!(fields.value(Field::Accept), Some(""));
        assert!(fields.has(Field::Accept) && !fields.has(Field::Origin));
        assert_eq!(fields.value(Field::Origin), None);
        let others: Vec<_> = fields.named("X-other").collect();
        assert_eq!(others, [b"b", b"c"]);
        let others: Vec<_> = fields.named("x-other").rev().collect();
        assert_eq!(others, [b"c", b"b"]);
    }

    #[test]
    fn lists_go_over_lines_and_commas() {
        let fields = fields(
            "Connection: close, ,Upgrade\r\nHost: a\r\nconnection: x-y\r\nUpgrade: WebSocket\r\n",
        )
        .unwrap();
        let all: Vec<_> = fields.list(Field::Connection).collect();
        assert_eq!(all, ["close", "Upgrade", "x-y"]);
        let all: Vec<_> = fields.list(Field::Connection).rev().collect();
        assert_eq!(all, ["x-y", "Upgrade", "close"]);
        assert!(fields.has_token(Field::Connection, "upgrade"));
        assert!(fields.has_token(Field::Upgrade, "websocket"));
        assert!(!fields.has_token(Field::Upgrade, "web"));
        assert_eq!(fields.values(Field::Connection).count(), 2);
        assert_eq!(fields.values(Field::Origin).count(), 0);
        let joined = fields.joined(Field::Connection);
        assert_eq!(joined.as_deref(), Some("close, ,Upgrade, x-y"));
        assert!(matches!(
            fields.joined(Field::Host),
            Some(Cow::Borrowed("a"))
        ));
        assert_eq!(fields.joined(Field::Origin), None);
    }

    #[test]
    fn what_comes_twice_is_refused_or_a_list() {
        for (field, name, times) in FIELDS {
            let block = format!("{name}: a\r\n{}: b\r\n", name.to_ascii_uppercase());
            match times {
                Times::Once => assert_eq!(fields(&block).err(), Some(twice(field)), "{name}"),
                Times::List => {
                    let fields = fields(&block).unwrap();
                    let values: Vec<_> = fields.values(field).collect();
                    assert_eq!(values, ["a", "b"], "{name}");
                }
            }
        }
    }

    #[test]
    fn cookies_are_taken_apart() {
        let cookies = fields("Cookie: a=1; b=2;c=\r\nCookie: ab=3; b=4\r\n").unwrap();
        assert_eq!(cookies.cookie("a"), Some("1"));
        assert_eq!(cookies.cookie("b"), None, "it came twice");
        assert_eq!(cookies.cookie("c"), Some(""));
        assert_eq!(cookies.cookie("ab"), Some("3"));
        assert_eq!(cookies.cookie("A"), None);
        assert_eq!(fields("Host: a\r\n").unwrap().cookie("a"), None);
    }

    #[test]
    fn names_are_compared_one_octet_at_a_time() {
        for (name, is_field) in [
            ("Content-Length", true),
            ("TRANSFER-ENCODING", true),
            ("content-lengt", false),
            ("content-lengths", false),
            ("x", false),
            ("", false),
        ] {
            let mut spelling = Spelling::EMPTY;
            name.bytes().for_each(|octet| spelling.push(octet));
            assert_eq!(spelling.is_field(), is_field, "{name}");
        }
    }
}
