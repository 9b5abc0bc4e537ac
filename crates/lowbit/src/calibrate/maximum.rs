//! The largest magnitude.

use crate::quantizers::Histogram;

/// `t = max |x|` ("max" initialization, arXiv 1903.08066, table 2): nothing is clipped but
/// what is beyond half a step above the greatest integer, which is one short of the threshold: numbers
/// near a power of two lose up to a step.
pub fn maximum(values: &Histogram) -> f32 {
    values.largest()
}
