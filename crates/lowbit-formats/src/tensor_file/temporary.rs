//! A file that appears under its name when it is complete.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::FormatError;
use crate::tensor_file::{Source, file_error};

/// A file under a temporary name beside its own; it is removed unless it is finished.
pub(crate) struct Temporary<'a> {
    path: &'a Path,
    temporary: PathBuf,
    file: File,
    finished: bool,
}

impl<'a> Temporary<'a> {
    pub(crate) fn create(path: &'a Path) -> Result<Self, FormatError> {
        let name = path
            .file_name()
            .ok_or_else(|| file_error(path, "is not the name of a file"))?;
        if path.is_dir() {
            return Err(file_error(path, "is a folder"));
        }
        let name = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
        let temporary = path.with_file_name(name);
        let file = File::create_new(&temporary).map_err(|error| file_error(path, error))?;
        Ok(Self {
            path,
            temporary,
            file,
            finished: false,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| file_error(self.path, error))
    }

    pub(crate) fn seek(&mut self, position: u64) -> Result<(), FormatError> {
        let sought = self.file.seek(SeekFrom::Start(position));
        sought
            .map(drop)
            .map_err(|error| file_error(self.path, error))
    }

    /// Gives the file its name, and tells its size.
    pub(crate) fn finish(mut self) -> Result<u64, FormatError> {
        let error = |error| file_error(self.path, error);
        self.file.sync_all().map_err(error)?;
        let size = self.file.metadata().map_err(error)?.len();
        fs::rename(&self.temporary, self.path).map_err(error)?;
        self.finished = true;
        Ok(size)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // What went wrong has been reported; a leftover is the lesser evil.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Copies `length` bytes from `start` on.
pub(crate) fn copy(
    source: &mut Source<'_>,
    start: u64,
    length: u64,
    target: &mut Temporary<'_>,
) -> Result<(), FormatError> {
    const PIECE: u64 = 1 << 20;
    source.seek(start)?;
    let mut rest = length;
    let mut bytes = vec![0; PIECE.min(length) as usize];
    while rest > 0 {
        let piece = &mut bytes[..rest.min(PIECE) as usize];
        source.read(piece)?;
        target.write(piece)?;
        rest -= piece.len() as u64;
    }
    Ok(())
}
