//! Convolutions of sequences and images.

use serde::{Deserialize, Serialize};

use super::sum::LinearSum;
use super::weights::check_bias;
use super::window::{Axis, Sliding};
use super::{Weights, one};
use crate::numbers::Step;
use crate::tensor::{ELEMENTS, Tensor};

/// `sum[o][y][x] = bias[o] + sum over i, ky, kx of weight[o][i][ky][kx] (input[g + i][y'][x'] -
/// zero_point)` with `y' = y stride + ky dilation - padding`; where that is outside the image, the
/// term is zero. The bias is in units of the sum, `weight scale * input scale`, and enters before any
/// rounding. Nothing is rounded and nothing saturates: the output is as wide as its sums.
///
/// # Shapes
///
/// Input `[channels, length]` or `[channels, height, width]`, output the same with other sizes;
/// weight `[out, in / groups, kernel..]`, transposed `[in, out / groups, kernel..]`. Depthwise is
/// `groups = in`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// The weight.
    pub weights: Weights,
    /// One number an output channel, or none.
    pub bias: Option<Vec<i64>>,
    /// How the window moves.
    pub sliding: Sliding,
    /// In how many groups inputs and outputs fall.
    pub groups: usize,
    /// Of a transposed convolution, the outputs that are added at the end of each dimension.
    pub transposed: Option<Vec<usize>>,
}

/// What follows from the weight's and the input's shape.
pub(crate) struct Geometry {
    pub(crate) axes: [Axis; 2],
    /// Input and output channels of one group.
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
}

impl Convolution {
    /// A convolution with steps of 1, no padding, in one group.
    pub fn new(weights: Weights, bias: Option<Vec<i64>>) -> Self {
        let dimensions = weights.shape.len().saturating_sub(2);
        Self {
            weights,
            bias,
            sliding: Sliding::new(dimensions),
            groups: 1,
            transposed: None,
        }
    }

    /// How the window moves.
    pub fn with_sliding(mut self, sliding: Sliding) -> Self {
        self.sliding = sliding;
        self
    }

    /// In how many groups.
    pub fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Transposed, with so many outputs added at the end of each dimension.
    pub fn with_transposed(mut self, output_padding: Vec<usize>) -> Self {
        self.transposed = Some(output_padding);
        self
    }

    /// The geometry over an input.
    pub(crate) fn geometry_over(&self, input: &[usize]) -> Result<Geometry, String> {
        let shape = &self.weights.shape;
        if !(2..=3).contains(&input.len()) || shape.len() != input.len() + 1 {
            return Err(format!(
                "weights {shape:?} do not fit an input of {input:?}, expected a dimension more"
            ));
        }
        let (channels, sizes, kernel) = (input[0], &input[1..], &shape[2..]);
        let groups = self.groups;
        let misfit = || {
            Err(format!(
                "weights {shape:?} in {groups} groups do not fit {channels} channels"
            ))
        };
        if !(1..=channels).contains(&groups) || !channels.is_multiple_of(groups) {
            return misfit();
        }
        let inputs = channels / groups;
        let (outputs, axes) = match &self.transposed {
            None if shape[1] != inputs || !shape[0].is_multiple_of(groups) => return misfit(),
            Some(_) if shape[0] != channels => return misfit(),
            None => (shape[0] / groups, self.sliding.axes(sizes, kernel)?),
            Some(padding) => {
                let axes = self.sliding.transposed_axes(sizes, kernel, padding)?;
                (shape[1], axes)
            }
        };
        Ok(Geometry {
            axes,
            inputs,
            outputs,
            groups,
        })
    }

    /// The elements of the image with its padding, of a convolution that is not transposed; 0 without
    /// padding.
    pub(crate) fn padded(&self, input: &Tensor) -> usize {
        if self.transposed.is_some() || self.sliding.padding.iter().all(|sides| *sides == [0; 2]) {
            return 0;
        }
        let sizes = input.shape[1..].iter().zip(&self.sliding.padding);
        let padded = sizes.map(|(size, [before, after])| size + before + after);
        padded.fold(input.shape[0], usize::saturating_mul)
    }

    /// The weight from input `i` to output `o` of group `g`.
    fn weight(&self, geometry: &Geometry, g: usize, o: usize, i: usize, k: [usize; 2]) -> i64 {
        let Geometry {
            inputs, outputs, ..
        } = geometry;
        let place = if self.transposed.is_some() {
            (g * inputs + i) * outputs + o
        } else {
            (g * outputs + o) * inputs + i
        };
        let [height, width] = geometry.axes.map(|axis| axis.kernel);
        self.weights.values[(place * height + k[0]) * width + k[1]]
    }
}

impl Geometry {
    /// The shape of the output over an input of as many dimensions as `input` has.
    fn shape(&self, input: &[usize]) -> Vec<usize> {
        let sizes = self.axes.map(|axis| axis.output);
        let mut shape = vec![self.outputs * self.groups];
        shape.extend(&sizes[3 - input.len()..]);
        shape
    }
}

impl LinearSum for Convolution {
    type Geometry = Geometry;

    fn check(&self, inputs: &[&Tensor]) -> Result<(Vec<usize>, Step), String> {
        let [input] = one(inputs)?;
        self.weights.check(input.shape.len() + 1)?;
        let shape = self.geometry_over(&input.shape)?.shape(&input.shape);
        let padded = self.padded(input);
        if padded > 2 * ELEMENTS {
            return Err(format!(
                "with its padding the input has {padded} elements, expected at most {}",
                2 * ELEMENTS
            ));
        }
        check_bias(self.bias.as_deref(), shape[0])?;
        Ok((shape, self.weights.numbers.times(&input.numbers)))
    }

    fn geometry(&self, inputs: &[&Tensor]) -> Geometry {
        self.geometry_over(&inputs[0].shape)
            .expect("checked when the node was added")
    }

    fn terms(&self, geometry: &Geometry, element: usize, mut term: impl FnMut(usize, usize, i64)) {
        let [rows, columns] = geometry.axes;
        let (x, y) = (
            element % columns.output,
            element / columns.output % rows.output,
        );
        let channel = element / columns.output / rows.output;
        let (g, o) = (channel / geometry.outputs, channel % geometry.outputs);
        for i in 0..geometry.inputs {
            for ky in 0..rows.kernel {
                let Some(row) = rows.source(y, ky) else {
                    continue;
                };
                for kx in 0..columns.kernel {
                    let Some(column) = columns.source(x, kx) else {
                        continue;
                    };
                    let plane = g * geometry.inputs + i;
                    let at = (plane * rows.input + row) * columns.input + column;
                    term(0, at, self.weight(geometry, g, o, i, [ky, kx]));
                }
            }
        }
    }

    fn looks(&self, geometry: &Geometry) -> usize {
        let [rows, columns] = geometry.axes;
        geometry.inputs * rows.kernel * columns.kernel
    }

    fn bias(&self, shape: &[usize], element: usize) -> i64 {
        let pixels: usize = shape[1..].iter().product();
        self.bias.as_ref().map_or(0, |bias| bias[element / pixels])
    }

    fn representatives(&self, geometry: &Geometry, shape: &[usize]) -> Vec<usize> {
        let [rows, columns] = geometry.axes;
        let (ys, xs) = (rows.representatives(), columns.representatives());
        let pixels = ys
            .iter()
            .flat_map(|y| xs.iter().map(move |x| y * columns.output + x));
        let pixels: Vec<usize> = pixels.collect();
        let plane = rows.output * columns.output;
        let channels = 0..shape[0];
        channels
            .flat_map(|c| pixels.iter().map(move |p| c * plane + p))
            .collect()
    }
}
