//! The file layer below the journal: small enough that a test can cut the power at every call.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// One directory of files.
pub trait Files: Send + Sync {
    /// Makes an empty file, or empties the one that has this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Names of all files, sorted. Directories below are not among them.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file. What was open stays readable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, renames and removals survive a power cut.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file.
pub trait File: Send + Sync {
    /// Writes all octets at `offset`. After an error any part of them may be there.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;
    /// Reads until `octets` is full or the file ends; tells how many there were.
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<usize>;
    /// How long the file is.
    fn size(&self) -> io::Result<u64>;
    /// Reserves space up to `octets`, so that writing there needs no more.
    fn allocate(&self, octets: u64) -> io::Result<()>;
    /// Cuts the file to `octets`.
    fn truncate(&self, octets: u64) -> io::Result<()>;
    /// Makes what was written survive a power cut.
    fn sync_data(&self) -> io::Result<()>;
}

/// A directory of the operating system.
pub struct RealFiles {
    path: PathBuf,
}

impl RealFiles {
    /// Opens `path`, made when it is missing, readable by its owner only.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_dir(path: &Path) -> io::Result<Self> {
        make_private_dir(path)?;
        let path = path.to_path_buf();
        Ok(Self { path })
    }

    fn open_with(&self, name: &str, options: &mut fs::OpenOptions) -> io::Result<Arc<dyn File>> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path.join(name);
        let file = options.read(true).write(true).mode(0o600).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }
}

/// Makes a directory that only its owner may read.
pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

impl Files for RealFiles {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, fs::OpenOptions::new().create(true).truncate(true))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, &mut fs::OpenOptions::new())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(octets, offset)
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < octets.len() {
            match self
                .file
                .read_at(&mut octets[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Where the file system cannot reserve, the space is found when it is written.
    fn allocate(&self, octets: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, octets) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.file.set_len(octets)
            }
            done => Ok(done?),
        }
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        self.file.set_len(octets)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
