//! The largest magnitude.

use crate::quantizers::Histogram;

/// `t = max |x|` ("max" initialization, arXiv 1903.08066, table 2). The greatest integer is one short
/// of the threshold: numbers within half a step of the power of two above lose up to a whole step,
/// which that power of two itself does, and all others at most half of one.
pub fn maximum(values: &Histogram) -> f32 {
    values.largest()
}
