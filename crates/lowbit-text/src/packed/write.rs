//! The tensors of weights, and what `config.json` says of them.

use half::{bf16, f16};
use lowbit_formats::block::{Granularity, Scales};
use lowbit_formats::scalar::Affine;
use lowbit_formats::{BlockFormat, Format, pack};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::{Layout, Packed, Stored};
use crate::Error;

/// The format of weights `[out, in]` that are to be packed.
///
/// # Errors
/// If no layout holds it.
pub(crate) fn check(format: &Format) -> Result<BlockFormat, Error> {
    if let Format::Block(block) = format
        && Layout::of(block).is_some()
    {
        return Ok(*block);
    }
    let message = format!(
        "{format} has no packed layout, expected affine of 2 to 8 bits with dim=0 or block=N, mxfp4, nvfp4, \
         mxfp8(e4m3), or scaled(e4m3) of the tensor, with dim=0 or block=128x128"
    );
    Err(Error::field("format", message))
}

/// Scales as a file of numbers of that type keeps them.
pub(crate) fn kept(scales: Scales, numbers: Dtype) -> Scales {
    let least = match numbers {
        Dtype::BF16 => bf16::MIN_POSITIVE.to_f32(),
        Dtype::F16 => f16::MIN_POSITIVE.to_f32(),
        _ => return scales,
    };
    let kept = |scale: f32| match numbers {
        Dtype::BF16 => bf16::from_f32(scale).to_f32().max(least),
        _ => f16::from_f32(scale)
            .to_f32()
            .clamp(least, f16::MAX.to_f32()),
    };
    match scales {
        Scales::Affine(all) => Scales::Affine(
            all.into_iter()
                .map(|affine| Affine {
                    scale: kept(affine.scale),
                    ..affine
                })
                .collect(),
        ),
        Scales::Float { values, kind } => Scales::Float {
            values: values.into_iter().map(kept).collect(),
            kind,
        },
        other => other,
    }
}

