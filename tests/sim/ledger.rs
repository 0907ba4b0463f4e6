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
}

/// Everything that was sent.
#[derive(Default)]
pub struct Ledger {
    pub sent: Vec<Sent>,
    /// The last message in order, by what must be in order.
    last: BTreeMap<(String, usize, String, String, usize, bool), usize>,
    seen: BTreeMap<(usize, String, usize), ()>,
    /// A shortened history, told when something fails.
    pub history: Vec<String>,
    pub stream_errors: usize,
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

    /// A device got a message.
    pub fn received(&mut self, full: &str, epoch: usize, dom: &Dom) {
        let id = dom.attr("id").and_then(|id| id.strip_prefix('m'));
        let Some(message) = id.and_then(|id| id.parse::<usize>().ok()) else {
            return;
        };
        self.note(|| format!("{full} got m{message} {:?}", dom.attr("type")));
        let sent = &mut self.sent[message];
        if dom.attr("type") == Some("error") {
            sent.bounced = true;
            return;
        }
        assert_eq!(
            dom.attr("from"),
            Some(sent.from.as_str()),
            "m{message}: the stamp"
        );
        sent.received += 1;
        if self
            .seen
            .insert((message, full.into(), epoch), ())
            .is_some()
        {
            return;
        }
        if sent.repeated {
            return;
        }
        let delayed = dom.child("delay").is_some();
        let sent = &self.sent[message];
        let pair = (
            sent.from.clone(),
            sent.epoch,
            sent.to.clone(),
            full.into(),
            epoch,
            delayed,
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
            let excused = bounces_unseen && sent.sender_gone;
            assert!(
                !sent.covered || sent.received > 0 || sent.bounced || excused,
                "m{message} was acknowledged and is lost: {sent:?}"
            );
        }
    }
}
