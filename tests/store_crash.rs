//! Random requests against a model, with the power cut at every call of the file layer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use encke::store::crash_files::{CrashFiles, Faults};
use encke::store::disk::DiskBackend;
use encke::store::index::memory::{Lost, MemoryIndex};
use encke::store::journal::{Damage, DamageKind, Settings};
use encke::store::{
    Backend, Change, Kind, MessageId, Op, Ops, Recovered, Refusal, Replies, Reply, Require,
    StreamId, Ticket, TicketKey,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Small, so that a few dozen requests rotate, checkpoint and retire.
const SETTINGS: Settings = Settings {
    segment_octets: 4096,
    reserve_octets: 512,
    checkpoint_octets: 1500,
    held_octets_max: 8192,
    held_messages_max: 64,
    lazy_max: 8,
};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What was asked for and what was answered.
struct World {
    rng: ChaCha8Rng,
    files: CrashFiles,
    quarantine: CrashFiles,
    index: MemoryIndex,
    backend: DiskBackend,
    /// Rows after each accepted write; the first is before all.
    states: Vec<Rows>,
    /// The last state that was promised.
    acked_writes: usize,
    messages: BTreeMap<u64, Message>,
    next_ticket: u64,
    tickets: BTreeMap<u64, Waits>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Message {
    acked: bool,
    settled: bool,
}

/// What a ticket waits for: a state, or a message.
enum Waits {
    Write(usize),
    Message(u64),
}

impl World {
    fn new(seed: u64) -> Self {
        let files = CrashFiles::new(seed);
        let quarantine = CrashFiles::new(seed);
        let index = MemoryIndex::default();
        let (backend, _) = start(&files, &quarantine, &index);
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            files,
            quarantine,
            index,
            backend,
            states: vec![Rows::new()],
            acked_writes: 0,
            messages: BTreeMap::new(),
            next_ticket: 0,
            tickets: BTreeMap::new(),
        }
    }

    fn with_faults(seed: u64, faults: Faults) -> Self {
        let world = Self::new(seed);
        world.files.set_faults(faults);
        world
    }

    fn pick(&mut self, below: u32) -> u32 {
        self.rng.next_u32() % below
    }

    fn ticket(&mut self, waits: Waits) -> Ticket {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, waits);
        Ticket {
            shard: 0,
            key: TicketKey::from_bits(self.next_ticket),
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            if !self.files.has_power() {
                break;
            }
        }
    }

    fn step(&mut self) {
        match self.pick(10) {
            0..=2 => self.write(),
            3..=5 => self.journal(),
            6..=7 => self.settle(),
            _ => self.commit(1),
        }
    }

    fn commit(&mut self, times: usize) {
        let mut replies = Replies::new();
        for _ in 0..times {
            self.backend.commit(&mut replies);
        }
        self.hear(replies);
    }

    /// One write of up to three random changes and perhaps a settlement.
    fn write(&mut self) {
        let mut ops = Ops::default();
        let mut rows = self.states.last().unwrap().clone();
        let mut changes = Vec::new();
        for _ in 0..=self.pick(3) {
            changes.push(self.change(&mut ops, &mut rows));
        }
        let mut settled = None;
        if self.pick(3) == 0 {
            settled = self.some_message();
            changes.extend(settled.map(|id| Change::Settle { id: MessageId(id) }));
        }
        let ticket = self.ticket(Waits::Write(self.states.len()));
        let require = Require::Nothing;
        ops.push(Some(ticket), Op::Write { require, changes });
        let mut replies = Replies::new();
        self.backend.execute(&ops, &mut replies);
        let refused =
            |(t, reply): &(Ticket, Reply)| *t == ticket && matches!(reply, Reply::Refused(_));
        // With the power gone nobody heard the refusal, and the write may be there.
        if replies.iter().any(refused) && self.files.has_power() {
            self.tickets.remove(&ticket.key.to_bits());
            replies.retain(|(whose, _)| *whose != ticket);
        } else {
            replies.retain(|reply| !refused(reply));
            self.states.push(rows);
            if let Some(id) = settled {
                self.messages.get_mut(&id).unwrap().settled = true;
            }
        }
        self.hear(replies);
    }

    fn change(&mut self, ops: &mut Ops, rows: &mut Rows) -> Change {
        let name = [b'a' + self.pick(3) as u8];
        let key = [self.pick(6) as u8];
        let row = [&name[..], &key].concat();
        let (owner, kind) = (ops.keep(&name), Kind::Offline);
        match self.pick(8) {
            0..=4 => {
                let octets = vec![self.pick(256) as u8; 1 + self.pick(80) as usize];
                let (key, value) = (ops.keep(&key), ops.keep(&octets));
                rows.insert(row, octets);
                Change::Put {
                    owner,
                    kind,
                    key,
                    value,
                }
            }
            5 => {
                rows.remove(&row);
                let key = ops.keep(&key);
                Change::Delete { owner, kind, key }
            }
            6 => {
                rows.retain(|row, _| row[0] != name[0] || row[1] > key[0]);
                let to = ops.keep(&key);
                Change::Trim { owner, kind, to }
            }
            _ => {
                rows.retain(|row, _| row[0] != name[0]);
                Change::DeleteOwner { owner }
            }
        }
    }

    fn some_message(&mut self) -> Option<u64> {
        let open = self.messages.iter().filter(|(_, message)| !message.settled);
        let open: Vec<u64> = open.map(|(id, _)| *id).collect();
        if open.is_empty() {
            return None;
        }
        let place = self.pick(open.len() as u32) as usize;
        Some(open[place])
    }

    fn journal(&mut self) {
        let mut ops = Ops::default();
        let id = self.messages.last_key_value().map_or(1, |(id, _)| id + 1);
        let owner = ops.keep(b"juliet@example.net");
        let size = self.pick(300) as usize;
        let octets = ops.keep(&vec![id as u8; size]);
        let ticket = self.ticket(Waits::Message(id));
        self.messages.insert(id, Message::default());
        let op = Op::Journal {
            id: MessageId(id),
            owner,
            octets,
            stream: StreamId(u128::from(id % 3)),
            handled: id as u32,
        };
        ops.push(Some(ticket), op);
        let mut replies = Replies::new();
        self.backend.execute(&ops, &mut replies);
        self.hear(replies);
    }

    fn settle(&mut self) {
        let Some(id) = self.some_message() else {
            return;
        };
        let mut ops = Ops::default();
        ops.push(None, Op::Settle { id: MessageId(id) });
        let mut replies = Replies::new();
        self.backend.execute(&ops, &mut replies);
        self.messages.get_mut(&id).unwrap().settled = true;
        self.hear(replies);
    }

    fn hear(&mut self, replies: Replies) {
        for (ticket, reply) in replies {
            let waits = self.tickets.remove(&ticket.key.to_bits());
            match (waits.expect("one answer each"), reply) {
                (Waits::Write(state), Reply::Done) => {
                    assert!(state > self.acked_writes, "answers come in order");
                    self.acked_writes = state;
                }
                (Waits::Message(id), Reply::Done) => {
                    self.messages.get_mut(&id).unwrap().acked = true;
                }
                // Its sender hears of the error: it is counted, and nobody has it.
                (Waits::Message(id), Reply::Refused(_)) => {
                    self.messages.get_mut(&id).unwrap().settled = true;
                }
                (Waits::Write(_), Reply::Refused(Refusal::Failed)) => {}
                (_, reply) => panic!("unexpected {reply:?}"),
            }
        }
    }

    /// Power cut, new start, and everything that was acknowledged is there.
    fn crash(&mut self, context: &str) -> Recovered {
        let lost = [Lost::All, Lost::Nothing][self.pick(2) as usize];
        let recovered = self.restart(lost);
        let middle = |damage: &&Damage| damage.kind == DamageKind::Middle;
        assert_eq!(recovered.damage.iter().find(middle), None, "{context}");
        let found = self.rows();
        let state = self.states.iter().rposition(|rows| *rows == found);
        let state = state.unwrap_or_else(|| panic!("{context}: rows of no moment: {found:?}"));
        assert!(
            state >= self.acked_writes,
            "{context}: {} writes acknowledged, {state} there",
            self.acked_writes
        );
        self.states.truncate(state + 1);
        self.acked_writes = state;
        self.check_messages(&recovered, context);
        recovered
    }

    fn restart(&mut self, lost: Lost) -> Recovered {
        self.files.cut_power();
        self.index.crash(lost);
        self.files.restore_power();
        let (backend, recovered) = start(&self.files, &self.quarantine, &self.index);
        self.backend = backend;
        self.tickets.clear();
        recovered
    }

    fn check_messages(&mut self, recovered: &Recovered, context: &str) {
        let there: BTreeSet<u64> = recovered.unsettled.iter().map(|m| m.id.0).collect();
        for (stream, handled) in &recovered.handled {
            let counted = self.messages.range(..=u64::from(*handled));
            let lost: Vec<u64> = counted
                .filter(|(id, message)| {
                    u128::from(*id % 3) == stream.0 && !message.settled && !there.contains(id)
                })
                .map(|(id, _)| *id)
                .collect();
            assert!(
                lost.is_empty(),
                "{context}: {stream:?} counts {handled} over {lost:?}"
            );
        }
        let counts: BTreeMap<u128, u32> =
            recovered.handled.iter().map(|(s, h)| (s.0, *h)).collect();
        for (id, message) in &mut self.messages {
            let count = counts.get(&u128::from(*id % 3)).copied().unwrap_or(0);
            assert!(
                u64::from(count) >= *id || !message.acked || message.settled,
                "{context}: message {id} was acknowledged and {count} are counted"
            );
            let here = there.contains(id);
            assert!(
                here || !message.acked || message.settled,
                "{context}: message {id} was acknowledged and is gone"
            );
            assert!(!here || recovered.next_id.0 > *id, "{context}: {id} again");
            *message = Message {
                acked: here,
                settled: !here,
            };
        }
        for message in &recovered.unsettled {
            let id = message.id.0;
            assert!(self.messages.contains_key(&id), "{context}: of nobody");
            assert!(message.octets.iter().all(|octet| *octet == id as u8));
        }
    }

    fn rows(&self) -> Rows {
        // Key in the table: owner, NUL, kind, key.
        let rows = self.index.rows().into_iter();
        rows.map(|(row, value)| (vec![row[0], row[3]], value.into_vec()))
            .collect()
    }
}

