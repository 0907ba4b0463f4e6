//! XEP-0198 section 5: a session goes on, on another link.

use super::lifecycle;
use super::links::{Stream, login_of};
use super::login::{take_queue, wait};
use super::management;
use super::shard::Shard;
use crate::base::time::{Moment, Now};
use crate::session::ctx::Ctx;
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::queue::Queue;
use crate::session::session::{Asked, Flags, SessionKey};
use crate::store::StreamId;
use crate::stream::resume;
use crate::xmpp::error::{Condition, StreamError};

/// Resumes the session that is asked for, at once or as soon as the journal has what it took and
/// the store no longer has its record.
pub fn resume(shard: &mut Shard, asked: Asked, now: Now, fx: &mut Effects) {
    let Some(session) = find(shard, &asked, now, fx) else {
        return;
    };
    let sessions = &mut shard.core.sessions;
    let management = sessions.get_mut(session);
    let management = management.and_then(|session| session.management.as_deref_mut());
    let Some(management) = management.filter(|management| !management.is_settled()) else {
        return take_over(shard, session, &asked, now, fx);
    };
    // What was taken is told in `h` when it is durable. Told less, the client would send again what
    // reaches its receivers anyway.
    let link = asked.link;
    let former = management.resuming.replace(Box::new(asked));
    wait(shard, link, fx);
    if let Some(former) = former.filter(|former| former.link != link) {
        shard.fail(former.link, StreamError::Conflict, now, fx);
    }
}

/// The journal has something of a session: perhaps all that its client waits for.
pub fn committed(shard: &mut Shard, session: SessionKey, now: Now, fx: &mut Effects) {
    let entry = shard.core.sessions.get_mut(session);
    let management = entry.and_then(|session| session.management.as_deref_mut());
    let Some(management) = management.filter(|management| management.is_settled()) else {
        return;
    };
    if let Some(asked) = management.resuming.take() {
        let link = asked.link;
        resume(shard, *asked, now, fx);
        shard.read_on(link, now, fx);
    }
}

/// The store has no record of a session any more.
pub fn unwritten(shard: &mut Shard, session: SessionKey, now: Now, fx: &mut Effects) {
    let entry = shard.core.sessions.get_mut(session);
    if let Some(management) = entry.and_then(|session| session.management.as_deref_mut()) {
        management.on_record = false;
    }
    committed(shard, session, now, fx);
}

/// The session that is asked for; where there is none, its client is told so.
fn find(shard: &mut Shard, asked: &Asked, now: Now, fx: &mut Effects) -> Option<SessionKey> {
    let login = login_of(&mut shard.links, asked.link)?;
    let account = login.negotiation.account()?.as_str().to_owned();
    let stream = u128::from_str_radix(&asked.previd, 16).ok();
    let stream = stream.filter(|_| asked.previd.len() == 32).map(StreamId);
    let ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    let found = ctx.accounts.find(&account).zip(stream);
    let session = found.and_then(|(account, id)| lifecycle::find_stream(&ctx, account, id));
    if session.is_none() {
        let known = stream.and_then(|stream| shard.lost.get(&stream).copied());
        refuse(shard, asked.link, known, fx);
    }
    session
}

/// The session goes on, on the link that asked.
fn take_over(shard: &mut Shard, session: SessionKey, asked: &Asked, now: Now, fx: &mut Effects) {
    let mut ctx = Ctx {
        core: &mut shard.core,
        fx,
        now,
    };
    if let Err(error) = management::acknowledged(&mut ctx, session, asked.handled) {
        return shard.fail(asked.link, error, now, fx);
    }
    let Some((_, mut greeting)) = take_queue(shard, asked.link) else {
        return;
    };
    let core = &mut shard.core;
    let Some(entry) = core.sessions.get_mut(session) else {
        return;
    };
    let former = entry.link.replace(asked.link);
    entry.flags.clear(Flags::PAUSED);
    // A resumed stream begins active (XEP-0352 section 5.2).
    entry.flags.clear(Flags::INACTIVE);
    let Some(management) = entry.management.as_deref_mut() else {
        return;
    };
    management.detached = Moment(u64::MAX);
    management.told = management.handled();
    let told = management.told;
    greeting.append(&mut core.pool, |out| {
        resume::write_resumed(out, &asked.previd, told);
    });
    let (pool, framing) = (&mut core.pool, greeting.framing());
    entry.queue.replay(pool, framing, greeting.output());
    greeting.discard(&mut core.pool);
    if let Some(link) = shard.links.get_mut(asked.link) {
        link.stream = Stream::Bound(session);
    }
    fx.link(asked.link, LinkEffect::Flush);
    let core = &mut shard.core;
    let mut ctx = Ctx { core, fx, now };
    ctx.release_held(session);
    if ctx.session(session).is_some_and(|s| s.takes_messages()) {
        ctx.drain_offline(session);
    }
    if let Some(former) = former {
        replace_link(shard, former, fx);
    }
}

