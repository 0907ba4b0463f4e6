//! Changes of a roster: in memory at once, told to anybody only when storage has them.

use super::account::{Account, AccountKey};
use super::ctx::{Ctx, Kept, Return};
use super::parcel::Batch;
use super::roster::{Item, Roster};
use super::session::{Flags, SessionKey};
use crate::base::limits::Limits;
use crate::store::{Kind as Table, Reply};
use crate::xmpp::ns;
use crate::xmpp::stanza::{Draft, Kind, Stanza, Type};
use crate::xmpp::xml::writer::Writer;

/// A change of one item on its way to storage.
pub struct RosterChange {
    pub account: AccountKey,
    /// The contact.
    pub jid: Box<str>,
    /// None: there was none.
    pub before: Option<Item>,
    /// None: it is gone.
    pub after: Option<Item>,
    /// Of the roster with this change.
    pub version: u64,
    /// The request that asked for it.
    pub back: Option<Return>,
    /// Stanzas that go on when it is stored.
    pub cause: Batch,
}

/// What causes a change and what follows from it.
pub struct Cause<'a> {
    pub back: Option<Return>,
    pub stanza: Option<Stanza<'a>>,
    /// Called with [`Kept::Roster`]; hands both to [`Ctx::roster_stored`].
    pub then: fn(&mut Ctx<'_>, Kept, Reply),
}

/// Whether a change may be told.
pub enum RosterStored {
    Done(Box<RosterChange>),
    /// It was undone.
    Refused(Box<RosterChange>),
    /// Nobody is there any more to hear of it.
    Gone,
}

impl Ctx<'_> {
    /// Changes the item of a contact by `edit` and has the roster stored. An item that says
    /// nothing afterwards is removed.
    pub fn change_roster(
        &mut self,
        key: AccountKey,
        jid: &str,
        cause: Cause<'_>,
        edit: impl FnOnce(&mut Item),
    ) {
        let now = self.now;
        let Some(account) = self.core.accounts.get_mut(key) else {
            return;
        };
        let owner = account.jid.clone();
        let roster = account.roster.get_or_insert_default();
        let before = roster.find(jid).cloned();
        edit(roster.entry(jid));
        if roster.find(jid).is_some_and(Item::is_void) {
            roster.remove(jid);
        }
        let after = roster.find(jid).cloned();
        // The clock has part in it, so that a roster that is restored or made anew never repeats
        // a version that a client knows with other content.
        roster.version = (roster.version + 1).max(now.wall_ms);
        let version = roster.version;
        let record = roster.encode();
        let mut batch = Batch::default();
        if let Some(stanza) = &cause.stanza {
            batch.push(stanza);
        }
        let change = RosterChange {
            account: key,
            jid: jid.into(),
            before,
            after,
            version,
            back: cause.back,
            cause: batch,
        };
        self.ask_then(Kept::Roster(Box::new(change)), cause.then, |ops| {
            ops.put_of_account(&owner, Table::Roster, &record)
        });
    }

    /// What became of [`Ctx::change_roster`]. A refused change is undone, unless a later one was
    /// built upon it: that one's answer then speaks for both.
    pub fn roster_stored(&mut self, kept: Kept, reply: &Reply) -> RosterStored {
        let Kept::Roster(change) = kept else {
            return RosterStored::Gone;
        };
        let Some(account) = self.core.accounts.get_mut(change.account) else {
            return RosterStored::Gone;
        };
        if *reply == Reply::Done {
            return RosterStored::Done(change);
        }
        let roster = account.roster.get_or_insert_default();
        if roster.find(&change.jid) == change.after.as_ref() {
            roster.remove(&change.jid);
            if let Some(before) = &change.before {
                *roster.entry(&change.jid) = before.clone();
            }
            // A client may have read the version that is not to be.
            roster.version += 1;
        }
        RosterStored::Refused(change)
    }

    /// Tells every interested session what an item is now (RFC 6121 section 2.1.6).
    pub fn push_roster(&mut self, change: &RosterChange) {
        let listed = |item: &Option<Item>| item.as_ref().is_some_and(|item| item.listed);
        if !listed(&change.before) && !listed(&change.after) || change.is_hidden() {
            return;
        }
        let mut query = Vec::new();
        let mut writer = Writer::new(&mut query);
        writer.open("query").attr("xmlns", ns::ROSTER);
        writer.attr("ver", &change.version.to_string());
        match change.after.as_ref().filter(|item| item.listed) {
            Some(item) => item.write(&mut writer),
            None => {
                writer
                    .open("item")
                    .attr("jid", &change.jid)
                    .attr("subscription", "remove");
                writer.end("item");
            }
        }
        writer.end("query");
        self.push_to(change.account, Flags::ROSTER, &query);
    }

    /// Sends an iq of the account's own to its sessions that have these flags.
    pub fn push_to(&mut self, account: AccountKey, flags: Flags, payload: &[u8]) {
        let Some(bare) = self
            .accounts
            .get(account)
            .map(|account| account.jid.clone())
        else {
            return;
        };
        for key in self.sessions_with(account, flags) {
            let id = format!(" id='push-{:016x}'", self.random() as u64);
            let Some(to) = self.session(key).map(|session| session.jid.clone()) else {
                continue;
            };
            let push =
                Draft::new(Kind::Iq, Type::Set, &bare, &to, id.as_bytes()).with_content(payload);
            self.send_or_hold(key, &push.as_stanza(), &to);
        }
    }

    /// The sessions of an account that have all these flags.
    pub fn sessions_with(&self, account: AccountKey, flags: Flags) -> Vec<SessionKey> {
        let has = |key: &SessionKey| self.session(*key).is_some_and(|s| s.flags.has(flags));
        self.sessions_of(account).into_iter().filter(has).collect()
    }
}

