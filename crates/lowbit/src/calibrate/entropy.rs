//! The least one-way divergence.

use super::divergence::least_divergence;
use crate::quantizers::Histogram;

/// The threshold with the least Kullback-Leibler divergence, `sum p ln(p / q)`, of the quantized
/// values (`q`) from the values (`p`), over a histogram of `bins` magnitudes (Migacz, "8-bit
/// Inference with TensorRT", GTC 2017).
///
/// `levels` is the number of magnitudes of the grid.
pub fn entropy(values: &Histogram, levels: f64, bins: u32) -> f32 {
    least_divergence(values, levels, bins, |p, q| p * (p / q).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::divergence::references;

    #[test]
    fn a_thin_tail_is_clipped_and_an_even_spread_is_not() {
        // To the bit: the same thresholds are tried, and all of them are edges of bins.
        for (values, levels, expected) in references("entropy") {
            assert_eq!(entropy(&values, levels, 2048), expected, "{levels}");
        }
    }
}
