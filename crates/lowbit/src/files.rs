//! Writing files so that a reader never sees half of one.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use lowbit_formats::new_file;

use crate::Error;

/// Writes a file under another name, flushes it to the disk, and renames it.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    new_file::write(path, bytes).map_err(Error::io(path))?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

/// Writes a file and flushes it to the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}

/// Makes a rename in a folder outlive a loss of power.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(path))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
