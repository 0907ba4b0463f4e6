//! What was sent to a session and what of it the client has: write buffer and XEP-0198 store in
//! one.
//!
//! Every octet has an absolute offset. `sent` divides what the kernel (or the TLS layer) took from
//! what is still due. A stanza whose fate matters has a [`Mark`]: it is *counted* when the client
//! acknowledges stanzas, else it is settled as soon as its octets were taken. Octets stay as long
//! as a mark needs them; then the buffer goes back to the pool, so an idle session holds none.

use std::collections::VecDeque;

use crate::base::pool::Pool;
use crate::store::MessageId;
use crate::xmpp::stanza::{Stanza, Traits};

/// A stanza in the queue: 32 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    start: u64,
    octets: u32,
    counted: bool,
    /// What its stanza was.
    pub traits: Traits,
    /// Its name; zero for what has none.
    pub id: MessageId,
}

impl Mark {
    fn end(&self) -> u64 {
        self.start + u64::from(self.octets)
    }
}

/// The octets of one session, in order.
#[derive(Debug, Default)]
pub struct Queue {
    octets: Vec<u8>,
    /// The absolute offset of `octets[0]`.
    base: u64,
    /// The absolute offset of what is due.
    sent: u64,
    marks: VecDeque<Mark>,
    /// Whether the peer counts stanzas (XEP-0198).
    counting: bool,
}

/// Consumed octets at the front above which the rest moves down.
const SLACK_OCTETS: usize = 8 * 1024;

impl Queue {
    /// Lets `write` append octets that nobody counts: headers, nonzas, negotiation.
    pub fn append(&mut self, pool: &mut Pool, write: impl FnOnce(&mut Vec<u8>)) {
        self.borrow(pool);
        write(&mut self.octets);
    }

    /// Appends a stanza, addressed as `to`.
    pub fn push(&mut self, pool: &mut Pool, stanza: &Stanza<'_>, to: &str) {
        self.borrow(pool);
        let start = self.end();
        stanza.write(to, &mut self.octets);
        let octets = (self.end() - start) as u32;
        let Stanza { traits, id, .. } = *stanza;
        if self.counting || traits.has(Traits::STORABLE) || traits.has(Traits::JOURNALED) {
            self.marks.push_back(Mark {
                start,
                octets,
                counted: self.counting,
                traits,
                id,
            });
        }
    }

    /// What is due to be written.
    pub fn output(&self) -> &[u8] {
        &self.octets[(self.sent - self.base) as usize..]
    }

    /// Octets that are due.
    pub fn unsent_octets(&self) -> usize {
        (self.end() - self.sent) as usize
    }

    /// Octets that are held, sent or not.
    pub fn held_octets(&self) -> usize {
        self.octets.len()
    }

    /// Stanzas that wait for the client's word.
    pub fn unacknowledged(&self) -> usize {
        self.marks.len()
    }

    /// From now on stanzas are kept until the client acknowledges them.
    pub fn count_from_here(&mut self) {
        self.counting = true;
    }

    /// The kernel took `octets`; `settled` gets every stanza that needed no more than that.
    pub fn wrote(&mut self, pool: &mut Pool, octets: usize, mut settled: impl FnMut(Mark)) {
        self.sent = (self.sent + octets as u64).min(self.end());
        while let Some(mark) = self.marks.front() {
            if mark.counted || mark.end() > self.sent {
                break;
            }
            settled(*mark);
            self.marks.pop_front();
        }
        self.release(pool);
    }

    /// The client has the next `stanzas`; `settled` gets each of them.
    ///
    /// The caller has checked the number against [`Queue::unacknowledged`].
    pub fn acknowledged(&mut self, pool: &mut Pool, stanzas: usize, mut settled: impl FnMut(Mark)) {
        for mark in self.marks.drain(..stanzas.min(self.marks.len())) {
            settled(mark);
        }
        self.release(pool);
    }

    /// The stanzas whose fate is open, with their octets, in order.
    pub fn open(&self) -> impl Iterator<Item = (Mark, &[u8])> {
        self.marks.iter().map(|mark| {
            let start = (mark.start - self.base) as usize;
            (*mark, &self.octets[start..start + mark.octets as usize])
        })
    }

