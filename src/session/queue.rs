//! What was sent to a session and what of it the client has: write buffer and XEP-0198 store in
//! one.
//!
//! Every octet has an absolute offset. `sent` divides what the kernel (or the TLS layer) took from
//! what is still due. A stanza whose fate matters has a [`Mark`]: it is *counted* when the client
//! acknowledges stanzas, else it is settled as soon as its octets were taken. Octets stay as long
//! as a mark needs them; then the whole body goes back to the pool, so an idle session holds none.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::base::pool;
use crate::store::MessageId;
use crate::transport::framing::{self, Framing};
use crate::xmpp::stanza::{Stanza, Traits};

/// A stanza in the queue: 24 octets.
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

/// The octets of one session, in order: two words while there are none.
#[derive(Debug, Default)]
pub struct Queue {
    /// Borrowed from the pool as long as the socket or the client lacks something.
    body: Option<Box<Body>>,
    /// Whether the peer counts stanzas (XEP-0198).
    counting: bool,
    /// How its link wants items to be cut.
    framing: Framing,
}

/// There is one per session, and nearly all of them are empty.
const _: () = assert!(size_of::<Queue>() <= 16);

/// What a queue holds while it holds something. Offsets count from when it was borrowed.
#[derive(Debug, Default)]
pub struct Body {
    octets: Vec<u8>,
    /// The absolute offset of `octets[0]`.
    base: u64,
    /// The absolute offset of what is due.
    sent: u64,
    marks: VecDeque<Mark>,
}

/// Buffers of a shard: bodies of queues, and octets alone.
#[derive(Default)]
pub struct Pool {
    octets: pool::Pool,
    #[expect(
        clippy::vec_box,
        reason = "a queue borrows the box: nothing is moved but a pointer"
    )]
    bodies: Vec<Box<Body>>,
}

/// Bodies kept; what comes back beyond is freed.
const KEPT_MAX: usize = 1024;
/// Marks of which a body keeps the room.
const KEPT_MARKS_MAX: usize = 64;
/// Consumed octets at the front above which the rest moves down.
const SLACK_OCTETS: usize = 8 * 1024;

impl Queue {
    /// An empty queue for a link that cuts items so.
    pub fn framed(framing: Framing) -> Self {
        Self {
            framing,
            ..Self::default()
        }
    }

    /// From here on items are cut so.
    pub fn cut_as(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// How its link wants items to be cut.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// Lets `write` append whole items that nobody counts: headers, nonzas, negotiation.
    pub fn append(&mut self, pool: &mut Pool, write: impl FnOnce(&mut Vec<u8>)) {
        let framing = self.framing;
        let octets = &mut self.borrow(pool).octets;
        let start = octets.len();
        write(octets);
        framing.enclose(octets, start);
    }

    /// Lets `write` append what is no item of a stream: control frames, answers of HTTP.
    pub fn append_octets(&mut self, pool: &mut Pool, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.borrow(pool).octets);
    }

    /// Appends a stanza, addressed as `to`.
    pub fn push(&mut self, pool: &mut Pool, stanza: &Stanza<'_>, to: &str) {
        let (counted, framing) = (self.counting, self.framing);
        let body = self.borrow(pool);
        let place = framing.write(stanza, to, &mut body.octets);
        let start = body.base + place.start as u64;
        let octets = place.len() as u32;
        let Stanza { traits, id, .. } = *stanza;
        if counted || traits.has(Traits::STORABLE) || traits.has(Traits::JOURNALED) {
            body.marks.push_back(Mark {
                start,
                octets,
                counted,
                traits,
                id,
            });
        }
    }

    /// What is due to be written.
    pub fn output(&self) -> &[u8] {
        self.body
            .as_deref()
            .map_or(&[], |body| &body.octets[(body.sent - body.base) as usize..])
    }

    /// Octets that are due.
    pub fn unsent_octets(&self) -> usize {
        self.body
            .as_deref()
            .map_or(0, |body| (body.end() - body.sent) as usize)
    }

    /// The oldest message of this process that is due, if it has a name.
    pub fn oldest_unsent(&self) -> Option<MessageId> {
        let body = self.body.as_deref()?;
        let sent = body.marks.partition_point(|mark| mark.end() <= body.sent);
        let due = body.marks.range(sent..);
        // What comes from the store may have been named years ago.
        let mut named = due.filter(|mark| mark.id.0 != 0 && !mark.traits.has(Traits::FROM_STORE));
        named.next().map(|mark| mark.id)
    }

