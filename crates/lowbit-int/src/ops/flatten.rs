//! Images as rows of numbers.

use serde::{Deserialize, Serialize};

use super::{Operation, Values, one};
use crate::tensor::Tensor;

/// All dimensions as one, the last one's index moving fastest: `[channels, height, width]` becomes
/// `[channels * height * width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

impl Operation for Flatten {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        let elements = input.elements();
        let channels = || (0..elements).map(|element| input.channel(element));
        let intervals = channels().map(|c| input.intervals[c]).collect();
        let residues = channels().map(|c| input.residues[c]).collect();
        Tensor::new(vec![elements], input.numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], _output: &Tensor) -> Vec<i64> {
        inputs[0].values.to_vec()
    }
}
