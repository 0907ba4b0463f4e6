//! Who may see whose presence: RFC 6121 section 3, with pre-approval, by the tables of appendix A.

use super::Feature;
use crate::session::account::{AccountKey, BLOCKED};
use crate::session::contacts::{Cause, RosterChange, RosterStored};
use crate::session::ctx::{Ctx, Kept};
use crate::session::offline::start_tag_end;
use crate::session::roster::Item;
use crate::session::session::{Flags, SessionKey};
use crate::session::shown::head_from;
use crate::store::{MessageId, Reply};
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Traits, Type};

pub const FEATURE: Feature = Feature {
    presence: Some(presence),
    presence_in: Some(received),
    ..Feature::NONE
};

/// Octets of a request that are kept for later; a longer one is kept without its content.
const REQUEST_OCTETS_MAX: usize = 2_048;

/// The states of appendix A.1, and the approval of section 3.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    to: bool,
    from: bool,
    /// Pending out.
    ask: bool,
    /// Pending in.
    request: bool,
    approved: bool,
}

/// Whether a stanza goes on after its state was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    On,
    Stop,
    /// The server answers in the user's name.
    Answer(Type),
}

impl State {
    fn of(item: Option<&Item>) -> Self {
        item.map_or_else(Self::default, |item| Self {
            to: item.subscription.to,
            from: item.subscription.from,
            ask: item.ask,
            request: item.request.is_some(),
            approved: item.approved,
        })
    }

    /// Appendix A.2: the user sends.
    fn outbound(self, class: Type) -> (Self, Way) {
        let mut next = self;
        let way = match class {
            Type::Subscribe => {
                next.ask = !self.to;
                Way::On
            }
            Type::Unsubscribe => {
                (next.to, next.ask) = (false, false);
                Way::On
            }
            Type::Subscribed if self.request => {
                (next.from, next.request) = (true, false);
                Way::On
            }
            Type::Subscribed => {
                next.approved = self.approved || !self.from;
                Way::Stop
            }
            Type::Unsubscribed => {
                (next.from, next.request, next.approved) = (false, false, false);
                if self.from || self.request {
                    Way::On
                } else {
                    Way::Stop
                }
            }
            _ => Way::Stop,
        };
        (next, way)
    }

    /// Appendix A.3: the contact sent.
    fn inbound(self, class: Type) -> (Self, Way) {
        let mut next = self;
        let way = match class {
            Type::Subscribe if self.from => Way::Answer(Type::Subscribed),
            Type::Subscribe if self.approved => {
                next.from = true;
                Way::Answer(Type::Subscribed)
            }
            Type::Subscribe => {
                next.request = true;
                if self.request { Way::Stop } else { Way::On }
            }
            Type::Unsubscribe => {
                (next.from, next.request) = (false, false);
                if self.from || self.request {
                    Way::On
                } else {
                    Way::Stop
                }
            }
            Type::Subscribed if self.ask => {
                (next.to, next.ask) = (true, false);
                Way::On
            }
            Type::Unsubscribed => {
                (next.to, next.ask) = (false, false);
                if self.to || self.ask {
                    Way::On
                } else {
                    Way::Stop
                }
            }
            _ => Way::Stop,
        };
        (next, way)
    }

    /// Whether the user knows of it.
    const fn is_listed(self) -> bool {
        self.to || self.from || self.ask || self.approved
    }

    /// Puts all but the request into an item; what the user knows of is listed.
    fn apply(self, item: &mut Item) {
        item.subscription.to = self.to;
        item.subscription.from = self.from;
        (item.ask, item.approved) = (self.ask, self.approved);
        if !self.request {
            item.request = None;
        }
        item.listed |= self.is_listed();
    }
}

fn presence(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    if is_subscription(stanza.class) {
        return sent(ctx, key, stanza);
    }
    // This hook is asked before the one that makes the session available.
    let initial = stanza.class == Type::Available && stanza.to.is_empty();
    if initial
        && ctx
            .session(key)
            .is_some_and(|session| !session.is_available())
    {
        deliver_requests(ctx, key);
        ask_again(ctx, key);
    }
}

