//! What a stream brings, as events.

use std::borrow::Cow;

use smallvec::SmallVec;

pub use super::event::Class;
use super::problem::Foreign;
use super::request::STATES;
use super::writer::{Object, write_string};
use crate::xmpp::ns;
use crate::xmpp::xml::{Attr, Bounds, Child, Element, Progress, Scanner, StreamScope, Tree};

/// What the children of a message are, each where it belongs.
#[derive(Default)]
struct Parts<'a> {
    body: Option<Child<'a>>,
    subject: Option<Child<'a>>,
    thread: Option<Child<'a>>,
    state: Option<&'static str>,
    wants_receipt: bool,
    received: Option<Cow<'a, str>>,
    delay: Option<Child<'a>>,
    stanza_id: Option<Child<'a>>,
    carbon: Option<Child<'a>>,
    error: Option<Child<'a>>,
    others: SmallVec<[Child<'a>; 4]>,
}

impl<'a> Parts<'a> {
    /// `own`: the bare address of the account that gets the message.
    fn of(message: Element<'a>, own: &str) -> Self {
        let mut parts = Self::default();
        // Anybody could write what looks like a copy (XEP-0280 section 11, SECURITY class 27).
        let may_copy = message.attr("from").as_deref() == Some(own);
        for child in message.children() {
            let is_copy = child.namespace == CARBONS && !may_copy;
            let other = match is_copy {
                true => Some(child),
                false => parts.place(child, own),
            };
            parts.others.extend(other);
        }
        parts
    }

    /// Gives back what is unknown, or there already.
    fn place(&mut self, child: Child<'a>, own: &str) -> Option<Child<'a>> {
        let place = match (child.namespace, child.local) {
            (CLIENT, b"body") => &mut self.body,
            (CLIENT, b"subject") => &mut self.subject,
            (CLIENT, b"thread") if child.attr("parent").is_none() => &mut self.thread,
            (CLIENT, b"error") => &mut self.error,
            // Anybody may have named the message; what the own server calls it goes before
            // (XEP-0359 section 6, SECURITY class 29).
            (SID, b"stanza-id") if child.attr("by").as_deref() == Some(own) => {
                return self.stanza_id.replace(child);
            }
            (SID, b"stanza-id") => &mut self.stanza_id,
            // So with who kept it back (XEP-0203 section 6): senders may say what they want.
            (DELAY, b"delay") if child.attr("from").as_deref() == Some(domain_of(own)) => {
                return self.delay.replace(child);
            }
            (DELAY, b"delay") => &mut self.delay,
            (CARBONS, b"received" | b"sent") => &mut self.carbon,
            (CHATSTATES, local) if self.state.is_none() => {
                self.state = STATES.iter().find(|s| s.as_bytes() == local).copied();
                return self.state.is_none().then_some(child);
            }
            (RECEIPTS, b"request") => {
                self.wants_receipt = true;
                return None;
            }
            (RECEIPTS, b"received") if self.received.is_none() => {
                self.received = child.attr("id");
                return self.received.is_none().then_some(child);
            }
            _ => return Some(child),
        };
        // A second body is one in another language.
        match place {
            Some(_) => Some(child),
            None => {
                *place = Some(child);
                None
            }
        }
    }

    fn class(&self, is_error: bool) -> Class {
        let has_text = self.body.is_some() || self.subject.is_some();
        match self {
            _ if is_error => Class::Failure,
            Self {
                carbon: Some(_), ..
            } => Class::Carbon,
            Self {
                received: Some(_), ..
            } if !has_text => Class::Receipt,
            Self { state: Some(_), .. } if !has_text && !self.has_more() => Class::Typing,
            _ => Class::Message,
        }
    }

    /// Whether there is something that a chat state alone does not have (XEP-0085 section 5.6): it
    /// is what the message is for, and may have to be stored.
    fn has_more(&self) -> bool {
        let aside = |other: &Child<'_>| match (other.namespace, other.local) {
            (HINTS, hint) => hint != b"store",
            (SID, b"origin-id" | b"stanza-id") | (CLIENT, b"thread") => true,
            _ => false,
        };
        self.wants_receipt || self.received.is_some() || !self.others.iter().all(aside)
    }

    fn write(&self, object: &mut Object<'_>) {
        let texts = [
            ("subject", self.subject),
            ("body", self.body),
            ("thread", self.thread),
        ];
        for (name, child) in texts {
            if let Some(child) = child {
                object.text(name, &text_of(child));
            }
        }
        object.text_if("state", self.state);
        object.flag("wants_receipt", self.wants_receipt);
        object.text_if("received", self.received.as_ref());
        if let Some(delay) = self.delay {
            object.object("delay", |object| {
                object.text_if("stamp", delay.attr("stamp"));
                object.text_if("from", delay.attr("from"));
            });
        }
        if let Some(stanza_id) = self.stanza_id {
            object.object("stanza_id", |object| {
                object.text_if("id", stanza_id.attr("id"));
                object.text_if("by", stanza_id.attr("by"));
            });
        }
        write_xml(object, &self.others);
    }
}

