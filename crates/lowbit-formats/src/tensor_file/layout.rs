//! How codes and scales lie in a safetensors file, for Lowbit and for other libraries.

use std::fmt;
use std::str::FromStr;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use crate::block::{BlockCodes, BlockFormat, Granularity, ScaleType, Scales};
use crate::error::FormatError;
use crate::format::Format;
use crate::kernel::pack;
use crate::tensor_file::bitsandbytes;
use crate::tensor_file::pass::{Stored, scale_bytes};

/// How codes and scales are stored in a safetensors file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CodeLayout {
    /// Bytes: `NAME.codes`, packed as [`pack`] does, and beside them `NAME.scales` and what else
    /// blocks share. Every format can be stored so.
    #[default]
    Lowbit,
    /// The file's own types: `NAME` has the type of the elements (`F8_E4M3`, `F8_E5M2`, `F4`, `I8`,
    /// ...) and the shape of the tensor, `NAME_scale` that of the scales (`F8_E8M0`, `F8_E4M3`,
    /// `F32`, ...) and the shape of the blocks, with extents of one where all indices share a scale.
    /// For tiles it is called `NAME_scale_inv`, as in DeepSeek-V3's checkpoints; the scale of a whole
    /// `nvfp4` tensor is `NAME_scale_2`, zero points are `NAME_zero_point`. Of two codes of four bits
    /// in a byte the first has the lower ones, as in PyTorch's `float4_e2m1fn_x2` and torchao.
    Safetensors,
    /// What bitsandbytes keeps in a state dict, for `nf4` and `fp4` in blocks along rows: `NAME` with
    /// two codes in a byte, the first in the upper bits, `NAME.absmax`, `NAME.quant_map`,
    /// `NAME.nested_absmax` and `NAME.nested_quant_map` with scales that are quantized in their turn,
    /// and `NAME.quant_state.bitsandbytes__nf4` (or `fp4`), which is JSON.
    BitsAndBytes,
}

impl CodeLayout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lowbit, Self::Safetensors, Self::BitsAndBytes];

    /// The name that is parsed and printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lowbit => "lowbit",
            Self::Safetensors => "safetensors",
            Self::BitsAndBytes => "bitsandbytes",
        }
    }

    /// Refuses a format that the layout does not hold.
    fn refuse<T>(self, format: &impl fmt::Display, reason: &str) -> Result<T, FormatError> {
        Err(FormatError::Unsupported {
            format: format.to_string(),
            operation: format!("the layout {self}: {reason}"),
        })
    }
}

impl fmt::Display for CodeLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CodeLayout {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| {
            let expected = Self::ALL.map(Self::name).join(", ");
            FormatError::parameter("file", "layout", text, expected)
        })
    }
}

/// A tensor of the new file.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: usize,
}

impl Part {
    pub(crate) fn new(name: String, dtype: Dtype, shape: Vec<usize>) -> Self {
        let count: usize = shape.iter().product();
        Self {
            name,
            dtype,
            shape,
            bytes: (count * dtype.bitsize()).div_ceil(8),
        }
    }
}

/// The tensors that a tensor becomes, in the order of [`bytes`].
pub(crate) fn parts(
    layout: CodeLayout,
    format: &Format,
    name: &str,
    tensor: &Stored<'_>,
) -> Result<Vec<Part>, FormatError> {
    let shape = tensor.shape;
    match layout {
        CodeLayout::Lowbit => {
            let bytes = pack::packed_size(tensor.count, format.bits());
            let mut parts = vec![Part::new(format!("{name}.codes"), Dtype::U8, vec![bytes])];
            if let Format::Block(block) = format {
                let shared = shared(block, block.granularity().scales(shape)?);
                parts.extend(shared.into_iter().map(|(role, dtype, count)| {
                    let dtype = if dtype.bitsize() == 8 {
                        Dtype::U8
                    } else {
                        dtype
                    };
                    Part::new(format!("{name}.{role}"), dtype, vec![count])
                }));
            }
            Ok(parts)
        }
        CodeLayout::Safetensors => typed_parts(format, name, shape),
        CodeLayout::BitsAndBytes => match format {
            Format::Block(block) => bitsandbytes::Table::of(block, shape)?.parts(name, tensor),
            _ => layout.refuse(format, "expected nf4 or fp4 with a scale per block"),
        },
    }
}

/// The bytes of those tensors.
pub(crate) fn bytes(
    layout: CodeLayout,
    block: &BlockFormat,
    codes: &BlockCodes,
    tensor: &Stored<'_>,
) -> Result<Vec<Vec<u8>>, FormatError> {
    if layout == CodeLayout::BitsAndBytes {
        return bitsandbytes::Table::of(block, tensor.shape)?.bytes(codes, tensor);
    }
    let mut bytes = vec![codes.elements.clone()];
    bytes.extend(
        scale_bytes(&codes.scales)
            .into_iter()
            .map(|(_, bytes)| bytes),
    );
    Ok(bytes)
}

