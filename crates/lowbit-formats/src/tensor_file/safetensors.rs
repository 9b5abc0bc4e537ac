//! Safetensors files: a header in JSON, and tensors side by side.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::FormatError;
use crate::format::Format;
use crate::study::compare::Tensor;
use crate::tensor_file::codes::{self, Content, Item};
use crate::tensor_file::element::Element;
use crate::tensor_file::pass::Stored;
use crate::tensor_file::target::{Target, copy};
use crate::tensor_file::{Applied, ApplyConfig, ByteType, Output, Source};

/// Longest header that is read, as in the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// Whether a file of `size` bytes may begin with a header of `length` bytes.
pub(crate) fn header_fits(length: u64, size: u64) -> bool {
    length <= LONGEST_HEADER && length <= size.saturating_sub(8)
}

struct Header {
    /// Bytes before the tensors.
    length: u64,
    metadata: Metadata,
    /// Names in the order of the tensors.
    names: Vec<String>,
}

impl Header {
    fn read(source: &mut Source<'_>) -> Result<Self, FormatError> {
        let mut length = [0; 8];
        source.read(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut text = vec![0; length as usize];
        source.read(&mut text)?;
        let metadata: Metadata = serde_json::from_slice(&text)
            .map_err(|error| source.error(format!("has an ill-formed header: {error}")))?;
        if metadata.data_len() as u64 != source.size - 8 - length {
            return Err(source.error(format!(
                "holds {} bytes of tensors, its header says {}",
                source.size - 8 - length,
                metadata.data_len()
            )));
        }
        let names = metadata.offset_keys();
        Ok(Self {
            length: 8 + length,
            metadata,
            names,
        })
    }

    fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        let tensor = |name: &'_ String| self.metadata.info(name);
        self.names
            .iter()
            .filter_map(move |name| Some((name.as_str(), tensor(name)?)))
    }

    /// Where a tensor begins in the file.
    fn start(&self, info: &TensorInfo) -> u64 {
        self.length + info.data_offsets.0 as u64
    }

    /// The tensors as a file of codes takes them.
    fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.tensors().map(|(name, info)| Item {
            name,
            start: self.start(info),
            content: match element(info.dtype) {
                Some(element) => Content::Rounded(stored(element, info)),
                None => Content::Copied(info),
            },
        })
    }
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F8_E4M3 => Element::Byte(ByteType::E4m3Fn),
        Dtype::F8_E5M2 => Element::Byte(ByteType::E5m2),
        Dtype::F8_E4M3FNUZ => Element::Byte(ByteType::E4m3Fnuz),
        Dtype::F8_E5M2FNUZ => Element::Byte(ByteType::E5m2Fnuz),
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        _ => return None,
    })
}

fn stored(element: Element, info: &TensorInfo) -> Stored<'_> {
    Stored {
        element,
        big_endian: false,
        shape: &info.shape,
        fortran: false,
        count: (info.data_offsets.1 - info.data_offsets.0) / element.size(),
    }
}

pub(crate) fn read(source: &mut Source<'_>) -> Result<Vec<Tensor>, FormatError> {
    let header = Header::read(source)?;
    let mut tensors = Vec::new();
    for (name, info) in header.tensors() {
        let Some(element) = element(info.dtype) else {
            continue;
        };
        source.seek(header.start(info))?;
        tensors.push(Tensor {
            name: name.into(),
            shape: info.shape.clone(),
            data: stored(element, info).numbers(source)?,
        });
    }
    Ok(tensors)
}

pub(crate) fn apply(
    format: &Format,
    config: &ApplyConfig,
    source: &mut Source<'_>,
    output: &Path,
) -> Result<Applied, FormatError> {
    let header = Header::read(source)?;
    let mut target = Target::create(output)?;
    let mut applied = Applied::new(format, config, source);
    for (_, info) in header.tensors() {
        if element(info.dtype).is_none() {
            applied.copy(&info.dtype.to_string());
        }
    }
    match config.output {
        Output::Numbers => numbers(format, config, source, &header, &mut target, &mut applied)?,
        Output::Codes => {
            let items: Vec<Item<'_>> = header.items().collect();
            let metadata = header.metadata.metadata().iter().flatten();
            applied.tensors = codes::write(format, config, source, &items, metadata, &mut target)?;
        }
    }
    applied.finished(target)
}

/// The same header, and rounded tensors in the places of the old ones.
fn numbers(
    format: &Format,
    config: &ApplyConfig,
    source: &mut Source<'_>,
    header: &Header,
    target: &mut Target<'_>,
    applied: &mut Applied,
) -> Result<(), FormatError> {
    copy(source, 0, header.length, |bytes| target.write(bytes))?;
    for (name, info) in header.tensors() {
        let start = header.start(info);
        let Some(element) = element(info.dtype) else {
            let length = info.data_offsets.1 - info.data_offsets.0;
            copy(source, start, length as u64, |bytes| target.write(bytes))?;
            continue;
        };
        source.seek(start)?;
        let tensor = stored(element, info);
        let rounding = config.of_tensor(source, name, applied.tensors.len());
        let write = |bytes: &[u8]| target.write(bytes);
        let error = tensor
            .round(format, rounding, Output::Numbers, source, write)
            .map_err(|error| source.named(name, error))?;
        applied.tensors.push(tensor.report(name, rounding, error));
    }
    Ok(())
}
