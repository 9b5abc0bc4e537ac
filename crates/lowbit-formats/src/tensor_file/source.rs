//! The file that is read, or an array inside it.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::FormatError;
use crate::tensor_file::{file_error, safetensors};

/// A file, or a member of a `.npz` file.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    /// The member's name, without the ending of its own.
    member: Option<String>,
    bytes: Bytes,
    pub(crate) size: u64,
}

enum Bytes {
    /// In a file, from a place on.
    File(File, u64),
    /// What was compressed.
    Memory(Cursor<Vec<u8>>),
}

/// What a file holds, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Npy,
    Npz,
    Safetensors,
}

impl Kind {
    /// The ending of such a file's name.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Safetensors => "safetensors",
        }
    }
}

impl<'a> Source<'a> {
    pub(crate) fn open(path: &'a Path) -> Result<Self, FormatError> {
        let error = |error| file_error(path, error);
        let file = File::open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            return Err(file_error(path, "is not a file"));
        }
        Ok(Self {
            path,
            member: None,
            bytes: Bytes::File(file, 0),
            size: metadata.len(),
        })
    }

    /// A member that lies as it is in the file, `size` bytes from `start` on.
    pub(crate) fn part(
        path: &'a Path,
        member: &str,
        start: u64,
        size: u64,
    ) -> Result<Self, FormatError> {
        let file = File::open(path).map_err(|error| file_error(path, error))?;
        Self {
            path,
            member: Some(member.into()),
            bytes: Bytes::File(file, start),
            size,
        }
        .rewound()
    }

    /// A member that was compressed.
    pub(crate) fn unpacked(path: &'a Path, member: &str, bytes: Vec<u8>) -> Self {
        Self {
            path,
            member: Some(member.into()),
            size: bytes.len() as u64,
            bytes: Bytes::Memory(Cursor::new(bytes)),
        }
    }

    fn rewound(mut self) -> Result<Self, FormatError> {
        self.seek(0)?;
        Ok(self)
    }

    pub(crate) fn error(&self, reason: impl ToString) -> FormatError {
        let reason = reason.to_string();
        match &self.member {
            Some(member) => file_error(self.path, format!("`{member}` {reason}")),
            None => file_error(self.path, reason),
        }
    }

    /// Says in which tensor of the file a format failed.
    pub(crate) fn named(&self, tensor: &str, error: FormatError) -> FormatError {
        match error {
            FormatError::File { .. } | FormatError::NoReader { .. } => error,
            _ => file_error(self.path, format!("tensor `{tensor}`: {error}")),
        }
    }

    /// The file's own name, without folders.
    pub(crate) fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Whether it is an array inside a file.
    pub(crate) fn is_member(&self) -> bool {
        self.member.is_some()
    }

    /// The name of the one array in it.
    pub(crate) fn name(&self) -> String {
        self.member.clone().unwrap_or_else(|| self.file_name())
    }

    /// What it holds, if it is none of what is read.
    pub(crate) fn kind(&mut self) -> Result<Kind, FormatError> {
        let mut magic = [0; 9];
        let length = magic.len().min(self.size as usize);
        self.read(&mut magic[..length])?;
        self.seek(0)?;
        match magic {
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Ok(Kind::Npy),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Ok(Kind::Npz),
            // The length of a header, and its first byte.
            [length @ .., b'{']
                if safetensors::header_fits(u64::from_le_bytes(length), self.size) =>
            {
                Ok(Kind::Safetensors)
            }
            _ => Err(self.error("is neither a .npy or .npz nor a safetensors file")),
        }
    }

    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        match &mut self.bytes {
            Bytes::File(file, _) => file.read_exact(bytes),
            Bytes::Memory(memory) => memory.read_exact(bytes),
        }
        .map_err(|error| self.error(error))
    }

    pub(crate) fn seek(&mut self, position: u64) -> Result<(), FormatError> {
        match &mut self.bytes {
            Bytes::File(file, start) => file.seek(SeekFrom::Start(*start + position)),
            Bytes::Memory(memory) => memory.seek(SeekFrom::Start(position)),
        }
        .map(drop)
        .map_err(|error| self.error(error))
    }
}
