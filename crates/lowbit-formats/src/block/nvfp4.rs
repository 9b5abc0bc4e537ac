//! NVFP4: four-bit floats with an 8-bit float scale per block and an f32 scale per tensor.

use std::fmt;

use crate::block::granularity::Granularity;
use crate::block::kind::{BlockKind, BlockVisitor};
use crate::block::microscaling::largest;
use crate::block::pass::{self, Shared};
use crate::block::power_of_two::nonzero;
use crate::block::quotient;
use crate::block::scales::{Scales, float8};
use crate::block::wide::{Range, Ranges};
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::Visitor;
use crate::scalar::float::Float;
use crate::scalar::float::grid::NarrowFloatGrid;
use crate::scalar::{Grid, ScalarFormat};

/// The largest value of an element, e2m1.
const ELEMENT_MAX: f32 = 6.0;

/// The largest value of a block's scale, e4m3.
const SCALE_MAX: f32 = 448.0;

/// Blocks of 16 e2m1 elements with an e4m3 scale each, and an f32 scale for the tensor.
///
/// With `t = max |x| / (6 * 448)` over the finite elements of the tensor, a block whose largest
/// magnitude is `m` has the scale `s = e4m3(m / 6 / t)`, rounded to nearest-even and saturated,
/// and an element is `e2m1(x / (t * s)) * (t * s)`, saturated; all quotients and products are
/// those of f32 (NVIDIA, "Pretraining Large Language Models with NVFP4", arXiv 2509.25149,
/// appendix C; division where NVIDIA multiplies by a reciprocal, as torchao).
///
/// A block that holds NaN or an infinity has the scale NaN, and its elements become NaN. A block
/// whose scale rounds to zero becomes zero.
///
/// Text: `nvfp4`, with `block=..` (16) and `dim=..` (the last).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NvFp4 {
    size: u32,
    dim: Option<u8>,
}

impl Default for NvFp4 {
    fn default() -> Self {
        Self::new()
    }
}

impl NvFp4 {
    /// Blocks of 16 along the last dimension.
    pub const fn new() -> Self {
        Self {
            size: 16,
            dim: None,
        }
    }

    /// Blocks of `size` elements along `dim` (`None`: the last dimension).
    ///
    /// # Errors
    ///
    /// If `size` is zero.
    pub fn with_blocks(size: u32, dim: Option<u8>) -> Result<Self, FormatError> {
        Granularity::Block { size, dim }.validate("nvfp4")?;
        Ok(Self { size, dim })
    }

    /// Which elements share an e4m3 scale.
    pub fn granularity(&self) -> Granularity {
        Granularity::Block {
            size: self.size,
            dim: self.dim,
        }
    }

    /// The tensor's scale, `max |x| / 2688` over its finite elements.
    pub fn tensor_scale(input: &[f32]) -> f32 {
        let mut largest = pass::reduce::<NvBlocks>(input);
        if largest >= f32::INFINITY.to_bits() {
            // Only where there are special numbers do they need to be passed over one by one.
            let finite = input.iter().filter(|x| x.is_finite());
            largest = finite.fold(0, |range, &x| self::largest(range, x));
        }
        f32::from_bits(largest) / (SCALE_MAX * ELEMENT_MAX)
    }

    /// The e4m3 codes of the blocks' scales, in the order of [`Granularity::scales`].
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub fn block_scales(
        &self,
        tensor_scale: f32,
        input: &[f32],
        shape: &[usize],
    ) -> Result<Vec<u8>, FormatError> {
        let ranges = pass::ranges::<NvBlocks>(self.granularity(), input, shape)?;
        let (blocks, format) = (self.blocks(tensor_scale), float8());
        let code = |range| format.encode(blocks.block_scale(range)) as u8;
        Ok(ranges.into_iter().map(code).collect())
    }

    fn exact_scales(&self, ranges: &Ranges) -> Scales {
        let tensor = quotient::nearest(ranges.largest_finite, SCALE_MAX * ELEMENT_MAX);
        let (rule, format) = (self.blocks(tensor), float8());
        let code = |block: &Range| {
            let sixth = quotient::nearest(block.magnitude(), ELEMENT_MAX);
            format.encode(rule.block_scale_of(sixth, block.special)) as u8
        };
        let blocks = ranges.blocks.iter().map(code).collect();
        Scales::Float8 { tensor, blocks }
    }

