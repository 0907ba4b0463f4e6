//! The sleeping flag of a mailbox under a model checker: every interleaving and every reordering
//! that the memory model allows. It compiles the server's own file.

mod atomic {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[path = "../src/io/bell.rs"]
#[allow(dead_code)]
mod bell;

use std::sync::Arc;

use bell::Bell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// A queue by its two counters, each written by one side, and an owner that sleeps.
struct Mailbox {
    pushed: AtomicUsize,
    wakes: AtomicUsize,
    bell: Bell,
}

impl Mailbox {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pushed: AtomicUsize::new(0),
            wakes: AtomicUsize::new(0),
            bell: Bell::new(),
        })
    }

    /// As `Inlet::post`.
    fn post(&self) {
        self.pushed.fetch_add(1, Ordering::Release);
        if self.bell.ring() {
            self.wakes.fetch_add(1, Ordering::Release);
        }
    }
}

/// One turn of the owner, up to the moment when it would sleep.
fn would_sleep(mailbox: &Mailbox, taken: &mut usize) -> bool {
    mailbox.bell.get_up();
    *taken = mailbox.pushed.load(Ordering::Acquire);
    mailbox.bell.lie_down();
    mailbox.pushed.load(Ordering::Acquire) == *taken
}

/// Preemptions in one interleaving; more find nothing and take minutes.
const PREEMPTIONS_MAX: usize = 3;

/// If the owner sleeps on a queue that has something, somebody wakes it.
fn nothing_is_slept_through(posters: usize, turns: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(move || {
        let mailbox = Mailbox::new();
        let threads: Vec<_> = (0..posters)
            .map(|_| {
                let mailbox = mailbox.clone();
                thread::spawn(move || mailbox.post())
            })
            .collect();
        let mut taken = 0;
        let mut sleeps = false;
        for _ in 0..turns {
            let wakes = mailbox.wakes.load(Ordering::Acquire);
            sleeps = would_sleep(&mailbox, &mut taken) && wakes == 0;
            if sleeps {
                break;
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        if sleeps && taken < posters {
            let wakes = mailbox.wakes.load(Ordering::Acquire);
            assert!(
                wakes > 0,
                "{taken} of {posters} taken, and nobody wakes the owner"
            );
        }
    });
}

#[test]
fn one_poster_never_meets_a_deaf_sleeper() {
    nothing_is_slept_through(1, 3);
}

#[test]
fn two_posters_never_meet_a_deaf_sleeper() {
    nothing_is_slept_through(2, 2);
}

#[test]
fn of_two_posters_one_wakes() {
    loom::model(|| {
        let mailbox = Mailbox::new();
        mailbox.bell.lie_down();
        let other = mailbox.clone();
        let thread = thread::spawn(move || other.post());
        mailbox.post();
        thread.join().unwrap();
        assert_eq!(mailbox.wakes.load(Ordering::Acquire), 1);
    });
}
