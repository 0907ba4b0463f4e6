//! A whole server in memory: shards, storage, wires and a clock, all from one seed.
//!
//! For unit tests, conversations, the simulator and benches. Nothing of the server uses it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::limits::Limits;
use crate::base::time::{Moment, Now};
use crate::engine::{self, Command, Entry, HttpPolicy, Policy, Report, Setup, Shard};
use crate::store::crash_files::Faults;
use crate::store::index::memory::Lost;
use crate::store::{Kind, MessageId, Recovered, Refusal, Replies, ShardId};
use crate::stream::sasl::keys::Keys;

/// Storage that works only when it is told to.
mod depot;
/// Choices from a seed.
mod random;
/// Items of a stream, as a client sees them.
mod reader;
/// A shard with its sockets.
mod seat;
/// Shards without sockets, wires and clock.
mod stand;

pub use depot::{Crash, Depot, Keeping, Plant, put};
pub use random::Random;
pub use reader::{Item, Reader};
use seat::{LINGER, Post, Seat, Wire};
pub use seat::{Network, WireId};
pub use stand::{Answers, Hearing, Place, Stand};

/// What a [`World`] is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: u16,
    pub seed: u64,
    pub keeping: Keeping,
    pub plant: Plant,
    pub network: Network,
    pub limits: Limits,
    /// Bare JIDs that can log in with [`PASSWORD`].
    pub accounts: Vec<String>,
    pub offer_tls: bool,
    /// How links begin.
    pub entry: Entry,
    pub http: HttpPolicy,
}

/// The password of every account.
pub const PASSWORD: &str = "secret";
/// The domain that is served.
pub const DOMAIN: &str = "localhost";

impl Default for Plan {
    fn default() -> Self {
        Self {
            shards: 1,
            seed: 1,
            keeping: Keeping::Memory,
            plant: Plant::Nothing,
            network: Network::Whole,
            limits: Limits::default(),
            accounts: Vec::new(),
            offer_tls: false,
            entry: Entry::Clear,
            http: HttpPolicy::default(),
        }
    }
}

impl Plan {
    /// What the administrator of this server decided.
    pub fn policy(&self) -> Policy {
        Policy {
            domains: vec![DOMAIN.into()],
            admins: Vec::new(),
            require_tls: false,
            offer_tls: self.offer_tls,
            contacts: Vec::new(),
            http: self.http.clone(),
            limits: self.limits.clone(),
            secret: [7; 32],
        }
    }
}

/// The record of an account whose password is [`PASSWORD`], cheap to verify.
pub fn credentials() -> Vec<u8> {
    let keys = Keys::derive(PASSWORD, &[3; 16], 1);
    keys.map(|keys| keys.encode().to_vec()).unwrap_or_default()
}

/// A server and its clients.
pub struct World {
    plan: Plan,
    policy: Arc<Policy>,
    seats: Vec<Seat>,
    wires: Wires,
    depot: Depot,
    random: Random,
    now: Now,
    hash_key: [u8; 16],
    clients: BTreeMap<String, Client>,
    /// Whether nothing becomes durable.
    stalled: bool,
}

/// All wires, by id.
struct Wires(Vec<Wire>);

impl Index<WireId> for Wires {
    type Output = Wire;
    fn index(&self, id: WireId) -> &Wire {
        &self.0[id.0]
    }
}

impl IndexMut<WireId> for Wires {
    fn index_mut(&mut self, id: WireId) -> &mut Wire {
        &mut self.0[id.0]
    }
}

/// A client with a name, for those who write conversations by hand.
struct Client {
    wire: WireId,
    reader: Reader,
    inbox: VecDeque<Item>,
}

/// When the first process begins: 2026-11-21T12:00:00Z.
const BEGINNING_WALL_MS: u64 = 1_795_262_400_000;
/// Turns after which a world that is not quiet is taken to be caught in a circle.
const TURNS_MAX: usize = 100_000;

