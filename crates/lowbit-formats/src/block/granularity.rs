//! Which elements of a tensor share a scale.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::FormatError;
use crate::grammar::{Argument, Reason};

/// The elements that share one scale (exponent, scale and zero point).
///
/// Dimensions are counted from 0, the outermost; tensors are contiguous in row-major order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// The whole tensor.
    #[default]
    Tensor,
    /// All elements with the same index along a dimension, as in QPyTorch's `dim` and in
    /// per-channel quantization.
    Dimension(u8),
    /// Runs of `size` elements along a dimension; the last run of a row may be shorter.
    Block {
        /// Elements of a run, at least 1.
        size: u32,
        /// The dimension; `None` is the last.
        dim: Option<u8>,
    },
}

/// A tensor seen as `outer x length x inner`, with the shared dimension in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) outer: usize,
    pub(crate) length: usize,
    pub(crate) inner: usize,
}

impl Granularity {
    /// Blocks of `size` elements along the last dimension.
    pub const fn block(size: u32) -> Self {
        Self::Block { size, dim: None }
    }

    /// How many scales a tensor of this shape has. They are ordered like a tensor in which the
    /// shared dimension counts blocks (and only that dimension, for [`Granularity::Dimension`]).
    ///
    /// # Errors
    ///
    /// As [`Granularity::check`].
    pub fn scales(&self, shape: &[usize]) -> Result<usize, FormatError> {
        let extent = self.extent(shape)?;
        Ok(match *self {
            _ if extent.elements() == 0 => 0,
            Self::Tensor => 1,
            Self::Dimension(_) => extent.length,
            Self::Block { size, .. } => {
                extent.outer * extent.length.div_ceil(size as usize) * extent.inner
            }
        })
    }

    /// How many indices of the first dimension have scales of their own, so that a tensor can be
    /// passed in parts of a multiple of them; `None` where the scales need the whole.
    #[cfg(feature = "files")]
    pub(crate) fn rows_apart(&self, shape: &[usize]) -> Option<usize> {
        let last = shape.len().checked_sub(1)?;
        match *self {
            Self::Dimension(0) => Some(1),
            Self::Tensor | Self::Dimension(_) => None,
            Self::Block { size, dim } => match dim.map_or(last, usize::from) {
                0 => Some(size as usize),
                dim => (dim <= last).then_some(1),
            },
        }
    }

    /// Whether the shape has `elements` elements and the dimension that is shared.
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if not; [`FormatError::Parameter`] if a block has no elements.
    pub fn check(&self, elements: usize, shape: &[usize]) -> Result<(), FormatError> {
        let product = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if product != Some(elements) {
            return Err(FormatError::Shape {
                shape: shape.to_vec(),
                expected: format!("{elements} elements, as the tensor has"),
            });
        }
        self.extent(shape).map(drop)
    }

    /// The index of element `i`'s scale, in the order of [`scales`](Self::scales).
    pub(crate) fn scale_of(&self, extent: Extent, i: usize) -> usize {
        let Extent { length, inner, .. } = extent;
        let (outer, middle, column) = (i / inner / length, i / inner % length, i % inner);
        match *self {
            Self::Tensor => 0,
            Self::Dimension(_) => middle,
            Self::Block { size, .. } => {
                let size = size as usize;
                (outer * length.div_ceil(size) + middle / size) * inner + column
            }
        }
    }

    /// Checks that a block has elements; `format` is named in the error.
    pub(crate) fn validate(&self, format: &'static str) -> Result<(), FormatError> {
        match self {
            Self::Block { size: 0, .. } => {
                Err(FormatError::parameter(format, "block", "0", "1 or more"))
            }
            _ => Ok(()),
        }
    }

    /// Reads `dim=..` and `block=..`; any other option goes to `other`.
    pub(crate) fn from_options<'a>(
        options: &[Argument<'a>],
        other: &mut dyn FnMut(&Argument<'a>) -> Result<(), Reason>,
    ) -> Result<Self, Reason> {
        let (mut size, mut dim) = (None, None);
        for option in options {
            match option.key() {
                "block" => size = Some(option.number("block")?),
                "dim" => dim = Some(option.number("dim")?),
                _ => other(option)?,
            }
        }
        Ok(match (size, dim) {
            (Some(size), dim) => Self::Block { size, dim },
            (None, Some(dim)) => Self::Dimension(dim),
            (None, None) => Self::Tensor,
        })
    }

    /// Writes the options that [`from_options`](Self::from_options) reads, each after a comma.
    pub(crate) fn write_options(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tensor => Ok(()),
            Self::Dimension(dim) => write!(f, ",dim={dim}"),
            Self::Block { size, dim: None } => write!(f, ",block={size}"),
            Self::Block {
                size,
                dim: Some(dim),
            } => write!(f, ",block={size},dim={dim}"),
        }
    }

    /// The outer, shared and inner extents. A scalar's shape `[]` counts as `[1]`.
    pub(crate) fn extent(&self, shape: &[usize]) -> Result<Extent, FormatError> {
        self.validate("block")?;
        let shape = if shape.is_empty() { &[1] } else { shape };
        let dim = match *self {
            Self::Tensor => 0,
            Self::Dimension(dim) => dim.into(),
            Self::Block { dim, .. } => dim.map_or(shape.len() - 1, usize::from),
        };
        if dim >= shape.len() {
            return Err(FormatError::Shape {
                shape: shape.to_vec(),
                expected: format!("a dimension {dim}, counted from 0"),
            });
        }
        // A shape that holds nothing may have extents whose product has no meaning.
        let product = |d: &[usize]| d.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        Ok(Extent {
            outer: product(&shape[..dim]),
            length: shape[dim],
            inner: product(&shape[dim + 1..]),
        })
    }
}

impl Extent {
    pub(crate) fn elements(&self) -> usize {
        self.outer
            .saturating_mul(self.length)
            .saturating_mul(self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_a_shape() {
        let shape = [2, 5, 3];
        assert_eq!(Granularity::Tensor.scales(&shape), Ok(1));
        assert_eq!(Granularity::Dimension(1).scales(&shape), Ok(5));
        // Along dimension 1, blocks of 2, 2 and 1, in each of 2 * 3 lines.
        let blocks = Granularity::Block {
            size: 2,
            dim: Some(1),
        };
        assert_eq!(blocks.scales(&shape), Ok(18));
        assert_eq!(Granularity::block(32).scales(&shape), Ok(10));
        assert_eq!(Granularity::block(32).scales(&[]), Ok(1));
        assert_eq!(Granularity::block(32).scales(&[0, 4]), Ok(0));
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let check = |g: Granularity, n, shape: &[usize]| g.check(n, shape).unwrap_err().to_string();
        assert_eq!(
            check(Granularity::Tensor, 7, &[2, 3]),
            "shape [2, 3] does not fit: expected 7 elements, as the tensor has"
        );
        assert_eq!(
            check(Granularity::Dimension(2), 6, &[2, 3]),
            "shape [2, 3] does not fit: expected a dimension 2, counted from 0"
        );
        assert!(check(Granularity::block(0), 6, &[6]).contains("block is 0"));
        // A product beyond usize is a mismatch, not an overflow.
        assert!(Granularity::Tensor.check(0, &[usize::MAX, 2]).is_err());
        assert_eq!(Granularity::Tensor.check(0, &[0, usize::MAX, 2]), Ok(()));
    }
}
