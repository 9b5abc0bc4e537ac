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

    #[test]
    fn a_thin_tail_is_clipped() {
        // Rayleigh magnitudes, and ten outliers that would leave a coarse grid one level for all
        // else. The expected thresholds are those of the definition written in NumPy.
        let mut values = Histogram::default();
        let bell = (0..100_000).map(|i| 0.5 * (-2.0 * ((i as f64 + 0.5) / 1e5).ln()).sqrt());
        values.record(&bell.map(|x| x as f32).collect::<Vec<_>>());
        values.record(&[50.0; 10]);
        for (levels, expected) in [(8.0, 1.8125), (128.0, 2.1875)] {
            let found = entropy(&values, levels, 2048);
            assert!((found - expected).abs() < 0.4, "{levels}: {found}");
        }
    }
}
