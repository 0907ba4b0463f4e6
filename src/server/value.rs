//! What an option may be set to, and how that is read from a file or from the environment.

use std::fmt;
use std::net::SocketAddr;

use toml::de::DeValue;

use crate::transport::http::network::Networks;
use crate::transport::http::origin::Origins;
use crate::transport::json::topic::Topics;
use crate::xmpp::jid::BareJid;

/// What one option is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the option has no value.
    Absent,
    /// `"auto"`: the server decides.
    Auto,
    Flag(bool),
    Number(u64),
    Text(String),
    Texts(Vec<String>),
}

/// The type of an option, with its unit and bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// `true`, `false` or `"auto"`.
    FlagOrAuto,
    Number(Bounds),
    /// A number or `"auto"`.
    NumberOrAuto(Bounds),
    /// One of these words.
    Choice(&'static [&'static str]),
    Domain,
    Domains,
    /// Bare JIDs.
    Jids,
    /// Socket addresses with ports.
    Addresses,
    /// A file or directory.
    Path,
    /// Where the log goes: `stderr`, `stdout` or a file.
    Target,
    /// Addresses of people: `mailto:`, `xmpp:` or `https:`.
    Uris,
    /// Web origins (RFC 6454): scheme, host and perhaps a port.
    Origins,
    /// Topics and their keys.
    Topics,
    /// Networks of IP addresses, such as `10.0.0.0/8`.
    Networks,
    /// Where a web server begins: an origin and perhaps a path.
    Url,
    /// So many octets in hexadecimal.
    Hexadecimal {
        octets: usize,
    },
}

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The unit in the plural, such as `octets`.
    pub unit: &'static str,
    pub min: u64,
    pub max: u64,
    /// Whether zero, below `min`, switches the bound off.
    pub zero: Zero,
}

/// What zero means for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// A number like others.
    Ordinary,
    /// The bound is off.
    Unlimited,
}

/// A value as somebody wrote it.
enum Raw<'a> {
    Toml(&'a DeValue<'a>),
    Word(&'a str),
}

impl Kind {
    /// Reads the value of a file.
    ///
    /// # Errors
    /// What is wrong and how to mend it, without the name of the option.
    pub fn read_toml(self, value: &DeValue<'_>) -> Result<Value, String> {
        self.read(&Raw::Toml(value))
    }

    /// Reads the value of an environment variable; lists are separated by commas.
    ///
    /// # Errors
    /// As [`Kind::read_toml`].
    pub fn read_word(self, value: &str) -> Result<Value, String> {
        self.read(&Raw::Word(value.trim()))
    }

    fn read(self, raw: &Raw<'_>) -> Result<Value, String> {
        match self {
            Self::Flag => flag(raw),
            Self::FlagOrAuto if raw.is_auto() => Ok(Value::Auto),
            Self::FlagOrAuto => flag(raw).map_err(|e| e + " or \"auto\""),
            Self::Number(bounds) => bounds.read(raw),
            Self::NumberOrAuto(_) if raw.is_auto() => Ok(Value::Auto),
            Self::NumberOrAuto(bounds) => bounds.read(raw).map_err(|e| e + " or \"auto\""),
            Self::Choice(words) => choice(raw.text()?, words),
            Self::Domain => domain(raw.text()?).map(Value::Text),
            Self::Domains => raw.texts("domain", domain),
            Self::Jids => raw.texts("JID", bare_jid),
            Self::Addresses => raw.texts("address", address),
            Self::Uris => raw.texts("URI", uri),
            Self::Origins => raw.texts("origin", origin),
            Self::Topics => raw.texts("topic", topic),
            Self::Networks => raw.texts("network", network),
            Self::Url => url(raw.text()?).map(Value::Text),
            Self::Path | Self::Target => match raw.text()? {
                "" => Err("is empty; give a path".into()),
                path => Ok(Value::Text(path.into())),
            },
            Self::Hexadecimal { octets } => hexadecimal(raw.text()?, octets),
        }
    }

