//! Files that are written: each appears under its name when it is complete.
//!
//! Every file that this crate and those above it write comes from here, so that an output path
//! means the same everywhere:
//!
//! - The bytes go into a temporary file beside the path, which takes the path's name at the end. A
//!   reader sees the old file or the new one, never half of one.
//! - A symbolic link is followed: what it points to is made or replaced, and the link stays.
//! - A file that is replaced hands on its permissions and, as far as the system allows, its owner.
//!   A read-only one is not replaced.
//! - A device of characters or a FIFO is written into. Folders, sockets and disks are refused.
//! - [`remove_unfinished`] takes the temporary files away when a process is told to end.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the names of temporary files begin and end with.
const PREFIX: &str = ".lowbit-";
const SUFFIX: &str = ".part";

/// Symbolic links that are followed one after the other, as many as Linux follows.
const LINKS: usize = 40;

/// The temporary files of this process.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file that is written; without [`finish`](Self::finish) nothing is left of it.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    place: Place,
    /// Bytes that were written.
    written: u64,
}

#[derive(Debug)]
enum Place {
    /// In a file that is to take the name of another.
    Beside { temporary: PathBuf, path: PathBuf },
    /// In a device or FIFO, which takes the bytes as they come.
    Into,
}

/// No file is made or finished before this is dropped.
#[must_use]
pub struct Halted(#[expect(dead_code, reason = "held")] MutexGuard<'static, Vec<PathBuf>>);

impl NewFile {
    /// A new file for `path`.
    ///
    /// # Errors
    ///
    /// If the path is that of a folder, a socket, a disk or a read-only file, or the system does
    /// not let a file be made there.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(refused("is the name of a folder"));
        }
        let (path, old) = resolve(path)?;
        match old {
            Some(old) if old.is_dir() => Err(refused("is a folder")),
            Some(old) if !old.is_file() => Self::into_stream(&path, &old),
            old => Self::beside(path, old.as_ref()),
        }
    }

    fn beside(path: PathBuf, old: Option<&Metadata>) -> io::Result<Self> {
        if old.is_some_and(|old| old.permissions().readonly()) {
            return Err(refused("is read-only"));
        }
        if old.is_some() {
            // Says what the system has against it, which a rename would not ask.
            OpenOptions::new().write(true).open(&path)?;
        }
        let (temporary, file) = temporary(&path, old.is_some())?;
        let place = Place::Beside { temporary, path };
        let new = Self {
            file,
            place,
            written: 0,
        };
        if let Some(old) = old {
            hand_on(old, &new.file)?;
        }
        Ok(new)
    }

    fn into_stream(path: &Path, old: &Metadata) -> io::Result<Self> {
        if is_disk(old) {
            return Err(refused("is a disk"));
        }
        Ok(Self {
            file: OpenOptions::new().write(true).open(path)?,
            place: Place::Into,
            written: 0,
        })
    }

    /// Gives the file its name, and tells its size in bytes.
    ///
    /// # Errors
    ///
    /// If the system fails to write or to rename it; nothing is left of it then.
    pub fn finish(self) -> io::Result<u64> {
        let Place::Beside { temporary, path } = &self.place else {
            return Ok(self.written);
        };
        self.file.sync_all()?;
        let size = self.file.metadata()?.len();
        let mut unfinished = unfinished();
        fs::rename(temporary, path)?;
        unfinished.retain(|other| other != temporary);
        Ok(size)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match (&self.place, position) {
            (Place::Beside { .. }, _) => self.file.seek(position),
            (Place::Into, SeekFrom::Start(place)) if place == self.written => Ok(place),
            (Place::Into, _) => Err(refused("is no file, and takes bytes in their order only")),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let Place::Beside { temporary, .. } = &self.place else {
            return;
        };
        let mut unfinished = unfinished();
        if let Some(at) = unfinished.iter().position(|other| other == temporary) {
            unfinished.swap_remove(at);
            // What went wrong has been reported; a leftover is the lesser evil.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Writes a whole file.
///
/// # Errors
///
/// As [`NewFile`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.finish().map(drop)
}

/// Whether a file's name is one that temporary files have: what a process that was killed left.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Whether a folder holds something but what a program that was killed at birth left half written.
pub fn holds_something(folder: &Path) -> bool {
    let unfinished = |entry: &fs::DirEntry| is_temporary(&entry.file_name());
    let holds = |entries: fs::ReadDir| entries.flatten().any(|entry| !unfinished(&entry));
    fs::read_dir(folder).is_ok_and(holds)
}

/// Removes the temporary files of this process, which is about to end.
pub fn remove_unfinished() -> Halted {
    let mut unfinished = unfinished();
    for temporary in unfinished.drain(..) {
        let _ = fs::remove_file(temporary);
    }
    Halted(unfinished)
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    // A thread that panicked while it held the lock left a whole list.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty file under a name that no other has, in the folder of `path`. Where it replaces a file,
/// nobody else may read it before it has that one's permissions.
fn temporary(path: &Path, private: bool) -> io::Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if path.file_name().is_none() {
        return Err(refused("is not the name of a file"));
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    let mut unfinished = unfinished();
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let temporary = path.with_file_name(format!("{PREFIX}{process}-{number}{SUFFIX}"));
        match options.open(&temporary) {
            // Of a process that was killed, or of one on another machine.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                unfinished.push(temporary.clone());
                return Ok((temporary, file));
            }
        }
    }
}

/// The path behind symbolic links, and what is there.
fn resolve(path: &Path) -> io::Result<(PathBuf, Option<Metadata>)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::metadata(&path) {
            Ok(old) if old.is_file() => return Ok((fs::canonicalize(&path)?, Some(old))),
            Ok(old) => return Ok((path, Some(old))),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        match fs::read_link(&path) {
            // Relative to the folder of the link, or absolute.
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok((path, None)),
        }
    }
    Err(refused("is a link to a link, and so on"))
}

/// Gives a new file the permissions of the old one, and its owner where the system allows that.
fn hand_on(old: &Metadata, new: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            // Only a superuser gives files away.
            let _ = fchown(new, Some(old.uid()), Some(old.gid()));
        }
    }
    new.set_permissions(old.permissions())
}

fn is_disk(old: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_block_device(&old.file_type());
    #[cfg(not(unix))]
    return !old.is_file();
}

fn refused(reason: &str) -> io::Error {
    io::Error::other(reason)
}
