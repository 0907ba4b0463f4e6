//! SIGTERM: everybody is told, nothing acknowledged is lost, and sessions that can be resumed are
//! written down for the next process (P7).

use super::lifecycle::{self, Farewell};
use super::links::{Reading, Stream};
use super::shard::Shard;
use super::{http, login, management, route, tube};
use crate::base::time::Now;
use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Return, Revival, Waiter};
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::record;
use crate::session::session::{Session, SessionKey};
use crate::store::{Change, Head, Kind, MessageId, Op, Ops, Require, TicketKey};
use crate::xmpp::error::{Condition, StreamError};
use crate::xmpp::stanza::Traits;

/// Says goodbye to everybody who cannot come back. The others are not heard any more, and stay
/// until [`write_down_all`]: what is under way still reaches them.
pub fn stop(shard: &mut Shard, now: Now, fx: &mut Effects) {
    shard.stopping = true;
    tube::json::stop(shard, now, fx);
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    let sessions = ctx.core.sessions.iter();
    let gone = sessions.filter(|(_, session)| !session.is_resumable());
    for key in gone.map(|(key, _)| key).collect::<Vec<SessionKey>>() {
        lifecycle::end(&mut ctx, key, Farewell::Error(StreamError::SystemShutdown));
    }
    route::drain_local(&mut ctx);
    shard.adopt_orphans(fx);
    let bound = shard.core.sessions.iter();
    for key in bound.filter_map(|(_, session)| session.link) {
        if let Some(link) = shard.links.get_mut(key) {
            link.reading = Reading::Off;
        }
    }
    // Goodbyes over BOSH that nobody has come for.
    let closing = shard
        .links
        .iter()
        .filter(|(key, link)| key.is_marked() && matches!(link.stream, Stream::Closing(_)));
    fx.tubes
        .extend(closing.map(|(key, _)| (key, LinkEffect::Close)));
    let unbound: Vec<LinkKey> = shard
        .links
        .iter()
        .filter(|(_, link)| matches!(link.stream, Stream::Login(_) | Stream::Http(_)))
        .map(|(key, _)| key)
        .collect();
    for key in unbound {
        if !http::stop(shard, key, fx) {
            shard.fail(key, StreamError::SystemShutdown, now, fx);
        }
    }
}

/// Writes down who may come back. Every shard has stopped by now, and what they and storage had to
/// tell each other came, or had its time: in the record is who went and what was answered.
pub fn write_down_all(shard: &mut Shard, now: Now, fx: &mut Effects) {
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    let sessions = ctx.core.sessions.iter();
    for key in sessions.map(|(key, _)| key).collect::<Vec<SessionKey>>() {
        write_down(&mut ctx, key);
    }
}

/// Answers the requests that storage has not answered: `h` covers them, so their clients would not
/// ask again, and a later answer would find nobody. It is not waited for any more.
pub fn refuse_waiting(shard: &mut Shard, now: Now, fx: &mut Effects) {
    let waiters = shard.core.waiters.iter();
    let asked = waiters.filter_map(|(key, (waiter, _))| match waiter {
        Waiter::Feature { kept, .. } => Some((key, kept.way_back()?.clone())),
        _ => None,
    });
    let asked: Vec<(TicketKey, Return)> = asked.collect();
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    for (key, back) in asked {
        ctx.core.waiters.remove(key);
        ctx.refuse_to(&back, Condition::ResourceConstraint);
    }
    route::drain_local(&mut ctx);
}

/// Puts a session on record and lets go of it without a word to its contacts: it comes back.
fn write_down(ctx: &mut Ctx<'_>, key: SessionKey) {
    management::acknowledge(ctx, key);
    ctx.release_held(key);
    let Some(mut session) = ctx.core.sessions.remove(key) else {
        return;
    };
    let Some(account) = ctx.core.accounts.get_mut(session.account) else {
        return;
    };
    account.sessions.retain(|other| *other != key);
    account.draining.take_if(|draining| draining.session == key);
    let jid = account.jid.clone();
    if let Some((stream, written)) = record::encode(&session) {
        ctx.tell(|ops| {
            let owner = ops.keep(jid.as_bytes());
            let row = ops.keep(&stream.0.to_be_bytes());
            let value = ops.keep(&written);
            let put = Change::Put {
                owner,
                kind: Kind::Session,
                key: row,
                value,
            };
            Op::Write {
                require: Require::Nothing,
                changes: vec![put],
            }
        });
    }
    let Some(link) = session.link.take() else {
        return session.queue.discard(&mut ctx.core.pool);
    };
    session.queue.append(&mut ctx.core.pool, |out| {
        StreamError::SystemShutdown.write(out);
        out.extend_from_slice(b"</stream:stream>");
    });
    let queue = std::mem::take(&mut session.queue);
    ctx.core.orphans.push((link, queue, session.jid));
}

