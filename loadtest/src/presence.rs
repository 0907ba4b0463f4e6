//! Presence that is counted: groups whose members are in each other's rosters, changes that carry
//! a [`Mark`], and who got them.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use memchr::memmem;

use crate::failure::example;
use crate::mark::{MARK_OCTETS, Mark};
use crate::plan::{Board, Plan, Row};
use crate::recorder::{Counts, Recorder};
use crate::scan;
use crate::schedule::Nanoseconds;
use crate::task::{Presence, Subscriptions};

/// All watchers of one thread. Members are numbered from the thread's first watcher; a *bond* is a
/// member and one of its contacts, numbered by both.
pub struct Watchers {
    presence: Presence,
    run: u32,
    /// The users of the members.
    users: Vec<u32>,
    ready: Vec<bool>,
    /// The number of the next change of each member.
    next: Vec<u32>,
    /// By bond: the number that must come next.
    expected: Vec<u32>,
    subscribed: Vec<bool>,
    /// What has been skipped and may still come.
    missing: HashSet<(usize, u32)>,
    /// Members and users that they know from elsewhere: a run with other groups.
    strangers: HashSet<(usize, u32)>,
    /// What came from those.
    pub strange: u64,
    /// Bonds that have been asked for are before this one.
    asked: usize,
    waiting: usize,
    approved: u64,
    pub latency: Recorder,
    /// Changes that were due from here on, and until there, are measured.
    pub measured: std::ops::Range<Nanoseconds>,
    changes: u64,
    deliveries: u64,
}

/// Subscriptions that are asked for at the same time, in one thread.
const ASKED_AT_ONCE: usize = 64;

impl Watchers {
    pub fn new(presence: Presence, users: Vec<u32>, run: u32) -> Self {
        let (members, bonds) = (users.len(), users.len() * presence.group_size);
        Self {
            presence,
            run,
            users,
            ready: vec![false; members],
            next: vec![0; members],
            expected: vec![0; bonds],
            subscribed: vec![presence.subscriptions == Subscriptions::Exist; bonds],
            missing: HashSet::new(),
            strangers: HashSet::new(),
            strange: 0,
            asked: 0,
            waiting: 0,
            approved: 0,
            latency: Recorder::new(),
            measured: Nanoseconds::MAX..Nanoseconds::MAX,
            changes: 0,
            deliveries: 0,
        }
    }

    pub fn members(&self) -> usize {
        self.users.len()
    }

    pub fn ready(&mut self, member: usize) {
        self.ready[member] = true;
    }

    /// The bond of a member with the contact that is so-and-so-many-th in its group.
    fn bond(&self, member: usize, nth: usize) -> usize {
        member * self.presence.group_size + nth
    }

    fn contact(&self, bond: usize) -> usize {
        let (member, nth) = (
            bond / self.presence.group_size,
            bond % self.presence.group_size,
        );
        member - member % self.presence.group_size + nth
    }

    /// The place of a user within the group of a member.
    fn nth(&self, member: usize, user: u32) -> Option<usize> {
        let first = self.users[member - member % self.presence.group_size];
        let nth = user.checked_sub(first)? as usize;
        (nth < self.presence.group_size).then_some(nth)
    }

    /// The roster says which subscriptions exist already.
    pub fn on_roster(&mut self, member: usize, result: &[u8], plan: &Plan) {
        for at in memmem::find_iter(result, b"<item ") {
            let head = scan::head(&result[at..]);
            let kind = scan::attribute(head, "subscription");
            let jid = scan::attribute(head, "jid").unwrap_or_default();
            let user = user_of(jid, plan);
            let user = user.filter(|_| matches!(kind, Some(b"both" | b"to")));
            match user.map(|user| (user, self.nth(member, user))) {
                Some((_, Some(nth))) => {
                    self.approve(member, nth);
                }
                Some((user, None)) => {
                    self.strangers.insert((member, user));
                }
                None => {}
            }
        }
    }

    fn approve(&mut self, member: usize, nth: usize) -> bool {
        let bond = self.bond(member, nth);
        let new = !std::mem::replace(&mut self.subscribed[bond], true);
        self.approved += u64::from(new);
        new
    }

