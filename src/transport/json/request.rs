//! What clients ask for: strict and bounded.

use std::borrow::Cow;

use serde::Deserialize;

use super::Cursor;
use super::problem::{self, Problem};
use crate::xmpp::jid::Jid;
use crate::xmpp::ns;
use crate::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

/// A request, and by which name its answer goes on a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub request_id: Option<Cow<'a, str>>,
    pub request: Request<'a>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `message`
    Message(Message<'a>),
    /// `presence`
    Presence(Presence<'a>),
    /// `presence.get`
    PresenceGet,
    /// `subscription`
    Subscription {
        to: Cow<'a, str>,
        action: &'static str,
        status: Option<Cow<'a, str>>,
    },
    /// `roster.get`
    RosterGet,
    /// `roster.set`: adds or changes an item.
    RosterSet {
        address: Cow<'a, str>,
        name: Option<Cow<'a, str>>,
        groups: Vec<Cow<'a, str>>,
    },
    /// `roster.remove`
    RosterRemove { address: Cow<'a, str> },
    /// `iq`: anything else that has an answer.
    Iq {
        to: Option<Cow<'a, str>>,
        set: bool,
        payload: Cow<'a, str>,
    },
    /// `subscribe`: what is published to a topic, from here on.
    Subscribe { topic: Cow<'a, str> },
    /// `unsubscribe`: no longer.
    Unsubscribe { topic: Cow<'a, str> },
    /// `ack`: this reader has what is up to here.
    Ack(Cursor),
    /// `ping`: whether the session is there.
    Ping,
    /// `close`: the end of the session.
    Close,
}

/// Everything a message may have. Typing states and receipts are messages too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// Named by the client: a second request of this name does nothing.
    pub message_id: Option<Cow<'a, str>>,
    pub to: Cow<'a, str>,
    pub kind: Kind,
    pub body: Option<Cow<'a, str>>,
    pub subject: Option<Cow<'a, str>>,
    pub thread: Option<Cow<'a, str>>,
    /// XEP-0085.
    pub state: Option<&'static str>,
    /// XEP-0184: a receipt is asked for.
    pub wants_receipt: bool,
    /// XEP-0184: the message that was received.
    pub received: Option<Cow<'a, str>>,
    /// Whole elements, checked.
    pub xml: Vec<Cow<'a, str>>,
}

/// The `type` of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Chat,
    Normal,
    Groupchat,
    Headline,
}

/// RFC 6121 section 4.7.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence<'a> {
    /// To one address only.
    pub to: Option<Cow<'a, str>>,
    pub show: Show,
    pub status: Option<Cow<'a, str>>,
    pub priority: Option<i8>,
    pub xml: Vec<Cow<'a, str>>,
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    #[default]
    Online,
    Chat,
    Away,
    Dnd,
    Xa,
    Offline,
}

/// The words of [`Kind`].
pub const KINDS: &[(&str, Kind)] = &[
    ("chat", Kind::Chat),
    ("normal", Kind::Normal),
    ("groupchat", Kind::Groupchat),
    ("headline", Kind::Headline),
];
/// The words of [`Show`].
pub const SHOWS: &[(&str, Show)] = &[
    ("online", Show::Online),
    ("chat", Show::Chat),
    ("away", Show::Away),
    ("dnd", Show::Dnd),
    ("xa", Show::Xa),
    ("offline", Show::Offline),
];
/// Of XEP-0085.
pub const STATES: &[&str] = &["active", "composing", "paused", "inactive", "gone"];
/// Of RFC 6121 section 3.
pub const ACTIONS: &[&str] = &["subscribe", "subscribed", "unsubscribe", "unsubscribed"];

/// Reads the whole body of a request. `implied` is its type where the path says it; then the body
/// may leave `type` out. `bounds` are for the body as a whole and for each element in `xml`.
///
/// # Errors
/// The answer, if it is refused: it then had no effect.
pub fn read<'a>(
    body: &'a [u8],
    implied: Option<&str>,
    scanner: &mut Scanner,
    bounds: &Bounds,
) -> Result<Asked<'a>, Problem> {
    let mut wire: Wire<'_> = flat(body, bounds.octets_max)?;
    let named = wire.kind_of_request.take().map(|Text(name)| name);
    let name = match (named.as_deref(), implied) {
        (Some(named), Some(implied)) if named != implied => return Err(problem::UNKNOWN_REQUEST),
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(problem::MISSING_MEMBER),
    };
    let request_id = identifier(wire.request_id.take())?;
    let request = wire.request(name, scanner, bounds)?;
    if wire != Wire::default() {
        return Err(problem::WRONG_MEMBER);
    }
    Ok(Asked {
        request_id,
        request,
    })
}

