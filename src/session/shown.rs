//! What others see of an account: the presence of its available sessions (RFC 6121 section 4).

use super::account::{Account, AccountKey};
use super::ctx::Ctx;
use super::offline::start_tag_end;
use super::session::{Session, SessionKey};
use crate::store::MessageId;
use crate::xmpp::error::StanzaError;
use crate::xmpp::jid;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Traits, Type, write_head};

/// The presence of a session, written out again.
pub struct Shown {
    from: Box<str>,
    octets: Vec<u8>,
    head_end: usize,
}

impl Shown {
    /// The present presence; none when the session is not available.
    pub fn of(session: &Session) -> Option<Self> {
        let kept = session
            .presence
            .as_deref()
            .filter(|_| session.is_available())?;
        let mut octets = Vec::with_capacity(kept.len() + session.jid.len() + 32);
        write_head(
            &mut octets,
            Kind::Presence,
            Type::Available,
            &session.jid,
            b"",
        );
        if kept.is_empty() {
            octets.push(b'>');
        } else {
            octets.extend_from_slice(kept);
        }
        let head_end = start_tag_end(&octets);
        Some(Self {
            from: session.jid.clone(),
            octets,
            head_end,
        })
    }

    /// As a stanza to `to`.
    pub fn as_stanza<'a>(&'a self, to: &'a str) -> Stanza<'a> {
        Stanza {
            kind: Kind::Presence,
            class: Type::Available,
            traits: Traits::NONE,
            id: MessageId(0),
            from: &self.from,
            to,
            reference: b"",
            head: &self.octets[..self.head_end],
            content: &self.octets[self.head_end + 1..],
        }
    }
}

/// What a session keeps of its presence: what stands in the start tag besides sender, id and type,
/// then `>` and the content. Empty for the plainest presence, so that most sessions keep nothing.
pub fn keep(stanza: &Stanza<'_>) -> Box<[u8]> {
    let rest = rest_of_head(stanza);
    if rest.is_empty() && stanza.content.is_empty() {
        return Box::default();
    }
    [rest, b">", stanza.content].concat().into()
}

/// A stanza's head in the name of somebody else: subscriptions come from the bare JID (RFC 6121
/// section 3.1.2).
pub fn head_from(stanza: &Stanza<'_>, from: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(stanza.head.len());
    write_head(&mut head, stanza.kind, stanza.class, from, stanza.reference);
    head.extend_from_slice(rest_of_head(stanza));
    head
}

/// The attributes of the start tag that are not sender, id or type: a language and the prefixes
/// that the content needs.
fn rest_of_head<'a>(stanza: &Stanza<'a>) -> &'a [u8] {
    let mut ours = Vec::with_capacity(stanza.head.len());
    write_head(
        &mut ours,
        stanza.kind,
        stanza.class,
        stanza.from,
        stanza.reference,
    );
    stanza.head.strip_prefix(&*ours).unwrap_or_default()
}

impl Account {
    /// The contacts that see this account's presence and are not blocked.
    pub fn watchers(&self) -> impl Iterator<Item = &str> + Clone {
        let items = self
            .roster
            .as_deref()
            .map(|roster| &*roster.items)
            .unwrap_or_default();
        let seeing = items.iter().filter(|item| item.subscription.from);
        seeing
            .map(|item| &*item.jid)
            .filter(|jid| !self.blocks(jid))
    }

    /// Whether `jid` (bare or full) may see this account's presence.
    pub fn is_seen_by(&self, jid: &str) -> bool {
        let (bare, _) = jid::split_resource(jid);
        if bare == &*self.jid {
            return true;
        }
        let item = self.roster.as_deref().and_then(|roster| roster.find(bare));
        item.is_some_and(|item| item.subscription.from)
    }
}

