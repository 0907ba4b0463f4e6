//! Shards driven directly, without allocating anything of its own once it runs: for budgets and
//! benchmarks of the engine alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{HEADER, PASSWORD, Plan, credentials, put};
use crate::base::slab::Slab;
use crate::base::time::{Moment, Now};
use crate::engine::{
    self, Batch, Effects, Entry, Input, LinkEffect, LinkKey, LinkTag, Origin, Setup, Shard,
};
use crate::store::memory::MemoryBackend;
use crate::store::{Backend, Kind, MessageId, Replies, Reply, ShardId};

/// A session on a [`Stand`].
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub shard: ShardId,
    pub link: LinkKey,
}

/// How a session of the JSON protocol reads, on the connection that has logged it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    WebSocket,
    EventStream,
    Poll,
}

/// Who answers storage requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Rows and journal in memory.
    FromMemory,
    /// Writes and journaled messages are done at once and forgotten.
    AtOnce,
}

/// Shards, their effects, and nothing else.
pub struct Stand {
    shards: Vec<Shard>,
    effects: Vec<Effects>,
    links: Vec<Slab<LinkTag, ()>>,
    backend: MemoryBackend,
    replies: Replies,
    answers: Answers,
    mail: Batch,
    flushed: Vec<(LinkKey, LinkEffect)>,
    now: Now,
    /// Octets that clients got.
    pub octets_written: u64,
    /// A link, and what its client got.
    watched: Option<(LinkKey, Vec<u8>)>,
}

impl Stand {
    /// Shards with nobody on them, by the plan's number of shards, limits and accounts.
    pub fn new(plan: &Plan) -> Self {
        let policy = Arc::new(plan.policy());
        let setup = |shard| Setup {
            shard,
            shards: plan.shards,
            policy: policy.clone(),
            hash_key: [1; 16],
            seed: [shard as u8 + 1; 32],
            next_id: MessageId(1),
        };
        let mut stand = Self {
            shards: (0..plan.shards)
                .map(|shard| Shard::new(setup(shard)))
                .collect(),
            effects: (0..plan.shards)
                .map(|_| Effects::new(plan.shards))
                .collect(),
            links: (0..plan.shards).map(|_| Slab::new()).collect(),
            backend: MemoryBackend::default(),
            replies: Replies::new(),
            answers: Answers::FromMemory,
            mail: Batch::default(),
            flushed: Vec::new(),
            now: Now {
                mono: Moment(1),
                wall_ms: 1_795_262_400_000,
            },
            octets_written: 0,
            watched: None,
        };
        let keys = credentials();
        for account in &plan.accounts {
            put(&mut stand.backend, account, Kind::Credentials, &keys);
        }
        stand
    }

    /// Who answers storage from here on.
    pub fn set_answers(&mut self, answers: Answers) {
        self.answers = answers;
    }

    /// The home of a bare JID.
    pub fn home(&self, bare: &str) -> ShardId {
        engine::home(&[1; 16], self.shards.len() as u16, bare)
    }

