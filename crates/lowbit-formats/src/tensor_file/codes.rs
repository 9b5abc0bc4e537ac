//! Files of packed codes: safetensors files that say what they were made of.

use std::fs;
use std::path::Path;

use safetensors::tensor::{SafeTensors, TensorInfo};
use serde_json::{Map, Value, json};

use crate::error::FormatError;
use crate::format::Format;
use crate::kernel::pack;
use crate::study::compare::{Sample, Tensor};
use crate::tensor_file::layout::{self, CodeLayout, CodeSource, Part};
use crate::tensor_file::pass::Stored;
use crate::tensor_file::target::{Target, copy};
use crate::tensor_file::{ApplyConfig, Output, Source, TensorError, bitsandbytes, file_error};

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

/// The parts of the new file in the order of the tensors they come from; their places are by
/// alignment, as the reference implementation has them.
struct Layout {
    parts: Vec<Part>,
    /// Where each begins.
    offsets: Vec<usize>,
    metadata: Map<String, Value>,
}

impl Layout {
    fn new<'a>(
        format: &Format,
        layout: CodeLayout,
        source: &Source<'_>,
        items: &[Item<'_>],
        kept: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, FormatError> {
        let mut file = Self {
            parts: Vec::new(),
            offsets: Vec::new(),
            metadata: Map::new(),
        };
        let mut kept: Vec<_> = kept.collect();
        kept.sort();
        for (key, value) in kept {
            file.metadata.insert(key.clone(), json!(value));
        }
        file.metadata
            .insert("lowbit.format".into(), json!(format.to_string()));
        if layout != CodeLayout::default() {
            file.metadata
                .insert("lowbit.layout".into(), json!(layout.name()));
        }
        for item in items {
            match &item.content {
                Content::Rounded(tensor) => {
                    let described =
                        json!({ "dtype": tensor.element.name(), "shape": tensor.shape });
                    file.metadata.insert(
                        format!("lowbit.{}", item.name),
                        json!(described.to_string()),
                    );
                    let parts = layout::parts(layout, format, item.name, tensor)
                        .map_err(|error| source.named(item.name, error))?;
                    file.parts.extend(parts);
                }
                Content::Copied(info) => {
                    let bytes = info.data_offsets.1 - info.data_offsets.0;
                    file.parts.push(Part {
                        name: item.name.into(),
                        dtype: info.dtype,
                        shape: info.shape.clone(),
                        bytes,
                    });
                }
            }
        }
        file.place(source)?;
        Ok(file)
    }

    fn place(&mut self, source: &Source<'_>) -> Result<(), FormatError> {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.parts[i].dtype));
        let mut offset = 0;
        self.offsets = vec![0; self.parts.len()];
        for i in order {
            self.offsets[i] = offset;
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
        for (part, &offset) in self.parts.iter().zip(&self.offsets) {
            let info = TensorInfo {
                dtype: part.dtype,
                shape: part.shape.clone(),
                data_offsets: (offset, offset + part.bytes),
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
    let file = Layout::new(format, config.layout, source, items, kept)?;
    let text = file.header();
    target.write(&text)?;
    let places = file
        .offsets
        .iter()
        .map(|offset| (text.len() + offset) as u64);
    let mut parts = file.parts.iter().zip(places);
    let mut rounded = Vec::new();
    for item in items {
        let Some((part, place)) = parts.next() else {
            break;
        };
        target.seek(place)?;
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
                let mut pieces = layout::bytes(config.layout, block, &codes, tensor)?.into_iter();
                if let Some(elements) = pieces.next() {
                    target.write(&elements)?;
                }
                for (bytes, (_, place)) in pieces.zip(&mut parts) {
                    target.seek(place)?;
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

/// A file in memory.
struct Whole<'a>(SafeTensors<'a>);

impl CodeSource for Whole<'_> {
    fn tensor(&self, name: &str) -> Result<&[u8], FormatError> {
        match self.0.tensor(name) {
            Ok(tensor) => Ok(tensor.data()),
            Err(_) => Err(FormatError::Unsupported {
                format: "a file of codes".into(),
                operation: format!("tensors without `{name}`"),
            }),
        }
    }
}

/// The numbers of a file of codes.
pub(crate) fn read(
    format: &Format,
    layout: CodeLayout,
    path: &Path,
) -> Result<Sample, FormatError> {
    let bytes = fs::read(path).map_err(|error| file_error(path, error))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| file_error(path, error))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| file_error(path, error))?;
    let file = Whole(file);
    let mut tensors = Vec::new();
    for (name, shape) in layout::stored(format, layout, &header) {
        let data = match format {
            Format::Block(block) => {
                let codes = match layout {
                    CodeLayout::BitsAndBytes => bitsandbytes::Table::codes(block, &name, &file)?,
                    _ => layout::codes(layout, block, &name, &shape, &file)?,
                };
                let data = block.decode(&codes)?;
                tensors.push(Tensor {
                    name,
                    shape: codes.shape,
                    data,
                });
                continue;
            }
            _ => {
                let elements = layout::elements(layout, &name, &file)?;
                let count = shape.iter().product();
                format.decode(&pack::unpack(elements, format.bits(), count)?)
            }
        };
        tensors.push(Tensor { name, shape, data });
    }
    if tensors.is_empty() {
        let reason = format!("holds no tensor of {format} in the layout {layout}");
        return Err(file_error(path, reason));
    }
    Ok(Sample {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
        tensors,
    })
}
