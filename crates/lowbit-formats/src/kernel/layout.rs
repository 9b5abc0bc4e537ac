//! Where the elements of a tensor lie in a slice.

use crate::error::FormatError;

/// Element `(i, j, ..)` of a tensor of shape `shape` is element
/// `offset + i * strides[0] + j * strides[1] + ..` of a slice.
///
/// Strides count elements and may be negative, or zero where a tensor that is only read repeats
/// itself. So a column, every other row, a transposed or a reversed tensor is worked on where it
/// lies.
///
/// ```
/// use lowbit_formats::{Format, Layout, Rounding};
///
/// // The second column of a matrix of two rows and three columns.
/// let mut matrix = [0.3, 0.3, 0.3, 1.7, 1.7, 1.7];
/// let column = Layout::new(&[2], &[3], 1)?;
/// let int8: Format = "int8".parse()?;
/// int8.quantize_strided_in_place(&mut matrix, &column, Rounding::NearestEven)?;
/// assert_eq!(matrix, [0.3, 0.0, 0.3, 1.7, 2.0, 1.7]);
/// # Ok::<(), lowbit_formats::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    shape: Vec<usize>,
    strides: Vec<isize>,
    offset: usize,
    elements: usize,
    /// The first and the last place in the slice; no meaning where there is no element.
    ends: (usize, usize),
    /// Extents and strides, outermost first, of the fewest dimensions that walk the same places.
    walk: Vec<(usize, isize)>,
}

impl Layout {
    /// The layout of a tensor of any strides; `offset` is the place of its element `(0, 0, ..)`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Strides`] if there are not as many strides as dimensions, or a place lies
    /// before the slice or beyond what a `usize` counts.
    pub fn new(shape: &[usize], strides: &[isize], offset: usize) -> Result<Self, FormatError> {
        let error = |expected: &str| FormatError::Strides {
            strides: strides.to_vec(),
            expected: expected.into(),
        };
        if shape.len() != strides.len() {
            return Err(error(&format!("{} strides, one a dimension", shape.len())));
        }
        let empty = shape.contains(&0);
        let elements = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .or(empty.then_some(0))
            .ok_or_else(|| error("fewer elements"))?;
        let ends = if empty {
            Some((0, 0))
        } else {
            ends(shape, strides, offset)
        };
        Ok(Self {
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            offset,
            elements,
            ends: ends.ok_or_else(|| error("places from 0 on"))?,
            walk: merged(shape, strides),
        })
    }

    /// The layout of a tensor whose last dimension is the innermost, without gaps.
    ///
    /// # Errors
    ///
    /// [`FormatError::Strides`] if there are more elements than a `usize` counts.
    pub fn contiguous(shape: &[usize]) -> Result<Self, FormatError> {
        let mut stride = 1usize;
        let strides = shape.iter().rev().map(|&extent| {
            let this = stride as isize;
            stride = stride.saturating_mul(extent);
            this
        });
        let mut strides: Vec<isize> = strides.collect();
        strides.reverse();
        Self::new(shape, &strides, 0)
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The distance in the slice between neighbours along each dimension.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// The place of element `(0, 0, ..)`.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many elements the tensor has.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Checks that every place is within a slice of `length` elements.
    ///
    /// # Errors
    ///
    /// [`FormatError::Strides`] if not.
    pub fn check(&self, length: usize) -> Result<(), FormatError> {
        if self.elements == 0 || self.ends.1 < length {
            return Ok(());
        }
        Err(FormatError::Strides {
            strides: self.strides.clone(),
            expected: format!(
                "places below {length}, the slice's length, not up to {}",
                self.ends.1
            ),
        })
    }

    /// As [`check`](Self::check), and that no two elements share a place, so that they can be
    /// written. The strides, ordered by size, must each be larger than what the smaller ones span,
    /// as they are in all parts, transpositions and reversals of a tensor without gaps.
    ///
    /// # Errors
    ///
    /// [`FormatError::Strides`] if not.
    pub fn check_writable(&self, length: usize) -> Result<(), FormatError> {
        self.check(length)?;
        let extents = self.shape.iter().zip(&self.strides);
        let mut spans: Vec<(usize, usize)> = extents
            .filter(|&(&extent, _)| extent > 1)
            .map(|(&extent, stride)| (stride.unsigned_abs(), extent))
            .collect();
        spans.sort_unstable();
        let mut reach = 0;
        for (stride, extent) in spans {
            if self.elements > 0 && stride <= reach {
                return Err(FormatError::Strides {
                    strides: self.strides.clone(),
                    expected: "a place of its own for every element that is written".into(),
                });
            }
            reach += stride.saturating_mul(extent - 1);
        }
        Ok(())
    }

    /// The dimensions in the order in which they are stored, the innermost last, where the elements
    /// follow one another from the start of the slice without gaps.
    pub(crate) fn stored(&self) -> Option<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.shape.len()).collect();
        order.sort_by_key(|&d| (std::cmp::Reverse(self.strides[d]), self.shape[d] == 1));
        let mut expected = 1;
        for &d in order.iter().rev().filter(|&&d| self.shape[d] != 1) {
            if self.strides[d] != expected {
                return None;
            }
            expected *= self.shape[d] as isize;
        }
        (self.offset == 0 && self.elements > 0).then_some(order)
    }

    /// Channels and pixels, where it is that of images without gaps whose channels lie side by side.
    pub(crate) fn channels_last(&self) -> Option<(usize, usize)> {
        let (images, channels, pixels) = match self.walk[..] {
            [images, channels, pixels] => (Some(images), channels, pixels),
            [channels, pixels] => (None, channels, pixels),
            _ => return None,
        };
        let (apart, image) = (channels.0 as isize, (channels.0 * pixels.0) as isize);
        let fits = self.offset == 0
            && channels.1 == 1
            && pixels.1 == apart
            && images.is_none_or(|images| images.1 == image);
        (fits && self.elements > 0).then_some((channels.0, pixels.0))
    }

    /// Calls `run` with the place of the first of `count` elements that lie `stride` apart, until
    /// the elements `first..first + length`, counted in row-major order, have been named.
    pub(crate) fn runs(
        &self,
        first: usize,
        length: usize,
        mut run: impl FnMut(usize, usize, isize),
    ) {
        let Some((&(inner, stride), outer)) = self.walk.split_last() else {
            // A scalar.
            return if length > 0 {
                run(self.offset, 1, 1)
            };
        };
        let (mut first, mut rest) = (first, length);
        while rest > 0 {
            let column = first % inner;
            let count = rest.min(inner - column);
            let mut row = first / inner;
            let mut place = self.offset as isize + column as isize * stride;
            for &(extent, stride) in outer.iter().rev() {
                place += (row % extent) as isize * stride;
                row /= extent;
            }
            run(place as usize, count, stride);
            first += count;
            rest -= count;
        }
    }
}

