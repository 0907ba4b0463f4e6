//! The sleeping flag of a mailbox: who posts wakes the owner only if it sleeps.
//!
//! The atomics come from the parent module, so that `tests/mailbox_model.rs` can compile this very
//! file against a model checker.

use super::atomic::{AtomicBool, Ordering, fence};

/// Tells whether the owner of a queue sleeps.
///
/// The owner calls [`Bell::lie_down`], looks at its queue **once more**, and only then sleeps. Who
/// posts pushes first and then calls [`Bell::ring`].
///
/// Why no wake-up is lost: the owner stores `true`, passes fence C, reads the queue; who posts
/// writes the queue, passes fence P, loads the flag. Both fences are sequentially consistent, so
/// one comes first. If P does, the owner's look at the queue sees the post and it does not sleep.
/// If C does, the load sees `true` and the owner is woken. Either suffices, and without the fences
/// both reads could be served before the stores are seen (store buffering).
pub struct Bell {
    asleep: AtomicBool,
}

impl Bell {
    /// The owner is awake.
    pub fn new() -> Self {
        Self {
            asleep: AtomicBool::new(false),
        }
    }

    /// The owner is about to sleep. It must look at its queue after this and before sleeping.
    pub fn lie_down(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake and will look at its queue before it lies down again.
    pub fn get_up(&self) {
        // Relaxed: a late `true` costs a needless wake-up; the next `lie_down` orders the rest.
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// After a post: whether the caller has to wake the owner. Of many callers one is told so.
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load keeps the cache line shared while the owner is awake, which is the usual case.
        // An exchange that fails stores nothing, so only an owner that lay down can be taken up.
        self.asleep.load(Ordering::Relaxed)
            && self
                .asleep
                .compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