/// By which name a request that [`read`] refused is refused: that of any object, if it can be read.
pub fn name_of(body: &[u8], octets_max: usize) -> Option<Cow<'_, str>> {
    let named: Named<'_> = flat(body, octets_max).ok()?;
    identifier(named.request_id).ok()?
}

/// Reads one flat object and nothing else.
pub(super) fn flat<'a, V: Deserialize<'a>>(
    body: &'a [u8],
    octets_max: usize,
) -> Result<V, Problem> {
    if body.len() > octets_max {
        return Err(problem::TOO_LARGE);
    }
    let body = str::from_utf8(body).map_err(|_| problem::NOT_JSON)?;
    // A sequence would be taken for the members in their order.
    if !body.trim_ascii_start().starts_with('{') {
        return Err(problem::NOT_JSON);
    }
    serde_json::from_str(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => problem::WRONG_MEMBER,
        _ => problem::NOT_JSON,
    })
}

/// All members of all requests. One flat structure: nothing is read twice, nothing is nested, and
/// texts without escapes are not copied.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wire<'a> {
    #[serde(borrow, rename = "type")]
    kind_of_request: Option<Text<'a>>,
    #[serde(borrow)]
    request_id: Option<Text<'a>>,
    #[serde(borrow)]
    message_id: Option<Text<'a>>,
    #[serde(borrow)]
    to: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    body: Option<Text<'a>>,
    #[serde(borrow)]
    subject: Option<Text<'a>>,
    #[serde(borrow)]
    thread: Option<Text<'a>>,
    #[serde(borrow)]
    state: Option<Text<'a>>,
    wants_receipt: Option<bool>,
    #[serde(borrow)]
    received: Option<Text<'a>>,
    #[serde(borrow)]
    show: Option<Text<'a>>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    priority: Option<i8>,
    #[serde(borrow)]
    action: Option<Text<'a>>,
    #[serde(borrow)]
    jid: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    groups: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    cursor: Option<Text<'a>>,
    #[serde(borrow)]
    topic: Option<Text<'a>>,
    #[serde(borrow)]
    xml: Option<Vec<Text<'a>>>,
}

