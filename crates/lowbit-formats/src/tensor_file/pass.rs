//! One tensor from a source through a format.

use crate::block::BlockFormat;
use crate::block::{BlockCodes, ScaleType, Scales};
use crate::error::FormatError;
use crate::format::Format;
use half::{bf16, f16};

use crate::kernel::pack;
use crate::kernel::{Layout, Number};
use crate::rounding::Rounding;
use crate::study::error_summary::{ErrorSummary, ErrorSums};
use crate::tensor_file::element::{Element, to_odd};
use crate::tensor_file::{Output, Source, TensorError};

/// Numbers that are in memory at a time; a multiple of the generator's groups and of a byte's bits.
const PIECE: usize = 1 << 20;

/// Up to this many bits, rounding an f64 to odd first does no harm.
const TWICE_ROUNDED_BITS: u32 = 16;

/// A tensor in a file, at which the source stands.
pub(crate) struct Stored<'a> {
    pub(crate) element: Element,
    /// Whether the highest byte of a number comes first.
    pub(crate) big_endian: bool,
    pub(crate) shape: &'a [usize],
    /// Whether the first dimension is the innermost.
    pub(crate) fortran: bool,
    pub(crate) count: usize,
}

impl Stored<'_> {
    /// Rounds the tensor, piece by piece if it can be; `write` gets the bytes of the numbers, in
    /// the order of the file, or their codes, in row-major order.
    pub(crate) fn round(
        &self,
        format: &Format,
        rounding: Rounding,
        kind: Output,
        source: &mut Source<'_>,
        mut write: impl FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<ErrorSummary, FormatError> {
        if let Some((block, rows)) = self.rows_together(format, kind) {
            return self.round_rows((block, rows), format, rounding, source, write);
        }
        if self.fortran || matches!(format, Format::Block(_)) {
            let (numbers, singles) = self.piece(self.count, source, format)?;
            let rounded = self.round_whole(format, rounding, &numbers, singles)?;
            if kind == Output::Numbers {
                let (bytes, held) = self.bytes(&rounded);
                write(&bytes)?;
                return Ok(summary(format, &numbers, &held));
            }
            let (bytes, held) = codes(format, &self.row_major(rounded)?)?;
            write(&bytes)?;
            return Ok(summary(format, &self.row_major(numbers)?, &held));
        }
        let mut sums = ErrorSums::new(format);
        for first in (0..self.count).step_by(PIECE) {
            let length = PIECE.min(self.count - first);
            let (numbers, input) = self.piece(length, source, format)?;
            let mut rounded = vec![0.0; length];
            if self.element == Element::F64 {
                format.quantize_f64_from(first as u64, &numbers, &mut rounded, rounding)?;
            } else {
                format.quantize_from(first as u64, &input, &mut rounded, rounding)?;
            }
            let held = match kind {
                Output::Numbers => {
                    let (bytes, held) = self.bytes(&rounded);
                    write(&bytes)?;
                    held
                }
                Output::Codes => {
                    let (bytes, held) = codes(format, &rounded)?;
                    write(&bytes)?;
                    held
                }
            };
            sums.add(numbers.iter().copied().zip(held));
        }
        Ok(sums.summary())
    }

    /// A whole tensor, rounded, in the order of the file; `singles` are the f32 that stand for its
    /// numbers.
    fn round_whole(
        &self,
        format: &Format,
        rounding: Rounding,
        numbers: &[f64],
        singles: Vec<f32>,
    ) -> Result<Vec<f32>, FormatError> {
        let mut rounded = singles;
        if self.element != Element::F64 {
            format.quantize_strided_in_place(&mut rounded, &self.layout()?, rounding)?;
            return Ok(rounded);
        }
        let numbers = self.row_major(numbers.to_vec())?;
        let mut ordered = vec![0.0; numbers.len()];
        match format {
            Format::Block(block) => {
                ordered = block.quantize_wide(0, &numbers, self.shape, rounding)?;
            }
            _ => format.quantize_f64(&numbers, &mut ordered, rounding)?,
        }
        let places = self.row_major((0..self.count).collect())?;
        for (place, x) in places.into_iter().zip(ordered) {
            rounded[place] = x;
        }
        Ok(rounded)
    }

    /// Where a block format can round the tensor by rows: the format, and how many rows at a time.
    fn rows_together<'f>(
        &self,
        format: &'f Format,
        kind: Output,
    ) -> Option<(&'f BlockFormat, usize)> {
        let Format::Block(block) = format else {
            return None;
        };
        if self.fortran || kind == Output::Codes || self.count == 0 {
            return None;
        }
        let apart = block.rows_apart(self.shape)?;
        let row = self.count / self.shape[0];
        Some((block, (PIECE / row / apart).max(1) * apart))
    }

    /// Rounds the tensor some rows at a time; `write` gets the bytes of the numbers.
    fn round_rows(
        &self,
        (block, rows): (&BlockFormat, usize),
        format: &Format,
        rounding: Rounding,
        source: &mut Source<'_>,
        mut write: impl FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<ErrorSummary, FormatError> {
        let mut sums = ErrorSums::new(format);
        let mut shape = self.shape.to_vec();
        let row = self.count / shape[0];
        for first in (0..self.shape[0]).step_by(rows) {
            shape[0] = rows.min(self.shape[0] - first);
            let (numbers, input) = self.piece(shape[0] * row, source, format)?;
            let rounded = if self.element == Element::F64 {
                block.quantize_rows_wide(first, &numbers, &shape, rounding)?
            } else {
                let mut rounded = vec![0.0; input.len()];
                block.quantize_rows(first, &input, &shape, &mut rounded, rounding)?;
                rounded
            };
            let (bytes, held) = self.bytes(&rounded);
            write(&bytes)?;
            sums.add(numbers.iter().copied().zip(held));
        }
        Ok(sums.summary())
    }

    /// The tensor's codes and scales in a block format.
    pub(crate) fn block_codes(
        &self,
        block: &BlockFormat,
        rounding: Rounding,
        source: &mut Source<'_>,
    ) -> Result<(BlockCodes, ErrorSummary), FormatError> {
        let format = Format::Block(*block);
        let (numbers, input) = self.piece(self.count, source, &format)?;
        let numbers = self.row_major(numbers)?;
        let codes = if self.element == Element::F64 {
            block.encode_wide(&numbers, self.shape, rounding)?
        } else {
            block.encode(&self.row_major(input)?, self.shape, rounding)?
        };
        let held: Vec<f64> = block.decode(&codes)?.into_iter().map(f64::from).collect();
        let summary = summary(&format, &numbers, &held);
        Ok((codes, summary))
    }

    /// The next numbers, and the f32 that stand for them.
    pub(crate) fn piece(
        &self,
        length: usize,
        source: &mut Source<'_>,
        format: &Format,
    ) -> Result<(Vec<f64>, Vec<f32>), FormatError> {
        let numbers = self.read(length, source)?;
        let odd = self.element == Element::F64 && format.bits() <= TWICE_ROUNDED_BITS;
        let single = |&x: &f64| if odd { to_odd(x) } else { x as f32 };
        let singles = numbers.iter().map(single).collect();
        Ok((numbers, singles))
    }

    /// Where the elements lie in the file, counted in numbers.
    fn layout(&self) -> Result<Layout, FormatError> {
        let mut shape = self.shape.to_vec();
        if !self.fortran {
            return Layout::contiguous(&shape);
        }
        shape.reverse();
        let mut strides = Layout::contiguous(&shape)?.strides().to_vec();
        strides.reverse();
        Layout::new(self.shape, &strides, 0)
    }

    /// What is in the order of the file, in row-major order.
    fn row_major<T: Copy>(&self, values: Vec<T>) -> Result<Vec<T>, FormatError> {
        if !self.fortran {
            return Ok(values);
        }
        let mut ordered = Vec::with_capacity(values.len());
        self.layout()?
            .runs(0, values.len(), |place, count, stride| {
                let places = (0..count).map(|i| place + i * stride as usize);
                ordered.extend(places.map(|place| values[place]));
            });
        Ok(ordered)
    }

    pub(crate) fn report(
        &self,
        name: &str,
        rounding: Rounding,
        error: ErrorSummary,
    ) -> TensorError {
        TensorError {
            name: name.into(),
            rounding,
            dtype: self.element.name().into(),
            shape: self.shape.to_vec(),
            error,
        }
    }

    /// All numbers as the nearest f32, in row-major order.
    pub(crate) fn numbers(&self, source: &mut Source<'_>) -> Result<Vec<f32>, FormatError> {
        let numbers = self.read(self.count, source)?;
        self.row_major(numbers.into_iter().map(|x| x as f32).collect())
    }

    /// The next numbers of the source.
    fn read(&self, length: usize, source: &mut Source<'_>) -> Result<Vec<f64>, FormatError> {
        let mut bytes = vec![0; length * self.element.size()];
        source.read(&mut bytes)?;
        self.swap(&mut bytes);
        Ok(self.element.numbers(&bytes))
    }

    /// The bytes of numbers as the file has them, and the numbers that they hold.
    fn bytes(&self, numbers: &[f32]) -> (Vec<u8>, Vec<f64>) {
        let (mut bytes, held) = self.element.bytes(numbers);
        self.swap(&mut bytes);
        (bytes, held)
    }

    /// From the file's order of bytes to the little-endian one, or back.
    fn swap(&self, bytes: &mut [u8]) {
        if self.big_endian {
            bytes
                .chunks_exact_mut(self.element.size())
                .for_each(<[u8]>::reverse);
        }
    }
}