/// A session sent a subscription stanza. It comes from the bare JID and goes to one (3.1.1).
fn sent(ctx: &mut Ctx<'_>, key: SessionKey, stanza: &Stanza<'_>) {
    let (own, _) = jid::split_resource(stanza.from);
    let (contact, _) = jid::split_resource(stanza.to);
    if contact.is_empty() {
        return ctx.refuse_session(key, stanza, Condition::BadRequest);
    }
    let Some(account_key) = ctx.session(key).map(|session| session.account) else {
        return;
    };
    let Some(account) = ctx.accounts.get(account_key) else {
        return;
    };
    if own == contact {
        return;
    }
    if account.blocks(stanza.to) {
        return ctx.refuse_session(key, stanza, BLOCKED);
    }
    if !ctx.serves(jid::split_local(contact).1) && stanza.class != Type::Unsubscribed {
        return ctx.refuse_session(key, stanza, Condition::RemoteServerNotFound);
    }
    let item = account.contact(contact);
    let state = State::of(item);
    let listed = item.is_some_and(|item| item.listed);
    let (next, way) = state.outbound(stanza.class);
    let mut after = item.cloned().unwrap_or_else(|| Item::new(contact));
    next.apply(&mut after);
    if !listed && after.listed && !account.has_room(&ctx.policy.limits, &after) {
        return ctx.refuse_session(key, stanza, Condition::NotAllowed);
    }
    let head = head_from(stanza, own);
    let onward = Stanza {
        from: own,
        to: contact,
        head: &head,
        ..*stanza
    };
    if next == state {
        if way == Way::On {
            ctx.post(&onward);
        }
        return;
    }
    let stanza = (way == Way::On).then_some(onward);
    let cause = Cause {
        back: None,
        stanza,
        then: sent_stored,
    };
    ctx.change_roster(account_key, contact, cause, |item| next.apply(item));
}

fn sent_stored(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    match ctx.roster_stored(kept, &reply) {
        RosterStored::Done(change) => {
            ctx.push_roster(&change);
            for (stanza, _) in change.cause.iter() {
                ctx.post(&stanza);
            }
            show_or_withdraw(ctx, &change);
        }
        RosterStored::Refused(change) => {
            for (stanza, _) in change.cause.iter() {
                ctx.bounce(&stanza, Condition::ResourceConstraint);
            }
        }
        RosterStored::Gone => {}
    }
}

/// A contact begins or ceases to see the account (sections 3.1.5, 3.2.2 and 3.3.3).
fn show_or_withdraw(ctx: &mut Ctx<'_>, change: &RosterChange) {
    let seen = |item: &Option<Item>| item.as_ref().is_some_and(|item| item.subscription.from);
    match (seen(&change.before), seen(&change.after)) {
        (false, true) => ctx.show_presence(change.account, &change.jid),
        (true, false) => ctx.withdraw_presence(change.account, &change.jid),
        _ => {}
    }
}

/// A subscription stanza came to the account.
fn received(ctx: &mut Ctx<'_>, key: AccountKey, stanza: &Stanza<'_>) {
    if !is_subscription(stanza.class) {
        return;
    }
    let (contact, _) = jid::split_resource(stanza.from);
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    if contact == &*account.jid {
        return;
    }
    let own = account.jid.clone();
    let state = State::of(account.contact(contact));
    let (next, way) = state.inbound(stanza.class);
    let items = account
        .roster
        .as_deref()
        .map_or(0, |roster| roster.items.len());
    if next.request && !state.request && items >= 2 * ctx.policy.limits.roster_items_max {
        return ctx.bounce(stanza, Condition::ResourceConstraint);
    }
    if next == state {
        if let Way::Answer(class) = way {
            answer(ctx, class, &own, contact);
        }
        return;
    }
    // At once, so that what the contact sends next does not overtake it. What the server itself
    // says about it, in a push or an answer, waits until it is stored.
    if way == Way::On {
        deliver(ctx, key, stanza, &own);
    }
    let cause = Cause {
        back: None,
        stanza: Some(*stanza),
        then: received_stored,
    };
    let request = (next.request && !state.request).then(|| remember(stanza));
    ctx.change_roster(key, contact, cause, |item| {
        next.apply(item);
        if request.is_some() {
            item.request = request;
        }
    });
}

