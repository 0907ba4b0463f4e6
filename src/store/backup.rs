//! All of storage in one file, written while the server runs.
//!
//! ```text
//! "ENCKEBK1"  version u32  created_ms u64  crc u32
//! block*      size u32  crc u32 of the block's number and payload  payload
//! ```
//!
//! A payload is a run of entries: rows (1), messages under way (2), and at the very end the counts
//! of both (3). All numbers are little-endian. What sessions had handled is not kept: they do not
//! outlive a restore.

use std::fmt;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::DiskBackend;
use super::files::{File, make_private_dir};
use super::index::{IndexError, Scan, Snapshot};
use super::journal::Reader;
use super::open::{Config, OpenError, open};
use super::schema::VERSION;
use super::{
    Backend, Change, Kind, MessageId, Op, Ops, Refusal, Replies, Reply, Require, StreamId, Ticket,
    TicketKey,
};

/// Everything at one instant, to be read while storage goes on.
pub struct Frozen {
    pub rows: Box<dyn Snapshot>,
    /// Messages that are not settled.
    pub messages: Vec<FrozenMessage>,
}

/// A message under way.
pub struct FrozenMessage {
    pub id: MessageId,
    pub body: FrozenBody,
}

/// Where a message is.
pub enum FrozenBody {
    /// Owner and stanza.
    Here { owner: Box<[u8]>, octets: Box<[u8]> },
    /// The body of a journal record. Stays readable when the segment is removed.
    There {
        file: Arc<dyn File>,
        offset: u64,
        size: u32,
    },
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub rows: u64,
    pub messages: u64,
    /// Octets of the file so far, and of the whole file where that is known.
    pub octets: u64,
    pub octets_total: Option<u64>,
}

/// Gets [`Progress`] after every block.
pub type OnProgress<'a> = dyn FnMut(Progress) + 'a;

/// Why there is no backup, or nothing was restored. One line each.
#[derive(Debug)]
pub enum BackupError {
    Io {
        path: PathBuf,
        error: io::Error,
    },
    Index(IndexError),
    Open(OpenError),
    /// Storage did not take what was restored.
    Refused(Refusal),
    NotABackup {
        path: PathBuf,
    },
    Newer {
        found: u32,
        known: u32,
    },
    Damaged {
        path: PathBuf,
        offset: u64,
    },
    /// The directory to restore into has something in it.
    NotEmpty {
        dir: PathBuf,
    },
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Index(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Refused(Refusal::Full) => f.write_str("no space is left on the device"),
            Self::Refused(Refusal::Failed) => f.write_str("the device failed"),
            Self::NotABackup { path } => write!(f, "{} is no backup", path.display()),
            Self::Newer { found, known } => write!(
                f,
                "the backup has version {found}, this program knows version {known}"
            ),
            Self::Damaged { path, offset } => write!(
                f,
                "{} is damaged or cut short at offset {offset}",
                path.display()
            ),
            Self::NotEmpty { dir } => write!(
                f,
                "{} is not empty: restore into a new directory",
                dir.display()
            ),
        }
    }
}

impl std::error::Error for BackupError {}

const MAGIC: &[u8; 8] = b"ENCKEBK1";
const HEAD_OCTETS: usize = 24;
const BLOCK_OCTETS: usize = 256 << 10;
/// No block that we wrote is larger: one entry may exceed [`BLOCK_OCTETS`].
const BLOCK_OCTETS_MAX: usize = 64 << 20;
const ROW: u8 = 1;
const MESSAGE: u8 = 2;
const COUNTS: u8 = 3;

