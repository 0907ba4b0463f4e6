//! A whole server on ephemeral ports, in this process, and a client that logs in.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};

use encke::base::limits::Limits;
use encke::engine::{Entry, Policy};
use encke::io::{Bind, Certificates, Handle, Outlet, Plan, Reactors, ShardReport, TlsShared};
use encke::store::memory::MemoryBackend;
use encke::store::worker::Storage;
use encke::store::{Backend, Change, Kind, MessageId, Op, Ops, Require};
use encke::stream::sasl::keys::Keys;

pub const PASSWORD: &str = "wherefore";
const KERNEL_OCTETS: usize = 32 * 1024;
const ITERATIONS: u32 = 4_096;
/// Far beyond what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server of two shards with some accounts.
pub struct Server {
    pub handle: Handle,
    pub clear: SocketAddr,
    pub direct: SocketAddr,
    pub http: SocketAddr,
    pub https: SocketAddr,
    root: CertificateDer<'static>,
    storage: Storage,
}

impl Server {
    pub fn start(private_descriptors: bool, users: usize, limits: Limits) -> Self {
        Self::start_with(private_descriptors, users, policy(limits))
    }

    pub fn start_with(private_descriptors: bool, users: usize, policy: Policy) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificates = Certificates::from_pem(&[(chain.as_bytes(), key.as_bytes())]).unwrap();
        let listen = |entry| Bind {
            address: "127.0.0.1:0".parse().unwrap(),
            entry,
        };
        let reactors = Reactors::bind(Plan {
            shards: 2,
            listeners: vec![
                listen(Entry::Clear),
                listen(Entry::DirectTls),
                listen(Entry::Http),
                listen(Entry::Https),
            ],
            tls: Some(Arc::new(TlsShared::new(certificates).unwrap())),
            private_descriptors,
            policy: Arc::new(policy),
            next_id: MessageId(1),
            events: Arc::new(|_, events| events.clear()),
            errands: Arc::new(|_, errands| errands.clear()),
            give_back: |_| (),
        })
        .unwrap();
        let outlet: Outlet = reactors.outlet();
        let storage = Storage::start(Box::new(accounts(users)), outlet).unwrap();
        let addresses = reactors.addresses().to_vec();
        let submit = storage.clone();
        Self {
            handle: reactors
                .start(Arc::new(move |ops| submit.submit(ops)))
                .unwrap(),
            clear: addresses[0],
            direct: addresses[1],
            http: addresses[2],
            https: addresses[3],
            root: CertificateDer::from_pem_slice(chain.as_bytes()).unwrap(),
            storage,
        }
    }

    /// Asks until the answer satisfies; each question goes through the shards' own turns.
    pub fn until(&self, what: &str, mut satisfied: impl FnMut(&[ShardReport]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reports = self.handle.report(PATIENCE);
            if satisfied(&reports) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} never came: {reports:?}");
            std::thread::yield_now();
        }
    }

    /// Ends everything; whether it ended by itself.
    pub fn stop(self) -> bool {
        let rest = self.handle.stop(PATIENCE);
        let done = self.handle.join(rest);
        self.storage.stop();
        done
    }

    /// A client in clear that has logged in with SCRAM; `more` is sent in the same write as the
    /// last octets of the login.
    pub fn login(&self, user: usize, more: &str) -> Client<TcpStream> {
        let socket = connect(self.clear);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::new(socket);
        client.scram(user, more);
        client
    }

    /// A client under Direct TLS that has logged in with PLAIN.
    pub fn login_tls(
        &self,
        user: usize,
        more: &str,
    ) -> Client<StreamOwned<ClientConnection, TcpStream>> {
        let mut client = Client::new(self.seal(connect(self.direct), b"xmpp-client"));
        client.plain(user, more);
        client
    }

    /// TLS on a link, whatever was sent on it before.
    pub fn seal(
        &self,
        socket: TcpStream,
        protocol: &[u8],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(tls, socket)
    }
}

/// With small buffers in the kernel, so that a peer that does not read is felt soon.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(KERNEL_OCTETS).unwrap();
    socket.set_send_buffer_size(KERNEL_OCTETS).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

pub fn policy(limits: Limits) -> Policy {
    Policy {
        domains: vec!["localhost".into()],
        require_tls: false,
        offer_tls: true,
        limits,
        admins: Vec::new(),
        contacts: Vec::new(),
        http: Default::default(),
        secret: [7; 32],
    }
}

