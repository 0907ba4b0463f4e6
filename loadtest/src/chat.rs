//! Messages that are counted: every body carries a [`Mark`], so that a message that is lost,
//! doubled, out of order or given to somebody else is noticed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use memchr::{memchr, memmem};

use crate::failure::example;
use crate::mark::{MARK_OCTETS, Mark};
use crate::plan::{Board, Phase, Plan, Row};
use crate::recorder::{Counts, Recorder};
use crate::scan;
use crate::schedule::Nanoseconds;
use crate::task::{Address, Answer, Chat, Pace};

pub const BODY_OCTETS_MIN: usize = MARK_OCTETS;
const NUMBER: std::ops::Range<usize> = 16..24;

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Xml,
    Json,
}

impl Wire {
    fn of(plan: &Plan) -> Self {
        match plan.transport.is_json() {
            true => Self::Json,
            false => Self::Xml,
        }
    }
}

/// What stands before a body in JSON.
const BODY: &str = "\"body\":\"";

/// All conversations of one thread.
pub struct Talks {
    pub chat: Chat,
    run: u32,
    /// By the place in this thread's list of sessions; the peer of `n` is `n ^ 1`.
    talks: Vec<Talk>,
    started: bool,
    body: memmem::Finder<'static>,
    kind: memmem::Finder<'static>,
    wire: Wire,
    pub close: memmem::Finder<'static>,
    pub latency: Recorder,
    /// Messages that were due from here on, and until there, are measured.
    pub measured: std::ops::Range<Nanoseconds>,
    pub sent: u64,
    pub received: u64,
    /// Messages that came again because an acknowledgement was lost with a connection.
    pub repeated: u64,
    /// Messages that were never acknowledged and never came: nobody had promised them.
    pub unpromised: u64,
}

/// One end of a pair.
#[derive(Default)]
struct Talk {
    ready: bool,
    /// The next message to the peer, whole but for the number of its id and its mark.
    template: Vec<u8>,
    id_at: usize,
    mark_at: usize,
    /// What its own marks carry; those of the peer carry the same but for the last bit.
    talk: u32,
    next: u32,
    expected: u32,
    missing: Vec<u32>,
    /// What a resumption would have to send again: the number that XEP-0198 counts, our number, and
    /// when it was due.
    unacknowledged: VecDeque<(u32, u32, Nanoseconds)>,
    /// Numbers that nobody has acknowledged and that are not sent again.
    given_up: Vec<u32>,
    /// A connection of this end was lost without resumption: the server may repeat itself.
    rebound: bool,
}

/// Whose turn it is after a message has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Nobody,
    Mine,
    Peers,
}

impl Talks {
    /// The places of the thread begin with those that talk.
    pub fn new(chat: Chat, users: impl Iterator<Item = u32>, run: u32, plan: &Plan) -> Self {
        Self {
            chat,
            run,
            talks: users.map(|user| Talk::new(chat, user, plan)).collect(),
            started: false,
            body: memmem::Finder::new(match Wire::of(plan) {
                Wire::Xml => "<body",
                Wire::Json => BODY,
            }),
            wire: Wire::of(plan),
            kind: memmem::Finder::new(b" type="),
            close: memmem::Finder::new(b"</message>"),
            latency: Recorder::new(),
            measured: Nanoseconds::MAX..Nanoseconds::MAX,
            sent: 0,
            received: 0,
            repeated: 0,
            unpromised: 0,
        }
    }

    pub fn ready(&mut self, place: usize) {
        self.talks[place].ready = true;
    }

    pub fn has(&self, place: usize) -> bool {
        place < self.talks.len()
    }

    /// The places that begin to talk, once. A pair of which one end is missing stays silent.
    pub fn start(&mut self) -> Option<Vec<usize>> {
        if std::mem::replace(&mut self.started, true) {
            return None;
        }
        let pairs = self.talks.chunks_exact(2).enumerate();
        let whole = pairs.filter(|(_, ends)| ends[0].ready && ends[1].ready);
        Some(whole.map(|(pair, _)| pair * 2).collect())
    }

