//! Tensors in `.npy`, `.npz` and safetensors files: read, or rounded into a new file.
//!
//! Needs the cargo feature `files`. A format whose numbers stand alone is applied in pieces, so
//! that a file of any size fits; a block format has one tensor in memory at a time, and so has an
//! array of a `.npz` file that is compressed.

mod bitsandbytes;
mod codes;
mod element;
mod layout;
mod npy;
mod npz;
mod pass;
mod safetensors;
mod source;
mod target;

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::Serialize;

pub use element::ByteType;
pub use layout::CodeLayout;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::study::compare::Sample;
use crate::study::error_summary::ErrorSummary;
use source::{Kind, Source};
use target::Target;

/// What [`apply`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    #[default]
    /// The rounded numbers, in the type and shape they had.
    Numbers,
    /// Their codes in row-major order, packed as [`pack`](crate::kernel::pack) does. In a `.npy` file they
    /// are bytes of one dimension. In a safetensors file, into which an array of a `.npy` file may
    /// be written too, they are bytes under the tensor's name with `.codes` added, beside `.scales`
    /// (and `.tensor_scale`, `.zero_points`, or `.scale_scales` and `.scale_mean`) of block formats;
    /// the type and shape of each tensor, and the format, are in its metadata. [`CodeLayout`] says
    /// how else they may be stored.
    Codes,
}

/// Where the random numbers of stochastic rounding come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Streams {
    /// Tensor `i` of a file, counted from 0 among those rounded, draws from stream `stream + i`.
    #[default]
    Numbered,
    /// A tensor draws from the stream that is the 64-bit FNV-1a hash of its file's name without
    /// folders, a byte of zero, and its own name (of a `.npy` file, without the ending). So a tensor
    /// gets the same numbers wherever its file lies and in whatever order the file has it; and so do
    /// tensors of one name in files of one name, in two folders. The stream of the rounding does not
    /// matter.
    Named,
}

/// How [`apply_with`] reads, rounds and writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyConfig {
    /// The rounding mode.
    pub rounding: Rounding,
    /// Where stochastic rounding takes its random numbers.
    pub streams: Streams,
    /// What is written.
    pub output: Output,
    /// How codes are stored in a safetensors file.
    pub layout: CodeLayout,
    /// What numbers of NumPy's type `V1` are. Arrays of other types in a `.npz` file are read as
    /// what they are; a `.npy` file of another type is refused.
    pub bytes: Option<ByteType>,
}

impl ApplyConfig {
    /// The rounding of the tensor of a name, number `index` of those that are rounded.
    fn of_tensor(&self, source: &Source<'_>, name: &str, index: usize) -> Rounding {
        let (Rounding::Stochastic { seed, bits, .. }, Streams::Named) =
            (self.rounding, self.streams)
        else {
            return self.rounding.of_tensor(index);
        };
        // A file's one array has the same stream whether its codes are in a .npy file or not.
        let name = name.strip_suffix(".npy").unwrap_or(name);
        let stream = hash(format!("{}\0{name}", source.file_name()).as_bytes());
        Rounding::Stochastic { seed, stream, bits }
    }
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo; RFC 9923).
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
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
    /// Their types, each once.
    pub copied_types: Vec<String>,
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
    /// How it was rounded, with the stream of its own.
    pub rounding: Rounding,
    /// The error of what was written.
    pub error: ErrorSummary,
}

impl Applied {
    /// Nothing yet.
    fn new(format: &Format, config: &ApplyConfig, source: &Source<'_>) -> Self {
        Self {
            format: format.to_string(),
            rounding: config.rounding,
            tensors: Vec::new(),
            copied: 0,
            copied_types: Vec::new(),
            bytes_in: source.size,
            bytes_out: 0,
        }
    }

    /// Counts a tensor of another type.
    fn copy(&mut self, dtype: &str) {
        self.copied += 1;
        if !self.copied_types.iter().any(|known| known == dtype) {
            self.copied_types.push(dtype.into());
        }
    }

    /// The new file under its name.
    fn finished(mut self, target: Target<'_>) -> Result<Self, FormatError> {
        self.bytes_out = target.finish()?;
        Ok(self)
    }
}

/// As [`apply_with`], with [`Streams::Numbered`].
///
/// # Errors
///
/// As [`apply_with`].
pub fn apply(
    format: &Format,
    rounding: Rounding,
    input: &Path,
    output: &Path,
    kind: Output,
) -> Result<Applied, FormatError> {
    let config = ApplyConfig {
        rounding,
        output: kind,
        ..ApplyConfig::default()
    };
    apply_with(format, input, output, &config)
}

