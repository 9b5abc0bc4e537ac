//! Products with a matrix.

use serde::{Deserialize, Serialize};

use super::sum::LinearSum;
use super::weights::check_bias;
use super::{Weights, one};
use crate::numbers::Step;
use crate::tensor::Tensor;

/// `sum[..][o] = bias[o] + sum over i of weight[o][i] (input[..][i] - zero_point)`. The bias is in
/// units of the sum and enters before any rounding. Nothing is rounded and nothing saturates: the
/// output is as wide as its sums.
///
/// # Shapes
///
/// Input `[.., in]`, weight `[out, in]`, output `[.., out]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// The weight, `[out, in]`.
    pub weights: Weights,
    /// One number an output, or none.
    pub bias: Option<Vec<i64>>,
}

impl LinearSum for Linear {
    type Geometry = ();

    fn check(&self, inputs: &[&Tensor]) -> Result<(Vec<usize>, Step), String> {
        let [input] = one(inputs)?;
        self.weights.check(2)?;
        let [outputs, features] = [self.weights.shape[0], self.weights.shape[1]];
        check_bias(self.bias.as_deref(), outputs)?;
        let mut shape = input.shape.clone();
        if shape.pop() != Some(features) {
            let shape = &input.shape;
            return Err(format!(
                "input is {shape:?}, expected {features} in the last dimension"
            ));
        }
        shape.push(outputs);
        Ok((shape, self.weights.numbers.times(&input.numbers)))
    }

    fn geometry(&self, _inputs: &[&Tensor]) {}

    fn terms(&self, _geometry: &(), element: usize, mut term: impl FnMut(usize, usize, i64)) {
        let [outputs, inputs] = [self.weights.shape[0], self.weights.shape[1]];
        let (row, output) = (element / outputs, element % outputs);
        for i in 0..inputs {
            term(
                0,
                row * inputs + i,
                self.weights.values[output * inputs + i],
            );
        }
    }

    fn looks(&self, _geometry: &()) -> usize {
        self.weights.shape[1]
    }

    fn bias(&self, _shape: &[usize], element: usize) -> i64 {
        let output = element % self.weights.shape[0];
        self.bias.as_ref().map_or(0, |bias| bias[output])
    }

    /// One row of each index of the first dimension.
    fn representatives(&self, _geometry: &(), shape: &[usize]) -> Vec<usize> {
        let outputs = self.weights.shape[0];
        if shape.len() == 1 {
            return (0..outputs).collect();
        }
        let first = super::first_of_channels(shape).into_iter();
        first.flat_map(|first| first..first + outputs).collect()
    }

    /// Of sequences and batches of rows, where the same is known of both.
    fn repeats(&self, inputs: &[&Tensor], channel: usize) -> bool {
        let input = inputs[0];
        input.shape.len() > 1
            && input.intervals[channel] == input.intervals[channel - 1]
            && input.residues[channel] == input.residues[channel - 1]
    }
}