impl World {
    /// A server that nobody has connected to.
    pub fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let mut depot = Depot::new(plan.keeping, plan.plant, random.number());
        let keys = credentials();
        for account in &plan.accounts {
            depot.put(account, Kind::Credentials, &keys);
        }
        let policy = Arc::new(plan.policy());
        let mut world = Self {
            plan,
            policy,
            seats: Vec::new(),
            wires: Wires(Vec::new()),
            depot,
            random,
            now: Now {
                mono: Moment(0),
                wall_ms: BEGINNING_WALL_MS,
            },
            hash_key: [0; 16],
            clients: BTreeMap::new(),
            stalled: false,
        };
        world.start(Recovered::default());
        world
    }

    /// A server of one shard with these full JIDs online. Each is called by its localpart, or by
    /// `local/resource`.
    pub fn with_online<const N: usize>(jids: [&str; N]) -> Self {
        let bare = |jid: &&str| jid.split('/').next().unwrap_or_default().to_owned();
        let plan = Plan {
            accounts: jids.iter().map(bare).collect(),
            ..Plan::default()
        };
        let mut world = Self::new(plan);
        for jid in jids {
            world.logs_in(jid);
            world.sends(jid, "<presence/>");
        }
        world.discard_received();
        world
    }

    /// Seeds the choices from here on anew.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    /// The time by this world's clock.
    pub const fn now(&self) -> Now {
        self.now
    }

    /// Storage, to put rows in or to let it fail.
    pub fn depot(&mut self) -> &mut Depot {
        &mut self.depot
    }

    /// The shard that owns a bare JID.
    pub fn home(&self, bare: &str) -> ShardId {
        engine::home(&self.hash_key, self.plan.shards, bare)
    }

    /// How every shard sees itself.
    pub fn reports(&self) -> Vec<Report> {
        self.seats.iter().map(|seat| seat.shard.report()).collect()
    }

    /// Asserts every invariant of every shard.
    pub fn check(&self) {
        for seat in &self.seats {
            seat.shard.check();
        }
    }

    /// Whether no link, session or waiter is left in any shard.
    pub fn is_empty(&self) -> bool {
        self.seats
            .iter()
            .all(|seat| seat.shard.is_empty() && seat.sockets() == 0)
    }

    // Wires.

    /// A client connects, to any shard.
    pub fn connect(&mut self) -> WireId {
        self.connect_to(self.plan.entry)
    }

    /// The shards themselves, for what no client can do to them.
    pub fn shards(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.seats.iter_mut().map(|seat| &mut seat.shard)
    }

    /// A client connects where links begin so.
    pub fn connect_to(&mut self, entry: Entry) -> WireId {
        let wire = WireId(self.wires.0.len());
        self.wires.0.push(Wire::default());
        let seat = self.random.below(self.seats.len());
        self.seats[seat].inlet.push_back(Post::Opened(wire, entry));
        wire
    }

    /// Octets leave a client.
    pub fn write(&mut self, wire: WireId, octets: &[u8]) {
        let wire = &mut self.wires[wire];
        if !wire.closed && !wire.hung_up {
            wire.up.extend(octets);
        }
    }

    /// Takes what came to a client.
    pub fn read(&mut self, wire: WireId) -> Vec<u8> {
        std::mem::take(&mut self.wires[wire].down)
    }

    /// The client is gone without a goodbye. What it sent last may not arrive.
    pub fn hang_up(&mut self, wire: WireId) {
        let keep = self.random.below(self.wires[wire].up.len() + 1);
        let wire = &mut self.wires[wire];
        wire.up.truncate(keep);
        wire.down.clear();
        wire.hung_up = true;
    }

    /// Whether the server has closed a wire.
    pub fn is_closed(&self, wire: WireId) -> bool {
        self.wires[wire].closed
    }

    /// Whether something came that was not read.
    pub fn has_octets(&self, wire: WireId) -> bool {
        !self.wires[wire].down.is_empty()
    }

    /// Octets that the server keeps for its peers to read.
    pub fn owed_octets(&self) -> usize {
        self.seats.iter().map(Seat::owed_octets).sum()
    }

    /// How many octets the kernel still takes for a client that does not read; `None`: all.
    pub fn set_room(&mut self, wire: WireId, room: Option<usize>) {
        self.wires[wire].room = room;
    }

    // Time.

    /// One thing happens, whichever: a shard takes a turn, or storage works. `false`: there was
    /// nothing to do.
    pub fn step(&mut self) -> bool {
        let wires = &self.wires;
        let busy = self
            .seats
            .iter()
            .enumerate()
            .filter(|(_, seat)| seat.has_work(wires));
        let busy: Vec<usize> = busy.map(|(at, _)| at).collect();
        let depot = match self.stalled {
            true => self.depot.has_requests(),
            false => self.depot.has_work(),
        };
        let depot = usize::from(depot);
        let choice = self.random.below(busy.len() + depot);
        match busy.get(choice) {
            Some(&seat) => self.turn(seat),
            None if depot > 0 => self.work(),
            None => return false,
        }
        true
    }

    /// Goes on until nothing is left to do at this instant.
    ///
    /// # Panics
    /// When that takes for ever.
    pub fn settle(&mut self) {
        for seat in 0..self.seats.len() {
            self.turn(seat);
        }
        if !self.stalled {
            self.commit();
        }
        for _ in 0..TURNS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Time passes, from deadline to deadline, and everything happens that is due.
    pub fn advance(&mut self, time: Duration) {
        self.settle();
        let end = self.now.mono.after(time);
        while self.now.mono < end {
            let next = self
                .seats
                .iter()
                .filter_map(|seat| seat.shard.next_deadline())
                .min();
            let next = next.map_or(end, |next| next.max(Moment(self.now.mono.0 + 1)).min(end));
            self.pass(next.since(self.now.mono));
            self.settle();
        }
    }

    /// Only the clock goes on.
    pub fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.after(time);
        self.now.wall_ms += time.as_millis() as u64;
    }

    /// Storage makes durable what it executed.
    pub fn commit(&mut self) {
        let replies = self.depot.commit();
        self.answer(replies);
    }

    /// Storage executes one batch, or makes durable what it executed.
    pub fn work(&mut self) {
        let replies = match self.stalled || self.random.chance(60) {
            true => self.depot.execute(),
            false => self.depot.commit(),
        };
        self.answer(replies);
    }

    /// A shard takes a turn.
    pub fn turn(&mut self, seat: usize) {
        let road = (self.plan.network, &mut self.random);
        let posts = self.seats[seat].turn(self.now, &mut self.wires, &mut self.depot, road);
        for (to, post) in posts {
            self.seats[usize::from(to)].inlet.push_back(post);
        }
    }

    fn answer(&mut self, replies: Replies) {
        for (ticket, reply) in replies {
            let seat = &mut self.seats[usize::from(ticket.shard)];
            seat.inlet.push_back(Post::Reply(ticket, reply));
        }
    }

    // The process.

    /// The process ends without a word and starts again. Every wire is cut.
    pub fn crash(&mut self, how: Crash) {
        let lost = *self.random.pick(&[Lost::All, Lost::Nothing]);
        let recovered = self.depot.crash(how, lost);
        self.stalled = false;
        self.cut_all();
        self.start(recovered);
    }

    /// SIGTERM: everybody is told, all is written, and the process ends and starts again.
    ///
    /// # Panics
    /// When something is left in a shard.
    pub fn stop(&mut self) {
        self.tell_all(|| Command::Stop);
        self.settle();
        self.tell_all(|| Command::RefuseWaiting);
        self.settle();
        self.tell_all(|| Command::WriteDown);
        self.settle();
        // What a stalled device answers now comes too late.
        self.stalled = false;
        // Whoever does not read is waited for, and not longer.
        self.advance(LINGER);
        assert!(
            self.is_empty(),
            "the shards let go of everything: {:?}",
            self.reports()
        );
        self.depot.close();
        let recovered = self.depot.crash(Crash::Killed, Lost::Nothing);
        self.cut_all();
        self.start(recovered);
    }

    /// Gives a command to every shard.
    pub fn tell_all(&mut self, command: impl Fn() -> Command) {
        for seat in &mut self.seats {
            seat.inlet.push_back(Post::Command(command()));
        }
    }

    /// Lets the device make nothing durable, or work again. [`World::settle`] does not wait for it
    /// meanwhile.
    pub fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Storage refuses, or not any longer.
    pub fn refuse(&mut self, refusal: Option<Refusal>) {
        self.depot.set_refusing(refusal);
    }

    /// See [`Depot::set_faults`].
    pub fn set_faults(&mut self, faults: Faults) {
        self.depot.set_faults(faults);
    }

    fn cut_all(&mut self) {
        for wire in &mut self.wires.0 {
            wire.closed = true;
            wire.up.clear();
        }
    }

    fn setup(&self, shard: ShardId, seed: [u8; 32], next_id: MessageId) -> Setup {
        Setup {
            shard,
            shards: self.plan.shards,
            policy: self.policy.clone(),
            hash_key: self.hash_key,
            seed,
            next_id,
        }
    }

    /// Shards begin, and hear what the last process left: sessions first, then messages.
    fn start(&mut self, recovered: Recovered) {
        self.now.mono = Moment(0);
        self.hash_key.copy_from_slice(&self.random.octets()[..16]);
        self.seats.clear();
        for shard in 0..self.plan.shards {
            let seed = self.random.octets();
            let setup = self.setup(shard, seed, recovered.next_id);
            self.seats.push(Seat::new(setup));
        }
        for revival in self.depot.written_sessions() {
            let home = self.home(&revival.owner);
            self.command(home, Command::Revive(revival));
        }
        for message in recovered.unsettled {
            let home = self.home(&message.owner);
            self.command(home, Command::Recover(message));
        }
        for (stream, handled) in recovered.handled {
            self.tell_all(|| Command::Handled { stream, handled });
        }
    }

    fn command(&mut self, shard: ShardId, command: Command) {
        self.seats[usize::from(shard)]
            .inlet
            .push_back(Post::Command(command));
    }

    // Clients with names.

    /// Connects and binds a full JID; the client is called by it.
    ///
    /// # Panics
    /// When the server does not let it in.
    pub fn logs_in(&mut self, jid: &str) {
        let (_, resource) = jid.split_once('/').unwrap_or((jid, "any"));
        self.authenticates(jid);
        self.sends(
            jid,
            &format!(
                "<iq type='set' id='bind'>\
             <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
            ),
        );
        assert!(
            self.receives(jid).iter().any(|got| got.contains("<jid>")),
            "{jid}"
        );
    }

    /// Connects and authenticates as the account of a full JID.
    ///
    /// # Panics
    /// When the server does not let it in.
    pub fn authenticates(&mut self, jid: &str) {
        let (bare, _) = jid.split_once('/').unwrap_or((jid, "any"));
        let local = bare.split('@').next().unwrap_or_default();
        let wire = self.connect();
        let client = Client {
            wire,
            reader: Reader::default(),
            inbox: VecDeque::new(),
        };
        self.clients.insert(jid.to_owned(), client);
        let plain = STANDARD.encode(format!("\0{local}\0{PASSWORD}"));
        self.sends(jid, HEADER);
        self.sends(
            jid,
            &format!(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' \
             mechanism='PLAIN'>{plain}</auth>"
            ),
        );
        assert!(
            self.receives(jid)
                .iter()
                .any(|got| got.starts_with("<success")),
            "{jid}"
        );
        self.sends(jid, HEADER);
        self.receives(jid);
    }

    /// A client sends something; everything that follows from it happens.
    pub fn sends(&mut self, name: &str, xml: &str) {
        let wire = self.client(name).wire;
        self.write(wire, xml.as_bytes());
        self.settle();
    }

    /// Takes the elements that came to a client.
    pub fn receives(&mut self, name: &str) -> Vec<String> {
        let wire = self.client(name).wire;
        let octets = self.read(wire);
        let client = self.client(name);
        let mut items = Vec::new();
        client.reader.receive(&octets, &mut items);
        client.inbox.extend(items);
        let elements = client.inbox.drain(..).filter_map(|item| match item {
            Item::Element(text) => Some(text),
            _ => None,
        });
        elements.collect()
    }

    /// Drops what came to all clients.
    pub fn discard_received(&mut self) {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            self.receives(&name);
        }
    }

    /// A client's link breaks.
    pub fn cuts(&mut self, name: &str) {
        let wire = self.client(name).wire;
        self.hang_up(wire);
        self.settle();
    }

    /// By full JID, or by the beginning of one.
    fn client(&mut self, name: &str) -> &mut Client {
        let found = self
            .clients
            .iter_mut()
            .find(|(jid, _)| jid.starts_with(name));
        match found {
            Some((_, client)) => client,
            None => panic!("nobody is called {name}"),
        }
    }
}

