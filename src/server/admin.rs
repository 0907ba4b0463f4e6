//! The administrator's counter: one JSON line in, answer lines out, over a unix socket.
//!
//! A thread of its own answers one connection after the other; nothing here touches a reactor's
//! time. While the server is down the same [`Desk`] answers in the process of the command.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::exit::{Exit, Failure};

/// What may be asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Add accounts; an [`Answer::Account`] for each.
    Add { accounts: Vec<Account> },
    /// Give an account new keys and end its sessions.
    Replace { account: Account },
    /// Delete an account with all it has, and end its sessions.
    Delete { jid: String },
    /// An [`Answer::Account`] for each account.
    List,
    /// One [`Answer::Status`].
    Status,
    /// Write everything into a file: one [`Answer::Kept`].
    Backup { file: PathBuf },
    /// Replace everything by a backup and start again: one [`Answer::Restored`].
    Restore { file: PathBuf },
}

/// An account with its keys in base64.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub jid: String,
    pub keys: String,
}

/// One line of an answer. [`Answer::Done`] or [`Answer::Failed`] is the last one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Account {
        jid: String,
        state: State,
    },
    Status {
        status: Box<super::status::Status>,
    },
    Kept {
        rows: u64,
        messages: u64,
        octets: u64,
    },
    Restored {
        former: Option<PathBuf>,
    },
    Done,
    Failed {
        line: String,
    },
}

/// What became of an account.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Added,
    Listed,
    /// It was there already and is unchanged.
    Exists,
    /// There is no such account.
    Missing,
    Changed,
    Deleted,
}

/// Takes the lines of an answer; an error ends the answer.
pub type Sink<'a> = dyn FnMut(Answer) -> io::Result<()> + 'a;

/// The name of the socket in the data directory.
pub const SOCKET: &str = "encke.sock";
/// Octets of one line, so that a stranger's file cannot fill the memory.
pub const LINE_OCTETS_MAX: u64 = 4 << 20;
/// How long a connection may be silent before the next one is served.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a command waits for an answer, which may be a backup.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Opens the socket for the owner alone. The caller holds the lock of the data directory, so that
/// what lies there is left over.
///
/// # Errors
/// When the directory does not allow it.
pub fn open(data_dir: &Path) -> io::Result<UnixListener> {
    let place = Place::new(data_dir)?;
    match std::fs::remove_file(place.path()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(place.path())?;
    // The directory is closed to others, so nobody came between the two calls.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves one connection after the other, until the desk closes.
pub fn serve(listener: &UnixListener, desk: &mut Desk) {
    for stream in listener.incoming() {
        let served = stream.and_then(|stream| serve_one(&stream, desk));
        if let Err(error) = served {
            tracing::debug!(%error, "admin-connection-ended");
        }
        if desk.is_closed() {
            return;
        }
    }
}

fn serve_one(stream: &UnixStream, desk: &mut Desk) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader
            .by_ref()
            .take(LINE_OCTETS_MAX)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let mut writer = io::BufWriter::new(stream);
        let last = match serde_json::from_slice(&line) {
            Ok(request) => {
                let mut sink = |answer: Answer| write_line(&mut writer, &answer);
                match desk.answer(request, &mut sink) {
                    Ok(()) => Answer::Done,
                    Err(line) => Answer::Failed { line },
                }
            }
            Err(e) => Answer::Failed {
                line: format!("not understood: {e}"),
            },
        };
        write_line(&mut writer, &last)?;
        writer.flush()?;
        if desk.is_closed() {
            return Ok(());
        }
    }
}

fn write_line(writer: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, answer)?;
    writer.write_all(b"\n")
}

/// The command's end of the socket.
pub struct Line {
    reader: BufReader<UnixStream>,
}

impl Line {
    /// Connects to the server of this data directory; `None` when there is none.
    ///
    /// # Errors
    /// When there is one, and it cannot be reached.
    pub fn connect(data_dir: &Path) -> io::Result<Option<Self>> {
        let place = match Place::new(data_dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            place => place?,
        };
        match UnixStream::connect(place.path()) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                Ok(Some(Self {
                    reader: BufReader::new(stream),
                }))
            }
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(e),
            },
        }
    }

    /// Asks and hands all lines but the last one to `sink`.
    ///
    /// # Errors
    /// What the server says, or why it cannot be heard.
    pub fn ask(&mut self, request: &Request, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let lost = |e: io::Error| Failure::plain(format!("the server is lost: {e}"));
        let mut line = serde_json::to_vec(request).map_err(Failure::plain)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).map_err(lost)?;
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).map_err(lost)?;
            if line.is_empty() {
                return Err(Failure::plain("the server went away before it answered"));
            }
            match serde_json::from_str(&line).map_err(Failure::plain)? {
                Answer::Done => return Ok(()),
                Answer::Failed { line } => return Err(Failure::new(Exit::Failed, line)),
                answer => sink(answer).map_err(Failure::plain)?,
            }
        }
    }
}

/// The socket by way of its opened directory: names of sockets end at 107 octets, paths do not.
struct Place {
    path: PathBuf,
    _dir: File,
}

impl Place {
    fn new(data_dir: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = File::from(rustix::fs::open(data_dir, flags, Mode::empty())?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(SOCKET);
        Ok(Self { path, _dir: dir })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