    /// The type in words, for the reference.
    pub fn describe(self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::FlagOrAuto => "true, false or \"auto\"".into(),
            Self::Number(bounds) => bounds.describe(),
            Self::NumberOrAuto(bounds) => format!("{}, or \"auto\"", bounds.describe()),
            Self::Choice(words) => words
                .iter()
                .map(|w| format!("\"{w}\""))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Domain => "domain".into(),
            Self::Domains => "list of domains".into(),
            Self::Jids => "list of bare JIDs".into(),
            Self::Addresses => "list of addresses with ports".into(),
            Self::Path => "path".into(),
            Self::Target => "\"stderr\", \"stdout\" or a path".into(),
            Self::Uris => "list of mailto:, xmpp: or https: URIs".into(),
            Self::Origins => "list of web origins".into(),
            Self::Topics => "list of names with keys".into(),
            Self::Networks => "list of networks".into(),
            Self::Url => "http: or https: URL".into(),
            Self::Hexadecimal { octets } => format!("{octets} octets in hexadecimal"),
        }
    }
}

impl Bounds {
    /// A number of `unit` from `min` to `max`.
    pub const fn new(unit: &'static str, min: u64, max: u64) -> Self {
        let zero = Zero::Ordinary;
        Self {
            unit,
            min,
            max,
            zero,
        }
    }

    /// The same, and zero for no bound at all.
    pub const fn or_unlimited(mut self) -> Self {
        self.zero = Zero::Unlimited;
        self
    }

    fn read(self, raw: &Raw<'_>) -> Result<Value, String> {
        let number = raw
            .number()
            .ok_or_else(|| format!("is {}; give a whole number of {}", raw.shown(), self.unit))?;
        if number == 0 && self.zero == Zero::Unlimited {
            return Ok(Value::Number(0));
        }
        let number = u64::try_from(number).unwrap_or(0);
        if number < self.min || number > self.max {
            let Self { unit, min, max, .. } = self;
            return Err(format!("is out of bounds; give {min} to {max} {unit}"));
        }
        Ok(Value::Number(number))
    }

    fn describe(self) -> String {
        let Self {
            unit,
            min,
            max,
            zero,
        } = self;
        match zero {
            Zero::Ordinary => format!("{min} to {max} {unit}"),
            Zero::Unlimited => format!("{min} to {max} {unit}, 0 for no bound"),
        }
    }
}

impl Raw<'_> {
    fn is_auto(&self) -> bool {
        self.text() == Ok("auto")
    }

    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Word(word) => Ok(word),
            Self::Toml(value) => value
                .as_str()
                .ok_or_else(|| format!("is {}; give a text in quotes", self.shown())),
        }
    }

    fn number(&self) -> Option<i64> {
        match self {
            Self::Word(word) => word.replace('_', "").parse().ok(),
            Self::Toml(value) => {
                let number = value.as_integer()?;
                i64::from_str_radix(number.as_str(), number.radix()).ok()
            }
        }
    }

    fn texts(
        &self,
        noun: &str,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Value, String> {
        let list: Result<Vec<String>, String> = match self {
            Self::Word(word) => word
                .split(',')
                .map(str::trim)
                .filter(|piece| !piece.is_empty())
                .map(&read)
                .collect(),
            Self::Toml(DeValue::Array(array)) => array
                .iter()
                .map(|item| Raw::Toml(item.get_ref()).text().and_then(&read))
                .collect(),
            Self::Toml(_) => {
                let shown = self.shown();
                return Err(format!("is {shown}; give a list: [\"{noun}\", …]"));
            }
        };
        list.map(Value::Texts)
    }

    /// What it is, for a message.
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("{word:?}"),
            Self::Toml(DeValue::String(_)) => "a text".into(),
            Self::Toml(DeValue::Integer(number)) => format!("the number {}", number.as_str()),
            Self::Toml(DeValue::Float(number)) => format!("the number {}", number.as_str()),
            Self::Toml(DeValue::Boolean(flag)) => flag.to_string(),
            Self::Toml(DeValue::Datetime(_)) => "a date".into(),
            Self::Toml(DeValue::Array(_)) => "a list".into(),
            Self::Toml(DeValue::Table(_)) => "a table".into(),
        }
    }
}