    /// Begins again on a new link: `greeting`, then every stanza the client does not have.
    pub fn replay(&mut self, pool: &mut Pool, greeting: &[u8]) {
        let mut octets = pool.take();
        octets.extend_from_slice(greeting);
        let base = self.end();
        for mark in &mut self.marks {
            let from = (mark.start - self.base) as usize;
            mark.start = base + octets.len() as u64;
            mark.counted = self.counting;
            octets.extend_from_slice(&self.octets[from..from + mark.octets as usize]);
        }
        pool.give(std::mem::replace(&mut self.octets, octets));
        self.base = base;
        self.sent = base;
    }

    /// Takes up a stanza that a former process had sent and nobody acknowledged.
    pub fn restore(&mut self, pool: &mut Pool, traits: Traits, id: MessageId, octets: &[u8]) {
        self.borrow(pool);
        let start = self.end();
        self.octets.extend_from_slice(octets);
        self.sent = self.end();
        let octets = octets.len() as u32;
        self.marks.push_back(Mark {
            start,
            octets,
            counted: true,
            traits,
            id,
        });
    }

    /// Gives the buffer back for good.
    pub fn discard(&mut self, pool: &mut Pool) {
        pool.give(std::mem::take(&mut self.octets));
        self.marks = VecDeque::new();
    }

    /// Asserts the order of offsets.
    pub fn check(&self) {
        assert!(
            self.base <= self.sent && self.sent <= self.end(),
            "sent lies inside the octets"
        );
        let mut last = self.base;
        for mark in &self.marks {
            assert!(
                mark.start >= last && mark.end() <= self.end(),
                "marks are in order"
            );
            last = mark.end();
        }
    }

    fn end(&self) -> u64 {
        self.base + self.octets.len() as u64
    }

    fn borrow(&mut self, pool: &mut Pool) {
        if self.octets.capacity() == 0 {
            self.octets = pool.take();
        }
    }

    /// Drops what neither the socket nor a mark needs.
    fn release(&mut self, pool: &mut Pool) {
        let needed = self
            .marks
            .front()
            .map_or(self.sent, |mark| mark.start.min(self.sent));
        let free = (needed - self.base) as usize;
        if free == self.octets.len() {
            self.base = needed;
            pool.give(std::mem::take(&mut self.octets));
            if self.marks.is_empty() && self.marks.capacity() > 64 {
                self.marks = VecDeque::new();
            }
        } else if free > SLACK_OCTETS && free * 2 > self.octets.len() {
            self.octets.drain(..free);
            self.base = needed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::stanza::{Draft, Kind, Type};

    fn message(body: &str) -> Draft {
        Draft::new(Kind::Message, Type::Chat, "a@b/c", "d@e", b"")
            .with_content(format!("<body>{body}</body>"))
            .with_traits(Traits::STORABLE)
    }

    #[test]
    fn without_counting_a_stanza_is_settled_when_its_last_octet_was_taken() {
        let (mut queue, mut pool) = (Queue::default(), Pool::default());
        queue.push(&mut pool, &message("one").as_stanza(), "d@e");
        let due = queue.output().len();
        let mut settled = 0;
        queue.wrote(&mut pool, due - 1, |_| settled += 1);
        assert_eq!((settled, queue.unsent_octets()), (0, 1));
        queue.wrote(&mut pool, 1, |_| settled += 1);
        assert_eq!((settled, queue.held_octets()), (1, 0));
        queue.check();
    }

    #[test]
    fn with_counting_a_replay_holds_what_is_missing_and_nothing_else() {
        let (mut queue, mut pool) = (Queue::default(), Pool::default());
        queue.append(&mut pool, |out| out.extend_from_slice(b"<enabled/>"));
        queue.count_from_here();
        for body in ["one", "two", "three"] {
            queue.push(&mut pool, &message(body).as_stanza(), "d@e");
            queue.append(&mut pool, |out| out.extend_from_slice(b"<r/>"));
        }
        let due = queue.output().len();
        queue.wrote(&mut pool, due, |_| {
            panic!("counted stanzas wait for the client")
        });
        assert_eq!(queue.unacknowledged(), 3);
        queue.acknowledged(&mut pool, 1, |_| ());
        queue.replay(&mut pool, b"<resumed/>");
        queue.check();
        let text = String::from_utf8(queue.output().to_vec()).unwrap();
        assert!(
            text.starts_with("<resumed/><message") && !text.contains("<r/>"),
            "{text}"
        );
        assert!(!text.contains("one") && text.contains("two") && text.contains("three"));
        queue.acknowledged(&mut pool, 2, |_| ());
        let due = queue.unsent_octets();
        queue.wrote(&mut pool, due, |_| ());
        assert_eq!(queue.held_octets(), 0);
    }
}
