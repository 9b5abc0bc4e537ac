//! Windows that slide over one or two dimensions.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Sizes of windows, steps and paddings that are accepted.
const LARGEST: usize = 1 << 16;

/// How a window moves, with a number for each dimension of the image: one of a sequence `[channels,
/// length]`, two of an image `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sliding {
    /// From one window to the next.
    pub stride: Vec<usize>,
    /// Before the first and after the last element.
    pub padding: Vec<[usize; 2]>,
    /// From one element of a window to the next.
    pub dilation: Vec<usize>,
}

impl Sliding {
    /// Steps of 1, without padding, in so many dimensions.
    pub fn new(dimensions: usize) -> Self {
        Self {
            stride: vec![1; dimensions],
            padding: vec![[0, 0]; dimensions],
            dilation: vec![1; dimensions],
        }
    }

    /// The same stride in each dimension.
    pub fn with_stride(mut self, stride: usize) -> Self {
        self.stride.fill(stride);
        self
    }

    /// The same padding on each side.
    pub fn with_padding(mut self, padding: usize) -> Self {
        self.padding.fill([padding; 2]);
        self
    }

    /// The same dilation in each dimension.
    pub fn with_dilation(mut self, dilation: usize) -> Self {
        self.dilation.fill(dilation);
        self
    }

    /// The axes of an image of `sizes` under windows of `kernel`: one or two, the first of length 1
    /// where there is one.
    pub(crate) fn axes(&self, sizes: &[usize], kernel: &[usize]) -> Result<[Axis; 2], String> {
        self.each(sizes, kernel, Axis::sliding)
    }

    /// The axes of a transposed convolution.
    pub(crate) fn transposed_axes(
        &self,
        sizes: &[usize],
        kernel: &[usize],
        output_padding: &[usize],
    ) -> Result<[Axis; 2], String> {
        if output_padding.len() != sizes.len() {
            let count = sizes.len();
            return Err(format!(
                "output_padding is {output_padding:?}, expected {count} numbers"
            ));
        }
        let mut padding = output_padding.iter();
        self.each(sizes, kernel, |axis, after| {
            axis.transposed(after, *padding.next().unwrap_or(&0))
        })
    }

    fn each(
        &self,
        sizes: &[usize],
        kernel: &[usize],
        mut complete: impl FnMut(Axis, usize) -> Result<Axis, String>,
    ) -> Result<[Axis; 2], String> {
        let dimensions = sizes.len();
        if !(1..=2).contains(&dimensions) {
            return Err(format!(
                "windows slide over 1 or 2 dimensions, given {dimensions}"
            ));
        }
        let counts = [
            kernel.len(),
            self.stride.len(),
            self.padding.len(),
            self.dilation.len(),
        ];
        if counts != [dimensions; 4] {
            return Err(format!(
                "kernel, stride, padding and dilation have {counts:?} numbers, expected {dimensions}"
            ));
        }
        let mut axes = [Axis::ONE; 2];
        for (d, axis) in axes[2 - dimensions..].iter_mut().enumerate() {
            let [before, after] = self.padding[d];
            let given = Axis {
                input: sizes[d],
                output: 0,
                kernel: kernel[d],
                stride: self.stride[d],
                before,
                dilation: self.dilation[d],
                transposed: false,
            };
            for (what, value) in [
                ("kernel", given.kernel),
                ("stride", given.stride),
                ("dilation", given.dilation),
                ("padding", before.max(after) + 1),
            ] {
                if !(1..=LARGEST).contains(&value) {
                    return Err(format!("{what} is out of range"));
                }
            }
            *axis = complete(given, after)?;
        }
        Ok(axes)
    }
}

/// One dimension: its size before and after, and which elements a window reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) before: usize,
    pub(crate) dilation: usize,
    pub(crate) transposed: bool,
}

impl Axis {
    const ONE: Self = Self {
        input: 1,
        output: 1,
        kernel: 1,
        stride: 1,
        before: 0,
        dilation: 1,
        transposed: false,
    };

