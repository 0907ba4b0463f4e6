//! A stanza in flight: a head written anew, checked content, and what the server needs to know.
//!
//! The root's start tag is always written by us ([`Stanza::head`]); the content is copied, never
//! re-encoded. Between the two stands a hole for `to`, so that one encoding serves many receivers.

use crate::base::id::MessageId;
use crate::xmpp::xml::writer;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

impl Kind {
    /// The root's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    /// The kind whose name this is.
    pub fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"message" => Some(Self::Message),
            b"presence" => Some(Self::Presence),
            b"iq" => Some(Self::Iq),
            _ => None,
        }
    }
}

/// The `type` of a stanza, with the default filled in (RFC 6121 sections 5.2.2 and 4.7.1, RFC 6120
/// section 8.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Normal,
    Chat,
    Groupchat,
    Headline,
    Available,
    Unavailable,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Probe,
    Get,
    Set,
    Result,
    Error,
}

impl Type {
    /// Reads the attribute. `None`: the value is not allowed for this kind; an unknown message
    /// type is `normal` (RFC 6121 section 5.2.2).
    pub fn of(kind: Kind, value: Option<&[u8]>) -> Option<Self> {
        Some(match (kind, value) {
            (_, Some(b"error")) => Self::Error,
            (Kind::Message, Some(b"chat")) => Self::Chat,
            (Kind::Message, Some(b"groupchat")) => Self::Groupchat,
            (Kind::Message, Some(b"headline")) => Self::Headline,
            (Kind::Message, _) => Self::Normal,
            (Kind::Presence, None) => Self::Available,
            (Kind::Presence, Some(b"unavailable")) => Self::Unavailable,
            (Kind::Presence, Some(b"subscribe")) => Self::Subscribe,
            (Kind::Presence, Some(b"subscribed")) => Self::Subscribed,
            (Kind::Presence, Some(b"unsubscribe")) => Self::Unsubscribe,
            (Kind::Presence, Some(b"unsubscribed")) => Self::Unsubscribed,
            (Kind::Presence, Some(b"probe")) => Self::Probe,
            (Kind::Iq, Some(b"get")) => Self::Get,
            (Kind::Iq, Some(b"set")) => Self::Set,
            (Kind::Iq, Some(b"result")) => Self::Result,
            _ => return None,
        })
    }

    /// The attribute's value; `None` where the default is written by leaving it out.
    pub const fn value(self) -> Option<&'static str> {
        Some(match self {
            Self::Normal | Self::Available => return None,
            Self::Chat => "chat",
            Self::Groupchat => "groupchat",
            Self::Headline => "headline",
            Self::Unavailable => "unavailable",
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
            Self::Probe => "probe",
            Self::Get => "get",
            Self::Set => "set",
            Self::Result => "result",
            Self::Error => "error",
        })
    }

    /// Whether an error in answer is forbidden (RFC 6120 section 8.3.1).
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Error | Self::Result)
    }
}

/// What the content says about its own handling; found once, when the stanza arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u16);

impl Traits {
    pub const NONE: Self = Self(0);
    /// May wait in the offline store (XEP-0160, XEP-0334).
    pub const STORABLE: Self = Self(1);
    /// No carbon copies (`private` of XEP-0280, `no-copy` of XEP-0334).
    pub const NO_COPY: Self = Self(1 << 1);
    /// Eligible for carbon copies (XEP-0280 section 6.1).
    pub const COPYABLE: Self = Self(1 << 2);
    /// Nobody needs it at once: a bare chat state, presence (XEP-0352).
    pub const MAY_WAIT: Self = Self(1 << 3);
    /// A carbon copy made by us.
    pub const CARBON: Self = Self(1 << 4);
    /// Journaled by its sender's shard: to be settled.
    pub const JOURNALED: Self = Self(1 << 5);
    /// Comes from the offline store, where it stays until it is delivered.
    pub const FROM_STORE: Self = Self(1 << 6);

    /// As a number, for records.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The inverse of [`Traits::to_bits`].
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Promised by a former process: kept whatever the quotas say, because nobody is there any more
    /// who could be told otherwise.
    pub const RECOVERED: Self = Self(1 << 7);

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A borrowed stanza on its way. `from` is stamped, `to` is in normal form.
#[derive(Clone, Copy, Debug)]
pub struct Stanza<'a> {
    pub kind: Kind,
    pub class: Type,
    pub traits: Traits,
    /// Zero when the stanza has no name of its own (everything but messages).
    pub id: MessageId,
    /// The sender's full JID, or whoever speaks.
    pub from: &'a str,
    /// Normal form; empty when there is none.
    pub to: &'a str,
    /// The `id` attribute as received, with its name and a leading space: ` id='x'`. May be empty.
    pub reference: &'a [u8],
    /// `<message from='…' …`, all attributes but `to`, the tag still open.
    pub head: &'a [u8],
    /// Everything between the start tag and the end tag.
    pub content: &'a [u8],
}

