//! The server that is measured: started, fed with accounts, killed and started again.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};

use crate::args::Transport;

/// A running encke, with a directory of its own.
///
/// It ends with this value, at the latest: on the way out it is told to stop, and killed if it does
/// not within [`STOP`].
pub struct Server {
    program: PathBuf,
    home: PathBuf,
    child: Child,
    pub addresses: Addresses,
    keep: bool,
}

/// Where it listens, without TLS and with it.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub plain: SocketAddr,
    pub direct: SocketAddr,
    /// The same for HTTP, where that is asked for.
    pub http: Option<[SocketAddr; 2]>,
}

/// A start may take as long as reading the journal of a killed server takes.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

impl Server {
    /// Writes a configuration for `links` connections over `transport` into `home` and starts
    /// `program` with it.
    ///
    /// # Errors
    /// One line that says what failed and, where the server wrote any, its last words.
    pub fn start(
        program: &Path,
        home: &Path,
        links: usize,
        transport: Transport,
    ) -> Result<Self, String> {
        let [plain, direct, http, https] =
            free_addresses().map_err(|e| format!("no free port: {e}"))?;
        let addresses = Addresses {
            plain,
            direct,
            http: (transport != Transport::Tcp).then_some([http, https]),
        };
        configure(home, &addresses, links).map_err(|e| format!("{}: {e}", home.display()))?;
        let child = spawn(program, home)?;
        let mut server = Self {
            program: program.to_owned(),
            home: home.to_owned(),
            child,
            addresses,
            keep: false,
        };
        server.await_listening()?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Imports accounts from a file of `encke-loadtest accounts`; the import shows its progress.
    ///
    /// # Errors
    /// That it failed; the import has said why.
    pub fn import(&self, accounts: &Path) -> Result<(), String> {
        let status = Command::new(&self.program)
            .args(["user", "import"])
            .arg(accounts)
            .arg("--config")
            .arg(self.configuration())
            .stdin(Stdio::null())
            .status()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        if status.success() {
            Ok(())
        } else {
            Err("the accounts could not be imported".to_owned())
        }
    }

    /// Kills it without a warning, as a power cut does to a process. Its sockets are gone when this
    /// returns.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| e.to_string())?;
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }

    /// Starts it again, with the same data at the same addresses; how long it took to listen.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<Duration, String> {
        let begun = Instant::now();
        self.child = spawn(&self.program, &self.home)?;
        self.await_listening()?;
        Ok(begun.elapsed())
    }

    /// Leaves it running when this value goes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    pub fn configuration(&self) -> PathBuf {
        self.home.join("encke.toml")
    }

    fn await_listening(&mut self) -> Result<(), String> {
        let until = Instant::now() + START;
        let Addresses { plain, http, .. } = self.addresses;
        let address = http.map_or(plain, |[http, _]| http);
        while TcpStream::connect(address).is_err() {
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || Instant::now() > until {
                return Err(format!("the server does not listen; {}", self.last_words()));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.home.join("server.log")).unwrap_or_default();
        match log.lines().next_back() {
            Some(line) => format!("it said: {line}"),
            None => "it said nothing".to_owned(),
        }
    }

    fn stop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.keep {
            self.stop();
        }
    }
}

fn spawn(program: &Path, home: &Path) -> Result<Child, String> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(home.join("server.log"))
        .map_err(|e| e.to_string())?;
    let both = log.try_clone().map_err(|e| e.to_string())?;
    Command::new(program)
        .args(["serve", "--config"])
        .arg(home.join("encke.toml"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(both)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))
}

/// Addresses that nobody listens at, below the ports that the kernel hands out: a client must not
/// sit there when the server comes back. The listeners are closed again, and somebody may come
/// between: then the server says so.
fn free_addresses() -> std::io::Result<[SocketAddr; 4]> {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 10_000;
    let mut octets = [0; 2];
    getrandom::fill(&mut octets).map_err(std::io::Error::other)?;
    let start = u16::from_ne_bytes(octets) % PORTS;
    let ports = (0..PORTS).map(|n| FIRST + (start + n) % PORTS);
    let listeners = ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    // All are open at the same time, so that they differ.
    let open: Vec<TcpListener> = listeners.take(4).collect();
    let addresses: Result<Vec<_>, _> = open.iter().map(TcpListener::local_addr).collect();
    let four = addresses?.try_into();
    four.map_err(|_| std::io::ErrorKind::AddrInUse.into())
}

fn configure(home: &Path, addresses: &Addresses, links: usize) -> std::io::Result<()> {
    fs::create_dir_all(home)?;
    let key = KeyPair::generate().map_err(std::io::Error::other)?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(std::io::Error::other)?;
    let (certificate_at, key_at) = (home.join("certificate.pem"), home.join("key.pem"));
    fs::write(&certificate_at, certificate.pem())?;
    fs::write(&key_at, key.serialize_pem())?;
    let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().into_owned()).to_string();
    let Addresses {
        plain,
        direct,
        http,
    } = addresses;
    let http = http.map_or_else(String::new, |[http, https]| {
        format!("http = [\"{http}\"]\nhttps = [\"{https}\"]\n")
    });
    let mut file = File::create(home.join("encke.toml"))?;
    write!(
        file,
        "domain = \"localhost\"\ndata_dir = {data}\n\n\
         [listen]\nc2s = [\"{plain}\"]\nc2s_tls = [\"{direct}\"]\n{http}\n\
         [tls]\ncertificate = {certificate}\nkey = {key}\n\n\
         [c2s]\nrequire_tls = false\n\n\
         [limits]\nlinks = {links}\n",
        data = quoted(&home.join("data")),
        certificate = quoted(&certificate_at),
        key = quoted(&key_at),
    )
}
