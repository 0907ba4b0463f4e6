//! The turn: wait, feed the shard, then carry out its effects.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Poll};

use crate::base::time::Moment;
use crate::engine::{Batch, Command, Effects, Input, Setup, Shard, Shortage};
use crate::io::guard::{Guarded, fatal};
use crate::io::handoff::Courier;
use crate::io::links::{Links, MAIL_TOKEN};
use crate::io::listener::Listener;
use crate::io::mailbox::{Post, Question};
use crate::io::{ErrandSink, EventSink, GiveBack, ShardReport, Shared, Submit, Unused, clock};
use crate::store::{MessageId, ShardId};

/// Events taken from the kernel in one turn.
const EVENTS_PER_TURN: usize = 1_024;
/// Posts taken from the mailbox in one turn.
const POSTS_PER_TURN: usize = 4_096;
/// The least time from one rest to the next.
const REST: Duration = Duration::from_secs(1);
/// How long after a burst pages go back: longer than the storage thread and the allocator take
/// until they let go of what it needed.
const TIDY: Duration = Duration::from_secs(15);
/// How soon a shard tries again what another could not take.
const RETRY: Duration = Duration::from_millis(1);
/// Emptied batches kept for the next turns.
const BATCHES_KEPT: usize = 64;
/// Emptied batches kept while nothing happens.
const BATCHES_RESTING: usize = 2;
/// A larger one is freed: one busy moment must not stay for ever.
const BATCH_OCTETS_KEPT: usize = 64 * 1024;

/// The loop around one shard.
pub(super) struct Reactor {
    id: ShardId,
    poll: Poll,
    events: Events,
    shared: Arc<Shared>,
    submit: Submit,
    sink: EventSink,
    errands: ErrandSink,
    give_back: GiveBack,
    shard: Guarded,
    links: Links,
    courier: Courier,
    /// Emptied batches.
    batches: Vec<Batch>,
    /// Whom this turn has posted to.
    called: Vec<ShardId>,
    /// Mail that its destination has no room for: while there is some, no link is read.
    keeps_mail: bool,
    turns: u64,
    /// Whether it has done anything since it last rested.
    worked: bool,
    /// When it may rest again.
    rests_at: Moment,
    /// Until when it wakes to rest, though nothing is due.
    tidies_until: Moment,
    /// Whether this turn began with a sleep that only a deadline ended.
    slept: bool,
    /// Whether a deadline was due in this turn: what it was set for goes, and nobody else may come
    /// for long.
    expired: bool,
    /// Until what was posted before the start is carried out, nobody is accepted.
    opening: bool,
    ends: bool,
    /// What the shard was told last of what keeps new clients out.
    room: Result<(), Shortage>,
}

/// What a reactor is made of, before its thread runs.
pub(super) struct Parts {
    pub(super) setup: Setup,
    pub(super) poll: Poll,
    pub(super) listeners: Vec<Listener>,
    pub(super) courier: Courier,
    pub(super) shared: Arc<Shared>,
    pub(super) submit: Submit,
    pub(super) events: EventSink,
    pub(super) errands: ErrandSink,
    pub(super) give_back: GiveBack,
}

impl Parts {
    /// The descriptors that belong to this shard, apart from those that all share.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let listeners = self.listeners.iter().map(Listener::descriptor);
        let mut all: Vec<_> = listeners.chain(self.courier.descriptors()).collect();
        all.push(self.poll.as_raw_fd());
        all
    }
}

