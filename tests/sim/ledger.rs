//! What was promised and what came: the checkers' book.

use std::collections::BTreeMap;

use crate::support::dom::Dom;

/// A message from its sender's view.
#[derive(Clone, Debug)]
pub struct Sent {
    pub from: String,
    pub epoch: usize,
    pub to: String,
    /// The server took responsibility.
    pub covered: bool,
    pub received: usize,
    pub bounced: bool,
    /// It was sent a second time after a resumption: it may come late, or twice.
    pub repeated: bool,
    /// The sender's session is over: it would not hear of a bounce.
    pub sender_gone: bool,
    /// Its sender gave it a name: within a session it goes out once, however often it is sent.
    pub is_named: bool,
    /// Octets of its text.
    pub octets: usize,
    /// Readers of a page were given it, and did not read for so long that it is kept no longer.
    pub was_kept: bool,
}

/// A message as a device got it.
pub struct Arrival<'a> {
    pub message: usize,
    pub from: Option<&'a str>,
    pub is_error: bool,
    pub is_delayed: bool,
    pub stanza_id: Option<String>,
}

/// Everything that was sent.
#[derive(Default)]
pub struct Ledger {
    pub sent: Vec<Sent>,
    /// The last message in order, by what must be in order.
    last: BTreeMap<(String, usize, String, String, usize, bool), usize>,
    /// What came to whom, by its `stanza_id`.
    seen: BTreeMap<(usize, String, usize), Option<String>>,
    /// A shortened history, told when something fails.
    pub history: Vec<String>,
    pub stream_errors: usize,
    /// Publications, and whether the publisher was told that they are on their way.
    pub published: Vec<bool>,
}

impl Ledger {
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        self.history.push(what());
    }

    pub fn send(&mut self, from: &str, epoch: usize, to: &str) -> usize {
        self.sent.push(Sent {
            from: from.into(),
            epoch,
            to: to.into(),
            covered: false,
            received: 0,
            bounced: false,
            repeated: false,
            sender_gone: false,
            is_named: false,
            octets: 0,
            was_kept: false,
        });
        self.sent.len() - 1
    }

    pub fn covered(&mut self, message: usize) {
        self.sent[message].covered = true;
    }

    pub fn session_over(&mut self, full: &str, epoch: usize) {
        for sent in &mut self.sent {
            if sent.from == full && sent.epoch == epoch {
                sent.sender_gone = true;
            }
        }
    }

    pub fn refused_login(&mut self, full: &str) {
        self.note(|| format!("{full} is not let in"));
    }

    pub fn stream_error(&mut self, full: &str, dom: &Dom) {
        self.stream_errors += 1;
        self.note(|| format!("{full} got {dom}"));
    }

    /// A page of this address was given something, and may not have it.
    pub fn may_be_lost(&mut self, bare: &str) {
        self.note(|| format!("what {bare} was sent may be kept no longer"));
        for sent in &mut self.sent {
            let (to, _) = sent.to.split_once('/').unwrap_or((&sent.to, ""));
            sent.was_kept |= to == bare;
        }
    }

    /// A device got a message.
    pub fn received(&mut self, full: &str, epoch: usize, dom: &Dom) {
        let Some(message) = dom.attr("id").and_then(number_of) else {
            return;
        };
        let arrival = Arrival {
            message,
            from: dom.attr("from"),
            is_error: dom.attr("type") == Some("error"),
            is_delayed: dom.child("delay").is_some(),
            stanza_id: dom
                .child("stanza-id")
                .and_then(|stanza_id| stanza_id.attr("id"))
                .map(str::to_owned),
        };
        self.came(full, epoch, &arrival);
    }

    /// A device got a message, over whatever.
    pub fn came(&mut self, full: &str, epoch: usize, arrival: &Arrival<'_>) {
        let message = arrival.message;
        let is_error = arrival.is_error;
        self.note(|| format!("{full} got m{message}, error: {is_error}"));
        let sent = &mut self.sent[message];
        if arrival.is_error {
            sent.bounced = true;
            return;
        }
        assert_eq!(
            arrival.from,
            Some(sent.from.as_str()),
            "m{message}: the stamp"
        );
        sent.received += 1;
        // What another device had and did not acknowledge may come to this one again.
        let stanza_id = arrival.stanza_id.clone();
        let place = (message, full.to_owned(), epoch);
        if let Some(first) = self.seen.insert(place, stanza_id.clone()) {
            let is_known = first == stanza_id || !sent.is_named || sent.repeated;
            assert!(is_known, "{full} got m{message} under two names");
            return;
        }
        if sent.repeated {
            return;
        }
        let sent = &self.sent[message];
        let pair = (
            sent.from.clone(),
            sent.epoch,
            sent.to.clone(),
            full.into(),
            epoch,
            arrival.is_delayed,
        );
        let last = self.last.insert(pair, message);
        assert!(
            last.is_none_or(|last| last < message),
            "{full} got m{message} after m{}",
            last.unwrap_or_default()
        );
    }

    /// P1, at the end: what was covered came, or bounced. `bounces_unseen`: a bounce may have gone
    /// to a session that was over.
    pub fn check(&self, bounces_unseen: bool) {
        for (message, sent) in self.sent.iter().enumerate() {
            let excused = sent.was_kept || (bounces_unseen && sent.sender_gone);
            assert!(
                !sent.covered || sent.received > 0 || sent.bounced || excused,
                "m{message} was acknowledged and is lost: {sent:?}"
            );
        }
    }
}

/// The message of this name.
pub fn number_of(id: &str) -> Option<usize> {
    id.strip_prefix('m')?.parse().ok()
}
