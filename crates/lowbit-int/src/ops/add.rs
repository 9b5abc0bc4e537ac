//! Sums of two tensors.

use serde::{Deserialize, Serialize};

use super::sum::LinearSum;
use super::two;
use crate::numbers::Step;
use crate::tensor::Tensor;

/// `sum = m[0] (a - zero_point a) + m[1] (b - zero_point b)`, exactly: the multipliers bring both to
/// one step, which is the sum's: `scale a / |m[0]|`. A difference has a multiplier below zero. Of two
/// powers of two `scale b / |m[1]|` is the same, which is checked; of other scales, whether it is near
/// enough is for whoever chose them to know.
///
/// # Shapes
///
/// Both inputs and the output have one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// What each input is multiplied with: not zero, below 2^31 in magnitude.
    pub multipliers: [i64; 2],
}

impl LinearSum for Add {
    type Geometry = ();

    fn check(&self, inputs: &[&Tensor]) -> Result<(Vec<usize>, Step), String> {
        let [a, b] = two(inputs)?;
        if a.shape != b.shape {
            return Err(format!(
                "shapes are {:?} and {:?}, expected one",
                a.shape, b.shape
            ));
        }
        let [m, n] = self.multipliers.map(i64::unsigned_abs);
        if [m, n].iter().any(|m| !(1..1 << 31).contains(m)) {
            let multipliers = self.multipliers;
            return Err(format!(
                "multipliers are {multipliers:?}, expected 1 to 2^31 - 1 in magnitude"
            ));
        }
        let step = a.numbers.step().divided_by(m);
        if let (Some(e), Some(f)) = (a.numbers.exponent(), b.numbers.exponent())
            && step != b.numbers.step().divided_by(n)
        {
            return Err(format!(
                "exponents {e} and {f} do not meet with multipliers {:?}",
                self.multipliers
            ));
        }
        Ok((a.shape.clone(), step))
    }

    fn geometry(&self, _inputs: &[&Tensor]) {}

    fn terms(&self, _geometry: &(), element: usize, mut term: impl FnMut(usize, usize, i64)) {
        term(0, element, self.multipliers[0]);
        term(1, element, self.multipliers[1]);
    }

    fn looks(&self, _geometry: &()) -> usize {
        2
    }

    fn representatives(&self, _geometry: &(), shape: &[usize]) -> Vec<usize> {
        super::first_of_channels(shape)
    }
}
