//! The backend on a real directory: what a process leaves, with and without saying goodbye.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use encke::store::database::Database;
use encke::store::disk::DiskBackend;
use encke::store::index::fjall::{FjallIndex, Sizes};
use encke::store::index::{Edit, Index, Scan};
use encke::store::open::{Config, OpenError, open};
use encke::store::worker::{Outlet, Storage};
use encke::store::{
    Backend, Change, Kind, MessageId, Op, Ops, Replies, Reply, Require, ShardId, StreamId, Ticket,
    TicketKey,
};

fn ticket(number: u64) -> Option<Ticket> {
    let key = TicketKey::from_bits(number);
    Some(Ticket { shard: 0, key })
}

fn put(ops: &mut Ops, number: u64, owner: &str, kind: Kind, key: &[u8], value: &[u8]) {
    let changes = vec![Change::Put {
        owner: ops.keep(owner.as_bytes()),
        kind,
        key: ops.keep(key),
        value: ops.keep(value),
    }];
    let require = Require::Nothing;
    ops.push(ticket(number), Op::Write { require, changes });
}

fn journal(ops: &mut Ops, number: u64, id: u64) {
    let owner = ops.keep(b"juliet@example.net");
    let octets = ops.keep(b"<message><body>Wherefore art thou?</body></message>");
    let op = Op::Journal {
        id: MessageId(id),
        owner,
        octets,
        stream: StreamId(1),
        handled: id as u32,
    };
    ops.push(ticket(number), op);
}

fn config(dir: &Path) -> Config {
    Config::in_dir(dir)
}

#[test]
fn a_backend_dropped_without_closing_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (mut backend, _) = open(&config(dir.path())).unwrap();
    let mut replies = Replies::new();
    let mut ops = Ops::default();
    put(
        &mut ops,
        1,
        "juliet@example.net",
        Kind::Credentials,
        b"",
        b"keys",
    );
    put(
        &mut ops,
        2,
        "juliet@example.net",
        Kind::Offline,
        &[1; 8],
        b"old",
    );
    put(
        &mut ops,
        3,
        "juliet@example.net",
        Kind::Offline,
        &[2; 8],
        b"new",
    );
    let (owner, kind) = (ops.keep(b"juliet@example.net"), Kind::Offline);
    let to = ops.keep(&[1; 8]);
    let changes = vec![Change::Trim { owner, kind, to }];
    let require = Require::Nothing;
    ops.push(ticket(4), Op::Write { require, changes });
    journal(&mut ops, 5, 10);
    journal(&mut ops, 6, 11);
    ops.push(None, Op::Settle { id: MessageId(10) });
    backend.execute(&ops, &mut replies);
    backend.commit(&mut replies);
    assert_eq!(replies.len(), 6);
    assert!(replies.iter().all(|(_, reply)| *reply == Reply::Done));
    drop(backend);

    let (backend, recovered) = open(&config(dir.path())).unwrap();
    assert_eq!(recovered.damage, []);
    let ids: Vec<u64> = recovered
        .unsettled
        .iter()
        .map(|message| message.id.0)
        .collect();
    assert_eq!(ids, [11]);
    assert_eq!(recovered.handled, [(StreamId(1), 11)]);
    // The offline store has greater keys than the journal.
    assert_eq!(recovered.next_id, MessageId(u64::from_be_bytes([2; 8]) + 1));
    let row = |kind, key: &[u8]| {
        let value = backend.index().get(b"juliet@example.net", kind, key);
        value.unwrap()
    };
    assert_eq!(row(Kind::Credentials, b"").as_deref(), Some(&b"keys"[..]));
    assert_eq!(row(Kind::Offline, &[1; 8]), None);
    assert_eq!(row(Kind::Offline, &[2; 8]).as_deref(), Some(&b"new"[..]));
}

