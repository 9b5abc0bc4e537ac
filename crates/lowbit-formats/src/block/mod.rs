//! The formats whose elements share a scale.

pub mod affine;
pub mod bfp;
pub(crate) mod codes;
pub mod granularity;
pub mod microscaling;
pub mod nvfp4;
pub(crate) mod pass;
pub(crate) mod scaled;

pub use affine::GroupedInteger;
pub use bfp::BlockFloat;
pub use codes::{BlockCodes, Scales};
pub use granularity::Granularity;
pub use microscaling::{Microscaling, MxElement, ScaleRule};
pub use nvfp4::NvFp4;

use std::fmt;

use crate::block::microscaling::{Scaled, Visit};
use crate::block::pass::Shared;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::rounding::philox::GROUP;
use crate::scalar::Visitor;
use crate::scalar::facts::Facts;
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, ScalarFormat};

/// A format in which a number is stored with a scale that it shares with its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// Block floating point: words with a shared exponent.
    Float(BlockFloat),
    /// OCP microscaling: floats or integers with a shared power of two.
    Microscaling(Microscaling),
    /// NVIDIA's four-bit floats with two levels of scales.
    NvFp4(NvFp4),
    /// Integers with a shared scale and zero point.
    Grouped(GroupedInteger),
}

/// Something to do with a block format once its kind is known.
trait BlockVisitor {
    type Output;
    fn visit<S: Shared>(self, format: S, granularity: Granularity) -> Self::Output;
}

impl BlockFormat {
    /// Texts that an error may suggest.
    pub(crate) const EXAMPLES: [&'static str; 14] = [
        "bfp(8)",
        "bfp(8,dim=0)",
        "bfp(8,block=16)",
        "mxfp8(e4m3)",
        "mxfp8(e5m2)",
        "mxfp6(e3m2)",
        "mxfp6(e2m3)",
        "mxfp4",
        "mxfp4(scale=up)",
        "mxint8",
        "nvfp4",
        "affine(8)",
        "affine(8,symmetric,narrow,dim=0)",
        "affine(4,unsigned,block=32)",
    ];

    /// Which elements share a scale.
    pub fn granularity(&self) -> Granularity {
        match self {
            Self::Float(format) => format.granularity(),
            Self::Microscaling(format) => format.granularity(),
            Self::NvFp4(format) => format.granularity(),
            Self::Grouped(format) => format.granularity(),
        }
    }

    /// `output[i]` is `input[i]` rounded with the scale of its block. The tensors are contiguous,
    /// in row-major order, of the given shape; in stochastic rounding, element `i` takes word `i`
    /// of the generator, however the work is spread over threads.
    ///
    /// # Errors
    ///
    /// [`FormatError::Length`] if the slices differ in length, [`FormatError::Shape`] if the shape
    /// does not fit them or lacks the format's dimension, [`FormatError::Parameter`] if the number
    /// of random bits is not in 1..=32.
    pub fn quantize(
        &self,
        input: &[f32],
        shape: &[usize],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        self.quantize_after(0, input, shape, output, rounding)
    }

