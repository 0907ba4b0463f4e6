//! Links that carry the events of a session of the JSON protocol: one answer without end, or a
//! WebSocket.
//!
//! A session gives a link as much as it has room for, and more when it has taken that. A link that
//! takes nothing for long is closed, and its reader comes again and says where it was.

use super::conn_of;
use crate::base::time::Now;
use crate::engine::links::{Link, Reading, Stream};
use crate::engine::shard::Shard;
use crate::engine::tube::json;
use crate::session::effects::{Effects, LinkEffect, LinkKey};
use crate::session::queue::Queue;
use crate::transport::framing::Framing;
use crate::transport::http::answer::Coding;
use crate::transport::http::{Answer, Status};
use crate::transport::json::event::{self, Event};
use crate::transport::websocket::{Code, encode};

/// The type of a stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// How long a browser waits before it comes again. Ours ends streams when it stops, and then needs
/// a moment.
const RETRY_MILLISECONDS: u32 = 2_000;
/// Pings without any answer after which nobody is taken to be there: before a session takes what it
/// gave to be with its reader.
const PINGS_MAX: u8 = 1;

/// A reader's link.
pub struct Events {
    pub queue: Queue,
    /// The tube of its session.
    pub session: LinkKey,
    /// Nothing of what is due was taken since the last sign of life.
    pub is_stuck: bool,
    /// Its session waits until everything was taken.
    is_awaited: bool,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Answer(Coding),
    WebSocket {
        /// Pings since something came.
        pings: u8,
    },
}

/// The request of a link is a reader from here on.
pub fn begin(shard: &mut Shard, key: LinkKey, session: LinkKey, fx: &mut Effects) {
    let Some(conn) = conn_of(&mut shard.links, key) else {
        return;
    };
    let Some(awaited) = conn.awaiting.take() else {
        return;
    };
    let mut queue = std::mem::take(&mut conn.queue);
    let mut coding = Coding::Nothing;
    queue.append_octets(&mut shard.core.pool, |out| match &awaited.agreement {
        Some(agreement) => agreement.write(out),
        None => {
            let answer = Answer::new(out, Status::Ok, awaited.manner.closing());
            // A proxy that collects whole buffers would keep events back.
            let answer = awaited.allow(answer).field("X-Accel-Buffering", "no");
            coding = answer.stream(EVENT_STREAM);
            let mut retry = Vec::with_capacity(16);
            event::write_retry(&mut retry, RETRY_MILLISECONDS);
            coding.chunk(&retry, out);
        }
    });
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    let form = match awaited.agreement {
        Some(_) => Form::WebSocket { pings: 0 },
        None => Form::Answer(coding),
    };
    if awaited.agreement.is_some() {
        link.framing = Framing::WebSocket;
    }
    // What comes behind a request for an answer without end is thrown away: not to read it would
    // mean not to hear that the reader has gone.
    link.reading = Reading::On;
    link.stream = Stream::Events(Box::new(Events {
        queue,
        session,
        is_stuck: false,
        is_awaited: false,
        form,
    }));
    // Whoever reads has shown whose session it is, and may read in as many tabs as it allows.
    fx.link(key, LinkEffect::Authenticated);
    fx.link(key, LinkEffect::Flush);
}

/// Appends an event for a reader. Returns whether the reader is still there.
pub fn write(shard: &mut Shard, key: LinkKey, event: &Event, fx: &mut Effects) -> bool {
    let unsent_max = shard.core.policy.limits.link_output_octets_max;
    let Some(Stream::Events(events)) = shard.links.get_mut(key).map(|link| &mut link.stream) else {
        return false;
    };
    // One event may be longer than that, and to who has taken all before it.
    let is_slow = events.queue.unsent_octets() > unsent_max;
    let pool = &mut shard.core.pool;
    match events.form {
        Form::WebSocket { .. } => events
            .queue
            .append_octets(pool, |out| event.write_websocket(out)),
        Form::Answer(coding) => {
            let mut block = pool.take();
            event.write_stream(&mut block);
            events
                .queue
                .append_octets(pool, |out| coding.chunk(&block, out));
            pool.give(block);
        }
    }
    let effect = match is_slow {
        true => LinkEffect::Abort,
        false => LinkEffect::Flush,
    };
    fx.link(key, effect);
    !is_slow
}