const CLIENT: &[u8] = ns::CLIENT.as_bytes();
const DELAY: &[u8] = ns::DELAY.as_bytes();
const SID: &[u8] = ns::SID.as_bytes();
const CARBONS: &[u8] = ns::CARBONS.as_bytes();
const CHATSTATES: &[u8] = ns::CHATSTATES.as_bytes();
const RECEIPTS: &[u8] = ns::RECEIPTS.as_bytes();
const HINTS: &[u8] = ns::HINTS.as_bytes();

/// The server of a bare address.
fn domain_of(bare: &str) -> &str {
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}

/// Appends the members of the event that `stanza` is, after `begin` wrote those that come first.
/// `own`: the bare address of the account that gets it. `None`: it is no message and no presence;
/// nothing was appended.
pub fn describe(
    out: &mut Vec<u8>,
    stanza: Element<'_>,
    own: &str,
    begin: impl FnOnce(&mut Vec<u8>, Class),
) -> Option<Class> {
    match stanza.local_octets() {
        b"message" if stanza.namespace() == ns::CLIENT => {
            let parts = Parts::of(stanza, own);
            let is_error = stanza.attr("type").as_deref() == Some("error");
            let class = parts.class(is_error);
            begin(out, class);
            let mut object = Object::go_on(out);
            match class {
                Class::Failure => write_failure(&mut object, stanza, &parts),
                Class::Carbon => write_carbon(&mut object, &parts, own),
                _ => write_message(&mut object, stanza, &parts),
            }
            Some(class)
        }
        b"presence" if stanza.namespace() == ns::CLIENT => {
            let class = match stanza.attr("type").as_deref() {
                None | Some("unavailable") => Class::Presence,
                Some("error") => Class::Failure,
                Some("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed") => {
                    Class::Subscription
                }
                Some(_) => return None,
            };
            begin(out, class);
            let mut object = Object::go_on(out);
            write_presence(&mut object, stanza, class);
            Some(class)
        }
        _ => None,
    }
}

fn write_addresses(object: &mut Object<'_>, stanza: Element<'_>) {
    object.text_if("from", stanza.attr("from"));
    object.text_if("to", stanza.attr("to"));
}

fn write_message(object: &mut Object<'_>, message: Element<'_>, parts: &Parts<'_>) {
    write_addresses(object, message);
    object.text_if("message_id", message.attr("id"));
    let kind = message.attr("type");
    // Unknown ones mean the same as none (RFC 6121 section 5.2.2).
    let known = |kind: &&str| matches!(*kind, "chat" | "groupchat" | "headline");
    let kind = kind.as_deref().filter(known).unwrap_or("normal");
    object.text("kind", kind);
    object.text_if("lang", message.lang());
    parts.write(object);
}

fn write_failure(object: &mut Object<'_>, stanza: Element<'_>, parts: &Parts<'_>) {
    object.text("of", stanza.local());
    write_addresses(object, stanza);
    object.text_if("message_id", stanza.attr("id"));
    let error = parts.error.map(|error| error.tree()).unwrap_or_default();
    object.object("problem", |object| {
        Foreign::of_stanza(&error).write_members(object);
    });
    parts.write(object);
}

/// The message inside is one of its own, so it is scanned anew.
fn write_carbon(object: &mut Object<'_>, parts: &Parts<'_>, own: &str) {
    let Some(carbon) = parts.carbon else {
        return;
    };
    object.text("direction", &String::from_utf8_lossy(carbon.local));
    let tree = carbon.tree();
    let forwarded = tree.child(ns::FORWARD, "forwarded");
    let inner = forwarded.and_then(|forwarded| forwarded.child(ns::CLIENT, "message"));
    let mut octets = Vec::new();
    if let Some(inner) = inner {
        inner.write(&mut octets);
    }
    let mut scanner = Scanner::new();
    let scope = StreamScope::standard();
    if let Ok(Progress::Element(_)) = scanner.next(&octets, &scope, &UNBOUNDED) {
        let message = scanner.element(&octets);
        object.object("message", |object| {
            write_message(object, message, &Parts::of(message, own));
        });
    }
    let delay = forwarded.and_then(|forwarded| forwarded.child(ns::DELAY, "delay"));
    object.text_if("stamp", delay.and_then(|delay| delay.attr("stamp")));
}