/// Begins to take up a session that the former process wrote down: its account comes first.
pub fn revive(ctx: &mut Ctx<'_>, revival: Revival) {
    let owner = revival.owner.clone();
    ctx.ask(Waiter::Revive(Box::new(revival)), |ops| Op::Head {
        owner: ops.keep(owner.as_bytes()),
    });
}

/// The account of a written session is known. The row goes: from here on the session is in memory,
/// and what was promised of its messages is in the journal. Nobody goes on with the session before
/// the row is gone for good: after a crash it would come back as it was then, and what its client
/// has counted since would acknowledge other stanzas.
pub fn revived(ctx: &mut Ctx<'_>, revival: &Revival, head: Box<Head>) {
    let Revival {
        owner,
        stream,
        record: written,
    } = revival;
    let forget = |ops: &mut Ops| {
        let owner = ops.keep(owner.as_bytes());
        let delete = Change::Delete {
            owner,
            kind: Kind::Session,
            key: ops.keep(&stream.0.to_be_bytes()),
        };
        Op::Write {
            require: Require::Nothing,
            changes: vec![delete],
        }
    };
    if head.credentials.is_none() {
        return ctx.tell(forget);
    }
    let account = login::admit_account(ctx, owner, head);
    let pool = &mut ctx.core.pool;
    let Some(mut session) = record::decode(written, account, owner, *stream, pool) else {
        return ctx.tell(forget);
    };
    if let Some(management) = session.management.as_deref_mut() {
        management.on_record = true;
    }
    let taken = ctx.sessions_of(account).into_iter().any(|key| {
        ctx.session(key)
            .is_some_and(|other| other.resource() == session.resource())
    });
    let key = ctx.core.sessions.insert(session);
    ctx.ask(Waiter::Unwritten(key), forget);
    count_copies(ctx, account, key);
    if let Some(entry) = ctx.core.accounts.get_mut(account) {
        entry.sessions.push(key);
    }
    if taken {
        // Its client has begun anew: what it lacks goes to the offline store.
        return lifecycle::end(ctx, key, Farewell::Silent);
    }
    lifecycle::detach(ctx, key);
    // What waited for it goes into its queue before anything new does.
    if ctx.session(key).is_some_and(|s| s.takes_messages()) {
        ctx.drain_offline(key);
    }
}

/// Journaled messages that other revived sessions hold, too, are settled by the last of them.
fn count_copies(ctx: &mut Ctx<'_>, account: AccountKey, key: SessionKey) {
    let Some(session) = ctx.session(key) else {
        return;
    };
    let journaled = |session: &Session| -> Vec<MessageId> {
        let marks = session.queue.open().map(|(mark, _)| mark);
        let marks = marks.filter(|mark| mark.traits.has(Traits::JOURNALED));
        marks.map(|mark| mark.id).collect()
    };
    let others = ctx.sessions_of(account).into_iter();
    let others: Vec<MessageId> = others
        .filter_map(|other| ctx.session(other))
        .flat_map(journaled)
        .collect();
    for id in journaled(session) {
        if others.contains(&id) {
            *ctx.core.copies.entry(id).or_insert(1) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

    fn token(got: &[String]) -> String {
        let enabled = got.iter().find(|e| e.starts_with("<enabled")).unwrap();
        let id = enabled.split_once("id='").unwrap().1;
        id.split_once('\'').unwrap().0.to_owned()
    }

    /// `h` covers it, so the client does not ask again.
    #[test]
    fn a_request_that_storage_does_not_answer_is_refused_before_the_session_is_written_down() {
        let mut world = World::with_online(["romeo@localhost/orchard"]);
        world.sends("romeo", ENABLE);
        let previd = token(&world.receives("romeo"));
        world.stall(true);
        let set = "<iq type='set' id='s'><vCard xmlns='vcard-temp'><FN>R</FN></vCard></iq>";
        world.sends("romeo", set);
        assert_eq!(world.receives("romeo"), [""; 0]);
        world.stop();
        world.authenticates("romeo@localhost/orchard");
        world.sends(
            "romeo",
            &format!("<resume xmlns='urn:xmpp:sm:3' previd='{previd}' h='0'/>"),
        );
        let got = world.receives("romeo").concat();
        assert!(got.contains("<resumed") && got.contains("h='1'"), "{got}");
        assert!(
            got.contains("type='error'") && got.contains("id='s'"),
            "{got}"
        );
    }
}
