//! Rectifiers and clamps.

use serde::{Deserialize, Serialize};

use super::{Operation, Values, one};
use crate::tensor::{Residue, Tensor};

/// `max(x, zero_point)`: what is below zero becomes zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectifier {}

/// `min(max(x, least), greatest)`, of integers as they are, zero point and all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clamp {
    /// The least integer.
    pub least: i64,
    /// The greatest integer.
    pub greatest: i64,
}

impl Rectifier {
    /// The clamp that it is, on a tensor.
    pub(crate) fn clamp(&self, input: &Tensor) -> Clamp {
        Clamp {
            least: input.numbers.zero_point(),
            greatest: input.numbers.greatest(),
        }
    }
}

impl Operation for Rectifier {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        self.clamp(input).output(inputs)
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        self.clamp(inputs[0].tensor).evaluate(inputs, output)
    }
}

impl Operation for Clamp {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        let (low, high) = (input.numbers.least(), input.numbers.greatest());
        if self.least > self.greatest || self.least < low || self.greatest > high {
            let (least, greatest) = (self.least, self.greatest);
            return Err(format!(
                "limits are {least} to {greatest}, expected within {low} to {high}"
            ));
        }
        let mut output = input.clone();
        for (interval, residue) in output.intervals.iter_mut().zip(&mut output.residues) {
            let clamped = interval.map(|x| x.clamp(self.least, self.greatest));
            if clamped != *interval {
                *residue = Residue::ANY;
            }
            *interval = clamped;
        }
        Ok(output)
    }

    fn evaluate(&self, inputs: &[Values], _output: &Tensor) -> Vec<i64> {
        let clamp = |x: &i64| *x.max(&self.least).min(&self.greatest);
        inputs[0].values.iter().map(clamp).collect()
    }
}
