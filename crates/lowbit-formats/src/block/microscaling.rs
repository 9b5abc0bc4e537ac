//! Microscaling: small floats or integers that share a power-of-two scale.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::block::granularity::Granularity;
use crate::block::kind::{BlockKind, BlockVisitor};
use crate::block::pass::{self, Shared};
use crate::block::power_of_two::{PowerOfTwo, round_scaled};
use crate::block::scales::Scales;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::Visitor;
use crate::scalar::fixed::{ClampedGrid, FixedPoint};
use crate::scalar::float::Float;
use crate::scalar::float::grid::NarrowFloatGrid;
use crate::scalar::{Grid, ScalarFormat};

/// The element of a microscaling format (OCP Microscaling Formats 1.0, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MxElement {
    /// MXFP8: 4 exponent and 3 mantissa bits, largest value 448.
    E4m3,
    /// MXFP8: 5 exponent and 2 mantissa bits, largest value 57344.
    E5m2,
    /// MXFP6: 3 exponent and 2 mantissa bits, largest value 28.
    E3m2,
    /// MXFP6: 2 exponent and 3 mantissa bits, largest value 7.5.
    E2m3,
    /// MXFP4: 2 exponent and 1 mantissa bits, largest value 6.
    E2m1,
    /// MXINT8: 8-bit integers times 2^-6. The code of -2 is left unused (section 5.3.4 allows
    /// it), so the limits are `+-127/64`.
    Int8,
}

/// How a block's scale follows from its largest magnitude `m`.
///
/// `emax` is the exponent of the element's largest value, `max` that value, and `p` the number of
/// its mantissa bits (6 for integers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleRule {
    /// `2^(floor(log2 m) - emax)`, as OCP Microscaling Formats 1.0, section 6.3. Magnitudes
    /// between `max` and `2^(emax+1)` times the scale saturate.
    #[default]
    Floor,
    /// `2^(ceil(log2 m) - emax)`.
    Ceil,
    /// `2^(floor(log2 r) - emax)`, where `r` is `m` rounded to nearest-even with `p` mantissa
    /// bits (Quark's and torchao's `even`).
    Even,
    /// `2^ceil(log2(m / max))`, the smallest scale at which nothing saturates (torchao's `rceil`;
    /// Mishra et al., arXiv 2506.08027).
    RoundUp,
}

/// Blocks of elements that share an E8M0 scale `2^k`, `k` from -127 to 127.
///
/// An element is `round(x / scale) * scale`, and saturates. A block that holds NaN or an infinity
/// has the scale NaN (code 255), and all its elements become NaN. A block of zeros has the least
/// scale; zeros keep their signs in floating-point elements. Where `m` is below `2^-126`, the
/// scale is the least. With [`ScaleRule::Ceil`] and [`ScaleRule::Even`], an element near the
/// largest f32 may round up to `2^128`, which f32 shows as infinity.
///
/// Text: `mxfp8(e4m3)`, `mxfp8(e5m2)`, `mxfp6(e3m2)`, `mxfp6(e2m3)`, `mxfp4`, `mxint8`, then
/// `block=..` (32), `dim=..` (the last), `scale=floor|ceil|even|up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Microscaling {
    element: MxElement,
    rule: ScaleRule,
    size: u32,
    dim: Option<u8>,
}

impl MxElement {
    /// Every element, in the order of their text.
    pub const ALL: [Self; 6] = [
        Self::E4m3,
        Self::E5m2,
        Self::E3m2,
        Self::E2m3,
        Self::E2m1,
        Self::Int8,
    ];

    /// Bits of a code.
    pub fn bits(self) -> u32 {
        let float = self.float().as_ref().map(ScalarFormat::bits);
        float.unwrap_or_else(|| ScalarFormat::bits(&Self::integers()))
    }

    /// The exponent of the largest value.
    pub fn max_exponent(self) -> u32 {
        (self.max().to_bits() >> 23) - 127
    }

    /// The largest value.
    pub fn max(self) -> f32 {
        let float = self.float().as_ref().map(ScalarFormat::max);
        float.unwrap_or_else(|| ScalarFormat::max(&Self::integers()))
    }

    /// The bits after the point of the largest value's significand.
    fn mantissa(self) -> u32 {
        let float = self.float().map(|float| float.mantissa().into());
        float.unwrap_or_else(|| Self::integers().fraction().unsigned_abs().into())
    }

    /// The scalar format of the element, saturating; `None` for integers.
    pub(crate) fn float(self) -> Option<Float> {
        Float::named(self.name()).map(Float::saturating)
    }

