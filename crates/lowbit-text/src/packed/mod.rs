//! Weights of few bits in safetensors, laid out as compressed-tensors has them, the library of vLLM that
//! `transformers` reads them with.
//!
//! | layout | a weight `[out, in]` is |
//! |---|---|
//! | `pack-quantized` | `weight_packed`, I32: integers of 2 to 8 bits above the lowest, side by side from the lowest bit on, rows apart; `weight_scale` `[out, groups]`; `weight_shape`; where there are zero points, `weight_zero_point`, I32, packed along `out` |
//! | `mxfp4-pack-quantized` | `weight_packed`, U8: two e2m1 a byte, the first in the low half; `weight_scale`, U8: E8M0 |
//! | `nvfp4-pack-quantized` | the same, with `weight_scale` of e4m3 and `weight_global_scale`, by which scales are divided |
//! | `mxfp8-quantized` | `weight` of e4m3, `weight_scale`, U8: E8M0 |
//! | `float-quantized`, `naive-quantized` | `weight` of e4m3, `weight_scale`: of the tensor, of each output, or of tiles of 128x128 |
//! | `int-quantized` | `weight`, I8, `weight_scale`, and `weight_zero_point` where there are some |
//!
//! What a weight is, is known from these tensors; `config.json` has it once more, for those who need it.

mod read;
mod write;

use half::{bf16, f16};
use lowbit_formats::block::{BlockCodes, Granularity, Scales};
use lowbit_formats::block::{MxElement, Scaled, ScaledElement};
use lowbit_formats::{BlockFormat, Float, FormatError, ScalarFormat};
use safetensors::tensor::Dtype;

pub(crate) use read::{floats_of, stem};
pub(crate) use write::{bytes_of, check, config, kept};

/// A tensor as a file holds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// A weight of few bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packed {
    pub(crate) format: BlockFormat,
    pub(crate) codes: BlockCodes,
    /// What the scales of blocks are divided by, where there are two levels.
    pub(crate) global: Option<f32>,
    /// The type of scales that are floats, and of the numbers that the weight stands for.
    pub(crate) numbers: Dtype,
}

impl Packed {
    /// The numbers that the weight stands for, in row order.
    ///
    /// # Errors
    /// If the codes are not those of a tensor in the format.
    pub(crate) fn numbers(&self) -> Result<Vec<f32>, FormatError> {
        let values = match (&self.codes.scales, self.global) {
            (Scales::Float8 { blocks, .. }, Some(global)) => self.two_levels(blocks, global)?,
            _ => self.format.decode(&self.codes)?,
        };
        // A product of an integer or an e4m3 with a scale of 16 bits is exact here, and rounded once.
        Ok(match self.numbers {
            Dtype::BF16 => values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
            Dtype::F16 => values.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
            _ => values,
        })
    }

    /// With scales that are e4m3 over the tensor's.
    fn two_levels(&self, blocks: &[u8], global: f32) -> Result<Vec<f32>, FormatError> {
        let float8 = e4m3();
        let scales = blocks
            .iter()
            .map(|&code| float8.decode(code.into()) / global);
        let granularity = self.format.granularity();
        let element = ScaledElement::float(Float::named("e2m1").expect("a named format"))?;
        let format = Scaled::new(element, granularity)?;
        let codes = BlockCodes {
            scales: Scales::Float {
                values: scales.collect(),
                kind: format.scale_type(),
            },
            ..self.codes.clone()
        };
        BlockFormat::Scaled(format).decode(&codes)
    }
}

fn e4m3() -> Float {
    Float::named("e4m3").expect("a named format")
}

/// Which of the layouts holds a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Integers of so many bits.
    Integers(u32),
    Mxfp4,
    Nvfp4,
    Mxfp8,
    Float8,
}