    /// Appends the next message of `place`.
    pub fn write(&mut self, place: usize, at: Nanoseconds, out: &mut Vec<u8>) {
        let run = self.run;
        let talk = &mut self.talks[place];
        let number = talk.next;
        talk.next += 1;
        talk.append(run, number, at, out);
        self.sent += 1;
    }

    /// The message that was written last is the n-th that XEP-0198 counts; kept for a resumption.
    pub fn keep(&mut self, place: usize, counted: u32, at: Nanoseconds) {
        let talk = &mut self.talks[place];
        let entry = (counted, talk.next.wrapping_sub(1), at);
        talk.unacknowledged.push_back(entry);
    }

    /// Everything up to `counted` has been acknowledged.
    pub fn acknowledged(&mut self, place: usize, counted: u32) {
        let queue = &mut self.talks[place].unacknowledged;
        while let Some(&(number, ..)) = queue.front()
            && counted.wrapping_sub(number) < u32::MAX / 2
        {
            queue.pop_front();
        }
    }

    /// After a resumption: sends again what was not acknowledged, counted on from `counted`.
    /// Returns the count afterwards.
    pub fn send_again(&mut self, place: usize, mut counted: u32, out: &mut Vec<u8>) -> u32 {
        let run = self.run;
        let talk = &mut self.talks[place];
        let queue = std::mem::take(&mut talk.unacknowledged);
        for (_, number, at) in queue {
            counted = counted.wrapping_add(1);
            talk.append(run, number, at, out);
            talk.unacknowledged.push_back((counted, number, at));
        }
        counted
    }

    /// The session of a place was lost and another was bound: what the server had not acknowledged
    /// is nobody's promise any more.
    pub fn rebind(&mut self, place: usize) {
        let talk = &mut self.talks[place];
        let lost = talk.unacknowledged.drain(..).map(|(_, number, _)| number);
        talk.given_up.extend(lost);
        talk.rebound = true;
    }

    /// Numbers that a place has sent so far.
    pub fn sent_by(&self, place: usize) -> u32 {
        self.talks[place].next
    }

    /// Whether everything that the peer sent has come.
    pub fn is_complete(&self, place: usize) -> bool {
        let talk = &self.talks[place];
        talk.expected == self.talks[place ^ 1].next && talk.missing.is_empty()
    }

    /// Takes a message that came to `place`.
    pub fn receive(
        &mut self,
        place: usize,
        message: &[u8],
        now: Nanoseconds,
        phase: Phase,
        board: &Board,
    ) -> Turn {
        if self.is_refusal(message) {
            let kind = format!("message refused: {}", scan::condition(message));
            board.error(&kind, || example(message));
            return Turn::Nobody;
        }
        let at = match self.wire {
            Wire::Xml => scan::body(message, &self.body),
            Wire::Json => self.body.find(message).map(|at| at + BODY.len()),
        };
        let Some(mark) = at.and_then(|at| Mark::read(&message[at..])) else {
            board.error("message without our body", || example(message));
            return Turn::Nobody;
        };
        if mark.run != self.run {
            // The server kept it for us since a run that was cut.
            board.left_over.fetch_add(1, Ordering::Relaxed);
            return Turn::Nobody;
        }
        if mark.talk != self.talks[place].talk ^ 1 {
            board.error("message misdelivered", || example(message));
            return Turn::Nobody;
        }
        if !self.count(place, mark.number, message, board) {
            return Turn::Nobody;
        }
        self.received += 1;
        let counts = Counts::when(self.measured.contains(&mark.at));
        self.latency.record(now.saturating_sub(mark.at), counts);
        match (self.chat.pace, self.chat.answer) {
            _ if phase >= Phase::Return => Turn::Nobody,
            (Pace::Window(_), Answer::Echo) => Turn::Mine,
            (Pace::Window(_), Answer::OneWay) => Turn::Peers,
            _ => Turn::Nobody,
        }
    }