fn received_stored(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let change = match ctx.roster_stored(kept, &reply) {
        RosterStored::Done(change) => change,
        RosterStored::Refused(change) => {
            for (stanza, _) in change.cause.iter() {
                ctx.bounce(&stanza, Condition::ResourceConstraint);
            }
            return;
        }
        RosterStored::Gone => return,
    };
    let Some(own) = ctx
        .accounts
        .get(change.account)
        .map(|account| account.jid.clone())
    else {
        return;
    };
    let approved = change
        .after
        .as_ref()
        .is_some_and(|item| item.subscription.from);
    for (stanza, _) in change.cause.iter() {
        if stanza.class == Type::Subscribe && approved {
            answer(ctx, Type::Subscribed, &own, &change.jid);
        }
    }
    ctx.push_roster(&change);
    show_or_withdraw(ctx, &change);
}

/// Section 3.1.3: requests go to who is available, answers to who keeps the roster.
fn deliver(ctx: &mut Ctx<'_>, account: AccountKey, stanza: &Stanza<'_>, own: &str) {
    let flags = match stanza.class {
        Type::Subscribe => Flags::AVAILABLE,
        _ => Flags::ROSTER,
    };
    for session in ctx.sessions_with(account, flags) {
        ctx.send_or_hold(session, stanza, own);
    }
}

fn answer(ctx: &mut Ctx<'_>, class: Type, own: &str, contact: &str) {
    let draft = Draft::new(Kind::Presence, class, own, contact, b"");
    ctx.post(&draft.as_stanza());
}

/// The request as it is kept: all but `to` and the end tag.
fn remember(stanza: &Stanza<'_>) -> Box<[u8]> {
    if stanza.head.len() + stanza.content.len() <= REQUEST_OCTETS_MAX {
        return [stanza.head, b">", stanza.content].concat().into();
    }
    let (contact, _) = jid::split_resource(stanza.from);
    let mut head = Vec::new();
    crate::xmpp::stanza::write_head(&mut head, Kind::Presence, Type::Subscribe, contact, b"");
    head.push(b'>');
    head.into()
}

/// Gives a session that becomes available the requests that wait for an answer (section 3.1.3).
fn deliver_requests(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(account) = ctx.account_of(key) else {
        return;
    };
    let items = account
        .roster
        .as_deref()
        .map(|roster| &*roster.items)
        .unwrap_or_default();
    let waiting = items.iter().filter(|item| !account.blocks(&item.jid));
    let requests: Vec<_> = waiting.filter_map(|item| item.request.clone()).collect();
    let own = account.jid.clone();
    for request in requests {
        let end = start_tag_end(&request);
        let stanza = Stanza {
            kind: Kind::Presence,
            class: Type::Subscribe,
            traits: Traits::NONE,
            id: MessageId(0),
            from: "",
            to: &own,
            reference: b"",
            head: &request[..end],
            content: request.get(end + 1..).unwrap_or_default(),
        };
        ctx.send_or_hold(key, &stanza, &own);
    }
}

/// Repeats the requests that nobody answered: one may have been lost on its way (section 3.1.2).
/// Once for each time that the account comes online.
fn ask_again(ctx: &mut Ctx<'_>, key: SessionKey) {
    let Some(account_key) = ctx.session(key).map(|session| session.account) else {
        return;
    };
    if !ctx.sessions_with(account_key, Flags::AVAILABLE).is_empty() {
        return;
    }
    let Some(account) = ctx.accounts.get(account_key) else {
        return;
    };
    let Some(roster) = account.roster.as_deref() else {
        return;
    };
    let waiting = roster
        .items
        .iter()
        .filter(|item| item.ask && !account.blocks(&item.jid));
    let waiting: Vec<Box<str>> = waiting.map(|item| item.jid.clone()).collect();
    if waiting.is_empty() {
        return;
    }
    let draft = Draft::new(
        Kind::Presence,
        Type::Subscribe,
        &account.jid.clone(),
        "",
        b"",
    );
    ctx.broadcast(&draft.as_stanza(), waiting.iter().map(|jid| &**jid));
}

