//! Messages that are counted: every body says which run, which pair and direction and which number
//! it is, so that a message that is lost, doubled, out of order or given to somebody else is
//! noticed.

use std::sync::atomic::Ordering;

use memchr::{memchr, memmem};

use crate::client::example;
use crate::plan::{Address, Board, Chat, Phase, Plan, Row};
use crate::recorder::{Counts, Recorder};
use crate::scan;

/// A body begins with a tag (8 hexadecimal digits for the run, 8 for the pair and direction) and
/// 8 digits for the number.
const TAG_OCTETS: usize = 16;
const NUMBER_OCTETS: usize = 8;
pub const BODY_OCTETS_MIN: usize = TAG_OCTETS + NUMBER_OCTETS;

/// All conversations of one thread.
pub struct Talks {
    pub chat: Chat,
    talks: Vec<Talk>,
    /// By the place in this thread's list of sessions; the peer of `n` is `n ^ 1`.
    started: bool,
    body: memmem::Finder<'static>,
    kind: memmem::Finder<'static>,
    pub close: memmem::Finder<'static>,
    pub latency: Recorder,
    pub sent: u64,
    pub received: u64,
}

/// One end of a pair.
#[derive(Default)]
struct Talk {
    ready: bool,
    /// The next message to the peer, whole but for the numbers at these places.
    template: Vec<u8>,
    number_at: [usize; 2],
    next: u32,
    /// When the last messages were sent, by number.
    stamps: Box<[u64]>,
    /// What the messages of the peer carry, and which number comes next.
    tag: [u8; TAG_OCTETS],
    expected: u32,
    missing: Vec<u32>,
}

/// Whose turn it is after a message has come.
pub enum Turn {
    Nobody,
    Mine,
    Peers,
}

impl Talks {
    pub fn new(chat: Chat, sessions: usize) -> Self {
        let mut talks = Vec::new();
        talks.resize_with(sessions, Talk::default);
        Self {
            chat,
            talks,
            started: false,
            body: memmem::Finder::new(b"<body"),
            kind: memmem::Finder::new(b" type="),
            close: memmem::Finder::new(b"</message>"),
            latency: Recorder::new(),
            sent: 0,
            received: 0,
        }
    }

    /// A session has logged in; `peer` is where its messages go.
    pub fn prepare(&mut self, place: usize, run: u32, pair: u32, plan: &Plan, peer: u32) {
        let chat = self.chat;
        let direction = (pair << 1) | (place as u32 & 1);
        let to = match chat.address {
            Address::Bare => format!("{}{peer}@{}", plan.prefix, plan.domain),
            Address::Full => format!("{}{peer}@{}/{}", plan.prefix, plan.domain, plan.resource),
        };
        let head = format!("<message to='{to}' type='chat' id='");
        let tag = format!("{run:08x}{direction:08x}");
        let zero = "0".repeat(NUMBER_OCTETS);
        let filler: String = "the quick brown fox jumps over the lazy dog "
            .chars()
            .cycle()
            .take(chat.body_octets.saturating_sub(BODY_OCTETS_MIN))
            .collect();
        let before = format!("{head}{zero}'><body>{tag}");
        let template = format!("{before}{zero}{filler}</body></message>");
        let mut expected_tag = [0; TAG_OCTETS];
        expected_tag.copy_from_slice(format!("{run:08x}{:08x}", direction ^ 1).as_bytes());
        let stamps = (chat.window as usize * 4).next_power_of_two();
        self.talks[place] = Talk {
            ready: true,
            template: template.into_bytes(),
            number_at: [head.len(), before.len()],
            stamps: vec![0; stamps].into(),
            tag: expected_tag,
            ..Talk::default()
        };
    }

    /// The places that begin to talk, once. A pair of which one end is missing stays silent.
    pub fn start(&mut self) -> Vec<usize> {
        if std::mem::replace(&mut self.started, true) {
            return Vec::new();
        }
        let pairs = self.talks.chunks_exact(2).enumerate();
        pairs
            .filter(|(_, ends)| ends[0].ready && ends[1].ready)
            .map(|(pair, _)| pair * 2)
            .collect()
    }

