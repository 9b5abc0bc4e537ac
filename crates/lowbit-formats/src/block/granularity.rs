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
    /// Tiles of the last two dimensions; those at an end may be smaller. A tensor of one dimension
    /// is a row.
    Tile {
        /// Rows of a tile, at least 1.
        rows: u32,
        /// Columns of a tile, at least 1.
        columns: u32,
    },
}

/// A tensor seen as `outer x length x inner`, with the shared dimension in the middle; for tiles,
/// `length` rows of `inner` columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) outer: usize,
    pub(crate) length: usize,
    pub(crate) inner: usize,
}

impl Granularity {
    /// The same for a tensor whose dimensions are in another order, `order[i]` at place `i`; `None`
    /// where blocks would be others.
    pub(crate) fn reordered(self, order: &[usize]) -> Option<Self> {
        let place = |dim: usize| {
            let at = order.iter().position(|&d| d == dim)?;
            u8::try_from(at).ok()
        };
        Some(match self {
            Self::Tensor => Self::Tensor,
            Self::Dimension(dim) => Self::Dimension(place(dim.into())?),
            Self::Block { size, dim } => {
                let last = order.len().checked_sub(1)?;
                let dim = dim.map_or(last, usize::from);
                let dim = Some(place(dim)?);
                Self::Block { size, dim }
            }
            Self::Tile { .. } => return None,
        })
    }

    /// Blocks along the last dimension are along another; anything else is as it is.
    pub(crate) fn along(self, dim: u8) -> Self {
        match self {
            Self::Block { size, dim: None } => Self::Block {
                size,
                dim: Some(dim),
            },
            other => other,
        }
    }

    /// Blocks of `size` elements along the last dimension.
    pub const fn block(size: u32) -> Self {
        Self::Block { size, dim: None }
    }

