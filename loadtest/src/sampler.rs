//! Reads, once an interval, what the threads and the kernel know, and makes a point of it.
//!
//! It has no thread of its own: the main thread calls it in every turn of its waiting.

use std::time::{Duration, Instant};

use crate::plan::Board;
use crate::process::{self, Kernel, Memory, Usage};
use crate::timeline::{Point, Timeline, Work};

pub struct Sampler {
    began: Instant,
    pub timeline: Timeline,
    /// The run of the command, from 1.
    run: usize,
    /// Where the current interval began.
    last: Totals,
    /// When the threads were asked for their latencies, and the phase they belong to.
    asked: Option<(Instant, usize)>,
    memory: MemoryReader,
}

/// What only grows, at one instant.
struct Totals {
    at: Instant,
    logins: u64,
    messages: u64,
    deliveries: u64,
    errors: u64,
    /// The process, and what it has used.
    server: Option<(u32, Usage)>,
    generator_cpu: f64,
    machine_cpu: f64,
}

/// A thread answers within a turn, which takes as long as the time-out of its poll.
const ANSWER: Duration = Duration::from_millis(40);

impl Sampler {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            timeline: Timeline::default(),
            run: 0,
            last: Totals::begin(now, None),
            asked: None,
            memory: MemoryReader::default(),
        }
    }

    /// Begins to watch another set of threads, whose counters begin at zero.
    pub fn begin(&mut self, run: usize, server: Option<u32>) {
        self.run = run;
        self.last = Totals::begin(Instant::now(), server);
        self.asked = None;
    }

    /// One look at the threads and at the process that serves now; returns the point if an
    /// interval has ended by it.
    pub fn look(&mut self, board: &Board, server: Option<u32>, phase: &str) -> Option<&Point> {
        let now = Instant::now();
        let current = self.timeline.phases.len().checked_sub(1);
        let known = self.timeline.phases.last();
        if known.is_none_or(|known| known.name != phase || known.run != self.run) {
            let at = (now - self.began).as_secs_f64();
            self.timeline.begin(phase, self.run, at);
            // What has begun in another phase ends with it.
            if let Some(ended) = current.filter(|_| now > self.last.at) {
                self.ask(board, now, ended);
            }
        }
        match self.asked {
            None if now - self.last.at >= self.timeline.interval() => {
                self.ask(board, now, self.timeline.phases.len() - 1);
                None
            }
            Some((asked, phase)) if now - asked >= ANSWER => Some(self.close(board, server, phase)),
            _ => None,
        }
    }

    fn ask(&mut self, board: &Board, now: Instant, phase: usize) {
        if self.asked.is_none() {
            board.intervals.ask();
            self.asked = Some((now, phase));
        }
    }

    /// The threads have ended: closes the last interval and the last phase.
    pub fn end(&mut self, board: &Board, server: Option<u32>) {
        let now = Instant::now();
        self.timeline.end((now - self.began).as_secs_f64());
        if let Some(phase) = self.timeline.phases.len().checked_sub(1)
            && self.worth_a_point(now)
        {
            self.close(board, server, phase);
        }
    }

    /// A rate over a very short time says nothing.
    fn worth_a_point(&self, now: Instant) -> bool {
        now - self.last.at >= ANSWER * 2
    }

    fn close(&mut self, board: &Board, server: Option<u32>, phase: usize) -> &Point {
        let [login_times, message_times, presence_times] = board.intervals.take();
        let totals = Totals::read(board, server);
        let last = std::mem::replace(&mut self.last, totals);
        let now = &self.last;
        self.asked = None;
        let (server_memory, generator_memory) = self.memory.read(server);
        let server = work(last.server.as_ref(), now.server.as_ref());
        let generator_cpu = now.generator_cpu - last.generator_cpu;
        let machine_cpu = now.machine_cpu - last.machine_cpu;
        self.timeline.push(Point {
            at: (now.at - self.began).as_secs_f64(),
            seconds: (now.at - last.at).as_secs_f64(),
            phase,
            online: board.total(|row| &row.online),
            logins: now.logins.saturating_sub(last.logins),
            messages: now.messages.saturating_sub(last.messages),
            deliveries: now.deliveries.saturating_sub(last.deliveries),
            errors: now.errors.saturating_sub(last.errors),
            login_times,
            message_times,
            presence_times,
            server,
            generator: Work {
                cpu_seconds: generator_cpu,
                switches: 0.0,
            },
            others: server.map(|work| (machine_cpu - generator_cpu - work.cpu_seconds).max(0.0)),
            server_memory,
            generator_memory,
            kernel: Kernel::now(),
        });
        self.timeline.points.last().expect("it was just pushed")
    }
}