    /// [`quantize`](Self::quantize) with the random words that follow `skipped` groups.
    fn quantize_after(
        &self,
        skipped: u64,
        input: &[f32],
        shape: &[usize],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        struct Quantize<'a>(&'a [f32], &'a [usize], &'a mut [f32], Rounding, u64);
        impl BlockVisitor for Quantize<'_> {
            type Output = Result<(), FormatError>;
            fn visit<S: Shared>(self, format: S, granularity: Granularity) -> Self::Output {
                let Self(input, shape, output, rounding, skipped) = self;
                pass::quantize(format, granularity, input, shape, output, rounding, skipped)
            }
        }
        self.visit(input, Quantize(input, shape, output, rounding, skipped))
    }

    /// How many indices of the first dimension a part of a tensor must have a multiple of, for
    /// [`quantize_rows`](Self::quantize_rows): all their blocks are in it, and so are whole groups
    /// of random words. `None` where the scales need the whole tensor.
    pub(crate) fn rows_apart(&self, shape: &[usize]) -> Option<usize> {
        let rows = match self {
            // Its scales have a scale of the whole tensor.
            Self::NvFp4(_) => None,
            _ => self.granularity().rows_apart(shape),
        };
        rows.map(|rows| rows * GROUP)
    }

    /// As [`quantize`](Self::quantize) for the rows of a tensor from index `first` of its first
    /// dimension on, a multiple of [`rows_apart`](Self::rows_apart); `shape` is that of the part. A
    /// tensor that is passed in parts gets the numbers that it gets in one pass.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub(crate) fn quantize_rows(
        &self,
        first: usize,
        input: &[f32],
        shape: &[usize],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        let row: usize = shape.iter().skip(1).product();
        let skipped = first as u64 / GROUP as u64 * row as u64;
        self.quantize_after(skipped, input, shape, output, rounding)
    }

    /// As [`quantize`](Self::quantize), in place.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn quantize_in_place(
        &self,
        data: &mut [f32],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        struct InPlace<'a>(&'a mut [f32], &'a [usize], Rounding);
        impl BlockVisitor for InPlace<'_> {
            type Output = Result<(), FormatError>;
            fn visit<S: Shared>(self, format: S, granularity: Granularity) -> Self::Output {
                pass::quantize_in_place(format, granularity, self.0, self.1, self.2)
            }
        }
        match self {
            Self::NvFp4(format) => {
                let blocks = format.blocks(NvFp4::tensor_scale(data));
                InPlace(data, shape, rounding).visit(blocks, self.granularity())
            }
            _ => self.visit(&[], InPlace(data, shape, rounding)),
        }
    }

    /// Passes the rounding of a block to `visitor`; the tensor decides NVFP4's tensor scale.
    fn visit<V: BlockVisitor>(&self, tensor: &[f32], visitor: V) -> V::Output {
        struct Elements<V>(V, Granularity);
        impl<V: BlockVisitor> Visit<V::Output> for Elements<V> {
            fn visit<G: Grid>(self, format: Scaled<G>) -> V::Output {
                self.0.visit(format, self.1)
            }
        }
        let granularity = self.granularity();
        match self {
            Self::Float(format) => visitor.visit(format.words(), granularity),
            Self::Microscaling(format) => format.visit(Elements(visitor, granularity)),
            Self::NvFp4(format) => {
                visitor.visit(format.blocks(NvFp4::tensor_scale(tensor)), granularity)
            }
            Self::Grouped(format) => visitor.visit(format.groups(), granularity),
        }
    }

    pub(crate) fn from_call(call: &Call<'_>) -> Option<Result<Self, Reason>> {
        Some(match call.name() {
            "bfp" => BlockFloat::from_call(call).map(Self::Float),
            "mxfp8" | "mxfp6" | "mxfp4" | "mxint8" => {
                Microscaling::from_call(call).map(Self::Microscaling)
            }
            "nvfp4" => NvFp4::from_call(call).map(Self::NvFp4),
            "affine" => GroupedInteger::from_call(call).map(Self::Grouped),
            _ => return None,
        })
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(format) => format.fmt(f),
            Self::Microscaling(format) => format.fmt(f),
            Self::NvFp4(format) => format.fmt(f),
            Self::Grouped(format) => format.fmt(f),
        }
    }
}

/// A number by itself, as a block of one element.
#[derive(Debug, Clone, Copy)]
pub struct OneElement(BlockFormat);

impl Grid for OneElement {
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        struct One(f32, Rounding, u32);
        impl BlockVisitor for One {
            type Output = f32;
            fn visit<S: Shared>(self, format: S, _: Granularity) -> f32 {
                let scale = format.scale(S::include(S::EMPTY, self.0));
                format.round(self.0, scale, self.1, self.2)
            }
        }
        self.0.visit(&[x], One(x, rounding, random))
    }
}

/// The elements' view. A number alone is rounded as a block of one; codes, values and facts are
/// those of an element at a scale of one, without what is shared.
impl ScalarFormat for BlockFormat {
    type Grid<'a> = OneElement;

    fn grid(&self) -> OneElement {
        OneElement(*self)
    }

    fn bits(&self) -> u32 {
        self.with_element(Bits)
    }

    fn encode(&self, value: f32) -> u32 {
        self.with_element(Encode(value))
    }

    fn decode(&self, code: u32) -> f32 {
        self.with_element(Decode(code))
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        self.with_element(Describe)
    }

    fn min(&self) -> f32 {
        f32::MIN
    }

    /// The scale follows the numbers, so that only the largest f32 is a limit.
    fn max(&self) -> f32 {
        f32::MAX
    }
}

impl BlockFormat {
    /// Passes the scalar format of an element at a scale of one to `visitor`.
    pub(crate) fn with_element<V: Visitor>(&self, visitor: V) -> V::Output {
        match self {
            Self::Float(format) => visitor.visit(&format.element()),
            Self::Microscaling(format) => match format.element().float() {
                Some(float) => visitor.visit(&float),
                None => visitor.visit(&MxElement::integers()),
            },
            Self::NvFp4(_) => visitor.visit(&NvFp4::element()),
            Self::Grouped(format) => visitor.visit(&format.integer()),
        }
    }
}

struct Bits;

impl Visitor for Bits {
    type Output = u32;
    fn visit<F: ScalarFormat>(self, format: &F) -> u32 {
        format.bits()
    }
}

struct Encode(f32);

impl Visitor for Encode {
    type Output = u32;
    fn visit<F: ScalarFormat>(self, format: &F) -> u32 {
        format.encode(self.0)
    }
}

struct Decode(u32);

impl Visitor for Decode {
    type Output = f32;
    fn visit<F: ScalarFormat>(self, format: &F) -> f32 {
        format.decode(self.0)
    }
}

struct Describe;

impl Visitor for Describe {
    type Output = Facts;
    fn visit<F: ScalarFormat>(self, format: &F) -> Facts {
        format.facts()
    }
}