fn typed_parts(format: &Format, name: &str, shape: &[usize]) -> Result<Vec<Part>, FormatError> {
    let layout = CodeLayout::Safetensors;
    let Some(dtype) = dtype(format) else {
        return layout.refuse(format, "safetensors files have no type for its codes");
    };
    let count: usize = shape.iter().product();
    if !(count * dtype.bitsize()).is_multiple_of(8) {
        return layout.refuse(format, "the codes of a tensor do not fill their last byte");
    }
    let mut parts = vec![Part::new(name.into(), dtype, shape.to_vec())];
    let Format::Block(block) = format else {
        return Ok(parts);
    };
    let granularity = block.granularity();
    for (role, dtype, _) in shared(block, granularity.scales(shape)?) {
        let Some(ending) = ending(role, granularity) else {
            return layout.refuse(format, "its scales are quantized in their turn");
        };
        let shape = match role {
            "tensor_scale" => vec![1],
            _ => blocks(granularity, shape),
        };
        parts.push(Part::new(format!("{name}{ending}"), dtype, shape));
    }
    Ok(parts)
}

/// What blocks share, in the order of [`scale_bytes`]: its name, type, and number.
fn shared(block: &BlockFormat, scales: usize) -> Vec<(&'static str, Dtype, usize)> {
    match block {
        BlockFormat::Float(_) => vec![("scales", Dtype::U8, scales)],
        BlockFormat::Microscaling(_) => vec![("scales", Dtype::F8_E8M0, scales)],
        BlockFormat::NvFp4(_) => vec![
            ("scales", Dtype::F8_E4M3, scales),
            ("tensor_scale", Dtype::F32, 1),
        ],
        BlockFormat::Grouped(_) => vec![
            ("scales", Dtype::F32, scales),
            ("zero_points", Dtype::I32, scales),
        ],
        BlockFormat::Scaled(format) if format.is_double() => vec![
            ("scales", Dtype::U8, scales),
            (
                "scale_scales",
                Dtype::F32,
                scales.div_ceil(bitsandbytes::GROUP),
            ),
            ("scale_mean", Dtype::F32, 1),
        ],
        BlockFormat::Scaled(format) => {
            let dtype = match format.scale_type() {
                ScaleType::F32 => Dtype::F32,
                ScaleType::Bf16 => Dtype::BF16,
                ScaleType::F16 => Dtype::F16,
            };
            vec![("scales", dtype, scales)]
        }
    }
}

/// What follows a tensor's name in the name of what its blocks share.
fn ending(role: &str, granularity: Granularity) -> Option<&'static str> {
    match (role, granularity) {
        ("scales", Granularity::Tile { .. }) => Some("_scale_inv"),
        ("scales", _) => Some("_scale"),
        ("tensor_scale", _) => Some("_scale_2"),
        ("zero_points", _) => Some("_zero_point"),
        _ => None,
    }
}

/// How many blocks lie along each dimension.
fn blocks(granularity: Granularity, shape: &[usize]) -> Vec<usize> {
    let last = shape.len().saturating_sub(1);
    let along = |(dim, &extent): (usize, &usize)| match granularity {
        Granularity::Dimension(shared) if usize::from(shared) == dim => extent,
        Granularity::Tensor | Granularity::Dimension(_) => 1,
        Granularity::Block { size, dim: shared } if shared.map_or(last, usize::from) == dim => {
            extent.div_ceil(size as usize)
        }
        Granularity::Tile { columns, .. } if dim == last => extent.div_ceil(columns as usize),
        Granularity::Tile { rows, .. } if dim + 1 == last => extent.div_ceil(rows as usize),
        Granularity::Block { .. } | Granularity::Tile { .. } => extent,
    };
    shape.iter().enumerate().map(along).collect()
}

/// The type of a format's codes in safetensors files.
fn dtype(format: &Format) -> Option<Dtype> {
    let text = match format {
        Format::Block(BlockFormat::Microscaling(mx)) => mx.element().name().to_string(),
        Format::Block(BlockFormat::NvFp4(_)) => "e2m1".to_string(),
        Format::Block(BlockFormat::Grouped(grouped)) => grouped.integer().to_string(),
        Format::Block(BlockFormat::Scaled(scaled)) => scaled.element().to_string(),
        Format::Block(BlockFormat::Float(_)) => return None,
        _ => format.to_string(),
    };
    Some(match text.split('(').next()? {
        "e4m3" => Dtype::F8_E4M3,
        "e5m2" => Dtype::F8_E5M2,
        "e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "e8m0" => Dtype::F8_E8M0,
        "e2m1" => Dtype::F4,
        "fp16" => Dtype::F16,
        "bf16" => Dtype::BF16,
        "fp32" => Dtype::F32,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "int16" => Dtype::I16,
        "uint16" => Dtype::U16,
        _ => return None,
    })
}

