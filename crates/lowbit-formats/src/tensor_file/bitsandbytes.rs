//! The state dict of bitsandbytes' 4-bit tensors.

use safetensors::Dtype;
use serde::Deserialize;

use crate::block::scaled::double;
use crate::block::{
    BlockCodes, BlockFormat, Granularity, ScaleType, Scaled, ScaledElement, Scales,
};
use crate::error::FormatError;
use crate::kernel::pack;
use crate::rounding::Rounding;
use crate::scalar::codebook::Codebook;
use crate::tensor_file::element::Element;
use crate::tensor_file::layout::{CodeSource, Part, floats};
use crate::tensor_file::pass::{Stored, float_bytes};

pub(crate) use crate::block::scaled::double::GROUP;

/// The sizes of blocks that bitsandbytes has.
const SIZES: [u32; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Our code for each of its codes of FP4: a sign above the places of 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6
/// and 1/4 among the magnitudes in order.
const FP4: [u8; 8] = [0, 1, 6, 7, 4, 5, 2, 3];

/// Room for the mean in the JSON text, which is laid out before the mean is known: the longest f64.
const MEAN: usize = 24;

/// A format that bitsandbytes has.
pub(crate) struct Table {
    format: Scaled,
    /// `nf4` or `fp4`.
    kind: &'static str,
    size: u32,
    table: &'static Codebook,
}

/// What `NAME.quant_state.bitsandbytes__nf4` says.
#[derive(Deserialize)]
struct State {
    blocksize: u32,
    shape: Vec<usize>,
    nested_offset: Option<f64>,
}

impl Table {
    /// The format, if bitsandbytes has it and a tensor's blocks are its own.
    pub(crate) fn of(block: &BlockFormat, shape: &[usize]) -> Result<Self, FormatError> {
        let refused = |reason: String| FormatError::Unsupported {
            format: block.to_string(),
            operation: format!("the layout bitsandbytes: {reason}"),
        };
        let BlockFormat::Scaled(format) = *block else {
            return Err(refused("expected nf4 or fp4 with a scale per block".into()));
        };
        let (kind, name) = match format.element() {
            ScaledElement::Table(name @ ("nf4" | "bitsandbytes-nf4")) => ("nf4", name),
            ScaledElement::Table(name @ ("fp4" | "bitsandbytes-fp4")) => ("fp4", name),
            _ => return Err(refused("expected nf4 or fp4 with a scale per block".into())),
        };
        let last = shape.len().saturating_sub(1);
        let size = match format.granularity() {
            Granularity::Block { size, dim }
                if SIZES.contains(&size) && dim.is_none_or(|dim| usize::from(dim) == last) =>
            {
                size
            }
            _ => {
                let reason = format!("expected blocks along rows, of one of {SIZES:?}");
                return Err(refused(reason));
            }
        };
        let row = shape.last().copied().unwrap_or(1);
        let rows: usize = shape.iter().rev().skip(1).product();
        if rows > 1 && !row.is_multiple_of(size as usize) {
            let reason = format!("blocks of {size} do not fit into rows of {row}");
            return Err(refused(reason));
        }
        if format.scale_type() != ScaleType::F32 {
            return Err(refused("expected scales of fp32".into()));
        }
        let table = Codebook::known(name).ok_or_else(|| refused("no table".into()))?;
        Ok(Self {
            format,
            kind,
            size,
            table,
        })
    }

    pub(crate) fn parts(&self, name: &str, tensor: &Stored<'_>) -> Result<Vec<Part>, FormatError> {
        let scales = self.format.granularity().scales(tensor.shape)?;
        let part =
            |ending: &str, dtype, count| Part::new(format!("{name}{ending}"), dtype, vec![count]);
        let bytes = tensor.count.div_ceil(2);
        let mut parts = vec![Part::new(name.into(), Dtype::U8, vec![bytes, 1])];
        let state = self.state(tensor, 0.0).len();
        if self.format.is_double() {
            parts.push(part(".absmax", Dtype::U8, scales));
            parts.push(part(".nested_absmax", Dtype::F32, scales.div_ceil(GROUP)));
            parts.push(part(".nested_quant_map", Dtype::F32, 256));
        } else {
            parts.push(part(".absmax", Dtype::F32, scales));
        }
        parts.push(part(".quant_map", Dtype::F32, 16));
        let ending = format!(".quant_state.bitsandbytes__{}", self.kind);
        parts.push(part(&ending, Dtype::U8, state));
        Ok(parts)
    }

    pub(crate) fn bytes(
        &self,
        codes: &BlockCodes,
        tensor: &Stored<'_>,
    ) -> Result<Vec<Vec<u8>>, FormatError> {
        let mut bytes = vec![self.elements(codes, tensor.count)?];
        let mut offset = 0.0;
        match &codes.scales {
            Scales::Double {
                codes,
                groups,
                mean,
            } => {
                offset = *mean;
                bytes.push(codes.clone());
                bytes.push(float_bytes(groups, ScaleType::F32));
                bytes.push(float_bytes(double::map().values(), ScaleType::F32));
            }
            Scales::Float { values, .. } => bytes.push(float_bytes(values, ScaleType::F32)),
            _ => {}
        }
        let map: Vec<f32> = (0..16).map(|code| self.value(code)).collect();
        bytes.push(float_bytes(&map, ScaleType::F32));
        bytes.push(self.state(tensor, offset));
        Ok(bytes)
    }

    /// The value of one of its codes; of FP4's minus zero, zero.
    fn value(&self, code: u8) -> f32 {
        self.table.decode(self.ours(code).into())
    }

    /// Our code for one of its.
    fn ours(&self, code: u8) -> u8 {
        match self.kind {
            // There is no minus zero.
            "fp4" if code == 8 => 0,
            "fp4" => code & 8 | FP4[usize::from(code & 7)],
            _ => code,
        }
    }

    /// Its code for one of ours.
    fn theirs(&self, code: u32) -> u8 {
        let found = (0..16).find(|&theirs| u32::from(self.ours(theirs)) == code);
        found.unwrap_or(0)
    }

    /// Two codes in a byte, the first in the upper bits; zero after the last.
    fn elements(&self, codes: &BlockCodes, count: usize) -> Result<Vec<u8>, FormatError> {
        let ours = pack::unpack(&codes.elements, 4, count)?;
        let theirs: Vec<u8> = ours.into_iter().map(|code| self.theirs(code)).collect();
        let zero = self.theirs(self.table.encode(0.0, Rounding::NearestEven, 0));
        let pair = |pair: &[u8]| pair[0] << 4 | pair.get(1).copied().unwrap_or(zero);
        Ok(theirs.chunks(2).map(pair).collect())
    }

    /// The JSON text as Python writes it; spaces follow where the mean is shorter than its room.
    fn state(&self, tensor: &Stored<'_>, mean: f32) -> Vec<u8> {
        let dtype = match tensor.element {
            Element::F16 => "float16",
            Element::Bf16 => "bfloat16",
            _ => "float32",
        };
        let text = format!(
            r#"{{"quant_type": "{}", "blocksize": {}, "dtype": "{dtype}", "shape": {:?}"#,
            self.kind, self.size, tensor.shape
        );
        if !self.format.is_double() {
            return (text + "}").into_bytes();
        }
        let nested = format!(
            r#", "nested_blocksize": {GROUP}, "nested_dtype": "float32", "nested_offset": "#
        );
        let text = text + &nested;
        let length = text.len() + MEAN + 1;
        let text = format!("{text}{:?}}}", f64::from(mean));
        format!("{text:length$}").into_bytes()
    }

    /// The tensor whose state has a name, if it is one of this format.
    pub(crate) fn name_of_state<'n>(block: &BlockFormat, name: &'n str) -> Option<&'n str> {
        let kind = Self::of(block, &[]).ok()?.kind;
        name.strip_suffix(&format!(".quant_state.bitsandbytes__{kind}"))
    }

    /// The codes of a tensor of a file, if it is one of this format.
    pub(crate) fn codes(
        block: &BlockFormat,
        name: &str,
        source: &impl CodeSource,
    ) -> Result<BlockCodes, FormatError> {
        let kind = Self::of(block, &[])?.kind;
        let text = source.tensor(&format!("{name}.quant_state.bitsandbytes__{kind}"))?;
        let wrong = |reason: String| FormatError::Unsupported {
            format: block.to_string(),
            operation: format!("the layout bitsandbytes: {name} {reason}"),
        };
        let state: State = serde_json::from_slice(text)
            .map_err(|error| wrong(format!("has an ill-formed state: {error}")))?;
        let this = Self::of(block, &state.shape)?;
        if state.blocksize != this.size {
            return Err(wrong(format!("has blocks of {}", state.blocksize)));
        }
        let absmax = source.tensor(&format!("{name}.absmax"))?;
        let scales = match (state.nested_offset, this.format.is_double()) {
            (Some(mean), true) => Scales::Double {
                codes: absmax.to_vec(),
                groups: floats(
                    source.tensor(&format!("{name}.nested_absmax"))?,
                    ScaleType::F32,
                ),
                mean: mean as f32,
            },
            (None, false) => Scales::Float {
                values: floats(absmax, ScaleType::F32),
                kind: ScaleType::F32,
            },
            (Some(_), false) => {
                return Err(wrong("has scales that are quantized in their turn".into()));
            }
            (None, true) => return Err(wrong("has scales that are floats".into())),
        };
        let bytes = source.tensor(name)?;
        let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let codes: Vec<u32> = nibbles.map(|code| this.ours(code).into()).collect();
        Ok(BlockCodes {
            shape: state.shape,
            scales,
            elements: pack::pack(&codes, 4)?,
        })
    }
}
