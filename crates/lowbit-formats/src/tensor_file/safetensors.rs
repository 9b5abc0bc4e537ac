//! Safetensors files: a header in JSON, and tensors side by side.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::element::Element;
use super::npy::copy;
use super::pass::{Stored, scale_bytes};
use super::temporary::Temporary;
use super::{Applied, Output, Source, TensorError, of_tensor};
use crate::compare::Tensor;
use crate::{BlockFormat, Format, FormatError, Rounding, pack};

/// Longest header that is read, as in the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

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
        if length > LONGEST_HEADER || length > source.size - 8 {
            return Err(source.error("is neither a .npy nor a safetensors file"));
        }
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
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
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
        shape: &info.shape,
        count: (info.data_offsets.1 - info.data_offsets.0) / element.size(),
    }
}

fn report(
    name: &str,
    tensor: &Stored<'_>,
    error: crate::error_summary::ErrorSummary,
) -> TensorError {
    TensorError {
        name: name.into(),
        dtype: tensor.element.name().into(),
        shape: tensor.shape.to_vec(),
        error,
    }
}

pub(super) fn read(source: &mut Source<'_>) -> Result<Vec<Tensor>, FormatError> {
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

pub(super) fn apply(
    format: &Format,
    rounding: Rounding,
    source: &mut Source<'_>,
    output: &Path,
    kind: Output,
) -> Result<Applied, FormatError> {
    let header = Header::read(source)?;
    let mut target = Temporary::create(output)?;
    let tensors = match kind {
        Output::Numbers => numbers(format, rounding, source, &header, &mut target)?,
        Output::Codes => codes(format, rounding, source, &header, &mut target)?,
    };
    Ok(Applied {
        format: format.to_string(),
        rounding,
        copied: header.names.len() - tensors.len(),
        tensors,
        bytes_in: source.size,
        bytes_out: target.finish()?,
    })
}

/// The same header, and rounded tensors in the places of the old ones.
fn numbers(
    format: &Format,
    rounding: Rounding,
    source: &mut Source<'_>,
    header: &Header,
    target: &mut Temporary<'_>,
) -> Result<Vec<TensorError>, FormatError> {
    copy(source, 0, header.length, target)?;
    let mut rounded = Vec::new();
    for (name, info) in header.tensors() {
        let start = header.start(info);
        let Some(element) = element(info.dtype) else {
            let length = info.data_offsets.1 - info.data_offsets.0;
            copy(source, start, length as u64, target)?;
            continue;
        };
        source.seek(start)?;
        let tensor = stored(element, info);
        let rounding = of_tensor(rounding, rounded.len());
        let write = |bytes: &[u8]| target.write(bytes);
        let error = tensor
            .round(format, rounding, Output::Numbers, source, write)
            .map_err(|error| named(source, name, error))?;
        rounded.push(report(name, &tensor, error));
    }
    Ok(rounded)
}

/// Says in which tensor of the file a format failed.
fn named(source: &Source<'_>, name: &str, error: FormatError) -> FormatError {
    match error {
        FormatError::File { .. } => error,
        _ => source.error(format!("tensor `{name}`: {error}")),
    }
}

/// A tensor of the new file.
struct Part {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: usize,
    offset: usize,
}

/// The parts of the new file in the order of the tensors they come from; their places are by
/// alignment, as the reference implementation has them.
struct Layout {
    parts: Vec<Part>,
    metadata: Map<String, Value>,
}

impl Layout {
    fn new(format: &Format, source: &Source<'_>, header: &Header) -> Result<Self, FormatError> {
        let mut layout = Self {
            parts: Vec::new(),
            metadata: Map::new(),
        };
        let mut metadata: Vec<(&String, &String)> =
            header.metadata.metadata().iter().flatten().collect();
        metadata.sort();
        for (key, value) in metadata {
            layout.metadata.insert(key.clone(), json!(value));
        }
        layout
            .metadata
            .insert("lowbit.format".into(), json!(format.to_string()));
        for (name, info) in header.tensors() {
            match element(info.dtype) {
                Some(element) => {
                    let described = json!({ "dtype": element.name(), "shape": info.shape });
                    layout
                        .metadata
                        .insert(format!("lowbit.{name}"), json!(described.to_string()));
                    layout
                        .codes(format, name, &stored(element, info))
                        .map_err(|error| named(source, name, error))?;
                }
                None => {
                    let bytes = info.data_offsets.1 - info.data_offsets.0;
                    layout.part(name.into(), info.dtype, info.shape.clone(), bytes);
                }
            }
        }
        layout.place(source)?;
        Ok(layout)
    }

    fn codes(
        &mut self,
        format: &Format,
        name: &str,
        tensor: &Stored<'_>,
    ) -> Result<(), FormatError> {
        let bytes = pack::packed_size(tensor.count, format.bits());
        self.part(format!("{name}.codes"), Dtype::U8, vec![bytes], bytes);
        let Format::Block(block) = format else {
            return Ok(());
        };
        let scales = block.granularity().scales(tensor.shape)?;
        let mut shared = |ending: &str, dtype, count: usize, size| {
            self.part(format!("{name}.{ending}"), dtype, vec![count], count * size);
        };
        match block {
            BlockFormat::Float(_) | BlockFormat::Microscaling(_) => {
                shared("scales", Dtype::U8, scales, 1);
            }
            BlockFormat::NvFp4(_) => {
                shared("scales", Dtype::U8, scales, 1);
                shared("tensor_scale", Dtype::F32, 1, 4);
            }
            BlockFormat::Grouped(_) => {
                shared("scales", Dtype::F32, scales, 4);
                shared("zero_points", Dtype::I32, scales, 4);
            }
        }
        Ok(())
    }

    fn part(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, bytes: usize) {
        self.parts.push(Part {
            name,
            dtype,
            shape,
            bytes,
            offset: 0,
        });
    }

    fn place(&mut self, source: &Source<'_>) -> Result<(), FormatError> {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.parts[i].dtype));
        let mut offset = 0;
        for i in order {
            self.parts[i].offset = offset;
            offset += self.parts[i].bytes;
        }
        let mut names: Vec<&String> = self.parts.iter().map(|part| &part.name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(source.error(format!("has a tensor `{}` already", pair[0]))),
            None => Ok(()),
        }
    }

    /// Length and JSON, padded so that tensors are aligned.
    fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!(self.metadata));
        for part in &self.parts {
            let info = TensorInfo {
                dtype: part.dtype,
                shape: part.shape.clone(),
                data_offsets: (part.offset, part.offset + part.bytes),
            };
            header.insert(part.name.clone(), json!(info));
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        bytes
    }
}

