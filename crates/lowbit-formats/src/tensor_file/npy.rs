//! The `.npy` files of NumPy (NumPy Enhancement Proposal 1): a header, and one array.

use std::path::Path;

use crate::error::FormatError;
use crate::format::Format;
use crate::kernel::pack;
use crate::study::compare::Tensor;
use crate::tensor_file::codes::{self, Content, Item};
use crate::tensor_file::element::Element;
use crate::tensor_file::pass::Stored;
use crate::tensor_file::target::{Target, copy};
use crate::tensor_file::{
    Applied, ApplyConfig, ByteType, Output, Source, TensorError, is_safetensors,
};

/// What is before the array, and what is known of it.
pub(crate) struct Header {
    /// Bytes before the array.
    length: u64,
    pub(crate) array: Array,
}

/// The array.
pub(crate) enum Array {
    /// Of floating point.
    Numbers(Numbers),
    /// Of another type, which is named.
    Other(String),
}

/// An array of floating point.
pub(crate) struct Numbers {
    element: Element,
    big_endian: bool,
    shape: Vec<usize>,
    count: usize,
    /// Whether the first dimension is the innermost.
    fortran: bool,
}

impl Header {
    /// `bytes` says what numbers of the type `V1` are.
    pub(crate) fn read(
        source: &mut Source<'_>,
        bytes: Option<ByteType>,
    ) -> Result<Self, FormatError> {
        let (length, text) = header_text(source)?;
        let ill_formed = || source.error("has an ill-formed .npy header");
        let descr = entry(&text, "descr").ok_or_else(ill_formed)?;
        // Anything but a text is an array of records.
        let Some(descr) = quoted(descr) else {
            let array = Array::Other("records".into());
            return Ok(Self { length, array });
        };
        let Some(element) = element(source, descr, bytes)? else {
            let array = Array::Other(format!("`{descr}`"));
            return Ok(Self { length, array });
        };
        let shape = entry(&text, "shape")
            .and_then(extents)
            .ok_or_else(ill_formed)?;
        let order = entry(&text, "fortran_order").ok_or_else(ill_formed)?;
        let fortran = order.starts_with("True") && shape.len() > 1;
        let count = count(&shape, element)
            .filter(|&count| (count * element.size()) as u64 == source.size - length)
            .ok_or_else(|| {
                source.error(format!(
                    "holds {} bytes of data, which do not fit its shape {shape:?}",
                    source.size - length,
                ))
            })?;
        let array = Array::Numbers(Numbers {
            element,
            big_endian: descr.starts_with('>'),
            shape,
            count,
            fortran,
        });
        Ok(Self { length, array })
    }

    /// The array, if it is of floating point.
    fn numbers(&self, source: &Source<'_>) -> Result<&Numbers, FormatError> {
        match &self.array {
            Array::Numbers(numbers) => Ok(numbers),
            Array::Other(name) => Err(source.error(format!(
                "holds {name}, which are no numbers of floating point; expected float16, float32, \
                 float64, or bfloat16 (`V2`) and float8_e5m2 (`f1`) of ml_dtypes"
            ))),
        }
    }

    /// The same header, and the rounded array.
    pub(crate) fn round(
        &self,
        format: &Format,
        config: &ApplyConfig,
        index: usize,
        source: &mut Source<'_>,
        mut write: impl FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<TensorError, FormatError> {
        let name = source.name();
        let tensor = self.numbers(source)?.stored();
        match config.output {
            Output::Numbers => copy(source, 0, self.length, &mut write)?,
            Output::Codes => {
                write(&code_header(pack::packed_size(tensor.count, format.bits())))?;
            }
        }
        source.seek(self.length)?;
        let rounding = config.of_tensor(source, &name, index);
        let error = tensor
            .round(format, rounding, config.output, source, write)
            .map_err(|error| source.named(&name, error))?;
        Ok(tensor.report(&name, rounding, error))
    }
}

impl Numbers {
    fn stored(&self) -> Stored<'_> {
        Stored {
            element: self.element,
            big_endian: self.big_endian,
            shape: &self.shape,
            fortran: self.fortran,
            count: self.count,
        }
    }

    /// The array, at which the source stands.
    pub(crate) fn tensor(&self, source: &mut Source<'_>) -> Result<Tensor, FormatError> {
        Ok(Tensor {
            name: source.name(),
            shape: self.shape.clone(),
            data: self.stored().numbers(source)?,
        })
    }
}

