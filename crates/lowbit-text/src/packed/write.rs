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
        "{format} has no packed layout, expected affine(1 to 8 bits) with dim=0 or block=N, mxfp4, nvfp4, \
         mxfp8(e4m3), or scaled(e4m3) of the tensor, with dim=0 or in tiles"
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

impl Packed {
    /// The tensors of the weight, by what they are called after the layer's name.
    ///
    /// # Errors
    /// If rows cannot be cut into the format's runs.
    pub(crate) fn parts(&self) -> Result<Vec<(&'static str, Stored)>, Error> {
        let shape = &self.codes.shape;
        let [rows, columns] = [shape[0], shape[1]];
        let groups = match self.format.granularity() {
            Granularity::Block { size, .. } => {
                if !columns.is_multiple_of(size as usize) {
                    let message =
                        format!("blocks of {size} do not divide the {columns} inputs of a layer");
                    return Err(Error::field("format", message));
                }
                columns / size as usize
            }
            _ => 1,
        };
        let table = |dtype, bytes| Stored {
            dtype,
            shape: vec![rows, groups],
            bytes,
        };
        let packed = |dtype, columns| Stored {
            dtype,
            shape: vec![rows, columns],
            bytes: self.codes.elements.clone(),
        };
        Ok(match &self.codes.scales {
            Scales::Affine(affine) => self.integers(affine, [rows, columns, groups]),
            Scales::PowersOfTwo(scales) => {
                let packed = match Layout::of(&self.format) {
                    Some(Layout::Mxfp8) => ("weight", packed(Dtype::F8_E4M3, columns)),
                    _ => ("weight_packed", packed(Dtype::U8, columns / 2)),
                };
                vec![packed, ("weight_scale", table(Dtype::U8, scales.clone()))]
            }
            Scales::Float8 { tensor, blocks } => {
                let global = self.global.unwrap_or(1.0 / tensor);
                vec![
                    ("weight_packed", packed(Dtype::U8, columns / 2)),
                    ("weight_scale", table(Dtype::F8_E4M3, blocks.clone())),
                    (
                        "weight_global_scale",
                        Stored {
                            dtype: Dtype::F32,
                            shape: vec![1],
                            bytes: global.to_le_bytes().into(),
                        },
                    ),
                ]
            }
            Scales::Float { values, .. } => {
                let shape = match self.format.granularity() {
                    Granularity::Dimension(_) => vec![rows, 1],
                    Granularity::Tile {
                        rows: a,
                        columns: b,
                    } => {
                        vec![rows.div_ceil(a as usize), columns.div_ceil(b as usize)]
                    }
                    _ => vec![1],
                };
                vec![
                    ("weight", packed(Dtype::F8_E4M3, columns)),
                    (
                        "weight_scale",
                        Stored {
                            dtype: self.numbers,
                            shape,
                            bytes: bytes_of(values, self.numbers),
                        },
                    ),
                ]
            }
            Scales::Double { .. } => Vec::new(),
        })
    }

    fn integers(
        &self,
        affine: &[Affine],
        [rows, columns, groups]: [usize; 3],
    ) -> Vec<(&'static str, Stored)> {
        let Some(Layout::Integers(bits)) = Layout::of(&self.format) else {
            return Vec::new();
        };
        let above = |q: u32| q ^ (1 << (bits - 1));
        let in_words = |codes: &[u32]| {
            let mut bytes = pack::pack(codes, bits).expect("1 to 8 bits");
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let all = pack::unpack(&self.codes.elements, bits, rows * columns)
            .expect("as many as the shape says");
        let all: Vec<u32> = all.into_iter().map(above).collect();
        let words = (columns * bits as usize).div_ceil(32);
        let scales: Vec<f32> = affine.iter().map(|affine| affine.scale).collect();
        let shape = [rows as i64, columns as i64];
        let mut parts = vec![
            (
                "weight_packed",
                Stored {
                    dtype: Dtype::I32,
                    shape: vec![rows, words],
                    bytes: all.chunks(columns.max(1)).flat_map(in_words).collect(),
                },
            ),
            (
                "weight_scale",
                Stored {
                    dtype: self.numbers,
                    shape: vec![rows, groups],
                    bytes: bytes_of(&scales, self.numbers),
                },
            ),
            (
                "weight_shape",
                Stored {
                    dtype: Dtype::I64,
                    shape: vec![2],
                    bytes: shape
                        .iter()
                        .flat_map(|extent| extent.to_le_bytes())
                        .collect(),
                },
            ),
        ];
        if !self.is_symmetric() {
            let words = (rows * bits as usize).div_ceil(32);
            let mut bytes = vec![0; 4 * words * groups];
            for group in 0..groups {
                let column = affine.iter().skip(group).step_by(groups);
                let column: Vec<u32> = column.map(|a| above(a.zero_point as u32)).collect();
                for (word, from) in in_words(&column).chunks(4).enumerate() {
                    bytes[4 * (word * groups + group)..][..4].copy_from_slice(from);
                }
            }
            parts.push((
                "weight_zero_point",
                Stored {
                    dtype: Dtype::I32,
                    shape: vec![words, groups],
                    bytes,
                },
            ));
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
    let (layout, name) = match Layout::of(format)? {
        layout @ Layout::Integers(_) => (layout, "pack-quantized"),
        layout @ Layout::Mxfp4 => (layout, "mxfp4-pack-quantized"),
        layout @ Layout::Nvfp4 => (layout, "nvfp4-pack-quantized"),
        layout @ Layout::Mxfp8 => (layout, "mxfp8-quantized"),
        layout @ Layout::Float8 => (layout, "naive-quantized"),
    };
    let mut weights = json!({ "dynamic": false, "symmetric": true });
    let mut set = |key: &str, value: Value| weights[key] = value;
    set(
        "num_bits",
        match layout {
            Layout::Integers(bits) => bits.into(),
            Layout::Mxfp4 | Layout::Nvfp4 => 4.into(),
            Layout::Mxfp8 | Layout::Float8 => 8.into(),
        },
    );
    set(
        "type",
        if matches!(layout, Layout::Integers(_)) {
            "int"
        } else {
            "float"
        }
        .into(),
    );
    if let BlockFormat::Grouped(grouped) = format {
        set("symmetric", grouped.is_symmetric().into());
    }
    match format.granularity() {
        Granularity::Block { size, .. } => {
            set("group_size", size.into());
            let strategy = if layout == Layout::Nvfp4 {
                "tensor_group"
            } else {
                "group"
            };
            set("strategy", strategy.into());
        }
        Granularity::Tile { rows, columns } => {
            set("block_structure", json!([rows, columns]));
            set("strategy", "block".into());
        }
        Granularity::Dimension(_) => set("strategy", "channel".into()),
        Granularity::Tensor => set("strategy", "tensor".into()),
    }
    match layout {
        Layout::Mxfp4 | Layout::Mxfp8 => set("scale_dtype", "torch.uint8".into()),
        Layout::Nvfp4 => set("scale_dtype", "torch.float8_e4m3fn".into()),
        _ => {}
    }
    Some(json!({
        "quant_method": "compressed-tensors",
        "format": name,
        "quantization_status": "compressed",
        "config_groups": { "group_0": {
            "targets": ["Linear"],
            "weights": weights,
            "input_activations": null,
            "output_activations": null,
            "format": name,
        } },
        "ignore": ignored,
        "kv_cache_scheme": null,
        "global_compression_ratio": null,
    }))
}