#[test]
fn the_last_word_on_a_row_counts_within_one_write() {
    let dir = tempfile::tempdir().unwrap();
    let (mut backend, _) = open(&config(dir.path())).unwrap();
    let mut replies = Replies::new();
    let mut ops = Ops::default();
    let owner = ops.keep(b"juliet@example.net");
    let (key, one, two) = (ops.keep(&[1; 8]), ops.keep(b"one"), ops.keep(b"two"));
    let kind = Kind::Offline;
    let put = |value| Change::Put {
        owner: owner.clone(),
        kind,
        key: key.clone(),
        value,
    };
    let changes = vec![
        put(one.clone()),
        Change::DeleteOwner {
            owner: owner.clone(),
        },
        put(two),
    ];
    let require = Require::Nothing;
    ops.push(ticket(1), Op::Write { require, changes });
    let read = Op::Get {
        owner: owner.clone(),
        kind,
        key: key.clone(),
    };
    ops.push(ticket(2), read.clone());
    let changes = vec![
        put(one),
        Change::Trim {
            owner: owner.clone(),
            kind,
            to: key.clone(),
        },
    ];
    let require = Require::Nothing;
    ops.push(ticket(3), Op::Write { require, changes });
    ops.push(ticket(4), read);
    backend.execute(&ops, &mut replies);
    assert_eq!(replies[0].1, Reply::Value(Some(b"two"[..].into())));
    assert_eq!(replies[1].1, Reply::Value(None));
}

/// A write of the account's last presence, which nobody waits for.
fn note_last(ops: &mut Ops, owner: &str, value: &[u8]) {
    let owner = ops.keep(owner.as_bytes());
    let (key, value) = (ops.keep(b""), ops.keep(value));
    let changes = vec![Change::Put {
        owner: owner.clone(),
        kind: Kind::Last,
        key: key.clone(),
        value,
    }];
    let kind = Kind::Credentials;
    let require = Require::Present { owner, kind, key };
    ops.push(None, Op::Write { require, changes });
}

#[test]
fn rows_that_nobody_waits_for_are_written_together_and_seen_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut backend, _) = open(&config(dir.path())).unwrap();
    let mut replies = Replies::new();
    let mut ops = Ops::default();
    for owner in ["a@b", "c@d", "e@f"] {
        put(&mut ops, 1, owner, Kind::Credentials, b"", b"keys");
        note_last(&mut ops, owner, b"first");
        note_last(&mut ops, owner, b"second");
    }
    note_last(&mut ops, "nobody@b", b"first");
    backend.execute(&ops, &mut replies);
    let row = |backend: &DiskBackend, owner: &str| {
        let row = backend.index().get(owner.as_bytes(), Kind::Last, b"");
        row.unwrap()
    };
    assert!(backend.has_late());
    assert_eq!(row(&backend, "a@b"), None);

    let mut ops = Ops::default();
    let (owner, kind, key) = (ops.keep(b"a@b"), Kind::Last, ops.keep(b""));
    ops.push(ticket(2), Op::Get { owner, kind, key });
    replies.clear();
    backend.execute(&ops, &mut replies);
    assert_eq!(replies[0].1, Reply::Value(Some(b"second"[..].into())));
    assert!(!backend.has_late());
    assert_eq!(row(&backend, "e@f").as_deref(), Some(&b"second"[..]));
    assert_eq!(row(&backend, "nobody@b"), None);

    let mut ops = Ops::default();
    note_last(&mut ops, "a@b", b"third");
    note_last(&mut ops, "c@d", b"third");
    let changes = vec![Change::DeleteOwner {
        owner: ops.keep(b"c@d"),
    }];
    let require = Require::Nothing;
    ops.push(ticket(3), Op::Write { require, changes });
    note_last(&mut ops, "c@d", b"fourth");
    note_last(&mut ops, "e@f", b"fourth");
    backend.execute(&ops, &mut replies);
    backend.close();
    drop(backend);
    let (backend, _) = open(&config(dir.path())).unwrap();
    assert_eq!(row(&backend, "a@b").as_deref(), Some(&b"third"[..]));
    assert_eq!(row(&backend, "c@d"), None);
    assert_eq!(row(&backend, "e@f").as_deref(), Some(&b"fourth"[..]));
}

