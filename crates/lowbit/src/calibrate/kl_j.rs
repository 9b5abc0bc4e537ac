//! The least symmetric divergence.

use super::divergence::least_divergence;
use crate::quantizers::Histogram;

/// The threshold with the least J-divergence, `sum (p - q) ln(p / q)`, the sum of the two
/// Kullback-Leibler divergences, between the values (`p`) and the quantized ones (`q`), over a
/// histogram of `bins` magnitudes (KL-J; arXiv 1903.08066, section 5.1 and table 2, after
/// D'Alberto and Dasdan, 2009). Being symmetric, it punishes lost tails and lost resolution alike.
///
/// `levels` is the number of magnitudes of the grid.
pub fn kl_j(values: &Histogram, levels: f64, bins: u32) -> f32 {
    least_divergence(values, levels, bins, |p, q| (p - q) * (p / q).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thin_tail_is_clipped_and_an_even_spread_is_not() {
        // Rayleigh magnitudes, and ten outliers that would leave a coarse grid one level for all
        // else. The expected thresholds are those of the definition written in NumPy.
        let mut values = Histogram::default();
        let bell = (0..100_000).map(|i| 0.5 * (-2.0 * ((i as f64 + 0.5) / 1e5).ln()).sqrt());
        values.record(&bell.map(|x| x as f32).collect::<Vec<_>>());
        values.record(&[50.0; 10]);
        for (levels, expected) in [(8.0, 1.625), (128.0, 2.1875)] {
            let found = kl_j(&values, levels, 2048);
            assert!((found - expected).abs() < 0.4, "{levels}: {found}");
        }
        let mut even = Histogram::default();
        even.record(&(1..100_000).map(|i| i as f32 / 1e5).collect::<Vec<_>>());
        assert!(kl_j(&even, 128.0, 2048) > 0.9);
    }

    #[test]
    fn with_more_levels_than_bins_it_is_the_maximum() {
        let mut histogram = Histogram::default();
        histogram.record(&[0.1, 0.2, 3.0]);
        assert_eq!(kl_j(&histogram, 32_768.0, 2048), 3.0);
    }
}