impl Reactor {
    /// Call it on the thread that will run it: what it opens belongs to that thread's table.
    ///
    /// # Errors
    /// When descriptors are short.
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let effects = Effects::new(parts.setup.shards);
        let registry = parts.poll.registry().try_clone()?;
        let now = parts.shared.clock.now();
        Ok(Self {
            id: parts.setup.shard,
            links: Links::new(
                parts.shared.clone(),
                parts.setup.policy.clone(),
                registry,
                parts.listeners,
            )?,
            shard: Guarded::new(Shard::new(parts.setup), effects, now),
            poll: parts.poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            shared: parts.shared,
            submit: parts.submit,
            sink: parts.events,
            errands: parts.errands,
            give_back: parts.give_back,
            courier: parts.courier,
            batches: Vec::new(),
            called: Vec::new(),
            keeps_mail: false,
            turns: 0,
            worked: true,
            rests_at: Moment(0),
            tidies_until: Moment(0),
            slept: false,
            expired: false,
            opening: true,
            ends: false,
            room: Ok(()),
        })
    }

    /// Turns until it is told to end.
    pub(super) fn run(mut self) {
        while !self.ends {
            if let Err(error) = self.turn() {
                fatal(&format!("a shard cannot wait for events: {error}"));
            }
        }
        self.links.stop();
        self.links.lose_all(&mut self.shard);
        for _ in 0..self.courier.clear() {
            self.shared.census.leave();
        }
        (self.submit)(&mut self.shard.effects.ops);
    }

    /// One turn. There is no other order.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.turns += 1;
        self.shard.now = self.shared.clock.now(); // read once: a turn has one time

        for event in &self.events {
            if event.token() != MAIL_TOKEN {
                self.links.mark_ready(event);
            }
        }
        let room = self.shared.census.room(self.shard.now.mono);
        if room != self.room {
            self.room = room;
            self.shard.feed(None, Input::Room(room));
        }
        if self.reads() {
            self.links.accept(&mut self.shard);
            self.links.read_ready(&mut self.shard);
        }
        self.drain_mail();
        self.expired = self.shard.expire();
        self.links.expire(&mut self.shard);

        if !self.shard.effects.ops.is_empty() {
            (self.submit)(&mut self.shard.effects.ops);
        }
        self.links.apply(&mut self.shard);
        self.links.write_dirty(&mut self.shard); // one write per link
        self.hand_off(); // after its last octets were written
        // A link that was read again while it was written may have journaled: storage hears of that
        // before any other shard does.
        if !self.shard.effects.ops.is_empty() {
            (self.submit)(&mut self.shard.effects.ops);
        }
        self.post_mail(); // at most one wake-up per shard
        self.links.drop_condemned(&mut self.shard);
        self.log();
        self.run_errands();
        self.tell_progress();
        self.rest();
        Ok(())
    }

    /// After a whole sleep that nobody disturbed, what the last burst needed goes back: what this
    /// shard keeps at once, the pages of all threads by and by. Under load there is no such sleep.
    fn rest(&mut self) {
        let now = self.shard.now.mono;
        if self.expired || !self.slept {
            self.worked = true;
            self.tidies_until = now.after(TIDY);
        }
        if !self.slept {
            return;
        }
        if now < self.rests_at || now >= self.tidies_until.after(REST) {
            return;
        }
        self.rests_at = now.after(REST);
        if std::mem::take(&mut self.worked) {
            self.shard.rest();
            self.links.rest();
            self.courier.rest();
            self.batches.truncate(BATCHES_RESTING);
        }
        // Also what other threads have left: they may sleep for hours.
        (self.give_back)(Unused::Long);
    }

    /// Waits until there is something to do; not at all while there is already.
    fn wait(&mut self) -> io::Result<()> {
        let mut patience = self.patience();
        let inlet = &self.shared.inlets[usize::from(self.id)];
        let sleeps = patience != Some(Duration::ZERO);
        let mut undisturbed = sleeps;
        if sleeps && !inlet.lie_down() {
            patience = Some(Duration::ZERO);
            undisturbed = false;
        }
        let waited = self.poll.poll(&mut self.events, patience);
        self.slept = undisturbed && waited.is_ok() && self.events.is_empty();
        if sleeps {
            inlet.get_up();
        }
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }

    /// How long the kernel may keep us; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        // The turn's own time will do: who waits too long does so by the length of one turn.
        let now = self.shard.now.mono;
        let effects = &self.shard.effects;
        let unfinished = !effects.links.is_empty() || !effects.ops.is_empty();
        if unfinished || self.opening || self.links.has_work(now, self.reads()) {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.shard.shard().next_deadline(),
            self.links.next_deadline(),
        ];
        let tidying = (now < self.tidies_until).then(|| now.after(REST));
        let next = deadlines.into_iter().flatten().chain(tidying).min();
        let patience = next.map(|deadline| deadline.since(now));
        if self.keeps_mail || self.courier.is_waiting() {
            return Some(patience.map_or(RETRY, |patience| patience.min(RETRY)));
        }
        patience
    }

    /// Whether links are read and accepted this turn.
    fn reads(&self) -> bool {
        !self.keeps_mail && !self.opening
    }

    /// Mail is always drained, also while this shard keeps its own: so no two wait for each other.
    fn drain_mail(&mut self) {
        for _ in 0..POSTS_PER_TURN {
            let Some(post) = self.shared.inlets[usize::from(self.id)].take() else {
                self.opening = false;
                return;
            };
            self.shared.progress[usize::from(self.id)].count();
            match post {
                Post::Batch { from, mut batch } => {
                    let octets = batch.octets_len();
                    let input = Input::Mail {
                        from,
                        batch: &mut batch,
                    };
                    self.shard.feed(None, input);
                    if octets <= BATCH_OCTETS_KEPT && self.batches.len() < BATCHES_KEPT {
                        batch.clear();
                        self.batches.push(batch);
                    }
                }
                Post::Handoff(mut handoff) => {
                    let socket = self.courier.receive(&mut handoff);
                    self.links.adopt(socket, *handoff, &mut self.shard);
                }
                Post::Replies(replies) => {
                    for (ticket, reply) in replies {
                        self.shard.feed(None, Input::Stored { ticket, reply });
                    }
                }
                Post::Command(command) => {
                    if let Command::Reload(policy) = &command {
                        self.shared.census.reload(&policy.limits);
                        self.links.policy = policy.clone();
                    }
                    self.shard.feed(None, Input::Command(command));
                }
                Post::Report(question) => {
                    // Who asked may be gone.
                    let _ = question.answer.try_send(self.report(&question));
                }
                Post::StopAccepting => self.links.stop(),
                Post::End => self.ends = true,
            }
        }
    }

    fn hand_off(&mut self) {
        let courier = &mut self.courier;
        self.links
            .hand_off(self.id, &mut self.shard, &mut |to, socket, handoff| {
                courier.send(to, socket, handoff);
            });
        if !self.courier.is_waiting() {
            return;
        }
        for (to, inlet) in self.shared.inlets.iter().enumerate() {
            if self.courier.flush(to as ShardId, inlet) > 0 {
                self.called.push(to as ShardId);
            }
        }
    }

    /// Posts one batch per destination that has room, then wakes who sleeps.
    fn post_mail(&mut self) {
        self.keeps_mail = false;
        for (to, inlet) in self.shared.inlets.iter().enumerate() {
            let mail = &mut self.shard.effects.mail[to];
            if mail.is_empty() {
                continue;
            }
            if inlet.is_full() {
                self.keeps_mail = true;
                continue;
            }
            let batch = std::mem::replace(mail, self.batches.pop().unwrap_or_default());
            let from = self.id;
            inlet.push(Post::Batch { from, batch });
            self.called.push(to as ShardId);
        }
        for to in self.called.drain(..) {
            // A second ring for the same shard finds it awake.
            self.shared.inlets[usize::from(to)].ring();
        }
    }

    fn run_errands(&mut self) {
        let errands = &mut self.shard.effects.errands;
        if !errands.is_empty() {
            (self.errands)(self.id, errands);
        }
    }

    fn log(&mut self) {
        let events = &mut self.shard.effects.events;
        if !events.is_empty() {
            (self.sink)(self.id, events);
        }
    }

    /// For who waits for the end: whether this shard has anything left.
    fn tell_progress(&self) {
        let effects = &self.shard.effects;
        let quiet = self.shard.shard().is_quiet()
            && effects.links.is_empty()
            && effects.ops.is_empty()
            && !self.keeps_mail
            && !self.courier.is_waiting();
        let idle = quiet && self.links.is_empty() && self.shard.shard().is_empty();
        let progress = &self.shared.progress[usize::from(self.id)];
        progress.quiet.store(quiet, Ordering::Release);
        progress.idle.store(idle, Ordering::Release);
    }

    fn report(&self, question: &Question) -> ShardReport {
        let (ready, dirty) = self.links.waiting();
        let engine = self.shard.shard().report();
        let named = engine.oldest_unsent.map(MessageId::millis);
        // The clock may have been set back since.
        let unsent = named.map_or(0, |named| self.shard.now.wall_ms.saturating_sub(named));
        ShardReport {
            shard: self.id,
            engine,
            links: self.links.len(),
            links_ready: ready,
            links_dirty: dirty,
            mail_posts: question.posts,
            mail_octets: question.octets,
            mail_age: question.asked.elapsed(),
            unsent_age: Duration::from_millis(unsent),
            turns: self.turns,
            cpu: clock::thread_cpu(),
            io: self.links.counters,
        }
    }
}
