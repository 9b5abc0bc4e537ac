//! The largest magnitude.

use crate::quantizers::Histogram;

/// `t = max |x|` ("max" initialization, arXiv 1903.08066, table 2): nothing is clipped, up to the
/// half step by which the largest integer of a signed grid falls short.
pub fn maximum(values: &Histogram) -> f32 {
    values.largest()
}
