//! What may wait while nobody looks at a client (XEP-0352), or while it has no link and may come
//! back (XEP-0198): the last presence and the last chat state of each sender.

use super::ctx::Ctx;
use super::offline::start_tag_end;
use super::session::{Flags, Held, SessionKey};
use crate::store::MessageId;
use crate::xmpp::jid;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};

/// Octets held for one session; more wakes it.
const HELD_OCTETS_MAX: usize = 16 * 1024;

impl Ctx<'_> {
    /// Holds a stanza back if its receiver can wait for it. `false`: it must go now, and what was
    /// held has gone before it, so that the order stays.
    pub fn hold(&mut self, key: SessionKey, stanza: &Stanza<'_>) -> bool {
        let Some(session) = self.core.sessions.get_mut(key) else {
            return false;
        };
        if session.link.is_some() && !session.flags.has(Flags::INACTIVE) {
            return false;
        }
        if !may_wait(stanza) {
            self.release_held(key);
            return false;
        }
        let (bare, _) = jid::split_resource(&session.jid);
        let own = jid::split_resource(stanza.to).0 == bare;
        let to = if own { stanza.to } else { bare };
        let mut element = Vec::with_capacity(stanza.octets_len() + to.len());
        stanza.write(to, &mut element);
        let held = session.held.get_or_insert_default();
        held.put(stanza.kind, stanza.from, element);
        if held.octets > HELD_OCTETS_MAX {
            self.release_held(key);
        }
        true
    }

    /// Sends what was held.
    pub fn release_held(&mut self, key: SessionKey) {
        let Some(session) = self.core.sessions.get_mut(key) else {
            return;
        };
        let Some(held) = session.held.take() else {
            return;
        };
        for (_, _, element) in &held.elements {
            let Some(stanza) = reopen(element) else {
                continue;
            };
            self.send(key, &stanza, "");
        }
    }

    /// As [`Ctx::send`], unless the receiver can wait for it.
    pub fn send_or_hold(&mut self, key: SessionKey, stanza: &Stanza<'_>, to: &str) {
        if !self.hold(key, stanza) {
            self.send(key, stanza, to);
        }
    }
}

/// Presence that tells a state, and messages that are nothing but a chat state. What the journal
/// waits for must go.
fn may_wait(stanza: &Stanza<'_>) -> bool {
    match stanza.kind {
        Kind::Presence => matches!(stanza.class, Type::Available | Type::Unavailable),
        Kind::Message => {
            let awaited =
                stanza.traits.has(Traits::JOURNALED) || stanza.traits.has(Traits::STORABLE);
            stanza.traits.has(Traits::MAY_WAIT) && !awaited
        }
        Kind::Iq => false,
    }
}

impl Held {
    /// A newer element of a sender takes the place of the older one, and goes to the end.
    fn put(&mut self, kind: Kind, from: &str, element: Vec<u8>) {
        let same = |(k, f, _): &(Kind, Box<str>, Box<[u8]>)| *k == kind && **f == *from;
        if let Some(at) = self.elements.iter().position(same) {
            let (_, from, old) = self.elements.remove(at);
            self.octets -= from.len() + old.len();
        }
        self.octets += from.len() + element.len();
        self.elements.push((kind, from.into(), element.into()));
    }
}

/// An element that we wrote, as a stanza again.
fn reopen(element: &[u8]) -> Option<Stanza<'_>> {
    let presence = element
        .strip_suffix(b"</presence>")
        .map(|open| (Kind::Presence, open));
    let message = || {
        element
            .strip_suffix(b"</message>")
            .map(|open| (Kind::Message, open))
    };
    let (kind, open) = presence.or_else(message)?;
    let end = start_tag_end(open);
    Some(Stanza {
        kind,
        class: Type::Available,
        traits: Traits::NONE,
        id: MessageId(0),
        from: "",
        to: "",
        reference: b"",
        head: open.get(..end)?,
        content: open.get(end + 1..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_of_each_sender_and_kind_is_held() {
        let mut held = Held::default();
        held.put(
            Kind::Presence,
            "a@b/c",
            b"<presence from='a@b/c'></presence>".to_vec(),
        );
        held.put(Kind::Message, "a@b/c", b"<message></message>".to_vec());
        held.put(Kind::Presence, "d@e/f", b"<presence></presence>".to_vec());
        held.put(Kind::Presence, "a@b/c", b"<presence></presence>".to_vec());
        let kinds: Vec<_> = held
            .elements
            .iter()
            .map(|(kind, from, _)| (*kind, &**from))
            .collect();
        assert_eq!(
            kinds,
            [
                (Kind::Message, "a@b/c"),
                (Kind::Presence, "d@e/f"),
                (Kind::Presence, "a@b/c")
            ]
        );
        let octets: usize = held
            .elements
            .iter()
            .map(|(_, from, e)| from.len() + e.len())
            .sum();
        assert_eq!(held.octets, octets);
    }

    #[test]
    fn what_was_held_comes_back_as_it_was() {
        let element = b"<presence from='a@b/c' to='x@y'><show>away</show></presence>";
        let mut out = Vec::new();
        reopen(element).unwrap().write("", &mut out);
        assert_eq!(out, element);
    }
}
