//! Writing files so that a reader never sees half of one.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::Error;

/// Writes a file under another name, flushes it to the disk, and renames it.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("tmp");
    write_synced(&partial, bytes)?;
    fs::rename(&partial, path).map_err(Error::io(path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a file and flushes it to the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}

/// Makes a rename in a folder outlive a loss of power.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(path))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
