//! The file that is written, in the words of formats' errors.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::FormatError;
use crate::new_file::NewFile;
use crate::tensor_file::{Source, write_error};

/// A file that appears under its name when it is finished.
pub(crate) struct Target<'a> {
    path: &'a Path,
    file: NewFile,
}

impl<'a> Target<'a> {
    pub(crate) fn create(path: &'a Path) -> Result<Self, FormatError> {
        let file = NewFile::create(path).map_err(|error| write_error(path, &error))?;
        Ok(Self { path, file })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| write_error(self.path, &error))
    }

    pub(crate) fn seek(&mut self, position: u64) -> Result<(), FormatError> {
        let sought = self.file.seek(SeekFrom::Start(position));
        sought
            .map(drop)
            .map_err(|error| write_error(self.path, &error))
    }

    /// The file, for those who write it themselves.
    pub(crate) fn file(&mut self) -> &mut NewFile {
        &mut self.file
    }

    /// Gives the file its name, and tells its size.
    pub(crate) fn finish(self) -> Result<u64, FormatError> {
        let finished = self.file.finish();
        finished.map_err(|error| write_error(self.path, &error))
    }
}

/// Copies `length` bytes from `start` on.
pub(crate) fn copy(
    source: &mut Source<'_>,
    start: u64,
    length: u64,
    mut write: impl FnMut(&[u8]) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    const PIECE: u64 = 1 << 20;
    source.seek(start)?;
    let mut rest = length;
    let mut bytes = vec![0; PIECE.min(length) as usize];
    while rest > 0 {
        let piece = &mut bytes[..rest.min(PIECE) as usize];
        source.read(piece)?;
        write(piece)?;
        rest -= piece.len() as u64;
    }
    Ok(())
}