    /// A session of `bare`, bound on its home shard.
    ///
    /// # Panics
    /// When the account does not exist.
    pub fn bind(&mut self, bare: &str, resource: &str) -> Place {
        let shard = self.home(bare);
        let link = self.links[usize::from(shard)].insert(());
        let place = Place { shard, link };
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let origin = Origin::direct(peer, Entry::Clear);
        self.feed(shard, Input::Opened { link, origin });
        let local = bare.split('@').next().unwrap_or_default();
        let plain = STANDARD.encode(format!("\0{local}\0{PASSWORD}"));
        let auth = format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        );
        let bind = format!(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        );
        let before = self.shards[usize::from(shard)].report().sessions;
        for text in [HEADER, &auth, HEADER, &bind] {
            self.send(place, text.as_bytes());
        }
        let after = self.shards[usize::from(shard)].report().sessions;
        assert_eq!(after, before + 1, "{bare} is bound");
        place
    }

    /// A session of the JSON protocol of `bare`, with one reader that has all there is. Returns
    /// the request by which a poll goes on.
    ///
    /// # Panics
    /// When the account does not exist.
    pub fn attend(&mut self, bare: &str, resource: &str, how: Hearing) -> (Place, Vec<u8>) {
        let shard = self.home(bare);
        let link = self.links[usize::from(shard)].insert(());
        let place = Place { shard, link };
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let origin = Origin::direct(peer, Entry::Http);
        self.feed(shard, Input::Opened { link, origin });
        let login =
            format!(r#"{{"user":"{bare}","password":"{PASSWORD}","resource":"{resource}"}}"#);
        let octets = login.len();
        let login = format!(
            "POST /v1/session HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {octets}\r\n\r\n{login}"
        );
        let answer = self.ask(place, &login);
        let member = |answer: &str, name: &str| {
            let start = format!("\"{name}\":\"");
            let (_, rest) = answer.rsplit_once(&start).expect("the answer has it");
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        let token = member(&answer, "session");
        let request = |cursor: &str| {
            let what = match how {
                Hearing::WebSocket => format!(
                    "socket?cursor={cursor} HTTP/1.1\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: encke.v1\r\n"
                ),
                Hearing::EventStream => {
                    format!("events?cursor={cursor} HTTP/1.1\r\nAccept: text/event-stream\r\n")
                }
                Hearing::Poll => format!("events?cursor={cursor} HTTP/1.1\r\n"),
            };
            format!("GET /v1/{what}Host: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
        };
        let first = self.ask(place, &request(&member(&answer, "cursor")));
        match how {
            Hearing::WebSocket | Hearing::EventStream => {
                assert!(first.contains("\"ready\""), "{first}");
                (place, Vec::new())
            }
            Hearing::Poll => {
                let next = request(&member(&first, "next"));
                assert_eq!(self.ask(place, &next), "", "it is held");
                (place, next.into_bytes())
            }
        }
    }

    /// What comes back at once for what a client sends.
    fn ask(&mut self, place: Place, octets: &str) -> String {
        self.watched = Some((place.link, Vec::new()));
        self.send(place, octets.as_bytes());
        let (_, octets) = self.watched.take().expect("it was set");
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// What bursts needed goes back.
    pub fn rest(&mut self) {
        for (shard, effects) in self.shards.iter_mut().zip(&mut self.effects) {
            shard.rest();
            effects.rest();
        }
    }

    /// Sessions and deadlines of all shards.
    pub fn count(&self) -> (usize, usize) {
        let reports = self.shards.iter().map(Shard::report);
        reports.fold((0, 0), |(sessions, deadlines), report| {
            (sessions + report.sessions, deadlines + report.deadlines)
        })
    }

    /// Octets come from a client; everything that follows is done when this returns.
    pub fn send(&mut self, place: Place, octets: &[u8]) {
        self.feed(
            place.shard,
            Input::Bytes {
                link: place.link,
                bytes: octets,
            },
        );
    }

    /// Time goes on, and deadlines with it.
    pub fn pass(&mut self, millis: u64) {
        self.now.mono = Moment(self.now.mono.0 + millis);
        self.now.wall_ms += millis;
        for shard in 0..self.shards.len() {
            self.effects[shard].seal();
            self.shards[shard].expire(self.now, &mut self.effects[shard]);
        }
        self.carry_out();
    }

    fn feed(&mut self, shard: ShardId, input: Input<'_>) {
        let at = usize::from(shard);
        self.effects[at].seal();
        self.shards[at].handle(input, self.now, &mut self.effects[at]);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut again = true;
        while again {
            again = false;
            for shard in 0..self.shards.len() {
                again |= self.storage(shard);
                again |= self.flush(shard);
                again |= self.post(shard);
                self.effects[shard].events.clear();
            }
        }
    }

    fn storage(&mut self, shard: usize) -> bool {
        if self.effects[shard].ops.is_empty() {
            return false;
        }
        match self.answers {
            Answers::FromMemory => {
                self.backend
                    .execute(&self.effects[shard].ops, &mut self.replies);
                self.backend.commit(&mut self.replies);
            }
            Answers::AtOnce => {
                let asked = self.effects[shard]
                    .ops
                    .iter()
                    .filter_map(|(ticket, _)| *ticket);
                self.replies
                    .extend(asked.map(|ticket| (ticket, Reply::Done)));
            }
        }
        self.effects[shard].ops.clear();
        let mut replies = std::mem::take(&mut self.replies);
        for (ticket, reply) in replies.drain(..) {
            let to = usize::from(ticket.shard);
            self.effects[to].seal();
            let input = Input::Stored { ticket, reply };
            self.shards[to].handle(input, self.now, &mut self.effects[to]);
        }
        self.replies = replies;
        true
    }

    fn flush(&mut self, shard: usize) -> bool {
        if self.effects[shard].links.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.flushed, &mut self.effects[shard].links);
        for (link, effect) in self.flushed.drain(..) {
            if effect != LinkEffect::Flush {
                continue;
            }
            let output = self.shards[shard].output(link);
            if let Some((watched, octets)) = &mut self.watched
                && *watched == link
            {
                octets.extend_from_slice(output);
            }
            let due = output.len();
            if due > 0 {
                self.octets_written += due as u64;
                self.effects[shard].seal();
                self.shards[shard].wrote(link, due, self.now, &mut self.effects[shard]);
            }
        }
        true
    }

    fn post(&mut self, shard: usize) -> bool {
        let mut posted = false;
        for to in 0..self.shards.len() {
            if self.effects[shard].mail[to].is_empty() {
                continue;
            }
            posted = true;
            std::mem::swap(&mut self.mail, &mut self.effects[shard].mail[to]);
            self.effects[to].seal();
            let input = Input::Mail {
                from: shard as ShardId,
                batch: &mut self.mail,
            };
            self.shards[to].handle(input, self.now, &mut self.effects[to]);
            self.mail.clear();
        }
        posted
    }
}
