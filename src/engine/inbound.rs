//! A stanza from its own stream: checked, stamped, written anew, counted, sent on its way.

use std::borrow::Cow;

use super::dispatch::{self, Phase};
use super::route::{self, Addressee, Way};
use super::{management, serve};
use crate::base::hex;
use crate::features::Verdict;
use crate::session::ctx::{Ctx, Waiter};
use crate::session::session::SessionKey;
use crate::store::{MessageId, Op};
use crate::xmpp::error::{Condition, StreamError};
use crate::xmpp::jid::{self, Jid};
use crate::xmpp::ns;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};
use crate::xmpp::xml::{Attr, Child, Element, StreamScope, writer};

/// Where a stanza is written anew; reused from stanza to stanza.
#[derive(Default)]
pub struct Scratch {
    /// Whose stanza was the last: mostly the next one is of the same session.
    sender: Option<SessionKey>,
    /// The full JID of the sender, and how it stands in a start tag.
    from: String,
    from_attribute: Vec<u8>,
    addressee: Addressee,
    reference: Vec<u8>,
    head: Vec<u8>,
    content: Vec<u8>,
    element: Vec<u8>,
}

impl Scratch {
    fn set_sender(&mut self, key: SessionKey, jid: &str) {
        self.sender = Some(key);
        self.from.clear();
        self.from.push_str(jid);
        self.from_attribute.clear();
        crate::xmpp::stanza::write_from(&mut self.from_attribute, jid);
    }
}

/// Takes a top-level element of a bound stream.
///
/// # Errors
/// The stream error to close with: RFC 6120 sections 4.9.3.9 and 4.9.3.24.
pub fn take(
    ctx: &mut Ctx<'_>,
    scratch: &mut Scratch,
    key: SessionKey,
    scope: &StreamScope,
    element: Element<'_>,
) -> Result<(), StreamError> {
    if !element.is_client() {
        match element.namespace() {
            ns::SM => return management::take(ctx, key, element),
            ns::CLIENT if Kind::of(element.local_octets()).is_some() => {
                // The head is written anew without a prefix: what is inside must mean the same.
                return Err(StreamError::InvalidNamespace);
            }
            other => {
                let Some(nonza) = dispatch::nonza(other, element.local()) else {
                    return Err(StreamError::UnsupportedStanzaType);
                };
                return (nonza.take)(ctx, key, element);
            }
        }
    }
    let Some(kind) = Kind::of(element.local_octets()) else {
        return Err(StreamError::UnsupportedStanzaType);
    };
    let number = count(ctx, key);
    stanza(ctx, scratch, key, scope, (kind, element, number))
}

/// XEP-0198 section 4: every stanza counts, also one that is answered with an error.
fn count(ctx: &mut Ctx<'_>, key: SessionKey) -> Option<u32> {
    let management = ctx.core.sessions.get_mut(key)?.management.as_deref_mut()?;
    management.received = management.received.wrapping_add(1);
    Some(management.received)
}

