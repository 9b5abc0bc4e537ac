//! Files of packed codes: safetensors files that say what they were made of.

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};

use crate::block::{BlockFormat, ScaleType};
use crate::error::FormatError;
use crate::format::Format;
use crate::kernel::pack;
use crate::tensor_file::pass::{Stored, scale_bytes};
use crate::tensor_file::target::{Target, copy};
use crate::tensor_file::{ApplyConfig, Output, Source, TensorError};

/// How many scales share one, where scales are quantized in their turn.
const DOUBLE_GROUP: usize = 256;

fn scale_dtype(kind: ScaleType) -> Dtype {
    match kind {
        ScaleType::F32 => Dtype::F32,
        ScaleType::Bf16 => Dtype::BF16,
        ScaleType::F16 => Dtype::F16,
    }
}

/// A tensor of the file that is read.
pub(crate) struct Item<'a> {
    pub(crate) name: &'a str,
    /// Where it begins.
    pub(crate) start: u64,
    pub(crate) content: Content<'a>,
}

/// What becomes of a tensor.
pub(crate) enum Content<'a> {
    /// Its codes are written.
    Rounded(Stored<'a>),
    /// It is no tensor of floating point.
    Copied(&'a TensorInfo),
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
    fn new<'a>(
        format: &Format,
        source: &Source<'_>,
        items: &[Item<'_>],
        kept: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, FormatError> {
        let mut file = Self {
            parts: Vec::new(),
            metadata: Map::new(),
        };
        let mut kept: Vec<_> = kept.collect();
        kept.sort();
        for (key, value) in kept {
            file.metadata.insert(key.clone(), json!(value));
        }
        file.metadata
            .insert("lowbit.format".into(), json!(format.to_string()));
        for item in items {
            match &item.content {
                Content::Rounded(tensor) => {
                    let described =
                        json!({ "dtype": tensor.element.name(), "shape": tensor.shape });
                    file.metadata.insert(
                        format!("lowbit.{}", item.name),
                        json!(described.to_string()),
                    );
                    file.codes(format, item.name, tensor)
                        .map_err(|error| source.named(item.name, error))?;
                }
                Content::Copied(info) => {
                    let bytes = info.data_offsets.1 - info.data_offsets.0;
                    file.part(item.name.into(), info.dtype, info.shape.clone(), bytes);
                }
            }
        }
        file.place(source)?;
        Ok(file)
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
            BlockFormat::Scaled(format) if format.is_double() => {
                shared("scales", Dtype::U8, scales, 1);
                shared("scale_scales", Dtype::F32, scales.div_ceil(DOUBLE_GROUP), 4);
                shared("scale_mean", Dtype::F32, 1, 4);
            }
            BlockFormat::Scaled(format) => {
                let kind = format.scale_type();
                shared(
                    "scales",
                    scale_dtype(kind),
                    scales,
                    kind.bits() as usize / 8,
                );
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

/// A new header, and packed codes with their scales; the metadata `kept` stays.
pub(crate) fn write<'a>(
    format: &Format,
    config: &ApplyConfig,
    source: &mut Source<'_>,
    items: &[Item<'_>],
    kept: impl Iterator<Item = (&'a String, &'a String)>,
    target: &mut Target<'_>,
) -> Result<Vec<TensorError>, FormatError> {
    let file = Layout::new(format, source, items, kept)?;
    let text = file.header();
    target.write(&text)?;
    let place = |part: &Part| (text.len() + part.offset) as u64;
    let mut parts = file.parts.iter();
    let mut rounded = Vec::new();
    for item in items {
        let Some(part) = parts.next() else { break };
        target.seek(place(part))?;
        let tensor = match &item.content {
            Content::Rounded(tensor) => tensor,
            Content::Copied(_) => {
                copy(source, item.start, part.bytes as u64, |bytes| {
                    target.write(bytes)
                })?;
                continue;
            }
        };
        source.seek(item.start)?;
        let rounding = config.of_tensor(source, item.name, rounded.len());
        let error = match format {
            Format::Block(block) => {
                let (codes, error) = tensor
                    .block_codes(block, rounding, source)
                    .map_err(|error| source.named(item.name, error))?;
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
        rounded.push(tensor.report(item.name, rounding, error));
    }
    Ok(rounded)
}
