//! The threads of storage: one executes, one waits for the device, some hash passwords.
//!
//! Reads are answered by the first and so never wait behind a sync. All sleep when there is
//! nothing to do. One queue takes the requests of all shards, so what one shard submitted before
//! it told another is executed before what the other submits then.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::channel as bounded;
use crossbeam::queue::SegQueue;

use super::answer::HashJob;
use super::backup::Frozen;
use super::index::{IndexError, Snapshot};
use super::lateness::{Lateness, LatenessReport};
use super::{Backend, Ops, Replies, Rest, ShardId, Synced, Syncer, Wake};

/// Where replies go: called on storage threads, once per shard and batch. Must not block.
pub type Outlet = Arc<dyn Fn(ShardId, Replies) + Send + Sync>;

/// The running storage. Clones are the same storage.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What waits in storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Requests not executed yet.
    pub ops: usize,
    /// Their octets.
    pub octets: usize,
    /// Passwords not hashed yet.
    pub hashes: usize,
}

struct Shared {
    inbox: SegQueue<Task>,
    /// Empty requests to be filled again.
    pool: SegQueue<Ops>,
    ops: AtomicUsize,
    octets: AtomicUsize,
    hashes: AtomicUsize,
    stopping: AtomicBool,
    executor: Thread,
    lateness: Arc<Lateness>,
}

/// A sleep after which the storage thread takes it that a burst is over.
const REST_AFTER: Duration = Duration::from_secs(2);

enum Task {
    Batch(Ops),
    Freeze(Sender<Result<Frozen, IndexError>>),
    /// Say that you are there.
    Look(Sender<()>),
    Stop,
}

/// How often a full device is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// How long settlements, and rows that nobody waits for, wait for company before they are written.
const LAZY_DELAY: Duration = Duration::from_millis(200);
/// Requests that are kept for reuse, and the largest arena worth keeping.
const POOLED_OPS: usize = 64;
const POOLED_OCTETS: usize = 64 << 10;
/// Threads that hash passwords.
const HASHERS: usize = 2;

impl Storage {
    /// Starts the threads around `backend`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut backend: Box<dyn Backend>, outlet: Outlet) -> io::Result<Self> {
        let (hash_jobs, hash_inlet) = bounded::unbounded::<HashJob>();
        let syncer = backend.syncer();
        let lateness = backend.lateness();
        let (send_shared, receive_shared) = channel::<Arc<Shared>>();
        let sink = outlet.clone();
        let executor = thread::Builder::new().name("store".into()).spawn(move || {
            let Ok(shared) = receive_shared.recv() else {
                return;
            };
            let Ok(sync) = SyncThread::start(syncer, &sink) else {
                return;
            };
            let _guard = AbortOnPanic;
            let executor = Executor {
                backend,
                shared,
                outlet: sink,
                hash_jobs,
                sync,
            };
            executor.run();
        })?;
        let shared = Arc::new(Shared {
            inbox: SegQueue::new(),
            pool: SegQueue::new(),
            ops: AtomicUsize::new(0),
            octets: AtomicUsize::new(0),
            hashes: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            executor: executor.thread().clone(),
            lateness,
        });
        let mut threads = vec![executor];
        for _ in 0..HASHERS {
            let (inlet, outlet, shared) = (hash_inlet.clone(), outlet.clone(), shared.clone());
            threads.push(thread::Builder::new().name("hash".into()).spawn(move || {
                for job in inlet {
                    let reply = (job.ticket, job.derive());
                    shared.hashes.fetch_sub(1, Ordering::Relaxed);
                    outlet(job.ticket.shard, vec![reply]);
                }
            })?);
        }
        // The executor waits for this; it cannot have gone.
        let _ = send_shared.send(shared.clone());
        Ok(Self {
            shared,
            threads: Arc::new(Mutex::new(threads)),
        })
    }

    /// Takes the requests of one turn and leaves an empty list with room. Does nothing when there
    /// are none, or after [`Storage::stop`].
    pub fn submit(&self, ops: &mut Ops) {
        if ops.is_empty() || self.shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let empty = self.shared.pool.pop().unwrap_or_default();
        let batch = std::mem::replace(ops, empty);
        self.shared.ops.fetch_add(batch.len(), Ordering::Relaxed);
        self.shared
            .octets
            .fetch_add(batch.octets_len(), Ordering::Relaxed);
        self.shared.post(Task::Batch(batch));
    }

    /// What was submitted and not executed yet.
    pub fn depth(&self) -> Depth {
        Depth {
            ops: self.shared.ops.load(Ordering::Relaxed),
            octets: self.shared.octets.load(Ordering::Relaxed),
            hashes: self.shared.hashes.load(Ordering::Relaxed),
        }
    }

    /// How long a request that comes now waits until it is looked at; no longer than `patience`.
    pub fn delay(&self, patience: Duration) -> Duration {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let (sender, receiver) = channel();
        let began = Instant::now();
        self.shared.post(Task::Look(sender));
        // Gone or silent: either way it was that long.
        let _ = receiver.recv_timeout(patience);
        began.elapsed()
    }

    /// How long the device has others wait.
    pub fn lateness(&self) -> LatenessReport {
        self.shared.lateness.report()
    }

    /// Everything as it is after what was submitted so far: for scans and backups. Waits for the
    /// storage thread: not for a reactor.
    ///
    /// # Errors
    /// When the index failed, or after [`Storage::stop`].
    pub fn freeze(&self) -> Result<Frozen, IndexError> {
        let gone = || IndexError::Failed("storage has stopped".into());
        if self.shared.stopping.load(Ordering::SeqCst) {
            return Err(gone());
        }
        let (sender, receiver) = channel();
        self.shared.post(Task::Freeze(sender));
        receiver.recv().map_err(|_| gone())?
    }

    /// As [`Storage::freeze`], the rows alone.
    ///
    /// # Errors
    /// As [`Storage::freeze`].
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, IndexError> {
        Ok(self.freeze()?.rows)
    }

    /// Executes and makes durable what was submitted, then ends the threads. Blocks.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.post(Task::Stop);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // Only a hasher can have panicked; nobody waits for it any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn post(&self, task: Task) {
        self.inbox.push(task);
        // Costs a system call only when the thread sleeps, and then once: the token stays.
        self.executor.unpark();
    }
}

