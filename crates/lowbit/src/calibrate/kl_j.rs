//! The least symmetric divergence.

use super::divergence::least_divergence;
use crate::quantizers::Histogram;

/// The threshold with the least J-divergence, `sum (p - q) ln(p / q)`, the sum of the two
/// Kullback-Leibler divergences, between the values (`p`) and the quantized ones (`q`), over a
/// histogram of `bins` magnitudes (KL-J; arXiv 1903.08066, section 5.1 and table 2, after
/// D'Alberto and Dasdan, 2009). Being symmetric, it punishes lost tails and lost resolution alike.
///
/// `levels` is the number of magnitudes of the grid. The papers spread the bins over the range of the
/// largest magnitude; here they are spread over that of 99.9 % of the magnitudes, and thresholds lie
/// there, or above it where 256 levels are kept below it, so that a few values far from all others
/// decide nothing.
pub fn kl_j(values: &Histogram, levels: f64, bins: u32) -> f32 {
    least_divergence(values, levels, bins, |p, q| (p - q) * (p / q).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::divergence::{outliers_change_nothing, references};

    #[test]
    fn a_thin_tail_is_clipped_and_an_even_spread_is_not() {
        // To the bit: the same thresholds are tried, and all of them are edges of bins.
        for (values, levels, expected) in references("kl-j") {
            assert_eq!(kl_j(&values, levels, 2048), expected, "{levels}");
        }
    }

    #[test]
    fn an_outlier_changes_nothing_however_far() {
        outliers_change_nothing(|values, levels| kl_j(values, levels, 2048));
    }

    #[test]
    fn with_more_levels_than_bins_it_is_the_maximum() {
        let mut histogram = Histogram::default();
        histogram.record(&[0.1, 0.2, 3.0]);
        assert_eq!(kl_j(&histogram, 32_768.0, 2048), 3.0);
    }
}