/// The lowest and the highest place, if both can be counted.
fn ends(shape: &[usize], strides: &[isize], offset: usize) -> Option<(usize, usize)> {
    let (mut low, mut high) = (offset as i128, offset as i128);
    for (&extent, &stride) in shape.iter().zip(strides) {
        let reach = (extent as i128 - 1).checked_mul(stride as i128)?;
        low = low.checked_add(reach.min(0))?;
        high = high.checked_add(reach.max(0))?;
    }
    let countable = |place: i128| isize::try_from(place).ok().map(|place| place as usize);
    (low >= 0).then_some((countable(low)?, countable(high)?))
}

/// Leaves out extents of one, and joins dimensions that one stride walks.
fn merged(shape: &[usize], strides: &[isize]) -> Vec<(usize, isize)> {
    let mut walk: Vec<(usize, isize)> = Vec::new();
    for (&extent, &stride) in shape.iter().zip(strides) {
        if extent == 1 {
            continue;
        }
        match walk.last_mut() {
            Some((before, outer)) if stride.checked_mul(extent as isize) == Some(*outer) => {
                *before = before.saturating_mul(extent);
                *outer = stride;
            }
            _ => walk.push((extent, stride)),
        }
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of a range of elements, one by one.
    fn places(layout: &Layout, first: usize, length: usize) -> Vec<usize> {
        let mut places = Vec::new();
        layout.runs(first, length, |place, count, stride| {
            places.extend((0..count as isize).map(|i| (place as isize + i * stride) as usize));
        });
        places
    }

    #[test]
    fn places_by_hand() {
        // The transpose of a matrix of two rows and three columns.
        let transposed = Layout::new(&[3, 2], &[1, 3], 0).unwrap();
        assert_eq!(places(&transposed, 0, 6), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&transposed, 1, 4), [3, 1, 4, 2]);
        // Its last row backwards, every other number.
        let reversed = Layout::new(&[2], &[-2], 5).unwrap();
        assert_eq!(places(&reversed, 0, 2), [5, 3]);
        // A row that repeats itself.
        let repeated = Layout::new(&[2, 2], &[0, 1], 1).unwrap();
        assert_eq!(places(&repeated, 0, 4), [1, 2, 1, 2]);
        let scalar = Layout::contiguous(&[]).unwrap();
        assert_eq!((scalar.elements(), places(&scalar, 0, 1)), (1, vec![0]));
        assert!(places(&Layout::contiguous(&[0, 3]).unwrap(), 0, 0).is_empty());
    }

    #[test]
    fn contiguous_dimensions_are_one_run() {
        let layout = Layout::contiguous(&[4, 1, 5, 6]).unwrap();
        assert_eq!(layout.strides(), [30, 30, 6, 1]);
        assert_eq!(layout.walk, [(120, 1)]);
        // Two of every four rows: the rows within and across join where the stride lets them.
        let rows = Layout::new(&[3, 2, 5], &[20, 5, 1], 0).unwrap();
        assert_eq!(rows.walk, [(3, 20), (10, 1)]);
    }

    #[test]
    fn bad_layouts_are_errors() {
        assert!(Layout::new(&[2, 2], &[1], 0).is_err());
        assert!(Layout::new(&[3], &[-2], 3).is_err());
        assert!(Layout::new(&[usize::MAX, 2], &[0, 0], 0).is_err());
        assert!(Layout::new(&[usize::MAX, 0], &[isize::MAX, 1], 0).is_ok());
        assert!(Layout::new(&[3], &[isize::MAX], 0).is_err());
        let matrix = Layout::new(&[2, 3], &[3, 1], 1).unwrap();
        assert!(matrix.check(7).is_ok() && matrix.check(6).is_err());
        for (shape, strides) in [([2, 3], [0, 1]), ([2, 3], [2, 1]), ([3, 2], [2, -2])] {
            let layout = Layout::new(&shape, &strides, 9).unwrap();
            assert!(layout.check(100).is_ok() && layout.check_writable(100).is_err());
        }
        let transposed = Layout::new(&[3, 2], &[1, -3], 3).unwrap();
        assert!(transposed.check_writable(6).is_ok());
    }
}
