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
        let even: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        let mut histogram = Histogram::default();
        histogram.record(&even);
        histogram.record(&[50.0; 10]);
        let threshold = entropy(&histogram, 8.0, 2048);
        assert!((0.5..=2.0).contains(&threshold), "{threshold}");
    }
}