struct Executor {
    backend: Box<dyn Backend>,
    shared: Arc<Shared>,
    outlet: Outlet,
    hash_jobs: bounded::Sender<HashJob>,
    sync: Option<SyncThread>,
}

impl Executor {
    fn run(mut self) {
        let mut replies = Replies::new();
        let mut stopping = false;
        let mut late_since = None;
        while !stopping {
            while let Some(task) = self.shared.inbox.pop() {
                match task {
                    Task::Batch(batch) => self.execute(batch, &mut replies),
                    Task::Freeze(sender) => {
                        self.backend.write_late();
                        // Nobody waits any more when this fails.
                        let _ = sender.send(self.backend.freeze());
                    }
                    Task::Look(sender) => drop(sender.send(())),
                    Task::Stop => stopping = true,
                }
            }
            let patience = self.write_late_when_due(&mut late_since);
            let syncs = self.backend.wants_sync();
            match &self.sync {
                Some(sync) if syncs => sync.thread.unpark(),
                Some(_) => {}
                None => self.backend.commit(&mut replies),
            }
            deliver(&mut replies, &self.outlet);
            if !syncs {
                // After reads alone, such as those of logins: where every core is busy, others go
                // first and more is there when it is our turn. Who submits meanwhile finds us awake
                // and makes no system call. Where a core is free, this costs nothing.
                thread::yield_now();
            }
            match patience {
                _ if stopping || !self.shared.inbox.is_empty() => {}
                Some(patience) => thread::park_timeout(patience),
                None => self.wait(),
            }
        }
        self.stop();
    }

    /// Sleeps until it is called. A long sleep after work is one to tidy up in.
    fn wait(&mut self) {
        let mut asleep = Instant::now();
        loop {
            thread::park_timeout(REST_AFTER);
            if !self.shared.inbox.is_empty() {
                return;
            }
            if asleep.elapsed() < REST_AFTER {
                // It was woken for nothing.
                continue;
            }
            while self.shared.pool.pop().is_some() {}
            let rest = self.backend.rest();
            if !self.shared.inbox.is_empty() {
                // Whoever called meanwhile may have woken the index instead of this sleep.
                return;
            }
            if rest == Rest::Done {
                return thread::park();
            }
            asleep = Instant::now();
        }
    }