impl Layout {
    /// The layout of a format whose blocks lie along the last dimension; `None` if there is none.
    fn of(format: &BlockFormat) -> Option<Self> {
        let along_rows = |granularity| match granularity {
            Granularity::Block {
                size,
                dim: None | Some(1),
            } => Some(size),
            _ => None,
        };
        let size = along_rows(format.granularity());
        match format {
            BlockFormat::Grouped(grouped) => {
                let is_whole = size.is_some() || grouped.granularity() == Granularity::Dimension(0);
                let (integer, bits) = (grouped.integer(), grouped.integer().bits());
                (is_whole && integer.is_signed() && bits <= 8).then_some(Self::Integers(bits))
            }
            BlockFormat::NvFp4(_) => (size == Some(16)).then_some(Self::Nvfp4),
            BlockFormat::Microscaling(mx) if size == Some(32) => match mx.element() {
                MxElement::E4m3 => Some(Self::Mxfp8),
                MxElement::E2m1 => Some(Self::Mxfp4),
                _ => None,
            },
            BlockFormat::Scaled(scaled) => {
                let is_e4m3 = ScaledElement::float(e4m3()) == Ok(scaled.element());
                let is_whole = matches!(
                    scaled.granularity(),
                    Granularity::Tensor
                        | Granularity::Dimension(0)
                        | Granularity::Tile {
                            rows: 128,
                            columns: 128
                        }
                );
                (is_e4m3 && is_whole && !scaled.is_double()).then_some(Self::Float8)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safetensors::SafeTensors;

    use super::*;

    /// Layers as compressed-tensors writes them, and what it reads: `tests/fixtures/make_packed.py`.
    fn cases() -> BTreeMap<String, (BTreeMap<String, Stored>, Vec<f32>)> {
        let file = include_bytes!("../../tests/fixtures/packed.safetensors");
        let mut cases: BTreeMap<String, (BTreeMap<String, Stored>, Vec<f32>)> = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(file).unwrap().tensors() {
            let (case, part) = name.split_once('.').unwrap();
            let (parts, expected) = cases.entry(case.into()).or_default();
            if part == "expected" {
                *expected = floats_of(view.dtype(), view.data()).unwrap();
                continue;
            }
            let stored = Stored {
                dtype: view.dtype(),
                shape: view.shape().into(),
                bytes: view.data().into(),
            };
            parts.insert(part.into(), stored);
        }
        cases
    }

    #[test]
    fn weights_are_those_of_compressed_tensors() {
        let cases = cases();
        assert_eq!(cases.len(), 12);
        for (name, (parts, expected)) in cases {
            let packed = Packed::of(&parts, &[]).unwrap_or_else(|error| panic!("{name} {error}"));
            let numbers = packed.numbers().unwrap();
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            // No integer has a minus, and the library's zeros times a scale have none either.
            let positive = |x: &f32| if *x == 0.0 { 0.0 } else { *x };
            let [found, expected] =
                [&numbers, &expected].map(|list| list.iter().map(positive).collect::<Vec<f32>>());
            assert_eq!(bits(&found), bits(&expected), "{name}");
            // Integers in bytes are written in words.
            if name != "int8-bytes" {
                let written = packed.parts().into_iter();
                let written: BTreeMap<String, Stored> = written
                    .map(|(part, stored)| (part.into(), stored))
                    .collect();
                assert_eq!(written, parts, "{name}");
            }
        }
    }

    #[test]
    fn damaged_weights_are_refused_in_a_line() {
        let whole = cases();
        let refused = |case: &str, damage: &dyn Fn(&mut BTreeMap<String, Stored>)| {
            let mut parts = whole[case].0.clone();
            damage(&mut parts);
            Packed::of(&parts, &[]).unwrap_err()
        };
        let without = |part: &'static str| {
            move |parts: &mut BTreeMap<String, Stored>| {
                parts.remove(part);
            }
        };
        assert_eq!(
            refused("int4", &without("weight_shape")),
            "lacks its weight_shape"
        );
        assert_eq!(
            refused("int4", &without("weight_scale")),
            "lacks its weight_scale"
        );
        assert_eq!(
            refused("nvfp4", &without("weight_global_scale")),
            "lacks its weight_global_scale"
        );
        assert_eq!(
            refused("int4", &without("weight_packed")),
            "lacks its weight"
        );
        let narrow = refused("int4", &|parts| {
            parts.get_mut("weight_packed").unwrap().shape = vec![40, 7];
        });
        assert_eq!(
            narrow,
            "of 40 x 64 integers of 2 to 8 bits is not packed in [40, 7] words"
        );
        let seven = refused("mxfp4", &|parts| {
            parts.get_mut("weight_scale").unwrap().shape = vec![40, 7];
        });
        assert_eq!(seven, "has 7 scales for 64 columns");
        let zeros = refused("int4-zero", &|parts| {
            parts.get_mut("weight_zero_point").unwrap().shape = vec![40, 4];
        });
        assert_eq!(zeros, "has zero points in [40, 4], expected 5 x 4 words");
        let ordered = refused("int4", &|parts| {
            let shape = parts["weight_shape"].clone();
            parts.insert("weight_g_idx".into(), shape);
        });
        assert!(ordered.starts_with("has a weight_g_idx"), "{ordered}");
        let short = refused("int4", &|parts| {
            parts.get_mut("weight_shape").unwrap().bytes =
                [40i64, 16].map(i64::to_le_bytes).concat();
            parts.get_mut("weight_packed").unwrap().shape = vec![40, 2];
        });
        assert_eq!(
            short,
            "has rows of 16 integers, whose width 2 words do not tell"
        );
        let other = refused("fp8-channel", &|parts| {
            parts.get_mut("weight").unwrap().dtype = Dtype::I16;
        });
        assert_eq!(
            other,
            "is I16 with scales of BF16, a layout that is not known"
        );
    }

    #[test]
    fn formats_without_a_layout_are_refused() {
        for text in [
            "affine(4,symmetric,block=128)",
            "affine(8,dim=0)",
            "mxfp4",
            "nvfp4",
            "mxfp8(e4m3)",
            "scaled(e4m3)",
            "scaled(e4m3,block=128x128)",
        ] {
            check(&text.parse().unwrap()).unwrap();
        }
        for text in [
            "int8",
            "posit(8,1)",
            "affine(4)",
            "affine(4,unsigned,block=8)",
            "affine(9,block=8)",
            "affine(4,block=8,dim=0)",
            "mxfp4(block=16)",
            "mxfp8(e5m2)",
            "nvfp4(block=32)",
            "scaled(e5m2)",
            "scaled(e4m3,block=64)",
            "scaled(e4m3,block=100x100)",
            "bfp(8)",
        ] {
            let refused = check(&text.parse().unwrap()).unwrap_err().to_string();
            assert!(
                refused.starts_with("format: ") && refused.contains("packed layout"),
                "{refused}"
            );
        }
    }
}