impl Stanza<'_> {
    /// Appends the whole element for the receiver who is addressed as `to` (none when empty).
    #[inline]
    pub fn write(&self, to: &str, out: &mut Vec<u8>) {
        out.reserve(self.head.len() + to.len() + self.content.len() + 24);
        out.extend_from_slice(self.head);
        self.write_rest(to, out);
    }

    /// The same with `declaration`, an attribute with a leading space, behind the name.
    pub fn write_with(&self, declaration: &[u8], to: &str, out: &mut Vec<u8>) {
        out.reserve(self.head.len() + declaration.len() + to.len() + self.content.len() + 24);
        let name = self.kind.name().len() + 1;
        let (name, attributes) = self.head.split_at(name.min(self.head.len()));
        out.extend_from_slice(name);
        out.extend_from_slice(declaration);
        out.extend_from_slice(attributes);
        self.write_rest(to, out);
    }

    #[inline]
    fn write_rest(&self, to: &str, out: &mut Vec<u8>) {
        let name = self.kind.name().as_bytes();
        if !to.is_empty() {
            out.extend_from_slice(b" to='");
            writer::escape_attr(out, to);
            out.push(b'\'');
        }
        out.push(b'>');
        out.extend_from_slice(self.content);
        out.extend_from_slice(b"</");
        out.extend_from_slice(name);
        out.push(b'>');
    }

    /// Octets that [`Stanza::write`] appends for its own `to`, nearly.
    pub const fn octets_len(&self) -> usize {
        self.head.len() + self.to.len() + self.content.len() + 24
    }
}

/// Builds a stanza of the server's own: `from`, `to` and the head are escaped here.
#[derive(Debug)]
pub struct Draft {
    kind: Kind,
    class: Type,
    traits: Traits,
    id: MessageId,
    from: String,
    to: String,
    reference: Vec<u8>,
    head: Vec<u8>,
    content: Vec<u8>,
}

impl Draft {
    /// A stanza from `from` (none when empty) to `to`; `reference` is an ` id='…'` or empty.
    pub fn new(kind: Kind, class: Type, from: &str, to: &str, reference: &[u8]) -> Self {
        let mut head = Vec::with_capacity(96);
        write_head(&mut head, kind, class, from, reference);
        Self {
            kind,
            class,
            traits: Traits::NONE,
            id: MessageId(0),
            from: from.to_owned(),
            to: to.to_owned(),
            reference: reference.to_vec(),
            head,
            content: Vec::new(),
        }
    }

    /// The same with this content, which must be well-formed in `jabber:client`.
    pub fn with_content(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.content = content.into();
        self
    }

    /// The same with these traits.
    pub fn with_traits(mut self, traits: Traits) -> Self {
        self.traits = traits;
        self
    }

    /// The content, to append to.
    pub fn content(&mut self) -> &mut Vec<u8> {
        &mut self.content
    }

    /// As a stanza in flight.
    pub fn as_stanza(&self) -> Stanza<'_> {
        Stanza {
            kind: self.kind,
            class: self.class,
            traits: self.traits,
            id: self.id,
            from: &self.from,
            to: &self.to,
            reference: &self.reference,
            head: &self.head,
            content: &self.content,
        }
    }
}

/// Appends `<name from='…' id='…' type='…'`, the tag still open.
pub fn write_head(out: &mut Vec<u8>, kind: Kind, class: Type, from: &str, reference: &[u8]) {
    let mut attribute = Vec::new();
    if !from.is_empty() {
        attribute.reserve(from.len() + 8);
        write_from(&mut attribute, from);
    }
    write_start(out, kind, class, &attribute, reference);
}

/// Appends ` from='…'`.
pub fn write_from(out: &mut Vec<u8>, from: &str) {
    out.extend_from_slice(b" from='");
    writer::escape_attr(out, from);
    out.push(b'\'');
}

/// As [`write_head`], with a ` from='…'` that was written before, or nothing.
pub fn write_start(out: &mut Vec<u8>, kind: Kind, class: Type, from: &[u8], reference: &[u8]) {
    out.reserve(from.len() + reference.len() + 40);
    out.push(b'<');
    out.extend_from_slice(kind.name().as_bytes());
    out.extend_from_slice(from);
    out.extend_from_slice(reference);
    if let Some(value) = class.value() {
        out.extend_from_slice(b" type='");
        out.extend_from_slice(value.as_bytes());
        out.push(b'\'');
    }
}