fn write_presence(object: &mut Object<'_>, presence: Element<'_>, class: Class) {
    let mut parts = PresenceParts::default();
    for child in presence.children() {
        let place = match (child.namespace, child.local) {
            (CLIENT, b"show") => &mut parts.show,
            (CLIENT, b"status") => &mut parts.status,
            (CLIENT, b"priority") => &mut parts.priority,
            (CLIENT, b"error") => &mut parts.error,
            (DELAY, b"delay") => &mut parts.delay,
            _ => {
                parts.others.push(child);
                continue;
            }
        };
        match place {
            Some(_) => parts.others.push(child),
            None => *place = Some(child),
        }
    }
    let class_of = presence.attr("type");
    match class {
        Class::Failure => {
            object.text("of", "presence");
        }
        Class::Subscription => {
            object.text_if("action", class_of.as_ref());
        }
        _ => {}
    }
    write_addresses(object, presence);
    object.text_if("presence_id", presence.attr("id"));
    if class == Class::Presence {
        let show = parts.show.map(text_of);
        let show = match (class_of.as_deref(), show.as_deref().map(str::trim)) {
            (Some(_), _) => "offline",
            (None, Some(show @ ("away" | "chat" | "dnd" | "xa"))) => show,
            (None, _) => "online",
        };
        object.text("show", show);
    }
    object.text_if("status", parts.status.map(text_of));
    let priority = parts.priority.and_then(|p| text_of(p).trim().parse().ok());
    if let Some(priority) = priority {
        object.number("priority", priority);
    }
    if let Some(delay) = parts.delay {
        object.object("delay", |object| {
            object.text_if("stamp", delay.attr("stamp"));
            object.text_if("from", delay.attr("from"));
        });
    }
    if let Some(error) = parts.error {
        let error = Foreign::of_stanza(&error.tree());
        object.object("problem", |object| error.write_members(object));
    }
    write_xml(object, &parts.others);
}

#[derive(Default)]
struct PresenceParts<'a> {
    show: Option<Child<'a>>,
    status: Option<Child<'a>>,
    priority: Option<Child<'a>>,
    delay: Option<Child<'a>>,
    error: Option<Child<'a>>,
    others: SmallVec<[Child<'a>; 4]>,
}

/// What nobody here knows, with all it needs to mean the same elsewhere.
fn write_xml(object: &mut Object<'_>, others: &[Child<'_>]) {
    if others.is_empty() {
        return;
    }
    object.array("xml", others, |out, other| {
        write_string(out, &document(&other.tree()));
    });
}

/// The element with its declarations.
pub fn document(tree: &Tree) -> String {
    let mut octets = Vec::new();
    tree.write(&mut octets);
    String::from_utf8(octets).unwrap_or_default()
}

/// Appends the member `items` of a roster.
pub fn write_items(object: &mut Object<'_>, query: &Tree) {
    let items = query
        .children()
        .filter(|child| child.is(ns::ROSTER, "item"));
    object.array("items", items, |out, item| {
        let mut object = Object::begin(out);
        object.text_if("jid", item.attr("jid"));
        object.text_if("name", item.attr("name"));
        object.text("subscription", item.attr("subscription").unwrap_or("none"));
        object.text_if("ask", item.attr("ask"));
        object.flag(
            "approved",
            matches!(item.attr("approved"), Some("true" | "1")),
        );
        let groups = item
            .children()
            .filter(|child| child.is(ns::ROSTER, "group"));
        object.array("groups", groups, |out, group| {
            write_string(out, &group.text())
        });
        object.end();
    });
}

/// The text in an element that has nothing else. Most of it is copied as it stands.
fn text_of(child: Child<'_>) -> Cow<'_, str> {
    let octets = child.octets;
    let end = octets.len().checked_sub(child.local.len() + 3);
    let raw = end.and_then(|end| {
        // Not of an element that is empty, nor of one with a prefix.
        octets.get(end..).filter(|tag| tag.starts_with(b"</"))?;
        let start = memchr::memchr(b'>', octets)? + 1;
        octets.get(start..end)
    });
    let has = |raw: &[u8], special: &[u8]| raw.iter().any(|octet| special.contains(octet));
    match raw {
        // `>` may be that of an attribute, so that this is not the text.
        Some(raw) if !has(raw, b"<>&\r") => {
            str::from_utf8(raw).map_or_else(|_| Cow::Owned(child.tree().text()), Cow::Borrowed)
        }
        // Without line breaks and tabs references are read as in an attribute.
        Some(raw) if !has(raw, b"<>\r\n\t") => {
            let quote = b'"';
            let name = b"";
            Attr { name, raw, quote }.value()
        }
        _ => Cow::Owned(child.tree().text()),
    }
}

/// What our own streams write is within the bounds of whoever made it.
pub(super) const UNBOUNDED: Bounds = Bounds {
    octets_max: usize::MAX,
    depth_max: usize::MAX,
    attributes_max: usize::MAX,
    elements_max: usize::MAX,
};

#[cfg(test)]
mod tests;
