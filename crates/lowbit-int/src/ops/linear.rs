//! Products with a matrix.

use serde::{Deserialize, Serialize};

use super::sum::{self, LinearSum, SumBound};
use super::weights::check_bias;
use super::{Operation, Values, Weights, one};
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
    fn terms(
        &self,
        _inputs: &[&Tensor],
        _shape: &[usize],
        element: usize,
        mut term: impl FnMut(usize, usize, i64),
    ) {
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

    fn bias(&self, _shape: &[usize], element: usize) -> i64 {
        let output = element % self.weights.shape[0];
        self.bias.as_ref().map_or(0, |bias| bias[output])
    }
}

impl Operation for Linear {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
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
        sum::output(
            self,
            inputs,
            shape,
            self.weights.numbers.times(&input.numbers),
        )
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