/// Writes `frozen` to `path`, in place of what is there once it is complete and durable.
///
/// # Errors
/// [`BackupError::Io`] or [`BackupError::Index`]; what was at `path` is still there then.
pub fn backup(
    frozen: &Frozen,
    path: &Path,
    created_ms: u64,
    on_progress: &mut OnProgress<'_>,
) -> Result<Progress, BackupError> {
    let partial = with_suffix(path, ".partial");
    let io = |error| BackupError::Io {
        path: partial.clone(),
        error,
    };
    let file = private_file(&partial).map_err(io)?;
    let written = write_all(frozen, BufWriter::new(file), created_ms, on_progress);
    let progress = match written {
        Ok(progress) => progress,
        Err(error) => {
            // The first error is the one to report.
            let _ = fs::remove_file(&partial);
            return Err(match error {
                WriteError::Io(error) => io(error),
                WriteError::Index(error) => BackupError::Index(error),
            });
        }
    };
    fs::rename(&partial, path).map_err(io)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = fs::File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(io)?;
    Ok(progress)
}

enum WriteError {
    Io(io::Error),
    Index(IndexError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn write_all(
    frozen: &Frozen,
    out: BufWriter<fs::File>,
    created_ms: u64,
    on_progress: &mut OnProgress<'_>,
) -> Result<Progress, WriteError> {
    let mut blocks = Blocks::begin(out, created_ms, on_progress)?;
    let mut failed = None;
    let scanned = frozen
        .rows
        .scan_all(
            &mut |owner, kind, key, value| match blocks.row(owner, kind, key, value) {
                Ok(()) => Scan::More,
                Err(error) => {
                    failed = Some(error);
                    Scan::Enough
                }
            },
        );
    scanned.map_err(WriteError::Index)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    for message in &frozen.messages {
        blocks.message(message)?;
    }
    Ok(blocks.finish()?)
}

/// Writes blocks.
struct Blocks<'a, 'b> {
    out: BufWriter<fs::File>,
    payload: Vec<u8>,
    number: u64,
    progress: Progress,
    on_progress: &'a mut OnProgress<'b>,
}

impl<'a, 'b> Blocks<'a, 'b> {
    fn begin(
        mut out: BufWriter<fs::File>,
        created_ms: u64,
        on_progress: &'a mut OnProgress<'b>,
    ) -> io::Result<Self> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&created_ms.to_le_bytes());
        let check = crc32c::crc32c(&head);
        head.extend_from_slice(&check.to_le_bytes());
        out.write_all(&head)?;
        let octets = head.len() as u64;
        Ok(Self {
            out,
            payload: Vec::with_capacity(2 * BLOCK_OCTETS),
            number: 0,
            progress: Progress {
                octets,
                ..Progress::default()
            },
            on_progress,
        })
    }

    fn row(&mut self, owner: &[u8], kind: Kind, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.payload.extend_from_slice(&[ROW, kind as u8]);
        self.pieces(&[owner, key, value]);
        self.progress.rows += 1;
        self.flush_when_full()
    }

    fn message(&mut self, message: &FrozenMessage) -> io::Result<()> {
        let read;
        let (owner, octets) = match &message.body {
            FrozenBody::Here { owner, octets } => (&owner[..], &octets[..]),
            FrozenBody::There { file, offset, size } => {
                let mut body = vec![0; *size as usize];
                let count = file.read_at(&mut body, *offset)?;
                body.truncate(count);
                read = body;
                super::journal::owner_and_octets(&read).ok_or(io::ErrorKind::InvalidData)?
            }
        };
        self.payload.push(MESSAGE);
        self.payload.extend_from_slice(&message.id.0.to_le_bytes());
        self.pieces(&[owner, octets]);
        self.progress.messages += 1;
        self.flush_when_full()
    }

    fn pieces(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.payload
                .extend_from_slice(&(piece.len() as u32).to_le_bytes());
            self.payload.extend_from_slice(piece);
        }
    }

    fn flush_when_full(&mut self) -> io::Result<()> {
        if self.payload.len() < BLOCK_OCTETS {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let size = (self.payload.len() as u32).to_le_bytes();
        let check = block_check(self.number, &self.payload).to_le_bytes();
        for part in [&size[..], &check, &self.payload] {
            self.out.write_all(part)?;
        }
        self.progress.octets += 8 + self.payload.len() as u64;
        self.payload.clear();
        self.number += 1;
        (self.on_progress)(self.progress);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Progress> {
        self.payload.push(COUNTS);
        for count in [self.progress.rows, self.progress.messages] {
            self.payload.extend_from_slice(&count.to_le_bytes());
        }
        self.flush()?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(self.progress)
    }
}

fn block_check(number: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), payload)
}