fn start(
    files: &CrashFiles,
    quarantine: &CrashFiles,
    index: &MemoryIndex,
) -> (DiskBackend, Recovered) {
    let index = Box::new(index.clone());
    DiskBackend::recover(Arc::new(files.clone()), quarantine, SETTINGS, index).unwrap()
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_call() {
    for seed in 0..30 {
        for cut in 1.. {
            let faults = Faults {
                power_cut: Some(cut),
                ..Faults::default()
            };
            let mut world = World::with_faults(seed, faults);
            world.run(60);
            let over = world.files.has_power();
            let context = format!("seed {seed}, power cut at call {cut}");
            world.crash(&context);
            world.run(10);
            world.crash(&format!("{context}, then again"));
            if over {
                break;
            }
        }
    }
}

/// Long runs with several cuts each: segments are retired and messages carried.
#[test]
fn crash_after_crash_loses_nothing() {
    for seed in 1000..1200 {
        let mut world = World::new(seed);
        for round in 0..5 {
            let cut = 1 + u64::from(world.pick(150));
            world.files.set_faults(Faults {
                power_cut: Some(cut),
                ..Faults::default()
            });
            world.run(150);
            world.crash(&format!("seed {seed}, round {round}, cut {cut}"));
        }
    }
}

/// What is refused on a full disk is not there later; what waits is done when space returns.
#[test]
fn a_full_disk_refuses_and_recovers_without_a_restart() {
    for seed in 2000..2100 {
        for full in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
            let context = format!("seed {seed}, full at {full}");
            let faults = Faults {
                full: Some(full),
                ..Faults::default()
            };
            let mut world = World::with_faults(seed, faults);
            world.run(120);
            assert_eq!(&world.rows(), world.states.last().unwrap(), "{context}");
            world.files.set_faults(Faults::default());
            world.commit(4);
            assert!(world.tickets.is_empty(), "{context}: somebody waits");
            let before = world.states.len();
            world.write();
            assert_eq!(world.states.len(), before + 1, "{context}: still refused");
            world.crash(&context);
        }
    }
}

