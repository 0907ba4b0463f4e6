//! Which web pages may ask: an exact list (the CORS protocol of the Fetch standard).
//!
//! Origins are compared whole, never by prefix, suffix or pattern, and `null` is nobody's.

use std::net::Ipv4Addr;

use super::target::check_host;
use super::{Answer, Method, Scheme};

/// The pages of other hosts that may ask, with credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    listed: Box<[Box<str>]>,
}

/// Why an entry of the list is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// It does not begin with `http://` or `https://`; neither do `*` and `null`.
    Scheme,
    /// What follows is no host with an optional port; a path may not follow.
    Host,
}

/// What is to be thought of the page that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// No page: another program, or a page of this host whose browser does not say so.
    Absent,
    /// A page of this very host.
    Same,
    /// A page of the list.
    Listed(&'a str),
    /// Any other page; its request must not be carried out.
    Refused,
}

impl Origins {
    /// The origins of a configuration, in any case of letters, with or without the default port.
    ///
    /// # Errors
    /// The entry that is no origin, and why.
    pub fn new<'a>(
        listed: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, (&'a str, OriginError)> {
        let listed: Result<_, _> = listed
            .into_iter()
            .map(|entry| serialise(entry).map_err(|error| (entry, error)))
            .collect();
        Ok(Self { listed: listed? })
    }

    /// Judges a request by its `Origin` and `Host`. The scheme is how the browser reached this
    /// host, through whatever proxies.
    pub fn judge<'a>(
        &self,
        origin: Option<&'a str>,
        host: Option<&str>,
        scheme: Scheme,
    ) -> Verdict<'a> {
        let Some(origin) = origin else {
            return Verdict::Absent;
        };
        if self.listed.iter().any(|listed| **listed == *origin) {
            return Verdict::Listed(origin);
        }
        let asked = origin
            .strip_prefix(scheme.name())
            .and_then(|rest| rest.strip_prefix("://"));
        match (asked, host) {
            (Some(asked), Some(host))
                if asked.eq_ignore_ascii_case(without_default_port(host, scheme)) =>
            {
                Verdict::Same
            }
            _ => Verdict::Refused,
        }
    }
}

impl Verdict<'_> {
    /// Whether the request may be carried out.
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Self::Refused)
    }

    /// Adds what the browser must hear before it shows the answer to the page. `Vary` is added
    /// for all, or a cache would give one page's answer to another.
    pub fn allow<'o>(self, answer: Answer<'o>) -> Answer<'o> {
        let answer = answer.raw("Vary: Origin\r\n");
        match self {
            Self::Listed(origin) => answer
                .field("Access-Control-Allow-Origin", origin)
                .raw(ACTUAL),
            Self::Absent | Self::Same | Self::Refused => answer,
        }
    }

    /// Adds what the browser asked beforehand: methods and fields, for a day.
    pub fn allow_preflight<'o>(self, answer: Answer<'o>) -> Answer<'o> {
        let answer = answer.raw("Vary: Origin\r\n");
        match self {
            Self::Listed(origin) => answer
                .field("Access-Control-Allow-Origin", origin)
                .field("Access-Control-Allow-Methods", Method::LIST)
                .raw(PREFLIGHT),
            Self::Absent | Self::Same | Self::Refused => answer,
        }
    }
}

/// Adds that any page may read the answer, without credentials: for what everybody may know.
pub fn allow_everyone<'o>(answer: Answer<'o>) -> Answer<'o> {
    answer.raw("Access-Control-Allow-Origin: *\r\n")
}

/// Whether a page of another site cannot have had this `Host` lead here (DNS rebinding): it is an
/// address, a name that nobody can register, or one of `known`.
pub fn is_own<'k>(host: &str, known: impl IntoIterator<Item = &'k str>) -> bool {
    if host.starts_with('[') {
        return true;
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_local = !name.contains('.') || last.eq_ignore_ascii_case("localhost");
    let is_known = |known: &str| known.eq_ignore_ascii_case(name);
    is_local || name.parse::<Ipv4Addr>().is_ok() || known.into_iter().any(is_known)
}

/// An entry as browsers write it (Fetch, "serializing a request origin").
fn serialise(entry: &str) -> Result<Box<str>, OriginError> {
    let lower = entry.to_ascii_lowercase();
    let (scheme, host) = lower.split_once("://").ok_or(OriginError::Scheme)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(OriginError::Scheme),
    };
    check_host(host).map_err(|_| OriginError::Host)?;
    let host = without_default_port(host, scheme);
    Ok(format!("{}://{host}", scheme.name()).into())
}

fn without_default_port(host: &str, scheme: Scheme) -> &str {
    let name = host.strip_suffix(scheme.default_port());
    name.and_then(|name| name.strip_suffix(':')).unwrap_or(host)
}

const ACTUAL: &str = "Access-Control-Allow-Credentials: true\r\n\
    Access-Control-Expose-Headers: ETag, Location, Retry-After\r\n";
const PREFLIGHT: &str = "Access-Control-Allow-Credentials: true\r\n\
    Access-Control-Allow-Headers: Accept, Authorization, Content-Type, If-None-Match, \
    Last-Event-ID\r\nAccess-Control-Max-Age: 86400\r\n";

