//! Floats and tables with a float scale per tensor, channel, block or tile.

pub(crate) mod double;
mod element;
mod scale;

use std::fmt;

use crate::block::granularity::Granularity;
use crate::block::kind::{BlockKind, BlockVisitor};
use crate::block::microscaling::largest;
use crate::block::pass::{self, Shared};
use crate::block::power_of_two::nonzero;
use crate::block::scales::{Scales, Step};
use crate::block::wide::Ranges;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::float::grid::NarrowFloatGrid;
use crate::scalar::levels::LevelGrid;
use crate::scalar::{Grid, ScalarFormat, Visitor};

pub use element::ScaledElement;
pub(crate) use scale::Quotient;
use scale::ScaleRule;
pub use scale::ScaleType;

/// The options of the text, as an error lists them.
const OPTIONS: &str = "block=.., dim=.., scale=.., eps=.., reciprocal, double";

/// Values of a small format times a float scale that follows from the largest magnitude.
///
/// With `m` the largest magnitude of a block and `max` that of the element's values (448 of `e4m3`,
/// 1 of `nf4`), the scale is `s = max(m, eps) / max`, and a number becomes `round(x / s) * s`, where
/// `round` is the element's, saturating. All quotients and products are those of f32:
///
/// - `eps` is zero if not given. torchao's `_choose_scale_float8` has none unless asked, DeepSeek's
///   kernel for activations has 1e-4, torchao's recipes for training have 1e-12.
/// - The scale is an f32; with `scale=bf16` or `scale=fp16` it is rounded to that type, to
///   nearest-even, saturating, before anything is divided by it.
/// - `x / s` is a division, as in torchao (`quantize_affine_float8`) and DeepSeek-V3 (arXiv
///   2412.19437, section 3.3, with tiles of 1x128 for activations and 128x128 for weights). With
///   `reciprocal` it is the product `x * (max / max(m, eps))`, of which the quotient is rounded first
///   and is at most the largest f32: so do bitsandbytes, where `max` is 1, and torchao's recipes for
///   training. (On GPUs, bitsandbytes takes an approximate reciprocal and Triton an approximate
///   division, whose last bit may be another one.)
/// - With `double`, numbers are divided by `s` as it is, and the elements are multiplied by `s`
///   quantized in its turn (QLoRA, arXiv 2305.14314, section 3, "double quantization"): the mean
///   of all scales, summed in f64 and rounded to f32, is taken away, and of the rest, in groups of
///   256 in the order of the scales, each is `map[code] * group`, where `group` is the largest
///   magnitude of its group and `map` the table `bitsandbytes-dynamic`. The quotient is `rest *
///   (1 / group)`. bitsandbytes sums in f32 in an order of its own, so that its mean may differ in
///   the last bits.
///
/// `scaled(bitsandbytes-nf4,block=64,reciprocal)` is the NF4 of bitsandbytes, with `double` that of
/// QLoRA; `scaled(bitsandbytes-dynamic,block=256,reciprocal)` holds the states of 8-bit optimizers
/// (Dettmers et al., arXiv 2110.02861, section 2). bitsandbytes cuts the whole tensor into blocks,
/// and this format each row: they are the same where blocks fit into rows.
///
/// Scales that are powers of two, as DeepSeek's and torchao's options round them up, are those of
/// `mxfp8(e4m3,block=128,scale=up)`.
///
/// A block of zeros has the scale zero (but for `eps`) and stays zero, and so becomes a block whose
/// scale is too small for its type. A block that holds NaN or an infinity has the scale NaN, and all
/// its elements become NaN; with `double`, all elements of the tensor.
///
/// Text: `scaled(element)`, then `block=64` (runs along a dimension), `block=128x128` (tiles of the
/// last two dimensions), `dim=..` (one scale for each index of a dimension, or the dimension of runs;
/// the last), `scale=bf16|fp16`, `eps=..`, `reciprocal`, `double`. Without `block` and `dim` the
/// tensor has one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scaled {
    element: ScaledElement,
    granularity: Granularity,
    scale: ScaleType,
    /// The bits of the least magnitude for which a scale is made.
    eps: u32,
    reciprocal: bool,
    double: bool,
}

impl Scaled {
    /// Blocks with an f32 scale each, by which numbers are divided.
    ///
    /// # Errors
    ///
    /// If a block has no elements.
    pub fn new(element: ScaledElement, granularity: Granularity) -> Result<Self, FormatError> {
        granularity.validate("scaled")?;
        Ok(Self {
            element,
            granularity,
            scale: ScaleType::F32,
            eps: 0,
            reciprocal: false,
            double: false,
        })
    }

