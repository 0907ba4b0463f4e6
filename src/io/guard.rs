//! The shard behind its guard: a panic costs one link, not the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::base::time::Now;
use crate::engine::{Effects, Input, LinkKey, Released, Shard};

/// A shard, the effects of this turn and the time of this turn.
pub(super) struct Guarded {
    shard: Shard,
    pub(super) effects: Effects,
    pub(super) now: Now,
    /// Links whose input made the shard panic, and those of what was lost by that: it has forgotten
    /// them, their sockets are to go.
    condemned: Vec<LinkKey>,
}

impl Guarded {
    pub(super) fn new(shard: Shard, effects: Effects, now: Now) -> Self {
        Self {
            shard,
            effects,
            now,
            condemned: Vec::new(),
        }
    }

    /// Feeds one input; `link` is whom it came from.
    pub(super) fn feed(&mut self, link: Option<LinkKey>, input: Input<'_>) {
        self.attempt(link, |shard, now, effects| {
            shard.handle(input, now, effects)
        });
    }

    /// Returns whether a deadline was due.
    pub(super) fn expire(&mut self) -> bool {
        // After a panic there is something to put in order, too.
        let mut worked = true;
        self.attempt(None, |shard, now, effects| {
            worked = shard.expire(now, effects);
        });
        worked
    }

    pub(super) fn wrote(&mut self, link: LinkKey, octets: usize) {
        self.attempt(Some(link), |shard, now, effects| {
            shard.wrote(link, octets, now, effects);
        });
    }

    pub(super) fn release(&mut self, link: LinkKey) -> Option<Box<Released>> {
        let mut released = None;
        self.attempt(Some(link), |shard, _, _| released = shard.release(link));
        released
    }

    pub(super) fn output(&self, link: LinkKey) -> &[u8] {
        self.shard.output(link)
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// See [`Shard::rest`].
    pub(super) fn rest(&mut self) {
        self.shard.rest();
        self.effects.rest();
    }

    /// The sockets that have to go without [`Input::Closed`].
    pub(super) fn take_condemned(&mut self) -> Vec<LinkKey> {
        std::mem::take(&mut self.condemned)
    }

    /// What earlier inputs of the turn asked for stays; what this one asked for goes.
    fn attempt(&mut self, link: Option<LinkKey>, act: impl FnOnce(&mut Shard, Now, &mut Effects)) {
        self.effects.seal();
        let (shard, effects, now) = (&mut self.shard, &mut self.effects, self.now);
        let outcome = catch_unwind(AssertUnwindSafe(|| act(shard, now, effects)));
        if outcome.is_err() {
            self.effects.unwind();
            self.recover(link);
        }
    }

    #[cold]
    fn recover(&mut self, link: Option<LinkKey>) {
        let shard = &mut self.shard;
        let sound = catch_unwind(AssertUnwindSafe(|| {
            let sockets = shard.abandon(link);
            shard.check();
            sockets
        }));
        let Ok(sockets) = sound else {
            fatal("a shard is not sound after a panic; what was acknowledged is in the journal");
        };
        tracing::error!(name = "panicked", link = ?link, "one input was dropped");
        self.condemned.extend(sockets);
    }
}

/// Ends the process: it recovers from the journal.
#[cold]
pub(super) fn fatal(reason: &str) -> ! {
    tracing::error!(name = "fatal", reason);
    eprintln!("encke: {reason}");
    std::process::exit(FATAL_EXIT_CODE)
}

/// `EX_SOFTWARE`.
const FATAL_EXIT_CODE: i32 = 70;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::limits::Limits;
    use crate::engine::{LinkEffect, Policy, Setup};
    use crate::store::MessageId;

    fn guarded() -> Guarded {
        let policy = Policy {
            domains: vec!["localhost".into()],
            admins: Vec::new(),
            require_tls: false,
            offer_tls: false,
            contacts: Vec::new(),
            http: Default::default(),
            limits: Limits::default(),
            secret: [0; 32],
        };
        let shard = Shard::new(Setup {
            shard: 0,
            shards: 1,
            policy: Arc::new(policy),
            hash_key: [0; 16],
            seed: [0; 32],
            next_id: MessageId(1),
        });
        Guarded::new(shard, Effects::new(1), Now::default())
    }

    #[test]
    fn a_panic_drops_the_effects_of_its_input_and_condemns_its_link() {
        let mut guarded = guarded();
        let (other, culprit) = (LinkKey::from_bits(1), LinkKey::from_bits(2));
        guarded.attempt(Some(other), |_, _, effects| {
            effects.link(other, LinkEffect::Flush);
        });
        guarded.attempt(Some(culprit), |_, _, effects| {
            effects.link(culprit, LinkEffect::Flush);
            panic!("planted");
        });
        assert_eq!(guarded.effects.links, [(other, LinkEffect::Flush)]);
        assert_eq!(guarded.take_condemned(), [culprit]);
        assert_eq!(guarded.shard().report().panics, 1);
    }
}
