//! Storage on a real directory, one thread, each commit with its `fdatasync`.
//!
//! Measured: encoding, the write to the page cache, the sync, the answer; reads from an index of
//! 100,000 accounts that fits its caches. Left out: the threads and their queues, wake-ups, and
//! what the engine does with the answer. The commits are bound by the device: compare them on one
//! machine only.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use encke::store::database::Database;
use encke::store::disk::DiskBackend;
use encke::store::open::{Config, open};
use encke::store::{
    Backend, Change, Kind, MessageId, Op, Ops, Replies, Require, StreamId, Ticket, TicketKey,
};

const ACCOUNTS: u64 = 100_000;
const MESSAGE: [u8; 300] = [b'x'; 300];

fn ticket() -> Option<Ticket> {
    let key = TicketKey::from_bits(1);
    Some(Ticket { shard: 0, key })
}

fn owner(number: u64) -> String {
    format!(
        "user{:06}@example.net",
        number.wrapping_mul(7919) % ACCOUNTS
    )
}

fn messages(ops: &mut Ops, next: &mut u64, batch: u64) {
    ops.clear();
    for _ in 0..batch {
        *next += 1;
        let owner = ops.keep(b"juliet@example.net");
        let octets = ops.keep(&MESSAGE);
        let op = Op::Journal {
            id: MessageId(*next),
            owner,
            octets,
            stream: StreamId(u128::from(*next % 500)),
            handled: *next as u32,
        };
        ops.push(ticket(), op);
    }
}

fn settlements(ops: &mut Ops, next: u64, batch: u64) {
    ops.clear();
    for id in next + 1 - batch..=next {
        ops.push(None, Op::Settle { id: MessageId(id) });
    }
}

fn writes(ops: &mut Ops, next: &mut u64, batch: u64) {
    ops.clear();
    for _ in 0..batch {
        *next += 1;
        let changes = vec![Change::Put {
            owner: ops.keep(owner(*next).as_bytes()),
            kind: Kind::Offline,
            key: ops.keep(&next.to_be_bytes()),
            value: ops.keep(&MESSAGE),
        }];
        let require = Require::Nothing;
        ops.push(ticket(), Op::Write { require, changes });
    }
}

fn run(backend: &mut DiskBackend, ops: &Ops, replies: &mut Replies) {
    replies.clear();
    backend.execute(ops, replies);
    backend.commit(replies);
}

/// A message is journaled, durable, answered and settled; a write is journaled, applied, durable.
fn commit(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut backend, _) = open(&Config::in_dir(dir.path())).expect("it opens");
    let (mut ops, mut replies, mut next) = (Ops::default(), Replies::new(), 0);
    let mut group = c.benchmark_group("commit");
    group.sample_size(20);
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("message_300_octets/{batch}"), |b| {
            b.iter(|| {
                messages(&mut ops, &mut next, batch);
                run(&mut backend, &ops, &mut replies);
                settlements(&mut ops, next, batch);
                backend.execute(&ops, &mut replies);
            });
        });
        group.bench_function(format!("write_300_octets/{batch}"), |b| {
            b.iter(|| {
                writes(&mut ops, &mut next, batch);
                run(&mut backend, &ops, &mut replies);
            });
        });
    }
    group.finish();
}

/// What is settled before it is written costs no device at all.
fn settled_early(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut backend, _) = open(&Config::in_dir(dir.path())).expect("it opens");
    let (mut ops, mut replies, mut next) = (Ops::default(), Replies::new(), 0);
    let mut group = c.benchmark_group("settled_early");
    group.throughput(Throughput::Elements(64));
    group.bench_function("message_300_octets/64", |b| {
        b.iter(|| {
            replies.clear();
            messages(&mut ops, &mut next, 64);
            backend.execute(&ops, &mut replies);
            settlements(&mut ops, next, 64);
            backend.execute(&ops, &mut replies);
            black_box(&replies);
        });
    });
    group.finish();
}

fn reads(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut database, _) = Database::open(&Config::in_dir(dir.path())).expect("it opens");
    let mut rows = (0..ACCOUNTS).map(|number| {
        let owner = owner(number).into_bytes();
        (owner.into(), [7; 150].into())
    });
    let imported = database.import(Kind::Credentials, &mut rows, &mut |_| {});
    imported.expect("there is space");
    database.close();
    let (mut backend, _) = open(&Config::in_dir(dir.path())).expect("it opens");

    let mut group = c.benchmark_group("read");
    let mut next = 0;
    let mut read = |name: &str, op: fn(encke::store::Span) -> Op| {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || {
                    next += 1;
                    let mut ops = Ops::default();
                    let owner = ops.keep(owner(next).as_bytes());
                    ops.push(ticket(), op(owner));
                    (ops, Replies::new())
                },
                |(ops, replies)| backend.execute(ops, replies),
                BatchSize::SmallInput,
            );
        });
    };
    read("get", |owner| Op::Get {
        owner,
        kind: Kind::Credentials,
        key: 0..0,
    });
    read("head", |owner| Op::Head { owner });
    group.finish();
}

criterion_group!(benches, commit, settled_early, reads);
criterion_main!(benches);