const fn is_subscription(class: Type) -> bool {
    matches!(
        class,
        Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of appendix A.1: `N`one, `T`o, `F`rom, `B`oth, then `o` for pending out, `i` for
    /// pending in, `a` for approved.
    fn state(name: &str) -> State {
        State {
            to: name.contains(['T', 'B']),
            from: name.contains(['F', 'B']),
            ask: name.contains('o'),
            request: name.contains('i'),
            approved: name.contains('a'),
        }
    }

    const ALL: [&str; 9] = ["N", "No", "Ni", "Noi", "T", "Ti", "F", "Fo", "B"];

    fn check(step: fn(State, Type) -> (State, Way), class: Type, expected: [(&str, Way); 9]) {
        for (before, (after, way)) in ALL.into_iter().zip(expected) {
            assert_eq!(
                step(state(before), class),
                (state(after), way),
                "{class:?} in {before}"
            );
        }
    }

    #[test]
    fn outbound_follows_appendix_a_2() {
        use Way::{On, Stop};
        let subscribe = ["No", "No", "Noi", "Noi", "T", "Ti", "Fo", "Fo", "B"];
        check(
            State::outbound,
            Type::Subscribe,
            subscribe.map(|name| (name, On)),
        );
        let unsubscribe = ["N", "N", "Ni", "Ni", "N", "Ni", "F", "F", "F"];
        check(
            State::outbound,
            Type::Unsubscribe,
            unsubscribe.map(|name| (name, On)),
        );
        let subscribed = [
            ("Na", Stop),
            ("Noa", Stop),
            ("F", On),
            ("Fo", On),
            ("Ta", Stop),
            ("B", On),
            ("F", Stop),
            ("Fo", Stop),
            ("B", Stop),
        ];
        check(State::outbound, Type::Subscribed, subscribed);
        let unsubscribed = [
            ("N", Stop),
            ("No", Stop),
            ("N", On),
            ("No", On),
            ("T", Stop),
            ("T", On),
            ("N", On),
            ("No", On),
            ("T", On),
        ];
        check(State::outbound, Type::Unsubscribed, unsubscribed);
        assert_eq!(state("Na").outbound(Type::Unsubscribed), (state("N"), Stop));
    }

    #[test]
    fn inbound_follows_appendix_a_3() {
        use Way::{Answer, On, Stop};
        let already = Answer(Type::Subscribed);
        let subscribe = [
            ("Ni", On),
            ("Noi", On),
            ("Ni", Stop),
            ("Noi", Stop),
            ("Ti", On),
            ("Ti", Stop),
            ("F", already),
            ("Fo", already),
            ("B", already),
        ];
        check(State::inbound, Type::Subscribe, subscribe);
        let unsubscribe = [
            ("N", Stop),
            ("No", Stop),
            ("N", On),
            ("No", On),
            ("T", Stop),
            ("T", On),
            ("N", On),
            ("No", On),
            ("T", On),
        ];
        check(State::inbound, Type::Unsubscribe, unsubscribe);
        let subscribed = [
            ("N", Stop),
            ("T", On),
            ("Ni", Stop),
            ("Ti", On),
            ("T", Stop),
            ("Ti", Stop),
            ("F", Stop),
            ("B", On),
            ("B", Stop),
        ];
        check(State::inbound, Type::Subscribed, subscribed);
        let unsubscribed = [
            ("N", Stop),
            ("N", On),
            ("Ni", Stop),
            ("Ni", On),
            ("N", On),
            ("Ni", On),
            ("F", Stop),
            ("F", On),
            ("F", On),
        ];
        check(State::inbound, Type::Unsubscribed, unsubscribed);
    }

    /// Section 3.4.3.
    #[test]
    fn an_approved_contact_is_answered_without_asking() {
        let yes = Way::Answer(Type::Subscribed);
        assert_eq!(state("Na").inbound(Type::Subscribe), (state("Fa"), yes));
        assert_eq!(state("Ta").inbound(Type::Subscribe), (state("Ba"), yes));
    }

    #[test]
    fn a_long_request_is_kept_without_its_content() {
        let content = vec![b'x'; REQUEST_OCTETS_MAX];
        let draft = Draft::new(Kind::Presence, Type::Subscribe, "a@b", "c@d", b"");
        let stanza = Stanza {
            content: &content,
            ..draft.as_stanza()
        };
        assert_eq!(
            *remember(&stanza),
            *b"<presence from='a@b' type='subscribe'>"
        );
        let stanza = Stanza {
            content: b"<status>hi</status>",
            ..draft.as_stanza()
        };
        let kept = b"<presence from='a@b' type='subscribe'><status>hi</status>";
        assert_eq!(*remember(&stanza), *kept);
    }
}
