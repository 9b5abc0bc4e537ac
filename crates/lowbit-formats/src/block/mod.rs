//! The formats whose elements share a scale.

pub mod affine;
pub mod bfp;
pub(crate) mod codes;
pub mod granularity;
mod kind;
pub mod microscaling;
pub mod nvfp4;
pub(crate) mod pass;
pub(crate) mod power_of_two;
mod quotient;
pub mod scaled;
mod scales;
mod wide;

pub use affine::GroupedInteger;
pub use bfp::BlockFloat;
pub use codes::BlockCodes;
pub use granularity::Granularity;
pub use microscaling::{Microscaling, MxElement, ScaleRule};
pub use nvfp4::NvFp4;
pub use scaled::{ScaleType, Scaled, ScaledElement};
pub use scales::Scales;

use std::fmt;

use crate::block::kind::{BlockKind, BlockVisitor};
use crate::block::pass::{Buffer, Shared};
use crate::block::scales::Step;
use crate::block::wide::Ranges;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::kernel::{ChannelsLast, Layout};
use crate::rounding::Rounding;
#[cfg(feature = "files")]
use crate::rounding::philox::GROUP;
use crate::scalar::Visitor;
use crate::scalar::facts::Facts;
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{CodeField, Grid, ScalarFormat, Wide};

/// Makes the enum over the block formats, and what it passes on to them.
macro_rules! block_formats {
    ($($(#[$doc:meta])* $kind:ident($format:ident),)*) => {
        /// A format in which a number is stored with a scale that it shares with its neighbours.
        ///
        /// Numbers that f32 does not hold, from f64 and from texts, have the scale that follows from
        /// them as they are, rounded once; such a number is divided by it exactly, and what comes of
        /// that is rounded once to an element. A finite number beyond f32 counts as the largest f32.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum BlockFormat {
            $($(#[$doc])* $kind($format),)*
        }

        impl BlockFormat {
            /// Texts that an error may suggest.
            pub(crate) fn examples() -> impl Iterator<Item = &'static str> {
                [$($format::EXAMPLES),*].into_iter().flatten().copied()
            }

            pub(crate) fn from_call(call: &Call<'_>) -> Option<Result<Self, Reason>> {
                $(if $format::has_name(call.name()) {
                    return Some($format::from_call(call).map(Self::$kind));
                })*
                None
            }

            /// Which elements share a scale.
            pub fn granularity(&self) -> Granularity {
                match self {
                    $(Self::$kind(format) => BlockKind::granularity(format),)*
                }
            }

            /// The same with its blocks, if it has some along the last dimension, along another.
            pub(crate) fn along(self, dim: u8) -> Self {
                match self {
                    $(Self::$kind(format) => Self::$kind(BlockKind::along(format, dim)),)*
                }
            }

            /// The scale of a whole tensor, where there is one.
            fn tensor_scale(&self, tensor: &[f32]) -> f32 {
                match self {
                    $(Self::$kind(_) => <$format as BlockKind>::tensor_scale(tensor),)*
                }
            }

            /// See [`BlockKind::has_tensor_scale`].
            #[cfg(feature = "files")]
            fn has_tensor_scale(&self) -> bool {
                match self {
                    $(Self::$kind(format) => format.has_tensor_scale(),)*
                }
            }

            /// See [`BlockKind::HAS_INFINITY`].
            pub(crate) fn has_infinity(&self) -> bool {
                match self {
                    $(Self::$kind(_) => $format::HAS_INFINITY,)*
                }
            }

            /// See [`BlockKind::CLOSED`].
            pub(crate) fn is_closed(&self) -> bool {
                match self {
                    $(Self::$kind(_) => $format::CLOSED,)*
                }
            }

            /// Passes the rounding of a block to `visitor`.
            fn visit<V: BlockVisitor>(&self, tensor_scale: f32, visitor: V) -> V::Output {
                match self {
                    $(Self::$kind(format) => BlockKind::visit(format, tensor_scale, visitor),)*
                }
            }

            /// Passes the scalar format of an element at a scale of one to `visitor`.
            pub(crate) fn with_element<V: Visitor>(&self, visitor: V) -> V::Output {
                match self {
                    $(Self::$kind(format) => format.visit_element(visitor),)*
                }
            }

            /// What the blocks of a tensor share.
            ///
            /// # Errors
            ///
            /// [`FormatError::Shape`] if the shape does not fit.
            pub fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError> {
                match self {
                    $(Self::$kind(format) => BlockKind::scales(format, input, shape),)*
                }
            }

            /// See [`BlockKind::steps`].
            fn steps(
                &self,
                input: &[f32],
                shape: &[usize],
                scales: &Scales,
            ) -> Result<Vec<Step>, FormatError> {
                match self {
                    $(Self::$kind(format) => format.steps(input, shape, scales),)*
                }
            }

            /// Whether [`exact_scales`](Self::exact_scales) has any.
            fn has_exact_scales(&self) -> bool {
                match self {
                    $(Self::$kind(_) => <$format as BlockKind>::EXACT_SCALES.is_some(),)*
                }
            }

            /// See [`BlockKind::EXACT_SCALES`] and [`BlockKind::steps_of`].
            fn exact_scales(&self, ranges: &Ranges) -> Option<(Scales, Vec<Step>)> {
                match self {
                    $(Self::$kind(format) => {
                        let scales = <$format as BlockKind>::EXACT_SCALES?(format, ranges);
                        let steps = format.steps_of(ranges, &scales);
                        Some((scales, steps))
                    })*
                }
            }

            /// Whether scales are of this format's kind.
            fn are_scales(&self, scales: &Scales) -> bool {
                match self {
                    $(Self::$kind(_) => $format::are_scales(scales),)*
                }
            }
        }

        impl fmt::Display for BlockFormat {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$kind(format) => format.fmt(f),)*
                }
            }
        }
    };
}

