//! Real reactors, real sockets, storage threads over memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use encke::engine::Entry;
use encke::io::{Bind, Handle, Outlet, Plan as Reactors_, Reactors, ShardReport};
use encke::store::memory::MemoryBackend;
use encke::store::worker::{Depth, Storage};
use encke::store::{Kind, MessageId, Ops};
use encke::testing::{Plan, credentials, put};

use super::stage::Stage;

/// A server in this process.
pub struct Sockets {
    handle: Option<Handle>,
    storage: Storage,
    address: SocketAddr,
    links: Vec<Link>,
    /// Octets that clients wrote, and that they read.
    written: u64,
    read: u64,
}

struct Link {
    socket: TcpStream,
    inbox: Vec<u8>,
    closed: bool,
    cut: bool,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Sockets {
    pub fn new(plan: &Plan) -> Self {
        let mut backend = MemoryBackend::default();
        let keys = credentials();
        for account in &plan.accounts {
            put(&mut backend, account, Kind::Credentials, &keys);
        }
        let outlet: Arc<OnceLock<Outlet>> = Arc::default();
        let sink = outlet.clone();
        let storage = Storage::start(
            Box::new(backend),
            Arc::new(move |shard, replies| {
                if let Some(outlet) = sink.get() {
                    outlet(shard, replies);
                }
            }),
        )
        .unwrap();
        let reactors = Reactors::bind(Reactors_ {
            shards: plan.shards,
            listeners: vec![Bind {
                address: "127.0.0.1:0".parse().unwrap(),
                entry: Entry::Clear,
            }],
            tls: None,
            private_descriptors: false,
            policy: Arc::new(plan.policy()),
            next_id: MessageId(1),
            events: Arc::new(|_, events| events.clear()),
            errands: Arc::new(|_, errands| errands.clear()),
            give_back: |_| (),
        })
        .unwrap();
        let address = reactors.addresses()[0];
        assert!(outlet.set(reactors.outlet()).is_ok());
        let submit = {
            let storage = storage.clone();
            Arc::new(move |ops: &mut Ops| storage.submit(ops))
        };
        let handle = Some(reactors.start(submit).unwrap());
        Self {
            handle,
            storage,
            address,
            links: Vec::new(),
            written: 0,
            read: 0,
        }
    }

    fn reports(&self) -> Vec<ShardReport> {
        self.handle.as_ref().unwrap().report(PATIENCE)
    }

    /// Whether the server has read everything, has nothing to do, and has written everything.
    fn is_quiet(&mut self) -> bool {
        let reports = self.reports();
        let sum = |of: fn(&ShardReport) -> u64| reports.iter().map(of).sum::<u64>();
        let lost: u64 = self
            .links
            .iter()
            .map(|link| u64::from(link.closed && !link.cut))
            .sum();
        let read = sum(|report| report.io.octets_read);
        let idle = sum(|r| r.mail_posts as u64) == 0
            && sum(|r| (r.links_ready + r.links_dirty) as u64) == 0
            && sum(|r| r.engine.waiting_for_storage as u64) == 0
            && self.storage.depth() == Depth::default();
        let written = sum(|report| report.io.octets_written);
        self.receive();
        idle && (read == self.written || lost > 0) && self.read >= written
    }

    fn receive(&mut self) {
        for link in &mut self.links {
            let mut octets = [0; 16 * 1024];
            while !link.closed && !link.cut {
                match link.socket.read(&mut octets) {
                    Ok(0) => link.closed = true,
                    Ok(count) => {
                        link.inbox.extend_from_slice(&octets[..count]);
                        self.read += count as u64;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => link.closed = true,
                }
            }
        }
    }
}

impl Stage for Sockets {
    fn connect(&mut self) -> usize {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        self.links.push(Link {
            socket,
            inbox: Vec::new(),
            closed: false,
            cut: false,
        });
        self.links.len() - 1
    }

    fn write(&mut self, link: usize, text: &str) {
        let link = &mut self.links[link];
        if link.closed || link.cut {
            return;
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match link.socket.write(rest) {
                Ok(count) => {
                    rest = &rest[count..];
                    self.written += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return,
            }
        }
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        // Many times in a row: a shard reports in the middle of its turn, so each hop from storage
        // over two shards to a client may hide for a round or two.
        while quiet < 12 {
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            assert!(
                Instant::now() < deadline,
                "it does not come to rest: {:?}",
                self.reports()
            );
        }
    }

    fn read(&mut self, link: usize) -> Vec<u8> {
        std::mem::take(&mut self.links[link].inbox)
    }

    fn cut(&mut self, link: usize) {
        self.settle();
        let count = |reports: &[ShardReport]| reports.iter().map(|r| r.links).sum::<usize>();
        let before = count(&self.reports());
        self.links[link].cut = true;
        let _ = self.links[link].socket.shutdown(std::net::Shutdown::Both);
        let deadline = Instant::now() + PATIENCE;
        while count(&self.reports()) >= before && before > 0 {
            assert!(Instant::now() < deadline, "a cut link stays");
        }
    }

    fn is_closed(&mut self, link: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.links[link].closed && Instant::now() < deadline {
            self.receive();
            std::thread::yield_now();
        }
        self.links[link].closed
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.join(Duration::ZERO);
        }
        self.storage.stop();
    }
}