    /// `floor((input + padding - dilation (kernel - 1) - 1) / stride) + 1` outputs.
    fn sliding(self, after: usize) -> Result<Self, String> {
        let reach = self.dilation * (self.kernel - 1) + 1;
        let padded = self.input + self.before + after;
        if padded < reach {
            return Err(format!(
                "a window of {reach} does not fit {padded} elements"
            ));
        }
        let output = (padded - reach) / self.stride + 1;
        Ok(Self { output, ..self })
    }

    /// `(input - 1) stride + dilation (kernel - 1) + 1 - padding + output_padding` outputs.
    fn transposed(self, after: usize, output_padding: usize) -> Result<Self, String> {
        if output_padding >= self.stride.max(self.dilation) {
            return Err("output_padding is not below stride or dilation".into());
        }
        let full = (self.input - 1) * self.stride + self.dilation * (self.kernel - 1) + 1;
        let output = (full + output_padding).checked_sub(self.before + after);
        match output {
            Some(output @ 1..) => Ok(Self {
                output,
                transposed: true,
                ..self
            }),
            _ => Err("padding leaves no output".into()),
        }
    }

    /// The input that element `k` of the window of `output` meets; `None` in the padding.
    #[inline]
    pub(crate) fn source(&self, output: usize, k: usize) -> Option<usize> {
        let at = if self.transposed {
            let at = (output + self.before).checked_sub(k * self.dilation)?;
            if !at.is_multiple_of(self.stride) {
                return None;
            }
            at / self.stride
        } else {
            (output * self.stride + k * self.dilation).checked_sub(self.before)?
        };
        (at < self.input).then_some(at)
    }

    /// The elements of a window of `output` that meet the input, without a look at each; not of a
    /// transposed convolution, whose windows have gaps.
    pub(crate) fn inside(&self, output: usize) -> Range<usize> {
        debug_assert!(!self.transposed);
        let start = output * self.stride;
        let first = |at: usize| at.saturating_sub(start).div_ceil(self.dilation);
        let end = first(self.input + self.before).min(self.kernel);
        first(self.before).min(end)..end
    }

    /// The first and the last element of a window that meet the input.
    fn ends(&self, output: usize, classes: &[Option<usize>]) -> Option<[usize; 2]> {
        if !self.transposed {
            let inside = self.inside(output);
            return (!inside.is_empty()).then(|| [inside.start, inside.end - 1]);
        }
        // `at = k dilation + stride i` for an element `i` of the input.
        let at = output + self.before;
        let least = at.saturating_sub((self.input - 1) * self.stride);
        let (least, most) = (
            least.div_ceil(self.dilation),
            (at / self.dilation).min(self.kernel - 1),
        );
        let (first, period) = (classes[at % self.stride]?, self.period());
        let first_in = first + least.saturating_sub(first).div_ceil(period) * period;
        if first_in > most {
            return None;
        }
        Some([first_in, most - (most - first_in) % period])
    }

    /// Elements of a window that are so many apart meet the input or the zeros between its elements
    /// alike.
    fn period(&self) -> usize {
        let [stride, dilation] = [self.stride, self.dilation].map(|size| size as u64);
        (stride / greatest_common_divisor(stride, dilation)) as usize
    }

    /// Of a transposed convolution, the first element of a window at each place modulo the stride that
    /// does not meet the zeros between the input's elements.
    fn classes(&self) -> Vec<Option<usize>> {
        let mut classes = vec![None; self.stride];
        for k in 0..self.period() {
            classes[k * self.dilation % self.stride] = Some(k);
        }
        classes
    }

    /// Outputs whose windows have elements in the input that no other listed one has: all others
    /// meet the input with the same elements as one of these.
    pub(crate) fn representatives(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let classes = self.classes();
        // They say all: between them elements lie equally far apart.
        let new = |&output: &usize| seen.insert(self.ends(output, &classes));
        (0..self.output).filter(new).collect()
    }
}