/// Makes the storage directory of `config` from a backup. The whole file is checked first.
///
/// # Errors
/// [`BackupError::NotEmpty`] when there is something already; nothing is left behind after any.
pub fn restore(
    path: &Path,
    config: &Config,
    on_progress: &mut OnProgress<'_>,
) -> Result<Progress, BackupError> {
    let dir = &config.dir;
    let io = |error| BackupError::Io {
        path: dir.clone(),
        error,
    };
    let occupied = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(io(error)),
    };
    if occupied {
        return Err(BackupError::NotEmpty { dir: dir.clone() });
    }
    read_all(path, &mut |_| Ok(()), &mut |_| {})?;

    let partial = with_suffix(dir, ".partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io)?;
    }
    make_private_dir(&partial).map_err(io)?;
    let into = Config {
        dir: partial.clone(),
        ..config.clone()
    };
    let restored = restore_into(path, &into, on_progress);
    if restored.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    let progress = restored?;
    if dir.exists() {
        fs::remove_dir(dir).map_err(io)?;
    }
    fs::rename(&partial, dir).map_err(io)?;
    Ok(progress)
}

fn restore_into(
    path: &Path,
    config: &Config,
    on_progress: &mut OnProgress<'_>,
) -> Result<Progress, BackupError> {
    let (backend, _) = open(config).map_err(BackupError::Open)?;
    let mut restore = Restore {
        backend,
        replies: Replies::new(),
    };
    let progress = read_all(path, &mut |entries| restore.block(entries), on_progress)?;
    restore.backend.close();
    Ok(progress)
}

struct Restore {
    backend: DiskBackend,
    replies: Replies,
}

impl Restore {
    /// One block is one write, and its messages.
    fn block(&mut self, entries: &[Entry<'_>]) -> Result<(), BackupError> {
        let mut ops = Ops::default();
        let mut changes = Vec::new();
        let ticket = Ticket {
            shard: 0,
            key: TicketKey::from_bits(0),
        };
        for entry in entries {
            match *entry {
                Entry::Row {
                    owner,
                    kind,
                    key,
                    value,
                } => changes.push(Change::Put {
                    owner: ops.keep(owner),
                    kind,
                    key: ops.keep(key),
                    value: ops.keep(value),
                }),
                Entry::Message { id, owner, octets } => {
                    let op = Op::Journal {
                        id,
                        owner: ops.keep(owner),
                        octets: ops.keep(octets),
                        stream: StreamId(0),
                        handled: 0,
                    };
                    ops.push(Some(ticket), op);
                }
                Entry::Counts { .. } => {}
            }
        }
        if !changes.is_empty() {
            let require = Require::Nothing;
            ops.push(Some(ticket), Op::Write { require, changes });
        }
        ops.push(
            None,
            Op::Forget {
                stream: StreamId(0),
            },
        );
        self.replies.clear();
        self.backend.execute(&ops, &mut self.replies);
        self.backend.commit(&mut self.replies);
        let refused = self.replies.iter().find_map(|(_, reply)| match reply {
            Reply::Refused(refusal) => Some(*refusal),
            _ => None,
        });
        refused.map_or(Ok(()), |refusal| Err(BackupError::Refused(refusal)))
    }
}

/// What a payload consists of.
enum Entry<'a> {
    Row {
        owner: &'a [u8],
        kind: Kind,
        key: &'a [u8],
        value: &'a [u8],
    },
    Message {
        id: MessageId,
        owner: &'a [u8],
        octets: &'a [u8],
    },
    Counts {
        rows: u64,
        messages: u64,
    },
}

