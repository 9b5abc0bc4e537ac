//! One worker to a cell.

use std::fs::{File, OpenOptions, TryLockError, read_to_string};
use std::io::Write;
use std::path::Path;

use crate::Error;
use crate::host::host;

/// The file that is locked.
const LOCK: &str = "lock";

/// The right to train a cell, until it is dropped or the process ends, however it ends.
///
/// It is a lock of the operating system (`flock`; `LockFileEx` on Windows) on a file in the cell's
/// folder, not the file itself: the file stays, and tells nothing but who had the lock last. So a
/// worker that was killed leaves nothing behind that somebody would have to judge or to remove.
///
/// On NFS the Linux kernel makes a `flock` a lock of the server, which holds between machines and
/// ends with the client's lease. Lustre and GPFS need to be mounted with it (`-o flock`; with
/// `localflock` it holds on one machine only).
#[derive(Debug)]
pub struct CellLock {
    _file: File,
}

impl CellLock {
    /// Takes the lock of the cell in folder `cell`; none if another worker has it.
    ///
    /// # Errors
    /// If the file cannot be made, or the file system has no locks.
    pub fn take(cell: &Path) -> Result<Option<Self>, Error> {
        let path = cell.join(LOCK);
        let mut options = OpenOptions::new();
        // What the holder wrote is not touched before the lock is had.
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
        }
        let host = host().unwrap_or("an unknown machine".into());
        let told = format!("process {} on {host}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(told.as_bytes()))
            .map_err(Error::io(&path))?;
        Ok(Some(Self { _file: file }))
    }

    /// Who has the lock of a cell, or had it last, in words.
    pub fn holder(cell: &Path) -> String {
        let told = read_to_string(cell.join(LOCK)).unwrap_or_default();
        match told.trim() {
            "" => "another process".into(),
            told => told.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_and_again_when_it_was_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = CellLock::take(folder.path()).unwrap();
        assert!(first.is_some());
        assert!(CellLock::take(folder.path()).unwrap().is_none());
        let id = std::process::id();
        let holder = CellLock::holder(folder.path());
        assert!(holder.starts_with(&format!("process {id} on ")), "{holder}");
        drop(first);
        assert!(CellLock::take(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_file_that_was_left_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK), "process 1 on another\n").unwrap();
        assert!(CellLock::take(folder.path()).unwrap().is_some());
        let missing = CellLock::take(&folder.path().join("no")).unwrap_err();
        assert!(missing.to_string().contains("no/lock: "), "{missing}");
    }
}
