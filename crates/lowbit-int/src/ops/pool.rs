//! Greatest numbers and averages of windows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::sum::LinearSum;
use super::window::{Axis, Sliding, greatest_common_divisor};
use super::{Operation, Values, one};
use crate::numbers::Step;
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

    /// The windows over an image that was checked when the node was added: for each dimension, for each
    /// window, its elements.
    pub(crate) fn elements(&self, image: &[usize]) -> Vec<Vec<Vec<usize>>> {
        let sides = self.over(image).expect("checked when the node was added");
        let of = |side: &Side| {
            let windows = 0..side.outputs();
            windows.map(|o| side.elements(o).collect()).collect()
        };
        sides[3 - image.len()..].iter().map(of).collect()
    }

    /// The shape of the output; every window has an element.
    fn shape(&self, image: &[usize]) -> Result<Vec<usize>, String> {
        let sides = self.over(image)?;
        for side in sides {
            if (0..side.outputs()).any(|o| side.count(o) == 0) {
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
    fn elements(&self, o: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        let (range, first, step) = match *self {
            Self::Sliding(axis) => {
                let inside = axis.inside(o);
                let at = o * axis.stride + inside.start * axis.dilation;
                // Of an empty window it is nowhere.
                (0..inside.len(), at.wrapping_sub(axis.before), axis.dilation)
            }
            Self::Adaptive { input, output } => {
                let first = o * input / output;
                (0..((o + 1) * input).div_ceil(output) - first, first, 1)
            }
        };
        range.map(move |i| first + i * step)
    }

    /// How many they are.
    fn count(&self, o: usize) -> usize {
        self.elements(o).len()
    }
}

/// An output element's channel and its windows in both dimensions.
fn place([rows, columns]: &[Side; 2], element: usize) -> [usize; 3] {
    let plane = element / columns.outputs();
    let (y, x) = (plane % rows.outputs(), element % columns.outputs());
    [plane / rows.outputs(), y, x]
}

/// Calls `visit` with the elements of the image in the window of an output element.
fn visit_window(sides: &[Side; 2], element: usize, mut visit: impl FnMut(usize)) {
    let [channel, y, x] = place(sides, element);
    let [rows, columns] = sides;
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
        let sides = self.windows.checked(inputs[0].tensor);
        let greatest = |element| {
            let mut greatest = i64::MIN;
            visit_window(&sides, element, |at| {
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

/// The windows of averages over an image.
pub(crate) struct Averages {
    sides: [Side; 2],
    /// What each window's elements are divided by, in each dimension.
    divisors: [Vec<u64>; 2],
    /// The least common multiple of all that windows are divided by.
    multiple: u64,
}

/// What the windows of one dimension are divided by, and the least common multiple of that. `None` if
/// it is 2^31 or more.
fn divisors(side: &Side, include_padding: bool) -> Option<(Vec<u64>, u64)> {
    let divisor = |o: usize| match side {
        Side::Sliding(axis) if include_padding => axis.kernel as u64,
        _ => side.count(o) as u64,
    };
    let divisors: Vec<u64> = (0..side.outputs()).map(divisor).collect();
    let multiple = divisors.iter().try_fold(1u64, |multiple, &count| {
        let multiple = multiple / greatest_common_divisor(multiple, count) * count;
        (multiple < 1 << 31).then_some(multiple)
    });
    Some((divisors, multiple?))
}

impl AveragePool {
    /// The windows over an image. `None` if their multiple is 2^31 or more.
    fn averages(&self, sides: [Side; 2]) -> Option<Averages> {
        let (rows, all_rows) = divisors(&sides[0], self.include_padding)?;
        let (columns, all_columns) = divisors(&sides[1], self.include_padding)?;
        let multiple = all_rows * all_columns;
        (multiple < 1 << 31).then_some(Averages {
            sides,
            divisors: [rows, columns],
            multiple,
        })
    }
}

impl LinearSum for AveragePool {
    type Geometry = Averages;

    fn check(&self, inputs: &[&Tensor]) -> Result<(Vec<usize>, Step), String> {
        let [input] = one(inputs)?;
        let shape = self.windows.shape(&input.shape)?;
        let averages = self.averages(self.windows.over(&input.shape)?);
        let Averages { multiple, .. } =
            averages.ok_or("the windows' sizes have no common multiple below 2^31")?;
        Ok((shape, input.numbers.step().divided_by(multiple)))
    }

    fn geometry(&self, inputs: &[&Tensor]) -> Averages {
        self.averages(self.windows.checked(inputs[0]))
            .expect("checked when the node was added")
    }

    fn terms(&self, geometry: &Averages, element: usize, mut term: impl FnMut(usize, usize, i64)) {
        let [_, y, x] = place(&geometry.sides, element);
        let count = geometry.divisors[0][y] * geometry.divisors[1][x];
        let factor = (geometry.multiple / count) as i64;
        visit_window(&geometry.sides, element, |at| term(0, at, factor));
    }

    fn looks(&self, geometry: &Averages) -> usize {
        let most = geometry.sides.map(|side| match side {
            Side::Sliding(axis) => axis.kernel.min(axis.input),
            Side::Adaptive { input, output } => (input.div_ceil(output) + 1).min(input),
        });
        most[0] * most[1]
    }

    /// One a channel and pair of the windows' numbers of elements.
    fn representatives(&self, geometry: &Averages, shape: &[usize]) -> Vec<usize> {
        let [rows, columns] = &geometry.sides;
        let firsts = |side: &Side| -> Vec<usize> {
            let mut seen = BTreeSet::new();
            let new = |&o: &usize| seen.insert(side.count(o));
            (0..side.outputs()).filter(new).collect()
        };
        let (ys, xs) = (firsts(rows), firsts(columns));
        let mut elements = Vec::with_capacity(shape[0] * ys.len() * xs.len());
        for channel in 0..shape[0] {
            for y in &ys {
                let row = channel * rows.outputs() + y;
                elements.extend(xs.iter().map(|x| row * columns.outputs() + x));
            }
        }
        elements
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
