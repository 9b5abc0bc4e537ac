//! Tensors in `.npy` and safetensors files: read, or rounded into a new file.
//!
//! Needs the cargo feature `files`. A format whose numbers stand alone is applied in pieces, so
//! that a file of any size fits; a block format has one tensor in memory at a time.

mod codes;
mod element;
mod npy;
mod pass;
mod safetensors;
mod temporary;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::study::compare::Sample;
use crate::study::error_summary::ErrorSummary;

/// What [`apply`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The rounded numbers, in the type and shape they had.
    Numbers,
    /// Their codes in row-major order, packed as [`pack`](crate::kernel::pack) does. In a `.npy` file they
    /// are bytes of one dimension. In a safetensors file, into which an array of a `.npy` file may
    /// be written too, they are bytes under the tensor's name with `.codes` added, beside `.scales`
    /// (and `.tensor_scale` or `.zero_points`) of block formats; the type and shape of each tensor,
    /// and the format, are in its metadata.
    Codes,
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Applied {
    /// The format's text.
    pub format: String,
    /// The rounding mode.
    pub rounding: Rounding,
    /// The tensors that were rounded, in the order of the file.
    pub tensors: Vec<TensorError>,
    /// How many tensors were copied because they are not of floating point.
    pub copied: usize,
    /// Size of the file that was read.
    pub bytes_in: u64,
    /// Size of the file that was written.
    pub bytes_out: u64,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorError {
    /// Its name; of a `.npy` file, the file's.
    pub name: String,
    /// Its element type, such as `f32`.
    pub dtype: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// The error of what was written.
    pub error: ErrorSummary,
}

/// Rounds the tensors of f16, bf16, f32 and f64 in a `.npy` or safetensors file into a new file of
/// the same kind, or the codes of an array in a `.npy` file into a safetensors file; other tensors
/// are copied. The new file appears under its name when it is complete, and may be the one that was
/// read.
///
/// Numbers are rounded as f32. Those of f64 are brought there by rounding to odd for formats of at
/// most 16 bits, so that rounding twice gives what rounding once does, and by nearest-even for
/// wider ones. Results that the tensor's type does not hold are written as the nearest that it
/// does. In stochastic rounding, tensor `i` of the file, counted from 0 among those rounded, draws
/// from stream `stream + i`, and element `j`, counted in row-major order, takes word `j`.
///
/// # Errors
///
/// [`FormatError::File`] if a file cannot be read or written or is ill-formed, or the new one is a
/// `.npy` file for the codes of a block format; [`FormatError::Shape`] if a tensor lacks the
/// format's dimension; [`FormatError::Parameter`] if the number of random bits is not in 1..=32.
pub fn apply(
    format: &Format,
    rounding: Rounding,
    input: &Path,
    output: &Path,
    kind: Output,
) -> Result<Applied, FormatError> {
    rounding.validate()?;
    let mut input = Source::open(input)?;
    let is_npy = input.is_npy()?;
    let fits = match (output.extension().and_then(OsStr::to_str), is_npy) {
        (Some("npy"), is_npy) => is_npy,
        (Some("safetensors"), true) => kind == Output::Codes,
        _ => true,
    };
    if !fits {
        let expected = if is_npy { "npy" } else { "safetensors" };
        let reason = format!("expected the ending .{expected}, as the input is of that kind");
        return Err(file_error(output, reason));
    }
    if is_npy {
        npy::apply(format, rounding, &mut input, output, kind)
    } else {
        safetensors::apply(format, rounding, &mut input, output, kind)
    }
}

/// All tensors of f16, bf16, f32 and f64 in a `.npy` or safetensors file, as f32.
///
/// # Errors
///
/// [`FormatError::File`] if the file cannot be read, is ill-formed, or holds no such tensor.
pub fn read(path: &Path) -> Result<Sample, FormatError> {
    let mut source = Source::open(path)?;
    let tensors = if source.is_npy()? {
        npy::read(&mut source)?
    } else {
        safetensors::read(&mut source)?
    };
    if tensors.is_empty() {
        return Err(source.error("holds no tensor of f16, bf16, f32 or f64"));
    }
    Ok(Sample {
        name: source.name(),
        tensors,
    })
}

fn is_safetensors(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending == "safetensors")
}

fn file_error(path: &Path, reason: impl ToString) -> FormatError {
    FormatError::File {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// A file that is read.
struct Source<'a> {
    path: &'a Path,
    file: File,
    size: u64,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, FormatError> {
        let error = |error| file_error(path, error);
        let file = File::open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            return Err(file_error(path, "is not a file"));
        }
        let size = metadata.len();
        Ok(Self { path, file, size })
    }

    fn error(&self, reason: impl ToString) -> FormatError {
        file_error(self.path, reason)
    }

    /// Says in which tensor of the file a format failed.
    fn named(&self, tensor: &str, error: FormatError) -> FormatError {
        match error {
            FormatError::File { .. } => error,
            _ => self.error(format!("tensor `{tensor}`: {error}")),
        }
    }

    /// The file's own name, without folders.
    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn is_npy(&mut self) -> Result<bool, FormatError> {
        if self.size < 8 {
            return Err(self.error("is neither a .npy nor a safetensors file: it is too short"));
        }
        let mut magic = [0; 6];
        self.read(&mut magic)?;
        self.seek(0)?;
        Ok(magic == *b"\x93NUMPY")
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        self.file
            .read_exact(bytes)
            .map_err(|error| file_error(self.path, error))
    }

    fn seek(&mut self, position: u64) -> Result<(), FormatError> {
        let sought = self.file.seek(SeekFrom::Start(position));
        sought
            .map(drop)
            .map_err(|error| file_error(self.path, error))
    }
}

/// The rounding of a file's tensor number `index`.
fn of_tensor(rounding: Rounding, index: usize) -> Rounding {
    match rounding {
        Rounding::Stochastic { seed, stream, bits } => Rounding::Stochastic {
            seed,
            stream: stream.wrapping_add(index as u64),
            bits,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
