//! The `.npy` files of NumPy (NEP 1): a header, and one array.

use std::io::Seek;
use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::element::Element;
use super::pass::Stored;
use super::temporary::Temporary;
use super::{Applied, Output, Source, TensorError};
use crate::compare::Tensor;
use crate::{Format, FormatError, Rounding, pack};

struct Header {
    /// Bytes before the array.
    length: u64,
    /// `None` if the array is not of floating point.
    element: Option<Element>,
    shape: Vec<usize>,
    count: usize,
    /// Whether the first dimension is the innermost.
    fortran: bool,
}

impl Header {
    fn read(source: &mut Source<'_>) -> Result<Self, FormatError> {
        let header = NpyHeader::from_reader(&mut source.file)
            .map_err(|error| source.error(one_line(&error.to_string())))?;
        let length = source.file.stream_position();
        let length = length.map_err(|error| source.error(error))?;
        let element = element(source, &header.dtype())?;
        let shape: Option<Vec<usize>> = header
            .shape()
            .iter()
            .map(|&extent| usize::try_from(extent).ok())
            .collect();
        let count = shape
            .as_ref()
            .and_then(|shape| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
        let (Some(shape), Some(count)) = (shape, count) else {
            return Err(source.error("has a shape beyond memory"));
        };
        let bytes = element.and_then(|element| count.checked_mul(element.size()));
        if element.is_some() && bytes.map(|bytes| bytes as u64) != Some(source.size - length) {
            return Err(source.error(format!(
                "holds {} bytes of data, which do not fit its shape {shape:?}",
                source.size - length
            )));
        }
        let fortran = header.order() == Order::Fortran && shape.len() > 1;
        Ok(Self {
            length,
            element,
            shape,
            count,
            fortran,
        })
    }

    fn stored(&self, element: Element) -> Stored<'_> {
        Stored {
            element,
            shape: &self.shape,
            count: self.count,
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn element(source: &Source<'_>, dtype: &DType) -> Result<Option<Element>, FormatError> {
    let DType::Plain(dtype) = dtype else {
        return Ok(None);
    };
    if dtype.type_char() != TypeChar::Float {
        return Ok(None);
    }
    if dtype.endianness() == Endianness::Big {
        return Err(source.error(format!(
            "holds {dtype}; only little-endian numbers are read"
        )));
    }
    Ok(match dtype.size_field() {
        2 => Some(Element::F16),
        4 => Some(Element::F32),
        8 => Some(Element::F64),
        _ => None,
    })
}

pub(super) fn read(source: &mut Source<'_>) -> Result<Vec<Tensor>, FormatError> {
    let header = Header::read(source)?;
    let Some(element) = header.element else {
        return Ok(vec![]);
    };
    let data = header.stored(element).numbers(source)?;
    // In Fortran's order, the numbers are those of the transposed array.
    let mut shape = header.shape;
    if header.fortran {
        shape.reverse();
    }
    let name = source.name();
    Ok(vec![Tensor { name, shape, data }])
}

pub(super) fn apply(
    format: &Format,
    rounding: Rounding,
    source: &mut Source<'_>,
    output: &Path,
    kind: Output,
) -> Result<Applied, FormatError> {
    let header = Header::read(source)?;
    if let (Format::Block(_), Some(_)) = (format, header.element) {
        if kind == Output::Codes {
            return Err(FormatError::Unsupported {
                format: format.to_string(),
                operation: "codes in a .npy file, which has no room for scales".into(),
            });
        }
        if header.fortran {
            return Err(source.error("is in Fortran's order, in which blocks are not rounded"));
        }
    }
    let mut target = Temporary::create(output)?;
    let mut tensors = Vec::new();
    match header.element {
        Some(element) => {
            match kind {
                Output::Numbers => copy(source, 0, header.length, &mut target)?,
                Output::Codes => {
                    target.write(&code_header(pack::packed_size(header.count, format.bits())))?;
                }
            }
            source.seek(header.length)?;
            let write = |bytes: &[u8]| target.write(bytes);
            let error = header
                .stored(element)
                .round(format, rounding, kind, source, write)?;
            tensors.push(TensorError {
                name: source.name(),
                dtype: element.name().into(),
                shape: header.shape.clone(),
                error,
            });
        }
        None => copy(source, 0, source.size, &mut target)?,
    }
    Ok(Applied {
        format: format.to_string(),
        rounding,
        copied: 1 - tensors.len(),
        tensors,
        bytes_in: source.size,
        bytes_out: target.finish()?,
    })
}

/// Copies `length` bytes from `start` on.
pub(super) fn copy(
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

/// The header, version 1.0, of a one-dimensional array of bytes; its length is a multiple of 64.
fn code_header(length: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}
