//! Block floating point: integers that share an exponent.

use std::fmt;

use crate::block::granularity::Granularity;
use crate::block::kind::{BlockKind, BlockVisitor};
use crate::block::pass::{self, Shared};
use crate::block::power_of_two::{PowerOfTwo, round_scaled};
use crate::block::scales::Scales;
use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::Visitor;
use crate::scalar::fixed::{ClampedGrid, FixedPoint};

/// Words of `word` bits, sign included, whose blocks share an 8-bit exponent.
///
/// With `e = floor(log2(max |x|))` over a block, its values are `i * 2^(e + 2 - word)` for whole
/// numbers `i` from `-(2^(word-1) - 1)` to `2^(word-1) - 1`: fixed point with `word - 2` bits
/// after the point, symmetric, times `2^e`. Nearest rounding and the limits are those of
/// QPyTorch's `block_quantize` (Zhang et al., arXiv 1910.04540), except that QPyTorch rounds ties
/// up and takes the maximum before the absolute value where a dimension is given.
///
/// The exponent is -126 to 127, so blocks of f32 subnormals use -126. An infinity counts as the
/// largest f32: it becomes its block's largest value. NaN does not count for the exponent and
/// stays NaN. A block of zeros stays zero; minus zero becomes zero.
///
/// Text: `bfp(word)` for one exponent in the whole tensor, `bfp(word,dim=0)` for one per index of
/// a dimension, `bfp(word,block=16)` for one per 16 elements along the last dimension,
/// `bfp(word,block=16,dim=0)` along another. A shared exponent of 8 bits is stored once a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockFloat {
    word: u8,
    granularity: Granularity,
}

impl BlockFloat {
    /// Words of `word` bits whose exponents are shared as `granularity` says.
    ///
    /// # Errors
    ///
    /// If `word` is not in 2..=24 or a block has no elements.
    pub fn new(word: u8, granularity: Granularity) -> Result<Self, FormatError> {
        check_range("bfp", "word", word, 2..=24)?;
        granularity.validate("bfp")?;
        Ok(Self { word, granularity })
    }

    /// Bits of a word, with its sign.
    pub fn word(&self) -> u8 {
        self.word
    }

    /// Which elements share an exponent.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The fixed-point format that a block with exponent zero equals:
    /// `fixed(word,word-2,symmetric)`.
    pub fn element(&self) -> FixedPoint {
        FixedPoint::new(self.word, self.word as i8 - 2)
            .and_then(FixedPoint::symmetric)
            .expect("words of 2 to 24 bits are fixed-point words")
    }

    /// The exponents that a tensor's blocks share, in the order of [`Granularity::scales`].
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub fn exponents(&self, input: &[f32], shape: &[usize]) -> Result<Vec<i8>, FormatError> {
        let ranges = pass::ranges::<Words>(self.granularity, input, shape)?;
        Ok(ranges
            .into_iter()
            .map(|r| (exponent(r) as i32 - 127) as i8)
            .collect())
    }

    pub(crate) fn words(&self) -> Words {
        Words(self.element().clamped())
    }
}

impl BlockKind for BlockFloat {
    const EXAMPLES: &'static [&'static str] = &["bfp(8)", "bfp(8,dim=0)", "bfp(8,block=16)"];

    const CLOSED: bool = true;

    const HAS_INFINITY: bool = false;

    fn has_name(name: &str) -> bool {
        name == "bfp"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (word, options) = call.split(1)?;
        let granularity = Granularity::from_options(options, &mut |option| {
            Err(Reason::option(option.key(), "dim=.., block=.."))
        })?;
        Ok(Self::new(word[0].number("word")?, granularity)?)
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
        visitor.visit(self.words())
    }

    fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output {
        visitor.visit(&self.element())
    }

    fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError> {
        let exponents = self.exponents(input, shape)?;
        let biased = exponents.into_iter().map(|e| (i32::from(e) + 127) as u8);
        Ok(Scales::PowersOfTwo(biased.collect()))
    }

    fn are_scales(scales: &Scales) -> bool {
        matches!(scales, Scales::PowersOfTwo(_))
    }
}

impl fmt::Display for BlockFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bfp({}", self.word)?;
        self.granularity.write_options(f)?;
        f.write_str(")")
    }
}

/// The biased exponent that a block shares.
#[inline(always)]
fn exponent(largest: u32) -> u32 {
    (largest >> 23).max(1)
}

/// The rounding of a block; its range is the f32 bits of the largest magnitude.
#[derive(Clone, Copy)]
pub(crate) struct Words(ClampedGrid);

impl Shared for Words {
    type Range = u32;
    type Scale = PowerOfTwo;
    const BLOCK: usize = 16;
    const EMPTY: u32 = 0;

    #[inline(always)]
    fn include(range: u32, x: f32) -> u32 {
        let magnitude = x.abs().to_bits();
        let finite = magnitude.min(f32::MAX.to_bits());
        let known = if magnitude > f32::INFINITY.to_bits() {
            0
        } else {
            finite
        };
        range.max(known)
    }

    #[inline(always)]
    fn gather(block: &[f32]) -> u32 {
        // Only where there are special numbers do they need to be looked at one by one.
        let largest = block
            .iter()
            .fold(0, |range, x| x.abs().to_bits().max(range));
        if largest < f32::INFINITY.to_bits() {
            return largest;
        }
        block.iter().fold(0, |range, &x| Self::include(range, x))
    }

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        a.max(b)
    }

    #[inline(always)]
    fn scale(&self, range: u32) -> PowerOfTwo {
        PowerOfTwo::from_biased(exponent(range))
    }

    #[inline(always)]
    fn round(&self, x: f32, scale: PowerOfTwo, rounding: Rounding, random: u32) -> f32 {
        round_scaled(self.0, x, scale, rounding, random)
    }
}
