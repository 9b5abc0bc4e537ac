//! Affine integers whose scale and zero point are computed from the numbers that share them.

use std::fmt;

use crate::block::granularity::Granularity;
use crate::block::kind::{BlockKind, BlockVisitor};
use crate::block::pass::{self, Shared};
use crate::block::power_of_two::nonzero;
use crate::block::quotient;
use crate::block::scales::Scales;
use crate::block::wide::{Range, Ranges};
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::Visitor;
use crate::scalar::integer::{Affine, Integer};

/// Integers `q` that stand for `(q - zero_point) * scale`, per tensor, dimension or block.
///
/// With `min <= 0 <= max` the range of a group, widened to hold zero, and `qmin..=qmax` that of
/// the integers:
///
/// - asymmetric: `scale = (max - min) / (qmax - qmin)`,
///   `zero_point = clamp(qmin - round(min / scale), qmin, qmax)`;
/// - symmetric: `scale = max(-min, max) / qmax`, `zero_point = 0`. In the narrow range this is
///   PyTorch's symmetric scheme; in the full range `-2^(bits-1)` has a code that is not used.
///
/// A number becomes `(clamp(round(x / scale) + zero_point, qmin, qmax) - zero_point) * scale`; all
/// quotients and products are those of f32, and the zero point is rounded to nearest-even (Jacob
/// et al., arXiv 1712.05877, section 2.1; Krishnamoorthi, arXiv 1806.08342, section 2). A group of
/// zeros has the scale 1, and no scale is below `2^-126`. An infinity counts as the largest f32; where
/// the range is as wide as that of f32, its lowest step may lie beyond and come out infinite.
/// NaN does not count, and stays NaN; minus zero becomes zero.
///
/// Text: `affine(bits)`, then `unsigned`, `symmetric`, `narrow`, `dim=..` for one scale per index
/// of a dimension, `block=..` (with `dim=..`) for groups of so many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupedInteger {
    integer: Integer,
    symmetric: bool,
    granularity: Granularity,
}

impl GroupedInteger {
    /// Asymmetric groups of integers.
    ///
    /// # Errors
    ///
    /// If the integers have fewer than 2 or more than 16 bits, or a block has no elements.
    pub fn new(integer: Integer, granularity: Granularity) -> Result<Self, FormatError> {
        let (min, max) = integer.limits();
        if !(2..=1 << 16).contains(&(max - min)) {
            return Err(FormatError::parameter(
                "affine",
                "bits",
                integer,
                "2 to 16 bits",
            ));
        }
        granularity.validate("affine")?;
        Ok(Self {
            integer,
            symmetric: false,
            granularity,
        })
    }

    /// The same with the zero point 0.
    ///
    /// # Errors
    ///
    /// If the integers are unsigned.
    pub fn symmetric(self) -> Result<Self, FormatError> {
        if !self.integer.is_signed() {
            return Err(FormatError::parameter(
                "affine",
                "symmetric",
                "true",
                "false, since the integers are unsigned",
            ));
        }
        Ok(Self {
            symmetric: true,
            ..self
        })
    }

    /// The integers.
    pub fn integer(&self) -> Integer {
        self.integer
    }

    /// Whether the zero point is always 0.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// Which elements share a scale and a zero point.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The scales and zero points of a tensor, in the order of [`Granularity::scales`].
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub fn parameters(&self, input: &[f32], shape: &[usize]) -> Result<Vec<Affine>, FormatError> {
        let ranges = pass::ranges::<Groups>(self.granularity, input, shape)?;
        let groups = self.groups();
        Ok(ranges
            .into_iter()
            .map(|range| groups.affine(range))
            .collect())
    }

    /// The scale and zero point for numbers from `min` to `max`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if a limit is NaN.
    pub fn parameters_of(&self, min: f32, max: f32) -> Result<Affine, FormatError> {
        if min.is_nan() || max.is_nan() {
            return Err(FormatError::parameter(
                "affine",
                if min.is_nan() { "min" } else { "max" },
                "NaN",
                "a number",
            ));
        }
        let range = Groups::include(Groups::include(Groups::EMPTY, min), max);
        Ok(self.groups().affine(range))
    }

    fn exact_scales(&self, ranges: &Ranges) -> Scales {
        let groups = self.groups();
        let blocks = ranges.blocks.iter();
        Scales::Affine(blocks.map(|block| groups.affine_wide(block)).collect())
    }

    pub(crate) fn groups(&self) -> Groups {
        let (min, max) = self.integer.limits();
        Groups {
            min: min as f32,
            max: max as f32,
            symmetric: self.symmetric,
        }
    }
}

impl BlockKind for GroupedInteger {
    const EXAMPLES: &'static [&'static str] = &[
        "affine(8)",
        "affine(8,symmetric,narrow,dim=0)",
        "affine(4,unsigned,block=32)",
    ];

    fn has_name(name: &str) -> bool {
        name == "affine"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (bits, options) = call.split(1)?;
        let (mut signed, mut symmetric, mut narrow) = (true, false, false);
        let granularity = Granularity::from_options(options, &mut |option| {
            match option.flag()? {
                "unsigned" => signed = false,
                "symmetric" => symmetric = true,
                "narrow" => narrow = true,
                other => {
                    let known = "unsigned, symmetric, narrow, dim=.., block=..";
                    return Err(Reason::option(other, known));
                }
            }
            Ok(())
        })?;
        let integer = Integer::new(bits[0].number("bits")?, signed)?;
        let integer = if narrow { integer.narrow()? } else { integer };
        let format = Self::new(integer, granularity)?;
        Ok(if symmetric {
            format.symmetric()?
        } else {
            format
        })
    }

    fn granularity(&self) -> Granularity {
        self.granularity()
    }

    fn along(self, dim: u8) -> Self {
        Self {
            granularity: self.granularity.along(dim),
            ..self
        }
    }

    fn visit<V: BlockVisitor>(&self, _: f32, visitor: V) -> V::Output {
        visitor.visit(self.groups())
    }

    fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output {
        visitor.visit(&self.integer())
    }

    fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError> {
        self.parameters(input, shape).map(Scales::Affine)
    }

    const EXACT_SCALES: Option<fn(&Self, &Ranges) -> Scales> = Some(Self::exact_scales);

    fn are_scales(scales: &Scales) -> bool {
        matches!(scales, Scales::Affine(_))
    }
}