/// A client's header.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clients_of_a_world_talk() {
        let mut world = World::with_online(["romeo@localhost/orchard", "juliet@localhost/b"]);
        let to = "<message to='juliet@localhost' type='chat'><body>hi</body></message>";
        world.sends("romeo", to);
        let got = world.receives("juliet");
        assert_eq!(got.len(), 1);
        assert!(got[0].contains("from='romeo@localhost/orchard'"), "{got:?}");
    }

    #[test]
    fn a_world_comes_back_after_a_crash_and_after_a_stop() {
        for keeping in [Keeping::Memory, Keeping::Device] {
            let accounts = vec!["romeo@localhost".into(), "juliet@localhost".into()];
            let plan = Plan {
                shards: 3,
                keeping,
                accounts,
                ..Plan::default()
            };
            let mut world = World::new(plan);
            world.logs_in("romeo@localhost/orchard");
            world.sends(
                "romeo",
                "<message to='juliet@localhost'><body>hi</body></message>",
            );
            world.crash(Crash::PowerLost);
            world.stop();
            world.logs_in("juliet@localhost/balcony");
            world.sends("juliet", "<presence/>");
            let got = world.receives("juliet").concat();
            assert!(got.contains("<body>hi</body>"), "{keeping:?}: {got}");
        }
    }
}