/// The greatest number that divides both.
pub(crate) fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five elements, a window of three with one element of padding, steps of 2: windows begin at
    /// -1, 1 and 3.
    #[test]
    fn windows_by_hand() {
        let sliding = Sliding::new(1).with_stride(2).with_padding(1);
        let [one, axis] = sliding.axes(&[5], &[3]).unwrap();
        assert_eq!((one, axis.output), (Axis::ONE, 3));
        let sources = |o| [0, 1, 2].map(|k| axis.source(o, k));
        assert_eq!(sources(0), [None, Some(0), Some(1)]);
        assert_eq!(sources(1), [Some(1), Some(2), Some(3)]);
        assert_eq!(sources(2), [Some(3), Some(4), None]);
        assert_eq!(axis.representatives(), [0, 1, 2]);
    }

    /// Two elements, a window of three, steps of 2: element `i` is spread to 2i, 2i + 1, 2i + 2, of
    /// which padding takes the first away and output_padding brings none back.
    #[test]
    fn transposed_windows_by_hand() {
        let mut sliding = Sliding::new(1).with_stride(2);
        sliding.padding = vec![[1, 0]];
        let [_, axis] = sliding.transposed_axes(&[2], &[3], &[0]).unwrap();
        assert_eq!(axis.output, 4);
        let sources = |o| [0, 1, 2].map(|k| axis.source(o, k));
        assert_eq!(sources(0), [None, Some(0), None]);
        assert_eq!(sources(1), [Some(1), None, Some(0)]);
        assert_eq!(sources(2), [None, Some(1), None]);
        assert_eq!(sources(3), [None, None, Some(1)]);
    }

    /// Against a look at each element; and the masks that representatives stand for, against all.
    #[test]
    fn windows_inside_are_those_that_meet_the_input() {
        for case in 0..3usize.pow(6) {
            let digit = |place: u32| case / 3usize.pow(place) % 3;
            let mut sliding = Sliding::new(1).with_stride(1 + digit(0));
            sliding = sliding.with_dilation(1 + digit(1));
            sliding.padding = vec![[2 * digit(2), digit(3)]];
            let (sizes, kernel) = ([1 + 3 * digit(4)], [1 + 2 * digit(5)]);
            let both = [
                sliding.axes(&sizes, &kernel),
                sliding.transposed_axes(&sizes, &kernel, &[0]),
            ];
            for axis in both.into_iter().flatten().map(|[_, axis]| axis) {
                let mask = |output: usize| -> Vec<usize> {
                    let meets = |k: &usize| axis.source(output, *k).is_some();
                    (0..axis.kernel).filter(meets).collect()
                };
                let all: BTreeSet<Vec<usize>> = (0..axis.output).map(mask).collect();
                let listed: Vec<Vec<usize>> =
                    axis.representatives().into_iter().map(mask).collect();
                assert_eq!(listed.len(), all.len());
                assert!(listed.into_iter().collect::<BTreeSet<_>>() == all);
                if !axis.transposed {
                    let inside = |output: usize| axis.inside(output).collect::<Vec<_>>();
                    assert!((0..axis.output).all(|output| inside(output) == mask(output)));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let sliding = Sliding::new(2);
        assert!(sliding.axes(&[3, 3], &[4, 1]).is_err());
        assert!(sliding.axes(&[3, 3], &[0, 1]).is_err());
        assert!(sliding.axes(&[3, 3], &[1]).is_err());
        assert!(sliding.axes(&[3, 3, 3], &[1, 1, 1]).is_err());
        assert!(
            sliding
                .clone()
                .with_stride(0)
                .axes(&[3, 3], &[1, 1])
                .is_err()
        );
        assert!(
            sliding
                .with_dilation(usize::MAX)
                .axes(&[3, 3], &[2, 2])
                .is_err()
        );
        let transposed = Sliding::new(1).with_padding(1);
        assert!(transposed.transposed_axes(&[1], &[1], &[0]).is_err());
        assert!(transposed.transposed_axes(&[3], &[3], &[1]).is_err());
    }
}