    /// Octets that are held, sent or not.
    pub fn held_octets(&self) -> usize {
        self.body.as_deref().map_or(0, |body| body.octets.len())
    }

    /// Stanzas that wait for the client's word.
    pub fn unacknowledged(&self) -> usize {
        self.body.as_deref().map_or(0, |body| body.marks.len())
    }

    /// From now on stanzas are kept until the client acknowledges them.
    pub fn count_from_here(&mut self) {
        self.counting = true;
    }

    /// The kernel took `octets`; `settled` gets every stanza that needed no more than that.
    pub fn wrote(&mut self, pool: &mut Pool, octets: usize, mut settled: impl FnMut(Mark)) {
        let Some(body) = self.body.as_deref_mut() else {
            return;
        };
        body.sent = (body.sent + octets as u64).min(body.end());
        while let Some(mark) = body.marks.front() {
            if mark.counted || mark.end() > body.sent {
                break;
            }
            settled(*mark);
            body.marks.pop_front();
        }
        self.release(pool);
    }

    /// The client has the next `stanzas`; `settled` gets each of them.
    ///
    /// The caller has checked the number against [`Queue::unacknowledged`].
    pub fn acknowledged(&mut self, pool: &mut Pool, stanzas: usize, mut settled: impl FnMut(Mark)) {
        let Some(body) = self.body.as_deref_mut() else {
            return;
        };
        for mark in body.marks.drain(..stanzas.min(body.marks.len())) {
            settled(mark);
        }
        self.release(pool);
    }

    /// The stanzas whose fate is open, with their octets as on TCP, in order.
    pub fn open(&self) -> impl Iterator<Item = (Mark, Cow<'_, [u8]>)> {
        self.body.as_deref().into_iter().flat_map(|body| {
            body.marks.iter().map(|mark| {
                let start = (mark.start - body.base) as usize;
                let stanza = &body.octets[start..start + mark.octets as usize];
                (*mark, framing::plain(stanza))
            })
        })
    }

    /// Begins again on a new link, which cuts items as `framing` says: `greeting`, enclosed
    /// already, then every stanza the client does not have.
    pub fn replay(&mut self, pool: &mut Pool, framing: Framing, greeting: &[u8]) {
        self.framing = framing;
        let mut octets = pool.take();
        octets.extend_from_slice(greeting);
        let counted = self.counting;
        let body = self.borrow(pool);
        let base = body.end();
        for mark in &mut body.marks {
            let from = (mark.start - body.base) as usize;
            let stanza = &body.octets[from..from + mark.octets as usize];
            let place = framing.copy(stanza, &mut octets);
            mark.start = base + place.start as u64;
            mark.octets = place.len() as u32;
            mark.counted = counted;
        }
        body.base = base;
        body.sent = base;
        let former = std::mem::replace(&mut body.octets, octets);
        pool.give(former);
    }

    /// Takes up a stanza that a former process had sent and nobody acknowledged.
    pub fn restore(&mut self, pool: &mut Pool, traits: Traits, id: MessageId, octets: &[u8]) {
        let body = self.borrow(pool);
        let start = body.end();
        body.octets.extend_from_slice(octets);
        body.sent = body.end();
        let octets = octets.len() as u32;
        body.marks.push_back(Mark {
            start,
            octets,
            counted: true,
            traits,
            id,
        });
    }

    /// Gives the buffer back for good.
    pub fn discard(&mut self, pool: &mut Pool) {
        if let Some(body) = self.body.take() {
            pool.give_body(body);
        }
    }

    /// Asserts the order of offsets.
    pub fn check(&self) {
        let Some(body) = self.body.as_deref() else {
            return;
        };
        assert!(
            body.base <= body.sent && body.sent <= body.end(),
            "sent lies inside the octets"
        );
        let mut last = body.base;
        for mark in &body.marks {
            assert!(
                mark.start >= last && mark.end() <= body.end(),
                "marks are in order"
            );
            last = mark.end();
        }
    }