    /// The next member that must ask for a subscription; appends what it says. None while enough
    /// wait for an answer, and at the end.
    pub fn ask(&mut self, plan: &Plan, out: &mut Vec<u8>) -> Option<usize> {
        while self.asked < self.subscribed.len() && self.waiting < ASKED_AT_ONCE {
            let bond = self.asked;
            self.asked += 1;
            let (member, contact) = (bond / self.presence.group_size, self.contact(bond));
            let possible = self.ready[member] && self.ready[contact] && member != contact;
            if !possible || self.subscribed[bond] {
                continue;
            }
            let to = plan.bare(self.users[contact]);
            if self.presence.subscriptions == Subscriptions::Roster {
                let item = format!(
                    "<iq type='set' id='item'><query xmlns='jabber:iq:roster'><item jid='{to}'/>\
                     </query></iq>"
                );
                out.extend_from_slice(item.as_bytes());
            }
            let ask = format!("<presence type='subscribe' to='{to}'/>");
            out.extend_from_slice(ask.as_bytes());
            self.waiting += 1;
            return Some(member);
        }
        None
    }

    pub fn is_prepared(&self) -> bool {
        self.asked == self.subscribed.len() && self.waiting == 0
    }

    /// Appends the next change of a member.
    pub fn change(&mut self, member: usize, at: Nanoseconds, out: &mut Vec<u8>) {
        let mark = Mark {
            run: self.run,
            talk: self.users[member],
            number: self.next[member],
            at,
        };
        self.next[member] += 1;
        self.changes += 1;
        out.extend_from_slice(b"<presence><show>away</show><status>");
        let start = out.len();
        out.resize(start + MARK_OCTETS, 0);
        mark.write(&mut out[start..]);
        out.extend_from_slice(b"</status></presence>");
    }

    /// Takes a presence stanza that came to a member, appends the answer to a request.
    pub fn receive(
        &mut self,
        member: usize,
        stanza: &[u8],
        now: Nanoseconds,
        plan: &Plan,
        board: &Board,
        out: &mut Vec<u8>,
    ) {
        let head = scan::head(stanza);
        let from = scan::attribute(head, "from").unwrap_or_default();
        match scan::attribute(head, "type") {
            None => self.on_change(member, stanza, now, board),
            Some(b"subscribe") => {
                out.extend_from_slice(b"<presence type='subscribed' to='");
                out.extend_from_slice(from);
                out.extend_from_slice(b"'/>");
            }
            Some(b"subscribed") => {
                let nth = user_of(from, plan).and_then(|user| self.nth(member, user));
                if nth.is_some_and(|nth| self.approve(member, nth)) {
                    self.waiting = self.waiting.saturating_sub(1);
                }
            }
            Some(b"error") => {
                self.waiting = self.waiting.saturating_sub(1);
                let kind = format!("presence refused: {}", scan::condition(stanza));
                board.error(&kind, || example(stanza));
            }
            _ => {}
        }
    }

    fn on_change(&mut self, member: usize, stanza: &[u8], now: Nanoseconds, board: &Board) {
        let mark = scan::text(stanza, "status").and_then(Mark::read);
        // Without our mark it is the first presence of a contact, or that of an earlier run.
        let Some(mark) = mark.filter(|mark| mark.run == self.run) else {
            return;
        };
        if mark.talk == self.users[member] {
            return;
        }
        let Some(nth) = self.nth(member, mark.talk) else {
            if self.strangers.contains(&(member, mark.talk)) {
                self.strange += 1;
            } else {
                board.error("presence misdelivered", || example(stanza));
            }
            return;
        };
        let bond = self.bond(member, nth);
        let expected = self.expected[bond];
        if mark.number < expected {
            if self.missing.remove(&(bond, mark.number)) {
                board.error("presence out of order", || example(stanza));
            } else {
                board.error("presence duplicated", || example(stanza));
                return;
            }
        } else {
            self.missing
                .extend((expected..mark.number).map(|n| (bond, n)));
            self.expected[bond] = mark.number + 1;
        }
        self.deliveries += 1;
        let counts = Counts::when(self.measured.contains(&mark.at));
        self.latency.record(now.saturating_sub(mark.at), counts);
    }

