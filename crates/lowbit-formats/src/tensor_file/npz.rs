//! The `.npz` files of NumPy: zip archives of `.npy` files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::error::FormatError;
use crate::format::Format;
use crate::new_file::NewFile;
use crate::study::compare::Tensor;
use crate::tensor_file::npy::{Array, Header};
use crate::tensor_file::target::{Target, copy};
use crate::tensor_file::{Applied, ApplyConfig, ByteType, Output, Source, file_error, write_error};

/// An array of the archive.
struct Member<'a> {
    /// Under which it is stored.
    name: String,
    method: CompressionMethod,
    source: Source<'a>,
}

/// The arrays of an archive, in its order. A compressed one is unpacked when its turn comes.
struct Members<'a> {
    path: &'a Path,
    archive: ZipArchive<File>,
    next: usize,
}

impl<'a> Members<'a> {
    fn open(source: &Source<'a>) -> Result<Self, FormatError> {
        let path = source.path;
        let file = File::open(path).map_err(|error| file_error(path, error))?;
        let archive = ZipArchive::new(file).map_err(|error| bad(path, &error))?;
        let is_array = |name: &[u8]| name.ends_with(b".npy");
        // What `torch.save` writes is such an archive, too.
        if !archive.file_names_raw().all(is_array) {
            return Err(file_error(
                path,
                "is an archive of other files than .npy, no .npz file",
            ));
        }
        Ok(Self {
            path,
            archive,
            next: 0,
        })
    }

    fn next(&mut self) -> Result<Option<Member<'a>>, FormatError> {
        if self.next == self.archive.len() {
            return Ok(None);
        }
        let bad = |error: &ZipError| bad(self.path, error);
        let mut entry = self.archive.by_index(self.next).map_err(|e| bad(&e))?;
        self.next += 1;
        let name = entry.name().map_err(|e| bad(&e))?.into_owned();
        let array = name.strip_suffix(".npy").unwrap_or(&name);
        let (method, size) = (entry.compression(), entry.size());
        let source = match (method, entry.data_start()) {
            (CompressionMethod::Stored, Some(start)) => {
                Source::part(self.path, array, start, size)?
            }
            _ => {
                // No more than the archive says, which is checked at the end.
                let mut bytes = Vec::new();
                let read = entry.by_ref().take(size + 1).read_to_end(&mut bytes);
                read.map_err(|error| file_error(self.path, format!("`{array}`: {error}")))?;
                Source::unpacked(self.path, array, bytes)
            }
        };
        Ok(Some(Member {
            name,
            method,
            source,
        }))
    }
}

pub(crate) fn read(
    source: &Source<'_>,
    bytes: Option<ByteType>,
) -> Result<Vec<Tensor>, FormatError> {
    let mut members = Members::open(source)?;
    let mut tensors = Vec::new();
    while let Some(mut member) = members.next()? {
        let header = Header::read(&mut member.source, bytes)?;
        if let Array::Numbers(stored) = &header.array {
            tensors.push(stored.tensor(&mut member.source)?);
        }
    }
    Ok(tensors)
}

/// The same archive with its arrays of floating point rounded. Compressed ones are compressed
/// again.
pub(crate) fn apply(
    format: &Format,
    config: &ApplyConfig,
    source: &Source<'_>,
    output: &Path,
) -> Result<Applied, FormatError> {
    if config.output == Output::Codes {
        return Err(source.error("is a .npz file, of which only numbers are written, not codes"));
    }
    let mut members = Members::open(source)?;
    let mut applied = Applied::new(format, config, source);
    let mut target = Target::create(output)?;
    // The sizes follow the arrays, so that a FIFO can be written.
    let mut archive = ZipWriter::new_stream(Written {
        file: target.file(),
        failed: false,
    });
    while let Some(mut member) = members.next()? {
        let options = SimpleFileOptions::default()
            .compression_method(member.method)
            .large_file(true);
        archive
            .start_file(member.name, options)
            .map_err(|error| bad(output, &error))?;
        let write = |bytes: &[u8]| {
            let written = archive.write_all(bytes);
            written.map_err(|error| write_error(output, &error))
        };
        let source = &mut member.source;
        let header = Header::read(source, config.bytes)?;
        match &header.array {
            Array::Numbers(_) => {
                let index = applied.tensors.len();
                let rounded = header.round(format, config, index, source, write)?;
                applied.tensors.push(rounded);
            }
            Array::Other(name) => {
                copy(source, 0, source.size, write)?;
                applied.copy(name);
            }
        }
    }
    archive.finish().map_err(|error| bad(output, &error))?;
    applied.finished(target)
}

/// What the archive is written to. Once that has failed it takes what comes in silence: an archive
/// that is dropped tries to complete itself, and complains on standard error if it cannot.
struct Written<'a> {
    file: &'a mut NewFile,
    failed: bool,
}

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Ok(bytes.len());
        }
        let written = self.file.write(bytes);
        self.failed = written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn bad(path: &Path, error: &ZipError) -> FormatError {
    match error {
        ZipError::Io(error) => write_error(path, error),
        _ => file_error(path, format!("cannot be used as a .npz file: {error}")),
    }
}
