//! Everything the kernel sees: sockets, TLS, the threads of the shards and their mailboxes.
//!
//! [`Reactors::bind`] makes what the threads share, [`Reactors::start`] runs them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use mio::Poll;

use crate::base::event::Event;
use crate::engine::{self, Command, Errand, Policy, Report, Setup};
use crate::store::{MessageId, Ops, Replies, ShardId};

mod bell;
mod binding;
mod census;
mod certificates;
pub mod clock;
mod descriptors;
pub mod entropy;
mod guard;
mod handoff;
mod links;
mod listener;
mod mailbox;
mod reactor;
mod socket;
pub mod tls;

pub use certificates::{CertificateError, Certificates};
pub use links::Counters;
pub use listener::Bind;
pub use tls::TlsShared;

use census::Census;
use clock::Clock;
use handoff::Courier;
use links::MAIL_TOKEN;
use listener::Listener;
use mailbox::{Inlet, Post};
use reactor::{Parts, Reactor};

/// What [`bell::Bell`] is made of.
mod atomic {
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};
}

/// What the reactors are to be.
pub struct Plan {
    pub shards: u16,
    pub listeners: Vec<Bind>,
    pub tls: Option<Arc<TlsShared>>,
    /// Whether each shard owns its descriptor table.
    pub private_descriptors: bool,
    pub policy: Arc<Policy>,
    /// Every message id given from now on is greater.
    pub next_id: MessageId,
    /// Takes what the shards have to tell.
    pub events: EventSink,
    /// Takes what the shards want done elsewhere.
    pub errands: ErrandSink,
    pub give_back: GiveBack,
}

/// Takes the errands of one turn and leaves the list empty; must not wait.
pub type ErrandSink = Arc<dyn Fn(ShardId, &mut Vec<Errand>) + Send + Sync>;

/// Gives memory that nobody uses back to the system. Reactors call it when nothing has happened
/// for a while.
pub type GiveBack = fn(Unused);

/// Which memory goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// What is free now.
    Now,
    /// What has been free for so long that it will not be wanted again soon.
    Long,
}

/// Takes the events of one turn and leaves the list empty; must not wait.
pub type EventSink = Arc<dyn Fn(ShardId, &mut Vec<Event>) + Send + Sync>;

/// Takes the requests of one turn; must not wait. The same for all shards.
pub type Submit = Arc<dyn Fn(&mut Ops) + Send + Sync>;
/// Takes replies to the shard that asked; never waits.
pub type Outlet = Arc<dyn Fn(ShardId, Replies) + Send + Sync>;

/// Why the reactors cannot run.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Bind {
        address: SocketAddr,
        error: io::Error,
    },
    /// The kernel gave no descriptor, thread or randomness.
    System(io::Error),
    /// A shard cannot have a descriptor table of its own.
    Unshare(io::Error),
}

/// What all shards of a process share.
struct Shared {
    inlets: Box<[Inlet]>,
    progress: Box<[Progress]>,
    census: Census,
    tls: Option<Arc<TlsShared>>,
    clock: Clock,
}

/// What a shard lets others know about its end.
#[derive(Default)]
struct Progress {
    idle: AtomicBool,
    /// Whether it waits for nobody but clients.
    quiet: AtomicBool,
    posts: AtomicU64,
}

impl Progress {
    /// One more post is about to be looked at.
    fn count(&self) {
        // Whoever has not seen the number grow yet looks again, and sees this.
        self.quiet.store(false, Ordering::Release);
        // Only this shard writes, so a load and a store will do.
        let posts = self.posts.load(Ordering::Relaxed) + 1;
        self.posts.store(posts, Ordering::Release);
    }
}

/// How a shard and its reactor see themselves.
#[derive(Clone, Debug)]
pub struct ShardReport {
    pub shard: ShardId,
    pub engine: Report,
    /// Sockets, closing ones included.
    pub links: usize,
    pub links_ready: usize,
    pub links_dirty: usize,
    /// Posts and octets on the way to the shard when it was asked.
    pub mail_posts: usize,
    pub mail_octets: usize,
    /// How long the question lay in the mailbox, behind all those.
    pub mail_age: Duration,
    /// How old the oldest message is that is due to a session with a link.
    pub unsent_age: Duration,
    pub turns: u64,
    /// Time of a core that its thread has used.
    pub cpu: Duration,
    pub io: Counters,
}

/// Reactors that are bound and do not run yet.
pub struct Reactors {
    plan: Plan,
    shared: Arc<Shared>,
    seats: Vec<Seat>,
    addresses: Vec<SocketAddr>,
    hash_key: [u8; 16],
}

/// What one shard gets that was made ahead.
struct Seat {
    poll: Poll,
    listeners: Vec<Listener>,
    courier: Courier,
}

