//! Integers that a node brings along.

use serde::{Deserialize, Serialize};

use crate::numbers::Numbers;
use crate::tensor::ELEMENTS;

/// A weight or a table: its shape, its integers in the order of C, and what they stand for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// The shape.
    pub shape: Vec<usize>,
    /// What the integers stand for. Their zero point is 0.
    pub numbers: Numbers,
    /// The integers, the last dimension's index moving fastest.
    pub values: Vec<i64>,
}

impl Weights {
    /// Checks the number of dimensions and values, and each value's width.
    pub(crate) fn check(&self, dimensions: usize) -> Result<(), String> {
        let shape = &self.shape;
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if shape.len() != dimensions || !elements.is_some_and(|n| (1..=ELEMENTS).contains(&n)) {
            return Err(format!(
                "weights' shape is {shape:?}, expected {dimensions} dimensions"
            ));
        }
        if elements != Some(self.values.len()) {
            let count = self.values.len();
            return Err(format!("{count} weights given, expected {shape:?}"));
        }
        let numbers = self.numbers;
        if numbers.zero_point() != 0 || numbers.bits() > 32 {
            return Err("weights have at most 32 bits and zero_point 0".into());
        }
        let (least, greatest) = (numbers.least(), numbers.greatest());
        match self.values.iter().find(|w| !(least..=greatest).contains(w)) {
            Some(w) => Err(format!("a weight is {w}, expected {least} to {greatest}")),
            None => Ok(()),
        }
    }

    /// Whether every number that they stand for is below 2^127 in magnitude: then none is infinite in
    /// `f32`, rounded or not.
    pub(crate) fn are_finite_in_f32(&self) -> bool {
        let greatest = self.values.iter().map(|w| w.unsigned_abs()).max();
        greatest.unwrap_or(0) as f64 * self.numbers.scale() < 127f64.exp2()
    }
}

/// Checks that there is a bias for each output, or none.
pub(crate) fn check_bias(bias: Option<&[i64]>, outputs: usize) -> Result<(), String> {
    match bias {
        Some(bias) if bias.len() != outputs => {
            Err(format!("{} biases given, expected {outputs}", bias.len()))
        }
        _ => Ok(()),
    }
}