    /// The integers of MXINT8.
    pub(crate) fn integers() -> FixedPoint {
        FixedPoint::new(8, 6)
            .and_then(FixedPoint::symmetric)
            .expect("a valid fixed-point format")
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::E4m3 => "e4m3",
            Self::E5m2 => "e5m2",
            Self::E3m2 => "e3m2",
            Self::E2m3 => "e2m3",
            Self::E2m1 => "e2m1",
            Self::Int8 => "int8",
        }
    }

    /// The format's name, and the element's where the format has a choice.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::E4m3 | Self::E5m2 => ("mxfp8", self.name()),
            Self::E3m2 | Self::E2m3 => ("mxfp6", self.name()),
            Self::E2m1 => ("mxfp4", ""),
            Self::Int8 => ("mxint8", ""),
        }
    }
}

impl ScaleRule {
    fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Even => "even",
            Self::RoundUp => "up",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let rules = [Self::Floor, Self::Ceil, Self::Even, Self::RoundUp];
        rules.into_iter().find(|rule| rule.name() == name)
    }
}

impl Microscaling {
    /// Blocks of 32 along the last dimension, with the specified scale rule.
    pub const fn new(element: MxElement) -> Self {
        Self {
            element,
            rule: ScaleRule::Floor,
            size: 32,
            dim: None,
        }
    }

    /// The same with another scale rule.
    pub const fn with_rule(self, rule: ScaleRule) -> Self {
        Self { rule, ..self }
    }

    /// The same with blocks of `size` elements along `dim` (`None`: the last dimension).
    ///
    /// # Errors
    ///
    /// If `size` is zero.
    pub fn with_blocks(self, size: u32, dim: Option<u8>) -> Result<Self, FormatError> {
        Granularity::Block { size, dim }.validate("mx")?;
        Ok(Self { size, dim, ..self })
    }

    /// The format of the elements.
    pub fn element(&self) -> MxElement {
        self.element
    }

    /// The scale rule.
    pub fn rule(&self) -> ScaleRule {
        self.rule
    }

    /// Which elements share a scale.
    pub fn granularity(&self) -> Granularity {
        Granularity::Block {
            size: self.size,
            dim: self.dim,
        }
    }

    /// The E8M0 codes of a tensor's scales, in the order of [`Granularity::scales`]: `k + 127`, or
    /// 255 for NaN.
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Vec<u8>, FormatError> {
        let ranges = pass::ranges::<Scaled<ClampedGrid>>(self.granularity(), input, shape)?;
        let rule = self.scale_constants();
        Ok(ranges
            .into_iter()
            .map(|range| rule.code(range) as u8)
            .collect())
    }

    fn scale_constants(&self) -> ScaleConstants {
        let mantissa = self.element.max().to_bits() & MANTISSA;
        ScaleConstants {
            add: match self.rule {
                ScaleRule::Floor => 0,
                ScaleRule::Ceil => MANTISSA,
                ScaleRule::Even => 1 << (22 - self.element.mantissa()),
                ScaleRule::RoundUp => MANTISSA - mantissa,
            },
            max_exponent: self.element.max_exponent(),
        }
    }
}

impl BlockKind for Microscaling {
    const EXAMPLES: &'static [&'static str] = &[
        "mxfp8(e4m3)",
        "mxfp8(e5m2)",
        "mxfp6(e3m2)",
        "mxfp6(e2m3)",
        "mxfp4",
        "mxfp4(scale=up)",
        "mxint8",
    ];

    const CLOSED: bool = true;

    fn has_name(name: &str) -> bool {
        matches!(name, "mxfp8" | "mxfp6" | "mxfp4" | "mxint8")
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (elements, options) = match call.name() {
            "mxfp8" | "mxfp6" => call.split(1)?,
            _ => call.split(0)?,
        };
        let given = elements.first().map_or("", |element| element.value());
        let element = MxElement::ALL
            .into_iter()
            .find(|element| element.names() == (call.name(), given))
            .ok_or_else(|| Reason(format!("`{given}` is no element of {}", call.name())))?;
        let mut rule = ScaleRule::Floor;
        let granularity = Granularity::from_options(options, &mut |option| {
            let unknown = || Reason::option(option.key(), "block=.., dim=.., scale=..");
            if option.key() != "scale" {
                return Err(unknown());
            }
            rule = ScaleRule::named(option.value())
                .ok_or_else(|| Reason::option(option.value(), "floor, ceil, even, up"))?;
            Ok(())
        })?;
        let (size, dim) = match granularity {
            Granularity::Tensor => (32, None),
            Granularity::Dimension(dim) => (32, Some(dim)),
            Granularity::Block { size, dim } => (size, dim),
            Granularity::Tile { .. } => return Err(Granularity::no_tiles(call.name())),
        };
        Ok(Self::new(element).with_rule(rule).with_blocks(size, dim)?)
    }

    fn granularity(&self) -> Granularity {
        self.granularity()
    }

    fn along(self, dim: u8) -> Self {
        Self {
            dim: self.dim.or(Some(dim)),
            ..self
        }
    }

    fn visit<V: BlockVisitor>(&self, _: f32, visitor: V) -> V::Output {
        let rule = self.scale_constants();
        let float = self.element.float().map(|float| float.grid());
        match float.as_ref().and_then(NarrowFloatGrid::new) {
            Some(element) => visitor.visit(Scaled { element, rule }),
            None => visitor.visit(Scaled {
                element: MxElement::integers().clamped(),
                rule,
            }),
        }
    }

    fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output {
        match self.element.float() {
            Some(float) => visitor.visit(&float),
            None => visitor.visit(&MxElement::integers()),
        }
    }

    fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError> {
        self.scales(input, shape).map(Scales::PowersOfTwo)
    }

    fn are_scales(scales: &Scales) -> bool {
        matches!(scales, Scales::PowersOfTwo(_))
    }
}