/// Rounds the tensors of floating point in a `.npy`, `.npz` or safetensors file into a new file of
/// the same kind, or the codes of an array in a `.npy` file into a safetensors file. Those of f16,
/// bf16, f32, f64 and float8 are rounded, in `.npy` and `.npz` files in either order of bytes; other
/// tensors of a file with several are copied. The new file appears under its name when it is
/// complete ([`new_file`](crate::new_file)), and may be the one that was read.
///
/// Numbers are rounded once, those of f64 too ([`Format::round_f64`]). Results that the tensor's type does not hold are written as the nearest that it
/// does; a finite result beyond its largest number is written as that one. In stochastic rounding,
/// each tensor has a stream of its own ([`Streams`]), and element `j`, counted in row-major order,
/// takes word `j`.
///
/// # Errors
///
/// [`FormatError::NoReader`] if nobody reads the pipe that is written to;
/// [`FormatError::File`] if a file cannot be read or written or is ill-formed, a `.npy` file holds
/// another type, or the new file's name has the ending of another kind or is a `.npy` file for the
/// codes of a block format; [`FormatError::Shape`] if a tensor lacks the format's dimension;
/// [`FormatError::Parameter`] if the number of random bits is not in 1..=32.
pub fn apply_with(
    format: &Format,
    input: &Path,
    output: &Path,
    config: &ApplyConfig,
) -> Result<Applied, FormatError> {
    config.rounding.validate()?;
    let mut source = Source::open(input)?;
    let kind = source.kind()?;
    check_ending(format, kind, output, config)?;
    match kind {
        Kind::Npy => npy::apply(format, config, &mut source, output),
        Kind::Npz => npz::apply(format, config, &source, output),
        Kind::Safetensors => safetensors::apply(format, config, &mut source, output),
    }
}

/// Refuses a name with the ending of another kind of file.
fn check_ending(
    format: &Format,
    kind: Kind,
    output: &Path,
    config: &ApplyConfig,
) -> Result<(), FormatError> {
    let codes_of_array = kind == Kind::Npy && config.output == Output::Codes;
    match output.extension().and_then(OsStr::to_str) {
        Some("safetensors") if codes_of_array => Ok(()),
        _ if codes_of_array && config.layout != CodeLayout::default() => Err(file_error(
            output,
            format!(
                "expected the ending .safetensors, the file of the layout {}",
                config.layout
            ),
        )),
        _ if codes_of_array && matches!(format, Format::Block(_)) => Err(file_error(
            output,
            format!(
                "expected the ending .safetensors, since a .npy file has no room for the scales \
                 of {format} beside its codes"
            ),
        )),
        Some(ending) if ending != kind.ending() => Err(file_error(
            output,
            format!(
                "expected the ending .{}, as the input is of that kind",
                kind.ending()
            ),
        )),
        _ => Ok(()),
    }
}

/// All tensors of floating point in a `.npy`, `.npz` or safetensors file, as f32.
///
/// # Errors
///
/// [`FormatError::File`] if the file cannot be read, is ill-formed, or holds no such tensor.
pub fn read(path: &Path) -> Result<Sample, FormatError> {
    read_as(path, None)
}

/// As [`read`]; `bytes` says what numbers of NumPy's type `V1` are.
///
/// # Errors
///
/// As [`read`].
pub fn read_as(path: &Path, bytes: Option<ByteType>) -> Result<Sample, FormatError> {
    let mut source = Source::open(path)?;
    let tensors = match source.kind()? {
        Kind::Npy => npy::read(&mut source, bytes)?,
        Kind::Npz => npz::read(&source, bytes)?,
        Kind::Safetensors => safetensors::read(&mut source)?,
    };
    if tensors.is_empty() {
        return Err(source.error("holds no tensor of f16, bf16, f32, f64 or float8"));
    }
    Ok(Sample {
        name: source.file_name(),
        tensors,
    })
}

/// The numbers that a safetensors file of codes stands for: of every tensor that is stored in the
/// format and the layout, whether [`apply_with`] wrote the file or the library whose layout it is.
///
/// # Errors
///
/// [`FormatError::File`] if the file cannot be read, is ill-formed, or holds no such tensor;
/// [`FormatError::Unsupported`] if the layout does not hold the format, or a tensor of it is stored in
/// another way; [`FormatError::Length`] if codes or scales are missing.
pub fn read_codes(format: &Format, layout: CodeLayout, path: &Path) -> Result<Sample, FormatError> {
    codes::read(format, layout, path)
}

fn is_safetensors(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending == "safetensors")
}

/// Why a file cannot be written.
fn write_error(path: &Path, error: &io::Error) -> FormatError {
    match error.kind() {
        ErrorKind::BrokenPipe => FormatError::NoReader {
            path: path.display().to_string(),
        },
        _ => file_error(path, error),
    }
}

fn file_error(path: &Path, reason: impl ToString) -> FormatError {
    FormatError::File {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