impl Ctx<'_> {
    /// Sends the presence of every available session of an account to `to`.
    pub fn show_presence(&mut self, account: AccountKey, to: &str) {
        for session in self.sessions_of(account) {
            if let Some(shown) = self.session(session).and_then(Shown::of) {
                self.post(&shown.as_stanza(to));
            }
        }
    }

    /// Answers a probe of somebody who may not see the account `own`, which need not exist (RFC
    /// 6121 section 4.3.2): from and to the bare JID, or presence would leak.
    pub fn deny_probe(&mut self, own: &str, asker: &str) {
        let (asker, _) = jid::split_resource(asker);
        let denied = Draft::new(Kind::Presence, Type::Unsubscribed, own, asker, b"");
        self.post(&denied.as_stanza());
    }

    /// Tells `to` that every available session of an account is gone.
    pub fn withdraw_presence(&mut self, account: AccountKey, to: &str) {
        for session in self.sessions_of(account) {
            let Some(session) = self
                .session(session)
                .filter(|session| session.is_available())
            else {
                continue;
            };
            let gone = Draft::new(Kind::Presence, Type::Unavailable, &session.jid, to, b"");
            self.post(&gone.as_stanza());
        }
    }

    /// Answers a session's stanza with an error at once, past whatever may filter its deliveries.
    pub fn refuse_session(
        &mut self,
        key: SessionKey,
        stanza: &Stanza<'_>,
        error: impl Into<StanzaError>,
    ) {
        if stanza.class.is_answer() {
            return;
        }
        let (from, to, id) = (stanza.to, stanza.from, stanza.reference);
        let mut draft = Draft::new(stanza.kind, Type::Error, from, to, id);
        error.into().write(draft.content());
        self.send(key, &draft.as_stanza(), to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_head(rest: &[u8], reference: &[u8], class: Type) -> Vec<u8> {
        let mut head = Vec::new();
        write_head(&mut head, Kind::Presence, class, "a@b/c", reference);
        head.extend_from_slice(rest);
        head
    }

    fn stanza<'a>(head: &'a [u8], reference: &'a [u8], content: &'a [u8]) -> Stanza<'a> {
        Stanza {
            kind: Kind::Presence,
            class: Type::Available,
            traits: Traits::NONE,
            id: MessageId(0),
            from: "a@b/c",
            to: "",
            reference,
            head,
            content,
        }
    }

    fn written(session: &Session) -> String {
        let mut out = Vec::new();
        Shown::of(session)
            .unwrap()
            .as_stanza("x@y")
            .write("x@y", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn presence_is_kept_with_the_prefixes_it_needs_and_without_its_id() {
        let mut session = Session::detached(AccountKey::from_bits(0), "a@b", "c");
        session.flags.set(super::super::session::Flags::AVAILABLE);
        let head = with_head(b" xmlns:q='u:>'", b" id='7'", Type::Available);
        session.presence = Some(keep(&stanza(&head, b" id='7'", b"<q:x/>")));
        assert_eq!(
            written(&session),
            "<presence from='a@b/c' xmlns:q='u:>' to='x@y'><q:x/></presence>"
        );
        let head = with_head(b"", b"", Type::Available);
        let kept = keep(&stanza(&head, b"", b""));
        assert!(kept.is_empty(), "the plainest presence takes no memory");
        session.presence = Some(kept);
        assert_eq!(
            written(&session),
            "<presence from='a@b/c' to='x@y'></presence>"
        );
    }

    #[test]
    fn a_head_gets_another_sender_and_keeps_the_rest() {
        let mut head = Vec::new();
        write_head(
            &mut head,
            Kind::Presence,
            Type::Subscribe,
            "a@b/c",
            b" id='1'",
        );
        head.extend_from_slice(b" xml:lang='de'");
        let mut stanza = stanza(&head, b" id='1'", b"");
        stanza.class = Type::Subscribe;
        assert_eq!(
            String::from_utf8(head_from(&stanza, "a@b")).unwrap(),
            "<presence from='a@b' id='1' type='subscribe' xml:lang='de'"
        );
    }
}