/// What storage holds: `user0`, `user1` and so on, with one password.
fn accounts(users: usize) -> MemoryBackend {
    static RECORD: OnceLock<Vec<u8>> = OnceLock::new();
    let record = RECORD.get_or_init(|| {
        let keys = Keys::derive(PASSWORD, &[7; 16], ITERATIONS).unwrap();
        keys.encode().to_vec()
    });
    let mut backend = MemoryBackend::default();
    let mut ops = Ops::default();
    for user in 0..users {
        let owner = ops.keep(format!("user{user}@localhost").as_bytes());
        let change = Change::Put {
            owner,
            kind: Kind::Credentials,
            key: ops.keep(b""),
            value: ops.keep(record),
        };
        let require = Require::Nothing;
        let changes = vec![change];
        ops.push(None, Op::Write { require, changes });
    }
    let mut replies = Vec::new();
    backend.execute(&ops, &mut replies);
    backend.commit(&mut replies);
    backend
}

/// One stream, read as text.
pub struct Client<S> {
    pub socket: S,
    pub text: String,
    unread: Vec<u8>,
}

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const BIND: &str = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <resource>r</resource></bind></iq>";

impl<S: Read + Write> Client<S> {
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            text: String::new(),
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.socket.write_all(octets.as_ref()).unwrap();
        self.socket.flush().unwrap();
    }

    /// Reads until `end` has come; returns everything up to it and forgets that.
    pub fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            self.fill(end);
        }
    }

    /// Reads once more; `what` is waited for.
    pub fn fill(&mut self, what: &str) {
        let mut octets = [0; 16_384];
        let read = self.socket.read(&mut octets).unwrap_or_else(|error| {
            panic!("waiting for {what}: {error}; have {}", self.text);
        });
        assert!(read > 0, "closed while waiting for {what}: {}", self.text);
        self.unread.extend_from_slice(&octets[..read]);
        let whole = match std::str::from_utf8(&self.unread) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let whole: Vec<u8> = self.unread.drain(..whole).collect();
        self.text.push_str(&String::from_utf8(whole).unwrap());
    }

    fn plain(&mut self, user: usize, more: &str) {
        self.send(HEADER);
        self.until("</stream:features>");
        let secret = STANDARD.encode(format!("\0user{user}\0{PASSWORD}"));
        self.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>\
             {HEADER}{BIND}{more}"
        ));
        self.bound();
    }

    fn scram(&mut self, user: usize, more: &str) {
        self.send(HEADER);
        self.until("</stream:features>");
        let bare = format!("n=user{user},r=clientnonce");
        let first = STANDARD.encode(format!("n,,{bare}"));
        self.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' \
             mechanism='SCRAM-SHA-256'>{first}</auth>"
        ));
        let answer = self.until("</challenge>");
        let challenge = answer.strip_suffix("</challenge>").unwrap();
        let challenge = &challenge[challenge.rfind('>').unwrap() + 1..];
        let challenge = String::from_utf8(STANDARD.decode(challenge).unwrap()).unwrap();
        let response = STANDARD.encode(respond(&bare, &challenge));
        self.send(format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>\
             {HEADER}{BIND}{more}"
        ));
        self.bound();
    }

    fn bound(&mut self) {
        self.until("</bind>");
        self.until("</iq>");
    }

    /// One round trip through the engine.
    pub fn ping(&mut self, id: &str) {
        self.send(format!(
            "<iq type='get' id='{id}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        self.until(id);
        self.until(">");
    }
}

/// The client's last message of SCRAM-SHA-256 (RFC 5802 section 3).
fn respond(bare: &str, challenge: &str) -> String {
    let part = |name: &str| {
        challenge
            .split(',')
            .find_map(|p| p.strip_prefix(name))
            .unwrap()
    };
    let salt = STANDARD.decode(part("s=")).unwrap();
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(
        PASSWORD.as_bytes(),
        &salt,
        part("i=").parse().unwrap(),
        &mut salted,
    );
    let client_key = hmac(&salted, b"Client Key");
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let bare_last = format!("c=biws,r={}", part("r="));
    let signature = hmac(
        &stored_key,
        format!("{bare},{challenge},{bare_last}").as_bytes(),
    );
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(k, s)| k ^ s)
        .collect();
    format!("{bare_last},p={}", STANDARD.encode(proof))
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().into()
}