    /// How many scales a tensor of this shape has. They are ordered like a tensor in which the
    /// shared dimension counts blocks (and only that dimension, for [`Granularity::Dimension`]), or
    /// the last two count tiles.
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
            Self::Tile { rows, columns } => {
                let (down, across) = extent.tiles(rows, columns);
                extent.outer * down * across
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
            Self::Tile { rows, columns } => Some(match last {
                0 => columns as usize,
                1 => rows as usize,
                _ => 1,
            }),
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
            Self::Tile { rows, columns } => {
                let (down, across) = extent.tiles(rows, columns);
                let (row, column) = (middle / rows as usize, column / columns as usize);
                (outer * down + row) * across + column
            }
        }
    }

    /// How many elements from element `i` on, which lie side by side, have its scale.
    pub(crate) fn same_scale(&self, extent: Extent, i: usize) -> usize {
        let Extent { length, inner, .. } = extent;
        let (middle, column) = (i / inner % length, i % inner);
        match *self {
            Self::Tensor => extent.elements() - i,
            Self::Dimension(_) => inner - column,
            Self::Block { size, .. } if inner == 1 => {
                let size = size as usize;
                (size - middle % size).min(length - middle)
            }
            Self::Block { .. } => 1,
            Self::Tile { columns, .. } => {
                let columns = columns as usize;
                (columns - column % columns).min(inner - column)
            }
        }
    }

    /// Checks that a block has elements; `format` is named in the error.
    pub(crate) fn validate(&self, format: &'static str) -> Result<(), FormatError> {
        match self {
            Self::Block { size: 0, .. } => {
                Err(FormatError::parameter(format, "block", "0", "1 or more"))
            }
            Self::Tile { rows, columns } if *rows == 0 || *columns == 0 => {
                let value = format!("{rows}x{columns}");
                Err(FormatError::parameter(
                    format,
                    "block",
                    value,
                    "1x1 or more",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Reads `dim=..`, and `block=..` of one size or, for tiles, two; any other option goes to
    /// `other`.
    pub(crate) fn from_options<'a>(
        options: &[Argument<'a>],
        other: &mut dyn FnMut(&Argument<'a>) -> Result<(), Reason>,
    ) -> Result<Self, Reason> {
        let (mut size, mut dim, mut tile) = (None, None, None);
        for option in options {
            match option.key() {
                "block" if option.value().contains('x') => tile = Some(tile_of(option.value())?),
                "block" => size = Some(option.number("block")?),
                "dim" => dim = Some(option.number("dim")?),
                _ => other(option)?,
            }
        }
        if let Some((rows, columns)) = tile {
            return match dim {
                None => Ok(Self::Tile { rows, columns }),
                Some(_) => Err(Reason(
                    "`dim` and a block of rows and columns contradict each other".into(),
                )),
            };
        }
        Ok(match (size, dim) {
            (Some(size), dim) => Self::Block { size, dim },
            (None, Some(dim)) => Self::Dimension(dim),
            (None, None) => Self::Tensor,
        })
    }

    /// Why a format whose blocks are runs refuses tiles.
    pub(crate) fn no_tiles(format: &str) -> Reason {
        Reason(format!(
            "a block of {format} is a run of elements, not a tile"
        ))
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
            Self::Tile { rows, columns } => write!(f, ",block={rows}x{columns}"),
        }
    }

    /// The outer, shared and inner extents. A scalar's shape `[]` counts as `[1]`.
    pub(crate) fn extent(&self, shape: &[usize]) -> Result<Extent, FormatError> {
        self.validate("block")?;
        let shape = if shape.is_empty() { &[1] } else { shape };
        if let Self::Tile { .. } = self {
            return Ok(Extent::of_rows(shape));
        }
        let dim = match *self {
            Self::Tensor | Self::Tile { .. } => 0,
            Self::Dimension(dim) => dim.into(),
            Self::Block { dim, .. } => dim.map_or(shape.len() - 1, usize::from),
        };
        if dim >= shape.len() {
            return Err(FormatError::Shape {
                shape: shape.to_vec(),
                expected: format!("a dimension {dim}, counted from 0"),
            });
        }
        Ok(Extent {
            outer: product(&shape[..dim]),
            length: shape[dim],
            inner: product(&shape[dim + 1..]),
        })
    }
}

/// The rows and columns of `128x128`.
fn tile_of(text: &str) -> Result<(u32, u32), Reason> {
    let sizes = text.split_once('x').map(|(r, c)| (r.parse(), c.parse()));
    match sizes {
        Some((Ok(rows), Ok(columns))) => Ok((rows, columns)),
        _ => Err(Reason(format!(
            "block `{text}` is neither a size nor rows x columns, such as 128x128"
        ))),
    }
}

/// A shape that holds nothing may have extents whose product has no meaning.
fn product(extents: &[usize]) -> usize {
    extents.iter().fold(1, |n, &d| n.saturating_mul(d))
}

impl Extent {
    /// The last two dimensions, of which the first may be missing.
    fn of_rows(shape: &[usize]) -> Self {
        let (&inner, rest) = shape.split_last().unwrap_or((&1, &[]));
        let (&length, rest) = rest.split_last().unwrap_or((&1, &[]));
        Self {
            outer: product(rest),
            length,
            inner,
        }
    }

    /// How many tiles lie below each other, and how many side by side.
    pub(crate) fn tiles(&self, rows: u32, columns: u32) -> (usize, usize) {
        let down = self.length.div_ceil(rows as usize);
        (down, self.inner.div_ceil(columns as usize))
    }

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
        // Two matrices of 5 by 3, of 3 times 2 tiles each.
        let tiles = Granularity::Tile {
            rows: 2,
            columns: 2,
        };
        assert_eq!(tiles.scales(&shape), Ok(12));
        assert_eq!(tiles.scales(&[5]), Ok(3));
        let extent = tiles.extent(&shape).unwrap();
        let of = |i| (tiles.scale_of(extent, i), tiles.same_scale(extent, i));
        // The rows 0 and 1 of a matrix share tiles 0 and 1, row 2 begins tile 2.
        assert_eq!(
            [of(0), of(1), of(2), of(3)],
            [(0, 2), (0, 1), (1, 1), (0, 2)]
        );
        assert_eq!([of(6), of(15), of(29)], [(2, 2), (6, 2), (11, 1)]);
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
