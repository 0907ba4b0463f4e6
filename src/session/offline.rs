//! The offline store (XEP-0160): messages that wait for their recipient, or for an
//! acknowledgement.
//!
//! A row is `version, wall-clock milliseconds (8), the whole element`. Its key is the message's id,
//! so storing twice is storing once, and rows come back in the order in which they were sent.

use std::collections::HashSet;

use super::account::{Account, AccountKey, Draining};
use super::ctx::{Core, Ctx, Stored, Waiter};
use super::session::SessionKey;
use crate::base::event::Event;
use crate::store::{Change, Kind as Table, MessageId, Op, Ops, Refusal, Reply, Require, Row};
use crate::xmpp::error::Condition;
use crate::xmpp::stanza::{Kind, Stanza, Traits, Type};

const VERSION: u8 = 1;
/// How far what was accepted may exceed the quota.
const GRACE: usize = 10;
const HEADER_OCTETS: usize = 9;
/// Rows and octets of one page: what a link may have unsent on account of the offline store.
const PAGE_ROWS: u32 = 50;
const PAGE_OCTETS: u32 = 48 * 1024;

impl Ctx<'_> {
    /// Keeps a message for an account that has nobody to take it. `false`: the quota is used up.
    pub fn store_offline(&mut self, key: AccountKey, stanza: &Stanza<'_>) -> bool {
        let maximum = self.policy.limits.offline_messages_max;
        let stored = self
            .core
            .accounts
            .get(key)
            .map_or(0, |account| account.offline);
        if stored as usize >= maximum && !stanza.traits.has(Traits::RECOVERED) {
            return false;
        }
        let mut element = self.core.pool.take();
        stanza.write(stanza.to, &mut element);
        let kept = self.store_element(key, stanza, &element);
        self.core.pool.give(element);
        kept
    }

    /// Keeps a whole element that was accepted before: by a session that ended, or by a former
    /// process. The quota bounds what is accepted, so such a message may go beyond it [`GRACE`]
    /// times. `stanza` says whom to tell if keeping fails; its head is not looked at.
    pub fn store_element(&mut self, key: AccountKey, stanza: &Stanza<'_>, element: &[u8]) -> bool {
        let now = self.now;
        let maximum = self.policy.limits.offline_messages_max;
        let Some(account) = self.core.accounts.get_mut(key) else {
            return false;
        };
        let beyond = account.offline as usize >= maximum.saturating_mul(GRACE);
        if beyond && !stanza.traits.has(Traits::RECOVERED) {
            return false;
        }
        account.offline += 1;
        let id = match stanza.id {
            MessageId(0) => self.core.next_id(now),
            id => id,
        };
        let Some(account) = self.core.accounts.get_mut(key) else {
            return false;
        };
        if let Some(draining) = &mut account.draining {
            let first = draining.grown_from.map_or(id.0, |first| first.min(id.0));
            draining.grown_from = Some(first);
        }
        let jid = account.jid.clone();
        let count = account.offline;
        let stored = Stored {
            account: key,
            from: stanza.from.into(),
            to: stanza.to.into(),
            reference: stanza.reference.into(),
            id,
            traits: stanza.traits,
        };
        let settles = stanza.traits.has(Traits::JOURNALED) && self.core.settled_by_all(id);
        self.core.counters.messages_stored += 1;
        self.ask(Waiter::Stored(Box::new(stored)), |ops| {
            let owner = ops.keep(jid.as_bytes());
            let row_key = ops.keep(&id.0.to_be_bytes());
            let stamp = stamp_of(id, now.wall_ms);
            let value = ops.keep_all(&[&[VERSION], &stamp.to_be_bytes(), element]);
            let put = Change::Put {
                owner: owner.clone(),
                kind: Table::Offline,
                key: row_key,
                value,
            };
            let mut changes = vec![put, count_change(ops, owner, count)];
            if settles {
                changes.push(Change::Settle { id });
            }
            // A deleted account must not leave letters for whoever gets its name.
            let require = Require::Present {
                owner: ops.keep(jid.as_bytes()),
                kind: Table::Credentials,
                key: ops.keep(b""),
            };
            Op::Write { require, changes }
        });
        true
    }

    /// What became of [`Ctx::store_element`].
    pub fn offline_stored(&mut self, stored: Stored, reply: &Reply) {
        if *reply == Reply::Done {
            return;
        }
        if let Reply::Refused(refusal) = reply {
            let full = *refusal == Refusal::Full;
            self.event(Event::StorageRefused { full });
            // Nobody could be told: it stays in the journal for the next start.
            if stored.traits.has(Traits::RECOVERED) {
                return;
            }
        }
        if let Some(account) = self.core.accounts.get_mut(stored.account) {
            account.offline = account.offline.saturating_sub(1);
        }
        // A refused commit has settled nothing, so the journal is told here: bounced is settled.
        self.tell(|_| Op::Settle { id: stored.id });
        let stanza = Stanza {
            kind: Kind::Message,
            class: Type::Normal,
            traits: Traits::NONE,
            id: MessageId(0),
            from: &stored.from,
            to: &stored.to,
            reference: &stored.reference,
            head: b"",
            content: b"",
        };
        self.bounce(&stanza, Condition::ResourceConstraint);
    }

    /// Begins to give `session` what waits for its account. New messages queue behind.
    pub fn drain_offline(&mut self, session: SessionKey) {
        let Some(key) = self.session(session).map(|s| s.account) else {
            return;
        };
        let Some(account) = self.core.accounts.get_mut(key) else {
            return;
        };
        if account
            .draining
            .as_deref()
            .is_some_and(|draining| draining.session == session)
        {
            return self.next_offline_page(key);
        }
        if account.offline == 0 || account.draining.is_some() {
            return;
        }
        account.draining = Some(Box::new(Draining {
            session,
            after: 0,
            asked: false,
            grown_from: None,
        }));
        self.next_offline_page(key);
    }

    /// Asks for the next page, unless one is under way or the session has enough to do.
    pub fn next_offline_page(&mut self, key: AccountKey) {
        let Core {
            accounts,
            sessions,
            policy,
            ..
        } = &mut *self.core;
        let Some(account) = accounts.get_mut(key) else {
            return;
        };
        let Some(draining) = &mut account.draining else {
            return;
        };
        let Some(session) = sessions.get(draining.session) else {
            account.draining = None;
            return;
        };
        let busy = session.queue.unsent_octets() > policy.limits.link_output_high_water_octets / 2
            || session.queue.unacknowledged() > policy.limits.queue_stanzas_max / 2
            || session.queue.held_octets() > policy.limits.queue_octets_max / 2;
        if draining.asked || busy {
            return;
        }
        draining.asked = true;
        if let Some(first) = draining.grown_from.take() {
            draining.after = draining.after.min(first.saturating_sub(1));
        }
        let (jid, after) = (account.jid.clone(), draining.after);
        let session = draining.session;
        let waiter = Waiter::Offline {
            account: key,
            session,
            after,
        };
        self.ask(waiter, |ops| Op::Range {
            owner: ops.keep(jid.as_bytes()),
            kind: Table::Offline,
            after: ops.keep(&after.to_be_bytes()),
            limit: PAGE_ROWS,
            octets: PAGE_OCTETS,
        });
    }

    /// A page came, or none could be read: its messages go into the queue of the session that
    /// drains. A page for a walk that ended is nobody's.
    pub fn offline_page(
        &mut self,
        key: AccountKey,
        session: SessionKey,
        after: u64,
        page: Option<(Vec<Row>, bool)>,
    ) {
        let Some(account) = self.core.accounts.get_mut(key) else {
            return;
        };
        let Some(draining) = &mut account.draining else {
            return;
        };
        if draining.session != session || draining.after != after {
            return;
        }
        let Some((rows, more)) = page else {
            account.draining = None;
            return;
        };
        draining.asked = false;
        let grew = draining.grown_from.is_some();
        if let Some(last) = rows.last().and_then(|(key, _)| id_of(key)) {
            draining.after = last.0;
        }
        if !more && !grew {
            account.draining = None;
        }
        if self
            .session(session)
            .is_none_or(|s| s.link.is_none() && !s.is_resumable())
        {
            if let Some(account) = self.core.accounts.get_mut(key) {
                account.draining = None;
            }
            return;
        }
        // A page that began further back has rows that are in the queue.
        let queued = self.unsettled_rows(session);
        for (row, value) in &rows {
            if !id_of(row).is_some_and(|id| queued.contains(&id)) {
                self.give_offline(session, row, value);
            }
        }
        if !more && !grew {
            self.correct_count(key, session);
        }
        self.next_offline_page(key);
    }

    /// At the end of a walk the store holds what this session has not acknowledged, and nothing
    /// else: whatever made the count drift ends here.
    fn correct_count(&mut self, key: AccountKey, session: SessionKey) {
        let held = self.unsettled_rows(session).len() as u32;
        let Some(account) = self.core.accounts.get_mut(key) else {
            return;
        };
        if account.offline == held {
            return;
        }
        account.offline = held;
        let jid = account.jid.clone();
        self.tell(|ops| {
            let owner = ops.keep(jid.as_bytes());
            let changes = vec![count_change(ops, owner, held)];
            Op::Write {
                require: Require::Nothing,
                changes,
            }
        });
    }

    /// The messages of the offline store that a session was given and has not settled.
    fn unsettled_rows(&self, session: SessionKey) -> HashSet<MessageId> {
        let open = self.session(session).map(|session| session.queue.open());
        let open = open.into_iter().flatten();
        open.filter(|(mark, _)| mark.traits.has(Traits::FROM_STORE))
            .map(|(mark, _)| mark.id)
            .collect()
    }

    fn give_offline(&mut self, session: SessionKey, key: &[u8], value: &[u8]) {
        let domain = self.policy.domains[0].clone();
        let Some((id, stamp, element)) = parse_row(key, value) else {
            return;
        };
        let Some(open) = element.strip_suffix(END_TAG) else {
            return;
        };
        let mut delayed = self.core.pool.take();
        delayed.extend_from_slice(open);
        write_delay(&mut delayed, &domain, stamp);
        let head_end = start_tag_end(&delayed);
        let stanza = Stanza {
            kind: Kind::Message,
            class: Type::Chat,
            traits: Traits::STORABLE.with(Traits::FROM_STORE),
            id,
            from: "",
            to: "",
            reference: b"",
            head: &delayed[..head_end],
            content: &delayed[head_end + 1..],
        };
        self.count_delivered(session);
        self.send(session, &stanza, "");
        self.core.pool.give(delayed);
    }

    /// The client, or the kernel, has these messages: their rows go, their journal entries too.
    pub fn settle(&mut self, account: AccountKey, marks: &[(MessageId, Traits)]) {
        let mut rows = Vec::new();
        for (id, traits) in marks {
            if traits.has(Traits::FROM_STORE) {
                rows.push(*id);
            } else if traits.has(Traits::JOURNALED) && self.core.settled_by_all(*id) {
                self.tell(|_| Op::Settle { id: *id });
            }
        }
        if rows.is_empty() {
            return;
        }
        let Some(account) = self.core.accounts.get_mut(account) else {
            return;
        };
        account.offline = account.offline.saturating_sub(rows.len() as u32);
        // Two sessions may have settled the same rows, and one of them may be gone by now: then
        // there are more than it seems. The next walk finds out, and costs one page.
        account.offline = account.offline.max(1);
        let (jid, count) = (account.jid.clone(), account.offline);
        self.tell(|ops| {
            let owner = ops.keep(jid.as_bytes());
            let mut changes = vec![count_change(ops, owner.clone(), count)];
            for id in rows {
                let key = ops.keep(&id.0.to_be_bytes());
                changes.push(Change::Delete {
                    owner: owner.clone(),
                    kind: Table::Offline,
                    key,
                });
            }
            Op::Write {
                require: Require::Nothing,
                changes,
            }
        });
    }
}

