//! Every cut and every flipped octet of a segment.

use std::collections::BTreeSet;
use std::sync::Arc;

use encke::store::crash_files::CrashFiles;
use encke::store::disk::DiskBackend;
use encke::store::files::Files;
use encke::store::index::memory::{Lost, MemoryIndex};
use encke::store::journal::{DamageKind, Settings};
use encke::store::{
    Backend, Change, Kind, MessageId, Op, Ops, Recovered, Replies, Require, StreamId,
};

const SETTINGS: Settings = Settings {
    segment_octets: 8192,
    reserve_octets: 512,
    checkpoint_octets: 1 << 20,
    held_octets_max: 1 << 20,
    held_messages_max: 1000,
    lazy_max: 100,
};
const SEGMENT: &str = "000000000001.log";
/// Two requests a round: a message and a write, made durable before the next.
const ROUNDS: u64 = 6;

fn recover(files: &CrashFiles, quarantine: &CrashFiles) -> (DiskBackend, Recovered, MemoryIndex) {
    let index = MemoryIndex::default();
    let files = Arc::new(files.clone());
    let (backend, recovered) =
        DiskBackend::recover(files, quarantine, SETTINGS, Box::new(index.clone())).unwrap();
    (backend, recovered, index)
}

/// A journal of [`ROUNDS`] groups, and where each ends.
fn journal() -> (Vec<u8>, Vec<usize>) {
    let files = CrashFiles::new(1);
    let (mut backend, _, _) = recover(&files, &CrashFiles::new(1));
    let mut replies = Replies::new();
    let mut ends = Vec::new();
    for round in 1..=ROUNDS {
        let mut ops = Ops::default();
        let owner = ops.keep(b"juliet@example.net");
        let octets = ops.keep(b"<message/>");
        let op = Op::Journal {
            id: MessageId(round),
            owner: owner.clone(),
            octets,
            stream: StreamId(1),
            handled: round as u32,
        };
        ops.push(None, op);
        let (kind, key) = (Kind::Offline, ops.keep(&[round as u8]));
        let value = ops.keep(b"value");
        let changes = vec![Change::Put {
            owner,
            kind,
            key,
            value,
        }];
        let require = Require::Nothing;
        ops.push(None, Op::Write { require, changes });
        backend.execute(&ops, &mut replies);
        backend.commit(&mut replies);
        let octets = files.contents(SEGMENT).unwrap();
        ends.push(octets.iter().rposition(|octet| *octet != 0).unwrap() + 1);
    }
    (files.contents(SEGMENT).unwrap(), ends)
}

/// Messages and rows that a damaged segment still gives, and the report.
fn read(octets: &[u8]) -> (BTreeSet<u64>, usize, Recovered, CrashFiles) {
    let (files, quarantine) = (CrashFiles::new(2), CrashFiles::new(2));
    files.set_contents(SEGMENT, octets);
    let (mut backend, recovered, index) = recover(&files, &quarantine);
    let ids = recovered.unsettled.iter().map(|message| message.id.0);
    let found = (ids.collect(), index.rows().len());

    // It goes on: what is written now is there at the next start, and nothing is reported twice.
    let mut ops = Ops::default();
    let owner = ops.keep(b"romeo@example.net");
    let op = Op::Journal {
        id: MessageId(100),
        owner,
        octets: 0..0,
        stream: StreamId(2),
        handled: 1,
    };
    ops.push(None, op);
    let mut replies = Replies::new();
    backend.execute(&ops, &mut replies);
    backend.commit(&mut replies);
    drop(backend);
    index.crash(Lost::All);
    let (_, again, _) = recover(&files, &quarantine);
    assert_eq!(again.unsettled.len(), recovered.unsettled.len() + 1);
    let torn = again
        .damage
        .iter()
        .find(|damage| damage.kind == DamageKind::TornTail);
    assert_eq!(torn, None);
    (found.0, found.1, recovered, quarantine)
}

#[test]
fn a_torn_tail_costs_the_groups_behind_the_tear() {
    let (octets, ends) = journal();
    for cut in 64..=*ends.last().unwrap() {
        let mut torn = octets.clone();
        torn[cut..].fill(0);
        let (messages, rows, recovered, _) = read(&torn);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        // A record may end in zeros that were not cut, and a message stands before its write.
        assert!(
            rows >= whole && rows <= whole + 1,
            "cut at {cut}: {rows} rows"
        );
        assert!(messages.len() >= rows, "cut at {cut}");
        assert!(
            messages.iter().copied().eq(1..=messages.len() as u64),
            "cut at {cut}"
        );
        let middle = recovered
            .damage
            .iter()
            .find(|d| d.kind == DamageKind::Middle);
        assert_eq!(middle, None, "cut at {cut}");
    }
}

#[test]
fn a_file_cut_short_is_as_a_torn_tail() {
    let (octets, ends) = journal();
    for cut in 0..=*ends.last().unwrap() {
        let (messages, rows, _, _) = read(&octets[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert!(rows >= whole, "cut at {cut}");
        assert!(messages.len() >= rows, "cut at {cut}");
    }
}

/// One flipped octet costs at most the record that it is in, and is never silent.
#[test]
fn a_flipped_octet_costs_one_record_and_is_reported() {
    let (octets, ends) = journal();
    let promised = ends[ends.len() - 2];
    for place in 0..*ends.last().unwrap() {
        let mut flipped = octets.clone();
        flipped[place] ^= 0x5A;
        let (messages, rows, recovered, quarantine) = read(&flipped);
        let lost = 2 * ROUNDS as usize - messages.len() - rows;
        if place < promised {
            assert!(lost <= 1, "flip at {place}: {lost} lost");
        }
        if recovered.damage.is_empty() {
            // Padding holds nothing.
            assert_eq!(lost, 0, "flip at {place}: lost without a word");
            continue;
        }
        for damage in &recovered.damage {
            let line = damage.to_string();
            assert!(line.contains(SEGMENT) && line.contains("offset"), "{line}");
            let kept = damage.kept_as.as_ref().expect("it is set aside");
            let octets = quarantine.contents(kept).unwrap();
            let start = damage.offset as usize;
            assert_eq!(
                octets,
                flipped[start..start + octets.len()],
                "flip at {place}"
            );
        }
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let files = CrashFiles::new(3);
    files.set_contents("notes.txt", b"mine");
    let (_, recovered, _) = recover(&files, &CrashFiles::new(3));
    assert_eq!(recovered.damage, []);
    assert_eq!(files.list().unwrap(), ["notes.txt"]);
}