block_formats! {
    /// Block floating point: words with a shared exponent.
    Float(BlockFloat),
    /// OCP microscaling: floats or integers with a shared power of two.
    Microscaling(Microscaling),
    /// NVIDIA's four-bit floats with two levels of scales.
    NvFp4(NvFp4),
    /// Integers with a shared scale and zero point.
    Grouped(GroupedInteger),
    /// Floats or the values of a table with a float scale.
    Scaled(Scaled),
}

impl BlockFormat {
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
        struct Quantize<'a>(
            Granularity,
            &'a [f32],
            &'a [usize],
            &'a mut [f32],
            Rounding,
            u64,
        );
        impl BlockVisitor for Quantize<'_> {
            type Output = Result<(), FormatError>;
            fn visit<S: Shared>(self, format: S) -> Self::Output {
                let Self(granularity, input, shape, output, rounding, skipped) = self;
                pass::quantize(format, granularity, input, shape, output, rounding, skipped)
            }
        }
        let granularity = self.granularity();
        self.visit(
            self.tensor_scale(input),
            Quantize(granularity, input, shape, output, rounding, skipped),
        )
    }

    /// How many indices of the first dimension a part of a tensor must have a multiple of, for
    /// [`quantize_rows`](Self::quantize_rows): all their blocks are in it, and so are whole groups
    /// of random words. `None` where the scales need the whole tensor.
    #[cfg(feature = "files")]
    pub(crate) fn rows_apart(&self, shape: &[usize]) -> Option<usize> {
        if self.has_tensor_scale() {
            return None;
        }
        let rows = self.granularity().rows_apart(shape);
        rows.map(|rows| rows * GROUP)
    }

    /// As [`quantize`](Self::quantize) for the rows of a tensor from index `first` of its first
    /// dimension on, a multiple of [`rows_apart`](Self::rows_apart); `shape` is that of the part. A
    /// tensor that is passed in parts gets the numbers that it gets in one pass.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    #[cfg(feature = "files")]
    pub(crate) fn quantize_rows(
        &self,
        first: usize,
        input: &[f32],
        shape: &[usize],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        self.quantize_after(groups_before(first, shape), input, shape, output, rounding)
    }

    /// As [`quantize_rows`](Self::quantize_rows), of numbers that f32 need not hold.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    #[cfg(feature = "files")]
    pub(crate) fn quantize_rows_wide(
        &self,
        first: usize,
        input: &[f64],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<Vec<f32>, FormatError> {
        self.quantize_wide(groups_before(first, shape), input, shape, rounding)
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
        struct InPlace<'a>(Granularity, &'a mut [f32], &'a [usize], Rounding);
        impl BlockVisitor for InPlace<'_> {
            type Output = Result<(), FormatError>;
            fn visit<S: Shared>(self, format: S) -> Self::Output {
                let Self(granularity, data, shape, rounding) = self;
                pass::quantize_in_place(format, granularity, data, shape, rounding)
            }
        }
        let tensor_scale = self.tensor_scale(data);
        self.visit(
            tensor_scale,
            InPlace(self.granularity(), data, shape, rounding),
        )
    }
}