    /// Writes the rows that were put off once they waited long enough; else says how long they
    /// still may. `since` is when the first of them was seen.
    fn write_late_when_due(&mut self, since: &mut Option<Instant>) -> Option<Duration> {
        if !self.backend.has_late() {
            *since = None;
            return None;
        }
        let waited = since.get_or_insert_with(Instant::now).elapsed();
        if waited < LAZY_DELAY {
            return Some(LAZY_DELAY - waited);
        }
        *since = None;
        self.backend.write_late();
        None
    }

    fn execute(&mut self, mut batch: Ops, replies: &mut Replies) {
        self.shared.ops.fetch_sub(batch.len(), Ordering::Relaxed);
        self.shared
            .octets
            .fetch_sub(batch.octets_len(), Ordering::Relaxed);
        for job in batch.take_hashes() {
            self.shared.hashes.fetch_add(1, Ordering::Relaxed);
            // The hashers live until this sender is gone.
            let _ = self.hash_jobs.send(job);
        }
        self.backend.execute(&batch, replies);
        deliver(replies, &self.outlet);
        batch.clear();
        if self.shared.pool.len() < POOLED_OPS && batch.octets_capacity() <= POOLED_OCTETS {
            self.shared.pool.push(batch);
        }
    }

    /// The syncer ends first, so that nothing is under way when the backend closes.
    fn stop(mut self) {
        if let Some(sync) = self.sync.take() {
            sync.stop();
        }
        self.backend.close();
    }
}

/// The thread that waits for the device.
struct SyncThread {
    thread: Thread,
    handle: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
}

impl SyncThread {
    fn start(syncer: Option<Box<dyn Syncer>>, outlet: &Outlet) -> io::Result<Option<Self>> {
        let Some(mut syncer) = syncer else {
            return Ok(None);
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let (outlet, stop) = (outlet.clone(), stopping.clone());
        let handle = thread::Builder::new().name("sync".into()).spawn(move || {
            let _guard = AbortOnPanic;
            let mut replies = Replies::new();
            let mut wake = Wake::Called;
            loop {
                // Read before the last round, so that the round sees all that came before.
                let last = stop.load(Ordering::SeqCst);
                let synced = syncer.sync(wake, &mut replies);
                deliver(&mut replies, &outlet);
                wake = match synced {
                    Synced::Some => Wake::Called,
                    _ if last => return,
                    Synced::Idle => {
                        thread::park();
                        Wake::Called
                    }
                    Synced::Lazy => park(LAZY_DELAY),
                    Synced::Blocked => park(FULL_RETRY),
                }
            }
        })?;
        Ok(Some(Self {
            thread: handle.thread().clone(),
            handle,
            stopping,
        }))
    }

    fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.thread.unpark();
        // It cannot have panicked: that ends the process.
        let _ = self.handle.join();
    }
}

/// A storage thread that is gone would leave everybody waiting. The journal has what was promised,
/// so the process ends and the next one recovers.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Sleeps until somebody calls or `patience` ends.
fn park(patience: Duration) -> Wake {
    let start = Instant::now();
    thread::park_timeout(patience);
    if start.elapsed() >= patience {
        Wake::TimedOut
    } else {
        Wake::Called
    }
}

