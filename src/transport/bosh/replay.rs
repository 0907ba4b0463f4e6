//! Former answers, for clients that did not get them (XEP-0124 section 14.3).

use std::collections::VecDeque;
use std::sync::Arc;

use super::keys::Key;
use crate::base::time::Moment;

/// The answers of a session that its client may ask for again, by ascending `rid`.
#[derive(Debug, Default)]
pub struct Replay {
    kept: VecDeque<Kept>,
    octets: usize,
}

/// An answer as it was sent.
#[derive(Debug)]
pub struct Kept {
    pub rid: u64,
    /// What the request showed.
    pub key: Option<Key>,
    pub body: Arc<[u8]>,
    pub sent: Moment,
}

impl Replay {
    /// Keeps the newest answer, and all that the client has not shown to `have` by their number;
    /// of the others as many as there is room for.
    pub fn keep(&mut self, answer: Kept, have: u64, answers_max: usize, octets_max: usize) {
        let newest = answer.body.len();
        self.octets += newest;
        self.kept.push_back(answer);
        while self.kept.len() > answers_max
            || (self.octets - newest > octets_max && self.oldest().is_some_and(|rid| rid <= have))
        {
            self.forget_oldest();
        }
    }

    /// The octets of the answers behind `rid`.
    pub fn octets_behind(&self, rid: u64) -> usize {
        let behind = self.kept.iter().filter(|kept| kept.rid > rid);
        behind.map(|kept| kept.body.len()).sum()
    }

    /// The answer to `rid`.
    pub fn find(&self, rid: u64) -> Option<&Kept> {
        self.kept.iter().find(|kept| kept.rid == rid)
    }

    /// Forgets the answers up to `rid`: the client has them.
    pub fn forget_to(&mut self, rid: u64) {
        while self.kept.front().is_some_and(|kept| kept.rid <= rid) {
            self.forget_oldest();
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.kept.front().map(|kept| kept.rid)
    }

    fn forget_oldest(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.octets -= kept.body.len();
        }
    }
}