/// A new header, and packed codes with their scales.
fn codes(
    format: &Format,
    rounding: Rounding,
    source: &mut Source<'_>,
    header: &Header,
    target: &mut Temporary<'_>,
) -> Result<Vec<TensorError>, FormatError> {
    let layout = Layout::new(format, source, header)?;
    let text = layout.header();
    target.write(&text)?;
    let place = |part: &Part| (text.len() + part.offset) as u64;
    let mut parts = layout.parts.iter();
    let mut rounded = Vec::new();
    for (name, info) in header.tensors() {
        let Some(part) = parts.next() else { break };
        target.seek(place(part))?;
        let start = header.start(info);
        let Some(element) = element(info.dtype) else {
            copy(source, start, part.bytes as u64, target)?;
            continue;
        };
        source.seek(start)?;
        let tensor = stored(element, info);
        let rounding = of_tensor(rounding, rounded.len());
        let error = match format {
            Format::Block(block) => {
                let (codes, error) = tensor
                    .block_codes(block, rounding, source)
                    .map_err(|error| named(source, name, error))?;
                target.write(&codes.elements)?;
                for (_, bytes) in scale_bytes(&codes.scales) {
                    let Some(part) = parts.next() else { break };
                    target.seek(place(part))?;
                    target.write(&bytes)?;
                }
                error
            }
            _ => {
                let write = |bytes: &[u8]| target.write(bytes);
                tensor.round(format, rounding, Output::Codes, source, write)?
            }
        };
        rounded.push(report(name, &tensor, error));
    }
    Ok(rounded)
}