/// None where the process has ended or is another one.
fn work(before: Option<&(u32, Usage)>, after: Option<&(u32, Usage)>) -> Option<Work> {
    let ((then, before), (now, after)) = (before?, after?);
    let used = (then == now).then(|| after.since(before))?;
    Some(Work {
        cpu_seconds: used.cpu_seconds,
        switches: used.switches,
    })
}

impl Totals {
    fn begin(at: Instant, server: Option<u32>) -> Self {
        Self {
            at,
            logins: 0,
            messages: 0,
            deliveries: 0,
            errors: 0,
            server: server.and_then(|pid| Some((pid, Usage::of(pid)?))),
            generator_cpu: process::own_cpu_seconds(),
            machine_cpu: process::machine_cpu_seconds(),
        }
    }

    fn read(board: &Board, server: Option<u32>) -> Self {
        Self {
            logins: board.total(|row| &row.ready) + board.total(|row| &row.resumed),
            messages: board.total(|row| &row.received),
            deliveries: board.total(|row| &row.deliveries),
            errors: board.error_count(),
            ..Self::begin(Instant::now(), server)
        }
    }
}

/// Memory is read as often as it is cheap: the kernel walks all pages for it, and the server waits
/// meanwhile if it wants to map more.
#[derive(Default)]
struct MemoryReader {
    next: Option<Instant>,
}

/// The part of the time that reading memory may take.
const READING_SHARE: u32 = 40;

impl MemoryReader {
    fn read(&mut self, server: Option<u32>) -> (Option<Memory>, Option<Memory>) {
        let began = Instant::now();
        if self.next.is_some_and(|next| began < next) {
            return (None, None);
        }
        let memory = (server.and_then(Memory::of), Memory::of(std::process::id()));
        self.next = Some(began + pause(began.elapsed()));
        memory
    }
}

/// How long after a reading that took so long the next one may begin.
fn pause(took: Duration) -> Duration {
    took * READING_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn memory_is_read_in_every_interval_only_where_that_is_cheap() {
        assert!(pause(Duration::from_millis(5)) < Duration::from_millis(500));
        assert!(pause(Duration::from_millis(21)) > Duration::from_millis(500));
    }

    #[test]
    fn a_change_of_phase_ends_an_interval_and_counters_are_differences() {
        let board = Board::new(1);
        let mut sampler = Sampler::new();
        sampler.begin(1, None);
        assert!(sampler.look(&board, None, "logging in").is_none());
        board.rows[0].ready.store(30, Ordering::Relaxed);
        sampler.last.at -= Duration::from_secs(1);
        assert!(
            sampler.look(&board, None, "measuring").is_none(),
            "they were only asked"
        );
        assert_eq!(board.intervals.asked(), 1);
        sampler.asked.as_mut().unwrap().0 -= ANSWER;
        let point = sampler
            .look(&board, None, "measuring")
            .expect("they had their time");
        assert_eq!((point.logins, point.messages, point.phase), (30, 0, 0));
        board.rows[0].received.store(500, Ordering::Relaxed);
        sampler.last.at -= Duration::from_secs(1);
        sampler.end(&board, None);
        let point = sampler.timeline.points.last().unwrap();
        assert_eq!((point.logins, point.messages, point.phase), (0, 500, 1));
    }
}