/// A reader gets no more.
pub fn end(shard: &mut Shard, key: LinkKey, fx: &mut Effects) {
    let Some(link) = shard.links.get_mut(key) else {
        return;
    };
    let Stream::Events(events) = &mut link.stream else {
        return;
    };
    let mut queue = std::mem::take(&mut events.queue);
    let form = events.form;
    queue.append_octets(&mut shard.core.pool, |out| match form {
        Form::Answer(coding) => coding.last_chunk(out),
        Form::WebSocket { .. } => encode::write_close(out, Some(Code::NORMAL), ""),
    });
    link.close_with(queue, key, fx);
}

/// Shows a reader, and the proxies before it, that somebody is here.
pub fn show_life(shard: &mut Shard, key: LinkKey, fx: &mut Effects) {
    let Some(Stream::Events(events)) = shard.links.get_mut(key).map(|link| &mut link.stream) else {
        return;
    };
    if events.is_stuck {
        return fx.link(key, LinkEffect::Abort);
    }
    events.is_stuck = events.queue.unsent_octets() > 0;
    let pool = &mut shard.core.pool;
    match &mut events.form {
        Form::Answer(coding) => {
            let coding = *coding;
            let mut comment = Vec::with_capacity(4);
            event::write_alive(&mut comment);
            events
                .queue
                .append_octets(pool, |out| coding.chunk(&comment, out));
        }
        Form::WebSocket { pings } if *pings >= PINGS_MAX => {
            return fx.link(key, LinkEffect::Abort);
        }
        Form::WebSocket { pings } => {
            *pings += 1;
            events
                .queue
                .append_octets(pool, |out| encode::write_ping(out, b""));
        }
    }
    fx.link(key, LinkEffect::Flush);
}

/// Octets were taken. When all were, there is room for more.
pub fn wrote(shard: &mut Shard, key: LinkKey, octets: usize, now: Now, fx: &mut Effects) {
    let Some(Stream::Events(events)) = shard.links.get_mut(key).map(|link| &mut link.stream) else {
        return;
    };
    events.queue.wrote(&mut shard.core.pool, octets, |_| ());
    events.is_stuck &= octets == 0;
    if events.is_awaited && events.queue.unsent_octets() == 0 {
        events.is_awaited = false;
        let session = events.session;
        json::taken(shard, session, now, fx);
    }
}

/// The session is told when the link has taken everything.
pub fn await_room(shard: &mut Shard, key: LinkKey) {
    if let Some(Stream::Events(events)) = shard.links.get_mut(key).map(|link| &mut link.stream) {
        events.is_awaited = true;
    }
}

/// Whether a reader's link has taken everything that it was given.
pub fn has_taken_all(shard: &Shard, key: LinkKey) -> bool {
    let link = shard.links.get(key).map(|link| &link.stream);
    matches!(link, Some(Stream::Events(events)) if events.queue.unsent_octets() == 0)
}

/// Something came from a reader. Returns its session.
pub fn heard(link: &mut Link) -> Option<LinkKey> {
    let Stream::Events(events) = &mut link.stream else {
        return None;
    };
    if let Form::WebSocket { pings } = &mut events.form {
        *pings = 0;
    }
    Some(events.session)
}

/// The socket is gone.
pub fn closed(shard: &mut Shard, key: LinkKey, mut events: Events, now: Now, fx: &mut Effects) {
    let has_all = events.queue.unsent_octets() == 0;
    events.queue.discard(&mut shard.core.pool);
    json::gone(shard, events.session, key, has_all, now, fx);
}
