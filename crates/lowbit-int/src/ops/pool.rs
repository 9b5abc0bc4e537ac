//! Greatest numbers and averages of windows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::sum::{self, LinearSum, SumBound};
use super::window::{Axis, Sliding};
use super::{Operation, Values, one};
use crate::tensor::Tensor;

/// Which elements make an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Windows {
    /// Windows of one size that move over the image.
    Sliding {
        /// The window's size in each dimension.
        kernel: Vec<usize>,
        /// How it moves.
        sliding: Sliding,
    },
    /// So many windows in each dimension, that cover the image: window `o` of `n` has the elements
    /// from `floor(o size / n)` up to `ceil((o + 1) size / n)`.
    Adaptive {
        /// The output's size in each dimension.
        output: Vec<usize>,
    },
}

impl Windows {
    /// One window, the whole image.
    pub fn global(dimensions: usize) -> Self {
        Self::Adaptive {
            output: vec![1; dimensions],
        }
    }

    /// Whether it is one adaptive window, the whole image.
    pub(crate) fn is_global(&self) -> bool {
        matches!(self, Self::Adaptive { output } if output.iter().all(|&size| size == 1))
    }

    /// The windows over an image `[channels, sizes..]`.
    fn over(&self, image: &[usize]) -> Result<[Side; 2], String> {
        let sizes = image.get(1..).unwrap_or_default();
        match self {
            Self::Sliding { kernel, sliding } => {
                Ok(sliding.axes(sizes, kernel)?.map(Side::Sliding))
            }
            Self::Adaptive { output } => {
                let dimensions = sizes.len();
                let fits = |(&o, &i): (&usize, &usize)| (1..=i).contains(&o);
                if !(1..=2).contains(&dimensions)
                    || output.len() != dimensions
                    || !output.iter().zip(sizes).all(fits)
                {
                    return Err(format!(
                        "{output:?} windows do not fit an image of {image:?}"
                    ));
                }
                let mut sides = [Side::Adaptive {
                    input: 1,
                    output: 1,
                }; 2];
                for (d, side) in sides[2 - dimensions..].iter_mut().enumerate() {
                    let (input, output) = (sizes[d], output[d]);
                    *side = Side::Adaptive { input, output };
                }
                Ok(sides)
            }
        }
    }

    /// The windows over an image that was checked when the node was added.
    fn checked(&self, image: &Tensor) -> [Side; 2] {
        self.over(&image.shape)
            .expect("checked when the node was added")
    }

    /// The shape of the output; every window has an element.
    fn shape(&self, image: &[usize]) -> Result<Vec<usize>, String> {
        let sides = self.over(image)?;
        for side in sides {
            if (0..side.outputs()).any(|o| side.elements(o).count() == 0) {
                return Err("a window lies in the padding alone".into());
            }
        }
        let mut shape = vec![image[0]];
        shape.extend(&sides.map(|side| side.outputs())[3 - image.len()..]);
        Ok(shape)
    }
}

/// One dimension of the windows.
#[derive(Debug, Clone, Copy)]
enum Side {
    Sliding(Axis),
    Adaptive { input: usize, output: usize },
}

impl Side {
    fn inputs(&self) -> usize {
        match self {
            Self::Sliding(axis) => axis.input,
            Self::Adaptive { input, .. } => *input,
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Sliding(axis) => axis.output,
            Self::Adaptive { output, .. } => *output,
        }
    }

    /// The image's elements in window `o`.
    fn elements(&self, o: usize) -> impl Iterator<Item = usize> + use<> {
        let side = *self;
        let range: Range<usize> = match side {
            Self::Sliding(axis) => 0..axis.kernel,
            Self::Adaptive { input, output } => {
                o * input / output..((o + 1) * input).div_ceil(output)
            }
        };
        range.filter_map(move |k| match side {
            Self::Sliding(axis) => axis.source(o, k),
            Self::Adaptive { .. } => Some(k),
        })
    }

    /// What a window's elements are divided by, and the least common multiple of that over all
    /// windows. `None` if that is 2^31 or more.
    fn divisors(&self, o: usize, include_padding: bool) -> Option<(u64, u64)> {
        if let (Self::Sliding(axis), true) = (self, include_padding) {
            return Some((axis.kernel as u64, axis.kernel as u64));
        }
        let count = |o: usize| self.elements(o).count() as u64;
        let common = (0..self.outputs()).try_fold(1u64, |common, o| {
            let count = count(o);
            let common = common / greatest_common_divisor(common, count) * count;
            (common < 1 << 31).then_some(common)
        });
        Some((count(o), common?))
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Calls `visit` with the elements of the image in the window of an output element.
fn visit_window(windows: &Windows, image: &Tensor, element: usize, mut visit: impl FnMut(usize)) {
    let [rows, columns] = windows.checked(image);
    let (x, y) = (
        element % columns.outputs(),
        element / columns.outputs() % rows.outputs(),
    );
    let channel = element / columns.outputs() / rows.outputs();
    for row in rows.elements(y) {
        for column in columns.elements(x) {
            visit((channel * rows.inputs() + row) * columns.inputs() + column);
        }
    }
}

/// The greatest integer of each window; padding takes no part.
///
/// # Shapes
///
/// Input `[channels, length]` or `[channels, height, width]`, output the same with other sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Which elements make an output.
    pub windows: Windows,
}

impl Operation for MaxPool {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        let shape = self.windows.shape(&input.shape)?;
        let (intervals, residues) = (input.intervals.clone(), input.residues.clone());
        Tensor::new(shape, input.numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        let elements = 0..output.elements();
        let greatest = |element| {
            let mut greatest = i64::MIN;
            visit_window(&self.windows, inputs[0].tensor, element, |at| {
                greatest = greatest.max(inputs[0].values[at]);
            });
            greatest
        };
        elements.map(greatest).collect()
    }
}

/// The average of each window, without rounding: the output holds `L / count` times the sum of the
/// window's `x - zero_point`, in steps of the input's step divided by `L`. `count` is how many
/// elements the window is divided by and `L` the least common multiple of all counts: where all
/// windows are of one size, the output is their sum. Rounding is a requantization's part.
///
/// # Shapes
///
/// Input `[channels, length]` or `[channels, height, width]`, output the same with other sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AveragePool {
    /// Which elements make an output.
    pub windows: Windows,
    /// Whether a window that reaches into the padding is divided by its whole size.
    pub include_padding: bool,
}

