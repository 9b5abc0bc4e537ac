//! Tensors one after the other.

use serde::{Deserialize, Serialize};

use super::{Operation, Values};
use crate::tensor::{Interval, Residue, Tensor, channels};

/// The inputs one after the other along a dimension. They hold the same numbers: of the same width,
/// sign, step and zero point.
///
/// # Shapes
///
/// One for all, but for the dimension along which they are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The dimension, 0 for channels.
    pub axis: usize,
}

impl Operation for Concat {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let axis = self.axis;
        let first = *inputs.first().ok_or("no inputs, expected one or more")?;
        if axis >= first.shape.len() {
            return Err(format!(
                "axis is {axis}, expected below {}",
                first.shape.len()
            ));
        }
        let others = |shape: &[usize]| {
            let mut shape = shape.to_vec();
            shape.remove(axis);
            shape
        };
        let mut shape = first.shape.clone();
        shape[axis] = 0;
        let mut intervals: Vec<Interval> = Vec::new();
        let mut residues: Vec<Residue> = Vec::new();
        for input in inputs {
            if input.shape.len() != shape.len() || others(&input.shape) != others(&shape) {
                let (a, b) = (&first.shape, &input.shape);
                return Err(format!(
                    "shapes {a:?} and {b:?} differ beside dimension {axis}"
                ));
            }
            if input.numbers != first.numbers {
                return Err("inputs hold different numbers".into());
            }
            shape[axis] += input.shape[axis];
            // Before more is copied than a tensor may have.
            channels(&shape)?;
            if axis == 0 || intervals.is_empty() {
                intervals.extend(&input.intervals);
                residues.extend(&input.residues);
            } else {
                for c in 0..intervals.len() {
                    intervals[c] = intervals[c].union(input.intervals[c]);
                    residues[c] = residues[c].union(input.residues[c]);
                }
            }
        }
        Tensor::new(shape, first.numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        let before: usize = output.shape[..self.axis].iter().product();
        let mut values = Vec::with_capacity(output.elements());
        for row in 0..before {
            for input in inputs {
                let length = input.values.len() / before;
                values.extend(&input.values[row * length..][..length]);
            }
        }
        values
    }
}