    /// In JSON a refusal is no message.
    fn is_refusal(&self, message: &[u8]) -> bool {
        if self.wire == Wire::Json {
            return false;
        }
        let head = &message[..memchr(b'>', message).unwrap_or(message.len())];
        let kind = self.kind.find(head).and_then(|at| head.get(at + 7..));
        kind.is_some_and(|kind| kind.starts_with(b"error"))
    }

    /// Whether this message is new.
    fn count(&mut self, place: usize, number: u32, message: &[u8], board: &Board) -> bool {
        let talk = &mut self.talks[place];
        if number == talk.expected {
            talk.expected += 1;
            return true;
        }
        if number > talk.expected {
            talk.missing.extend(talk.expected..number);
            talk.expected = number + 1;
            return true;
        }
        let rebound = talk.rebound || self.talks[place ^ 1].rebound;
        let talk = &mut self.talks[place];
        if let Some(found) = talk.missing.iter().position(|&missing| missing == number) {
            talk.missing.swap_remove(found);
            if !rebound {
                board.error("message out of order", || example(message));
            }
            return true;
        }
        if rebound {
            self.repeated += 1;
        } else {
            board.error("message duplicated", || example(message));
        }
        false
    }

    /// Counts what never came. Without acknowledgements, what was under way when a connection was
    /// cut had been promised by nobody.
    pub fn settle(&mut self, promised: Promised, board: &Board) {
        for place in 0..self.talks.len() {
            let (talk, sender) = (&self.talks[place], &self.talks[place ^ 1]);
            let beyond = talk.expected..sender.next;
            let missing = talk.missing.iter().copied().chain(beyond);
            let (mut lost, mut first) = (0, None);
            for number in missing {
                let cut = talk.rebound || sender.rebound;
                let by_nobody = promised == Promised::UnlessCut && cut;
                if by_nobody || sender.given_up.contains(&number) {
                    self.unpromised += 1;
                } else {
                    lost += 1;
                    first.get_or_insert(number);
                }
            }
            board.errors_of_kind("message lost", lost, || {
                let (first, all, tag) = (first.unwrap_or(0), sender.next, sender.talk);
                let run = self.run;
                format!("number {first} of {all} with tag {run:08x}{tag:08x} never arrived")
            });
        }
    }

    pub fn publish(&self, row: &Row) {
        row.sent.store(self.sent, Ordering::Relaxed);
        row.received.store(self.received, Ordering::Relaxed);
    }
}

/// Which messages must arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promised {
    /// All but those that were given up unacknowledged.
    All,
    /// All of pairs whose connections were not cut: without stream management nobody can tell more.
    UnlessCut,
}

impl Talk {
    fn new(chat: Chat, user: u32, plan: &Plan) -> Self {
        let peer = user ^ 1;
        let to = match chat.address {
            Address::Bare => plan.bare(peer),
            Address::Full => format!("{}/{}", plan.bare(peer), plan.resource),
        };
        let zero = "0".repeat(NUMBER.len());
        let (head, before, after) = match Wire::of(plan) {
            Wire::Xml => {
                let head = format!("<message to='{to}' type='chat' id='");
                let before = format!("{head}{zero}'><body>");
                (head, before, "</body></message>")
            }
            Wire::Json => {
                let head = format!("{{\"type\":\"message\",\"to\":\"{to}\",\"message_id\":\"");
                let before = format!("{head}{zero}\",{BODY}");
                (head, before, "\"}\n")
            }
        };
        let filler = "the quick brown fox jumps over the lazy dog ";
        let filler: String = filler
            .chars()
            .cycle()
            .take(chat.body_octets.saturating_sub(MARK_OCTETS))
            .collect();
        let mark = "0".repeat(MARK_OCTETS);
        Self {
            id_at: head.len(),
            mark_at: before.len(),
            template: format!("{before}{mark}{filler}{after}").into_bytes(),
            talk: user,
            ..Self::default()
        }
    }