/// One failing call, a sync among them, costs nobody anything.
#[test]
fn a_single_failure_of_the_device_loses_nothing() {
    for seed in 3000..3040 {
        for failure in 1..60 {
            let context = format!("seed {seed}, failure at {failure}");
            let faults = Faults {
                failure: Some(failure),
                ..Faults::default()
            };
            let mut world = World::with_faults(seed, faults);
            world.run(60);
            world.commit(4);
            assert!(world.tickets.is_empty(), "{context}: somebody waits");
            assert_eq!(world.acked_writes + 1, world.states.len(), "{context}");
            world.files.set_faults(Faults::default());
            // A segment that is not trusted may count as damaged: what it had stands elsewhere.
            let recovered = world.restart(Lost::All);
            assert_eq!(&world.rows(), world.states.last().unwrap(), "{context}");
            world.check_messages(&recovered, &context);
        }
    }
}

/// The index may fail as a full disk makes it fail; the journal has what it lacks.
#[test]
fn an_index_that_fails_is_opened_again_and_lacks_nothing() {
    for seed in 4000..4100 {
        let mut world = World::new(seed);
        world.run(30);
        world.index.set_broken(true);
        world.run(20);
        world.index.set_broken(false);
        world.run(60);
        world.write();
        assert_eq!(&world.rows(), world.states.last().unwrap(), "seed {seed}");
        world.crash(&format!("seed {seed}"));
    }
}