/// The number of elements, if that many fit into memory.
fn count(shape: &[usize], element: Element) -> Option<usize> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    count.checked_mul(element.size()).map(|_| count)
}

/// The bytes before the array, and the dictionary among them: after the magic, the version, and a
/// length of two bytes in version 1, of four in 2 and 3.
fn header_text(source: &mut Source<'_>) -> Result<(u64, String), FormatError> {
    let mut start = [0; 8];
    source.read(&mut start)?;
    let mut length = [0; 4];
    let size: u64 = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(source.error(format!("has .npy version {version}, expected 1 to 3"))),
    };
    source.read(&mut length[..size as usize])?;
    let (before, length) = (8 + size, u64::from(u32::from_le_bytes(length)));
    if before + length > source.size {
        return Err(source.error("ends within its .npy header"));
    }
    let mut text = vec![0; length as usize];
    source.read(&mut text)?;
    Ok((before + length, String::from_utf8_lossy(&text).into_owned()))
}

/// What follows a key of the dictionary, which is written as Python writes it.
fn entry<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let after = ['\'', '"'].into_iter().find_map(|quote| {
        let key = format!("{quote}{key}{quote}");
        text.find(&key).map(|at| &text[at + key.len()..])
    })?;
    after.trim_start().strip_prefix(':').map(str::trim_start)
}

/// The text between the quotes at the start.
fn quoted(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    value[1..].split_once(quote).map(|(inside, _)| inside)
}

/// The numbers of the tuple at the start.
fn extents(value: &str) -> Option<Vec<usize>> {
    let (inside, _) = value.strip_prefix('(')?.split_once(')')?;
    let extents = inside.split(',').map(str::trim).filter(|e| !e.is_empty());
    extents.map(|extent| extent.parse().ok()).collect()
}

/// The element type that a type text such as `<f4` names, if it is one of floating point. Those of
/// ml_dtypes are void types to NumPy: two bytes are bfloat16, one byte may be several.
fn element(
    source: &Source<'_>,
    descr: &str,
    bytes: Option<ByteType>,
) -> Result<Option<Element>, FormatError> {
    let name = descr.trim_start_matches(['<', '>', '|', '=']);
    let element = match (name, bytes) {
        ("V1", Some(byte)) => return Ok(Some(Element::Byte(byte))),
        ("V1", None) => {
            let reason = format!(
                "holds `{descr}`, which may be one of several types of ml_dtypes: say which one with \
                 --dtype"
            );
            return Err(source.error(reason));
        }
        ("f1", _) => Element::Byte(ByteType::E5m2),
        ("V2", _) => Element::Bf16,
        ("f2", _) => Element::F16,
        ("f4", _) => Element::F32,
        ("f8", _) => Element::F64,
        _ => return Ok(None),
    };
    match bytes {
        // An archive may hold several types.
        Some(byte) if !source.is_member() => {
            Err(source.error(format!("holds `{descr}`, which is not {byte}")))
        }
        _ => Ok(Some(element)),
    }
}

pub(crate) fn read(
    source: &mut Source<'_>,
    bytes: Option<ByteType>,
) -> Result<Vec<Tensor>, FormatError> {
    let header = Header::read(source, bytes)?;
    Ok(vec![header.numbers(source)?.tensor(source)?])
}

pub(crate) fn apply(
    format: &Format,
    config: &ApplyConfig,
    source: &mut Source<'_>,
    output: &Path,
) -> Result<Applied, FormatError> {
    let header = Header::read(source, config.bytes)?;
    let tensor = header.numbers(source)?.stored();
    let mut target = Target::create(output)?;
    let mut applied = Applied::new(format, config, source);
    applied.tensors = if config.output == Output::Codes && is_safetensors(output) {
        let name = source.name();
        let item = Item {
            name: name.strip_suffix(".npy").unwrap_or(&name),
            start: header.length,
            content: Content::Rounded(tensor),
        };
        let nothing = std::iter::empty();
        codes::write(format, config, source, &[item], nothing, &mut target)?
    } else {
        let write = |bytes: &[u8]| target.write(bytes);
        vec![header.round(format, config, 0, source, write)?]
    };
    applied.finished(target)
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