fn start(dir: &Path) -> (Storage, Receiver<(ShardId, Replies)>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let outlet: Outlet = Arc::new(move |shard, replies| {
        // The receiver may have gone when the test is over.
        let _ = sender.lock().unwrap().send((shard, replies));
    });
    let (storage, _) = Storage::open(&config(dir), outlet).unwrap();
    (storage, receiver)
}

#[test]
fn threads_answer_everybody_and_stop_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, inlet) = start(dir.path());
    let mut ops = Ops::default();
    for number in 0..2000 {
        journal(&mut ops, number, number + 1);
        put(
            &mut ops,
            10_000 + number,
            "a@b",
            Kind::Offline,
            &number.to_be_bytes(),
            b"v",
        );
        if number % 7 == 0 {
            ops.push(
                None,
                Op::Settle {
                    id: MessageId(number + 1),
                },
            );
        }
        if number % 10 == 0 {
            storage.submit(&mut ops);
        }
    }
    storage.submit(&mut ops);
    let mut answers = 0;
    while answers < 4000 {
        let (_, replies) = inlet.recv().unwrap();
        assert!(replies.iter().all(|(_, reply)| *reply == Reply::Done));
        answers += replies.len();
    }
    storage.stop();
    assert!(inlet.try_recv().is_err(), "one answer each");

    let (_, recovered) = open(&config(dir.path())).unwrap();
    assert_eq!(recovered.unsettled.len(), 2000 - 2000_usize.div_ceil(7));
}

#[test]
fn a_directory_in_use_is_refused_with_the_pid_of_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _inlet) = start(dir.path());
    let error = Database::open(&config(dir.path())).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    storage.stop();
    drop(storage);
    Database::open(&config(dir.path())).unwrap();
}

#[test]
fn an_import_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut database, _) = Database::open(&config(dir.path())).unwrap();
    let row = |number: u32| (format!("user{number:06}@example.net"), vec![7; 150]);
    let mut rows = (0..20_000).map(|number| {
        let (owner, value) = row(number);
        (owner.into_bytes().into(), value.into())
    });
    let mut told = 0;
    let progress = &mut |count| told = count;
    let count = database
        .import(Kind::Credentials, &mut rows, progress)
        .unwrap();
    assert_eq!((count, told), (20_000, 20_000));
    database
        .put(b"user000007@example.net", Kind::Roster, b"", b"r")
        .unwrap();
    database.delete_owner(b"user000008@example.net").unwrap();
    database.close();

    let (database, _) = Database::open(&config(dir.path())).unwrap();
    let mut count = 0;
    let visit = &mut |_: &[u8], _: &[u8], _: &[u8]| {
        count += 1;
        Scan::More
    };
    database.scan_kind(Kind::Credentials, visit).unwrap();
    assert_eq!(count, 19_999);
    let gone = database.get(b"user000008@example.net", Kind::Credentials, b"");
    assert_eq!(gone.unwrap(), None);
}

/// What a full device leaves behind: the tree is opened again beside those who read it.
#[test]
fn an_index_is_opened_again_within_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = FjallIndex::open(dir.path(), Sizes::default()).unwrap();
    let mut persister = index.persister();
    let put = |index: &mut FjallIndex, sequence: u64| {
        let (owner, kind, key) = (&b"a@b"[..], Kind::Offline, &sequence.to_be_bytes()[..]);
        let value = key;
        let edit = Edit::Put {
            owner,
            kind,
            key,
            value,
        };
        index.apply(&[edit], sequence).unwrap();
    };
    put(&mut index, 1);
    persister.persist().unwrap();
    put(&mut index, 2);
    index.reopen().unwrap();
    let applied = index.applied().unwrap();
    assert!((1..=2).contains(&applied), "{applied}");
    for sequence in 1..=2_u64 {
        let row = index.get(b"a@b", Kind::Offline, &sequence.to_be_bytes());
        assert_eq!(row.unwrap().is_some(), sequence <= applied);
    }
    put(&mut index, applied + 1);
    persister.persist().unwrap();
    assert_eq!(index.applied().unwrap(), applied + 1);
}