impl fmt::Display for Microscaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, element) = self.element.names();
        let mut options = Vec::new();
        if !element.is_empty() {
            options.push(element.to_string());
        }
        if self.size != 32 {
            options.push(format!("block={}", self.size));
        }
        if let Some(dim) = self.dim {
            options.push(format!("dim={dim}"));
        }
        if self.rule != ScaleRule::Floor {
            options.push(format!("scale={}", self.rule.name()));
        }
        f.write_str(name)?;
        if options.is_empty() {
            return Ok(());
        }
        write!(f, "({})", options.join(","))
    }
}

/// The mantissa of f32 bits.
const MANTISSA: u32 = (1 << 23) - 1;

/// A scale rule, prepared: each is a number added to the f32 bits of the largest magnitude, whose
/// carry then decides whether the exponent goes up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaleConstants {
    add: u32,
    max_exponent: u32,
}

impl ScaleConstants {
    /// The E8M0 code for the f32 bits of a block's largest magnitude.
    #[inline(always)]
    pub(crate) fn code(self, largest: u32) -> u32 {
        let exponent = if largest > MANTISSA {
            (largest + self.add) >> 23
        } else {
            0
        };
        let code = exponent.saturating_sub(self.max_exponent).min(254);
        if largest >= f32::INFINITY.to_bits() {
            255
        } else {
            code
        }
    }
}

/// The rounding of a block; its range is the f32 bits of the largest magnitude.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaled<G> {
    pub(crate) element: G,
    pub(crate) rule: ScaleConstants,
}

/// The bits of the largest magnitude of both; those of NaN and infinities are the largest.
#[inline(always)]
pub(crate) fn largest(range: u32, x: f32) -> u32 {
    range.max(x.abs().to_bits())
}

impl<G: Grid> Shared for Scaled<G> {
    type Range = u32;
    type Scale = PowerOfTwo;
    const BLOCK: usize = 32;
    const EMPTY: u32 = 0;

    #[inline(always)]
    fn include(range: u32, x: f32) -> u32 {
        largest(range, x)
    }

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        a.max(b)
    }

    #[inline(always)]
    fn scale(&self, range: u32) -> PowerOfTwo {
        PowerOfTwo::from_biased(self.rule.code(range))
    }

    #[inline(always)]
    fn round(&self, x: f32, scale: PowerOfTwo, rounding: Rounding, random: u32) -> f32 {
        round_scaled(self.element, x, scale, rounding, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OCP Microscaling Formats 1.0, sections 5.3.1 to 5.3.4: bits, emax and the largest value of
    /// each element; 127/64 for integers, without -2.
    #[test]
    fn elements_as_the_specification_lists_them() {
        for (element, bits, max_exponent, max, mantissa) in [
            (MxElement::E4m3, 8, 8, 448.0, 3),
            (MxElement::E5m2, 8, 15, 57344.0, 2),
            (MxElement::E3m2, 6, 4, 28.0, 2),
            (MxElement::E2m3, 6, 2, 7.5, 3),
            (MxElement::E2m1, 4, 2, 6.0, 1),
            (MxElement::Int8, 8, 0, 127.0 / 64.0, 6),
        ] {
            assert_eq!(element.bits(), bits, "{element:?}");
            assert_eq!(element.max_exponent(), max_exponent, "{element:?}");
            assert_eq!(element.max(), max, "{element:?}");
            assert_eq!(element.mantissa(), mantissa, "{element:?}");
        }
    }
}
