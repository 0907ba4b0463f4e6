//! Events of a topic that are counted: each carries a [`Mark`], and every listener must get every
//! event once and in order.

use std::sync::atomic::Ordering;

use memchr::memmem;

use crate::failure::example;
use crate::mark::{MARK_OCTETS, Mark};
use crate::plan::{Board, Row};
use crate::recorder::{Counts, Recorder};
use crate::schedule::Nanoseconds;
use crate::task::Broadcast;

/// What stands around a mark.
pub const EVENT_OCTETS_MIN: usize = MARK + MARK_OCTETS + END.len();
const START: &str = "{\"mark\":\"";
const MARK: usize = START.len();
const END: &str = "\",\"text\":\"\"}";

/// All listeners of one thread, and the publisher if it has it.
pub struct Listeners {
    run: u32,
    /// The next event as it is published, whole but for its mark.
    template: Vec<u8>,
    /// The number of the next event.
    next: u32,
    /// What each listener waits for; none who has not come.
    expected: Vec<Option<u32>>,
    start: memmem::Finder<'static>,
    pub latency: Recorder,
    /// Events that were due from here on, and until there, are measured.
    pub measured: std::ops::Range<Nanoseconds>,
    deliveries: u64,
}

impl Listeners {
    pub fn new(broadcast: &Broadcast, listeners: usize, run: u32) -> Self {
        let filler = broadcast.event_octets.saturating_sub(EVENT_OCTETS_MIN);
        let (mark, filler) = ("0".repeat(MARK_OCTETS), "x".repeat(filler));
        Self {
            run,
            template: format!("{START}{mark}\",\"text\":\"{filler}\"}}").into_bytes(),
            next: 0,
            expected: vec![None; listeners],
            start: memmem::Finder::new(START),
            latency: Recorder::new(),
            measured: Nanoseconds::MAX..Nanoseconds::MAX,
            deliveries: 0,
        }
    }

    /// A listener has come: it gets everything from now on.
    pub fn ready(&mut self, member: usize) {
        self.expected[member] = Some(0);
    }

    /// Appends the next event as a line.
    pub fn publish_one(&mut self, at: Nanoseconds, out: &mut Vec<u8>) {
        let mark = Mark {
            run: self.run,
            talk: 0,
            number: self.next,
            at,
        };
        self.next += 1;
        mark.write(&mut self.template[MARK..MARK + MARK_OCTETS]);
        out.extend_from_slice(&self.template);
        out.push(b'\n');
    }

    /// Takes what came to a listener.
    pub fn receive(&mut self, member: usize, event: &[u8], now: Nanoseconds, board: &Board) {
        let at = self.start.find(event).map(|at| at + MARK);
        let Some(mark) = at.and_then(|at| Mark::read(&event[at..])) else {
            board.error("event without our mark", || example(event));
            return;
        };
        if mark.run != self.run {
            board.left_over.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(expected) = &mut self.expected[member] else {
            board.error("event before the topic was open", || example(event));
            return;
        };
        if mark.number < *expected {
            board.error("event duplicated or out of order", || example(event));
            return;
        }
        let lost = u64::from(mark.number - *expected);
        board.errors_of_kind("event lost", lost, || {
            format!("{lost} before {}", example(event))
        });
        *expected = mark.number + 1;
        self.deliveries += 1;
        let counts = Counts::when(self.measured.contains(&mark.at));
        self.latency.record(now.saturating_sub(mark.at), counts);
    }

    /// Counts what never came of all that was published, by whatever thread.
    pub fn settle(&self, published: u64, board: &Board) {
        for expected in self.expected.iter().flatten() {
            let missing = published.saturating_sub(u64::from(*expected));
            board.errors_of_kind("event lost", missing, || {
                format!("{missing} of {published} events at the end")
            });
        }
    }

    pub fn publish(&self, row: &Row) {
        row.changes.store(u64::from(self.next), Ordering::Relaxed);
        row.deliveries.store(self.deliveries, Ordering::Relaxed);
    }

    /// Deliveries that what this thread has published must make, to so many listeners.
    pub fn owed(&self, listeners: usize) -> u64 {
        u64::from(self.next) * listeners as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Topics;

    fn listeners(event_octets: usize) -> Listeners {
        let broadcast = Broadcast {
            topics: Topics::Encke,
            topic: "news".to_owned(),
            key: None,
            subscribe_path: String::new(),
            publish_path: String::new(),
            events_per_second: 1.0,
            event_octets,
        };
        let mut listeners = Listeners::new(&broadcast, 2, 7);
        (0..2).for_each(|member| listeners.ready(member));
        listeners.measured = 0..Nanoseconds::MAX;
        listeners
    }

    fn publish(listeners: &mut Listeners) -> Vec<u8> {
        let mut line = Vec::new();
        listeners.publish_one(5, &mut line);
        line
    }

    fn kinds(board: &Board) -> Vec<(String, u64)> {
        let errors = board.errors().into_iter();
        errors.map(|(kind, (count, _))| (kind, count)).collect()
    }

    #[test]
    fn an_event_is_json_of_the_length_that_was_asked_for() {
        for octets in [EVENT_OCTETS_MIN, 100, 1_000] {
            let line = publish(&mut listeners(octets));
            assert_eq!(line.len(), octets + 1);
            let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert!(event["mark"].is_string());
        }
    }

    #[test]
    fn what_everybody_gets_once_is_no_error() {
        let (mut listeners, board) = (listeners(100), Board::new(1));
        for _ in 0..3 {
            let event = publish(&mut listeners);
            let wrapped = [b"{\"type\":\"topic\",\"data\":", &event[..], b"}"].concat();
            listeners.receive(0, &event, 9, &board);
            listeners.receive(1, &wrapped, 9, &board);
        }
        listeners.settle(3, &board);
        assert_eq!(kinds(&board), []);
        assert_eq!((listeners.deliveries, listeners.owed(2)), (6, 6));
        assert_eq!(listeners.latency.into_total().len(), 6);
    }

    #[test]
    fn lost_and_doubled_events_are_counted() {
        let (mut listeners, board) = (listeners(100), Board::new(1));
        let events: Vec<_> = (0..4).map(|_| publish(&mut listeners)).collect();
        for number in [0, 2, 2] {
            listeners.receive(0, &events[number], 9, &board);
        }
        listeners.receive(1, b"{}", 9, &board);
        listeners.settle(4, &board);
        let expected = [
            ("event duplicated or out of order", 1),
            ("event lost", 2 + 4),
            ("event without our mark", 1),
        ];
        assert_eq!(
            kinds(&board),
            expected.map(|(kind, n)| (kind.to_owned(), n))
        );
    }
}