    /// Counts what never came to whom it should have come.
    pub fn settle(&self, board: &Board) {
        for bond in 0..self.expected.len() {
            let (member, contact) = (bond / self.presence.group_size, self.contact(bond));
            if member == contact || !self.ready[member] || !self.ready[contact] {
                continue;
            }
            let lost = self.next[contact].saturating_sub(self.expected[bond]);
            board.errors_of_kind("presence lost", u64::from(lost), || {
                let (user, of) = (self.users[member], self.users[contact]);
                format!(
                    "user {user} got {} of {} changes of user {of}",
                    self.expected[bond], self.next[contact]
                )
            });
        }
        board.errors_of_kind("presence lost", self.missing.len() as u64, || {
            let first = self.missing.iter().next();
            first.map_or_else(String::new, |(bond, number)| {
                let (user, of) = (bond / self.presence.group_size, self.contact(*bond));
                let (user, of) = (self.users[user], self.users[of]);
                format!("user {user} never got change {number} of user {of}")
            })
        });
    }

    pub fn publish(&self, row: &Row) {
        row.changes.store(self.changes, Ordering::Relaxed);
        row.deliveries.store(self.deliveries, Ordering::Relaxed);
        row.subscribed.store(self.approved, Ordering::Relaxed);
    }

    /// Deliveries that the changes of ready members must make, so far.
    pub fn owed(&self) -> u64 {
        let size = self.presence.group_size;
        let groups = self.ready.chunks(size).zip(self.next.chunks(size));
        groups
            .map(|(ready, next)| {
                let online = ready.iter().filter(|ready| **ready).count() as u64;
                let sent: u64 = next.iter().map(|&n| u64::from(n)).sum();
                sent * online.saturating_sub(1)
            })
            .sum()
    }
}

/// The number of one of our users.
fn user_of(jid: &[u8], plan: &Plan) -> Option<u32> {
    let jid = std::str::from_utf8(jid).ok()?;
    let (local, rest) = jid.split_once('@')?;
    let domain = rest.split('/').next()?;
    let number = local.strip_prefix(plan.prefix.as_str())?;
    (domain == plan.domain)
        .then(|| number.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: usize = 3;

    fn watchers() -> Watchers {
        let presence = Presence {
            group_size: GROUP,
            changes_per_second: 1.0,
            subscriptions: Subscriptions::Exist,
        };
        let mut watchers = Watchers::new(presence, (10..10 + 2 * GROUP as u32).collect(), 7);
        (0..watchers.members()).for_each(|member| watchers.ready(member));
        watchers.measured = 0..Nanoseconds::MAX;
        watchers
    }

    fn kinds(board: &Board) -> Vec<(String, u64)> {
        let errors = board.errors().into_iter();
        errors.map(|(kind, (count, _))| (kind, count)).collect()
    }

    #[test]
    fn what_everybody_gets_once_is_no_error() {
        let (mut watchers, board) = (watchers(), Board::new(1));
        for at in [1, 2] {
            let mut change = Vec::new();
            watchers.change(4, at, &mut change);
            for member in [3, 4, 5] {
                watchers.on_change(member, &change, 9, &board);
            }
        }
        watchers.settle(&board);
        assert_eq!(kinds(&board), []);
        assert_eq!((watchers.deliveries, watchers.owed()), (4, 4));
        assert_eq!(watchers.latency.into_total().len(), 4);
    }

    #[test]
    fn lost_doubled_reordered_and_misdelivered_changes_are_counted() {
        let (mut watchers, board) = (watchers(), Board::new(1));
        let changes: Vec<Vec<u8>> = (0..4)
            .map(|at| {
                let mut change = Vec::new();
                watchers.change(0, at, &mut change);
                change
            })
            .collect();
        for number in [0, 2, 1, 1] {
            watchers.on_change(1, &changes[number], 9, &board);
        }
        for change in &changes {
            watchers.on_change(2, change, 9, &board);
        }
        watchers.on_change(4, &changes[0], 9, &board);
        watchers.settle(&board);
        let expected = [
            ("presence duplicated", 1),
            ("presence lost", 1),
            ("presence misdelivered", 1),
            ("presence out of order", 1),
        ];
        assert_eq!(
            kinds(&board),
            expected.map(|(kind, n)| (kind.to_owned(), n))
        );
    }
}
