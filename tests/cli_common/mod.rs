//! The real binary in a directory of its own.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A working directory with or without a configuration.
pub struct Home {
    dir: TempDir,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Much longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Home {
    /// Without a configuration.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir }
    }

    /// With a configuration that serves `b.example` on ports that the system chooses.
    pub fn configured(more: &str) -> Self {
        let home = Self::bare();
        home.write(
            "encke.toml",
            &format!(
                "domain = \"b.example\"\n[listen]\nc2s = [\"127.0.0.1:0\"]\n\
                 c2s_tls = [\"127.0.0.1:0\"]\n{more}"
            ),
        );
        home
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("read")
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Said {
        self.run_with(words, &[], "")
    }

    /// The same with variables and with `input` on standard input.
    pub fn run_with(&self, words: &[&str], variables: &[(&str, &str)], input: &str) -> Said {
        let mut child = self
            .command(words)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that reads nothing may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Said::new(child.wait_with_output().expect("ended"))
    }

    /// Starts the server and waits until it says that it is ready.
    pub fn serve(&self, variables: &[(&str, &str)]) -> Server {
        let path = self.path().join("ready");
        let _ = std::fs::remove_file(&path);
        let ready = UnixDatagram::bind(&path).expect("a socket");
        ready.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let log = std::fs::File::create(self.path().join("log")).expect("a file");
        let out = std::fs::File::create(self.path().join("out")).expect("a file");
        let child = self
            .command(&["serve"])
            .envs(variables.iter().copied())
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .expect("started");
        let server = Server {
            child: Some(child),
            ready,
        };
        assert!(server.hears("READY=1"), "not ready: {}", self.read("log"));
        server
    }

    /// What the running server says about itself.
    pub fn status(&self) -> serde_json::Value {
        let said = self.run(&["status", "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// An address that the running server listens on.
    pub fn address(&self, kind: &str) -> SocketAddr {
        let status = self.status();
        let text = status["listeners"][kind][0].as_str().expect("an address");
        text.parse().expect("an address")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encke"));
        command.args(words).current_dir(self.path());
        let ours = |name: &str| name.starts_with("ENCKE_") || name == "NOTIFY_SOCKET";
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command
    }
}

impl Said {
    fn new(output: Output) -> Self {
        let text = |octets| String::from_utf8(octets).expect("UTF-8");
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Asserts success and gives what was printed.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Option<Child>,
    ready: UnixDatagram,
}

impl Server {
    /// Waits for a word to the service manager.
    pub fn hears(&self, word: &str) -> bool {
        let mut octets = [0; 4096];
        while let Ok(length) = self.ready.recv(&mut octets) {
            let text = String::from_utf8_lossy(&octets[..length]);
            if text.lines().any(|line| line == word) {
                return true;
            }
        }
        false
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("running");
        let id = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(id, signal).expect("sent");
    }

    /// Ends it by SIGTERM; its exit code.
    pub fn stop(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        let mut child = self.child.take().expect("running");
        child.wait().expect("ended").code().unwrap_or(-1)
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