type OnBlock<'a> = dyn FnMut(&[Entry<'_>]) -> Result<(), BackupError> + 'a;

/// Reads and checks a whole backup, block by block.
fn read_all(
    path: &Path,
    on_block: &mut OnBlock<'_>,
    on_progress: &mut OnProgress<'_>,
) -> Result<Progress, BackupError> {
    let io = |error| BackupError::Io {
        path: path.into(),
        error,
    };
    let damaged = |offset| BackupError::Damaged {
        path: path.into(),
        offset,
    };
    let file = fs::File::open(path).map_err(io)?;
    let total = file.metadata().map_err(io)?.len();
    let mut file = BufReader::new(file);
    read_head(path, &mut file)?;
    let mut progress = Progress {
        octets: HEAD_OCTETS as u64,
        octets_total: Some(total),
        ..Progress::default()
    };
    let mut payload = Vec::new();
    for number in 0.. {
        let offset = progress.octets;
        let sound = read_block(&mut file, number, &mut payload).map_err(io)?;
        let entries = sound.then(|| parse(&payload)).flatten();
        let entries = entries.ok_or_else(|| damaged(offset))?;
        progress.octets += 8 + payload.len() as u64;
        for entry in &entries {
            match *entry {
                Entry::Row { .. } => progress.rows += 1,
                Entry::Message { .. } => progress.messages += 1,
                Entry::Counts { rows, messages } => {
                    let whole = (rows, messages) == (progress.rows, progress.messages);
                    if !whole || progress.octets != total {
                        return Err(damaged(offset));
                    }
                    on_block(&entries)?;
                    on_progress(progress);
                    return Ok(progress);
                }
            }
        }
        on_block(&entries)?;
        on_progress(progress);
    }
    unreachable!("a backup has an end")
}

fn read_head(path: &Path, file: &mut impl Read) -> Result<(), BackupError> {
    let path = || path.to_path_buf();
    let mut head = [0; HEAD_OCTETS];
    let read = file.read_exact(&mut head);
    let check = u32::from_le_bytes(head[20..].try_into().expect("four octets"));
    if read.is_err() || head[..8] != *MAGIC {
        return Err(BackupError::NotABackup { path: path() });
    }
    if crc32c::crc32c(&head[..20]) != check {
        let offset = 0;
        return Err(BackupError::Damaged {
            path: path(),
            offset,
        });
    }
    let found = u32::from_le_bytes(head[8..12].try_into().expect("four octets"));
    if found > VERSION {
        let known = VERSION;
        return Err(BackupError::Newer { found, known });
    }
    Ok(())
}

/// Whether the next block is there and holds.
fn read_block(file: &mut impl Read, number: u64, payload: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; 8];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    let (size, check) = head.split_at(4);
    let number_of = |octets: &[u8]| u32::from_le_bytes(octets.try_into().expect("four octets"));
    let (size, check) = (number_of(size) as usize, number_of(check));
    if size > BLOCK_OCTETS_MAX {
        return Ok(false);
    }
    payload.clear();
    let count = file.take(size as u64).read_to_end(payload)?;
    Ok(count == size && block_check(number, payload) == check)
}

fn parse(payload: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        entries.push(match reader.u8()? {
            ROW => {
                let kind = Kind::from_number(reader.u8()?)?;
                Entry::Row {
                    owner: piece(&mut reader)?,
                    kind,
                    key: piece(&mut reader)?,
                    value: piece(&mut reader)?,
                }
            }
            MESSAGE => Entry::Message {
                id: MessageId(reader.u64()?),
                owner: piece(&mut reader)?,
                octets: piece(&mut reader)?,
            },
            COUNTS => Entry::Counts {
                rows: reader.u64()?,
                messages: reader.u64()?,
            },
            _ => return None,
        });
    }
    Some(entries)
}

fn piece<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let size = reader.u32()?;
    reader.take(size as usize)
}
