//! Topics: what a program publishes with a key, all sessions that asked for it get.
//!
//! A first, simple form: the configuration names the topics, nothing of them is stored, and who
//! was not there has missed it.

use std::sync::Arc;

use serde::de::IgnoredAny;
use subtle::ConstantTimeEq as _;

use super::problem::{self, Problem};

/// The topics that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    listed: Arc<[Topic]>,
}

#[derive(Clone, PartialEq, Eq)]
struct Topic {
    name: Arc<str>,
    /// Who knows it may publish.
    key: Box<str>,
}

/// A key is not for logs.
impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Topic({})", self.name)
    }
}

/// Octets of a name.
const NAME_OCTETS_MAX: usize = 64;
/// Octets of a key.
const KEY_OCTETS_MIN: usize = 16;

impl Topics {
    /// The topics of a configuration, each `name:key`.
    ///
    /// # Errors
    /// The entry that is none.
    pub fn new<'a>(listed: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let listed: Result<Arc<_>, _> = listed
            .into_iter()
            .map(|entry| read(entry).ok_or(entry))
            .collect();
        Ok(Self { listed: listed? })
    }

    /// The topic of this name.
    pub fn find(&self, name: &str) -> Option<Arc<str>> {
        let found = self.listed.iter().find(|topic| *topic.name == *name);
        found.map(|topic| topic.name.clone())
    }

    /// The topic of this name, if the key is its own. All topics are alike to who has no key.
    pub fn open(&self, name: &str, key: &str) -> Option<Arc<str>> {
        let fits = |topic: &&Topic| {
            let is_key: bool = topic.key.as_bytes().ct_eq(key.as_bytes()).into();
            *topic.name == *name && is_key
        };
        let found = self.listed.iter().find(fits);
        found.map(|topic| topic.name.clone())
    }
}

fn read(entry: &str) -> Option<Topic> {
    let (name, key) = entry.split_once(':')?;
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
    let named = (1..=NAME_OCTETS_MAX).contains(&name.len()) && name.bytes().all(plain);
    let keyed = key.len() >= KEY_OCTETS_MIN && key.bytes().all(|octet| octet.is_ascii_graphic());
    (named && keyed).then(|| Topic {
        name: name.into(),
        key: key.into(),
    })
}

/// What all subscribers get of a publication: any JSON, as it came.
///
/// # Errors
/// The answer, if it is no JSON.
pub fn publication(topic: &str, data: &[u8]) -> Result<Arc<[u8]>, Problem> {
    let text = str::from_utf8(data).map_err(|_| problem::NOT_JSON)?;
    let checked: Result<IgnoredAny, _> = serde_json::from_str(text);
    checked.map_err(|_| problem::NOT_JSON)?;
    let mut json = Vec::with_capacity(data.len() + topic.len() + 40);
    for part in ["{\"type\":\"topic\",\"topic\":\"", topic, "\",\"data\":"] {
        json.extend_from_slice(part.as_bytes());
    }
    // An event is one line. Between the values of JSON any white space means the same, and inside
    // of strings there are no line breaks.
    let line = text.trim_ascii().bytes().map(|octet| match octet {
        b'\n' | b'\r' => b' ',
        octet => octet,
    });
    json.extend(line);
    json.push(b'}');
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_names_and_keys() {
        let topics = Topics::new(["news:0123456789abcdef", "a.b:0123456789:abcdef"]).unwrap();
        assert_eq!(topics.find("news").as_deref(), Some("news"));
        assert_eq!(topics.find("none"), None);
        let opened = topics.open("a.b", "0123456789:abcdef");
        assert_eq!(opened.as_deref(), Some("a.b"));
        assert_eq!(topics.open("news", "0123456789:abcdef"), None);
        assert_eq!(topics.open("news", ""), None);
        assert!(!format!("{topics:?}").contains("0123"));
        for wrong in [
            "news",
            "news:",
            "news:short",
            "a b:0123456789abcdef",
            ":0123456789abcdef",
        ] {
            assert_eq!(Topics::new([wrong]), Err(wrong));
        }
    }

    #[test]
    fn a_publication_is_one_line() {
        let published = publication("news", b" {\n\"a\":\r\n[1, \"\\n\"]}\n").unwrap();
        let text = str::from_utf8(&published).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"topic\",\"topic\":\"news\",\"data\":{ \"a\":  [1, \"\\n\"]}}"
        );
        for wrong in [
            &b""[..],
            b"{",
            b"1 2",
            b"\"\n\"",
            b"\"\xff\"",
            b"{\"a\":1}}",
        ] {
            assert_eq!(publication("news", wrong), Err(problem::NOT_JSON));
        }
    }
}