impl AveragePool {
    /// `count` and `L` of a window.
    fn divisors(&self, image: &Tensor, element: usize) -> Option<(u64, u64)> {
        let [rows, columns] = self.windows.checked(image);
        let (x, y) = (
            element % columns.outputs(),
            element / columns.outputs() % rows.outputs(),
        );
        let (rows, all_rows) = rows.divisors(y, self.include_padding)?;
        let (columns, all_columns) = columns.divisors(x, self.include_padding)?;
        let all = all_rows.checked_mul(all_columns)?;
        (all < 1 << 31).then_some((rows * columns, all))
    }
}

impl LinearSum for AveragePool {
    fn terms(
        &self,
        inputs: &[&Tensor],
        _shape: &[usize],
        element: usize,
        mut term: impl FnMut(usize, usize, i64),
    ) {
        let divisors = self.divisors(inputs[0], element);
        let (count, all) = divisors.expect("checked when the node was added");
        visit_window(&self.windows, inputs[0], element, |at| {
            term(0, at, (all / count) as i64)
        });
    }

    fn bias(&self, _shape: &[usize], _element: usize) -> i64 {
        0
    }
}

impl Operation for AveragePool {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        let shape = self.windows.shape(&input.shape)?;
        let divisors = self.divisors(input, 0);
        let (_, all) = divisors.ok_or("the windows' sizes have no common multiple below 2^31")?;
        sum::output(self, inputs, shape, input.numbers.step().divided_by(all))
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        sum::evaluate(self, inputs, output)
    }

    fn bounds(&self, inputs: &[&Tensor], shape: &[usize]) -> Option<Vec<SumBound>> {
        sum::bounds(self, inputs, shape).ok()
    }

    fn witness(
        &self,
        inputs: &[&Tensor],
        shape: &[usize],
        element: usize,
        greatest: bool,
    ) -> Option<Vec<Vec<i64>>> {
        Some(sum::witness(self, inputs, shape, element, greatest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    fn run(operation: &impl Operation, shape: &[usize], values: &[i64]) -> (Tensor, Vec<i64>) {
        let numbers = Numbers::power_of_two(8, true, 0).unwrap();
        let tensor = Tensor::any(shape.to_vec(), numbers).unwrap();
        let output = operation.output(&[&tensor]).unwrap();
        let input = Values {
            tensor: &tensor,
            values,
        };
        let result = operation.evaluate(&[input], &output);
        for (e, &value) in result.iter().enumerate() {
            let interval = output.intervals[output.channel(e)];
            assert!((interval.least..=interval.greatest).contains(&value));
        }
        (output, result)
    }

    /// Five elements in two windows: 0, 1, 2 and 2, 3, 4; sums 6 and 12 of three each.
    #[test]
    fn adaptive_windows_by_hand() {
        let windows = Windows::Adaptive { output: vec![2] };
        let average = AveragePool {
            windows: windows.clone(),
            include_padding: false,
        };
        let (output, sums) = run(&average, &[1, 5], &[1, 2, 3, 4, 5]);
        assert_eq!(sums, [6, 12]);
        assert_eq!(output.numbers.scale(), 1.0 / 3.0);
        let (_, greatest) = run(&MaxPool { windows }, &[1, 5], &[1, -2, 3, 4, 5]);
        assert_eq!(greatest, [3, 5]);
    }

    /// Windows of two elements at -1..0 and 1..2: without padding the counts are 1 and 2, so that
    /// the output holds twice the first and once the second sum, in halves.
    #[test]
    fn padding_by_hand() {
        let mut sliding = Sliding::new(1).with_stride(2);
        sliding.padding = vec![[1, 0]];
        let windows = Windows::Sliding {
            kernel: vec![2],
            sliding,
        };
        for (include_padding, expected) in [(false, [14, 3]), (true, [7, 3])] {
            let average = AveragePool {
                windows: windows.clone(),
                include_padding,
            };
            let (output, sums) = run(&average, &[1, 3], &[7, 1, 2]);
            assert_eq!(sums, expected);
            assert_eq!(output.numbers.exponent(), Some(-1));
        }
        let (_, greatest) = run(&MaxPool { windows }, &[1, 3], &[-7, 1, 2]);
        assert_eq!(greatest, [-7, 2]);
    }
}
