use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::Error;

/// A data file, plain or gzip, that is read front to back and knows where it stands, so that an
/// error can say where the file is wrong.
pub(super) struct Reader {
    path: PathBuf,
    bytes: Box<dyn Read>,
    offset: u64,
}

impl Reader {
    /// Opens a file; one whose name ends in `.gz` is decompressed on the way.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let bytes: Box<dyn Read> = if path.extension().is_some_and(|end| end == "gz") {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        Ok(Self::new(path, bytes))
    }

    /// Reads from anything; `path` is what errors call it.
    pub(super) fn new(path: &Path, bytes: Box<dyn Read>) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
            offset: 0,
        }
    }

    /// The next `count` bytes, which hold `what`.
    pub(super) fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>, Error> {
        let start = self.offset;
        let bytes = self.up_to(count)?;
        if (bytes.len() as u64) < count {
            let message =
                format!("the file ends here, in the {what} ({count} bytes from offset {start})");
            return Err(self.wrong(self.offset, message));
        }
        Ok(bytes)
    }

    /// The next four bytes, which hold `what`, as a big-endian number.
    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        let bytes = self.bytes(4, what)?;
        Ok(bytes.iter().fold(0, |n, &byte| n << 8 | u32::from(byte)))
    }

    /// Everything up to the end of the file.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, Error> {
        self.up_to(u64::MAX)
    }

    /// Fails unless the file ends here. Of a gzip file, this also checks the checksum.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        let end = self.offset;
        if self.up_to(1)?.is_empty() {
            return Ok(());
        }
        Err(self.wrong(end, "the file goes on where it should end".into()))
    }

    /// An error about the byte at `offset`.
    pub(super) fn wrong(&self, offset: u64, message: String) -> Error {
        Error::Data {
            path: self.path.clone(),
            offset: Some(offset),
            message,
        }
    }

    fn up_to(&mut self, count: u64) -> Result<Vec<u8>, Error> {
        // The buffer grows with what arrives: a header that lies about the size costs no memory.
        let mut bytes = Vec::new();
        let result = self.bytes.by_ref().take(count).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match result {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        // These kinds come from the decompressor, never from a plain file.
        match error.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
                self.wrong(self.offset, format!("the gzip data is corrupt ({error})"))
            }
            _ => Error::io(&self.path)(error),
        }
    }
}