fn flag(raw: &Raw<'_>) -> Result<Value, String> {
    match raw {
        Raw::Toml(DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        Raw::Word("true" | "1" | "yes") => Ok(Value::Flag(true)),
        Raw::Word("false" | "0" | "no") => Ok(Value::Flag(false)),
        _ => Err(format!("is {}; give true or false", raw.shown())),
    }
}

fn choice(word: &str, words: &[&str]) -> Result<Value, String> {
    if words.contains(&word) {
        return Ok(Value::Text(word.into()));
    }
    Err(format!("is {word:?}; give one of {}", words.join(", ")))
}

fn domain(text: &str) -> Result<String, String> {
    match BareJid::parse(text) {
        Ok(jid) if jid.local().is_none() => Ok(jid.domain().into()),
        Ok(_) => Err(format!("{text:?} has a localpart; give the domain alone")),
        Err(e) => Err(format!("{text:?} is no domain: {e}")),
    }
}

fn bare_jid(text: &str) -> Result<String, String> {
    match BareJid::parse(text) {
        Ok(jid) if jid.local().is_some() => Ok(jid.to_string()),
        Ok(_) => Err(format!("{text:?} has no localpart; give name@domain")),
        Err(e) => Err(format!("{text:?} is no bare JID: {e}; give name@domain")),
    }
}

fn address(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address.to_string());
    }
    let remedy = match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => format!("add a port: \"{ip}:5222\""),
        Ok(std::net::IpAddr::V6(ip)) => format!("add a port: \"[{ip}]:5222\""),
        Err(_) => "give an IP address with a port, such as \"0.0.0.0:5222\"".into(),
    };
    Err(format!("{text:?} is no address; {remedy}"))
}

fn uri(text: &str) -> Result<String, String> {
    let known = ["mailto:", "xmpp:", "https:"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if known && !text.contains(char::is_whitespace) && !text.contains(char::is_control) {
        return Ok(text.into());
    }
    Err(format!(
        "{text:?} is no address of a person; begin with mailto:, xmpp: or https:"
    ))
}

fn origin(text: &str) -> Result<String, String> {
    match Origins::new([text]) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(format!(
            "{text:?} is no origin; give scheme, host and perhaps a port, such as \
             \"https://chat.example.org\""
        )),
    }
}

fn topic(text: &str) -> Result<String, String> {
    match Topics::new([text]) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(
            "a topic is a name of letters, digits and -._~, a colon, and a key of 16 \
             characters or more"
                .into(),
        ),
    }
}

fn network(text: &str) -> Result<String, String> {
    match Networks::new([text]) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err(format!(
            "{text:?} is no network; give an address and a length, such as \"10.0.0.0/8\""
        )),
    }
}

fn url(text: &str) -> Result<String, String> {
    let begins = text.find("://").map(|at| at + 3);
    let end = begins.and_then(|at| Some(text.get(at..)?.find('/')? + at));
    let (base, path) = text.split_at(end.unwrap_or(text.len()));
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/-._~".contains(&octet);
    match Origins::new([base]) {
        Ok(_) if path.bytes().all(plain) => Ok(text.trim_end_matches('/').into()),
        _ => Err(format!(
            "{text:?} is no URL; give one such as \"https://chat.example.org\""
        )),
    }
}

fn hexadecimal(text: &str, octets: usize) -> Result<Value, String> {
    if text.len() == octets * 2 && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Ok(Value::Text(text.into()));
    }
    Err(format!(
        "is no secret; give {} hexadecimal digits",
        octets * 2
    ))
}

impl Value {
    /// The number; zero for `"auto"`.
    pub fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            _ => 0,
        }
    }

    /// Whether it is `true`.
    pub fn flag(&self) -> bool {
        *self == Self::Flag(true)
    }

    /// The text, if there is one.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The list; empty when there is none.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::Texts(texts) => texts,
            _ => Vec::new(),
        }
    }

    /// The same for a program.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Absent => serde_json::Value::Null,
            Self::Auto => "auto".into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Texts(texts) => texts.clone().into(),
        }
    }
}

/// As TOML spells it; nothing for an absent value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::Auto => f.write_str("\"auto\""),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}