    fn borrow(&mut self, pool: &mut Pool) -> &mut Body {
        self.body.get_or_insert_with(|| pool.take_body())
    }

    /// Drops what neither the socket nor a mark needs.
    fn release(&mut self, pool: &mut Pool) {
        let Some(body) = self.body.as_deref_mut() else {
            return;
        };
        let needed = body
            .marks
            .front()
            .map_or(body.sent, |mark| mark.start.min(body.sent));
        let free = (needed - body.base) as usize;
        if free == body.octets.len() {
            self.discard(pool);
        } else if free > SLACK_OCTETS && free * 2 > body.octets.len() {
            body.octets.drain(..free);
            body.base = needed;
        }
    }
}

impl Body {
    fn end(&self) -> u64 {
        self.base + self.octets.len() as u64
    }
}

impl Pool {
    /// An empty buffer with some capacity.
    pub fn take(&mut self) -> Vec<u8> {
        self.octets.take()
    }

    /// Takes a buffer back; its content is forgotten.
    pub fn give(&mut self, buffer: Vec<u8>) {
        self.octets.give(buffer);
    }

    /// Frees all but a few: a burst is over.
    pub fn rest(&mut self) {
        self.octets.rest();
        self.bodies.truncate(pool::RESTING_MAX);
        self.bodies.shrink_to(pool::RESTING_MAX);
    }

    fn take_body(&mut self) -> Box<Body> {
        self.bodies.pop().unwrap_or_else(|| {
            Box::new(Body {
                octets: Vec::with_capacity(pool::FRESH_OCTETS),
                ..Body::default()
            })
        })
    }

    fn give_body(&mut self, mut body: Box<Body>) {
        let large = body.octets.capacity() > pool::KEPT_OCTETS_MAX
            || body.marks.capacity() > KEPT_MARKS_MAX;
        if large || self.bodies.len() >= KEPT_MAX {
            return;
        }
        body.octets.clear();
        body.marks.clear();
        (body.base, body.sent) = (0, 0);
        self.bodies.push(body);
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
    fn the_oldest_that_is_due_has_been_named_by_this_process() {
        let (mut queue, mut pool) = (Queue::default(), Pool::default());
        assert_eq!(queue.oldest_unsent(), None);
        queue.count_from_here();
        let ends: Vec<usize> = [
            (9, Traits::FROM_STORE),
            (20, Traits::NONE),
            (21, Traits::NONE),
        ]
        .into_iter()
        .map(|(id, traits)| {
            let draft = message("x").with_traits(Traits::STORABLE.with(traits));
            let mut stanza = draft.as_stanza();
            stanza.id = MessageId(id);
            queue.push(&mut pool, &stanza, "d@e");
            queue.held_octets()
        })
        .collect();
        assert_eq!(queue.oldest_unsent(), Some(MessageId(20)));
        queue.wrote(&mut pool, ends[1] - 1, |_| ());
        assert_eq!(queue.oldest_unsent(), Some(MessageId(20)), "not whole");
        queue.wrote(&mut pool, 1, |_| ());
        assert_eq!(queue.oldest_unsent(), Some(MessageId(21)));
        queue.wrote(&mut pool, ends[2] - ends[1], |_| ());
        assert_eq!(
            queue.oldest_unsent(),
            None,
            "it has all, whether it says so or not"
        );
    }

    #[test]
    fn a_body_goes_back_to_the_pool_and_a_rest_frees_most_of_them() {
        let mut pool = Pool::default();
        let mut queues: Vec<Queue> = (0..100).map(|_| Queue::default()).collect();
        for queue in &mut queues {
            queue.push(&mut pool, &message("one").as_stanza(), "d@e");
            let due = queue.unsent_octets();
            queue.wrote(&mut pool, due, |_| ());
            assert!(queue.body.is_none());
        }
        assert_eq!(pool.bodies.len(), 1, "one after the other needs one");
        queues
            .iter_mut()
            .for_each(|queue| queue.append(&mut pool, |out| out.push(b' ')));
        queues.iter_mut().for_each(|queue| queue.discard(&mut pool));
        assert_eq!(pool.bodies.len(), 100);
        pool.rest();
        assert_eq!(pool.bodies.len(), pool::RESTING_MAX);
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
        queue.replay(&mut pool, Framing::Stream, b"<resumed/>");
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
