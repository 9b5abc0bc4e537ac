//! Rows of a table.

use serde::{Deserialize, Serialize};

use super::{Operation, Values, Weights, one};
use crate::tensor::{Interval, Residue, Tensor, for_each_known};

/// `output[t] = weights[input[t]]`: a row of the table for each index.
///
/// # Shapes
///
/// Input `[length]` of integers that are proven to be rows of the table, counted from 0; table `[rows,
/// features]`, output `[length, features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// The table.
    pub weights: Weights,
}

impl Operation for Embedding {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        self.weights.check(2)?;
        let [rows, features] = [self.weights.shape[0], self.weights.shape[1]];
        let Interval { least, greatest } = input.interval();
        if input.shape.len() != 1 || least < 0 || greatest >= rows as i64 {
            return Err(format!(
                "input {:?} of {least} to {greatest}, expected [length] of 0 to {}",
                input.shape,
                rows - 1
            ));
        }
        let read = |known: &Interval| {
            let rows = known.least as usize * features..(known.greatest as usize + 1) * features;
            let values = self.weights.values[rows].iter().map(|&v| Interval {
                least: v,
                greatest: v,
            });
            values.reduce(Interval::union).expect("a row has a number")
        };
        let intervals = for_each_known(&input.intervals, read);
        let shape = vec![input.shape[0], features];
        let residues = vec![Residue::ANY; input.shape[0]];
        Tensor::new(shape, self.weights.numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], _output: &Tensor) -> Vec<i64> {
        let features = self.weights.shape[1];
        let row = |&index: &i64| &self.weights.values[index as usize * features..][..features];
        inputs[0].values.iter().flat_map(row).copied().collect()
    }
}