/// Reads [`Table::OfflineCount`].
pub fn parse_count(record: Option<&[u8]>) -> u32 {
    let record = record
        .and_then(|record| record.get(1..5))
        .and_then(|n| n.try_into().ok());
    record.map_or(0, u32::from_be_bytes)
}

impl Account {
    /// Whether a message must queue in the store because older ones are still on their way.
    pub const fn is_draining(&self) -> bool {
        self.draining.is_some()
    }
}

fn count_change(ops: &mut Ops, owner: crate::store::Span, count: u32) -> Change {
    let key = ops.keep(b"");
    let value = ops.keep_all(&[&[VERSION], &count.to_be_bytes()]);
    Change::Put {
        owner,
        kind: Table::OfflineCount,
        key,
        value,
    }
}

/// When the message was sent: its id says so, unless it was made up later.
fn stamp_of(id: MessageId, wall_ms: u64) -> u64 {
    (id.0 >> 20).min(wall_ms)
}

fn id_of(key: &[u8]) -> Option<MessageId> {
    key.try_into()
        .ok()
        .map(|octets| MessageId(u64::from_be_bytes(octets)))
}

fn parse_row<'a>(key: &[u8], value: &'a [u8]) -> Option<(MessageId, u64, &'a [u8])> {
    let id = id_of(key)?;
    if value.first() != Some(&VERSION) {
        return None;
    }
    let stamp = u64::from_be_bytes(value.get(1..HEADER_OCTETS)?.try_into().ok()?);
    Some((id, stamp, value.get(HEADER_OCTETS..)?))
}

/// XEP-0203, in the name of the server that kept the message.
fn write_delay(out: &mut Vec<u8>, domain: &str, stamp_ms: u64) {
    out.extend_from_slice(b"<delay xmlns='urn:xmpp:delay' from='");
    out.extend_from_slice(domain.as_bytes());
    out.extend_from_slice(b"' stamp='");
    out.extend_from_slice(super::stamp::utc(stamp_ms).as_bytes());
    out.extend_from_slice(b"'/>");
}

/// Where the start tag's `>` is. Elements in the store were written by us: a `>` inside an
/// attribute value may stand as it is, so quotes are skipped.
pub fn start_tag_end(element: &[u8]) -> usize {
    let mut quote = None;
    for (at, &octet) in element.iter().enumerate() {
        match (quote, octet) {
            (None, b'>') => return at,
            (None, b'\'' | b'"') => quote = Some(octet),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    element.len().saturating_sub(1)
}

const END_TAG: &[u8] = b"</message>";