    /// The same with scales of another type.
    ///
    /// # Errors
    ///
    /// If scales are quantized in their turn, or numbers multiplied by a reciprocal, and the type is
    /// not f32.
    pub fn with_scale(self, scale: ScaleType) -> Result<Self, FormatError> {
        Self { scale, ..self }.checked()
    }

    /// The same with scales for magnitudes of at least `eps`.
    ///
    /// # Errors
    ///
    /// If `eps` is negative, infinite or NaN.
    pub fn with_eps(self, eps: f32) -> Result<Self, FormatError> {
        if !(eps >= 0.0 && eps.is_finite()) {
            let expected = "0 or a positive number";
            return Err(FormatError::parameter("scaled", "eps", eps, expected));
        }
        // Minus zero becomes zero.
        let eps = (eps + 0.0).to_bits();
        Ok(Self { eps, ..self })
    }

    /// The same with a product by the reciprocal in place of a division.
    ///
    /// # Errors
    ///
    /// If scales are not f32.
    pub fn by_reciprocal(self) -> Result<Self, FormatError> {
        Self {
            reciprocal: true,
            ..self
        }
        .checked()
    }

    /// The same with scales that are quantized in their turn.
    ///
    /// # Errors
    ///
    /// If scales are not f32.
    pub fn double(self) -> Result<Self, FormatError> {
        Self {
            double: true,
            ..self
        }
        .checked()
    }

    fn checked(self) -> Result<Self, FormatError> {
        let option = match (self.double, self.reciprocal) {
            _ if self.scale == ScaleType::F32 => return Ok(self),
            (true, _) => "double",
            (_, true) => "reciprocal",
            _ => return Ok(self),
        };
        let expected = format!("fp32 with `{option}`");
        let name = self.scale.name();
        Err(FormatError::parameter("scaled", "scale", name, expected))
    }

    /// The format of the elements.
    pub fn element(&self) -> ScaledElement {
        self.element
    }

    /// Which elements share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The type of the scales.
    pub fn scale_type(&self) -> ScaleType {
        self.scale
    }

    /// The least magnitude for which a scale is made.
    pub fn eps(&self) -> f32 {
        f32::from_bits(self.eps)
    }

    /// Whether numbers are multiplied by the reciprocal of the scale.
    pub fn is_by_reciprocal(&self) -> bool {
        self.reciprocal
    }

    /// Whether scales are quantized in their turn.
    pub fn is_double(&self) -> bool {
        self.double
    }

    /// The scales of a tensor before they are quantized in their turn, in the order of
    /// [`Granularity::scales`].
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub fn block_scales(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>, FormatError> {
        let quotients = self.quotients(input, shape)?;
        Ok(quotients.into_iter().map(|q| q.scale).collect())
    }

    fn quotients(&self, input: &[f32], shape: &[usize]) -> Result<Vec<Quotient>, FormatError> {
        let ranges = pass::ranges::<Blocks<NarrowFloatGrid>>(self.granularity, input, shape)?;
        let rule = self.rule();
        Ok(ranges
            .into_iter()
            .map(|range| rule.quotient(range))
            .collect())
    }

    fn quotients_of<'r>(&self, ranges: &'r Ranges) -> impl Iterator<Item = Quotient> + use<'r> {
        let (rule, blocks) = (self.rule(), ranges.blocks.iter());
        blocks.map(move |block| rule.quotient_wide(block.magnitude(), block.special))
    }

    fn exact_scales(&self, ranges: &Ranges) -> Scales {
        let quotients = self.quotients_of(ranges);
        self.stored(quotients.map(|quotient| quotient.scale).collect())
    }

    /// Scales as they are stored.
    fn stored(&self, values: Vec<f32>) -> Scales {
        if self.double {
            double::encode(&values)
        } else {
            let kind = self.scale;
            Scales::Float { values, kind }
        }
    }

    fn rule(&self) -> ScaleRule {
        ScaleRule::new(self.element.max(), self.eps, self.scale, self.reciprocal)
    }

    fn blocks<G: Grid>(&self, element: G) -> Blocks<G> {
        Blocks {
            element,
            rule: self.rule(),
            double: self.double,
        }
    }
}