/// Of [`Wire`], what a refusal needs; other members may be anything.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    request_id: Option<Text<'a>>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> Wire<'a> {
    /// Takes what the request of this name has; what is left does not belong to it.
    fn request(
        &mut self,
        name: &str,
        scanner: &mut Scanner,
        bounds: &Bounds,
    ) -> Result<Request<'a>, Problem> {
        Ok(match name {
            "message" => Request::Message(self.message(scanner, bounds)?),
            "presence" => Request::Presence(Presence {
                to: optional_address(self.to.take())?,
                show: choose(self.show.take(), SHOWS)?.unwrap_or_default(),
                status: text(self.status.take())?,
                priority: self.priority.take(),
                xml: elements(self.xml.take(), scanner, bounds)?,
            }),
            "presence.get" => Request::PresenceGet,
            "subscription" => Request::Subscription {
                to: address(self.to.take())?,
                action: word(self.action.take(), ACTIONS)?.ok_or(problem::MISSING_MEMBER)?,
                status: text(self.status.take())?,
            },
            "roster.get" => Request::RosterGet,
            "roster.set" => Request::RosterSet {
                address: address(self.jid.take())?,
                name: text(self.name.take())?,
                groups: texts(self.groups.take())?,
            },
            "roster.remove" => Request::RosterRemove {
                address: address(self.jid.take())?,
            },
            "iq" => self.iq(scanner, bounds)?,
            "ack" => {
                let Text(cursor) = self.cursor.take().ok_or(problem::MISSING_MEMBER)?;
                Request::Ack(Cursor::parse(&cursor).ok_or(problem::WRONG_VALUE)?)
            }
            "subscribe" => Request::Subscribe {
                topic: self.topic()?,
            },
            "unsubscribe" => Request::Unsubscribe {
                topic: self.topic()?,
            },
            "ping" => Request::Ping,
            "close" => Request::Close,
            _ => return Err(problem::UNKNOWN_REQUEST),
        })
    }

    fn topic(&mut self) -> Result<Cow<'a, str>, Problem> {
        identifier(self.topic.take())?.ok_or(problem::MISSING_MEMBER)
    }

    fn message(&mut self, scanner: &mut Scanner, bounds: &Bounds) -> Result<Message<'a>, Problem> {
        Ok(Message {
            message_id: identifier(self.message_id.take())?,
            to: address(self.to.take())?,
            kind: choose(self.kind.take(), KINDS)?.unwrap_or_default(),
            body: text(self.body.take())?,
            subject: text(self.subject.take())?,
            thread: text(self.thread.take())?,
            state: word(self.state.take(), STATES)?,
            wants_receipt: self.wants_receipt.take().unwrap_or_default(),
            received: identifier(self.received.take())?,
            xml: elements(self.xml.take(), scanner, bounds)?,
        })
    }

    fn iq(&mut self, scanner: &mut Scanner, bounds: &Bounds) -> Result<Request<'a>, Problem> {
        let words = [("get", false), ("set", true)];
        let set = choose(self.kind.take(), &words)?.ok_or(problem::MISSING_MEMBER)?;
        let mut payload = elements(self.xml.take(), scanner, bounds)?;
        match (payload.pop(), payload.is_empty()) {
            (Some(payload), true) => Ok(Request::Iq {
                to: optional_address(self.to.take())?,
                set,
                payload,
            }),
            (None, _) => Err(problem::MISSING_MEMBER),
            // RFC 6120 section 8.2.3: one child.
            (Some(_), false) => Err(problem::WRONG_VALUE),
        }
    }
}

fn word(
    given: Option<Text<'_>>,
    words: &'static [&'static str],
) -> Result<Option<&'static str>, Problem> {
    let Some(Text(given)) = given else {
        return Ok(None);
    };
    let found = words.iter().find(|word| **word == given);
    found.copied().map(Some).ok_or(problem::WRONG_VALUE)
}

pub(super) fn choose<V: Copy>(
    given: Option<Text<'_>>,
    words: &[(&str, V)],
) -> Result<Option<V>, Problem> {
    let Some(Text(given)) = given else {
        return Ok(None);
    };
    let found = words.iter().find(|(word, _)| *word == given);
    found
        .map(|(_, value)| Some(*value))
        .ok_or(problem::WRONG_VALUE)
}