impl Reactors {
    /// Makes what threads share and binds every address, each once per shard.
    ///
    /// # Errors
    /// [`StartError::Bind`] names the address.
    pub fn bind(plan: Plan) -> Result<Self, StartError> {
        let shards = usize::from(plan.shards.max(1));
        let hash_key = entropy::hash_key().map_err(StartError::System)?;
        let couriers = match plan.private_descriptors {
            true => handoff::pairs(shards).map_err(StartError::System)?,
            false => (0..shards).map(|_| Courier::new(shards)).collect(),
        };
        let mut inlets = Vec::new();
        let mut seats = Vec::new();
        for courier in couriers {
            let poll = Poll::new().map_err(StartError::System)?;
            inlets.push(Inlet::new(poll.registry(), MAIL_TOKEN).map_err(StartError::System)?);
            seats.push(Seat {
                poll,
                listeners: Vec::new(),
                courier,
            });
        }
        let mut addresses = Vec::new();
        for bind in &plan.listeners {
            let (address, listeners) =
                listener::bind(bind, shards).map_err(|error| StartError::Bind {
                    address: bind.address,
                    error,
                })?;
            addresses.push(address);
            for (seat, listener) in seats.iter_mut().zip(listeners) {
                seat.listeners.push(listener);
            }
        }
        let shared = Shared {
            progress: inlets.iter().map(|_| Progress::default()).collect(),
            inlets: inlets.into(),
            census: Census::new(&plan.policy.limits, hash_key),
            tls: plan.tls.clone(),
            clock: Clock::start(),
        };
        Ok(Self {
            plan,
            shared: Arc::new(shared),
            seats,
            addresses,
            hash_key,
        })
    }

    /// Where it listens, in the order of the plan; a port 0 has become a real one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes storage's replies to their shards. Works before the threads run and after they end.
    pub fn outlet(&self) -> Outlet {
        let shared = self.shared.clone();
        Arc::new(move |shard, replies| {
            if let Some(inlet) = shared.inlets.get(usize::from(shard)) {
                inlet.post(Post::Replies(replies));
            }
        })
    }

    /// The shard that owns a bare JID.
    pub fn home(&self, bare: &str) -> ShardId {
        engine::home(&self.hash_key, self.seats.len() as u16, bare)
    }

    /// Gives a command to one shard; it is carried out before anybody is accepted.
    pub fn command(&self, shard: ShardId, command: Command) {
        if let Some(inlet) = self.shared.inlets.get(usize::from(shard)) {
            inlet.post(Post::Command(command));
        }
    }

    /// Gives a command to every shard, as [`Reactors::command`].
    pub fn broadcast(&self, command: impl Fn() -> Command) {
        for shard in 0..self.seats.len() {
            self.command(shard as ShardId, command());
        }
    }

    /// Runs one thread per shard.
    ///
    /// With private descriptors, what the process opens later is unknown to the shards, and what
    /// it opened before is closed in their tables: they write logs to the standard streams only.
    ///
    /// # Errors
    /// When a thread or its descriptor table cannot be had; none goes on running then.
    pub fn start(self, submit: Submit) -> Result<Handle, StartError> {
        let shards = self.seats.len();
        let private = self.plan.private_descriptors;
        let common = self.shared.descriptors();
        let (ready, started) = bounded(shards);
        let mut handle = Handle {
            shared: self.shared.clone(),
            threads: Vec::new(),
            _submit: submit.clone(),
        };
        let mut moved = Vec::new();
        for (index, seat) in self.seats.into_iter().enumerate() {
            let parts = Parts {
                setup: Setup {
                    shard: index as ShardId,
                    shards: shards as u16,
                    policy: self.plan.policy.clone(),
                    hash_key: self.hash_key,
                    seed: entropy::seed().map_err(StartError::System)?,
                    next_id: self.plan.next_id,
                },
                poll: seat.poll,
                listeners: seat.listeners,
                courier: seat.courier,
                shared: self.shared.clone(),
                submit: submit.clone(),
                events: self.plan.events.clone(),
                errands: self.plan.errands.clone(),
                give_back: self.plan.give_back,
            };
            let own = parts.descriptors();
            let keep = private.then(|| [&own[..], &common[..]].concat());
            moved.extend(own);
            handle.threads.push(spawn(parts, keep, ready.clone())?);
        }
        drop(ready);
        let outcome = started.iter().take(shards).collect::<Result<(), _>>();
        match outcome {
            Ok(()) => {
                if private {
                    // Or the kernel would go on accepting for listeners that a shard has closed.
                    descriptors::give_up(&moved);
                }
                Ok(handle)
            }
            Err(error) => {
                handle.join(Duration::ZERO);
                Err(error)
            }
        }
    }
}