    fn append(&mut self, run: u32, number: u32, at: Nanoseconds, out: &mut Vec<u8>) {
        let mark = Mark {
            run,
            talk: self.talk,
            number,
            at,
        };
        let (id, text) = (self.id_at, self.mark_at);
        mark.write(&mut self.template[text..text + MARK_OCTETS]);
        let number = text + NUMBER.start..text + NUMBER.end;
        self.template.copy_within(number, id);
        out.extend_from_slice(&self.template);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair at the places 0 and 1, and what it may be accused of.
    struct Pair {
        talks: Talks,
        board: Board,
    }

    impl Pair {
        fn new() -> Self {
            let chat = Chat {
                pace: Pace::Cut(1),
                body_octets: 60,
                answer: Answer::Echo,
                address: Address::Bare,
            };
            let plan = Plan::for_tests();
            let mut talks = Talks::new(chat, 0..2, 7, &plan);
            talks.measured = 0..Nanoseconds::MAX;
            Self {
                talks,
                board: Board::new(1),
            }
        }

        /// Place 0 writes a message, which counts as the n-th stanza.
        fn write(&mut self, counted: u32) -> Vec<u8> {
            let mut out = Vec::new();
            self.talks.write(0, 100, &mut out);
            self.talks.keep(0, counted, 100);
            out
        }

        fn receive(&mut self, message: &[u8]) {
            let turn = self
                .talks
                .receive(1, message, 300, Phase::Return, &self.board);
            assert_eq!(turn, Turn::Nobody);
        }

        fn errors(mut self) -> Vec<String> {
            self.talks.settle(Promised::All, &self.board);
            self.board.errors().into_keys().collect()
        }
    }

    #[test]
    fn what_comes_once_is_no_error_and_is_measured() {
        let mut pair = Pair::new();
        let message = pair.write(3);
        pair.receive(&message);
        assert!(pair.talks.is_complete(1));
        let latency = std::mem::replace(&mut pair.talks.latency, Recorder::new());
        assert_eq!(latency.into_total().len(), 1);
        assert_eq!(pair.errors(), Vec::<String>::new());
    }

    #[test]
    fn a_resumption_sends_again_what_was_not_acknowledged() {
        let mut pair = Pair::new();
        let first = pair.write(3);
        let second = pair.write(4);
        pair.receive(&first);
        pair.talks.acknowledged(0, 3);
        let mut again = Vec::new();
        assert_eq!(pair.talks.send_again(0, 3, &mut again), 4);
        assert_eq!(again, second);
        pair.receive(&again);
        // Whoever resumes gets nothing twice.
        pair.receive(&again);
        assert_eq!(pair.errors(), ["message duplicated"]);
    }

    #[test]
    fn what_was_acknowledged_is_promised_also_over_a_cut() {
        let mut pair = Pair::new();
        pair.write(3);
        pair.talks.acknowledged(0, 3);
        pair.talks.rebind(0);
        assert_eq!(pair.errors(), ["message lost"]);
    }

    #[test]
    fn what_a_cut_left_unacknowledged_may_be_lost_or_come_twice() {
        let mut pair = Pair::new();
        let first = pair.write(3);
        pair.write(4);
        pair.receive(&first);
        pair.talks.rebind(0);
        pair.receive(&first);
        assert_eq!(pair.talks.repeated, 1);
        pair.talks.settle(Promised::All, &pair.board);
        assert_eq!(pair.talks.unpromised, 1);
        assert!(pair.board.errors().is_empty());
    }

    #[test]
    fn acknowledgements_are_counted_beyond_the_end_of_their_numbers() {
        let mut pair = Pair::new();
        pair.write(u32::MAX);
        pair.write(0);
        pair.write(1);
        pair.talks.acknowledged(0, 0);
        let mut again = Vec::new();
        assert_eq!(pair.talks.send_again(0, 0, &mut again), 1);
    }
}