impl BlockFormat {
    /// Rounds a tensor that fills `buffer` in the order of `layout` where it lies; `None` where that
    /// cannot be done: where its blocks, or its random words, are not those of the order in which its
    /// dimensions are stored.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub(crate) fn quantize_stored(
        &self,
        buffer: Buffer<'_>,
        layout: &Layout,
        rounding: Rounding,
    ) -> Option<Result<(), FormatError>> {
        struct Stored<'a>(Buffer<'a>, Granularity, Vec<usize>, Rounding);
        impl BlockVisitor for Stored<'_> {
            type Output = Option<Result<(), FormatError>>;
            fn visit<S: Shared>(self, format: S) -> Self::Output {
                let Self(buffer, granularity, shape, rounding) = self;
                pass::quantize_stored(format, granularity, buffer, &shape, rounding)
            }
        }
        let order = layout.stored()?;
        let granularity = self.granularity().reordered(&order)?;
        if let Rounding::Stochastic { .. } = rounding {
            let one = granularity == Granularity::Tensor;
            let images = one.then(|| ChannelsLast::of(layout, layout.elements()))??;
            return Some(self.quantize_images(buffer, images, rounding));
        }
        let shape = order.iter().map(|&d| layout.shape()[d]).collect();
        let tensor_scale = self.tensor_scale(buffer.input());
        self.visit(tensor_scale, Stored(buffer, granularity, shape, rounding))
    }

    /// Rounds images at random with one scale.
    fn quantize_images(
        &self,
        buffer: Buffer<'_>,
        images: ChannelsLast,
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        struct Images<'a>(Buffer<'a>, ChannelsLast, Rounding);
        impl BlockVisitor for Images<'_> {
            type Output = ();
            fn visit<S: Shared>(self, format: S) {
                pass::quantize_images(format, self.0, self.1, self.2);
            }
        }
        rounding.validate()?;
        let tensor_scale = self.tensor_scale(buffer.input());
        self.visit(tensor_scale, Images(buffer, images, rounding));
        Ok(())
    }
}

/// How many groups of random words come before row `first`.
#[cfg(feature = "files")]
fn groups_before(first: usize, shape: &[usize]) -> u64 {
    let row: usize = shape.iter().skip(1).product();
    first as u64 / GROUP as u64 * row as u64
}

/// A number by itself, as a block of one element.
#[derive(Debug, Clone, Copy)]
pub struct OneElement(BlockFormat);

impl Grid for OneElement {
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        struct One(f32, Rounding, u32);
        impl BlockVisitor for One {
            type Output = f32;
            fn visit<S: Shared>(self, format: S) -> f32 {
                let scale = format.scale(S::include(S::EMPTY, self.0));
                format.round(self.0, scale, self.1, self.2)
            }
        }
        self.0
            .visit(self.0.tensor_scale(&[x]), One(x, rounding, random))
    }
}

/// The elements' view. A number alone is rounded as a block of one; codes, values and facts are
/// those of an element at a scale of one, without what is shared.
impl ScalarFormat for BlockFormat {
    type Grid<'a> = OneElement;

    fn grid(&self) -> OneElement {
        OneElement(*self)
    }

    fn round_wide(&self, x: Wide, rounding: Rounding, random: u32) -> f32 {
        self.round_alone(x, rounding, random)
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

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        self.with_element(CodeFields(digits))
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

struct CodeFields<'a>(&'a str);

impl<'a> Visitor for CodeFields<'a> {
    type Output = Vec<CodeField<'a>>;
    fn visit<F: ScalarFormat>(self, format: &F) -> Vec<CodeField<'a>> {
        format.code_fields(self.0)
    }
}

struct Describe;

impl Visitor for Describe {
    type Output = Facts;
    fn visit<F: ScalarFormat>(self, format: &F) -> Facts {
        format.facts()
    }
}
