//! What a block format is.

use std::fmt::Display;

use crate::block::granularity::Granularity;
use crate::block::pass::Shared;
use crate::block::scales::{Scales, Step};
use crate::block::wide::Ranges;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::scalar::Visitor;

/// What a block format is; everything else about it follows.
pub(crate) trait BlockKind: Copy + Display + Sized {
    /// Texts that an error may suggest.
    const EXAMPLES: &'static [&'static str];

    /// Whether what becomes of an `f16` or a `bf16` is one again: a scale that is a power of two
    /// keeps the elements' few bits.
    const CLOSED: bool = false;

    /// Whether an infinity is another number than the largest one.
    const HAS_INFINITY: bool = true;

    /// Whether a text that begins with `name` is one of these formats.
    fn has_name(name: &str) -> bool;

    /// Reads the text.
    fn from_call(call: &Call<'_>) -> Result<Self, Reason>;

    /// Which elements share a scale.
    fn granularity(&self) -> Granularity;

    /// The same with its blocks, if it has some along the last dimension, along another.
    fn along(self, dim: u8) -> Self;

    /// Whether the blocks' scales hang on the whole tensor, so that no part of a tensor can be
    /// rounded without the rest.
    #[cfg(feature = "files")]
    fn has_tensor_scale(&self) -> bool {
        false
    }

    /// The scale of a whole tensor, where there is one.
    fn tensor_scale(_tensor: &[f32]) -> f32 {
        1.0
    }

    /// Passes the rounding of a block to `visitor`.
    fn visit<V: BlockVisitor>(&self, tensor_scale: f32, visitor: V) -> V::Output;

    /// Passes the scalar format of an element at a scale of one to `visitor`.
    fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output;

    /// What the blocks of a tensor share.
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    fn scales(&self, input: &[f32], shape: &[usize]) -> Result<Scales, FormatError>;

    /// How the numbers of each block become elements, where that does not follow from `scales`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    fn steps(
        &self,
        _input: &[f32],
        _shape: &[usize],
        scales: &Scales,
    ) -> Result<Vec<Step>, FormatError> {
        Ok(scales.steps())
    }

    /// As [`scales`](Self::scales), from the exact ranges of a tensor's blocks, where scales are floats
    /// computed from the numbers, so that numbers which are no f32 have scales of their own.
    const EXACT_SCALES: Option<fn(&Self, &Ranges) -> Scales> = None;

    /// As [`steps`](Self::steps), from the exact ranges of a tensor's blocks.
    fn steps_of(&self, _ranges: &Ranges, scales: &Scales) -> Vec<Step> {
        scales.steps()
    }

    /// Whether scales are of this format's kind.
    fn are_scales(scales: &Scales) -> bool;
}

/// Something to do with a block format once its kind is known.
pub(crate) trait BlockVisitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<S: Shared>(self, format: S) -> Self::Output;
}