/// Begins a shard's thread; it says through `ready` whether it runs.
fn spawn(
    parts: Parts,
    keep: Option<Vec<RawFd>>,
    ready: Sender<Result<(), StartError>>,
) -> Result<JoinHandle<()>, StartError> {
    let work = move || {
        let apart = descriptors::leave_signals_to_others();
        let own = |keep: Vec<RawFd>| descriptors::own(&keep);
        if let Err(error) = apart.and_then(|()| keep.map_or(Ok(()), own)) {
            let _ = ready.send(Err(StartError::Unshare(error)));
            return;
        }
        let reactor = match Reactor::new(parts) {
            Ok(reactor) => reactor,
            Err(error) => {
                let _ = ready.send(Err(StartError::System(error)));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        drop(ready);
        if catch_unwind(AssertUnwindSafe(|| reactor.run())).is_err() {
            guard::fatal("a reactor panicked; what was acknowledged is in the journal");
        }
    };
    std::thread::Builder::new()
        .name("shard".into())
        .spawn(work)
        .map_err(StartError::System)
}

impl Shared {
    /// What every shard needs in its table.
    fn descriptors(&self) -> Vec<RawFd> {
        let wakers = self.inlets.iter().map(Inlet::descriptor);
        wakers.chain(self.census.descriptor()).collect()
    }

    /// Whether every shard says so by `flag`, and how many posts it took to get there.
    fn rest(&self, flag: fn(&Progress) -> &AtomicBool) -> Option<u64> {
        let mut posts = 0;
        for (inlet, progress) in self.inlets.iter().zip(&self.progress) {
            // Who says so has posted all it had before.
            let rests = flag(progress).load(Ordering::Acquire);
            if !rests || !inlet.is_empty() {
                return None;
            }
            posts += progress.posts.load(Ordering::Acquire);
        }
        Some(posts)
    }
}

/// Running reactors.
pub struct Handle {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Must not be dropped on a shard's thread, where its descriptors mean something else.
    _submit: Submit,
}

/// How often [`Handle::join`] looks whether all is done.
const LOOK: Duration = Duration::from_millis(2);

impl Handle {
    pub fn shards(&self) -> u16 {
        self.shared.inlets.len() as u16
    }

    /// All links of all shards, closing ones included.
    pub fn links(&self) -> usize {
        self.shared.census.links()
    }

    /// Gives a command to one shard.
    pub fn command(&self, shard: ShardId, command: Command) {
        if let Some(inlet) = self.shared.inlets.get(usize::from(shard)) {
            inlet.post(Post::Command(command));
        }
    }

    /// Gives a command to every shard. [`Command::Reload`] also sets the limits of this layer.
    pub fn broadcast(&self, command: impl Fn() -> Command) {
        for inlet in &self.shared.inlets {
            inlet.post(Post::Command(command()));
        }
    }

    /// Asks every shard how it is. A shard that does not answer within `timeout` is missing.
    pub fn report(&self, timeout: Duration) -> Vec<ShardReport> {
        let (answer, answers): (_, Receiver<ShardReport>) = bounded(self.shared.inlets.len());
        for inlet in &self.shared.inlets {
            inlet.ask(answer.clone());
        }
        drop(answer);
        let deadline = Instant::now() + timeout;
        let mut reports = Vec::new();
        while reports.len() < self.shared.inlets.len() {
            match answers.recv_deadline(deadline) {
                Ok(report) => reports.push(report),
                Err(_) => break,
            }
        }
        reports.sort_by_key(|report| report.shard);
        reports
    }

    /// Closes the listeners. Links that were accepted go on.
    pub fn stop_accepting(&self) {
        for inlet in &self.shared.inlets {
            inlet.post(Post::StopAccepting);
        }
    }

    /// Ends all sessions: closes the listeners, tells whoever cannot come back, and when nothing
    /// is under way any more writes down who can; after half of `patience` requests that storage
    /// has not answered are refused, and after three quarters nothing is waited for. Next comes
    /// [`Handle::join`] with the patience that this returns.
    pub fn stop(&self, patience: Duration) -> Duration {
        let deadline = Instant::now() + patience;
        self.stop_accepting();
        self.broadcast(|| Command::Stop);
        if !self.wait(|progress| &progress.quiet, deadline - patience / 2) {
            self.broadcast(|| Command::RefuseWaiting);
            self.wait(|progress| &progress.quiet, deadline - patience / 4);
        }
        self.broadcast(|| Command::WriteDown);
        deadline.saturating_duration_since(Instant::now())
    }

    /// Waits until every shard is empty, at most for `patience`, then ends the threads. Call
    /// [`Handle::stop`] before. Returns whether all was done in time.
    pub fn join(mut self, patience: Duration) -> bool {
        let done = self.wait(|progress| &progress.idle, Instant::now() + patience);
        for inlet in &self.shared.inlets {
            inlet.post(Post::End);
        }
        for thread in self.threads.drain(..) {
            // It cannot have panicked: that ends the process.
            let _ = thread.join();
        }
        done
    }

    /// Waits until all shards rest by `flag`; whether they did before `deadline`.
    fn wait(&self, flag: fn(&Progress) -> &AtomicBool, deadline: Instant) -> bool {
        let mut before = None;
        loop {
            // Twice the same: nothing was on the way between two shards when we looked first.
            let rest = self.shared.rest(flag);
            if rest.is_some() && rest == before {
                return true;
            }
            before = rest;
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::System(error) => write!(f, "cannot start: {error}"),
            Self::Unshare(error) => {
                write!(f, "a shard cannot have its own descriptor table: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests;