impl BlockKind for Scaled {
    const EXAMPLES: &'static [&'static str] = &[
        "scaled(e4m3)",
        "scaled(e4m3,block=128x128)",
        "scaled(e5m2,dim=0,scale=bf16)",
        "scaled(e4m3,block=128,eps=0.0001)",
        "scaled(nf4,block=64)",
        "scaled(bitsandbytes-nf4,block=64,reciprocal,double)",
    ];

    fn has_name(name: &str) -> bool {
        name == "scaled"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (element, options) = call.split(1)?;
        let element = ScaledElement::parse(element[0].value())?;
        let (mut scale, mut eps) = (ScaleType::F32, 0.0);
        let (mut reciprocal, mut double) = (false, false);
        let granularity = Granularity::from_options(options, &mut |option| {
            match option.key() {
                "scale" => {
                    scale = ScaleType::named(option.value())
                        .ok_or_else(|| Reason::option(option.value(), "fp32, bf16, fp16"))?;
                }
                "eps" => eps = option.number("eps")?,
                "reciprocal" => reciprocal = option.flag().map(|_| true)?,
                "double" => double = option.flag().map(|_| true)?,
                other => return Err(Reason::option(other, OPTIONS)),
            }
            Ok(())
        })?;
        let format = Self::new(element, granularity)?.with_scale(scale)?;
        let format = format.with_eps(eps)?;
        let format = if reciprocal {
            format.by_reciprocal()?
        } else {
            format
        };
        Ok(if double { format.double()? } else { format })
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

    #[cfg(feature = "files")]
    fn has_tensor_scale(&self) -> bool {
        self.double
    }

    fn visit<V: BlockVisitor>(&self, _: f32, visitor: V) -> V::Output {
        match self.element {
            ScaledElement::Float(float) => {
                let grid = float.saturating().grid();
                match NarrowFloatGrid::new(&grid) {
                    Some(narrow) => visitor.visit(self.blocks(narrow)),
                    None => visitor.visit(self.blocks(grid)),
                }
            }
            ScaledElement::Table(name) => {
                let grid = element::table(name).grid_of_table();
                match grid.few() {
                    Some(few) => visitor.visit(self.blocks(few)),
                    None => visitor.visit(self.blocks::<LevelGrid<'_>>(grid)),
                }
            }
        }
    }

    fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output {
        match self.element {
            ScaledElement::Float(float) => visitor.visit(&float.saturating()),
            ScaledElement::Table(name) => visitor.visit(element::table(name)),
        }
    }

    fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError> {
        Ok(self.stored(self.block_scales(input, shape)?))
    }

    fn steps(&self, input: &[f32], shape: &[usize], _: &Scales) -> Result<Vec<Step>, FormatError> {
        let quotients = self.quotients(input, shape)?;
        Ok(quotients.into_iter().map(Step::Quotient).collect())
    }

    const EXACT_SCALES: Option<fn(&Self, &Ranges) -> Scales> = Some(Self::exact_scales);

    fn steps_of(&self, ranges: &Ranges, _: &Scales) -> Vec<Step> {
        self.quotients_of(ranges).map(Step::Quotient).collect()
    }

    fn are_scales(scales: &Scales) -> bool {
        matches!(scales, Scales::Float { .. } | Scales::Double { .. })
    }
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scaled({}", self.element)?;
        self.granularity.write_options(f)?;
        if self.scale != ScaleType::F32 {
            write!(f, ",scale={}", self.scale.name())?;
        }
        if self.eps != 0 {
            write!(f, ",eps={}", self.eps())?;
        }
        if self.reciprocal {
            f.write_str(",reciprocal")?;
        }
        if self.double {
            f.write_str(",double")?;
        }
        f.write_str(")")
    }
}

/// The rounding of a block; its range is the f32 bits of the largest magnitude.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<G> {
    element: G,
    rule: ScaleRule,
    double: bool,
}

impl<G: Grid> Shared for Blocks<G> {
    type Range = u32;
    type Scale = Quotient;
    /// None: blocks of 64 and more fill vectors without.
    const BLOCK: usize = 0;
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
    fn scale(&self, range: u32) -> Quotient {
        self.rule.quotient(range)
    }

    #[inline(always)]
    fn scales_together(&self) -> bool {
        self.double
    }

    fn scales(&self, ranges: Vec<u32>) -> Vec<Quotient> {
        let quotients: Vec<Quotient> = ranges.into_iter().map(|range| self.scale(range)).collect();
        if !self.double {
            return quotients;
        }
        let values: Vec<f32> = quotients.iter().map(|quotient| quotient.scale).collect();
        let quantized = double::quantized(&values);
        let pairs = quotients.into_iter().zip(quantized);
        pairs
            .map(|(quotient, scale)| Quotient { scale, ..quotient })
            .collect()
    }

    #[inline(always)]
    fn round(&self, x: f32, quotient: Quotient, rounding: Rounding, random: u32) -> f32 {
        let scaled = nonzero(quotient.divide(x), x, rounding);
        self.element.round(scaled, rounding, random) * quotient.scale
    }
}
