//! Whoever is there goes before who is not: where an account has as many sessions as it may, those
//! that wait for a client which may never come make room for a new one.

use std::time::Duration;

use super::lifecycle::{self, Farewell};
use super::route;
use super::shard::Shard;
use super::tube::json;
use crate::base::time::{Moment, Now};
use crate::session::ctx::Ctx;
use crate::session::effects::Effects;
use crate::session::session::{Session, SessionKey};

/// A client may be between two polls, or on its way to another link.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends sessions of an account, those first that nobody has read for longest, until one more has
/// room: in order, as when their time is over. One that somebody reads never ends so.
pub fn make_room(shard: &mut Shard, account: &str, resource: &str, now: Now, fx: &mut Effects) {
    let maximum = shard.core.policy.limits.sessions_per_account_max;
    let Some(account) = shard.core.accounts.find(account) else {
        return;
    };
    loop {
        let Some(entry) = shard.core.accounts.get(account) else {
            return;
        };
        let count = entry.sessions.len();
        let session = |key: &SessionKey| shard.core.session(*key);
        let is_same = |session: &Session| session.resource() == resource;
        // The former one of the same name goes anyway.
        if count < maximum || entry.sessions.iter().filter_map(session).any(is_same) {
            return;
        }
        let waiting = entry.sessions.iter().filter_map(|key| {
            let since = waits_since(shard, session(key)?)?;
            (since.after(PATIENCE) <= now.mono).then_some((since, *key))
        });
        let Some((_, oldest)) = waiting.min_by_key(|(since, _)| *since) else {
            return;
        };
        end(shard, oldest, now, fx);
        let entry = shard.core.accounts.get(account);
        if entry.is_none_or(|entry| entry.sessions.len() >= count) {
            return;
        }
    }
}

/// Since when nobody has read a session that somebody may come back to.
fn waits_since(shard: &Shard, session: &Session) -> Option<Moment> {
    match session.link {
        Some(tube) => json::unread_since(shard, tube),
        None => {
            let management = session.management.as_deref()?;
            let waits = management.resuming.is_none();
            waits.then_some(management.detached)
        }
    }
}

fn end(shard: &mut Shard, key: SessionKey, now: Now, fx: &mut Effects) {
    let link = shard.core.session(key).and_then(|session| session.link);
    if let Some(tube) = link {
        return json::give_up(shard, tube, now, fx);
    }
    let core = &mut shard.core;
    let mut ctx = Ctx { core, fx, now };
    lifecycle::end(&mut ctx, key, Farewell::Silent);
    route::drain_local(&mut ctx);
    shard.adopt_orphans(fx);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use crate::testing::{Plan, World};

    const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

    /// Romeo may have two sessions; juliet sees him.
    fn world() -> World {
        let mut world = World::new(Plan {
            limits: Limits {
                sessions_per_account_max: 2,
                ..Limits::default()
            },
            accounts: vec!["romeo@localhost".into(), "juliet@localhost".into()],
            ..Plan::default()
        });
        for jid in ["romeo@localhost/a", "romeo@localhost/b"] {
            world.logs_in(jid);
            world.sends(jid, ENABLE);
        }
        world
    }

    /// Whether a third session of romeo's finds room.
    fn finds_room(world: &mut World) -> bool {
        world.authenticates("romeo@localhost/c");
        world.sends(
            "romeo@localhost/c",
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>c</resource></bind></iq>",
        );
        let got = world.receives("romeo@localhost/c").concat();
        world.cuts("romeo@localhost/c");
        got.contains("<jid>romeo@localhost/c</jid>")
    }

    #[test]
    fn who_waits_to_be_resumed_makes_room() {
        let mut world = world();
        world.cuts("romeo@localhost/b");
        assert!(!finds_room(&mut world), "it is gone for a moment only");
        world.advance(PATIENCE);
        assert!(finds_room(&mut world));
        world.sends("romeo@localhost/a", "<r xmlns='urn:xmpp:sm:3'/>");
        let got = world.receives("romeo@localhost/a").concat();
        assert!(got.contains("<a "), "who is there stays: {got}");
    }

    #[test]
    fn who_is_there_makes_none() {
        let mut world = world();
        world.advance(PATIENCE * 4);
        assert!(!finds_room(&mut world));
    }
}
