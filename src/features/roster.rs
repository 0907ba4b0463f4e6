//! The contact list: RFC 6121 section 2, with versions (XEP-0237).

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::contacts::{Cause, RosterChange, RosterStored};
use crate::session::ctx::{Ctx, Iq, Kept};
use crate::session::roster::Item;
use crate::session::session::Flags;
use crate::store::Reply;
use crate::xmpp::error::{Condition, StanzaError};
use crate::xmpp::jid::Jid;
use crate::xmpp::ns;
use crate::xmpp::stanza::{Draft, Kind, Type};
use crate::xmpp::xml::Tree;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 237,
        version: "1.3",
    }),
    iq: &[
        IqRoute {
            namespace: ns::ROSTER,
            name: "query",
            asked: Asked::Own,
            get: Some(get),
            set: Some(set),
        },
        IqRoute {
            namespace: ns::ROSTER,
            name: "query",
            asked: Asked::Account,
            get: Some(forbid),
            set: Some(forbid),
        },
    ],
    ..Feature::NONE
};

/// Octets of an item's name and groups together; more is `not-acceptable`.
const ITEM_OCTETS_MAX: usize = 2_048;

/// Section 2.1.4: the list, or nothing when the client has this version already (2.6.2).
fn get(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    if let Some(session) = iq.session.and_then(|key| ctx.session_mut(key)) {
        session.flags.set(Flags::ROSTER);
    }
    let Some(account) = iq.account.and_then(|key| ctx.accounts.get(key)) else {
        return;
    };
    let known = iq.payload.attr("ver");
    let roster = account.roster.as_deref();
    let version = roster.map_or(0, |roster| roster.version).to_string();
    if known == Some(&version) {
        return ctx.reply(iq, Vec::new());
    }
    let mut query = Vec::new();
    let mut writer = Writer::new(&mut query);
    writer.open("query").attr("xmlns", ns::ROSTER);
    if known.is_some() {
        writer.attr("ver", &version);
    }
    for item in roster.into_iter().flat_map(|roster| roster.listed()) {
        item.write(&mut writer);
    }
    writer.end("query");
    ctx.reply(iq, query);
}

/// Section 2.1.5: adds, changes or removes one item.
fn set(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let wanted = match Wanted::read(iq.payload) {
        Ok(wanted) => wanted,
        Err(error) => return ctx.refuse(iq, error),
    };
    let Some(key) = iq.account else { return };
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    let present = account.contact(&wanted.jid).is_some_and(|item| item.listed);
    if *wanted.jid == *account.jid {
        return ctx.refuse(iq, Condition::NotAllowed);
    }
    match &wanted.edit {
        Edit::Remove if !present => return ctx.refuse(iq, Condition::ItemNotFound),
        Edit::Remove => {}
        Edit::Update { .. } => {
            let before = account.contact(&wanted.jid).cloned();
            let mut after = before.unwrap_or_else(|| Item::new(&wanted.jid));
            wanted.edit.apply(&mut after);
            if !account.has_room(&ctx.policy.limits, &after) {
                return ctx.refuse(iq, Condition::NotAllowed);
            }
        }
    }
    let cause = Cause {
        back: Some(iq.way_back()),
        stanza: None,
        then: stored,
    };
    ctx.change_roster(key, &wanted.jid, cause, |item| wanted.edit.apply(item));
}

/// Section 2.1.5: the pushes, then the result.
fn stored(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    match ctx.roster_stored(kept, &reply) {
        RosterStored::Done(change) => {
            ctx.push_roster(&change);
            if let Some(back) = &change.back {
                ctx.reply_to(back, Vec::new());
            }
            if change.after.is_none() {
                part(ctx, &change);
            }
        }
        RosterStored::Refused(change) => {
            if let Some(back) = &change.back {
                ctx.refuse_to(back, Condition::ResourceConstraint);
            }
        }
        RosterStored::Gone => {}
    }
}

/// Section 2.5.2: who is removed is unsubscribed from and loses its subscription.
fn part(ctx: &mut Ctx<'_>, change: &RosterChange) {
    let Some(before) = &change.before else { return };
    let Some(account) = ctx.accounts.get(change.account) else {
        return;
    };
    let own = account.jid.clone();
    let send = |ctx: &mut Ctx<'_>, class| {
        let draft = Draft::new(Kind::Presence, class, &own, &change.jid, b"");
        ctx.post(&draft.as_stanza());
    };
    if before.subscription.to || before.ask {
        send(ctx, Type::Unsubscribe);
    }
    if before.subscription.from || before.request.is_some() {
        send(ctx, Type::Unsubscribed);
    }
    if before.subscription.from {
        ctx.withdraw_presence(change.account, &change.jid);
    }
}