    /// The rounding of a tensor with this scale.
    pub(crate) fn blocks(&self, tensor_scale: f32) -> NvBlocks {
        NvBlocks {
            element: narrow(Self::element()),
            scale: narrow(float8()),
            tensor_scale,
        }
    }

    pub(crate) fn element() -> Float {
        Float::named("e2m1").expect("a named format")
    }
}

impl BlockKind for NvFp4 {
    const EXAMPLES: &'static [&'static str] = &["nvfp4"];

    fn has_name(name: &str) -> bool {
        name == "nvfp4"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let granularity = Granularity::from_options(call.split(0)?.1, &mut |option| {
            Err(Reason::option(option.key(), "block=.., dim=.."))
        })?;
        let (size, dim) = match granularity {
            Granularity::Tensor => (16, None),
            Granularity::Dimension(dim) => (16, Some(dim)),
            Granularity::Block { size, dim } => (size, dim),
            Granularity::Tile { .. } => return Err(Granularity::no_tiles("nvfp4")),
        };
        Ok(Self::with_blocks(size, dim)?)
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

    #[cfg(feature = "files")]
    fn has_tensor_scale(&self) -> bool {
        true
    }

    fn tensor_scale(tensor: &[f32]) -> f32 {
        Self::tensor_scale(tensor)
    }

    fn visit<V: BlockVisitor>(&self, tensor_scale: f32, visitor: V) -> V::Output {
        visitor.visit(self.blocks(tensor_scale))
    }

    fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output {
        visitor.visit(&Self::element())
    }

    fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError> {
        let tensor = Self::tensor_scale(input);
        let blocks = self.block_scales(tensor, input, shape)?;
        Ok(Scales::Float8 { tensor, blocks })
    }

    const EXACT_SCALES: Option<fn(&Self, &Ranges) -> Scales> = Some(Self::exact_scales);

    fn are_scales(scales: &Scales) -> bool {
        matches!(scales, Scales::Float8 { .. })
    }
}

impl fmt::Display for NvFp4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size, self.dim) {
            (16, None) => f.write_str("nvfp4"),
            (16, Some(dim)) => write!(f, "nvfp4(dim={dim})"),
            (size, None) => write!(f, "nvfp4(block={size})"),
            (size, Some(dim)) => write!(f, "nvfp4(block={size},dim={dim})"),
        }
    }
}

/// The rounding of a block; its range is the f32 bits of the largest magnitude.
#[derive(Clone, Copy)]
pub(crate) struct NvBlocks {
    element: NarrowFloatGrid,
    scale: NarrowFloatGrid,
    tensor_scale: f32,
}

fn narrow(format: Float) -> NarrowFloatGrid {
    NarrowFloatGrid::new(&format.grid()).expect("a format far from the ends of f32")
}

impl NvBlocks {
    /// The block's e4m3 scale.
    #[inline(always)]
    pub(crate) fn block_scale(&self, largest: u32) -> f32 {
        // Without branches, as vector code has it.
        let special = largest >= f32::INFINITY.to_bits();
        self.block_scale_of(f32::from_bits(largest) / ELEMENT_MAX, special)
    }

    /// As [`block_scale`](Self::block_scale), for a sixth of the largest magnitude; `special` says
    /// whether NaN or an infinity is in the block.
    #[inline(always)]
    fn block_scale_of(&self, sixth: f32, special: bool) -> f32 {
        let scale = sixth / self.tensor_scale;
        let rounded = self.scale.round(scale, Rounding::NearestEven, 0);
        let rounded = if self.tensor_scale == 0.0 {
            0.0
        } else {
            rounded
        };
        if special { f32::NAN } else { rounded }
    }
}

/// The product of the block's and the tensor's scales, and what to divide by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NvScale {
    scale: f32,
    /// The scale, but infinity for zero, so that quotients are zero.
    divisor: f32,
}

impl NvScale {
    #[inline(always)]
    fn new(scale: f32) -> Self {
        let divisor = if scale == 0.0 { f32::INFINITY } else { scale };
        Self { scale, divisor }
    }
}

impl Shared for NvBlocks {
    type Range = u32;
    type Scale = NvScale;
    const BLOCK: usize = 16;
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
    fn scale(&self, range: u32) -> NvScale {
        NvScale::new(self.tensor_scale * self.block_scale(range))
    }

    #[inline(always)]
    fn round(&self, x: f32, scale: NvScale, rounding: Rounding, random: u32) -> f32 {
        let scaled = nonzero(x / scale.divisor, x, rounding);
        self.element.round(scaled, rounding, random) * scale.scale
    }
}