/// The link that a resumed session had is closed with `conflict`.
fn replace_link(shard: &mut Shard, former: LinkKey, fx: &mut Effects) {
    let Some(link) = shard.links.get_mut(former) else {
        return;
    };
    let mut queue = Queue::framed(link.framing);
    queue.append(&mut shard.core.pool, |out| {
        StreamError::Conflict.write(out);
        out.extend_from_slice(b"</stream:stream>");
    });
    link.close_with(queue, former, fx);
}

/// The client may bind instead. `h` as far as the journal knows it.
fn refuse(shard: &mut Shard, key: LinkKey, handled: Option<u32>, fx: &mut Effects) {
    let Some(login) = login_of(&mut shard.links, key) else {
        return;
    };
    let mut out = Vec::new();
    login
        .negotiation
        .not_resumed(Condition::ItemNotFound, handled, &mut out);
    login
        .queue
        .append(&mut shard.core.pool, |queue| queue.extend_from_slice(&out));
    fx.link(key, LinkEffect::Flush);
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
    const MESSAGE: &str =
        "<message to='juliet@localhost' type='chat' id='m'><body>once</body></message>";

    /// Romeo has lost his link while the journal had not taken his message; and what resumes him.
    fn cut_in_time() -> (World, String) {
        let mut world = World::with_online(["romeo@localhost/a", "juliet@localhost/b"]);
        // Nothing is settled before she acknowledges it.
        world.sends("juliet", ENABLE);
        world.sends("romeo", ENABLE);
        let got = world.receives("romeo").concat();
        let token = got.split_once("id='").unwrap().1;
        let token = token.split_once('\'').unwrap().0.to_owned();
        world.stall(true);
        world.sends("romeo", MESSAGE);
        world.cuts("romeo");
        world.authenticates("romeo@localhost/a");
        let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{token}' h='0'/>");
        (world, resume)
    }

    #[test]
    fn what_was_taken_is_told_when_it_is_durable_and_need_not_come_again() {
        let (mut world, resume) = cut_in_time();
        // The next stanza stands behind the question, and waits with it.
        world.sends("romeo", &format!("{resume}<r xmlns='urn:xmpp:sm:3'/>"));
        assert_eq!(world.receives("romeo"), [""; 0]);
        world.stall(false);
        world.commit();
        world.settle();
        let got = world.receives("romeo").concat();
        assert!(got.contains("<resumed") && got.contains("h='1'"), "{got}");
        assert_eq!(got.matches("h='1'").count(), 2, "{got}");
        let messages = world.receives("juliet").concat();
        assert_eq!(messages.matches("once").count(), 1, "{messages}");
    }

    #[test]
    fn who_asks_last_is_resumed() {
        let (mut world, resume) = cut_in_time();
        world.sends("romeo", &resume);
        world.authenticates("romeo@localhost/a");
        world.sends("romeo", &resume);
        world.stall(false);
        world.commit();
        world.settle();
        let got = world.receives("romeo").concat();
        assert!(got.contains("<resumed") && got.contains("h='1'"), "{got}");
        world.check();
    }

    #[test]
    fn who_gives_up_waiting_can_be_resumed_later() {
        let (mut world, resume) = cut_in_time();
        world.sends("romeo", &resume);
        world.cuts("romeo");
        world.stall(false);
        world.commit();
        world.settle();
        world.authenticates("romeo@localhost/a");
        world.sends("romeo", &resume);
        let got = world.receives("romeo").concat();
        assert!(got.contains("<resumed") && got.contains("h='1'"), "{got}");
        world.check();
    }
}