/// Text that XML can carry.
pub(super) fn text(given: Option<Text<'_>>) -> Result<Option<Cow<'_, str>>, Problem> {
    match given {
        Some(Text(given)) if !is_carried(&given) => Err(problem::WRONG_CHARACTER),
        given => Ok(given.map(|Text(text)| text)),
    }
}

fn texts(given: Option<Vec<Text<'_>>>) -> Result<Vec<Cow<'_, str>>, Problem> {
    let given = given.unwrap_or_default();
    if given.len() > LIST_MAX {
        return Err(problem::TOO_LARGE);
    }
    let texts = given.into_iter().map(|one| text(Some(one)));
    texts.filter_map(Result::transpose).collect()
}

/// A name that the client gave: some visible text, not too long.
fn identifier(given: Option<Text<'_>>) -> Result<Option<Cow<'_, str>>, Problem> {
    let given = text(given)?;
    match &given {
        Some(id) if id.is_empty() || id.chars().any(char::is_control) => Err(problem::WRONG_VALUE),
        Some(id) if id.len() > IDENTIFIER_OCTETS_MAX => Err(problem::TOO_LARGE),
        _ => Ok(given),
    }
}

fn address(given: Option<Text<'_>>) -> Result<Cow<'_, str>, Problem> {
    optional_address(given)?.ok_or(problem::MISSING_MEMBER)
}

fn optional_address(given: Option<Text<'_>>) -> Result<Option<Cow<'_, str>>, Problem> {
    let Some(Text(given)) = given else {
        return Ok(None);
    };
    match Jid::parse(&given) {
        Ok(_) => Ok(Some(given)),
        Err(_) => Err(problem::WRONG_ADDRESS),
    }
}

fn elements<'a>(
    given: Option<Vec<Text<'a>>>,
    scanner: &mut Scanner,
    bounds: &Bounds,
) -> Result<Vec<Cow<'a, str>>, Problem> {
    let given = given.unwrap_or_default();
    if given.len() > LIST_MAX {
        return Err(problem::TOO_LARGE);
    }
    for Text(element) in &given {
        check_element(element.as_bytes(), scanner, bounds)?;
    }
    if !given.is_empty() {
        check_together(&given, scanner, bounds)?;
    }
    Ok(given.into_iter().map(|Text(element)| element).collect())
}

/// One element and nothing around it, which means the same wherever it is pasted, and does not
/// pretend to be part of the stanza itself.
fn check_element(element: &[u8], scanner: &mut Scanner, bounds: &Bounds) -> Result<(), Problem> {
    scanner.reset();
    let scope = StreamScope::framed(None);
    if scanner.next(element, &scope, bounds) != Ok(Progress::Element(element.len())) {
        return Err(problem::WRONG_XML);
    }
    let root = scanner.element(element);
    let reserved = [ns::CLIENT, ns::SERVER, ns::STREAMS, ns::SM, ns::SASL, ""];
    // Children without prefix inherit the default namespace, which would be that of the stream.
    match reserved.contains(&root.namespace()) || root.default_namespace().is_empty() {
        true => Err(problem::WRONG_XML),
        false => Ok(()),
    }
}

/// Elements that a stanza may have of ours, beside those in `xml`.
const OWN_ELEMENTS: usize = 8;

/// All of them in one stanza, with what else will be in it, are within the bounds of a stanza.
fn check_together(
    given: &[Text<'_>],
    scanner: &mut Scanner,
    bounds: &Bounds,
) -> Result<(), Problem> {
    let mut stanza = Vec::new();
    stanza.extend_from_slice(b"<iq xmlns='jabber:client'>");
    for Text(element) in given {
        stanza.extend_from_slice(element.as_bytes());
    }
    stanza.extend_from_slice(b"</iq>");
    let bounds = Bounds {
        elements_max: bounds.elements_max.saturating_sub(OWN_ELEMENTS),
        ..*bounds
    };
    scanner.reset();
    match scanner.next(&stanza, &StreamScope::framed(None), &bounds) {
        Ok(Progress::Element(octets)) if octets == stanza.len() => Ok(()),
        _ => Err(problem::TOO_LARGE),
    }
}

/// Whether all characters are of XML 1.0 section 2.2. JSON has escapes for others.
pub(super) fn is_carried(text: &str) -> bool {
    // Nearly all text has neither control characters nor the one suspicious first octet.
    let suspicious = |octet: u8| octet < b' ' || octet == 0xef;
    if !text.bytes().any(suspicious) {
        return true;
    }
    let refused = |c: char| match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c < ' ',
    };
    !text.chars().any(refused)
}

impl Kind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        let found = KINDS.iter().find(|(_, kind)| *kind == self);
        found.map_or("chat", |(word, _)| word)
    }
}

/// Of `message_id` and `request_id`.
const IDENTIFIER_OCTETS_MAX: usize = 128;
/// Entries of a list.
const LIST_MAX: usize = 32;

#[cfg(test)]
mod tests;