/// The packed codes of rounded numbers, and what they hold.
fn codes(format: &Format, rounded: &[f32]) -> Result<(Vec<u8>, Vec<f64>), FormatError> {
    // What has been rounded stays what it is.
    let codes = format.encode(rounded, Rounding::TowardZero)?;
    let held = format.decode(&codes).into_iter().map(f64::from).collect();
    Ok((pack::pack(&codes, format.bits())?, held))
}

fn summary(format: &Format, numbers: &[f64], held: &[f64]) -> ErrorSummary {
    let mut sums = ErrorSums::new(format);
    sums.add(numbers.iter().copied().zip(held.iter().copied()));
    sums.summary()
}

/// The little-endian bytes of what blocks share, under the endings of their tensors' names.
pub(crate) fn scale_bytes(scales: &Scales) -> Vec<(&'static str, Vec<u8>)> {
    match scales {
        Scales::PowersOfTwo(codes) => vec![("scales", codes.clone())],
        Scales::Float8 { tensor, blocks } => vec![
            ("scales", blocks.clone()),
            ("tensor_scale", tensor.to_le_bytes().to_vec()),
        ],
        Scales::Affine(parameters) => {
            let scales = parameters.iter().flat_map(|p| p.scale.to_le_bytes());
            let zeros = parameters.iter().flat_map(|p| p.zero_point.to_le_bytes());
            vec![
                ("scales", scales.collect()),
                ("zero_points", zeros.collect()),
            ]
        }
        Scales::Float { values, kind } => vec![("scales", float_bytes(values, *kind))],
        Scales::Double {
            codes,
            groups,
            mean,
        } => vec![
            ("scales", codes.clone()),
            ("scale_scales", float_bytes(groups, ScaleType::F32)),
            ("scale_mean", mean.to_le_bytes().to_vec()),
        ],
    }
}

/// The little-endian bytes of floats of a type.
pub(crate) fn float_bytes(values: &[f32], kind: ScaleType) -> Vec<u8> {
    match kind {
        ScaleType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ScaleType::Bf16 => {
            let bytes = |&x: &f32| <bf16 as Number>::narrow(x).to_le_bytes();
            values.iter().flat_map(bytes).collect()
        }
        ScaleType::F16 => {
            let bytes = |&x: &f32| <f16 as Number>::narrow(x).to_le_bytes();
            values.iter().flat_map(bytes).collect()
        }
    }
}
