//! What the blocks of a tensor share.

use crate::block::power_of_two::PowerOfTwo;
use crate::block::quotient;
use crate::block::scaled::{Quotient, ScaleType, double};
use crate::scalar::float::Float;
use crate::scalar::integer::Affine;
use crate::scalar::{ScalarFormat, Wide};

/// What blocks share.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// Powers of two as E8M0 codes: `2^(code - 127)`, 255 for NaN.
    PowersOfTwo(Vec<u8>),
    /// E4M3 codes, and the tensor's scale.
    Float8 {
        /// The scale of the whole tensor.
        tensor: f32,
        /// The codes of the blocks' scales.
        blocks: Vec<u8>,
    },
    /// Scales and zero points of integers.
    Affine(Vec<Affine>),
    /// Floats.
    Float {
        /// The scales, all of them numbers of their type.
        values: Vec<f32>,
        /// Their type.
        kind: ScaleType,
    },
    /// Floats that are quantized in their turn: `map[code] * group + mean`, where `map` is the
    /// table `bitsandbytes-dynamic` and 256 scales share a group.
    Double {
        /// The codes of the blocks' scales.
        codes: Vec<u8>,
        /// The scales of the groups.
        groups: Vec<f32>,
        /// The mean of all scales.
        mean: f32,
    },
}

/// The format of scales that are floats: e4m3, saturating.
pub(crate) fn float8() -> Float {
    Float::named("e4m3").expect("a named format").saturating()
}

/// How element values are found from numbers, and numbers from element values.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Power(PowerOfTwo),
    Real(f32),
    Affine(Affine),
    Quotient(Quotient),
}

impl Step {
    pub(crate) fn divide(self, x: f32) -> f32 {
        match self {
            Self::Power(scale) => x * scale.reciprocal,
            Self::Real(0.0) => 0.0,
            Self::Real(scale) => x / scale,
            Self::Affine(affine) => x / affine.scale,
            Self::Quotient(quotient) => quotient.divide(x),
        }
    }

    /// As [`divide`](Self::divide), of a number that f32 need not hold.
    pub(crate) fn divide_wide(self, x: Wide) -> f32 {
        match self {
            Self::Power(scale) => x.to_odd() * scale.reciprocal,
            Self::Real(0.0) => 0.0,
            Self::Real(scale) => quotient::to_odd(x, scale),
            Self::Affine(affine) => quotient::to_odd(x, affine.scale),
            Self::Quotient(quotient) => quotient.divide_wide(x),
        }
    }

    pub(crate) fn multiply(self, value: f32) -> f32 {
        match self {
            Self::Power(scale) => value * scale.factor,
            Self::Real(scale) => value * scale,
            Self::Affine(affine) => (value - affine.zero_point as f32) * affine.scale,
            Self::Quotient(quotient) => value * quotient.scale,
        }
    }

    pub(crate) fn zero_point(self) -> f32 {
        match self {
            Self::Affine(affine) => affine.zero_point as f32,
            _ => 0.0,
        }
    }
}

impl Scales {
    /// The scales of a matrix, row by row, from those of its parts, which are beside one another; `None`
    /// where there is no part, or they differ in kind, in rows or in what the whole tensor shares.
    pub fn beside(parts: &[Self]) -> Option<Self> {
        Some(match parts.first()? {
            Self::PowersOfTwo(_) => Self::PowersOfTwo(in_rows(parts, |part| match part {
                Self::PowersOfTwo(codes) => Some(codes),
                _ => None,
            })?),
            &Self::Float8 { tensor, .. } => Self::Float8 {
                tensor,
                blocks: in_rows(parts, |part| match part {
                    Self::Float8 {
                        tensor: same,
                        blocks,
                    } if *same == tensor => Some(blocks),
                    _ => None,
                })?,
            },
            Self::Affine(_) => Self::Affine(in_rows(parts, |part| match part {
                Self::Affine(parameters) => Some(parameters),
                _ => None,
            })?),
            &Self::Float { kind, .. } => Self::Float {
                values: in_rows(parts, |part| match part {
                    Self::Float { kind: same, values } if *same == kind => Some(values),
                    _ => None,
                })?,
                kind,
            },
            Self::Double { .. } => return None,
        })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::PowersOfTwo(codes) | Self::Float8 { blocks: codes, .. } => codes.len(),
            Self::Affine(parameters) => parameters.len(),
            Self::Float { values, .. } => values.len(),
            Self::Double { codes, .. } => codes.len(),
        }
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        match self {
            Self::PowersOfTwo(codes) => {
                let power = |&code: &u8| Step::Power(PowerOfTwo::from_biased(code.into()));
                codes.iter().map(power).collect()
            }
            Self::Float8 { tensor, blocks } => {
                let format = float8();
                let step = |&code: &u8| Step::Real(tensor * format.decode(code.into()));
                blocks.iter().map(step).collect()
            }
            Self::Affine(parameters) => parameters.iter().map(|&p| Step::Affine(p)).collect(),
            Self::Float { values, .. } => values.iter().map(|&s| Step::Real(s)).collect(),
            Self::Double {
                codes,
                groups,
                mean,
            } => {
                let scales = double::decode(codes, groups, *mean);
                scales.into_iter().map(Step::Real).collect()
            }
        }
    }
}

/// One number of each part's list, and so on, for lists that are as long.
fn in_rows<T: Copy>(parts: &[Scales], list: impl Fn(&Scales) -> Option<&Vec<T>>) -> Option<Vec<T>> {
    let lists: Vec<&Vec<T>> = parts.iter().map(list).collect::<Option<_>>()?;
    let rows = lists.first()?.len();
    let alike = lists.iter().all(|list| list.len() == rows);
    let row = |row: usize| lists.iter().map(move |list| list[row]);
    alike.then(|| (0..rows).flat_map(row).collect())
}
