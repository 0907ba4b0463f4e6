//! A real encke in a directory of its own, on ports that the system chooses.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub const GENERATOR: &str = env!("CARGO_BIN_EXE_encke-loadtest");
/// Lets publish to the topic `news`.
pub const TOPIC_KEY: &str = "a-key-of-the-tests";
/// Much longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Server {
    folder: TempDir,
    child: Child,
    pub address: String,
    /// Where it listens for HTTP, in clear and with TLS.
    pub http: String,
    pub https: String,
}

impl Server {
    /// Starts it, with so many accounts.
    pub fn start(accounts: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0";
        write(folder.path(), [any; 3]);
        let child = serve(folder.path());
        let mut server = Self {
            folder,
            child,
            address: String::new(),
            http: String::new(),
            https: String::new(),
        };
        [server.address, server.http, server.https] = server.listens_at();
        let made = Command::new(GENERATOR)
            .args(["accounts", &accounts.to_string(), "--iterations", "4096"])
            .output()
            .unwrap();
        let file = server.folder.path().join("accounts");
        std::fs::write(&file, made.stdout).unwrap();
        server.run(&["user", "import", "accounts"]);
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as a machine does that loses power, and starts it again where it was.
    pub fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let addresses = [&self.address, &self.http, &self.https];
        write(self.folder.path(), addresses.map(String::as_str));
        self.child = serve(self.folder.path());
    }

    fn listens_at(&self) -> [String; 3] {
        let status: Value = serde_json::from_slice(&self.run(&["status", "--json"])).unwrap();
        ["c2s", "http", "https"].map(|name| {
            let address = &status["listeners"][name][0];
            address.as_str().expect("an address").to_owned()
        })
    }

    fn run(&self, words: &[&str]) -> Vec<u8> {
        let output = encke(self.folder.path(), words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        output.stdout
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(folder: &Path, [c2s, http, https]: [&str; 3]) {
    let mut file = std::fs::File::create(folder.join("encke.toml")).unwrap();
    write!(
        file,
        "domain = \"localhost\"\n[listen]\nc2s = [\"{c2s}\"]\nc2s_tls = []\n\
         http = [\"{http}\"]\nhttps = [\"{https}\"]\n\
         [http]\ntopics = [\"news:{TOPIC_KEY}\"]\n\
         [c2s]\nrequire_tls = false\n[limits]\nlinks = 500\n"
    )
    .unwrap();
}

fn serve(folder: &Path) -> Child {
    let path = folder.join("ready");
    let _ = std::fs::remove_file(&path);
    let ready = UnixDatagram::bind(&path).unwrap();
    ready.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let child = encke(folder, &["serve"])
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    await_ready(&ready, folder);
    child
}

fn await_ready(ready: &UnixDatagram, folder: &Path) {
    let mut octets = [0; 4096];
    let mut said = String::new();
    while !said.lines().any(|line| line == "READY=1") {
        let length = ready.recv(&mut octets).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("the server is not ready: {error}: {log}")
        });
        said = String::from_utf8_lossy(&octets[..length]).into_owned();
    }
}

fn encke(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).current_dir(folder);
    let ours = |name: &str| name.starts_with("ENCKE_") || name == "NOTIFY_SOCKET";
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

/// The server of this workspace, which `cargo test --workspace` has built; otherwise it is built
/// now. `ENCKE_BINARY` names another one.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("ENCKE_BINARY") {
            return named.into();
        }
        let path = Path::new(GENERATOR).with_file_name("encke");
        let folder = path.parent().and_then(Path::parent).unwrap();
        let release = path.parent().unwrap().ends_with("release");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "encke", "--bin", "encke"])
            .args(release.then_some("--release"))
            .arg("--target-dir")
            .arg(folder)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "encke is not built");
        path
    })
}