impl fmt::Display for GroupedInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::scalar::ScalarFormat;
        write!(f, "affine({}", self.integer.bits())?;
        for (given, option) in [
            (!self.integer.is_signed(), ",unsigned"),
            (self.symmetric, ",symmetric"),
            (self.integer.is_narrow(), ",narrow"),
        ] {
            if given {
                f.write_str(option)?;
            }
        }
        self.granularity.write_options(f)?;
        f.write_str(")")
    }
}

/// The rounding of a group. Its range is two integers whose order is that of the smallest and the
/// largest element, zero included: integers because their minimum and maximum are associative, so
/// that the loop over a group becomes vector code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups {
    min: f32,
    max: f32,
    symmetric: bool,
}

/// A group's scale, and its limits in steps from zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupScale {
    scale: f32,
    low: f32,
    high: f32,
}

/// An integer in the order of the finite numbers; NaN counts as zero, an infinity as the largest.
#[inline(always)]
fn order(x: f32) -> i32 {
    let bits = x.to_bits();
    let magnitude = bits & !SIGN;
    let finite = magnitude.min(f32::MAX.to_bits());
    let known = if magnitude > f32::INFINITY.to_bits() {
        0
    } else {
        finite
    } as i32;
    if bits & SIGN == 0 { known } else { -known }
}

/// The number that has this place in the order.
#[inline(always)]
fn number(order: i32) -> f32 {
    let magnitude = f32::from_bits(order.unsigned_abs());
    if order < 0 { -magnitude } else { magnitude }
}

const SIGN: u32 = 1 << 31;

impl Groups {
    /// A group's scale and zero point.
    #[inline(always)]
    pub(crate) fn affine(&self, range: (i32, i32)) -> Affine {
        let (scale, zero_point) = self.scale_and_zero_point(range);
        Affine {
            scale,
            zero_point: zero_point as i32,
        }
    }

    #[inline(always)]
    fn scale_and_zero_point(&self, (low, high): (i32, i32)) -> (f32, f32) {
        let (low, high) = (number(low), number(high));
        let steps = self.max - self.min;
        let scale = if self.symmetric {
            high.max(-low) / self.max
        } else if (high - low).is_finite() {
            (high - low) / steps
        } else {
            high / steps - low / steps
        };
        let scale = if low == high {
            1.0
        } else {
            scale.max(f32::MIN_POSITIVE)
        };
        let zero_point = if self.symmetric {
            0.0
        } else {
            let zero_point = self.min - (low / scale).round_ties_even();
            zero_point.clamp(self.min, self.max)
        };
        (scale, zero_point)
    }
}

impl Groups {
    /// As [`affine`](Self::affine), for an exact range.
    fn affine_wide(&self, range: &Range) -> Affine {
        let Range { low, high, .. } = *range;
        let steps = self.max - self.min;
        let width = quotient::nearest_difference(high, low);
        let scale = if self.symmetric {
            quotient::nearest(range.magnitude(), self.max)
        } else if width.is_finite() {
            width / steps
        } else {
            quotient::nearest(high, steps) - quotient::nearest(low, steps)
        };
        let scale = if low == high {
            1.0
        } else {
            scale.max(f32::MIN_POSITIVE)
        };
        let zero_point = if self.symmetric {
            0.0
        } else {
            let zero_point = self.min - quotient::to_odd(low, scale).round_ties_even();
            zero_point.clamp(self.min, self.max)
        };
        Affine {
            scale,
            zero_point: zero_point as i32,
        }
    }
}

impl Shared for Groups {
    type Range = (i32, i32);
    type Scale = GroupScale;
    const BLOCK: usize = 32;
    const EMPTY: (i32, i32) = (0, 0);

    #[inline(always)]
    fn include((low, high): (i32, i32), x: f32) -> (i32, i32) {
        let x = order(x);
        (low.min(x), high.max(x))
    }

    #[inline(always)]
    fn join(a: (i32, i32), b: (i32, i32)) -> (i32, i32) {
        (a.0.min(b.0), a.1.max(b.1))
    }

    #[inline(always)]
    fn scale(&self, range: (i32, i32)) -> GroupScale {
        let (scale, zero_point) = self.scale_and_zero_point(range);
        GroupScale {
            scale,
            low: self.min - zero_point,
            high: self.max - zero_point,
        }
    }

    #[inline(always)]
    fn round(&self, x: f32, group: GroupScale, rounding: Rounding, random: u32) -> f32 {
        let GroupScale { scale, low, high } = group;
        let steps = rounding.to_integer(nonzero(x / scale, x, rounding), random);
        // Comparisons that leave NaN as it is; adding zero makes minus zero zero.
        let steps = if steps > high { high } else { steps };
        let steps = if steps < low { low } else { steps };
        (steps + 0.0) * scale
    }
}