impl RosterChange {
    /// Whether it is about nothing but a request that waits for an answer: clients get that as
    /// presence, never in an item.
    fn is_hidden(&self) -> bool {
        let without_request = |item: &Option<Item>| {
            item.clone().map(|item| Item {
                request: None,
                ..item
            })
        };
        self.before != self.after && without_request(&self.before) == without_request(&self.after)
    }
}

impl Account {
    /// The item of a contact.
    pub fn contact(&self, jid: &str) -> Option<&Item> {
        self.roster.as_deref().and_then(|roster| roster.find(jid))
    }

    /// See [`Roster::has_room`].
    pub fn has_room(&self, limits: &Limits, item: &Item) -> bool {
        match self.roster.as_deref() {
            Some(roster) => roster.has_room(limits, item),
            None => Roster::default().has_room(limits, item),
        }
    }
}

impl Roster {
    /// Items that the user sees, which are those that count against the limit.
    pub fn listed(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.listed)
    }

    /// Whether `item` may be listed, or take the place of the one that is. A client gets the list
    /// in one piece: one that is longer than what a link may be owed would end its session at every
    /// login (SECURITY, P10). What becomes shorter always fits.
    pub fn has_room(&self, limits: &Limits, item: &Item) -> bool {
        let before = self.find(&item.jid).filter(|before| before.listed);
        if before.is_none() && self.listed().count() >= limits.roster_items_max {
            return false;
        }
        let (old, new) = (before.map_or(0, Item::octets_len), item.octets_len());
        let all: usize = self.listed().map(Item::octets_len).sum();
        new <= old || all - old + new <= limits.link_output_octets_max
    }
}

impl Item {
    /// Whether it says nothing and may go.
    fn is_void(&self) -> bool {
        let Self {
            subscription,
            ask,
            approved,
            request,
            listed,
            ..
        } = self;
        let none = !subscription.to && !subscription.from && !ask && !approved;
        none && request.is_none() && !listed
    }

    /// Octets of it as a client sees it.
    fn octets_len(&self) -> usize {
        let mut out = Vec::new();
        self.write(&mut Writer::new(&mut out));
        out.len()
    }

    /// Writes it as a client sees it (RFC 6121 section 2.1.2).
    pub fn write(&self, writer: &mut Writer<'_>) {
        writer.open("item").attr("jid", &self.jid);
        if let Some(name) = &self.name {
            writer.attr("name", name);
        }
        let subscription = match (self.subscription.to, self.subscription.from) {
            (false, false) => "none",
            (true, false) => "to",
            (false, true) => "from",
            (true, true) => "both",
        };
        writer.attr("subscription", subscription);
        if self.ask {
            writer.attr("ask", "subscribe");
        }
        if self.approved {
            writer.attr("approved", "true");
        }
        for group in &self.groups {
            writer.open("group").text(group).end("group");
        }
        writer.end("item");
    }
}