/// Hands replies out, one list per shard, in order.
fn deliver(replies: &mut Replies, outlet: &Outlet) {
    let Some((first, _)) = replies.first() else {
        return;
    };
    let shard = first.shard;
    if replies.iter().all(|(ticket, _)| ticket.shard == shard) {
        let room = Replies::with_capacity(replies.len());
        return outlet(shard, std::mem::replace(replies, room));
    }
    let mut lists: Vec<(ShardId, Replies)> = Vec::new();
    for (ticket, reply) in replies.drain(..) {
        let place = lists.iter().position(|(shard, _)| *shard == ticket.shard);
        let place = place.unwrap_or_else(|| {
            lists.push((ticket.shard, Replies::new()));
            lists.len() - 1
        });
        lists[place].1.push((ticket, reply));
    }
    for (shard, list) in lists {
        outlet(shard, list);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::store::memory::MemoryBackend;
    use crate::store::{Change, Hash, Kind, Op, Reply, Require, Ticket, TicketKey};

    fn start() -> (Storage, Receiver<(ShardId, Replies)>) {
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let outlet: Outlet = Arc::new(move |shard, replies| {
            sender.lock().unwrap().send((shard, replies)).unwrap();
        });
        let backend = Box::new(MemoryBackend::default());
        (Storage::start(backend, outlet).unwrap(), receiver)
    }

    fn ticket(shard: ShardId) -> Option<Ticket> {
        let key = TicketKey::from_bits(1);
        Some(Ticket { shard, key })
    }

    fn put(ops: &mut Ops, shard: ShardId) {
        let owner = ops.keep(b"juliet@example.net");
        let changes = vec![Change::Put {
            owner: owner.clone(),
            kind: Kind::Roster,
            key: 0..0,
            value: owner,
        }];
        let require = Require::Nothing;
        ops.push(ticket(shard), Op::Write { require, changes });
    }

    #[test]
    fn answers_go_to_the_shard_that_asked() {
        let (storage, replies) = start();
        let mut ops = Ops::default();
        put(&mut ops, 3);
        put(&mut ops, 5);
        storage.submit(&mut ops);
        assert!(ops.is_empty());
        let (first, second) = (replies.recv().unwrap(), replies.recv().unwrap());
        assert_eq!((first.0, second.0), (3, 5));
        assert_eq!(first.1[0].1, Reply::Done);
        assert_eq!(storage.depth(), Depth::default());
        storage.stop();
    }

    #[test]
    fn stopping_executes_what_was_submitted() {
        let (storage, replies) = start();
        let mut ops = Ops::default();
        for _ in 0..100 {
            put(&mut ops, 0);
            storage.submit(&mut ops);
        }
        storage.stop();
        assert_eq!(replies.try_iter().flat_map(|(_, list)| list).count(), 100);
        put(&mut ops, 0);
        storage.submit(&mut ops);
        assert!(storage.freeze().is_err());
    }

    /// Puts everything off, and says when it is asked to write.
    struct PutsOff {
        late: bool,
        written: std::sync::mpsc::Sender<()>,
    }

    impl Backend for PutsOff {
        fn execute(&mut self, _: &Ops, _: &mut Replies) {
            self.late = true;
        }

        fn commit(&mut self, _: &mut Replies) {}

        fn has_late(&self) -> bool {
            self.late
        }

        fn write_late(&mut self) {
            self.late = false;
            self.written.send(()).unwrap();
        }

        fn freeze(&self) -> Result<Frozen, IndexError> {
            Err(IndexError::Failed("there is nothing".into()))
        }
    }

    #[test]
    fn what_was_put_off_is_written_though_nobody_asks_again() {
        let (written, writes) = channel();
        let late = false;
        let backend = Box::new(PutsOff { late, written });
        let storage = Storage::start(backend, Arc::new(|_, _| ())).unwrap();
        let mut ops = Ops::default();
        put(&mut ops, 0);
        storage.submit(&mut ops);
        writes.recv().unwrap();
        storage.stop();
        assert!(writes.try_recv().is_err(), "once");
    }

    #[test]
    fn the_delay_ends_when_storage_looks_and_when_it_has_stopped() {
        let (storage, _replies) = start();
        let patience = Duration::from_secs(60);
        assert!(storage.delay(patience) < patience);
        storage.stop();
        assert_eq!(storage.delay(patience), Duration::ZERO);
    }

    #[test]
    fn passwords_are_hashed_beside() {
        let (storage, replies) = start();
        let mut ops = Ops::default();
        let password = ops.keep(b"pencil");
        let salt = ops.keep(b"salt");
        let op = Op::Hash {
            hash: Hash::Sha256,
            password,
            salt,
            iterations: 4096,
        };
        ops.push(ticket(0), op);
        storage.submit(&mut ops);
        let (_, list) = replies.recv().unwrap();
        let expected = pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(b"pencil", b"salt", 4096);
        assert_eq!(list[0].1, Reply::Hashed(expected.into()));
        storage.stop();
    }
}