    /// Appends the next message of `place`.
    pub fn write(&mut self, place: usize, now: u64, out: &mut Vec<u8>) {
        let talk = &mut self.talks[place];
        let number = hexadecimal(talk.next);
        for at in talk.number_at {
            talk.template[at..at + NUMBER_OCTETS].copy_from_slice(&number);
        }
        out.extend_from_slice(&talk.template);
        let slot = talk.next as usize & (talk.stamps.len() - 1);
        talk.stamps[slot] = now;
        talk.next += 1;
        self.sent += 1;
    }

    /// Takes a message that came to `place`.
    pub fn receive(
        &mut self,
        place: usize,
        message: &[u8],
        now: u64,
        phase: Phase,
        board: &Board,
    ) -> Turn {
        let head = &message[..memchr(b'>', message).unwrap_or(message.len())];
        let kind = self.kind.find(head).and_then(|at| head.get(at + 7..));
        if kind.is_some_and(|kind| kind.starts_with(b"error")) {
            let kind = format!("message refused: {}", scan::condition(message));
            board.error(&kind, || example(message));
            return Turn::Nobody;
        }
        let at = scan::body(message, &self.body);
        let text = at.and_then(|at| message.get(at..at + BODY_OCTETS_MIN));
        let Some((tag, number)) = text.map(|text| text.split_at(TAG_OCTETS)) else {
            board.error("message without our body", || example(message));
            return Turn::Nobody;
        };
        let talk = &self.talks[place];
        if tag != talk.tag {
            if tag[..8] == talk.tag[..8] {
                board.error("message misdelivered", || example(message));
            } else {
                // The server kept it for us since a run that was cut.
                board.left_over.fetch_add(1, Ordering::Relaxed);
            }
            return Turn::Nobody;
        }
        let Some(number) = number_of(number) else {
            return Turn::Nobody;
        };
        if !self.count(place, number, message, board) {
            return Turn::Nobody;
        }
        self.received += 1;
        let sender = &self.talks[place ^ 1];
        if matches!(phase, Phase::Warm | Phase::Measure) {
            let sent = sender.stamps[number as usize & (sender.stamps.len() - 1)];
            let counts = if phase == Phase::Measure {
                Counts::Yes
            } else {
                Counts::No
            };
            self.latency.record(now.saturating_sub(sent), counts);
        }
        match (phase, self.chat.answer) {
            (Phase::Drain | Phase::Close | Phase::Abort, _) => Turn::Nobody,
            (_, crate::plan::Answer::Echo) => Turn::Mine,
            (_, crate::plan::Answer::OneWay) => Turn::Peers,
        }
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
        if let Some(found) = talk.missing.iter().position(|&missing| missing == number) {
            talk.missing.swap_remove(found);
            board.error("message out of order", || example(message));
            return true;
        }
        board.error("message duplicated", || example(message));
        false
    }

    /// Counts what never came.
    pub fn settle(&self, board: &Board) {
        for place in 0..self.talks.len() {
            let (talk, sender) = (&self.talks[place], &self.talks[place ^ 1]);
            let came = talk.expected - talk.missing.len() as u32;
            let lost = u64::from(sender.next.saturating_sub(came));
            board.errors_of_kind("message lost", lost, || {
                let first = talk.missing.iter().min().copied().unwrap_or(talk.expected);
                let tag = String::from_utf8_lossy(&talk.tag).into_owned();
                format!(
                    "number {first} of {} with tag {tag} never arrived",
                    sender.next
                )
            });
        }
    }

    pub fn publish(&self, row: &Row) {
        row.sent.store(self.sent, Ordering::Relaxed);
        row.received.store(self.received, Ordering::Relaxed);
    }
}

fn hexadecimal(number: u32) -> [u8; NUMBER_OCTETS] {
    let mut digits = [0; NUMBER_OCTETS];
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (28 - 4 * place)) as usize & 15];
    }
    digits
}

fn number_of(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| {
        Some(sum << 4 | (*digit as char).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_wire() {
        for number in [0, 1, 0x1234_abcd, u32::MAX] {
            assert_eq!(number_of(&hexadecimal(number)), Some(number));
        }
        assert_eq!(number_of(b"0000000g"), None);
    }
}