/// Numbers as a type of 16 or 32 bits has them.
pub(crate) fn bytes_of(values: &[f32], numbers: Dtype) -> Vec<u8> {
    match numbers {
        Dtype::BF16 => values
            .iter()
            .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
            .collect(),
        Dtype::F16 => values
            .iter()
            .flat_map(|&x| f16::from_f32(x).to_le_bytes())
            .collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn stored(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored {
        dtype,
        shape: shape.into(),
        bytes,
    }
}

/// Integers above the lowest of so many bits, in whole words of 32.
fn words(integers: &[u32], bits: u32) -> Vec<u8> {
    let above: Vec<u32> = integers.iter().map(|q| q ^ (1 << (bits - 1))).collect();
    let mut bytes = pack::pack(&above, bits).expect("1 to 8 bits");
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

impl Packed {
    /// The tensors of the weight, by what they are called after the layer's name. The format's runs divide its
    /// rows.
    pub(crate) fn parts(&self) -> Vec<(&'static str, Stored)> {
        let [rows, columns] = [self.codes.shape[0], self.codes.shape[1]];
        let groups = match self.format.granularity() {
            Granularity::Block { size, .. } => columns / size as usize,
            _ => 1,
        };
        let elements = || self.codes.elements.clone();
        let bytes = || {
            (
                "weight",
                stored(Dtype::F8_E4M3, &[rows, columns], elements()),
            )
        };
        let halves = || {
            (
                "weight_packed",
                stored(Dtype::U8, &[rows, columns / 2], elements()),
            )
        };
        let scale = |stored| ("weight_scale", stored);
        match &self.codes.scales {
            Scales::Affine(affine) => self.integers(affine, [rows, columns, groups]),
            Scales::PowersOfTwo(scales) => {
                let packed = match Layout::of(&self.format) {
                    Some(Layout::Mxfp8) => bytes(),
                    _ => halves(),
                };
                let scales = stored(Dtype::U8, &[rows, groups], scales.clone());
                vec![packed, scale(scales)]
            }
            Scales::Float8 { tensor, blocks } => {
                let global = self.global.unwrap_or(1.0 / tensor).to_le_bytes();
                let global = stored(Dtype::F32, &[1], global.into());
                let scales = stored(Dtype::F8_E4M3, &[rows, groups], blocks.clone());
                vec![halves(), scale(scales), ("weight_global_scale", global)]
            }
            Scales::Float { values, .. } => {
                let shape = match self.format.granularity() {
                    Granularity::Dimension(_) => vec![rows, 1],
                    Granularity::Tile {
                        rows: height,
                        columns: width,
                    } => vec![
                        rows.div_ceil(height as usize),
                        columns.div_ceil(width as usize),
                    ],
                    _ => vec![1],
                };
                let scales = stored(self.numbers, &shape, bytes_of(values, self.numbers));
                vec![bytes(), scale(scales)]
            }
            Scales::Double { .. } => Vec::new(),
        }
    }

    fn integers(
        &self,
        affine: &[Affine],
        [rows, columns, groups]: [usize; 3],
    ) -> Vec<(&'static str, Stored)> {
        let Some(Layout::Integers(bits)) = Layout::of(&self.format) else {
            return Vec::new();
        };
        let all = pack::unpack(&self.codes.elements, bits, rows * columns)
            .expect("as many as the shape says");
        let in_words = all.chunks(columns.max(1)).flat_map(|row| words(row, bits));
        let size = (columns * bits as usize).div_ceil(32);
        let scales: Vec<f32> = affine.iter().map(|affine| affine.scale).collect();
        let scales = bytes_of(&scales, self.numbers);
        let shape = [rows as i64, columns as i64].map(i64::to_le_bytes);
        let mut parts = vec![
            (
                "weight_packed",
                stored(Dtype::I32, &[rows, size], in_words.collect()),
            ),
            (
                "weight_scale",
                stored(self.numbers, &[rows, groups], scales),
            ),
            ("weight_shape", stored(Dtype::I64, &[2], shape.concat())),
        ];
        if !self.is_symmetric() {
            let size = (rows * bits as usize).div_ceil(32);
            let mut bytes = vec![0; 4 * size * groups];
            for group in 0..groups {
                let column = affine.iter().skip(group).step_by(groups);
                let column: Vec<u32> = column.map(|a| a.zero_point as u32).collect();
                for (word, from) in words(&column, bits).chunks(4).enumerate() {
                    bytes[4 * (word * groups + group)..][..4].copy_from_slice(from);
                }
            }
            let zero_points = stored(Dtype::I32, &[size, groups], bytes);
            parts.push(("weight_zero_point", zero_points));
        }
        parts
    }

    fn is_symmetric(&self) -> bool {
        matches!(&self.format, BlockFormat::Grouped(grouped) if grouped.is_symmetric())
    }
}

/// What `config.json` says of weights in a format, but for the layers whose names are given: its
/// `quantization_config`.
pub(crate) fn config(format: &BlockFormat, ignored: &[String]) -> Option<Value> {
    let layout = Layout::of(format)?;
    let name = match layout {
        Layout::Integers(_) => "pack-quantized",
        Layout::Mxfp4 => "mxfp4-pack-quantized",
        Layout::Nvfp4 => "nvfp4-pack-quantized",
        Layout::Mxfp8 => "mxfp8-quantized",
        Layout::Float8 => "naive-quantized",
    };
    Some(json!({
        "quant_method": "compressed-tensors",
        "format": name,
        "quantization_status": "compressed",
        "config_groups": { "group_0": {
            "targets": ["Linear"],
            "weights": of_weights(format, layout),
            "input_activations": null,
            "output_activations": null,
            "format": name,
        } },
        "ignore": ignored,
        "kv_cache_scheme": null,
        "global_compression_ratio": null,
    }))
}

/// What it says of the numbers.
fn of_weights(format: &BlockFormat, layout: Layout) -> Value {
    let (kind, bits) = match layout {
        Layout::Integers(bits) => ("int", bits),
        Layout::Mxfp4 | Layout::Nvfp4 => ("float", 4),
        Layout::Mxfp8 | Layout::Float8 => ("float", 8),
    };
    let symmetric = match format {
        BlockFormat::Grouped(grouped) => grouped.is_symmetric(),
        _ => true,
    };
    let (strategy, field) = match format.granularity() {
        Granularity::Block { size, .. } if layout == Layout::Nvfp4 => {
            ("tensor_group", Some(("group_size", json!(size))))
        }
        Granularity::Block { size, .. } => ("group", Some(("group_size", json!(size)))),
        Granularity::Tile { rows, columns } => {
            ("block", Some(("block_structure", json!([rows, columns]))))
        }
        Granularity::Dimension(_) => ("channel", None),
        Granularity::Tensor => ("tensor", None),
    };
    let scale = match layout {
        Layout::Mxfp4 | Layout::Mxfp8 => Some(("scale_dtype", "torch.uint8".into())),
        Layout::Nvfp4 => Some(("scale_dtype", "torch.float8_e4m3fn".into())),
        _ => None,
    };
    let mut weights = json!({
        "num_bits": bits,
        "type": kind,
        "symmetric": symmetric,
        "strategy": strategy,
        "dynamic": false,
    });
    for (key, value) in field.into_iter().chain(scale) {
        weights[key] = value;
    }
    weights
}