fn stanza(
    ctx: &mut Ctx<'_>,
    scratch: &mut Scratch,
    key: SessionKey,
    scope: &StreamScope,
    (kind, element, number): (Kind, Element<'_>, Option<u32>),
) -> Result<(), StreamError> {
    if scratch.sender != Some(key) {
        let Some(session) = ctx.core.sessions.get(key) else {
            return Ok(());
        };
        scratch.set_sender(key, &session.jid);
    }
    let attributes = Attributes::read(element);
    if !attributes
        .from
        .as_deref()
        .is_none_or(|from| is_from(from, &scratch.from))
    {
        return Err(StreamError::InvalidFrom);
    }
    scratch.reference.clear();
    if let Some((raw, quote)) = attributes.id {
        write_raw(&mut scratch.reference, b"id", raw, quote);
    }
    let class = Type::of(kind, attributes.class.as_deref());
    let read = match attributes.to {
        Some(to) => scratch.addressee.read(ctx, to),
        None => Ok(()),
    };
    let (Some(class), Ok(())) = (class, read) else {
        let fault = match read {
            Err(_) => Condition::JidMalformed,
            Ok(()) => Condition::BadRequest,
        };
        refuse(ctx, scratch, kind, fault);
        return Ok(());
    };
    let Scratch {
        from,
        from_attribute,
        addressee,
        reference,
        head,
        content,
        element: whole,
        ..
    } = scratch;
    if attributes.to.is_none() {
        // RFC 6121 section 8.1.1.1: a message to nobody is to oneself.
        let own = match kind {
            Kind::Message => jid::split_resource(from).0,
            Kind::Presence | Kind::Iq => "",
        };
        addressee.set(ctx, own);
    }
    let to = addressee.jid();
    head.clear();
    crate::xmpp::stanza::write_start(head, kind, class, from_attribute, reference);
    write_others(head, element, &attributes, scope);
    content.clear();
    let mut traits = Traits::NONE;
    let mut id = MessageId(0);
    if kind == Kind::Message {
        traits = copy_message(content, ctx, class, element);
        if traits.has(Traits::STORABLE) {
            id = ctx.core.next_id(ctx.now);
            write_stanza_id(content, addressee.bare_escaped(), id);
        }
        if let Some(session) = ctx.core.sessions.get(key) {
            let transport = session.transport();
            ctx.core.counters.messages_received.count(transport);
        }
    } else {
        content.extend_from_slice(element.content());
    }
    let stanza = Stanza {
        kind,
        class,
        traits,
        id,
        from,
        to,
        reference,
        head,
        content,
    };
    send(ctx, key, stanza, addressee.way(), number, whole);
    Ok(())
}

/// Everything is known: hooks, the journal, the way.
fn send(
    ctx: &mut Ctx<'_>,
    key: SessionKey,
    mut stanza: Stanza<'_>,
    way: Way,
    number: Option<u32>,
    whole: &mut Vec<u8>,
) {
    if stanza.kind == Kind::Iq && stanza.reference.is_empty() {
        return ctx.bounce(&stanza, Condition::BadRequest);
    }
    if stanza.kind == Kind::Presence {
        dispatch::presence(ctx, key, &stanza);
        return;
    }
    match dispatch::ask(ctx, Phase::Outgoing, key, &stanza) {
        Verdict::Pass => {}
        Verdict::Consumed => return,
        Verdict::Bounce(error) => return ctx.bounce(&stanza, error),
    }
    if stanza.kind == Kind::Iq && is_own(&stanza) {
        let account = ctx.session(key).map(|session| session.account);
        if let Some(account) = account.filter(|_| !stanza.class.is_answer()) {
            serve::account(ctx, account, Some(key), &stanza);
        }
        return;
    }
    // What is for nobody here is bounced at once.
    let kept = stanza.traits.has(Traits::STORABLE) && matches!(way, Way::Account(_));
    if let (Some(number), true) = (number, kept) {
        journal(ctx, key, &mut stanza, number, whole);
    }
    route::route(ctx, Some(key), &stanza, way);
}

/// Whether an iq is for the sender's own account: no `to`, or the own bare JID.
fn is_own(stanza: &Stanza<'_>) -> bool {
    stanza.to.is_empty() || jid::split_resource(stanza.from).0 == stanza.to
}

/// P1: the sender's `h` waits until the message is durable or settled.
fn journal(
    ctx: &mut Ctx<'_>,
    key: SessionKey,
    stanza: &mut Stanza<'_>,
    number: u32,
    whole: &mut Vec<u8>,
) {
    let Some(session) = ctx.core.sessions.get_mut(key) else {
        return;
    };
    let Some(management) = session.management.as_deref_mut() else {
        return;
    };
    management.pending.push((number, false));
    let stream = management.id;
    stanza.traits = stanza.traits.with(Traits::JOURNALED);
    whole.clear();
    stanza.write(stanza.to, whole);
    let id = stanza.id;
    ctx.ask(
        Waiter::Journaled {
            session: key,
            number,
        },
        |ops| Op::Journal {
            id,
            owner: ops.keep(jid::split_resource(stanza.to).0.as_bytes()),
            octets: ops.keep(whole),
            stream,
            handled: number,
        },
    );
}

/// Answers a stanza whose address or type cannot be used.
fn refuse(ctx: &mut Ctx<'_>, scratch: &Scratch, kind: Kind, condition: Condition) {
    let stanza = Stanza {
        kind,
        class: Type::Set,
        traits: Traits::NONE,
        id: MessageId(0),
        from: &scratch.from,
        to: "",
        reference: &scratch.reference,
        head: b"",
        content: b"",
    };
    ctx.bounce(&stanza, condition);
}

/// The attributes that mean something to the server.
#[derive(Default)]
struct Attributes<'a> {
    to: Option<Attr<'a>>,
    from: Option<Cow<'a, str>>,
    class: Option<Cow<'a, [u8]>>,
    /// Raw octets and their quote.
    id: Option<(&'a [u8], u8)>,
    /// Whether there is a language, and whether there is anything that only the receiver can read.
    lang: bool,
    others: bool,
}

impl<'a> Attributes<'a> {
    fn read(element: Element<'a>) -> Self {
        let mut found = Self::default();
        for attr in element.attrs() {
            match attr.name {
                b"to" => found.to = Some(attr),
                b"from" => found.from = Some(attr.value()),
                b"type" => found.class = Some(attr.octets()),
                b"id" => found.id = Some((attr.raw, attr.quote)),
                b"xmlns" => {}
                b"xml:lang" => (found.lang, found.others) = (true, true),
                _ => found.others = true,
            }
        }
        found
    }
}

/// RFC 6120 section 8.1.2.1: the full or the bare JID of the session.
fn is_from(from: &str, own: &str) -> bool {
    let (bare, _) = jid::split_resource(own);
    if from == own || from == bare {
        return true;
    }
    Jid::parse(from).is_ok_and(|from| from.as_str() == own || from.as_str() == bare)
}

/// What follows our own attributes in the start tag: what the client wrote besides, then what its
/// content needs declared, then its stream's language (RFC 6120 section 8.1.5).
fn write_others(
    head: &mut Vec<u8>,
    element: Element<'_>,
    attributes: &Attributes<'_>,
    scope: &StreamScope,
) {
    if attributes.others {
        for attr in element.attrs() {
            if !matches!(attr.name, b"to" | b"from" | b"id" | b"type" | b"xmlns") {
                write_raw(head, attr.name, attr.raw, attr.quote);
            }
        }
    }
    for (prefix, namespace) in element.inherited() {
        head.extend_from_slice(b" xmlns:");
        head.extend_from_slice(prefix.as_bytes());
        head.extend_from_slice(b"='");
        writer::escape_attr(head, namespace);
        head.push(b'\'');
    }
    if let (false, Some(lang)) = (attributes.lang, scope.lang()) {
        head.extend_from_slice(b" xml:lang='");
        writer::escape_attr(head, lang);
        head.push(b'\'');
    }
}

/// An attribute as it was received: the octets were checked and fit their quotes.
fn write_raw(out: &mut Vec<u8>, name: &[u8], raw: &[u8], quote: u8) {
    out.push(b' ');
    out.extend_from_slice(name);
    out.extend_from_slice(&[b'=', quote]);
    out.extend_from_slice(raw);
    out.push(quote);
}

/// Copies a message's content without the children that only the server may write, and finds out
/// what the others ask for.
fn copy_message(out: &mut Vec<u8>, ctx: &Ctx<'_>, class: Type, element: Element<'_>) -> Traits {
    let content = element.content();
    let mut copied = 0;
    let mut seen = Seen::default();
    for child in element.children() {
        if is_ours(ctx, child) {
            out.extend_from_slice(&content[copied..child.start]);
            copied = child.start + child.octets.len();
        } else {
            seen.note(child);
        }
    }
    out.extend_from_slice(&content[copied..]);
    seen.traits(class)
}

/// `stanza-id` in the name of somebody we speak for (XEP-0359 section 5; SECURITY class 29), or a
/// `delay` in the name of this server (XEP-0203 section 6).
fn is_ours(ctx: &Ctx<'_>, child: Child<'_>) -> bool {
    if child.is(ns::DELAY, "delay") {
        let from = child.attr("from");
        let from = from.as_deref().map(Jid::parse);
        return matches!(from, Some(Ok(from)) if ctx.serves(from.as_str()));
    }
    if !child.is(ns::SID, "stanza-id") {
        return false;
    }
    let Some(by) = child.attr("by") else {
        return true;
    };
    match Jid::parse(&by) {
        Ok(by) => ctx.serves(by.domain()),
        Err(_) => true,
    }
}

/// What the children of a message are.
#[derive(Default)]
struct Seen {
    body: bool,
    chat_state: bool,
    other: bool,
    no_store: bool,
    store: bool,
    no_copy: bool,
    copyable: bool,
}

impl Seen {
    fn note(&mut self, child: Child<'_>) {
        const CLIENT: &[u8] = ns::CLIENT.as_bytes();
        const HINTS: &[u8] = ns::HINTS.as_bytes();
        const CARBONS: &[u8] = ns::CARBONS.as_bytes();
        const CHATSTATES: &[u8] = ns::CHATSTATES.as_bytes();
        const RECEIPTS: &[u8] = ns::RECEIPTS.as_bytes();
        const MARKERS: &[u8] = ns::MARKERS.as_bytes();
        const SID: &[u8] = ns::SID.as_bytes();
        match (child.namespace, child.local) {
            (CLIENT, b"body") => self.body = true,
            (CLIENT, b"thread") | (SID, b"origin-id" | b"stanza-id") => {}
            (HINTS, b"no-store" | b"no-permanent-store") => self.no_store = true,
            (HINTS, b"store") => self.store = true,
            (HINTS, b"no-copy") => self.no_copy = true,
            (CARBONS, b"private") => self.no_copy = true,
            (CHATSTATES, _) => self.chat_state = true,
            (RECEIPTS | MARKERS, _) => {
                self.copyable = true;
                self.other = true;
            }
            _ => self.other = true,
        }
    }

    /// XEP-0160 section 3, XEP-0334, XEP-0280 section 6.1, XEP-0352.
    fn traits(&self, class: Type) -> Traits {
        let mut traits = Traits::NONE;
        let kept = match class {
            Type::Normal => self.body || self.other || !self.chat_state,
            Type::Chat => self.body || self.other,
            _ => false,
        };
        let kept = kept || (self.store && matches!(class, Type::Normal | Type::Chat));
        if kept && !self.no_store {
            traits = traits.with(Traits::STORABLE);
        }
        let copyable = match class {
            Type::Chat => true,
            Type::Normal => self.body || self.copyable,
            _ => false,
        };
        if copyable && !self.no_copy {
            traits = traits.with(Traits::COPYABLE);
        }
        if self.no_copy {
            traits = traits.with(Traits::NO_COPY);
        }
        if self.chat_state && !self.body && !self.other && class != Type::Error {
            traits = traits.with(Traits::MAY_WAIT);
        }
        traits
    }
}

/// XEP-0359: the name under which the recipient's account knows the message.
fn write_stanza_id(out: &mut Vec<u8>, by: &[u8], id: MessageId) {
    out.extend_from_slice(b"<stanza-id xmlns='urn:xmpp:sid:0' by='");
    out.extend_from_slice(by);
    out.extend_from_slice(b"' id='");
    out.extend_from_slice(&hex::digits(id.0));
    out.extend_from_slice(b"'/>");
}
