//! A percentile of the magnitudes.

use crate::quantizers::Histogram;

/// Bins that the percentile is told apart with; the upper edge of one is the threshold.
const BINS: usize = 4096;

/// The least magnitude that `fraction` of the values, zeros included, do not exceed, up to the
/// width of a bin.
pub fn percentile(values: &Histogram, fraction: f64) -> f32 {
    let (width, counts) = values.magnitudes(BINS);
    let wanted = (fraction * values.count() as f64).ceil() as u64;
    let mut below = values.zeros();
    for (i, &count) in counts.iter().enumerate() {
        below += count;
        if count > 0 && below >= wanted {
            return (((i + 1) as f64 * width) as f32).min(values.largest());
        }
    }
    values.largest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_evenly_spread_magnitudes() {
        let mut values = Histogram::default();
        let magnitudes: Vec<f32> = (1..=1000).map(|i| i as f32 / 1000.0).collect();
        values.record(&magnitudes);
        // The range is [0, 2) in 8192 bins; 1 is the largest.
        for percent in [50, 90, 99] {
            let threshold = f64::from(percentile(&values, f64::from(percent) / 100.0));
            let exact = f64::from(percent) / 100.0;
            assert!(
                (0.0..=2.0 / 8192.0).contains(&(threshold - exact)),
                "{percent}"
            );
        }
        assert_eq!(percentile(&values, 1.0), 1.0);
    }

    #[test]
    fn zeros_count() {
        let mut values = Histogram::default();
        values.record(&[0.0, 0.0, 0.0, 1.0, 100.0]);
        // Four of five values are at most 1.
        assert!((percentile(&values, 0.8) - 1.0).abs() < 0.02);
    }
}
