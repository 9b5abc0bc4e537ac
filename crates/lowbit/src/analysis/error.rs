//! How far one tensor is from another.

use serde::Serialize;

use crate::quantizers::Quality;

/// Sums over finite values `x` and what became of them, `y`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PairSums(Quality);

impl PairSums {
    /// Adds values; pairs of which one is not finite are left out.
    pub(super) fn add(&mut self, x: &[f32], y: &[f32]) {
        for (&x, &y) in x.iter().zip(y) {
            if x.is_finite() && y.is_finite() {
                self.0.count += 1;
                self.0.add(x, y);
            }
        }
    }

    /// The sum of `(x - y)^2`.
    pub(super) fn noise(&self) -> f64 {
        self.0.noise
    }

    /// What they come to; none of no values.
    pub(super) fn error(&self, kl_divergence: Option<f64>) -> Option<TensorError> {
        let sums = &self.0;
        (sums.count > 0).then(|| TensorError {
            sqnr: sums.sqnr(),
            mean_square: sums.noise / sums.count as f64,
            cosine: sums.cosine(),
            kl_divergence,
        })
    }
}

/// How far values `y` are from `x`, of which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TensorError {
    /// Signal to quantization noise ratio in decibels, `10 log10(sum x^2 / sum (x - y)^2)`; none where
    /// there is no noise, or no signal.
    pub sqnr: Option<f64>,
    /// `sum (x - y)^2 / n`.
    pub mean_square: f64,
    /// Cosine of the angle between both, `sum x y / sqrt(sum x^2 sum y^2)`; none where either is zero.
    pub cosine: Option<f64>,
    /// Kullback-Leibler divergence of the histogram of `y` from that of `x`, in nats; see
    /// [`ValueHistogram::divergence`](super::ValueHistogram::divergence). None where there is no
    /// histogram.
    pub kl_divergence: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signal 1 + 4 = 5, noise 1/4 + 1 = 5/4, so 10 log10 4 dB; y^2 is 1/4 + 1, x y is 1/2 + 2.
    #[test]
    fn errors_by_hand() {
        let mut sums = PairSums::default();
        sums.add(&[1.0, 2.0, f32::NAN], &[0.5, 1.0, 0.0]);
        let error = sums.error(None).unwrap();
        assert!((error.sqnr.unwrap() - 10.0 * 4f64.log10()).abs() < 1e-12);
        assert_eq!(error.mean_square, 0.625);
        assert!((error.cosine.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(PairSums::default().error(None), None);
        sums = PairSums::default();
        sums.add(&[0.0], &[0.0]);
        assert_eq!(sums.error(None).unwrap().sqnr, None);
    }
}