/// The checker itself: a device whose syncs do nothing must not pass.
#[test]
#[should_panic(expected = "lying device, seed")]
fn a_device_that_lies_about_syncs_is_found_out() {
    for seed in 5000..5020 {
        let faults = Faults {
            lying_sync: true,
            ..Faults::default()
        };
        let mut world = World::with_faults(seed, faults);
        world.run(40);
        world.commit(1);
        world.crash(&format!("lying device, seed {seed}"));
    }
}

/// A message that goes to the offline store is settled by the write of its row: its sender hears
/// of it when the row is durable. Before, a power cut takes both.
#[test]
fn a_message_is_not_answered_for_a_row_that_is_only_written() {
    let (files, quarantine) = (CrashFiles::new(1), CrashFiles::new(1));
    let (mut backend, _) = start(&files, &quarantine, &MemoryIndex::default());
    let ticket = |number| {
        let key = TicketKey::from_bits(number);
        Some(Ticket { shard: 0, key })
    };
    let mut ops = Ops::default();
    let id = MessageId(7);
    let (owner, octets, key) = (ops.keep(b"a"), ops.keep(b"<message/>"), ops.keep(b"k"));
    let message = Op::Journal {
        id,
        owner: owner.clone(),
        octets: octets.clone(),
        stream: StreamId(1),
        handled: 1,
    };
    ops.push(ticket(1), message);
    let put = Change::Put {
        owner,
        kind: Kind::Offline,
        key,
        value: octets,
    };
    let changes = vec![put, Change::Settle { id }];
    let require = Require::Nothing;
    ops.push(ticket(2), Op::Write { require, changes });
    let mut replies = Replies::new();
    backend.execute(&ops, &mut replies);
    assert_eq!(replies, [], "nothing is durable");
    backend.commit(&mut replies);
    let done: Vec<u64> = replies.iter().map(|(t, _)| t.key.to_bits()).collect();
    assert_eq!(done, [1, 2]);
}

/// What a session may count as handled must stand in the journal or be settled, wherever a crash
/// tears the group that says so.
#[test]
fn a_torn_group_counts_no_message_that_it_lost() {
    let (files, quarantine) = (CrashFiles::new(1), CrashFiles::new(1));
    let (mut backend, _) = start(&files, &quarantine, &MemoryIndex::default());
    let mut ops = Ops::default();
    let owner = ops.keep(b"juliet@example.net");
    let octets = ops.keep(b"<message/>");
    for number in 1..=3 {
        let message = Op::Journal {
            id: MessageId(number),
            owner: owner.clone(),
            octets: octets.clone(),
            stream: StreamId(1),
            handled: number as u32,
        };
        ops.push(None, message);
    }
    // Never written, but counted; the count that is known by now is that of the third.
    ops.push(None, Op::Settle { id: MessageId(2) });
    let mut replies = Replies::new();
    backend.execute(&ops, &mut replies);
    backend.commit(&mut replies);
    let segment = "000000000001.log";
    let whole = files.contents(segment).unwrap();

    let mut counts = BTreeSet::new();
    for cut in 64..1024 {
        let (files, quarantine) = (CrashFiles::new(1), CrashFiles::new(1));
        let torn = [&whole[..cut], &vec![0; whole.len() - cut]].concat();
        files.set_contents(segment, &torn);
        let (_, recovered) = start(&files, &quarantine, &MemoryIndex::default());
        let count = recovered.handled.first().map_or(0, |(_, count)| *count);
        let there: Vec<u64> = recovered.unsettled.iter().map(|m| m.id.0).collect();
        let promised = (1..=u64::from(count)).filter(|id| *id != 2);
        assert_eq!(there, promised.collect::<Vec<_>>(), "cut at {cut}");
        counts.insert(count);
    }
    assert_eq!(
        counts,
        BTreeSet::from([0, 1, 3]),
        "the cuts meet each record"
    );
}