/// Section 2.3.3: nobody's list but one's own.
fn forbid(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    ctx.refuse(iq, Condition::Forbidden);
}

/// What a client may say about an item; subscription states are not for it to say.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    jid: String,
    edit: Edit,
}

#[derive(Debug, PartialEq, Eq)]
enum Edit {
    Remove,
    Update {
        name: Option<Box<str>>,
        groups: Vec<Box<str>>,
    },
}

impl Wanted {
    /// Section 2.3.3 has the errors.
    fn read(query: &Tree) -> Result<Self, StanzaError> {
        let bad = StanzaError::new(Condition::BadRequest);
        let mut items = query.children();
        let item = items
            .next()
            .filter(|item| item.is(ns::ROSTER, "item"))
            .ok_or(bad)?;
        if items.next().is_some() {
            return Err(bad);
        }
        let jid = item.attr("jid").ok_or(bad)?;
        let jid = Jid::parse(jid).map_err(|_| Condition::JidMalformed)?;
        if jid.as_str() != jid.bare() {
            return Err(bad);
        }
        let jid = jid.bare().to_owned();
        if item.attr("subscription") == Some("remove") {
            return Ok(Self {
                jid,
                edit: Edit::Remove,
            });
        }
        let name = item
            .attr("name")
            .filter(|name| !name.is_empty())
            .map(Box::from);
        let groups = groups(item)?;
        let octets = name.as_deref().map_or(0, str::len)
            + groups.iter().map(|group| group.len()).sum::<usize>();
        if octets > ITEM_OCTETS_MAX {
            return Err(Condition::NotAcceptable.into());
        }
        Ok(Self {
            jid,
            edit: Edit::Update { name, groups },
        })
    }
}

fn groups(item: &Tree) -> Result<Vec<Box<str>>, StanzaError> {
    let mut groups: Vec<Box<str>> = Vec::new();
    for group in item
        .children()
        .filter(|child| child.is(ns::ROSTER, "group"))
    {
        let name = group.text();
        if name.is_empty() {
            return Err(Condition::NotAcceptable.into());
        }
        groups.push(name.into());
    }
    groups.sort_unstable();
    let count = groups.len();
    groups.dedup();
    if groups.len() < count {
        return Err(Condition::BadRequest.into());
    }
    Ok(groups)
}

impl Edit {
    fn apply(&self, item: &mut Item) {
        match self {
            Self::Remove => *item = Item::new(&item.jid),
            Self::Update { name, groups } => {
                item.name.clone_from(name);
                item.groups.clone_from(groups);
                item.listed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(items: &str) -> Result<Wanted, Condition> {
        let query = format!("<query xmlns='jabber:iq:roster'>{items}</query>");
        let query = Tree::parse(query.as_bytes());
        Wanted::read(&query).map_err(|error| error.condition)
    }

    #[test]
    fn an_item_is_read_and_what_only_the_server_may_say_is_not() {
        let wanted = read(
            "<item jid='Juliet@Example.NET' name='J' subscription='both' ask='subscribe'>\
             <group>B</group><group>A</group></item>",
        );
        let edit = Edit::Update {
            name: Some("J".into()),
            groups: vec!["A".into(), "B".into()],
        };
        assert_eq!(
            wanted,
            Ok(Wanted {
                jid: "juliet@example.net".into(),
                edit
            })
        );
        let mut item = Item::new("juliet@example.net");
        read("<item jid='juliet@example.net' subscription='both'/>")
            .unwrap()
            .edit
            .apply(&mut item);
        assert_eq!((item.listed, item.subscription), (true, Default::default()));
        assert_eq!(
            read("<item jid='a@b' subscription='remove'/>").map(|wanted| wanted.edit),
            Ok(Edit::Remove)
        );
    }

    #[test]
    fn what_section_2_3_3_forbids_is_refused() {
        let long = "x".repeat(ITEM_OCTETS_MAX + 1);
        for (items, expected) in [
            ("", Condition::BadRequest),
            ("<item jid='a@b'/><item jid='c@d'/>", Condition::BadRequest),
            ("<item name='nobody'/>", Condition::BadRequest),
            ("<item jid='a@b/resource'/>", Condition::BadRequest),
            ("<item jid='@b'/>", Condition::JidMalformed),
            ("<item jid='a@b'><group/></item>", Condition::NotAcceptable),
            (
                "<item jid='a@b'><group>x</group><group>x</group></item>",
                Condition::BadRequest,
            ),
            (
                &format!("<item jid='a@b' name='{long}'/>"),
                Condition::NotAcceptable,
            ),
            (
                &format!("<item jid='a@b'><group>{long}</group></item>"),
                Condition::NotAcceptable,
            ),
        ] {
            assert_eq!(read(items), Err(expected), "{items}");
        }
    }
}
