//! The `.npy` files of NumPy (NumPy Enhancement Proposal 1): a header, and one array.

use std::path::Path;

use crate::error::FormatError;
use crate::format::Format;
use crate::kernel::pack;
use crate::rounding::Rounding;
use crate::study::compare::Tensor;
use crate::tensor_file::codes::{self, Content, Item};
use crate::tensor_file::element::Element;
use crate::tensor_file::pass::Stored;
use crate::tensor_file::temporary::{Temporary, copy};
use crate::tensor_file::{Applied, Output, Source, file_error, is_safetensors};

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
        let (length, text) = header_text(source)?;
        let ill_formed = || source.error("has an ill-formed .npy header");
        let descr = entry(&text, "descr").ok_or_else(ill_formed)?;
        let mut header = Self {
            length,
            element: None,
            shape: Vec::new(),
            count: 0,
            fortran: false,
        };
        // Anything but a text is an array of records.
        if let Some(descr) = quoted(descr) {
            header.element = element(source, descr)?;
        }
        let Some(element) = header.element else {
            return Ok(header);
        };
        header.shape = entry(&text, "shape")
            .and_then(extents)
            .ok_or_else(ill_formed)?;
        let order = entry(&text, "fortran_order").ok_or_else(ill_formed)?;
        header.fortran = order.starts_with("True") && header.shape.len() > 1;
        header.count = count(&header.shape, element)
            .filter(|&count| (count * element.size()) as u64 == source.size - length)
            .ok_or_else(|| {
                source.error(format!(
                    "holds {} bytes of data, which do not fit its shape {:?}",
                    source.size - length,
                    header.shape
                ))
            })?;
        Ok(header)
    }

    fn stored(&self, element: Element) -> Stored<'_> {
        Stored {
            element,
            shape: &self.shape,
            fortran: self.fortran,
            count: self.count,
        }
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

/// The element type that a type text such as `<f4` names, if it is rounded.
fn element(source: &Source<'_>, descr: &str) -> Result<Option<Element>, FormatError> {
    let element = match descr.get(1..) {
        Some("f2") => Element::F16,
        Some("f4") => Element::F32,
        Some("f8") => Element::F64,
        _ => return Ok(None),
    };
    if !descr.starts_with('<') {
        let reason = format!("holds `{descr}`; only little-endian numbers are read");
        return Err(source.error(reason));
    }
    Ok(Some(element))
}

pub(crate) fn read(source: &mut Source<'_>) -> Result<Vec<Tensor>, FormatError> {
    let header = Header::read(source)?;
    let Some(element) = header.element else {
        return Ok(vec![]);
    };
    let data = header.stored(element).numbers(source)?;
    let name = source.name();
    Ok(vec![Tensor {
        name,
        shape: header.shape,
        data,
    }])
}

pub(crate) fn apply(
    format: &Format,
    rounding: Rounding,
    source: &mut Source<'_>,
    output: &Path,
    kind: Output,
) -> Result<Applied, FormatError> {
    let header = Header::read(source)?;
    let name = source.name();
    let as_safetensors = kind == Output::Codes && is_safetensors(output);
    if let (Format::Block(_), Some(_), Output::Codes, false) =
        (format, header.element, kind, as_safetensors)
    {
        let reason = format!(
            "expected the ending .safetensors, since a .npy file has no room for the scales of \
             {format} beside its codes"
        );
        return Err(file_error(output, reason));
    }
    let mut target = Temporary::create(output)?;
    let tensors = match header.element {
        Some(element) if as_safetensors => {
            let item = Item {
                name: name.strip_suffix(".npy").unwrap_or(&name),
                start: header.length,
                content: Content::Rounded(header.stored(element)),
            };
            let nothing = std::iter::empty();
            codes::write(format, rounding, source, &[item], nothing, &mut target)?
        }
        Some(element) => {
            match kind {
                Output::Numbers => copy(source, 0, header.length, &mut target)?,
                Output::Codes => {
                    target.write(&code_header(pack::packed_size(header.count, format.bits())))?;
                }
            }
            source.seek(header.length)?;
            let write = |bytes: &[u8]| target.write(bytes);
            let tensor = header.stored(element);
            let error = tensor.round(format, rounding, kind, source, write)?;
            vec![tensor.report(&name, error)]
        }
        None if as_safetensors => return Err(source.error("holds no numbers of floating point")),
        None => {
            copy(source, 0, source.size, &mut target)?;
            vec![]
        }
    };
    Ok(Applied {
        format: format.to_string(),
        rounding,
        copied: 1 - tensors.len(),
        tensors,
        bytes_in: source.size,
        bytes_out: target.finish()?,
    })
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
