//! Streams without a socket of their own: their octets come in requests of HTTP.
//!
//! A tube stands where a link's socket would. Its link has a key of the engine's own, and its
//! stream reads and writes as on TCP; what is between the stream and the requests is the matter of
//! [`bosh`] and [`json`]. Link effects for tubes never reach the reactor: they are carried out
//! here, before their input ends.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::quality::RandomState;

use super::links::{Reading, login_of};
use super::shard::Shard;
use super::{backoff, http};
use crate::base::time::Now;
use crate::session::ctx::Core;
use crate::session::effects::{Effects, LinkKey};
use crate::session::parcel::Letter;

/// XMPP over BOSH.
pub mod bosh;
/// Sessions of encke's own protocol.
pub mod json;

/// The tubes of a shard.
#[derive(Default)]
pub struct Tubes {
    pub bosh: bosh::Sessions,
    pub json: json::Sessions,
    /// Tubes of an address that has not said who it is.
    unproven: HashMap<IpAddr, usize, RandomState>,
    scratch: Vec<u8>,
}

/// Whether there is room for one more tube.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    NotForThisAddress,
    None,
}

/// Who is at the other end of a tube.
pub struct Guest {
    peer: IpAddr,
    /// Whether it counts in [`Tubes::unproven`], which only its birthplace knows.
    is_unproven: bool,
}

impl Tubes {
    /// Gives back what a burst needed.
    pub fn rest(&mut self) {
        self.scratch = Vec::new();
        self.bosh.rest();
        self.unproven.shrink_to_fit();
    }

    /// Entries of all lists.
    pub fn entries(&self) -> usize {
        self.bosh.entries() + self.json.entries() + self.unproven.len()
    }

    /// Whether there is room for one more, of anybody and of this address. A tube has no socket
    /// that could be counted, so tubes are bounded as sockets are.
    fn room(&self, peer: IpAddr, core: &Core) -> Room {
        let limits = &core.policy.limits;
        let of_address = self.unproven.get(&peer).copied().unwrap_or(0);
        let share = limits.links_max / usize::from(core.shards.max(1));
        let reached = |bound: usize, count: usize| bound > 0 && count >= bound;
        let here = self.bosh.count() + self.json.count();
        match reached(limits.links_per_address_max, of_address) {
            true => Room::NotForThisAddress,
            false if reached(share, here) => Room::None,
            false => Room::Free,
        }
    }

    fn admit(&mut self, peer: IpAddr) -> Guest {
        *self.unproven.entry(peer).or_default() += 1;
        Guest {
            peer,
            is_unproven: true,
        }
    }

    /// A guest has said who it is, or is gone.
    fn prove(&mut self, guest: &mut Guest) {
        if !std::mem::take(&mut guest.is_unproven) {
            return;
        }
        if let Some(count) = self.unproven.get_mut(&guest.peer) {
            *count -= 1;
            if *count == 0 {
                self.unproven.remove(&guest.peer);
            }
        }
    }
}

/// A letter came from another shard.
pub fn receive(shard: &mut Shard, letter: Letter, now: Now, fx: &mut Effects) {
    match letter {
        Letter::Post { ticket, body } => bosh::passed_on(shard, ticket, body.into(), now, fx),
        Letter::Answer {
            link,
            status,
            kind,
            body,
        } => http::tube_answered(shard, link, status, kind, &body, now, fx),
        Letter::Gone { sid, ticket } => bosh::gone(shard, sid, ticket, now, fx),
        Letter::Tube(moving) => bosh::moved_in(shard, moving, now, fx),
        Letter::Left { sid } => bosh::left(shard, sid),
        Letter::Publish {
            ticket,
            topic,
            json,
        } => json::publish(shard, ticket, &topic, &json, now, fx),
        Letter::Published { link } => json::was_published(shard, link, now, fx),
        Letter::Publication { topic, json } => json::published(shard, &topic, &json, now, fx),
        Letter::LoginFailed { pair } => backoff::count(shard, pair, now, fx),
        Letter::MustWait { pair, until } => shard.backoff.learn(pair, until, now.mono),
    }
}

/// Does what the engine asked for, for links that have no socket. Returns whether it did anything.
pub fn apply(shard: &mut Shard, now: Now, fx: &mut Effects) -> bool {
    let mut busy = Vec::new();
    let mut acted = false;
    while !fx.tubes.is_empty() {
        for (key, effect) in std::mem::take(&mut fx.tubes) {
            if shard.tubes.bosh.is_here(key) {
                bosh::apply(shard, key, effect, now, fx);
            } else if shard.tubes.json.is_here(key) {
                json::apply(shard, key, effect, now, fx);
            } else {
                // In the middle of a request: it is done when that is.
                if shard.links.get(key).is_some() {
                    busy.push((key, effect));
                }
                continue;
            }
            acted = true;
        }
    }
    fx.tubes = busy;
    acted
}

/// After a panic: tubes that were in the middle of something. Nothing is left of them but their
/// links. And the sockets that read from them, or wait for an answer of theirs.
pub fn lost(shard: &mut Shard) -> (Vec<LinkKey>, Vec<LinkKey>) {
    let tubes = &mut shard.tubes;
    let is_lost =
        |key: &LinkKey| key.is_marked() && !tubes.bosh.is_here(*key) && !tubes.json.is_here(*key);
    let links = shard.links.iter().take(shard.links.len());
    let lost: Vec<LinkKey> = links.map(|(key, _)| key).filter(is_lost).collect();
    let mut sids = Vec::new();
    for key in &lost {
        sids.extend(tubes.bosh.forget(*key));
        tubes.json.forget(*key);
        if let Some(login) = login_of(&mut shard.links, *key)
            && !login.authenticated
        {
            tubes.prove(&mut Guest {
                peer: login.peer,
                is_unproven: true,
            });
        }
    }
    let links = shard.links.iter().take(shard.links.len());
    let readers = links.filter(|(_, link)| http::is_with(link, &lost, &sids));
    let readers = readers.map(|(key, _)| key).collect();
    (lost, readers)
}

/// A deadline of a tube.
pub fn due(shard: &mut Shard, key: LinkKey, now: Now, fx: &mut Effects) {
    match shard.tubes.bosh.is_here(key) {
        true => bosh::due(shard, key, now, fx),
        false => json::due(shard, key, now, fx),
    }
}

/// Octets that a stream has not taken: it waits for something. None once it is closing.
fn unread_octets(shard: &Shard, key: LinkKey) -> usize {
    let link = shard.links.get(key);
    let link = link.filter(|link| link.reading != Reading::On);
    let unread = link.and_then(|link| link.unread.as_deref());
    unread.map_or(0, |unread| unread.octets.len())
}