#[cfg(test)]
mod tests {
    use super::super::{Manner, Status};
    use super::*;

    fn origins() -> Origins {
        Origins::new([
            "https://App.example",
            "http://localhost:8080",
            "https://b.example:443",
        ])
        .unwrap()
    }

    #[test]
    fn entries_are_normalised_or_refused() {
        let listed = origins().listed;
        let expected = [
            "https://app.example",
            "http://localhost:8080",
            "https://b.example",
        ];
        assert!(listed.iter().map(|entry| &**entry).eq(expected));
        for (entry, error) in [
            ("*", OriginError::Scheme),
            ("null", OriginError::Scheme),
            ("", OriginError::Scheme),
            ("app.example", OriginError::Scheme),
            ("ftp://app.example", OriginError::Scheme),
            ("https://", OriginError::Host),
            ("https://*.example", OriginError::Host),
            ("https://app.example/", OriginError::Host),
            ("https://app.example/a", OriginError::Host),
            ("https://u@app.example", OriginError::Host),
            ("https://app.example:x", OriginError::Host),
        ] {
            assert_eq!(Origins::new([entry]), Err((entry, error)));
        }
    }

    #[test]
    fn only_this_host_and_the_list_may_ask() {
        let origins = origins();
        for (origin, verdict) in [
            (
                "https://app.example",
                Verdict::Listed("https://app.example"),
            ),
            (
                "http://localhost:8080",
                Verdict::Listed("http://localhost:8080"),
            ),
            ("https://b.example", Verdict::Listed("https://b.example")),
            ("https://chat.example", Verdict::Same),
            ("http://chat.example", Verdict::Refused),
            ("https://chat.example:8443", Verdict::Refused),
            ("https://chat.example.evil.example", Verdict::Refused),
            ("https://evilapp.example", Verdict::Refused),
            ("https://app.example.evil.example", Verdict::Refused),
            ("https://sub.app.example", Verdict::Refused),
            ("http://app.example", Verdict::Refused),
            ("https://app.example:444", Verdict::Refused),
            ("https://app.example/", Verdict::Refused),
            ("https://app.example https://evil.example", Verdict::Refused),
            ("https://app.example, https://app.example", Verdict::Refused),
            ("null", Verdict::Refused),
            ("*", Verdict::Refused),
            ("", Verdict::Refused),
        ] {
            for host in ["chat.example", "Chat.example:443"] {
                let found = origins.judge(Some(origin), Some(host), Scheme::Https);
                assert_eq!(found, verdict, "{origin} asks {host}");
            }
        }
        let absent = origins.judge(None, Some("chat.example"), Scheme::Https);
        assert_eq!(absent, Verdict::Absent);
        let no_host = origins.judge(Some("https://"), None, Scheme::Https);
        assert_eq!(no_host, Verdict::Refused);
        let plain = origins.judge(Some("http://a:5280"), Some("a:5280"), Scheme::Http);
        assert_eq!(plain, Verdict::Same);
        let none = Origins::default().judge(Some("https://app.example"), Some("a"), Scheme::Https);
        assert_eq!(none, Verdict::Refused);
    }

    #[test]
    fn a_name_that_anybody_can_register_is_not_ours() {
        let known = ["example.net"];
        for (host, ours) in [
            ("127.0.0.1:5280", true),
            ("[::1]:5280", true),
            ("localhost", true),
            ("encke.LOCALHOST:80", true),
            ("machine:5280", true),
            ("Example.net.:5280", true),
            ("evil.example:5280", false),
            ("evil.example.", false),
            ("chat.example.net", false),
            ("example.net.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(is_own(host, known), ours, "{host}");
        }
    }

    #[test]
    fn only_listed_pages_are_told_that_they_may() {
        let written = |add: &dyn for<'o> Fn(Answer<'o>) -> Answer<'o>| {
            let mut out = Vec::new();
            add(Answer::new(&mut out, Status::NoContent, Manner::REFUSED)).empty();
            String::from_utf8(out).unwrap()
        };
        let listed = Verdict::Listed("https://app.example");
        for verdict in [listed, Verdict::Absent, Verdict::Same, Verdict::Refused] {
            let actual = written(&|answer| verdict.allow(answer));
            let preflight = written(&|answer| verdict.allow_preflight(answer));
            for text in [&actual, &preflight] {
                assert!(text.contains("\r\nVary: Origin\r\n"), "{text}");
                let is_listed = text
                    .contains("\r\nAccess-Control-Allow-Origin: https://app.example\r\n")
                    && text.contains("\r\nAccess-Control-Allow-Credentials: true\r\n");
                assert_eq!(is_listed, verdict == listed, "{text}");
                assert_eq!(text.contains("Access-Control"), verdict == listed, "{text}");
            }
            let is_cached = preflight.contains("\r\nAccess-Control-Max-Age: 86400\r\n");
            assert_eq!(is_cached, verdict == listed);
        }
        assert!(written(&allow_everyone).contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
        assert!(!Verdict::Refused.is_allowed() && Verdict::Absent.is_allowed());
    }
}