/// Where codes of a file are found: the elements' bytes, and those of what blocks share by role.
pub(crate) trait CodeSource {
    /// The bytes of the tensor of a name.
    fn tensor(&self, name: &str) -> Result<&[u8], FormatError>;
}

/// The codes of a tensor of a file whose layout has one tensor for each role.
pub(crate) fn codes(
    layout: CodeLayout,
    block: &BlockFormat,
    name: &str,
    shape: &[usize],
    source: &impl CodeSource,
) -> Result<BlockCodes, FormatError> {
    let granularity = block.granularity();
    let elements = elements(layout, name, source)?;
    let role = |role: &str| match layout {
        CodeLayout::Safetensors => match ending(role, granularity) {
            Some(ending) => source.tensor(&format!("{name}{ending}")),
            None => layout.refuse(block, "its scales are quantized in their turn"),
        },
        _ => source.tensor(&format!("{name}.{role}")),
    };
    let scales = match block {
        BlockFormat::Float(_) | BlockFormat::Microscaling(_) => {
            Scales::PowersOfTwo(role("scales")?.to_vec())
        }
        BlockFormat::NvFp4(_) => Scales::Float8 {
            tensor: first(&floats(role("tensor_scale")?, ScaleType::F32)),
            blocks: role("scales")?.to_vec(),
        },
        BlockFormat::Grouped(_) => {
            let zeros = role("zero_points")?.chunks_exact(4);
            let zeros = zeros.map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let scales = floats(role("scales")?, ScaleType::F32);
            let pairs = scales.into_iter().zip(zeros);
            let affine = |(scale, zero_point)| crate::scalar::Affine { scale, zero_point };
            Scales::Affine(pairs.map(affine).collect())
        }
        BlockFormat::Scaled(format) if format.is_double() => Scales::Double {
            codes: role("scales")?.to_vec(),
            groups: floats(role("scale_scales")?, ScaleType::F32),
            mean: first(&floats(role("scale_mean")?, ScaleType::F32)),
        },
        BlockFormat::Scaled(format) => {
            let kind = format.scale_type();
            let values = floats(role("scales")?, kind);
            Scales::Float { values, kind }
        }
    };
    Ok(BlockCodes {
        shape: shape.to_vec(),
        scales,
        elements: elements.to_vec(),
    })
}

/// The bytes of the elements.
pub(crate) fn elements<'a>(
    layout: CodeLayout,
    name: &str,
    source: &'a impl CodeSource,
) -> Result<&'a [u8], FormatError> {
    match layout {
        CodeLayout::Lowbit => source.tensor(&format!("{name}.codes")),
        _ => source.tensor(name),
    }
}

/// The names and shapes of the tensors that a file holds in a format; the shapes of bitsandbytes'
/// are in its own states.
pub(crate) fn stored(
    format: &Format,
    layout: CodeLayout,
    header: &Metadata,
) -> Vec<(String, Vec<usize>)> {
    let names = header.offset_keys();
    let first_role = match format {
        Format::Block(block) => ending("scales", block.granularity()),
        _ => None,
    };
    let dtype = dtype(format);
    let found = |name: &String| {
        let info = header.info(name)?;
        match layout {
            CodeLayout::Lowbit => {
                let name = name.strip_suffix(".codes")?;
                let metadata = header.metadata().as_ref()?;
                let described = metadata.get(&format!("lowbit.{name}"))?;
                let described: Described = serde_json::from_str(described).ok()?;
                Some((name.to_string(), described.shape))
            }
            CodeLayout::Safetensors => {
                let has_scale = first_role
                    .is_none_or(|ending| header.info(&format!("{name}{ending}")).is_some());
                let fits = dtype == Some(info.dtype) && has_scale;
                fits.then(|| (name.clone(), info.shape.clone()))
            }
            CodeLayout::BitsAndBytes => {
                let Format::Block(block) = format else {
                    return None;
                };
                let name = bitsandbytes::Table::name_of_state(block, name)?;
                Some((name.to_string(), Vec::new()))
            }
        }
    };
    names.iter().filter_map(found).collect()
}

/// What the metadata says of a tensor.
#[derive(Deserialize)]
struct Described {
    shape: Vec<usize>,
}

/// NaN for none.
pub(crate) fn first(numbers: &[f32]) -> f32 {
    numbers.first().copied().unwrap_or(f32::NAN)
}

/// The floats of a type whose little-endian bytes these are.
pub(crate) fn floats(bytes: &[u8], kind: ScaleType) -> Vec<f32> {
    use crate::kernel::Number;
    use half::{bf16, f16};
    let pairs = bytes
        .chunks_exact(2)
        .map(|b| u16::from_le_bytes([b[0], b[1]]));
    match kind {
        ScaleType::F32 => {
            let words = bytes.chunks_exact(4);
            let words = words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            words.collect()
        }
        ScaleType::Bf16 => pairs.map(|bits| bf16::from_bits(bits).widen()).collect(),
        ScaleType::F16 => pairs.map(|bits| f16::from_bits(bits).widen()).collect(),
    }
}
