//! A backup is one instant of everything, in one file that says when it is damaged.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use encke::store::backup::{BackupError, Progress, backup, restore};
use encke::store::database::Database;
use encke::store::open::{Config, open};
use encke::store::worker::{Outlet, Storage};
use encke::store::{Change, Kind, MessageId, Op, Ops, Require, StreamId, Ticket, TicketKey};

fn config(dir: &Path) -> Config {
    Config::in_dir(dir.join("storage"))
}

/// A server with rows and messages that goes on while it is backed up.
fn back_up(dir: &Path, rows: u64) -> std::path::PathBuf {
    let (sender, receiver) = channel();
    let sender = std::sync::Mutex::new(sender);
    let outlet: Outlet = Arc::new(move |_, replies| {
        // Nobody listens any more after the last row.
        let _ = sender.lock().unwrap().send(replies.len());
    });
    let (storage, _) = Storage::open(&config(dir), outlet).unwrap();
    let mut ops = Ops::default();
    for number in 0..rows {
        let owner = ops.keep(b"juliet@example.net");
        let (key, value) = (ops.keep(&number.to_be_bytes()), ops.keep(&[7; 200]));
        let octets = value.clone();
        let changes = vec![Change::Put {
            owner: owner.clone(),
            kind: Kind::Offline,
            key,
            value,
        }];
        let require = Require::Nothing;
        ops.push(None, Op::Write { require, changes });
        let op = Op::Journal {
            id: MessageId(1 + number),
            owner,
            octets,
            stream: StreamId(1),
            handled: 1,
        };
        let key = TicketKey::from_bits(number);
        ops.push(Some(Ticket { shard: 0, key }), op);
        if number % 2 == 0 {
            let id = MessageId(1 + number);
            ops.push(None, Op::Settle { id });
        }
    }
    storage.submit(&mut ops);
    let frozen = storage.freeze().unwrap();
    // What comes later is not in it.
    let owner = ops.keep(b"juliet@example.net");
    let changes = vec![Change::DeleteOwner { owner }];
    let require = Require::Nothing;
    ops.push(None, Op::Write { require, changes });
    storage.submit(&mut ops);
    storage.freeze().unwrap();

    let path = dir.join("backup");
    let mut told = Progress::default();
    let done = backup(&frozen, &path, 1, &mut |progress| told = progress).unwrap();
    assert_eq!(done, told);
    assert_eq!((done.rows, done.messages), (rows, rows / 2));
    drop(frozen);
    storage.stop();
    drop(receiver);
    path
}

#[test]
fn a_restored_backup_is_what_was_there_at_its_instant() {
    let dir = tempfile::tempdir().unwrap();
    let path = back_up(dir.path(), 3000);
    let fresh = config(&dir.path().join("fresh"));
    fs::create_dir(dir.path().join("fresh")).unwrap();
    let done = restore(&path, &fresh, &mut |_| {}).unwrap();
    assert_eq!(Some(done.octets), done.octets_total);

    let (backend, recovered) = open(&fresh).unwrap();
    assert_eq!(recovered.unsettled.len(), 1500);
    assert_eq!(&*recovered.unsettled[0].owner, "juliet@example.net");
    assert_eq!(&*recovered.unsettled[0].octets, [7; 200]);
    assert_eq!(recovered.handled, []);
    let key = 2999_u64.to_be_bytes();
    let row = backend
        .index()
        .get(b"juliet@example.net", Kind::Offline, &key);
    assert_eq!(row.unwrap().as_deref(), Some(&[7; 200][..]));
    drop(backend);

    let again = restore(&path, &fresh, &mut |_| {}).unwrap_err();
    assert!(matches!(again, BackupError::NotEmpty { .. }), "{again}");
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = back_up(dir.path(), 40);
    let octets = fs::read(&path).unwrap();
    let fresh = config(&dir.path().join("fresh"));
    let damaged = dir.path().join("damaged");
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for place in (0..octets.len()).step_by(7) {
        forms.push(octets[..place].to_vec());
        let mut flipped = octets.clone();
        flipped[place] ^= 1;
        forms.push(flipped);
    }
    forms.push([&octets[..], b"more"].concat());
    for form in forms {
        fs::write(&damaged, &form).unwrap();
        let error = restore(&damaged, &fresh, &mut |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("damaged") || text.contains("version"),
            "{text}"
        );
        assert!(!fresh.dir.exists());
    }
}

#[test]
fn a_backup_of_a_server_that_is_down_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut database, _) = Database::open(&config(dir.path())).unwrap();
    database
        .put(b"juliet@example.net", Kind::Vcard, b"", b"v")
        .unwrap();
    let frozen = database.freeze().unwrap();
    let path = dir.path().join("backup");
    backup(&frozen, &path, 1, &mut |_| {}).unwrap();
    let fresh = Config::in_dir(dir.path().join("fresh"));
    restore(&path, &fresh, &mut |_| {}).unwrap();
    let (database, _) = Database::open(&fresh).unwrap();
    let row = database
        .get(b"juliet@example.net", Kind::Vcard, b"")
        .unwrap();
    assert_eq!(row.as_deref(), Some(&b"v"[..]));
}
